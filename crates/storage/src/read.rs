//! Reads: hot ones are slices of the tail, without a copy and without waiting; cold ones are a
//! range of a file in one pooled buffer, whose batches are checked before they are served.
//!
//! A read never spans segments and always gives whole batches, beginning with the one that
//! contains the offset asked for.

use std::rc::Rc;

use bytes::Bytes;
use model::{Offset, record_batch::RecordBatch};
use runtime::{File, OpenOptions};

use crate::{
    Log, ReadError,
    cold::Extent,
    index::Indexes,
    inspect::{Gaps, inspect},
    log::{State, Status},
    segment::{Phase, segment_path},
    storage::read_small_file,
    tail::length_of,
};

/// One read of a file: the largest pooled buffer that is common.
pub(crate) const COLD_READ_BYTES_MAX: usize = 1 << 20;
/// The largest index file that is loaded.
const INDEX_BYTES_MAX: usize = 64 << 20;

/// What a read gives where the first batch is larger than what was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstBatch {
    /// All of it: a consumer always gets on.
    Whole,
    /// Nothing, where another partition has filled the response already.
    WithinLimit,
}

/// What a read found.
#[derive(Clone, Debug, Default)]
pub struct ReadResult {
    /// Whole batches, one behind the other, cut into slices anywhere.
    pub batches: Vec<Bytes>,
    /// How many bytes these are.
    pub size: usize,
    /// The first offset in them; what was asked for where there are none.
    pub first_offset: Offset,
    /// Where to read on.
    pub next_offset: Offset,
}

/// What is read.
pub(crate) struct Wanted {
    pub(crate) from: Offset,
    pub(crate) max_bytes: usize,
    pub(crate) first: FirstBatch,
    pub(crate) up_to: Offset,
}

/// Where the answer to a read lies.
enum Plan {
    /// It is complete.
    Ready(ReadResult),
    /// In what this segment has on disk alone.
    Cold(Extent),
}

impl Log {
    /// Reads from `from` on, not beyond `up_to`, about `max_bytes`. `None` where the answer is not
    /// in memory: then [`Log::read`] has it.
    ///
    /// # Errors
    /// When `from` is not in the log, or the log is closed.
    pub fn try_read(
        &self,
        from: Offset,
        max_bytes: usize,
        first: FirstBatch,
        up_to: Offset,
    ) -> Result<Option<ReadResult>, ReadError> {
        match self.0.state.borrow().plan_read(from, max_bytes, first, up_to)? {
            Plan::Ready(result) => Ok(Some(result)),
            Plan::Cold(_) => Ok(None),
        }
    }

    /// Reads from `from` on, not beyond `up_to`, about `max_bytes`: whole batches, at least one
    /// with [`FirstBatch::Whole`], less than there is where the rest lies elsewhere.
    ///
    /// # Errors
    /// When `from` is not in the log, the log is closed, or the disk fails or has changed bytes.
    pub async fn read(
        &self,
        from: Offset,
        max_bytes: usize,
        first: FirstBatch,
        up_to: Offset,
    ) -> Result<ReadResult, ReadError> {
        loop {
            let swaps = self.swaps();
            let found = self.read_once(from, max_bytes, first, up_to).await;
            if self.swaps() == swaps {
                return found;
            }
        }
    }

    /// How often compaction has replaced segments. What was found across such a change may mix the
    /// old file with the new one's indexes, and is not believed.
    pub(crate) fn swaps(&self) -> u64 {
        self.0.state.borrow().compaction.swaps
    }

    async fn read_once(
        &self,
        from: Offset,
        max_bytes: usize,
        first: FirstBatch,
        up_to: Offset,
    ) -> Result<ReadResult, ReadError> {
        let mut at = from;
        loop {
            let plan = self.0.state.borrow().plan_read(at, max_bytes, first, up_to)?;
            let extent = match plan {
                Plan::Ready(result) => return Ok(result),
                Plan::Cold(extent) => extent,
            };
            let base_offset = extent.base_offset;
            let wanted = Wanted { from: at, max_bytes, first, up_to };
            let found = self.read_cold(extent, &wanted).await?;
            if self.swaps() != extent.swaps {
                // The caller asks again.
                return Err(ReadError::Closed);
            }
            match found {
                Some(result) => return Ok(result),
                None => match self.next_segment(base_offset) {
                    // Compaction has left nothing from there to the segment's end.
                    Some(next) if next == at || self.may_have_gaps() => at = next,
                    Some(next) => return Err(self.note_missing(base_offset, at, next)),
                    None => return Ok(ReadResult::empty(from)),
                },
            }
        }
    }

