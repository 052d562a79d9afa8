//! Groups and offsets from the records of the partition.

use std::fmt;
use std::rc::Rc;

use bytes::Bytes;
use model::record_batch::{BatchError, Compression, RecordBatch};
use model::{ProducerId, TimestampMs};
use wire::consumer_offsets_record::ConsumerOffsetsRecord;
use wire::control_record::ControlRecord;
use wire::coordinator_record::decode_consumer_offsets_record;
use wire::group_metadata_value::{GroupMetadataValue, MemberMetadata};
use wire::offset_commit_value::OffsetCommitValue;

use super::consumer::session_timeout_ms;
use super::{GroupCoordinator, Turn, is_storable};
use crate::actions::{Actions, Now};
use crate::consumer::{Change, ConsumerGroup, MemberState, change_of};
use crate::group::{Group, Member, State};
use crate::offsets::{CommittedOffset, Offsets};
use crate::timers::Timer;
use crate::transactions::Outcome;

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// It changed groups or offsets.
    Applied,
    /// It is of a kind that this coordinator does not act on: share and streams groups.
    Skipped,
}

/// Why a batch cannot be taken in: the partition cannot be served from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// Its records cannot be read.
    Batch(BatchError),
    /// Its records are compressed; this broker writes them plain, as Apache Kafka does unless
    /// `offsets.topic.compression.codec` says otherwise.
    Compressed,
    /// A transaction is in a state that this coordinator does not know: what it says cannot be left
    /// out.
    UnknownState(i8),
}

impl fmt::Display for LoadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Batch(error) => write!(formatter, "a batch cannot be read: {error}"),
            LoadError::Compressed => formatter.write_str("a batch of group records is compressed"),
            LoadError::UnknownState(state) => {
                write!(formatter, "a transaction is in the unknown state {state}")
            }
        }
    }
}

impl std::error::Error for LoadError {}

impl GroupCoordinator {
    /// Takes in a batch of the partition, in the order of the log: plain, of a transaction, or
    /// the end of one. Gives the errors of the records in it that were skipped because they are
    /// no records of groups.
    ///
    /// # Errors
    /// When the batch itself cannot be read.
    pub fn replay_batch(&mut self, batch: &RecordBatch<'_>) -> Result<Vec<wire::Error>, LoadError> {
        if batch.compression() != Compression::None {
            return Err(LoadError::Compressed);
        }
        let mut skipped = Vec::new();
        for record in batch.records() {
            let record = record.map_err(LoadError::Batch)?;
            let key = record.key.unwrap_or_default();
            let replayed = if batch.is_control() {
                self.replay_marker(batch.producer_id(), key, record.value.unwrap_or_default())
            } else if batch.is_transactional() {
                self.replay_pending(batch.producer_id(), key, record.value)
            } else {
                self.replay(key, record.value).map(|_| ())
            };
            skipped.extend(replayed.err());
        }
        Ok(skipped)
    }

    /// Takes in a record that stands alone, in the order of the log.
    ///
    /// # Errors
    /// When the bytes are no such record. The coordinator is as before, and may skip it.
    pub fn replay(&mut self, key: &[u8], value: Option<&[u8]>) -> wire::Result<Replayed> {
        let record = match decode_consumer_offsets_record(key, value) {
            Ok(record) => record,
            Err(wire::Error::UnknownRecordType(_)) => return Ok(Replayed::Skipped),
            Err(error) => return Err(error),
        };
        if let ConsumerOffsetsRecord::OffsetCommit(key, value) = record {
            self.replay_offset(key.group, key.topic, key.partition, value.as_ref());
        } else if let ConsumerOffsetsRecord::LegacyOffsetCommit(key, value) = record {
            let value = value.map(|value| OffsetCommitValue {
                offset: value.offset,
                metadata: value.metadata,
                commit_timestamp: value.commit_timestamp,
                ..OffsetCommitValue::default()
            });
            self.replay_offset(key.group, key.topic, key.partition, value.as_ref());
        } else if let ConsumerOffsetsRecord::GroupMetadata(key, value) = record {
            self.replay_group(key.group, value.as_ref())?;
        } else if let Some((group_id, change)) = change_of(&record) {
            self.replay_change(group_id, change);
        } else {
            return Ok(Replayed::Skipped);
        }
        Ok(Replayed::Applied)
    }

