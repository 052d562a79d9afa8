//! SyncGroup, Heartbeat, LeaveGroup.

use std::rc::Rc;

use bytes::Bytes;
use model::ErrorCode;
use model::collections::BTreeMap;
use wire::heartbeat_request::HeartbeatRequest;
use wire::leave_group_request::LeaveGroupRequest;
use wire::sync_group_request::SyncGroupRequest;

use super::{GroupCoordinator, Turn, classic_members};
use crate::actions::{Actions, Caller, Now};
use crate::consumer::ClassicRequest;
use crate::group::{Group, State};
use crate::response::{Leave, LeftMember, Response, Sync};
use crate::timers::Timer;

/// The first version of LeaveGroup with several members.
const LEAVE_BATCH_FROM: i16 = 3;

impl GroupCoordinator {
    /// Asks for the assignment, and brings it if this is the leader. The answer may come later.
    pub fn sync(
        &mut self,
        caller: &Caller<'_>,
        request: &SyncGroupRequest<'_>,
        now: Now,
    ) -> Actions {
        if !self.groups.contains_key(request.group_id) {
            let answer = Sync::failed(unknown_group(request.group_id));
            return answered(caller, Response::Sync(answer));
        }
        self.run(request.group_id, caller, ClassicRequest::Sync(request), now)
    }

    /// Tells that a member is alive.
    pub fn heartbeat(
        &mut self,
        caller: &Caller<'_>,
        request: &HeartbeatRequest<'_>,
        now: Now,
    ) -> Actions {
        if !self.groups.contains_key(request.group_id) {
            return answered(caller, Response::Heartbeat(unknown_group(request.group_id)));
        }
        self.run(request.group_id, caller, ClassicRequest::Heartbeat(request), now)
    }

    /// Takes members out of a group: themselves, or by an administrator who names them.
    pub fn leave(
        &mut self,
        caller: &Caller<'_>,
        request: &LeaveGroupRequest<'_>,
        now: Now,
    ) -> Actions {
        let single = [(request.member_id, None)];
        let several: Vec<(&str, Option<&str>)> = request
            .members
            .iter()
            .map(|member| (member.member_id, member.group_instance_id))
            .collect();
        let members = if caller.version < LEAVE_BATCH_FROM { &single[..] } else { &several[..] };
        let all = |error: ErrorCode| {
            let left = |(member_id, instance_id): &(&str, Option<&str>)| LeftMember {
                member_id: (*member_id).to_owned(),
                instance_id: instance_id.map(str::to_owned),
                error,
            };
            members.iter().map(left).collect()
        };
        if request.group_id.is_empty() {
            let answer = Leave { error: ErrorCode::InvalidGroupId, members: Vec::new() };
            return answered(caller, Response::Leave(answer));
        }
        if !self.groups.contains_key(request.group_id) {
            let members = all(ErrorCode::UnknownMemberId);
            let answer = Leave { error: ErrorCode::None, members };
            return answered(caller, Response::Leave(answer));
        }
        self.run(request.group_id, caller, ClassicRequest::Leave(members), now)
    }

    fn run(
        &mut self,
        group_id: &str,
        caller: &Caller<'_>,
        request: ClassicRequest<'_>,
        now: Now,
    ) -> Actions {
        let topics = Rc::clone(&self.engine.topics);
        self.in_group(group_id, now, |group, turn| {
            classic_members::run(group, caller, request, topics.as_ref(), turn);
        })
    }
}

/// SyncGroup to a classic group.
pub(super) fn sync(
    group: &mut Group,
    caller: &Caller<'_>,
    request: &SyncGroupRequest<'_>,
    turn: &mut Turn<'_>,
) {
    match check_sync(group, request) {
        Ok(member_id) => {
            let assignment = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
            let assignments: BTreeMap<String, Bytes> = request
                .assignments
                .iter()
                .map(|one| (one.member_id.to_owned(), assignment(one.assignment)))
                .collect();
            group.sync(&member_id, caller.token, assignments, turn);
        }
        Err(error) => turn.answer(caller.token, Response::Sync(Sync::failed(error))),
    }
}

