//! Where the tree lives, and the move of a tree of one's own into the ensemble.

use std::sync::Arc;

use klamm_cluster::moving::{MoveError, move_tree};
use klamm_cluster::tree::embedded::EmbeddedHome;
use klamm_cluster::tree::zookeeper::ZooKeeperHome;
use klamm_cluster::tree::{Home, Tree};
use klamm_env::threads::run_blocking;
use klamm_env::{Env, Loop};
use klamm_log::LogDir;
use tracing::info;

use super::{HomeFactory, MembershipError, ensemble};
use crate::config::BrokerConfig;

/// The folder of the embedded tree, in the first log directory.
const TREE_DIR: &str = "klamm.tree";
/// The same, once its content is in an ensemble.
const MOVED_TREE_DIR: &str = "klamm.tree.moved";

/// Where the tree lives: in the ensemble if one is named, in a file otherwise.
pub(super) async fn open_home(
    env: &Env,
    config: &BrokerConfig,
    broker_id: i32,
    log_dirs: &[Arc<LogDir>],
    control: &Loop,
    homes: Option<&dyn HomeFactory>,
) -> Result<Arc<dyn Home>, MembershipError> {
    let Some(connect) = &config.zookeeper_connect else {
        let dir = log_dirs[0].path().join(TREE_DIR);
        return Ok(Arc::new(EmbeddedHome::open(env, dir, control).await?));
    };
    if let Some(homes) = homes {
        return Ok(homes.home(control));
    }
    let ensemble = ensemble::config(env, config, connect, broker_id).await?;
    Ok(Arc::new(ZooKeeperHome::new(env, ensemble, control)))
}

/// A broker that has worked alone takes its tree along into the ensemble.
pub(super) async fn bring_own_tree(
    env: &Env,
    log_dirs: &[Arc<LogDir>],
    control: &Loop,
    ensemble: &dyn Tree,
) -> Result<(), MembershipError> {
    let own = log_dirs[0].path().join(TREE_DIR);
    let (files, looked_at) = (Arc::clone(&env.files), own.clone());
    let found = run_blocking(&*env.threads, move || files.metadata(&looked_at)).await;
    let failed = |error| MembershipError::io(&own, error);
    if found.map_err(failed)?.is_none() {
        return Ok(());
    }
    let home = EmbeddedHome::open(env, own.clone(), control).await?;
    let moved = move_tree(&*home.connect().await?, ensemble).await;
    match moved {
        Ok(moved) => info!(?moved, "the tree of this data directory is in the ensemble now"),
        // It was made before its first write.
        Err(MoveError::Nothing) => {}
        Err(error) => return Err(error.into()),
    }
    drop(home);
    let (files, from, dir) = (Arc::clone(&env.files), own.clone(), log_dirs[0].path().to_owned());
    let put_aside = move || {
        files.rename(&from, &dir.join(MOVED_TREE_DIR))?;
        files.sync_dir(&dir)
    };
    run_blocking(&*env.threads, put_aside).await.map_err(failed)
}
