//! How long things took: counts by bounds, for whoever watches a shard from outside.
//!
//! Cost: two cells and a walk over [`BOUNDS_US`] a duration; no allocation, ever.

use std::{cell::Cell, time::Duration};

/// Upper bounds in microseconds, inclusive; what took longer than the last is counted apart.
pub const BOUNDS_US: [u64; 16] = [
    50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000,
    1_000_000, 2_000_000, 5_000_000,
];
const COUNTS: usize = BOUNDS_US.len() + 1;

/// Durations of one kind, on one shard.
#[derive(Debug, Default)]
pub struct Durations {
    counts: [Cell<u64>; COUNTS],
    sum_us: Cell<u64>,
}

/// What [`Durations`] had counted at one moment; those of several shards add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DurationCounts {
    /// By bound, the last for what was longer than all of them.
    pub counts: [u64; COUNTS],
    /// All together, in microseconds.
    pub sum_us: u64,
}

impl Durations {
    /// Counts one.
    pub fn record(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let index = BOUNDS_US.iter().position(|bound| micros <= *bound).unwrap_or(COUNTS - 1);
        self.counts[index].set(self.counts[index].get() + 1);
        self.sum_us.set(self.sum_us.get().saturating_add(micros));
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> DurationCounts {
        let mut counts = [0; COUNTS];
        for (target, cell) in counts.iter_mut().zip(&self.counts) {
            *target = cell.get();
        }
        DurationCounts { counts, sum_us: self.sum_us.get() }
    }
}

impl DurationCounts {
    /// Adds another shard's.
    pub fn add(&mut self, other: &DurationCounts) {
        for (target, count) in self.counts.iter_mut().zip(other.counts) {
            *target += count;
        }
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }

    /// How many there were.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_counted_by_their_bounds() {
        let durations = Durations::default();
        for (micros, index) in
            [(0, 0), (50, 0), (51, 1), (1_000, 4), (5_000_000, 15), (5_000_001, 16), (u64::MAX, 16)]
        {
            let before = durations.counts();
            durations.record(Duration::from_micros(micros));
            let after = durations.counts();
            assert_eq!(after.counts[index], before.counts[index] + 1, "{micros}");
            assert_eq!(after.total(), before.total() + 1, "{micros}");
        }
        let mut sum = durations.counts();
        sum.add(&durations.counts());
        assert_eq!(sum.total(), 14);
        assert_eq!(sum.sum_us, u64::MAX);
    }
}
