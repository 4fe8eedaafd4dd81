//! The follower's side of replication: where it stands, what it takes over, what it has to cut (R16).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use klamm_cluster::FlushClass;
use klamm_env::rules::Rule;
use klamm_log::{AppendError, Log, TruncateError};
use klamm_protocol::ErrorCode;
use thiserror::Error;
use tracing::warn;

use super::{Due, Partition, State};
use crate::data_dir::DataDir;
use crate::waiters::fire_all;

/// Pause between two looks whether the last reader of what is to be cut has ended: a send that goes
/// on has no event to wait for.
const DRAIN_PAUSE: Duration = Duration::from_millis(5);
/// Looks before other partitions get their turn: a consumer that does not read on must hold up no
/// more than the partition that it reads.
const DRAIN_LOOKS_MAX: u32 = 20;

/// Whom a broker follows in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Following {
    /// The leader.
    pub leader: i32,
    /// Its epoch.
    pub epoch: i32,
    /// What a fetch offset means: synced, or in the log (R17).
    pub flush: FlushClass,
    /// The leader epoch of the last unclean election, -1 for none: only that one may cost what is
    /// committed.
    pub unclean_epoch: i32,
}

/// Where a follower stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FetchPosition {
    /// It holds everything below, as the partition's class means it.
    pub offset: i64,
    /// Epoch of the last record below, -1 where there is none.
    pub last_epoch: i32,
    /// First offset of its log.
    pub log_start: i64,
}

/// What a leader sent.
#[derive(Debug)]
pub(crate) struct Fetched {
    /// Whole batches.
    pub records: Bytes,
    /// The leader's high watermark.
    pub high_watermark: i64,
    /// The first offset of the leader's log.
    pub log_start: i64,
}

/// Why a follower does not go on.
#[derive(Debug, Error)]
pub(crate) enum FollowError {
    /// It follows somebody else by now, or nobody.
    #[error("the epoch is over")]
    Over,
    /// The leader, or this broker, has not heard of the epoch yet.
    #[error("the leader is not there yet")]
    NotYet,
    /// It may work later: a full disk, a missing descriptor.
    #[error("{0}")]
    Later(String),
    /// Its log directory is offline.
    #[error("the log directory is offline")]
    Offline,
    /// What the leader says does not fit what this broker holds for certain.
    #[error("{0}")]
    Contradiction(String),
}

impl From<AppendError> for FollowError {
    fn from(error: AppendError) -> FollowError {
        match error {
            AppendError::Offline(_) => FollowError::Offline,
            AppendError::DiskFull => FollowError::Later(error.to_string()),
            other => FollowError::Contradiction(other.to_string()),
        }
    }
}

impl State {
    /// # Errors
    /// [`FollowError::Over`] unless the broker follows in that epoch and the log is open.
    fn follows(&mut self, epoch: i32) -> Result<(Following, &mut Log), FollowError> {
        let following = self.following.filter(|following| following.epoch == epoch);
        let log = self.log.as_mut();
        following.zip(log).ok_or(FollowError::Over)
    }
}

impl Partition {
    /// Whom it follows now.
    pub(crate) fn following(&self) -> Option<Following> {
        self.lock().following
    }

    /// Compares the leader epoch that a consumer knows (-1: none) with the one that is followed.
    ///
    /// # Errors
    /// When they differ, or nobody is followed.
    pub(crate) fn check_followed_epoch(&self, known: i32) -> Result<(), ErrorCode> {
        let epoch = self.following().ok_or(ErrorCode::NotLeaderOrFollower)?.epoch;
        match known {
            _ if !Rule::R14.holds() => Ok(()),
            -1 => Ok(()),
            known if known < epoch => Err(ErrorCode::FencedLeaderEpoch),
            known if known > epoch => Err(ErrorCode::UnknownLeaderEpoch),
            _ => Ok(()),
        }
    }

