//! What requests may occupy, in bytes, before their bodies are read.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The budget that all connections share (`queued.max.request.bytes`).
///
/// A request reserves its length before its body is read and gives it back when its append is done,
/// so that requests that merely wait (for a sync, for replicas, for data) hold nothing.
pub(crate) struct Memory {
    bytes: Arc<Semaphore>,
    total: u32,
}

/// A request's share of [`Memory`], given back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    _permit: OwnedSemaphorePermit,
}

impl Memory {
    /// A budget of `total` bytes.
    pub(crate) fn new(total: usize) -> Memory {
        let total = u32::try_from(total.clamp(1, Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        Memory { bytes: Arc::new(Semaphore::new(total as usize)), total }
    }

    /// Waits, first come first served, until `bytes` are free. What is larger than the whole budget
    /// takes all of it.
    pub(crate) async fn reserve(&self, bytes: usize) -> Reservation {
        let share = u32::try_from(bytes).unwrap_or(u32::MAX).min(self.total);
        let semaphore = Arc::clone(&self.bytes);
        let permit = semaphore.acquire_many_owned(share).await.expect("nobody closes it");
        Reservation { _permit: permit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn a_request_waits_until_enough_is_given_back() {
        let memory = Memory::new(100);
        let first = memory.reserve(70).now_or_never().expect("free");
        assert!(memory.reserve(31).now_or_never().is_none());
        drop(first);
        assert!(memory.reserve(31).now_or_never().is_some());
    }

    #[test]
    fn a_request_larger_than_the_budget_runs_alone() {
        let memory = Memory::new(100);
        let all = memory.reserve(5000).now_or_never().expect("free");
        assert!(memory.reserve(1).now_or_never().is_none());
        drop(all);
        assert!(memory.reserve(1).now_or_never().is_some());
    }
}
