//! A walk over the records of a batch, compressed or not, that keeps none of them: what comes out
//! of the codec is looked at piece by piece, so a batch of any size takes the memory of a piece.
//!
//! Every length is held against the record's, and the number of records against the header's, as
//! [`Records`](super::Records) does it. Cost: one pass of the codec; per record some ten varints.

use super::{BatchError, Compression, Counts, RecordBatch, TimestampType};
use crate::{Offset, TimestampMs, compression::Decompressor};

/// How much is asked of the codec at a time.
const PIECE_BYTES: usize = 64 << 10;
/// The longest varlong.
const VARLONG_BYTES_MAX: usize = 10;

/// What a walk tells of a record: all but its key, value and headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHead {
    /// Its number in the batch, from 0.
    pub index: i32,
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp: the batch's largest where that is the broker's.
    pub timestamp: TimestampMs,
    /// False where its key is null.
    pub has_key: bool,
}

/// What the records of a batch have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordSummary {
    /// The smallest timestamp, of the records that have one; else [`TimestampMs::NONE`].
    pub oldest: TimestampMs,
    /// The largest; at least [`TimestampMs::NONE`].
    pub newest: TimestampMs,
    /// True if no key is null.
    pub are_all_keyed: bool,
    /// The bytes of the records, decompressed.
    pub bytes: usize,
}

impl RecordSummary {
    /// Of no record.
    pub const EMPTY: RecordSummary = RecordSummary {
        oldest: TimestampMs::NONE,
        newest: TimestampMs::NONE,
        are_all_keyed: true,
        bytes: 0,
    };

    /// Adds a record.
    pub fn add(&mut self, timestamp: TimestampMs, has_key: bool) {
        if timestamp != TimestampMs::NONE {
            let is_first = self.oldest == TimestampMs::NONE;
            self.oldest = if is_first { timestamp } else { self.oldest.min(timestamp) };
        }
        self.newest = self.newest.max(timestamp);
        self.are_all_keyed &= has_key;
    }
}

/// Whether a walk goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more.
    More,
    /// Every record was seen, or the caller has seen enough.
    Done,
}

/// What comes next in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Length,
    Attributes,
    TimestampDelta,
    OffsetDelta,
    KeyLength,
    ValueLength,
    HeaderCount,
    HeaderKeyLength,
    HeaderValueLength,
}

/// See the module.
pub struct RecordScan<'a> {
    batch: RecordBatch<'a>,
    counts: Counts,
    source: Decompressor<'a>,
    /// Bytes that came out of the codec and were not looked at, from `at` on.
    buffer: Vec<u8>,
    at: usize,
    is_at_end: bool,
    /// The bytes so far.
    bytes: usize,
    next: Next,
    index: i32,
    /// What is left of the record.
    left: usize,
    /// How much of a field has still to be passed over.
    skip: usize,
    headers: i32,
    timestamp_delta: i64,
    offset_delta: i32,
}

