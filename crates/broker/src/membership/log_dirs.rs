//! The broker's log directories: opened, and what they remember of earlier registrations.

use std::path::PathBuf;
use std::sync::Arc;

use klamm_cluster::restart::{self, FoundDir, Pair};
use klamm_env::threads::run_blocking;
use klamm_env::{Env, Files};
use klamm_log::{DirRegistration, LogDir, LogDirError, OpenFiles, RegisteredPair, uuid_to_base64};
use uuid::Uuid;

use super::MembershipError;
use crate::config::BrokerConfig;

/// Descriptors that event loops, locks, the tree and a few connections need.
const DESCRIPTORS_OWN: u64 = 48;
/// Open segment files where neither the configuration nor the system says less.
const OPEN_FILES_DEFAULT_MAX: usize = 65_536;

pub(super) async fn open_log_dirs(
    env: &Env,
    config: &BrokerConfig,
) -> Result<Vec<Arc<LogDir>>, MembershipError> {
    let paths: Vec<PathBuf> = config.data_dirs().into_iter().map(PathBuf::from).collect();
    let files = Arc::clone(&env.files);
    let open_files = Arc::new(OpenFiles::new(open_files_max(&*env.files, config)));
    let opened = run_blocking(&*env.threads, move || {
        let open = |path: &PathBuf| {
            let dir = LogDir::open(Arc::clone(&files), path)?;
            Ok(Arc::new(dir.with_open_files(Arc::clone(&open_files))))
        };
        paths.iter().map(open).collect::<Result<Vec<_>, LogDirError>>()
    });
    Ok(opened.await?)
}

/// Half of the descriptors is left to connections and to the files that are written to.
fn open_files_max(files: &dyn Files, config: &BrokerConfig) -> usize {
    let limit = files.raise_descriptor_limit();
    if let Ok(given @ 1..) = usize::try_from(config.log_open_files_max) {
        return given;
    }
    let half =
        limit.and_then(|limit| usize::try_from(limit.saturating_sub(DESCRIPTORS_OWN) / 2).ok());
    half.unwrap_or(OPEN_FILES_DEFAULT_MAX).clamp(1, OPEN_FILES_DEFAULT_MAX)
}

/// For a tree that is empty: what the directories say already, or a new one.
pub(super) fn new_cluster_id(env: &Env, dirs: &[Arc<LogDir>]) -> String {
    let known = dirs.iter().find_map(|dir| dir.found().meta.as_ref());
    known.map_or_else(|| uuid_to_base64(env.random.uuid()), |meta| meta.cluster_id.clone())
}

/// What the directory remembers of the registration that the tree shows.
pub(super) fn known(dir: &LogDir, in_tree: Pair) -> Option<&DirRegistration> {
    registrations(dir).find(|known| pair_of(known.pair) == in_tree)
}

fn registrations(dir: &LogDir) -> impl Iterator<Item = &DirRegistration> {
    let found = dir.found().registration.as_ref();
    found.into_iter().flat_map(|found| [&found.registered, &found.attempted]).flatten()
}

pub(super) fn earlier_incarnations(dirs: &[Arc<LogDir>]) -> Vec<Uuid> {
    dirs.iter().flat_map(|dir| registrations(dir)).map(|known| known.pair.incarnation).collect()
}

fn pair_of(pair: RegisteredPair) -> Pair {
    Pair { epoch: pair.broker_epoch, incarnation: pair.incarnation }
}

/// What restarts are judged by, from the files as they were found.
pub(super) fn found(dir: &LogDir) -> FoundDir {
    let found = dir.found();
    let registration = found.registration.clone().unwrap_or_default();
    let of = |known: DirRegistration| restart::DirRegistration {
        pair: pair_of(known.pair),
        dirs: known.directories,
        boot_id: known.boot_id,
    };
    FoundDir {
        id: found.meta.as_ref().map(|meta| meta.directory_id),
        registered: registration.registered.map(of),
        attempted: registration.attempted.map(of),
        clean_marker: found.clean_marker.map(pair_of),
        missing_data: !found.missing.is_empty(),
        io_error: found.offline_boot_id.as_deref() == Some(dir.boot_id()),
    }
}
