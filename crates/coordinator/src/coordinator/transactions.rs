//! Offsets that are part of transactions: TxnOffsetCommit, and the markers that end them.
//!
//! What a transaction commits is pending from when its record is durable until its marker is: then
//! it holds, or it never did. A plain commit or a tombstone that comes in between overtakes it, as
//! it does in the log. A partition with something pending has no stable offset.

use std::rc::Rc;

use model::collections::BTreeMap;
use model::{ErrorCode, ProducerId, TopicId};
use wire::txn_offset_commit_request::TxnOffsetCommitRequest;

use super::offsets::{AskedOffset, MEMBER_EPOCH_FROM, records_of, take_offsets, targets_of};
use super::{Effect, GroupCoordinator, Resolve, Turn, is_storable};
use crate::actions::{Actions, Caller, Now, Token, TransactionEnd, WriteError, WriteForm};
use crate::group::{Group, State};
use crate::offsets::CommittedOffset;
use crate::response::{OffsetCommit, Response};
use crate::transactions::{Outcome, ProducerIdentity};

/// The first version of TxnOffsetCommit that knows of unknown groups and of stale epochs.
const GROUP_ERRORS_FROM: i16 = 6;

/// Offsets that a transaction commits, by group, topic and partition, until its end says whether.
pub(super) type PendingOffsets = BTreeMap<(String, String, i32), CommittedOffset>;

/// Offsets of a transaction whose record is under way.
#[derive(Debug)]
pub struct PendingCommit {
    pub(super) token: Token,
    group: Rc<str>,
    producer_id: ProducerId,
    offsets: Vec<(String, i32, CommittedOffset)>,
    pub(super) response: OffsetCommit,
}

impl GroupCoordinator {
    /// Commits offsets as a part of a transaction. The caller has made sure that the partition of
    /// this coordinator is in it. The answer comes when they are durable; they hold once the
    /// transaction is committed.
    pub fn commit_transactional_offsets(
        &mut self,
        caller: &Caller<'_>,
        request: &TxnOffsetCommitRequest<'_>,
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
        let checked = self.check_transactional(caller.version, request, &mut judged);
        drop(judged);
        if let Err(error) = checked {
            response.fail(error);
            let responses = vec![(caller.token, Response::TxnOffsetCommit(response))];
            return Actions { responses, writes: Vec::new() };
        }
        let id: Rc<str> = request.group_id.into();
        self.groups.entry(id.clone()).or_insert_with(|| Group::new(id, now.wall));
        self.in_group(request.group_id, now, |group, turn| {
            commit(group, caller, request, response, turn);
        })
    }

