//! A group that changes its protocol while it has members: a classic group becomes a consumer group
//! when a member of that protocol joins, and a classic group again when the last one leaves.
//!
//! ```text
//! upgrade     tombstone of the classic group | records of the consumer group | of who joins
//! downgrade   tombstones of the consumer group | the classic group with what its members have
//! ```
//! Either is one batch. Until it is durable the group is what it was before, and if it is never made
//! it stays that; who waited in the classic group joins again.
//!
//! Apache Kafka writes what the members of a consumer group are to have, where some may still read
//! more. A group that is upgraded again before they have joined then has two readers of a partition.

use std::rc::Rc;

use bytes::Bytes;
use model::collections::{BTreeMap, BTreeSet};
use model::{ErrorCode, TopicId};

use super::Turn;
use crate::actions::Record;
use crate::consumer::assignor::Partitions;
use crate::consumer::embedded::{self, Unreadable};
use crate::consumer::{Adopted, ClassicMember, ConsumerGroup, Member, Refusal};
use crate::group::{self, Group, State};
use crate::records;
use crate::response::{Join, Response, Sync};
use crate::settings::{ConsumerSettings, MigrationPolicy};
use crate::timers::Timer;
use crate::topics::Topics;

/// The classic group that a consumer group becomes.
#[derive(Debug)]
pub struct Downgrade {
    group: Box<Group>,
    rebalance: Rebalance,
}

/// Whether the members of a group join again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rebalance {
    /// They do.
    Now,
    /// They go on.
    Not,
}

/// A classic group's members for a consumer group, with the generation.
pub(super) fn members_to_adopt(
    group: &Group,
    settings: &ConsumerSettings,
    topics: &dyn Topics,
) -> Result<Vec<Adopted>, Refusal> {
    let refuse = |why: &str| {
        let text =
            format!("Cannot upgrade classic group {} to consumer group because {why}.", group.id);
        Err(Refusal::new(ErrorCode::GroupIdNotFound, text))
    };
    let malformed = "the embedded consumer protocol is malformed";
    if !settings.migration.upgrades() {
        return refuse("online upgrade is disabled");
    }
    if !group.is_of_consumers() {
        return refuse("the group does not use the consumer embedded protocol");
    }
    if group.members.len() > settings.size_max {
        return refuse("the group size exceeds the consumer group maximum size");
    }
    // A group that never came to an agreement has no protocol yet.
    let protocol = group.protocol.clone().or_else(|| group.select_protocol());
    let mut adopted = Vec::with_capacity(group.members.len());
    let mut claimed = Vec::new();
    for member in group.members.values() {
        let partitions = match embedded::assigned(&member.assignment, topics) {
            Ok(partitions) => partitions,
            Err(Unreadable::Malformed) => return refuse(malformed),
            Err(Unreadable::HasUserData) => {
                return refuse(
                    "an unsupported custom assignor is in use. Please refer to the documentation \
                     or switch to a default assignor before re-attempting the upgrade",
                );
            }
        };
        let metadata = member.metadata(protocol.as_deref());
        let Ok(subscription) = embedded::subscription(&metadata, topics) else {
            return refuse(malformed);
        };
        claimed.push(subscription.owned);
        let protocols = member.protocols.iter();
        let protocols = protocols.map(|(name, metadata)| (name.clone(), metadata.to_vec()));
        adopted.push(Adopted {
            id: member.id.clone(),
            member: Member {
                instance_id: member.instance_id.clone(),
                rack_id: subscription.rack_id,
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                topic_names: subscription.topics,
                topic_regex: None,
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                assignor: None,
                classic: Some(ClassicMember {
                    session_timeout_ms: member.session_timeout_ms,
                    protocols: protocols.collect(),
                }),
            },
            partitions,
        });
    }
    take_claims(&mut adopted, claimed);
    Ok(adopted)
}

/// A cooperative member reads on what it had when it joined until it has its assignment, and then
/// gives the rest up and joins again, without it. So what it had and was not given may still be read
/// by it: it was not told yet, or it is at it, or the rebalance was broken off. (Apache Kafka counts
/// only what the last assignment gave, and gives the rest to somebody else at once.)
fn take_claims(adopted: &mut [Adopted], claimed: Vec<Partitions>) {
    let all = |partitions: &Partitions| -> Vec<(TopicId, i32)> {
        let topics = partitions.iter();
        topics.flat_map(|(topic, all)| all.iter().map(|one| (*topic, *one))).collect()
    };
    let mut taken: BTreeSet<(TopicId, i32)> =
        adopted.iter().flat_map(|one| all(&one.partitions)).collect();
    for (one, claimed) in adopted.iter_mut().zip(claimed) {
        for (topic, partition) in all(&claimed) {
            if taken.insert((topic, partition)) {
                one.partitions.entry(topic).or_default().insert(partition);
            }
        }
    }
}

