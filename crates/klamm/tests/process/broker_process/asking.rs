//! The few requests that most tests make, in one line each.

use bytes::Bytes;
use klamm_protocol::messages::fetch::{FetchPartition, FetchTopic};
use klamm_protocol::messages::offset_commit::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use klamm_protocol::messages::offset_fetch::OffsetFetchRequestTopic;
use klamm_protocol::messages::produce::{PartitionProduceData, TopicProduceData};
use klamm_protocol::messages::{
    CreatableTopic, CreateTopicsRequest, FetchRequest, FindCoordinatorRequest,
    InitProducerIdRequest, ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
    MetadataRequest, MetadataRequestTopic, MetadataResponseTopic, OffsetCommitRequest,
    OffsetFetchRequest, PartitionProduceResponse, ProduceRequest,
};
use klamm_protocol::records::split_strict;
use klamm_protocol::{ErrorCode, Records};

use super::{Connection, eventually};

/// What became of one batch.
pub(crate) type Produced = PartitionProduceResponse;

/// What one partition gave.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) error: ErrorCode,
    pub(crate) high_watermark: i64,
    pub(crate) log_start_offset: i64,
    /// Offsets and values.
    pub(crate) records: Vec<(i64, Bytes)>,
}

/// Decompressed bytes that a test's batch may have.
const DECOMPRESSED_MAX: usize = 16 << 20;
const FETCH_VERSION: i16 = 11;
const PRODUCE_VERSION: i16 = 9;

impl Connection {
    /// Creates a topic.
    #[track_caller]
    pub(crate) fn create_topic(&mut self, name: &str, partitions: i32) {
        assert_eq!(self.try_create_topic(name, partitions), ErrorCode::None, "creating {name:?}");
    }

    pub(crate) fn try_create_topic(&mut self, name: &str, partitions: i32) -> ErrorCode {
        let topic = CreatableTopic {
            name: name.to_owned(),
            num_partitions: partitions,
            replication_factor: 1,
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest {
            topics: vec![topic],
            timeout_ms: 10_000,
            ..CreateTopicsRequest::default()
        };
        code(self.call(4, &request).topics[0].error_code)
    }

    /// A produce request with one batch.
    pub(crate) fn produce_request(
        topic: &str,
        partition: i32,
        acks: i16,
        records: Option<&[u8]>,
    ) -> ProduceRequest {
        let part =
            PartitionProduceData { index: partition, records: records.map(Bytes::copy_from_slice) };
        let topic = TopicProduceData {
            name: topic.to_owned(),
            partition_data: vec![part],
            ..TopicProduceData::default()
        };
        ProduceRequest { acks, timeout_ms: 20_000, topic_data: vec![topic], transactional_id: None }
    }

    /// Sends one batch and waits for what becomes of it.
    #[track_caller]
    pub(crate) fn try_produce(
        &mut self,
        topic: &str,
        partition: i32,
        acks: i16,
        batch: &[u8],
    ) -> Produced {
        let request = Self::produce_request(topic, partition, acks, Some(batch));
        let mut response = self.call(PRODUCE_VERSION, &request);
        response.responses.remove(0).partition_responses.remove(0)
    }

    /// Sends one batch with acks=all to partition 0; answers its offset.
    #[track_caller]
    pub(crate) fn produce(&mut self, topic: &str, batch: &[u8]) -> i64 {
        let produced = self.try_produce(topic, 0, -1, batch);
        assert_eq!(code(produced.error_code), ErrorCode::None, "{produced:?}");
        produced.base_offset
    }

    /// The code that a batch for partition 0 is refused with.
    #[track_caller]
    pub(crate) fn refusal(&mut self, topic: &str, batch: &[u8]) -> ErrorCode {
        let produced = self.try_produce(topic, 0, -1, batch);
        if produced.error_code != 0 {
            assert_eq!(produced.base_offset, -1, "{produced:?}");
        }
        code(produced.error_code)
    }

    /// A full fetch of one partition.
    pub(crate) fn fetch_request(topic: &str, partition: i32, offset: i64) -> FetchRequest {
        let part = FetchPartition {
            partition,
            fetch_offset: offset,
            partition_max_bytes: 64 << 20,
            ..FetchPartition::default()
        };
        let topic =
            FetchTopic { topic: topic.to_owned(), partitions: vec![part], ..FetchTopic::default() };
        FetchRequest { max_bytes: 64 << 20, topics: vec![topic], ..FetchRequest::default() }
    }

    /// What there is from `offset` on, in one answer.
    #[track_caller]
    pub(crate) fn fetch(&mut self, topic: &str, partition: i32, offset: i64) -> Fetched {
        let request = Self::fetch_request(topic, partition, offset);
        let mut response = self.call(FETCH_VERSION, &request);
        assert_eq!(code(response.error_code), ErrorCode::None);
        let part = response.responses.remove(0).partitions.remove(0);
        Fetched {
            error: code(part.error_code),
            high_watermark: part.high_watermark,
            log_start_offset: part.log_start_offset,
            records: records_of(part.records, offset),
        }
    }

    /// Every record of a partition from the beginning.
    #[track_caller]
    pub(crate) fn read_all(&mut self, topic: &str, partition: i32) -> Vec<(i64, Bytes)> {
        let mut all: Vec<(i64, Bytes)> = Vec::new();
        loop {
            let next = all.last().map_or(0, |(offset, _)| offset + 1);
            let fetched = self.fetch(topic, partition, next);
            assert_eq!(fetched.error, ErrorCode::None, "{topic} {partition} at {next}");
            if fetched.records.is_empty() {
                assert_eq!(next, fetched.high_watermark, "nothing more, but not the end");
                return all;
            }
            all.extend(fetched.records);
        }
    }

    /// A topic's metadata.
    #[track_caller]
    pub(crate) fn metadata(&mut self, topic: &str, create: bool) -> MetadataResponseTopic {
        let wanted = MetadataRequestTopic {
            name: Some(topic.to_owned()),
            ..MetadataRequestTopic::default()
        };
        let request = MetadataRequest {
            topics: Some(vec![wanted]),
            allow_auto_topic_creation: create,
            ..MetadataRequest::default()
        };
        self.call(10, &request).topics.remove(0)
    }

    /// The epoch of partition 0's leader.
    #[track_caller]
    pub(crate) fn leader_epoch(&mut self, topic: &str) -> i32 {
        eventually("a leader", || {
            let topic = self.metadata(topic, false);
            let part = topic.partitions.first()?;
            (part.leader_id >= 0).then_some(part.leader_epoch)
        })
    }

    /// A producer id and its epoch.
    #[track_caller]
    pub(crate) fn init_producer(&mut self) -> (i64, i16) {
        let request =
            InitProducerIdRequest { transactional_id: None, ..InitProducerIdRequest::default() };
        let response = self.call(4, &request);
        assert_eq!(code(response.error_code), ErrorCode::None);
        (response.producer_id, response.producer_epoch)
    }

    /// ListOffsets for one partition: the error and the offset.
    #[track_caller]
    pub(crate) fn list_offset(
        &mut self,
        topic: &str,
        partition: i32,
        leader_epoch: i32,
        timestamp: i64,
    ) -> (ErrorCode, i64) {
        let part = ListOffsetsPartition {
            partition_index: partition,
            current_leader_epoch: leader_epoch,
            timestamp,
        };
        let topic = ListOffsetsTopic { name: topic.to_owned(), partitions: vec![part] };
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![topic],
            ..ListOffsetsRequest::default()
        };
        let response = self.call(7, &request);
        let part = &response.topics[0].partitions[0];
        (code(part.error_code), part.offset)
    }

