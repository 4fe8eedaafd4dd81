//! Making a partition's log durable: syncs for acknowledgements, syncs by count and age, checkpoints.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use klamm_cluster::FlushClass;
use klamm_log::{CheckpointPoint, Offline, SyncPoint};
use tracing::warn;

use super::Partition;
use crate::waiters::{Signal, fire_all};

/// When a log of class os is synced for its own sake (`flush.messages`, `flush.ms`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlushPolicy {
    /// After so many records.
    pub messages: i64,
    /// So long after the first record; `None` for never.
    pub after: Option<Duration>,
}

impl FlushPolicy {
    /// Whenever the system likes.
    pub(crate) const NEVER: FlushPolicy = FlushPolicy { messages: i64::MAX, after: None };
}

/// What has been appended since the last sync, as far as a [`FlushPolicy`] asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unsynced {
    policy: FlushPolicy,
    records: i64,
    /// A sync is due.
    due: bool,
    /// Somebody waits until `after` is over.
    timed: bool,
}

/// What an append calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Now,
    After(Duration),
}

impl Unsynced {
    pub(super) fn new() -> Unsynced {
        Unsynced { policy: FlushPolicy::NEVER, records: 0, due: false, timed: false }
    }

    pub(super) fn set_policy(&mut self, policy: FlushPolicy) {
        self.policy = policy;
    }

    /// Counts what was appended to a log of class os.
    pub(super) fn add(&mut self, records: i64) -> Due {
        self.records = self.records.saturating_add(records);
        if self.records >= self.policy.messages {
            self.due = true;
            return Due::Now;
        }
        match self.policy.after {
            Some(after) if !self.timed => {
                self.timed = true;
                Due::After(after)
            }
            _ => Due::Nothing,
        }
    }

    /// The time is over.
    fn expire(&mut self) {
        self.timed = false;
        self.due |= self.records > 0;
    }

    /// Whether a sync was due; begins to count anew.
    fn take_due(&mut self) -> bool {
        if self.due {
            self.records = 0;
        }
        std::mem::take(&mut self.due)
    }
}

impl Partition {
    /// Does what an append calls for: the directory's tasks sync now, or later.
    pub(super) fn sync_when(self: &Arc<Self>, due: Due) {
        match due {
            Due::Nothing => {}
            Due::Now => self.mark_dirty(),
            Due::After(_) => self.dir.to_sync_later.push(self),
        }
    }

    /// How long after its first unsynced record it is to be synced.
    pub(crate) fn sync_after(&self) -> Duration {
        self.lock().unsynced.policy.after.unwrap_or_default()
    }

    /// That time is over.
    pub(crate) fn sync_is_due(self: &Arc<Self>) {
        self.lock().unsynced.expire();
        self.mark_dirty();
    }

    /// A sync did not come about: it is due as before.
    pub(crate) fn sync_again(self: &Arc<Self>) {
        self.lock().unsynced.due = true;
        self.mark_dirty();
    }

    pub(super) fn mark_dirty(self: &Arc<Self>) {
        if !self.dirty.swap(true, Ordering::AcqRel) {
            self.dir.dirty.push(self);
        }
    }

    /// Begins a sync of what is not durable, if an acknowledgement or a new file needs one. What is
    /// appended from now on makes the partition dirty again.
    pub(crate) fn begin_sync(&self) -> Option<SyncPoint> {
        self.dirty.store(false, Ordering::SeqCst);
        let mut state = self.lock();
        let acked = state.flush().is_some_and(FlushClass::counts_synced);
        if !(state.unsynced.take_due() || acked) {
            return None;
        }
        state.log.as_mut()?.begin_sync()
    }

    /// Ends a sync; answers whom to wake.
    ///
    /// # Errors
    /// When the disk failed: the whole directory is offline.
    pub(crate) fn end_sync(
        &self,
        point: SyncPoint,
        outcome: io::Result<()>,
    ) -> Result<Vec<Arc<Signal>>, Offline> {
        let mut state = self.lock();
        let Some(log) = &mut state.log else { return Ok(Vec::new()) };
        log.end_sync(point, outcome)?;
        let mut woken = self.commit(&mut state);
        woken.extend(self.followed(&state));
        Ok(woken)
    }

    /// Asks for a checkpoint when much lies past the recovery point.
    pub(crate) fn offer_checkpoint(self: &Arc<Self>) {
        if self.with_log(|log| log.needs_checkpoint()) == Some(true)
            && !self.checkpoint_offered.swap(true, Ordering::AcqRel)
        {
            self.dir.to_checkpoint.push(self);
        }
    }

    /// Moves the recovery point to the end of the log. Blocks on the disk.
    pub(crate) fn checkpoint(&self) {
        self.checkpoint_offered.store(false, Ordering::Release);
        let begun = self.with_log(|log| log.begin_checkpoint());
        let point = match begun {
            Some(Ok(Some(point))) => point,
            None | Some(Ok(None)) => return,
            Some(Err(error)) => {
                warn!(partition = %self.id, "no checkpoint: {error}");
                return;
            }
        };
        let outcome = point.run();
        match self.end_checkpoint(point, outcome) {
            Ok(woken) => fire_all(&woken),
            // Logged where the directory was taken offline.
            Err(_) => self.dir.wake_all(),
        }
    }

