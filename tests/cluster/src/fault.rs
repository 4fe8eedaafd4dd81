//! What may happen to a cluster.

use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    KillLeader,
    KillFollower,
    KillController,
    KillCoordinator,
    KillQuick,
    KillAll,
    Freeze,
    Stop,
    Rolling,
    CutOneWay,
    CutTwoWay,
    CutEnsemble,
    Isolate,
    Server,
    Quorum,
    Wipe,
}

/// All kinds: name, and what happens.
pub(crate) const KINDS: [(Kind, &str, &str); 16] = [
    (Kind::KillLeader, "kill-leader", "kill -9 of the broker that leads the most partitions"),
    (Kind::KillFollower, "kill-follower", "kill -9 of the broker that leads the fewest"),
    (Kind::KillController, "kill-controller", "kill -9 of the controller"),
    (Kind::KillCoordinator, "kill-coordinator", "kill -9 of a group's coordinator"),
    (Kind::KillQuick, "kill-quick", "kill -9 and a restart before the session is over"),
    (Kind::KillAll, "kill-all", "kill -9 of all brokers, and their restart"),
    (Kind::Freeze, "freeze", "SIGSTOP past the session's time-out, then SIGCONT"),
    (Kind::Stop, "stop", "SIGTERM, and a restart"),
    (Kind::Rolling, "rolling", "SIGTERM and a restart of one broker after the other"),
    (Kind::CutOneWay, "cut-one-way", "nothing from one broker arrives at another"),
    (Kind::CutTwoWay, "cut-two-way", "nothing passes between two brokers"),
    (Kind::CutEnsemble, "cut-ensemble", "a broker is cut off from the ensemble only"),
    (Kind::Isolate, "isolate", "a broker is cut off from all but its clients"),
    (Kind::Server, "server", "kill -9 of one ZooKeeper server"),
    (Kind::Quorum, "quorum", "kill -9 of two ZooKeeper servers for some seconds"),
    (Kind::Wipe, "wipe", "kill -9, an emptied disk, a restart before the session is over"),
];

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        KINDS.iter().find(|(kind, ..)| *kind == self).expect("all are listed").1
    }

    pub(crate) fn of(name: &str) -> Option<Kind> {
        KINDS.iter().find(|(_, listed, _)| *listed == name).map(|(kind, ..)| *kind)
    }
}

/// So many faults of these kinds, none of them twice before all have been there once.
pub(crate) fn draw(kinds: &[Kind], count: usize, random: &mut SmallRng) -> Vec<Kind> {
    let mut drawn = Vec::new();
    while drawn.len() < count {
        let mut round = kinds.to_vec();
        round.shuffle(random);
        drawn.extend(round);
    }
    drawn.truncate(count);
    drawn
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_faults_and_all_kinds_before_one_twice() {
        let kinds = KINDS.map(|(kind, ..)| kind);
        let draw = |seed| draw(&kinds, 20, &mut SmallRng::seed_from_u64(seed));
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        let mut first = draw(1)[..16].to_vec();
        first.sort();
        assert_eq!(first, kinds);
    }
}
