//! A tree without a home: brokers that register and a controller that decides when asked.

use std::collections::{BTreeMap, BTreeSet};

use klamm_protocol::ErrorCode;
use uuid::Uuid;

use crate::Member;
use crate::controller::deletion::delete_topic;
use crate::controller::elect::take_offline;
use crate::controller::leaders::{elect_leader, rebalance};
use crate::controller::reassign::reassign;
use crate::controller::topics::create_topic;
use crate::controller::{
    ConfigRules, Context, ElectionType, NewTopic, PartitionDefaults, Reason, Reassignment, Refusal,
    Scope, TopicDefaults, TopicRef, Write, reconcile,
};
use crate::image::{Changes, Image};
use crate::nodes::broker::{Endpoint, EpochNode, RegistrationNode};
use crate::nodes::config::{ConfigNode, ConfigResource};
use crate::nodes::controller::ControllerEpochNode;
use crate::nodes::producer_ids::ProducerIdsNode;
use crate::nodes::topic::PartitionNode;
use crate::nodes::{NodeKey, SKELETON, encode};
use crate::restart::{Restart, next_epoch};
use crate::tree::state::TreeState;
use crate::tree::{Op, SessionId};

/// Keys that begin with `bad` are unknown, `cleanup.policy` is a list.
pub(super) struct Rules;

impl ConfigRules for Rules {
    fn check(&self, _: &ConfigResource, key: &str, value: &str) -> Result<(), String> {
        if key.starts_with("bad") { Err(format!("{key}={value} is bad")) } else { Ok(()) }
    }

    fn list_default(&self, _: &ConfigResource, key: &str) -> Option<String> {
        (key == "cleanup.policy").then(|| "delete".to_owned())
    }
}

#[derive(Clone)]
pub(super) struct World {
    pub(super) state: TreeState,
    pub(super) defaults: PartitionDefaults,
    ids: u128,
}

impl World {
    pub(super) fn new() -> World {
        let mut state = TreeState::default();
        let mut ops: Vec<Op> = SKELETON.iter().map(|path| Op::create(*path, "")).collect();
        let epoch = encode(&ControllerEpochNode { epoch: 7 });
        ops.push(Op::create(NodeKey::ControllerEpoch.path(), epoch));
        ops.push(Op::create(NodeKey::ProducerIds.path(), encode(&ProducerIdsNode::default())));
        state.apply(SessionId(0), &ops).unwrap();
        World { state, defaults: PartitionDefaults::default(), ids: 0 }
    }

    /// Brokers 1 to `count`, registered for the first time.
    pub(super) fn with_brokers(count: i32) -> World {
        let mut world = World::new();
        (1..=count).for_each(|id| world.start(id, Restart::First));
        world
    }

    pub(super) fn image(&self) -> Image {
        let mut image = Image::default();
        for (path, node) in self.state.subtree("/") {
            image.apply(&path, Some(&node), &mut Changes::default()).unwrap();
        }
        image
    }

    pub(super) fn context(&self) -> Context {
        Context { controller_epoch: 7, nonce: 0, defaults: self.defaults }
    }

    /// A broker starts, with as much of its past as `restart` says.
    pub(super) fn start(&mut self, id: i32, restart: Restart) {
        self.start_with(id, restart, false);
    }

    pub(super) fn start_with(&mut self, id: i32, restart: Restart, log_dir_missing: bool) {
        self.stop(id);
        let image = self.image();
        let last = image.broker_epoch(id);
        self.ids += 1;
        let incarnation = Uuid::from_u128(self.ids);
        let epoch = next_epoch(last.map(|last| &last.value), incarnation, restart);
        let node = RegistrationNode {
            endpoints: vec![Endpoint { listener: "PLAINTEXT".into(), host: "h".into(), port: 1 }],
            security_protocols: BTreeMap::new(),
            inter_broker_listener: "PLAINTEXT".into(),
            rack: None,
            incarnation,
            broker_epoch: epoch.epoch,
            features: BTreeMap::new(),
            log_dir_missing,
            offsets_in_tree: false,
        };
        let epochs = NodeKey::BrokerEpoch(id).path();
        let ops = [
            Op::create_ephemeral(NodeKey::Broker(id).path(), encode(&node)),
            match last {
                Some(last) => Op::set(epochs, encode(&epoch), last.version),
                None => Op::create(epochs, encode(&epoch)),
            },
        ];
        self.state.apply(SessionId(i64::from(id)), &ops).unwrap();
    }

    /// A broker's session ends.
    pub(super) fn stop(&mut self, id: i32) {
        self.state.end_session(SessionId(i64::from(id)));
    }

