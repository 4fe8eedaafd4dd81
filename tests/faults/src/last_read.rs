//! Every partition, read whole when nothing is sent any more.

use std::collections::BTreeMap;
use std::time::Duration;

use klamm_client::{Admin, ClientError, Cluster, OffsetSpec};
use klamm_history::{FinalRead, Isolation, TopicPartition};

use crate::load::{consumer, read};
use crate::topics::{KINDS, PARTITIONS};

pub(crate) async fn read_all(
    cluster: &Cluster,
) -> Result<BTreeMap<TopicPartition, FinalRead>, ClientError> {
    let admin = Admin::new(cluster.clone());
    let mut reads = BTreeMap::new();
    for kind in KINDS {
        let mut consumer = consumer(cluster.clone(), kind);
        let ends = offsets(&admin, kind.name, OffsetSpec::Latest).await?;
        let mut records = vec![Vec::new(); ends.len()];
        let is_behind = |consumer: &klamm_client::Consumer| {
            ends.iter().any(|(name, end)| consumer.position(name).is_none_or(|at| at < *end))
        };
        while is_behind(&consumer) {
            for record in consumer.poll(Duration::from_millis(100)).await? {
                let index = usize::try_from(record.partition).expect("counted from 0");
                records[index].push(read(&record));
            }
        }
        // Retention goes on: what it took before it was read lies below this.
        let starts = offsets(&admin, kind.name, OffsetSpec::Earliest).await?;
        for ((name, end), records) in ends.into_iter().zip(records) {
            let whole = FinalRead {
                log_start: starts[&name],
                end,
                isolation: Isolation::ReadUncommitted,
                compacted: kind.compacts,
                records,
            };
            reads.insert(TopicPartition::new(&name.topic, name.partition), whole);
        }
    }
    Ok(reads)
}

async fn offsets(
    admin: &Admin,
    topic: &str,
    spec: OffsetSpec,
) -> Result<BTreeMap<klamm_client::TopicPartition, i64>, ClientError> {
    let names = (0..PARTITIONS).map(|number| klamm_client::TopicPartition::new(topic, number));
    let listed = admin.list_offsets(&names.map(|name| (name, spec)).collect()).await?;
    Ok(listed.into_iter().map(|(name, listed)| (name, listed.offset)).collect())
}