    /// All records are in: the members' sessions begin now, as if each had just been heard of.
    /// What transactions have pending waits for their markers.
    pub fn loaded(&mut self, now: Now) -> Actions {
        let interval_ms = self.engine.settings.retention_check_interval_ms;
        let size_max = self.engine.settings.group_size_max;
        let ids: Vec<Rc<str>> = self.groups.keys().cloned().collect();
        let mut actions = Actions::default();
        self.turn(now).set_timer(Timer::Retention, interval_ms);
        for id in ids {
            let of_group = self.in_group(&id, now, |group, turn| {
                for member_id in group.members.keys() {
                    group.restart_session(member_id, turn);
                }
                resume_consumers(group, turn);
                if group.members.len() > size_max {
                    group.prepare_rebalance(turn);
                }
            });
            actions.responses.extend(of_group.responses);
            actions.writes.extend(of_group.writes);
        }
        actions
    }

    /// Takes in what a record says of a consumer group. A tombstone makes none.
    fn replay_change(&mut self, group_id: &str, change: Change) {
        if !self.groups.contains_key(group_id) && !change.is_tombstone() {
            let id: Rc<str> = group_id.into();
            self.groups.insert(id.clone(), Group::new(id, TimestampMs::default()));
        }
        let Some(group) = self.groups.get_mut(group_id) else { return };
        if change == Change::Epoch(None) {
            group.consumer = None;
        } else if group.consumer.is_some() || !change.is_tombstone() {
            group.consumer.get_or_insert_with(ConsumerGroup::new).apply(change);
        }
        if group.is_vacant() {
            self.groups.remove(group_id);
        }
    }

