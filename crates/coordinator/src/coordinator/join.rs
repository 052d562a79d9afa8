//! JoinGroup: who may be a member, and under which id.

use std::rc::Rc;

use bytes::Bytes;
use model::{ErrorCode, Uuid};
use wire::join_group_request::JoinGroupRequest;

use super::{Effect, GroupCoordinator, Turn, classic_members, is_storable};
use crate::actions::{Actions, Caller, Now, Token, WriteError};
use crate::consumer::ClassicRequest;
use crate::group::{Group, Member, MemberUpdate, State};
use crate::records;
use crate::response::{Join, Response};
use crate::timers::Timer;

/// The first version in which a new member is sent away to come back with its id (KIP-394): one
/// that gives up before it knows its id leaves nothing behind.
pub(super) const MEMBER_ID_REQUIRED_FROM: i16 = 4;
/// The first version whose leader can be told to keep the assignment.
const SKIP_ASSIGNMENT_FROM: i16 = 9;
/// The first version with a rebalance timeout of its own.
const REBALANCE_TIMEOUT_FROM: i16 = 1;
/// How much of a client's name goes into its member id: a record's string holds 32,767 bytes, and
/// anybody who needs to tell clients apart does so within a few hundred.
const MEMBER_ID_PREFIX_MAX: usize = 1024;
/// Ids given out to members that have not come back with them. Each costs some hundred bytes for
/// up to a session timeout, so a client that only asks for ids must not get them without end.
const PENDING_MEMBERS_MAX: usize = 10_000;

impl GroupCoordinator {
    /// Joins a group. The answer may come much later.
    pub fn join(
        &mut self,
        caller: &Caller<'_>,
        request: &JoinGroupRequest<'_>,
        now: Now,
    ) -> Actions {
        if let Err(error) = self.check_join(request) {
            return refuse(caller.token, error, request.member_id);
        }
        if !self.groups.contains_key(request.group_id) {
            if !request.member_id.is_empty() {
                return refuse(caller.token, ErrorCode::UnknownMemberId, request.member_id);
            }
            let id: Rc<str> = request.group_id.into();
            self.groups.insert(id.clone(), Group::new(id, now.wall));
        }
        let topics = Rc::clone(&self.engine.topics);
        self.in_group(request.group_id, now, |group, turn| {
            let request = ClassicRequest::Join(request);
            classic_members::run(group, caller, request, topics.as_ref(), turn);
        })
    }

    fn check_join(&self, request: &JoinGroupRequest<'_>) -> Result<(), ErrorCode> {
        let settings = &self.engine.settings;
        let sessions = settings.session_timeout_min_ms..=settings.session_timeout_max_ms;
        let instance_id = request.group_instance_id.unwrap_or_default();
        if request.group_id.is_empty() || !is_storable(request.group_id) {
            return Err(ErrorCode::InvalidGroupId);
        }
        if !sessions.contains(&request.session_timeout_ms) {
            return Err(ErrorCode::InvalidSessionTimeout);
        }
        if instance_id.len() > MEMBER_ID_PREFIX_MAX {
            return Err(ErrorCode::InvalidRequest);
        }
        let mut names = request.protocols.iter().map(|protocol| protocol.name);
        if !is_storable(request.protocol_type) || !names.all(is_storable) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        Ok(())
    }
}

fn refuse(token: Token, error: ErrorCode, member_id: &str) -> Actions {
    let answer = Response::Join(Join::failed(error, member_id));
    Actions { responses: vec![(token, answer)], writes: Vec::new() }
}

/// A member joins a classic group, or a group without members.
pub(super) fn run(
    group: &mut Group,
    caller: &Caller<'_>,
    request: &JoinGroupRequest<'_>,
    turn: &mut Turn<'_>,
) {
    if let Err(refusal) = join_group(group, caller, request, turn) {
        turn.answer(caller.token, Response::Join(*refusal));
    }
}

