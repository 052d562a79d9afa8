//! JoinGroup, SyncGroup, Heartbeat and LeaveGroup of a consumer group's classic members. The group's
//! assignor assigns, so nobody leads: JoinGroup takes a member to an epoch, which it knows as its
//! generation, and SyncGroup tells what it may read there. What it has to give up it gives up by
//! joining again, as cooperative members do.

use std::rc::Rc;

use model::ErrorCode;
use model::collections::BTreeSet;
use wire::heartbeat_request::HeartbeatRequest;
use wire::join_group_request::JoinGroupRequest;
use wire::sync_group_request::SyncGroupRequest;

use super::consumer::{ConsumerWrite, Outcome, fence, start_write};
use super::join::{self, MEMBER_ID_REQUIRED_FROM};
use super::migration::{self, Rebalance};
use super::{Turn, membership};
use crate::actions::Caller;
use crate::consumer::classic::CONSUMER_PROTOCOL;
use crate::consumer::{
    ClassicCall, ClassicJoin, ClassicMember, ClassicRequest, ConsumerGroup, ConsumerState, Edit,
    Event, Member, MemberState, embedded,
};
use crate::group::{Group, State};
use crate::response::{Join, Leave, LeftMember, Response, Sync};
use crate::settings::{ConsumerSettings, MigrationPolicy};
use crate::timers::Timer;
use crate::topics::Topics;

/// Lets a request of the classic protocol happen to a group of either protocol, or to what becomes
/// of it when its write is done.
pub(super) fn run(
    group: &mut Group,
    caller: &Caller<'_>,
    request: ClassicRequest<'_>,
    topics: &dyn Topics,
    turn: &mut Turn<'_>,
) {
    let consumer = group.consumer.as_mut().filter(|_| group.state != State::Dead);
    if let Some(consumer) = consumer {
        if consumer.is_busy {
            let call = Box::new(ClassicCall::keep(caller, request));
            super::consumer::defer(consumer, Event::Classic(call), turn);
            return;
        }
        if !consumer.members().is_empty() {
            return run_in_consumer_group(group, caller, request, topics, turn);
        }
        if let ClassicRequest::Join(JoinGroupRequest { member_id, .. }) = request
            && !member_id.is_empty()
        {
            // It stays what it is for a member that cannot be.
            let refused = Join::failed(ErrorCode::UnknownMemberId, member_id);
            return turn.answer(caller.token, Response::Join(refused));
        }
    }
    match request {
        ClassicRequest::Join(request) => join::run(group, caller, request, turn),
        ClassicRequest::Sync(request) => membership::sync(group, caller, request, turn),
        ClassicRequest::Heartbeat(request) => membership::heartbeat(group, caller, request, turn),
        ClassicRequest::Leave(members) => membership::leave(group, caller, members, turn),
    }
}

fn run_in_consumer_group(
    group: &mut Group,
    caller: &Caller<'_>,
    request: ClassicRequest<'_>,
    topics: &dyn Topics,
    turn: &mut Turn<'_>,
) {
    let answer = match request {
        ClassicRequest::Join(request) => match join(group, caller, request, topics, turn) {
            Ok(()) => return,
            Err(error) => Response::Join(Join::failed(error, "")),
        },
        ClassicRequest::Sync(request) => {
            let answer = sync(group, request, topics, turn);
            Response::Sync(answer.unwrap_or_else(Sync::failed))
        }
        ClassicRequest::Heartbeat(request) => {
            let error = heartbeat(group, request, turn).err();
            Response::Heartbeat(error.unwrap_or(ErrorCode::None))
        }
        ClassicRequest::Leave(members) => return leave(group, caller, members, topics, turn),
    };
    turn.answer(caller.token, answer);
}

fn members_of(group: &Group) -> &ConsumerGroup {
    group.consumer.as_ref().expect("only a consumer group's requests come here")
}