    fn may_have_gaps(&self) -> bool {
        self.0.state.borrow().gaps() == Gaps::Compacted
    }

    fn next_segment(&self, base_offset: Offset) -> Option<Offset> {
        let state = self.0.state.borrow();
        let index = state.segments.partition_point(|segment| segment.base_offset <= base_offset);
        state.segments.get(index).map(|segment| segment.base_offset)
    }

    /// The file of a segment. A finished one is opened again, through the page cache, and stays
    /// open for the next reader.
    pub(crate) async fn readable_file(&self, base_offset: Offset) -> Result<Rc<File>, ReadError> {
        let swaps = self.swaps();
        let phase = {
            let state = self.0.state.borrow();
            let segment = state.segment(base_offset).ok_or(ReadError::Closed)?;
            if let Some(file) = &segment.file {
                return Ok(Rc::clone(file));
            }
            segment.phase
        };
        if phase != Phase::Finished {
            return self.reopen(base_offset).await.map_err(ReadError::Io);
        }
        let path = segment_path(&self.0.directory.borrow(), base_offset, "log");
        let open = || File::open(self.runtime(), path.clone(), OpenOptions::READ);
        let file = Rc::new(self.0.storage.with_handle(open).await.map_err(ReadError::Io)?);
        let mut state = self.0.state.borrow_mut();
        let is_same = state.compaction.swaps == swaps;
        if let Some(segment) = state.segment_mut(base_offset)
            && segment.phase == Phase::Finished
            && is_same
        {
            segment.file = Some(Rc::clone(&file));
        }
        drop(state);
        self.0.storage.note_loaded(self, base_offset);
        Ok(file)
    }

    /// The indexes of a segment; those of a finished one are loaded, and rebuilt where they make
    /// no sense.
    pub(crate) async fn indexes(&self, base_offset: Offset) -> Result<Rc<Indexes>, ReadError> {
        let swaps = self.swaps();
        let extent = {
            let state = self.0.state.borrow();
            let segment = state.segment(base_offset).ok_or(ReadError::Closed)?;
            if let Some(indexes) = &segment.indexes {
                return Ok(Rc::clone(indexes));
            }
            let index = state.segment_index_of(base_offset).ok_or(ReadError::Closed)?;
            state.whole_extent(index)
        };
        let (size, end) = (extent.limit, extent.end);
        let directory = self.0.directory.borrow().clone();
        let load = async |suffix: &str| {
            let path = segment_path(&directory, base_offset, suffix);
            read_small_file(self.runtime(), &path, INDEX_BYTES_MAX).await.ok().flatten()
        };
        let (offsets, times) = (load("index").await, load("timeindex").await);
        let loaded = offsets
            .zip(times)
            .and_then(|(offsets, times)| Indexes::parse(base_offset, &offsets, &times, size, end));
        let indexes = match loaded {
            Some(indexes) => indexes,
            None => Box::pin(self.rebuild_indexes(&extent)).await?,
        };
        let indexes = Rc::new(indexes);
        let mut state = self.0.state.borrow_mut();
        let is_same = state.compaction.swaps == swaps;
        if let Some(segment) = state.segment_mut(base_offset).filter(|_| is_same) {
            segment.indexes = Some(Rc::clone(&indexes));
        }
        drop(state);
        self.0.storage.note_loaded(self, base_offset);
        Ok(indexes)
    }

