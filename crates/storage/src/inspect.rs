//! Looks at every batch of a stretch of a segment: for an index that is gone, for the scrub, for
//! the command that accepts a loss, and where a start finds that a segment is not whole.
//!
//! A batch is sound if its CRC is right, its offsets continue those before it, and its leader
//! epoch is the one that wrote there. The CRC covers neither offset nor epoch, so that a batch
//! that was written to the wrong place, or long ago, shows by them alone.

use std::{ops::Range, path::PathBuf, rc::Rc};

use model::{
    LeaderEpoch, Offset, ProducerId,
    record_batch::{Counts, RecordBatch},
};
use runtime::{BufferPool, Errno, File};

use crate::{
    damage::{Damage, Fault},
    index::{IndexedBatch, Indexes},
    leader_epochs::LeaderEpochs,
    resync::{Searched, Sought},
    scan::{Scanned, Scanner},
    tail::position_of,
    transactions::TransactionStep,
};

/// Where the offsets of the last segment of a log end that nobody has gone through yet.
pub(crate) const UNKNOWN_LIMIT: Offset = Offset(i64::MAX);

/// Whether offsets may be missing between two batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gaps {
    /// None may.
    None,
    /// The topic is compacted.
    Compacted,
}

/// What the batches of a segment have to be.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    /// Their offsets lie below: the next segment's first, or the first that is in memory.
    pub(crate) limit: Offset,
    pub(crate) gaps: Gaps,
    /// Where a batch begins for sure: the durable mark, in a segment whose end is not known.
    pub(crate) boundary: Option<Offset>,
    /// Which epoch wrote from which offset on, where that is known for sure.
    pub(crate) epochs: Option<Rc<LeaderEpochs>>,
}

impl Rules {
    /// Checks a batch; `expected` is where the one before it ended.
    pub(crate) fn check(
        &self,
        batch: &RecordBatch<'_>,
        expected: Option<Offset>,
    ) -> Result<(), Fault> {
        batch.verify_crc()?;
        batch.check_counts(Counts::Sparse)?;
        let found = batch.base_offset();
        let expected = expected.unwrap_or(found);
        let continues = match self.gaps {
            Gaps::None => found == expected,
            Gaps::Compacted => found >= expected,
        };
        if !continues || batch.next_offset() > self.limit {
            return Err(Fault::Offset { expected, found });
        }
        self.check_epoch(batch)
    }

    fn check_epoch(&self, batch: &RecordBatch<'_>) -> Result<(), Fault> {
        let Some(epochs) = &self.epochs else { return Ok(()) };
        let (expected, found) = (epochs.epoch_at(batch.base_offset()), batch.leader_epoch());
        let is_known = expected != LeaderEpoch(-1) && found != LeaderEpoch(-1);
        if is_known && expected != found {
            return Err(Fault::Epoch { expected, found });
        }
        Ok(())
    }
}

/// See the module.
pub(crate) struct Inspector {
    path: PathBuf,
    searched: Searched,
    scanner: Scanner,
    rules: Rules,
    expected: Offset,
    is_over: bool,
}

/// What lies next.
pub(crate) enum Step {
    /// A sound batch.
    Sound {
        batch: IndexedBatch,
        leader_epoch: LeaderEpoch,
        base_offset: Offset,
        /// What it does to whose transaction.
        transaction: Option<(ProducerId, TransactionStep)>,
    },
    /// A damaged range; what follows it comes next.
    Damaged(Damage),
    /// The end.
    End,
}

impl Inspector {
    /// Inspects `file` from `positions.start`, where `first` is expected, to `positions.end`.
    pub(crate) fn new(
        file: Rc<File>,
        path: PathBuf,
        pool: BufferPool,
        positions: Range<u64>,
        first: Offset,
        rules: Rules,
    ) -> Inspector {
        let searched = Searched { file, pool, end: positions.end };
        let scanner = searched.scanner(positions.start);
        Inspector { path, searched, scanner, rules, expected: first, is_over: false }
    }

