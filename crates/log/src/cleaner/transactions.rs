//! Which batches belong to aborted transactions, and which markers nobody needs any more.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use klamm_protocol::records::{Batch, BatchHeader, ControlType};

use crate::segment::Segment;
use crate::transactions::{AbortedTransaction, marker_of};

/// The transactions of the part of a log that is being cleaned.
pub(super) struct Transactions {
    /// Aborted ones that have not begun yet where the pass is, by first offset and producer.
    to_come: BTreeMap<(i64, i64), AbortedTransaction>,
    /// The aborted transaction of a producer that is under way, and whether the pass saw a batch of
    /// it.
    aborting: BTreeMap<i64, (AbortedTransaction, bool)>,
    /// Producers with batches of a transaction that will be committed.
    committing: BTreeSet<i64>,
    /// The one whose marker was seen last, if batches of it are left.
    aborted: Option<AbortedTransaction>,
}

impl Transactions {
    /// The aborted transactions of `segments`, and those whose marker comes behind them.
    pub(super) fn of(
        segments: &[Arc<Segment>],
        later: &[AbortedTransaction],
    ) -> io::Result<Transactions> {
        let mut to_come = BTreeMap::new();
        let mut add = |aborted: AbortedTransaction| {
            to_come.insert((aborted.first_offset, aborted.producer_id), aborted);
        };
        for segment in segments {
            let index = segment.aborted();
            index.read(0, index.len())?.into_iter().for_each(&mut add);
        }
        later.iter().copied().for_each(add);
        let (aborting, committing) = (BTreeMap::new(), BTreeSet::new());
        Ok(Transactions { to_come, aborting, committing, aborted: None })
    }

    /// Takes note of a batch, in the order of the log; whether all of it may go: it is part of an
    /// aborted transaction, or the marker of one of which no batch is left.
    pub(super) fn on_batch(&mut self, batch: &Batch) -> bool {
        self.begin_up_to(batch.last_offset());
        if batch.is_control() {
            return self.on_marker(batch);
        }
        if !batch.is_transactional() {
            return false;
        }
        match self.aborting.get_mut(&batch.producer_id) {
            Some((_, seen)) => {
                *seen = true;
                true
            }
            None => {
                self.committing.insert(batch.producer_id);
                false
            }
        }
    }

    /// The transaction that the last batch has aborted, if batches of it are left.
    pub(super) fn take_aborted(&mut self) -> Option<AbortedTransaction> {
        self.aborted.take()
    }

    fn on_marker(&mut self, batch: &Batch) -> bool {
        let BatchHeader { producer_id, .. } = **batch;
        let Some(marker) = marker_of(batch.bytes()) else {
            // What is not known is kept.
            return false;
        };
        if marker.control_type == ControlType::Commit {
            return !self.committing.remove(&producer_id);
        }
        let ended = self.aborting.remove(&producer_id);
        self.aborted = ended.filter(|(_, seen)| *seen).map(|(aborted, _)| aborted);
        self.aborted.is_none()
    }

    fn begin_up_to(&mut self, offset: i64) {
        while let Some(entry) = self.to_come.first_entry()
            && entry.key().0 <= offset
        {
            let aborted = entry.remove();
            self.aborting.entry(aborted.producer_id).or_insert((aborted, false));
        }
    }
}
