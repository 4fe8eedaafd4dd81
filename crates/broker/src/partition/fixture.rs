//! A partition to try things with.

use std::sync::Arc;

use klamm_env::Env;
use klamm_log::{LogConfig, LogDir, TopicPartition};
use klamm_protocol::compression::Compression;
use klamm_protocol::records::{BatchBuilder, NewRecord};
use tempfile::TempDir;
use uuid::Uuid;

use super::Partition;
use crate::data_dir::DataDir;

/// Partition 0 of `t` in a folder of its own; not open, and without a role.
pub(super) fn partition() -> (TempDir, Arc<Partition>) {
    let env = Env::real().expect("an environment");
    let folder = TempDir::new().expect("a folder");
    let log_dir = LogDir::open(Arc::clone(&env.files), folder.path()).expect("taken");
    let dir = Arc::new(DataDir::new(Arc::new(log_dir)));
    let (id, config) = (TopicPartition::new("t", 0), LogConfig::default());
    let partition = Arc::new(Partition::new(env, id, Uuid::from_u128(7), dir, config));
    (folder, partition)
}

/// A batch of one record, as a client sends it.
pub(super) fn one_record() -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None, usize::MAX);
    builder.append(&NewRecord::default()).expect("no bound");
    builder.build().expect("nothing is compressed").to_vec()
}
