//! ConsumerGroupHeartbeat and ConsumerGroupDescribe, and the deadlines of consumer groups.

use std::rc::Rc;

use model::collections::BTreeSet;
use model::{ErrorCode, TopicId};
use wire::consumer_group_describe_response::{
    Assignment, ConsumerGroupDescribeResponse, DescribedGroup, Member as DescribedMember,
    TopicPartitions,
};
use wire::consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest;

use super::migration::{self, Downgrade, Rebalance};
use super::{Effect, GroupCoordinator, Turn, classic_members, is_storable};
use crate::actions::{Actions, Caller, Now, Record, Token, WriteError};
use crate::consumer::assignor::{Assignor, Partitions};
use crate::consumer::{
    Change, ConsumerGroup, Edit, Event, Heartbeat, LEFT_FOR_A_WHILE, Member, MemberState, Refusal,
    WAITING_MAX,
};
use crate::group::{Group, State};
use crate::records;
use crate::response::{ConsumerHeartbeat, Response};
use crate::settings::ConsumerSettings;
use crate::timers::Timer;
use crate::topics::Topics;

/// The first version whose members bring their own ids.
const OWN_MEMBER_ID_FROM: i16 = 1;

/// A consumer group's write that is under way.
#[derive(Debug)]
pub struct ConsumerWrite {
    /// The group.
    pub group: Rc<str>,
    /// What takes the changes back, in the order in which they were made.
    pub(super) undo: Vec<Change>,
    /// What the group is when it succeeds.
    pub(super) outcome: Outcome,
    /// Whom to tell, and what if it succeeds.
    pub answer: Option<(Token, Response)>,
}

/// What a consumer group's write makes of the group.
#[derive(Debug)]
pub(super) enum Outcome {
    /// It has changed.
    Changed,
    /// It is a consumer group now, and was none or a classic one.
    Created,
    /// It is a classic group now.
    Downgraded(Downgrade),
}

/// A group as ConsumerGroupDescribe has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupDescription {
    /// Whether it failed.
    pub error: ErrorCode,
    /// What there is to say about that.
    pub error_message: Option<String>,
    /// Its id.
    pub group_id: String,
    /// Where it stands.
    pub state: &'static str,
    /// The group epoch.
    pub epoch: i32,
    /// The assignment epoch.
    pub assignment_epoch: i32,
    /// The assignor.
    pub assignor: &'static str,
    /// The members.
    pub members: Vec<ConsumerMemberDescription>,
}

/// Partitions of topics, each with its id and name.
pub type NamedPartitions = Vec<(TopicId, String, Vec<i32>)>;

/// A member as ConsumerGroupDescribe has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerMemberDescription {
    /// Its id.
    pub member_id: String,
    /// Its epoch.
    pub epoch: i32,
    /// Its static name.
    pub instance_id: Option<String>,
    /// Where it is.
    pub rack_id: Option<String>,
    /// Its client's name.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// The topics that it names.
    pub topic_names: Vec<String>,
    /// The expression whose topics it wants besides.
    pub topic_regex: Option<String>,
    /// What it has.
    pub assignment: NamedPartitions,
    /// What it is to have.
    pub target: NamedPartitions,
    /// Whether it is a member of the classic protocol.
    pub is_classic: bool,
}

impl ConsumerGroupDescription {
    /// A group that cannot be described.
    #[must_use]
    pub fn failed(
        group_id: &str,
        error: ErrorCode,
        message: Option<String>,
    ) -> ConsumerGroupDescription {
        ConsumerGroupDescription {
            error,
            error_message: message,
            group_id: group_id.to_owned(),
            state: "",
            epoch: 0,
            assignment_epoch: 0,
            assignor: "",
            members: Vec::new(),
        }
    }

