//! Time as the machines see it: a number the shell passes in.

/// A moment on a monotonic clock, in milliseconds since any fixed point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// The moment `ms` later. A wait shorter than one millisecond becomes one: a timer that could
    /// fire in the instant it is set would let a client's zero timeout spin the machine.
    #[must_use]
    pub fn after(self, ms: i64) -> Time {
        Time(self.0.saturating_add(ms.max(1).unsigned_abs()))
    }
}

/// The two clocks of one call: monotonic for deadlines, wall for what records carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic; deadlines are reckoned from it.
    pub at: Time,
    /// Milliseconds since 1970; written into records and compared with them by retention.
    pub wall_ms: i64,
}