impl<'a> RecordScan<'a> {
    /// A walk over a batch of which no more than `max` bytes may come out.
    ///
    /// # Errors
    /// [`BatchError::Undecodable`] where the codec cannot begin.
    pub fn new(
        batch: RecordBatch<'a>,
        counts: Counts,
        max: usize,
    ) -> Result<RecordScan<'a>, BatchError> {
        // A batch that compaction emptied has nothing that a codec could read.
        let is_empty = batch.record_count() == 0;
        let codec = if is_empty { Compression::None } else { batch.compression() };
        let source = Decompressor::new(codec, batch.payload(), max);
        Ok(RecordScan {
            batch,
            counts,
            source: source.map_err(BatchError::Undecodable)?,
            buffer: Vec::new(),
            at: 0,
            is_at_end: false,
            bytes: 0,
            next: Next::Length,
            index: 0,
            left: 0,
            skip: 0,
            headers: 0,
            timestamp_delta: 0,
            offset_delta: -1,
        })
    }

    /// The bytes that came out so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Goes on through the next piece and tells `see` of every record in it, until that has seen
    /// enough.
    ///
    /// # Errors
    /// When a record does not fit the batch, or the codec fails.
    pub fn step(
        &mut self,
        mut see: impl FnMut(RecordHead) -> Progress,
    ) -> Result<Progress, BatchError> {
        self.fill()?;
        loop {
            let passed = self.skip.min(self.buffer.len() - self.at);
            self.at += passed;
            self.skip -= passed;
            if self.skip > 0 && self.is_at_end {
                return Err(self.wrong("its length is beyond the batch"));
            }
            if self.skip > 0 {
                return Ok(Progress::More);
            }
            let left = self.buffer.len() - self.at;
            if self.index == self.batch.record_count() && self.next == Next::Length {
                return match (left, self.is_at_end) {
                    (0, true) => Ok(Progress::Done),
                    (0, false) => Ok(Progress::More),
                    _ => Err(self.wrong("bytes are left behind the last record")),
                };
            }
            if left < VARLONG_BYTES_MAX && !self.is_at_end {
                return Ok(Progress::More);
            }
            if let Some(head) = self.field()?
                && see(head) == Progress::Done
            {
                return Ok(Progress::Done);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn buffered(&self) -> usize {
        self.buffer.len()
    }

    fn fill(&mut self) -> Result<(), BatchError> {
        self.buffer.drain(..self.at);
        self.at = 0;
        if !self.is_at_end {
            let count = self.source.read(&mut self.buffer, PIECE_BYTES);
            let count = count.map_err(BatchError::Undecodable)?;
            self.bytes += count;
            self.is_at_end = count == 0;
        }
        Ok(())
    }

    fn wrong(&self, what: &'static str) -> BatchError {
        BatchError::InvalidRecord { index: self.index, what }
    }

    /// Reads one field; gives the record once its key's length is known.
    fn field(&mut self) -> Result<Option<RecordHead>, BatchError> {
        let mut head = None;
        self.next = match self.next {
            Next::Length => {
                let length = self.varint(VARLONG_BYTES_MAX)?;
                self.left =
                    usize::try_from(length).map_err(|_| self.wrong("its length is negative"))?;
                Next::Attributes
            }
            Next::Attributes => {
                if self.left == 0 || self.at == self.buffer.len() {
                    return Err(self.wrong("it ends within its attributes"));
                }
                (self.at, self.left) = (self.at + 1, self.left - 1);
                Next::TimestampDelta
            }
            Next::TimestampDelta => {
                self.timestamp_delta = self.varlong()?;
                Next::OffsetDelta
            }
            Next::OffsetDelta => {
                let delta = self.varint(self.left)?;
                let in_order = match self.counts {
                    Counts::Dense => delta == self.index,
                    Counts::Sparse => {
                        delta > self.offset_delta && delta <= self.batch.last_offset_delta()
                    }
                };
                if !in_order {
                    return Err(self.wrong("its offset is out of order"));
                }
                self.offset_delta = delta;
                Next::KeyLength
            }
            Next::KeyLength => {
                let length = self.varint(self.left)?;
                self.pass_field(length)?;
                head = Some(self.head(length >= 0));
                Next::ValueLength
            }
            Next::ValueLength => {
                let length = self.varint(self.left)?;
                self.pass_field(length)?;
                Next::HeaderCount
            }
            Next::HeaderCount => {
                self.headers = self.varint(self.left)?;
                if self.headers < 0 {
                    return Err(self.wrong("its header count is negative"));
                }
                self.header_or_end()?
            }
            Next::HeaderKeyLength => {
                let length = self.varint(self.left)?;
                if length < 0 {
                    return Err(self.wrong("a header's key is null"));
                }
                self.pass_field(length)?;
                Next::HeaderValueLength
            }
            Next::HeaderValueLength => {
                let length = self.varint(self.left)?;
                self.pass_field(length)?;
                self.headers -= 1;
                self.header_or_end()?
            }
        };
        Ok(head)
    }

    fn header_or_end(&mut self) -> Result<Next, BatchError> {
        if self.headers > 0 {
            return Ok(Next::HeaderKeyLength);
        }
        if self.left > 0 {
            return Err(self.wrong("it is longer than its fields"));
        }
        self.index += 1;
        Ok(Next::Length)
    }

    fn head(&self, has_key: bool) -> RecordHead {
        let timestamp = match self.batch.timestamp_type() {
            TimestampType::CreateTime => {
                TimestampMs(self.batch.base_timestamp().0.wrapping_add(self.timestamp_delta))
            }
            TimestampType::LogAppendTime => self.batch.max_timestamp(),
        };
        let offset = self.batch.base_offset().plus(i64::from(self.offset_delta));
        RecordHead { index: self.index, offset, timestamp, has_key }
    }

    /// Passes over a field of this length, null where that is -1.
    fn pass_field(&mut self, length: i32) -> Result<(), BatchError> {
        if length == -1 {
            return Ok(());
        }
        let length =
            usize::try_from(length).map_err(|_| self.wrong("a field's length is negative"))?;
        self.pass(length)
    }

    fn pass(&mut self, length: usize) -> Result<(), BatchError> {
        let left = self.left.checked_sub(length);
        self.left = left.ok_or_else(|| self.wrong("a field's length is beyond the record"))?;
        self.skip = length;
        Ok(())
    }

    fn varint(&mut self, left: usize) -> Result<i32, BatchError> {
        let raw = self.unsigned(5, left)?;
        let raw = u32::try_from(raw).map_err(|_| self.wrong("a varint is too long"))?;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    fn varlong(&mut self) -> Result<i64, BatchError> {
        let raw = self.unsigned(VARLONG_BYTES_MAX, self.left)?;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    /// A number of at most so many bytes, of those that are `left` to it.
    fn unsigned(&mut self, bytes_max: usize, left: usize) -> Result<u64, BatchError> {
        let mut value = 0u64;
        let there = &self.buffer[self.at..];
        for (index, byte) in there.iter().take(bytes_max.min(left)).enumerate() {
            let bits = u64::from(byte & 0x7f);
            if index == VARLONG_BYTES_MAX - 1 && bits > 1 {
                break;
            }
            value |= bits << (7 * index);
            if *byte < 0x80 {
                self.at += index + 1;
                if self.next != Next::Length {
                    self.left -= index + 1;
                }
                return Ok(value);
            }
        }
        let is_short = there.len().min(left) < bytes_max;
        Err(self.wrong(if is_short { "it ends within a varint" } else { "a varint is too long" }))
    }
}
