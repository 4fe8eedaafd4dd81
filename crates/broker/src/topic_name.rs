//! Names of topics: which are legal, which are the brokers' own.

/// Where groups keep their offsets.
pub(crate) const CONSUMER_OFFSETS: &str = "__consumer_offsets";
/// Where transactions are kept.
pub(crate) const TRANSACTION_STATE: &str = "__transaction_state";
/// Where share groups are kept.
pub(crate) const SHARE_GROUP_STATE: &str = "__share_group_state";
/// Kafka's own metadata; nobody creates a topic of this name.
pub(crate) const CLUSTER_METADATA: &str = "__cluster_metadata";

/// Longest name, so that a directory can be called by it and a partition's number.
const NAME_MAX_LEN: usize = 249;

/// Whether brokers write the topic for themselves.
pub(crate) fn is_internal(name: &str) -> bool {
    [CONSUMER_OFFSETS, TRANSACTION_STATE, SHARE_GROUP_STATE].contains(&name)
}

/// Why `name` cannot be a topic's, if it cannot.
pub(crate) fn check(name: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let refused = |reason: String| Err(format!("Topic name is invalid: {reason}"));
    if name.is_empty() {
        return refused("it is empty".to_owned());
    }
    if name == "." || name == ".." {
        return refused(format!("it is {name:?}"));
    }
    if name.chars().count() > NAME_MAX_LEN {
        return refused(format!("{name:?} is longer than {NAME_MAX_LEN} characters"));
    }
    if !name.chars().all(legal) {
        return refused(format!("{name:?} has characters other than a-z, A-Z, 0-9, '.', '_', '-'"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_legal_as_in_kafka() {
        let long = "a".repeat(249);
        for name in ["a", "A-b_c.9", "...", "__consumer_offsets", &long] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
        let too_long = "a".repeat(250);
        for name in ["", ".", "..", "a b", "a/b", "ä", "a\0", "a:b", &too_long] {
            assert!(check(name).is_err(), "{name}");
        }
    }
}