fn join_group(
    group: &mut Group,
    caller: &Caller<'_>,
    request: &JoinGroupRequest<'_>,
    turn: &mut Turn<'_>,
) -> Result<(), Box<Join>> {
    let member_id = request.member_id;
    let refuse = |error, member_id: &str| Err(Box::new(Join::failed(error, member_id)));
    if group.state == State::Dead {
        return refuse(ErrorCode::CoordinatorNotAvailable, member_id);
    }
    if let Some(consumer) = &group.consumer {
        assert!(group.is_deserted(), "a consumer group's members are dealt with as such");
        // Without members it becomes a classic group; its offsets stay.
        let records = consumer.tombstones();
        let records = records.iter().map(|change| change.to_record(&group.id)).collect();
        group.consumer = None;
        turn.write(records, Effect::None);
    }
    if !group.has_room_for(member_id, turn.settings().group_size_max) {
        group.take_out(member_id, turn);
        group.maybe_complete_join(turn);
        return refuse(ErrorCode::GroupMaxSizeReached, "");
    }
    let protocols = request.protocols.iter().map(|protocol| protocol.name);
    if !group.supports(request.protocol_type, protocols) {
        return refuse(ErrorCode::InconsistentGroupProtocol, member_id);
    }
    if !member_id.is_empty() {
        return join_with_id(group, caller, request, turn);
    }
    let prefix = request.group_instance_id.unwrap_or(caller.client_id);
    let new_id: Rc<str> = new_member_id(prefix, caller.random).into();
    if let Some(instance_id) = request.group_instance_id {
        if let Some(old_id) = group.static_members.get(instance_id).cloned() {
            replace_static(group, caller, request, &old_id, new_id, turn);
        } else {
            group.join_new(new_member(new_id, caller, request), request.protocol_type, turn);
        }
        return Ok(());
    }
    if caller.version < MEMBER_ID_REQUIRED_FROM {
        group.join_new(new_member(new_id, caller, request), request.protocol_type, turn);
        return Ok(());
    }
    if group.pending_members.len() >= PENDING_MEMBERS_MAX {
        return refuse(ErrorCode::GroupMaxSizeReached, "");
    }
    group.pending_members.insert(new_id.clone());
    group.is_kept = true;
    let timer = Timer::Session(group.id.clone(), new_id.clone());
    turn.set_timer(timer, u64::try_from(request.session_timeout_ms).unwrap_or(0));
    refuse(ErrorCode::MemberIdRequired, &new_id)
}

/// A member that has an id joins: for the first time with it, or again.
fn join_with_id(
    group: &mut Group,
    caller: &Caller<'_>,
    request: &JoinGroupRequest<'_>,
    turn: &mut Turn<'_>,
) -> Result<(), Box<Join>> {
    let member_id = request.member_id;
    let refuse = |error| Err(Box::new(Join::failed(error, member_id)));
    if group.pending_members.contains(member_id) {
        if request.group_instance_id.is_some() {
            // The id was given to a member without a static name.
            return refuse(ErrorCode::UnknownMemberId);
        }
        let member = new_member(member_id.into(), caller, request);
        group.join_new(member, request.protocol_type, turn);
        return Ok(());
    }
    if let Err(error) = group.check_member(member_id, request.group_instance_id) {
        return refuse(error);
    }
    let member = group.members.get(member_id).expect("it was just checked");
    let is_changed = !has_protocols(member, request);
    let update = member_update(member.id.clone(), caller, request);
    match group.state {
        State::Empty | State::Dead => return refuse(ErrorCode::UnknownMemberId),
        State::PreparingRebalance => group.join_again(update, turn),
        // It may not have got the answer to its first JoinGroup.
        State::CompletingRebalance if !is_changed => {
            let answer = group.join_answer(member_id);
            turn.answer(caller.token, Response::Join(answer));
        }
        // The leader joins again when it wants a new assignment, say for new partitions.
        State::Stable if !is_changed && !group.is_leader(member_id) => {
            let answer = group.join_answer(member_id);
            turn.answer(caller.token, Response::Join(answer));
        }
        State::CompletingRebalance | State::Stable => group.join_again(update, turn),
    }
    Ok(())
}

/// A static member whose id was lost takes its old place under a new id.
fn replace_static(
    group: &mut Group,
    caller: &Caller<'_>,
    request: &JoinGroupRequest<'_>,
    old_id: &Rc<str>,
    new_id: Rc<str>,
    turn: &mut Turn<'_>,
) {
    let old_leader = group.leader.clone();
    group.replace_static(old_id, &new_id, turn);
    group.update_member(member_update(new_id.clone(), caller, request), turn);
    match group.state {
        State::Stable if group.select_protocol() == group.protocol => {
            // Nothing changes but the id, so nobody has to rebalance. The answer waits until
            // the id is durable.
            let assignments = group
                .members
                .values()
                .map(|member| (member.id.as_ref().to_owned(), member.assignment.clone()))
                .collect();
            let record = records::group_metadata(group, &assignments);
            let replacement = StaticReplacement {
                group: group.id.clone(),
                generation: group.generation,
                new_id,
                old_leader,
                version: caller.version,
            };
            turn.write(vec![record], Effect::ReplaceStatic(replacement));
        }
        // The leader may have been told of the old id already.
        State::Stable | State::CompletingRebalance => group.prepare_rebalance(turn),
        State::PreparingRebalance => group.maybe_complete_join(turn),
        State::Empty | State::Dead => {}
    }
}

