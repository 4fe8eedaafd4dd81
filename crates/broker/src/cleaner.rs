//! Compacts the logs of topics with cleanup policy `compact` (`log.cleaner.*`).
//!
//! The dirtiest log that is worth a pass is taken first; when there is none the next look comes
//! after `log.cleaner.backoff.ms`. A pass runs off the loops and takes the partition's
//! lock for moments only; meanwhile retention passes the partition over.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use klamm_env::Clock;
use klamm_env::files::is_out_of_descriptors;
use klamm_log::{Cleaning, CleaningError, Dirt, KeyHashing, Log, LogLock, OffsetMapLimits, Stats};
use tracing::{info, warn};

use crate::broker::Broker;
use crate::config::BrokerConfig;
use crate::data_dir::DataDir;
use crate::partition::Partition;

impl LogLock for Partition {
    fn with_log(&self, work: &mut dyn FnMut(&mut Log)) -> bool {
        Partition::with_log(self, |log| work(log)).is_some()
    }
}

/// Keeps up to `log.cleaner.threads` passes going; ends only by being dropped.
pub(crate) async fn run(broker: Arc<Broker>) {
    let mut passes = FuturesUnordered::new();
    loop {
        let config = broker.config();
        let passes_max = if config.log_cleaner_enable { config.log_cleaner_threads } else { 0 };
        let now_ms = broker.env.clock.wall_ms();
        while passes.len() < usize::try_from(passes_max).unwrap_or(0) {
            let Some(partition) = dirtiest(&broker, now_ms) else { break };
            passes.push(clean(&broker, partition, now_ms));
        }
        let backoff_ms = u64::try_from(config.log_cleaner_backoff_ms).unwrap_or(0).max(1);
        tokio::select! {
            biased;
            Some(()) = passes.next(), if !passes.is_empty() => {}
            () = tokio::time::sleep(Duration::from_millis(backoff_ms)) => {}
        }
    }
}

/// A pass over one log.
async fn clean(broker: &Arc<Broker>, partition: Arc<Partition>, now_ms: i64) {
    let name = partition.hold_name().await;
    let pass = Pass {
        clock: Arc::clone(&broker.env.clock),
        limits: limits(&broker.config()),
        hashing: KeyHashing(broker.env.random.u64(), broker.env.random.u64()),
        bytes_per_second: broker.config().log_cleaner_io_max_bytes_per_second,
        broker: Arc::clone(broker),
        now_ms,
    };
    let dir = Arc::clone(partition.dir());
    let job = move |dir: &DataDir| {
        let outcome = pass.clean(&partition);
        tell(&partition, outcome);
        partition.end_cleaning();
        drop(name);
        if let Err(error) = dir.log_dir().write_cleaner_offsets() {
            warn!(dir = ?dir.log_dir(), "cleaner offsets are not stored: {error}");
        }
    };
    dir.run_job(&*broker.env.threads, job).await;
}

/// Claims the partition whose log is most worth a pass.
fn dirtiest(broker: &Broker, now_ms: i64) -> Option<Arc<Partition>> {
    let mut found: Option<(Dirt, Arc<Partition>)> = None;
    for partition in broker.partitions.all() {
        let Some(dirt) = worthwhile(&partition, now_ms) else { continue };
        let rank = |dirt: &Dirt| (dirt.overdue, dirt.ratio);
        if found.as_ref().is_none_or(|(best, _)| rank(&dirt) > rank(best)) {
            found = Some((dirt, partition));
        }
    }
    found.map(|(_, partition)| partition).filter(|partition| partition.begin_cleaning())
}

/// How dirty a log is, if it is open, compacted and dirty enough.
fn worthwhile(partition: &Arc<Partition>, now_ms: i64) -> Option<Dirt> {
    let is_free = partition.may_be_cleaned() && !partition.is_cleaned_now();
    if partition.reader().is_none() || !is_free {
        return None;
    }
    let high_watermark = partition.high_watermark();
    let dirt = partition.with_log(|log| {
        let dirt = log.dirt(now_ms, high_watermark);
        let ratio_min = log.config().min_cleanable_dirty_ratio;
        dirt.map(|dirt| dirt.filter(|dirt| dirt.overdue || dirt.ratio > ratio_min))
    })?;
    // What waits for a checkpoint only is cleaned next time.
    partition.offer_checkpoint();
    dirt.unwrap_or_else(|error| {
        warn!(partition = %partition.id(), "not cleaned: {error}");
        None
    })
}

fn limits(config: &BrokerConfig) -> OffsetMapLimits {
    let bytes = usize::try_from(config.log_cleaner_dedupe_buffer_size).unwrap_or(0);
    let cleaners = usize::try_from(config.log_cleaner_threads).unwrap_or(1).max(1);
    OffsetMapLimits {
        bytes_max: bytes / cleaners,
        load_factor: config.log_cleaner_io_buffer_load_factor,
    }
}