    pub(crate) async fn rebuild_indexes(&self, extent: &Extent) -> Result<Indexes, ReadError> {
        let interval_bytes = u64::try_from(self.config().index_interval_bytes).unwrap_or(0);
        let inspector = self.inspector(extent).await?;
        let found = inspect(inspector, extent.base_offset, interval_bytes).await;
        let found = found.map_err(ReadError::Io)?;
        for damage in found.damages.into_iter().filter(|_| self.swaps() == extent.swaps) {
            self.note_damage(damage);
        }
        let mut indexes = found.indexes;
        indexes.finish();
        Ok(indexes)
    }
}

impl State {
    fn plan_read(
        &self,
        from: Offset,
        max_bytes: usize,
        first: FirstBatch,
        up_to: Offset,
    ) -> Result<Plan, ReadError> {
        if self.status == Status::Closed {
            return Err(ReadError::Closed);
        }
        if from < self.log_start || from > self.end {
            let (log_start, log_end) = (self.log_start, self.end);
            return Err(ReadError::OffsetOutOfRange { log_start, log_end });
        }
        if from < up_to
            && let Some(damage) = self.damages.at(from)
        {
            return Err(ReadError::of(damage));
        }
        let Some(index) = self.segment_index_of(from).filter(|_| from < up_to) else {
            return Ok(Plan::Ready(ReadResult::empty(from)));
        };
        let segment = &self.segments[index];
        let batches = segment.tail.batches();
        let begin = batches.partition_point(|batch| batch.last_offset < from);
        let is_hot = batches.front().is_some_and(|oldest| oldest.base_offset <= from);
        if !is_hot || begin == batches.len() {
            return Ok(Plan::Cold(self.extent(index)));
        }
        let end_of = |index: usize| {
            batches.get(index + 1).map_or_else(|| segment.size(), |next| next.position)
        };
        let start = batches[begin].position;
        let is_within = |index: usize| {
            batches[index].last_offset < up_to && length_of(end_of(index) - start) <= max_bytes
        };
        // Positions and offsets rise together, so what fits is a prefix.
        let mut stop =
            begin + partition_point(batches.len() - begin, |index| is_within(begin + index));
        let takes_first = first == FirstBatch::Whole && batches[begin].last_offset < up_to;
        if stop == begin && takes_first {
            stop = begin + 1;
        }
        if stop == begin {
            return Ok(Plan::Ready(ReadResult::empty(from)));
        }
        let end = end_of(stop - 1);
        let mut slices = Vec::new();
        segment.tail.slices(start, end, &mut slices);
        Ok(Plan::Ready(ReadResult {
            batches: slices,
            size: length_of(end - start),
            first_offset: batches[begin].base_offset,
            next_offset: batches[stop - 1].last_offset.next(),
        }))
    }
}

/// How many of the first of `count` numbers hold `holds`, which turns false once.
fn partition_point(count: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

impl ReadResult {
    pub(crate) fn empty(from: Offset) -> ReadResult {
        ReadResult { batches: Vec::new(), size: 0, first_offset: from, next_offset: from }
    }
}

/// The batches of a buffer that go into an answer.
#[derive(Default)]
pub(crate) struct Range {
    pub(crate) start: usize,
    pub(crate) end: usize,
    first_offset: Offset,
    pub(crate) next_offset: Offset,
}

impl Range {
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    pub(crate) fn takes(
        &self,
        at: usize,
        batch: &RecordBatch<'_>,
        max: usize,
        first: FirstBatch,
    ) -> bool {
        let start = if self.is_empty() { at } else { self.start };
        let is_first = self.is_empty() && first == FirstBatch::Whole;
        is_first || at + batch.size() - start <= max
    }

    pub(crate) fn add(&mut self, at: usize, batch: &RecordBatch<'_>) {
        if self.is_empty() {
            self.start = at;
            self.first_offset = batch.base_offset();
        }
        self.end = at + batch.size();
        self.next_offset = batch.next_offset();
    }

    pub(crate) fn result(&self, bytes: &Bytes) -> ReadResult {
        ReadResult {
            batches: vec![bytes.slice(self.start..self.end)],
            size: self.end - self.start,
            first_offset: self.first_offset,
            next_offset: self.next_offset,
        }
    }
}
