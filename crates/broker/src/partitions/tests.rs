use klamm_log::{LogConfig, LogDir};
use tempfile::TempDir;

use super::*;
use crate::config;

#[test]
fn a_replica_that_comes_back_before_it_has_gone_gets_the_same_directory() {
    let env = Env::real().expect("an environment");
    let folders = [TempDir::new().expect("a folder"), TempDir::new().expect("a folder")];
    let open = |folder: &TempDir| {
        let dir = LogDir::open(Arc::clone(&env.files), folder.path()).expect("taken");
        Arc::new(DataDir::new(Arc::new(dir)))
    };
    let dirs: Vec<Arc<DataDir>> = folders.iter().map(open).collect();
    let config = config::load(None, &[]).expect("sound settings").config;
    let partitions = Partitions::new(
        env.clone(),
        Identity { broker_id: 1, first_epoch: 1 },
        dirs.clone(),
        Arc::new(ArcSwap::from_pointee(config)),
    );
    let id = TopicPartition::new("t", 0);
    let is_first = || Arc::ptr_eq(partitions.place(&id), &dirs[0]);
    assert!(is_first(), "both are empty");

    let second = Arc::clone(&dirs[1]);
    let topic = Uuid::from_u128(7);
    let replica = Arc::new(Partition::new(env, id.clone(), topic, second, LogConfig::default()));
    dirs[1].host(&replica);
    dirs[1].unhost(&replica);
    assert!(!is_first(), "a restart would find two directories of one name");
    dirs[1].give_up_name(&id);
    assert!(is_first());
}
