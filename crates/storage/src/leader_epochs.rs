//! Which leader epoch wrote from which offset on (KIP-101), and Kafka's `leader-epoch-checkpoint`.
//!
//! Epochs and start offsets both rise strictly. The file is derived from the batches of the log,
//! which carry their epoch.

use model::{LeaderEpoch, Offset};

use crate::checkpoint;

/// The name of the file in a partition's directory.
pub(crate) const FILE_NAME: &str = "leader-epoch-checkpoint";

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeaderEpochs {
    entries: Vec<(LeaderEpoch, Offset)>,
}

impl LeaderEpochs {
    /// Notes that `epoch` wrote a batch at `offset`. True if that was news. An epoch below the
    /// latest is none: the log's order is the truth.
    pub(crate) fn assign(&mut self, epoch: LeaderEpoch, offset: Offset) -> bool {
        if epoch.0 < 0 || self.entries.last().is_some_and(|(latest, _)| *latest >= epoch) {
            return false;
        }
        while self.entries.last().is_some_and(|(_, start)| *start >= offset) {
            self.entries.pop();
        }
        self.entries.push((epoch, offset));
        true
    }

    /// The latest epoch; -1 where there is none.
    pub(crate) fn latest(&self) -> LeaderEpoch {
        self.entries.last().map_or(LeaderEpoch(-1), |(epoch, _)| *epoch)
    }

    /// The largest epoch not above `epoch` and the offset behind its last record, where the log
    /// ends at `log_end`. `None` where no such epoch is known.
    pub(crate) fn end_offset(
        &self,
        epoch: LeaderEpoch,
        log_end: Offset,
    ) -> Option<(LeaderEpoch, Offset)> {
        let after = self.entries.partition_point(|(known, _)| *known <= epoch);
        let (found, _) = *self.entries.get(after.checked_sub(1)?)?;
        let end = self.entries.get(after).map_or(log_end, |(_, start)| *start);
        Some((found, end))
    }

    /// The epoch that wrote the record at `offset`; -1 where it is not known.
    pub(crate) fn epoch_at(&self, offset: Offset) -> LeaderEpoch {
        let after = self.entries.partition_point(|(_, start)| *start <= offset);
        after.checked_sub(1).map_or(LeaderEpoch(-1), |index| self.entries[index].0)
    }

    /// Forgets epochs that start at `end` or behind it.
    pub(crate) fn cut(&mut self, end: Offset) {
        self.entries.retain(|(_, start)| *start < end);
    }

    /// Forgets what wrote the records below `start`: the first epoch is then that of the record
    /// there, and begins there. True if that was news.
    pub(crate) fn cut_start(&mut self, start: Offset) -> bool {
        let below = self.entries.partition_point(|(_, first)| *first < start);
        let Some(epoch) = below.checked_sub(1).map(|last| self.entries[last].0) else {
            return false;
        };
        self.entries.drain(..below);
        if self.first_start() != Some(start) {
            self.entries.insert(0, (epoch, start));
        }
        true
    }

    /// These, and what `later` has from `start` on.
    pub(crate) fn followed_by(mut self, later: &LeaderEpochs, start: Offset) -> LeaderEpochs {
        for (epoch, at) in later.entries.iter().filter(|(_, at)| *at >= start) {
            self.assign(*epoch, *at);
        }
        self
    }

    /// Where the first known epoch starts.
    pub(crate) fn first_start(&self) -> Option<Offset> {
        self.entries.first().map(|(_, start)| *start)
    }

    /// All of them.
    pub(crate) fn into_entries(self) -> Vec<(LeaderEpoch, Offset)> {
        self.entries
    }

    /// The file's content.
    pub(crate) fn file(&self) -> Vec<u8> {
        let mut text = format!("0\n{}\n", self.entries.len());
        for (epoch, start) in &self.entries {
            text.push_str(&format!("{epoch} {start}\n"));
        }
        text.into_bytes()
    }

    /// Reads the file. `None` when it makes no sense.
    pub(crate) fn parse(content: &[u8]) -> Option<LeaderEpochs> {
        let mut epochs = LeaderEpochs::default();
        for line in checkpoint::lines(content)? {
            let (epoch, start) = line.split_once(' ')?;
            let (epoch, start) = (LeaderEpoch(epoch.parse().ok()?), Offset(start.parse().ok()?));
            let rises = epochs.entries.last().is_none_or(|last| last.0 < epoch && last.1 < start);
            if !rises || epoch.0 < 0 || start.0 < 0 {
                return None;
            }
            epochs.entries.push((epoch, start));
        }
        Some(epochs)
    }
}

/// The epochs of a log's batches, as they are met from its start to its end.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    /// Epoch, first offset, how many batches.
    runs: Vec<(LeaderEpoch, Offset, u64)>,
}

impl Runs {
    pub(crate) fn add(&mut self, epoch: LeaderEpoch, base_offset: Offset) {
        match self.runs.last_mut() {
            Some((latest, _, count)) if *latest == epoch => *count += 1,
            Some(_) | None => self.runs.push((epoch, base_offset, 1)),
        }
    }

