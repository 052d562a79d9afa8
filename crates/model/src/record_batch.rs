//! The record batch of Kafka's message format 2 (KIP-98), as it lies on disk and on the wire.
//!
//! ```text
//!   0 BaseOffset            8 BatchLength (bytes from 12 on)   12 PartitionLeaderEpoch
//!  16 Magic = 2            17 Crc (CRC32C of 21 .. end)        21 Attributes
//!  23 LastOffsetDelta      27 BaseTimestamp                    35 MaxTimestamp
//!  43 ProducerId           51 ProducerEpoch                    53 BaseSequence
//!  57 RecordCount          61 records, compressed as Attributes say
//! ```
//! BaseOffset and PartitionLeaderEpoch are written by the leader and lie outside the CRC.
//!
//! A [`RecordBatch`] is a view whose header was checked for what makes it safe to walk; its
//! [`RecordBatch::verify_crc`], [`RecordBatch::check_counts`] and [`RecordBatch::check_records`]
//! are asked for where they matter. Views copy nothing and allocate nothing. Whoever lets bytes
//! from outside into a log calls all of them.

mod builder;
mod plain;
mod records;
mod rewrite;
mod scan;
#[cfg(test)]
mod tests;

use std::fmt;

pub use builder::{BatchOptions, NewRecord, RecordBatchBuilder};
pub use records::{ControlType, Header, Headers, Record, Records};
pub use rewrite::{Rewrite, recompressed};
pub use scan::{Progress, RecordHead, RecordScan, RecordSummary};

use crate::{
    LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs,
    compression::CompressionError,
};

/// Bytes before the first record.
pub const HEADER_BYTES: usize = 61;
/// BaseOffset and BatchLength: what has to be there before the size of a batch is known.
pub const PREFIX_BYTES: usize = 12;
/// The largest batch that BatchLength can name.
pub const BATCH_BYTES_MAX: usize = PREFIX_BYTES + 0x7fff_ffff;
/// The only format that is written and read.
pub const MAGIC: u8 = 2;

/// Where the fields of the header lie.
pub mod position {
    /// `i64`.
    pub const BASE_OFFSET: usize = 0;
    /// `i32`: the bytes behind this field.
    pub const BATCH_LENGTH: usize = 8;
    /// `i32`.
    pub const PARTITION_LEADER_EPOCH: usize = 12;
    /// `i8`.
    pub const MAGIC: usize = 16;
    /// `u32`.
    pub const CRC: usize = 17;
    /// `i16`; the first byte under the CRC.
    pub const ATTRIBUTES: usize = 21;
    /// `i32`.
    pub const LAST_OFFSET_DELTA: usize = 23;
    /// `i64`.
    pub const BASE_TIMESTAMP: usize = 27;
    /// `i64`.
    pub const MAX_TIMESTAMP: usize = 35;
    /// `i64`.
    pub const PRODUCER_ID: usize = 43;
    /// `i16`.
    pub const PRODUCER_EPOCH: usize = 51;
    /// `i32`.
    pub const BASE_SEQUENCE: usize = 53;
    /// `i32`.
    pub const RECORD_COUNT: usize = 57;
}

const _: () = {
    assert!(position::BATCH_LENGTH == position::BASE_OFFSET + 8);
    assert!(position::PARTITION_LEADER_EPOCH == position::BATCH_LENGTH + 4);
    assert!(position::PARTITION_LEADER_EPOCH == PREFIX_BYTES);
    assert!(position::MAGIC == position::PARTITION_LEADER_EPOCH + 4);
    assert!(position::CRC == position::MAGIC + 1);
    assert!(position::ATTRIBUTES == position::CRC + 4);
    assert!(position::LAST_OFFSET_DELTA == position::ATTRIBUTES + 2);
    assert!(position::BASE_TIMESTAMP == position::LAST_OFFSET_DELTA + 4);
    assert!(position::MAX_TIMESTAMP == position::BASE_TIMESTAMP + 8);
    assert!(position::PRODUCER_ID == position::MAX_TIMESTAMP + 8);
    assert!(position::PRODUCER_EPOCH == position::PRODUCER_ID + 8);
    assert!(position::BASE_SEQUENCE == position::PRODUCER_EPOCH + 2);
    assert!(position::RECORD_COUNT == position::BASE_SEQUENCE + 4);
    assert!(HEADER_BYTES == position::RECORD_COUNT + 4);
};

/// Attributes: which bits mean what.
pub mod attribute {
    /// The codec.
    pub const COMPRESSION_MASK: i16 = 0b111;
    /// Set: MaxTimestamp is the broker's clock at the append.
    pub const LOG_APPEND_TIME: i16 = 1 << 3;
    /// Part of a transaction.
    pub const TRANSACTIONAL: i16 = 1 << 4;
    /// Its one record is a marker that consumers do not see.
    pub const CONTROL: i16 = 1 << 5;
    /// BaseTimestamp holds the time from which tombstones may be dropped (KIP-534).
    pub const DELETE_HORIZON: i16 = 1 << 6;
}

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy in xerial's framing.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// RFC 8878.
    Zstd,
}

