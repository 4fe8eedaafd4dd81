//! What a broker still has after a restart (R2): judged once per process, from the files of the log
//! directories as found before any write. Pure.

use klamm_env::rules::Rule;
use thiserror::Error;
use uuid::Uuid;

use crate::nodes::broker::EpochNode;
use crate::nodes::topic::FlushClass;

/// One registration of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Broker epoch.
    pub epoch: i64,
    /// The process.
    pub incarnation: Uuid,
}

impl From<&EpochNode> for Pair {
    fn from(node: &EpochNode) -> Pair {
        Pair { epoch: node.epoch, incarnation: node.incarnation }
    }
}

/// A registration as a directory remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirRegistration {
    /// Which one.
    pub pair: Pair,
    /// The UUIDs of all log directories that belonged to it.
    pub dirs: Vec<Uuid>,
    /// The boot of the machine that it was tried in.
    pub boot_id: String,
}

/// What was found in one log directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundDir {
    /// Its UUID; `None`: new and empty.
    pub id: Option<Uuid>,
    /// The last registration that it knows to have succeeded.
    pub registered: Option<DirRegistration>,
    /// The last one that was tried; later than `registered` where a process died in between.
    pub attempted: Option<DirRegistration>,
    /// The registration in the clean marker.
    pub clean_marker: Option<Pair>,
    /// Something is missing below a recovery point.
    pub missing_data: bool,
    /// Taken offline by an I/O error within this boot (R23).
    pub io_error: bool,
}

/// How much of what the last registration confirmed is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// There was no registration before.
    First,
    /// Stopped in order: everything.
    Clean,
    /// The page cache survived, as after kill -9: everything.
    IntactSameBoot,
    /// The disks are those of the last registration: everything that was synced.
    Intact,
    /// A disk is missing, wiped or damaged: nothing can be relied upon.
    Unsound,
}

impl Restart {
    /// Whether a partition of class `flush` still has all that it confirmed.
    pub fn is_sound(self, flush: FlushClass) -> bool {
        match self {
            Restart::First | Restart::Clean | Restart::IntactSameBoot => true,
            Restart::Intact => flush == FlushClass::Acked,
            Restart::Unsound => false,
        }
    }
}

/// The verdict on a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// How much is left.
    pub restart: Restart,
    /// Directories of the last registration that were not found.
    pub missing_dirs: Vec<Uuid>,
    /// Whether a directory of the last registration is missing, known by name or not.
    pub log_dir_missing: bool,
}

/// Why a broker must not start.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RestartRefusal {
    /// The files know a registration that the tree does not.
    #[error(
        "a log directory remembers broker epoch {on_disk}, but the tree only knows {in_tree}: the \
         tree is older than the disk; restore the newer tree, or start with empty log directories"
    )]
    TreeOlderThanDisk {
        /// Highest epoch in the files.
        on_disk: i64,
        /// Epoch in the tree; 0: the broker never registered there.
        in_tree: i64,
    },
}

/// Judges a restart from what was `found`, the broker's last registration in the tree and this boot.
///
/// # Errors
/// [`RestartRefusal`]: the broker must not start.
pub fn judge(
    found: &[FoundDir],
    in_tree: Option<Pair>,
    boot_id: &str,
) -> Result<Judgement, RestartRefusal> {
    refuse_older_tree(found, in_tree)?;
    let Some(last) = in_tree else {
        let none = Vec::new();
        return Ok(Judgement {
            restart: Restart::First,
            missing_dirs: none,
            log_dir_missing: false,
        });
    };
    let of_last: Vec<(&FoundDir, &DirRegistration)> =
        found.iter().filter_map(|dir| Some((dir, registration_of(dir, last)?))).collect();
    let mut missing_dirs: Vec<Uuid> =
        of_last.iter().flat_map(|(_, registration)| registration.dirs.iter().copied()).collect();
    missing_dirs.sort_unstable();
    missing_dirs.dedup();
    missing_dirs.retain(|id| !of_last.iter().any(|(dir, _)| dir.id == Some(*id)));
    let log_dir_missing = of_last.is_empty() || !missing_dirs.is_empty();
    let restart = if log_dir_missing || of_last.iter().any(|(dir, _)| dir.missing_data) {
        Restart::Unsound
    } else if of_last.iter().all(|(dir, _)| dir.clean_marker == Some(last)) {
        Restart::Clean
    } else if of_last.iter().all(|(dir, registration)| survived(dir, registration, boot_id)) {
        Restart::IntactSameBoot
    } else {
        Restart::Intact
    };
    Ok(Judgement { restart, missing_dirs, log_dir_missing })
}

/// The directory's memory of registration `last`, from whichever of its pairs the tree confirms.
fn registration_of(dir: &FoundDir, last: Pair) -> Option<&DirRegistration> {
    [&dir.registered, &dir.attempted].into_iter().flatten().find(|known| known.pair == last)
}

/// Whether what was only in the page cache is still there.
fn survived(dir: &FoundDir, registration: &DirRegistration, boot_id: &str) -> bool {
    !dir.io_error && !boot_id.is_empty() && registration.boot_id == boot_id
}

fn refuse_older_tree(found: &[FoundDir], in_tree: Option<Pair>) -> Result<(), RestartRefusal> {
    let in_tree = in_tree.map_or(0, |pair| pair.epoch);
    let known = found.iter().flat_map(|dir| {
        let registered = dir.registered.as_ref().map(|registration| registration.pair.epoch);
        // An attempt is one ahead until it succeeds.
        let attempted = dir.attempted.as_ref().map(|registration| registration.pair.epoch - 1);
        [registered, attempted, dir.clean_marker.map(|pair| pair.epoch)]
    });
    match known.flatten().max() {
        Some(on_disk) if on_disk > in_tree => {
            Err(RestartRefusal::TreeOlderThanDisk { on_disk, in_tree })
        }
        _ => Ok(()),
    }
}

/// The broker's next registration, after its `last` one and a restart as judged.
pub fn next_epoch(last: Option<&EpochNode>, incarnation: Uuid, restart: Restart) -> EpochNode {
    let prev_epoch = last.map_or(0, |last| last.epoch);
    let epoch = prev_epoch + 1;
    let since = |flush, before: fn(&EpochNode) -> i64| match last {
        Some(last) if restart.is_sound(flush) || !Rule::R3.holds() => before(last),
        _ => epoch,
    };
    EpochNode {
        epoch,
        incarnation,
        prev_epoch,
        clean_since: since(FlushClass::Os, |last| last.clean_since),
        intact_since: since(FlushClass::Acked, |last| last.intact_since),
        shutting_down: false,
    }
}

/// The next registration of a process that never stopped: sound for every class.
pub fn next_epoch_of_running(last: &EpochNode) -> EpochNode {
    next_epoch(Some(last), last.incarnation, Restart::Clean)
}

#[cfg(test)]
mod tests;
