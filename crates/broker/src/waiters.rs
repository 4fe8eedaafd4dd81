//! Requests that wait for a partition's high watermark: produce acknowledgements and long polls.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;

use futures_util::task::AtomicWaker;

use crate::wakes::Wakes;

/// Wakes one request, whichever of its partitions has news.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    fired: AtomicBool,
    waker: AtomicWaker,
    /// Of the loop that the request runs on.
    wakes: Option<Arc<Wakes>>,
}

impl Signal {
    /// A signal for a request that runs on the loop of `wakes`.
    pub(crate) fn on(wakes: &Arc<Wakes>) -> Signal {
        Signal { wakes: Some(Arc::clone(wakes)), ..Signal::default() }
    }

    /// Wakes the request.
    pub(crate) fn fire(&self) {
        if !self.fired.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
    }

    /// Wakes the request, if it is on another loop together with all that are added until that
    /// loop's bell rings: the one returned.
    fn fire_later(&self) -> Option<&Wakes> {
        let wakes = self.wakes.as_deref().filter(|wakes| !wakes.is_here());
        let Some(wakes) = wakes else {
            self.fire();
            return None;
        };
        if self.fired.swap(true, Ordering::AcqRel) {
            return None;
        }
        wakes.add(self.waker.take()?);
        Some(wakes)
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

/// Wakes all these requests, each loop at most once.
pub(crate) fn fire_all(signals: &[Arc<Signal>]) {
    let mut bells: Vec<&Wakes> = Vec::new();
    for signal in signals {
        if let Some(wakes) = signal.fire_later()
            && !bells.iter().any(|bell| std::ptr::eq(*bell, wakes))
        {
            bells.push(wakes);
        }
    }
    bells.iter().for_each(|bell| bell.ring());
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
    use futures_util::future::BoxFuture;
    use std::sync::atomic::AtomicUsize;
    use std::task::{Context, Wake, Waker};

    /// Counts wake-ups.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Count {
        fn get(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

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
    fn requests_of_another_loop_are_woken_together() {
        let (bell, request) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let wakes = Arc::new(Wakes::default());
        let mut running: BoxFuture<'_, ()> = Box::pin(Arc::clone(&wakes).run());
        let poll = |running: &mut BoxFuture<'_, ()>| {
            let waker = Waker::from(Arc::clone(&bell));
            let pending = running.as_mut().poll(&mut Context::from_waker(&waker));
            assert!(pending.is_pending());
        };
        let mut running = std::thread::scope(|scope| {
            let on_its_loop = scope.spawn(|| {
                poll(&mut running);
                running
            });
            on_its_loop.join().expect("no panic")
        });
        let signals: Vec<_> = (0..3).map(|_| Arc::new(Signal::on(&wakes))).collect();
        for signal in &signals {
            let waker = Waker::from(Arc::clone(&request));
            let waiting = std::pin::pin!(signal.fired());
            assert!(waiting.poll(&mut Context::from_waker(&waker)).is_pending());
        }
        fire_all(&signals[..2]);
        fire_all(&signals);
        assert_eq!((bell.get(), request.get()), (1, 0), "the loop is woken, once");
        poll(&mut running);
        assert_eq!(request.get(), 3, "and wakes all of them");
        assert!(signals.iter().all(|signal| signal.fired().now_or_never().is_some()));
        fire_all(&[Arc::new(Signal::on(&wakes))]);
        assert_eq!(bell.get(), 1, "nobody waits there");
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
