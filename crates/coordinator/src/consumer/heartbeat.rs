//! A member's heartbeat: it joins, says what changed, tells what it has, and leaves.

use std::rc::Rc;

use model::collections::{BTreeMap, BTreeSet};
use model::{ErrorCode, TopicId};
use wire::consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest;

use super::assignor::{Partitions, Subscriber};
use super::reconcile::Step;
use super::{Change, ConsumerGroup, Current, LEFT_FOR_A_WHILE, Member, regex};
use crate::actions::{Caller, Now, Token};
use crate::response::{ConsumerAssignment, ConsumerHeartbeat};
use crate::settings::ConsumerSettings;
use crate::topics::Topics;

/// The epoch with which a member joins.
const JOINS: i32 = 0;
/// The epoch with which a member leaves for good.
const LEAVES: i32 = -1;
/// Expressions are not resolved again more often than this: each time costs a look at every name.
const REGEX_REFRESH_MIN_MS: i64 = 10_000;

/// A request, kept while it waits.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    /// Names the answer.
    pub token: Token,
    /// Who.
    pub member_id: String,
    /// The member's epoch, or what it is about to do.
    pub epoch: i32,
    instance_id: Option<String>,
    rack_id: Option<String>,
    rebalance_timeout_ms: Option<i32>,
    topic_names: Option<BTreeSet<String>>,
    topic_regex: Option<String>,
    assignor: Option<String>,
    owned: Option<Partitions>,
    client_id: String,
    client_host: String,
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For the client.
    pub error: ErrorCode,
    /// For people.
    pub message: String,
}

impl Refusal {
    /// A refusal with a text.
    pub fn new(error: ErrorCode, message: impl Into<String>) -> Refusal {
        Refusal { error, message: message.into() }
    }

    /// The member has to begin anew.
    pub fn fenced(message: impl Into<String>) -> Refusal {
        Refusal::new(ErrorCode::FencedMemberEpoch, message)
    }

    pub(super) fn unknown_member(group_id: &str, member_id: &str) -> Refusal {
        let text = format!("Member {member_id} is not a member of group {group_id}.");
        Refusal::new(ErrorCode::UnknownMemberId, text)
    }
}

impl Heartbeat {
    /// The request, with an id for a member that has none yet.
    pub fn of(caller: &Caller<'_>, request: &ConsumerGroupHeartbeatRequest<'_>) -> Heartbeat {
        let owned = request.topic_partitions.as_ref().map(|topics| {
            let mut owned = Partitions::new();
            for topic in topics.iter().filter(|topic| !topic.partitions.is_empty()) {
                owned.entry(topic.topic_id).or_default().extend(&topic.partitions);
            }
            owned
        });
        let names = request.subscribed_topic_names.as_ref();
        let timeout = Some(request.rebalance_timeout_ms).filter(|timeout| *timeout != -1);
        Heartbeat {
            token: caller.token,
            member_id: match request.member_id {
                "" => caller.random.to_string(),
                id => id.to_owned(),
            },
            epoch: request.member_epoch,
            instance_id: request.instance_id.map(str::to_owned),
            rack_id: request.rack_id.map(str::to_owned),
            rebalance_timeout_ms: timeout,
            topic_names: names.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
            topic_regex: request.subscribed_topic_regex.map(str::to_owned),
            assignor: request.server_assignor.map(str::to_owned),
            owned,
            client_id: caller.client_id.to_owned(),
            client_host: caller.client_host.to_owned(),
        }
    }

    /// Whether a group may be made for it.
    pub fn joins(&self) -> bool {
        self.epoch == JOINS
    }

    /// Whether the member goes, for good or for a while.
    pub fn leaves(&self) -> bool {
        matches!(self.epoch, LEAVES | LEFT_FOR_A_WHILE)
    }

    /// Who leaves.
    ///
    /// # Errors
    /// When that is no member.
    pub fn leaving(&self, group_id: &str, group: &ConsumerGroup) -> Result<Rc<str>, Refusal> {
        if let Some(instance_id) = &self.instance_id {
            return group.static_member(&self.member_id, instance_id);
        }
        let known = group.members.get_key_value(self.member_id.as_str());
        known
            .map(|(id, _)| id.clone())
            .ok_or_else(|| Refusal::unknown_member(group_id, &self.member_id))
    }

    /// What one is told who has left.
    pub fn left(&self, id: &str) -> ConsumerHeartbeat {
        ConsumerHeartbeat {
            error: ErrorCode::None,
            error_message: None,
            member_id: Some(id.to_owned()),
            member_epoch: self.epoch,
            heartbeat_interval_ms: 0,
            assignment: None,
        }
    }

    /// Whether everything that a member can say is said.
    fn is_full(&self) -> bool {
        let has_subscription = self.topic_names.is_some() || self.topic_regex.is_some();
        self.rebalance_timeout_ms.is_some() && has_subscription && self.owned.is_some()
    }

