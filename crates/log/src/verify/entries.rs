//! The entries of a segment's indexes, held against its batches as those come by.

use std::path::PathBuf;

use klamm_protocol::records::{BatchHeader, NO_TIMESTAMP};

use crate::index::{Entry, OffsetEntry, TimeEntry};

use super::Verified;

/// Entries that are still to be looked at.
pub(super) struct Entries<E> {
    path: PathBuf,
    bytes: Vec<u8>,
    at: usize,
    last: Option<E>,
}

impl<E: Entry> Entries<E> {
    /// The entries of the file at `path`; bytes that are none are damage.
    pub(super) fn new(path: PathBuf, mut bytes: Vec<u8>, verified: &mut Verified) -> Entries<E> {
        // Apache Kafka keeps room in the index of the segment that it writes to.
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        let whole = bytes.len() - bytes.len() % E::BYTES;
        if whole < bytes.len() {
            let reason = format!("{} bytes are no entry", bytes.len() - whole);
            verified.add(&path, whole as u64, reason);
        }
        bytes.truncate(used.next_multiple_of(E::BYTES).min(whole));
        Entries { path, bytes, at: 0, last: None }
    }

    fn current(&self) -> Option<E> {
        self.bytes.get(self.at..self.at + E::BYTES).map(E::decode)
    }

    fn advance(&mut self, entry: E) {
        self.last = Some(entry);
        self.at += E::BYTES;
    }

    /// Takes an entry that is wrong.
    fn damaged(&mut self, verified: &mut Verified, reason: &str) {
        verified.add(&self.path, self.at as u64, reason);
        self.at += E::BYTES;
    }

    /// Looks at no further entry.
    pub(super) fn give_up(&mut self) {
        self.at = self.bytes.len();
    }
}

impl Entries<OffsetEntry> {
    /// Takes note of the batch at `position`, whose header is `None` where it is damaged.
    pub(super) fn see(
        &mut self,
        base: i64,
        position: u64,
        header: Option<&BatchHeader>,
        verified: &mut Verified,
    ) {
        while let Some(entry) = self.current() {
            let at = u64::from(entry.position);
            if self
                .last
                .is_some_and(|last| last.offset >= entry.offset || last.position >= entry.position)
            {
                self.damaged(verified, "the entry does not rise above the one before");
                self.give_up();
            } else if at > position {
                return;
            } else if at < position {
                self.damaged(verified, &format!("no batch begins at byte {at}"));
            } else {
                let offset = base + i64::from(entry.offset);
                if let Some(header) = header
                    && header.last_offset() != offset
                {
                    let last = header.last_offset();
                    let reason = format!("the batch at byte {at} ends at {last}, not at {offset}");
                    self.damaged(verified, &reason);
                } else {
                    self.advance(entry);
                }
            }
        }
    }

    /// There is no further batch.
    pub(super) fn end(mut self, verified: &mut Verified) {
        while let Some(entry) = self.current() {
            let at = entry.position;
            self.damaged(verified, &format!("no batch begins at byte {at}"));
        }
    }
}

impl Entries<TimeEntry> {
    /// Takes note of a sound batch, before which `greatest` was the greatest timestamp.
    pub(super) fn see(
        &mut self,
        base: i64,
        greatest: i64,
        header: &BatchHeader,
        verified: &mut Verified,
    ) {
        while let Some(entry) = self.current() {
            let (offset, timestamp) = (base + i64::from(entry.offset), entry.timestamp);
            if self
                .last
                .is_some_and(|last| last.timestamp >= timestamp || last.offset >= entry.offset)
            {
                self.damaged(verified, "the entry does not rise above the one before");
                self.give_up();
            } else if offset > header.last_offset() {
                return;
            } else if offset < header.last_offset() {
                self.damaged(verified, &format!("no batch ends at offset {offset}"));
            } else if timestamp != header.max_timestamp {
                let found = header.max_timestamp;
                let reason =
                    format!("the batch up to {offset} has the timestamp {found}, not {timestamp}");
                self.damaged(verified, &reason);
            } else if greatest > timestamp {
                let reason = format!("{timestamp} comes after {greatest} and is not the greatest");
                self.damaged(verified, &reason);
            } else {
                self.advance(entry);
            }
        }
    }

    /// There is no further batch.
    pub(super) fn end(mut self, base: i64, verified: &mut Verified) {
        while let Some(entry) = self.current() {
            // Apache Kafka's sign of a segment without timestamps.
            if self.last.is_none() && entry.timestamp == NO_TIMESTAMP {
                self.advance(entry);
                continue;
            }
            let offset = base + i64::from(entry.offset);
            self.damaged(verified, &format!("no batch ends at offset {offset}"));
        }
    }
}
