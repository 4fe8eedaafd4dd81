//! Brokers that say what no broker should: a leader whose answers are nonsense, a follower that asks for
//! what is not there.

use bytes::Bytes;
use klamm_protocol::messages::ProduceRequest;
use klamm_protocol::messages::fetch::{
    EpochEndOffset, FetchResponse, FetchableTopicResponse, PartitionData,
};
use klamm_protocol::records::{
    BATCH_LENGTH_OFFSET, MAGIC_OFFSET, set_base_offset, set_leader_epoch,
};
use klamm_protocol::{ErrorCode, Records};
use uuid::Uuid;

use crate::broker::eventually;
use crate::cluster::{Cluster, Hanging};
use crate::fake_follower::FakeFollower;
use crate::fake_leader::{Asked, FakeLeader};
use crate::socket::{Socket, batch, produce_request, records};
use crate::warnings;

const SETTINGS: &[(&str, &str)] = &[
    ("replica.lag.time.max.ms", "1500"),
    ("replica.fetch.backoff.ms", "50"),
    ("replica.fetch.wait.max.ms", "100"),
    ("replica.socket.timeout.ms", "1000"),
];

/// A follower whose leader is a fake: it leads partitions `bad` and `good`, and the follower itself
/// leads `own`. Each of the three holds one record.
struct Scene {
    cluster: Cluster,
    fake: FakeLeader,
    hanging: Hanging,
    follower: i32,
    topic: Uuid,
    name: &'static str,
    bad: i32,
    good: i32,
    own: i32,
    epoch: i32,
}

impl Scene {
    fn begin(name: &'static str) -> Scene {
        warnings::note();
        let mut cluster = Cluster::start(2, SETTINGS);
        cluster.topic(name, 4, &[("min.insync.replicas", "1")]);
        let leaders: Vec<i32> = (0..4).map(|index| cluster.leader(name, index, None)).collect();
        let leader = leaders[0];
        let led = |by: i32| (0..).zip(&leaders).filter(move |(_, it)| **it == by);
        let by_leader: Vec<i32> = led(leader).map(|(index, _)| index).collect();
        let follower = 3 - leader;
        let own = led(follower).map(|(index, _)| index).next().expect("both lead something");
        let (bad, good) = (by_leader[0], by_leader[1]);
        for (broker, index) in [(leader, bad), (leader, good), (follower, own)] {
            let answer = cluster.connect(broker).produce(name, index, -1, batch(&[b"kept"]));
            assert_eq!((answer.error_code, answer.base_offset), (0, 0));
        }
        let epoch = cluster.partition(follower, name, bad).leader_epoch;
        assert_eq!(epoch, cluster.partition(follower, name, good).leader_epoch);
        let topic = cluster.topic_id(name);
        let hanging = cluster.hang(leader);
        let fake = FakeLeader::at(hanging.address());
        Scene { cluster, fake, hanging, follower, topic, name, bad, good, own, epoch }
    }

    /// The next fetch of both partitions.
    fn asked(&self) -> Asked {
        self.fake.asked_for(self.topic, &[self.bad, self.good])
    }

    /// A batch as the leader would send it.
    fn batch(&self, offset: i64, value: &[u8]) -> Vec<u8> {
        let mut bytes = batch(&[value]).to_vec();
        set_base_offset(&mut bytes, offset);
        set_leader_epoch(&mut bytes, self.epoch);
        bytes
    }

    /// Sound data of a partition of which everything up to `high_watermark` is committed.
    fn data(index: i32, records: Vec<u8>, high_watermark: i64) -> PartitionData {
        PartitionData {
            partition_index: index,
            high_watermark,
            last_stable_offset: high_watermark,
            log_start_offset: 0,
            records: Records::Inline(records.into()),
            ..Default::default()
        }
    }

    /// The follower still serves what it leads itself.
    fn own_goes_on(&self) {
        let mut socket = self.cluster.connect(self.follower);
        let answer = socket.produce(self.name, self.own, 1, batch(&[b"own"]));
        assert_eq!(answer.error_code, 0);
    }

