//! The bound on open segment files.
//!
//! A log of many segments must not hold a descriptor for each. Files that were opened to be read are
//! kept here, and the least recently used one is closed when another needs its place. Two kinds are
//! never closed, so that the bound can be exceeded by them:
//!
//! - What a read or a send is using: closing it would free nothing.
//! - What is not synced yet: a file that is closed forgets its write-back error (hazard 83). Such
//!   files belong to the log, which hands them over only when a checkpoint has made them durable.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::{ArcSwapOption, Guard};
use klamm_env::Files;
use klamm_env::files::{File, out_of_descriptors};

/// Files in use that one opening passes over in its search for one to close.
const PASSED_OVER_MAX: usize = 64;

/// Descriptors that logs leave to what is open only for a moment: checkpoints, syncs of directories, and
/// recovery. A log without them could let go of nothing: a complete segment stays open until a
/// checkpoint.
pub const DESCRIPTORS_SPARE: u64 = 16;

/// Whether so few descriptors are left that nothing may be opened that stays open.
pub(crate) fn is_short(files: &dyn Files) -> bool {
    files.descriptors_left().is_some_and(|left| left <= DESCRIPTORS_SPARE)
}

/// Closes files that are only kept for readers until one that stays open may be opened.
pub(crate) fn make_room(files: &dyn Files, open_files: &OpenFiles) -> io::Result<()> {
    while is_short(files) {
        if !open_files.close_one() {
            return Err(out_of_descriptors());
        }
    }
    Ok(())
}

/// Segment files that are open for reading; shared by the logs of a process.
pub struct OpenFiles {
    max: usize,
    /// Openings so far: the time by which use is measured. Reads of open files only look at it.
    openings: AtomicU64,
    known: Mutex<Known>,
}

/// Open files by when they were used, as far as that was looked at.
type Known = BTreeMap<(u64, u64), Weak<Slot>>;

impl OpenFiles {
    /// Files kept open where nobody says otherwise.
    pub const DEFAULT_MAX: usize = 1024;

    /// Keeps up to `max` files open, and those in use.
    pub fn new(max: usize) -> OpenFiles {
        OpenFiles { max, openings: AtomicU64::new(0), known: Mutex::default() }
    }

    /// Files that are open, apart from those that belong to the logs.
    pub fn count(&self) -> usize {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Makes room for one more and takes note of `slot`.
    ///
    /// With `short`, room is made by closing another one, however few there are.
    fn admit(&self, slot: &Arc<Slot>, short: bool) {
        let now = self.openings.fetch_add(1, Ordering::Relaxed) + 1;
        // Dropped after the lock is released: closing takes time, and a slot takes the lock.
        let mut closed = Closed::default();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        slot.used.store(now, Ordering::Relaxed);
        if slot.place.load(Ordering::Relaxed) != NO_PLACE {
            return;
        }
        let max = if short { self.max.min(known.len()) } else { self.max };
        close_down_to(&mut known, max, now, &mut closed);
        slot.place.store(now, Ordering::Relaxed);
        known.insert((now, slot.id), Arc::downgrade(slot));
        drop(known);
    }

    /// Closes a file that is not in use; false where there is none.
    fn close_one(&self) -> bool {
        let now = self.openings.fetch_add(1, Ordering::Relaxed) + 1;
        let mut closed = Closed::default();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let count = known.len();
        close_down_to(&mut known, count, now, &mut closed);
        let fewer = known.len() < count;
        drop(known);
        fewer
    }

    /// Puts what was opened for `slot` there, unless another reader did so meanwhile.
    fn install(&self, slot: &Arc<Slot>, opened: Arc<dyn File>) -> Arc<Handle> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = slot.open.load_full() {
            return handle;
        }
        if slot.place.load(Ordering::Relaxed) == NO_PLACE {
            // Another reader could not open it and took it out.
            let now = slot.used.load(Ordering::Relaxed);
            slot.place.store(now, Ordering::Relaxed);
            known.insert((now, slot.id), Arc::downgrade(slot));
        }
        let handle = Arc::new(Handle(opened));
        slot.open.store(Some(Arc::clone(&handle)));
        handle
    }

    /// Takes out a slot that is not open.
    fn forget(&self, slot: &Slot) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if slot.open.load().is_none() {
            let place = slot.place.swap(NO_PLACE, Ordering::Relaxed);
            known.remove(&(place, slot.id));
        }
    }
}

