//! Holds a log directory, a partition or one file against `docs/format.md`: everything is read,
//! nothing is changed, recovered or believed. Meant for a directory that no broker runs on.
//!
//! What opening a log repairs without a loss is no damage: an index that is missing or lacks
//! entries, files that an unfinished deletion left.

mod aborted;
mod entries;
mod partition;
mod state;

use std::io;
use std::path::{Path, PathBuf};

use klamm_env::Files;

use crate::checkpoint::{decode_offsets, invalid, read_text};
use crate::dir::{
    CLEAN_MARKER, CLEANER_OFFSETS, Checkpoints, HIGH_WATERMARKS, LOG_STARTS, META, RECOVERY_POINTS,
    REGISTRATION, Reader,
};
use crate::error::LogDirError;
use crate::names::{LEADER_EPOCHS, LOG_SUFFIX, PARTITION_METADATA, TopicPartition, offset_of_file};

use partition::verify_partition;

/// Places that a report names; the rest only count.
const DAMAGE_MAX: usize = 1000;

/// One place that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// Where in the file, in bytes.
    pub position: u64,
    /// What it is.
    pub reason: String,
}

/// What a partition, or a log directory's own files, turned out to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// The directory, or the one file that was asked for.
    pub path: PathBuf,
    /// Segments that were read.
    pub segments: u64,
    /// Batches that were read.
    pub batches: u64,
    /// Records that were read.
    pub records: u64,
    /// What is damaged, at most a thousand places.
    pub damage: Vec<Damage>,
    /// Number of damaged places.
    pub damaged: u64,
}

impl Verified {
    fn of(path: &Path) -> Verified {
        Verified { path: path.to_owned(), ..Verified::default() }
    }

    /// Whether nothing is damaged.
    pub fn is_sound(&self) -> bool {
        self.damaged == 0
    }

    fn add(&mut self, path: &Path, position: u64, reason: impl std::fmt::Display) {
        self.damaged += 1;
        if self.damage.len() < DAMAGE_MAX {
            let (path, reason) = (path.to_owned(), reason.to_string());
            self.damage.push(Damage { path, position, reason });
        }
    }
}

/// What the log directory's checkpoints say of one log.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    recovery_point: Option<i64>,
    log_start_offset: Option<i64>,
    high_watermark: Option<i64>,
}

impl Known {
    fn of(checkpoints: &Checkpoints, partition: &TopicPartition) -> Known {
        Known {
            recovery_point: checkpoints.recovery_points.get(partition).copied(),
            log_start_offset: checkpoints.log_starts.get(partition).copied(),
            high_watermark: checkpoints.high_watermarks.get(partition).copied(),
        }
    }
}

/// Verifies what is at `path` (a log directory, a partition's directory or one of their files) and
/// shows `see` a result for each partition, and one for the log directory's own files. A batch
/// that decompresses to more than `batch_decompressed_bytes_max` counts as damaged.
///
/// # Errors
/// When something cannot be read, is not there, or is nothing of the kind; or as `see`.
pub fn verify(
    files: &dyn Files,
    path: &Path,
    batch_decompressed_bytes_max: usize,
    see: &mut dyn FnMut(Verified) -> io::Result<()>,
) -> io::Result<()> {
    let metadata = files.metadata(path)?.ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("{}: not there", path.display()))
    })?;
    if metadata.is_dir {
        return verify_dir(files, path, batch_decompressed_bytes_max, see);
    }
    // What a file must be is said by those beside it.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut of_file = Verified::of(path);
    verify_dir(
        files,
        parent.unwrap_or(Path::new(".")),
        batch_decompressed_bytes_max,
        &mut |found| {
            of_file.segments += found.segments;
            of_file.batches += found.batches;
            of_file.records += found.records;
            of_file.damage.extend(found.damage);
            Ok(())
        },
    )?;
    let name = path.file_name().unwrap_or_default();
    of_file.damage.retain(|damage| damage.path.file_name() == Some(name));
    of_file.damage.iter_mut().for_each(|damage| damage.path = path.to_owned());
    of_file.damaged = of_file.damage.len() as u64;
    see(of_file)
}

