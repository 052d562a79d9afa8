//! What of a produce is refused by a look at the head of its records.

use model::{
    ErrorCode,
    record_batch::{BatchError, Compression, RecordBatch},
};

/// Whether there is exactly one batch, as Produce wants it since version 3. What is wrong within
/// it is left to the log.
pub(super) fn is_one_batch(records: &[u8]) -> bool {
    match RecordBatch::size_of_first(records) {
        Ok(size) => size == records.len(),
        Err(error) => !matches!(error, BatchError::Truncated { .. }),
    }
}

/// Whether there is something to look into before the append.
pub(super) fn is_compressed(records: &[u8]) -> bool {
    RecordBatch::first(records).is_ok_and(|batch| batch.compression() != Compression::None)
}

/// What there is to append to a partition that is there; of several errors the one that Apache Kafka
/// tells.
pub(super) fn sound(
    records: Option<&[u8]>,
    refuses_zstd: bool,
    knows_acks: bool,
    is_closed: bool,
) -> Result<&[u8], ErrorCode> {
    let records = records.filter(|records| !records.is_empty()).ok_or(ErrorCode::InvalidRecord)?;
    if refuses_zstd && is_zstd(records) {
        return Err(ErrorCode::UnsupportedCompressionType);
    }
    if !knows_acks {
        return Err(unless_no_batch(records, ErrorCode::InvalidRequiredAcks));
    }
    if is_closed {
        return Err(unless_no_batch(records, ErrorCode::InvalidTopicException));
    }
    Ok(records)
}

/// The error of a partition whose records are one batch, as far as its header says.
fn unless_no_batch(records: &[u8], error: ErrorCode) -> ErrorCode {
    let batch = RecordBatch::first(records);
    let is_whole = batch.is_ok_and(|batch| batch.size() == records.len());
    if is_whole { error } else { ErrorCode::InvalidRecord }
}

fn is_zstd(records: &[u8]) -> bool {
    RecordBatch::first(records).is_ok_and(|batch| batch.compression() == Compression::Zstd)
}