impl Default for OpenFiles {
    fn default() -> OpenFiles {
        OpenFiles::new(OpenFiles::DEFAULT_MAX)
    }
}

impl std::fmt::Debug for OpenFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenFiles").field("max", &self.max).finish_non_exhaustive()
    }
}

/// What is dropped when no lock is held.
#[derive(Default)]
struct Closed {
    handles: Vec<Option<Arc<Handle>>>,
    slots: Vec<Arc<Slot>>,
}

/// Closes files that are not in use, least recently used first, until fewer than `max` are left.
fn close_down_to(known: &mut Known, max: usize, now: u64, closed: &mut Closed) {
    let mut passed_over = 0;
    while known.len() >= max && passed_over < PASSED_OVER_MAX {
        let Some(((place, id), weak)) = known.pop_first() else {
            break;
        };
        let Some(oldest) = weak.upgrade() else {
            continue;
        };
        let used = oldest.used.load(Ordering::Relaxed);
        if used > place {
            oldest.place.store(used, Ordering::Relaxed);
            known.insert((used, id), weak);
        } else if oldest.is_in_use() {
            passed_over += 1;
            oldest.used.store(now, Ordering::Relaxed);
            oldest.place.store(now, Ordering::Relaxed);
            known.insert((now, id), weak);
        } else {
            oldest.place.store(NO_PLACE, Ordering::Relaxed);
            closed.handles.push(oldest.open.swap(None));
        }
        closed.slots.push(oldest);
    }
}

/// Stands for a slot that the cache does not know.
const NO_PLACE: u64 = u64::MAX;

/// An open file. Who holds it keeps it open.
#[derive(Debug)]
pub(crate) struct Handle(pub(crate) Arc<dyn File>);

/// Where the open file of one path is, while it is open.
pub(crate) struct Slot {
    cache: Arc<OpenFiles>,
    id: u64,
    open: ArcSwapOption<Handle>,
    /// The opening that was the last one when it was last used.
    used: AtomicU64,
    /// Its first key in the cache; changes under the cache's lock.
    place: AtomicU64,
}

impl Slot {
    pub(crate) fn new(cache: &Arc<OpenFiles>, handle: Option<Arc<dyn File>>) -> Arc<Slot> {
        Arc::new(Slot {
            id: cache.openings.fetch_add(1, Ordering::Relaxed),
            cache: Arc::clone(cache),
            open: ArcSwapOption::new(handle.map(|handle| Arc::new(Handle(handle)))),
            used: AtomicU64::new(0),
            place: AtomicU64::new(NO_PLACE),
        })
    }

    /// The file, if it is open.
    pub(crate) fn get_open(&self) -> Option<Guard<Option<Arc<Handle>>>> {
        let opened = self.open.load();
        if opened.is_none() {
            return None;
        }
        let now = self.cache.openings.load(Ordering::Relaxed);
        if self.used.load(Ordering::Relaxed) != now {
            self.used.store(now, Ordering::Relaxed);
        }
        Some(opened)
    }

    /// The open file, opened where it is not.
    pub(crate) fn get(
        self: &Arc<Slot>,
        short: bool,
        open: impl FnOnce() -> io::Result<Arc<dyn File>>,
    ) -> io::Result<Guard<Option<Arc<Handle>>>> {
        if let Some(opened) = self.get_open() {
            return Ok(opened);
        }
        self.cache.admit(self, short);
        let handle = open().inspect_err(|_| self.cache.forget(self))?;
        Ok(Guard::from_inner(Some(self.cache.install(self, handle))))
    }

    /// The log lets go of the file, which is durable: the cache may close it from now on.
    pub(crate) fn hand_over(self: &Arc<Slot>) {
        if self.open.load().is_some() && self.place.load(Ordering::Relaxed) == NO_PLACE {
            self.cache.admit(self, false);
        }
    }

    fn is_in_use(&self) -> bool {
        // The one of the slot, and the one that is looked at here.
        match self.open.load_full() {
            Some(handle) => Arc::strong_count(&handle) > 2 || Arc::strong_count(&handle.0) > 1,
            None => true,
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if *self.place.get_mut() != NO_PLACE {
            self.open.store(None);
            self.cache.forget(self);
        }
    }
}
