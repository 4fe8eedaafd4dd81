//! Which faults happen, and when.

use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;

use super::Scenario;
use crate::durability::Policy;

/// A kind of fault. Whom it meets is decided when it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// kill -9: the page cache survives.
    Kill,
    /// kill -9 of all brokers at once.
    KillAll,
    /// The power of one machine, within some work on its disk or between two.
    PowerLoss,
    /// The power of all machines at once.
    PowerLossAll,
    /// The disk of one machine is empty when it comes back, within the session's time-out (KIP-903).
    Wipe,
    /// An orderly stop.
    Stop,
    /// Two brokers do not reach each other.
    Cut,
    /// One broker does not reach another.
    CutOneWay,
    /// A broker reaches no other broker, but the ensemble and clients.
    Isolate,
    /// A broker does not reach the ensemble, for less than its lease.
    EnsembleBlink,
    /// A broker does not reach the ensemble for longer than its session.
    EnsembleCut,
    /// The ensemble has no quorum.
    EnsembleDown,
    /// A server of the ensemble hears nothing from its leader.
    EnsembleLag,
    /// A broker's session moves to another server.
    EnsembleMove,
    /// The reply to a broker's write in the ensemble is lost.
    EnsembleReply,
    /// The network is slow.
    Slow,
}

impl Fault {
    const ALL: [Fault; 16] = [
        Fault::Kill,
        Fault::KillAll,
        Fault::PowerLoss,
        Fault::PowerLossAll,
        Fault::Wipe,
        Fault::Stop,
        Fault::Cut,
        Fault::CutOneWay,
        Fault::Isolate,
        Fault::EnsembleBlink,
        Fault::EnsembleCut,
        Fault::EnsembleDown,
        Fault::EnsembleLag,
        Fault::EnsembleMove,
        Fault::EnsembleReply,
        Fault::Slow,
    ];

    /// What it is called in settings and figures.
    pub(super) fn word(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::KillAll => "kill-all",
            Fault::PowerLoss => "power",
            Fault::PowerLossAll => "power-all",
            Fault::Wipe => "wipe",
            Fault::Stop => "stop",
            Fault::Cut => "cut",
            Fault::CutOneWay => "cut-one-way",
            Fault::Isolate => "isolate",
            Fault::EnsembleBlink => "ensemble-blink",
            Fault::EnsembleCut => "ensemble-cut",
            Fault::EnsembleDown => "ensemble-down",
            Fault::EnsembleLag => "ensemble-lag",
            Fault::EnsembleMove => "ensemble-move",
            Fault::EnsembleReply => "ensemble-reply",
            Fault::Slow => "slow",
        }
    }

    /// How long it lasts, in milliseconds from and to; for a process, how long it is down. One of
    /// several is drawn.
    fn lengths(self) -> &'static [(u64, u64)] {
        match self {
            // At once, within the session's time-out, and after it.
            Fault::Kill | Fault::PowerLoss => &[(20, 500), (500, 5_000), (7_000, 14_000)],
            Fault::KillAll | Fault::PowerLossAll => &[(20, 6_000)],
            Fault::Wipe => &[(20, 2_000)],
            Fault::Stop => &[(20, 8_000)],
            Fault::Cut | Fault::CutOneWay | Fault::Isolate => &[(500, 4_000), (4_000, 15_000)],
            Fault::EnsembleBlink => &[(100, 3_500)],
            Fault::EnsembleCut => &[(7_000, 18_000)],
            Fault::EnsembleDown => &[(500, 5_000), (5_000, 15_000), (30_000, 60_000)],
            Fault::EnsembleLag => &[(500, 3_000), (3_000, 10_000)],
            Fault::EnsembleMove | Fault::EnsembleReply => &[(0, 1)],
            Fault::Slow => &[(2_000, 10_000)],
        }
    }

    fn lasts(self, random: &mut SmallRng) -> Duration {
        let lengths = self.lengths();
        let (from, to) = lengths[random.random_range(0..lengths.len())];
        Duration::from_millis(random.random_range(from..to))
    }

    /// Whether all that was acknowledged survives it by the rules, in this scenario.
    fn is_survivable(self, scenario: &Scenario) -> bool {
        match self {
            // Where the topics turn, from then on.
            Fault::PowerLossAll => scenario.flush == Policy::Acked || scenario.turns_acked,
            Fault::PowerLoss => scenario.flush == Policy::Acked || scenario.replication > 2,
            Fault::Wipe => scenario.replication > 2,
            Fault::Cut | Fault::CutOneWay | Fault::Isolate => scenario.brokers > 1,
            _ => true,
        }
    }
}