fn join(
    group: &mut Group,
    caller: &Caller<'_>,
    request: &JoinGroupRequest<'_>,
    topics: &dyn Topics,
    turn: &mut Turn<'_>,
) -> Result<(), ErrorCode> {
    let (settings, now) = (turn.consumer_settings(&group.id), turn.now());
    let is_new_id = request.member_id.is_empty();
    let id: Rc<str> = match request.member_id {
        "" => caller.random.to_string().into(),
        id => id.into(),
    };
    check_join(members_of(group), request, &id, &settings)?;
    let needs_id = is_new_id && request.group_instance_id.is_none();
    if needs_id && caller.version >= MEMBER_ID_REQUIRED_FROM {
        let answer = Join::failed(ErrorCode::MemberIdRequired, &id);
        turn.answer(caller.token, Response::Join(answer));
        return Ok(());
    }
    let joining = classic_join(id, is_new_id, caller, request, topics).map_err(|unreadable| {
        // As in Apache Kafka, who is not the static member that it says is told that before.
        let of_member = check_static(members_of(group), request).err();
        of_member.unwrap_or(unreadable)
    })?;
    let Group { id: group_id, consumer, .. } = group;
    let consumer = consumer.as_mut().expect("only a consumer group's requests come here");
    let is_last = is_last_replaced(consumer, request, settings.migration, turn);
    let epoch_before = consumer.group_epoch();
    let mut edit = Edit::new(group_id, consumer, topics, &settings, now);
    let epoch = match edit.join(&joining, is_last) {
        Ok(epoch) => epoch,
        Err(refusal) => {
            edit.roll_back();
            return Err(refusal.error);
        }
    };
    let (changes, undo) = (edit.changes, edit.undo);
    let mut records: Vec<_> = changes.iter().map(|one| one.to_record(group_id)).collect();
    let becomes = is_last
        .then(|| {
            let (consumer, nobody) = (members_of(group), BTreeSet::new());
            let is_at_rest = consumer.state() == ConsumerState::Stable;
            let rebalance = if is_at_rest { Rebalance::Not } else { Rebalance::Now };
            migration::downgrade(group, consumer, &nobody, epoch_before, rebalance, turn)
        })
        .flatten();
    let outcome = match becomes {
        Some((downgrade, more)) => {
            records.extend(more);
            Outcome::Downgraded(downgrade)
        }
        None => {
            set_deadlines(group, &joining, turn);
            Outcome::Changed
        }
    };
    let answer = Some((caller.token, Response::Join(join_answer(&joining, epoch))));
    let write = ConsumerWrite { group: group.id.clone(), undo, outcome, answer };
    start_write(group, records, write, turn);
    Ok(())
}

fn check_join(
    consumer: &ConsumerGroup,
    request: &JoinGroupRequest<'_>,
    id: &str,
    settings: &ConsumerSettings,
) -> Result<(), ErrorCode> {
    if settings.migration == MigrationPolicy::Disabled {
        return Err(ErrorCode::InconsistentGroupProtocol);
    }
    consumer
        .check_size(id, request.group_instance_id, settings.size_max)
        .map_err(|refusal| refusal.error)?;
    let names = request.protocols.iter().map(|protocol| protocol.name);
    if !consumer.supports(request.protocol_type, names) {
        return Err(ErrorCode::InconsistentGroupProtocol);
    }
    Ok(())
}

/// Whether a member takes the place of the last one of the newer protocol, and the group may become a
/// classic one by it.
fn is_last_replaced(
    consumer: &ConsumerGroup,
    request: &JoinGroupRequest<'_>,
    policy: MigrationPolicy,
    turn: &Turn<'_>,
) -> bool {
    let replaced = request.group_instance_id.and_then(|name| consumer.id_of(name));
    let replaced: BTreeSet<Rc<str>> = replaced.into_iter().collect();
    !replaced.is_empty()
        && policy.downgrades()
        && consumer.members().len() <= turn.settings().group_size_max
        && consumer.is_classic_but_for(&replaced)
}

