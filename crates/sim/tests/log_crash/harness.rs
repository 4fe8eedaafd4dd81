//! Drives a log on a simulated disk until it crashes, and looks at what is left.

use std::io;
use std::path::Path;
use std::sync::Arc;

use klamm_log::{
    LeaderAppend, Log, LogConfig, LogDir, OpenLog, Origin, RecoveryReport, TopicPartition,
    TruncateError, verify,
};
use klamm_protocol::compression::Compression;
use klamm_protocol::records::{
    BatchBuilder, ControlType, EndTxnMarker, NewRecord, ProducerFields, set_base_offset,
    set_leader_epoch,
};
use klamm_sim::disk::SimulatedDisk;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use crate::model::{Appended, Model};

const NOW_MS: i64 = 1_767_225_600_000;
/// Crashes of one run.
const LIVES: usize = 6;
/// Steps of a life that does not end before.
const STEPS: usize = 60;

/// What is done to the log.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    Append,
    /// Appends until there are so many segments.
    Fill(usize),
    NewEpoch,
    Sync,
    SyncVolume,
    Checkpoint,
    /// To this part of 255 of the log.
    Truncate(u8),
    /// To where a segment begins: the one with this many after it, or the first.
    TruncateToSegment(usize),
    AdvanceStart(u8),
    DeleteOld,
    /// A clean shutdown and a start.
    Close,
}

/// Who syncs what was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Acknowledgements wait for syncs (`flush=acked`).
    Acked,
    /// Only checkpoints sync (`flush=os`).
    Os,
}

/// What happened in the runs of a test.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub power_losses: u64,
    pub kills: u64,
    /// Recoveries that cut something.
    pub cut: u64,
    /// Recoveries that kept what was not synced.
    pub kept_unsynced: u64,
    pub removed_segments: u64,
    pub truncations: u64,
    pub deletions: u64,
    /// Aborted transactions that a recovered log was asked for.
    pub aborted: u64,
}

/// Why a step was not finished.
pub enum Stop {
    /// The power is gone.
    Died,
    Failed(String),
}

type Outcome = Result<(), Stop>;

fn died<E: std::fmt::Display>(error: E) -> Stop {
    let text = error.to_string();
    if text.contains("the power is gone") { Stop::Died } else { Stop::Failed(text) }
}

#[derive(Clone)]
pub struct Run {
    pub disk: Arc<SimulatedDisk>,
    pub random: SmallRng,
    pub model: Model,
    /// A batch whose append was under way.
    pub in_flight: Option<Appended>,
    pub policy: Policy,
}

impl Run {
    pub fn new(seed: u64) -> Run {
        Run {
            disk: SimulatedDisk::new(seed),
            random: SmallRng::seed_from_u64(seed),
            model: Model::default(),
            in_flight: None,
            policy: Policy::Acked,
        }
    }

    pub fn with_policy(self, policy: Policy) -> Run {
        Run { policy, ..self }
    }

    /// Lives of random steps, each ended by a power loss or a kill.
    pub fn random_steps(mut self, counts: &mut Counts) -> Result<(), String> {
        for _ in 0..LIVES {
            let power = self.random.random_range(0..4) > 0;
            self.disk.die_after(self.random.random_range(1..250));
            match self.live(counts) {
                Ok(()) | Err(Stop::Died) => {}
                Err(Stop::Failed(failure)) => return Err(failure),
            }
            if power {
                counts.power_losses += 1;
                self.disk.lose_power();
            } else {
                counts.kills += 1;
                self.disk.kill_process();
            }
            self.reopen_after_crash(power, counts)?;
        }
        Ok(())
    }

    /// The steps, with a power loss or a kill before the operation `at`; whether all were done before it.
    pub fn script(mut self, steps: &[Step], at: u64) -> Result<bool, String> {
        self.disk.die_after(at);
        let mut finished = false;
        match self.follow(steps, &mut Counts::default()) {
            Ok(()) => finished = true,
            Err(Stop::Died) => {}
            Err(Stop::Failed(failure)) => return Err(failure),
        }
        let power = self.random.random_bool(0.5);
        if power {
            self.disk.lose_power()
        } else {
            self.disk.kill_process()
        }
        self.reopen_after_crash(power, &mut Counts::default())?;
        // What was shown once must not go any more.
        self.disk.lose_power();
        self.reopen_after_crash(true, &mut Counts::default())?;
        Ok(finished)
    }

