//! Putting a rewritten segment in the place of those that it was made from.
//!
//! The name `<base>.log.swap` decides: before it is durable the old segments count, after it the
//! new one. Whatever part of the steps behind it a crash leaves, opening the log finishes them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use klamm_env::files::OpenMode;

use super::pass::CleaningError;
use super::rewrite::cleaned_path;
use crate::dir::LogDir;
use crate::files::{Place, SegmentFile};
use crate::log::{Log, is_full};
use crate::names::{
    INDEX_SUFFIX, LOG_SUFFIX, SWAP_FILE_SUFFIX, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX, offset_of_file,
};
use crate::segment::{HeaderScan, Segment};

/// The lock that a log is under.
pub trait LogLock {
    /// Runs `work` on the log, under the lock; false where there is no log any more.
    fn with_log(&self, work: &mut dyn FnMut(&mut Log)) -> bool;
}

/// Segments and the one that is to take their place, which is on stable storage.
pub struct Cleaned {
    pub(super) dir: Arc<LogDir>,
    pub(super) place: Place,
    pub(super) generation: u64,
    pub(super) old: Vec<Arc<Segment>>,
    pub(super) new: Segment,
}

impl Cleaned {
    /// Puts the new segment in the place of the old ones, for readers and for good.
    ///
    /// # Errors
    /// When the log is no longer what it was, or the disk fails.
    pub fn swap_in(self, lock: &dyn LogLock) -> Result<(), CleaningError> {
        let Cleaned { dir, place, generation, old, new } = self;
        let swap = Swap { dir, place, old, new: Arc::new(new) };
        let mut begun = false;
        lock.with_log(&mut |log| begun = log.begin_swap(&swap, generation));
        if !begun {
            return Err(CleaningError::Cancelled);
        }
        if let Err(error) = swap.prepare() {
            // Nothing has begun; whoever called judges the error.
            lock.with_log(&mut |log| log.end_swap(&swap));
            return Err(error.into());
        }
        let shown = swap.commit().inspect(|()| {
            lock.with_log(&mut |log| log.show_cleaned(&swap));
        });
        let done = shown.and_then(|()| swap.finish());
        lock.with_log(&mut |log| log.end_swap(&swap));
        done.map_err(|error| {
            if !is_full(&error) {
                swap.dir.take_offline(&error.to_string());
            }
            error.into()
        })
    }
}

struct Swap {
    dir: Arc<LogDir>,
    place: Place,
    old: Vec<Arc<Segment>>,
    new: Arc<Segment>,
}

impl Swap {
    /// What has to be done before.
    fn prepare(&self) -> io::Result<()> {
        // Who still reads the old segment of this name must not open the new one instead.
        self.old[0].keep_open()?;
        // The batches of producers between the stored recovery point and the one that was reached
        // are needed to know the producers.
        self.dir.write_recovery_points()
    }

    /// Makes the new segment the one that counts.
    fn commit(&self) -> io::Result<()> {
        let base = self.new.base_offset;
        let cleaned = cleaned_path(&self.place, base, LOG_SUFFIX);
        self.place.files.rename(&cleaned, &swap_path(&self.place, base))?;
        self.dir.sync_folder(&self.place.dir)
    }

    /// Removes the old files and gives the new ones their names.
    fn finish(&self) -> io::Result<()> {
        let Swap { dir, place, new, .. } = self;
        remove_others(place, self.old[1..].iter().map(|segment| segment.base_offset))?;
        for suffix in [INDEX_SUFFIX, TIME_INDEX_SUFFIX] {
            let path = place.segment_path(new.base_offset, suffix);
            place.files.rename(&cleaned_path(place, new.base_offset, suffix), &path)?;
        }
        let path = place.segment_path(new.base_offset, TXN_INDEX_SUFFIX);
        match new.aborted().len() {
            0 => place.remove(&path)?,
            _ => {
                let cleaned = cleaned_path(place, new.base_offset, TXN_INDEX_SUFFIX);
                place.files.rename(&cleaned, &path)?;
            }
        }
        rename_swap(place, new.base_offset, |folder| dir.sync_folder(folder))
    }
}