    /// True if every batch has the epoch that `known` has for it, where that has one.
    pub(crate) fn agree_with(&self, known: &LeaderEpochs) -> bool {
        self.runs.iter().all(|(epoch, start, _)| {
            let expected = known.epoch_at(*start);
            expected == *epoch || expected == LeaderEpoch(-1) || *epoch == LeaderEpoch(-1)
        })
    }

    /// What the batches say. One that stands alone against `known`, or against the order of the
    /// others, is damaged itself.
    pub(crate) fn into_epochs(mut self, known: &LeaderEpochs) -> LeaderEpochs {
        self.runs.retain(|(epoch, start, count)| {
            let expected = known.epoch_at(*start);
            *count > 1 || expected == LeaderEpoch(-1) || expected == *epoch
        });
        while let Some(index) =
            (1..self.runs.len()).find(|at| self.runs[*at - 1].0 > self.runs[*at].0)
        {
            let is_first_odd = self.runs[index - 1].2 < self.runs[index].2;
            self.runs.remove(if is_first_odd { index - 1 } else { index });
        }
        let mut epochs = LeaderEpochs::default();
        for (epoch, start, _) in self.runs {
            epochs.assign(epoch, start);
        }
        epochs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_epoch_is_the_start_of_the_next() {
        let mut epochs = LeaderEpochs::default();
        for (epoch, offset) in [(0, 0), (0, 5), (2, 10), (3, 20)] {
            epochs.assign(LeaderEpoch(epoch), Offset(offset));
        }
        let end = |epoch| {
            epochs.end_offset(LeaderEpoch(epoch), Offset(30)).map(|(epoch, end)| (epoch.0, end.0))
        };
        assert_eq!(end(-1), None);
        assert_eq!(end(0), Some((0, 10)));
        assert_eq!(end(1), Some((0, 10)));
        assert_eq!(end(2), Some((2, 20)));
        assert_eq!(end(3), Some((3, 30)));
        assert_eq!(end(9), Some((3, 30)));
        assert_eq!(epochs.epoch_at(Offset(19)), LeaderEpoch(2));
        assert_eq!(LeaderEpochs::parse(&epochs.file()), Some(epochs));
    }

    #[test]
    fn a_batch_that_stands_alone_says_nothing_of_the_epochs() {
        let known = LeaderEpochs::parse(b"0\n2\n1 0\n3 40\n").unwrap();
        let wrong = LeaderEpochs::parse(b"0\n2\n1 0\n3 48\n").unwrap();
        // (which batch's epoch is changed, to what, what was known)
        for (at, epoch, known) in [
            (0, 1, &known),
            (0, 9, &known),
            (20, 5, &known),
            (20, 0, &known),
            (40, 7, &known),
            (78, 11, &known),
            (0, 1, &wrong),
        ] {
            let mut runs = Runs::default();
            for offset in (0..80).step_by(2) {
                let right = if offset < 40 { 1 } else { 3 };
                let found = if offset == at { epoch } else { right };
                runs.add(LeaderEpoch(found), Offset(offset));
            }
            let epochs = runs.into_epochs(known);
            let expect = |offset| if offset < 40 { 1 } else { 3 };
            for offset in [10, 30, 44, 60, 79] {
                assert_eq!(
                    epochs.epoch_at(Offset(offset)).0,
                    expect(offset),
                    "{at} {epoch} {offset}"
                );
            }
        }
    }

    #[test]
    fn what_was_cut_off_has_no_epoch() {
        let mut epochs = LeaderEpochs::default();
        epochs.assign(LeaderEpoch(1), Offset(0));
        epochs.assign(LeaderEpoch(2), Offset(10));
        epochs.cut(Offset(10));
        assert_eq!(epochs.latest(), LeaderEpoch(1));
    }

    #[test]
    fn what_was_let_go_at_the_start_has_no_epoch() {
        for (start, expected) in [
            (0, "0\n3\n1 0\n2 10\n3 20\n"),
            (5, "0\n3\n1 5\n2 10\n3 20\n"),
            (10, "0\n2\n2 10\n3 20\n"),
            (99, "0\n1\n3 99\n"),
        ] {
            let mut epochs = LeaderEpochs::default();
            for (epoch, offset) in [(1, 0), (2, 10), (3, 20)] {
                epochs.assign(LeaderEpoch(epoch), Offset(offset));
            }
            assert_eq!(epochs.cut_start(Offset(start)), start > 0);
            assert_eq!(String::from_utf8(epochs.file()).unwrap(), expected);
        }
    }

    #[test]
    fn a_file_that_makes_no_sense_is_refused() {
        for text in ["", "1\n0\n", "0\n2\n0 0\n", "0\n1\nx 0\n", "0\n2\n1 0\n0 5\n", "0\n1\n1\n"] {
            assert_eq!(LeaderEpochs::parse(text.as_bytes()), None, "{text:?}");
        }
    }
}