    /// As the protocol has it.
    #[must_use]
    pub fn to_wire(&self) -> DescribedGroup<'_> {
        let members = self.members.iter().map(|member| DescribedMember {
            member_id: &member.member_id,
            instance_id: member.instance_id.as_deref(),
            rack_id: member.rack_id.as_deref(),
            member_epoch: member.epoch,
            client_id: &member.client_id,
            client_host: &member.client_host,
            subscribed_topic_names: member.topic_names.iter().map(String::as_str).collect(),
            subscribed_topic_regex: member.topic_regex.as_deref(),
            assignment: to_wire(&member.assignment),
            target_assignment: to_wire(&member.target),
            member_type: i8::from(!member.is_classic),
        });
        DescribedGroup {
            error_code: self.error.code(),
            error_message: self.error_message.as_deref(),
            group_id: &self.group_id,
            group_state: self.state,
            group_epoch: self.epoch,
            assignment_epoch: self.assignment_epoch,
            assignor_name: self.assignor,
            members: members.collect(),
            ..DescribedGroup::default()
        }
    }
}

fn to_wire(topics: &NamedPartitions) -> Assignment<'_> {
    let topics = topics.iter().map(|(topic_id, topic_name, partitions)| TopicPartitions {
        topic_id: *topic_id,
        topic_name,
        partitions: partitions.clone(),
    });
    Assignment { topic_partitions: topics.collect() }
}