    /// A sync fails; the process goes on for a while, ends, and another opens the log, first in
    /// the same boot and then after a power loss.
    pub fn with_failed_sync(mut self) -> Result<(), String> {
        let (mut log, _) = self.open().map_err(|_| "the disk works")?;
        for _ in 0..self.random.random_range(5..20) {
            self.step(&mut log, Step::Append, &mut Counts::default()).map_err(failure)?;
        }
        self.step(&mut log, Step::Sync, &mut Counts::default()).map_err(failure)?;
        self.step(&mut log, Step::Append, &mut Counts::default()).map_err(failure)?;
        let point = log.begin_sync().ok_or("nothing to sync")?;
        self.disk.fail_syncs(1);
        let outcome = point.run();
        log.end_sync(point, outcome).expect_err("the sync failed");
        if log.begin_checkpoint().is_ok_and(|point| point.is_some_and(|point| point.run().is_err()))
        {
            return Err("a second sync fails as well".to_owned());
        }
        let refused = self.step(&mut log, Step::Append, &mut Counts::default());
        if !matches!(refused, Err(Stop::Failed(_))) {
            return Err("an offline log takes an append".to_owned());
        }
        self.in_flight = None;
        drop(log);
        self.disk.kill_process();
        self.reopen_after_crash(false, &mut Counts::default())?;
        // What the second process has shown was written once more.
        self.disk.lose_power();
        self.reopen_after_crash(true, &mut Counts::default())
    }

    fn live(&mut self, counts: &mut Counts) -> Outcome {
        let steps: Vec<Step> = (0..STEPS).map(|_| self.draw()).collect();
        self.follow(&steps, counts)
    }

    fn draw(&mut self) -> Step {
        let part = self.random.random_range(0..=255);
        match self.random.random_range(0..40) {
            0..22 => Step::Append,
            22..24 => Step::NewEpoch,
            24..31 if self.policy == Policy::Os => Step::Append,
            24..29 => Step::Sync,
            29..31 => Step::SyncVolume,
            31..34 => Step::Checkpoint,
            34 => Step::Truncate(part),
            35 => Step::TruncateToSegment(usize::from(part) % 3),
            36 => Step::AdvanceStart(part),
            37..39 => Step::DeleteOld,
            _ => Step::Close,
        }
    }

    fn follow(&mut self, steps: &[Step], counts: &mut Counts) -> Outcome {
        let (log, _) = self.open()?;
        self.model.check(&log, false).map_err(died)?;
        self.go_on(log, steps, counts).map(drop)
    }

    /// The steps, on a log that is open.
    pub fn go_on(
        &mut self,
        mut log: Log,
        steps: &[Step],
        counts: &mut Counts,
    ) -> Result<Log, Stop> {
        for step in steps {
            if matches!(step, Step::Close) {
                self.close(log)?;
                log = self.open()?.0;
                let report_end = log.log_end_offset();
                self.model.check(&log, false).map_err(died)?;
                self.model.durable_end = report_end;
            } else {
                self.step(&mut log, *step, counts)?;
            }
        }
        Ok(log)
    }

    pub fn open(&self) -> Result<(Log, RecoveryReport), Stop> {
        let dir = LogDir::open(self.disk.files(), Path::new("/data")).map_err(died)?;
        let config = LogConfig {
            segment_bytes: 2_000,
            index_interval_bytes: 300,
            retention_bytes: 6_000,
            ..LogConfig::default()
        };
        Log::open(OpenLog {
            dir: Arc::new(dir),
            partition: TopicPartition::new("t", 0),
            topic_id: Uuid::from_u128(1),
            config,
            now_ms: NOW_MS,
        })
        .map_err(died)
    }