    /// Where it stands in the epoch; `None` while something is on its way to the disk: wait with
    /// [`Partition::end_waiters`] for the log's end to be synced, and ask again.
    ///
    /// # Errors
    /// [`FollowError`].
    pub(crate) fn fetch_position(
        self: &Arc<Self>,
        epoch: i32,
    ) -> Result<Option<FetchPosition>, FollowError> {
        self.check_online().map_err(|_| FollowError::Offline)?;
        let mut state = self.lock();
        let (following, log) = state.follows(epoch)?;
        let offset = log.log_end_offset();
        let is_synced = log.synced_end_offset() >= offset;
        if following.flush.counts_synced() && !is_synced && Rule::R17.holds() {
            drop(state);
            self.mark_dirty();
            return Ok(None);
        }
        let last_epoch = log.epochs().epoch_for_offset(offset - 1).unwrap_or(-1);
        let any = offset > log.log_start_offset();
        let last_epoch = if any && Rule::R16.holds() { last_epoch } else { -1 };
        Ok(Some(FetchPosition { offset, last_epoch, log_start: log.log_start_offset() }))
    }

    /// The end of the log, while not all of it is durable.
    pub(crate) fn unsynced_end(&self) -> Option<i64> {
        let end = self.with_log(|log| (log.log_end_offset(), log.synced_end_offset()));
        end.filter(|(end, synced)| synced < end).map(|(end, _)| end)
    }

    /// Takes over what the leader of the epoch sent.
    ///
    /// # Errors
    /// [`FollowError`]; the log is unchanged.
    pub(crate) fn append_fetched(
        self: &Arc<Self>,
        epoch: i32,
        fetched: &Fetched,
    ) -> Result<(), FollowError> {
        let now_ms = self.env.clock.wall_ms();
        let mut state = self.lock();
        let (following, log) = state.follows(epoch)?;
        let Fetched { log_start, high_watermark, .. } = *fetched;
        // Where the follower begins as well it deletes what lies before, so the word is looked at.
        if !(0..=high_watermark).contains(&log_start) {
            let reason = format!(
                "leader {} of epoch {epoch} says that its log begins at {log_start}, and that it is \
                 committed up to {high_watermark}",
                following.leader
            );
            return Err(FollowError::Contradiction(reason));
        }
        let before = log.log_end_offset();
        if !fetched.records.is_empty()
            && let Err(error) = log.append_as_follower(&fetched.records, epoch, now_ms)
        {
            let error = FollowError::from(error);
            drop(state);
            if matches!(error, FollowError::Offline) {
                self.dir.wake_all();
            }
            return Err(error);
        }
        let end = log.log_end_offset();
        let woken = self.advance(log, fetched.high_watermark.min(end));
        log.advance_log_start(fetched.log_start.min(self.high_watermark()));
        let synced = following.flush.counts_synced();
        let checkpoint_due = !synced && log.needs_checkpoint();
        let due = match end > before {
            false => Due::Nothing,
            true if synced => Due::Now,
            true => state.unsynced.add(end - before),
        };
        drop(state);
        fire_all(&woken);
        self.sync_when(due);
        if checkpoint_due {
            self.offer_checkpoint();
        }
        Ok(())
    }

    /// Where the epoch ends in this log, as far as the log knows: the largest known epoch up to it,
    /// and its end.
    pub(crate) fn end_offset_for_epoch(&self, epoch: i32) -> Option<(i32, i64)> {
        self.with_log(|log| log.end_offset_for_epoch(epoch))
    }

    /// Cuts the log at `offset` for the leader of the epoch. At the log's own end it only forgets
    /// epochs that have no records.
    ///
    /// # Errors
    /// [`FollowError`]; CONTRADICTION below the high watermark, unless the leader was elected
    /// uncleanly after the last record here was written.
    pub(crate) async fn truncate(
        self: &Arc<Self>,
        epoch: i32,
        offset: i64,
    ) -> Result<(), FollowError> {
        self.cut(epoch, move |partition, following, log| {
            let high_watermark = partition.high_watermark();
            if offset < high_watermark && offset < log.log_end_offset() {
                let last_epoch = log.latest_epoch().unwrap_or(-1);
                if last_epoch >= following.unclean_epoch {
                    let reason = format!(
                        "leader {} of epoch {} ends at {offset}, below the high watermark \
                         {high_watermark}",
                        following.leader, following.epoch
                    );
                    return Err(FollowError::Contradiction(reason));
                }
                partition.lower_high_watermark(log, offset);
            }
            Ok(log.truncate_to(offset))
        })
        .await
    }

