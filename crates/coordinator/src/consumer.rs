//! A consumer group of KIP-848: its members and what the coordinator gives them.
//!
//! The state is what the group's records say, and each [`Change`] is one record: what is applied
//! and what is replayed after a restart is the same. Three numbers order everything:
//!
//! ```text
//! group epoch        grows when members, subscriptions or topics change
//! assignment epoch   the group epoch that the target assignment was made for
//! member epoch       the assignment epoch that the member has come to
//!
//! member epoch <= assignment epoch <= group epoch
//!
//! Empty: no members     Assigning: assignment epoch < group epoch
//! Reconciling: a member is not there yet     Stable: all are
//! ```
//! Changes are applied when they are made and undone if their write fails. Until the write is
//! done the group is busy: what comes for it waits, so that nothing is built on what may not
//! hold, and at most one write of a group is under way.

pub mod assignor;
mod change;
pub mod classic;
mod deferred;
pub mod embedded;
mod heartbeat;
mod metadata_hash;
mod reconcile;
mod regex;

pub use change::{Change, change_of};
pub use classic::{Adopted, ClassicJoin};
pub use deferred::{ClassicCall, ClassicRequest};
pub use heartbeat::{Edit, Heartbeat, Refusal};
pub use regex::compile as compile_regex;

use std::collections::VecDeque;
use std::rc::Rc;

use model::collections::{BTreeMap, BTreeSet};
use model::{ErrorCode, TopicId};

use self::assignor::{Assignor, Partitions};
use self::metadata_hash::metadata_hash;
use self::regex::ResolvedRegex;
use crate::actions::Token;
use crate::response::{ConsumerHeartbeat, Response};
use crate::topics::Topics;

/// Requests that may wait for a group's write. Each connection has one under way, so this is the
/// number of members that may come at the same moment; those above are told to come back.
pub const WAITING_MAX: usize = 20_000;
/// The epoch of a group that nobody has joined yet, and of its assignment: Apache Kafka 4.4's. Who
/// joins first comes to the next one.
const FIRST_EPOCH: i32 = 1;
/// The epoch of a static member that left for a while.
pub const LEFT_FOR_A_WHILE: i32 = -2;

/// Where a group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsumerState {
    /// No members.
    Empty,
    /// A new assignment is due.
    Assigning,
    /// Members are on their way to the assignment.
    Reconciling,
    /// Every member has what it was given.
    Stable,
}

impl ConsumerState {
    /// As ListGroups and ConsumerGroupDescribe name it.
    pub fn name(self) -> &'static str {
        match self {
            ConsumerState::Empty => "Empty",
            ConsumerState::Assigning => "Assigning",
            ConsumerState::Reconciling => "Reconciling",
            ConsumerState::Stable => "Stable",
        }
    }
}

/// What a member said of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Its static name.
    pub instance_id: Option<String>,
    /// Where it is.
    pub rack_id: Option<String>,
    /// Its client's name.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// The topics that it names.
    pub topic_names: BTreeSet<String>,
    /// The expression whose topics it wants besides; an empty one is none.
    pub topic_regex: Option<String>,
    /// How long it may take to give partitions up.
    pub rebalance_timeout_ms: i32,
    /// The assignor that it prefers.
    pub assignor: Option<String>,
    /// What a member of the classic protocol said, kept as it was written.
    pub classic: Option<ClassicMember>,
}

/// A member of the classic protocol in a consumer group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassicMember {
    /// How long it may be silent.
    pub session_timeout_ms: i32,
    /// Its protocols, the best first, with what it says under each.
    pub protocols: Vec<(String, Vec<u8>)>,
}

impl Member {
    fn regex(&self) -> Option<&str> {
        self.topic_regex.as_deref().filter(|regex| !regex.is_empty())
    }
}

/// Partitions with the epoch at which the member got each.
pub type Owned = BTreeMap<TopicId, BTreeMap<i32, i32>>;

/// How far a member has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MemberState {
    /// It has what it is to have at its epoch.
    #[default]
    Stable,
    /// It has to give partitions up first.
    UnrevokedPartitions,
    /// It waits for partitions that others have to give up.
    UnreleasedPartitions,
    /// A state that a newer coordinator wrote.
    Unknown,
}

