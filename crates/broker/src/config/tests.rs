//! The table as a whole, and what comes from it.

use klamm_protocol::ErrorCode;

use super::*;

fn settings(pairs: &[(&str, &str)]) -> Settings {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn loaded(text: &str) -> Loaded {
    load(Some(("server.properties", text)), &[]).unwrap()
}

fn refusal(text: &str) -> String {
    load(Some(("server.properties", text)), &[]).unwrap_err().to_string()
}

fn set<'a>(name: &'a str, value: &'a str) -> Change<'a> {
    Change { name, operation: Operation::Set, value }
}

#[test]
fn every_default_passes_its_own_row() {
    for key in BROKER_KEYS.iter().chain(TOPIC_KEYS) {
        if let Some(default) = key.default {
            assert_eq!(key.canonical(default).as_deref(), Ok(default), "{}", key.name);
        }
        assert!(key.doc.ends_with('.'), "{} ends its sentence", key.name);
    }
}

#[test]
fn keys_are_unique_and_synonyms_exist() {
    for table in [BROKER_KEYS, TOPIC_KEYS] {
        for (at, key) in table.iter().enumerate() {
            assert!(table[..at].iter().all(|other| other.name != key.name), "{} twice", key.name);
            for (synonym, _) in key.synonyms {
                assert!(BROKER_KEYS.iter().any(|row| row.name == *synonym), "{synonym}");
            }
        }
    }
    assert!(TOPIC_KEYS.is_sorted_by_key(|key| key.name));
}

#[test]
fn topic_defaults_equal_what_the_broker_gives() {
    let broker = BrokerConfig::default();
    for key in TOPIC_KEYS {
        assert_eq!(Some(broker.inherited(key).as_str()), key.default, "{}", key.name);
    }
}

#[test]
fn values_are_taken_or_refused_as_kafka_does() {
    let cases = [
        ("cleanup.policy", "", Some("")),
        ("cleanup.policy", "compact, delete", Some("compact,delete")),
        ("cleanup.policy", "compact", Some("compact")),
        ("cleanup.policy", "Delete", None),
        ("retention.ms", " 5 ", Some("5")),
        ("retention.ms", "+5", Some("5")),
        ("retention.ms", "-2", None),
        ("retention.ms", "abc", None),
        ("retention.ms", "", None),
        ("retention.ms", "9999999999999999999999", None),
        ("retention.bytes", "-5", Some("-5")),
        ("segment.bytes", "100", None),
        ("segment.bytes", "3000000000", None),
        ("compression.type", "GZIP", None),
        ("compression.gzip.level", "0", None),
        ("compression.gzip.level", "-1", Some("-1")),
        ("preallocate", "TRUE", Some("true")),
        ("preallocate", "yes", None),
        ("min.cleanable.dirty.ratio", "2", None),
        ("min.cleanable.dirty.ratio", "1", Some("1.0")),
        ("min.cleanable.dirty.ratio", "NaN", None),
        ("leader.replication.throttled.replicas", "*", Some("*")),
        ("leader.replication.throttled.replicas", "0:1,1:2", Some("0:1,1:2")),
        ("leader.replication.throttled.replicas", "x", None),
        ("message.timestamp.type", "logappendtime", None),
        ("flush", "os", Some("os")),
        ("flush", "never", None),
    ];
    for (name, value, expected) in cases {
        let key = TOPIC_KEYS.iter().find(|key| key.name == name).unwrap();
        assert_eq!(key.canonical(value).ok().as_deref(), expected, "{name}={value}");
    }
}

#[test]
fn a_stock_server_properties_is_read_unchanged() {
    let text = "\
        process.roles=broker,controller\nnode.id=1\n\
        controller.quorum.bootstrap.servers=localhost:9093\n\
        listeners=PLAINTEXT://:9092,CONTROLLER://:9093\n\
        inter.broker.listener.name=PLAINTEXT\n\
        advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093\n\
        controller.listener.names=CONTROLLER\n\
        listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL\n\
        num.network.threads=3\nnum.io.threads=8\nsocket.send.buffer.bytes=102400\n\
        log.dirs=/tmp/kraft-combined-logs\nnum.partitions=1\nlog.retention.hours=168\n\
        transaction.state.log.min.isr=1\n";
    let loaded = loaded(text);
    let config = loaded.config;
    assert_eq!(config.broker_id, 1);
    assert_eq!(config.data_dirs(), ["/tmp/kraft-combined-logs"]);
    assert_eq!(config.endpoints.len(), 1);
    assert_eq!(config.endpoints[0].bind_address(), "0.0.0.0:9092");
    let advertised = config.endpoints[0].advertised.as_ref().unwrap();
    assert_eq!((advertised.host.as_str(), advertised.port), ("localhost", 9092));
    assert_eq!(loaded.reports.len(), 1, "{:?}", loaded.reports);
    let report = &loaded.reports[0];
    assert!(report.contains("num.io.threads") && report.contains("process.roles"), "{report}");
}

#[test]
fn unknown_keys_are_reported_with_their_place() {
    let loaded = load(
        Some(("server.properties", "num.partition=3\n")),
        &[("frobnicate".to_owned(), "1".to_owned())],
    )
    .unwrap();
    let report = &loaded.reports[0];
    assert!(report.contains("num.partition (server.properties line 1)"), "{report}");
    assert!(report.contains("frobnicate (--set)"), "{report}");
}

#[test]
fn a_bad_value_names_key_value_place_and_what_is_allowed() {
    let message = refusal("# c\nnum.partitions = none\n");
    for part in ["server.properties line 2", "num.partitions=none", "at least 1"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(refusal("a=\\u12\n").contains("line 1"));
    assert!(refusal("node.id=1\nbroker.id=2\n").contains("node.id is 1"));
    assert!(refusal("queued.max.request.bytes=10\n").contains("socket.request.max.bytes"));
    assert!(refusal("listeners=PLAINTEXT://:99999\n").contains("NAME://HOST:PORT"));
    assert!(refusal("listeners=SSL://:9092\n").contains("only PLAINTEXT"));
    assert!(refusal("listeners=X://:9092\n").contains("no protocol for X"));
    assert!(refusal("advertised.listeners=Y://h:1\n").contains("advertised.listeners"));
    assert!(refusal("max.connections.per.ip.overrides=host\n").contains("address:count"));
    loaded("max.connections.per.ip.overrides=127.0.0.1:5,[::1]:7\n");
}

#[test]
fn the_command_line_is_stronger_than_the_file() {
    let set = [("num.partitions".to_owned(), "7".to_owned())];
    let loaded = load(Some(("f", "num.partitions=3\nnum.partitions=4")), &set).unwrap();
    assert_eq!(loaded.config.num_partitions, 7);
    assert_eq!(loaded.config.places("num.partitions").len(), 2);
}

#[test]
fn ipv6_listeners_keep_their_brackets() {
    let config = loaded("listeners=PLAINTEXT://[::1]:9092").config;
    assert_eq!(config.endpoints[0].host, "::1");
    assert_eq!(config.endpoints[0].bind_address(), "[::1]:9092");
}

#[test]
fn topics_take_what_they_do_not_say_from_the_broker() {
    let broker = loaded("log.retention.minutes=2\nlog.roll.hours=1\nflush=os").config;
    let topic = broker.topic(&settings(&[("cleanup.policy", "compact"), ("nonsense", "1")]));
    assert_eq!(topic.retention_ms, 120_000);
    assert_eq!(topic.segment_ms, 3_600_000);
    assert_eq!(topic.flush, FlushClass::Os);
    assert_eq!(topic.cleanup_policy, CleanupPolicy { delete: false, compact: true });
    let forever = loaded("log.retention.hours=-1").config.topic(&Settings::new());
    assert_eq!(forever.retention_ms, -1);
}

#[test]
fn dynamic_settings_lie_over_those_of_the_start() {
    let start = loaded("message.max.bytes=100\nnum.partitions=2").config;
    let config = start.with_dynamic(
        &settings(&[("message.max.bytes", "200"), ("num.partitions", "9")]),
        &settings(&[("message.max.bytes", "300"), ("log.retention.ms", "bad")]),
    );
    assert_eq!(config.message_max_bytes, 300);
    assert_eq!(config.num_partitions, 2);
    let sources: Vec<_> =
        config.places("message.max.bytes").into_iter().map(|(source, _)| source).collect();
    assert_eq!(sources, [Source::Broker, Source::AllBrokers, Source::Static, Source::Default]);
    assert_eq!(start.with_dynamic(&Settings::new(), &Settings::new()), start);
}

#[test]
fn the_offsets_topic_has_no_more_replicas_than_brokers_unless_told() {
    assert_eq!(BrokerConfig::default().offsets_topic_replicas(1), 1);
    assert_eq!(BrokerConfig::default().offsets_topic_replicas(2), 2);
    assert_eq!(BrokerConfig::default().offsets_topic_replicas(5), 3);
    let told = loaded("offsets.topic.replication.factor=2").config;
    assert_eq!(told.offsets_topic_replicas(1), 2);
}

#[test]
fn description_of_a_topic_lists_every_key_with_its_source() {
    let broker = loaded("log.segment.bytes=2097152\nlog.retention.hours=1").config;
    let own = settings(&[("cleanup.policy", "compact")]);
    let all = describe_topic(&broker, &own);
    assert_eq!(all.len(), TOPIC_KEYS.len());
    let find = |name| all.iter().find(|entry| entry.name == name).unwrap();

    let policy = find("cleanup.policy");
    assert_eq!((policy.value.as_deref(), policy.source), (Some("compact"), Source::Topic));
    let names: Vec<_> = policy.synonyms.iter().map(|place| place.name).collect();
    assert_eq!(names, ["cleanup.policy", "log.cleanup.policy"]);

    let segment = find("segment.bytes");
    assert_eq!((segment.value.as_deref(), segment.source), (Some("2097152"), Source::Static));
    assert_eq!(segment.synonyms.len(), 2);

    // Kafka drops what comes before the first synonym's own value.
    let retention = find("retention.ms");
    assert_eq!((retention.value.as_deref(), retention.source), (Some("3600000"), Source::Default));
    assert!(retention.synonyms.is_empty());
}

#[test]
fn incremental_changes_of_a_topic() {
    let broker = BrokerConfig::default();
    let apply = |current: &Settings, change| apply(Scope::Topic, &broker, current, &[change]);
    let change = |name, operation, value| Change { name, operation, value };

    let compact = settings(&[("cleanup.policy", "compact")]);
    let both = apply(&compact, change("cleanup.policy", Operation::Append, "delete,compact"));
    assert_eq!(both.unwrap()["cleanup.policy"], "compact,delete");
    let none = apply(&compact, change("cleanup.policy", Operation::Subtract, "compact"));
    assert_eq!(none.unwrap()["cleanup.policy"], "");
    let gone = apply(&compact, change("cleanup.policy", Operation::Delete, ""));
    assert!(gone.unwrap().is_empty());
    // Lists that were never set begin with the default.
    let both = apply(&Settings::new(), change("cleanup.policy", Operation::Append, "compact"));
    assert_eq!(both.unwrap()["cleanup.policy"], "delete,compact");

    for change in [
        change("retention.ms", Operation::Append, "1"),
        set("retention.ms", "soon"),
        set("no.such.key", "1"),
        set("remote.storage.enable", "true"),
    ] {
        let refused = apply(&Settings::new(), change).unwrap_err();
        assert_eq!(refused.code, ErrorCode::InvalidConfig, "{change:?}");
        assert!(refused.message.contains(change.name), "{}", refused.message);
    }
}

#[test]
fn changes_of_a_broker_are_refused_where_they_cannot_take_effect() {
    let broker = BrokerConfig::default();
    let cases = [
        ("message.max.bytes", "1000", true),
        ("message.max.bytes", "-1", false),
        ("num.partitions", "5", false),
        ("num.io.threads", "5", false),
        ("no.such.key", "5", false),
    ];
    for (name, value, taken) in cases {
        for scope in [Scope::Broker, Scope::AllBrokers] {
            let result = apply(scope, &broker, &Settings::new(), &[set(name, value)]);
            assert_eq!(result.is_ok(), taken, "{name}={value}: {result:?}");
            if let Err(refused) = result {
                assert_eq!(refused.code, ErrorCode::InvalidRequest);
                assert!(refused.message.contains(name));
            }
        }
    }
}

#[test]
#[expect(clippy::disallowed_methods, reason = "compares a page of the repository")]
fn config_docs_are_those_of_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/config.md");
    let page = config_page();
    if std::env::var_os("KLAMM_WRITE_DOCS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    assert!(found == page, "docs/config.md is old: run with KLAMM_WRITE_DOCS=1");
}
