//! One producer at full speed and several consumers that each read all of it.

use super::Load;
use super::admin::Admin;
use super::blast;
use super::produce::{LARGE_BATCHES, TOPIC, await_end, warm};
use super::rdkafka::{Consumer, Producer, Running};
use crate::Result;
use crate::bed::Bed;
use crate::measure::{Figures, GB};
use crate::subject::Server;

/// Records of 1 KiB to so many consumers.
pub(crate) struct FanOut {
    pub(crate) consumers: u32,
    /// Payload bytes that one run produces, at full scale.
    pub(crate) bytes: u64,
}

const RECORD_BYTES: u64 = 1024;

impl Load for FanOut {
    fn bytes_per_run(&self) -> u64 {
        self.bytes
    }

    fn prepare(&self, bed: &Bed, server: &mut Server) -> Result<()> {
        warm(bed, server)?;
        Admin::connect(&server.address)?.create_topic(TOPIC, 1, &[])?;
        self.run(bed, server).map(drop)
    }

    fn run(&self, bed: &Bed, server: &mut Server) -> Result<Figures> {
        let admin = Admin::connect(&server.address)?;
        let end = admin.end_offset(TOPIC, 1)?;
        let records = bed.bytes(self.bytes) / RECORD_BYTES;
        let mut producer = Producer::new(TOPIC, RECORD_BYTES, records);
        producer.settings = LARGE_BATCHES.iter().map(|&setting| setting.into()).collect();
        let mut consumer = Consumer::new(TOPIC, 1, records);
        consumer.from = end.to_string();
        // As many as there are hold less each, so that all fit into memory.
        consumer.settings = vec!["queued.max.messages.kbytes=65536".to_owned()];
        let before = server.cpu_s()?;
        let consumers: Result<Vec<Running>> =
            (0..self.consumers).map(|_| consumer.start(bed, &server.address)).collect();
        producer.run(bed, &server.address)?;
        let mut took_ms = 0;
        let mut delivered = 0;
        for running in consumers? {
            let said = running.verified(records)?;
            took_ms = took_ms.max(said.took_ms);
            delivered += said.bytes;
        }
        let cpu_s = server.cpu_s()? - before;
        await_end(&admin, 1, end + records)?;
        let gb = delivered as f64 / GB;
        Ok(Figures::from([
            ("cpu_s_per_gb".to_owned(), cpu_s / gb),
            ("gb_per_s".to_owned(), gb / (took_ms.max(1) as f64 / 1e3)),
        ]))
    }

    /// What sending costs, and for every so many gigabytes sent one written.
    fn floor(&self, bed: &Bed) -> Result<Option<Figures>> {
        let bytes = bed.bytes(self.bytes);
        let written = blast::write(bed, bytes, 256 * 1024)?["cpu_s_per_gb"];
        let sent = blast::send(bed, bytes)?["cpu_s_per_gb"];
        let both = sent + written / f64::from(self.consumers);
        Ok(Some(Figures::from([("cpu_s_per_gb".to_owned(), both)])))
    }
}
