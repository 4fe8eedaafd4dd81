//! DescribeLogDirs (35), versions 1 to 5: how much lies where.
//!
//! - From 3 on the answer has a code of its own, from 4 on the size of each file system,
//!   from 5 on whether new partitions stay away from a directory, which they never do.
//! - The size of a partition whose log is not open yet is read from its directory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use klamm_env::{Files, threads};
use klamm_protocol::ErrorCode;
use klamm_protocol::messages::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse,
    DescribeLogDirsResult, DescribeLogDirsTopic,
};

use crate::data_dir::DataDir;
use crate::partition::Partition;
use crate::request::{Answer, RequestContext};

pub(crate) async fn handle(
    ctx: &RequestContext,
    request: DescribeLogDirsRequest,
) -> Answer<DescribeLogDirsResponse> {
    let wanted: Option<BTreeSet<(String, i32)>> = request.topics.map(|topics| {
        let each = |topic: &klamm_protocol::messages::describe_log_dirs::DescribableLogDirTopic| {
            topic.partitions.iter().map(|index| (topic.topic.clone(), *index)).collect::<Vec<_>>()
        };
        topics.iter().flat_map(each).collect()
    });
    let dirs = ctx.broker.partitions.dirs().to_vec();
    let files = Arc::clone(&ctx.broker.env.files);
    let work = move || dirs.iter().map(|dir| described(&*files, dir, wanted.as_ref())).collect();
    // Looking into directories may block.
    let results = threads::run_blocking(&*ctx.broker.env.threads, work).await;
    Answer::Now(DescribeLogDirsResponse { results, ..Default::default() })
}

fn described(
    files: &dyn Files,
    dir: &DataDir,
    wanted: Option<&BTreeSet<(String, i32)>>,
) -> DescribeLogDirsResult {
    let log_dir = dir.log_dir();
    // Tools on other machines do not know where this process was started.
    let path = std::path::absolute(log_dir.path());
    let path = path.unwrap_or_else(|_| log_dir.path().to_path_buf());
    let mut result =
        DescribeLogDirsResult { log_dir: path.display().to_string(), ..Default::default() };
    let space = match log_dir.space() {
        Ok(space) if log_dir.offline().is_none() => space,
        _ => {
            result.error_code = ErrorCode::KafkaStorageError.as_i16();
            return result;
        }
    };
    result.total_bytes = signed(space.total);
    result.usable_bytes = signed(space.available);
    let mut topics: BTreeMap<String, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
    for partition in dir.partitions() {
        let id = partition.id();
        let named = (id.topic.to_string(), id.partition);
        if wanted.is_none_or(|wanted| wanted.contains(&named)) {
            let shown = DescribeLogDirsPartition {
                partition_index: named.1,
                partition_size: size_bytes(files, log_dir.path(), &partition),
                ..Default::default()
            };
            topics.entry(named.0).or_default().push(shown);
        }
    }
    let topics = topics.into_iter();
    result.topics =
        topics.map(|(name, partitions)| DescribeLogDirsTopic { name, partitions }).collect();
    result
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// What the segments hold, as the log says, or the directory where the log is not open.
fn size_bytes(files: &dyn Files, dir: &Path, partition: &Partition) -> i64 {
    if let Some(bytes) = partition.with_log(|log| log.size_bytes()) {
        return signed(bytes);
    }
    let folder = dir.join(partition.id().to_string());
    let entries = files.list(&folder).unwrap_or_default();
    let segments = entries.iter().filter(|entry| entry.name.ends_with(".log"));
    let sizes = segments.filter_map(|entry| files.metadata(&folder.join(&entry.name)).ok()?);
    signed(sizes.map(|metadata| metadata.len).sum())
}