    pub(super) fn begin_shutdown(&mut self, id: i32) {
        let image = self.image();
        let Some(last) = image.broker_epoch(id) else { return };
        let node = EpochNode { shutting_down: true, ..last.value.clone() };
        let op = Op::set(NodeKey::BrokerEpoch(id).path(), encode(&node), last.version);
        self.state.apply(SessionId(0), &[op]).unwrap();
    }

    /// An I/O error takes the disk of a broker: what it holds of any topic is offline.
    pub(super) fn lose_disk(&mut self, id: i32) {
        let image = self.image();
        let Some(broker) = image.broker(id) else { return };
        let member = Member { id, epoch: broker.broker_epoch };
        let mut writes = Vec::new();
        for topic in image.topics() {
            let held = topic.partitions().filter(|now| now.replicas().contains(&id));
            let told =
                held.filter_map(|now| take_offline(&image, topic, now, member, &self.context()));
            writes.extend(told);
        }
        self.write(&writes);
    }

    /// An operator asks for a leader of `t`-0.
    pub(super) fn elect(&mut self, how: ElectionType) -> Result<(), ErrorCode> {
        self.elect_of("t", 0, how)
    }

    pub(super) fn elect_of(
        &mut self,
        topic: &str,
        index: i32,
        how: ElectionType,
    ) -> Result<(), ErrorCode> {
        let elected = elect_leader(&self.image(), topic, index, how, &self.context());
        let (epoch, write) = elected.map_err(|refusal| refusal.code)?;
        self.write(&[write]);
        let image = self.image();
        let state = image.topic(topic).unwrap().partition(index).unwrap().state.clone();
        assert!(state.leader.is_some() && state.leader_epoch >= epoch, "{state:?}");
        Ok(())
    }

    pub(super) fn is_moving(&self) -> bool {
        let image = self.image();
        let mut partitions = image.topics().flat_map(|topic| topic.partitions());
        partitions.any(|partition| partition.assignment.is_moving())
    }

    /// An operator moves `t`-0, or takes that back.
    pub(super) fn move_to(&mut self, replicas: Option<&[i32]>) -> Result<(), ErrorCode> {
        self.move_of("t", replicas)
    }

    pub(super) fn move_of(
        &mut self,
        topic: &str,
        replicas: Option<&[i32]>,
    ) -> Result<(), ErrorCode> {
        let asked = Reassignment {
            topic: topic.to_owned(),
            partition: 0,
            replicas: replicas.map(<[i32]>::to_vec),
            may_resize: true,
        };
        let writes = reassign(&self.image(), &asked, &self.context());
        self.write(&writes.map_err(|refusal| refusal.code)?);
        Ok(())
    }

    /// Where `t`-0 lies, what is added and what goes.
    pub(super) fn place(&self) -> String {
        let image = self.image();
        let assignment = image.topic("t").unwrap().partition(0).unwrap().assignment.clone();
        let ids = |ids: &[i32]| ids.iter().map(i32::to_string).collect::<Vec<_>>().join(" ");
        let mut text = ids(&assignment.replicas);
        if !assignment.adding.is_empty() {
            text += &format!(" + {}", ids(&assignment.adding));
        }
        if !assignment.removing.is_empty() {
            text += &format!(" - {}", ids(&assignment.removing));
        }
        text
    }

    /// The leader of `t`-0 takes replicas that have caught up into the ISR (R20).
    pub(super) fn join(&mut self, ids: &[i32]) {
        let image = self.image();
        let member = |id: &i32| Member { id: *id, epoch: image.broker(*id).unwrap().broker_epoch };
        self.edit(|state| {
            state.isr.extend(ids.iter().map(member));
            state.elr.retain(|member| !ids.contains(&member.id));
        });
    }

    /// The controller looks whether brokers lead what prefers them; answers how many elections that
    /// takes.
    pub(super) fn rebalance(&mut self, percentage: i32) -> usize {
        let writes = rebalance(&self.image(), percentage, &self.context());
        self.write(&writes);
        writes.len()
    }

    /// What the controller would do; one that looks at each partition alone finds the same of them.
    pub(super) fn decide(&self) -> Vec<Write> {
        let (image, context) = (self.image(), self.context());
        let all = reconcile(&image, &Scope::All, &BTreeSet::new(), &context);
        let each = image
            .topics()
            .flat_map(|topic| (0..topic.partition_count()).map(move |index| (topic.id, index)));
        let scope = Scope::Parts { topics: BTreeSet::new(), partitions: each.collect() };
        let alone = reconcile(&image, &scope, &BTreeSet::new(), &context);
        assert!(alone.iter().all(|write| all.contains(write)), "{alone:?}\n{all:?}");
        let of_partitions = |write: &&Write| !matches!(write.reason, Reason::Repair);
        assert!(all.iter().filter(of_partitions).all(|write| alone.contains(write)), "{alone:?}");
        all
    }