impl Compression {
    /// Its number in a batch's attributes.
    #[must_use]
    pub fn code(self) -> i16 {
        match self {
            Compression::None => 0,
            Compression::Gzip => 1,
            Compression::Snappy => 2,
            Compression::Lz4 => 3,
            Compression::Zstd => 4,
        }
    }
}

/// What the timestamps of a batch tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// When the producer made the record.
    CreateTime,
    /// When the broker appended it.
    LogAppendTime,
}

/// What is wrong with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchError {
    /// The bytes end before the batch does.
    Truncated {
        /// What the batch takes, as far as that is known.
        needed: usize,
        /// What is there.
        available: usize,
    },
    /// BatchLength is negative or leaves no room for the header.
    InvalidLength(i32),
    /// The batch is larger than the caller takes.
    TooLarge {
        /// Its size.
        size: usize,
        /// What is allowed.
        max: usize,
    },
    /// Message formats 0 and 1 (before Kafka 0.11), or one that does not exist.
    UnsupportedMagic(u8),
    /// The CRC does not match the bytes.
    WrongCrc {
        /// What the header says.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// A codec that does not exist.
    UnknownCompression(i16),
    /// BaseOffset or LastOffsetDelta is negative, or their sum too large.
    InvalidOffsets,
    /// RecordCount is negative or not what the offsets say.
    InvalidRecordCount {
        /// RecordCount.
        count: i32,
        /// LastOffsetDelta.
        last_offset_delta: i32,
    },
    /// A record does not fit its batch.
    InvalidRecord {
        /// Its number in the batch, from 0.
        index: i32,
        /// What is wrong with it.
        what: &'static str,
    },
    /// What is behind the header is not what its codec writes, or too much.
    Undecodable(CompressionError),
}

impl fmt::Display for BatchError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BatchError::Truncated { needed, available } => {
                write!(formatter, "a batch of {needed} bytes, of which {available} are there")
            }
            BatchError::InvalidLength(length) => write!(formatter, "a batch length of {length}"),
            BatchError::TooLarge { size, max } => {
                write!(formatter, "a batch of {size} bytes, {max} are allowed")
            }
            BatchError::UnsupportedMagic(magic) => write!(formatter, "message format {magic}"),
            BatchError::WrongCrc { stored, computed } => {
                write!(formatter, "the CRC is {computed:#010x}, the header says {stored:#010x}")
            }
            BatchError::UnknownCompression(codec) => write!(formatter, "codec {codec}"),
            BatchError::InvalidOffsets => formatter.write_str("offsets out of range"),
            BatchError::InvalidRecordCount { count, last_offset_delta } => {
                write!(formatter, "{count} records with a last offset delta of {last_offset_delta}")
            }
            BatchError::InvalidRecord { index, what } => {
                write!(formatter, "record {index} of the batch: {what}")
            }
            BatchError::Undecodable(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for BatchError {}

/// How RecordCount has to relate to the offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// One record for each offset and at least one: what a producer sends.
    Dense,
    /// Records may be missing, all of them even: what compaction leaves.
    Sparse,
}

/// A batch whose length, format and offsets are in order; see the module for what else to ask.
#[derive(Clone, Copy)]
pub struct RecordBatch<'a> {
    /// Exactly the batch.
    bytes: &'a [u8],
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the range has N bytes")
}

impl<'a> RecordBatch<'a> {
    /// The size of the batch that starts here, from its first [`PREFIX_BYTES`] bytes.
    ///
    /// # Errors
    /// [`BatchError::Truncated`] when there are fewer, [`BatchError::InvalidLength`].
    pub fn size_of_first(bytes: &[u8]) -> Result<usize, BatchError> {
        if bytes.len() < PREFIX_BYTES {
            return Err(BatchError::Truncated { needed: PREFIX_BYTES, available: bytes.len() });
        }
        let length = i32::from_be_bytes(field(bytes, position::BATCH_LENGTH));
        let size = usize::try_from(length)
            .map_err(|_| BatchError::InvalidLength(length))?
            .saturating_add(PREFIX_BYTES);
        if size < HEADER_BYTES {
            return Err(BatchError::InvalidLength(length));
        }
        Ok(size)
    }

