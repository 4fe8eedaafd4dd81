//! Producing at full speed with librdkafka, from one process or several.

use std::time::{Duration, Instant};

use super::Load;
use super::admin::Admin;
use super::blast;
use super::rdkafka::{Consumer, Producer, Running, Said, percentiles};
use super::syncs::Syncs;
use crate::Result;
use crate::bed::Bed;
use crate::measure::{Figures, GB, resident_mb};
use crate::subject::floor::Floor;
use crate::subject::{Kind, Server, nisshi};

/// The topic that all runs of a part write to.
pub(crate) const TOPIC: &str = "bench";

/// What the machine's limit for this load is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit {
    /// Socket to file in batches of so many bytes.
    Write(usize),
    /// Requests of so many bytes, with so many in flight on each of eight connections.
    Requests(usize, usize),
    /// A broker that throws the records away, under the same client.
    Discard,
    /// Appending so many bytes and syncing them, one after the other.
    Syncs(usize),
}

/// How long the machine's own syncs are measured.
const SYNCS_LAST: Duration = Duration::from_secs(2);

/// A load of producers.
#[derive(Clone, Debug)]
pub(crate) struct Produce {
    pub(crate) record_bytes: u64,
    /// Payload bytes of one run at full scale, of all producers together.
    pub(crate) bytes: u64,
    pub(crate) partitions: i32,
    pub(crate) producers: u64,
    pub(crate) acks: &'static str,
    /// Settings of librdkafka.
    pub(crate) settings: &'static [&'static str],
    /// Settings of the topic, on Kafka only.
    pub(crate) kafka_topic: &'static [(&'static str, &'static str)],
    pub(crate) limit: Limit,
    /// Kafka gets so many times fewer records, where it takes so much longer for each.
    pub(crate) kafka_divisor: u64,
    /// Whether the broker's syncs are counted.
    pub(crate) counts_syncs: bool,
}

/// Batches as large as the broker takes them, with all in flight that fits.
pub(crate) const LARGE_BATCHES: &[&str] = &[
    "linger.ms=5",
    "batch.size=1000000",
    "queue.buffering.max.messages=500000",
    "sticky.partitioning.linger.ms=0",
];

impl Default for Produce {
    fn default() -> Self {
        Self {
            record_bytes: 1024,
            bytes: 1_500_000_000,
            partitions: 1,
            producers: 1,
            acks: "1",
            settings: LARGE_BATCHES,
            kafka_topic: &[],
            limit: Limit::Write(256 * 1024),
            kafka_divisor: 1,
            counts_syncs: false,
        }
    }
}

impl Produce {
    fn producer(&self, bytes: u64) -> Producer {
        let mut producer =
            Producer::new(TOPIC, self.record_bytes, (bytes / self.record_bytes).max(1));
        producer.partition = (self.partitions == 1).then_some(0);
        producer.acks = self.acks;
        producer.settings = self.settings.iter().map(|&setting| setting.into()).collect();
        producer.many_partitions = self.partitions > 100;
        producer
    }

    /// Payload bytes of a run against `kind`.
    fn run_bytes(&self, bed: &Bed, kind: Kind) -> u64 {
        let bytes = bed.bytes(self.bytes);
        match kind {
            Kind::Nisshi => bytes.min(nisshi::BYTES_MAX),
            Kind::Kafka => bytes / self.kafka_divisor,
            _ => bytes,
        }
    }

    /// Runs all producers to their end: what each said.
    fn produce(&self, bed: &Bed, address: &str, bytes: u64) -> Result<Vec<Said>> {
        let producer = self.producer(bytes / self.producers);
        let running: Result<Vec<Running>> =
            (0..self.producers).map(|_| producer.start(bed, address)).collect();
        running?.into_iter().map(|running| running.verified(producer.records)).collect()
    }
}

impl Load for Produce {
    fn bytes_per_run(&self) -> u64 {
        self.bytes
    }

    fn prepare(&self, bed: &Bed, server: &mut Server) -> Result<()> {
        if server.kind == Kind::Nisshi {
            return Ok(());
        }
        warm(bed, server)?;
        create_topic(self, server)?;
        // Once as it will be measured.
        self.run(bed, server).map(drop)
    }

