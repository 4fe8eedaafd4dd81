//! Journal and snapshot on disk.
//!
//! `snapshot-<c>` holds the tree after commit c; `journal-<c>` holds the commits from c on. A snapshot
//! is renamed into place when it is whole, and only then is a new journal begun and what came before
//! removed, so that the newest snapshot and the newest journal always make up the tree.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use klamm_env::files::{OpenMode, is_out_of_descriptors};
use klamm_env::{File, Files};
use thiserror::Error;
use tracing::{info, warn};

use super::format::{self, Kind};
use crate::tree::state::{Change, TreeState};

/// The journal is folded into a snapshot when it is larger than this and than twice the snapshot.
const JOURNAL_BYTES_MIN: u64 = 4 * 1024 * 1024;

/// Why a tree cannot be opened.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The disk fails.
    #[error("cannot read the tree in {}: {source}", path.display())]
    Io {
        /// File or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is there was not written like that.
    #[error("the tree is damaged: {}: {reason}", path.display())]
    Damaged {
        /// File.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Why a commit was not written.
#[derive(Debug, Error)]
pub(super) enum AppendError {
    /// The disk is full and the journal is as it was before.
    #[error("the disk is full")]
    Full,
    /// The process has no descriptor left for a new journal, which holds nothing yet.
    #[error("no descriptor is left")]
    Short,
    /// Unknown how much of it is on disk: nothing can be written any more.
    #[error("{0}")]
    Failed(io::Error),
}

/// The files of one tree.
pub(super) struct Store {
    files: Arc<dyn Files>,
    dir: PathBuf,
    journal: Option<Journal>,
    /// Number of the last commit.
    commit: u64,
    snapshot_len: u64,
    /// Size that the journal must have before the next attempt to fold it.
    fold_at: u64,
}

struct Journal {
    file: Arc<dyn File>,
    len: u64,
    /// Directories whose entries are not durable yet.
    unsynced_dirs: Vec<PathBuf>,
}

impl Store {
    /// Reads what is there; writes nothing but what a crash left half done.
    pub(super) fn open(
        files: Arc<dyn Files>,
        dir: PathBuf,
    ) -> Result<(Store, TreeState), StoreError> {
        let mut store = Store {
            files,
            dir,
            journal: None,
            commit: 0,
            snapshot_len: 0,
            fold_at: JOURNAL_BYTES_MIN,
        };
        let mut state = TreeState::default();
        let present = store.files.metadata(&store.dir).map_err(|e| io_error(&store.dir, e))?;
        if present.is_none() {
            return Ok((store, state));
        }
        let listed = store.list()?;
        if let Some(at) = listed.snapshots.last() {
            store.load_snapshot(*at, &mut state)?;
        }
        if let Some(from) = listed.journals.last() {
            store.load_journal(*from, &mut state)?;
        }
        store.remove_old(&listed);
        Ok((store, state))
    }

    /// Writes one commit and makes it durable.
    pub(super) fn append(&mut self, changes: &[Change]) -> Result<(), AppendError> {
        let commit = self.commit + 1;
        let frame = format::encode(Kind::Journal, commit, changes.iter().cloned())
            .expect("a group of multis is smaller than a frame can be");
        if self.journal.is_none() {
            self.journal = Some(self.begin_journal(commit).map_err(on_create)?);
        }
        let journal = self.journal.as_mut().expect("just begun");
        // Before the frame, so that one which cannot be opened leaves nothing behind.
        while let Some(dir) = journal.unsynced_dirs.last() {
            self.files.sync_dir(dir).map_err(on_open)?;
            journal.unsynced_dirs.pop();
        }
        if let Err(error) = journal.file.write_all_at(&frame, journal.len) {
            return Err(journal.take_back(error));
        }
        journal.file.sync_data().map_err(AppendError::Failed)?;
        journal.len += frame.len() as u64;
        self.commit = commit;
        Ok(())
    }

    /// Whether the journal has outgrown the snapshot.
    pub(super) fn is_overgrown(&self) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.len > self.fold_at)
    }

    /// Folds the journal into a snapshot of `state`, which holds exactly what was appended. Failing
    /// does no harm: the journal goes on.
    pub(super) fn compact(&mut self, state: &TreeState) {
        match self.fold(state) {
            Ok(()) => info!(commit = self.commit, bytes = self.snapshot_len, "tree folded"),
            Err(error) => {
                let grown = self.journal.as_ref().map_or(0, |journal| journal.len);
                self.fold_at = grown.saturating_mul(2);
                warn!(%error, "the tree's journal could not be folded; it goes on growing");
            }
        }
    }

    fn fold(&mut self, state: &TreeState) -> io::Result<()> {
        let bytes = format::encode(Kind::Snapshot, self.commit, state.persistent())
            .ok_or_else(|| io::Error::other("the tree is larger than a snapshot can be"))?;
        let draft = self.dir.join("snapshot.draft");
        let file = self.files.open(&draft, OpenMode::Create)?;
        file.set_len(0)?;
        file.write_all_at(&bytes, 0)?;
        file.sync_data()?;
        self.files.rename(&draft, &self.snapshot_path(self.commit))?;
        self.files.sync_dir(&self.dir)?;
        self.snapshot_len = bytes.len() as u64;
        self.fold_at = JOURNAL_BYTES_MIN.max(2 * self.snapshot_len);
        // From here on the old journal is not needed; the next commit begins a new one.
        self.journal = None;
        if let Ok(listed) = self.list() {
            self.remove_old(&listed);
        }
        Ok(())
    }

    fn begin_journal(&self, commit: u64) -> io::Result<Journal> {
        let mut unsynced_dirs = Vec::new();
        if self.files.metadata(&self.dir)?.is_none() {
            self.files.create_dir_all(&self.dir)?;
            unsynced_dirs.extend(self.dir.parent().map(Path::to_owned));
        }
        unsynced_dirs.push(self.dir.clone());
        let path = self.journal_path(commit);
        // A first write that failed for want of space has left an empty file.
        let file = self.files.open(&path, OpenMode::Create)?;
        file.set_len(0)?;
        Ok(Journal { file, len: 0, unsynced_dirs })
    }

    fn load_snapshot(&mut self, at: u64, state: &mut TreeState) -> Result<(), StoreError> {
        let path = self.snapshot_path(at);
        let (_, bytes) = self.read(&path)?;
        let frame = format::decode(Kind::Snapshot, &bytes)
            .filter(|frame| frame.commit == at && frame.len == bytes.len())
            .ok_or_else(|| damaged(&path, "the snapshot is not whole".to_owned()))?;
        for change in frame.changes {
            state.restore(change).map_err(|reason| damaged(&path, reason))?;
        }
        self.commit = at;
        self.snapshot_len = bytes.len() as u64;
        self.fold_at = JOURNAL_BYTES_MIN.max(2 * self.snapshot_len);
        Ok(())
    }

    /// Replays a journal, cuts a tail that was never acknowledged, and makes durable what it keeps.
    fn load_journal(&mut self, from: u64, state: &mut TreeState) -> Result<(), StoreError> {
        let path = self.journal_path(from);
        if from > self.commit + 1 {
            let reason =
                format!("it begins at commit {from}, but the tree ends at {}", self.commit);
            return Err(damaged(&path, reason));
        }
        let (file, bytes) = self.read(&path)?;
        let mut end = 0;
        let mut expected = from;
        while let Some(frame) = format::decode(Kind::Journal, &bytes[end..]) {
            if frame.commit != expected {
                let reason = format!("commit {} stands where {expected} belongs", frame.commit);
                return Err(damaged(&path, reason));
            }
            if frame.commit > self.commit {
                for change in frame.changes {
                    state.restore(change).map_err(|reason| damaged(&path, reason))?;
                }
                self.commit = frame.commit;
            }
            end += frame.len;
            expected += 1;
        }
        self.refuse_damage(&path, &bytes[end..], end)?;
        if expected <= self.commit {
            // All of it is older than the snapshot: the next commit begins a new journal.
            return Ok(());
        }
        let len = end as u64;
        if end < bytes.len() {
            warn!(file = %path.display(), at = end, bytes = bytes.len() - end,
                "cutting the unfinished end of the tree's journal");
            file.set_len(len).map_err(|e| io_error(&path, e))?;
        }
        // Where an earlier process's sync failed, pages that never reached the disk are marked clean:
        // syncing what was merely read back would prove nothing (R23).
        file.write_all_at(&bytes[..end], 0).map_err(|e| io_error(&path, e))?;
        file.sync_data().map_err(|e| io_error(&path, e))?;
        // A crash may have come between the journal's first sync and that of its name.
        let unsynced_dirs =
            self.dir.parent().map(Path::to_owned).into_iter().chain([self.dir.clone()]).collect();
        self.journal = Some(Journal { file, len, unsynced_dirs });
        Ok(())
    }

    /// A crash can only spoil the last frame: a whole one behind the damage means that the disk has
    /// lost something that it had confirmed.
    fn refuse_damage(&self, path: &Path, rest: &[u8], at: usize) -> Result<(), StoreError> {
        if format::holds_frame_after(Kind::Journal, rest, self.commit) {
            let lost = self.commit + 1;
            let reason =
                format!("commit {lost} at byte {at} is unreadable, but later commits follow it");
            return Err(damaged(path, reason));
        }
        if at == 0 && !format::may_be_torn(Kind::Journal, rest) {
            return Err(damaged(path, "it is no journal of a tree".to_owned()));
        }
        Ok(())
    }

    fn read(&self, path: &Path) -> Result<(Arc<dyn File>, Vec<u8>), StoreError> {
        let read = || {
            let file = self.files.open(path, OpenMode::ReadWrite)?;
            let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
            let mut bytes = Vec::new();
            bytes.try_reserve_exact(len).map_err(io::Error::other)?;
            bytes.resize(len, 0);
            file.read_exact_at(&mut bytes, 0)?;
            Ok((file, bytes))
        };
        read().map_err(|error| io_error(path, error))
    }

    fn list(&self) -> Result<Listed, StoreError> {
        let entries = self.files.list(&self.dir).map_err(|e| io_error(&self.dir, e))?;
        let numbered = |prefix: &str| {
            let number = |name: &str| name.strip_prefix(prefix)?.parse::<u64>().ok();
            let mut numbers: Vec<u64> =
                entries.iter().filter_map(|entry| number(&entry.name)).collect();
            numbers.sort_unstable();
            numbers
        };
        Ok(Listed { snapshots: numbered("snapshot-"), journals: numbered("journal-") })
    }

    /// Removes what a newer snapshot or journal has replaced. What stays is removed another time.
    fn remove_old(&self, listed: &Listed) {
        let newest = |numbers: &[u64]| numbers.last().copied();
        let snapshot = newest(&listed.snapshots);
        let journal = if self.journal.is_some() { newest(&listed.journals) } else { None };
        let old_snapshots = listed
            .snapshots
            .iter()
            .filter(|at| Some(**at) != snapshot)
            .map(|at| self.snapshot_path(*at));
        let old_journals = listed
            .journals
            .iter()
            .filter(|from| Some(**from) != journal && snapshot.is_some_and(|at| **from <= at))
            .map(|from| self.journal_path(*from));
        for path in old_snapshots.chain(old_journals) {
            if let Err(error) = self.files.remove_file(&path) {
                warn!(%error, file = %path.display(), "an old file of the tree stays");
            }
        }
    }

    fn snapshot_path(&self, commit: u64) -> PathBuf {
        self.dir.join(format!("snapshot-{commit:020}"))
    }

    fn journal_path(&self, commit: u64) -> PathBuf {
        self.dir.join(format!("journal-{commit:020}"))
    }
}

impl Journal {
    /// After a failed write: a full disk is survived if the journal can be cut back.
    fn take_back(&self, error: io::Error) -> AppendError {
        if is_full(&error) && self.file.set_len(self.len).is_ok() {
            return AppendError::Full;
        }
        AppendError::Failed(error)
    }
}

fn on_create(error: io::Error) -> AppendError {
    if is_full(&error) { AppendError::Full } else { on_open(error) }
}

fn on_open(error: io::Error) -> AppendError {
    if is_out_of_descriptors(&error) { AppendError::Short } else { AppendError::Failed(error) }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

struct Listed {
    snapshots: Vec<u64>,
    journals: Vec<u64>,
}

fn io_error(path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { path: path.to_owned(), source }
}

fn damaged(path: &Path, reason: String) -> StoreError {
    StoreError::Damaged { path: path.to_owned(), reason }
}