    pub(super) fn write(&mut self, writes: &[Write]) {
        for write in writes {
            let checks = write.checks.iter().map(|(path, v)| Op::check(path.as_str(), *v));
            let ops: Vec<Op> = checks.chain(write.ops.iter().cloned()).collect();
            self.state.apply(SessionId(0), &ops).unwrap_or_else(|e| panic!("{e}: {write:?}"));
        }
    }

    /// The controller puts everything in order, and finds nothing left to do. Moves may end once there
    /// is a leader.
    pub(super) fn settle(&mut self) {
        for _ in 0..if self.is_moving() { 2 } else { 1 } {
            let writes = self.decide();
            self.write(&writes);
        }
        assert_eq!(self.decide(), [], "decided once more what was done");
    }

    pub(super) fn create(&mut self, topic: &NewTopic) -> Result<Uuid, Refusal> {
        let (id, writes) = self.plan(topic)?;
        self.write(&writes);
        Ok(id)
    }

    pub(super) fn plan(&mut self, topic: &NewTopic) -> Result<(Uuid, Vec<Write>), Refusal> {
        self.ids += 1;
        let id = Uuid::from_u128(self.ids << 64 | 1);
        let defaults = TopicDefaults { partitions: 1, replication_factor: 1 };
        let image = self.image();
        let (_, writes) = create_topic(&image, topic, id, defaults, &Rules, &self.context())?;
        Ok((id, writes))
    }

    pub(super) fn delete(&mut self, name: &str) -> Result<Uuid, Refusal> {
        let (_, id, writes) = delete_topic(&self.image(), &TopicRef::Name(name.into()))?;
        self.write(&writes);
        Ok(id)
    }

    /// Topic `t` with one partition on `replicas`.
    pub(super) fn topic(&mut self, replicas: &[i32], configs: &[(&str, &str)]) {
        let topic = NewTopic {
            name: "t".into(),
            partitions: -1,
            replication_factor: -1,
            assignments: [(0, replicas.to_vec())].into(),
            configs: owned(configs),
            ..NewTopic::default()
        };
        self.create(&topic).unwrap();
        assert_eq!(self.decide(), [], "a new topic needs nothing");
    }

    pub(super) fn configure(&mut self, resource: ConfigResource, configs: &[(&str, &str)]) {
        let path = NodeKey::Config(resource).path();
        let data = encode(&ConfigNode { config: owned(configs) });
        let op = match self.state.get(&path) {
            Some(_) => Op::Set { path, data, expected: None },
            None => Op::create(path, data),
        };
        self.state.apply(SessionId(0), &[op]).unwrap();
    }

    /// Puts a state in place of that of `t`-0, as its leader would.
    pub(super) fn edit(&mut self, change: impl FnOnce(&mut PartitionNode)) {
        let image = self.image();
        let topic = image.topic("t").unwrap();
        let now = topic.partition(0).unwrap();
        let mut state = now.state.clone();
        state.partition_epoch += 1;
        change(&mut state);
        let path = NodeKey::Partition(topic.id, 0).path();
        self.state.apply(SessionId(0), &[Op::set(path, encode(&state), now.version)]).unwrap();
    }

    /// `t`-0 in words: leader@epoch, ISR and ELR with broker epochs.
    pub(super) fn show(&self) -> String {
        let image = self.image();
        let state = image.topic("t").unwrap().partition(0).unwrap().state.clone();
        let leader = state.leader.map_or("none".to_owned(), |id| id.to_string());
        let members = |members: &[Member]| {
            let each = members.iter().map(|m| format!("{}:{}", m.id, m.epoch));
            each.collect::<Vec<_>>().join(" ")
        };
        let mut text = format!("{leader}@{} isr {}", state.leader_epoch, members(&state.isr));
        if !state.elr.is_empty() {
            text += &format!(" elr {}", members(&state.elr));
        }
        if !state.offline.is_empty() {
            text += &format!(" offline {}", members(&state.offline));
        }
        if state.unclean_epoch >= 0 {
            text += &format!(" unclean {}", state.unclean_epoch);
        }
        text
    }
}

fn owned(configs: &[(&str, &str)]) -> BTreeMap<String, String> {
    configs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}
