//! Runs a procedure up to each of its changes of the disk, and opens the log on every disk that a
//! power loss there may leave.

use std::sync::Arc;

use klamm_sim::disk::SimulatedDisk;

/// What was tried.
#[derive(Clone, Copy, Debug, Default)]
pub struct Explored {
    /// Changes of the disk within the procedure, and its end.
    pub crash_points: u64,
    /// Different disks that were left, as far as opening the log and reading it tells them apart.
    pub states: u64,
    /// Different disks that might have been left.
    pub disks: f64,
}

/// A procedure that the power did not survive.
pub struct Cut {
    /// What the power loss is tried on.
    pub disk: Arc<SimulatedDisk>,
    /// The procedure had come to its end.
    pub finished: bool,
    /// Opens the log on a disk that is left, and says what is wrong with it.
    pub check: Box<dyn Fn(Arc<SimulatedDisk>) -> Result<(), String>>,
}

/// `cut_short(at)` runs the procedure up to its change `at`.
///
/// # Errors
/// The first outcome that does not leave what is promised.
pub fn explore(cut_short: impl Fn(u64) -> Result<Cut, String>) -> Result<Explored, String> {
    let mut explored = Explored::default();
    for at in 0.. {
        let cut = cut_short(at)?;
        let point = cut.disk.crash_point().map_err(|error| error.to_string())?;
        explored.crash_points += 1;
        explored.disks += point.disks();
        let mut tried = 0_u64;
        explored.states += point
            .explore(|disk| {
                tried += 1;
                (cut.check)(disk)
            })
            .map_err(|failure| format!("power lost before change {at}, try {tried}: {failure}"))?;
        if cut.finished {
            break;
        }
    }
    Ok(explored)
}

/// Outcomes that are tried of each power loss of a disk that lies: next to nothing is synced there,
/// so they are too many.
const LYING_TRIES: u64 = 200;

/// The same with some outcomes only; whether one of them is found out.
pub fn is_found_out(cut_short: impl Fn(u64) -> Result<Cut, String>) -> bool {
    for at in 0.. {
        let Ok(cut) = cut_short(at) else { return true };
        // From here on there is only more that was not synced.
        let Ok(point) = cut.disk.crash_point() else { break };
        if point.sample(LYING_TRIES, at, |disk| (cut.check)(disk)).is_err() {
            return true;
        }
        if cut.finished {
            break;
        }
    }
    false
}
