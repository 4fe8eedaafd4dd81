//! What a machine finds that reads another one's records.

use bytes::Bytes;
use klamm_coordinator::{GroupConfig, Groups, Record, RecordError, partition_for};
use klamm_protocol::ErrorCode;

use crate::script::{As, Script};

#[test]
fn members_of_a_loaded_group_go_on_as_if_nothing_had_happened() {
    let mut script = Script::stable_pair();
    script.commit("a", "a#1", 1, 42);
    script.forget_trace();
    script.failover(GroupConfig::default());
    script.heartbeat("a", "a#1", None, 1);
    script.sync("b", "b#2", 1, &[]);
    script.commit("b", "b#2", 1, 43);
    script.expect(
        "a <- heartbeat NONE
         b <- sync 1
         log g t-0 at 43
         b <- commit NONE",
    );
    script.pass(60_000);
    assert_eq!(script.state(), "Empty");
}

#[test]
fn losing_leadership_answers_all_that_is_parked() {
    let mut script = Script::stable_pair();
    script.join(As { name: "a", member: "a#1", ..As::default() });
    script.failover(GroupConfig::default());
    script.expect("a <- join NOT_COORDINATOR a#1");
    assert!(script.parked().is_empty());
}

#[test]
fn a_loaded_group_over_the_limit_rebalances_down_to_it() {
    let mut script = Script::stable_pair();
    script.failover(GroupConfig { max_size: 1, ..GroupConfig::default() });
    script.heartbeat("a", "a#1", None, 1);
    script.join(As { name: "b", member: "b#2", ..As::default() });
    script.join(As { name: "a", member: "a#1", ..As::default() });
    script.expect(
        "a <- heartbeat REBALANCE_IN_PROGRESS
         a <- join GROUP_MAX_SIZE_REACHED
         b <- join b#2 generation 2 leader b#2 [b#2]",
    );
}

#[test]
fn records_of_other_kinds_and_versions_are_named_and_skipped() {
    let decode = |key: &'static [u8], value: &'static [u8]| {
        Record::decode(Bytes::from_static(key), Some(Bytes::from_static(value)))
    };
    assert_eq!(decode(&[0, 3, 0, 1, b'g'], &[0, 0]), Err(RecordError::UnknownKind { kind: 3 }));
    let future = decode(&[0, 2, 0, 1, b'g'], &[0, 9]);
    assert_eq!(future, Err(RecordError::UnknownVersion { kind: 2, version: 9 }));
    assert!(matches!(decode(&[0, 2, 0, 9, b'g'], &[0, 0]), Err(RecordError::Malformed(_))));
    assert!(matches!(decode(&[], &[]), Err(RecordError::Malformed(_))));
}

/// The bytes that Kafka 4.3 writes for a committed offset: kind 1 key, version 4 value.
#[test]
fn an_offset_record_has_kafkas_bytes() {
    let mut script = Script::new();
    script.commit("admin", "", -1, 5);
    let (key, value) = script.log[0].encode().unwrap();
    assert_eq!(&key[..], b"\x00\x01\x00\x01g\x00\x01t\x00\x00\x00\x00");
    let value = value.unwrap();
    assert_eq!(&value[..2], b"\x00\x04");
    assert_eq!(&value[2..14], b"\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x07");
    assert_eq!(&value[14..19], b"\x05note");
    assert_eq!(value.len(), 19 + 8 + 1);
}

#[test]
fn a_group_record_has_kafkas_bytes() {
    let mut script = Script::new();
    script.join(As { name: "a", ..As::default() });
    let (key, value) = script.log[0].encode().unwrap();
    assert_eq!(&key[..], b"\x00\x02\x00\x01g");
    let value = value.unwrap();
    // Version 3, no protocol type, generation 0, null protocol, null leader, time, no members.
    assert_eq!(&value[..2], b"\x00\x03");
    assert_eq!(&value[2..12], b"\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff");
    assert_eq!(&value[20..], b"\x00\x00\x00\x00");
}

#[test]
fn an_append_that_fails_for_want_of_leadership_says_so() {
    let mut script = Script::new();
    script.append_error = Some(ErrorCode::NotLeaderOrFollower);
    script.commit("admin", "", -1, 5);
    script.expect(
        "log g t-0 at 5
         append fails: NOT_LEADER_OR_FOLLOWER
         admin <- commit NOT_COORDINATOR",
    );
    assert_eq!(script.committed("t", 0), None);
}

/// Keys and values that Apache Kafka 4.3 wrote for one console consumer of group `g1`: the new
/// group, its first generation, a commit, its end.
const WRITTEN_BY_KAFKA: [(&str, &str); 4] = [
    ("000200026731", "0003000000000000ffffffff000001a20583a27700000000"),
    (
        "000200026731",
        "00030008636f6e73756d657200000001000572616e67650035636f6e736f6c652d636f6e737\
         56d65722d35643663313232652d346631622d343565632d393535342d613337653537613065\
         393934000001a20583a2a3000000010035636f6e736f6c652d636f6e73756d65722d3564366\
         3313232652d346631622d343565632d393535342d613337653537613065393934ffff001063\
         6f6e736f6c652d636f6e73756d6572000a2f3132372e302e302e31000493e00000afc800000\
         017000300000001000174ffffffff00000000ffffffffffff00000019000300000001000174\
         000000020000000000000001ffffffff",
    ),
    (
        "00010002673100017400000001",
        "000400000000000000030000000001000001a20583a4cd010010a74bd13851a842e99f67237\
         2d567adfe",
    ),
    ("000200026731", "00030008636f6e73756d657200000002ffffffff000001a20583a53400000000"),
];

#[test]
fn what_kafka_wrote_is_read_and_would_be_written_the_same() {
    let bytes = |hex: &str| -> Bytes {
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(digit).collect()
    };
    let mut groups = Groups::new(GroupConfig::default());
    for (key, value) in WRITTEN_BY_KAFKA {
        let (key, value) = (bytes(key), bytes(value));
        let record = Record::decode(key.clone(), Some(value.clone())).unwrap();
        assert_eq!(record.encode().unwrap(), (key, Some(value)));
        groups.apply(record);
    }
    let durable = groups.durable().remove("g1").unwrap();
    let image = durable.image.unwrap();
    assert_eq!((image.generation, image.protocol_type.as_str()), (2, "consumer"));
    assert_eq!(durable.offsets["t"][&1].offset, 3);
    assert!(!durable.offsets["t"][&1].topic_id.is_nil());
    assert_eq!(partition_for("g1", 50), 42, "where Kafka put it");
}
