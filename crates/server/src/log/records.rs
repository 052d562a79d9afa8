//! The records within a batch: those of Kafka's own topics by name, others as they are.

use std::{borrow::Cow, fmt::Debug, io::Write};

use model::{
    compression::decompress,
    record_batch::{Compression, HEADER_BYTES, Record, RecordBatch, Records},
};
use wire::{control_record::ControlRecord, coordinator_record, metadata_frame};

use super::report::{Item, Report};

/// What the records of one batch may take when decompressed.
const RECORDS_BYTES_MAX: usize = 256 << 20;
/// How much of a key or value is shown.
const SHOWN_BYTES: usize = 64;

/// What the records of a log mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// `__cluster_metadata` and its snapshots.
    Metadata,
    /// `__consumer_offsets`.
    Groups,
    /// `__transaction_state`.
    Transactions,
    /// Somebody's data.
    Data,
}

impl Meaning {
    pub(super) fn of_topic(topic: &str) -> Meaning {
        match topic {
            "__cluster_metadata" => Meaning::Metadata,
            "__consumer_offsets" => Meaning::Groups,
            "__transaction_state" => Meaning::Transactions,
            _ => Meaning::Data,
        }
    }
}

/// Reports on the records of a batch whose CRC is right.
pub(super) fn report<W: Write>(batch: &RecordBatch<'_>, meaning: Meaning, report: &mut Report<W>) {
    let count = batch.record_count();
    let bytes = match batch.compression() {
        Compression::None => Cow::Borrowed(&batch.bytes()[HEADER_BYTES..]),
        codec
        @ (Compression::Gzip | Compression::Snappy | Compression::Lz4 | Compression::Zstd) => {
            match decompress(codec, &batch.bytes()[HEADER_BYTES..], RECORDS_BYTES_MAX) {
                Ok(bytes) => Cow::Owned(bytes),
                Err(error) => {
                    let offset = batch.base_offset();
                    return report
                        .problem(format!("the records of the batch at offset {offset}: {error}"));
                }
            }
        }
    };
    let mut found = 0;
    for record in Records::of_decompressed(&bytes, count) {
        match record {
            Ok(record) => {
                found += 1;
                if report.shows_records() {
                    report.item(item(batch, &record, meaning));
                }
            }
            Err(error) => {
                let offset = batch.base_offset();
                return report.problem(format!("the batch at offset {offset}: {error}"));
            }
        }
    }
    if found != count {
        let offset = batch.base_offset();
        report.problem(format!("the batch at offset {offset} has {found} of {count} records"));
    }
}

fn item(batch: &RecordBatch<'_>, record: &Record<'_>, meaning: Meaning) -> Item {
    let offset = batch.base_offset().plus(i64::from(record.offset_delta));
    let timestamp = batch.base_timestamp().0.saturating_add(record.timestamp_delta);
    let item = Item::new("record").number("offset", offset.0).number("timestamp", timestamp);
    let (key, value) = (record.key.unwrap_or_default(), record.value);
    if batch.is_control() {
        return decoded(item, ControlRecord::decode(key, value.unwrap_or_default()));
    }
    match meaning {
        Meaning::Metadata => {
            decoded(item, metadata_frame::decode_metadata_record(value.unwrap_or_default()))
        }
        Meaning::Groups => {
            decoded(item, coordinator_record::decode_consumer_offsets_record(key, value))
        }
        Meaning::Transactions => {
            decoded(item, coordinator_record::decode_transaction_state_record(key, value))
        }
        Meaning::Data => {
            let item = bytes_of(item, ("key_bytes", "key"), record.key);
            let item = bytes_of(item, ("value_bytes", "value"), value);
            let headers = record.headers().count();
            item.size("headers", u64::try_from(headers).unwrap_or(u64::MAX))
        }
    }
}

fn decoded<T: Debug, E: std::fmt::Display>(item: Item, record: Result<T, E>) -> Item {
    match record {
        Ok(record) => item.text("content", format!("{record:?}")),
        Err(error) => item.text("not_understood", error),
    }
}

/// How long it is (-1: null) and its beginning.
fn bytes_of(item: Item, names: (&'static str, &'static str), bytes: Option<&[u8]>) -> Item {
    let Some(bytes) = bytes else { return item.number(names.0, -1) };
    let item = item.size(names.0, u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    item.text(names.1, bytes[..bytes.len().min(SHOWN_BYTES)].escape_ascii())
}
