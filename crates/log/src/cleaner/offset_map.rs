//! The newest offset of each key, by a hash of 128 bits.

use std::io;

use siphasher::sip128::SipHasher13;

/// Bytes of a slot.
const SLOT_BYTES: usize = size_of::<Slot>();
/// Offset of a slot that is not taken.
const FREE: i64 = -1;

/// How much memory a map may take.
#[derive(Clone, Copy, Debug)]
pub struct OffsetMapLimits {
    /// `log.cleaner.dedupe.buffer.size` of one cleaner, in bytes.
    pub bytes_max: usize,
    /// `log.cleaner.io.buffer.load.factor`: the share of the slots that may be taken, above 0.
    pub load_factor: f64,
}

/// The secret of the hash: who could foresee hashes could let a key pass for another one.
#[derive(Clone, Copy, Debug)]
pub struct KeyHashing(pub u64, pub u64);

#[derive(Clone, Copy)]
struct Slot {
    hash: u128,
    offset: i64,
}

pub(super) struct OffsetMap {
    hashing: KeyHashing,
    slots: Vec<Slot>,
    taken: usize,
    taken_max: usize,
}

impl OffsetMap {
    /// A map with room for `keys` keys, or as many as the limits allow, but for one at least.
    pub(super) fn new(
        keys: u64,
        limits: OffsetMapLimits,
        hashing: KeyHashing,
    ) -> io::Result<OffsetMap> {
        let slots_max = (limits.bytes_max / SLOT_BYTES).max(2);
        let wanted = (keys as f64 / limits.load_factor.max(0.01)).ceil() as usize;
        let count = wanted.saturating_add(1).clamp(2, slots_max);
        let mut slots = Vec::new();
        slots.try_reserve_exact(count).map_err(|_| io::ErrorKind::OutOfMemory)?;
        slots.resize(count, Slot { hash: 0, offset: FREE });
        // One slot stays free: a search ends there.
        let taken_max = ((count as f64 * limits.load_factor) as usize).clamp(1, count - 1);
        Ok(OffsetMap { hashing, slots, taken: 0, taken_max })
    }

    /// Notes that `key` is at `offset`, which is above all before; false where there is no room.
    pub(super) fn put(&mut self, key: &[u8], offset: i64) -> bool {
        let hash = self.hash(key);
        let at = self.place_of(hash);
        if self.slots[at].offset == FREE {
            if self.taken == self.taken_max {
                return false;
            }
            self.taken += 1;
        }
        self.slots[at] = Slot { hash, offset };
        true
    }

    /// The newest offset of `key`.
    pub(super) fn get(&self, key: &[u8]) -> Option<i64> {
        let found = self.slots[self.place_of(self.hash(key))].offset;
        (found != FREE).then_some(found)
    }

    fn hash(&self, key: &[u8]) -> u128 {
        SipHasher13::new_with_keys(self.hashing.0, self.hashing.1).hash(key).as_u128()
    }

    /// The slot of `hash`, or the free one that it would take.
    fn place_of(&self, hash: u128) -> usize {
        let mut at = (hash % self.slots.len() as u128) as usize;
        while self.slots[at].offset != FREE && self.slots[at].hash != hash {
            at = if at + 1 == self.slots.len() { 0 } else { at + 1 };
        }
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_keeps_the_newest_offset_of_as_many_keys_as_it_has_room_for() {
        let limits = OffsetMapLimits { bytes_max: 100 * SLOT_BYTES, load_factor: 0.9 };
        let mut map = OffsetMap::new(u64::MAX, limits, KeyHashing(1, 2)).expect("little memory");
        let key = |n: i64| n.to_be_bytes();
        let mut offset = 0;
        while map.put(&key(offset), offset) {
            offset += 1;
        }
        assert_eq!(offset, 90);
        assert!((0..90).all(|n| map.get(&key(n)) == Some(n)));
        assert_eq!(map.get(&key(90)), None);
        assert!(map.put(&key(7), 1_000), "a key that is known needs no room");
        assert_eq!(map.get(&key(7)), Some(1_000));
    }

    #[test]
    fn the_smallest_map_has_room_for_one_key() {
        let limits = OffsetMapLimits { bytes_max: 0, load_factor: 0.9 };
        let mut map = OffsetMap::new(0, limits, KeyHashing(1, 2)).expect("little memory");
        assert!(map.put(b"a", 0));
        assert!(!map.put(b"b", 1));
    }
}
