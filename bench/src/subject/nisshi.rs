//! Nisshi: Tansu's static binary, which keeps everything in memory.
//!
//! It is started anew for each run and gets little to write, since nothing ever leaves its memory.

use std::process::Command;

use super::placed;
use crate::Result;
use crate::bed::Bed;

/// Most bytes that one run writes to it.
pub(crate) const BYTES_MAX: u64 = 200_000_000;

pub(super) fn command(bed: &Bed, address: &str) -> Result<Command> {
    let binary = bed.tools.nisshi.as_ref().ok_or("Nisshi was left out")?;
    let mut command = placed(bed, binary);
    command.args(["broker", "--silent", "--storage-engine", "memory://tansu/"]);
    command.args(["--listener-url", &format!("tcp://{address}")]);
    command.args(["--advertised-listener-url", &format!("tcp://{address}")]);
    Ok(command)
}
