//! The files beside a segment's, and those of the directory, entry by entry and as they are: what
//! makes no sense is for the caller to tell.

use model::{LeaderEpoch, Offset, PartitionId, TimestampMs, TopicId};

use crate::{
    ProducerStatus,
    directory::{broker_epoch_of, parse_offsets, topic_id_of},
    index::{OFFSET_ENTRY_BYTES, OffsetEntry, TIME_ENTRY_BYTES},
    leader_epochs::LeaderEpochs,
    producers::Producers,
    recovery::parse_partition_name,
};

/// An entry of `.index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// The last offset of a batch.
    pub offset: Offset,
    /// Where that batch starts.
    pub position: u64,
}

/// An entry of `.timeindex`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeEntry {
    /// The largest timestamp so far.
    pub timestamp: TimestampMs,
    /// Whose it is.
    pub offset: Offset,
}

/// The entries of an `.index` up to its zeros, and how many bytes are left that are no entry.
#[must_use]
pub fn offset_entries(base: Offset, file: &[u8]) -> (Vec<IndexEntry>, usize) {
    let (used, tail) = without_zeros(file, OFFSET_ENTRY_BYTES);
    let (entries, rest) = used.as_chunks::<OFFSET_ENTRY_BYTES>();
    let entries = entries.iter().map(|bytes| {
        let OffsetEntry { delta, position } = OffsetEntry::decode(*bytes);
        IndexEntry { offset: base.plus(i64::from(delta)), position: u64::from(position) }
    });
    (entries.collect(), rest.len() + tail)
}

/// The entries of a `.timeindex` up to its zeros, and how many bytes are left that are no entry.
#[must_use]
pub fn time_entries(base: Offset, file: &[u8]) -> (Vec<TimeEntry>, usize) {
    let (used, tail) = without_zeros(file, TIME_ENTRY_BYTES);
    let (entries, rest) = used.as_chunks::<TIME_ENTRY_BYTES>();
    let entries = entries.iter().map(|bytes| {
        let entry = crate::index::TimeEntry::decode(*bytes);
        TimeEntry { timestamp: entry.timestamp, offset: base.plus(i64::from(entry.delta)) }
    });
    (entries.collect(), rest.len() + tail)
}

/// A file without the zeros that it was allocated with, in whole entries; and how many bytes of
/// these zeros are no whole entry.
fn without_zeros(file: &[u8], entry_bytes: usize) -> (&[u8], usize) {
    let used = file.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let used = used.next_multiple_of(entry_bytes).min(file.len());
    (&file[..used], (file.len() - used) % entry_bytes)
}

/// The producers of a `.snapshot`; `None` when it is not whole or of another version.
#[must_use]
pub fn producers(file: &[u8]) -> Option<Vec<ProducerStatus>> {
    Producers::parse(file).map(|producers| producers.statuses())
}

/// The entries of a `leader-epoch-checkpoint`; `None` when it makes no sense.
#[must_use]
pub fn leader_epochs(file: &[u8]) -> Option<Vec<(LeaderEpoch, Offset)>> {
    LeaderEpochs::parse(file).map(LeaderEpochs::into_entries)
}

/// The offsets of one of the directory's checkpoints; `None` when it makes no sense.
#[must_use]
pub fn checkpoint_offsets(file: &[u8]) -> Option<Vec<(String, PartitionId, Offset)>> {
    if file.is_empty() {
        return Some(Vec::new());
    }
    let offsets = parse_offsets(file)?;
    Some(
        offsets
            .into_iter()
            .map(|((topic, partition), offset)| (topic, partition, offset))
            .collect(),
    )
}

/// The topic's id in `partition.metadata`.
#[must_use]
pub fn topic_id(file: &[u8]) -> Option<TopicId> {
    topic_id_of(file)
}

/// The broker's epoch in `.kafka_cleanshutdown`.
#[must_use]
pub fn clean_shutdown_epoch(file: &[u8]) -> Option<i64> {
    broker_epoch_of(file)
}

/// The topic and partition that the name of a directory tells.
#[must_use]
pub fn partition_of_name(name: &str) -> Option<(String, PartitionId)> {
    parse_partition_name(name)
}
