//! Random interleavings of everything a shell may call, with failing appends and failovers.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use klamm_coordinator::*;
use klamm_protocol::ErrorCode;
use proptest::prelude::*;
use uuid::Uuid;

const PARTITIONS: u8 = 4;

#[derive(Clone, Debug)]
enum Action {
    Join { client: usize, version: i16, metadata: u8 },
    Sync { client: usize },
    Heartbeat { client: usize },
    Leave { client: usize },
    Commit { client: usize, stale: bool },
    AdminCommit,
    DeleteGroup,
    DeleteOffset,
    Pass { ms: u64 },
    Failover,
    FailAppends { on: bool },
}

fn action() -> impl Strategy<Value = Action> {
    let client = 0..4usize;
    prop_oneof![
        8 => (client.clone(), prop_oneof![Just(3i16), Just(8), Just(9)], 0..2u8)
            .prop_map(|(client, version, metadata)| Action::Join { client, version, metadata }),
        8 => client.clone().prop_map(|client| Action::Sync { client }),
        4 => client.clone().prop_map(|client| Action::Heartbeat { client }),
        1 => client.clone().prop_map(|client| Action::Leave { client }),
        4 => (client, any::<bool>())
            .prop_map(|(client, stale)| Action::Commit { client, stale }),
        1 => Just(Action::AdminCommit),
        1 => Just(Action::DeleteGroup),
        1 => Just(Action::DeleteOffset),
        5 => prop_oneof![Just(100u64), Just(3_000), Just(9_000), Just(70_000)]
            .prop_map(|ms| Action::Pass { ms }),
        1 => Just(Action::Failover),
        1 => any::<bool>().prop_map(|on| Action::FailAppends { on }),
    ]
}

/// What a client knows: its last member id and generation, and the members if it leads.
#[derive(Default)]
struct Client {
    instance: Option<String>,
    member_id: String,
    generation: i32,
    members: Vec<String>,
}

struct World {
    groups: Groups,
    log: Vec<Record>,
    now: Now,
    fail_appends: bool,
    next: u64,
    clients: Vec<Client>,
    /// Which client asked.
    asked: BTreeMap<Ticket, usize>,
    generation_seen: i32,
    /// Owner of a partition in a generation, as told by a sync.
    owners: BTreeMap<(i32, u8), String>,
    /// Generation and offset of the last commit that was acknowledged.
    last_commit: (i32, i64),
}

impl World {
    fn new() -> World {
        let now = Now { at: Time(0), wall_ms: 1_700_000_000_000 };
        let mut groups = Groups::new(GroupConfig::default());
        groups.loaded(now);
        let clients = (0..4)
            .map(|number| Client {
                instance: (number >= 2).then(|| format!("static-{number}")),
                ..Client::default()
            })
            .collect();
        World {
            groups,
            log: Vec::new(),
            now,
            fail_appends: false,
            next: 1,
            clients,
            asked: BTreeMap::new(),
            generation_seen: 0,
            owners: BTreeMap::new(),
            last_commit: (-1, -1),
        }
    }

    fn ticket(&mut self, client: usize) -> Ticket {
        self.next += 1;
        self.asked.insert(Ticket(self.next), client);
        Ticket(self.next)
    }

    fn run(&mut self, proposal: Proposal) {
        for record in proposal.records() {
            if let Record::Group { image: Some(image), .. } = record {
                let ids: BTreeSet<&str> =
                    image.members.iter().map(|it| it.member_id.as_str()).collect();
                assert_eq!(ids.len(), image.members.len(), "a member twice in one generation");
            }
        }
        let replies = if self.fail_appends && !proposal.records().is_empty() {
            let before = self.groups.durable();
            let undone = self.groups.reject(self.now, proposal, ErrorCode::NotEnoughReplicas);
            let replies = self.groups.accept(self.now, undone);
            let after = self.groups.durable();
            let unchanged = after.iter().all(|(id, group)| before.get(id) == Some(group));
            assert!(unchanged, "a refused append changed durable state");
            replies
        } else {
            self.log.extend_from_slice(proposal.records());
            self.groups.accept(self.now, proposal)
        };
        self.take(replies);
    }

