//! Transactions as a log sees them: which are open, how they end, and the index of the aborted ones.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use klamm_protocol::records::{Batch, BatchHeader, ControlKey, ControlType, EndTxnMarker};

use crate::files::Disk;
use crate::index::{Entry, Index};

/// Version of an entry of a `.txnindex`.
const VERSION: i16 = 0;
/// A control batch that is larger is no marker.
const MARKER_BYTES_MAX: usize = 4096;
/// Entries that a search reads at once.
const BLOCK_ENTRIES: usize = 128;

/// A transaction that was aborted: an entry of a `.txnindex`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Who wrote it.
    pub producer_id: i64,
    /// Offset of its first record.
    pub first_offset: i64,
    /// Offset of its marker.
    pub last_offset: i64,
    /// The last stable offset once the marker was written, without regard to replication: no
    /// transaction that was aborted later begins below.
    pub last_stable_offset: i64,
}

impl Entry for AbortedTransaction {
    const BYTES: usize = 34;
    type Cell = [AtomicI64; 4];

    fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&VERSION.to_be_bytes());
        for field in self.fields() {
            out.extend_from_slice(&field.to_be_bytes());
        }
    }

    fn decode(bytes: &[u8]) -> AbortedTransaction {
        let field = |at: usize| {
            let bytes = bytes[2 + 8 * at..][..8].try_into().expect("eight bytes were taken");
            i64::from_be_bytes(bytes)
        };
        AbortedTransaction::of_fields([field(0), field(1), field(2), field(3)])
    }

    fn store(self, cell: &Self::Cell) {
        for (cell, field) in cell.iter().zip(self.fields()) {
            cell.store(field, Ordering::Relaxed);
        }
    }

    fn load(cell: &Self::Cell) -> AbortedTransaction {
        AbortedTransaction::of_fields(
            [0, 1, 2, 3].map(|at: usize| cell[at].load(Ordering::Relaxed)),
        )
    }
}

impl AbortedTransaction {
    fn fields(self) -> [i64; 4] {
        [self.producer_id, self.first_offset, self.last_offset, self.last_stable_offset]
    }

    fn of_fields(fields: [i64; 4]) -> AbortedTransaction {
        let [producer_id, first_offset, last_offset, last_stable_offset] = fields;
        AbortedTransaction { producer_id, first_offset, last_offset, last_stable_offset }
    }
}

/// What the bytes of a `.txnindex` are.
pub(crate) fn encode_aborted(entries: &[AbortedTransaction]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * AbortedTransaction::BYTES);
    entries.iter().for_each(|entry| entry.encode(&mut bytes));
    bytes
}