    /// The fake is gone, the follower is elected. Afterwards the one that hung is back, and both logs
    /// are the same. What `index` holds, by the follower.
    fn end(self) -> (Vec<Bytes>, Vec<Bytes>) {
        let Scene { mut cluster, fake, hanging, follower, name, bad, good, .. } = self;
        let leader = 3 - follower;
        drop(fake);
        cluster.expire(hanging);
        let mut values = Vec::new();
        for index in [bad, good] {
            assert_eq!(cluster.leader(name, index, Some(leader)), follower);
            let mut socket = cluster.connect(follower);
            eventually("it acknowledges", || {
                socket.produce(name, index, -1, batch(&[b"last"])).error_code == 0
            });
            values.push(all(&mut socket, name, index));
        }
        cluster.start_broker(leader);
        for index in [bad, good] {
            cluster.in_sync(name, index, 2);
        }
        cluster.stop(leader);
        cluster.stop(follower);
        for index in [bad, good] {
            let log = |id: i32| {
                let dir = cluster.data_dir(id).join(format!("{name}-{index}"));
                std::fs::read(dir.join("00000000000000000000.log")).expect("a segment")
            };
            assert!(log(leader) == log(follower), "the logs of {name}-{index} differ");
        }
        let good = values.pop().expect("two");
        (values.pop().expect("two"), good)
    }
}

fn all(socket: &mut Socket, topic: &str, index: i32) -> Vec<Bytes> {
    let data = socket.fetch(topic, index, 0, 0);
    assert_eq!(data.error_code, 0);
    records(&data).into_iter().map(|(_, value)| value).collect()
}

