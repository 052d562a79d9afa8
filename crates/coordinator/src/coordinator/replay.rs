//! Groups and offsets from the records of the partition.

use std::rc::Rc;

use bytes::Bytes;
use model::TimestampMs;
use wire::consumer_offsets_record::ConsumerOffsetsRecord;
use wire::coordinator_record::decode_consumer_offsets_record;
use wire::group_metadata_value::{GroupMetadataValue, MemberMetadata};
use wire::offset_commit_value::OffsetCommitValue;

use super::{GroupCoordinator, is_storable};
use crate::actions::{Actions, Now};
use crate::group::{Group, Member, State};
use crate::offsets::{CommittedOffset, Offsets};
use crate::timers::Timer;

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// It changed groups or offsets.
    Applied,
    /// It is of a kind that this coordinator does not act on: groups of the newer protocols.
    Skipped,
}

impl GroupCoordinator {
    /// Takes in a record of the partition, in the order of the log.
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
        } else {
            return Ok(Replayed::Skipped);
        }
        Ok(Replayed::Applied)
    }

    /// All records are in: the members' sessions begin now, as if each had just been heard of.
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
                if group.members.len() > size_max {
                    group.prepare_rebalance(turn);
                }
            });
            actions.responses.extend(of_group.responses);
            actions.writes.extend(of_group.writes);
        }
        actions
    }

    fn replay_offset(
        &mut self,
        group_id: &str,
        topic: &str,
        partition: i32,
        value: Option<&OffsetCommitValue<'_>>,
    ) {
        let Some(value) = value else {
            if let Some(group) = self.groups.get_mut(group_id) {
                group.offsets.remove(topic, partition);
                if group.is_vacant() {
                    self.groups.remove(group_id);
                }
            }
            return;
        };
        let offset = CommittedOffset {
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            metadata: value.metadata.to_owned(),
            commit_timestamp: TimestampMs(value.commit_timestamp),
            expire_timestamp: Some(TimestampMs(value.expire_timestamp)).filter(|at| at.0 >= 0),
            topic_id: value.topic_id,
        };
        let id: Rc<str> = group_id.into();
        let group = self
            .groups
            .entry(id.clone())
            .or_insert_with(|| Group::new(id, offset.commit_timestamp));
        group.offsets.set(topic, partition, offset);
    }

    fn replay_group(
        &mut self,
        group_id: &str,
        value: Option<&GroupMetadataValue<'_>>,
    ) -> wire::Result<()> {
        let Some(value) = value else {
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
