//! Reads of what is on disk alone: a range of a file in one pooled buffer, every batch of which is
//! checked before any is served, and what becomes of those that are not what they have to be.
//!
//! The index is derived: a batch that its entry leads to has to end at the entry's offset. Where
//! that does not hold, the read starts an entry earlier, at last at the segment's start, so that
//! a wrong index costs time and nothing else; what is wrong then is the log.

use std::rc::Rc;

use bytes::Bytes;
use model::{
    Offset,
    record_batch::{BatchError, RecordBatch},
};
use runtime::File;

use crate::{
    Damage, Log, ReadError, ReadResult,
    damage::Fault,
    inspect::{Gaps, Inspector, Rules, Step, find_extent},
    leader_epochs::Runs,
    log::State,
    read::{COLD_READ_BYTES_MAX, Range, Wanted},
    read_ahead::{Found, Place},
    resync::{BATCH_BYTES_MAX, Searched},
    segment::segment_path,
    tail::position_of,
};

/// How many entries of an index are tried before the segment is read from its start.
const ENTRIES_BACK_MAX: usize = 3;
/// How much is read beyond what is wanted, so that it holds it though it starts at an index entry.
const INTERVAL_BYTES: usize = 8 << 10;

/// The part of a segment that is on disk alone: positions below `limit`, offsets below `end`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub(crate) base_offset: Offset,
    pub(crate) limit: u64,
    pub(crate) end: Offset,
    /// What [`Log::swaps`] said then: what is found of it after a change may be of another file.
    pub(crate) swaps: u64,
}

/// Where a read starts.
struct Anchor {
    position: u64,
    /// The batch there ends at this offset.
    last_offset: Option<Offset>,
    /// It begins at this one.
    expected: Option<Offset>,
    /// An earlier read of the same reader ended there.
    is_in_sequence: bool,
    /// What is there, as far as it was read already.
    bytes: Bytes,
}

impl Anchor {
    fn at(found: Found, from: Offset) -> Anchor {
        Anchor {
            position: found.position,
            last_offset: None,
            expected: Some(from),
            is_in_sequence: true,
            bytes: found.bytes,
        }
    }
}

/// What reading from an anchor gave.
enum Outcome {
    Found(ReadResult),
    /// There is nothing in the segment from the offset on.
    Nothing,
    /// It ends too early: from this offset on there is nothing.
    Missing {
        from: Offset,
    },
    /// The anchor does not hold.
    Adrift,
    /// Behind sound batches there is something else.
    Faulty {
        position: u64,
        expected: Offset,
        fault: Fault,
    },
}

impl Log {
    /// Reads what a segment has on disk alone. `None` where it has nothing from the offset on.
    pub(crate) async fn read_cold(
        &self,
        extent: Extent,
        wanted: &Wanted,
    ) -> Result<Option<ReadResult>, ReadError> {
        let base_offset = extent.base_offset;
        let file = self.readable_file(base_offset).await?;
        if self.swaps() != extent.swaps {
            // The file is the new one, and the extent the old one's.
            return Err(ReadError::Closed);
        }
        let mut ahead = self.0.storage.take_ahead(&file, wanted.from).await;
        let mut back = 0;
        loop {
            if let Some(damage) = self.0.state.borrow().damages.at(wanted.from) {
                return Err(ReadError::of(damage));
            }
            let anchor = match ahead.take() {
                Some(found) => Anchor::at(found, wanted.from),
                None => Box::pin(self.anchor(base_offset, wanted.from, back)).await?,
            };
            let outcome = self.read_from(&file, extent, &anchor, wanted).await?;
            if self.swaps() != extent.swaps {
                // Compaction has replaced the segment: the caller asks again.
                return Err(ReadError::Closed);
            }
            match outcome {
                // Another reader may have found the damage meanwhile, and the anchor led behind it.
                Outcome::Found(_) | Outcome::Nothing if self.is_damaged_at(wanted.from) => {}
                Outcome::Found(result) => return Ok(Some(result)),
                Outcome::Nothing => return Ok(None),
                Outcome::Adrift if anchor.is_in_sequence => {}
                Outcome::Adrift if back < ENTRIES_BACK_MAX => back += 1,
                Outcome::Adrift => back = usize::MAX - 1,
                Outcome::Faulty { fault: Fault::Epoch { .. }, .. } if !self.are_epochs_sure() => {
                    Box::pin(self.rebuild_epochs()).await?;
                }
                Outcome::Faulty { position, expected, fault } => {
                    Box::pin(self.note_fault(extent, position, expected, &fault)).await?;
                }
                Outcome::Missing { from } => {
                    drop(self.note_missing(base_offset, from, extent.end));
                }
            }
        }
    }

