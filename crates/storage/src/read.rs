//! Reads: hot ones are slices of the tail, without a copy and without waiting; cold ones are a
//! range of a file in one pooled buffer, whose batches are checked before they are served.
//!
//! A read never spans segments and always gives whole batches, beginning with the one that
//! contains the offset asked for.

use std::rc::Rc;

use bytes::Bytes;
use model::{
    LeaderEpoch, Offset, TimestampMs,
    record_batch::{BatchError, Compression, RecordBatch, TimestampType},
};
use runtime::{Errno, File, OpenOptions};

use crate::{
    Log, ReadError,
    index::{IndexedBatch, Indexes},
    log::{State, Status},
    read_ahead::Place,
    scan::{Scanned, Scanner},
    segment::{Phase, segment_path},
    storage::read_small_file,
    tail::{block_ceil, block_floor, length_of, position_of},
};

/// One read of a file: the largest pooled buffer that is common.
const COLD_READ_BYTES_MAX: usize = 1 << 20;
/// The largest batch that is read into memory, whatever its header claims.
const BATCH_BYTES_MAX: usize = 128 << 20;
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

/// A record found by its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampOffset {
    /// Its timestamp.
    pub timestamp: TimestampMs,
    /// Its offset.
    pub offset: Offset,
    /// The epoch of the leader that wrote it.
    pub leader_epoch: LeaderEpoch,
}

