//! Writes an uncompressed batch: for the records that the broker makes itself (metadata,
//! coordinators, markers), for clients and for tests.

use bytes::Bytes;

use super::{
    BATCH_BYTES_MAX, HEADER_BYTES, MAGIC, PREFIX_BYTES, TimestampType, attribute, position,
};
use crate::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs};

/// The fields of a batch's header that are not found from its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchOptions {
    /// The offset of the first record.
    pub base_offset: Offset,
    /// The epoch of the leader that appends it.
    pub leader_epoch: LeaderEpoch,
    /// Who produces it.
    pub producer_id: ProducerId,
    /// Which incarnation of it.
    pub producer_epoch: ProducerEpoch,
    /// The sequence of the first record.
    pub base_sequence: Sequence,
    /// What the timestamps tell.
    pub timestamp_type: TimestampType,
    /// [`attribute::TRANSACTIONAL`] and [`attribute::CONTROL`], or 0.
    pub flags: i16,
}

impl Default for BatchOptions {
    /// Offset 0, no leader epoch, no producer, data.
    fn default() -> BatchOptions {
        BatchOptions {
            base_offset: Offset::ZERO,
            leader_epoch: LeaderEpoch(-1),
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch(-1),
            base_sequence: Sequence(-1),
            timestamp_type: TimestampType::CreateTime,
            flags: 0,
        }
    }
}

/// A record to be written.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewRecord<'a> {
    /// Its timestamp.
    pub timestamp: TimestampMs,
    /// `None`: null.
    pub key: Option<&'a [u8]>,
    /// `None`: null.
    pub value: Option<&'a [u8]>,
    /// Names and values.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
}

/// A batch being written.
pub struct RecordBatchBuilder {
    bytes: Vec<u8>,
    /// One record, before its length is known. Kept for its memory.
    record: Vec<u8>,
    options: BatchOptions,
    count: i32,
    base_timestamp: TimestampMs,
    max_timestamp: TimestampMs,
}

impl RecordBatchBuilder {
    /// An empty batch.
    #[must_use]
    pub fn new(options: BatchOptions) -> RecordBatchBuilder {
        RecordBatchBuilder {
            bytes: vec![0; HEADER_BYTES],
            record: Vec::new(),
            options,
            count: 0,
            base_timestamp: TimestampMs::NONE,
            max_timestamp: TimestampMs::NONE,
        }
    }

    /// Adds a record; its offset is the next one.
    ///
    /// # Panics
    /// When the batch passes what its length field can name.
    pub fn append(&mut self, new: &NewRecord<'_>) {
        if self.count == 0 {
            self.base_timestamp = new.timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(new.timestamp);
        let record = &mut self.record;
        record.clear();
        record.push(0);
        put_varlong(record, new.timestamp.0.wrapping_sub(self.base_timestamp.0));
        put_varlong(record, i64::from(self.count));
        put_nullable(record, new.key);
        put_nullable(record, new.value);
        put_length(record, new.headers.len());
        for (name, value) in new.headers {
            put_length(record, name.len());
            record.extend_from_slice(name.as_bytes());
            put_nullable(record, *value);
        }
        put_length(&mut self.bytes, self.record.len());
        self.bytes.extend_from_slice(&self.record);
        assert!(self.bytes.len() <= BATCH_BYTES_MAX, "a batch beyond its length field");
        self.count += 1;
    }

    /// How many records it has.
    #[must_use]
    pub fn record_count(&self) -> i32 {
        self.count
    }

    /// How many bytes it has.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// Ends the batch.
    ///
    /// # Panics
    /// When it has no record.
    #[must_use]
    pub fn build(mut self) -> Bytes {
        assert!(self.count > 0, "a batch has at least one record");
        let options = self.options;
        let length = i32::try_from(self.bytes.len() - PREFIX_BYTES).expect("checked in append");
        let timestamp_type = match options.timestamp_type {
            TimestampType::CreateTime => 0,
            TimestampType::LogAppendTime => attribute::LOG_APPEND_TIME,
        };
        self.put(position::BASE_OFFSET, &options.base_offset.0.to_be_bytes());
        self.put(position::BATCH_LENGTH, &length.to_be_bytes());
        self.put(position::PARTITION_LEADER_EPOCH, &options.leader_epoch.0.to_be_bytes());
        self.put(position::MAGIC, &[MAGIC]);
        self.put(position::ATTRIBUTES, &(options.flags | timestamp_type).to_be_bytes());
        self.put(position::LAST_OFFSET_DELTA, &(self.count - 1).to_be_bytes());
        self.put(position::BASE_TIMESTAMP, &self.base_timestamp.0.to_be_bytes());
        self.put(position::MAX_TIMESTAMP, &self.max_timestamp.0.to_be_bytes());
        self.put(position::PRODUCER_ID, &options.producer_id.0.to_be_bytes());
        self.put(position::PRODUCER_EPOCH, &options.producer_epoch.0.to_be_bytes());
        self.put(position::BASE_SEQUENCE, &options.base_sequence.0.to_be_bytes());
        self.put(position::RECORD_COUNT, &self.count.to_be_bytes());
        let crc = crc32c::crc32c(&self.bytes[position::ATTRIBUTES..]);
        self.put(position::CRC, &crc.to_be_bytes());
        Bytes::from(self.bytes)
    }

    fn put(&mut self, at: usize, field: &[u8]) {
        self.bytes[at..at + field.len()].copy_from_slice(field);
    }
}

pub(super) fn put_varlong(target: &mut Vec<u8>, value: i64) {
    let mut rest = (value << 1 ^ value >> 63).cast_unsigned();
    while rest >= 0x80 {
        target.push(u8::try_from(rest & 0x7f).expect("seven bits") | 0x80);
        rest >>= 7;
    }
    target.push(u8::try_from(rest).expect("seven bits"));
}

pub(super) fn put_length(target: &mut Vec<u8>, length: usize) {
    put_varlong(target, i64::try_from(length).expect("memory is below 2^63"));
}

fn put_nullable(target: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        None => put_varlong(target, -1),
        Some(bytes) => {
            put_length(target, bytes.len());
            target.extend_from_slice(bytes);
        }
    }
}
