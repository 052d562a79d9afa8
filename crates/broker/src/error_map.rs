//! The one place that turns errors into Kafka's error codes.

use model::{ErrorCode, LeaderEpoch};
use storage::{AppendError, ReadError, WaitError};

/// Why a batch was not appended.
pub(crate) fn append(error: &AppendError) -> ErrorCode {
    match error {
        AppendError::MessageTooLarge { .. } => ErrorCode::MessageTooLarge,
        AppendError::RecordListTooLarge { .. } => ErrorCode::RecordListTooLarge,
        // Since version 3 of Produce the old formats are invalid records; others are no format.
        AppendError::UnsupportedFormat(0 | 1) => ErrorCode::InvalidRecord,
        AppendError::UnsupportedFormat(_) => ErrorCode::CorruptMessage,
        AppendError::Corrupt(_) | AppendError::UnexpectedOffset { .. } => ErrorCode::CorruptMessage,
        // Which of the records tells whether it is their timestamps: see `record_survey`.
        AppendError::InvalidRecord(_) | AppendError::RecordsRefused(_) => ErrorCode::InvalidRecord,
        AppendError::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
        AppendError::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
        AppendError::CoordinatorFenced { .. } => ErrorCode::TransactionCoordinatorFenced,
        AppendError::TransactionOpen(_) | AppendError::NotInTransaction(_) => {
            ErrorCode::InvalidTxnState
        }
        AppendError::StaleLeaderEpoch { .. } => ErrorCode::FencedLeaderEpoch,
        AppendError::NoSpace | AppendError::Fenced(_) => ErrorCode::KafkaStorageError,
        // Both pass: clients look up the leader and try again.
        AppendError::Busy | AppendError::Closed => ErrorCode::NotLeaderOrFollower,
    }
}

/// Why an append that was taken is not known to be durable.
pub(crate) fn wait(error: &WaitError) -> ErrorCode {
    match error {
        WaitError::Fenced(_) | WaitError::NoSpace => ErrorCode::KafkaStorageError,
        WaitError::Closed => ErrorCode::NotLeaderOrFollower,
    }
}

/// Why a read gave nothing.
pub(crate) fn read(error: &ReadError) -> ErrorCode {
    match error {
        ReadError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        ReadError::Io(_) => ErrorCode::KafkaStorageError,
        ReadError::Damaged(_) => ErrorCode::CorruptMessage,
        ReadError::Missing { .. } => ErrorCode::KafkaStorageError,
        ReadError::Closed => ErrorCode::NotLeaderOrFollower,
    }
}

/// What a client's idea of the leader epoch says of it; -1 has none (KIP-320).
pub(crate) fn leader_epoch(client: i32, current: LeaderEpoch) -> Option<ErrorCode> {
    if client == -1 || client == current.0 {
        None
    } else if client < current.0 {
        Some(ErrorCode::FencedLeaderEpoch)
    } else {
        Some(ErrorCode::UnknownLeaderEpoch)
    }
}

/// Why the controller refused something.
pub(crate) fn cluster(error: &cluster::Error) -> ErrorCode {
    use cluster::Error;
    match error {
        Error::InvalidTopic(_) => ErrorCode::InvalidTopicException,
        Error::TopicExists(_) => ErrorCode::TopicAlreadyExists,
        Error::UnknownTopic(_) => ErrorCode::UnknownTopicOrPartition,
        Error::UnknownTopicId(_) => ErrorCode::UnknownTopicId,
        Error::InvalidPartitions(_) => ErrorCode::InvalidPartitions,
        Error::InvalidReplicationFactor(_) => ErrorCode::InvalidReplicationFactor,
        Error::InvalidReplicaAssignment(_) => ErrorCode::InvalidReplicaAssignment,
        Error::InvalidConfig(_) => ErrorCode::InvalidConfig,
        Error::InvalidRequest(_) => ErrorCode::InvalidRequest,
        Error::InvalidFeatureLevel(_) => ErrorCode::InvalidUpdateVersion,
        Error::UnknownBroker(_) => ErrorCode::BrokerIdNotRegistered,
        Error::PolicyViolation(_) => ErrorCode::PolicyViolation,
        Error::StaleBrokerEpoch(_) => ErrorCode::StaleBrokerEpoch,
        Error::Stopping => ErrorCode::NotController,
        // It passes with a restart or with free space: clients try again.
        Error::Storage(_) => ErrorCode::KafkaStorageError,
        Error::ProducerIdsExhausted | Error::Damaged(_) | Error::ForeignDirectory(_) => {
            ErrorCode::UnknownServerError
        }
    }
}