/// Where the answer to a read lies.
enum Plan {
    /// It is complete.
    Ready(ReadResult),
    /// In the file of this segment, below a position.
    Cold { base_offset: Offset, limit: u64 },
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
            Plan::Cold { .. } => Ok(None),
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
        let mut at = from;
        loop {
            let plan = self.0.state.borrow().plan_read(at, max_bytes, first, up_to)?;
            let (base_offset, limit) = match plan {
                Plan::Ready(result) => return Ok(result),
                Plan::Cold { base_offset, limit } => (base_offset, limit),
            };
            let found = self.read_cold(base_offset, limit, at, max_bytes, first, up_to).await?;
            match found {
                Some(result) => return Ok(result),
                None => match self.next_segment(base_offset) {
                    // Compaction has left nothing from there to the segment's end.
                    Some(next) if next == at || self.config().cleanup_policy.compact => at = next,
                    Some(next) => return Err(ReadError::Missing { from: at, to: next }),
                    None => return Ok(ReadResult::empty(from)),
                },
            }
        }
    }

    fn next_segment(&self, base_offset: Offset) -> Option<Offset> {
        let state = self.0.state.borrow();
        let index = state.segments.partition_point(|segment| segment.base_offset <= base_offset);
        state.segments.get(index).map(|segment| segment.base_offset)
    }

    async fn read_cold(
        &self,
        base_offset: Offset,
        limit: u64,
        from: Offset,
        max_bytes: usize,
        first: FirstBatch,
        up_to: Offset,
    ) -> Result<Option<ReadResult>, ReadError> {
        let file = self.readable_file(base_offset).await?;
        let ahead = self.0.storage.take_ahead(&file, from).await;
        let is_in_sequence = ahead.is_some();
        let (mut start, mut ahead) = match ahead {
            Some(found) => (found.position, found.bytes),
            None => (self.indexes(base_offset).await?.position_before(from), Bytes::new()),
        };
        let interval_bytes = 8 << 10;
        let mut wanted = max_bytes.saturating_add(interval_bytes).min(COLD_READ_BYTES_MAX);
        while start < limit {
            let was_ahead = !ahead.is_empty();
            let bytes = if was_ahead {
                std::mem::take(&mut ahead)
            } else {
                self.read_range(&file, start, limit, wanted).await?
            };
            let mut range = Range::default();
            let mut at = 0;
            let mut is_over = false;
            while at < bytes.len() {
                let rest = &bytes[at..];
                let batch = match RecordBatch::first(rest) {
                    Ok(batch) => batch,
                    Err(BatchError::Truncated { .. }) => break,
                    Err(error) => return Err(ReadError::Damaged(error)),
                };
                if batch.last_offset() >= from {
                    batch.verify_crc().map_err(ReadError::Damaged)?;
                    is_over =
                        batch.last_offset() >= up_to || !range.takes(at, &batch, max_bytes, first);
                    if is_over {
                        break;
                    }
                    range.add(at, &batch);
                }
                at += batch.size();
            }
            if !range.is_empty() {
                let position = start + position_of(range.end);
                let next = Place { file: &file, from: range.next_offset, position, limit };
                let rest = if was_ahead { bytes.slice(range.end..) } else { Bytes::new() };
                self.0.storage.read_on(&next, rest, is_in_sequence);
                return Ok(Some(range.result(&bytes)));
            }
            if is_over {
                return Ok(Some(ReadResult::empty(from)));
            }
            let rest = &bytes[at..];
            start += position_of(at);
            if start == limit {
                break;
            }
            wanted = match RecordBatch::size_of_first(rest) {
                Ok(size) if size > BATCH_BYTES_MAX => {
                    let max = BATCH_BYTES_MAX;
                    return Err(ReadError::Damaged(BatchError::TooLarge { size, max }));
                }
                Ok(size) => size.max(COLD_READ_BYTES_MAX),
                Err(BatchError::Truncated { .. }) => COLD_READ_BYTES_MAX,
                Err(error) => return Err(ReadError::Damaged(error)),
            };
            if start + position_of(wanted.min(rest.len() + 1)) > limit {
                let (needed, available) = (wanted, rest.len());
                return Err(ReadError::Damaged(BatchError::Truncated { needed, available }));
            }
        }
        Ok(None)
    }

    /// The bytes of a file from `start` on, about `wanted` of them, none at `limit` or behind.
    async fn read_range(
        &self,
        file: &File,
        start: u64,
        limit: u64,
        wanted: usize,
    ) -> Result<Bytes, ReadError> {
        let block = block_floor(start);
        let stop = block_ceil(limit.min(start + position_of(wanted)));
        let length = length_of(stop - block);
        let buffer = self.0.storage.pool.take(length);
        let buffer = file.read(block, length, buffer).await.map_err(ReadError::Io)?;
        let bytes = buffer.freeze();
        let skip = length_of(start - block);
        let end = length_of(limit.min(stop) - block).min(bytes.len());
        if end <= skip {
            return Err(ReadError::Io(Errno::IO));
        }
        Ok(bytes.slice(skip..end))
    }

    /// The file of a segment. A finished one is opened again, through the page cache, and stays
    /// open for the next reader.
    async fn readable_file(&self, base_offset: Offset) -> Result<Rc<File>, ReadError> {
        {
            let state = self.0.state.borrow();
            let segment = state.segment(base_offset).ok_or(ReadError::Closed)?;
            if let Some(file) = &segment.file {
                return Ok(Rc::clone(file));
            }
        }
        let path = segment_path(&self.0.directory.borrow(), base_offset, "log");
        let file = File::open(self.runtime(), path, OpenOptions::READ).await;
        let file = Rc::new(file.map_err(ReadError::Io)?);
        let mut state = self.0.state.borrow_mut();
        if let Some(segment) = state.segment_mut(base_offset)
            && segment.phase == Phase::Finished
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
        let (size, end) = {
            let state = self.0.state.borrow();
            let segment = state.segment(base_offset).ok_or(ReadError::Closed)?;
            if let Some(indexes) = &segment.indexes {
                return Ok(Rc::clone(indexes));
            }
            (segment.size(), state.end)
        };
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
            None => self.rebuild_indexes(base_offset, size).await?,
        };
        let indexes = Rc::new(indexes);
        let mut state = self.0.state.borrow_mut();
        if let Some(segment) = state.segment_mut(base_offset) {
            segment.indexes = Some(Rc::clone(&indexes));
        }
        drop(state);
        self.0.storage.note_loaded(self, base_offset);
        Ok(indexes)
    }

    async fn rebuild_indexes(&self, base_offset: Offset, size: u64) -> Result<Indexes, ReadError> {
        let file = self.readable_file(base_offset).await?;
        let config = self.config();
        let interval_bytes = u64::try_from(config.index_interval_bytes).unwrap_or(0);
        let pool = self.0.storage.pool.clone();
        let mut scanner = Scanner::new(file, pool, 0, size, BATCH_BYTES_MAX);
        let mut indexes = Indexes::new(base_offset);
        loop {
            match scanner.next().await.map_err(ReadError::Io)? {
                Scanned::End => break,
                Scanned::Bad(error) => return Err(ReadError::Damaged(error)),
                Scanned::Batch { position, batch } => indexes.add(
                    &IndexedBatch {
                        last_offset: batch.last_offset(),
                        max_timestamp: batch.max_timestamp(),
                        position,
                        size: position_of(batch.size()),
                    },
                    interval_bytes,
                ),
            }
        }
        indexes.finish();
        Ok(indexes)
    }

    /// The first record whose timestamp is at least `timestamp`, below the high watermark. In a
    /// compressed batch, which storage cannot look into, that is the batch's first offset.
    ///
    /// # Errors
    /// When the log is closed, or the disk fails.
    pub async fn offset_for_timestamp(
        &self,
        timestamp: TimestampMs,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        let bases: Vec<Offset> =
            self.0.state.borrow().segments.iter().map(|segment| segment.base_offset).collect();
        for base_offset in bases {
            let mut from = {
                // Not held any longer: an append would have to copy them.
                let indexes = self.indexes(base_offset).await?;
                if indexes.max_timestamp().0 < timestamp {
                    continue;
                }
                indexes.offset_before(timestamp).max(self.log_start_offset())
            };
            loop {
                let up_to = self.high_watermark();
                let found = self.read(from, COLD_READ_BYTES_MAX, FirstBatch::Whole, up_to).await?;
                if found.batches.is_empty() {
                    break;
                }
                let bytes = found.batches.concat();
                if let Some(found) = first_at(&bytes, timestamp, self.log_start_offset()) {
                    return Ok(Some(found));
                }
                from = found.next_offset;
            }
        }
        Ok(None)
    }

    /// The largest timestamp in the log and the last offset of the batch that has it.
    ///
    /// # Errors
    /// When the log is closed, or the disk fails.
    pub async fn max_timestamp(&self) -> Result<Option<TimestampOffset>, ReadError> {
        let bases: Vec<Offset> =
            self.0.state.borrow().segments.iter().map(|segment| segment.base_offset).collect();
        let mut newest: Option<TimestampOffset> = None;
        for base_offset in bases {
            let (timestamp, offset) = self.indexes(base_offset).await?.max_timestamp();
            let is_newer = newest.is_none_or(|newest| timestamp > newest.timestamp);
            if timestamp.0 >= 0 && is_newer {
                let leader_epoch = self.leader_epoch_at(offset);
                newest = Some(TimestampOffset { timestamp, offset, leader_epoch });
            }
        }
        Ok(newest)
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
        let Some(index) = self.segment_index_of(from).filter(|_| from < up_to) else {
            return Ok(Plan::Ready(ReadResult::empty(from)));
        };
        let segment = &self.segments[index];
        let batches = segment.tail.batches();
        let limit = segment.tail.first_position();
        let begin = batches.partition_point(|batch| batch.last_offset < from);
        let is_hot = batches.front().is_some_and(|oldest| oldest.base_offset <= from);
        if !is_hot || begin == batches.len() {
            return Ok(Plan::Cold { base_offset: segment.base_offset, limit });
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
    fn empty(from: Offset) -> ReadResult {
        ReadResult { batches: Vec::new(), size: 0, first_offset: from, next_offset: from }
    }
}

/// The batches of a buffer that go into an answer.
#[derive(Default)]
struct Range {
    start: usize,
    end: usize,
    first_offset: Offset,
    next_offset: Offset,
}

impl Range {
    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn takes(&self, at: usize, batch: &RecordBatch<'_>, max: usize, first: FirstBatch) -> bool {
        let start = if self.is_empty() { at } else { self.start };
        let is_first = self.is_empty() && first == FirstBatch::Whole;
        is_first || at + batch.size() - start <= max
    }

    fn add(&mut self, at: usize, batch: &RecordBatch<'_>) {
        if self.is_empty() {
            self.start = at;
            self.first_offset = batch.base_offset();
        }
        self.end = at + batch.size();
        self.next_offset = batch.next_offset();
    }

    fn result(&self, bytes: &Bytes) -> ReadResult {
        ReadResult {
            batches: vec![bytes.slice(self.start..self.end)],
            size: self.end - self.start,
            first_offset: self.first_offset,
            next_offset: self.next_offset,
        }
    }
}

/// The first record of `bytes` at or behind `log_start` that is not older than `timestamp`.
fn first_at(bytes: &[u8], timestamp: TimestampMs, log_start: Offset) -> Option<TimestampOffset> {
    for batch in model::record_batch::batches(bytes).flatten() {
        if batch.max_timestamp() < timestamp {
            continue;
        }
        let found = |timestamp, offset| TimestampOffset {
            timestamp,
            offset,
            leader_epoch: batch.leader_epoch(),
        };
        if batch.compression() != Compression::None {
            let offset = batch.base_offset().max(log_start);
            return Some(found(batch.base_timestamp().max(timestamp), offset));
        }
        for record in batch.records().flatten() {
            let at = match batch.timestamp_type() {
                TimestampType::CreateTime => {
                    TimestampMs(batch.base_timestamp().0.wrapping_add(record.timestamp_delta))
                }
                TimestampType::LogAppendTime => batch.max_timestamp(),
            };
            let offset = batch.base_offset().plus(i64::from(record.offset_delta));
            if at >= timestamp && offset >= log_start {
                return Some(found(at, offset));
            }
        }
    }
    None
}