    /// Makes sure that `group` has a coordinator.
    pub(crate) fn find_coordinator(&mut self, group: &str) {
        let request =
            FindCoordinatorRequest { key: group.to_owned(), ..FindCoordinatorRequest::default() };
        eventually("a coordinator", || (self.call(3, &request).error_code == 0).then_some(()));
    }

    /// The broker that coordinates `group`.
    pub(crate) fn coordinator(&mut self, group: &str) -> i32 {
        let request =
            FindCoordinatorRequest { key: group.to_owned(), ..FindCoordinatorRequest::default() };
        eventually("a coordinator", || {
            let response = self.call(3, &request);
            (response.error_code == 0).then_some(response.node_id)
        })
    }

    /// Commits an offset for partition 0 as a consumer without a group membership does.
    #[track_caller]
    pub(crate) fn commit(&mut self, group: &str, topic: &str, offset: i64) {
        eventually("a commit", || match self.try_commit(group, topic, offset) {
            ErrorCode::None => Some(()),
            error if is_coordinator_on_its_way(error) => None,
            error => panic!("commit: {error:?}"),
        });
    }

    /// The same, once.
    pub(crate) fn try_commit(&mut self, group: &str, topic: &str, offset: i64) -> ErrorCode {
        let part = OffsetCommitRequestPartition {
            committed_offset: offset,
            committed_metadata: Some(format!("at {offset}")),
            ..OffsetCommitRequestPartition::default()
        };
        let topic = OffsetCommitRequestTopic {
            name: topic.to_owned(),
            partitions: vec![part],
            ..OffsetCommitRequestTopic::default()
        };
        let request = OffsetCommitRequest {
            group_id: group.to_owned(),
            generation_id_or_member_epoch: -1,
            topics: vec![topic],
            ..OffsetCommitRequest::default()
        };
        code(self.call(7, &request).topics[0].partitions[0].error_code)
    }

    /// The offset that a group has committed for partition 0.
    #[track_caller]
    pub(crate) fn committed(&mut self, group: &str, topic: &str) -> i64 {
        let topic = OffsetFetchRequestTopic { name: topic.to_owned(), partition_indexes: vec![0] };
        let request = OffsetFetchRequest {
            group_id: group.to_owned(),
            topics: Some(vec![topic]),
            ..OffsetFetchRequest::default()
        };
        eventually("the committed offset", || {
            let response = self.call(5, &request);
            match code(response.error_code) {
                ErrorCode::None => Some(response.topics[0].partitions[0].committed_offset),
                error if is_coordinator_on_its_way(error) => None,
                error => panic!("committed: {error:?}"),
            }
        })
    }
}

fn is_coordinator_on_its_way(error: ErrorCode) -> bool {
    matches!(
        error,
        ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::NotCoordinator
    )
}

fn code(code: i16) -> ErrorCode {
    ErrorCode::from_i16(code).expect("a known error code")
}

/// The records at or after `from`: the batch that holds it comes whole.
fn records_of(records: Records, from: i64) -> Vec<(i64, Bytes)> {
    let Records::Inline(bytes) = records else { panic!("an answer holds its records") };
    let mut all = Vec::new();
    for batch in split_strict(bytes) {
        let batch = batch.expect("whole batches");
        for record in batch.records(DECOMPRESSED_MAX).expect("readable") {
            let record = record.expect("readable");
            if record.offset >= from {
                all.push((record.offset, record.value.unwrap_or_default()));
            }
        }
    }
    all
}
