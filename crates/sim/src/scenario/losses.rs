//! What of a log was damaged on the disk after it had become durable: what no broker can serve, and
//! each has to speak of.
//!
//! ```text
//!   damaged     a read of it fails, or gives what was written; it is never passed over in silence
//!   accepted    the operator gave it up: readers pass over it
//! ```

use std::{collections::BTreeMap, ops::Range};

use super::history::Partition;

/// A stretch of offsets, from the end of the last sound batch to the start of the next one.
#[derive(Clone, Debug)]
struct Loss {
    offsets: Range<i64>,
    is_accepted: bool,
    /// Nothing sound lies behind it.
    is_end: bool,
}

/// The losses of all partitions.
#[derive(Default)]
pub(crate) struct Losses {
    of: BTreeMap<Partition, Vec<Loss>>,
}

impl Losses {
    pub(crate) fn note(&mut self, partition: &Partition, offsets: Range<i64>, is_end: bool) {
        let loss = Loss { offsets, is_accepted: false, is_end };
        self.of.entry(partition.clone()).or_default().push(loss);
    }

    pub(crate) fn is_damaged(&self, partition: &Partition) -> bool {
        self.of.contains_key(partition)
    }

    /// Where a reader goes on that was refused this offset; `None` where it must not be.
    pub(crate) fn end_of_damage(&self, partition: &Partition, offset: i64) -> Option<i64> {
        let damaged = self.of(partition).find(|loss| !loss.is_accepted && loss.contains(offset));
        damaged.map(|loss| loss.offsets.end)
    }

    /// True if a reader may pass from one offset to the other without a word.
    pub(crate) fn is_given_up(&self, partition: &Partition, offsets: Range<i64>) -> bool {
        let mut at = offsets.start;
        while at < offsets.end {
            let accepted = self.of(partition).find(|loss| loss.is_accepted && loss.contains(at));
            let Some(loss) = accepted else { return false };
            at = loss.offsets.end;
        }
        true
    }

    /// True for a record that may be lost.
    pub(crate) fn covers(&self, partition: &Partition, offset: i64) -> bool {
        self.of(partition).any(|loss| loss.contains(offset))
    }

    /// True where no record may be taken now: which offsets were given out is not known.
    pub(crate) fn takes_no_records(&self, partition: &Partition, offset: i64) -> bool {
        let mut losses = self.of(partition);
        losses.any(|loss| loss.is_end && !loss.is_accepted && offset >= loss.offsets.end)
    }

    /// What is damaged and was not given up.
    pub(crate) fn open(&self) -> Vec<(Partition, Range<i64>)> {
        let all = self
            .of
            .iter()
            .flat_map(|(partition, losses)| losses.iter().map(move |loss| (partition, loss)));
        all.filter(|(_, loss)| !loss.is_accepted)
            .map(|(partition, loss)| (partition.clone(), loss.offsets.clone()))
            .collect()
    }

    /// True if this damage reaches the end of its log.
    pub(crate) fn is_end(&self, partition: &Partition) -> bool {
        self.of(partition).any(|loss| loss.is_end && !loss.is_accepted)
    }

    /// The operator has given up what is damaged within these offsets.
    pub(crate) fn accept(&mut self, partition: &Partition, offsets: &Range<i64>) {
        for loss in self.of.get_mut(partition).into_iter().flatten() {
            loss.is_accepted |= loss.offsets == *offsets;
        }
    }

    fn of(&self, partition: &Partition) -> impl Iterator<Item = &Loss> {
        self.of.get(partition).into_iter().flatten()
    }
}

impl Loss {
    fn contains(&self, offset: i64) -> bool {
        self.offsets.contains(&offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_spoken_of_until_it_is_given_up() {
        let partition = ("t".to_owned(), 0);
        let mut losses = Losses::default();
        losses.note(&partition, 5..8, true);
        assert_eq!(losses.end_of_damage(&partition, 4), None);
        assert_eq!(losses.end_of_damage(&partition, 5), Some(8));
        assert_eq!(losses.end_of_damage(&partition, 8), None);
        assert!(!losses.is_given_up(&partition, 5..8));
        assert!(losses.takes_no_records(&partition, 8));
        losses.accept(&partition, &(5..8));
        assert_eq!(losses.end_of_damage(&partition, 5), None);
        assert!(losses.is_given_up(&partition, 5..8));
        assert!(losses.is_given_up(&partition, 6..8));
        assert!(!losses.is_given_up(&partition, 5..9));
        assert!(losses.covers(&partition, 7) && !losses.covers(&partition, 8));
        assert!(!losses.takes_no_records(&partition, 8));
        assert_eq!(losses.open(), []);
    }
}
