//! OffsetCommit, OffsetFetch, OffsetDelete, and offsets that nobody asks for any more.

use std::rc::Rc;

use model::{ErrorCode, TimestampMs, TopicId};
use wire::offset_commit_request::{OffsetCommitRequest, OffsetCommitRequestPartition};
use wire::offset_delete_request::OffsetDeleteRequest;
use wire::txn_offset_commit_request::TxnOffsetCommitRequestPartition;

use super::{Effect, GroupCoordinator, Turn, is_storable};
use crate::actions::{Actions, Caller, Now, Record, Token, WriteError};
use crate::consumer::ConsumerGroup;
use crate::group::{Group, State};
use crate::offset_fetch::{FetchedGroup, GroupQuery};
use crate::offsets::CommittedOffset;
use crate::records;
use crate::response::{CommittedTopic, OffsetCommit, OffsetDelete, Response};
use crate::settings::Settings;
use crate::timers::Timer;

/// The first version that tells an unknown group apart from a wrong generation.
const GROUP_ID_NOT_FOUND_FROM: i16 = 9;
/// The first version of OffsetCommit that members of consumer groups may use.
pub(super) const MEMBER_EPOCH_FROM: i16 = 9;

/// A topic as the broker's metadata knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownTopic {
    /// Its name.
    pub name: String,
    /// Its id.
    pub topic_id: TopicId,
    /// How many partitions it has, from 0.
    pub partition_count: i32,
}

impl KnownTopic {
    fn check_partition(&self, partition: i32) -> ErrorCode {
        let is_known = (0..self.partition_count).contains(&partition);
        if is_known { ErrorCode::None } else { ErrorCode::UnknownTopicOrPartition }
    }
}

/// What a request commits offsets for, each partition with what is wrong with it.
pub(super) fn targets_of<'a>(
    topics: impl Iterator<Item = (&'a str, TopicId, impl Iterator<Item = i32>)>,
    resolve: &Resolve<'_>,
) -> OffsetCommit {
    let topics = topics.map(|(name, topic_id, partitions)| match resolve(name, topic_id) {
        Ok(known) => {
            let checked = |one: i32| (one, known.check_partition(one));
            let partitions = partitions.map(checked).collect();
            CommittedTopic { name: known.name, topic_id: known.topic_id, partitions }
        }
        Err(error) => CommittedTopic::refused(name, topic_id, partitions, error),
    });
    OffsetCommit { topics: topics.collect() }
}

/// An offset that a request commits.
pub(super) struct AskedOffset<'a> {
    offset: i64,
    leader_epoch: i32,
    metadata: Option<&'a str>,
}

impl<'a> From<&OffsetCommitRequestPartition<'a>> for AskedOffset<'a> {
    fn from(asked: &OffsetCommitRequestPartition<'a>) -> AskedOffset<'a> {
        let (offset, leader_epoch) = (asked.committed_offset, asked.committed_leader_epoch);
        AskedOffset { offset, leader_epoch, metadata: asked.committed_metadata }
    }
}

impl<'a> From<&TxnOffsetCommitRequestPartition<'a>> for AskedOffset<'a> {
    fn from(asked: &TxnOffsetCommitRequestPartition<'a>) -> AskedOffset<'a> {
        let (offset, leader_epoch) = (asked.committed_offset, asked.committed_leader_epoch);
        AskedOffset { offset, leader_epoch, metadata: asked.committed_metadata }
    }
}