    fn take(&mut self, replies: Vec<Reply>) {
        for reply in replies {
            let client = self.asked.remove(&reply.to).expect("a ticket answered twice");
            match reply.answer {
                Answer::Join(join) => self.take_join(client, join),
                Answer::Sync(sync) if sync.error == ErrorCode::None => {
                    let client = &self.clients[client];
                    for partition in &sync.assignment[..] {
                        let key = (client.generation, *partition);
                        // A static member hands its partitions on to its next self.
                        let owner =
                            client.instance.clone().unwrap_or_else(|| client.member_id.clone());
                        let first = self.owners.entry(key).or_insert_with(|| owner.clone());
                        assert_eq!(*first, owner, "two owners of {key:?}");
                    }
                }
                _ => {}
            }
        }
    }

    fn take_join(&mut self, client: usize, join: JoinAnswer) {
        let client = &mut self.clients[client];
        match join.error {
            ErrorCode::None => {
                assert!(join.generation >= self.generation_seen, "a generation went back");
                self.generation_seen = join.generation;
                client.generation = join.generation;
                client.members = join.members.into_iter().map(|it| it.member_id).collect();
                client.member_id = join.member_id;
            }
            ErrorCode::MemberIdRequired => client.member_id = join.member_id,
            ErrorCode::UnknownMemberId | ErrorCode::FencedInstanceId => client.member_id.clear(),
            _ => {}
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Join { client, version, metadata } => self.join(client, version, metadata),
            Action::Sync { client } => self.sync(client),
            Action::Heartbeat { client } => self.heartbeat(client),
            Action::Leave { client } => self.leave(client),
            Action::Commit { client, stale } => self.commit(client, stale),
            Action::AdminCommit => self.commit_as(0, String::new(), None, -1),
            Action::DeleteGroup => {
                let ticket = self.ticket(0);
                let proposal = self.groups.delete_group(ticket, "g");
                let deletes = !proposal.records().is_empty() && !self.fail_appends;
                self.run(proposal);
                if deletes {
                    // A group of the same name starts anew.
                    self.generation_seen = 0;
                    self.owners.clear();
                    self.last_commit = (-1, -1);
                }
            }
            Action::DeleteOffset => {
                let ticket = self.ticket(0);
                let delete = DeleteOffsets {
                    ticket,
                    group_id: "g".into(),
                    partitions: vec![("t".into(), 0)],
                };
                let proposal = self.groups.delete_offsets(delete);
                self.run(proposal);
            }
            Action::Pass { ms } => self.pass(ms),
            Action::Failover => self.failover(),
            Action::FailAppends { on } => self.fail_appends = on,
        }
    }

    fn join(&mut self, client: usize, version: i16, metadata: u8) {
        let ticket = self.ticket(client);
        let it = &self.clients[client];
        let join = Join {
            ticket,
            api_version: version,
            client_id: format!("c{client}"),
            client_host: "/127.0.0.1".into(),
            group_id: "g".into(),
            member_id: it.member_id.clone(),
            group_instance_id: it.instance.clone(),
            protocol_type: "consumer".into(),
            protocols: vec![Protocol { name: "range".into(), metadata: vec![metadata].into() }],
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            reason: None,
            fresh: Uuid::from_u128(u128::from(ticket.0)),
        };
        let proposal = self.groups.join(self.now, join);
        self.run(proposal);
    }

    fn sync(&mut self, client: usize) {
        let ticket = self.ticket(client);
        let it = &self.clients[client];
        let owner = |partition: u8| usize::from(partition) % it.members.len().max(1);
        let assignments = it.members.iter().enumerate().map(|(index, id)| {
            let owned: Vec<u8> = (0..PARTITIONS).filter(|p| owner(*p) == index).collect();
            (id.clone(), Bytes::from(owned))
        });
        let sync = Sync {
            ticket,
            group_id: "g".into(),
            generation: it.generation,
            member_id: it.member_id.clone(),
            group_instance_id: it.instance.clone(),
            protocol_type: None,
            protocol: None,
            assignments: assignments.collect(),
        };
        let proposal = self.groups.sync(self.now, sync);
        self.run(proposal);
    }

    fn heartbeat(&mut self, client: usize) {
        let ticket = self.ticket(client);
        let it = &self.clients[client];
        let beat = Heartbeat {
            ticket,
            group_id: "g".into(),
            generation: it.generation,
            member_id: it.member_id.clone(),
            group_instance_id: it.instance.clone(),
        };
        let proposal = self.groups.heartbeat(self.now, beat);
        self.run(proposal);
    }