fn verify_dir(
    files: &dyn Files,
    path: &Path,
    batch_decompressed_bytes_max: usize,
    see: &mut dyn FnMut(Verified) -> io::Result<()>,
) -> io::Result<()> {
    let entries = files.list(path)?;
    let is_of_partition = |name: &str| {
        [PARTITION_METADATA, LEADER_EPOCHS].contains(&name)
            || offset_of_file(name, LOG_SUFFIX).is_some()
    };
    if entries.iter().any(|entry| !entry.is_dir && is_of_partition(&entry.name)) {
        return see(verify_partition(
            files,
            path,
            known_of(files, path)?,
            batch_decompressed_bytes_max,
        )?);
    }
    let is_of_log_dir = |name: &str| {
        [META, REGISTRATION, RECOVERY_POINTS, LOG_STARTS, HIGH_WATERMARKS].contains(&name)
            || TopicPartition::from_dir_name(name).is_some()
    };
    if !entries.iter().any(|entry| is_of_log_dir(&entry.name)) {
        return Err(invalid(path, "neither a partition's directory nor a log directory"));
    }
    let mut own = Verified::of(path);
    let checkpoints = verify_own_files(files, path, &mut own)?;
    let partitions: Vec<TopicPartition> = entries
        .iter()
        .filter(|entry| entry.is_dir)
        .filter_map(|entry| TopicPartition::from_dir_name(&entry.name))
        .collect();
    for (partition, offset) in &checkpoints.recovery_points {
        let start = checkpoints.log_starts.get(partition).copied().unwrap_or(0);
        if *offset > start && !partitions.contains(partition) {
            let reason = format!("{partition} has the recovery point {offset} and no directory");
            own.add(&path.join(RECOVERY_POINTS), 0, reason);
        }
    }
    see(own)?;
    for partition in partitions {
        let known = Known::of(&checkpoints, &partition);
        let dir = path.join(partition.dir_name());
        see(verify_partition(files, &dir, known, batch_decompressed_bytes_max)?)?;
    }
    Ok(())
}

/// What the log directory above a partition knows of it, as far as it can be read.
fn known_of(files: &dyn Files, path: &Path) -> io::Result<Known> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let (Some(partition), Some(above)) = (TopicPartition::from_dir_name(name), path.parent())
    else {
        return Ok(Known::default());
    };
    let mut ignored = Verified::default();
    Ok(Known::of(&read_checkpoints(files, above, &mut ignored)?, &partition))
}

fn verify_own_files(files: &dyn Files, path: &Path, own: &mut Verified) -> io::Result<Checkpoints> {
    let reader = Reader { files, path };
    let results = [
        (META, reader.meta().map(drop)),
        (REGISTRATION, reader.registration().map(drop)),
        (CLEAN_MARKER, reader.clean_marker().map(drop)),
    ];
    for (name, result) in results {
        match result {
            Ok(()) => {}
            Err(LogDirError::Io { error, .. }) => return Err(error),
            Err(LogDirError::Damaged { reason, .. }) => own.add(&path.join(name), 0, reason),
            Err(error) => own.add(&path.join(name), 0, error),
        }
    }
    read_checkpoints(files, path, own)
}

fn read_checkpoints(files: &dyn Files, path: &Path, own: &mut Verified) -> io::Result<Checkpoints> {
    let mut offsets = |name: &str| {
        let path = path.join(name);
        let text = match read_text(files, &path) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Some("?".to_owned()),
            other => other?,
        };
        // Apache Kafka makes them empty when it starts.
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return Ok(Default::default());
        };
        Ok::<_, io::Error>(decode_offsets(&text).unwrap_or_else(|| {
            own.add(&path, 0, "not a checkpoint of offsets");
            Default::default()
        }))
    };
    Ok(Checkpoints {
        cleaner_offsets: offsets(CLEANER_OFFSETS)?,
        recovery_points: offsets(RECOVERY_POINTS)?,
        log_starts: offsets(LOG_STARTS)?,
        high_watermarks: offsets(HIGH_WATERMARKS)?,
    })
}
