//! What can go wrong between a client and a broker.

use std::fmt;

use model::{ErrorCode, record_batch::BatchError};
use runtime::Errno;
use wire::api::ApiKey;

/// Why a call failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The operating system's.
    Io(Errno),
    /// The connection ended before the answer came: whether the broker acted is not known.
    Closed,
    /// No answer in time: whether the broker acted is not known.
    TimedOut,
    /// A frame is larger than this client takes, or smaller than a header.
    FrameSize(i64),
    /// The answer's bytes are not what they should be.
    Wire(wire::Error),
    /// A fetched batch is damaged.
    Batch(BatchError),
    /// A fetched batch cannot be decompressed.
    Compressed,
    /// The answer is well formed and makes no sense.
    Nonsense(&'static str),
    /// Broker and client share no version of this API.
    NoCommonVersion(ApiKey),
    /// The broker refused.
    Refused(ErrorCode),
}

/// The result of everything in this room.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Turns an error code of an answer into a result.
    ///
    /// # Errors
    /// [`Error::Refused`] for any code but that of success.
    pub fn check(code: i16) -> Result<()> {
        let code = ErrorCode::from_code(code);
        if code == ErrorCode::None { Ok(()) } else { Err(Error::Refused(code)) }
    }

    /// True if the connection is of no further use.
    #[must_use]
    pub fn is_of_connection(&self) -> bool {
        match self {
            Error::Io(_)
            | Error::Closed
            | Error::TimedOut
            | Error::FrameSize(_)
            | Error::Wire(_)
            | Error::Nonsense(_) => true,
            Error::Batch(_) | Error::Compressed | Error::NoCommonVersion(_) | Error::Refused(_) => {
                false
            }
        }
    }

    /// True if no broker may cause it, whatever befalls it.
    #[must_use]
    pub fn is_senseless(&self) -> bool {
        match self {
            Error::Wire(_)
            | Error::Batch(_)
            | Error::Compressed
            | Error::Nonsense(_)
            | Error::FrameSize(_)
            | Error::NoCommonVersion(_) => true,
            Error::Io(_) | Error::Closed | Error::TimedOut | Error::Refused(_) => false,
        }
    }

    /// True if the same call may succeed later, on this or on a new connection.
    #[must_use]
    pub fn is_retriable(&self) -> bool {
        #[expect(clippy::wildcard_enum_match_arm, reason = "most of Kafka's codes are final")]
        match self {
            Error::Io(_) | Error::Closed | Error::TimedOut => true,
            Error::Refused(code) => matches!(
                code,
                ErrorCode::LeaderNotAvailable
                    | ErrorCode::NotLeaderOrFollower
                    | ErrorCode::RequestTimedOut
                    | ErrorCode::UnknownTopicOrPartition
                    | ErrorCode::UnknownTopicId
                    | ErrorCode::NetworkException
                    | ErrorCode::CoordinatorLoadInProgress
                    | ErrorCode::CoordinatorNotAvailable
                    | ErrorCode::NotCoordinator
                    | ErrorCode::NotEnoughReplicas
                    | ErrorCode::NotEnoughReplicasAfterAppend
                    | ErrorCode::KafkaStorageError
                    | ErrorCode::NotController
                    | ErrorCode::OffsetNotAvailable
                    | ErrorCode::UnstableOffsetCommit
                    | ErrorCode::ConcurrentTransactions
            ),
            _ => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io(error) => error.fmt(formatter),
            Error::Closed => formatter.write_str("the connection ended before the answer"),
            Error::TimedOut => formatter.write_str("no answer in time"),
            Error::FrameSize(size) => write!(formatter, "a frame of {size} bytes"),
            Error::Wire(error) => error.fmt(formatter),
            Error::Batch(error) => error.fmt(formatter),
            Error::Compressed => formatter.write_str("a batch that cannot be decompressed"),
            Error::Nonsense(what) => write!(formatter, "a senseless answer: {what}"),
            Error::NoCommonVersion(key) => write!(formatter, "no common version of {key:?}"),
            Error::Refused(code) => write!(formatter, "the broker answered {code:?}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Errno> for Error {
    fn from(error: Errno) -> Error {
        Error::Io(error)
    }
}

impl From<wire::Error> for Error {
    fn from(error: wire::Error) -> Error {
        Error::Wire(error)
    }
}

impl From<BatchError> for Error {
    fn from(error: BatchError) -> Error {
        Error::Batch(error)
    }
}
