//! The offsets that one group committed.
//!
//! An offset is visible when its record is durable. One whose record is under way, or whose
//! transaction has not ended, is only counted, so that deletions and retention know of it.

use model::collections::BTreeMap;
use model::{TimestampMs, TopicId};

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next record to read.
    pub offset: i64,
    /// The leader epoch of the last record read; -1 where the client did not say.
    pub leader_epoch: i32,
    /// What the client wrote beside it.
    pub metadata: String,
    /// When it was committed.
    pub commit_timestamp: TimestampMs,
    /// When it expires, where an old client set that.
    pub expire_timestamp: Option<TimestampMs>,
    /// The topic's id, zero in old records: an offset of a deleted topic is none of its namesake.
    pub topic_id: TopicId,
}

impl CommittedOffset {
    /// Whether it is too old. `since` is when its age began to count.
    pub fn is_expired(&self, since: TimestampMs, now: TimestampMs, retention_ms: i64) -> bool {
        match self.expire_timestamp {
            Some(at) => now >= at,
            None => now.0.saturating_sub(since.0) >= retention_ms,
        }
    }
}

/// What is known of a partition: an offset, records of it under way, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// What is durable.
    pub durable: Option<CommittedOffset>,
    /// Writes under way that name it.
    pub in_flight: u32,
    /// Open transactions that commit an offset of it.
    pub pending: u32,
}

/// The offsets of a group, by topic and partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offsets {
    topics: BTreeMap<String, BTreeMap<i32, Entry>>,
}

impl Offsets {
    /// Whether there is nothing, durable or under way.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// The durable offset of a partition.
    pub fn get(&self, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.known(topic, partition)?.durable.as_ref()
    }

    /// The durable offsets of each topic.
    pub fn durable(&self) -> impl Iterator<Item = (&str, i32, &CommittedOffset)> {
        self.entries().filter_map(|(topic, partition, entry)| {
            entry.durable.as_ref().map(|offset| (topic, partition, offset))
        })
    }

    /// Everything, durable or under way.
    pub fn entries(&self) -> impl Iterator<Item = (&str, i32, &Entry)> {
        self.topics.iter().flat_map(|(topic, partitions)| {
            partitions.iter().map(move |(partition, entry)| (topic.as_str(), *partition, entry))
        })
    }

    /// Whether a partition has an offset, durable or under way.
    pub fn contains(&self, topic: &str, partition: i32) -> bool {
        self.topics.get(topic).is_some_and(|partitions| partitions.contains_key(&partition))
    }

    /// Whether records of the partition are under way, or a transaction that commits one is open.
    pub fn is_undecided(&self, topic: &str, partition: i32) -> bool {
        self.known(topic, partition).is_some_and(|entry| entry.in_flight > 0 || entry.pending > 0)
    }

    /// Whether a transaction that commits an offset of the partition is open.
    pub fn is_pending(&self, topic: &str, partition: i32) -> bool {
        self.known(topic, partition).is_some_and(|entry| entry.pending > 0)
    }

    fn known(&self, topic: &str, partition: i32) -> Option<&Entry> {
        self.topics.get(topic)?.get(&partition)
    }

    /// A transaction commits an offset of the partition, and is open.
    pub fn hold(&mut self, topic: &str, partition: i32) {
        self.entry(topic, partition).pending += 1;
    }

    /// A transaction that commits an offset of the partition is over.
    pub fn release(&mut self, topic: &str, partition: i32) {
        let entry = self.entry(topic, partition);
        entry.pending = entry.pending.saturating_sub(1);
        self.drop_if_unused(topic, partition);
    }

    /// A record of the partition is on its way to the log.
    pub fn begin(&mut self, topic: &str, partition: i32) {
        self.entry(topic, partition).in_flight += 1;
    }

    /// A record of the partition is done with, in one way or the other.
    pub fn end(&mut self, topic: &str, partition: i32) {
        let entry = self.entry(topic, partition);
        entry.in_flight = entry.in_flight.saturating_sub(1);
        self.drop_if_unused(topic, partition);
    }

    /// The record of this offset is durable.
    pub fn set(&mut self, topic: &str, partition: i32, offset: CommittedOffset) {
        self.entry(topic, partition).durable = Some(offset);
    }

    /// A tombstone of this offset is durable.
    pub fn remove(&mut self, topic: &str, partition: i32) {
        if self.contains(topic, partition) {
            self.entry(topic, partition).durable = None;
            self.drop_if_unused(topic, partition);
        }
    }

    fn entry(&mut self, topic: &str, partition: i32) -> &mut Entry {
        if !self.topics.contains_key(topic) {
            self.topics.insert(topic.to_owned(), BTreeMap::new());
        }
        let partitions = self.topics.get_mut(topic).expect("it was just put there");
        partitions.entry(partition).or_default()
    }

    fn drop_if_unused(&mut self, topic: &str, partition: i32) {
        let Some(partitions) = self.topics.get_mut(topic) else { return };
        let is_unused =
            |entry: &Entry| entry.durable.is_none() && entry.in_flight == 0 && entry.pending == 0;
        if partitions.get(&partition).is_some_and(is_unused) {
            partitions.remove(&partition);
        }
        if partitions.is_empty() {
            self.topics.remove(topic);
        }
    }
}