    fn run(&self, bed: &Bed, server: &mut Server) -> Result<Figures> {
        if server.kind == Kind::Nisshi {
            server.replace(bed)?;
            create_topic(self, server)?;
        }
        let bytes = self.run_bytes(bed, server.kind);
        let admin = Admin::connect(&server.address)?;
        let end_before = admin.end_offset(TOPIC, self.partitions)?;
        let syncs = self.counts_syncs.then(|| Syncs::count(bed, server.pid())).transpose()?;
        let begun = Instant::now();
        let cpu_before = server.cpu_s()?;
        let mut said = self.produce(bed, &server.address, bytes)?;
        let cpu_s = server.cpu_s()? - cpu_before;
        let all_took_s = begun.elapsed().as_secs_f64();
        let syncs = syncs.map(Syncs::finish).transpose()?.flatten();
        let records: u64 = said.iter().map(|said| said.records).sum();
        if server.kind == Kind::Nisshi {
            // The end that it lists is not where the records end; so they are read back.
            let mut consumer = Consumer::new(TOPIC, self.partitions, records);
            consumer.ends = true;
            consumer.start(bed, &server.address)?.verified(records)?;
        } else {
            await_end(&admin, self.partitions, end_before + records)?;
        }
        let mut figures = figures_of(&mut said, cpu_s);
        if self.producers > 1 {
            // They do not begin at once: the time of all of them counts, with their starts.
            figures.insert("gb_per_s".to_owned(), bytes as f64 / GB / all_took_s);
            figures.insert("records_per_s".to_owned(), records as f64 / all_took_s);
        }
        if let Some(syncs) = syncs {
            figures.insert("syncs_per_s".to_owned(), syncs / all_took_s);
            if let Some(batch_bytes) = figures.get("batch_bytes") {
                let acks = bytes as f64 / batch_bytes;
                figures.insert("acks_per_sync".to_owned(), acks / syncs.max(1.0));
            }
        }
        figures.insert("resident_mb".to_owned(), resident_mb(server.pid())?.0);
        Ok(figures)
    }

    fn floor(&self, bed: &Bed) -> Result<Option<Figures>> {
        let bytes = self.run_bytes(bed, Kind::Floor);
        match self.limit {
            Limit::Write(batch) => blast::write(bed, bytes, batch).map(Some),
            Limit::Requests(len, in_flight) => {
                blast::requests(bed, bytes / len as u64, len, in_flight).map(Some)
            }
            Limit::Syncs(len) => blast::syncs(bed, len, SYNCS_LAST).map(Some),
            Limit::Discard => {
                let partitions = self.partitions.to_string();
                let discard = Floor::start(bed, &["discard", &partitions])?;
                let before = discard.cpu_s()?;
                let mut said = self.produce(bed, &discard.address, bytes)?;
                let cpu_s = discard.cpu_s()? - before;
                Ok(Some(figures_of(&mut said, cpu_s)))
            }
        }
    }
}

fn create_topic(load: &Produce, server: &Server) -> Result<()> {
    let configs = if server.kind == Kind::Kafka { load.kafka_topic } else { &[] };
    Admin::connect(&server.address)?.create_topic(TOPIC, load.partitions, configs)
}

/// Gives a broker what it needs to be as fast as it gets, on a topic of its own: Kafka's compiler
/// wants gigabytes, and all brokers want their memory touched.
pub(crate) fn warm(bed: &Bed, server: &Server) -> Result<()> {
    const WARM: &str = "warm";
    let bytes = if server.kind == Kind::Kafka { bed.warm_bytes } else { bed.warm_bytes / 5 };
    if bytes == 0 {
        return Ok(());
    }
    Admin::connect(&server.address)?.create_topic(WARM, 1, &[])?;
    let mut producer = Producer::new(WARM, 1024, (bytes / 1024).max(1));
    producer.settings = LARGE_BATCHES.iter().map(|&setting| setting.into()).collect();
    producer.run(bed, &server.address).map(drop)
}

/// Checks that the topic has just the records that were produced. With acks=0 the last of them may
/// still be on their way when the producer has gone.
pub(crate) fn await_end(admin: &Admin, partitions: i32, expected: u64) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let found = admin.end_offset(TOPIC, partitions)?;
        if found == expected {
            return Ok(());
        }
        if found > expected || Instant::now() > deadline {
            return Err(format!("the topic ends at {found} instead of {expected}"));
        }
    }
}

/// Figures of producers that ran side by side.
pub(crate) fn figures_of(said: &mut [Said], cpu_s: f64) -> Figures {
    let bytes: u64 = said.iter().map(|said| said.bytes).sum();
    let records: u64 = said.iter().map(|said| said.records).sum();
    let took_s = said.iter().map(|said| said.took_ms).max().unwrap_or(0).max(1) as f64 / 1e3;
    let requests: f64 = said.iter().map(|said| said.requests).sum();
    let gb = bytes as f64 / GB;
    let mut figures = Figures::from([
        ("cpu_s_per_gb".to_owned(), cpu_s / gb),
        ("gb_per_s".to_owned(), gb / took_s),
        ("records_per_s".to_owned(), records as f64 / took_s),
        ("us_per_record".to_owned(), cpu_s * 1e6 / records as f64),
    ]);
    if requests > 0.0 {
        figures.insert("us_per_request".to_owned(), cpu_s * 1e6 / requests);
        figures.insert("batch_bytes".to_owned(), bytes as f64 / requests);
    }
    let mean = |of: fn(&Said) -> Option<f64>| {
        let found: Vec<f64> = said.iter().filter_map(of).collect();
        (!found.is_empty()).then(|| found.iter().sum::<f64>() / found.len() as f64)
    };
    if let Some(ms) = mean(|said| said.round_trip_p50_ms) {
        figures.insert("round_trip_p50_ms".to_owned(), ms);
    }
    if let Some(ms) = mean(|said| said.round_trip_p99_ms) {
        figures.insert("round_trip_p99_ms".to_owned(), ms);
    }
    let mut latencies: Vec<f64> = said.iter_mut().flat_map(|s| s.latencies_ms.drain(..)).collect();
    figures.extend(percentiles(&mut latencies));
    figures
}
