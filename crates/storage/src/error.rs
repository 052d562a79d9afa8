//! What can go wrong, told apart as callers need it.

use std::{fmt, path::PathBuf};

use model::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, record_batch::BatchError};
use runtime::Errno;

use crate::{Damage, RecordRules};

/// A log or a log directory that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The operating system refused.
    Io {
        /// What was tried, and on which file.
        path: PathBuf,
        /// Its answer.
        errno: Errno,
    },
    /// A derived file that is to be written anew could not be read: nothing has become of what is
    /// durable, and it is tried again.
    Unread {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        errno: Errno,
    },
    /// Another process holds the directory.
    Locked(PathBuf),
    /// A file that is not derived from the log holds what it cannot.
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A part of the log that was durable cannot be read any more. Nothing was cut off.
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        position: u64,
        /// The first offset that is missing.
        offset: Offset,
        /// What is wrong.
        what: String,
    },
    /// The log was fenced before it could be closed.
    Fenced(FenceReason),
    /// What has to be durable first will not be.
    NotDurable(WaitError),
}

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(Errno) -> Error {
        let path = path.into();
        move |errno| Error::Io { path, errno }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io { path, errno } | Error::Unread { path, errno } => {
                write!(formatter, "{}: {errno}", path.display())
            }
            Error::Locked(path) => {
                write!(formatter, "{}: another process uses this directory", path.display())
            }
            Error::Malformed { path, what } => write!(formatter, "{}: {what}", path.display()),
            Error::Damaged { path, position, offset, what } => write!(
                formatter,
                "{}: damaged at byte {position}, offset {offset}: {what}",
                path.display()
            ),
            Error::Fenced(reason) => write!(formatter, "the log is fenced: {reason}"),
            Error::NotDurable(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for Error {}

/// Why a log takes no more appends. It stays so until it is opened again: after a failed write or
/// sync nobody knows what is on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FenceReason {
    /// A write failed or came out short.
    Write(Errno),
    /// A sync failed.
    Sync(Errno),
    /// A segment could not be created.
    Create(Errno),
    /// The log's end is damaged: which offsets were given out is not known.
    Damaged,
}

impl fmt::Display for FenceReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FenceReason::Write(errno) => write!(formatter, "a write failed: {errno}"),
            FenceReason::Sync(errno) => write!(formatter, "a sync failed: {errno}"),
            FenceReason::Create(errno) => write!(formatter, "no new segment: {errno}"),
            FenceReason::Damaged => formatter.write_str("its end is damaged"),
        }
    }
}

/// Why an append was refused. The log and the producers' state are as they were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendError {
    /// A batch is over `max.message.bytes`.
    MessageTooLarge {
        /// Its size.
        size: usize,
        /// What is allowed.
        max: usize,
    },
    /// All batches together are over `segment.bytes`.
    RecordListTooLarge {
        /// Their size.
        size: usize,
        /// What is allowed.
        max: usize,
    },
    /// A message format before 2.
    UnsupportedFormat(u8),
    /// The bytes are not what was sent: a wrong CRC or length.
    Corrupt(BatchError),
    /// The bytes are what was sent, and make no sense.
    InvalidRecord(String),
    /// Records are not as the topic's settings ask for: these tell which.
    RecordsRefused(RecordRules),
    /// A batch of this producer is missing before this one, or it came too late.
    OutOfOrderSequence {
        /// What should have come.
        expected: Sequence,
        /// What came.
        found: Sequence,
    },
    /// A newer incarnation of the producer has appended already.
    InvalidProducerEpoch {
        /// The newest known.
        current: ProducerEpoch,
        /// The batch's.
        found: ProducerEpoch,
    },
    /// A marker of a coordinator that another one has followed.
    CoordinatorFenced {
        /// The newest coordinator's epoch.
        current: i32,
        /// The marker's.
        found: i32,
    },
    /// A batch that is no part of a transaction from a producer whose transaction is open.
    TransactionOpen(ProducerId),
    /// A batch that begins a transaction of which the coordinator does not say that this partition
    /// is in it, or that has ended since.
    NotInTransaction(ProducerId),
    /// The batch does not continue the log ([`crate::AppendOrigin::Raft`]).
    UnexpectedOffset {
        /// The log's end.
        expected: Offset,
        /// The batch's.
        found: Offset,
    },
    /// A later leader has appended already. Recovery would take such a batch for a stale one.
    StaleLeaderEpoch {
        /// The latest epoch in the log.
        latest: LeaderEpoch,
        /// The append's.
        found: LeaderEpoch,
    },
    /// No room on disk. It may pass.
    NoSpace,
    /// More is waiting for the disk than a log may have in memory. It passes.
    Busy,
    /// The log takes no more appends.
    Fenced(FenceReason),
    /// The log was deleted or closed.
    Closed,
}

