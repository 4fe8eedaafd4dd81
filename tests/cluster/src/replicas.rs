//! The replicas of a partition on the disks of stopped brokers: byte for byte the same (I3).

use std::io;
use std::path::Path;

use crate::broker::Broker;
use crate::stage::{PARTITIONS, TOPIC};

/// What differs between the replicas of a partition.
pub(crate) fn differences(brokers: &[Broker]) -> Vec<String> {
    (0..PARTITIONS).filter_map(|partition| difference(brokers, partition)).collect()
}

fn difference(brokers: &[Broker], partition: i32) -> Option<String> {
    let mut logs = Vec::new();
    for broker in brokers {
        let dir = broker.data_dir().join(format!("{TOPIC}-{partition}"));
        match log(&dir) {
            Ok(log) => logs.push((broker.id(), log)),
            Err(error) => return Some(format!("{}: {error}", dir.display())),
        }
    }
    let (first, rest) = logs.split_first()?;
    let differs = rest.iter().find(|(_, log)| log != &first.1)?;
    let at = first.1.iter().zip(&differs.1).position(|(one, other)| one != other);
    Some(format!(
        "partition {partition}: brokers {} and {} have {} and {} bytes and differ at {at:?}",
        first.0,
        differs.0,
        first.1.len(),
        differs.1.len(),
    ))
}

/// All batches of a log, one segment after the other.
#[expect(clippy::disallowed_methods, reason = "runs on the machine itself")]
fn log(dir: &Path) -> io::Result<Vec<u8>> {
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "log") {
            segments.push(path);
        }
    }
    segments.sort();
    let mut log = Vec::new();
    for segment in segments {
        log.extend(std::fs::read(segment)?);
    }
    Ok(log)
}
