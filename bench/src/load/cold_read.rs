//! Catching up with what has left memory, while a producer goes on.

use std::thread;

use super::Load;
use super::admin::Admin;
use super::blast;
use super::produce::{LARGE_BATCHES, TOPIC, await_end, warm};
use super::rdkafka::{Consumer, Producer, percentiles};
use super::start::evict;
use crate::Result;
use crate::bed::Bed;
use crate::measure::{Figures, GB};
use crate::subject::Server;

/// A consumer that reads from the disk, beside a producer on another topic.
pub(crate) struct ColdCatchUp {
    /// Payload bytes that lie on the disk, at full scale.
    pub(crate) bytes: u64,
    /// Records of 1 KiB a second that the producer sends meanwhile.
    pub(crate) rate: u64,
    /// How long the producer goes on, in seconds; it should be longer than the reading.
    pub(crate) lasts_s: u64,
}

const RECORD_BYTES: u64 = 1024;
/// Where the producer writes.
const LIVE: &str = "live";

impl ColdCatchUp {
    fn live(&self, bed: &Bed) -> Producer {
        let mut producer =
            Producer::new(LIVE, RECORD_BYTES, bed.count(self.rate * self.lasts_s, 1000));
        producer.rate = Some(self.rate);
        producer.latency = true;
        producer.settings = vec!["linger.ms=5".to_owned(), "batch.size=1000000".to_owned()];
        producer
    }
}

impl Load for ColdCatchUp {
    fn bytes_per_run(&self) -> u64 {
        // What lies there, and what the producer adds in both halves of about ten runs.
        self.bytes + 20 * self.rate * self.lasts_s * RECORD_BYTES
    }

    fn writes_in_every_run(&self) -> bool {
        false
    }

    fn prepare(&self, bed: &Bed, server: &mut Server) -> Result<()> {
        warm(bed, server)?;
        let admin = Admin::connect(&server.address)?;
        admin.create_topic(TOPIC, 1, &[])?;
        admin.create_topic(LIVE, 1, &[])?;
        let mut producer = Producer::new(TOPIC, RECORD_BYTES, bed.bytes(self.bytes) / RECORD_BYTES);
        producer.settings = LARGE_BATCHES.iter().map(|&setting| setting.into()).collect();
        producer.run(bed, &server.address)?;
        await_end(&admin, 1, producer.records)
    }

    fn run(&self, bed: &Bed, server: &mut Server) -> Result<Figures> {
        let records = bed.bytes(self.bytes) / RECORD_BYTES;
        let live = self.live(bed);
        let mut undisturbed = live.run(bed, &server.address)?;
        bed.settle()?;
        evict(&server.data().join(format!("{TOPIC}-0")))?;
        let consumer = Consumer::new(TOPIC, 1, records);
        let (mut produced, consumed) = thread::scope(|scope| {
            let producing = scope.spawn(|| live.run(bed, &server.address));
            let consumed =
                consumer.start(bed, &server.address).and_then(|running| running.verified(records));
            let produced =
                producing.join().map_err(|_| "the producer's thread failed".to_owned())?;
            Ok::<_, String>((produced?, consumed?))
        })?;
        let gb = consumed.bytes as f64 / GB;
        let mut figures =
            Figures::from([("gb_per_s".to_owned(), gb / (consumed.took_ms.max(1) as f64 / 1e3))]);
        for (name, value) in percentiles(&mut produced.latencies_ms) {
            figures.insert(name, value);
        }
        for (name, value) in percentiles(&mut undisturbed.latencies_ms) {
            figures.insert(format!("undisturbed_{name}"), value);
        }
        Ok(figures)
    }

    fn floor(&self, bed: &Bed) -> Result<Option<Figures>> {
        blast::cold_read(bed, bed.bytes(self.bytes)).map(Some)
    }
}
