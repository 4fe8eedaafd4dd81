//! Which ways between hosts are cut.
//!
//! A cut is one of the network below TCP: bytes that cross it wait, as TCP sends them again until
//! they get through. Whoever is not to wait for that has a time-out. Where a machine is gone for
//! good, the other side learns of it when it is back: [`Links::reset`].

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// The ways of one simulation; clones are the same ones.
#[derive(Clone, Default)]
pub(crate) struct Links(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// From, to, and how many faults cut it.
    cut: BTreeMap<(IpAddr, IpAddr), u32>,
    /// How often the connections between two hosts were reset, the lower address first.
    resets: BTreeMap<(IpAddr, IpAddr), u64>,
    ends_made: u64,
    /// Who looks again when something changes, by the number of its end.
    waiting: BTreeMap<u64, Waker>,
}

impl Links {
    /// Cuts the way from one host to another.
    pub(crate) fn cut(&self, from: IpAddr, to: IpAddr) {
        *self.lock().cut.entry((from, to)).or_default() += 1;
    }

    /// Takes one [`Links::cut`] back.
    pub(crate) fn mend(&self, from: IpAddr, to: IpAddr) {
        self.change(|state| {
            let cuts = state.cut.entry((from, to)).or_default();
            *cuts = cuts.saturating_sub(1);
            if *cuts == 0 {
                state.cut.remove(&(from, to));
            }
        });
    }

    /// Breaks all connections that there are between two hosts.
    pub(crate) fn reset(&self, a: IpAddr, b: IpAddr) {
        self.change(|state| *state.resets.entry(pair(a, b)).or_default() += 1);
    }

    /// One end of a connection that is made now.
    pub(crate) fn end(&self, local: IpAddr, peer: IpAddr) -> End {
        let mut state = self.lock();
        state.ends_made += 1;
        let resets = state.resets.get(&pair(local, peer)).copied().unwrap_or(0);
        End { links: self.clone(), number: state.ends_made, local, peer, resets }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_values().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn pair(a: IpAddr, b: IpAddr) -> (IpAddr, IpAddr) {
    (a.min(b), a.max(b))
}

/// One end of a connection.
pub(crate) struct End {
    links: Links,
    number: u64,
    local: IpAddr,
    peer: IpAddr,
    /// Resets before it was made.
    resets: u64,
}

impl End {
    /// Whether what the other end has sent gets here.
    pub(crate) fn poll_incoming(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(cx, |state| !state.cut.contains_key(&(self.peer, self.local)))
    }

    /// Waits until both ways are open, as the handshake of a connection needs.
    pub(crate) async fn opened(&self) -> io::Result<()> {
        let whole = |state: &State| {
            let ways = [(self.peer, self.local), (self.local, self.peer)];
            !ways.iter().any(|way| state.cut.contains_key(way))
        };
        std::future::poll_fn(|cx| self.poll(cx, whole)).await
    }

    /// That the connection was not reset.
    pub(crate) fn check(&self) -> io::Result<()> {
        self.check_in(&self.links.lock())
    }

    fn check_in(&self, state: &State) -> io::Result<()> {
        let resets = state.resets.get(&pair(self.local, self.peer)).copied().unwrap_or(0);
        if resets > self.resets { Err(io::ErrorKind::ConnectionReset.into()) } else { Ok(()) }
    }

    /// The waker stays also where all is open: a reset has to reach who waits for bytes.
    fn poll(&self, cx: &mut Context<'_>, open: impl Fn(&State) -> bool) -> Poll<io::Result<()>> {
        let mut state = self.links.lock();
        self.check_in(&state)?;
        state.waiting.insert(self.number, cx.waker().clone());
        if open(&state) { Poll::Ready(Ok(())) } else { Poll::Pending }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.links.lock().waiting.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    fn gets_through(end: &End) -> bool {
        std::future::poll_fn(|cx| end.poll_incoming(cx)).now_or_never().is_some()
    }

    #[test]
    fn a_cut_stops_one_way_until_every_fault_is_mended() {
        let links = Links::default();
        let (at_a, at_b) = (links.end(A, B), links.end(B, A));
        links.cut(A, B);
        links.cut(A, B);
        assert_eq!((gets_through(&at_a), gets_through(&at_b)), (true, false));
        assert!(at_a.opened().now_or_never().is_none(), "a handshake goes both ways");
        links.mend(A, B);
        assert!(!gets_through(&at_b));
        links.mend(A, B);
        assert!(gets_through(&at_b) && at_a.opened().now_or_never().is_some());
    }

    #[test]
    fn a_reset_ends_the_connections_that_were_there() {
        let links = Links::default();
        let before = links.end(A, B);
        links.reset(B, A);
        let reset = before.check().map_err(|error| error.kind());
        assert_eq!(reset, Err(io::ErrorKind::ConnectionReset));
        links.end(A, B).check().expect("a new one");
    }
}