    /// The batch at the start of `bytes`, which may go on behind it.
    ///
    /// # Errors
    /// When it is not there in full, or its header lies. The CRC is not looked at.
    pub fn first(bytes: &'a [u8]) -> Result<RecordBatch<'a>, BatchError> {
        // The format comes first: the length of an older one is not comparable.
        if let Some(magic) = bytes.get(position::MAGIC)
            && *magic != MAGIC
        {
            return Err(BatchError::UnsupportedMagic(*magic));
        }
        let size = RecordBatch::size_of_first(bytes)?;
        let Some(bytes) = bytes.get(..size) else {
            return Err(BatchError::Truncated { needed: size, available: bytes.len() });
        };
        let batch = RecordBatch { bytes };
        batch.check_header()?;
        Ok(batch)
    }

    fn check_header(&self) -> Result<(), BatchError> {
        let codec = self.attributes() & attribute::COMPRESSION_MASK;
        if codec > 4 {
            return Err(BatchError::UnknownCompression(codec));
        }
        let (base, delta) = (self.base_offset().0, self.last_offset_delta());
        if base < 0 || delta < 0 || base.checked_add(i64::from(delta) + 1).is_none() {
            return Err(BatchError::InvalidOffsets);
        }
        if self.record_count() < 0 {
            return Err(self.invalid_count());
        }
        Ok(())
    }

    /// Checks RecordCount against the offsets.
    ///
    /// # Errors
    /// [`BatchError::InvalidRecordCount`].
    pub fn check_counts(&self, counts: Counts) -> Result<(), BatchError> {
        let count = i64::from(self.record_count());
        let offsets = i64::from(self.last_offset_delta()) + 1;
        let fits = match counts {
            Counts::Dense => count == offsets,
            Counts::Sparse => count <= offsets,
        };
        if fits { Ok(()) } else { Err(self.invalid_count()) }
    }

    fn invalid_count(&self) -> BatchError {
        BatchError::InvalidRecordCount {
            count: self.record_count(),
            last_offset_delta: self.last_offset_delta(),
        }
    }

    /// Checks the CRC: one pass over the batch.
    ///
    /// # Errors
    /// [`BatchError::WrongCrc`].
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        let stored = self.crc();
        let computed = crc32c::crc32c(&self.bytes[position::ATTRIBUTES..]);
        if stored == computed { Ok(()) } else { Err(BatchError::WrongCrc { stored, computed }) }
    }

    /// Checks every record of an uncompressed batch: lengths, counts, offset deltas. A compressed
    /// one has no records that can be seen without its codec, and passes.
    ///
    /// # Errors
    /// [`BatchError::InvalidRecord`].
    pub fn check_records(&self, counts: Counts) -> Result<(), BatchError> {
        if self.compression() != Compression::None {
            return Ok(());
        }
        self.summarize(counts).map(|_| ())
    }

    /// Checks every record of an uncompressed batch, as [`RecordBatch::check_records`], and tells
    /// what they have in common. For a compressed one see [`RecordScan`].
    ///
    /// # Errors
    /// [`BatchError::InvalidRecord`].
    pub fn summarize(&self, counts: Counts) -> Result<RecordSummary, BatchError> {
        let mut summary = RecordSummary { bytes: self.payload().len(), ..RecordSummary::EMPTY };
        let (mut records, mut previous) = (self.records(), -1);
        for index in 0.. {
            let (timestamp_delta, delta, has_key) = match records.next_plain() {
                Some(plain) => (plain.timestamp_delta, plain.offset_delta, plain.has_key),
                None => match records.next() {
                    Some(record) => {
                        let record = record?;
                        (record.timestamp_delta, record.offset_delta, record.key.is_some())
                    }
                    None => break,
                },
            };
            summary.add(self.timestamp_behind(timestamp_delta), has_key);
            let in_order = match counts {
                Counts::Dense => delta == index,
                Counts::Sparse => delta > previous && delta <= self.last_offset_delta(),
            };
            if !in_order {
                return Err(BatchError::InvalidRecord {
                    index,
                    what: "its offset is out of order",
                });
            }
            previous = delta;
        }
        Ok(summary)
    }

