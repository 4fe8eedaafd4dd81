//! Many partitions: created, each written to, stopped and started again.

use std::time::{Duration, Instant};

use super::Load;
use super::admin::Admin;
use super::produce::{TOPIC, await_end};
use super::rdkafka::Producer;
use super::wire::first_ack;
use crate::Result;
use crate::bed::Bed;
use crate::measure::{Figures, descriptors, resident_mb};
use crate::subject::Server;

/// Longest wait for a first acknowledgement.
const PATIENCE: Duration = Duration::from_secs(300);
/// Records for every partition, on average, so that hardly one stays empty.
const RECORDS_EACH: u64 = 10;

/// A topic of so many partitions, from nothing, in every run.
pub(crate) struct Crowd {
    pub(crate) partitions: i32,
}

impl Load for Crowd {
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
        server.replace(bed)?;
        let begun = Instant::now();
        Admin::connect(&server.address)?.create_topic(TOPIC, self.partitions, &[])?;
        let create_s = begun.elapsed().as_secs_f64();
        let records = RECORDS_EACH * u64::from(self.partitions.unsigned_abs());
        let mut producer = Producer::new(TOPIC, 100, records);
        producer.partition = None;
        producer.many_partitions = true;
        producer.settings =
            vec!["linger.ms=1000".to_owned(), "sticky.partitioning.linger.ms=0".to_owned()];
        producer.run(bed, &server.address)?;
        await_end(&Admin::connect(&server.address)?, self.partitions, records)?;
        let resident = resident_mb(server.pid())?;
        let descriptors = descriptors(server.pid())?;
        let stop_s = server.stop()?.as_secs_f64();
        let (restart_s, acked) = started_again(bed, server)?;
        server.kill()?;
        let (restart_killed_s, acked_again) = started_again(bed, server)?;
        if acked_again != acked + 1 {
            return Err(format!("offset {acked_again} after {acked} and a kill"));
        }
        await_end(&Admin::connect(&server.address)?, self.partitions, records + 2)?;
        Ok(Figures::from([
            ("create_s".to_owned(), create_s),
            ("resident_mb".to_owned(), resident.0),
            ("anonymous_mb".to_owned(), resident.1),
            ("descriptors".to_owned(), descriptors),
            ("stop_s".to_owned(), stop_s),
            ("restart_s".to_owned(), restart_s),
            ("restart_killed_s".to_owned(), restart_killed_s),
        ]))
    }
}

/// Seconds to the first acknowledgement, and its offset.
fn started_again(bed: &Bed, server: &mut Server) -> Result<(f64, i64)> {
    let begun = Instant::now();
    server.start_again(bed)?;
    let offset = first_ack(&server.address, TOPIC, PATIENCE)?;
    Ok((begun.elapsed().as_secs_f64(), offset))
}
