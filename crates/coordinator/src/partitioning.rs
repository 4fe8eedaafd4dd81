//! Which partition of `__consumer_offsets` a group lives in.

/// The partition of `__consumer_offsets` that coordinates `group_id`, as Kafka's own clients and
/// brokers reckon it: the group id's Java hash, made positive, modulo the number of partitions.
///
/// # Panics
/// If `partitions` is not positive: the internal topic has at least one.
#[must_use]
pub fn partition_for(group_id: &str, partitions: i32) -> i32 {
    assert!(partitions > 0, "an internal topic with {partitions} partitions");
    let hash = java_string_hash(group_id);
    // Java's abs of the smallest int is negative; Kafka takes zero for it.
    let positive = hash.checked_abs().unwrap_or(0);
    positive % partitions
}

/// Java's `String.hashCode`: over UTF-16 code units, wrapping.
#[must_use]
pub fn java_string_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_like_java() {
        assert_eq!(java_string_hash(""), 0);
        assert_eq!(java_string_hash("abc"), 96_354);
        assert_eq!(java_string_hash("connect-cluster"), 1_440_343_063);
        assert_eq!(java_string_hash("my-group"), -1_906_497_762);
    }

    #[test]
    fn finds_the_partition_that_kafka_finds() {
        assert_eq!(partition_for("connect-cluster", 50), 13);
        assert_eq!(partition_for("my-group", 50), 12);
        assert_eq!(partition_for("", 50), 0);
    }

    #[test]
    fn the_smallest_hash_goes_to_partition_zero() {
        let smallest = "polygenelubricants";
        assert_eq!(java_string_hash(smallest), i32::MIN);
        assert_eq!(partition_for(smallest, 50), 0);
    }
}
