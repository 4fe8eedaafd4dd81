//! One look of a fetch at a log, and waiting for what it did not find.

use std::sync::Arc;

use klamm_log::{AbortedTransaction as Aborted, LogReader, LogSlice, ReadError};

use super::{Part, Round};
use crate::partition::{Offsets, Partition};
use crate::waiters::{Signal, WaiterKey, Waiters};
use crate::wakes::Wakes;

/// One read of a log.
#[derive(Clone, Copy)]
pub(super) struct Look {
    /// First offset asked for.
    pub from: i64,
    /// Most bytes.
    pub bytes_max: u64,
    /// The partition's offsets.
    pub offsets: Offsets,
    /// The first batch may be larger.
    pub may_exceed: bool,
    /// How far it may see.
    pub scope: Scope,
}

/// How far an asker may see.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Up to the last stable offset.
    Stable,
    /// Up to the high watermark.
    Committed,
    /// Up to the log's end: followers.
    Everything,
}

impl Scope {
    fn end(self, offsets: &Offsets) -> i64 {
        match self {
            Scope::Stable => offsets.last_stable,
            Scope::Committed => offsets.high_watermark,
            Scope::Everything => offsets.log_end,
        }
    }
}

/// What it finds: batches, and for read_committed what was aborted among them.
pub(super) type Found = (LogSlice, Option<Vec<Aborted>>);

impl Look {
    /// How far it has to look: nowhere, where nothing may be taken.
    fn end(&self) -> i64 {
        let takes = self.bytes_max > 0 || self.may_exceed;
        if takes { self.scope.end(&self.offsets) } else { self.from }
    }

    /// What can be had without waiting for the disk; `None` where it has to be waited for.
    pub(super) fn try_read(self, reader: &LogReader) -> Result<Option<Found>, ReadError> {
        let Look { from, bytes_max, may_exceed, scope, .. } = self;
        let upper = self.end();
        Ok(if scope == Scope::Stable {
            let found = reader.try_read_committed(from, bytes_max, upper, may_exceed)?;
            found.map(|(slice, aborted)| (slice, Some(aborted)))
        } else {
            let found = reader.try_read(from, bytes_max, upper, may_exceed)?;
            found.map(|slice| (slice, None))
        })
    }

    /// The same, waiting for the disk.
    pub(super) fn read(self, reader: &LogReader) -> Result<Found, ReadError> {
        let Look { from, bytes_max, may_exceed, scope, .. } = self;
        let upper = self.end();
        Ok(if scope == Scope::Stable {
            let (slice, aborted) = reader.read_committed(from, bytes_max, upper, may_exceed)?;
            (slice, Some(aborted))
        } else {
            (reader.read(from, bytes_max, upper, may_exceed)?, None)
        })
    }
}

/// The registrations of a waiting fetch, taken back when it looks again or is given up.
pub(super) struct Registered<'a> {
    /// Fires when one of the partitions has news.
    pub signal: Arc<Signal>,
    waiting: Vec<Waiting<'a>>,
}

struct Waiting<'a> {
    partition: &'a Partition,
    scope: Scope,
    beyond: i64,
    key: WaiterKey,
}

impl<'a> Registered<'a> {
    /// Waits for what lies in `scope`, and where it `tells` also for higher high watermarks.
    pub(super) fn new(
        parts: &'a [Part],
        scope: Scope,
        tells: bool,
        round: &Round,
        wakes: &Arc<Wakes>,
    ) -> Registered<'a> {
        let signal = Arc::new(Signal::on(wakes));
        let mut waiting = Vec::with_capacity(parts.len());
        for (part, result) in parts.iter().zip(&round.results) {
            let (Ok(partition), Ok(data)) = (&part.partition, result) else { continue };
            let mut wait = |scope: Scope, beyond: i64| {
                let key = waiters(scope, partition).add(beyond, &signal);
                waiting.push(Waiting { partition, scope, beyond, key });
            };
            let seen = awaited(scope, &data.offsets);
            // More of what is withheld changes nothing; a change of epoch does.
            let more = seen.max(part.wanted.fetch_offset) + 1;
            wait(scope, if data.withheld { i64::MAX } else { more });
            if tells {
                wait(Scope::Committed, data.offsets.high_watermark + 1);
            }
        }
        Registered { signal, waiting }
    }

    /// Whether something came before it was registered.
    pub(super) fn is_overtaken(&self) -> bool {
        let passed = |it: &Waiting<'_>| awaited(it.scope, &it.partition.offsets()) >= it.beyond;
        self.waiting.iter().any(passed)
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        for Waiting { partition, scope, key, .. } in &self.waiting {
            waiters(*scope, partition).remove(*key);
        }
    }
}

/// Consumers wait for the high watermark, followers for the log's end.
fn awaited(scope: Scope, offsets: &Offsets) -> i64 {
    if scope == Scope::Everything { offsets.log_end } else { offsets.high_watermark }
}

fn waiters(scope: Scope, partition: &Partition) -> &Waiters {
    if scope == Scope::Everything { partition.end_waiters() } else { partition.waiters() }
}