    fn is_damaged_at(&self, offset: Offset) -> bool {
        self.0.state.borrow().damages.at(offset).is_some()
    }

    async fn anchor(
        &self,
        base_offset: Offset,
        from: Offset,
        back: usize,
    ) -> Result<Anchor, ReadError> {
        let (position, last_offset) = self.indexes(base_offset).await?.anchor(from, back);
        let path = self.path_of(base_offset);
        let state = self.0.state.borrow();
        if let Some(damage) = state.damages.at_position(&path, position) {
            let (position, expected) = (damage.positions.end, Some(damage.to));
            let (is_in_sequence, bytes) = (false, Bytes::new());
            return Ok(Anchor { position, last_offset: None, expected, is_in_sequence, bytes });
        }
        let is_start = last_offset.is_none() && state.gaps() == Gaps::None;
        let expected = is_start.then_some(base_offset);
        let last_offset = last_offset.filter(|_| !cfg!(feature = "mutant_stale_index_believed"));
        Ok(Anchor { position, last_offset, expected, is_in_sequence: false, bytes: Bytes::new() })
    }

    async fn read_from(
        &self,
        file: &Rc<File>,
        extent: Extent,
        anchor: &Anchor,
        wanted: &Wanted,
    ) -> Result<Outcome, ReadError> {
        let Extent { base_offset, limit, end: end_offset, .. } = extent;
        let rules = {
            let state = self.0.state.borrow();
            let epochs = Some(Rc::new(state.epochs.clone()));
            Rules { limit: end_offset, gaps: state.gaps(), boundary: None, epochs }
        };
        let is_anchored = anchor.last_offset.is_some() || anchor.is_in_sequence;
        let mut walk =
            Walk { rules, wanted, last_offset: anchor.last_offset, expected: anchor.expected };
        let mut start = anchor.position;
        let mut read_bytes =
            wanted.max_bytes.saturating_add(INTERVAL_BYTES).min(COLD_READ_BYTES_MAX);
        let mut ahead = anchor.bytes.clone();
        while start < limit {
            let was_ahead = !ahead.is_empty();
            let bytes = if was_ahead {
                std::mem::take(&mut ahead)
            } else {
                let stop = start + position_of(read_bytes);
                self.0.storage.read_part(file, start, stop, limit).await?
            };
            let mut range = Range::default();
            let (at, end) = walk.over(&bytes, &mut range);
            let position = start + position_of(at);
            let is_first = is_anchored && position == anchor.position;
            if !range.is_empty() {
                let position = start + position_of(range.end);
                let next = Place { file, from: range.next_offset, position, limit };
                let rest = if was_ahead { bytes.slice(range.end..) } else { Bytes::new() };
                self.0.storage.read_on(&next, rest, anchor.is_in_sequence);
                return Ok(Outcome::Found(range.result(&bytes)));
            }
            let fault = match end {
                WalkEnd::Over => return Ok(Outcome::Found(ReadResult::empty(wanted.from))),
                WalkEnd::Cut
                    if at == 0
                        && !was_ahead
                        && position_of(bytes.len())
                            < (limit - start).min(position_of(read_bytes)) =>
                {
                    // The file is shorter than it was.
                    let (needed, available) = (bytes.len() + 1, bytes.len());
                    Fault::Batch(BatchError::Truncated { needed, available })
                }
                WalkEnd::Cut => match next_read(&bytes[at..], limit - position) {
                    Ok(next) => {
                        (start, read_bytes) = (position, next);
                        continue;
                    }
                    Err(error) => Fault::Batch(error),
                },
                WalkEnd::Fault(fault) => fault,
            };
            if is_first {
                return Ok(Outcome::Adrift);
            }
            let expected = walk.expected.unwrap_or(base_offset);
            if let Some((end, to)) = self.known_damage(base_offset, position, expected) {
                (start, walk.expected) = (end, Some(to));
                continue;
            }
            return Ok(Outcome::Faulty { position, expected, fault });
        }
        match walk.expected {
            Some(from) if from < end_offset && walk.rules.gaps == Gaps::None => {
                Ok(Outcome::Missing { from })
            }
            Some(_) | None => Ok(Outcome::Nothing),
        }
    }