/// The name that decides.
fn swap_path(place: &Place, base: i64) -> PathBuf {
    let mut path = place.segment_path(base, LOG_SUFFIX).into_os_string();
    path.push(SWAP_FILE_SUFFIX);
    path.into()
}

fn remove_others(place: &Place, bases: impl Iterator<Item = i64>) -> io::Result<()> {
    for base in bases {
        for suffix in [LOG_SUFFIX, INDEX_SUFFIX, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX] {
            place.remove(&place.segment_path(base, suffix))?;
        }
    }
    Ok(())
}

/// The last step; what was done before is durable first.
fn rename_swap(place: &Place, base: i64, sync: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    sync(&place.dir)?;
    place.files.rename(&swap_path(place, base), &place.segment_path(base, LOG_SUFFIX))?;
    sync(&place.dir)
}

/// Whether a file of this name waits for [`finish_swap`].
pub(crate) fn is_part_of_swap(name: &str) -> Option<i64> {
    offset_of_file(name.strip_suffix(SWAP_FILE_SUFFIX)?, LOG_SUFFIX)
}

/// Finishes a swap that a crash cut short: the new segment, up to where its batches end, takes the
/// place of those in `bases`. Its indexes are built anew when they are needed, that of aborted
/// transactions when the log is opened.
pub(crate) fn finish_swap(place: &Place, base: i64, bases: &[i64]) -> io::Result<()> {
    let path = swap_path(place, base);
    let handle = place.files.open(&path, OpenMode::Read)?;
    let len = handle.len()?;
    let file = SegmentFile::opened(place, base, LOG_SUFFIX, handle);
    let mut end = base;
    let mut scan = HeaderScan::new(&file, 0, len);
    while let Some((_, header)) = scan.next()? {
        end = header.next_offset();
    }
    tracing::info!(path = %path.display(), end, "a swap of cleaned segments is finished");
    remove_others(place, bases.iter().copied().filter(|other| base < *other && *other < end))?;
    for suffix in [INDEX_SUFFIX, TIME_INDEX_SUFFIX, TXN_INDEX_SUFFIX] {
        place.remove(&place.segment_path(base, suffix))?;
    }
    rename_swap(place, base, |folder| place.files.sync_dir(folder))
}

impl Log {
    /// Whether the old segments are still the log's; nothing is truncated or deleted from now on.
    fn begin_swap(&mut self, swap: &Swap, generation: u64) -> bool {
        let known = self.place_in_view(&swap.old).is_some();
        let may = known
            && !self.swapping
            && generation == self.sync.generation()
            && self.check_online().is_ok();
        self.swapping |= may;
        may
    }

    fn place_in_view(&self, segments: &[Arc<Segment>]) -> Option<usize> {
        let view = self.shared.view.load();
        let same = |(a, b): (&Arc<Segment>, &Arc<Segment>)| Arc::ptr_eq(&a.file, &b.file);
        let at = view.segments.iter().position(|known| same((known, &segments[0])))?;
        let known = view.segments.get(at..at + segments.len())?;
        known.iter().zip(segments).all(same).then_some(at)
    }

    fn show_cleaned(&mut self, swap: &Swap) {
        if let Some(at) = self.place_in_view(&swap.old) {
            let mut segments = self.shared.view.load().segments.clone();
            segments.splice(at..at + swap.old.len(), [Arc::clone(&swap.new)]);
            self.swap_view(segments);
        }
    }

    /// Lets go of the new segment's indexes in memory, which are in their files now.
    fn end_swap(&mut self, swap: &Swap) {
        self.swapping = false;
        if let Some(at) = self.place_in_view(std::slice::from_ref(&swap.new)) {
            let mut segments = self.shared.view.load().segments.clone();
            segments[at] = Arc::new(swap.new.with_index_files(&self.place));
            self.swap_view(segments);
        }
    }
}

impl std::fmt::Debug for Cleaned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cleaned")
            .field("base_offset", &self.new.base_offset)
            .finish_non_exhaustive()
    }
}
