//! Deadlines, ordered by when they fall due. A timer has one deadline; setting it again moves it.

use std::collections::{BTreeMap, BTreeSet};

use crate::time::Time;

/// What falls due.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A member (or a pending member) must be heard of by then.
    Session { group: String, member: String },
    /// The joining phase of a group ends.
    Join { group: String },
    /// Every member of a generation must have asked for its assignment.
    Sync { group: String },
    /// Offsets past their retention are looked for.
    Retention,
}

#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_deadline: BTreeSet<(Time, Timer)>,
    deadlines: BTreeMap<Timer, Time>,
}

impl Timers {
    pub(crate) fn set(&mut self, timer: Timer, deadline: Time) {
        if let Some(old) = self.deadlines.insert(timer.clone(), deadline) {
            self.by_deadline.remove(&(old, timer.clone()));
        }
        self.by_deadline.insert((deadline, timer));
    }

    pub(crate) fn cancel(&mut self, timer: &Timer) {
        if let Some(old) = self.deadlines.remove(timer) {
            self.by_deadline.remove(&(old, timer.clone()));
        }
    }

    pub(crate) fn next(&self) -> Option<Time> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }

    /// Takes the earliest timer if it is due.
    pub(crate) fn take_due(&mut self, now: Time) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        let (_, timer) = self.by_deadline.pop_first()?;
        self.deadlines.remove(&timer);
        Some(timer)
    }
}
