//! Requests that wait for a partition's high watermark: produce acknowledgements and long polls.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;

use futures_util::task::AtomicWaker;

/// Wakes one request, whichever of its partitions has news.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    fired: AtomicBool,
    waker: AtomicWaker,
}

impl Signal {
    /// Wakes the request.
    pub(crate) fn fire(&self) {
        if !self.fired.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Waits until [`Signal::fire`], and forgets it.
    pub(crate) async fn fired(&self) {
        poll_fn(|cx| {
            self.waker.register(cx.waker());
            if self.fired.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

#[derive(Debug, Default)]
struct Entries {
    by_offset: BTreeMap<(i64, u64), Arc<Signal>>,
    next: u64,
}

/// The requests that wait on one partition, by the high watermark that they wait for.
///
/// A waiter looks at the partition again after registering, so nothing is missed, and again when it
/// is woken: what is answered is decided by the request, not here.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    entries: Mutex<Entries>,
}

impl Waiters {
    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().expect("no panic while locked")
    }

    /// Registers `signal` until the high watermark is at least `offset`.
    pub(crate) fn add(&self, offset: i64, signal: &Arc<Signal>) -> WaiterKey {
        let mut entries = self.lock();
        let key = (offset, entries.next);
        entries.next += 1;
        entries.by_offset.insert(key, Arc::clone(signal));
        WaiterKey(key)
    }

    /// Forgets a waiter; one that was woken is gone already.
    pub(crate) fn remove(&self, key: WaiterKey) {
        self.lock().by_offset.remove(&key.0);
    }

    /// Takes out the waiters that a high watermark of `offset` satisfies, to be fired when no lock
    /// is held.
    pub(crate) fn passed(&self, offset: i64) -> Vec<Arc<Signal>> {
        let mut entries = self.lock();
        let bound = offset.saturating_add(1);
        match entries.by_offset.first_key_value() {
            Some((first, _)) if first.0 <= offset => {}
            _ => return Vec::new(),
        }
        let waiting = entries.by_offset.split_off(&(bound, 0));
        std::mem::replace(&mut entries.by_offset, waiting).into_values().collect()
    }

    /// All waiters, who are to look again: the leader epoch has changed, the partition is gone or
    /// the broker stops. They stay registered, since what they wait for may still come.
    pub(crate) fn all(&self) -> Vec<Arc<Signal>> {
        self.lock().by_offset.values().cloned().collect()
    }
}

/// Names a registered waiter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WaiterKey((i64, u64));

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn a_waiter_is_woken_by_its_offset_and_not_before() {
        let waiters = Waiters::default();
        let (early, late) = (Arc::new(Signal::default()), Arc::new(Signal::default()));
        waiters.add(5, &early);
        waiters.add(9, &late);
        assert!(waiters.passed(4).is_empty());
        waiters.passed(5).iter().for_each(|signal| signal.fire());
        assert!(early.fired().now_or_never().is_some());
        assert!(late.fired().now_or_never().is_none());
        waiters.all().iter().for_each(|signal| signal.fire());
        assert!(late.fired().now_or_never().is_some());
    }

    #[test]
    fn who_is_woken_to_look_again_is_woken_by_its_offset_too() {
        let waiters = Waiters::default();
        let signal = Arc::new(Signal::default());
        waiters.add(5, &signal);
        waiters.all().iter().for_each(|signal| signal.fire());
        assert!(signal.fired().now_or_never().is_some());
        waiters.passed(5).iter().for_each(|signal| signal.fire());
        assert!(signal.fired().now_or_never().is_some(), "it goes on waiting for ever");
    }

    #[test]
    fn a_removed_waiter_is_not_woken() {
        let waiters = Waiters::default();
        let signal = Arc::new(Signal::default());
        let key = waiters.add(1, &signal);
        waiters.remove(key);
        assert!(waiters.all().is_empty());
    }

    #[test]
    fn a_signal_fired_before_anyone_waits_is_kept_and_consumed_once() {
        let signal = Signal::default();
        signal.fire();
        signal.fire();
        assert!(signal.fired().now_or_never().is_some());
        assert!(signal.fired().now_or_never().is_none());
    }
}