    pub fn reopen_after_crash(&mut self, power: bool, counts: &mut Counts) -> Result<(), String> {
        if let Some(batch) = self.in_flight.take() {
            self.model.push(batch);
            // Whether it is there is open, whatever was durable.
        }
        let promised = self.model.durable_end;
        let (log, report) = match self.open() {
            Ok(opened) => opened,
            Err(Stop::Died) => return Err("the power is gone again".to_owned()),
            Err(Stop::Failed(failure)) => return Err(failure),
        };
        if report.lost_below_recovery_point {
            return Err(format!("something below the recovery point is gone: {report:?}"));
        }
        counts.cut += u64::from(report.cut_bytes > 0);
        counts.kept_unsynced += u64::from(power && log.log_end_offset() > promised);
        counts.removed_segments += report.removed_segments as u64;
        self.model.check(&log, true).map_err(|failure| format!("{failure}; {report:?}"))?;
        counts.aborted += self.model.aborted().len() as u64;
        self.check_txn_indexes()?;
        // Recovery shows nothing that is not durable.
        if log.synced_end_offset() != log.log_end_offset() {
            return Err("recovery left something unsynced".to_owned());
        }
        Ok(())
    }

    /// The files, too, are what a scan gives: they are believed the next time.
    fn check_txn_indexes(&self) -> Result<(), String> {
        let files = self.disk.files();
        let mut damage = Vec::new();
        let done = verify(&*files, Path::new("/data/t-0"), 1 << 20, &mut |verified| {
            damage.extend(verified.damage);
            Ok(())
        });
        done.map_err(|error| error.to_string())?;
        damage.retain(|damage| damage.path.extension().is_some_and(|name| name == "txnindex"));
        if damage.is_empty() { Ok(()) } else { Err(format!("{damage:?}")) }
    }

    fn step(&mut self, log: &mut Log, step: Step, counts: &mut Counts) -> Outcome {
        match step {
            Step::Append => self.append(log),
            Step::Fill(count) => {
                while log.segment_count() < count {
                    self.append(log)?;
                }
                Ok(())
            }
            Step::NewEpoch => {
                self.model.epoch += 1;
                log.record_epoch_start(self.model.epoch);
                Ok(())
            }
            Step::Sync => self.sync(log, false),
            Step::SyncVolume => self.sync(log, true),
            Step::Checkpoint => self.checkpoint(log),
            Step::Truncate(part) => {
                counts.truncations += 1;
                let span = self.model.end - self.model.start;
                self.truncate(log, self.model.start + span * i64::from(part) / 255)
            }
            Step::TruncateToSegment(after) => {
                counts.truncations += 1;
                let bases = self.segments().map_err(died)?;
                self.truncate(log, bases[bases.len().saturating_sub(after + 1)])
            }
            Step::AdvanceStart(part) => {
                let span = self.model.end - self.model.start;
                let to = self.model.start + span * i64::from(part) / 510;
                log.advance_log_start(to);
                self.model.start = self.model.start.max(to);
                if self.random.random_bool(0.5) {
                    log.dir().write_log_start_offsets().map_err(died)?;
                    self.model.stored_start = self.model.start;
                }
                Ok(())
            }
            Step::DeleteOld => {
                let deletion = log.delete_old_segments(NOW_MS, self.model.end).map_err(died)?;
                self.model.start = log.log_start_offset();
                let Some(deletion) = deletion else {
                    return Ok(());
                };
                counts.deletions += 1;
                deletion.run().map_err(died)?;
                self.model.stored_start = self.model.start;
                Ok(())
            }
            Step::Close => unreachable!("handled by the caller"),
        }
    }

    fn append(&mut self, log: &mut Log) -> Outcome {
        match self.random.random_range(0..10) {
            0..2 => {
                let control_type = match self.random.random_range(0..3) {
                    0 => ControlType::Commit,
                    _ => ControlType::Abort,
                };
                let producer_id = self.random.random_range(3..6);
                let marker = EndTxnMarker { control_type, coordinator_epoch: 0 };
                let bytes = BatchBuilder::end_txn(producer_id, 0, NOW_MS, marker).to_vec();
                self.append_batch(log, producer_id, 1, bytes, Origin::Coordinator)
            }
            2..5 => {
                let producer_id = self.random.random_range(3..6);
                self.append_data(log, producer_id, true)
            }
            _ => {
                let producer_id = self.random.random_range(-1..3);
                self.append_data(log, producer_id, false)
            }
        }
    }

