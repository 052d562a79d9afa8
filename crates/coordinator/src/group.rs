//! A classic group: its members and what they agreed on.
//!
//! ```text
//!           join                    all joined               leader's assignment durable
//!  Empty ---------> PreparingRebalance ---------> CompletingRebalance ---------> Stable
//!    ^                |    ^  ^                           |                        |
//!    +----------------+    |  +---------------------------+                        |
//!      all left            |    join, leave, timeout                               |
//!                          +-------------------------------------------------------+
//!  Empty ---> Dead: its tombstone is under way
//! ```
//! A group also exists, Empty and without a protocol type, where offsets are committed without
//! membership.

mod rebalance;

pub use rebalance::MemberUpdate;

use std::rc::Rc;

use bytes::Bytes;
use model::collections::{BTreeMap, BTreeSet};
use model::{ErrorCode, TimestampMs};
use wire::consumer_protocol_subscription::ConsumerProtocolSubscription;
use wire::{Decode as _, Reader};

use crate::actions::{Record, Token};
use crate::consumer::ConsumerGroup;
use crate::offsets::Offsets;
use crate::records;
use crate::response::{Join, JoinMember};

/// The protocol type of consumers: the only one whose metadata is looked into.
pub const CONSUMER_PROTOCOL: &str = "consumer";

/// Where a group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No members.
    Empty,
    /// Members join.
    PreparingRebalance,
    /// The leader assigns.
    CompletingRebalance,
    /// Every member has its assignment.
    Stable,
    /// It is being deleted.
    Dead,
}

impl State {
    /// As ListGroups and DescribeGroups name it.
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::PreparingRebalance => "PreparingRebalance",
            State::CompletingRebalance => "CompletingRebalance",
            State::Stable => "Stable",
            State::Dead => "Dead",
        }
    }
}

/// A member of a group.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its id, given by the coordinator.
    pub id: Rc<str>,
    /// Its static name, given by its operator.
    pub instance_id: Option<String>,
    /// Its client's name.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// How long it may be silent.
    pub session_timeout_ms: i32,
    /// How long it may take to join a rebalance.
    pub rebalance_timeout_ms: i32,
    /// What it can do, the best first, with opaque metadata.
    pub protocols: Vec<(String, Bytes)>,
    /// What it is to do, opaque.
    pub assignment: Bytes,
    /// Its JoinGroup that waits.
    pub joining: Option<Token>,
    /// Its SyncGroup that waits.
    pub syncing: Option<Token>,
    /// Whether it has not been told its id yet: it cannot heartbeat then.
    pub is_new: bool,
}

impl Member {
    /// What it says under a protocol.
    pub fn metadata(&self, protocol: Option<&str>) -> Bytes {
        let named = self.protocols.iter().find(|(name, _)| Some(name.as_str()) == protocol);
        named.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    fn supports(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }
}

/// A group.
#[derive(Debug)]
pub struct Group {
    /// Its id.
    pub id: Rc<str>,
    /// Where it stands.
    pub state: State,
    /// How long the first rebalance has been delayed and may still be: only while an empty
    /// group's first members join.
    initial_delay: Option<InitialDelay>,
    /// How often the members agreed.
    pub generation: i32,
    /// What kind of group this is; `None` for offsets alone.
    pub protocol_type: Option<String>,
    /// What the members agreed on.
    pub protocol: Option<String>,
    /// Who assigns.
    pub leader: Option<Rc<str>>,
    /// When the state last changed.
    pub state_timestamp: Option<TimestampMs>,
    /// The members by id.
    pub members: BTreeMap<Rc<str>, Member>,
    /// The ids of the static ones, by their static names.
    pub static_members: BTreeMap<String, Rc<str>>,
    /// Ids that were given out, and did not join with them yet.
    pub pending_members: BTreeSet<Rc<str>>,
    /// Whether it stays with nothing in it, as in Apache Kafka, until the next check of the retention:
    /// an id was given out in it, or its offsets were deleted one by one.
    pub is_kept: bool,
    /// Members that have joined this generation and not synced yet.
    pending_sync: BTreeSet<Rc<str>>,
    /// The generation whose assignment is under way to the log. A leader that asks again must not
    /// have another one written: one of the two would be handed out and the other one loaded.
    pub assigning: Option<i32>,
    /// What the members subscribe to, where that is known.
    pub subscribed_topics: Option<BTreeSet<String>>,
    /// What was committed.
    pub offsets: Offsets,
    /// The group of the newer protocol that this is; then nothing of the classic one counts.
    pub consumer: Option<ConsumerGroup>,
}

/// How the first rebalance of an empty group is put off while members arrive.
#[derive(Clone, Copy, Debug)]
struct InitialDelay {
    waited_ms: u64,
    remaining_ms: u64,
    has_new_member: bool,
}

impl Group {
    /// A group without members, generations or offsets.
    pub fn new(id: Rc<str>, now: TimestampMs) -> Group {
        Group {
            id,
            state: State::Empty,
            initial_delay: None,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            state_timestamp: Some(now),
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending_members: BTreeSet::new(),
            is_kept: false,
            pending_sync: BTreeSet::new(),
            assigning: None,
            subscribed_topics: None,
            offsets: Offsets::default(),
            consumer: None,
        }
    }

    /// Whether nothing would be lost by forgetting it.
    pub fn is_vacant(&self) -> bool {
        self.state == State::Empty
            && self.protocol_type.is_none()
            && !self.is_kept
            && self.consumer.is_none()
            && self.offsets.is_empty()
    }

