//! Every node reads back what it wrote, and refuses what it should.

use super::broker::{Endpoint, EpochNode, RegistrationNode};
use super::cluster::ClusterNode;
use super::config::{ConfigKind, ConfigNode, ConfigResource};
use super::controller::{ControllerEpochNode, ControllerNode};
use super::topic::{
    AssignNode, Assignment, FlushClass, Member, NameNode, PartitionNode, TopicNode,
};
use super::{DecodeError, NodeKey, NodeValue, decode, encode, name};
use crate::tree::NODE_BYTES_MAX;
use proptest::prelude::*;
use uuid::Uuid;

fn reads_back<T: NodeValue + PartialEq + std::fmt::Debug>(value: &T) {
    let data = encode(value);
    assert_eq!(decode::<T>("/x", &data).as_ref(), Ok(value), "{data:?}");
}

fn partition() -> PartitionNode {
    PartitionNode {
        leader: Some(1),
        leader_epoch: 4,
        partition_epoch: 9,
        isr: vec![Member { id: 1, epoch: 7 }, Member { id: 2, epoch: 3 }],
        elr: vec![Member { id: 3, epoch: 1 }],
        offline: vec![Member { id: 2, epoch: 3 }],
        min_isr: 2,
        flush: FlushClass::Acked,
        unclean_epoch: -1,
        controller_epoch: 5,
        nonce: u64::MAX,
    }
}

#[test]
fn every_node_reads_back() {
    let id = Uuid::from_u128(0x1234_5678_9abc_def0_1122_3344_5566_7788);
    reads_back(&ClusterNode { format: 1, cluster_id: "x".into(), incomplete: false });
    reads_back(&ClusterNode { format: 1, cluster_id: "x".into(), incomplete: true });
    reads_back(&ControllerNode { broker_id: 1, broker_epoch: 2, nonce: u64::MAX });
    reads_back(&ControllerEpochNode { epoch: 3 });
    reads_back(&RegistrationNode {
        endpoints: vec![
            Endpoint { listener: "PLAINTEXT".into(), host: "::1".into(), port: 9092 },
            Endpoint { listener: "B".into(), host: "h".into(), port: 1 },
        ],
        security_protocols: [("B".to_owned(), "SSL".to_owned())].into(),
        inter_broker_listener: "B".into(),
        rack: Some("r".into()),
        incarnation: id,
        broker_epoch: 5,
        features: [("f".to_owned(), (1, 2))].into(),
        log_dir_missing: true,
        offsets_in_tree: true,
    });
    reads_back(&EpochNode {
        epoch: 5,
        incarnation: id,
        prev_epoch: 4,
        clean_since: 3,
        intact_since: 1,
        shutting_down: true,
    });
    reads_back(&NameNode { topic_id: id });
    reads_back(&TopicNode { name: "t".into(), deleting: true });
    let assignment = Assignment { replicas: vec![1, 2], adding: vec![2], removing: vec![] };
    reads_back(&AssignNode { partitions: vec![assignment] });
    reads_back(&partition());
    reads_back(&PartitionNode { leader: None, ..partition() });
    reads_back(&ConfigNode { config: [("a".to_owned(), "ä\n".to_owned())].into() });
}

#[test]
fn a_partition_reads_like_kafkas_with_more() {
    let text = String::from_utf8(encode(&partition()).to_vec()).unwrap();
    let start =
        r#"{"version":1,"leader":1,"leader_epoch":4,"partition_epoch":9,"isr":[[1,7],[2,3]]"#;
    assert!(text.starts_with(start), "{text}");
}

#[test]
fn a_version_from_the_future_is_refused() {
    let data = br#"{"version":2,"epoch":3}"#;
    let error = decode::<ControllerEpochNode>("/controller_epoch", data).unwrap_err();
    assert!(matches!(error, DecodeError::FromTheFuture { found: 2, known: 1, .. }), "{error}");
}

#[test]
fn a_format_from_the_future_is_refused() {
    let data = br#"{"version":1,"format":2,"cluster_id":"x"}"#;
    let error = decode::<ClusterNode>("/klamm", data).unwrap_err().to_string();
    assert!(error.contains("format 2") && error.contains("newer"), "{error}");
}

