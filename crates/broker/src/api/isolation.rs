//! Which records a consumer wants to see: the isolation level of Fetch and of ListOffsets.

use model::{ErrorCode, Offset};
use storage::{CommittedRead, FirstBatch, Log, ReadError};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Isolation {
    /// All below the high watermark.
    ReadUncommitted,
    /// Those below the last stable offset, and which transactions among them were aborted.
    ReadCommitted,
}

impl Isolation {
    /// Of the number in a request; Apache Kafka knows no error for another one, either.
    pub(super) fn of(level: i8) -> Result<Isolation, ErrorCode> {
        match level {
            0 => Ok(Isolation::ReadUncommitted),
            1 => Ok(Isolation::ReadCommitted),
            _ => Err(ErrorCode::UnknownServerError),
        }
    }

    /// Up to where the consumer may read.
    pub(super) fn end_of(self, log: &Log) -> Offset {
        match self {
            Isolation::ReadUncommitted => log.high_watermark(),
            Isolation::ReadCommitted => log.last_stable_offset(),
        }
    }

    /// Reads what the consumer may see; see [`Log::read`].
    pub(super) async fn read(
        self,
        log: &Log,
        from: Offset,
        max_bytes: usize,
        first: FirstBatch,
    ) -> Result<CommittedRead, ReadError> {
        match self {
            Isolation::ReadUncommitted => {
                let read = log.read(from, max_bytes, first, log.high_watermark()).await?;
                Ok(CommittedRead { read, aborted: Vec::new() })
            }
            Isolation::ReadCommitted => log.read_committed(from, max_bytes, first).await,
        }
    }
}
