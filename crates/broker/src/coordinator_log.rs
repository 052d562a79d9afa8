//! The partition of a coordinator: its records in the log, read when it is loaded and appended when
//! it has decided.

use bytes::Bytes;
use coordinator::{
    Record, TransactionEnd, Write, WriteError, WriteForm,
    transactions::{Outcome, ProducerIdentity},
};
use model::{
    LeaderEpoch, Offset, TimestampMs,
    record_batch::{BatchOptions, NewRecord, RecordBatch, RecordBatchBuilder, attribute, batches},
};
use storage::{AppendError, AppendOptions, AppendOrigin, Appended, FirstBatch, Log, Verification};
use wire::{control_record::ControlRecord, end_txn_marker::EndTxnMarker};

use crate::{
    error_map,
    shard::{Partition, Shard},
};

/// How much of a partition is read at a time when it is loaded.
const LOAD_BYTES: usize = 1 << 20;

/// Replays all batches of a partition.
///
/// # Errors
/// When the log cannot be read, or the coordinator cannot take in what it says.
pub(crate) async fn load<E: std::fmt::Display>(
    log: &Log,
    mut replay: impl FnMut(&RecordBatch<'_>) -> Result<Vec<wire::Error>, E>,
) -> Result<(), String> {
    let mut from = log.log_start_offset();
    loop {
        let end = log.high_watermark();
        if from >= end {
            return Ok(());
        }
        let read = log.read(from, LOAD_BYTES, FirstBatch::Whole, end).await;
        let read = read.map_err(|error| error.to_string())?;
        if read.batches.is_empty() {
            return Ok(());
        }
        let bytes = read.batches.concat();
        for batch in batches(&bytes) {
            let batch = batch.map_err(|error| error.to_string())?;
            let offset = batch.base_offset();
            let skipped = replay(&batch).map_err(|error| format!("at offset {offset}: {error}"))?;
            for error in skipped {
                tracing::warn!(%offset, %error, "a coordinator's record skipped");
            }
        }
        from = read.next_offset;
    }
}

/// Appends what a coordinator has decided; gives the offset behind it.
///
/// # Errors
/// When nothing of it is in the log.
pub(crate) fn append(
    shard: &Shard,
    partition: &Partition,
    write: &Write,
    verification: Verification,
) -> Result<Offset, WriteError> {
    let now_ms = shard.runtime.wall_clock_ms();
    let (batch, verification) = match write.form {
        WriteForm::Plain => {
            (batch_of(&write.records, BatchOptions::default(), now_ms), verification)
        }
        WriteForm::Transactional(producer) => {
            let options = of_producer(producer, attribute::TRANSACTIONAL);
            (batch_of(&write.records, options, now_ms), verification)
        }
        WriteForm::Marker(end) => {
            (marker(end, now_ms), Verification::Marker(end.transaction_version))
        }
    };
    append_batch(shard, partition, &batch, verification).map(|appended| appended.end()).map_err(
        |error| match error {
            AppendError::MessageTooLarge { .. } | AppendError::RecordListTooLarge { .. } => {
                WriteError::TooLarge
            }
            AppendError::Fenced(_) | AppendError::Closed => WriteError::NotCoordinator,
            AppendError::InvalidProducerEpoch { .. }
            | AppendError::CoordinatorFenced { .. }
            | AppendError::NotInTransaction(_)
            | AppendError::TransactionOpen(_)
            | AppendError::OutOfOrderSequence { .. } => {
                WriteError::Refused(error_map::append(&error))
            }
            AppendError::UnsupportedFormat(_)
            | AppendError::Corrupt(_)
            | AppendError::InvalidRecord(_)
            | AppendError::RecordsRefused(_)
            | AppendError::UnexpectedOffset { .. }
            | AppendError::StaleLeaderEpoch { .. }
            | AppendError::NoSpace
            | AppendError::Busy => {
                tracing::warn!(partition = %partition.name(), %error, "not appended");
                WriteError::Unavailable
            }
        },
    )
}

/// Appends the marker that ends a transaction.
///
/// # Errors
/// When it is not in the log.
pub(crate) fn append_marker(
    shard: &Shard,
    partition: &Partition,
    end: TransactionEnd,
) -> Result<Appended, AppendError> {
    let batch = marker(end, shard.runtime.wall_clock_ms());
    append_batch(shard, partition, &batch, Verification::Marker(end.transaction_version))
}

fn append_batch(
    shard: &Shard,
    partition: &Partition,
    batch: &Bytes,
    verification: Verification,
) -> Result<Appended, AppendError> {
    let options = AppendOptions {
        leader_epoch: partition.leader_epoch(),
        origin: AppendOrigin::Coordinator,
        now_ms: shard.runtime.wall_clock_ms(),
    };
    partition.log.append_verified(batch, &options, None, verification)
}

fn of_producer(producer: ProducerIdentity, flags: i16) -> BatchOptions {
    BatchOptions {
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        flags,
        leader_epoch: LeaderEpoch(-1),
        ..BatchOptions::default()
    }
}

fn batch_of(records: &[Record], options: BatchOptions, now_ms: i64) -> Bytes {
    let mut builder = RecordBatchBuilder::new(options);
    for record in records {
        builder.append(&NewRecord {
            timestamp: TimestampMs(now_ms),
            key: Some(&record.key),
            value: record.value.as_deref(),
            headers: &[],
        });
    }
    builder.build()
}

fn marker(end: TransactionEnd, now_ms: i64) -> Bytes {
    let body = EndTxnMarker { coordinator_epoch: end.coordinator_epoch };
    let record = match end.outcome {
        Outcome::Commit => ControlRecord::Commit(body),
        Outcome::Abort => ControlRecord::Abort(body),
    };
    let (key, value) = record.encode().expect("a marker has no field that may be too long");
    let flags = attribute::TRANSACTIONAL | attribute::CONTROL;
    let record = Record { key, value: Some(value) };
    batch_of(&[record], of_producer(end.producer, flags), now_ms)
}
