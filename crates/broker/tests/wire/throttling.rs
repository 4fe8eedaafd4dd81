//! Replication quotas (KIP-73): a new replica catches up no faster than it may, and nobody else waits
//! for it.

use std::path::Path;
use std::time::{Duration, Instant};

use klamm_protocol::ErrorCode;
use klamm_protocol::messages::fetch::{PartitionData, ReplicaState};
use klamm_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};

use crate::broker::eventually;
use crate::cluster::Cluster;
use crate::moving::{PATIENT, Writer, lies_on, moving, place, reassign};
use crate::socket::{Socket, batches, fetch_request};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// More than a batch of [`Writer`] has, and less than two.
const BATCH_BYTES_MAX: u64 = 20_200;

/// Changes a setting of a topic, or of a broker by its id; one of all brokers where that is empty.
fn alter(cluster: &Cluster, kind: i8, name: &str, key: &str, value: Option<&str>) {
    let asked = name.parse().ok().filter(|_| kind == BROKER).unwrap_or(cluster.ids()[0]);
    let config = AlterableConfig {
        name: key.to_owned(),
        config_operation: i8::from(value.is_none()),
        value: value.map(str::to_owned),
    };
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: kind,
            resource_name: name.to_owned(),
            configs: vec![config],
        }],
        validate_only: false,
    };
    let response = cluster.connect(asked).call(1, &request);
    assert_eq!(response.responses[0].error_code, 0, "{response:?}");
}

fn rate(side: &str) -> String {
    format!("{side}.replication.throttled.rate")
}

fn replicas(side: &str) -> String {
    format!("{side}.replication.throttled.replicas")
}

/// Bytes of the partition's log in a broker's `dir`.
fn stored(dir: &Path, partition: &str) -> u64 {
    let Ok(files) = std::fs::read_dir(dir.join(partition)) else { return 0 };
    let logs = files.filter_map(|file| {
        let file = file.expect("readable");
        let is_log = file.path().extension().is_some_and(|extension| extension == "log");
        is_log.then(|| file.metadata().expect("readable").len())
    });
    logs.sum()
}

#[test]
fn whoever_is_in_sync_is_not_slowed_by_what_holds_a_new_replica_back() {
    // Set for one broker after the other, as Kafka's tool does it, and for all of them.
    for (side, brokers) in [("leader", &["1", "2", "3"] as &[&str]), ("follower", &[""])] {
        let cluster = Cluster::start(3, PATIENT);
        place(&cluster, "t", &[1, 2]);
        let mut writer = Writer::new("t");
        writer.write_many(&cluster, 20);
        alter(&cluster, TOPIC, "t", &replicas(side), Some("*"));
        for broker in brokers {
            alter(&cluster, BROKER, broker, &rate(side), Some("1"));
        }
        assert_eq!(reassign(&cluster, "t", Some(&[1, 2, 3])), ErrorCode::None);
        let new = cluster.data_dir(3);
        eventually("a batch always goes", || stored(&new, "t-0") > 0);
        // Each is held by both that are in sync before it is acknowledged: a hundred times as much as
        // the quota allows in its window.
        writer.write_many(&cluster, 60);
        assert!(!moving(&cluster, 1).is_empty(), "{side}");
        let held = stored(&new, "t-0");
        assert!(held <= 5 * BATCH_BYTES_MAX, "{side}: {held} bytes");
        for broker in brokers {
            alter(&cluster, BROKER, broker, &rate(side), None);
        }
        lies_on(&cluster, "t", &[1, 2, 3]);
        let leader = cluster.leader("t", 0, None);
        writer.check(&cluster, leader);
    }
}

