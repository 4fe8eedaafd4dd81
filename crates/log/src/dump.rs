//! What lies in a partition's files, for people who look: nothing is changed, recovered or
//! believed. Works on Apache Kafka's files as on ours.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use klamm_env::Files;
use klamm_env::files::{File, OpenMode};
use klamm_protocol::records::{Batch, BatchHeader, HEADER_LEN, Record, validate_stored};

use crate::checkpoint::{decode_epochs, invalid, read_file, read_text};
use crate::epochs::EpochEntry;
use crate::index::{Entry, OffsetEntry, TimeEntry};
use crate::names::{
    INDEX_SUFFIX, LEADER_EPOCHS, LOG_SUFFIX, SNAPSHOT_SUFFIX, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX,
    offset_of_file,
};
use crate::producers::ProducerEntry;
use crate::snapshot;
use crate::transactions::{AbortedTransaction, decode_aborted};

/// Index entries read at a time.
const ENTRIES_AT_A_TIME: usize = 4096;

/// One thing found in a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// A sound batch.
    Batch {
        /// Where it begins in the file.
        position: u64,
        /// What it says of itself.
        header: BatchHeader,
    },
    /// A record of the batch before, if records were asked for.
    Record(Record),
    /// An entry of an offset index.
    Offset {
        /// Last offset of a batch.
        offset: i64,
        /// Where the batch begins in the segment.
        position: u32,
    },
    /// An entry of a time index.
    Timestamp {
        /// The greatest timestamp so far.
        timestamp: i64,
        /// Last offset of the batch that has it.
        offset: i64,
    },
    /// A transaction of an index of aborted ones.
    Aborted(AbortedTransaction),
    /// A producer of a snapshot.
    Producer(ProducerEntry),
    /// Where a leader epoch began.
    Epoch(EpochEntry),
    /// What is not as it must be. In a segment nothing is read past it.
    Damage {
        /// Where it is.
        position: u64,
        /// What it is.
        reason: String,
    },
}

/// What a dump shows of batches.
#[derive(Clone, Copy, Debug)]
pub struct DumpOptions {
    /// Their records, too.
    pub records: bool,
    /// The most that one batch may decompress to.
    pub batch_decompressed_bytes_max: usize,
}

/// The files of a partition's directory that [`dump_file`] can read, in the order of their names;
/// `path` itself if it is a file.
///
/// # Errors
/// When `path` cannot be read, is not there, or is a directory without such files.
pub fn dumpable_files(files: &dyn Files, path: &Path) -> io::Result<Vec<PathBuf>> {
    let metadata = files.metadata(path)?.ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("{}: not there", path.display()))
    })?;
    if !metadata.is_dir {
        return Ok(vec![path.to_owned()]);
    }
    let listed = files.list(path)?.into_iter().filter(|entry| !entry.is_dir);
    let found: Vec<_> = listed
        .filter(|entry| Kind::of(&entry.name).is_some())
        .map(|entry| path.join(entry.name))
        .collect();
    if found.is_empty() {
        return Err(invalid(path, "not a partition's directory"));
    }
    Ok(found)
}

#[derive(Clone, Copy)]
enum Kind {
    Log,
    Index { base: i64 },
    TimeIndex { base: i64 },
    TxnIndex { base: i64 },
    Snapshot,
    Epochs,
}

impl Kind {
    fn of(name: &str) -> Option<Self> {
        let base = |suffix| offset_of_file(name, suffix);
        if name == LEADER_EPOCHS {
            return Some(Self::Epochs);
        }
        base(LOG_SUFFIX)
            .map(|_| Self::Log)
            .or_else(|| base(INDEX_SUFFIX).map(|base| Self::Index { base }))
            .or_else(|| base(TIME_INDEX_SUFFIX).map(|base| Self::TimeIndex { base }))
            .or_else(|| base(TXN_INDEX_SUFFIX).map(|base| Self::TxnIndex { base }))
            .or_else(|| base(SNAPSHOT_SUFFIX).map(|_| Self::Snapshot))
    }
}

/// Shows `see` what is in the file at `path`, until it has seen enough.
///
/// # Errors
/// When the file cannot be read, or its name is none that a partition's files have. What is wrong
/// inside of it is [`Found::Damage`].
pub fn dump_file(
    files: &dyn Files,
    path: &Path,
    options: DumpOptions,
    see: &mut dyn FnMut(Found) -> ControlFlow<()>,
) -> io::Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let kind = Kind::of(name).ok_or_else(|| invalid(path, "not a file of a partition"))?;
    // The flow says whether the viewer went on to the end, which nobody asks.
    let _ = match kind {
        Kind::Log => dump_log(&*files.open(path, OpenMode::Read)?, options, see)?,
        Kind::Index { base } => {
            let found = |entry: OffsetEntry| Found::Offset {
                offset: base + i64::from(entry.offset),
                position: entry.position,
            };
            dump_index(&*files.open(path, OpenMode::Read)?, found, see)?
        }
        Kind::TimeIndex { base } => {
            let found = |entry: TimeEntry| Found::Timestamp {
                timestamp: entry.timestamp,
                offset: base + i64::from(entry.offset),
            };
            dump_index(&*files.open(path, OpenMode::Read)?, found, see)?
        }
        Kind::TxnIndex { base } => dump_aborted(files, path, base, see)?,
        Kind::Snapshot => dump_snapshot(files, path, see)?,
        Kind::Epochs => dump_epochs(files, path, see)?,
    };
    Ok(())
}