fn tell(partition: &Partition, outcome: Result<Stats, CleaningError>) {
    match outcome {
        Ok(Stats { bytes_before, bytes_after, .. }) => {
            info!(partition = %partition.id(), bytes_before, bytes_after, "compacted");
        }
        Err(CleaningError::Cancelled) => {}
        Err(error) => {
            warn!(partition = %partition.id(), "not compacted: {error}");
            if let CleaningError::Io(error) = &error {
                after_error(partition, error);
            }
        }
    }
}

/// Damage is the log's own, and what was short may come back; any other error is the disk's, and
/// nothing is tried on it again (R23).
fn after_error(partition: &Partition, error: &io::Error) {
    match error.kind() {
        io::ErrorKind::InvalidData => partition.never_clean(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {}
        // Of the map or a buffer; from the system it may be a failed sync's.
        io::ErrorKind::OutOfMemory if error.raw_os_error().is_none() => {}
        _ if is_out_of_descriptors(error) => {}
        _ => {
            partition.dir().log_dir().take_offline(&error.to_string());
            partition.dir().wake_all();
        }
    }
}

/// One pass over one log.
struct Pass {
    broker: Arc<Broker>,
    clock: Arc<dyn Clock>,
    limits: OffsetMapLimits,
    hashing: KeyHashing,
    bytes_per_second: f64,
    now_ms: i64,
}

impl Pass {
    fn clean(&self, partition: &Arc<Partition>) -> Result<Stats, CleaningError> {
        let high_watermark = partition.high_watermark();
        let begun = partition.with_log(|log| log.begin_cleaning(self.now_ms, high_watermark));
        let Some(mut cleaning) = begun.transpose()?.flatten() else {
            return Ok(Stats::default());
        };
        let mut throttle = Throttle::new(self.bytes_per_second, self.clock.monotonic());
        let mut progress = |bytes: u64| {
            throttle.wait(bytes, self.clock.monotonic());
            !self.broker.is_stopping() && partition.may_be_cleaned()
        };
        self.rewrite(partition, &mut cleaning, &mut progress)?;
        partition.with_log(|log| log.end_cleaning(&cleaning));
        Ok(cleaning.stats())
    }

    fn rewrite(
        &self,
        partition: &Arc<Partition>,
        cleaning: &mut Cleaning,
        progress: &mut dyn FnMut(u64) -> bool,
    ) -> Result<(), CleaningError> {
        cleaning.read_dirty_keys(self.limits, self.hashing, progress)?;
        while let Some(cleaned) = cleaning.rewrite_next(progress)? {
            cleaned.swap_in(&**partition)?;
        }
        Ok(())
    }
}

/// Keeps a pass below so many bytes a second, read and written.
struct Throttle {
    bytes_per_second: f64,
    begun: Duration,
    bytes: u64,
}

impl Throttle {
    /// The longest pause, so that a pass that is to end ends soon.
    const PAUSE_MAX: Duration = Duration::from_secs(1);

    fn new(bytes_per_second: f64, now: Duration) -> Throttle {
        Throttle { bytes_per_second, begun: now, bytes: 0 }
    }

    /// How long to pause after `bytes` more.
    fn pause(&mut self, bytes: u64, now: Duration) -> Duration {
        self.bytes += bytes;
        let due = self.bytes as f64 / self.bytes_per_second.max(1.0);
        let elapsed = now.saturating_sub(self.begun).as_secs_f64();
        Duration::from_secs_f64((due - elapsed).clamp(0.0, Self::PAUSE_MAX.as_secs_f64()))
    }

    fn wait(&mut self, bytes: u64, now: Duration) {
        let pause = self.pause(bytes, now);
        if pause.is_zero() {
            return;
        }
        // Nobody notifies: a blocking thread's deadline.
        let (nobody, mutex) = (Condvar::new(), Mutex::new(()));
        let guard = mutex.lock().unwrap_or_else(PoisonError::into_inner);
        drop(nobody.wait_timeout(guard, pause));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_pauses_as_long_as_its_bytes_ask_for() {
        let mut throttle = Throttle::new(1_000.0, Duration::from_secs(5));
        assert_eq!(throttle.pause(500, Duration::from_secs(5)), Duration::from_millis(500));
        assert_eq!(throttle.pause(500, Duration::from_secs(6)), Duration::ZERO);
        assert_eq!(throttle.pause(100_000, Duration::from_secs(6)), Throttle::PAUSE_MAX);
    }

    #[test]
    fn without_a_limit_there_is_no_pause() {
        let mut throttle = Throttle::new(f64::MAX, Duration::ZERO);
        assert_eq!(throttle.pause(u64::MAX / 2, Duration::ZERO), Duration::ZERO);
    }
}
