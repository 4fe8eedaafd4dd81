//! `/consumers`: committed offsets, where `offsets.storage=zookeeper` keeps them in the tree.
//!
//! ```text
//! /consumers/<group>/offsets/<topic>/<partition>            42
//! /consumers/<group>/offsets/<topic>/<partition>/details    {"version":1,"offset":42,"leader_epoch":3,...}
//! ```
//! The upper node is what Kafka's old consumers wrote and what tools for them read: the offset as a
//! decimal number and nothing else. What a commit says besides lies below it, and counts only as long
//! as it speaks of the offset above it: a number that somebody writes by hand stands alone.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::NodeValue;
use super::name::{escape, unescape, uuid_text};

/// The folder of all groups.
pub const FOLDER: &str = "/consumers";

/// Stands for the group whose name is empty: [`escape`] never writes it.
const NO_NAME: &str = "%";
/// Bytes of an escaped group name at most, so that every path below it fits into
/// [`crate::tree::path::PATH_BYTES_MAX`].
pub const GROUP_BYTES_MAX: usize = 2048;
/// Bytes of a commit's metadata at most: no string of Kafka's protocol is longer. Six times as many, as
/// they may be in JSON, still fit into a node and a multi.
pub const METADATA_BYTES_MAX: usize = 32_767;

/// The folder of one group.
pub fn group_folder(group: &str) -> String {
    let name = if group.is_empty() { NO_NAME.to_owned() } else { escape(group) };
    format!("{FOLDER}/{name}")
}

/// The folder of the topics in which a group has committed.
pub fn offsets_folder(group: &str) -> String {
    format!("{}/offsets", group_folder(group))
}

/// The folder of the partitions of a topic in which a group has committed.
pub fn topic_folder(group: &str, topic: &str) -> String {
    format!("{}/{}", offsets_folder(group), escape(topic))
}

/// The node of one committed offset.
pub fn offset_path(group: &str, topic: &str, partition: i32) -> String {
    format!("{}/{partition}", topic_folder(group, topic))
}

/// The node with what else the commit said.
pub fn details_path(group: &str, topic: &str, partition: i32) -> String {
    format!("{}/{DETAILS}", offset_path(group, topic, partition))
}

/// The last part of [`details_path`].
pub const DETAILS: &str = "details";

/// The group of a name in [`FOLDER`]; `None` for what [`group_folder`] never writes.
pub fn group_of(name: &str) -> Option<String> {
    if name == NO_NAME { Some(String::new()) } else { unescape(name).filter(|it| !it.is_empty()) }
}

/// The partition of a name in a topic's folder, in the one form that [`offset_path`] writes.
pub fn partition_of(name: &str) -> Option<i32> {
    let number: i32 = name.parse().ok().filter(|number| *number >= 0)?;
    (number.to_string() == name).then_some(number)
}

/// Whether a group's name can be part of a path.
pub fn is_storable(group: &str) -> bool {
    group.len() <= GROUP_BYTES_MAX && escape(group).len() <= GROUP_BYTES_MAX
}

/// The content of an offset's node.
pub fn encode_offset(offset: i64) -> Bytes {
    offset.to_string().into()
}

/// Reads an offset's node; `None` for what is no offset. Blanks around it do no harm: shells leave
/// some.
pub fn decode_offset(data: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(data).ok()?;
    text.trim().parse().ok().filter(|offset| *offset >= 0)
}

/// `.../details`: what a commit said besides the offset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetailsNode {
    /// The offset that all else is about.
    pub offset: i64,
    /// Leader epoch of the last record read; -1: unknown.
    #[serde(default = "unknown_epoch")]
    pub leader_epoch: i32,
    /// What the client wanted kept.
    #[serde(default)]
    pub metadata: String,
    /// Wall clock of the commit in milliseconds.
    #[serde(rename = "commit_timestamp")]
    pub commit_ms: i64,
    /// Wall clock at which it expires in milliseconds, where the commit said so.
    #[serde(default, rename = "expire_timestamp", skip_serializing_if = "Option::is_none")]
    pub expire_ms: Option<i64>,
    /// The topic; nil: unknown.
    #[serde(with = "uuid_text")]
    pub topic_id: Uuid,
}