/// What ConsumerGroupDescribe answers.
#[must_use]
pub fn describe_response(groups: Vec<DescribedGroup<'_>>) -> ConsumerGroupDescribeResponse<'_> {
    ConsumerGroupDescribeResponse { throttle_time_ms: 0, groups }
}

impl GroupCoordinator {
    /// A member's heartbeat. The answer may have to wait for the log.
    pub fn consumer_heartbeat(
        &mut self,
        caller: &Caller<'_>,
        request: &ConsumerGroupHeartbeatRequest<'_>,
        now: Now,
    ) -> Actions {
        let settings = &self.engine.settings.consumer;
        if let Err(refusal) = check(request, caller.version, settings) {
            return refuse(caller.token, &refusal);
        }
        let heartbeat = Heartbeat::of(caller, request);
        if !self.groups.contains_key(request.group_id) {
            if !heartbeat.joins() {
                return refuse(caller.token, &not_found(request.group_id));
            }
            let id: Rc<str> = request.group_id.into();
            self.groups.insert(id.clone(), Group::new(id, now.wall));
        }
        self.consumer_event(request.group_id, Event::Heartbeat(Box::new(heartbeat)), now)
    }

    /// Something happens to a consumer group.
    pub(super) fn consumer_event(&mut self, group_id: &str, event: Event, now: Now) -> Actions {
        let topics = Rc::clone(&self.engine.topics);
        self.in_group(group_id, now, |group, turn| decide(group, event, topics.as_ref(), turn))
    }

    pub(super) fn consumer_write_done(
        &mut self,
        write: ConsumerWrite,
        result: Result<(), WriteError>,
        now: Now,
    ) -> Actions {
        let topics = Rc::clone(&self.engine.topics);
        self.in_group(&write.group.clone(), now, |group, turn| {
            let ConsumerWrite { undo, outcome, answer, .. } = write;
            let consumer = group.consumer.as_mut().expect("a busy group stays");
            consumer.is_busy = false;
            let waiting = std::mem::take(&mut consumer.waiting);
            match (&result, outcome) {
                (Ok(()), Outcome::Changed) => {}
                (Ok(()), Outcome::Created) => group.forget_classic(turn),
                (Ok(()), Outcome::Downgraded(downgrade)) => group.become_classic(downgrade, turn),
                (Err(_), outcome) => take_back(group, undo, &outcome, turn),
            }
            if let Some((token, answer)) = answer {
                let answer = match result {
                    Ok(()) => answer,
                    Err(error) => answer.failed(error.group_error()),
                };
                turn.answer(token, answer);
            }
            for event in waiting {
                decide(group, event, topics.as_ref(), turn);
            }
        })
    }

    /// A consumer group with its members.
    #[must_use]
    pub fn describe_consumer_group(&self, group_id: &str) -> ConsumerGroupDescription {
        let failed = |message| {
            let error = ErrorCode::GroupIdNotFound;
            ConsumerGroupDescription::failed(group_id, error, Some(message))
        };
        let Some(group) = self.groups.get(group_id) else {
            return failed(format!("Group {group_id} not found."));
        };
        let Some(consumer) = &group.consumer else {
            return failed(format!("Group {group_id} is not a consumer group."));
        };
        let default = self.engine.settings.consumer.default_assignor();
        let member = |id: &Rc<str>| describe_member(consumer, id, self.engine.topics.as_ref());
        ConsumerGroupDescription {
            error: ErrorCode::None,
            error_message: None,
            group_id: group_id.to_owned(),
            state: group.state_name(),
            epoch: consumer.group_epoch(),
            assignment_epoch: consumer.assignment_epoch(),
            assignor: consumer.preferred_assignor(default).name(),
            members: consumer.members().keys().map(member).collect(),
        }
    }

    /// Topics came, went or grew: consumer groups look at theirs with their next heartbeat.
    pub fn topics_changed(&mut self) {
        let groups = self.groups.values_mut();
        groups.filter_map(|group| group.consumer.as_mut()).for_each(ConsumerGroup::topics_changed);
    }

    /// What an offset's commit needs in a consumer group: a member at its epoch, or at one that is
    /// not older than the partitions that it commits for.
    pub(super) fn check_consumer_commit(
        consumer: &ConsumerGroup,
        version: i16,
        member_id: &str,
        epoch: i32,
        mut partitions: &mut dyn Iterator<Item = (TopicId, i32)>,
    ) -> Result<(), ErrorCode> {
        if epoch < 0 && consumer.members().is_empty() {
            return Ok(());
        }
        let member = consumer.members().get(member_id).ok_or(ErrorCode::UnknownMemberId)?;
        let is_classic = member.classic.is_some();
        if !is_classic && version < super::offsets::MEMBER_EPOCH_FROM {
            return Err(ErrorCode::UnsupportedVersion);
        }
        let stale =
            if is_classic { ErrorCode::IllegalGeneration } else { ErrorCode::StaleMemberEpoch };
        let current = consumer.current_of(member_id);
        if epoch == current.epoch {
            return Ok(());
        }
        if epoch > current.epoch {
            return Err(stale);
        }
        let is_older = |(topic, partition)| {
            current.assignment_epoch(topic, partition).is_none_or(|assigned| epoch < assigned)
        };
        if (&mut partitions).any(is_older) { Err(stale) } else { Ok(()) }
    }
}

fn describe_member(
    group: &ConsumerGroup,
    id: &Rc<str>,
    topics: &dyn Topics,
) -> ConsumerMemberDescription {
    let member = &group.members()[id];
    let current = group.current_of(id);
    let mut has = Partitions::new();
    for (topic, partition) in current.partitions() {
        has.entry(topic).or_default().insert(partition);
    }
    let named = |partitions: &Partitions| {
        let topics = partitions.iter().filter_map(|(id, partitions)| {
            Some((*id, topics.name_of(*id)?, partitions.iter().copied().collect()))
        });
        topics.collect()
    };
    ConsumerMemberDescription {
        member_id: id.as_ref().to_owned(),
        epoch: current.epoch,
        instance_id: member.instance_id.clone(),
        rack_id: member.rack_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        topic_names: member.topic_names.iter().cloned().collect(),
        topic_regex: member.topic_regex.clone(),
        assignment: named(&has),
        target: named(&group.target_of(id)),
        is_classic: member.classic.is_some(),
    }
}

/// The write of these changes was not made.
fn take_back(group: &mut Group, undo: Vec<Change>, outcome: &Outcome, turn: &mut Turn<'_>) {
    let settings = turn.consumer_settings(&group.id);
    let consumer = group.consumer.as_mut().expect("a busy group stays");
    for change in undo.into_iter().rev() {
        consumer.apply(change);
    }
    consumer.topics_changed();
    if matches!(outcome, Outcome::Created) {
        group.consumer = None;
        group.resume(turn);
        return;
    }
    // Who was to be taken out is still in, and is to be taken out again.
    for (id, member) in consumer.members() {
        let session = Timer::Session(group.id.clone(), id.clone());
        turn.set_timer_if_absent(session, session_timeout_ms(member, &settings));
    }
}

fn not_a_consumer_group(group_id: &str) -> Refusal {
    let text = format!("Group {group_id} is not a consumer group.");
    Refusal::new(ErrorCode::GroupIdNotFound, text)
}

fn not_found(group_id: &str) -> Refusal {
    Refusal::new(ErrorCode::GroupIdNotFound, format!("Consumer group {group_id} not found."))
}

fn refuse(token: Token, refusal: &Refusal) -> Actions {
    let answer = ConsumerHeartbeat::failed(refusal.error, Some(refusal.message.clone()));
    let responses = vec![(token, Response::ConsumerHeartbeat(answer))];
    Actions { responses, writes: Vec::new() }
}

/// Checks what can be told from a request alone.
fn check(
    request: &ConsumerGroupHeartbeatRequest<'_>,
    version: i16,
    settings: &ConsumerSettings,
) -> Result<(), Refusal> {
    let invalid = |text: &str| Err(Refusal::new(ErrorCode::InvalidRequest, text));
    let is_blank = |text: &str| text.trim().is_empty();
    let epoch = request.member_epoch;
    if (version >= OWN_MEMBER_ID_FROM || epoch > 0 || epoch == -1) && is_blank(request.member_id) {
        return invalid("MemberId can't be empty.");
    }
    if is_blank(request.group_id) {
        return invalid("GroupId can't be empty.");
    }
    if request.instance_id.is_some_and(is_blank) {
        return invalid("InstanceId can't be empty.");
    }
    if request.rack_id.is_some_and(is_blank) {
        return invalid("RackId can't be empty.");
    }
    if epoch == 0 {
        if request.rebalance_timeout_ms == -1 {
            return invalid("RebalanceTimeoutMs must be provided in first request.");
        }
        if request.topic_partitions.as_ref().is_none_or(|owned| !owned.is_empty()) {
            return invalid("TopicPartitions must be empty when (re-)joining.");
        }
        if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
            return invalid(
                "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when \
                 (re-)joining.",
            );
        }
    } else if epoch == LEFT_FOR_A_WHILE {
        if request.instance_id.is_none() {
            return invalid("InstanceId can't be null.");
        }
    } else if epoch < LEFT_FOR_A_WHILE {
        return invalid("MemberEpoch is invalid.");
    }
    let of_keys = [request.group_id, request.member_id];
    let regex = request.subscribed_topic_regex.unwrap_or_default();
    if !of_keys.into_iter().chain([regex]).all(is_storable) {
        return invalid("A name is longer than a record's key can hold.");
    }
    let Some(name) = request.server_assignor else { return Ok(()) };
    if settings.assignors.iter().any(|one| one.name() == name) {
        return Ok(());
    }
    let known: Vec<&str> = settings.assignors.iter().map(|one: &Assignor| one.name()).collect();
    let text = format!(
        "ServerAssignor {name} is not supported. Supported assignors: {}.",
        known.join(", ")
    );
    Err(Refusal::new(ErrorCode::UnsupportedAssignor, text))
}

