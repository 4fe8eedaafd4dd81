//! Any bytes as one file of an otherwise sound log directory: the log is recovered or refused with
//! an error that says why, never with a panic, and what it allocates is bounded by what it was given.
//!
//! Who includes this says how allocations are counted: `bounded(len, work)` in the parent module.

mod base;
mod memory;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use klamm_env::Files;
use klamm_log::{
    LeaderAppend, Log, LogDir, LogReader, OpenLog, Origin, ReadError, TimestampAndOffset, verify,
};
use klamm_protocol::records::split;

use super::bounded;
use base::{Base, NOW_MS, TOPIC_ID, config, next_batch, partition, repeated_batch};
use memory::MemoryFiles;

/// The most that a batch may decompress to where the harness has a say.
const DECOMPRESSED_MAX: usize = 64 * 1024;
/// Where the log directory lies.
const ROOT: &str = "/data";

/// What the bytes are given as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A segment, read as a whole, from a point inside of it, and not at all.
    Segment,
    /// The offset index of a complete segment and of the last one.
    OffsetIndex,
    /// The time index of a complete segment and of the last one.
    TimeIndex,
    /// The index of aborted transactions of a complete segment and of the last one.
    TxnIndex,
    /// A producer snapshot.
    Snapshot,
    /// The leader epochs.
    LeaderEpochs,
    /// Each of the log directory's checkpoints.
    Checkpoint,
    /// `partition.metadata`
    TopicId,
    /// `meta.properties` and the files of the registration.
    Identity,
}

/// Every kind, with the name of its target and of its seeds.
pub const KINDS: [(&str, Kind); 9] = [
    ("segment", Kind::Segment),
    ("offset_index", Kind::OffsetIndex),
    ("time_index", Kind::TimeIndex),
    ("txn_index", Kind::TxnIndex),
    ("snapshot", Kind::Snapshot),
    ("leader_epochs", Kind::LeaderEpochs),
    ("checkpoint", Kind::Checkpoint),
    ("topic_id", Kind::TopicId),
    ("identity", Kind::Identity),
];

/// Gives `input` as a file of that kind, as it is and with its checksums made right, and looks at
/// everything that comes of it.
pub fn run(kind: Kind, input: &[u8]) {
    let repaired = repaired(kind, input);
    let base = Base::of(kind);
    for (name, recovery_point) in places(kind, base) {
        run_at(base, &name, recovery_point, input);
        if let Some(repaired) = &repaired {
            run_at(base, &name, recovery_point, repaired);
        }
    }
}

/// As [`run`], at one of the places only, which `choice` chooses.
pub fn run_somewhere(kind: Kind, choice: usize, input: &[u8]) {
    let base = Base::of(kind);
    let places = places(kind, base);
    let (name, recovery_point) = &places[choice % places.len()];
    match repaired(kind, input).filter(|_| (choice / places.len()).is_multiple_of(2)) {
        Some(repaired) => run_at(base, name, *recovery_point, &repaired),
        None => run_at(base, name, *recovery_point, input),
    }
}

fn run_at(base: &Base, name: &Path, recovery_point: Option<i64>, input: &[u8]) {
    let files = base.files.copy();
    files.put(&Path::new(ROOT).join(name), input);
    if let Some(point) = recovery_point {
        let text = format!("0\n1\nevents 3 {point}\n");
        let path = Path::new(ROOT).join("recovery-point-offset-checkpoint");
        files.put(&path, text.as_bytes());
    }
    run_on(Arc::new(files), input.len());
}

