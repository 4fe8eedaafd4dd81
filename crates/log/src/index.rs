//! The sparse indexes of a segment: offset to position, timestamp to offset.
//!
//! The index of the segment that is written to lies in memory, where readers search it without a
//! lock while the writer appends. Those of older segments stay in their files.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::files::{Disk, SegmentFile};

/// Entries of the first chunk of an [`AppendList`]; each next one has four times as many.
const FIRST_CHUNK: usize = 8;
/// Chunks of an [`AppendList`]: room for 44 million entries, more than an index may have.
const CHUNKS: usize = 12;
/// Entries that a search in a file reads at once when it is near its goal.
const BLOCK_ENTRIES: usize = 256;
/// No entry is longer.
const ENTRY_BYTES_MAX: usize = 34;

/// An entry of an index file.
pub(crate) trait Entry: Copy {
    /// Bytes in the file.
    const BYTES: usize;
    /// The entry where threads share it.
    type Cell: Default + Send + Sync;

    fn encode(self, out: &mut Vec<u8>);
    /// Reads an entry from [`Entry::BYTES`] bytes.
    fn decode(bytes: &[u8]) -> Self;
    fn store(self, cell: &Self::Cell);
    fn load(cell: &Self::Cell) -> Self;
}

/// A batch: its last offset, relative to the segment's base, and where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    pub(crate) offset: u32,
    pub(crate) position: u32,
}

impl Entry for OffsetEntry {
    const BYTES: usize = 8;
    type Cell = AtomicU64;

    fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.offset.to_be_bytes());
        out.extend_from_slice(&self.position.to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> OffsetEntry {
        OffsetEntry { offset: u32_at(bytes, 0), position: u32_at(bytes, 4) }
    }

    fn store(self, cell: &AtomicU64) {
        let packed = u64::from(self.offset) << 32 | u64::from(self.position);
        cell.store(packed, Ordering::Relaxed);
    }

    fn load(cell: &AtomicU64) -> OffsetEntry {
        let packed = cell.load(Ordering::Relaxed);
        OffsetEntry { offset: (packed >> 32) as u32, position: packed as u32 }
    }
}

/// The greatest timestamp so far and the last offset of the batch that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    pub(crate) timestamp: i64,
    pub(crate) offset: u32,
}

impl Entry for TimeEntry {
    const BYTES: usize = 12;
    type Cell = (AtomicI64, AtomicU32);