fn unknown_epoch() -> i32 {
    -1
}

impl NodeValue for DetailsNode {
    const VERSION: u32 = 1;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::nodes::{decode, encode};
    use crate::tree::path;

    #[test]
    fn the_paths_are_those_of_old_consumers() {
        assert_eq!(offset_path("billing", "orders", 3), "/consumers/billing/offsets/orders/3");
        assert_eq!(
            details_path("billing", "orders", 3),
            "/consumers/billing/offsets/orders/3/details"
        );
    }

    #[test]
    fn the_group_without_a_name_has_one_here() {
        assert_eq!(group_folder(""), "/consumers/%");
        assert_eq!(group_of("%"), Some(String::new()));
        assert_ne!(group_folder("%"), group_folder(""));
        assert_ne!(group_folder("\0"), group_folder(""));
    }

    proptest! {
        #[test]
        fn every_group_that_fits_has_a_path_of_its_own(
            group in any::<String>(),
            topic in "[a-zA-Z0-9._-]{1,249}",
        ) {
            prop_assume!(is_storable(&group));
            let path = details_path(&group, &topic, i32::MAX);
            prop_assert_eq!(path::check(&path), Ok(()));
            let folder = group_folder(&group);
            prop_assert_eq!(group_of(path::name(&folder)), Some(group));
        }
    }

    #[test]
    fn the_longest_name_that_fits_has_legal_paths() {
        let (group, topic) = ("ä".repeat(GROUP_BYTES_MAX / 6), "t".repeat(249));
        assert!(is_storable(&group) && !is_storable(&format!("{group}ää")));
        assert_eq!(path::check(&details_path(&group, &topic, i32::MAX)), Ok(()));
    }

    #[test]
    fn an_offset_is_a_decimal_number() {
        assert_eq!(encode_offset(42), "42");
        for (text, offset) in [("42", Some(42)), (" 7\n", Some(7)), ("0", Some(0))] {
            assert_eq!(decode_offset(text.as_bytes()), offset, "{text:?}");
        }
        for text in ["", "-1", "x", "1.5", "99999999999999999999", "{\"offset\":1}"] {
            assert_eq!(decode_offset(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn partitions_have_one_form() {
        assert_eq!(partition_of("10"), Some(10));
        for name in ["", "-1", "+1", "01", "x", "2147483648"] {
            assert_eq!(partition_of(name), None, "{name:?}");
        }
    }

    #[test]
    fn details_read_back_and_what_is_missing_is_unknown() {
        let details = DetailsNode {
            offset: 42,
            leader_epoch: 3,
            metadata: "\u{1}\"m\"".to_owned(),
            commit_ms: 1_700_000_000_000,
            expire_ms: Some(1_700_000_000_001),
            topic_id: Uuid::from_u128(7),
        };
        assert_eq!(decode("/x", &encode(&details)), Ok(details.clone()));
        let text = String::from_utf8(encode(&details).to_vec()).unwrap();
        assert!(text.starts_with(r#"{"version":1,"offset":42,"leader_epoch":3,"#), "{text}");
        let less =
            br#"{"version":1,"offset":1,"commit_timestamp":5,"topic_id":"AAAAAAAAAAAAAAAAAAAAAA"}"#;
        let less: DetailsNode = decode("/x", less).unwrap();
        assert_eq!((less.leader_epoch, less.metadata.as_str(), less.expire_ms), (-1, "", None));
    }

    #[test]
    fn the_longest_metadata_fits_into_a_node() {
        let details = DetailsNode {
            offset: i64::MAX,
            leader_epoch: i32::MAX,
            metadata: "\u{1}".repeat(METADATA_BYTES_MAX),
            commit_ms: i64::MAX,
            expire_ms: Some(i64::MAX),
            topic_id: Uuid::from_u128(7),
        };
        let paths = 8 * (path::PATH_BYTES_MAX + 64);
        assert!(encode(&details).len() + paths < crate::tree::MULTI_BYTES_MAX);
    }
}