    fn check_transactional(
        &self,
        version: i16,
        request: &TxnOffsetCommitRequest<'_>,
        partitions: &mut dyn Iterator<Item = (TopicId, i32)>,
    ) -> Result<(), ErrorCode> {
        if !is_storable(request.group_id) {
            return Err(ErrorCode::InvalidGroupId);
        }
        let generation = request.generation_id_or_member_epoch;
        let is_known = version >= GROUP_ERRORS_FROM;
        let Some(group) = self.groups.get(request.group_id) else {
            return match generation {
                ..0 => Ok(()),
                _ if is_known => Err(ErrorCode::GroupIdNotFound),
                _ => Err(ErrorCode::IllegalGeneration),
            };
        };
        if group.state == State::Dead {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        // Old clients do not say who they are.
        let is_member =
            generation >= 0 || !request.member_id.is_empty() || request.group_instance_id.is_some();
        if let Some(consumer) = &group.consumer {
            if generation == -1 && !is_member {
                return Ok(());
            }
            let (version, member_id) = (MEMBER_EPOCH_FROM, request.member_id);
            let checked = GroupCoordinator::check_consumer_commit(
                consumer, version, member_id, generation, partitions,
            );
            let is_told = |error: ErrorCode| error != ErrorCode::StaleMemberEpoch || is_known;
            return checked.map_err(|error| {
                if is_told(error) { error } else { ErrorCode::IllegalGeneration }
            });
        }
        if is_member && !(generation < 0 && group.state == State::Empty) {
            group.check_member(request.member_id, request.group_instance_id)?;
            if generation != group.generation {
                return Err(ErrorCode::IllegalGeneration);
            }
        }
        Ok(())
    }

    pub(super) fn pending_commit_done(
        &mut self,
        commit: PendingCommit,
        result: Result<(), WriteError>,
        now: Now,
    ) -> Actions {
        let PendingCommit { token, group: id, producer_id, offsets, mut response } = commit;
        if let Err(error) = result {
            response.fail(error.commit_error());
        }
        for (topic, partition, offset) in &offsets {
            if result.is_ok() {
                self.hold(producer_id, &id, topic, *partition, offset.clone());
            }
        }
        let mut actions = self.in_group(&id, now, |group, _| {
            for (topic, partition, _) in &offsets {
                group.offsets.end(topic, *partition);
            }
        });
        actions.responses.push((token, Response::TxnOffsetCommit(response)));
        actions
    }

    /// Writes the marker of a transaction that may have committed offsets here. They hold, or are
    /// forgotten, when it is durable; then comes the answer.
    pub fn end_transaction(&mut self, token: Token, end: TransactionEnd, now: Now) -> Actions {
        let mut turn = self.turn(now);
        let effect = Effect::EndTransaction { token, end };
        turn.write_as(WriteForm::Marker(end), Vec::new(), effect);
        turn.actions
    }

    pub(super) fn transaction_end_done(
        &mut self,
        token: Token,
        end: TransactionEnd,
        result: Result<(), WriteError>,
    ) -> Actions {
        let error = match result {
            Ok(()) => {
                self.end_pending(end.producer.id, end.outcome);
                ErrorCode::None
            }
            // What is a coordinator of groups for others is a partition for that of transactions.
            Err(WriteError::NotCoordinator) => ErrorCode::NotLeaderOrFollower,
            Err(WriteError::Unavailable) => ErrorCode::NotEnoughReplicas,
            Err(WriteError::TooLarge) => ErrorCode::UnknownServerError,
            Err(WriteError::Refused(error)) => error,
        };
        let responses = vec![(token, Response::TransactionEnded(error))];
        Actions { responses, writes: Vec::new() }
    }

    /// What a transaction committed holds now, or never.
    pub(super) fn end_pending(&mut self, producer_id: ProducerId, outcome: Outcome) {
        let pending = self.pending.remove(&producer_id).unwrap_or_default();
        for ((group_id, topic, partition), offset) in pending {
            let Some(group) = self.groups.get_mut(group_id.as_str()) else { continue };
            match outcome {
                Outcome::Commit => group.offsets.set(&topic, partition, offset),
                Outcome::Abort => {}
            }
            group.offsets.release(&topic, partition);
            if group.is_vacant() {
                self.groups.remove(group_id.as_str());
            }
        }
    }

    /// A transaction's record of an offset is durable.
    pub(super) fn hold(
        &mut self,
        producer_id: ProducerId,
        group_id: &str,
        topic: &str,
        partition: i32,
        offset: CommittedOffset,
    ) {
        let timestamp = offset.commit_timestamp;
        let pending = self.pending.entry(producer_id).or_default();
        let key = (group_id.to_owned(), topic.to_owned(), partition);
        if pending.insert(key, offset).is_none() {
            let id: Rc<str> = group_id.into();
            let group = self.groups.entry(id.clone()).or_insert_with(|| Group::new(id, timestamp));
            group.offsets.hold(topic, partition);
        }
    }

    /// Something that came later overtakes what transactions have pending for a partition.
    pub(super) fn overtake(&mut self, group_id: &str, topic: &str, partition: i32) {
        let Some(group) = self.groups.get_mut(group_id) else { return };
        if !group.offsets.is_pending(topic, partition) {
            return;
        }
        let key = (group_id.to_owned(), topic.to_owned(), partition);
        for pending in self.pending.values_mut() {
            if pending.remove(&key).is_some() {
                group.offsets.release(topic, partition);
            }
        }
        self.pending.retain(|_, pending| !pending.is_empty());
    }

    /// A group is gone, with what transactions have pending for it.
    pub(super) fn overtake_group(&mut self, group_id: &str) {
        for pending in self.pending.values_mut() {
            pending.retain(|(group, ..), _| group != group_id);
        }
        self.pending.retain(|_, pending| !pending.is_empty());
    }
}

/// Writes the offsets of a checked request.
fn commit(
    group: &mut Group,
    caller: &Caller<'_>,
    request: &TxnOffsetCommitRequest<'_>,
    mut response: OffsetCommit,
    turn: &mut Turn<'_>,
) {
    let asked = request.topics.iter().flat_map(|topic| &topic.partitions).map(AskedOffset::from);
    let offsets = take_offsets(group, asked, &mut response, None, turn);
    if offsets.is_empty() {
        turn.answer(caller.token, Response::TxnOffsetCommit(response));
        return;
    }
    let records = records_of(group, &offsets);
    let producer = ProducerIdentity {
        id: ProducerId(request.producer_id),
        epoch: model::ProducerEpoch(request.producer_epoch),
    };
    let (token, group, producer_id) = (caller.token, group.id.clone(), producer.id);
    let commit = PendingCommit { token, group, producer_id, offsets, response };
    turn.write_as(WriteForm::Transactional(producer), records, Effect::PendingCommit(commit));
}
