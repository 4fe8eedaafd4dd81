//! Producer ids, handed out from blocks that the controller gives to this broker (R25).

use klamm_cluster::controller::{ControllerHandle, Refusal};
use tokio::sync::Mutex;

/// The ids that this broker may still hand out.
#[derive(Default)]
pub(crate) struct ProducerIds {
    /// The next id and the end of the block; the lock is held while a new block is fetched.
    block: Mutex<(i64, i64)>,
}

impl ProducerIds {
    /// An id that nobody else ever gets.
    ///
    /// # Errors
    /// When the block is used up and the controller gives no other.
    pub(crate) async fn next(
        &self,
        controller: &ControllerHandle,
        broker_id: i32,
        broker_epoch: i64,
    ) -> Result<i64, Refusal> {
        let mut block = self.block.lock().await;
        if block.0 >= block.1 {
            let fresh = controller.allocate_producer_ids(broker_id, broker_epoch).await?;
            *block = (fresh.first, fresh.first + fresh.len);
        }
        let id = block.0;
        block.0 += 1;
        Ok(id)
    }
}