/// Keeps an event until the group's write is done, if there is room.
pub(super) fn defer(consumer: &mut ConsumerGroup, event: Event, turn: &mut Turn<'_>) {
    let is_full = consumer.waiting.len() >= WAITING_MAX;
    match event.refused(ErrorCode::CoordinatorLoadInProgress).filter(|_| is_full) {
        Some((token, answer)) => turn.answer(token, answer),
        None => consumer.waiting.push_back(event),
    }
}

/// Lets an event happen to a group now, or when its write is done.
fn decide(group: &mut Group, event: Event, topics: &dyn Topics, turn: &mut Turn<'_>) {
    if group.state == State::Dead {
        if let Some((token, answer)) = event.refused(ErrorCode::CoordinatorNotAvailable) {
            turn.answer(token, answer);
        }
        return;
    }
    if let Some(consumer) = group.consumer.as_mut().filter(|consumer| consumer.is_busy) {
        return defer(consumer, event, turn);
    }
    match event {
        Event::Heartbeat(request) => {
            let token = request.token;
            if let Err(refusal) = on_heartbeat(group, &request, topics, turn) {
                let answer = ConsumerHeartbeat::failed(refusal.error, Some(refusal.message));
                turn.answer(token, Response::ConsumerHeartbeat(answer));
            }
        }
        Event::Classic(call) => call.resume(&group.id.clone(), |caller, request| {
            classic_members::run(group, caller, request, topics, turn);
        }),
        Event::SessionOver(member) if group.consumer.is_none() => {
            group.on_session_deadline(&member, turn);
        }
        Event::SessionOver(member) | Event::JoinOver(member) => {
            fence(group, &BTreeSet::from([member]), None, topics, turn);
        }
        Event::RebalanceOver(member) => {
            let current = group.consumer.as_ref().map(|consumer| consumer.current_of(&member));
            if current.is_some_and(|one| one.state == MemberState::UnrevokedPartitions) {
                fence(group, &BTreeSet::from([member]), None, topics, turn);
            }
        }
    }
}

