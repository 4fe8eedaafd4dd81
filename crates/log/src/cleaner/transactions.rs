//! Which batches belong to aborted transactions, and which markers nobody needs any more.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use klamm_protocol::records::{Batch, BatchHeader, ControlKey, ControlType};

use super::rewrite::damaged;
use crate::segment::Segment;

/// An aborted transaction: its producer and the offset of its marker, by its first offset.
type Aborted = BTreeMap<i64, (i64, i64)>;

/// The transactions of the part of a log that is being cleaned.
pub(super) struct Transactions {
    /// Those that have not begun yet where the pass is.
    to_come: Aborted,
    /// Producers whose aborted transaction is under way, and whether the pass saw a batch of it.
    aborting: BTreeMap<i64, bool>,
    /// Producers with batches of a transaction that will be committed.
    committing: BTreeSet<i64>,
}

impl Transactions {
    /// Finds the aborted transactions of `segments`. Only headers and markers are read.
    pub(super) fn find(segments: &[Arc<Segment>]) -> io::Result<Transactions> {
        let mut open: BTreeMap<i64, i64> = BTreeMap::new();
        let mut to_come = Aborted::new();
        for segment in segments {
            let mut scan = segment.scan(0);
            while let Some((position, header)) = scan.next()? {
                if !header.is_transactional() {
                    continue;
                }
                if !header.is_control() {
                    open.entry(header.producer_id).or_insert(header.base_offset);
                    continue;
                }
                let mut bytes = vec![0; header.size()];
                segment.file.read_exact_at(&mut bytes, position)?;
                let control = control_type(&Batch::parse(&bytes.into()).map_err(damaged)?);
                let Some(first) = open.remove(&header.producer_id) else { continue };
                if control == Some(ControlType::Abort) {
                    to_come.insert(first, (header.producer_id, header.last_offset()));
                }
            }
        }
        Ok(Transactions { to_come, aborting: BTreeMap::new(), committing: BTreeSet::new() })
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
            Some(seen) => {
                *seen = true;
                true
            }
            None => {
                self.committing.insert(batch.producer_id);
                false
            }
        }
    }

    fn on_marker(&mut self, batch: &Batch) -> bool {
        let BatchHeader { producer_id, .. } = **batch;
        match control_type(batch) {
            Some(ControlType::Abort) => !self.aborting.remove(&producer_id).unwrap_or(false),
            Some(ControlType::Commit) => !self.committing.remove(&producer_id),
            // What is not known is kept.
            _ => false,
        }
    }

    fn begin_up_to(&mut self, offset: i64) {
        while let Some(entry) = self.to_come.first_entry()
            && *entry.key() <= offset
        {
            let (producer_id, _) = entry.remove();
            self.aborting.entry(producer_id).or_insert(false);
        }
    }
}

/// What a control batch says; `None` where it says nothing that is understood.
fn control_type(batch: &Batch) -> Option<ControlType> {
    let record = batch.records(batch.bytes().len()).ok()?.next()?.ok()?;
    ControlKey::decode(&record.key?).ok().map(|key| key.control_type)
}
