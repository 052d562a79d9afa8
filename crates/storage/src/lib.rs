//! One partition's log on disk in Kafka's format: segments, sparse indexes, recovery, producer
//! state, leader epochs, compaction, and the group commit that makes appends durable.
//!
//! ```text
//!   Log::append     decides and copies once into the open chunk (tail)      appended
//!   write task      when the shard has time, one write a log, in O_DIRECT    written
//!   sync task       one group fdatasync a shard, or one of the file's own   durable
//! ```
//! `log_start <= last_stable <= high_watermark <= durable_end <= written_end <= log_end`, each an
//! [`Offset`] between two batches; with `durability=replicated` `high_watermark <= written_end`. Callers see no file and no position; what is read are slices of memory.
//!
//! A [`Storage`] belongs to one shard and never leaves it. It knows neither requests nor error
//! codes; docs/STORAGE.md has what lies on disk.
//!
//! [`Offset`]: model::Offset

mod accept_loss;
mod ahead;
mod append;
mod checkpoint;
mod cold;
mod commit;
mod commit_gate;
mod compact;
mod damage;
mod directory;
mod disk_failure;
mod error;
pub mod files;
mod finish;
mod gone;
mod handles;
mod held_back;
mod index;
mod inspect;
mod judge;
mod leader_epochs;
mod log;
mod marks;
mod names;
mod own_sync;
mod producers;
mod read;
mod read_ahead;
mod record_rules;
mod recovery;
mod removal;
mod resync;
mod retention;
mod scan;
mod scrub;
mod segment;
mod space;
mod storage;
mod tail;
mod times;
mod transactions;
mod verification;
mod write;
mod write_times;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use accept_loss::{LossReport, LossToAccept, accept_loss};
pub use append::{AppendOptions, AppendOrigin, Appended, Survey};
pub use commit_gate::commit_strategy;
pub use compact::Compacted;
pub use damage::Damage;
pub use directory::{LogDirectory, OpenMode, PartitionDirectory};
pub use error::{AppendError, Error, FenceReason, ReadError, WaitError};
pub use gone::RecordedPartitions;
pub use log::Log;
pub use marks::CheckpointNeed;
pub use producers::ProducerStatus;
pub use read::{FirstBatch, ReadResult};
pub use record_rules::{RecordFault, RecordRules};
pub use recovery::{CleanStop, RecoveryReport, RecoveryStart};
pub use retention::{Removed, Retained};
pub use scrub::{ScrubOptions, Scrubbed};
pub use space::spare_bytes;
pub use storage::{CommitCounts, CommitStrategy, RecoveryPoint, Storage, StorageOptions};
pub use times::TimestampOffset;
pub use transactions::{AbortedTransaction, CommittedRead};
pub use verification::{Verification, VerificationGuard};