    pub(crate) async fn step(&mut self) -> Result<Step, Errno> {
        if self.is_over {
            return Ok(Step::End);
        }
        let expected = self.expected;
        let fault = match self.scanner.next().await? {
            Scanned::End => return Ok(self.end()),
            Scanned::Bad(error) => Fault::Batch(error),
            Scanned::Batch { position, batch } => match self.rules.check(&batch, Some(expected)) {
                Ok(()) => {
                    self.expected = batch.next_offset();
                    return Ok(Step::Sound {
                        batch: IndexedBatch {
                            last_offset: batch.last_offset(),
                            max_timestamp: batch.max_timestamp(),
                            position,
                            size: position_of(batch.size()),
                        },
                        leader_epoch: batch.leader_epoch(),
                        base_offset: batch.base_offset(),
                        transaction: TransactionStep::of(&batch)
                            .map(|step| (batch.producer_id(), step)),
                    });
                }
                Err(fault) => {
                    self.scanner.step_back(position);
                    fault
                }
            },
        };
        self.damaged(fault).await
    }

    async fn damaged(&mut self, fault: Fault) -> Result<Step, Errno> {
        let start = self.scanner.position();
        let mut damage =
            find_extent(&self.searched, &self.rules, start, self.expected, &fault).await?;
        damage.path = self.path.clone();
        if damage.positions.end >= self.searched.end {
            if is_zero(&mut self.searched.scanner(start)).await? {
                return Ok(self.end());
            }
            self.is_over = true;
        }
        self.scanner = self.searched.scanner(damage.positions.end);
        self.expected = damage.to;
        Ok(Step::Damaged(damage))
    }

    /// The end of the content: whether it is where the next segment begins.
    fn end(&mut self) -> Step {
        self.is_over = true;
        if self.expected >= self.rules.limit || self.rules.gaps == Gaps::Compacted {
            return Step::End;
        }
        let at = self.scanner.position();
        let damage = Damage {
            from: self.expected,
            to: self.rules.limit,
            path: self.path.clone(),
            positions: at..at,
            what: "the records are missing".to_owned(),
        };
        self.expected = self.rules.limit;
        Step::Damaged(damage)
    }
}

/// How far damage goes that begins at `start`, where `expected` has to be.
pub(crate) async fn find_extent(
    searched: &Searched,
    rules: &Rules,
    start: u64,
    expected: Offset,
    fault: &Fault,
) -> Result<Damage, Errno> {
    let mut offsets = expected..rules.limit;
    let mut bad = start;
    // One with the right offset and another fault is not what is looked for.
    if matches!(fault, Fault::Epoch { .. }) {
        let mut scanner = searched.scanner(start);
        if let Scanned::Batch { batch, .. } = scanner.next().await? {
            (offsets.start, bad) = (batch.next_offset(), start + position_of(batch.size()));
        }
    }
    let sought = Sought {
        offsets,
        reaches: Some(rules.limit).filter(|limit| *limit != UNKNOWN_LIMIT),
        boundary: rules.boundary.filter(|boundary| expected < *boundary),
        gaps: rules.gaps,
    };
    let found = searched.next_sound(bad, &sought).await?;
    let (end, to) =
        found.map_or((searched.end, rules.limit), |sound| (sound.position, sound.base_offset));
    Ok(Damage {
        from: expected,
        to,
        path: searched.file.path().to_owned(),
        positions: start..end,
        what: fault.to_string(),
    })
}

/// True if there is nothing but zeros from the scanner's position on.
pub(crate) async fn is_zero(scanner: &mut Scanner) -> Result<bool, Errno> {
    const WINDOW_BYTES: usize = 1 << 20;
    loop {
        let window = scanner.peek(WINDOW_BYTES).await?;
        if window.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        let length = window.len();
        if length == 0 {
            return Ok(true);
        }
        scanner.skip(length);
    }
}

/// What a whole segment gave.
pub(crate) struct Inspection {
    pub(crate) indexes: Indexes,
    pub(crate) damages: Vec<Damage>,
}

/// Inspects all of a segment that is left to an inspector.
pub(crate) async fn inspect(
    mut inspector: Inspector,
    base_offset: Offset,
    interval_bytes: u64,
) -> Result<Inspection, Errno> {
    let mut inspection = Inspection { indexes: Indexes::new(base_offset), damages: Vec::new() };
    loop {
        match inspector.step().await? {
            Step::Sound { batch, .. } => inspection.indexes.add(&batch, interval_bytes),
            Step::Damaged(damage) => inspection.damages.push(damage),
            Step::End => return Ok(inspection),
        }
    }
}