/// The files that the bytes are put in place of, and the log's recovery point where it is not its end.
fn places(kind: Kind, base: &Base) -> Vec<(PathBuf, Option<i64>)> {
    let in_log = |name: String| Path::new("events-3").join(name);
    let of = |at: usize, suffix: &str| in_log(format!("{:020}.{suffix}", base.bases[at]));
    let last = base.bases.len() - 1;
    let inside = Some(base.bases[last] + 3);
    let index = |suffix| vec![(of(1, suffix), None), (of(last, suffix), inside)];
    match kind {
        Kind::Segment => vec![
            (of(0, "log"), Some(0)),
            (of(1, "log"), Some(base.bases[1] + 3)),
            (of(1, "log"), None),
            (of(last, "log"), inside),
        ],
        Kind::OffsetIndex => index("index"),
        Kind::TimeIndex => index("timeindex"),
        Kind::TxnIndex => index("txnindex"),
        Kind::Snapshot => {
            let name = format!("{:020}.snapshot", base.snapshot);
            vec![(in_log(name.clone()), None), (in_log(name), Some(base.end - 1))]
        }
        Kind::LeaderEpochs => vec![(in_log("leader-epoch-checkpoint".to_owned()), inside)],
        Kind::Checkpoint => ["recovery-point", "log-start", "replication", "cleaner"]
            .map(|name| (format!("{name}-offset-checkpoint").into(), None))
            .into(),
        Kind::TopicId => vec![(in_log("partition.metadata".to_owned()), None)],
        Kind::Identity => ["meta.properties", "klamm.registration", "klamm.clean", "klamm.offline"]
            .map(|name| (name.into(), None))
            .into(),
    }
}

/// The bytes with every checksum made right, so that what lies behind it is reached; `None` where
/// that changes nothing.
fn repaired(kind: Kind, input: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = input.to_vec();
    match kind {
        Kind::Segment => {
            let mut at = 0;
            while let Some(header) = bytes.get(at..at + 61) {
                let length = i32::from_be_bytes(header[8..12].try_into().expect("four bytes"));
                let size = usize::try_from(length).ok().filter(|length| *length >= 49)? + 12;
                let crc = crc32c::crc32c(bytes.get(at + 21..at + size)?);
                bytes[at + 17..at + 21].copy_from_slice(&crc.to_be_bytes());
                at += size;
            }
        }
        Kind::Snapshot => {
            let crc = crc32c::crc32c(bytes.get(6..)?);
            bytes[2..6].copy_from_slice(&crc.to_be_bytes());
        }
        Kind::Identity => {
            let text = input.rsplitn(2, |byte| *byte == b'=').nth(1)?;
            let text = text.strip_suffix(b"checksum").unwrap_or(text);
            bytes = text.to_vec();
            let crc = crc32c::crc32c(&bytes);
            bytes.extend(format!("checksum={crc:08x}\n").into_bytes());
        }
        _ => return None,
    }
    (bytes != input).then_some(bytes)
}

fn run_on(files: Arc<MemoryFiles>, len: usize) {
    let files: Arc<dyn Files> = files;
    bounded(len, || check(&files, 0));
    let Some(end) = bounded(len, || open(&files).map(|log| read(&log.reader()))) else {
        check(&files, DECOMPRESSED_MAX);
        return;
    };
    let Some(mut log) = open(&files) else {
        panic!("a log that was recovered opens again");
    };
    assert_eq!(log.log_end_offset(), end, "a recovery that was done finds nothing more to do");
    look_up(&log.reader());
    // The last batch of the producer once more, and one that is new for certain.
    append(&mut log, &repeated_batch());
    let appended = append(&mut log, &next_batch());
    let end = log.log_end_offset();
    if appended && close(log) {
        let log = open(&files).expect("a log that was closed opens again");
        assert_eq!(log.log_end_offset(), end, "what was appended is kept");
    }
    check(&files, DECOMPRESSED_MAX);
}

/// What is allowed to fail says why.
fn refused(error: &dyn std::fmt::Display) {
    assert!(!error.to_string().is_empty(), "an error says what is wrong");
}

fn check(files: &Arc<dyn Files>, decompressed_max: usize) {
    let mut damaged = 0;
    let outcome = verify(&**files, Path::new(ROOT), decompressed_max, &mut |verified| {
        damaged += verified.damaged;
        verified.damage.iter().for_each(|damage| refused(&damage.reason));
        Ok(())
    });
    outcome.unwrap_or_else(|error| refused(&error));
}

