//! AlterPartitionReassignments: partitions move to other brokers while they are used.

use std::path::Path;

use bytes::Bytes;
use klamm_protocol::ErrorCode;
use klamm_protocol::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartition,
    ReassignableTopic,
};
use klamm_protocol::messages::create_topics::{CreatableReplicaAssignment, CreatableTopic};
use klamm_protocol::messages::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, OngoingPartitionReassignment,
};
use klamm_protocol::messages::{CreateTopicsRequest, MetadataRequest};

use crate::broker::{eventually, start, try_start};
use crate::cluster::Cluster;
use crate::socket::{Socket, batch, records};

/// A follower that is waited for in vain is waited for longer than a test takes; what has been put
/// aside goes at once.
pub(crate) const PATIENT: &[(&str, &str)] = &[
    ("replica.lag.time.max.ms", "30000"),
    ("replica.fetch.backoff.ms", "50"),
    ("replica.fetch.wait.max.ms", "100"),
    ("log.segment.delete.delay.ms", "0"),
    ("replica.high.watermark.checkpoint.interval.ms", "50"),
];

/// The high watermark of `t-0` that is stored in a broker's `dir`.
fn stored_high_watermark(dir: &Path) -> Option<usize> {
    let stored = std::fs::read_to_string(dir.join("replication-offset-checkpoint")).ok()?;
    let offset = stored.lines().find_map(|line| line.strip_prefix("t 0 "))?;
    Some(offset.parse().expect("an offset"))
}

/// A topic of one partition on these brokers, the preferred leader first.
pub(crate) fn place(cluster: &Cluster, topic: &str, broker_ids: &[i32]) {
    let assignment =
        CreatableReplicaAssignment { partition_index: 0, broker_ids: broker_ids.to_vec() };
    let topics = vec![CreatableTopic {
        name: topic.to_owned(),
        num_partitions: -1,
        replication_factor: -1,
        assignments: vec![assignment],
        ..CreatableTopic::default()
    }];
    let request = CreateTopicsRequest { topics, timeout_ms: 10_000, ..Default::default() };
    let response = cluster.connect(controller(cluster)).call(7, &request);
    assert_eq!(response.topics[0].error_code, 0, "{response:?}");
    eventually("it is led", || {
        let ids = cluster.ids();
        ids.into_iter().all(|id| {
            let topics = cluster.metadata(id).topics;
            let found = topics.iter().find(|found| found.name.as_deref() == Some(topic));
            found.is_some_and(|found| found.partitions.iter().all(|it| it.leader_id > 0))
        })
    });
}

fn controller(cluster: &Cluster) -> i32 {
    let any = cluster.ids()[0];
    let mut controller = -1;
    eventually("there is a controller", || {
        controller = cluster.metadata(any).controller_id;
        cluster.ids().contains(&controller)
    });
    controller
}

fn request(moves: &[(&str, i32, Option<&[i32]>)]) -> AlterPartitionReassignmentsRequest {
    let topic = |(name, partition_index, replicas): &(&str, i32, Option<&[i32]>)| {
        let partition_index = *partition_index;
        let replicas = replicas.map(<[i32]>::to_vec);
        ReassignableTopic {
            name: (*name).to_owned(),
            partitions: vec![ReassignablePartition { partition_index, replicas }],
        }
    };
    AlterPartitionReassignmentsRequest {
        topics: moves.iter().map(topic).collect(),
        timeout_ms: 10_000,
        ..Default::default()
    }
}

/// The code of each partition; each error has a sentence, but for those that are clear without.
fn codes(response: &AlterPartitionReassignmentsResponse) -> Vec<ErrorCode> {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    let code = partitions.map(|partition| {
        let code = ErrorCode::from_i16(partition.error_code).expect("a known code");
        let is_clear = matches!(
            code,
            ErrorCode::None | ErrorCode::NoReassignmentInProgress | ErrorCode::NotController
        );
        assert_eq!(partition.error_message.is_none(), is_clear, "{partition:?}");
        code
    });
    code.collect()
}

/// Asks for the partition's move, or for its end with `None`.
pub(crate) fn reassign(cluster: &Cluster, topic: &str, replicas: Option<&[i32]>) -> ErrorCode {
    let mut code = ErrorCode::NotController;
    eventually("the controller is known, and in office", || {
        let mut socket = cluster.connect(controller(cluster));
        let response = socket.call(1, &request(&[(topic, 0, replicas)]));
        code = codes(&response)[0];
        response.error_code == 0
    });
    code
}

/// What moves, as broker `id` knows it.
pub(crate) fn moving(cluster: &Cluster, id: i32) -> Vec<OngoingPartitionReassignment> {
    let all = ListPartitionReassignmentsRequest { topics: None, ..Default::default() };
    let topics = cluster.connect(id).call(0, &all).topics;
    topics.into_iter().flat_map(|topic| topic.partitions).collect()
}

