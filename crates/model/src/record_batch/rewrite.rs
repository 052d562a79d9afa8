//! What compaction makes of a batch: the same offsets, producer and sequences with fewer records,
//! and a delete horizon where it has tombstones (KIP-534). And what a topic with a codec of its own
//! makes of one: the same records in that codec.
//!
//! BaseTimestamp stays what it was, so that kept records are copied as they are; only where a
//! delete horizon takes its place are their timestamp deltas written anew.

use super::{
    Compression, HEADER_BYTES, PREFIX_BYTES, Record, RecordBatch, TimestampType, attribute,
    position,
};
use crate::TimestampMs;

/// A batch that takes the place of another one.
pub struct Rewrite<'a> {
    original: RecordBatch<'a>,
    delete_horizon: Option<TimestampMs>,
    count: i32,
    max_timestamp: TimestampMs,
}

impl<'a> Rewrite<'a> {
    /// Begins without records. `delete_horizon` is that of the new batch.
    #[must_use]
    pub fn new(original: RecordBatch<'a>, delete_horizon: Option<TimestampMs>) -> Rewrite<'a> {
        Rewrite { original, delete_horizon, count: 0, max_timestamp: TimestampMs::NONE }
    }

    /// Appends a record of the original to `target`, the uncompressed records of the new batch.
    ///
    /// # Panics
    /// When there are more than the original had.
    pub fn keep(&mut self, record: &Record<'_>, target: &mut Vec<u8>) {
        assert!(self.count < self.original.record_count(), "records of the original");
        self.count += 1;
        self.max_timestamp = self.max_timestamp.max(self.original.timestamp_of(record));
        match self.delete_horizon {
            Some(horizon) if horizon != self.original.base_timestamp() => {
                let timestamp =
                    self.original.base_timestamp().0.wrapping_add(record.timestamp_delta);
                record.put_with_timestamp_delta(timestamp.wrapping_sub(horizon.0), target);
            }
            Some(_) | None => target.extend_from_slice(record.bytes()),
        }
    }

    /// Ends the batch. `payload` is what [`Rewrite::keep`] wrote, compressed with the original's
    /// codec.
    ///
    /// # Panics
    /// When no record was kept, or the batch passes what its length field can name.
    #[must_use]
    pub fn build(self, payload: &[u8]) -> Vec<u8> {
        assert!(self.count > 0, "a batch without records is an emptied one");
        let original = &self.original;
        let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
        bytes.extend_from_slice(&original.bytes()[..HEADER_BYTES]);
        bytes.extend_from_slice(payload);
        if let Some(horizon) = self.delete_horizon {
            let attributes = original.attributes() | attribute::DELETE_HORIZON;
            put(&mut bytes, position::ATTRIBUTES, &attributes.to_be_bytes());
            put(&mut bytes, position::BASE_TIMESTAMP, &horizon.0.to_be_bytes());
        }
        if original.timestamp_type() == TimestampType::CreateTime {
            put(&mut bytes, position::MAX_TIMESTAMP, &self.max_timestamp.0.to_be_bytes());
        }
        put(&mut bytes, position::RECORD_COUNT, &self.count.to_be_bytes());
        seal(bytes)
    }

    /// The original without its records: what is left where its producer's last sequence, or the
    /// end of a segment, must not be lost.
    #[must_use]
    pub fn emptied(original: &RecordBatch<'_>) -> Vec<u8> {
        let mut bytes = original.bytes()[..HEADER_BYTES].to_vec();
        let kept = attribute::LOG_APPEND_TIME | attribute::TRANSACTIONAL | attribute::CONTROL;
        let attributes = original.attributes() & kept;
        put(&mut bytes, position::ATTRIBUTES, &attributes.to_be_bytes());
        put(&mut bytes, position::BASE_TIMESTAMP, &TimestampMs::NONE.0.to_be_bytes());
        put(&mut bytes, position::RECORD_COUNT, &0i32.to_be_bytes());
        seal(bytes)
    }
}

/// The batch with the same records in another codec: `payload` is what that makes of them.
///
/// # Panics
/// When it passes what its length field can name.
#[must_use]
pub fn recompressed(original: &RecordBatch<'_>, codec: Compression, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
    bytes.extend_from_slice(&original.bytes()[..HEADER_BYTES]);
    bytes.extend_from_slice(payload);
    let attributes = original.attributes() & !attribute::COMPRESSION_MASK | codec.code();
    put(&mut bytes, position::ATTRIBUTES, &attributes.to_be_bytes());
    seal(bytes)
}

fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    bytes[at..at + field.len()].copy_from_slice(field);
}

