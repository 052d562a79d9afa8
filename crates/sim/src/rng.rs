//! The randomness of a run: one generator, seeded once, forked for each shard.
//!
//! SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014): small,
//! fast, and every bit of the seed matters.

/// A stream of random numbers that its seed determines.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The stream of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// A stream of its own, determined by this one's state.
    #[must_use]
    pub fn fork(&mut self) -> Rng {
        Rng(self.bits())
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ bits >> 31
    }

    /// A number below `limit`.
    ///
    /// # Panics
    /// For a limit of zero.
    pub fn below(&mut self, limit: u64) -> u64 {
        assert!(limit > 0, "no number is below zero");
        let wide = u128::from(self.bits()) * u128::from(limit);
        u64::try_from(wide >> 64).expect("the high half of a product of 64-bit numbers")
    }

    /// An index below `length`.
    ///
    /// # Panics
    /// For a length of zero.
    pub fn index(&mut self, length: usize) -> usize {
        let limit = u64::try_from(length).expect("usize is at most 64 bits");
        usize::try_from(self.below(limit)).expect("below a usize")
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True in `permille` of 1,000 cases.
    pub fn chance(&mut self, permille: u32) -> bool {
        permille > 0 && self.below(1000) < u64::from(permille)
    }

    /// One of `choices`.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.index(choices.len())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_stream() {
        let numbers = |seed| {
            let mut rng = Rng::new(seed);
            (0..10).map(|_| rng.below(1000)).collect::<Vec<u64>>()
        };
        assert_eq!(numbers(1), numbers(1));
        assert_ne!(numbers(1), numbers(2));
    }

    #[test]
    fn chances_are_kept() {
        let mut rng = Rng::new(7);
        assert!((0..1000).all(|_| !rng.chance(0)));
        assert!((0..1000).all(|_| rng.chance(1000)));
        let hits = (0..10_000).filter(|_| rng.chance(250)).count();
        assert!((2300..2700).contains(&hits), "{hits}");
    }
}
