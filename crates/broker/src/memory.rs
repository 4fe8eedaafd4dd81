//! What requests may occupy, in bytes.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::{Either, select};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The budget that all connections share (`queued.max.request.bytes`).
///
/// A request reserves room before its bytes are read, in steps: what a client announces costs
/// nothing until it comes. It gives all back when its append is done, so that requests that merely
/// wait (for a sync, for replicas, for data) hold nothing. When the budget is used up, one request
/// at a time may go on beyond it, so that requests that each hold a part never wait for each other
/// for ever.
pub(crate) struct Memory {
    bytes: Arc<Semaphore>,
    total: usize,
    beyond: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// A request's share of [`Memory`], given back when dropped.
#[derive(Debug, Default)]
pub(crate) struct Reservation {
    bytes: usize,
    permit: Option<OwnedSemaphorePermit>,
    beyond: Option<OwnedSemaphorePermit>,
}

impl Memory {
    /// A budget of `total` bytes.
    pub(crate) fn new(total: usize) -> Memory {
        let total = total.clamp(1, Semaphore::MAX_PERMITS);
        Memory {
            bytes: Arc::new(Semaphore::new(total)),
            total,
            beyond: Arc::new(Semaphore::new(1)),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Lets `reservation` grow to `bytes`; waits, first come first served, until there is room.
    pub(crate) async fn grow(&self, reservation: &mut Reservation, bytes: usize) {
        let more = bytes.saturating_sub(reservation.bytes).min(self.total);
        reservation.bytes = reservation.bytes.max(bytes);
        if more == 0 || reservation.beyond.is_some() {
            return;
        }
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let permit = match Arc::clone(&self.bytes).try_acquire_many_owned(more) {
            Ok(permit) => permit,
            Err(_) => {
                let _waiting = Waiting::begin(&self.waiting);
                let room = pin!(Arc::clone(&self.bytes).acquire_many_owned(more));
                let turn = pin!(Arc::clone(&self.beyond).acquire_owned());
                match select(room, turn).await {
                    Either::Left((permit, _)) => permit.expect("nobody closes it"),
                    Either::Right((turn, _)) => {
                        reservation.beyond = Some(turn.expect("nobody closes it"));
                        return;
                    }
                }
            }
        };
        match &mut reservation.permit {
            Some(held) => held.merge(permit),
            none => *none = Some(permit),
        }
    }

    /// Whether the budget is used up: whoever holds a part and does not go on is in the way.
    pub(crate) fn is_short(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0 || self.beyond.available_permits() == 0
    }
}

/// One waiter in the count.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Waiting<'a> {
        count.fetch_add(1, Ordering::Relaxed);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn reserve(memory: &Memory, bytes: usize) -> Option<Reservation> {
        let mut reservation = Reservation::default();
        memory.grow(&mut reservation, bytes).now_or_never()?;
        Some(reservation)
    }

    #[test]
    fn what_is_given_back_is_free_again() {
        let memory = Memory::new(100);
        let first = reserve(&memory, 70).expect("free");
        let second = reserve(&memory, 30).expect("free");
        assert!(!memory.is_short());
        drop((first, second));
        let again = reserve(&memory, 100).expect("free");
        assert!(again.beyond.is_none());
    }

    #[test]
    fn beyond_the_budget_one_at_a_time_goes_on() {
        let memory = Memory::new(100);
        let mut first = reserve(&memory, 60).expect("free");
        let _second = reserve(&memory, 40).expect("free");
        // Both hold a part and need more: without the one turn they would wait for each other.
        memory.grow(&mut first, 90).now_or_never().expect("its turn");
        memory.grow(&mut first, 5000).now_or_never().expect("still its turn");
        assert!(memory.is_short());
        assert!(reserve(&memory, 80).is_none());
        drop(first);
        assert!(!memory.is_short());
        assert!(reserve(&memory, 50).is_some_and(|share| share.beyond.is_none()));
    }

    #[test]
    fn a_request_larger_than_the_budget_is_no_dead_end() {
        let memory = Memory::new(100);
        let small = reserve(&memory, 10).expect("free");
        let large = reserve(&memory, 5000).expect("its turn");
        assert!(reserve(&memory, 95).is_none());
        drop(large);
        assert!(reserve(&memory, 90).is_some());
        drop(small);
    }
}
