//! Producer ids, handed out from blocks that the controller gives to this broker (R25).

use std::time::Duration;

use klamm_cluster::{Member, Refusal};
use klamm_protocol::ErrorCode;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};

use crate::forwarding::{ControllerClient, ProducerIdsFor};

/// Longest wait for a block, of everybody who needs an id of it.
const PATIENCE: Duration = Duration::from_secs(5);

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
    /// When the block is used up and the controller gives no other in time.
    pub(crate) async fn next(
        &self,
        controller: &ControllerClient,
        broker: Member,
    ) -> Result<i64, Refusal> {
        let deadline = Instant::now() + PATIENCE;
        let late = || Refusal::new(ErrorCode::RequestTimedOut, "Others wait for a block of ids.");
        let mut block = timeout_at(deadline, self.block.lock()).await.map_err(|_| late())?;
        if block.0 >= block.1 {
            let left = deadline.saturating_duration_since(Instant::now());
            let fresh = controller.ask_one(ProducerIdsFor(broker), left).await?;
            *block = (fresh.first, fresh.first + fresh.len);
        }
        let id = block.0;
        block.0 += 1;
        Ok(id)
    }
}