/// What a member has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Current {
    /// The assignment epoch that it has come to; [`LEFT_FOR_A_WHILE`] while a static member is away.
    pub epoch: i32,
    /// The one before: the answer that brought the new one may have been lost.
    pub previous_epoch: i32,
    /// How far it has come.
    pub state: MemberState,
    /// What it may read.
    pub assigned: Owned,
    /// What it has to give up and may still be reading.
    pub pending_revocation: Owned,
}

impl Default for Current {
    fn default() -> Current {
        Current {
            epoch: 0,
            previous_epoch: -1,
            state: MemberState::Stable,
            assigned: Owned::new(),
            pending_revocation: Owned::new(),
        }
    }
}

impl Current {
    /// What it has, and what it gives up.
    pub fn partitions(&self) -> impl Iterator<Item = (TopicId, i32)> {
        let all = self.assigned.iter().chain(&self.pending_revocation);
        all.flat_map(|(topic, partitions)| partitions.keys().map(|one| (*topic, *one)))
    }

    /// The epoch at which the member got a partition that it has or is giving up.
    pub fn assignment_epoch(&self, topic: TopicId, partition: i32) -> Option<i32> {
        let of = |owned: &Owned| owned.get(&topic)?.get(&partition).copied();
        of(&self.assigned).or_else(|| of(&self.pending_revocation))
    }
}

/// An event that waits until the group's write is done.
#[derive(Debug)]
pub enum Event {
    /// A member's request.
    Heartbeat(Box<Heartbeat>),
    /// A request of the classic protocol.
    Classic(Box<ClassicCall>),
    /// A member was silent for too long.
    SessionOver(Rc<str>),
    /// A classic member did not join again, or did not ask for its assignment, in time.
    JoinOver(Rc<str>),
    /// A member did not give partitions up in time.
    RebalanceOver(Rc<str>),
}

/// A group.
#[derive(Debug, Default)]
pub struct ConsumerGroup {
    /// The group epoch and the hash of the topics; `None` before the first.
    epoch: Option<(i32, i64)>,
    /// The assignment epoch and when the assignment was made.
    target_epoch: Option<(i32, i64)>,
    members: BTreeMap<Rc<str>, Rc<Member>>,
    current: BTreeMap<Rc<str>, Rc<Current>>,
    targets: BTreeMap<Rc<str>, Rc<Partitions>>,
    regexes: BTreeMap<String, Rc<ResolvedRegex>>,
    /// Whether a record of a kind is there that Apache Kafka wrote before 4.1.
    has_partition_metadata: bool,

    // What follows from the above.
    static_members: BTreeMap<String, Rc<str>>,
    owners: BTreeMap<(TopicId, i32), Rc<str>>,
    name_counts: BTreeMap<String, usize>,
    regex_counts: BTreeMap<String, usize>,

    // What is in memory alone.
    /// Whether topics may have changed since the hash was computed.
    is_stale: bool,
    /// Whether topics may have changed since the expressions were resolved.
    is_regex_stale: bool,
    /// Whether a write is under way.
    pub is_busy: bool,
    /// What waits for it.
    pub waiting: VecDeque<Event>,
}

impl ConsumerGroup {
    /// A group that looks at its topics before anything else.
    pub fn new() -> ConsumerGroup {
        ConsumerGroup { is_stale: true, is_regex_stale: true, ..ConsumerGroup::default() }
    }

    /// Where it stands.
    pub fn state(&self) -> ConsumerState {
        let target_epoch = self.assignment_epoch();
        if self.members.is_empty() {
            ConsumerState::Empty
        } else if self.group_epoch() > target_epoch {
            ConsumerState::Assigning
        } else if self.members.keys().all(|id| is_reconciled(&self.current_of(id), target_epoch)) {
            ConsumerState::Stable
        } else {
            ConsumerState::Reconciling
        }
    }

    /// How often members, subscriptions or topics changed.
    pub fn group_epoch(&self) -> i32 {
        self.epoch.map_or(FIRST_EPOCH, |(epoch, _)| epoch)
    }

    /// The group epoch that the target assignment is for.
    pub fn assignment_epoch(&self) -> i32 {
        self.target_epoch.map_or(FIRST_EPOCH, |(epoch, _)| epoch)
    }

