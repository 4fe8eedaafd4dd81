//! A producer that keeps a rate, and a consumer that follows it: latencies and what following costs.

use super::Load;
use super::admin::Admin;
use super::blast;
use super::produce::{TOPIC, await_end, warm};
use super::rdkafka::{Consumer, Producer, percentiles};
use crate::Result;
use crate::bed::Bed;
use crate::measure::{Figures, GB, resident_mb};
use crate::subject::Server;

/// What the machine's limit for this load is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    /// A bare round trip of the record.
    RoundTrip,
    /// File to socket by `sendfile`.
    Send,
}

/// Records at a rate, each with the time it was produced, and one consumer at their heels.
pub(crate) struct Follow {
    pub(crate) record_bytes: u64,
    /// Records a second.
    pub(crate) rate: u64,
    /// How long at full scale, in seconds.
    pub(crate) lasts_s: u64,
    pub(crate) settings: &'static [&'static str],
    pub(crate) limit: Limit,
    /// Whether the same is produced without a consumer before, so that reading has a cost of its own.
    pub(crate) alone_first: bool,
}

/// Round trips that are measured of the bare connection.
const ROUND_TRIPS: u64 = 20_000;
/// Bytes that are sent where `sendfile` is the limit.
const SENT: u64 = 1_000_000_000;

impl Follow {
    fn records(&self, bed: &Bed) -> u64 {
        bed.count(self.rate * self.lasts_s, self.rate.min(1000))
    }

    fn producer(&self, bed: &Bed) -> Producer {
        let mut producer = Producer::new(TOPIC, self.record_bytes, self.records(bed));
        producer.rate = Some(self.rate);
        producer.latency = true;
        producer.settings = self.settings.iter().map(|&setting| setting.into()).collect();
        producer
    }
}

impl Load for Follow {
    fn bytes_per_run(&self) -> u64 {
        2 * self.record_bytes * self.rate * self.lasts_s
    }

    fn prepare(&self, bed: &Bed, server: &mut Server) -> Result<()> {
        warm(bed, server)?;
        Admin::connect(&server.address)?.create_topic(TOPIC, 1, &[])?;
        self.run(bed, server).map(drop)
    }

    fn run(&self, bed: &Bed, server: &mut Server) -> Result<Figures> {
        let admin = Admin::connect(&server.address)?;
        let producer = self.producer(bed);
        let mut alone_s = 0.0;
        if self.alone_first {
            let before = server.cpu_s()?;
            producer.run(bed, &server.address)?;
            alone_s = server.cpu_s()? - before;
        }
        let end = admin.end_offset(TOPIC, 1)?;
        let mut consumer = Consumer::new(TOPIC, 1, producer.records);
        consumer.from = end.to_string();
        consumer.latency = true;
        consumer.settings = vec!["fetch.wait.max.ms=500".to_owned()];
        let before = server.cpu_s()?;
        let following = consumer.start(bed, &server.address)?;
        let mut produced = producer.run(bed, &server.address)?;
        let mut followed = following.verified(producer.records)?;
        let cpu_s = server.cpu_s()? - before;
        await_end(&admin, 1, end + producer.records)?;
        let gb = followed.bytes as f64 / GB;
        let mut figures: Figures = percentiles(&mut followed.latencies_ms).into_iter().collect();
        let mean = followed.latencies_ms.iter().sum::<f64>() / followed.latencies_ms.len() as f64;
        figures.insert("mean_ms".to_owned(), mean);
        for (name, value) in percentiles(&mut produced.latencies_ms) {
            figures.insert(format!("ack_{name}"), value);
        }
        figures.insert("cpu_both_s_per_gb".to_owned(), cpu_s / gb);
        if self.alone_first {
            figures.insert("cpu_s_per_gb".to_owned(), (cpu_s - alone_s).max(0.0) / gb);
        }
        figures.insert("resident_mb".to_owned(), resident_mb(server.pid())?.0);
        Ok(figures)
    }

    fn floor(&self, bed: &Bed) -> Result<Option<Figures>> {
        match self.limit {
            Limit::RoundTrip => {
                let len = usize::try_from(self.record_bytes).map_err(|e| e.to_string())?;
                blast::round_trips(bed, bed.count(ROUND_TRIPS, 500), len).map(Some)
            }
            Limit::Send => blast::send(bed, bed.bytes(SENT)).map(Some),
        }
    }
}
