//! The cleaner's swap. A cleaned log is no prefix: what is left must give the same newest value of
//! each key (I16), up to where the log ends now.

use std::sync::Arc;

use klamm_sim::disk::{Lie, SimulatedDisk};

use crate::cleaner::Run;
use crate::explorer::Cut;

/// Records of each of the two parts that are durable, and after them.
const STORED: usize = 14;
const UNSYNCED: usize = 5;

/// A pass up to its change `at`, on a disk that may `lie` from its begin on.
///
/// # Errors
/// When the log fails before the power does.
pub fn cut_short(seed: u64, at: u64, lie: Option<Lie>) -> Result<Cut, String> {
    let mut run = Run::new(seed);
    let log = run.prepare(STORED, UNSYNCED)?;
    run.disk.set_lie(lie);
    run.disk.die_after(at);
    let (_, finished) = Run::clean_later(log);
    let disk = Arc::clone(&run.disk);
    let check = move |disk| {
        let mut left = Run { disk, ..run.clone() };
        left.check_left(SimulatedDisk::lose_all_unsynced)
    };
    Ok(Cut { disk, finished, check: Box::new(check) })
}
