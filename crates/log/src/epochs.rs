//! Which leader epoch began at which offset.

/// Where a leader epoch began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEntry {
    /// The leader's epoch.
    pub epoch: i32,
    /// The log's end when that leader began.
    pub start_offset: i64,
}

/// The leader epochs of a log, both columns rising.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EpochCache {
    entries: Vec<EpochEntry>,
}

/// What [`EpochCache::end_offset_for`] answers where it knows nothing.
pub const UNDEFINED_EPOCH: (i32, i64) = (-1, -1);

impl EpochCache {
    /// All entries, oldest first.
    pub fn entries(&self) -> &[EpochEntry] {
        &self.entries
    }

    /// The newest epoch.
    pub fn latest(&self) -> Option<EpochEntry> {
        self.entries.last().copied()
    }

    /// Notes that `epoch` begins at `start_offset`. Entries that contradict it go: those of the
    /// same or a later epoch, and those that begin at or past `start_offset`. Returns whether
    /// anything changed.
    pub fn assign(&mut self, epoch: i32, start_offset: i64) -> bool {
        if self
            .latest()
            .is_some_and(|last| last.epoch == epoch && last.start_offset <= start_offset)
        {
            return false;
        }
        while self
            .latest()
            .is_some_and(|last| last.epoch >= epoch || last.start_offset >= start_offset)
        {
            self.entries.pop();
        }
        self.entries.push(EpochEntry { epoch, start_offset });
        true
    }

    /// The greatest epoch not above `epoch` that the log knows, and where it ended; the current
    /// epoch ends at `log_end_offset`. [`UNDEFINED_EPOCH`] for an epoch of the future or below 0.
    /// For an epoch older than all, the asked epoch and the start of the oldest.
    pub fn end_offset_for(&self, epoch: i32, log_end_offset: i64) -> (i32, i64) {
        if epoch < 0 {
            return UNDEFINED_EPOCH;
        }
        if self.latest().is_some_and(|last| last.epoch == epoch) {
            return (epoch, log_end_offset);
        }
        let higher = self.entries.partition_point(|entry| entry.epoch <= epoch);
        let Some(next) = self.entries.get(higher) else {
            return UNDEFINED_EPOCH;
        };
        match higher.checked_sub(1) {
            Some(at) => (self.entries[at].epoch, next.start_offset),
            None => (epoch, next.start_offset),
        }
    }

    /// The epoch of the record at `offset`.
    pub fn epoch_for_offset(&self, offset: i64) -> Option<i32> {
        let after = self.entries.partition_point(|entry| entry.start_offset <= offset);
        after.checked_sub(1).map(|at| self.entries[at].epoch)
    }

    /// Forgets epochs that begin at or past `end_offset`. Returns whether anything changed.
    pub fn truncate_from_end(&mut self, end_offset: i64) -> bool {
        let keep = self.entries.partition_point(|entry| entry.start_offset < end_offset);
        let changed = keep < self.entries.len();
        self.entries.truncate(keep);
        changed
    }

    /// Forgets epochs that ended before `start_offset`; the one that holds it now begins there.
    /// Returns whether anything changed.
    pub fn truncate_from_start(&mut self, start_offset: i64) -> bool {
        let after = self.entries.partition_point(|entry| entry.start_offset <= start_offset);
        let Some(at) = after.checked_sub(1) else {
            return false;
        };
        let changed = at > 0 || self.entries[0].start_offset != start_offset;
        self.entries.drain(..at);
        self.entries[0].start_offset = start_offset;
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(entries: &[(i32, i64)]) -> EpochCache {
        let mut cache = EpochCache::default();
        for (epoch, start) in entries {
            cache.assign(*epoch, *start);
        }
        cache
    }

    #[test]
    fn end_offsets_are_those_of_the_next_epoch() {
        let cache = cache(&[(2, 10), (4, 20), (7, 30)]);
        assert_eq!(cache.end_offset_for(7, 99), (7, 99));
        assert_eq!(cache.end_offset_for(4, 99), (4, 30));
        assert_eq!(cache.end_offset_for(5, 99), (4, 30));
        assert_eq!(cache.end_offset_for(3, 99), (2, 20));
        assert_eq!(cache.end_offset_for(1, 99), (1, 10));
        assert_eq!(cache.end_offset_for(8, 99), UNDEFINED_EPOCH);
        assert_eq!(cache.end_offset_for(-1, 99), UNDEFINED_EPOCH);
        assert_eq!(EpochCache::default().end_offset_for(0, 0), UNDEFINED_EPOCH);
    }

    #[test]
    fn an_epoch_without_records_is_replaced_by_the_next() {
        let mut cache = cache(&[(1, 0), (2, 10)]);
        assert!(cache.assign(3, 10));
        assert!(!cache.assign(3, 15));
        let found: Vec<_> = cache.entries().iter().map(|e| (e.epoch, e.start_offset)).collect();
        assert_eq!(found, [(1, 0), (3, 10)]);
    }

    #[test]
    fn both_ends_are_cut() {
        let mut cache = cache(&[(1, 0), (2, 10), (3, 20)]);
        assert!(cache.truncate_from_end(20));
        assert!(!cache.truncate_from_end(20));
        assert!(cache.truncate_from_start(5));
        let found: Vec<_> = cache.entries().iter().map(|e| (e.epoch, e.start_offset)).collect();
        assert_eq!(found, [(1, 5), (2, 10)]);
        assert!(cache.truncate_from_start(12));
        assert_eq!(cache.entries(), [EpochEntry { epoch: 2, start_offset: 12 }]);
        assert_eq!(cache.epoch_for_offset(11), None);
        assert_eq!(cache.epoch_for_offset(12), Some(2));
    }
}
