//! Which brokers hold a new partition.

use std::collections::{BTreeMap, BTreeSet};

use crate::image::Image;
use crate::nodes::topic::Assignment;

/// A broker that can take partitions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Broker.
    pub id: i32,
    /// Where it stands.
    pub rack: Option<String>,
}

/// The brokers that can take partitions: registered and not about to stop.
pub fn places(image: &Image) -> Vec<Place> {
    let stays = |id| image.broker_epoch(id).is_some_and(|epoch| !epoch.shutting_down);
    let there = image.brokers().filter(|broker| stays(broker.id));
    there.map(|broker| Place { id: broker.id, rack: broker.rack.clone() }).collect()
}

/// Places `count` partitions, numbered from `first`, on `replicas` brokers each. Preferred leaders go
/// round all brokers; the replicas of a partition stand in different racks as long as there are any
/// left, if every broker has one; who follows whom is shifted with every round, so that the load of a
/// broker that fails is spread. `start` (random) is where the first topic begins.
///
/// # Panics
/// When there are fewer places than replicas.
pub fn place(
    places: &[Place],
    first: usize,
    count: usize,
    replicas: usize,
    start: u64,
) -> Vec<Assignment> {
    assert!(replicas <= places.len(), "{replicas} replicas on {} brokers", places.len());
    let ring = ring(places);
    let len = ring.len() as u64;
    (first..first + count)
        .map(|index| {
            let turn = start % len + index as u64;
            let shift = start / len % len + turn / len;
            place_one(&ring, (turn % len) as usize, shift as usize, replicas)
        })
        .collect()
}

/// The brokers in an order in which neighbours stand in different racks as far as possible.
fn ring(places: &[Place]) -> Vec<&Place> {
    let mut racks: BTreeMap<Option<&str>, Vec<&Place>> = BTreeMap::new();
    let everywhere = places.iter().all(|place| place.rack.is_some());
    for place in places {
        let rack = if everywhere { place.rack.as_deref() } else { None };
        racks.entry(rack).or_default().push(place);
    }
    let longest = racks.values().map(Vec::len).max().unwrap_or(0);
    (0..longest).flat_map(|n| racks.values().filter_map(move |rack| rack.get(n).copied())).collect()
}

fn place_one(ring: &[&Place], leader: usize, shift: usize, replicas: usize) -> Assignment {
    let mut chosen = vec![ring[leader].id];
    let mut racks: BTreeSet<Option<&str>> = BTreeSet::from([ring[leader].rack.as_deref()]);
    let others = ring.len().saturating_sub(1).max(1);
    let order: Vec<&Place> = (0..ring.len() - 1)
        .map(|n| ring[(leader + 1 + (shift + n) % others) % ring.len()])
        .collect();
    // Racks not used yet first; where none is left, anybody.
    while chosen.len() < replicas {
        let free = |place: &&&Place| !chosen.contains(&place.id);
        let elsewhere = |place: &&&Place| !racks.contains(&place.rack.as_deref());
        let next = order.iter().filter(free).find(elsewhere);
        let next = next.or_else(|| order.iter().find(free)).expect("enough places");
        racks.insert(next.rack.as_deref());
        chosen.push(next.id);
    }
    Assignment { replicas: chosen, ..Assignment::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn brokers(racks: &[Option<&str>]) -> Vec<Place> {
        let place = |(id, rack): (i32, &Option<&str>)| Place { id, rack: rack.map(str::to_owned) };
        (1..).zip(racks).map(place).collect()
    }

    #[test]
    fn leaders_go_round() {
        let places = brokers(&[None, None, None]);
        let leaders: Vec<i32> = place(&places, 0, 6, 2, 1).iter().map(|a| a.replicas[0]).collect();
        assert_eq!(leaders, [2, 3, 1, 2, 3, 1]);
    }

    #[test]
    fn partitions_that_are_added_go_on_where_the_topic_ended() {
        let places = brokers(&[None, None, None, None]);
        let all = place(&places, 0, 9, 3, 7);
        assert_eq!(all[4..], place(&places, 4, 5, 3, 7));
    }

    #[test]
    fn replicas_stand_in_different_racks() {
        let places = brokers(&[Some("a"), Some("a"), Some("a"), Some("b"), Some("c")]);
        for assignment in place(&places, 0, 50, 3, 3) {
            let racks: BTreeSet<_> = assignment
                .replicas
                .iter()
                .map(|id| places.iter().find(|place| place.id == *id).unwrap().rack.clone())
                .collect();
            assert_eq!(racks.len(), 3, "{assignment:?}");
        }
    }

    proptest! {
        #[test]
        fn load_is_even_and_no_broker_stands_twice(
            count in 1usize..8, replicas in 1usize..8, rounds in 1usize..5, start: u64,
        ) {
            let replicas = replicas.min(count);
            let places = brokers(&vec![None; count]);
            let assignments = place(&places, 0, count * rounds, replicas, start);
            let mut leads = BTreeMap::new();
            for Assignment { replicas: ids, .. } in &assignments {
                prop_assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), replicas);
                *leads.entry(ids[0]).or_insert(0) += 1;
            }
            prop_assert!(leads.values().all(|n| *n == rounds), "{leads:?}");
        }
    }
}