    /// Damage that is known to begin here: where it ends, and what follows it.
    fn known_damage(
        &self,
        base_offset: Offset,
        position: u64,
        expected: Offset,
    ) -> Option<(u64, Offset)> {
        let path = self.path_of(base_offset);
        let state = self.0.state.borrow();
        let known = state
            .damages
            .at_position(&path, position)
            .or_else(|| state.damages.starting_at(expected).filter(|known| known.path == path))?;
        (known.positions.end >= position).then_some((known.positions.end, known.to))
    }

    fn path_of(&self, base_offset: Offset) -> std::path::PathBuf {
        segment_path(&self.0.directory.borrow(), base_offset, "log")
    }

    fn are_epochs_sure(&self) -> bool {
        self.0.state.borrow().are_epochs_sure
    }

    /// Finds how far damage goes and remembers it.
    async fn note_fault(
        &self,
        extent: Extent,
        position: u64,
        expected: Offset,
        fault: &Fault,
    ) -> Result<(), ReadError> {
        let file = self.readable_file(extent.base_offset).await?;
        let rules = self.0.state.borrow().rules_of(&extent);
        let searched = Searched { file, pool: self.0.storage.pool.clone(), end: extent.limit };
        let damage = find_extent(&searched, &rules, position, expected, fault).await;
        if self.swaps() != extent.swaps {
            return Err(ReadError::Closed);
        }
        self.note_damage(Damage {
            path: self.path_of(extent.base_offset),
            ..damage.map_err(ReadError::Io)?
        });
        Ok(())
    }

    /// Remembers a damaged range, and says so once.
    pub(crate) fn note_damage(&self, damage: Damage) {
        let message = damage.to_string();
        let (from, position) = (damage.from.0, damage.positions.start);
        if self.0.state.borrow_mut().damages.add(damage) {
            tracing::error!(
                topic = %self.0.topic,
                partition = self.0.partition.0,
                offset = from,
                position,
                "damaged: {message}; everything else is served"
            );
        }
    }

    /// Remembers that records are gone between a segment and the next.
    pub(crate) fn note_missing(&self, base_offset: Offset, from: Offset, to: Offset) -> ReadError {
        let size =
            self.0.state.borrow().segment(base_offset).map_or(0, crate::segment::Segment::size);
        let damage = Damage {
            from,
            to,
            path: self.path_of(base_offset),
            positions: size..size,
            what: "the records are missing".to_owned(),
        };
        let error = ReadError::of(&damage);
        self.note_damage(damage);
        error
    }

    /// Walks over all batches that a segment has on disk alone.
    pub(crate) async fn inspector(&self, extent: &Extent) -> Result<Inspector, ReadError> {
        let file = self.readable_file(extent.base_offset).await?;
        let rules = self.0.state.borrow().rules_of(extent);
        let pool = self.0.storage.pool.clone();
        let path = self.path_of(extent.base_offset);
        Ok(Inspector::new(file, path, pool, 0..extent.limit, extent.base_offset, rules))
    }

    /// The damaged ranges of the log that are known.
    #[must_use]
    pub fn damages(&self) -> Vec<Damage> {
        self.0.state.borrow().damages.ranges().to_vec()
    }

    /// Makes the leader epochs from the log's batches: what was on disk differs from one of them.
    pub(crate) async fn rebuild_epochs(&self) -> Result<(), ReadError> {
        let swaps = self.swaps();
        let (extents, known) = {
            let state = self.0.state.borrow();
            (state.extents(), state.epochs.clone())
        };
        let mut runs = Runs::default();
        for extent in &extents {
            let mut inspector = self.inspector(extent).await?;
            loop {
                match inspector.step().await.map_err(ReadError::Io)? {
                    Step::Sound { leader_epoch, base_offset, .. } => {
                        runs.add(leader_epoch, base_offset);
                    }
                    Step::Damaged(_) => {}
                    Step::End => break,
                }
            }
        }
        if self.swaps() != swaps {
            return Box::pin(self.rebuild_epochs()).await;
        }
        let rebuilt = runs.into_epochs(&known);
        let inspected = extents.last().map_or(Offset::ZERO, |last| last.end);
        let mut state = self.0.state.borrow_mut();
        tracing::warn!(
            topic = %self.0.topic,
            partition = self.0.partition.0,
            "the leader epochs on disk were not those of the log: rebuilt"
        );
        let mut epochs = rebuilt.followed_by(&state.epochs, inspected);
        // The segments still have what was deleted below the start: a start that found epochs of
        // that would believe it to be there.
        epochs.cut_start(state.log_start);
        state.epochs = epochs;
        state.are_epochs_sure = true;
        state.are_epochs_written = false;
        Ok(())
    }
}