/// Takes the offsets of a checked request that can be kept, in the order of its partitions; they
/// are on their way to the disk from then on. The others are refused in `response`.
pub(super) fn take_offsets<'a>(
    group: &mut Group,
    mut asked: impl Iterator<Item = AskedOffset<'a>>,
    response: &mut OffsetCommit,
    expire_timestamp: Option<TimestampMs>,
    turn: &Turn<'_>,
) -> Vec<(String, i32, CommittedOffset)> {
    let mut offsets = Vec::new();
    for topic in &mut response.topics {
        for (partition, result) in &mut topic.partitions {
            let asked = asked.next().expect("an offset for every partition");
            let metadata = asked.metadata.unwrap_or_default();
            if *result == ErrorCode::None {
                *result = check_metadata(&topic.name, metadata, turn.settings());
            }
            if *result != ErrorCode::None {
                continue;
            }
            let offset = CommittedOffset {
                offset: asked.offset,
                leader_epoch: asked.leader_epoch,
                metadata: metadata.to_owned(),
                commit_timestamp: turn.now().wall,
                expire_timestamp,
                topic_id: topic.topic_id,
            };
            group.offsets.begin(&topic.name, *partition);
            offsets.push((topic.name.clone(), *partition, offset));
        }
    }
    offsets
}

/// The records of offsets that were taken.
pub(super) fn records_of(group: &Group, offsets: &[(String, i32, CommittedOffset)]) -> Vec<Record> {
    let record = |(topic, partition, offset): &(String, i32, CommittedOffset)| {
        records::offset(&group.id, topic, *partition, offset)
    };
    offsets.iter().map(record).collect()
}

/// Whether what stands beside an offset can be kept.
fn check_metadata(topic: &str, metadata: &str, settings: &Settings) -> ErrorCode {
    if metadata.encode_utf16().count() > settings.offset_metadata_max {
        ErrorCode::OffsetMetadataTooLarge
    } else if !is_storable(topic) || !is_storable(metadata) {
        ErrorCode::InvalidCommitOffsetSize
    } else {
        ErrorCode::None
    }
}

/// Finds a topic by its name, or by its id where the name is empty; or says what is wrong.
pub type Resolve<'a> = dyn Fn(&str, TopicId) -> Result<KnownTopic, ErrorCode> + 'a;

