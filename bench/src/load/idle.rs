//! Brokers that have nothing to do: CPU and memory.

use std::thread::sleep;
use std::time::{Duration, Instant};

use super::Load;
use super::admin::Admin;
use super::produce::{LARGE_BATCHES, TOPIC, await_end};
use super::rdkafka::Producer;
use super::wire::Connection;
use crate::Result;
use crate::bed::Bed;
use crate::measure::{Figures, resident_mb};
use crate::subject::Server;

/// Longest wait for a connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a broker is left alone after it was brought to its state, before it is looked at.
const CALM: Duration = Duration::from_secs(5);

/// What a broker has while nothing happens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum State {
    /// Nothing at all.
    Empty,
    /// A topic of so many partitions, each with an open log.
    Partitions(i32),
    /// So many connections that each wait for records that do not come, at most so long at a time.
    LongPolls(usize, Duration),
    /// Behind it a load of so many payload bytes.
    Written(u64),
    /// So many connections that say nothing.
    Connections(usize),
}

/// A broker in a state, looked at for a while.
pub(crate) struct Idle {
    pub(crate) state: State,
    /// How long, at full scale.
    pub(crate) lasts_s: u64,
}

impl Load for Idle {
    fn bytes_per_run(&self) -> u64 {
        match self.state {
            State::Written(bytes) => bytes,
            _ => 0,
        }
    }

    fn writes_in_every_run(&self) -> bool {
        false
    }

    fn warms(&self) -> bool {
        false
    }

    fn prepare(&self, bed: &Bed, server: &mut Server) -> Result<()> {
        let admin = Admin::connect(&server.address)?;
        match self.state {
            State::Empty | State::Connections(_) => {}
            State::Partitions(count) => {
                admin.create_topic(TOPIC, count, &[])?;
                let records = 10 * u64::from(count.unsigned_abs());
                let mut producer = Producer::new(TOPIC, 100, records);
                producer.partition = None;
                producer.many_partitions = true;
                producer.settings = vec!["sticky.partitioning.linger.ms=0".to_owned()];
                producer.run(bed, &server.address)?;
                await_end(&admin, count, records)?;
            }
            State::LongPolls(..) => admin.create_topic(TOPIC, 1, &[])?,
            State::Written(bytes) => {
                admin.create_topic(TOPIC, 1, &[])?;
                let mut producer = Producer::new(TOPIC, 1024, bed.bytes(bytes) / 1024);
                producer.settings = LARGE_BATCHES.iter().map(|&setting| setting.into()).collect();
                producer.run(bed, &server.address)?;
                await_end(&admin, 1, producer.records)?;
            }
        }
        sleep(CALM);
        Ok(())
    }

    fn run(&self, bed: &Bed, server: &mut Server) -> Result<Figures> {
        let lasts = Duration::from_secs(bed.count(self.lasts_s, 2));
        let count = match self.state {
            State::LongPolls(count, _) | State::Connections(count) => count,
            _ => 0,
        };
        if matches!(self.state, State::Connections(_)) {
            // Memory that earlier connections left behind would hide what these take.
            server.replace(bed)?;
            sleep(CALM);
        }
        let resident_before = resident_mb(server.pid())?.0;
        let mut connections = Vec::new();
        for _ in 0..count {
            let mut connection = Connection::open(&server.address, PATIENCE)?;
            connection.api_versions()?;
            connections.push(connection);
        }
        if let State::LongPolls(_, wait) = self.state {
            for connection in &mut connections {
                connection.long_poll(TOPIC, wait)?;
            }
        }
        let begun = Instant::now();
        let before = server.cpu_s()?;
        let mut polls = 0;
        match self.state {
            State::LongPolls(_, wait) if wait < lasts => {
                while begun.elapsed() < lasts {
                    for connection in &mut connections {
                        connection.polled_nothing()?;
                        connection.long_poll(TOPIC, wait)?;
                        polls += 1;
                    }
                }
            }
            _ => sleep(lasts),
        }
        let cpu_s = server.cpu_s()? - before;
        let took_s = begun.elapsed().as_secs_f64();
        let (resident, anonymous) = resident_mb(server.pid())?;
        let mut figures = Figures::from([
            ("cpu_percent".to_owned(), cpu_s / took_s * 100.0),
            ("resident_mb".to_owned(), resident),
            ("anonymous_mb".to_owned(), anonymous),
        ]);
        if polls > 0 {
            figures.insert("polls_per_s".to_owned(), f64::from(polls) / took_s);
            figures.insert("us_per_poll".to_owned(), cpu_s * 1e6 / f64::from(polls));
        }
        if count > 0 {
            let each_kib = (resident - resident_before).max(0.0) * 1e6 / 1024.0 / count as f64;
            figures.insert("kib_per_connection".to_owned(), each_kib);
        }
        Ok(figures)
    }
}