fn join_answer(joining: &ClassicJoin, generation: i32) -> Join {
    Join {
        error: ErrorCode::None,
        generation,
        protocol_type: Some(CONSUMER_PROTOCOL.to_owned()),
        protocol: joining.classic.protocols.first().map(|(name, _)| name.clone()),
        leader: String::new(),
        skip_assignment: false,
        member_id: joining.id.as_ref().to_owned(),
        members: Vec::new(),
    }
}

fn classic_join(
    id: Rc<str>,
    is_new_id: bool,
    caller: &Caller<'_>,
    request: &JoinGroupRequest<'_>,
    topics: &dyn Topics,
) -> Result<ClassicJoin, ErrorCode> {
    let protocols = join::protocols_of(request);
    // All protocols of a consumer carry the same subscription.
    let first = protocols.first().map(|(_, metadata)| metadata.clone()).unwrap_or_default();
    let subscription = embedded::subscription(&first, topics);
    Ok(ClassicJoin {
        id,
        is_new_id,
        instance_id: request.group_instance_id.map(str::to_owned),
        client_id: caller.client_id.to_owned(),
        client_host: caller.client_host.to_owned(),
        rebalance_timeout_ms: join::rebalance_timeout_ms(caller, request),
        classic: ClassicMember {
            session_timeout_ms: request.session_timeout_ms,
            protocols: protocols
                .into_iter()
                .map(|(name, metadata)| (name, metadata.to_vec()))
                .collect(),
        },
        subscription: subscription.map_err(|_| ErrorCode::UnknownServerError)?,
    })
}

/// Who joined has its session anew, and its rebalance timeout to ask for its assignment.
fn set_deadlines(group: &Group, joined: &ClassicJoin, turn: &mut Turn<'_>) {
    let (group_id, id) = (&group.id, &joined.id);
    turn.cancel_timer(&Timer::ConsumerJoin(group_id.clone(), id.clone()));
    turn.cancel_timer(&Timer::Rebalance(group_id.clone(), id.clone()));
    let session_ms = milliseconds(joined.classic.session_timeout_ms);
    turn.set_timer(Timer::Session(group_id.clone(), id.clone()), session_ms);
    let sync_ms = milliseconds(joined.rebalance_timeout_ms);
    turn.set_timer(Timer::ConsumerSync(group_id.clone(), id.clone()), sync_ms);
}

fn milliseconds(timeout_ms: i32) -> u64 {
    u64::try_from(timeout_ms).unwrap_or(0)
}

/// Whether a static member that says its id has it.
fn check_static(consumer: &ConsumerGroup, request: &JoinGroupRequest<'_>) -> Result<(), ErrorCode> {
    match request.group_instance_id {
        Some(instance_id) if !request.member_id.is_empty() => consumer
            .static_member(request.member_id, instance_id)
            .map(drop)
            .map_err(|refusal| refusal.error),
        Some(_) | None => Ok(()),
    }
}

/// The classic member that asks, if it is one and at the generation that it says.
fn check_member<'a>(
    consumer: &'a ConsumerGroup,
    member_id: &str,
    instance_id: Option<&str>,
    generation: i32,
) -> Result<(Rc<str>, &'a Member, &'a ClassicMember), ErrorCode> {
    if let Some(instance_id) = instance_id {
        consumer.static_member(member_id, instance_id).map_err(|refusal| refusal.error)?;
    }
    let found = consumer.members().get_key_value(member_id);
    let (id, member) = found.ok_or(ErrorCode::UnknownMemberId)?;
    let classic = member.classic.as_ref().ok_or(ErrorCode::UnknownMemberId)?;
    if consumer.current_of(id).epoch != generation {
        return Err(ErrorCode::IllegalGeneration);
    }
    Ok((id.clone(), member, classic))
}

/// A member is to join again: it has its rebalance timeout from when it is first told.
fn ask_to_join(
    group_id: &Rc<str>,
    id: &Rc<str>,
    member: &Member,
    turn: &mut Turn<'_>,
) -> ErrorCode {
    let timer = Timer::ConsumerJoin(group_id.clone(), id.clone());
    turn.set_timer_if_absent(timer, milliseconds(member.rebalance_timeout_ms));
    ErrorCode::RebalanceInProgress
}