fn settled(cluster: &Cluster) {
    eventually("every move has ended", || {
        cluster.ids().into_iter().all(|id| moving(cluster, id).is_empty())
    });
}

/// Replicas and in-sync replicas as every broker shows them, once these are the replicas and all of
/// them are in sync; answers the leader.
pub(crate) fn lies_on(cluster: &Cluster, topic: &str, replicas: &[i32]) -> i32 {
    let mut leader = -1;
    eventually("it lies there, and all are in sync", || {
        cluster.ids().into_iter().all(|id| {
            let shown = cluster.partition(id, topic, 0);
            let mut isr = shown.isr_nodes.clone();
            isr.sort_unstable();
            let mut all = replicas.to_vec();
            all.sort_unstable();
            leader = shown.leader_id;
            shown.replica_nodes == replicas && isr == all && replicas.contains(&leader)
        })
    });
    leader
}

/// What broker's `dir` holds of the partition: its directory, and those that were put aside.
fn found(dir: &Path, partition: &str) -> Vec<String> {
    let names = std::fs::read_dir(dir).expect("a directory").map(|entry| {
        let name = entry.expect("readable").file_name();
        name.to_string_lossy().into_owned()
    });
    names.filter(|name| name.starts_with(partition)).collect()
}

fn values(socket: &mut Socket, topic: &str) -> Vec<Bytes> {
    let mut values = Vec::new();
    let mut offset = 0;
    loop {
        let data = socket.fetch(topic, 0, offset, 0);
        assert_eq!(data.error_code, 0);
        let more = records(&data);
        let Some((last, _)) = more.last() else { return values };
        offset = last + 1;
        values.extend(more.into_iter().map(|(_, value)| value));
    }
}

/// A producer that looks for the leader whenever it has moved.
pub(crate) struct Writer {
    topic: &'static str,
    socket: Option<Socket>,
    written: Vec<Bytes>,
}

impl Writer {
    pub(crate) fn new(topic: &'static str) -> Writer {
        Writer { topic, socket: None, written: Vec::new() }
    }

    /// Writes one more record, until all in sync have it.
    fn write(&mut self, cluster: &Cluster) {
        let mut value = vec![b'.'; 20_000];
        value.splice(..8, self.written.len().to_be_bytes());
        eventually("it is acknowledged", || {
            let leader = || cluster.connect(cluster.leader(self.topic, 0, None));
            let socket = self.socket.get_or_insert_with(leader);
            let code = socket.produce(self.topic, 0, -1, batch(&[&value])).error_code;
            let code = ErrorCode::from_i16(code).expect("a known code");
            if code != ErrorCode::None {
                assert_eq!(code, ErrorCode::NotLeaderOrFollower);
                self.socket = None;
            }
            code == ErrorCode::None
        });
        self.written.push(value.into());
    }

    pub(crate) fn write_many(&mut self, cluster: &Cluster, count: usize) {
        (0..count).for_each(|_| self.write(cluster));
    }

    /// Everything that was acknowledged is there, in order; what was written again may be there twice.
    pub(crate) fn check(&self, cluster: &Cluster, leader: i32) {
        eventually("the leader shows all that was acknowledged", || {
            let mut shown = values(&mut cluster.connect(leader), self.topic);
            shown.dedup();
            shown == self.written
        });
    }
}

#[test]
fn a_partition_moves_while_it_is_written_to() {
    for from in [[1, 2], [2, 1]] {
        let mut cluster = Cluster::start(3, PATIENT);
        place(&cluster, "t", &from);
        let mut writer = Writer::new("t");
        writer.write_many(&cluster, 50);
        assert_eq!(reassign(&cluster, "t", Some(&[2, 3])), ErrorCode::None);
        while !moving(&cluster, 2).is_empty() {
            writer.write(&cluster);
        }
        writer.write_many(&cluster, 10);
        settled(&cluster);
        assert_eq!(lies_on(&cluster, "t", &[2, 3]), 2, "the one of them that was in sync before");
        writer.check(&cluster, 2);
        eventually("the first broker has nothing of it any more", || {
            found(&cluster.data_dir(1), "t-0").is_empty()
        });
        let refused = cluster.connect(1).produce("t", 0, -1, batch(&[b"x"])).error_code;
        assert_eq!(ErrorCode::from_i16(refused), Some(ErrorCode::NotLeaderOrFollower));

        // The new replica holds everything.
        writer.socket = None;
        cluster.stop(2);
        assert_eq!(cluster.leader("t", 0, Some(2)), 3);
        writer.check(&cluster, 3);
    }
}