#[test]
fn a_node_that_is_too_large_is_refused() {
    let of = |len: usize| {
        let head = r#"{"version":1,"epoch":3,"more":""#;
        format!("{head}{}\"}}", "x".repeat(len - head.len() - 2))
    };
    let most = of(NODE_BYTES_MAX);
    assert_eq!(most.len(), NODE_BYTES_MAX);
    assert!(decode::<ControllerEpochNode>("/controller_epoch", most.as_bytes()).is_ok());
    let more = of(NODE_BYTES_MAX + 1);
    let error = decode::<ControllerEpochNode>("/controller_epoch", more.as_bytes()).unwrap_err();
    let told = error.to_string();
    assert!(told.contains("/controller_epoch") && told.contains("too many"), "{told}");
}

#[test]
fn unknown_fields_of_a_known_version_are_ignored() {
    let data = br#"{"version":1,"epoch":3,"more":[1]}"#;
    assert_eq!(decode("/controller_epoch", data), Ok(ControllerEpochNode { epoch: 3 }));
}

#[test]
fn impossible_partitions_are_refused() {
    let twice = PartitionNode { elr: vec![Member { id: 1, epoch: 1 }], ..partition() };
    let empty = PartitionNode { isr: vec![], leader: None, ..partition() };
    let outside = PartitionNode { leader: Some(3), ..partition() };
    for bad in [twice, empty, outside] {
        assert!(decode::<PartitionNode>("/x", &encode(&bad)).is_err(), "{bad:?}");
    }
}

#[test]
fn keys_and_paths_agree() {
    let id = Uuid::from_u128(u128::MAX / 3);
    let mut keys = vec![
        NodeKey::Cluster,
        NodeKey::Controller,
        NodeKey::ControllerEpoch,
        NodeKey::Broker(0),
        NodeKey::BrokerEpoch(i32::MAX),
        NodeKey::Name("a.b_c-d".into()),
        NodeKey::Name("..".into()),
        NodeKey::Name("a/ü %".into()),
        NodeKey::Topic(id),
        NodeKey::Assign(id),
        NodeKey::Partition(id, 12),
        NodeKey::Features,
        NodeKey::ProducerIds,
    ];
    for kind in ConfigKind::ALL {
        for name in [None, Some("<default>".to_owned()), Some("x y".to_owned())] {
            keys.push(NodeKey::Config(ConfigResource { kind, name }));
        }
    }
    for key in keys {
        let path = key.path();
        crate::tree::path::check(&path).unwrap();
        assert_eq!(NodeKey::parse(&path), Some(key), "{path}");
    }
}

#[test]
fn folders_and_strangers_are_no_nodes() {
    for path in ["/", "/topics", "/brokers/ids", "/brokers/ids/+1", "/brokers/ids/01", "/consumers"]
    {
        assert_eq!(NodeKey::parse(path), None, "{path}");
    }
}

#[test]
fn ids_in_kafkas_form() {
    let id = Uuid::parse_str("00000000-0000-0000-0000-000000000001").unwrap();
    assert_eq!(name::uuid_to_text(id), "AAAAAAAAAAAAAAAAAAAAAQ");
    assert_eq!(name::uuid_from_text("AAAAAAAAAAAAAAAAAAAAAR"), None, "no such bits");
    assert_eq!(name::uuid_from_text("short"), None);
}

proptest! {
    #[test]
    fn ids_read_back(bits: u128) {
        let id = Uuid::from_u128(bits);
        prop_assert_eq!(name::uuid_from_text(&name::uuid_to_text(id)), Some(id));
    }

    #[test]
    fn names_read_back(text in ".*") {
        let escaped = name::escape(&text);
        let path = format!("/{escaped}");
        prop_assert!(text.is_empty() || crate::tree::path::check(&path).is_ok());
        prop_assert_eq!(name::unescape(&escaped), Some(text));
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(data: Vec<u8>) {
        let _ = decode::<PartitionNode>("/x", &data);
    }
}
