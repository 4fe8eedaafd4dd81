//! Reading what is there already, at full speed, with librdkafka.

use super::Load;
use super::admin::Admin;
use super::blast;
use super::produce::{LARGE_BATCHES, TOPIC, await_end};
use super::rdkafka::{Consumer, Producer};
use crate::Result;
use crate::bed::Bed;
use crate::measure::{Figures, GB, resident_mb};
use crate::subject::{Kind, Server, nisshi};

/// A consumer that catches up with a topic of one partition.
#[derive(Clone, Debug)]
pub(crate) struct CatchUp {
    pub(crate) record_bytes: u64,
    /// Payload bytes that lie there, at full scale; each run reads all of them.
    pub(crate) bytes: u64,
}

impl CatchUp {
    fn records(&self, bed: &Bed, kind: Kind) -> u64 {
        let bytes = bed.bytes(self.bytes);
        let bytes = if kind == Kind::Nisshi { bytes.min(nisshi::BYTES_MAX) } else { bytes };
        bytes / self.record_bytes
    }
}

impl Load for CatchUp {
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
        let records = self.records(bed, server.kind);
        let mut producer = Producer::new(TOPIC, self.record_bytes, records);
        producer.settings = LARGE_BATCHES.iter().map(|&setting| setting.into()).collect();
        producer.run(bed, &server.address)?;
        if server.kind != Kind::Nisshi {
            await_end(&admin, 1, records)?;
        }
        // Once through, so that code and pages are warm.
        self.run(bed, server).map(drop)
    }

    fn run(&self, bed: &Bed, server: &mut Server) -> Result<Figures> {
        let records = self.records(bed, server.kind);
        let consumer = Consumer::new(TOPIC, 1, records);
        let before = server.cpu_s()?;
        let said = consumer.start(bed, &server.address)?.verified(records)?;
        let cpu_s = server.cpu_s()? - before;
        if said.bytes != records * self.record_bytes {
            return Err(format!("{} bytes were consumed, of {records} records", said.bytes));
        }
        let gb = said.bytes as f64 / GB;
        Ok(Figures::from([
            ("cpu_s_per_gb".to_owned(), cpu_s / gb),
            ("gb_per_s".to_owned(), gb / (said.took_ms.max(1) as f64 / 1e3)),
            ("records_per_s".to_owned(), said.records as f64 / (said.took_ms.max(1) as f64 / 1e3)),
            ("resident_mb".to_owned(), resident_mb(server.pid())?.0),
        ]))
    }

    fn floor(&self, bed: &Bed) -> Result<Option<Figures>> {
        blast::send(bed, bed.bytes(self.bytes)).map(Some)
    }
}
