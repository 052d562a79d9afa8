//! Topics that hold their syncs back: a power cut may take what was acknowledged last, and then
//! takes the end alone, without a hole.
//!
//! ```text
//!   known to be durable: of an earlier life that a start has found, or acknowledged long enough ago
//!   |-------- stays --------|--- doubtful: a prefix of it stays ---|
//! ```

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use runtime::Instant;

use super::history::Partition;

/// How much later than `flush.ms` a healthy disk has written and synced.
const SYNC_SLACK: Duration = Duration::from_millis(300);

/// How a life ended, for what it had acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LifeEnd {
    pub(crate) at: Instant,
    pub(crate) power: LifePower,
    /// It served: what it found at its start is durable.
    pub(crate) was_ready: bool,
    /// Its disk failed or was slow.
    pub(crate) was_troubled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LifePower {
    Cut,
    Kept,
    /// It stopped cleanly: all is durable.
    Stopped,
}

/// A log, from where on it is doubtful, and what was acknowledged of that.
type Doubtful = (Partition, i64, Vec<Rc<str>>);

/// What each power cut may have taken.
type MaybeTaken = Vec<Vec<(i64, Rc<str>)>>;

struct Acked {
    life: u64,
    at: Instant,
    value: Rc<str>,
}

#[derive(Default)]
pub(crate) struct Tails {
    pub(crate) life: u64,
    /// Of this life and earlier ones everything is durable that the log still has.
    durable_life: Option<u64>,
    pub(crate) power_cuts: u64,
    acked: BTreeMap<Partition, BTreeMap<i64, Acked>>,
    cuts: BTreeMap<Partition, MaybeTaken>,
}

impl Tails {
    pub(crate) fn note_acked(
        &mut self,
        partition: &Partition,
        offset: i64,
        value: &Rc<str>,
        at: Instant,
    ) {
        let acked = Acked { life: self.life, at, value: Rc::clone(value) };
        self.acked.entry(partition.clone()).or_default().insert(offset, acked);
    }

    /// A life is over. Gives where what is doubtful begins in these logs, by their `flush.ms`, and
    /// the acknowledged records of it.
    pub(crate) fn end_life(
        &mut self,
        end: &LifeEnd,
        flush_ms: &BTreeMap<Partition, u64>,
    ) -> Vec<Doubtful> {
        let mut doubtful = Vec::new();
        if end.was_ready {
            self.durable_life = self.life.checked_sub(1).or(self.durable_life);
        }
        if end.power == LifePower::Stopped {
            self.durable_life = Some(self.life);
        }
        if end.power == LifePower::Cut {
            self.power_cuts += 1;
            for (partition, flush_ms) in flush_ms {
                let delay = Duration::from_millis(*flush_ms) + SYNC_SLACK;
                let (life, durable_life) = (self.life, self.durable_life);
                let is_durable = |acked: &Acked| {
                    durable_life.is_some_and(|durable| acked.life <= durable)
                        || (acked.life == life && !end.was_troubled && acked.at + delay <= end.at)
                };
                let acked = self.acked.entry(partition.clone()).or_default();
                let last = acked.iter().rev().find(|(_, acked)| is_durable(acked));
                let from = last.map_or(0, |(offset, _)| offset + 1);
                let taken = acked.split_off(&from);
                let values = taken.values().map(|acked| Rc::clone(&acked.value)).collect();
                let cut = taken.into_iter().map(|(offset, acked)| (offset, acked.value)).collect();
                self.cuts.entry(partition.clone()).or_default().push(cut);
                doubtful.push((partition.clone(), from, values));
            }
        }
        self.life += 1;
        doubtful
    }

    /// A record that stayed though one before it was taken by the same power cut.
    pub(crate) fn behind_a_hole(
        &self,
        partition: &Partition,
        log: &BTreeMap<i64, &str>,
    ) -> Option<Rc<str>> {
        let cuts = self.cuts.get(partition)?;
        let is_there = |(offset, value): &&(i64, Rc<str>)| {
            log.get(offset).is_some_and(|there| *there == &**value)
        };
        let behind = |cut: &Vec<(i64, Rc<str>)>| {
            let mut rest = cut.iter().skip_while(is_there);
            rest.find(is_there).map(|(_, value)| Rc::clone(value))
        };
        cuts.iter().find_map(behind)
    }

    /// How many acknowledged records power cuts have taken.
    pub(crate) fn taken(&self, partition: &Partition, log: &BTreeMap<i64, &str>) -> u64 {
        let all = self.cuts.get(partition).into_iter().flatten().flatten();
        let taken =
            all.filter(|(offset, value)| log.get(offset).is_none_or(|there| *there != &**value));
        u64::try_from(taken.count()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut_at(ms: u64) -> LifeEnd {
        let at = Instant::default() + Duration::from_millis(ms);
        LifeEnd { at, power: LifePower::Cut, was_ready: true, was_troubled: false }
    }

    #[test]
    fn a_power_cut_takes_what_is_young_and_leaves_no_hole() {
        let partition = ("t".to_owned(), 0);
        let mut tails = Tails::default();
        for (offset, value) in ["a", "b", "c", "d"].into_iter().enumerate() {
            let at = Instant::default() + Duration::from_millis(if offset == 0 { 0 } else { 900 });
            tails.note_acked(&partition, i64::try_from(offset).unwrap(), &value.into(), at);
        }
        let doubtful = tails.end_life(&cut_at(1000), &[(partition.clone(), 10)].into());
        assert_eq!(doubtful[0].1, 1);
        assert_eq!(doubtful[0].2.len(), 3);
        let hole = |log: &[(i64, &'static str)]| {
            tails.behind_a_hole(&partition, &log.iter().copied().collect()).is_some()
        };
        assert!(!hole(&[(0, "a"), (1, "b")]));
        assert!(!hole(&[(0, "a"), (1, "x"), (2, "y")]));
        assert!(hole(&[(0, "a"), (1, "x"), (2, "c")]));
        assert!(hole(&[(0, "a"), (1, "b"), (3, "d")]));
    }

    #[test]
    fn what_a_start_has_found_is_durable() {
        let partition = ("t".to_owned(), 0);
        let mut tails = Tails::default();
        tails.note_acked(&partition, 0, &"a".into(), Instant::default());
        let kill = LifeEnd { power: LifePower::Kept, ..cut_at(1) };
        assert!(tails.end_life(&kill, &[(partition.clone(), 10)].into()).is_empty());
        let doubtful = tails.end_life(&cut_at(2), &[(partition, 10)].into());
        assert_eq!((doubtful[0].1, doubtful[0].2.len()), (1, 0));
    }
}
