use klamm_protocol::Records;
use klamm_protocol::messages::DescribeConfigsRequest;
use klamm_protocol::messages::describe_configs::{
    DescribeConfigsResource, DescribeConfigsResourceResult,
};
use klamm_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use klamm_protocol::records::BatchHeader;

use crate::broker::{TestBroker, start, try_start};
use crate::socket::batch;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

const SET: i8 = 0;
const DELETE: i8 = 1;

fn described(broker: &TestBroker, kind: i8, name: &str) -> Vec<DescribeConfigsResourceResult> {
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: kind,
            resource_name: name.to_owned(),
            configuration_keys: None,
        }],
        include_synonyms: true,
        include_documentation: true,
    };
    let mut response = broker.connect().call(4, &request);
    assert_eq!(response.results[0].error_code, 0, "{response:?}");
    response.results.remove(0).configs
}

/// The value of a setting and where it comes from.
fn value(broker: &TestBroker, kind: i8, name: &str, key: &str) -> (String, i8) {
    let all = described(broker, kind, name);
    let found = all.iter().find(|config| config.name == key).expect("a known key");
    (found.value.clone().unwrap_or_default(), found.config_source)
}

fn alter(broker: &TestBroker, kind: i8, name: &str, key: &str, to: Option<&str>) -> i16 {
    let config = AlterableConfig {
        name: key.to_owned(),
        config_operation: if to.is_some() { SET } else { DELETE },
        value: to.map(str::to_owned),
    };
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: kind,
            resource_name: name.to_owned(),
            configs: vec![config],
        }],
        validate_only: false,
    };
    broker.connect().call(1, &request).responses[0].error_code
}

#[test]
fn what_tools_and_suites_read_of_a_broker_is_there() {
    let (_dir, broker) = start(&[]);
    let all = described(&broker, BROKER, "1");
    for (key, expected) in [
        ("log.flush.interval.messages", "9223372036854775807"),
        ("message.max.bytes", "1048588"),
        ("auto.create.topics.enable", "true"),
        ("default.replication.factor", "1"),
        ("num.partitions", "1"),
        ("log.cleanup.policy", "delete"),
        ("min.insync.replicas", "1"),
        ("delete.topic.enable", "true"),
        ("offsets.topic.replication.factor", "3"),
        ("broker.id", "1"),
    ] {
        let found = all.iter().find(|config| config.name == key).expect(key);
        assert_eq!(found.value.as_deref(), Some(expected), "{key}");
        assert!(found.documentation.as_deref().is_some_and(|text| !text.is_empty()), "{key}");
        assert!(found.config_type > 0, "{key}");
    }
}

#[test]
fn a_compacted_topic_reads_compact_after_a_restart_too() {
    let (dir, broker) = start(&[]);
    broker.topic("t", 1, &[("cleanup.policy", "compact")]);
    assert_eq!(value(&broker, TOPIC, "t", "cleanup.policy"), ("compact".to_owned(), 1));
    broker.stop();
    let broker = try_start(dir.path(), &[]).expect("restarts");
    assert_eq!(value(&broker, TOPIC, "t", "cleanup.policy"), ("compact".to_owned(), 1));
    // What the topic does not say is no setting of its own.
    assert_eq!(value(&broker, TOPIC, "t", "retention.ms"), ("604800000".to_owned(), 5));
}

#[test]
fn a_changed_setting_holds_from_the_answer_on() {
    let (_dir, broker) = start(&[]);
    broker.topic("t", 1, &[]);
    let mut socket = broker.connect();
    let large = batch(&[&[b'x'; 500]]);
    assert_eq!(socket.produce("t", 0, -1, large.clone()).error_code, 0);
    assert_eq!(alter(&broker, TOPIC, "t", "max.message.bytes", Some("200")), 0);
    assert_eq!(socket.produce("t", 0, -1, large.clone()).error_code, 10);
    assert_eq!(alter(&broker, TOPIC, "t", "max.message.bytes", None), 0);
    assert_eq!(socket.produce("t", 0, -1, large.clone()).error_code, 0);
    // The broker's own value reaches topics that do not say.
    assert_eq!(alter(&broker, BROKER, "", "message.max.bytes", Some("200")), 0);
    assert_eq!(value(&broker, TOPIC, "t", "max.message.bytes"), ("200".to_owned(), 3));
    assert_eq!(socket.produce("t", 0, -1, large).error_code, 10);
}

#[test]
fn settings_of_a_running_broker_survive_a_restart() {
    let (dir, broker) = start(&[]);
    let key = "log.segment.delete.delay.ms";
    assert_eq!(alter(&broker, BROKER, "1", key, Some("5000")), 0);
    assert_eq!(value(&broker, BROKER, "1", key), ("5000".to_owned(), 2));
    broker.stop();
    let broker = try_start(dir.path(), &[(key, "7000")]).expect("restarts");
    assert_eq!(value(&broker, BROKER, "1", key), ("5000".to_owned(), 2));
    assert_eq!(alter(&broker, BROKER, "1", key, None), 0);
    assert_eq!(value(&broker, BROKER, "1", key), ("7000".to_owned(), 4));
}

#[test]
fn settings_that_would_have_no_effect_are_refused() {
    let (_dir, broker) = start(&[]);
    broker.topic("t", 1, &[]);
    for (kind, name, key, to, code) in [
        (TOPIC, "t", "no.such.key", "1", 40),
        (TOPIC, "t", "retention.ms", "soon", 40),
        (TOPIC, "t", "remote.storage.enable", "true", 40),
        (TOPIC, "missing", "retention.ms", "1", 3),
        (BROKER, "1", "num.partitions", "2", 42),
        (BROKER, "1", "num.io.threads", "2", 42),
        (BROKER, "9", "message.max.bytes", "2000", 42),
    ] {
        assert_eq!(alter(&broker, kind, name, key, Some(to)), code, "{key}");
    }
}

#[test]
fn batches_are_stored_in_the_codec_of_their_topic() {
    let (_dir, broker) = start(&[]);
    let mut socket = broker.connect();
    for (codec, id) in [("gzip", 1), ("snappy", 2), ("lz4", 3), ("zstd", 4), ("uncompressed", 0)] {
        broker.topic(codec, 1, &[("compression.type", codec)]);
        let answer = socket.produce(codec, 0, -1, batch(&[b"one one one", b"two two two"]));
        assert_eq!(answer.error_code, 0);
        let data = socket.fetch(codec, 0, 0, 5_000);
        let Records::Inline(bytes) = &data.records else { panic!("decoded") };
        let header = BatchHeader::parse(bytes).expect("a batch");
        assert_eq!(header.attributes.0 & 7, id, "{codec}");
        assert_eq!(header.records_count, 2);
    }
}

#[test]
fn a_topic_keeps_the_flush_class_that_it_was_made_with() {
    let (dir, broker) = start(&[("flush", "os")]);
    broker.topic("os", 1, &[]);
    broker.topic("acked", 1, &[("flush", "acked")]);
    broker.stop();
    let broker = try_start(dir.path(), &[]).expect("restarts");
    broker.topic("new", 1, &[]);
    for (topic, class) in [("os", "os"), ("acked", "acked"), ("new", "acked")] {
        assert_eq!(value(&broker, TOPIC, topic, "flush").0, class, "{topic}");
    }
}