    /// Empties the log, which begins at `offset` from now on: the leader holds nothing below.
    ///
    /// # Errors
    /// [`FollowError`].
    pub(crate) async fn start_at(
        self: &Arc<Self>,
        epoch: i32,
        offset: i64,
    ) -> Result<(), FollowError> {
        let cut = move |partition: &Partition, _: &Following, log: &mut Log| {
            let cut = log.truncate_fully_and_start_at(offset);
            if cut.is_ok() {
                partition.last_stable.store(offset, Ordering::SeqCst);
                partition.high_watermark.store(offset, Ordering::SeqCst);
            }
            Ok(cut)
        };
        self.cut(epoch, cut).await
    }

    /// Runs a cut off the loop, again until the readers of what goes have ended; where they do not in
    /// time, the caller comes back later.
    async fn cut(
        self: &Arc<Self>,
        epoch: i32,
        cut: impl Fn(&Partition, &Following, &mut Log) -> Result<Result<(), TruncateError>, FollowError>
        + Clone
        + Send
        + 'static,
    ) -> Result<(), FollowError> {
        for _ in 0..DRAIN_LOOKS_MAX {
            let (partition, cut) = (Arc::clone(self), cut.clone());
            let job = move |_: &DataDir| {
                let mut state = partition.lock();
                let (following, log) = state.follows(epoch)?;
                cut(&partition, &following, log)
            };
            match self.dir.run_job(&*self.env.threads, job).await? {
                Ok(()) => return Ok(()),
                Err(TruncateError::InFlight { .. }) => tokio::time::sleep(DRAIN_PAUSE).await,
                Err(TruncateError::Io(error)) => return Err(FollowError::Later(error.to_string())),
                Err(TruncateError::Offline(_)) => {
                    self.dir.wake_all();
                    return Err(FollowError::Offline);
                }
            }
        }
        Err(FollowError::Later("what is to be cut is still being read".to_owned()))
    }

    /// An unclean election has cost committed records.
    fn lower_high_watermark(&self, log: &mut Log, offset: i64) {
        warn!(partition = %self.id, offset, "committed records are cut: unclean election");
        self.last_stable.store(log.last_stable_offset(offset), Ordering::SeqCst);
        self.high_watermark.store(offset, Ordering::SeqCst);
        self.dir.note_high_watermark();
    }
}

#[cfg(test)]
mod tests {
    use klamm_log::{LogConfig, Origin};
    use klamm_protocol::compression::Compression;
    use klamm_protocol::records::{BatchBuilder, NewRecord};
    use tempfile::TempDir;

    use super::super::{Leadership, Role, fixture};
    use super::*;

    /// Far beyond what the caller may be held up.
    const PATIENCE: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_consumer_that_does_not_read_on_holds_up_a_cut_and_not_its_caller() {
        let (_folder, partition) = fixture::partition();
        let config = LogConfig::default();
        let flush = FlushClass::Acked;
        let leads = Leadership { epoch: 0, flush, min_isr: 1, isr: 1 };
        partition.apply(Role::Leads(leads, None), &config);
        let reader = partition.open().await.expect("opened").clone();
        partition.append(&fixture::one_record(), None, Origin::Client, true).expect("appended");
        let follows = Following { leader: 2, epoch: 1, flush, unclean_epoch: -1 };
        partition.apply(Role::Follows(follows), &config);
        let being_sent = reader.read(0, u64::MAX, i64::MAX, true).expect("readable");
        let refused = tokio::time::timeout(PATIENCE, partition.truncate(1, 0)).await;
        let refused = refused.expect("it comes back");
        assert!(matches!(refused, Err(FollowError::Later(_))), "{refused:?}");
        drop(being_sent);
        partition.truncate(1, 0).await.expect("nobody reads it any more");
        assert_eq!(reader.log_end_offset(), 0);
        let over = partition.truncate(0, 0).await;
        assert!(matches!(over, Err(FollowError::Over)), "{over:?}");
    }

