//! Every partition, read whole when nothing is sent any more.

use std::collections::BTreeMap;
use std::time::Duration;

use klamm_client::{
    Admin, AutoOffsetReset, ClientError, Cluster, Consumer, ConsumerConfig, OffsetSpec, StartAt,
};
use klamm_history::{FinalRead, Isolation, Record, TopicPartition};

use crate::stage::{PARTITIONS, TOPIC};

/// The longest that one poll waits.
const POLL: Duration = Duration::from_millis(100);

/// All partitions of the topic of the load, from the first offset to the end.
pub(crate) async fn read_all(
    cluster: &Cluster,
) -> Result<BTreeMap<TopicPartition, FinalRead>, ClientError> {
    let names = || (0..PARTITIONS).map(|number| klamm_client::TopicPartition::new(TOPIC, number));
    let config =
        ConsumerConfig { auto_offset_reset: AutoOffsetReset::None, ..ConsumerConfig::default() };
    let mut consumer = Consumer::new(cluster.clone(), config);
    consumer.assign(names().map(|name| (name, StartAt::Earliest)));
    let wanted = names().map(|name| (name, OffsetSpec::Latest)).collect();
    let ends = Admin::new(cluster.clone()).list_offsets(&wanted).await?;
    let is_behind = |consumer: &Consumer| {
        ends.iter().any(|(name, end)| consumer.position(name).is_none_or(|at| at < end.offset))
    };
    let mut records: BTreeMap<i32, Vec<Record>> = BTreeMap::new();
    while is_behind(&consumer) {
        for record in consumer.poll(POLL).await? {
            let id = record.value.as_deref().and_then(id_of).expect("all records have an id");
            let read = Record { offset: record.offset, value: id };
            records.entry(record.partition).or_default().push(read);
        }
    }
    let whole = |(name, end): (&klamm_client::TopicPartition, &klamm_client::ListedOffset)| {
        let read = FinalRead {
            log_start: 0,
            end: end.offset,
            isolation: Isolation::ReadUncommitted,
            compacted: false,
            records: records.remove(&name.partition).unwrap_or_default(),
        };
        (TopicPartition::new(TOPIC, name.partition), read)
    };
    Ok(ends.iter().map(whole).collect())
}

/// The id that a record's value begins with.
fn id_of(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.split(' ').next()?.parse().ok()
}
