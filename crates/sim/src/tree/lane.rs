//! Keeps what travels together in order.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard};
use std::task::{Poll, Waker};

/// A queue in which a place is taken at once and waited for later. A mutex of tokio's is none: whoever
/// has used up his task's turn is not in its queue yet.
#[derive(Debug, Default)]
pub(super) struct Lane {
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    taken: u64,
    /// Who waits, in order; the first one's turn it is.
    places: VecDeque<(u64, Option<Waker>)>,
}

/// A place in a [`Lane`]; given up when dropped.
pub(super) struct Place<'a> {
    lane: &'a Lane,
    number: u64,
}

impl Lane {
    /// Takes the last place.
    pub(super) fn enter(&self) -> Place<'_> {
        let mut queue = self.lock();
        queue.taken += 1;
        let number = queue.taken;
        queue.places.push_back((number, None));
        Place { lane: self, number }
    }

    /// How many are in it.
    pub(super) fn len(&self) -> usize {
        self.lock().places.len()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no panic while a lane is locked")
    }
}

impl Place<'_> {
    /// Waits until all that came before have left.
    pub(super) async fn first(&self) {
        poll_fn(|cx| {
            let mut queue = self.lane.lock();
            let at = queue.at(self.number);
            if at == 0 {
                return Poll::Ready(());
            }
            queue.places[at].1 = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Takes the last place of `next` before anybody who comes later here can.
    pub(super) fn go_over<'b>(self, next: &'b Lane) -> Place<'b> {
        next.enter()
    }
}

impl Queue {
    fn at(&self, number: u64) -> usize {
        let found = self.places.binary_search_by_key(&number, |(number, _)| *number);
        found.expect("a place is left by its owner alone")
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut queue = self.lane.lock();
        let at = queue.at(self.number);
        queue.places.remove(at);
        let next = queue.places.front_mut().filter(|_| at == 0).and_then(|(_, waker)| waker.take());
        drop(queue);
        if let Some(waker) = next {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::Lane;

    #[test]
    fn a_turn_comes_when_all_before_have_left_in_whatever_order() {
        let lane = Lane::default();
        let (first, second, third) = (lane.enter(), lane.enter(), lane.enter());
        let mut cx = Context::from_waker(Waker::noop());
        {
            let mut turn = pin!(third.first());
            assert_eq!(turn.as_mut().poll(&mut cx), Poll::Pending);
            drop(second);
            assert_eq!(turn.as_mut().poll(&mut cx), Poll::Pending, "the first is still there");
            drop(first);
            assert_eq!(turn.as_mut().poll(&mut cx), Poll::Ready(()));
        }
        assert_eq!(lane.len(), 1);
    }

    #[test]
    fn nobody_overtakes_between_two_lanes() {
        let (here, there) = (Lane::default(), Lane::default());
        let (first, second) = (here.enter(), here.enter());
        let first = first.go_over(&there);
        let second = second.go_over(&there);
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(pin!(second.first()).poll(&mut cx), Poll::Pending);
        assert_eq!(pin!(first.first()).poll(&mut cx), Poll::Ready(()));
    }
}