fn open(files: &Arc<dyn Files>) -> Option<Log> {
    let dir = LogDir::open(Arc::clone(files), Path::new(ROOT)).map_err(|error| refused(&error));
    let opened = Log::open(OpenLog {
        dir: Arc::new(dir.ok()?),
        partition: partition(),
        topic_id: TOPIC_ID,
        config: config(),
        now_ms: NOW_MS,
    });
    match opened {
        Ok((log, _)) => Some(log),
        Err(error) => {
            refused(&error);
            None
        }
    }
}

/// Reads all batches; returns the end of the log.
fn read(reader: &LogReader) -> i64 {
    let mut offset = reader.log_start_offset();
    loop {
        let slice = match reader.read(offset, 300, i64::MAX, true) {
            Ok(slice) if !slice.is_empty() => slice,
            Ok(_) => break,
            Err(error) => {
                refused(&error);
                break;
            }
        };
        let before = offset;
        for batch in split(slice.read().expect("the bytes are there")) {
            let Ok(batch) = batch else { break };
            offset = offset.max(batch.next_offset());
        }
        if offset == before {
            // What lies below the recovery point is followed, not checked.
            break;
        }
    }
    reader.log_end_offset()
}

fn look_up(reader: &LogReader) {
    for (from, upper) in [(0, i64::MAX), (0, 1), (7, 9), (i64::MAX, i64::MAX)] {
        let _ = reader.aborted_transactions(from, upper).map_err(|error| refused(&error));
    }
    let show = |found: Result<Option<TimestampAndOffset>, ReadError>| {
        let _ = found.map_err(|error| refused(&error));
    };
    for timestamp in [i64::MIN, -1, 0, NOW_MS, NOW_MS + 55, i64::MAX] {
        show(reader.offset_for_timestamp(timestamp));
    }
    show(reader.max_timestamp());
    for epoch in [-1, 0, 1, 5, i32::MAX] {
        reader.end_offset_for_epoch(epoch);
    }
}

fn append(log: &mut Log, batch: &[u8]) -> bool {
    let leader_epoch = log.latest_epoch().unwrap_or(0);
    let append = LeaderAppend { leader_epoch, now_ms: NOW_MS, origin: Origin::Client };
    let Ok(appended) = log.append_as_leader(batch, append).map_err(|error| refused(&error)) else {
        return false;
    };
    assert!(appended.first_offset <= appended.last_offset, "{appended:?}");
    log.producers().iter().flat_map(|producer| &producer.batches).for_each(|batch| {
        batch.first_sequence();
        batch.first_offset();
    });
    true
}

fn close(log: Log) -> bool {
    let dir = Arc::clone(log.dir());
    let closed = log.close().map_err(|error| refused(&error)).is_ok();
    closed && dir.write_recovery_points().is_ok() && dir.write_log_start_offsets().is_ok()
}

/// The sound files of a kind: what seeds are made of.
pub fn sound_files(kind: Kind) -> Vec<Vec<u8>> {
    let wanted = places(kind, Base::of(kind));
    let is_wanted = |path: &Path| wanted.iter().any(|(name, _)| path == name);
    let all = files_of(kind).into_iter();
    all.filter(|(path, _)| is_wanted(path)).map(|(_, content)| content).collect()
}

/// Every file of the sound log directory, by its path within.
pub fn sound_directory() -> Vec<(PathBuf, Vec<u8>)> {
    files_of(Kind::Segment)
}

fn files_of(kind: Kind) -> Vec<(PathBuf, Vec<u8>)> {
    let all = Base::of(kind).files.all().into_iter();
    let within = |path: PathBuf| path.strip_prefix(ROOT).expect("all lies there").to_owned();
    all.map(|(path, content)| (within(path), content)).collect()
}