    /// Holds an offset back until its transaction ends.
    fn replay_pending(
        &mut self,
        producer_id: ProducerId,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> wire::Result<()> {
        let record = decode_consumer_offsets_record(key, value)?;
        if let ConsumerOffsetsRecord::OffsetCommit(key, Some(value)) = record {
            self.hold(producer_id, key.group, key.topic, key.partition, offset_of(&value));
        }
        Ok(())
    }

    /// Ends a transaction: what it committed holds now, or never.
    fn replay_marker(
        &mut self,
        producer_id: ProducerId,
        key: &[u8],
        value: &[u8],
    ) -> wire::Result<()> {
        let marker = ControlRecord::decode(key, value)?;
        let is_commit = matches!(marker, ControlRecord::Commit(_));
        self.end_pending(producer_id, if is_commit { Outcome::Commit } else { Outcome::Abort });
        Ok(())
    }

    fn replay_offset(
        &mut self,
        group_id: &str,
        topic: &str,
        partition: i32,
        value: Option<&OffsetCommitValue<'_>>,
    ) {
        self.overtake(group_id, topic, partition);
        let Some(value) = value else {
            if let Some(group) = self.groups.get_mut(group_id) {
                group.offsets.remove(topic, partition);
                if group.is_vacant() {
                    self.groups.remove(group_id);
                }
            }
            return;
        };
        self.set_offset(group_id, topic, partition, offset_of(value));
    }

    fn set_offset(&mut self, group_id: &str, topic: &str, partition: i32, offset: CommittedOffset) {
        let id: Rc<str> = group_id.into();
        let made = || Group::new(id.clone(), offset.commit_timestamp);
        let group = self.groups.entry(id.clone()).or_insert_with(made);
        group.offsets.set(topic, partition, offset);
    }

    fn replay_group(
        &mut self,
        group_id: &str,
        value: Option<&GroupMetadataValue<'_>>,
    ) -> wire::Result<()> {
        let Some(value) = value else {
            // It may have become a consumer group before its tombstone.
            if self.is_consumer_group(group_id) {
                return Ok(());
            }
            // The tombstones of its offsets come first; what is left is a group of offsets alone.
            if let Some(group) = self.groups.remove(group_id)
                && !group.offsets.is_empty()
            {
                let now = group.state_timestamp.unwrap_or_default();
                let mut left = Group::new(group.id.clone(), now);
                left.offsets = group.offsets;
                self.groups.insert(group.id, left);
            }
            return Ok(());
        };
        let strings =
            [value.protocol_type, value.protocol.unwrap_or(""), value.leader.unwrap_or("")];
        let members = value.members.iter();
        let mut all = members
            .flat_map(|member| {
                let instance_id = member.group_instance_id.unwrap_or("");
                [member.member_id, instance_id, member.client_id, member.client_host]
            })
            .chain(strings);
        if !all.all(is_storable) {
            return Err(wire::Error::TooLong);
        }
        let offsets = match self.groups.get_mut(group_id) {
            Some(group) => std::mem::take(&mut group.offsets),
            None => Offsets::default(),
        };
        let id: Rc<str> = group_id.into();
        self.groups.insert(id.clone(), group_of(id, value, offsets));
        Ok(())
    }
}

/// The members of a consumer group have their time anew, too.
fn resume_consumers(group: &mut Group, turn: &mut Turn<'_>) {
    let settings = turn.consumer_settings(&group.id);
    let Some(consumer) = &mut group.consumer else { return };
    consumer.complete_members();
    for (id, member) in consumer.members() {
        let session = Timer::Session(group.id.clone(), id.clone());
        turn.set_timer(session, session_timeout_ms(member, &settings));
        // A classic member is told with its heartbeat, and has its time from then on.
        let gives_up = consumer.current_of(id).state == MemberState::UnrevokedPartitions;
        if gives_up && member.classic.is_none() {
            let timeout_ms = u64::try_from(member.rebalance_timeout_ms).unwrap_or(0);
            turn.set_timer(Timer::Rebalance(group.id.clone(), id.clone()), timeout_ms);
        }
    }
}

/// The offset that a record says.
fn offset_of(value: &OffsetCommitValue<'_>) -> CommittedOffset {
    CommittedOffset {
        offset: value.offset,
        leader_epoch: value.leader_epoch,
        metadata: value.metadata.to_owned(),
        commit_timestamp: TimestampMs(value.commit_timestamp),
        expire_timestamp: Some(TimestampMs(value.expire_timestamp)).filter(|at| at.0 >= 0),
        topic_id: value.topic_id,
    }
}

/// The group that a record says.
fn group_of(id: Rc<str>, value: &GroupMetadataValue<'_>, offsets: Offsets) -> Group {
    let timestamp = TimestampMs(value.current_state_timestamp);
    let mut group = Group::new(id, timestamp);
    group.offsets = offsets;
    for member in &value.members {
        group.add(member_of(member, value.protocol), value.protocol_type);
    }
    group.generation = value.generation;
    group.protocol_type =
        Some(value.protocol_type.to_owned()).filter(|protocol_type| !protocol_type.is_empty());
    group.protocol = value.protocol.map(str::to_owned);
    let leader = group.members.keys().find(|id| Some(id.as_ref()) == value.leader);
    group.leader = leader.or_else(|| group.members.keys().next()).cloned();
    group.state = if group.members.is_empty() { State::Empty } else { State::Stable };
    group.state_timestamp = Some(timestamp).filter(|at| at.0 >= 0);
    group.subscribed_topics = group.compute_subscribed_topics();
    group
}

fn member_of(member: &MemberMetadata<'_>, protocol: Option<&str>) -> Member {
    let subscription = Bytes::copy_from_slice(member.subscription);
    Member {
        id: member.member_id.into(),
        instance_id: member.group_instance_id.map(str::to_owned),
        client_id: member.client_id.to_owned(),
        client_host: member.client_host.to_owned(),
        session_timeout_ms: member.session_timeout,
        rebalance_timeout_ms: match member.rebalance_timeout {
            ..0 => member.session_timeout,
            timeout => timeout,
        },
        protocols: protocol.map(|name| (name.to_owned(), subscription)).into_iter().collect(),
        assignment: Bytes::copy_from_slice(member.assignment),
        joining: None,
        syncing: None,
        is_new: false,
    }
}
