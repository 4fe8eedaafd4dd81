//! The paths that are counted.

use std::net::SocketAddr;

use crate::Outcome;
use crate::fetch;
use crate::produce::{PLAIN, Produce};

/// Makes one more round of requests and checks its answers.
pub(crate) type OneMore = Box<dyn FnMut() -> Outcome<()>>;

/// One way through the broker.
pub(crate) struct Path {
    pub(crate) name: &'static str,
    /// Rounds before those that count: what happens only once, or only at first, has happened.
    pub(crate) warm_up: u32,
    /// Rounds of the first count; the second has twice as many, and their difference is told.
    pub(crate) rounds: u32,
    /// Requests of one round.
    pub(crate) requests: u32,
    /// Sets up what the requests need.
    pub(crate) begin: fn(SocketAddr) -> Outcome<OneMore>,
}

const fn path(name: &'static str, rounds: u32, begin: fn(SocketAddr) -> Outcome<OneMore>) -> Path {
    Path { name, warm_up: rounds / 2, rounds, requests: 1, begin }
}

/// Enough rounds that what happens every few requests (an index entry, a grown buffer) counts for
/// its part.
pub(crate) const PATHS: &[Path] = &[
    path("produce.record_1k", 200, |at| PLAIN.begin(at)),
    path("produce.batch_16k", 200, |at| Produce { records: 16, ..PLAIN }.begin(at)),
    // 32 MiB: as much as lies between two checkpoints of a log.
    path("produce.batch_256k", 128, |at| Produce { records: 256, ..PLAIN }.begin(at)),
    path("produce.batch_16k_of_100b", 200, |at| {
        Produce { records: 160, record_bytes: 100, ..PLAIN }.begin(at)
    }),
    path("produce.batch_16k_idempotent", 200, |at| {
        Produce { records: 16, acks: -1, idempotent: true, ..PLAIN }.begin(at)
    }),
    path("produce.record_1k_synced", 100, |at| {
        Produce { acks: -1, flush: "acked", ..PLAIN }.begin(at)
    }),
    Path {
        name: "produce.record_1k_five_in_flight",
        warm_up: 50,
        rounds: 100,
        requests: 5,
        begin: |at| Produce { in_flight: 5, ..PLAIN }.begin(at),
    },
    // Every log is open, and so short that it gets no entry of its index meanwhile: all would get
    // theirs in the same round.
    Path {
        name: "produce.1000_partitions_in_turn",
        warm_up: 1000,
        rounds: 1000,
        requests: 1,
        begin: |at| Produce { partitions: 1000, record_bytes: 100, ..PLAIN }.begin(at),
    },
    // Every log gets an entry of its index each fourth round.
    Path {
        name: "produce.1000_partitions_at_once",
        warm_up: 20,
        rounds: 4,
        requests: 1,
        begin: |at| Produce { partitions: 1000, partitions_at_once: 1000, ..PLAIN }.begin(at),
    },
    path("fetch.warm_64k", 200, |at| fetch::warm(at, 16, 64 << 10)),
    Path {
        name: "fetch.warm_1m",
        warm_up: 200,
        rounds: 100,
        requests: 1,
        begin: |at| fetch::warm(at, 64, 1 << 20),
    },
    path("fetch.copied_1k", 200, |at| fetch::warm(at, 1, 1 << 10)),
    path("fetch.empty", 200, fetch::empty),
    path("fetch.long_poll", 100, fetch::long_poll),
    path("fetch.tail", 200, fetch::tail),
];