    fn updated(&self, member: &Member) -> Member {
        let or =
            |new: &Option<String>, old: &Option<String>| new.as_ref().or(old.as_ref()).cloned();
        Member {
            instance_id: or(&self.instance_id, &member.instance_id),
            rack_id: or(&self.rack_id, &member.rack_id),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            topic_names: self.topic_names.as_ref().unwrap_or(&member.topic_names).clone(),
            topic_regex: or(&self.topic_regex, &member.topic_regex),
            rebalance_timeout_ms: self.rebalance_timeout_ms.unwrap_or(member.rebalance_timeout_ms),
            assignor: or(&self.assignor, &member.assignor),
            classic: None,
        }
    }
}

/// An event on its way through a group: what it changed, and how to take that back.
#[derive(Debug)]
pub struct Edit<'a> {
    /// The group's id.
    pub group_id: &'a str,
    pub(super) group: &'a mut ConsumerGroup,
    pub(super) topics: &'a dyn Topics,
    pub(super) settings: &'a ConsumerSettings,
    now: Now,
    /// What was changed, in order.
    pub changes: Vec<Change>,
    /// What takes it back, in the same order.
    pub undo: Vec<Change>,
}

impl<'a> Edit<'a> {
    /// Nothing has changed yet.
    pub fn new(
        group_id: &'a str,
        group: &'a mut ConsumerGroup,
        topics: &'a dyn Topics,
        settings: &'a ConsumerSettings,
        now: Now,
    ) -> Edit<'a> {
        let (changes, undo) = (Vec::new(), Vec::new());
        Edit { group_id, group, topics, settings, now, changes, undo }
    }

    pub(super) fn apply(&mut self, change: Change) {
        self.undo.push(self.group.apply(change.clone()));
        self.changes.push(change);
    }

    /// Takes everything back.
    pub fn roll_back(self) {
        for change in self.undo.into_iter().rev() {
            self.group.apply(change);
        }
        // What was looked at may not be in the log.
        self.group.topics_changed();
    }

    /// Does what a request asks for.
    ///
    /// # Errors
    /// Why not. Then everything is to be taken back.
    pub fn heartbeat(&mut self, request: &Heartbeat) -> Result<ConsumerHeartbeat, Refusal> {
        let size_max = self.settings.size_max;
        self.group.check_size(&request.member_id, request.instance_id.as_deref(), size_max)?;
        let id: Rc<str> = request.member_id.as_str().into();
        self.admit(&id, request)?;
        let before = self.group.current_of(&id);
        let known = self.group.members.get(&id).cloned().unwrap_or_default();
        let is_subscription_new = self.update_member(&id, request.updated(&known))?;
        self.update_target();
        let next = self.reconcile(&id, is_subscription_new, request.owned.as_ref())?;
        let is_assignment_new = next.assigned != before.assigned;
        let says_all = request.joins() || request.is_full() || is_assignment_new;
        Ok(ConsumerHeartbeat {
            error: ErrorCode::None,
            error_message: None,
            member_id: Some(id.as_ref().to_owned()),
            member_epoch: next.epoch,
            heartbeat_interval_ms: self.settings.heartbeat_interval_ms,
            assignment: says_all.then(|| assignment_of(&next)),
        })
    }

    /// Takes a member as far towards its target as it can go.
    pub(super) fn reconcile(
        &mut self,
        id: &Rc<str>,
        is_subscription_new: bool,
        owned: Option<&Partitions>,
    ) -> Result<Current, Refusal> {
        let before = self.group.current_of(id);
        let member = Rc::clone(&self.group.members[id]);
        let step = Step {
            target_epoch: self.group.assignment_epoch(),
            target: &self.group.target_of(id),
            topics: &self.group.topic_ids(&member, self.topics),
            is_subscription_new,
            owned,
        };
        let next = step.take(&before, self.group)?;
        if next != *before || !self.group.current.contains_key(id) {
            self.apply(Change::Current(id.clone(), Some(Rc::new(next.clone()))));
        }
        Ok(next)
    }

    /// Takes members out.
    ///
    /// # Panics
    /// When one of them is none.
    pub fn fence(&mut self, ids: &BTreeSet<Rc<str>>) {
        let members: Vec<Rc<Member>> =
            ids.iter().map(|id| Rc::clone(&self.group.members[id])).collect();
        ids.iter().for_each(|id| self.remove(id));
        let regexes: BTreeSet<&str> = members.iter().filter_map(|member| member.regex()).collect();
        for regex in regexes {
            if !self.group.regex_counts.contains_key(regex) {
                self.apply(Change::Regex(regex.to_owned(), None));
            }
        }
        let hash = self.group.metadata_hash(self.topics);
        let epoch = self.group.group_epoch() + 1;
        self.apply(Change::Epoch(Some((epoch, hash))));
        if self.group.members.is_empty() {
            self.apply(Change::TargetEpoch(Some((epoch, 0))));
        }
    }

    /// Finds the member, or lets it in; a static one takes the place that it left.
    fn admit(&mut self, id: &Rc<str>, request: &Heartbeat) -> Result<(), Refusal> {
        let Some(instance_id) = &request.instance_id else {
            return match self.group.members.get(id) {
                Some(_) => check_epoch(request, &self.group.current_of(id)),
                None if request.joins() => Ok(()),
                None => Err(Refusal::unknown_member(self.group_id, id)),
            };
        };
        if !request.joins() {
            let existing = self.group.static_member(id, instance_id)?;
            return check_epoch(request, &self.group.current_of(&existing));
        }
        let existing = self.group.static_members.get(instance_id).cloned();
        let Some(existing) = existing else { return Ok(()) };
        // A classic member cannot say that it leaves for a while.
        let is_classic = self.group.members[&existing].classic.is_some();
        if !is_classic && self.group.current_of(&existing).epoch != LEFT_FOR_A_WHILE {
            return Err(Refusal::new(
                ErrorCode::UnreleasedInstanceId,
                format!(
                    "Static member {id} with instance id {instance_id} cannot join the group \
                     because the instance id is owned by {existing} member."
                ),
            ));
        }
        self.replace(&existing, id);
        Ok(())
    }

    /// Gives the place of a static member to another id.
    pub(super) fn replace(&mut self, existing: &Rc<str>, id: &Rc<str>) {
        let member = Rc::clone(&self.group.members[existing]);
        let target = self.group.target_of(existing);
        let current = self.group.current_of(existing);
        self.remove(existing);
        self.apply(Change::Member(id.clone(), Some(member)));
        self.apply(Change::Target(id.clone(), Some(target)));
        let taken = Current { epoch: JOINS, previous_epoch: 0, ..current.as_ref().clone() };
        self.apply(Change::Current(id.clone(), Some(Rc::new(taken))));
    }

    /// A static member leaves for a while.
    pub fn leave_for_a_while(&mut self, id: &Rc<str>) {
        let current = self.group.current_of(id);
        let mut away = Current { epoch: LEFT_FOR_A_WHILE, ..current.as_ref().clone() };
        away.pending_revocation.clear();
        away.assigned.values_mut().flat_map(|one| one.values_mut()).for_each(|at| *at = 0);
        self.apply(Change::Current(id.clone(), Some(Rc::new(away))));
    }

    fn remove(&mut self, id: &Rc<str>) {
        self.apply(Change::Current(id.clone(), None));
        self.apply(Change::Target(id.clone(), None));
        self.apply(Change::Member(id.clone(), None));
    }

    /// Takes over what the member says of itself, and counts the group epoch up if that or a topic
    /// changed. Tells whether the member's subscription is another one now.
    pub(super) fn update_member(&mut self, id: &Rc<str>, member: Member) -> Result<bool, Refusal> {
        let default = self.settings.default_assignor();
        let assignor = self.group.preferred_assignor(default);
        let is_new = !self.group.members.contains_key(id);
        let known = self.group.members.get(id).cloned().unwrap_or_default();
        let are_names_new = member.topic_names != known.topic_names;
        let is_regex_new = member.topic_regex != known.topic_regex;
        if let Some(expression) = member.regex().filter(|_| is_regex_new) {
            regex::compile(expression).map_err(|why| {
                let text = format!(
                    "SubscribedTopicRegex `{expression}` is not a valid regular expression: {why}."
                );
                Refusal::new(ErrorCode::InvalidRegularExpression, text)
            })?;
        }
        if is_new || member != *known {
            self.apply(Change::Member(id.clone(), Some(Rc::new(member))));
        }
        let is_resolution_new = self.resolve(known.regex().filter(|_| is_regex_new));
        let is_assignor_new = assignor != self.group.preferred_assignor(default);
        let is_due =
            is_new || are_names_new || is_regex_new || is_resolution_new || is_assignor_new;
        if is_due || self.group.is_stale {
            let hash = self.group.metadata_hash(self.topics);
            if is_due || self.group.epoch.is_none_or(|(_, known)| known != hash) {
                self.apply(Change::Epoch(Some((self.group.group_epoch() + 1, hash))));
            }
            if self.group.has_partition_metadata {
                self.apply(Change::PartitionMetadata(false));
            }
            self.group.is_stale = false;
        }
        Ok(are_names_new || is_regex_new)
    }

    /// Resolves what is new, and all of it where topics may have changed; drops what nobody asks
    /// for any more. Tells whether topics come or go by that.
    fn resolve(&mut self, former: Option<&str>) -> bool {
        let mut has_changed = false;
        if let Some(former) = former.filter(|one| !self.group.regex_counts.contains_key(*one)) {
            has_changed = true;
            self.apply(Change::Regex(former.to_owned(), None));
        }
        let now_ms = self.now.wall.0;
        let oldest = self.group.regexes.values().map(|one| one.timestamp_ms).min();
        let age_ms = oldest.map_or(0, |at| now_ms.saturating_sub(at));
        let is_due = age_ms > self.settings.regex_refresh_interval_ms
            || (self.group.is_regex_stale && age_ms > REGEX_REFRESH_MIN_MS);
        let is_missing = |one: &&String| is_due || !self.group.regexes.contains_key(*one);
        let wanted: Vec<String> =
            self.group.regex_counts.keys().filter(is_missing).cloned().collect();
        for expression in wanted {
            let resolved = regex::resolve(&expression, self.topics, now_ms);
            let known = self.group.regexes.get(&expression);
            has_changed |= known.is_none_or(|known| known.topics != resolved.topics);
            self.apply(Change::Regex(expression, Some(resolved)));
        }
        if is_due {
            self.group.is_regex_stale = false;
        }
        has_changed
    }

    /// Makes a new target assignment if one is due.
    pub(super) fn update_target(&mut self) {
        let epoch = self.group.group_epoch();
        let now_ms = self.now.wall.0;
        let made_for = self.group.assignment_epoch();
        let made_at = self.group.target_epoch.map_or(0, |(_, at)| at);
        let next_at = made_at.saturating_add(self.settings.assignment_interval_ms);
        // A clock that was set back must not put it off.
        let is_soon = made_at != 0 && now_ms < next_at && now_ms >= made_at;
        if made_for >= epoch || is_soon {
            return;
        }
        let assignor = self.group.preferred_assignor(self.settings.default_assignor());
        let mut counts = BTreeMap::new();
        let mut last: Option<(Rc<Member>, Rc<BTreeSet<TopicId>>)> = None;
        let mut subscribers = Vec::with_capacity(self.group.members.len());
        for (id, member) in &self.group.members {
            let topics = match &last {
                Some((of, topics)) if is_alike(of, member) => Rc::clone(topics),
                _ => Rc::new(self.group.topic_ids(member, self.topics)),
            };
            last = Some((Rc::clone(member), Rc::clone(&topics)));
            let previous = self.group.target_of(id);
            let instance_id = member.instance_id.clone();
            subscribers.push(Subscriber { id: id.clone(), instance_id, topics, previous });
        }
        for topic in subscribers.iter().flat_map(|one| one.topics.iter()) {
            if !counts.contains_key(topic)
                && let Some(shape) =
                    self.topics.name_of(*topic).and_then(|name| self.topics.by_name(&name))
            {
                counts.insert(*topic, shape.partition_count);
            }
        }
        let assigned = assignor.assign(&subscribers, &counts);
        assert_eq!(assigned.len(), subscribers.len(), "each member is given something or nothing");
        for (subscriber, target) in subscribers.iter().zip(assigned) {
            let known = self.group.targets.get(&subscriber.id);
            if known.is_none_or(|known| **known != target) {
                self.apply(Change::Target(subscriber.id.clone(), Some(Rc::new(target))));
            }
        }
        self.apply(Change::TargetEpoch(Some((epoch, now_ms))));
    }
}

