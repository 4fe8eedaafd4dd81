//! Brokers have no order of their own: of states that differ only in names one is enough.

use std::hash::{Hash, Hasher};

use crate::state::{BROKERS, Id, Members, NOBODY, Node, Progress, State};

/// All orders of the brokers.
const ORDERS: [[usize; BROKERS]; 6] =
    [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

/// The state with its brokers sorted by what can be said of each without a name.
///
/// Brokers that cannot be told apart so are tried in every order, and the state that hashes lowest
/// is taken; the order of truly equal ones does not matter.
pub(crate) fn representative(state: &State) -> State {
    let marks: [u64; BROKERS] = std::array::from_fn(|id| mark(state, id as Id));
    let sorted = |order: &[usize; BROKERS]| order.windows(2).all(|w| marks[w[0]] <= marks[w[1]]);
    let mut orders = ORDERS.iter().filter(|order| sorted(order));
    let first = orders.next().map_or(*state, |order| renamed(state, order));
    orders
        .map(|order| renamed(state, order))
        .map(|state| (digest(&state), state))
        .fold((None, first), |(lowest, kept), (digest, state)| {
            let lowest = lowest.unwrap_or_else(|| self::digest(&kept));
            if digest < lowest { (Some(digest), state) } else { (Some(lowest), kept) }
        })
        .1
}

/// A hash of what is known of a broker, without the name of any.
fn mark(state: &State, id: Id) -> u64 {
    let mut hasher = Fnv::default();
    let broker = state.broker(id);
    let node = &state.tree.node;
    let applied = &broker.applied;
    broker.log.hash(&mut hasher);
    broker.files.hash(&mut hasher);
    state.registration(id).hash(&mut hasher);
    let scalars = [
        broker.up as u8,
        broker.session as u8,
        broker.epoch,
        broker.incarnation,
        broker.high_watermark,
        applied.version,
        broker.in_step as u8,
        broker.epoch_start,
        broker.floor.1,
        broker.change.is_some() as u8,
        (node.leader == id) as u8,
        (applied.leader == id) as u8,
        node.isr.0[id as usize],
        node.elr.0[id as usize],
    ];
    hasher.write(&scalars);
    // What others know of it, whoever they are.
    let mut known = 0u64;
    for other in &state.brokers {
        let mut one = Fnv::default();
        other.progress[id as usize].hash(&mut one);
        (other.applied.isr.0[id as usize], other.applied.version).hash(&mut one);
        known = known.wrapping_add(one.finish());
    }
    hasher.finish() ^ known
}

fn digest(state: &State) -> u64 {
    let mut hasher = Fnv::default();
    state.tree.hash(&mut hasher);
    state.brokers.hash(&mut hasher);
    state.observer.appenders.hash(&mut hasher);
    hasher.finish()
}

/// The state in which the broker at `order[n]` is called `n`.
fn renamed(state: &State, order: &[usize; BROKERS]) -> State {
    if *order == ORDERS[0] {
        return *state;
    }
    let name = |id: Id| match id {
        NOBODY => NOBODY,
        id => order.iter().position(|old| *old == id as usize).unwrap_or_default() as Id,
    };
    let members = |members: Members| Members(order.map(|old| members.0[old]));
    let node = |mut node: Node| {
        node.leader = name(node.leader);
        node.isr = members(node.isr);
        node.elr = members(node.elr);
        node
    };
    let mut renamed = *state;
    renamed.tree.node = node(state.tree.node);
    renamed.tree.past = state.tree.past.map(node);
    renamed.tree.brokers = order.map(|old| state.tree.brokers[old]);
    renamed.tree.arriving = order.map(|old| state.tree.arriving[old]);
    if let Some(queued) = &mut renamed.tree.queued {
        queued.elected = name(queued.elected);
        queued.node = node(queued.node);
    }
    renamed.brokers = order.map(|old| state.brokers[old]);
    for broker in &mut renamed.brokers {
        let progress: [Progress; BROKERS] = broker.progress;
        broker.applied = node(broker.applied);
        broker.progress = order.map(|old| progress[old]);
        if let Some(change) = &mut broker.change {
            change.target = members(change.target);
        }
        let mail = broker.mail;
        broker.mail = order.map(|old| mail[old]);
    }
    for (broker, _) in &mut renamed.observer.appenders {
        if *broker != 0 {
            *broker = name(*broker - 1) + 1;
        }
    }
    renamed
}

/// A small hash that is the same everywhere.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    fn mix(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.mix(u64::from(*byte));
        }
    }

    fn write_usize(&mut self, _: usize) {}

    fn write_isize(&mut self, tag: isize) {
        self.mix(tag as u64);
    }
}

/// Collects what is hashed, so that the checker's hasher takes it in one piece.
///
/// Lengths are left out: everything here has a fixed size but for options, whose tag is kept.
pub(crate) struct Packed {
    bytes: [u8; 768],
    len: usize,
}

impl Packed {
    pub(crate) fn new() -> Self {
        Self { bytes: [0; 768], len: 0 }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Hasher for Packed {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn write_u8(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn write_usize(&mut self, _: usize) {}

    fn write_isize(&mut self, tag: isize) {
        self.write_u8(tag as u8);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::hash::{DefaultHasher, Hash, Hasher};

    use stateright::Model;

    use super::{ORDERS, renamed};
    use crate::{Cluster, Invariants, Rules, SCENARIOS, State};

    /// States of each scenario that are looked at.
    const STATES: usize = 2_000;

    fn hash(state: &State) -> u64 {
        let mut hasher = DefaultHasher::new();
        state.hash(&mut hasher);
        hasher.finish()
    }

    fn futures(cluster: &Cluster, state: &State) -> BTreeSet<u64> {
        cluster.next_states(state).iter().map(hash).collect()
    }

    #[test]
    fn a_renamed_state_is_the_same_state_with_the_same_future() {
        for scenario in SCENARIOS.iter().filter(|scenario| scenario.small.brokers == 3) {
            let limits = scenario.small;
            let cluster = Cluster { rules: Rules::ALL, limits, invariants: Invariants::All };
            let mut seen = BTreeSet::new();
            let mut states = cluster.init_states();
            let mut next = 0;
            while let Some(state) = states.get(next).copied().filter(|_| next < STATES) {
                next += 1;
                let future = futures(&cluster, &state);
                for order in &ORDERS {
                    let other = renamed(&state, order);
                    assert_eq!(hash(&other), hash(&state), "{}: {state:?}", scenario.name);
                    assert_eq!(futures(&cluster, &other), future, "{}: {state:?}", scenario.name);
                }
                let unseen = |state: &State| seen.insert(hash(state));
                states.extend(cluster.next_states(&state).into_iter().filter(unseen));
            }
            assert_eq!(next, STATES, "{} is too small", scenario.name);
        }
    }
}
