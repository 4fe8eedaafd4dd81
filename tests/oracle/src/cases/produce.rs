//! Produce.

use bytes::Bytes;
use klamm_protocol::ApiKey;
use klamm_protocol::compression::Compression;
use klamm_protocol::messages::fetch::FetchRequest;
use klamm_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use klamm_protocol::records::{
    ATTRIBUTES_OFFSET, BATCH_LENGTH_OFFSET, CRC_OFFSET, LAST_OFFSET_DELTA_OFFSET, MAGIC_OFFSET,
};

use super::fetch::from_start;
use super::{Behaviour, of};
use crate::batches::{MADE_AT, Plan, altered, batch, damaged, with_count};
use crate::case::{Case, Step};

pub(super) const ALL: &[Behaviour] = &[
    of(ApiKey::Produce, "good", good),
    of(ApiKey::Produce, "acks", acks),
    of(ApiKey::Produce, "codecs", codecs),
    of(ApiKey::Produce, "unknown places", places),
    of(ApiKey::Produce, "damaged batches", damage),
    of(ApiKey::Produce, "settings of the topic", settings),
];

/// A batch for one partition, acks=all.
pub(super) fn send(topic: &str, partition: i32, records: Bytes) -> ProduceRequest {
    ProduceRequest {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: topic.to_owned(),
            partition_data: vec![PartitionProduceData { index: partition, records: Some(records) }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// What a partition holds.
fn look(case: &mut Case, step: &str, topic: &str, partition: i32) {
    case.ask_at::<FetchRequest>(12, step, &from_start(topic, partition));
}

fn good(case: &mut Case) -> Step {
    let (name, _) = case.topic("t", 2)?;
    case.ask("one record", &send(&name, 0, batch(&["one"])));
    case.ask("three records", &send(&name, 0, batch(&["two", "three", "four"])));
    case.ask("keyless", &send(&name, 0, Plan::of(&["five"]).keyless().build()));
    let mut null = Plan::of(&["x"]);
    null.records[0].1 = None;
    case.ask("tombstone", &send(&name, 0, null.build()));
    let mut both = send(&name, 0, batch(&["a"]));
    both.topic_data[0]
        .partition_data
        .push(PartitionProduceData { index: 1, records: Some(batch(&["b", "c"])) });
    case.ask("two partitions", &both);
    case.ask("nothing", &ProduceRequest { acks: -1, timeout_ms: 1000, ..Default::default() });
    look(case, "seen 0", &name, 0);
    look(case, "seen 1", &name, 1);
    Ok(())
}

fn acks(case: &mut Case) -> Step {
    let (name, _) = case.topic("t", 1)?;
    for acks in [1, -1, 2, -2] {
        let request = ProduceRequest { acks, ..send(&name, 0, batch(&["x"])) };
        case.ask(&format!("acks {acks}"), &request);
    }
    case.expect_silence("acks 0", &ProduceRequest { acks: 0, ..send(&name, 0, batch(&["y"])) });
    let bad = damaged(&batch(&["z"]), CRC_OFFSET, &[0, 0, 0, 0]);
    case.expect_silence("acks 0 damaged", &ProduceRequest { acks: 0, ..send(&name, 0, bad) });
    let missing = case.named("missing");
    let lost = ProduceRequest { acks: 0, ..send(&missing, 0, batch(&["z"])) };
    case.expect_silence("acks 0 to nowhere", &lost);
    look(case, "seen", &name, 0);
    case.ask("timeout 0", &ProduceRequest { timeout_ms: 0, ..send(&name, 0, batch(&["x"])) });
    Ok(())
}

fn codecs(case: &mut Case) -> Step {
    let (name, _) = case.topic("t", 1)?;
    for codec in Compression::ALL {
        let records = Plan::of(&["some text", "some text", "some text"]).codec(codec).build();
        case.ask(&format!("codec {}", codec.name()), &send(&name, 0, records));
    }
    look(case, "seen", &name, 0);
    let unknown = altered(&batch(&["x"]), ATTRIBUTES_OFFSET, &[0, 5]);
    case.ask("unknown codec", &send(&name, 0, unknown));
    Ok(())
}

fn places(case: &mut Case) -> Step {
    let (name, _) = case.topic("t", 1)?;
    let missing = case.named("missing");
    case.ask("unknown topic", &send(&missing, 0, batch(&["x"])));
    case.ask("unknown partition", &send(&name, 1, batch(&["x"])));
    case.ask("negative partition", &send(&name, -1, batch(&["x"])));
    case.ask("illegal topic", &send("a b", 0, batch(&["x"])));
    case.ask("empty topic", &send("", 0, batch(&["x"])));
    let mut mixed = send(&name, 0, batch(&["x"]));
    mixed.topic_data.extend(send(&missing, 0, batch(&["x"])).topic_data);
    case.ask("good and unknown", &mixed);
    Ok(())
}

fn damage(case: &mut Case) -> Step {
    let (name, _) = case.topic("t", 1)?;
    let good = batch(&["one", "two"]);
    let two = [good.clone(), batch(&["three"])].concat();
    let mut control = Plan::of(&["x"]);
    control.control = true;
    let cases: &[(&str, Bytes)] = &[
        ("wrong checksum", damaged(&good, CRC_OFFSET, &[1, 2, 3, 4])),
        ("magic 1", damaged(&good, MAGIC_OFFSET, &[1])),
        ("magic 0", damaged(&good, MAGIC_OFFSET, &[0])),
        ("magic 3", damaged(&good, MAGIC_OFFSET, &[3])),
        ("two batches", Bytes::from(two)),
        ("cut", good.slice(..good.len() - 3)),
        ("header cut", good.slice(..30)),
        ("length too long", damaged(&good, BATCH_LENGTH_OFFSET, &[0, 0, 4, 0])),
        ("length too short", damaged(&good, BATCH_LENGTH_OFFSET, &[0, 0, 0, 10])),
        ("negative length", damaged(&good, BATCH_LENGTH_OFFSET, &[0xff; 4])),
        ("no bytes", Bytes::new()),
        ("last offset delta", altered(&good, LAST_OFFSET_DELTA_OFFSET, &[0, 0, 0, 7])),
        ("negative last offset delta", altered(&good, LAST_OFFSET_DELTA_OFFSET, &[0xff; 4])),
        ("count too high", with_count(&good, 3)),
        ("count too low", with_count(&good, 1)),
        ("count zero", with_count(&good, 0)),
        ("count negative", with_count(&good, -1)),
        ("control batch", control.build()),
    ];
    for (step, records) in cases {
        case.ask(step, &send(&name, 0, records.clone()));
    }
    let mut null = send(&name, 0, good.clone());
    null.topic_data[0].partition_data[0].records = None;
    case.ask_owed("null", &null);
    case.ask("good after all", &send(&name, 0, good));
    look(case, "seen", &name, 0);
    Ok(())
}

fn settings(case: &mut Case) -> Step {
    let (small, _) = case.topic_with("small", 1, &[("max.message.bytes", "200")])?;
    case.ask("too large", &send(&small, 0, batch(&[&"x".repeat(500)])));
    case.ask("small enough", &send(&small, 0, batch(&["x"])));
    let (compact, _) = case.topic_with("compact", 1, &[("cleanup.policy", "compact")])?;
    case.ask("keyed", &send(&compact, 0, batch(&["x"])));
    case.ask("keyless", &send(&compact, 0, Plan::of(&["x", "y"]).keyless().build()));
    let (stamped, _) =
        case.topic_with("stamped", 1, &[("message.timestamp.type", "LogAppendTime")])?;
    case.ask("stamped", &send(&stamped, 0, batch(&["x", "y"])));
    look(case, "stamped seen", &stamped, 0);
    let bounds =
        [("message.timestamp.before.max.ms", "1000"), ("message.timestamp.after.max.ms", "1000")];
    let (bounded, _) = case.topic_with("bounded", 1, &bounds)?;
    case.ask("too old", &send(&bounded, 0, Plan::of(&["x", "y"]).at(MADE_AT).build()));
    let ahead = Plan::of(&["x"]).at(9_000_000_000_000).build();
    case.ask("from the future", &send(&bounded, 0, ahead));
    let (gzip, _) = case.topic_with("gzip", 1, &[("compression.type", "gzip")])?;
    case.ask("recompressed", &send(&gzip, 0, batch(&["x", "y"])));
    case.ask_at::<FetchRequest>(12, "recompressed seen", &from_start(&gzip, 0));
    let (many, _) = case.topic_with("many", 1, &[("min.insync.replicas", "2")])?;
    case.ask("too few in sync", &send(&many, 0, batch(&["x"])));
    let one = ProduceRequest { acks: 1, ..send(&many, 0, batch(&["x"])) };
    case.ask("too few in sync for acks 1", &one);
    Ok(())
}
