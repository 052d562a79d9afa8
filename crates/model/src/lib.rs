//! The words everybody uses: ids, offsets, epochs, the record batch layout and its codecs, error
//! codes, settings.
//!
//! No I/O, no clock, no unsafe. Every other room may name this one; it names none of ours.

pub mod collections;
pub mod compression;
pub mod error_code;
pub mod ids;
pub mod record_batch;
pub mod server_config;
pub mod topic_config;
pub mod uuid;

pub use error_code::ErrorCode;
pub use ids::{
    LeaderEpoch, NodeId, Offset, PartitionId, ProducerEpoch, ProducerId, Sequence, ShardId,
    TimestampMs, TopicId, TopicPartition,
};
pub use uuid::Uuid;
