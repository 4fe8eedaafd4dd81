//! Whether what was read is what was written: every offset once, and sound records in their order.

use std::collections::{BTreeMap, BTreeSet};

use klamm_client::ConsumerRecord;

use super::payload;

/// Follows the records of a topic as they are read.
pub(crate) struct Check {
    /// Whether values must be a benchmark's.
    content: bool,
    /// By partition: the offset that must come next.
    next_offsets: BTreeMap<i32, i64>,
    /// By partition and run: the number of the last record.
    last_sequences: BTreeMap<(i32, u32), u64>,
}

impl Check {
    /// Reading begins at these offsets.
    pub(crate) fn new(first_offsets: BTreeMap<i32, i64>, content: bool) -> Check {
        Check { content, next_offsets: first_offsets, last_sequences: BTreeMap::new() }
    }

    /// Takes the next record; answers its mark where values are looked at.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn take(
        &mut self,
        record: &ConsumerRecord,
    ) -> Result<Option<payload::Mark>, String> {
        let ConsumerRecord { topic, partition, offset, .. } = record;
        let at = || format!("{topic}-{partition} at offset {offset}");
        let next = self.next_offsets.entry(*partition).or_insert(*offset);
        if *offset != *next {
            return Err(format!("{}: offset {next} should have come", at()));
        }
        *next += 1;
        if !self.content {
            return Ok(None);
        }
        let value = record.value.as_deref().unwrap_or_default();
        let mark = payload::read(value).ok_or_else(|| {
            format!("{}: not what klamm bench writes (--check offsets reads anything)", at())
        })?;
        if let Some(last) = self.last_sequences.insert((*partition, mark.run), mark.sequence)
            && mark.sequence <= last
        {
            return Err(format!("{}: record {} after record {last}", at(), mark.sequence));
        }
        Ok(Some(mark))
    }
}

/// Numbers from 0 on, each of which is to come once, in any order.
#[derive(Debug, Default)]
pub(crate) struct Once {
    /// All below this have come.
    next: u64,
    early: BTreeSet<u64>,
}

impl Once {
    /// Whether it comes for the first time.
    pub(crate) fn comes(&mut self, number: u64) -> bool {
        if number < self.next || !self.early.insert(number) {
            return false;
        }
        while self.early.remove(&self.next) {
            self.next += 1;
        }
        true
    }

    /// How many have come.
    pub(crate) fn count(&self) -> u64 {
        self.next + self.early.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use klamm_env::Env;

    use super::super::payload::{Content, Payload};
    use super::*;

    fn record(partition: i32, offset: i64, value: Bytes) -> ConsumerRecord {
        ConsumerRecord {
            topic: "t".into(),
            partition,
            offset,
            timestamp: 0,
            key: None,
            value: Some(value),
            headers: Vec::new(),
            leader_epoch: 0,
        }
    }

    fn payload() -> Payload {
        Payload::new(&*Env::real().expect("the machine's seams").random, Content::Random, 50)
    }

    #[test]
    fn a_gap_a_repeat_and_a_wrong_start_are_told() {
        let first_offsets = || BTreeMap::from([(0, 5), (1, 0)]);
        let mut check = Check::new(first_offsets(), false);
        for (partition, offset) in [(0, 5), (1, 0), (0, 6), (1, 1)] {
            check.take(&record(partition, offset, Bytes::new())).expect("in order");
        }
        for offset in [1, 3] {
            let mut check = Check::new(BTreeMap::from([(1, 2)]), false);
            let told = check.take(&record(1, offset, Bytes::new())).expect_err("out of order");
            assert!(told.contains("offset 2 should have come"), "{told}");
        }
    }

    #[test]
    fn values_are_held_to_what_was_written_and_its_order() {
        let payload = payload();
        let mut check = Check::new(BTreeMap::new(), true);
        for (offset, sequence) in [(0, 0), (1, 3), (2, 4)] {
            let mark = check.take(&record(0, offset, payload.value(sequence, 9))).expect("sound");
            assert_eq!(mark.map(|mark| (mark.sequence, mark.sent_us)), Some((sequence, 9)));
        }
        // Another partition and another run have orders of their own.
        check.take(&record(1, 0, payload.value(1, 0))).expect("sound");
        check.take(&record(0, 3, self::payload().value(0, 0))).expect("sound");
        let told = check.take(&record(0, 4, payload.value(4, 0))).expect_err("twice");
        assert!(told.contains("record 4 after record 4"), "{told}");
        let told = check.take(&record(0, 5, "foreign".into())).expect_err("not ours");
        assert!(told.contains("--check offsets"), "{told}");
    }

    #[test]
    fn each_number_comes_once_in_any_order() {
        let mut once = Once::default();
        assert!([1, 0, 3].into_iter().all(|number| once.comes(number)));
        assert!(![0, 1, 3].into_iter().any(|number| once.comes(number)));
        assert_eq!((once.count(), once.next), (3, 2));
        assert!(once.comes(2));
        assert_eq!((once.count(), once.next, once.early.len()), (4, 4, 0));
    }
}
