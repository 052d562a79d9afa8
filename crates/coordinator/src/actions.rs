//! What goes into a coordinator and what comes out.

use model::{ErrorCode, TimestampMs, Uuid};

use crate::Response;
use crate::transactions::{Outcome, ProducerIdentity};

/// The time of an event, by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The clock on the wall: what records are stamped with. It may jump.
    pub wall: TimestampMs,
    /// Milliseconds of a clock that never goes back: what deadlines are measured with.
    pub monotonic_ms: u64,
}

/// A request that waits for its response; chosen by the caller, unique among those that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// Who asks, and how.
#[derive(Clone, Copy, Debug)]
pub struct Caller<'a> {
    /// Names the response.
    pub token: Token,
    /// The version of the request.
    pub version: i16,
    /// The client's name for itself; empty without one.
    pub client_id: &'a str,
    /// Where it connects from, written as Java does: `/127.0.0.1`.
    pub client_host: &'a str,
    /// Fresh random bits, for the id of a new member.
    pub random: Uuid,
}

/// A record for the coordinator's partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its key.
    pub key: Vec<u8>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
}

/// Names a write until it is done; ids grow in the order of the writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

/// Records to append as one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// To be given back when it is done.
    pub id: WriteId,
    /// What the batch is.
    pub form: WriteForm,
    /// What to append; empty for a marker, and for nothing else.
    pub records: Vec<Record>,
}

/// What a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteForm {
    /// Records that stand alone.
    Plain,
    /// Records of this producer's transaction.
    Transactional(ProducerIdentity),
    /// The marker that ends a transaction.
    Marker(TransactionEnd),
}

/// The end of a transaction, as a coordinator of transactions writes it into a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionEnd {
    /// Whose transaction.
    pub producer: ProducerIdentity,
    /// How it ends.
    pub outcome: Outcome,
    /// The epoch of the coordinator that says so.
    pub coordinator_epoch: i32,
    /// The version of transactions: from 2 on the epoch is one that no record has.
    pub transaction_version: i16,
}

/// Why a write was not made. Nothing of it is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// The batch is larger than a batch may be.
    TooLarge,
    /// This node does not lead the partition any more, or its log is fenced.
    NotCoordinator,
    /// Not now: no space, too few replicas, too slow.
    Unavailable,
    /// The log refuses it: an old producer's, or of a transaction that has ended.
    Refused(ErrorCode),
}

impl WriteError {
    /// What a member of a group is told.
    pub(crate) fn group_error(self) -> ErrorCode {
        match self {
            WriteError::TooLarge => ErrorCode::UnknownServerError,
            WriteError::NotCoordinator => ErrorCode::NotCoordinator,
            WriteError::Unavailable => ErrorCode::CoordinatorNotAvailable,
            WriteError::Refused(error) => error,
        }
    }

    /// What one is told who commits offsets.
    pub(crate) fn commit_error(self) -> ErrorCode {
        match self {
            WriteError::TooLarge => ErrorCode::InvalidCommitOffsetSize,
            WriteError::NotCoordinator | WriteError::Unavailable | WriteError::Refused(_) => {
                self.group_error()
            }
        }
    }
}

/// What is to be done now.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Actions {
    /// Responses that hold already. Each token is answered exactly once.
    pub responses: Vec<(Token, Response)>,
    /// To be appended, in this order, after those of earlier actions.
    pub writes: Vec<Write>,
}
