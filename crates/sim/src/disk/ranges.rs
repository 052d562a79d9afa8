//! A set of bytes, kept as ranges that neither touch nor overlap.

use std::{collections::BTreeMap, ops::Range};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    pub(crate) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let (mut start, mut end) = (range.start, range.end);
        let touching: Vec<(u64, u64)> = self
            .0
            .range(..=end)
            .rev()
            .take_while(|(_, its_end)| **its_end >= start)
            .map(|(its_start, its_end)| (*its_start, *its_end))
            .collect();
        for (its_start, its_end) in touching {
            self.0.remove(&its_start);
            start = start.min(its_start);
            end = end.max(its_end);
        }
        self.0.insert(start, end);
    }

    /// Removes everything from `start` on.
    pub(crate) fn cut(&mut self, start: u64) {
        self.0.split_off(&start);
        if let Some((_, end)) = self.0.range_mut(..start).next_back() {
            *end = (*end).min(start);
        }
    }

    pub(crate) fn contains(&self, range: Range<u64>) -> bool {
        range.is_empty()
            || self.0.range(..=range.start).next_back().is_some_and(|(_, end)| *end >= range.end)
    }

    /// How many bytes it holds.
    pub(crate) fn total(&self) -> u64 {
        self.0.iter().map(|(start, end)| end - start).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaves_like_a_set_of_bytes() {
        let mut rng = crate::Rng::new(3);
        let mut ranges = Ranges::default();
        let mut bytes = [false; 64];
        for _ in 0..5000 {
            let start = rng.below(64);
            let end = rng.between(start, 64);
            if rng.chance(100) {
                ranges.cut(start);
                bytes[usize::try_from(start).unwrap()..].fill(false);
            } else if rng.chance(500) {
                ranges.insert(start..end);
                bytes[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()].fill(true);
            }
            let slice = &bytes[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()];
            assert_eq!(ranges.contains(start..end), slice.iter().all(|byte| *byte));
            assert_eq!(
                ranges.total(),
                u64::try_from(bytes.iter().filter(|b| **b).count()).unwrap()
            );
        }
    }
}
