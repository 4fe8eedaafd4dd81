//! Brokers that start: on nothing, after a kill, and what their first gigabytes cost.

use std::fs::{self, File};
use std::num::NonZeroU64;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{Advice, fadvise};

use super::Load;
use super::admin::Admin;
use super::blast;
use super::produce::{LARGE_BATCHES, TOPIC, await_end};
use super::rdkafka::Producer;
use super::wire::first_ack;
use crate::Result;
use crate::bed::Bed;
use crate::measure::{Figures, GB, cpu_s, resident_mb};
use crate::subject::Server;

/// Longest wait for a first acknowledgement.
const PATIENCE: Duration = Duration::from_secs(180);
const RECORD_BYTES: u64 = 1024;

fn producer(bytes: u64) -> Producer {
    let mut producer = Producer::new(TOPIC, RECORD_BYTES, bytes / RECORD_BYTES);
    producer.settings = LARGE_BATCHES.iter().map(|&setting| setting.into()).collect();
    producer
}

/// The first gigabytes that a broker gets in its life, one by one.
pub(crate) struct FirstGigabytes;

/// Names of the figures of each gigabyte.
const GIGABYTES: [&str; 3] = ["cpu_s_per_gb", "second_cpu_s_per_gb", "third_cpu_s_per_gb"];

impl Load for FirstGigabytes {
    fn bytes_per_run(&self) -> u64 {
        GIGABYTES.len() as u64 * 1_000_000_000
    }

    fn writes_in_every_run(&self) -> bool {
        // Every run begins with an empty folder.
        false
    }

    fn warms(&self) -> bool {
        false
    }

    fn prepare(&self, _: &Bed, _: &mut Server) -> Result<()> {
        Ok(())
    }

    fn run(&self, bed: &Bed, server: &mut Server) -> Result<Figures> {
        server.replace(bed)?;
        let admin = Admin::connect(&server.address)?;
        admin.create_topic(TOPIC, 1, &[])?;
        let producer = producer(bed.bytes(self.bytes_per_run()) / GIGABYTES.len() as u64);
        let mut figures = Figures::new();
        let mut records = 0;
        for name in GIGABYTES {
            let before = server.cpu_s()?;
            let said = producer.run(bed, &server.address)?;
            let spent_s = server.cpu_s()? - before;
            figures.insert(name.to_owned(), spent_s / (said.bytes as f64 / GB));
            records += said.records;
        }
        await_end(&admin, 1, records)?;
        Ok(figures)
    }
}

/// An empty folder, and the time to the first acknowledgement; formatting included.
pub(crate) struct ColdStart;

impl Load for ColdStart {
    fn bytes_per_run(&self) -> u64 {
        0
    }

    fn warms(&self) -> bool {
        false
    }

    fn prepare(&self, _: &Bed, _: &mut Server) -> Result<()> {
        Ok(())
    }

    fn run(&self, bed: &Bed, server: &mut Server) -> Result<Figures> {
        server.kill()?;
        let begun = Instant::now();
        server.replace(bed)?;
        let offset = first_ack(&server.address, TOPIC, PATIENCE)?;
        let took_ms = begun.elapsed().as_secs_f64() * 1e3;
        if offset != 0 {
            return Err(format!("the first record has offset {offset}"));
        }
        Ok(Figures::from([
            ("first_ack_ms".to_owned(), took_ms),
            ("start_cpu_s".to_owned(), cpu_s(server.pid())?),
            ("resident_mb".to_owned(), resident_mb(server.pid())?.0),
        ]))
    }
}

/// `kill -9` with much in the log, started again: the time to the first acknowledgement.
pub(crate) struct Killed {
    /// Payload bytes in the log, at full scale.
    pub(crate) bytes: u64,
    /// Whether the checkpoint of what is known to be whole is lost too.
    pub(crate) without_checkpoint: bool,
    /// Whether the log has left the page cache.
    pub(crate) cold: bool,
}

/// Says up to where logs need no recovery; Kafka and Klamm call it the same.
const CHECKPOINT: &str = "recovery-point-offset-checkpoint";

impl Load for Killed {
    fn bytes_per_run(&self) -> u64 {
        self.bytes
    }

    fn writes_in_every_run(&self) -> bool {
        false
    }

    fn warms(&self) -> bool {
        false
    }

    fn prepare(&self, bed: &Bed, server: &mut Server) -> Result<()> {
        let admin = Admin::connect(&server.address)?;
        admin.create_topic(TOPIC, 1, &[])?;
        let producer = producer(bed.bytes(self.bytes));
        producer.run(bed, &server.address)?;
        await_end(&admin, 1, producer.records)
    }

    fn run(&self, bed: &Bed, server: &mut Server) -> Result<Figures> {
        let before = Admin::connect(&server.address)?.end_offset(TOPIC, 1)?;
        server.kill()?;
        if self.without_checkpoint {
            let checkpoint = server.data().join(CHECKPOINT);
            match fs::remove_file(&checkpoint) {
                // It was not written yet, which comes to the same.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                removed => removed.map_err(|e| format!("{}: {e}", checkpoint.display()))?,
            }
        }
        if self.cold {
            bed.settle()?;
            evict(&server.data())?;
        }
        let begun = Instant::now();
        server.start_again(bed)?;
        let offset = first_ack(&server.address, TOPIC, PATIENCE)?;
        let took_s = begun.elapsed().as_secs_f64();
        if u64::try_from(offset) != Ok(before) {
            return Err(format!(
                "the record after the kill has offset {offset} instead of {before}"
            ));
        }
        Ok(Figures::from([
            ("first_ack_s".to_owned(), took_s),
            ("start_cpu_s".to_owned(), cpu_s(server.pid())?),
            ("gb_per_s".to_owned(), bed.bytes(self.bytes) as f64 / GB / took_s),
        ]))
    }

    fn floor(&self, bed: &Bed) -> Result<Option<Figures>> {
        if self.cold { blast::cold_read(bed, bed.bytes(self.bytes)).map(Some) } else { Ok(None) }
    }
}

/// Takes all files below `path` out of the page cache; they must have been synced.
pub(crate) fn evict(path: &Path) -> Result<()> {
    let said = |error: std::io::Error| format!("{}: {error}", path.display());
    if path.is_dir() {
        for entry in fs::read_dir(path).map_err(said)? {
            evict(&entry.map_err(said)?.path())?;
        }
        return Ok(());
    }
    let file = File::open(path).map_err(said)?;
    let len = file.metadata().map_err(said)?.len();
    fadvise(&file, 0, NonZeroU64::new(len), Advice::DontNeed).map_err(|e| said(e.into()))
}
