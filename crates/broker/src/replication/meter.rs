//! A rate over a sliding window, and what may still go within a bound (KIP-73). Pure: times and bytes
//! in, room out.
//!
//! Bytes are counted in samples of one length. A sample is begun by the first bytes after the one
//! before it is over, counts for a window after its own end, and is then forgotten with the time that
//! it stood for. What may go is what the bound allows for the time since the oldest remembered sample
//! began, and at least for the length of one, less what went. So over any stretch of time no more goes
//! than the bound allows for it, a window and two samples, and one batch beyond.

use std::collections::VecDeque;
use std::time::Duration;

/// A bound that has been reached is closed until there is room again for what it allows in this time:
/// many small answers cost more than few.
const PORTION: Duration = Duration::from_millis(100);
/// Samples that are remembered at most; of more, several count as one.
const SAMPLES_MAX: u32 = 1024;

struct Sample {
    began: Duration,
    bytes: u64,
}

/// What went of late. All times are of one clock that never goes back.
pub(crate) struct Meter {
    /// Oldest first; each began at least a sample's length after the one before.
    samples: VecDeque<Sample>,
    length: Duration,
    window: Duration,
}

impl Meter {
    /// Nothing has gone yet. The window is `samples` of `length` each; none, and of no length, count
    /// as one, and as that of a portion.
    pub(crate) fn new(samples: u32, length: Duration) -> Meter {
        let window = length.max(PORTION).saturating_mul(samples.max(1));
        let length = window / samples.clamp(1, SAMPLES_MAX);
        Meter { samples: VecDeque::new(), length, window }
    }

    /// Notes that `bytes` went at `now`.
    pub(crate) fn record(&mut self, bytes: u64, now: Duration) {
        self.forget(now);
        match self.samples.back_mut() {
            Some(last) if now < last.began.saturating_add(self.length) => {
                last.bytes = last.bytes.saturating_add(bytes);
            }
            _ => self.samples.push_back(Sample { began: now, bytes }),
        }
    }

    /// The bytes that may go at `now` under a bound of `rate` bytes a second; `None` where it is
    /// closed, until [`Meter::opens_at`]. Zero is no room but for one batch.
    pub(crate) fn room(&mut self, rate: u64, now: Duration) -> Option<u64> {
        self.forget(now);
        let elapsed =
            self.samples.front().map_or(Duration::ZERO, |it| now.saturating_sub(it.began));
        let allowed = bytes_in(rate, elapsed.max(self.length));
        let gone = self.gone();
        let is_open = gone.saturating_add(portion(rate)) <= allowed;
        is_open.then(|| u64::try_from(allowed - gone).unwrap_or(u64::MAX))
    }

    /// When there is room again under that bound if nothing else goes; `now` where there is.
    pub(crate) fn opens_at(&mut self, rate: u64, now: Duration) -> Duration {
        self.forget(now);
        let mut at = now;
        let mut needed = self.gone().saturating_add(portion(rate));
        for oldest in &self.samples {
            let needs = time_for(rate, needed);
            if needs <= self.length {
                return at;
            }
            let opens = oldest.began.saturating_add(needs).max(at);
            let forgotten = self.forgotten_at(oldest);
            if opens < forgotten {
                return opens;
            }
            at = forgotten.max(at);
            needed = needed.saturating_sub(u128::from(oldest.bytes));
        }
        at
    }

    fn gone(&self) -> u128 {
        self.samples.iter().map(|sample| u128::from(sample.bytes)).sum()
    }

    fn forgotten_at(&self, sample: &Sample) -> Duration {
        sample.began.saturating_add(self.length).saturating_add(self.window)
    }

    fn forget(&mut self, now: Duration) {
        while self.samples.front().is_some_and(|oldest| self.forgotten_at(oldest) <= now) {
            self.samples.pop_front();
        }
    }
}

const NANOS: u128 = 1_000_000_000;

fn portion(rate: u64) -> u128 {
    bytes_in(rate, PORTION)
}

fn bytes_in(rate: u64, time: Duration) -> u128 {
    u128::from(rate).saturating_mul(time.as_nanos()) / NANOS
}

/// The time in which `rate` allows `bytes`, rounded up.
fn time_for(rate: u64, bytes: u128) -> Duration {
    let nanos = match (bytes, rate) {
        (0, _) => 0,
        (_, 0) => u128::MAX,
        (bytes, rate) => bytes.saturating_mul(NANOS).div_ceil(u128::from(rate)),
    };
    let seconds = u64::try_from(nanos / NANOS).unwrap_or(u64::MAX);
    Duration::new(seconds, u32::try_from(nanos % NANOS).unwrap_or(0))
}

#[cfg(test)]
mod tests;