impl State {
    pub(crate) fn gaps(&self) -> Gaps {
        let was_compacted = self.compaction.cleaned_to > Offset::ZERO;
        let is_compacted = self.config.cleanup_policy.compact || was_compacted;
        if is_compacted { Gaps::Compacted } else { Gaps::None }
    }

    /// What a segment has on disk alone.
    pub(crate) fn extent(&self, index: usize) -> Extent {
        let segment = &self.segments[index];
        let next = self.segments.get(index + 1).map_or(self.end, |next| next.base_offset);
        let in_memory = segment.tail.batches().front().map(|batch| batch.base_offset);
        Extent {
            base_offset: segment.base_offset,
            limit: segment.tail.first_position(),
            end: in_memory.unwrap_or(next),
            swaps: self.compaction.swaps,
        }
    }

    /// All of a segment that takes no more appends: its file has everything.
    pub(crate) fn whole_extent(&self, index: usize) -> Extent {
        let segment = &self.segments[index];
        let end = self.segments.get(index + 1).map_or(self.end, |next| next.base_offset);
        let (base_offset, swaps) = (segment.base_offset, self.compaction.swaps);
        Extent { base_offset, limit: segment.size(), end, swaps }
    }

    pub(crate) fn extents(&self) -> Vec<Extent> {
        (0..self.segments.len()).map(|index| self.extent(index)).collect()
    }

    pub(crate) fn rules_of(&self, extent: &Extent) -> Rules {
        let epochs = self.are_epochs_sure.then(|| Rc::new(self.epochs.clone()));
        Rules { limit: extent.end, gaps: self.gaps(), boundary: None, epochs }
    }
}

/// A walk over the batches of a buffer.
struct Walk<'a> {
    rules: Rules,
    wanted: &'a Wanted,
    last_offset: Option<Offset>,
    expected: Option<Offset>,
}

/// Why it ended.
enum WalkEnd {
    /// The next batch may not be served any more.
    Over,
    /// The buffer ends within a batch, or with one.
    Cut,
    Fault(Fault),
}

impl Walk<'_> {
    /// Takes the batches that are wanted into the range. Gives where it ended.
    fn over(&mut self, bytes: &Bytes, range: &mut Range) -> (usize, WalkEnd) {
        let Wanted { from, max_bytes, first, up_to } = *self.wanted;
        let mut at = 0;
        while at < bytes.len() {
            let batch = match RecordBatch::first(&bytes[at..]) {
                Ok(batch) => batch,
                Err(BatchError::Truncated { .. }) => break,
                Err(error) => return (at, WalkEnd::Fault(Fault::Batch(error))),
            };
            if let Err(fault) = self.check(&batch) {
                return (at, WalkEnd::Fault(fault));
            }
            if batch.last_offset() >= from {
                if batch.last_offset() >= up_to || !range.takes(at, &batch, max_bytes, first) {
                    return (at, WalkEnd::Over);
                }
                range.add(at, &batch);
            }
            at += batch.size();
            self.expected = Some(batch.next_offset());
        }
        (at, WalkEnd::Cut)
    }

    fn check(&mut self, batch: &RecordBatch<'_>) -> Result<(), Fault> {
        self.rules.check(batch, self.expected)?;
        match self.last_offset {
            Some(expected) if expected != batch.last_offset() => {
                Err(Fault::Offset { expected, found: batch.last_offset() })
            }
            Some(_) | None => {
                self.last_offset = None;
                Ok(())
            }
        }
    }
}

/// How much has to be read from a batch on whose beginning is `rest`, where `available` bytes are.
fn next_read(rest: &[u8], available: u64) -> Result<usize, BatchError> {
    let size = match RecordBatch::size_of_first(rest) {
        Ok(size) if size > BATCH_BYTES_MAX => {
            return Err(BatchError::TooLarge { size, max: BATCH_BYTES_MAX });
        }
        Ok(size) => size,
        Err(BatchError::Truncated { .. }) => 1,
        Err(error) => return Err(error),
    };
    let needed = size.max(rest.len() + 1);
    if !rest.is_empty() && position_of(needed) > available {
        let available = rest.len();
        return Err(BatchError::Truncated { needed, available });
    }
    Ok(size.max(COLD_READ_BYTES_MAX))
}