/// Whether a consumer group becomes a classic one when these members are gone: its last ones of the
/// newer protocol.
pub(super) fn is_downgrade(
    consumer: &ConsumerGroup,
    leaving: &BTreeSet<Rc<str>>,
    policy: MigrationPolicy,
    group_size_max: usize,
) -> bool {
    let left = consumer.members().len() - leaving.len();
    policy.downgrades()
        && (1..=group_size_max).contains(&left)
        && consumer.is_classic_but_for(leaving)
}

/// The classic group of a consumer group's members without those who leave, and its record; nothing
/// where its members do not make one.
pub(super) fn downgrade(
    group: &Group,
    consumer: &ConsumerGroup,
    leaving: &BTreeSet<Rc<str>>,
    generation: i32,
    rebalance: Rebalance,
    turn: &Turn<'_>,
) -> Option<(Downgrade, Vec<Record>)> {
    let topics = turn.topics();
    let mut classic = Group::new(group.id.clone(), turn.now().wall);
    let mut read = BTreeMap::<Rc<str>, Partitions>::new();
    for (id, member) in consumer.members().iter().filter(|(id, _)| !leaving.contains(*id)) {
        classic.add(classic_member(id, member)?, group::CONSUMER_PROTOCOL);
        let of_member = read.entry(id.clone()).or_default();
        for (topic, partition) in consumer.current_of(id).partitions() {
            of_member.entry(topic).or_default().insert(partition);
        }
    }
    classic.generation = generation;
    classic.protocol = Some(classic.select_protocol()?);
    classic.subscribed_topics = classic.compute_subscribed_topics();
    classic.enter(State::Stable, turn.now().wall);
    let protocol = classic.protocol.clone();
    let mut assignments = BTreeMap::<String, Bytes>::new();
    for member in classic.members.values_mut() {
        let metadata = member.metadata(protocol.as_deref());
        let assignment = embedded::assignment(&read[&member.id], &metadata, topics.as_ref());
        member.assignment = assignment.ok()?;
        assignments.insert(member.id.as_ref().to_owned(), member.assignment.clone());
    }
    let tombstones = consumer.tombstones();
    let mut records: Vec<Record> =
        tombstones.iter().map(|change| change.to_record(&group.id)).collect();
    records.push(records::group_metadata(&classic, &assignments));
    Some((Downgrade { group: Box::new(classic), rebalance }, records))
}

fn classic_member(id: &Rc<str>, member: &Member) -> Option<group::Member> {
    let classic = member.classic.as_ref()?;
    let protocols = classic.protocols.iter();
    let protocols =
        protocols.map(|(name, metadata)| (name.clone(), Bytes::copy_from_slice(metadata)));
    Some(group::Member {
        id: id.clone(),
        instance_id: member.instance_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        session_timeout_ms: classic.session_timeout_ms,
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        protocols: protocols.collect(),
        assignment: Bytes::new(),
        joining: None,
        syncing: None,
        is_new: false,
    })
}

impl Group {
    /// The group is about to become a consumer group: nobody is waited for any more, and those who
    /// wait are to ask again.
    pub(super) fn interrupt(&mut self, turn: &mut Turn<'_>) {
        turn.cancel_timer(&Timer::Join(self.id.clone()));
        turn.cancel_timer(&Timer::Sync(self.id.clone()));
        let ids: Vec<Rc<str>> = self.members.keys().cloned().collect();
        for id in ids {
            let error = ErrorCode::RebalanceInProgress;
            self.answer_join(&id, Join::failed(error, &id), turn);
            let member = self.members.get_mut(&id).expect("it was listed");
            if let Some(token) = member.syncing.take() {
                turn.answer(token, Response::Sync(Sync::failed(error)));
            }
            self.restart_session(&id, turn);
        }
    }

    /// It did not become a consumer group: its members join again.
    pub(super) fn resume(&mut self, turn: &mut Turn<'_>) {
        if !self.members.is_empty() {
            self.prepare_rebalance(turn);
        }
    }

    /// The classic group that this was is over.
    pub(super) fn forget_classic(&mut self, turn: &Turn<'_>) {
        let classic = Group::new(self.id.clone(), turn.now().wall);
        let over = std::mem::replace(self, classic);
        (self.offsets, self.consumer) = (over.offsets, over.consumer);
    }

    /// The consumer group that this was is over, and the classic one is there.
    pub(super) fn become_classic(&mut self, downgrade: Downgrade, turn: &mut Turn<'_>) {
        let over = std::mem::replace(self, *downgrade.group);
        self.offsets = over.offsets;
        for id in over.consumer.iter().flat_map(|consumer| consumer.members().keys()) {
            super::consumer::cancel_deadlines(&over.id, id, turn);
        }
        let ids: Vec<Rc<str>> = self.members.keys().cloned().collect();
        for id in ids {
            self.restart_session(&id, turn);
        }
        if downgrade.rebalance == Rebalance::Now {
            self.prepare_rebalance(turn);
        }
    }
}
