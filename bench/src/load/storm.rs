//! A storm of connections beside a calm producer.

use std::thread;
use std::time::{Duration, Instant};

use super::Load;
use super::admin::Admin;
use super::produce::{TOPIC, await_end, warm};
use super::rdkafka::{Producer, percentiles};
use super::wire::Connection;
use crate::Result;
use crate::bed::Bed;
use crate::measure::Figures;
use crate::subject::Server;

/// Records a second of the producer.
const RATE: u64 = 1000;
/// How long it goes on, in seconds, first undisturbed and then in the storm.
const LASTS_S: u64 = 5;
/// Longest wait for a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// So many connects, each with ApiVersions and Metadata, again and again while the producer runs.
pub(crate) struct Storm {
    pub(crate) connections: usize,
}

impl Load for Storm {
    fn bytes_per_run(&self) -> u64 {
        0
    }

    fn prepare(&self, bed: &Bed, server: &mut Server) -> Result<()> {
        warm(bed, server)?;
        Admin::connect(&server.address)?.create_topic(TOPIC, 1, &[])?;
        self.run(bed, server).map(drop)
    }

    fn run(&self, bed: &Bed, server: &mut Server) -> Result<Figures> {
        let admin = Admin::connect(&server.address)?;
        let end = admin.end_offset(TOPIC, 1)?;
        let mut producer = Producer::new(TOPIC, 100, bed.count(RATE * LASTS_S, RATE));
        producer.rate = Some(RATE);
        producer.latency = true;
        producer.settings = vec!["linger.ms=0".to_owned()];
        let mut calm = producer.run(bed, &server.address)?.latencies_ms;
        let before = server.cpu_s()?;
        let (mut stormy, mut each_ms) = thread::scope(|scope| {
            let producing = scope.spawn(|| producer.run(bed, &server.address));
            let mut each_ms = Vec::new();
            while !producing.is_finished() {
                each_ms.extend(self.storm(&server.address)?);
            }
            let said =
                producing.join().map_err(|_| "the producer's thread failed".to_owned())??;
            Ok::<_, String>((said.latencies_ms, each_ms))
        })?;
        let cpu_s = server.cpu_s()? - before;
        await_end(&admin, 1, end + 2 * producer.records)?;
        let mut figures: Figures = percentiles(&mut stormy).into_iter().collect();
        for (name, value) in percentiles(&mut calm) {
            figures.insert(format!("undisturbed_{name}"), value);
        }
        figures.insert("connect_ms".to_owned(), each_ms.iter().sum::<f64>() / each_ms.len() as f64);
        figures.insert("us_per_connection".to_owned(), cpu_s * 1e6 / each_ms.len() as f64);
        for (name, value) in percentiles(&mut each_ms) {
            figures.insert(format!("connect_{name}"), value);
        }
        Ok(figures)
    }
}

impl Storm {
    /// What each took, in ms. All stay connected until the last one is.
    fn storm(&self, address: &str) -> Result<Vec<f64>> {
        let mut connected = Vec::new();
        let mut each_ms = Vec::new();
        for _ in 0..self.connections {
            let begun = Instant::now();
            let mut connection = Connection::open(address, PATIENCE)?;
            connection.api_versions()?;
            connection.metadata(TOPIC, false)?;
            each_ms.push(begun.elapsed().as_secs_f64() * 1e3);
            connected.push(connection);
        }
        Ok(each_ms)
    }
}