    /// The records of an uncompressed batch; those of a compressed one are noise.
    #[must_use]
    pub fn records(&self) -> Records<'a> {
        Records::new(&self.bytes[HEADER_BYTES..], self.record_count())
    }

    /// What lies behind the header: the records, compressed as the attributes say.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// The timestamp of one of its records.
    #[must_use]
    pub fn timestamp_of(&self, record: &Record<'_>) -> TimestampMs {
        self.timestamp_behind(record.timestamp_delta)
    }

    fn timestamp_behind(&self, delta: i64) -> TimestampMs {
        match self.timestamp_type() {
            TimestampType::CreateTime => TimestampMs(self.base_timestamp().0.wrapping_add(delta)),
            TimestampType::LogAppendTime => self.max_timestamp(),
        }
    }

    /// The offset of one of its records.
    #[must_use]
    pub fn offset_of(&self, record: &Record<'_>) -> Offset {
        self.base_offset().plus(i64::from(record.offset_delta))
    }

    /// From when on its tombstones, or its marker, may be dropped (KIP-534); `None` where nobody
    /// has set it yet.
    #[must_use]
    pub fn delete_horizon(&self) -> Option<TimestampMs> {
        let is_set = self.attributes() & attribute::DELETE_HORIZON != 0;
        is_set.then(|| self.base_timestamp())
    }

    /// All of its bytes.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// How many bytes it has.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The offset of its first record (of a compacted batch: of the first that was there).
    #[must_use]
    pub fn base_offset(&self) -> Offset {
        Offset(i64::from_be_bytes(field(self.bytes, position::BASE_OFFSET)))
    }

    /// The offset of its last record.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        self.base_offset().plus(i64::from(self.last_offset_delta()))
    }

    /// The offset behind its last record.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.last_offset().next()
    }

    /// The epoch of the leader that appended it.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        LeaderEpoch(i32::from_be_bytes(field(self.bytes, position::PARTITION_LEADER_EPOCH)))
    }

    /// The CRC in the header.
    #[must_use]
    pub fn crc(&self) -> u32 {
        u32::from_be_bytes(field(self.bytes, position::CRC))
    }

    /// See [`attribute`].
    #[must_use]
    pub fn attributes(&self) -> i16 {
        i16::from_be_bytes(field(self.bytes, position::ATTRIBUTES))
    }

    /// The codec.
    #[must_use]
    pub fn compression(&self) -> Compression {
        match self.attributes() & attribute::COMPRESSION_MASK {
            0 => Compression::None,
            1 => Compression::Gzip,
            2 => Compression::Snappy,
            3 => Compression::Lz4,
            _ => Compression::Zstd,
        }
    }

    /// What its timestamps tell.
    #[must_use]
    pub fn timestamp_type(&self) -> TimestampType {
        if self.attributes() & attribute::LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// True for a part of a transaction.
    #[must_use]
    pub fn is_transactional(&self) -> bool {
        self.attributes() & attribute::TRANSACTIONAL != 0
    }

    /// True for markers, which no consumer sees.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.attributes() & attribute::CONTROL != 0
    }

    /// LastOffset - BaseOffset.
    #[must_use]
    pub fn last_offset_delta(&self) -> i32 {
        i32::from_be_bytes(field(self.bytes, position::LAST_OFFSET_DELTA))
    }

    /// What the records' timestamp deltas count from.
    #[must_use]
    pub fn base_timestamp(&self) -> TimestampMs {
        TimestampMs(i64::from_be_bytes(field(self.bytes, position::BASE_TIMESTAMP)))
    }

    /// The latest timestamp in the batch.
    #[must_use]
    pub fn max_timestamp(&self) -> TimestampMs {
        TimestampMs(i64::from_be_bytes(field(self.bytes, position::MAX_TIMESTAMP)))
    }

    /// Who produced it; [`ProducerId::NONE`] for a producer that is not idempotent.
    #[must_use]
    pub fn producer_id(&self) -> ProducerId {
        ProducerId(i64::from_be_bytes(field(self.bytes, position::PRODUCER_ID)))
    }

    /// Which incarnation of it.
    #[must_use]
    pub fn producer_epoch(&self) -> ProducerEpoch {
        ProducerEpoch(i16::from_be_bytes(field(self.bytes, position::PRODUCER_EPOCH)))
    }

    /// The sequence of its first record; -1 without a producer id and for control batches.
    #[must_use]
    pub fn base_sequence(&self) -> Sequence {
        Sequence(i32::from_be_bytes(field(self.bytes, position::BASE_SEQUENCE)))
    }

    /// The sequence of its last record.
    #[must_use]
    pub fn last_sequence(&self) -> Sequence {
        if self.base_sequence().0 < 0 {
            return self.base_sequence();
        }
        self.base_sequence().plus(self.last_offset_delta())
    }

    /// How many records it holds.
    #[must_use]
    pub fn record_count(&self) -> i32 {
        i32::from_be_bytes(field(self.bytes, position::RECORD_COUNT))
    }
}

impl fmt::Debug for RecordBatch<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RecordBatch")
            .field("base_offset", &self.base_offset().0)
            .field("last_offset_delta", &self.last_offset_delta())
            .field("size", &self.size())
            .field("leader_epoch", &self.leader_epoch().0)
            .finish_non_exhaustive()
    }
}

/// The batches of a byte string, one behind the other. Ends after the first error.
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    rest: &'a [u8],
}

/// Walks the batches of `bytes`.
#[must_use]
pub fn batches(bytes: &[u8]) -> Batches<'_> {
    Batches { rest: bytes }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<RecordBatch<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let batch = RecordBatch::first(self.rest);
        self.rest = match &batch {
            Ok(batch) => &self.rest[batch.size()..],
            Err(_) => &[],
        };
        Some(batch)
    }
}