    /// Where it stands, as ListGroups names it.
    pub fn state_name(&self) -> &'static str {
        match &self.consumer {
            Some(consumer) if self.state != State::Dead => consumer.state().name(),
            Some(_) | None => self.state.name(),
        }
    }

    /// Whether it has no members and none is on its way.
    pub fn is_deserted(&self) -> bool {
        let consumer = self.consumer.as_ref();
        self.state == State::Empty
            && self.pending_members.is_empty()
            && consumer.is_none_or(|group| group.members().is_empty() && !group.is_busy)
    }

    /// The records after which nothing of it is left but its offsets.
    pub fn tombstones(&self) -> Vec<Record> {
        match &self.consumer {
            None => vec![records::group_tombstone(&self.id)],
            Some(consumer) => {
                consumer.tombstones().iter().map(|one| one.to_record(&self.id)).collect()
            }
        }
    }

    /// Whether this member assigns.
    pub fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    /// Whether a member of these protocols can be one of this group.
    pub fn supports<'a>(
        &self,
        protocol_type: &str,
        mut protocols: impl Iterator<Item = &'a str>,
    ) -> bool {
        if self.state == State::Empty {
            return !protocol_type.is_empty() && protocols.next().is_some();
        }
        let is_common = |name: &str| self.members.values().all(|member| member.supports(name));
        self.protocol_type.as_deref() == Some(protocol_type) && protocols.any(is_common)
    }

    /// Checks that a member is who it says.
    pub fn check_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(current) if current.as_ref() != member_id => {
                    return Err(ErrorCode::FencedInstanceId);
                }
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    /// Whether another member has room, or this one is in already.
    pub fn has_room_for(&self, member_id: &str, size_max: usize) -> bool {
        let member = self.members.get(member_id);
        match self.state {
            State::Empty | State::Dead => true,
            // Counting those who wait, the last ones to rejoin are sent away after the limit
            // was lowered.
            State::PreparingRebalance => {
                member.is_some_and(|member| member.joining.is_some())
                    || self.joining_count() < size_max
            }
            State::CompletingRebalance | State::Stable => {
                member.is_some() || self.members.len() < size_max
            }
        }
    }

    /// Whether offsets of a topic are in use by members.
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        if let Some(consumer) = &self.consumer {
            return consumer.is_subscribed_to(topic);
        }
        match &self.subscribed_topics {
            Some(topics) => topics.contains(topic),
            None => self.is_of_consumers(),
        }
    }

    /// Whether its members are consumers.
    pub fn is_of_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL)
    }

    /// Goes to another state.
    pub fn enter(&mut self, state: State, now: TimestampMs) {
        self.state = state;
        self.state_timestamp = Some(now);
    }

    /// What a member is told that joined this generation.
    pub fn join_answer(&self, member_id: &str) -> Join {
        Join {
            error: ErrorCode::None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.as_deref().unwrap_or_default().to_owned(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: if self.is_leader(member_id) { self.join_members() } else { Vec::new() },
        }
    }

    /// All members, as the leader sees them.
    pub fn join_members(&self) -> Vec<JoinMember> {
        let member = |member: &Member| JoinMember {
            member_id: member.id.as_ref().to_owned(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(self.protocol.as_deref()),
        };
        self.members.values().map(member).collect()
    }

    /// The protocol that most members prefer of those that all of them know.
    pub fn select_protocol(&self) -> Option<String> {
        let is_common = |name: &str| self.members.values().all(|member| member.supports(name));
        let mut votes = BTreeMap::<&str, usize>::new();
        for member in self.members.values() {
            let vote = member.protocols.iter().find(|(name, _)| is_common(name));
            if let Some((name, _)) = vote {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.to_owned())
    }

    /// What the members subscribe to; `None` where they are not consumers or not understood.
    pub fn compute_subscribed_topics(&self) -> Option<BTreeSet<String>> {
        if !self.is_of_consumers() {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            let metadata = member.metadata(self.protocol.as_deref());
            let mut reader = Reader::new(&metadata);
            // Version 0 is how all versions begin.
            let _version = reader.i16().ok()?;
            let subscription = ConsumerProtocolSubscription::decode(&mut reader, 0).ok()?;
            topics.extend(subscription.topics.into_iter().map(str::to_owned));
        }
        Some(topics)
    }

    /// Puts a member in, as the leader if there is none.
    pub fn add(&mut self, member: Member, protocol_type: &str) {
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), member.id.clone());
        }
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type.to_owned());
        }
        self.leader.get_or_insert_with(|| member.id.clone());
        self.pending_members.remove(&member.id);
        self.members.insert(member.id.clone(), member);
    }

    /// Takes a member out, and makes another one the leader if it was that.
    pub fn remove(&mut self, member_id: &str) -> Option<Member> {
        let removed = self.members.remove(member_id);
        if let Some(instance_id) = removed.as_ref().and_then(|member| member.instance_id.as_ref()) {
            self.static_members.remove(instance_id);
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        self.pending_members.remove(member_id);
        self.pending_sync.remove(member_id);
        removed
    }

    fn joining_count(&self) -> usize {
        self.members.values().filter(|member| member.joining.is_some()).count()
    }

    fn have_all_joined(&self) -> bool {
        self.pending_members.is_empty() && self.joining_count() == self.members.len()
    }

    /// The longest time that a member may take to join.
    fn rebalance_timeout_ms(&self) -> u64 {
        let longest = self.members.values().map(|member| member.rebalance_timeout_ms).max();
        longest.map_or(0, |longest| u64::try_from(longest).unwrap_or(0))
    }
}
