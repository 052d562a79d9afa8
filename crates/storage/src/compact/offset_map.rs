//! The last offset of each key, in bounded memory: open addressing over the keys' 128-bit hashes.
//!
//! Keys themselves are not kept: two with the same hash would be taken for one, which 128 bits
//! under a secret that changes every round leave to nobody's will and hardly to chance.

use std::hash::{DefaultHasher, Hash, Hasher};

use model::Offset;

/// Two halves of the hash, and the offset + 1; 0 is an empty slot.
type Slot = [u64; 3];
/// What a slot takes.
const SLOT_BYTES: usize = size_of::<Slot>();
/// The smallest table: a batch's worth of keys.
const SLOTS_MIN: usize = 1 << 10;
/// How much of the table is filled at most, in quarters: the walks stay short.
const FILLED_QUARTERS_MAX: usize = 3;

/// See the module.
pub(super) struct OffsetMap {
    slots: Vec<Slot>,
    used: usize,
    secret: (u64, u64),
}

impl OffsetMap {
    /// Room for `keys_max` keys, in no more than `bytes_max`. Memory that is not used is not
    /// touched.
    pub(super) fn new(keys_max: usize, bytes_max: usize, secret: (u64, u64)) -> OffsetMap {
        let slots = slots_for(keys_max).min(bytes_max / SLOT_BYTES).max(SLOTS_MIN);
        OffsetMap { slots: vec![[0; 3]; slots], used: 0, secret }
    }

    /// Makes room for `keys` in an empty map, whatever the limit.
    pub(super) fn grow(&mut self, keys: usize) {
        assert!(self.is_empty(), "slots are not moved");
        self.slots = vec![[0; 3]; slots_for(keys)];
    }

    pub(super) fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// How many further keys fit.
    pub(super) fn room(&self) -> usize {
        (self.slots.len() / 4 * FILLED_QUARTERS_MAX).saturating_sub(self.used)
    }

    /// Notes that a key has a record at `offset`, behind all that it had.
    pub(super) fn put(&mut self, key: &[u8], offset: Offset) {
        let hash = self.hash(key);
        let index = self.find(hash);
        let known = self.slots[index][2];
        if known == 0 {
            self.used += 1;
            assert!(self.used < self.slots.len(), "a walk ends at an empty slot");
        }
        let stored = u64::try_from(offset.0).expect("offsets in a log are not negative") + 1;
        self.slots[index] = [hash.0, hash.1, stored.max(known)];
    }

    /// The last offset of a key.
    pub(super) fn get(&self, key: &[u8]) -> Option<Offset> {
        let stored = self.slots[self.find(self.hash(key))][2].checked_sub(1)?;
        Some(Offset(i64::try_from(stored).expect("was an offset")))
    }

    fn hash(&self, key: &[u8]) -> (u64, u64) {
        let half = |secret: u64| {
            let mut hasher = DefaultHasher::new();
            secret.hash(&mut hasher);
            key.hash(&mut hasher);
            hasher.finish()
        };
        (half(self.secret.0), half(self.secret.1 ^ 1))
    }

    /// The slot of a hash, or the empty one that it would take.
    fn find(&self, hash: (u64, u64)) -> usize {
        let count = u128::try_from(self.slots.len()).expect("usize is at most 64 bits");
        let start = (u128::from(hash.0) * count) >> 64;
        let mut index = usize::try_from(start).expect("below the number of slots");
        loop {
            let slot = &self.slots[index];
            if slot[2] == 0 || (slot[0], slot[1]) == hash {
                return index;
            }
            index = if index + 1 == self.slots.len() { 0 } else { index + 1 };
        }
    }
}

fn slots_for(keys: usize) -> usize {
    (keys / FILLED_QUARTERS_MAX).saturating_add(1).saturating_mul(4).max(SLOTS_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_offset_of_each_key_is_found() {
        let mut map = OffsetMap::new(5000, 1 << 20, (1, 2));
        for offset in 0..5000i64 {
            assert!(map.room() > 0);
            map.put(&(offset % 700).to_be_bytes(), Offset(offset));
        }
        for key in 0..700i64 {
            let last = (0..5000).rev().find(|offset| offset % 700 == key).unwrap();
            assert_eq!(map.get(&key.to_be_bytes()), Some(Offset(last)));
        }
        assert_eq!(map.get(b"none"), None);
    }

    #[test]
    fn memory_is_bounded_and_full_is_told_in_time() {
        let mut map = OffsetMap::new(usize::MAX, 100_000, (1, 2));
        assert!(map.slots.len() * SLOT_BYTES <= 100_000);
        let room = map.room();
        for offset in 0..i64::try_from(room).unwrap() {
            map.put(&offset.to_be_bytes(), Offset(offset));
        }
        assert_eq!(map.room(), 0);
        assert_eq!(map.get(&0i64.to_be_bytes()), Some(Offset(0)));
        let mut small = OffsetMap::new(0, 0, (1, 2));
        small.grow(10_000);
        assert!(small.room() >= 10_000);
    }
}