#[test]
fn a_partition_comes_back_to_where_it_was() {
    let mut cluster = Cluster::start(3, PATIENT);
    place(&cluster, "t", &[1, 2]);
    let mut writer = Writer::new("t");
    writer.write_many(&cluster, 5);
    for target in [[2, 3], [1, 3], [3, 2], [1, 2]] {
        assert_eq!(reassign(&cluster, "t", Some(&target)), ErrorCode::None);
        lies_on(&cluster, "t", &target);
        writer.write_many(&cluster, 2);
    }
    settled(&cluster);
    eventually("the third has nothing of it any more", || {
        found(&cluster.data_dir(3), "t-0").is_empty()
    });
    let leader = cluster.leader("t", 0, None);
    writer.check(&cluster, leader);
    writer.socket = None;
    cluster.stop(leader);
    writer.check(&cluster, cluster.leader("t", 0, Some(leader)));
}

#[test]
fn what_moved_while_its_broker_was_down_is_a_stray_when_it_returns() {
    let mut cluster = Cluster::start(3, PATIENT);
    place(&cluster, "t", &[1, 2]);
    let mut writer = Writer::new("t");
    writer.write_many(&cluster, 5);
    writer.socket = None;
    eventually("its high watermark is stored", || {
        stored_high_watermark(&cluster.data_dir(1)).is_some()
    });
    cluster.kill(1);
    assert_eq!(reassign(&cluster, "t", Some(&[2, 3])), ErrorCode::None);
    lies_on(&cluster, "t", &[2, 3]);
    settled(&cluster);
    assert_eq!(found(&cluster.data_dir(1), "t-0"), ["t-0"]);
    writer.write_many(&cluster, 5);

    cluster.start_broker(1);
    let aside = found(&cluster.data_dir(1), "t-0");
    assert!(aside.len() == 1 && aside[0].ends_with("-stray"), "{aside:?}");
    eventually("nothing of it is stored", || stored_high_watermark(&cluster.data_dir(1)).is_none());
    assert_eq!(reassign(&cluster, "t", Some(&[1, 2])), ErrorCode::None);
    lies_on(&cluster, "t", &[1, 2]);
    let mut now = found(&cluster.data_dir(1), "t-0");
    now.sort();
    assert_eq!(now, ["t-0".to_owned(), aside[0].clone()], "it began anew");
    writer.socket = None;
    cluster.stop(2);
    assert_eq!(cluster.leader("t", 0, Some(2)), 1);
    writer.check(&cluster, 1);
}

#[test]
fn a_move_that_is_under_way_is_taken_back() {
    let mut cluster = Cluster::start(3, PATIENT);
    place(&cluster, "t", &[1, 2]);
    let mut writer = Writer::new("t");
    writer.write_many(&cluster, 5);
    writer.socket = None;
    let hanging = cluster.hang(3);
    assert_eq!(reassign(&cluster, "t", Some(&[2, 3])), ErrorCode::None);
    let under_way = OngoingPartitionReassignment {
        partition_index: 0,
        replicas: vec![2, 3, 1],
        adding_replicas: vec![3],
        removing_replicas: vec![1],
    };
    eventually("all show it", || {
        cluster.ids().into_iter().all(|id| moving(&cluster, id) == [under_way.clone()])
    });
    writer.write_many(&cluster, 5);
    assert_eq!(reassign(&cluster, "t", None), ErrorCode::None);
    settled(&cluster);
    // As in Kafka in the order that the move has brought them in.
    assert_eq!(lies_on(&cluster, "t", &[2, 1]), 1, "it has led all the time");
    assert_eq!(reassign(&cluster, "t", None), ErrorCode::NoReassignmentInProgress);
    writer.write_many(&cluster, 5);
    writer.check(&cluster, 1);
    cluster.expire(hanging);
    cluster.start_broker(3);
    assert!(!found(&cluster.data_dir(3), "t-0").contains(&"t-0".to_owned()));
}