    fn encode(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.offset.to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> TimeEntry {
        let timestamp = bytes[..8].try_into().expect("eight bytes were taken");
        TimeEntry { timestamp: i64::from_be_bytes(timestamp), offset: u32_at(bytes, 8) }
    }

    fn store(self, cell: &Self::Cell) {
        cell.0.store(self.timestamp, Ordering::Relaxed);
        cell.1.store(self.offset, Ordering::Relaxed);
    }

    fn load(cell: &Self::Cell) -> TimeEntry {
        TimeEntry {
            timestamp: cell.0.load(Ordering::Relaxed),
            offset: cell.1.load(Ordering::Relaxed),
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes were taken"))
}

/// A list that one thread appends to while others read; what was published never moves.
struct AppendList<E: Entry> {
    chunks: [OnceLock<Box<[E::Cell]>>; CHUNKS],
    len: AtomicUsize,
}

impl<E: Entry> AppendList<E> {
    fn new() -> AppendList<E> {
        AppendList { chunks: [const { OnceLock::new() }; CHUNKS], len: AtomicUsize::new(0) }
    }

    fn len(&self) -> usize {
        self.len.load(Ordering::Acquire)
    }

    /// Chunk and place within it of entry `at`.
    fn place(at: usize) -> (usize, usize) {
        // Chunk k begins at FIRST_CHUNK * (4^k - 1) / 3.
        let chunk = (3 * at / FIRST_CHUNK + 1).ilog2() as usize / 2;
        let start = FIRST_CHUNK * ((1 << (2 * chunk)) - 1) / 3;
        (chunk, at - start)
    }

    fn get(&self, at: usize) -> E {
        let (chunk, place) = Self::place(at);
        let cells = self.chunks[chunk].get().expect("entries below the length have their chunk");
        E::load(&cells[place])
    }

    /// Appends; only the holder of the log may call it.
    fn push(&self, entry: E) {
        let at = self.len.load(Ordering::Relaxed);
        let (chunk, place) = Self::place(at);
        let cells = self.chunks[chunk]
            .get_or_init(|| (0..FIRST_CHUNK << (2 * chunk)).map(|_| E::Cell::default()).collect());
        entry.store(&cells[place]);
        self.len.store(at + 1, Ordering::Release);
    }
}

enum Store<E: Entry> {
    Memory(Box<AppendList<E>>),
    File { file: SegmentFile, len: usize },
}

/// One index of one segment.
pub(crate) struct Index<E: Entry> {
    store: Store<E>,
}

impl<E: Entry> Index<E> {
    /// An index in memory that grows.
    pub(crate) fn in_memory(entries: &[E]) -> Index<E> {
        let list = AppendList::new();
        for entry in entries {
            list.push(*entry);
        }
        Index { store: Store::Memory(Box::new(list)) }
    }

    /// The first `len` entries of an index file.
    pub(crate) fn in_file(file: SegmentFile, len: usize) -> Index<E> {
        Index { store: Store::File { file, len } }
    }

    /// Opens the file, if there is one.
    pub(crate) fn keep_open(&self) -> io::Result<()> {
        match &self.store {
            Store::File { file, .. } => match file.keep_open() {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            },
            Store::Memory(_) => Ok(()),
        }
    }

    pub(crate) fn is_in_memory(&self) -> bool {
        matches!(self.store, Store::Memory(_))
    }

    pub(crate) fn len(&self) -> usize {
        match &self.store {
            Store::Memory(list) => list.len(),
            Store::File { len, .. } => *len,
        }
    }

    /// Appends an entry; only the holder of the log may call it, and only on an index in memory.
    pub(crate) fn push(&self, entry: E) {
        match &self.store {
            Store::Memory(list) => list.push(entry),
            Store::File { .. } => panic!("only the index of the active segment grows"),
        }
    }

    fn get(&self, disk: Disk, at: usize) -> io::Result<E> {
        match &self.store {
            Store::Memory(list) => Ok(list.get(at)),
            Store::File { file, .. } => {
                let mut bytes = [0; ENTRY_BYTES_MAX];
                let bytes = &mut bytes[..E::BYTES];
                file.read_exact_as(disk, bytes, (at * E::BYTES) as u64)?;
                Ok(E::decode(bytes))
            }
        }
    }

    pub(crate) fn last(&self) -> io::Result<Option<E>> {
        self.len().checked_sub(1).map(|at| self.get(Disk::Wait, at)).transpose()
    }

    /// The last entry for which `holds`, where all that hold come before those that do not.
    pub(crate) fn last_where(
        &self,
        disk: Disk,
        holds: impl Fn(&E) -> bool,
    ) -> io::Result<Option<E>> {
        let found = self.partition_point(disk, holds)?;
        found.checked_sub(1).map(|at| self.get(disk, at)).transpose()
    }

    /// Place of the first entry for which `holds` is false, where all that hold come before.
    pub(crate) fn partition_point(
        &self,
        disk: Disk,
        holds: impl Fn(&E) -> bool,
    ) -> io::Result<usize> {
        let (mut low, mut high) = (0, self.len());
        let span = if self.is_in_memory() { 0 } else { BLOCK_ENTRIES };
        while high - low > span {
            let middle = low + (high - low) / 2;
            if holds(&self.get(disk, middle)?) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        if low < high {
            let block = self.read_as(disk, low, high)?;
            low += block.partition_point(holds);
        }
        Ok(low)
    }

    /// The entries from `from` to before `to`.
    pub(crate) fn read(&self, from: usize, to: usize) -> io::Result<Vec<E>> {
        self.read_as(Disk::Wait, from, to)
    }

    pub(crate) fn read_as(&self, disk: Disk, from: usize, to: usize) -> io::Result<Vec<E>> {
        match &self.store {
            Store::Memory(list) => Ok((from..to).map(|at| list.get(at)).collect()),
            // Without entries there may be no file.
            Store::File { .. } if from == to => Ok(Vec::new()),
            Store::File { file, .. } => {
                let mut bytes = vec![0; (to - from) * E::BYTES];
                file.read_exact_as(disk, &mut bytes, (from * E::BYTES) as u64)?;
                Ok(bytes.chunks_exact(E::BYTES).map(E::decode).collect())
            }
        }
    }

    /// The bytes of the entries from `from` to before `to`, as the file has them.
    pub(crate) fn encode(&self, from: usize, to: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity((to - from) * E::BYTES);
        for entry in self.read(from, to)? {
            entry.encode(&mut bytes);
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(n: u32) -> OffsetEntry {
        OffsetEntry { offset: 10 * n, position: 100 * n }
    }

    #[test]
    fn a_list_keeps_its_entries_over_many_chunks() {
        let list = AppendList::new();
        for n in 0..10_000 {
            list.push(entry(n));
        }
        assert_eq!(list.len(), 10_000);
        assert!((0..10_000).all(|n| list.get(n as usize) == entry(n)));
    }

    #[test]
    fn searches_find_the_last_entry_that_holds() {
        let index = Index::in_memory(&(1..=100).map(entry).collect::<Vec<_>>());
        let find = |offset| {
            index.last_where(Disk::Wait, |e: &OffsetEntry| e.offset <= offset).expect("memory")
        };
        assert_eq!(find(9), None);
        assert_eq!(find(10), Some(entry(1)));
        assert_eq!(find(555), Some(entry(55)));
        assert_eq!(find(u32::MAX), Some(entry(100)));
    }

    #[test]
    fn entries_are_written_as_kafka_writes_them() {
        let mut bytes = Vec::new();
        OffsetEntry { offset: 1, position: 2 }.encode(&mut bytes);
        TimeEntry { timestamp: 3, offset: 4 }.encode(&mut bytes);
        assert_eq!(bytes, [0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 4]);
        assert_eq!(TimeEntry::decode(&bytes[8..]), TimeEntry { timestamp: 3, offset: 4 });
    }
}
