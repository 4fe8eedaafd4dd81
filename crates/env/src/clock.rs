//! Time.

use std::time::Duration;

/// The three clocks of a machine.
///
/// No safety decision uses [`Clock::wall_ms`]; it only stamps records and tells people the time.
pub trait Clock: Send + Sync + 'static {
    /// Time since an arbitrary start; never goes back, stands still while the machine is suspended.
    fn monotonic(&self) -> Duration;

    /// Time since boot, suspended time included. Leases are measured with it.
    fn boot_time(&self) -> Duration;

    /// Milliseconds since 1970 by the machine's calendar; may jump either way.
    fn wall_ms(&self) -> i64;
}