fn is_alike(one: &Member, other: &Member) -> bool {
    one.topic_names == other.topic_names && one.topic_regex == other.topic_regex
}

fn assignment_of(current: &Current) -> ConsumerAssignment {
    let topics = current.assigned.iter();
    topics.map(|(topic, partitions)| (*topic, partitions.keys().copied().collect())).collect()
}

/// Checks the epoch that a member says it is at. The one before is good while the answer that
/// brought the new one may be lost: what the member has is then within what it was given.
fn check_epoch(request: &Heartbeat, current: &Current) -> Result<(), Refusal> {
    let (received, known) = (request.epoch, current.epoch);
    if received == JOINS || received == known {
        return Ok(());
    }
    if received > known {
        return Err(Refusal::fenced(format!(
            "The consumer group member has a greater member epoch ({received}) than the one known \
             by the group coordinator ({known}). The member must abandon all its partitions and \
             rejoin."
        )));
    }
    let is_within = request.owned.as_ref().is_some_and(|owned| {
        owned.iter().all(|(topic, partitions)| {
            let assigned = current.assigned.get(topic);
            assigned.is_some_and(|has| partitions.iter().all(|one| has.contains_key(one)))
        })
    });
    if received == current.previous_epoch && is_within {
        return Ok(());
    }
    Err(Refusal::fenced(format!(
        "The consumer group member has a smaller member epoch ({received}) than the one known by \
         the group coordinator ({known}). The member must abandon all its partitions and rejoin."
    )))
}
