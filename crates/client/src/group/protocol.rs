//! What members tell each other through the coordinator: subscriptions and assignments, each with
//! its version in front.

use std::collections::BTreeMap;

use bytes::Bytes;
use klamm_protocol::messages::consumer_protocol_assignment::{
    ConsumerProtocolAssignment, TopicPartition as AssignedTopic,
};
use klamm_protocol::messages::consumer_protocol_subscription::ConsumerProtocolSubscription;
use klamm_protocol::{Decode, DecodeError, Encode, Message, Reader, Writer};

use crate::metadata::TopicPartition;

pub(super) const PROTOCOL_TYPE: &str = "consumer";

/// Members that give up everything before a rebalance have nothing to say in later versions.
const VERSION: i16 = 0;

pub(super) fn encode_subscription(topics: &[String]) -> Bytes {
    encode(&ConsumerProtocolSubscription { topics: topics.to_vec(), ..Default::default() })
}

pub(super) fn decode_topics(subscription: Bytes) -> Result<Vec<String>, DecodeError> {
    decode::<ConsumerProtocolSubscription>(subscription).map(|subscription| subscription.topics)
}

pub(super) fn encode_assignment(partitions: &[TopicPartition]) -> Bytes {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(&partition.topic).or_default().push(partition.partition);
    }
    let assigned_partitions = topics
        .into_iter()
        .map(|(topic, partitions)| AssignedTopic { topic: topic.to_owned(), partitions })
        .collect();
    encode(&ConsumerProtocolAssignment { assigned_partitions, user_data: None })
}

pub(crate) fn decode_assignment(assignment: Bytes) -> Result<Vec<TopicPartition>, DecodeError> {
    // A member that got nothing may be told so with nothing.
    if assignment.is_empty() {
        return Ok(Vec::new());
    }
    let assignment = decode::<ConsumerProtocolAssignment>(assignment)?;
    let topics = assignment.assigned_partitions.into_iter();
    Ok(topics
        .flat_map(|AssignedTopic { topic, partitions }| {
            partitions
                .into_iter()
                .map(move |partition| TopicPartition { topic: topic.clone(), partition })
        })
        .collect())
}

fn encode<T: Encode>(message: &T) -> Bytes {
    let mut writer = Writer::new();
    writer.i16(VERSION);
    message.encode(&mut writer, VERSION).expect("names and lists of topics fit the wire");
    writer.finish().bytes
}

/// Reads a message of whichever version; later ones add to the end, which is left unread.
fn decode<T: Message>(bytes: Bytes) -> Result<T, DecodeError> {
    let mut reader = Reader::new(bytes);
    let version = reader.i16()?;
    if version < T::VERSION_MIN {
        return Err(DecodeError::UnsupportedVersion { message: T::NAME, version });
    }
    <T as Decode>::decode(&mut reader, version.min(T::VERSION_MAX))
}
