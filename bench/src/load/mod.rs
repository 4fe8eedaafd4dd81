//! What is done to a broker and measured: one file per kind of load, and the programs that make it.

pub(crate) mod admin;
pub(crate) mod blast;
pub(crate) mod cold_read;
pub(crate) mod consume;
pub(crate) mod crowd;
pub(crate) mod fan_out;
pub(crate) mod idle;
pub(crate) mod java;
pub(crate) mod paced;
pub(crate) mod produce;
pub(crate) mod rdkafka;
pub(crate) mod soak;
pub(crate) mod start;
pub(crate) mod storm;
mod syncs;
pub(crate) mod wire;

use crate::Result;
use crate::bed::Bed;
use crate::measure::Figures;
use crate::subject::Server;

/// A kind of load. The runner prepares it once for each broker and then runs it in turns.
pub(crate) trait Load {
    /// Payload bytes that one run writes to disk at full scale; 0 if next to nothing.
    fn bytes_per_run(&self) -> u64;

    /// Whether every run writes that, rather than the preparation alone.
    fn writes_in_every_run(&self) -> bool {
        true
    }

    /// Whether the preparation warms brokers, with data that lies on the disk too.
    fn warms(&self) -> bool {
        true
    }

    /// Brings a broker that has just started to where runs begin: topics, warmth, data.
    fn prepare(&self, bed: &Bed, server: &mut Server) -> Result<()>;

    /// One run, with counts and offsets verified; no figure without that.
    fn run(&self, bed: &Bed, server: &mut Server) -> Result<Figures>;

    /// One run of the floor; `None` where the machine has no such limit.
    fn floor(&self, bed: &Bed) -> Result<Option<Figures>> {
        let _ = bed;
        Ok(None)
    }
}
