//! Names of directories and files, and the text form of UUIDs in them.

use std::fmt;
use std::sync::Arc;

use uuid::Uuid;

/// Longest name of a directory; what file systems allow.
const DIR_NAME_BYTES_MAX: usize = 255;

/// A partition of a topic, by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// Name of the topic.
    pub topic: Arc<str>,
    /// Number of the partition, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// The partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> TopicPartition {
        TopicPartition { topic: topic.into(), partition }
    }

    /// Name of the directory that holds the partition's log.
    pub fn dir_name(&self) -> String {
        format!("{}-{}", self.topic, self.partition)
    }

    /// The partition whose log lies in a directory of this name; `None` where the name says that
    /// it holds something else.
    pub fn from_dir_name(name: &str) -> Option<TopicPartition> {
        let (topic, partition) = name.rsplit_once('-')?;
        if topic.is_empty() || partition.is_empty() {
            return None;
        }
        if !partition.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        Some(TopicPartition::new(topic, partition.parse().ok()?))
    }

    /// Name that the directory takes while it waits to be removed.
    pub fn deleted_dir_name(&self, unique: Uuid) -> String {
        self.aside_dir_name(unique, DELETED_DIR_SUFFIX)
    }

    /// Name that the directory takes while it is kept because nobody knows it.
    pub fn stray_dir_name(&self, unique: Uuid) -> String {
        self.aside_dir_name(unique, STRAY_DIR_SUFFIX)
    }

    fn aside_dir_name(&self, unique: Uuid, ending: &str) -> String {
        let suffix = format!("-{}.{}{ending}", self.partition, unique.simple());
        let mut topic = &*self.topic;
        while topic.len() + suffix.len() > DIR_NAME_BYTES_MAX {
            topic = &topic[..topic.len() - 1];
        }
        format!("{topic}{suffix}")
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// Ends the name of a partition directory that waits to be removed.
pub const DELETED_DIR_SUFFIX: &str = "-delete";
/// Ends the name of a partition directory that is kept aside because nobody knows it.
pub const STRAY_DIR_SUFFIX: &str = "-stray";

pub(crate) const LOG_SUFFIX: &str = ".log";
pub(crate) const INDEX_SUFFIX: &str = ".index";
pub(crate) const TIME_INDEX_SUFFIX: &str = ".timeindex";
pub(crate) const TXN_INDEX_SUFFIX: &str = ".txnindex";
pub(crate) const SNAPSHOT_SUFFIX: &str = ".snapshot";
/// Added to the name of a segment's file that waits to be removed.
pub(crate) const DELETED_FILE_SUFFIX: &str = ".deleted";
pub(crate) const CLEANED_FILE_SUFFIX: &str = ".cleaned";
pub(crate) const SWAP_FILE_SUFFIX: &str = ".swap";
/// Added to the name of a file while its replacement is written.
pub(crate) const TEMPORARY_SUFFIX: &str = ".tmp";

pub(crate) const PARTITION_METADATA: &str = "partition.metadata";
pub(crate) const LEADER_EPOCHS: &str = "leader-epoch-checkpoint";

/// No offset that a file names is greater: a segment's worth of offsets past it is an offset still.
pub(crate) const OFFSET_MAX: i64 = i64::MAX - (1 << 32);

/// Digits of an offset in a file's name.
const OFFSET_DIGITS: usize = 20;

/// `offset` as file names have it, with `suffix`.
pub(crate) fn offset_file(offset: i64, suffix: &str) -> String {
    format!("{offset:0OFFSET_DIGITS$}{suffix}")
}

/// The offset that a file name of [`offset_file`] begins with, if it ends in `suffix`. Other numbers
/// of digits are a stranger's: no file would be found by such an offset. So are offsets above
/// [`OFFSET_MAX`].
pub(crate) fn offset_of_file(name: &str, suffix: &str) -> Option<i64> {
    let digits = name.strip_suffix(suffix)?;
    if digits.len() != OFFSET_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().filter(|offset| *offset <= OFFSET_MAX)
}

const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// Characters of a UUID in base64 without padding.
const UUID_CHARS: usize = 22;

/// A UUID as Kafka writes it: base64 with the URL's alphabet, without padding.
pub fn uuid_to_base64(id: Uuid) -> String {
    // 128 bits and 4 zero bits make 22 digits of 6.
    let bits = id.as_u128();
    let digit = |n: usize| match n {
        0..21 => (bits >> (122 - 6 * n)) & 63,
        _ => (bits << 4) & 63,
    };
    (0..UUID_CHARS).map(|n| BASE64_URL[digit(n) as usize] as char).collect()
}

/// The UUID that [`uuid_to_base64`] wrote; `None` for anything else.
pub fn uuid_from_base64(text: &str) -> Option<Uuid> {
    let text = text.trim_end_matches('=');
    if text.len() != UUID_CHARS {
        return None;
    }
    let mut bits = 0_u128;
    for (n, byte) in text.bytes().enumerate() {
        let digit = BASE64_URL.iter().position(|known| *known == byte)? as u128;
        if n < UUID_CHARS - 1 {
            bits = bits << 6 | digit;
        } else {
            bits = bits << 2 | digit >> 4;
        }
    }
    Some(Uuid::from_u128(bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_names_are_read_back() {
        let partition = TopicPartition::new("a-b.c_d", 12);
        assert_eq!(partition.dir_name(), "a-b.c_d-12");
        assert_eq!(TopicPartition::from_dir_name("a-b.c_d-12"), Some(partition));
        for other in ["a", "-1", "a-", "a-x", "a-1.0123-delete", "a-+1", "a-99999999999"] {
            assert_eq!(TopicPartition::from_dir_name(other), None, "{other}");
        }
    }

    #[test]
    fn a_deleted_directory_keeps_within_the_longest_name() {
        let partition = TopicPartition::new("t".repeat(249), 7);
        let name = partition.deleted_dir_name(Uuid::from_u128(1));
        assert_eq!(name.len(), 255);
        assert!(name.ends_with("-7.00000000000000000000000000000001-delete"), "{name}");
    }

    #[test]
    fn uuids_are_written_as_kafka_writes_them() {
        let id = Uuid::from_u128(0x0123_4567_89ab_cdef_fedc_ba98_7654_3210);
        let text = uuid_to_base64(id);
        assert_eq!(text, "ASNFZ4mrze_-3LqYdlQyEA");
        assert_eq!(uuid_from_base64(&text), Some(id));
        assert_eq!(uuid_from_base64("short"), None);
        assert_eq!(uuid_from_base64("ASNFZ4mrze/-3LqYdlQyEA"), None);
        for id in [Uuid::nil(), Uuid::max()] {
            assert_eq!(uuid_from_base64(&uuid_to_base64(id)), Some(id));
        }
    }

    #[test]
    fn file_names_carry_twenty_digits() {
        assert_eq!(offset_file(42, LOG_SUFFIX), "00000000000000000042.log");
        assert_eq!(offset_of_file("00000000000000000042.log", LOG_SUFFIX), Some(42));
        assert_eq!(offset_of_file("00000000000000000042.log.deleted", LOG_SUFFIX), None);
        assert_eq!(offset_of_file("x.log", LOG_SUFFIX), None);
        assert_eq!(offset_of_file("42.log", LOG_SUFFIX), None);
        assert_eq!(offset_of_file("09223372036854775807.log", LOG_SUFFIX), None);
    }
}