    fn append_data(&mut self, log: &mut Log, producer_id: i64, is_transactional: bool) -> Outcome {
        let count = self.random.random_range(1..4_usize);
        let value = "v".repeat(self.random.random_range(1..350));
        let mut builder = BatchBuilder::new(Compression::None, 1 << 20);
        builder.set_transactional(is_transactional);
        if producer_id >= 0 {
            let base_sequence = self.model.next_sequence(producer_id);
            builder.set_producer(ProducerFields { producer_id, producer_epoch: 0, base_sequence });
        }
        for _ in 0..count {
            let value = format!("{}{value}", self.random.random_range(0..1_000_000));
            let value = Some(value.as_bytes());
            let record = NewRecord { timestamp: NOW_MS, key: None, value, headers: &[] };
            builder.append(&record).expect("it fits");
        }
        let bytes = builder.build().expect("nothing to compress").to_vec();
        let origin = if is_transactional { Origin::Coordinator } else { Origin::Client };
        self.append_batch(log, producer_id, count, bytes, origin)
    }

    fn append_batch(
        &mut self,
        log: &mut Log,
        producer_id: i64,
        count: usize,
        mut bytes: Vec<u8>,
        origin: Origin,
    ) -> Outcome {
        let leader_epoch = self.model.epoch;
        let append = LeaderAppend { leader_epoch, now_ms: NOW_MS, origin };
        let outcome = log.append_as_leader(&bytes, append);
        let first_offset = self.model.end;
        let next_offset = first_offset + count as i64;
        set_base_offset(&mut bytes, first_offset);
        set_leader_epoch(&mut bytes, leader_epoch);
        let batch = Appended { first_offset, next_offset, epoch: leader_epoch, producer_id, bytes };
        match outcome {
            Ok(_) => {
                self.model.push(batch);
                Ok(())
            }
            Err(error) => {
                self.in_flight = Some(batch);
                Err(died(error))
            }
        }
    }

    fn sync(&mut self, log: &mut Log, volume: bool) -> Outcome {
        let Some(point) = log.begin_sync() else {
            return Ok(());
        };
        let outcome = if volume { log.dir().sync_volume() } else { point.run() };
        // Appends go on meanwhile.
        let end = point.end_offset();
        log.end_sync(point, outcome).map_err(died)?;
        self.model.durable_end = self.model.durable_end.max(end);
        Ok(())
    }

    fn checkpoint(&mut self, log: &mut Log) -> Outcome {
        let Some(point) = log.begin_checkpoint().map_err(died)? else {
            return Ok(());
        };
        for _ in 0..self.random.random_range(0..3) {
            self.append(log)?;
        }
        let outcome = point.run();
        log.end_checkpoint(point, outcome).map_err(died)?;
        self.model.durable_end = self.model.durable_end.max(log.synced_end_offset());
        if self.random.random_bool(0.7) {
            log.dir().write_recovery_points().map_err(died)?;
        }
        Ok(())
    }

    /// Where the segments begin.
    fn segments(&self) -> io::Result<Vec<i64>> {
        let entries = self.disk.files().list(Path::new("/data/t-0"))?;
        let names = entries.iter().filter_map(|entry| entry.name.strip_suffix(".log"));
        Ok(names.filter_map(|name| name.parse().ok()).collect())
    }

    fn truncate(&mut self, log: &mut Log, to: i64) -> Outcome {
        let mut cut = self.model.clone();
        cut.truncate(to);
        // From the call on, nothing past the cut is promised.
        self.model.durable_end = self.model.durable_end.min(cut.end);
        let lowered = self.model.stored_start.min(cut.end);
        self.model.stored_start = lowered;
        match log.truncate_to(to) {
            Ok(()) => {
                self.model = cut;
                self.model.epoch += 1;
                Ok(())
            }
            Err(error @ TruncateError::InFlight { .. }) => Err(Stop::Failed(error.to_string())),
            Err(error) => Err(died(error)),
        }
    }

    fn close(&mut self, log: Log) -> Outcome {
        let dir = Arc::clone(log.dir());
        log.close().map_err(died)?;
        self.model.durable_end = self.model.end;
        dir.write_recovery_points().map_err(died)?;
        dir.write_log_start_offsets().map_err(died)?;
        self.model.stored_start = self.model.start;
        Ok(())
    }
}

fn failure(stop: Stop) -> String {
    match stop {
        Stop::Died => "the power is gone".to_owned(),
        Stop::Failed(failure) => failure,
    }
}
