//! What is known to be damaged in a log: ranges of offsets that were durable and cannot be read.
//!
//! A damaged range is never served and never cut off. Everything else in the log is served, and
//! appends go on where the log's end is known. Only [`crate::accept_loss`] takes a range out.

use std::{fmt, ops::Range, path::PathBuf};

use model::{LeaderEpoch, Offset, record_batch::BatchError};

/// How many ranges are remembered of a log: a disk with more of them is not one to go on with,
/// and a read finds the others again.
const RANGES_MAX: usize = 1000;

/// A damaged range of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The first offset that cannot be read.
    pub from: Offset,
    /// The first that can be read again.
    pub to: Offset,
    /// The segment's file; the one that is missing where there is none.
    pub path: PathBuf,
    /// Where in it; empty where records or a whole segment are missing.
    pub positions: Range<u64>,
    /// What is wrong.
    pub what: String,
}

impl Damage {
    /// True where nothing lies in the range's place.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.positions.is_empty()
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { from, to, path, positions, what } = self;
        let (path, start, end) = (path.display(), positions.start, positions.end);
        write!(formatter, "offsets {from} to {to}: {path}, bytes {start} to {end}: {what}")
    }
}

/// Why something is not the batch that has to lie there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is no batch, or its content has changed.
    Batch(BatchError),
    /// It has other offsets: a write that went to the wrong place, or was lost.
    Offset { expected: Offset, found: Offset },
    /// It was written by another leader epoch.
    Epoch { expected: LeaderEpoch, found: LeaderEpoch },
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Batch(error) => error.fmt(formatter),
            Fault::Offset { expected, found } => {
                write!(formatter, "offset {found} where {expected} has to be")
            }
            Fault::Epoch { expected, found } => {
                write!(formatter, "leader epoch {found} where {expected} has to be")
            }
        }
    }
}

impl From<BatchError> for Fault {
    fn from(error: BatchError) -> Fault {
        Fault::Batch(error)
    }
}

/// The damaged ranges of a log, in order, none touching another's offsets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Damages {
    ranges: Vec<Damage>,
}

impl Damages {
    /// Takes a range in. True if that was news.
    pub(crate) fn add(&mut self, mut damage: Damage) -> bool {
        let covers = |known: &Damage| {
            known.from <= damage.from
                && damage.to <= known.to
                && (known.path != damage.path
                    || known.positions.start <= damage.positions.start
                        && damage.positions.end <= known.positions.end)
        };
        if self.ranges.iter().any(covers) {
            return false;
        }
        self.ranges.retain(|known| {
            let overlaps = known.from < damage.to && damage.from < known.to;
            if overlaps && known.path == damage.path {
                damage.positions.start = damage.positions.start.min(known.positions.start);
                damage.positions.end = damage.positions.end.max(known.positions.end);
            }
            if overlaps {
                damage.from = damage.from.min(known.from);
                damage.to = damage.to.max(known.to);
            }
            !overlaps
        });
        if self.ranges.len() == RANGES_MAX {
            return true;
        }
        let at = self.ranges.partition_point(|known| known.from < damage.from);
        self.ranges.insert(at, damage);
        true
    }

    /// The range that holds `offset`.
    pub(crate) fn at(&self, offset: Offset) -> Option<&Damage> {
        let after = self.ranges.partition_point(|known| known.from <= offset);
        let known = &self.ranges[after.checked_sub(1)?];
        (offset < known.to).then_some(known)
    }

    /// The range in `path` that holds this position.
    pub(crate) fn at_position(&self, path: &std::path::Path, position: u64) -> Option<&Damage> {
        self.ranges.iter().find(|known| known.path == path && known.positions.contains(&position))
    }

    /// The range that begins where a sound batch ended.
    pub(crate) fn starting_at(&self, offset: Offset) -> Option<&Damage> {
        self.ranges.iter().find(|known| known.from == offset)
    }

    /// Forgets what lies below the log's start.
    pub(crate) fn raise_start(&mut self, start: Offset) {
        self.ranges.retain(|known| known.to > start);
    }

    pub(crate) fn ranges(&self) -> &[Damage] {
        &self.ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: i64, to: i64) -> Damage {
        let positions = u64::try_from(from).unwrap()..u64::try_from(to).unwrap();
        let path = PathBuf::from("0.log");
        Damage { from: Offset(from), to: Offset(to), path, positions, what: String::new() }
    }

    #[test]
    fn ranges_that_overlap_become_one() {
        let mut damages = Damages::default();
        for (from, to, is_news) in
            [(10, 20, true), (30, 40, true), (12, 15, false), (15, 35, true), (50, 60, true)]
        {
            assert_eq!(damages.add(range(from, to)), is_news, "{from} to {to}");
        }
        assert_eq!(damages.ranges(), [range(10, 40), range(50, 60)]);
        for (offset, is_damaged) in [(9, false), (10, true), (39, true), (40, false), (59, true)] {
            assert_eq!(damages.at(Offset(offset)).is_some(), is_damaged, "{offset}");
        }
        damages.raise_start(Offset(40));
        assert_eq!(damages.ranges(), [range(50, 60)]);
    }
}