/// Takes members out, as far as they are any, and tells so. Where none of the newer protocol is left
/// the group may become a classic one.
pub(super) fn fence(
    group: &mut Group,
    members: &BTreeSet<Rc<str>>,
    answer: Option<(Token, Response)>,
    topics: &dyn Topics,
    turn: &mut Turn<'_>,
) {
    let (settings, now) = (turn.consumer_settings(&group.id), turn.now());
    let group_size_max = turn.settings().group_size_max;
    let is_in = |id: &&Rc<str>| {
        group.consumer.as_ref().is_some_and(|consumer| consumer.members().contains_key(*id))
    };
    let members: BTreeSet<Rc<str>> = members.iter().filter(is_in).cloned().collect();
    let Some(consumer) = group.consumer.as_ref().filter(|_| !members.is_empty()) else {
        if let Some((token, answer)) = answer {
            turn.answer(token, answer);
        }
        return;
    };
    members.iter().for_each(|id| cancel_deadlines(&group.id, id, turn));
    let becomes = migration::is_downgrade(consumer, &members, settings.migration, group_size_max)
        .then(|| {
            let generation = consumer.group_epoch();
            migration::downgrade(group, consumer, &members, generation, Rebalance::Now, turn)
        })
        .flatten();
    let group_id = group.id.clone();
    if let Some((downgrade, records)) = becomes {
        let outcome = Outcome::Downgraded(downgrade);
        let write = ConsumerWrite { group: group_id, undo: Vec::new(), outcome, answer };
        return start_write(group, records, write, turn);
    }
    let consumer = group.consumer.as_mut().expect("it was just looked at");
    let mut edit = Edit::new(&group_id, consumer, topics, &settings, now);
    edit.fence(&members);
    let (changes, undo) = (edit.changes, edit.undo);
    write_changes(group, &changes, undo, answer, turn);
}

fn on_heartbeat(
    group: &mut Group,
    request: &Heartbeat,
    topics: &dyn Topics,
    turn: &mut Turn<'_>,
) -> Result<(), Refusal> {
    let (settings, now) = (turn.consumer_settings(&group.id), turn.now());
    if request.leaves() {
        return on_leave(group, request, topics, turn);
    }
    let mut adopted = Vec::new();
    let is_creation = group.consumer.is_none();
    if is_creation {
        if !request.joins() {
            return Err(not_a_consumer_group(&group.id));
        }
        // A classic group without members becomes a consumer group; its offsets stay.
        if group.state != State::Empty {
            adopted = migration::members_to_adopt(group, &settings, topics)?;
        }
        group.consumer = Some(ConsumerGroup::new());
    }
    let consumer = group.consumer.as_mut().expect("it was just looked at");
    let mut edit = Edit::new(&group.id, consumer, topics, &settings, now);
    if !adopted.is_empty() {
        edit.adopt(group.generation, adopted);
    }
    let answer = match edit.heartbeat(request) {
        Ok(answer) => answer,
        Err(refusal) => {
            edit.roll_back();
            if is_creation {
                group.consumer = None;
            }
            return Err(refusal);
        }
    };
    let (changes, undo) = (edit.changes, edit.undo);
    let member_id: Rc<str> = request.member_id.as_str().into();
    let moves = changes.iter().any(|one| matches!(one, Change::Current(id, _) if *id == member_id));
    if moves {
        // Whatever it has to give up now, it has its time for it.
        turn.cancel_timer(&Timer::Rebalance(group.id.clone(), member_id.clone()));
    }
    let tombstone = is_creation && group.protocol_type.is_some();
    let tombstone = tombstone.then(|| records::group_tombstone(&group.id));
    let changed = changes.iter().map(|change| change.to_record(&group.id));
    let records = tombstone.into_iter().chain(changed).collect();
    if is_creation {
        group.interrupt(turn);
    }
    set_deadlines(group, &member_id, &settings, turn);
    let answer = Some((request.token, Response::ConsumerHeartbeat(answer)));
    let outcome = if is_creation { Outcome::Created } else { Outcome::Changed };
    let write = ConsumerWrite { group: group.id.clone(), undo, outcome, answer };
    start_write(group, records, write, turn);
    Ok(())
}