#[test]
fn a_partition_of_a_broker_that_was_alone_gets_a_second_replica_and_gives_it_up() {
    let mut cluster = Cluster::start(0, PATIENT);
    let alone = try_start(&cluster.data_dir(1), &[]).expect("starts");
    alone.topic("t", 1, &[]);
    assert_eq!(alone.connect().produce("t", 0, -1, batch(&[b"before"])).error_code, 0);
    alone.stop();
    cluster.start_broker(1);
    cluster.start_broker(2);
    let mut writer = Writer::new("t");
    writer.written.push(Bytes::from_static(b"before"));
    writer.write_many(&cluster, 5);

    let mut fixed = request(&[("t", 0, Some(&[1, 2]))]);
    fixed.allow_replication_factor_change = false;
    let refused = cluster.connect(controller(&cluster)).call(1, &fixed);
    assert!(!refused.allow_replication_factor_change);
    assert_eq!(codes(&refused), [ErrorCode::InvalidReplicationFactor]);

    assert_eq!(reassign(&cluster, "t", Some(&[1, 2])), ErrorCode::None);
    writer.write_many(&cluster, 5);
    assert_eq!(lies_on(&cluster, "t", &[1, 2]), 1);
    settled(&cluster);
    writer.write_many(&cluster, 5);
    assert_eq!(found(&cluster.data_dir(2), "t-0"), ["t-0"]);

    assert_eq!(reassign(&cluster, "t", Some(&[1])), ErrorCode::None);
    writer.write_many(&cluster, 5);
    assert_eq!(lies_on(&cluster, "t", &[1]), 1);
    settled(&cluster);
    writer.write_many(&cluster, 5);
    eventually("the second has nothing of it any more", || {
        found(&cluster.data_dir(2), "t-0").is_empty()
    });

    // The only replica may be another one.
    assert_eq!(reassign(&cluster, "t", Some(&[2])), ErrorCode::None);
    writer.write_many(&cluster, 5);
    assert_eq!(lies_on(&cluster, "t", &[2]), 2);
    writer.write_many(&cluster, 5);
    writer.check(&cluster, 2);
    eventually("the first has nothing of it any more", || {
        found(&cluster.data_dir(1), "t-0").is_empty()
    });

    // Nor does one that leaves while nobody writes.
    let all = values(&mut cluster.connect(2), "t").len();
    let second = cluster.data_dir(2);
    eventually("all is stored", || stored_high_watermark(&second) == Some(all));
    assert_eq!(reassign(&cluster, "t", Some(&[1])), ErrorCode::None);
    assert_eq!(lies_on(&cluster, "t", &[1]), 1);
    eventually("the second has nothing of it any more", || {
        found(&second, "t-0").is_empty() && stored_high_watermark(&second).is_none()
    });
    writer.check(&cluster, 1);
}

#[test]
fn what_makes_no_sense_is_refused_partition_by_partition() {
    let (_dir, broker) = start(&[]);
    broker.topic("t", 1, &[]);
    let moves: &[(&str, i32, Option<&[i32]>)] = &[
        ("missing", 0, Some(&[1])),
        ("t", 7, Some(&[1])),
        ("t", -1, None),
        ("t", 0, None),
        ("t", 0, Some(&[])),
        ("t", 0, Some(&[1, 1])),
        ("t", 0, Some(&[9])),
        ("t", 0, Some(&[1])),
    ];
    let expected = [
        ErrorCode::UnknownTopicOrPartition,
        ErrorCode::UnknownTopicOrPartition,
        ErrorCode::UnknownTopicOrPartition,
        ErrorCode::NoReassignmentInProgress,
        ErrorCode::InvalidReplicaAssignment,
        ErrorCode::InvalidReplicaAssignment,
        ErrorCode::InvalidReplicaAssignment,
        ErrorCode::None,
    ];
    let mut socket = broker.connect();
    for version in [0, 1] {
        let response = socket.call(version, &request(moves));
        assert_eq!((response.error_code, response.error_message.as_deref()), (0, None));
        assert!(response.allow_replication_factor_change);
        assert_eq!(codes(&response), expected);
        let named: Vec<&str> = response.responses.iter().map(|topic| &*topic.name).collect();
        assert_eq!(named, ["missing", "t", "t", "t", "t", "t", "t", "t"]);
        let response = socket.call(version, &request(&[]));
        assert_eq!((response.error_code, response.responses), (0, vec![]));
        assert_eq!(response.error_message.as_deref(), Some(""), "as Kafka says it");
    }
    let mut fixed = request(&[("t", 0, Some(&[]))]);
    fixed.allow_replication_factor_change = false;
    let response = socket.call(1, &fixed);
    assert_eq!(codes(&response), [ErrorCode::InvalidReplicaAssignment], "the graver one");
    let all = MetadataRequest { topics: None, ..Default::default() };
    let shown = socket.call(9, &all).topics.remove(0).partitions.remove(0);
    assert_eq!((shown.leader_id, shown.replica_nodes), (1, vec![1]));
}

#[test]
fn only_the_controller_takes_moves() {
    let cluster = Cluster::start(2, PATIENT);
    place(&cluster, "t", &[1]);
    let other = 3 - controller(&cluster);
    let moves: &[(&str, i32, Option<&[i32]>)] = &[("t", 0, Some(&[2])), ("t", 0, None)];
    let response = cluster.connect(other).call(0, &request(moves));
    assert_eq!(ErrorCode::from_i16(response.error_code), Some(ErrorCode::NotController));
    assert_eq!(codes(&response), [ErrorCode::NotController; 2]);
    assert_eq!(cluster.partition(other, "t", 0).replica_nodes, [1]);
}