fn sync(
    group: &Group,
    request: &SyncGroupRequest<'_>,
    topics: &dyn Topics,
    turn: &mut Turn<'_>,
) -> Result<Sync, ErrorCode> {
    let consumer = members_of(group);
    let (id, member, classic) = check_member(
        consumer,
        request.member_id,
        request.group_instance_id,
        request.generation_id,
    )?;
    let (protocol, metadata) = classic.protocols.first().ok_or(ErrorCode::UnknownServerError)?;
    let differs = |given: Option<&str>, known: &str| given.is_some_and(|given| given != known);
    if differs(request.protocol_type, CONSUMER_PROTOCOL) || differs(request.protocol_name, protocol)
    {
        return Err(ErrorCode::InconsistentGroupProtocol);
    }
    let current = consumer.current_of(&id);
    // One that is still to give up has joined already, and goes on when it has given up.
    if consumer.assignment_epoch() > current.epoch
        && current.state != MemberState::UnrevokedPartitions
    {
        return Err(ask_to_join(&group.id, &id, member, turn));
    }
    let assignment = embedded::assignment(&consumer.assigned_to(&id), metadata, topics);
    let assignment = assignment.map_err(|_| ErrorCode::UnknownServerError)?;
    turn.cancel_timer(&Timer::ConsumerSync(group.id.clone(), id.clone()));
    let session_ms = milliseconds(classic.session_timeout_ms);
    turn.set_timer(Timer::Session(group.id.clone(), id), session_ms);
    Ok(Sync {
        error: ErrorCode::None,
        protocol_type: request.protocol_type.map(str::to_owned),
        protocol: request.protocol_name.map(str::to_owned),
        assignment,
    })
}

fn heartbeat(
    group: &Group,
    request: &HeartbeatRequest<'_>,
    turn: &mut Turn<'_>,
) -> Result<(), ErrorCode> {
    let consumer = members_of(group);
    let (id, member, classic) = check_member(
        consumer,
        request.member_id,
        request.group_instance_id,
        request.generation_id,
    )?;
    let session_ms = milliseconds(classic.session_timeout_ms);
    turn.set_timer(Timer::Session(group.id.clone(), id.clone()), session_ms);
    if consumer.has_news_for(&id) {
        return Err(ask_to_join(&group.id, &id, member, turn));
    }
    Ok(())
}

/// Takes members out, of either protocol: an administrator may name any.
fn leave(
    group: &mut Group,
    caller: &Caller<'_>,
    members: &[(&str, Option<&str>)],
    topics: &dyn Topics,
    turn: &mut Turn<'_>,
) {
    let consumer = members_of(group);
    let find = |member_id: &str, instance_id: Option<&str>| match instance_id {
        Some(instance_id) if member_id.is_empty() => {
            consumer.id_of(instance_id).ok_or(ErrorCode::UnknownMemberId)
        }
        Some(instance_id) => {
            consumer.static_member(member_id, instance_id).map_err(|refusal| refusal.error)
        }
        None => {
            let found = consumer.members().get_key_value(member_id);
            found.map(|(id, _)| id.clone()).ok_or(ErrorCode::UnknownMemberId)
        }
    };
    let mut leaving = BTreeSet::new();
    let mut left = Vec::with_capacity(members.len());
    for (member_id, instance_id) in members {
        let found = find(member_id, *instance_id);
        left.push(LeftMember {
            member_id: (*member_id).to_owned(),
            instance_id: instance_id.map(str::to_owned),
            error: found.as_ref().err().copied().unwrap_or(ErrorCode::None),
        });
        leaving.extend(found.ok());
    }
    let answer = Response::Leave(Leave { error: ErrorCode::None, members: left });
    fence(group, &leaving, Some((caller.token, answer)), topics, turn);
}