/// Heartbeat to a classic group.
pub(super) fn heartbeat(
    group: &mut Group,
    caller: &Caller<'_>,
    request: &HeartbeatRequest<'_>,
    turn: &mut Turn<'_>,
) {
    let error = check_heartbeat(group, request, turn).err().unwrap_or(ErrorCode::None);
    turn.answer(caller.token, Response::Heartbeat(error));
}

/// LeaveGroup to a classic group.
pub(super) fn leave(
    group: &mut Group,
    caller: &Caller<'_>,
    members: &[(&str, Option<&str>)],
    turn: &mut Turn<'_>,
) {
    let answer = if group.state == State::Dead {
        Leave { error: ErrorCode::CoordinatorNotAvailable, members: Vec::new() }
    } else {
        leave_group(group, members, turn)
    };
    turn.answer(caller.token, Response::Leave(answer));
}

fn answered(caller: &Caller<'_>, response: Response) -> Actions {
    Actions { responses: vec![(caller.token, response)], writes: Vec::new() }
}

/// What members of a group are told that is not there.
fn unknown_group(group_id: &str) -> ErrorCode {
    if group_id.is_empty() { ErrorCode::InvalidGroupId } else { ErrorCode::UnknownMemberId }
}

fn check_sync(group: &Group, request: &SyncGroupRequest<'_>) -> Result<Rc<str>, ErrorCode> {
    if group.state == State::Dead {
        return Err(ErrorCode::CoordinatorNotAvailable);
    }
    group.check_member(request.member_id, request.group_instance_id)?;
    if request.generation_id != group.generation {
        return Err(ErrorCode::IllegalGeneration);
    }
    let differs = |given: Option<&str>, known: &Option<String>| {
        given.zip(known.as_deref()).is_some_and(|(given, known)| given != known)
    };
    if differs(request.protocol_type, &group.protocol_type)
        || differs(request.protocol_name, &group.protocol)
    {
        return Err(ErrorCode::InconsistentGroupProtocol);
    }
    match group.state {
        State::Empty | State::Dead => Err(ErrorCode::UnknownMemberId),
        State::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
        State::CompletingRebalance | State::Stable => {
            let member = group.members.get(request.member_id).expect("it was just checked");
            Ok(member.id.clone())
        }
    }
}

fn check_heartbeat(
    group: &mut Group,
    request: &HeartbeatRequest<'_>,
    turn: &mut Turn<'_>,
) -> Result<(), ErrorCode> {
    if group.state == State::Dead {
        return Err(ErrorCode::CoordinatorNotAvailable);
    }
    group.check_member(request.member_id, request.group_instance_id)?;
    if request.generation_id != group.generation {
        return Err(ErrorCode::IllegalGeneration);
    }
    group.restart_session(request.member_id, turn);
    match group.state {
        State::Empty | State::Dead => Err(ErrorCode::UnknownMemberId),
        State::PreparingRebalance => Err(ErrorCode::RebalanceInProgress),
        State::CompletingRebalance | State::Stable => Ok(()),
    }
}

fn leave_group(group: &mut Group, members: &[(&str, Option<&str>)], turn: &mut Turn<'_>) -> Leave {
    let mut left = Vec::with_capacity(members.len());
    for (member_id, instance_id) in members {
        let error = leave_one(group, member_id, *instance_id, turn).err();
        left.push(LeftMember {
            member_id: (*member_id).to_owned(),
            instance_id: instance_id.map(str::to_owned),
            error: error.unwrap_or(ErrorCode::None),
        });
    }
    if left.iter().any(|member| member.error == ErrorCode::None) {
        group.after_leaving(turn);
    }
    Leave { error: ErrorCode::None, members: left }
}

fn leave_one(
    group: &mut Group,
    member_id: &str,
    instance_id: Option<&str>,
    turn: &mut Turn<'_>,
) -> Result<(), ErrorCode> {
    if member_id.is_empty() {
        // An administrator names a static member without knowing its id.
        let named = instance_id.and_then(|name| group.static_members.get(name)).cloned();
        let member_id = named.ok_or(ErrorCode::UnknownMemberId)?;
        group.take_out(&member_id, turn);
        return Ok(());
    }
    if group.pending_members.remove(member_id) {
        turn.cancel_timer(&Timer::Session(group.id.clone(), member_id.into()));
        return Ok(());
    }
    group.check_member(member_id, instance_id)?;
    group.take_out(member_id, turn);
    Ok(())
}
