//! The indexes of aborted transactions, held against the markers as those come by.

use std::path::{Path, PathBuf};

use klamm_env::Files;
use klamm_protocol::records::{BatchHeader, ControlType, EndTxnMarker};

use crate::checkpoint::read_file;
use crate::index::Entry;
use crate::names::{INDEX_SUFFIX, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX, offset_file};
use crate::transactions::{AbortedTransaction, EndedTransaction, OpenTransactions, decode_aborted};

use super::{Known, Verified};

/// What is carried from segment to segment.
pub(super) struct Transactions {
    open: OpenTransactions,
    known: Known,
    /// A batch could not be read: what is open is a guess.
    is_guess: bool,
}

/// The index of one segment.
pub(super) struct Aborted {
    path: PathBuf,
    entries: Vec<AbortedTransaction>,
    at: usize,
    /// Every entry that there should be is below this offset.
    complete_below: i64,
}

impl Transactions {
    pub(super) fn new(known: Known) -> Transactions {
        Transactions { open: OpenTransactions::default(), known, is_guess: false }
    }

    /// Reads the index of the segment at `base`.
    pub(super) fn begin_segment(
        &self,
        files: &dyn Files,
        dir: &Path,
        base: i64,
        verified: &mut Verified,
    ) -> std::io::Result<Aborted> {
        let path = dir.join(offset_file(base, TXN_INDEX_SUFFIX));
        let content = read_file(files, &path)?;
        // One that is missing together with others is built anew; past the recovery point each is.
        let mut complete_below = self.known.recovery_point.unwrap_or(i64::MAX);
        for suffix in [INDEX_SUFFIX, TIME_INDEX_SUFFIX] {
            if files.metadata(&dir.join(offset_file(base, suffix)))?.is_none() && content.is_none()
            {
                complete_below = 0;
            }
        }
        let entries = match decode_aborted(&content.unwrap_or_default(), base) {
            Ok(entries) => entries,
            Err((position, reason)) => {
                verified.add(&path, position, reason);
                complete_below = 0;
                Vec::new()
            }
        };
        Ok(Aborted { path, entries, at: 0, complete_below })
    }

    /// Takes note of a sound batch of the segment, and of what it says if it is a marker.
    pub(super) fn see(
        &mut self,
        aborted: &mut Aborted,
        header: &BatchHeader,
        marker: Option<EndTxnMarker>,
        verified: &mut Verified,
    ) {
        if !header.has_producer_id() {
            return;
        }
        let ended = self.open.apply(header, marker).filter(|ended| ended.is_aborted);
        aborted.pass(header.last_offset(), verified);
        let entry = aborted.entries.get(aborted.at);
        match entry.filter(|entry| entry.last_offset == header.last_offset()).copied() {
            Some(entry) => {
                if let Some(reason) = self.fault(&entry, header, marker, ended) {
                    aborted.damaged(verified, &reason);
                } else {
                    aborted.at += 1;
                }
            }
            None => {
                if ended.is_some()
                    && !self.is_guess
                    && header.last_offset() < aborted.complete_below
                {
                    let (id, offset) = (header.producer_id, header.last_offset());
                    let reason = format!("that producer {id} aborted at {offset} is missing");
                    aborted.add(verified, &reason);
                }
            }
        }
    }

    /// What is wrong with the entry of a marker. Compaction and retention may have taken the
    /// transaction's first batches, or all.
    fn fault(
        &self,
        entry: &AbortedTransaction,
        header: &BatchHeader,
        marker: Option<EndTxnMarker>,
        ended: Option<EndedTransaction>,
    ) -> Option<String> {
        let AbortedTransaction { producer_id, first_offset, last_offset, last_stable_offset } =
            *entry;
        let aborts = marker.is_some_and(|marker| marker.control_type == ControlType::Abort);
        if !aborts || header.producer_id != producer_id {
            return Some(format!("producer {producer_id} did not abort at {last_offset}"));
        }
        if self.is_guess {
            return None;
        }
        if let Some(ended) = ended
            && ended.entry.first_offset < first_offset
        {
            let found = ended.entry.first_offset;
            return Some(format!("the transaction began at {found}, not at {first_offset}"));
        }
        let unstable = self.open.first_offset()?;
        (unstable < last_stable_offset)
            .then(|| format!("a transaction was open since {unstable}, below {last_stable_offset}"))
    }

    /// A batch could not be read.
    pub(super) fn see_damage(&mut self) {
        self.is_guess = true;
    }
}

impl Aborted {
    /// Every batch that ends below `offset` was seen.
    fn pass(&mut self, offset: i64, verified: &mut Verified) {
        while let Some(entry) = self.entries.get(self.at)
            && entry.last_offset < offset
        {
            let reason = format!("no marker at offset {}", entry.last_offset);
            self.damaged(verified, &reason);
        }
    }

    /// There is no further batch in the segment; one that ends the log at `log_end_offset` may have
    /// entries whose markers were never written.
    pub(super) fn end(mut self, log_end_offset: Option<i64>, verified: &mut Verified) {
        self.pass(log_end_offset.unwrap_or(i64::MAX), verified);
    }

    fn damaged(&mut self, verified: &mut Verified, reason: &str) {
        self.add(verified, reason);
        self.at += 1;
    }

    fn add(&self, verified: &mut Verified, reason: &str) {
        verified.add(&self.path, (self.at * AbortedTransaction::BYTES) as u64, reason);
    }
}