#[test]
fn a_new_replica_catches_up_no_faster_than_the_throttle() {
    for (leader_rate, follower_rate) in [("200000", "1000000"), ("1000000", "200000")] {
        let cluster = Cluster::start(3, PATIENT);
        place(&cluster, "t", &[1, 2]);
        let mut writer = Writer::new("t");
        writer.write_many(&cluster, 30);
        // As kafka-reassign-partitions lists them: who may send, and who is to fetch.
        alter(&cluster, TOPIC, "t", &replicas("leader"), Some("0:1,0:2"));
        alter(&cluster, TOPIC, "t", &replicas("follower"), Some("0:3"));
        for broker in ["1", "2", "3"] {
            alter(&cluster, BROKER, broker, &rate("leader"), Some(leader_rate));
            alter(&cluster, BROKER, broker, &rate("follower"), Some(follower_rate));
        }
        let begun = Instant::now();
        assert_eq!(reassign(&cluster, "t", Some(&[1, 2, 3])), ErrorCode::None);
        lies_on(&cluster, "t", &[1, 2, 3]);
        let took = begun.elapsed();
        // 600 kB, and one batch may be too much.
        assert!(took >= Duration::from_millis(2_800), "{took:?}");
        assert_eq!(stored(&cluster.data_dir(3), "t-0"), stored(&cluster.data_dir(1), "t-0"));
    }
}

/// A follower that the test plays, in the place of a broker that hangs.
struct Played {
    socket: Socket,
    request: klamm_protocol::messages::FetchRequest,
}

impl Played {
    fn new(cluster: &Cluster, id: i32) -> Played {
        let leader = cluster.leader("t", 0, None);
        let mut request = fetch_request("t", 0, 0, 0);
        let topic = &mut request.topics[0];
        topic.topic = String::new();
        topic.topic_id = cluster.metadata(leader).topics[0].topic_id;
        topic.partitions[0].current_leader_epoch = cluster.partition(leader, "t", 0).leader_epoch;
        request.replica_state.replica_id = id;
        let mut played = Played { socket: cluster.connect(leader), request };
        eventually("its broker epoch is found", || {
            let ReplicaState { replica_epoch, .. } = &mut played.request.replica_state;
            *replica_epoch += 1;
            played.fetch(1 << 40, 0).error_code == ErrorCode::OffsetOutOfRange.as_i16()
        });
        played
    }

    fn fetch(&mut self, offset: i64, max_wait_ms: i32) -> PartitionData {
        self.request.max_wait_ms = max_wait_ms;
        self.request.topics[0].partitions[0].fetch_offset = offset;
        let mut response = self.socket.call(16, &self.request);
        assert_eq!(response.error_code, 0);
        response.responses.remove(0).partitions.remove(0)
    }
}

#[test]
fn a_fetch_that_may_have_nothing_waits_and_is_answered_when_the_quota_opens() {
    let mut cluster = Cluster::start(3, PATIENT);
    place(&cluster, "t", &[1, 2]);
    let mut writer = Writer::new("t");
    writer.write_many(&cluster, 10);
    alter(&cluster, TOPIC, "t", &replicas("leader"), Some("*"));
    for broker in ["1", "2"] {
        alter(&cluster, BROKER, broker, &rate("leader"), Some("0"));
    }
    let hanging = cluster.hang(3);
    assert_eq!(reassign(&cluster, "t", Some(&[1, 2, 3])), ErrorCode::None);
    let mut follower = Played::new(&cluster, 3);
    assert_eq!(batches(&follower.fetch(0, 10_000)).len(), 1, "one batch always goes");

    let begun = Instant::now();
    let nothing = follower.fetch(1, 300);
    assert!(begun.elapsed() >= Duration::from_millis(300), "it waits");
    assert_eq!((nothing.error_code, batches(&nothing).len()), (0, 0));
    assert_eq!(follower.fetch(99, 300).error_code, ErrorCode::OffsetOutOfRange.as_i16());

    // Two batches a second: it opens long before the time of the fetch is over.
    for broker in ["1", "2"] {
        alter(&cluster, BROKER, broker, &rate("leader"), Some("40000"));
    }
    let mut offset = 1;
    while offset < 6 {
        let some = follower.fetch(offset, 9_000);
        assert_eq!(some.error_code, 0);
        assert!(!batches(&some).is_empty(), "it comes before the time is over");
        offset += i64::try_from(batches(&some).len()).expect("a few");
    }
    assert!(begun.elapsed() < Duration::from_secs(9), "it has not waited for the time to be over");
    cluster.expire(hanging);
}
