//! What a broker reads of Kafka's `consumer` protocol: the topics of a subscription.

use bytes::Bytes;
use klamm_protocol::messages::consumer_protocol_subscription::ConsumerProtocolSubscription;
use klamm_protocol::{Decode, Reader};

/// The topics in a member's metadata; `None` if it is not a subscription.
///
/// Read as version 0, which is the prefix of every later one.
pub(crate) fn topics(metadata: &Bytes) -> Option<Vec<String>> {
    let mut reader = Reader::new(metadata.clone());
    let version = reader.i16().ok()?;
    if version < 0 {
        return None;
    }
    ConsumerProtocolSubscription::decode(&mut reader, 0).ok().map(|it| it.topics)
}