/// Reads a `.txnindex` of the segment that begins at `base_offset`; or where and why it is none.
pub(crate) fn decode_aborted(
    bytes: &[u8],
    base_offset: i64,
) -> Result<Vec<AbortedTransaction>, (u64, String)> {
    let mut entries: Vec<AbortedTransaction> = Vec::new();
    for (at, bytes) in bytes.chunks(AbortedTransaction::BYTES).enumerate() {
        let fault = |reason: String| ((at * AbortedTransaction::BYTES) as u64, reason);
        if bytes.len() < AbortedTransaction::BYTES {
            return Err(fault(format!("{} bytes are no entry", bytes.len())));
        }
        let version = i16::from_be_bytes([bytes[0], bytes[1]]);
        if version != VERSION {
            return Err(fault(format!("version {version} is not known")));
        }
        let entry = AbortedTransaction::decode(bytes);
        let AbortedTransaction { first_offset, last_offset, last_stable_offset, .. } = entry;
        if first_offset < 0 || last_stable_offset < 0 || last_offset < first_offset.max(base_offset)
        {
            return Err(fault(format!("a transaction from {first_offset} to {last_offset}")));
        }
        if entries.last().is_some_and(|before| before.last_offset >= last_offset) {
            return Err(fault("the entry does not rise above the one before".to_owned()));
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// Adds the entries of one segment's index that overlap the offsets from `from` to before `upper`;
/// whether later segments can have none.
pub(crate) fn collect_aborted(
    disk: Disk,
    index: &Index<AbortedTransaction>,
    from: i64,
    upper: i64,
    found: &mut Vec<AbortedTransaction>,
) -> io::Result<bool> {
    let mut at = index.partition_point(disk, |entry| entry.last_offset < from)?;
    let len = index.len();
    while at < len {
        let end = len.min(at + BLOCK_ENTRIES);
        for entry in index.read_as(disk, at, end)? {
            if entry.first_offset < upper {
                found.push(entry);
            }
            if entry.last_stable_offset >= upper {
                return Ok(true);
            }
        }
        at = end;
    }
    Ok(false)
}

/// The commit or abort in a batch; `None` where it is none that is understood. A batch that
/// compaction has emptied says nothing.
pub(crate) fn marker_of(batch: &[u8]) -> Option<EndTxnMarker> {
    if batch.len() > MARKER_BYTES_MAX {
        return None;
    }
    let batch = Batch::parse(&Bytes::copy_from_slice(batch)).ok()?;
    let record = batch.records(MARKER_BYTES_MAX).ok()?.next()?.ok()?;
    let control_type = ControlKey::decode(&record.key?).ok()?.control_type;
    match control_type {
        ControlType::Commit | ControlType::Abort => {
            EndTxnMarker::decode(control_type, &record.value?).ok()
        }
        ControlType::Other(_) => None,
    }
}

/// The commit or abort in the batch at `position`, if it is a control batch; `read` reads its file.
pub(crate) fn marker_at(
    header: &BatchHeader,
    position: u64,
    read: impl FnOnce(&mut [u8], u64) -> io::Result<()>,
) -> io::Result<Option<EndTxnMarker>> {
    if !header.is_control() || header.size() > MARKER_BYTES_MAX {
        return Ok(None);
    }
    let mut bytes = vec![0; header.size()];
    read(&mut bytes, position)?;
    Ok(marker_of(&bytes))
}

/// A transaction that a marker has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndedTransaction {
    pub(crate) is_aborted: bool,
    /// As its entry has it if it is aborted.
    pub(crate) entry: AbortedTransaction,
}

/// The transactions that are open at some offset.
#[derive(Clone, Debug, Default)]
pub(crate) struct OpenTransactions {
    /// First offset and producer.
    by_offset: BTreeSet<(i64, i64)>,
    first_offsets: BTreeMap<i64, i64>,
}

impl OpenTransactions {
    /// First offset of the oldest one.
    pub(crate) fn first_offset(&self) -> Option<i64> {
        self.by_offset.first().map(|(offset, _)| *offset)
    }

    /// A transaction of `producer_id` is open since `first_offset`.
    pub(crate) fn begin(&mut self, producer_id: i64, first_offset: i64) {
        self.end(producer_id);
        self.first_offsets.insert(producer_id, first_offset);
        self.by_offset.insert((first_offset, producer_id));
    }

    /// The one of `producer_id` is over; answers its first offset.
    pub(crate) fn end(&mut self, producer_id: i64) -> Option<i64> {
        let first_offset = self.first_offsets.remove(&producer_id)?;
        self.by_offset.remove(&(first_offset, producer_id));
        Some(first_offset)
    }

    /// Takes note of a batch and of what it says, if it is a marker; answers what that has ended. A
    /// marker of a transaction without records ends nothing.
    pub(crate) fn apply(
        &mut self,
        header: &BatchHeader,
        marker: Option<EndTxnMarker>,
    ) -> Option<EndedTransaction> {
        let producer_id = header.producer_id;
        if !header.is_control() {
            if header.is_transactional() && !self.first_offsets.contains_key(&producer_id) {
                self.begin(producer_id, header.base_offset);
            }
            return None;
        }
        let marker = marker?;
        let first_offset = self.end(producer_id)?;
        let last_offset = header.last_offset();
        let last_stable_offset = self.first_offset().unwrap_or(header.next_offset());
        Some(EndedTransaction {
            is_aborted: marker.control_type == ControlType::Abort,
            entry: AbortedTransaction {
                producer_id,
                first_offset,
                last_offset,
                last_stable_offset,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use klamm_protocol::compression::Compression;
    use klamm_protocol::records::{BatchBuilder, NewRecord, ProducerFields};

    use super::*;

    fn entry(producer_id: i64, offsets: [i64; 3]) -> AbortedTransaction {
        AbortedTransaction::of_fields([producer_id, offsets[0], offsets[1], offsets[2]])
    }

    fn data(producer_id: i64, offset: i64) -> BatchHeader {
        let mut builder = BatchBuilder::new(Compression::None, 1000);
        builder.set_base_offset(offset);
        builder.set_transactional(true);
        builder.set_producer(ProducerFields { producer_id, producer_epoch: 0, base_sequence: 0 });
        builder.append(&NewRecord::default()).expect("fits");
        BatchHeader::parse(&builder.build().expect("builds")).expect("a batch")
    }

    fn end(
        open: &mut OpenTransactions,
        producer_id: i64,
        offset: i64,
        control_type: ControlType,
    ) -> Option<EndedTransaction> {
        let marker = EndTxnMarker { control_type, coordinator_epoch: 3 };
        let batch = BatchBuilder::end_txn(producer_id, 0, 1000, marker);
        let mut header = BatchHeader::parse(&batch).expect("a batch");
        header.base_offset = offset;
        assert_eq!(marker_of(&batch), Some(marker));
        open.apply(&header, marker_of(&batch))
    }

    #[test]
    fn an_entry_is_written_as_kafka_writes_it() {
        let entries = [entry(1, [2, 3, 4])];
        let bytes = encode_aborted(&entries);
        let mut expected = vec![0, 0];
        for field in 1..=4_u8 {
            expected.extend([0, 0, 0, 0, 0, 0, 0, field]);
        }
        assert_eq!(bytes, expected);
        assert_eq!(decode_aborted(&bytes, 0), Ok(entries.to_vec()));
    }

    #[test]
    fn what_is_no_index_is_told_from_one() {
        let sound = encode_aborted(&[entry(1, [2, 3, 4]), entry(1, [5, 8, 9])]);
        let fault = |bytes: &[u8], base| decode_aborted(bytes, base).map_err(|(at, _)| at);
        assert_eq!(fault(&sound[..40], 0), Err(34), "cut off");
        assert_eq!(fault(&sound, 4), Err(0), "of an older segment");
        let mut other = sound.clone();
        other[35] = 1;
        assert_eq!(fault(&other, 0), Err(34), "of another version");
        let twice = [&sound[34..], &sound[34..]].concat();
        assert_eq!(fault(&twice, 0), Err(34), "not rising");
        assert_eq!(
            fault(&encode_aborted(&[entry(1, [4, 3, 4])]), 0),
            Err(0),
            "ends before it begins"
        );
    }

    #[test]
    fn a_transaction_is_open_until_its_own_marker() {
        let mut open = OpenTransactions::default();
        open.apply(&data(1, 10), None);
        open.apply(&data(2, 11), None);
        open.apply(&data(1, 12), None);
        assert_eq!(open.first_offset(), Some(10));
        let ended = end(&mut open, 2, 13, ControlType::Abort).expect("it was open");
        assert!(ended.is_aborted);
        assert_eq!(ended.entry, entry(2, [11, 13, 10]), "stable up to the one that is still open");
        let ended = end(&mut open, 1, 14, ControlType::Commit).expect("it was open");
        assert!(!ended.is_aborted);
        assert_eq!(ended.entry, entry(1, [10, 14, 15]));
        assert_eq!(open.first_offset(), None);
        assert_eq!(end(&mut open, 1, 15, ControlType::Abort), None, "nothing to end");
    }

    #[test]
    fn a_search_finds_all_that_overlap_and_knows_when_no_more_can() {
        let entries = [
            entry(1, [0, 10, 5]),
            entry(2, [5, 12, 11]),
            entry(3, [13, 20, 21]),
            entry(4, [30, 31, 32]),
        ];
        let index = Index::in_memory(&entries);
        let search = |from, upper| {
            let mut found = Vec::new();
            let is_complete =
                collect_aborted(Disk::Wait, &index, from, upper, &mut found).expect("memory");
            let ids: Vec<_> = found.iter().map(|entry| entry.producer_id).collect();
            (ids, is_complete)
        };
        assert_eq!(search(0, 5), (vec![1], true));
        assert_eq!(search(0, 6), (vec![1, 2], true));
        assert_eq!(search(11, 14), (vec![2, 3], true));
        assert_eq!(search(12, 13), (vec![2], true));
        assert_eq!(search(21, 31), (vec![4], true));
        assert_eq!(search(32, 100), (vec![], false));
        assert_eq!(search(0, 100), (vec![1, 2, 3, 4], false));
    }
}
