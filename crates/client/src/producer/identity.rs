//! Producer ids, given out by a broker.

use klamm_protocol::messages::init_producer_id::InitProducerIdRequest;
use klamm_protocol::records::{NO_PRODUCER_EPOCH, NO_PRODUCER_ID, ProducerFields};

use crate::cluster::Cluster;
use crate::error::{ClientError, check};

/// Not a transaction: the timeout means nothing.
const NO_TIMEOUT_MS: i32 = i32::MAX;

/// A producer's name for the brokers, under which a partition counts its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) producer_id: i64,
    pub(super) producer_epoch: i16,
}

impl Identity {
    pub(super) fn at(self, base_sequence: i32) -> ProducerFields {
        let Self { producer_id, producer_epoch } = self;
        ProducerFields { producer_id, producer_epoch, base_sequence }
    }
}

/// One identity serves all partitions until one of them loses count: that one takes another.
#[derive(Default)]
pub(super) struct Identities {
    first: tokio::sync::Mutex<Option<Identity>>,
}

impl Identities {
    /// The identity that all partitions start with.
    pub(super) async fn first(&self, cluster: &Cluster) -> Result<Identity, ClientError> {
        let mut first = self.first.lock().await;
        if let Some(identity) = *first {
            return Ok(identity);
        }
        let identity = Self::another(cluster).await?;
        *first = Some(identity);
        Ok(identity)
    }

    /// An identity that nobody has used.
    pub(super) async fn another(cluster: &Cluster) -> Result<Identity, ClientError> {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: NO_TIMEOUT_MS,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            ..InitProducerIdRequest::default()
        };
        let response = cluster.any().await?.request(&request).await?;
        check(response.error_code, None, || "producer id".to_owned())?;
        let (producer_id, producer_epoch) = (response.producer_id, response.producer_epoch);
        Ok(Identity { producer_id, producer_epoch })
    }
}