fn damage(position: u64, reason: impl std::fmt::Display) -> Found {
    Found::Damage { position, reason: reason.to_string() }
}

type See<'a> = &'a mut dyn FnMut(Found) -> ControlFlow<()>;

fn dump_log(file: &dyn File, options: DumpOptions, see: See<'_>) -> io::Result<ControlFlow<()>> {
    let len = file.len()?;
    let mut position = 0;
    while position < len {
        let batch = match read_batch(file, position, len)? {
            Ok(batch) => batch,
            Err(reason) => return Ok(see(damage(position, reason))),
        };
        let shown = see(Found::Batch { position, header: *batch.header() });
        if shown.is_break()
            || (options.records && show_records(&batch, position, options, see).is_break())
        {
            return Ok(ControlFlow::Break(()));
        }
        position += batch.size() as u64;
    }
    Ok(ControlFlow::Continue(()))
}

/// The batch at `position`, or what is wrong with it. No more is read than the file has.
fn read_batch(file: &dyn File, position: u64, len: u64) -> io::Result<Result<Batch, String>> {
    let left = len - position;
    let mut header = vec![0; usize::try_from(left.min(HEADER_LEN as u64)).unwrap_or(HEADER_LEN)];
    file.read_exact_at(&mut header, position)?;
    let size = match BatchHeader::parse(&header) {
        Ok(header) => header.size(),
        Err(error) => return Ok(Err(error.to_string())),
    };
    if size as u64 > left {
        return Ok(Err(format!("a batch of {size} bytes is cut off after {left}")));
    }
    let mut batch = vec![0; size];
    file.read_exact_at(&mut batch, position)?;
    let batch = Bytes::from(batch);
    let sound = validate_stored(&batch).and_then(|_| Batch::parse(&batch));
    Ok(sound.map_err(|error| error.to_string()))
}

fn show_records(
    batch: &Batch,
    position: u64,
    options: DumpOptions,
    see: See<'_>,
) -> ControlFlow<()> {
    let records = match batch.records(options.batch_decompressed_bytes_max) {
        Ok(records) => records,
        Err(error) => return see(damage(position, error)),
    };
    for record in records {
        match record {
            Ok(record) => see(Found::Record(record))?,
            Err(error) => see(damage(position, error))?,
        }
    }
    ControlFlow::Continue(())
}

fn dump_index<E: Entry>(
    file: &dyn File,
    found: impl Fn(E) -> Found,
    see: See<'_>,
) -> io::Result<ControlFlow<()>> {
    let (len, entry_len) = (file.len()?, E::BYTES as u64);
    let whole = len - len % entry_len;
    let mut position = 0;
    while position < whole {
        let step = (whole - position).min(entry_len * ENTRIES_AT_A_TIME as u64);
        let mut entries = vec![0; usize::try_from(step).expect("a bounded step")];
        file.read_exact_at(&mut entries, position)?;
        for entry in entries.chunks_exact(E::BYTES) {
            // Kafka keeps room in the index of the segment that it writes to.
            if entry.iter().all(|byte| *byte == 0) {
                return Ok(ControlFlow::Continue(()));
            }
            if see(found(E::decode(entry))).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        position += step;
    }
    if whole < len {
        return Ok(see(damage(whole, format_args!("{} bytes are no entry", len - whole))));
    }
    Ok(ControlFlow::Continue(()))
}

fn dump_aborted(
    files: &dyn Files,
    path: &Path,
    base: i64,
    see: See<'_>,
) -> io::Result<ControlFlow<()>> {
    let content = read_file(files, path)?.unwrap_or_default();
    let (entries, fault) = match decode_aborted(&content, base) {
        Ok(entries) => (entries, None),
        Err((position, reason)) => {
            let sound = usize::try_from(position).expect("within the content");
            (decode_aborted(&content[..sound], base).unwrap_or_default(), Some((position, reason)))
        }
    };
    let shown = entries.into_iter().try_for_each(|entry| see(Found::Aborted(entry)));
    match fault {
        Some((position, reason)) if shown.is_continue() => Ok(see(damage(position, reason))),
        _ => Ok(shown),
    }
}

fn dump_snapshot(files: &dyn Files, path: &Path, see: See<'_>) -> io::Result<ControlFlow<()>> {
    let content = read_file(files, path)?.unwrap_or_default();
    let Some(producers) = snapshot::decode(&content) else {
        return Ok(see(damage(0, "not a snapshot, or its CRC is wrong")));
    };
    let mut producers = producers.entries().into_iter().cloned();
    Ok(producers.try_for_each(|producer| see(Found::Producer(producer))))
}

fn dump_epochs(files: &dyn Files, path: &Path, see: See<'_>) -> io::Result<ControlFlow<()>> {
    let text = read_text(files, path)?.unwrap_or_default();
    let Some(epochs) = decode_epochs(&text) else {
        return Ok(see(damage(0, "not a list of leader epochs")));
    };
    Ok(epochs.entries().iter().try_for_each(|epoch| see(Found::Epoch(*epoch))))
}