fn on_leave(
    group: &mut Group,
    request: &Heartbeat,
    topics: &dyn Topics,
    turn: &mut Turn<'_>,
) -> Result<(), Refusal> {
    let (settings, now) = (turn.consumer_settings(&group.id), turn.now());
    let Some(consumer) = &mut group.consumer else {
        return Err(not_a_consumer_group(&group.id));
    };
    let member_id = request.leaving(&group.id, consumer)?;
    let answer = Response::ConsumerHeartbeat(request.left(&member_id));
    let answer = Some((request.token, answer));
    if request.epoch != LEFT_FOR_A_WHILE {
        fence(group, &BTreeSet::from([member_id]), answer, topics, turn);
        return Ok(());
    }
    let mut edit = Edit::new(&group.id, consumer, topics, &settings, now);
    edit.leave_for_a_while(&member_id);
    let (changes, undo) = (edit.changes, edit.undo);
    // It has what is left of its session to come back.
    turn.cancel_timer(&Timer::Rebalance(group.id.clone(), member_id));
    write_changes(group, &changes, undo, answer, turn);
    Ok(())
}

fn set_deadlines(
    group: &Group,
    member_id: &Rc<str>,
    settings: &ConsumerSettings,
    turn: &mut Turn<'_>,
) {
    let consumer = group.consumer.as_ref().expect("its member was just heard of");
    let member = &consumer.members()[member_id];
    let session = Timer::Session(group.id.clone(), member_id.clone());
    turn.set_timer(session, settings.session_timeout_ms);
    // It may have been a classic member.
    turn.cancel_timer(&Timer::ConsumerJoin(group.id.clone(), member_id.clone()));
    turn.cancel_timer(&Timer::ConsumerSync(group.id.clone(), member_id.clone()));
    let rebalance = Timer::Rebalance(group.id.clone(), member_id.clone());
    if consumer.current_of(member_id).state == MemberState::UnrevokedPartitions {
        let timeout_ms = u64::try_from(member.rebalance_timeout_ms).unwrap_or(0);
        turn.set_timer_if_absent(rebalance, timeout_ms);
    } else {
        turn.cancel_timer(&rebalance);
    }
}

/// Nothing is expected of a member any more.
pub(super) fn cancel_deadlines(group_id: &Rc<str>, member_id: &Rc<str>, turn: &mut Turn<'_>) {
    for timer in [Timer::Session, Timer::Rebalance, Timer::ConsumerJoin, Timer::ConsumerSync] {
        turn.cancel_timer(&timer(group_id.clone(), member_id.clone()));
    }
}

/// How long a member may be silent.
pub(super) fn session_timeout_ms(member: &Member, settings: &ConsumerSettings) -> u64 {
    match &member.classic {
        Some(classic) => u64::try_from(classic.session_timeout_ms).unwrap_or(0),
        None => settings.session_timeout_ms,
    }
}

/// Writes changes that leave the group what it is.
fn write_changes(
    group: &mut Group,
    changes: &[Change],
    undo: Vec<Change>,
    answer: Option<(Token, Response)>,
    turn: &mut Turn<'_>,
) {
    let records = changes.iter().map(|change| change.to_record(&group.id)).collect();
    let write = ConsumerWrite { group: group.id.clone(), undo, outcome: Outcome::Changed, answer };
    start_write(group, records, write, turn);
}

/// Writes records; the answer comes when they are durable, or at once if there are none.
pub(super) fn start_write(
    group: &mut Group,
    records: Vec<Record>,
    write: ConsumerWrite,
    turn: &mut Turn<'_>,
) {
    if records.is_empty() {
        if let Some((token, answer)) = write.answer {
            turn.answer(token, answer);
        }
        return;
    }
    let consumer = group.consumer.as_mut().expect("it was just changed");
    consumer.is_busy = true;
    turn.write(records, Effect::Consumer(write));
}
