//! Hours under load, with retention deleting behind it.

use std::thread;
use std::time::{Duration, Instant};

use super::Load;
use super::admin::Admin;
use super::produce::{TOPIC, warm};
use super::rdkafka::{Consumer, Producer};
use crate::Result;
use crate::bed::Bed;
use crate::measure::{Figures, percentile, resident_mb};
use crate::subject::Server;

/// Records of 10 KiB a second, and a consumer that follows, until the time is over.
pub(crate) struct Soak {
    pub(crate) rate: u64,
}

const RECORD_BYTES: u64 = 10 * 1024;
/// What retention leaves of the partition, in bytes.
const RETAINED: &str = "1073741824";
const SEGMENT: &str = "134217728";
/// Share of all records that counts as the beginning, and as the end.
const TENTH: usize = 10;

impl Load for Soak {
    fn bytes_per_run(&self) -> u64 {
        // What retention leaves, and what a broker that is late with deleting has beside it.
        6_000_000_000
    }

    fn writes_in_every_run(&self) -> bool {
        false
    }

    fn prepare(&self, bed: &Bed, server: &mut Server) -> Result<()> {
        warm(bed, server)?;
        let configs = [("retention.bytes", RETAINED), ("segment.bytes", SEGMENT)];
        Admin::connect(&server.address)?.create_topic(TOPIC, 1, &configs)
    }

    fn run(&self, bed: &Bed, server: &mut Server) -> Result<Figures> {
        let lasts = Duration::from_secs(bed.soak_s);
        let records = (self.rate * bed.soak_s).max(1000);
        let mut producer = Producer::new(TOPIC, RECORD_BYTES, records);
        producer.rate = Some(self.rate);
        producer.latency = true;
        producer.settings = vec!["linger.ms=0".to_owned()];
        let mut consumer = Consumer::new(TOPIC, 1, records);
        consumer.from = Admin::connect(&server.address)?.end_offset(TOPIC, 1)?.to_string();
        consumer.latency = true;
        let begun = Instant::now();
        let pid = server.pid();
        let (said, first_mb, last_mb) = thread::scope(|scope| {
            let running = scope.spawn(|| {
                let following = consumer.start(bed, &server.address)?;
                let producing = producer.start(bed, &server.address)?;
                producing.finish_within(2 * lasts)?.all(records)?;
                following.finish_within(lasts)?.all(records)
            });
            let mut first_mb = None;
            let mut last_mb = 0.0;
            while !running.is_finished() {
                thread::sleep(Duration::from_millis(200));
                last_mb = resident_mb(pid)?.1;
                if first_mb.is_none() && begun.elapsed() >= lasts / 10 {
                    first_mb = Some(last_mb);
                }
            }
            let said = running.join().map_err(|_| "the clients' thread failed".to_owned())??;
            Ok::<_, String>((said, first_mb.unwrap_or(last_mb), last_mb))
        })?;
        let tenth = said.latencies_ms.len() / TENTH;
        let mut first = said.latencies_ms[..tenth].to_vec();
        let mut last = said.latencies_ms[said.latencies_ms.len() - tenth..].to_vec();
        let p99 = |latencies: &mut [f64]| percentile(latencies, 0.99).unwrap_or(0.0);
        let (first_ms, last_ms) = (p99(&mut first), p99(&mut last));
        Ok(Figures::from([
            ("soak_s".to_owned(), bed.soak_s as f64),
            ("first_p99_ms".to_owned(), first_ms),
            ("p99_ms".to_owned(), last_ms),
            ("first_anonymous_mb".to_owned(), first_mb),
            ("anonymous_mb".to_owned(), last_mb),
            ("disk_used".to_owned(), disk_used(bed)?),
        ]))
    }
}

/// Share of the disk that is taken.
fn disk_used(bed: &Bed) -> Result<f64> {
    let found = rustix::fs::statvfs(&bed.dir).map_err(|e| e.to_string())?;
    Ok(1.0 - found.f_bavail as f64 / found.f_blocks as f64)
}
