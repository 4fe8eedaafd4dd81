//! Waiting until appended batches count as acknowledged.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use klamm_protocol::ErrorCode;

use crate::partition::Partition;
use crate::waiters::{Signal, WaiterKey};

/// An appended batch that is to be acknowledged: bound to the leader epoch of its append, so that
/// a later record at the same offset never answers for it (R21).
#[derive(Clone)]
pub(crate) struct Ack {
    /// Where it was appended.
    pub partition: Arc<Partition>,
    /// In which epoch.
    pub leader_epoch: i32,
    /// The offset behind its last record.
    pub end_offset: i64,
}

impl Ack {
    /// What to answer, once that is decided.
    pub(crate) fn outcome(&self) -> Option<Result<(), ErrorCode>> {
        self.partition.ack_outcome(self.leader_epoch, self.end_offset)
    }
}

/// Waits on `signal` until every batch is acknowledged or refused, no longer than `timeout`.
pub(crate) async fn wait_all(
    acks: &[Ack],
    signal: Signal,
    timeout: Duration,
) -> Vec<Result<(), ErrorCode>> {
    let mut outcomes = vec![None; acks.len()];
    if !settle(acks, &mut outcomes) {
        let waiting = Waiting::register(acks, signal);
        let mut deadline = pin!(tokio::time::sleep(timeout));
        while !settle(acks, &mut outcomes) {
            match select(pin!(waiting.signal.fired()), &mut deadline).await {
                Either::Left(_) => {}
                Either::Right(_) => break,
            }
        }
    }
    let timed_out = Err(ErrorCode::RequestTimedOut);
    outcomes.into_iter().map(|outcome| outcome.unwrap_or(timed_out)).collect()
}

/// Fills in what is decided by now; whether that is everything.
fn settle(acks: &[Ack], outcomes: &mut [Option<Result<(), ErrorCode>>]) -> bool {
    let mut all = true;
    for (ack, outcome) in acks.iter().zip(outcomes) {
        if outcome.is_none() {
            *outcome = ack.outcome();
        }
        all &= outcome.is_some();
    }
    all
}

/// The registrations of one request, taken back when it is answered or given up.
struct Waiting<'a> {
    signal: Arc<Signal>,
    keys: Vec<(&'a Partition, WaiterKey)>,
}

impl<'a> Waiting<'a> {
    fn register(acks: &'a [Ack], signal: Signal) -> Waiting<'a> {
        let signal = Arc::new(signal);
        let register = |ack: &'a Ack| {
            let partition = &*ack.partition;
            (partition, partition.waiters().add(ack.end_offset, &signal))
        };
        let keys = acks.iter().map(register).collect();
        Waiting { signal, keys }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        for (partition, key) in &self.keys {
            partition.waiters().remove(*key);
        }
    }
}