    /// A follower of broker 2 in leader epoch 0, that holds nothing yet.
    async fn follower() -> (TempDir, Arc<Partition>) {
        let (folder, partition) = fixture::partition();
        follow(&partition, 0, -1);
        partition.open().await.expect("opened");
        (folder, partition)
    }

    fn follow(partition: &Partition, epoch: i32, unclean_epoch: i32) {
        let follows = Following { leader: 2, epoch, flush: FlushClass::Acked, unclean_epoch };
        partition.apply(Role::Follows(follows), &LogConfig::default());
    }

    /// One record as the leader of `epoch` sends it, and that all up to it is committed.
    fn committed(offset: i64, epoch: i32) -> Fetched {
        let mut builder = BatchBuilder::new(Compression::None, usize::MAX);
        builder.append(&NewRecord::default()).expect("no bound");
        builder.set_base_offset(offset);
        builder.set_leader_epoch(epoch);
        let records = builder.build().expect("nothing is compressed");
        Fetched { records, high_watermark: offset + 1, log_start: 0 }
    }

    /// HAZARDS 99: a replica behind an unclean election can truncate below what it knows to be
    /// committed, once: not before the election, and not what was written after it.
    #[tokio::test]
    async fn hazard_99_only_an_unclean_election_after_the_last_record_may_cost_what_is_committed() {
        let (_folder, partition) = follower().await;
        partition.append_fetched(0, &committed(0, 0)).expect("taken");
        partition.append_fetched(0, &committed(1, 0)).expect("taken");
        assert_eq!(partition.high_watermark(), 2);
        let refused = |cut: Result<(), FollowError>| {
            assert!(matches!(cut, Err(FollowError::Contradiction(_))), "{cut:?}");
            assert_eq!(partition.high_watermark(), 2);
        };
        follow(&partition, 1, -1);
        refused(partition.truncate(1, 1).await);
        // Uncleanly elected in epoch 2: it may lack what was committed before.
        follow(&partition, 2, 2);
        partition.truncate(2, 1).await.expect("its log is the one that counts");
        assert_eq!(partition.high_watermark(), 1);
        partition.append_fetched(2, &committed(1, 2)).expect("taken");
        assert_eq!(partition.high_watermark(), 2);
        // What was committed since is safe, in that epoch and in later ones.
        refused(partition.truncate(2, 1).await);
        follow(&partition, 3, 2);
        refused(partition.truncate(3, 0).await);
    }

    /// What a leader says is held against what cannot be.
    #[tokio::test]
    async fn what_no_leader_of_the_epoch_can_say_changes_nothing() {
        let (_folder, partition) = follower().await;
        follow(&partition, 4, -1);
        partition.append_fetched(4, &committed(0, 4)).expect("taken");
        let from_the_future = committed(1, 5);
        let begins_beyond = Fetched { log_start: 2, ..committed(1, 4) };
        let begins_below_zero = Fetched { log_start: -1, ..committed(1, 4) };
        for fetched in
            [from_the_future, Fetched { high_watermark: 1, ..begins_beyond }, begins_below_zero]
        {
            let refused = partition.append_fetched(4, &fetched);
            assert!(
                matches!(refused, Err(FollowError::Contradiction(_))),
                "{fetched:?}: {refused:?}"
            );
            let reader = partition.reader().expect("open");
            assert_eq!((reader.log_start_offset(), reader.log_end_offset()), (0, 1));
            assert_eq!(partition.end_offset_for_epoch(4), Some((4, 1)));
            assert_eq!(partition.end_offset_for_epoch(5), Some((-1, -1)), "no such epoch began");
        }
        partition.append_fetched(4, &committed(1, 4)).expect("a sound one is taken");
    }
}