    /// Ends a checkpoint; answers whom to wake: it has made durable what a sync under way at the
    /// same time will find done already.
    fn end_checkpoint(
        &self,
        point: CheckpointPoint,
        outcome: io::Result<()>,
    ) -> Result<Vec<Arc<Signal>>, Offline> {
        let mut state = self.lock();
        let Some(log) = &mut state.log else { return Ok(Vec::new()) };
        log.end_checkpoint(point, outcome)?;
        let mut woken = self.commit(&mut state);
        woken.extend(self.followed(&state));
        Ok(woken)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use klamm_log::{LogConfig, Origin};
    use klamm_protocol::ErrorCode;
    use klamm_protocol::compression::Compression;
    use klamm_protocol::records::{
        BatchBuilder, ControlType, EndTxnMarker, NewRecord, ProducerFields,
    };
    use tempfile::TempDir;
    use tokio::runtime::Builder;

    use super::super::fixture::{self, one_record};
    use super::super::{Leadership, Role};
    use super::*;

    fn leads(epoch: i32) -> Role {
        Role::Leads(Leadership { epoch, flush: FlushClass::Acked, min_isr: 1, isr: 1 }, None)
    }

    /// An open partition that is led in epoch 0.
    fn led() -> (TempDir, Arc<Partition>) {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (folder, partition) = fixture::partition();
        partition.apply(leads(0), &LogConfig::default());
        runtime.block_on(partition.open()).expect("opened");
        (folder, partition)
    }

    #[test]
    fn a_checkpoint_that_overtakes_a_sync_wakes_who_waits_for_it() {
        let (_folder, partition) = led();
        let appended = partition.append(&one_record(), None, Origin::Client, true);
        let end = appended.expect("appended").last_offset + 1;
        let signal = Arc::new(Signal::default());
        partition.waiters().add(end, &signal);
        let sync = partition.begin_sync().expect("something to sync");
        let outcome = sync.run();
        partition.checkpoint();
        assert_eq!(partition.end_sync(sync, outcome).expect("online").len(), 0);
        assert_eq!(partition.high_watermark(), end);
        assert!(signal.fired().now_or_never().is_some(), "nobody would ever wake it");
    }

    #[test]
    fn hazard_80_a_waiter_of_another_epoch_is_not_acknowledged_by_a_later_record() {
        let (_folder, partition) = led();
        let config = LogConfig::default();
        let lost = partition.append(&one_record(), None, Origin::Client, true).expect("appended");
        let end = lost.last_offset + 1;
        assert_eq!(partition.ack_outcome(0, end), None, "not durable yet");
        partition.apply(Role::Idle, &config);
        partition.with_log(|log| log.truncate_to(0)).expect("open").expect("cut");
        partition.apply(leads(1), &config);
        let other = partition.append(&one_record(), None, Origin::Client, true).expect("appended");
        assert_eq!(other.last_offset, lost.last_offset);
        let sync = partition.begin_sync().expect("something to sync");
        let outcome = sync.run();
        partition.end_sync(sync, outcome).expect("online");
        assert_eq!(partition.ack_outcome(1, end), Some(Ok(())));
        assert_eq!(partition.ack_outcome(0, end), Some(Err(ErrorCode::NotLeaderOrFollower)));
    }

    #[test]
    fn the_last_stable_offset_passes_a_transaction_when_its_marker_is_below_the_high_watermark() {
        let (_folder, partition) = led();
        let append = |records: &[u8]| {
            partition.append(records, None, Origin::Coordinator, true).expect("appended");
        };
        let sync = || {
            let sync = partition.begin_sync().expect("something to sync");
            let outcome = sync.run();
            partition.end_sync(sync, outcome).expect("online").len()
        };
        let mut builder = BatchBuilder::new(Compression::None, usize::MAX);
        builder.set_transactional(true);
        let producer = ProducerFields { producer_id: 1, producer_epoch: 0, base_sequence: 0 };
        builder.set_producer(producer);
        builder.append(&NewRecord::default()).expect("no bound");
        append(&builder.build().expect("nothing is compressed"));
        append(&one_record());
        sync();
        let offsets = || {
            let offsets = partition.offsets();
            (offsets.last_stable, offsets.high_watermark, offsets.log_end)
        };
        assert_eq!(offsets(), (0, 2, 2), "open");
        let marker = EndTxnMarker { control_type: ControlType::Abort, coordinator_epoch: 0 };
        append(&BatchBuilder::end_txn(1, 0, 1, marker));
        assert_eq!(offsets(), (0, 2, 3), "ended, but not for good");
        // Who reads committed data waits for the high watermark as others do.
        let signal = Arc::new(Signal::default());
        partition.waiters().add(3, &signal);
        assert_eq!(sync(), 1);
        assert_eq!(offsets(), (3, 3, 3));
        partition.advance_log_start(3).expect("below the high watermark");
        assert_eq!(offsets(), (3, 3, 3));
    }

    #[test]
    fn records_are_counted_until_a_sync_is_due() {
        let mut unsynced = Unsynced::new();
        unsynced.set_policy(FlushPolicy { messages: 3, after: None });
        assert_eq!(unsynced.add(2), Due::Nothing);
        assert!(!unsynced.take_due());
        assert_eq!(unsynced.add(1), Due::Now);
        assert!(unsynced.take_due());
        assert_eq!(unsynced.add(2), Due::Nothing);
    }

    #[test]
    fn the_first_record_after_a_sync_starts_the_clock() {
        let after = Duration::from_secs(5);
        let mut unsynced = Unsynced::new();
        unsynced.set_policy(FlushPolicy { messages: i64::MAX, after: Some(after) });
        assert_eq!(unsynced.add(1), Due::After(after));
        assert_eq!(unsynced.add(1), Due::Nothing);
        unsynced.expire();
        assert!(unsynced.take_due());
        assert_eq!(unsynced.add(1), Due::After(after));
    }
}