/// A static member's change of its id, until that is durable.
#[derive(Debug)]
pub struct StaticReplacement {
    /// The group.
    pub group: Rc<str>,
    generation: i32,
    new_id: Rc<str>,
    old_leader: Option<Rc<str>>,
    version: i16,
}

impl StaticReplacement {
    /// The record is durable. Or it was not written: then everybody joins again, for the log may
    /// have any of the ids that the member had lately, and the next generation's record settles it.
    pub(super) fn done(
        self,
        group: &mut Group,
        result: Result<(), WriteError>,
        turn: &mut Turn<'_>,
    ) {
        // A rebalance that began meanwhile answers the member, and one that was replaced again
        // has been answered.
        let is_current = group.consumer.is_none()
            && group.state == State::Stable
            && group.generation == self.generation;
        if !is_current || !group.members.contains_key(&self.new_id) {
            return;
        }
        let mut answer = group.join_answer(&self.new_id);
        match result {
            Ok(()) if self.version >= SKIP_ASSIGNMENT_FROM => {
                answer.skip_assignment = group.is_leader(&self.new_id);
            }
            Ok(()) => {
                // It cannot be told to keep the assignment, so it must not think that it leads.
                answer.members = Vec::new();
                answer.leader = self.old_leader.as_deref().unwrap_or_default().to_owned();
            }
            Err(error) => {
                let answer = Join::failed(error.group_error(), "");
                group.answer_join(&self.new_id, answer, turn);
                group.restart_session(&self.new_id, turn);
                group.prepare_rebalance(turn);
                return;
            }
        }
        group.answer_join(&self.new_id, answer, turn);
        // Its session may have run out while it waited, which did not count.
        group.restart_session(&self.new_id, turn);
    }
}

pub(super) fn rebalance_timeout_ms(caller: &Caller<'_>, request: &JoinGroupRequest<'_>) -> i32 {
    if caller.version < REBALANCE_TIMEOUT_FROM {
        request.session_timeout_ms
    } else {
        request.rebalance_timeout_ms
    }
}

/// The protocols of a request; of two with one name, the first.
pub(super) fn protocols_of(request: &JoinGroupRequest<'_>) -> Vec<(String, Bytes)> {
    let mut protocols: Vec<(String, Bytes)> = Vec::with_capacity(request.protocols.len());
    for protocol in &request.protocols {
        if !protocols.iter().any(|(name, _)| name == protocol.name) {
            let metadata = Bytes::copy_from_slice(protocol.metadata);
            protocols.push((protocol.name.to_owned(), metadata));
        }
    }
    protocols
}

fn has_protocols(member: &Member, request: &JoinGroupRequest<'_>) -> bool {
    let given = request.protocols.iter().map(|protocol| (protocol.name, protocol.metadata));
    let known = member.protocols.iter().map(|(name, metadata)| (name.as_str(), metadata.as_ref()));
    given.eq(known)
}

fn new_member(id: Rc<str>, caller: &Caller<'_>, request: &JoinGroupRequest<'_>) -> Member {
    Member {
        id,
        instance_id: request.group_instance_id.map(str::to_owned),
        client_id: caller.client_id.to_owned(),
        client_host: caller.client_host.to_owned(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: rebalance_timeout_ms(caller, request),
        protocols: protocols_of(request),
        assignment: Bytes::new(),
        joining: Some(caller.token),
        syncing: None,
        is_new: true,
    }
}

fn member_update(id: Rc<str>, caller: &Caller<'_>, request: &JoinGroupRequest<'_>) -> MemberUpdate {
    MemberUpdate {
        id,
        protocols: protocols_of(request),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms: rebalance_timeout_ms(caller, request),
        token: caller.token,
    }
}

/// The client's name and a UUID as Java writes it.
fn new_member_id(prefix: &str, random: Uuid) -> String {
    let end = prefix.floor_char_boundary(MEMBER_ID_PREFIX_MAX);
    let mut id = prefix[..end].to_owned();
    for (index, byte) in random.0.iter().enumerate() {
        if matches!(index, 0 | 4 | 6 | 8 | 10) {
            id.push('-');
        }
        for nibble in [byte >> 4, byte & 0x0f] {
            id.push(char::from_digit(u32::from(nibble), 16).expect("four bits"));
        }
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_ids_are_the_clients_name_and_a_uuid() {
        let random = Uuid(std::array::from_fn(|index| u8::try_from(index * 17).unwrap()));
        let id = new_member_id("rdkafka", random);
        assert_eq!(id, "rdkafka-00112233-4455-6677-8899-aabbccddeeff");
        let long = "ä".repeat(20_000);
        assert!(new_member_id(&long, random).len() < 1100);
    }
}