    /// The members by id.
    pub fn members(&self) -> &BTreeMap<Rc<str>, Rc<Member>> {
        &self.members
    }

    /// What a member has; nothing where no record says.
    pub fn current_of(&self, id: &str) -> Rc<Current> {
        self.current.get(id).cloned().unwrap_or_default()
    }

    /// What a member is to have.
    pub fn target_of(&self, id: &str) -> Rc<Partitions> {
        self.targets.get(id).cloned().unwrap_or_default()
    }

    /// The assignor that most members prefer; of two it is `uniform`, which Apache Kafka tells then.
    pub fn preferred_assignor(&self, default: Assignor) -> Assignor {
        let mut votes = BTreeMap::<&str, usize>::new();
        for name in self.members.values().filter_map(|member| member.assignor.as_deref()) {
            *votes.entry(name).or_default() += 1;
        }
        // Of two with as many, the last in the order of their names.
        let named = votes.into_iter().max_by_key(|(_, count)| *count);
        named.and_then(|(name, _)| Assignor::named(name)).unwrap_or(default)
    }

    /// Whether members read a topic.
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        let has = |regex: &Rc<ResolvedRegex>| regex.topics.contains(topic);
        self.name_counts.contains_key(topic) || self.regexes.values().any(has)
    }

    /// Topics came, went or grew: the next request looks at them again.
    pub fn topics_changed(&mut self) {
        self.is_stale = true;
        self.is_regex_stale = true;
    }

    /// Members whose records are not all there, as after a downgrade, become members like others.
    pub fn complete_members(&mut self) {
        for id in self.current.keys() {
            self.members.entry(id.clone()).or_default();
        }
        self.topics_changed();
    }

    /// Records after which nothing of the group is left.
    pub fn tombstones(&self) -> Vec<Change> {
        let ids = || self.members.keys().chain(self.current.keys()).chain(self.targets.keys());
        let ids: BTreeSet<Rc<str>> = ids().cloned().collect();
        let current = ids.iter().map(|id| Change::Current(id.clone(), None));
        let targets = ids.iter().map(|id| Change::Target(id.clone(), None));
        let members = ids.iter().map(|id| Change::Member(id.clone(), None));
        let regexes = self.regexes.keys().map(|regex| Change::Regex(regex.clone(), None));
        let end = [Change::TargetEpoch(None)];
        let rest = [Change::PartitionMetadata(false), Change::Epoch(None)];
        let all = current.chain(targets).chain(end).chain(members).chain(regexes);
        all.chain(rest).collect()
    }

    /// Applies a change; gives the one that takes it back.
    pub fn apply(&mut self, change: Change) -> Change {
        match change {
            Change::Epoch(epoch) => Change::Epoch(std::mem::replace(&mut self.epoch, epoch)),
            Change::TargetEpoch(epoch) => {
                Change::TargetEpoch(std::mem::replace(&mut self.target_epoch, epoch))
            }
            Change::PartitionMetadata(is_there) => {
                let was_there = std::mem::replace(&mut self.has_partition_metadata, is_there);
                Change::PartitionMetadata(was_there)
            }
            Change::Target(id, target) => {
                let before = replace(&mut self.targets, id.clone(), target);
                Change::Target(id, before)
            }
            Change::Regex(regex, resolved) => {
                let before = replace(&mut self.regexes, regex.clone(), resolved);
                Change::Regex(regex, before)
            }
            Change::Member(id, member) => self.apply_member(id, member),
            Change::Current(id, current) => self.apply_current(id, current),
        }
    }

    fn apply_member(&mut self, id: Rc<str>, member: Option<Rc<Member>>) -> Change {
        let before = replace(&mut self.members, id.clone(), member.clone());
        if let Some(before) = &before {
            before.topic_names.iter().for_each(|name| uncount(&mut self.name_counts, name));
            if let Some(regex) = before.regex() {
                uncount(&mut self.regex_counts, regex);
            }
            if let Some(name) = &before.instance_id
                && self.static_members.get(name) == Some(&id)
            {
                self.static_members.remove(name);
            }
        }
        if let Some(member) = &member {
            let counted = |counts: &mut BTreeMap<String, usize>, name: &str| {
                *counts.entry(name.to_owned()).or_default() += 1;
            };
            member.topic_names.iter().for_each(|name| counted(&mut self.name_counts, name));
            if let Some(regex) = member.regex() {
                counted(&mut self.regex_counts, regex);
            }
            if let Some(name) = &member.instance_id {
                self.static_members.insert(name.clone(), id.clone());
            }
        }
        Change::Member(id, before)
    }

    fn apply_current(&mut self, id: Rc<str>, current: Option<Rc<Current>>) -> Change {
        let before = replace(&mut self.current, id.clone(), current.clone());
        for one in before.iter().flat_map(|before| before.partitions()) {
            // Another member may have it by now, where compaction changed the order.
            if self.owners.get(&one) == Some(&id) {
                self.owners.remove(&one);
            }
        }
        for one in current.iter().flat_map(|current| current.partitions()) {
            self.owners.insert(one, id.clone());
        }
        Change::Current(id, before)
    }

    /// The hash of the topics that members subscribe to now.
    fn metadata_hash(&self, topics: &dyn Topics) -> i64 {
        let of_regexes = self.regexes.values().flat_map(|regex| &regex.topics);
        let names: BTreeSet<&str> =
            self.name_counts.keys().chain(of_regexes).map(String::as_str).collect();
        metadata_hash(names.into_iter(), topics)
    }

    /// The ids of the topics that a member subscribes to and that there are.
    fn topic_ids(&self, member: &Member, topics: &dyn Topics) -> BTreeSet<TopicId> {
        let resolved = member.regex().and_then(|regex| self.regexes.get(regex));
        let of_regex = resolved.iter().flat_map(|regex| &regex.topics);
        let names = member.topic_names.iter().chain(of_regex);
        names.filter_map(|name| Some(topics.by_name(name)?.id)).collect()
    }

    /// Whether somebody of this id or static name is in, or there is room for another one.
    ///
    /// # Errors
    /// When the group is full.
    pub fn check_size(
        &self,
        id: &str,
        instance_id: Option<&str>,
        size_max: usize,
    ) -> Result<(), Refusal> {
        let is_in = instance_id.is_some_and(|name| self.static_members.contains_key(name))
            || self.members.contains_key(id);
        if is_in || self.members.len() < size_max {
            return Ok(());
        }
        let text =
            format!("The consumer group has reached its maximum capacity of {size_max} members.");
        Err(Refusal::new(ErrorCode::GroupMaxSizeReached, text))
    }

    /// The static member of this name, if it has this id.
    ///
    /// # Errors
    /// When it has another one, or when there is none.
    pub fn static_member(&self, id: &str, instance_id: &str) -> Result<Rc<str>, Refusal> {
        let existing = self.static_members.get(instance_id).cloned().ok_or_else(|| {
            let text = format!("Instance id {instance_id} is unknown.");
            Refusal::new(ErrorCode::UnknownMemberId, text)
        })?;
        if existing.as_ref() == id {
            return Ok(existing);
        }
        let text = format!(
            "Static member {id} with instance id {instance_id} was fenced by member {existing}."
        );
        Err(Refusal::new(ErrorCode::FencedInstanceId, text))
    }
}

impl Event {
    /// The answer to one who waits in vain.
    pub fn refused(&self, error: ErrorCode) -> Option<(Token, Response)> {
        match self {
            Event::Heartbeat(request) => {
                let answer = ConsumerHeartbeat::failed(error, None);
                Some((request.token, Response::ConsumerHeartbeat(answer)))
            }
            Event::Classic(call) => Some(call.refused(error)),
            Event::SessionOver(_) | Event::JoinOver(_) | Event::RebalanceOver(_) => None,
        }
    }
}

fn is_reconciled(current: &Current, target_epoch: i32) -> bool {
    current.state == MemberState::Stable && current.epoch == target_epoch
}

fn replace<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) -> Option<V> {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    }
}

fn uncount(counts: &mut BTreeMap<String, usize>, name: &str) {
    let Some(count) = counts.get_mut(name) else { return };
    *count -= 1;
    if *count == 0 {
        counts.remove(name);
    }
}