/// The ensemble is there for so long between two outages, at least.
const ENSEMBLE_UP_MIN: Duration = Duration::from_secs(20);

/// One fault to come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Planned {
    /// From the beginning of the unrest on.
    pub(super) at: Duration,
    pub(super) fault: Fault,
    pub(super) lasts: Duration,
}

/// That every name is one of a kind of fault.
pub(super) fn check_kinds(names: &[String]) -> Result<(), String> {
    let is_known = |name: &str| Fault::ALL.iter().any(|fault| fault.word() == name);
    match names.iter().find(|name| !is_known(name)) {
        None => Ok(()),
        Some(name) => {
            let known: Vec<_> = Fault::ALL.iter().map(|fault| fault.word()).collect();
            Err(format!("there is no fault {name}: {}", known.join(", ")))
        }
    }
}

/// Draws the faults of a run: some kinds, and a number of each.
pub(super) fn draw(scenario: &Scenario, random: &mut SmallRng) -> Vec<Planned> {
    let named = |fault: &Fault| {
        scenario.faults.is_empty() || scenario.faults.iter().any(|name| name == fault.word())
    };
    let possible = Fault::ALL.into_iter().filter(|fault| fault.is_survivable(scenario));
    let possible: Vec<_> = possible.filter(named).collect();
    let mut kinds = possible.clone();
    if scenario.faults.is_empty() {
        // Faults that come together in every run would hide what comes of few.
        kinds.retain(|_| random.random_bool(0.5));
    }
    if kinds.is_empty() {
        kinds = possible;
    }
    let mut planned: Vec<Planned> = Vec::new();
    let mut at = Duration::from_millis(random.random_range(1_000..4_000));
    while at < scenario.unrest && !kinds.is_empty() {
        let fault = kinds[random.random_range(0..kinds.len())];
        let next = Planned { at, fault, lasts: fault.lasts(random) };
        if !planned.iter().any(|before| before.is_in_the_way(&next)) {
            planned.push(next);
        }
        // Some come while the one before still lasts.
        at += Duration::from_millis(random.random_range(100..8_000));
    }
    planned
}

impl Planned {
    /// Whether the ensemble would be down again right after this one, and nothing but that be seen.
    fn is_in_the_way(&self, next: &Planned) -> bool {
        let both = self.fault == Fault::EnsembleDown && next.fault == Fault::EnsembleDown;
        both && next.at < self.at + self.lasts + ENSEMBLE_UP_MIN
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn every_fault_is_drawn_by_some_seed_and_can_be_asked_for() {
        for fault in Fault::ALL {
            check_kinds(&[fault.word().to_owned()]).expect("a name");
            let drawn = (0..50).any(|seed| {
                let random = &mut SmallRng::seed_from_u64(seed);
                draw(&Scenario::drawn(seed), random).iter().any(|planned| planned.fault == fault)
            });
            assert!(drawn, "{fault:?} never happens");
        }
        check_kinds(&["flood".to_owned()]).expect_err("no fault");
    }

    #[test]
    fn what_would_lose_records_by_the_rules_is_not_drawn() {
        for seed in 0..50 {
            let mut scenario = Scenario::drawn(seed);
            scenario.set("flush", "os").expect("a policy");
            scenario.set("turns-acked", "false").expect("a truth");
            let random = &mut SmallRng::seed_from_u64(seed);
            let planned = draw(&scenario, random);
            assert!(planned.iter().all(|planned| planned.fault != Fault::PowerLossAll));
        }
    }
}