/// Writes the length and the CRC.
fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let length = i32::try_from(bytes.len() - PREFIX_BYTES).expect("no longer than a batch may be");
    put(&mut bytes, position::BATCH_LENGTH, &length.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[position::ATTRIBUTES..]);
    put(&mut bytes, position::CRC, &crc.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Offset, ProducerEpoch, ProducerId, Sequence,
        compression::{compress, decompress},
        record_batch::{BatchOptions, Counts, NewRecord, RecordBatchBuilder, Records},
    };

    fn original(timestamp_type: TimestampType) -> Vec<u8> {
        let mut builder = RecordBatchBuilder::new(BatchOptions {
            base_offset: Offset(40),
            producer_id: ProducerId(9),
            producer_epoch: ProducerEpoch(2),
            base_sequence: Sequence(5),
            timestamp_type,
            ..BatchOptions::default()
        });
        for index in 0..6i64 {
            builder.append(&NewRecord {
                timestamp: TimestampMs(1000 + index * 100),
                key: Some(b"key"),
                value: (index != 3).then_some(b"value".as_slice()),
                headers: &[("name", Some(b"header"))],
            });
        }
        builder.build().to_vec()
    }

    fn rewritten(bytes: &[u8], horizon: Option<TimestampMs>) -> Vec<u8> {
        let batch = RecordBatch::first(bytes).unwrap();
        let mut rewrite = Rewrite::new(batch, horizon);
        let mut payload = Vec::new();
        for record in batch.records().map(Result::unwrap) {
            if matches!(record.offset_delta, 1 | 3) {
                rewrite.keep(&record, &mut payload);
            }
        }
        rewrite.build(&payload)
    }

    #[test]
    fn kept_records_are_what_they_were_with_and_without_a_horizon() {
        for timestamp_type in [TimestampType::CreateTime, TimestampType::LogAppendTime] {
            let bytes = original(timestamp_type);
            let before = RecordBatch::first(&bytes).unwrap();
            for horizon in [None, Some(TimestampMs(1 << 45)), Some(TimestampMs(7))] {
                let new = rewritten(&bytes, horizon);
                let batch = RecordBatch::first(&new).unwrap();
                batch.verify_crc().unwrap();
                batch.check_counts(Counts::Sparse).unwrap();
                batch.check_records(Counts::Sparse).unwrap();
                assert_eq!(batch.delete_horizon(), horizon);
                assert_eq!(batch.base_offset(), before.base_offset());
                assert_eq!(batch.last_offset(), before.last_offset());
                assert_eq!(batch.base_sequence(), before.base_sequence());
                assert_eq!(batch.last_sequence(), before.last_sequence());
                let newest = match timestamp_type {
                    TimestampType::CreateTime => TimestampMs(1300),
                    TimestampType::LogAppendTime => before.max_timestamp(),
                };
                assert_eq!(batch.max_timestamp(), newest);
                let (kept, all): (Vec<_>, Vec<_>) =
                    (batch.records().flatten().collect(), before.records().flatten().collect());
                assert_eq!(kept.len(), 2);
                for (record, old) in kept.iter().zip([&all[1], &all[3]]) {
                    assert_eq!(batch.offset_of(record), before.offset_of(old));
                    assert_eq!(batch.timestamp_of(record), before.timestamp_of(old));
                    assert_eq!((record.key, record.value), (old.key, old.value));
                    assert!(record.headers().eq(old.headers()));
                }
            }
        }
    }

    #[test]
    fn a_recompressed_batch_differs_in_its_codec_alone() {
        let bytes = original(TimestampType::CreateTime);
        let before = RecordBatch::first(&bytes).unwrap();
        let payload = compress(Compression::Zstd, before.payload());
        let new = recompressed(&before, Compression::Zstd, &payload);
        let batch = RecordBatch::first(&new).unwrap();
        batch.verify_crc().unwrap();
        assert_eq!(batch.compression(), Compression::Zstd);
        let plain = decompress(Compression::Zstd, batch.payload(), 10_000).unwrap();
        assert_eq!(recompressed(&batch, Compression::None, &plain), bytes);
    }

    #[test]
    fn an_emptied_batch_keeps_offsets_producer_and_sequence() {
        let bytes = original(TimestampType::CreateTime);
        let before = RecordBatch::first(&bytes).unwrap();
        let new = Rewrite::emptied(&before);
        let batch = RecordBatch::first(&new).unwrap();
        batch.verify_crc().unwrap();
        batch.check_counts(Counts::Sparse).unwrap();
        batch.check_records(Counts::Sparse).unwrap();
        assert_eq!((new.len(), batch.record_count()), (HEADER_BYTES, 0));
        assert_eq!(batch.base_offset(), before.base_offset());
        assert_eq!(batch.last_offset(), before.last_offset());
        assert_eq!(batch.last_sequence(), before.last_sequence());
        assert_eq!(batch.max_timestamp(), before.max_timestamp());
        assert_eq!(Records::of_decompressed(batch.payload(), 0).count(), 0);
    }
}
