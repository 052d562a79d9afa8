//! Compaction: what it may drop and what it must not, at any moment and after any crash.

mod crash;
mod leftovers;
mod rules;

use std::collections::BTreeMap;

use model::{
    compression::compress,
    record_batch::{Compression, ControlType, RecordBatch, Records, attribute, position},
    topic_config::CleanupPolicy,
};

use super::*;

/// One record as a consumer sees it, or one that was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    timestamp: i64,
}

/// Small segments that are compacted as soon as there is something to compact.
fn compacted_config() -> TopicConfig {
    TopicConfig {
        cleanup_policy: CleanupPolicy { compact: true, delete: false },
        min_cleanable_dirty_ratio: 0.0,
        ..TopicConfig::clone(&small_config())
    }
}

/// The same, compacted only when a test says so.
fn quiet_config() -> TopicConfig {
    TopicConfig { min_cleanable_dirty_ratio: 1.0, ..compacted_config() }
}

/// Who writes a batch, and how.
#[derive(Clone, Copy)]
struct Writer {
    producer: ProducerId,
    sequence: i32,
    flags: i16,
    codec: Compression,
}

const PLAIN: Writer =
    Writer { producer: ProducerId::NONE, sequence: -1, flags: 0, codec: Compression::None };

/// A batch of keys and values.
fn keyed(records: &[(&[u8], Option<&[u8]>)], writer: Writer) -> Bytes {
    let mut builder = RecordBatchBuilder::new(BatchOptions {
        producer_id: writer.producer,
        producer_epoch: ProducerEpoch(if writer.producer.0 < 0 { -1 } else { 0 }),
        base_sequence: Sequence(writer.sequence),
        flags: writer.flags,
        ..BatchOptions::default()
    });
    for (index, (key, value)) in (0..).zip(records) {
        let timestamp = TimestampMs(NOW + index);
        builder.append(&NewRecord {
            timestamp,
            key: Some(key),
            value: *value,
            headers: &[("header", Some(b"value"))],
        });
    }
    with_codec(&builder.build(), writer.codec)
}

/// The same batch, compressed.
fn with_codec(batch: &[u8], codec: Compression) -> Bytes {
    let payload = compress(codec, RecordBatch::first(batch).unwrap().payload());
    let number = match codec {
        Compression::None => 0i16,
        Compression::Gzip => 1,
        Compression::Snappy => 2,
        Compression::Lz4 => 3,
        Compression::Zstd => 4,
    };
    let attributes = RecordBatch::first(batch).unwrap().attributes() | number;
    let mut bytes = batch[..model::record_batch::HEADER_BYTES].to_vec();
    bytes.extend_from_slice(&payload);
    let length = i32::try_from(bytes.len() - 12).unwrap();
    bytes[position::BATCH_LENGTH..][..4].copy_from_slice(&length.to_be_bytes());
    bytes[position::ATTRIBUTES..][..2].copy_from_slice(&attributes.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[position::ATTRIBUTES..]);
    bytes[position::CRC..][..4].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

/// A transaction's marker.
fn marker(producer: ProducerId, end: ControlType) -> Bytes {
    let mut builder = RecordBatchBuilder::new(BatchOptions {
        producer_id: producer,
        producer_epoch: ProducerEpoch(0),
        flags: attribute::TRANSACTIONAL | attribute::CONTROL,
        ..BatchOptions::default()
    });
    builder.append(&NewRecord {
        timestamp: TimestampMs(NOW),
        key: Some(&end.key()),
        value: Some(&[0, 0, 0, 0, 0, 0]),
        headers: &[],
    });
    builder.build()
}

fn append_marker(log: &Log, producer: ProducerId, end: ControlType) -> Offset {
    let options = AppendOptions { origin: AppendOrigin::Coordinator, ..options(NOW) };
    log.append(&marker(producer, end), &options).unwrap().base_offset
}

/// Every batch up to the high watermark, with the offset, and its records.
async fn batches_of(log: &Log) -> Vec<(Vec<u8>, Vec<(i64, Seen)>)> {
    let mut found = Vec::new();
    let mut from = log.log_start_offset();
    let up_to = log.high_watermark();
    let mut size = 1;
    while from < up_to {
        size = (size * 7 + 1) % 30_000;
        let read = log.read(from, size, FirstBatch::Whole, up_to).await.unwrap();
        if read.batches.is_empty() {
            assert!(read.next_offset == from, "an empty answer");
            panic!("nothing at {from} of {up_to}");
        }
        let bytes = read.batches.concat();
        for batch in batches(&bytes) {
            let batch = batch.unwrap();
            batch.verify_crc().unwrap();
            found.push((batch.bytes().to_vec(), records_of(&batch, from)));
        }
        from = read.next_offset;
    }
    found
}

fn records_of(batch: &RecordBatch<'_>, from: Offset) -> Vec<(i64, Seen)> {
    let payload = if batch.record_count() == 0 {
        Vec::new()
    } else {
        model::compression::decompress(batch.compression(), batch.payload(), 1 << 24).unwrap()
    };
    let records = Records::of_decompressed(&payload, batch.record_count()).map(Result::unwrap);
    records
        .filter(|record| batch.offset_of(record) >= from)
        .map(|record| {
            assert!(batch.is_control() || record.headers().count() == 1);
            let seen = Seen {
                key: record.key.unwrap_or_default().to_vec(),
                value: record.value.map(<[u8]>::to_vec),
                timestamp: batch.timestamp_of(&record).0,
            };
            (batch.offset_of(&record).0, seen)
        })
        .collect()
}

/// The data records of the log, by offset, those of aborted transactions too.
async fn data_of(log: &Log) -> BTreeMap<i64, Seen> {
    let mut data = BTreeMap::new();
    let mut last = -1;
    for (bytes, records) in batches_of(log).await {
        let batch = RecordBatch::first(&bytes).unwrap();
        for (offset, seen) in records {
            assert!(offset > last, "offsets rise");
            last = offset;
            if !batch.is_control() {
                data.insert(offset, seen);
            }
        }
    }
    data
}

async fn durable(log: &Log) {
    log.wait_durable(log.log_end_offset()).await.unwrap();
}

/// Rolls, and waits until all but the active segment may be compacted.
async fn settle(log: &Log) {
    durable(log).await;
    log.roll();
    log.checkpoint().await.unwrap();
}