impl fmt::Display for AppendError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AppendError::MessageTooLarge { size, max } => {
                write!(formatter, "a batch of {size} bytes, max.message.bytes is {max}")
            }
            AppendError::RecordListTooLarge { size, max } => {
                write!(formatter, "batches of {size} bytes, segment.bytes is {max}")
            }
            AppendError::UnsupportedFormat(magic) => write!(formatter, "message format {magic}"),
            AppendError::Corrupt(error) => error.fmt(formatter),
            AppendError::InvalidRecord(what) => formatter.write_str(what),
            AppendError::RecordsRefused(_) => {
                formatter.write_str("records are not as the topic's settings ask for")
            }
            AppendError::OutOfOrderSequence { expected, found } => {
                write!(formatter, "sequence {found}, expected {expected}")
            }
            AppendError::InvalidProducerEpoch { current, found } => {
                write!(formatter, "producer epoch {found}, the newest is {current}")
            }
            AppendError::CoordinatorFenced { current, found } => {
                write!(formatter, "coordinator epoch {found}, the newest is {current}")
            }
            AppendError::TransactionOpen(producer) => {
                write!(formatter, "producer {} has a transaction open", producer.0)
            }
            AppendError::NotInTransaction(producer) => {
                write!(formatter, "the partition is in no transaction of producer {}", producer.0)
            }
            AppendError::UnexpectedOffset { expected, found } => {
                write!(formatter, "offset {found}, the log ends at {expected}")
            }
            AppendError::StaleLeaderEpoch { latest, found } => {
                write!(formatter, "leader epoch {found}, the log has {latest}")
            }
            AppendError::NoSpace => formatter.write_str("no space on the disk"),
            AppendError::Busy => formatter.write_str("too much waits for the disk"),
            AppendError::Fenced(reason) => write!(formatter, "the log is fenced: {reason}"),
            AppendError::Closed => formatter.write_str("the log is closed"),
        }
    }
}

impl std::error::Error for AppendError {}

/// Why an append that was taken will not become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitError {
    /// The log was fenced; whether it is on disk is not known.
    Fenced(FenceReason),
    /// There was no room; it was taken back, and its offsets will be given out again.
    NoSpace,
    /// The log was deleted or closed.
    Closed,
}

impl fmt::Display for WaitError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WaitError::Fenced(reason) => write!(formatter, "the log is fenced: {reason}"),
            WaitError::NoSpace => formatter.write_str("no space on the disk"),
            WaitError::Closed => formatter.write_str("the log is closed"),
        }
    }
}

impl std::error::Error for WaitError {}

/// Why nothing can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadError {
    /// The offset is not in the log.
    OffsetOutOfRange {
        /// The first offset there is.
        log_start: Offset,
        /// The one behind the last.
        log_end: Offset,
    },
    /// The disk failed to give the bytes.
    Io(Errno),
    /// The bytes on disk are not what was written.
    Damaged(Box<Damage>),
    /// A segment is gone that held these offsets.
    Missing {
        /// The first offset that is missing.
        from: Offset,
        /// The first that is there again.
        to: Offset,
    },
    /// The log was deleted or closed.
    Closed,
}

impl ReadError {
    /// Why an offset in a damaged range is not served.
    pub(crate) fn of(damage: &Damage) -> ReadError {
        if damage.is_missing() {
            ReadError::Missing { from: damage.from, to: damage.to }
        } else {
            ReadError::Damaged(Box::new(damage.clone()))
        }
    }
}

impl fmt::Display for ReadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::OffsetOutOfRange { log_start, log_end } => {
                write!(formatter, "the log has offsets {log_start} to {log_end}")
            }
            ReadError::Io(errno) => errno.fmt(formatter),
            ReadError::Damaged(damage) => damage.fmt(formatter),
            ReadError::Missing { from, to } => {
                write!(formatter, "offsets {from} to {to} are missing")
            }
            ReadError::Closed => formatter.write_str("the log is closed"),
        }
    }
}

impl std::error::Error for ReadError {}
