//! Replication quotas (KIP-73): how fast replicas that are out of sync may catch up, so that they leave
//! something to everyone else.
//!
//! A broker has one quota for what it sends to followers and one for what it fetches from leaders, each
//! for all partitions together that the topic's settings list. Whoever a high watermark waits for is
//! never held back; what goes to it counts all the same.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use klamm_env::Clock;

use super::meter::Meter;
use crate::config::{BrokerConfig, TopicConfig};

/// Stands for all replicas in a topic's list.
const ALL: &str = "*";

/// What a quota lets go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allowance {
    /// This many bytes, and at least one batch.
    Bytes(u64),
    /// Nothing for that long.
    NothingFor(Duration),
}

/// One direction's quota.
pub(crate) struct Quota {
    clock: Arc<dyn Clock>,
    meter: Mutex<Meter>,
    /// Its rate among the settings, in bytes a second.
    rate: fn(&BrokerConfig) -> i64,
}

impl Quota {
    fn new(clock: &Arc<dyn Clock>, config: &BrokerConfig, rate: fn(&BrokerConfig) -> i64) -> Quota {
        let samples = u32::try_from(config.replication_quota_window_num).unwrap_or(1);
        let seconds = u64::try_from(config.replication_quota_window_size_seconds).unwrap_or(1);
        let meter = Mutex::new(Meter::new(samples, Duration::from_secs(seconds)));
        Quota { clock: Arc::clone(clock), meter, rate }
    }

    fn lock(&self) -> MutexGuard<'_, Meter> {
        self.meter.lock().expect("no panic while locked")
    }

    /// What may go now, with the settings of now.
    pub(crate) fn allowance(&self, config: &BrokerConfig) -> Allowance {
        let rate = (self.rate)(config);
        if rate == i64::MAX {
            return Allowance::Bytes(u64::MAX);
        }
        let rate = u64::try_from(rate).unwrap_or(0);
        let mut meter = self.lock();
        let now = self.clock.monotonic();
        match meter.room(rate, now) {
            Some(bytes) => Allowance::Bytes(bytes),
            None => Allowance::NothingFor(meter.opens_at(rate, now).saturating_sub(now)),
        }
    }

    /// Notes that `bytes` of listed partitions have gone.
    pub(crate) fn record(&self, bytes: u64) {
        if bytes > 0 {
            let mut meter = self.lock();
            meter.record(bytes, self.clock.monotonic());
        }
    }
}

/// The quotas of a broker.
pub(crate) struct Quotas {
    /// For what it sends to followers.
    pub leader: Quota,
    /// For what it fetches from leaders.
    pub follower: Quota,
}

impl Quotas {
    /// Nothing has gone yet.
    pub(crate) fn new(clock: &Arc<dyn Clock>, config: &BrokerConfig) -> Quotas {
        Quotas {
            leader: Quota::new(clock, config, |config| config.leader_replication_throttled_rate),
            follower: Quota::new(clock, config, |config| {
                config.follower_replication_throttled_rate
            }),
        }
    }
}

/// The partitions of a topic that a list names for one broker.
#[derive(Debug, PartialEq, Eq)]
enum Listed {
    All,
    /// Sorted.
    These(Vec<i32>),
}

impl Listed {
    /// Reads `partition:broker,...`, or `*`. What is neither names nobody.
    fn of(list: &[String], broker: i32) -> Listed {
        if list == [ALL] {
            return Listed::All;
        }
        let named = list.iter().filter_map(|item| {
            let (partition, id) = item.split_once(':')?;
            let id: i32 = id.trim().parse().ok()?;
            if id == broker { partition.trim().parse().ok() } else { None }
        });
        let mut partitions: Vec<i32> = named.collect();
        partitions.sort_unstable();
        Listed::These(partitions)
    }

    fn names(&self, partition: i32) -> bool {
        match self {
            Listed::All => true,
            Listed::These(partitions) => partitions.binary_search(&partition).is_ok(),
        }
    }
}

/// What a topic's settings say of this broker's replicas.
#[derive(Debug)]
pub(crate) struct ThrottledReplicas {
    leader: Listed,
    follower: Listed,
}

/// Which quotas are for a replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Throttled {
    /// The leader's, where it leads.
    pub leader: bool,
    /// The follower's, where it follows.
    pub follower: bool,
}

impl ThrottledReplicas {
    /// What `topic` says of the replicas of `broker`.
    pub(crate) fn of(topic: &TopicConfig, broker: i32) -> ThrottledReplicas {
        ThrottledReplicas {
            leader: Listed::of(&topic.leader_replication_throttled_replicas, broker),
            follower: Listed::of(&topic.follower_replication_throttled_replicas, broker),
        }
    }

    /// What it says of the replica of one partition.
    pub(crate) fn replica(&self, partition: i32) -> Throttled {
        Throttled { leader: self.leader.names(partition), follower: self.follower.names(partition) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::config::Settings;

    /// A clock that a test sets, in milliseconds.
    #[derive(Default)]
    struct Set(AtomicU64);

    impl Clock for Set {
        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.0.load(Ordering::Relaxed))
        }

        fn boot_time(&self) -> Duration {
            self.monotonic()
        }

        fn wall_ms(&self) -> i64 {
            0
        }
    }

    fn with(key: &str, rate: &str) -> BrokerConfig {
        let set = [(key.to_owned(), rate.to_owned())].into();
        BrokerConfig::default().with_dynamic(&set, &Settings::new())
    }

    #[test]
    fn a_quota_is_held_to_its_own_rate_as_it_is_now() {
        let set = Arc::new(Set::default());
        let clock: Arc<dyn Clock> = set.clone();
        let Quotas { leader, follower } = Quotas::new(&clock, &BrokerConfig::default());
        let slow = with("leader.replication.throttled.rate", "1000");
        assert_eq!(leader.allowance(&slow), Allowance::Bytes(1000));
        leader.record(3000);
        let pause = Duration::from_millis(3100);
        assert_eq!(leader.allowance(&slow), Allowance::NothingFor(pause));
        assert_eq!(leader.allowance(&BrokerConfig::default()), Allowance::Bytes(u64::MAX));
        assert_eq!(follower.allowance(&slow), Allowance::Bytes(u64::MAX));
        let slow_follower = with("follower.replication.throttled.rate", "500");
        assert_eq!(follower.allowance(&slow_follower), Allowance::Bytes(500));
        set.0.store(3100, Ordering::Relaxed);
        assert_eq!(leader.allowance(&slow), Allowance::Bytes(100));
        let faster = with("leader.replication.throttled.rate", "2000");
        assert_eq!(leader.allowance(&faster), Allowance::Bytes(3200));
    }

    fn listed(text: &str, broker: i32) -> Listed {
        let items: Vec<String> =
            text.split(',').filter(|item| !item.is_empty()).map(str::to_owned).collect();
        Listed::of(&items, broker)
    }

    #[test]
    fn a_list_names_the_partitions_of_one_broker() {
        let list = "3:1,0:1,1:2,2:12, 7 : 1 ";
        let of_one = listed(list, 1);
        let named: Vec<i32> = (0..10).filter(|partition| of_one.names(*partition)).collect();
        assert_eq!(named, [0, 3, 7]);
        assert!(listed(list, 12).names(2) && !listed(list, 2).names(2));
        assert!(listed("*", 5).names(1_000_000));
        assert!(!listed("", 1).names(0));
        assert!(!listed("none,1,:1,0:,0:x", 1).names(0));
    }
}