impl GroupCoordinator {
    /// Commits offsets. `resolve` says which topics there are; an offset of another one is
    /// refused with the error that it gives. The answer comes when the offsets are durable.
    pub fn commit_offsets(
        &mut self,
        caller: &Caller<'_>,
        request: &OffsetCommitRequest<'_>,
        resolve: &Resolve<'_>,
        now: Now,
    ) -> Actions {
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|one| one.partition_index);
            (topic.name, topic.topic_id, partitions)
        });
        let mut response = targets_of(topics, resolve);
        let partitions = request.topics.iter().flat_map(|topic| &topic.partitions);
        let metadata = partitions.map(|one| one.committed_metadata);
        let mut judged = self.with_sound_metadata(response.partitions().zip(metadata));
        let checked = self.check_commit(caller.version, request, &mut judged);
        drop(judged);
        if let Err(error) = checked {
            response.fail(error);
            let responses = vec![(caller.token, Response::OffsetCommit(response))];
            return Actions { responses, writes: Vec::new() };
        }
        if !self.groups.contains_key(request.group_id) {
            let id: Rc<str> = request.group_id.into();
            self.groups.insert(id.clone(), Group::new(id, now.wall));
        }
        self.in_group(request.group_id, now, |group, turn| {
            commit(group, caller, request, response, turn);
        })
    }

    /// Those of a request's partitions whose age is looked at: as in Apache Kafka, not of one whose
    /// offset cannot be kept for what stands beside it.
    pub(super) fn with_sound_metadata<'a>(
        &self,
        asked: impl Iterator<Item = ((TopicId, i32), Option<&'a str>)>,
    ) -> impl Iterator<Item = (TopicId, i32)> {
        let max = self.engine.settings.offset_metadata_max;
        let is_sound = move |metadata: &str| metadata.encode_utf16().count() <= max;
        asked
            .filter(move |(_, metadata)| metadata.is_none_or(is_sound))
            .map(|(partition, _)| partition)
    }

    fn check_commit(
        &self,
        version: i16,
        request: &OffsetCommitRequest<'_>,
        partitions: &mut dyn Iterator<Item = (TopicId, i32)>,
    ) -> Result<(), ErrorCode> {
        if !is_storable(request.group_id) {
            return Err(ErrorCode::InvalidGroupId);
        }
        let generation = request.generation_id_or_member_epoch;
        let Some(group) = self.groups.get(request.group_id) else {
            return match generation {
                // An administrator, or a consumer that uses no group: the offsets make one.
                ..0 => Ok(()),
                _ if version >= GROUP_ID_NOT_FOUND_FROM => Err(ErrorCode::GroupIdNotFound),
                _ => Err(ErrorCode::IllegalGeneration),
            };
        };
        if group.state == State::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        if let Some(consumer) = &group.consumer {
            let member_id = request.member_id;
            return GroupCoordinator::check_consumer_commit(
                consumer, version, member_id, generation, partitions,
            );
        }
        if generation < 0 && group.state == State::Empty {
            return Ok(());
        }
        let is_member =
            generation >= 0 || !request.member_id.is_empty() || request.group_instance_id.is_some();
        if is_member {
            group.check_member(request.member_id, request.group_instance_id)?;
            if generation != group.generation {
                return Err(ErrorCode::IllegalGeneration);
            }
        } else {
            // The group has members, so nobody else commits.
            return Err(ErrorCode::UnknownMemberId);
        }
        if group.state == State::CompletingRebalance {
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    pub(super) fn commit_done(
        &mut self,
        token: Token,
        group_id: &str,
        offsets: Vec<(String, i32, CommittedOffset)>,
        mut response: OffsetCommit,
        result: Result<(), WriteError>,
        now: Now,
    ) -> Actions {
        if let Err(error) = result {
            response.fail(error.commit_error());
        }
        for (topic, partition, _) in offsets.iter().filter(|_| result.is_ok()) {
            self.overtake(group_id, topic, *partition);
        }
        let mut actions = self.in_group(group_id, now, |group, _| {
            for (topic, partition, offset) in offsets {
                if result.is_ok() {
                    group.offsets.set(&topic, partition, offset);
                }
                group.offsets.end(&topic, partition);
            }
        });
        actions.responses.push((token, Response::OffsetCommit(response)));
        actions
    }

    /// The durable offsets that a query asks for. A partition without one has offset -1, and an
    /// unknown group has none at all.
    #[must_use]
    pub fn fetch_offsets(&self, query: &GroupQuery) -> FetchedGroup {
        let group = self.groups.get(query.group_id.as_str());
        let consumer = group.and_then(|group| group.consumer.as_ref());
        if let Some(error) = consumer.and_then(|consumer| check_fetch(consumer, query)) {
            return query.refused(error);
        }
        query.answer(group.map(|group| &group.offsets))
    }

    /// Forgets offsets that no member of the group uses. `resolve` says which topics there are.
    pub fn delete_offsets(
        &mut self,
        caller: &Caller<'_>,
        request: &OffsetDeleteRequest<'_>,
        resolve: &Resolve<'_>,
        now: Now,
    ) -> Actions {
        let error = self.check_deletion(request.group_id);
        if error != ErrorCode::None {
            let response = OffsetDelete { error, topics: Vec::new() };
            let responses = vec![(caller.token, Response::OffsetDelete(response))];
            return Actions { responses, writes: Vec::new() };
        }
        let mut turn = Turn { engine: &mut self.engine, now, actions: Actions::default() };
        // Not through `in_group`: a group without offsets is still there for the next deletion.
        if let Some(group) = self.groups.get_mut(request.group_id) {
            let mut topics = Vec::with_capacity(request.topics.len());
            let mut offsets = Vec::new();
            for topic in &request.topics {
                let known = resolve(topic.name, TopicId::ZERO);
                let is_used = !group.is_deserted() && group.is_subscribed_to(topic.name);
                let check = |partition: i32| {
                    let found = known.as_ref().map(|known| known.check_partition(partition));
                    let error = found.unwrap_or_else(|error| *error);
                    let is_refused = error == ErrorCode::None && is_used;
                    if is_refused { ErrorCode::GroupSubscribedToTopic } else { error }
                };
                let numbers = topic.partitions.iter().map(|partition| partition.partition_index);
                let results: Vec<_> = numbers.map(|number| (number, check(number))).collect();
                let present = results.iter().filter(|(number, error)| {
                    *error == ErrorCode::None && group.offsets.contains(topic.name, *number)
                });
                offsets.extend(
                    present.map(|(number, _)| (group.id.clone(), topic.name.to_owned(), *number)),
                );
                topics.push((topic.name.to_owned(), results));
            }
            let response = OffsetDelete { error: ErrorCode::None, topics };
            delete(offsets, Some((caller.token, response)), &mut turn);
        }
        turn.actions
    }

    fn check_deletion(&self, group_id: &str) -> ErrorCode {
        let Some(group) = self.groups.get(group_id) else { return ErrorCode::GroupIdNotFound };
        match group.state {
            State::Dead => ErrorCode::GroupIdNotFound,
            State::Empty => ErrorCode::None,
            State::PreparingRebalance | State::CompletingRebalance | State::Stable => {
                if group.is_of_consumers() { ErrorCode::None } else { ErrorCode::NonEmptyGroup }
            }
        }
    }

    /// Topics are gone, and so are the offsets in them.
    pub fn topics_deleted(&mut self, names: &[&str], now: Now) -> Actions {
        let mut offsets = Vec::new();
        for group in self.groups.values() {
            let entries = group.offsets.entries().filter(|(topic, ..)| names.contains(topic));
            offsets.extend(
                entries
                    .map(|(topic, partition, _)| (group.id.clone(), topic.to_owned(), partition)),
            );
        }
        let mut turn = self.turn(now);
        delete(offsets, None, &mut turn);
        turn.actions
    }

    pub(super) fn offset_deletion_done(
        &mut self,
        answer: Option<(Token, OffsetDelete)>,
        offsets: &[OffsetKey],
        result: Result<(), WriteError>,
    ) -> Actions {
        let mut actions = Actions::default();
        if result.is_ok() {
            for (id, topic, partition) in offsets {
                self.overtake(id, topic, *partition);
                let Some(group) = self.groups.get_mut(id) else { continue };
                group.offsets.remove(topic, *partition);
                group.is_kept |= answer.is_some();
                if group.is_vacant() {
                    self.groups.remove(id);
                }
            }
        }
        if let Some((token, mut response)) = answer {
            if let Err(error) = result {
                response = OffsetDelete { error: error.group_error(), topics: Vec::new() };
            }
            actions.responses.push((token, Response::OffsetDelete(response)));
        }
        actions
    }

    /// Drops offsets that are too old, and groups that have no members and no offsets any more.
    pub(super) fn expire_offsets(&mut self, now: Now) -> Actions {
        let retention_ms = self.engine.settings.offsets_retention_ms;
        let interval_ms = self.engine.settings.retention_check_interval_ms;
        let mut offsets = Vec::new();
        let mut groups = Vec::new();
        let mut group_records = Vec::new();
        for group in self.groups.values_mut() {
            let old = expired(group, now.wall, retention_ms);
            let is_all = old.len() == group.offsets.entries().count();
            if is_all && group.is_deserted() {
                group_records.extend(old.iter().map(tombstone));
                group_records.extend(group.tombstones());
                group.enter(State::Dead, now.wall);
                groups.push(group.id.clone());
            } else {
                offsets.extend(old);
            }
        }
        let mut turn = self.turn(now);
        turn.set_timer(Timer::Retention, interval_ms);
        delete(offsets, None, &mut turn);
        if !groups.is_empty() {
            turn.write(group_records, Effect::DeleteGroups { answer: None, groups });
        }
        turn.actions
    }
}

/// An offset by group, topic and partition.
type OffsetKey = (Rc<str>, String, i32);

fn tombstone((group, topic, partition): &OffsetKey) -> Record {
    records::offset_tombstone(group, topic, *partition)
}

/// What a member of a consumer group is told that may not see its offsets.
fn check_fetch(consumer: &ConsumerGroup, query: &GroupQuery) -> Option<ErrorCode> {
    let Some(member_id) = &query.member_id else {
        return (query.member_epoch >= 0).then_some(ErrorCode::UnknownMemberId);
    };
    let Some(member) = consumer.members().get(member_id.as_str()) else {
        return Some(ErrorCode::UnknownMemberId);
    };
    let stale = match &member.classic {
        Some(_) => ErrorCode::IllegalGeneration,
        None => ErrorCode::StaleMemberEpoch,
    };
    (consumer.current_of(member_id).epoch != query.member_epoch).then_some(stale)
}

/// Writes the offsets of a checked request.
fn commit(
    group: &mut Group,
    caller: &Caller<'_>,
    request: &OffsetCommitRequest<'_>,
    mut response: OffsetCommit,
    turn: &mut Turn<'_>,
) {
    if matches!(group.state, State::Stable | State::PreparingRebalance) {
        group.restart_session(request.member_id, turn);
    }
    let now = turn.now().wall;
    let expire_timestamp = (request.retention_time_ms != -1)
        .then(|| TimestampMs(now.0.saturating_add(request.retention_time_ms)));
    let asked = request.topics.iter().flat_map(|topic| &topic.partitions).map(AskedOffset::from);
    let offsets = take_offsets(group, asked, &mut response, expire_timestamp, turn);
    if offsets.is_empty() {
        turn.answer(caller.token, Response::OffsetCommit(response));
        return;
    }
    let records = records_of(group, &offsets);
    let group = group.id.clone();
    let token = caller.token;
    turn.write(records, Effect::CommitOffsets { token, group, offsets, response });
}

/// Writes tombstones, or answers at once if there is nothing to delete.
fn delete(offsets: Vec<OffsetKey>, answer: Option<(Token, OffsetDelete)>, turn: &mut Turn<'_>) {
    if !offsets.is_empty() {
        let records = offsets.iter().map(tombstone).collect();
        turn.write(records, Effect::DeleteOffsets { answer, offsets });
    } else if let Some((token, response)) = answer {
        turn.answer(token, Response::OffsetDelete(response));
    }
}

/// The offsets of a group that are too old. Their age counts from the commit, or from when the
/// last member left; while members are there, only topics outside their subscription age.
fn expired(group: &Group, now: TimestampMs, retention_ms: i64) -> Vec<OffsetKey> {
    let empty_since = match group.state {
        _ if group.consumer.is_some() || group.protocol_type.is_none() => None,
        State::Empty => group.state_timestamp,
        State::Stable if group.is_of_consumers() && group.subscribed_topics.is_some() => None,
        State::Stable | State::PreparingRebalance | State::CompletingRebalance | State::Dead => {
            return Vec::new();
        }
    };
    let is_expired = |(topic, partition, offset): &(&str, i32, &CommittedOffset)| {
        let has_members = group.protocol_type.is_some() || group.consumer.is_some();
        let is_used = has_members && group.is_subscribed_to(topic);
        let since = empty_since.unwrap_or(offset.commit_timestamp);
        !is_used
            && !group.offsets.is_undecided(topic, *partition)
            && offset.is_expired(since, now, retention_ms)
    };
    let key = |(topic, partition, _): (&str, i32, &CommittedOffset)| {
        (group.id.clone(), topic.to_owned(), partition)
    };
    group.offsets.durable().filter(is_expired).map(key).collect()
}