/// How one partition's data is garbled: what is sent in place of a sound record at the follower's end,
/// which is 1.
type Garble = (&'static str, fn(&Scene) -> PartitionData);

const GARBLED: &[Garble] = &[
    ("wrong CRC", |scene| {
        let mut bytes = scene.batch(1, b"false");
        *bytes.last_mut().expect("bytes") ^= 1;
        Scene::data(scene.bad, bytes, 2)
    }),
    ("a second batch with a wrong CRC", |scene| {
        let mut bytes = scene.batch(1, b"false");
        bytes.extend(scene.batch(2, b"false"));
        *bytes.last_mut().expect("bytes") ^= 1;
        Scene::data(scene.bad, bytes, 3)
    }),
    ("an offset that is there already", |scene| {
        Scene::data(scene.bad, scene.batch(0, b"false"), 2)
    }),
    ("a negative offset", |scene| Scene::data(scene.bad, scene.batch(-7, b"false"), 2)),
    ("the greatest offset", |scene| Scene::data(scene.bad, scene.batch(i64::MAX, b"false"), 2)),
    ("an epoch that is over", |scene| {
        let mut bytes = scene.batch(1, b"false");
        set_leader_epoch(&mut bytes, scene.epoch - 1);
        Scene::data(scene.bad, bytes, 2)
    }),
    ("an epoch that is not its own yet", |scene| {
        let mut bytes = scene.batch(1, b"false");
        set_leader_epoch(&mut bytes, scene.epoch + 1);
        Scene::data(scene.bad, bytes, 2)
    }),
    ("a batch that is cut", |scene| {
        let mut bytes = scene.batch(1, b"false");
        bytes.truncate(bytes.len() - 3);
        Scene::data(scene.bad, bytes, 2)
    }),
    ("a batch that says it is larger", |scene| {
        let mut bytes = scene.batch(1, b"false");
        bytes[BATCH_LENGTH_OFFSET..][..4].copy_from_slice(&i32::MAX.to_be_bytes());
        Scene::data(scene.bad, bytes, 2)
    }),
    ("a batch of negative length", |scene| {
        let mut bytes = scene.batch(1, b"false");
        bytes[BATCH_LENGTH_OFFSET..][..4].copy_from_slice(&(-1_i32).to_be_bytes());
        Scene::data(scene.bad, bytes, 2)
    }),
    ("another magic", |scene| {
        let mut bytes = scene.batch(1, b"false");
        bytes[MAGIC_OFFSET] = 1;
        Scene::data(scene.bad, bytes, 2)
    }),
    ("no batch at all", |scene| Scene::data(scene.bad, vec![0xff; 100], 2)),
    ("zeros", |scene| Scene::data(scene.bad, vec![0; 1000], 2)),
    ("a log that begins beyond what is committed", |scene| PartitionData {
        log_start_offset: i64::MAX,
        ..Scene::data(scene.bad, Vec::new(), 1)
    }),
    ("a log that differs below what is committed", |scene| PartitionData {
        diverging_epoch: EpochEndOffset { epoch: scene.epoch, end_offset: 0 },
        ..Scene::data(scene.bad, Vec::new(), 1)
    }),
    ("a log that begins behind what it does not hold", |scene| PartitionData {
        error_code: ErrorCode::OffsetOutOfRange.as_i16(),
        ..Scene::data(scene.bad, Vec::new(), 1)
    }),
];

#[test]
fn what_a_leader_garbles_in_one_partition_is_not_taken_and_the_others_go_on() {
    let scene = Scene::begin("garbled");
    // It learns that its record is committed.
    scene.asked().answer(
        scene.topic,
        vec![Scene::data(scene.bad, Vec::new(), 1), Scene::data(scene.good, Vec::new(), 1)],
    );
    let partition = format!("partition=garbled-{} ", scene.bad);
    for (round, (what, garble)) in (1..).zip(GARBLED) {
        let asked = scene.asked();
        assert_eq!(asked.offset(scene.topic, scene.bad), 1, "before: {what}");
        assert_eq!(asked.offset(scene.topic, scene.good), round, "before: {what}");
        let sound = Scene::data(scene.good, scene.batch(round, b"good"), round);
        asked.answer(scene.topic, vec![garble(&scene), sound]);
        scene.own_goes_on();
    }
    let asked = scene.asked();
    assert_eq!(asked.offset(scene.topic, scene.bad), 1, "nothing was taken, nothing was cut");
    drop(asked);
    for why in ["CRC", "epoch", "begins at", "differs below"] {
        assert!(warnings::told(&[&partition, why]), "no warning of {why}");
    }
    let count = GARBLED.len();
    let (bad, good) = scene.end();
    assert_eq!(bad, [b"kept".as_slice(), b"last"]);
    assert_eq!(good.len(), 1 + count + 1);
}

/// What an answer as a whole is garbled to.
type GarbledFrame = (&'static str, fn(&Scene, &Asked) -> Vec<u8>);

const GARBLED_FRAMES: &[GarbledFrame] = &[
    ("noise", |_, _| {
        let mut bytes = vec![0, 0, 1, 0];
        bytes.extend((0..=255).map(|byte: u8| byte.wrapping_mul(151) ^ 0x5a));
        bytes
    }),
    ("an answer of negative length", |_, _| vec![0xff, 0xff, 0xff, 0xfe, 1, 2, 3]),
    ("an answer that says it is 2 GiB", |_, _| vec![0x7f, 0xff, 0xff, 0xff, 1, 2, 3]),
    ("an empty answer", |_, _| vec![0, 0, 0, 0]),
    ("the answer to another question", |scene, asked| {
        let mut bytes = asked.frame(scene.topic, false_records(scene));
        bytes[7] ^= 0x40;
        bytes
    }),
    ("an answer that is cut in its records", |scene, asked| {
        let mut bytes = asked.frame(scene.topic, false_records(scene));
        let len = bytes.len() - 20;
        bytes.truncate(len);
        bytes[..4].copy_from_slice(&i32::try_from(len - 4).expect("small").to_be_bytes());
        bytes
    }),
    ("an answer of four thousand million topics", |_, asked| {
        let mut bytes = asked.frame_of(&FetchResponse::default());
        // Correlation id, tags, throttle time, error code, session id: then the number of topics.
        let at = 4 + 4 + 1 + 4 + 2 + 4;
        bytes.truncate(at);
        bytes.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
        let len = i32::try_from(bytes.len() - 4).expect("small");
        bytes[..4].copy_from_slice(&len.to_be_bytes());
        bytes
    }),
];

fn false_records(scene: &Scene) -> Vec<PartitionData> {
    let data = |index| Scene::data(index, scene.batch(1, b"false"), 2);
    vec![data(scene.bad), data(scene.good)]
}

#[test]
fn an_answer_that_is_nonsense_as_a_whole_is_not_taken_and_said_to_be_so() {
    let scene = Scene::begin("noise");
    let leader = 3 - scene.follower;
    for (what, garble) in GARBLED_FRAMES {
        let asked = scene.asked();
        assert_eq!(asked.offset(scene.topic, scene.bad), 1, "before: {what}");
        let bytes = garble(&scene, &asked);
        asked.answer_bytes(bytes);
        scene.own_goes_on();
    }
    drop(scene.asked());
    for why in ["a frame of -2 bytes", "a frame of 2147483647 bytes", "was due", "nonsense"] {
        let of = format!("broker {leader}");
        assert!(warnings::told(&[&of, why]), "no warning of {why}");
    }
    let (bad, good) = scene.end();
    assert_eq!(
        (bad, good),
        (vec!["kept".into(), "last".into()], vec!["kept".into(), "last".into()])
    );
}

#[test]
fn what_a_follower_did_not_ask_for_is_none_of_its_business() {
    let scene = Scene::begin("unasked");
    let asked = scene.asked();
    let own = Scene::data(scene.own, scene.batch(1, b"false"), 2);
    let nowhere = Scene::data(99, scene.batch(1, b"false"), 2);
    let negative = Scene::data(-1, scene.batch(1, b"false"), 2);
    asked.answer(scene.topic, vec![own, nowhere, negative]);
    let asked = scene.asked();
    asked.answer(Uuid::from_u128(77), vec![Scene::data(scene.bad, scene.batch(1, b"false"), 2)]);
    let asked = scene.asked();
    // A whole topic that is not asked for, before the one that is.
    let frame = asked.frame_of(&FetchResponse {
        responses: vec![
            FetchableTopicResponse { topic_id: Uuid::nil(), ..Default::default() },
            FetchableTopicResponse {
                topic_id: scene.topic,
                partitions: vec![Scene::data(scene.good, scene.batch(1, b"good"), 1)],
                ..Default::default()
            },
        ],
        ..Default::default()
    });
    asked.answer_bytes(frame);
    let asked = scene.asked();
    assert_eq!(asked.offset(scene.topic, scene.bad), 1);
    assert_eq!(asked.offset(scene.topic, scene.good), 2);
    drop(asked);
    let mut socket = scene.cluster.connect(scene.follower);
    assert_eq!(all(&mut socket, scene.name, scene.own), [b"kept".as_slice()]);
    drop(socket);
    let (bad, good) = scene.end();
    assert_eq!(bad, [b"kept".as_slice(), b"last"]);
    assert_eq!(good, [b"kept".as_slice(), b"good", b"last"]);
}

#[test]
fn a_follower_that_asks_beyond_the_end_is_told_so_and_its_word_counts_for_nothing() {
    let mut cluster = Cluster::start(2, &[("replica.lag.time.max.ms", "60000")]);
    cluster.topic("t", 1, &[("min.insync.replicas", "2")]);
    let leader = cluster.leader("t", 0, None);
    assert_eq!(cluster.connect(leader).produce("t", 0, -1, batch(&[b"one"])).error_code, 0);
    let (mut follower, hanging) = FakeFollower::of(&mut cluster, "t", 3 - leader);
    let mut producer = cluster.connect(leader);
    producer.send(9, &produce_request("t", 0, -1, batch(&[b"two"])));
    eventually("it is in the log", || !records(&follower.asks(1)).is_empty());
    let mut reader = cluster.connect(leader);
    for offset in [3, 1000, i64::MAX, -1, i64::MIN] {
        assert_eq!(follower.told(offset), ErrorCode::OffsetOutOfRange, "{offset}");
        let seen = reader.fetch("t", 0, 0, 0);
        assert_eq!(seen.high_watermark, 1, "after a word for {offset}");
        assert_eq!(cluster.partition(leader, "t", 0).isr_nodes.len(), 2, "{offset}");
    }
    // Its word for what is there does count.
    assert_eq!(follower.told(2), ErrorCode::None);
    let (_, answer) = producer.receive::<ProduceRequest>(9);
    let answer = &answer.responses[0].partition_responses[0];
    assert_eq!((answer.error_code, answer.base_offset), (0, 1));
    cluster.expire(hanging);
}