    fn leave(&mut self, client: usize) {
        let ticket = self.ticket(client);
        let it = &self.clients[client];
        let member = Leaving {
            member_id: it.member_id.clone(),
            group_instance_id: it.instance.clone(),
            reason: None,
        };
        let leave = Leave { ticket, group_id: "g".into(), members: vec![member] };
        let proposal = self.groups.leave(self.now, leave);
        self.run(proposal);
    }

    fn commit(&mut self, client: usize, stale: bool) {
        let it = &self.clients[client];
        let generation = it.generation - i32::from(stale);
        let (member_id, instance) = (it.member_id.clone(), it.instance.clone());
        self.commit_as(client, member_id, instance, generation);
    }

    fn commit_as(
        &mut self,
        client: usize,
        member_id: String,
        group_instance_id: Option<String>,
        generation: i32,
    ) {
        let offset = self.next as i64;
        let commit = Commit {
            ticket: self.ticket(client),
            api_version: 8,
            group_id: "g".into(),
            generation,
            member_id,
            group_instance_id,
            retention_ms: None,
            offsets: vec![CommitOffset {
                topic: "t".into(),
                topic_id: Uuid::nil(),
                partition: 0,
                offset,
                leader_epoch: -1,
                metadata: None,
            }],
        };
        let proposal = self.groups.commit(self.now, commit);
        let accepted = !proposal.records().is_empty() && !self.fail_appends;
        if accepted && generation >= 0 {
            assert!(generation >= self.last_commit.0, "a commit of an older generation");
            self.last_commit = (generation, offset);
        }
        self.run(proposal);
    }

    fn pass(&mut self, ms: u64) {
        let end = Time(self.now.at.0 + ms);
        while let Some(deadline) = self.groups.next_deadline().filter(|it| *it <= end) {
            self.now.wall_ms += deadline.0.saturating_sub(self.now.at.0) as i64;
            self.now.at = deadline.max(self.now.at);
            let proposal = self.groups.on_time(self.now).expect("something is due");
            self.run(proposal);
        }
        self.now.wall_ms += (end.0 - self.now.at.0) as i64;
        self.now.at = end;
    }

    fn loaded(&self) -> Groups {
        let mut fresh = Groups::new(GroupConfig::default());
        for record in &self.log {
            let (key, value) = record.encode().expect("strings are short");
            let back = Record::decode(key, value).expect("our own bytes");
            assert_eq!(back, *record);
            fresh.apply(back);
        }
        fresh
    }

    fn failover(&mut self) {
        let fresh = self.loaded();
        let old = std::mem::replace(&mut self.groups, fresh);
        let replies = old.resign();
        self.take(replies);
        assert!(self.asked.is_empty(), "tickets without an answer: {:?}", self.asked);
        self.groups.loaded(self.now);
        // Generations that were never recorded are counted again.
        self.generation_seen = self
            .groups
            .durable()
            .get("g")
            .and_then(|group| group.image.as_ref())
            .map_or(0, |image| image.generation);
        let recorded = self.generation_seen;
        // A generation is recorded with its assignment. A member may commit in one that was never
        // assigned (Kafka takes that too); its number is then given out again.
        self.last_commit.0 = self.last_commit.0.min(recorded);
        self.owners.retain(|(generation, _), _| *generation <= recorded);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Generations only grow; a partition has one owner per generation; no commit of an older
    /// generation is taken after one of a newer; every ticket is answered exactly once; a refused
    /// append changes nothing durable; the log read by a fresh machine gives the same state.
    #[test]
    fn random_interleavings_keep_the_invariants(actions in prop::collection::vec(action(), 1..120)) {
        let mut world = World::new();
        for action in actions {
            world.act(action);
            prop_assert_eq!(world.loaded().durable(), world.groups.durable());
        }
        world.failover();
    }

    /// Any bytes are a record or an error, never a panic.
    #[test]
    fn any_bytes_decode_or_fail(key in prop::collection::vec(any::<u8>(), 0..64),
                                value in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = Record::decode(key.into(), Some(value.into()));
    }
}
