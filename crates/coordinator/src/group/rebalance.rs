//! The rebalance of a group: who is waited for, until when, and what they are told.

use std::rc::Rc;

use bytes::Bytes;
use model::ErrorCode;
use model::collections::BTreeMap;

use super::{Group, InitialDelay, Member, State};
use crate::actions::Token;
use crate::coordinator::{Effect, Turn};
use crate::records;
use crate::response::{Join, Response, Sync};
use crate::timers::Timer;

/// How long a new member may wait in its first JoinGroup. It has no id to heartbeat with, and a
/// client that gave up cannot be told from one that waits; it retries if it is still there.
const NEW_MEMBER_JOIN_TIMEOUT_MS: u64 = 5 * 60 * 1000;

impl Group {
    /// A new member joins.
    pub fn join_new(&mut self, member: Member, protocol_type: &str, turn: &mut Turn<'_>) {
        if let Some(delay) = &mut self.initial_delay {
            delay.has_new_member = true;
        }
        let id = member.id.clone();
        self.add(member, protocol_type);
        turn.set_timer(Timer::Session(self.id.clone(), id), NEW_MEMBER_JOIN_TIMEOUT_MS);
        self.rebalance_or_go_on(turn);
    }

    /// A member joins again, perhaps with other protocols.
    pub fn join_again(&mut self, update: MemberUpdate, turn: &mut Turn<'_>) {
        self.update_member(update, turn);
        self.rebalance_or_go_on(turn);
    }

    /// Takes over what a member says of itself, and lets it wait.
    pub fn update_member(&mut self, update: MemberUpdate, turn: &mut Turn<'_>) {
        let member = self.members.get_mut(&update.id).expect("the member was looked up");
        member.protocols = update.protocols;
        member.session_timeout_ms = update.session_timeout_ms;
        member.rebalance_timeout_ms = update.rebalance_timeout_ms;
        if let Some(superseded) = member.joining.replace(update.token) {
            let answer = Join::failed(ErrorCode::RebalanceInProgress, &member.id);
            turn.answer(superseded, Response::Join(answer));
        }
    }

    /// Starts a rebalance, or goes on with the one that is under way.
    pub fn rebalance_or_go_on(&mut self, turn: &mut Turn<'_>) {
        match self.state {
            State::Empty | State::CompletingRebalance | State::Stable => {
                self.prepare_rebalance(turn);
            }
            State::PreparingRebalance => self.maybe_complete_join(turn),
            State::Dead => {}
        }
    }

    /// Everybody is to join again.
    pub fn prepare_rebalance(&mut self, turn: &mut Turn<'_>) {
        if self.state == State::CompletingRebalance {
            self.fail_assignment(ErrorCode::RebalanceInProgress, turn);
        }
        self.pending_sync.clear();
        turn.cancel_timer(&Timer::Sync(self.id.clone()));
        let was_empty = self.state == State::Empty;
        self.enter(State::PreparingRebalance, turn.now().wall);
        if was_empty {
            let delay_ms = u64::from(turn.settings().initial_rebalance_delay_ms);
            self.initial_delay = Some(InitialDelay {
                waited_ms: delay_ms,
                remaining_ms: self.rebalance_timeout_ms().saturating_sub(delay_ms),
                has_new_member: false,
            });
            if delay_ms == 0 {
                self.complete_join(turn);
            } else {
                turn.set_timer(Timer::Join(self.id.clone()), delay_ms);
            }
        } else if self.have_all_joined() {
            self.complete_join(turn);
        } else {
            turn.set_timer(Timer::Join(self.id.clone()), self.rebalance_timeout_ms());
        }
    }

    /// Goes on if everybody has joined, unless the first members of a group are still awaited.
    pub fn maybe_complete_join(&mut self, turn: &mut Turn<'_>) {
        if self.state == State::PreparingRebalance
            && self.initial_delay.is_none()
            && self.have_all_joined()
        {
            self.complete_join(turn);
        }
    }

    /// The time to join is over.
    pub fn on_join_deadline(&mut self, turn: &mut Turn<'_>) {
        if self.state != State::PreparingRebalance {
            return;
        }
        if let Some(delay) = &mut self.initial_delay
            && delay.has_new_member
            && delay.remaining_ms > 0
        {
            let step_ms =
                u64::from(turn.settings().initial_rebalance_delay_ms).min(delay.remaining_ms);
            *delay = InitialDelay {
                waited_ms: step_ms,
                remaining_ms: delay.remaining_ms.saturating_sub(delay.waited_ms),
                has_new_member: false,
            };
            turn.set_timer(Timer::Join(self.id.clone()), step_ms);
            return;
        }
        self.complete_join(turn);
    }

    /// Ends the joining: those who came are a new generation, and the leader learns of them.
    fn complete_join(&mut self, turn: &mut Turn<'_>) {
        self.initial_delay = None;
        turn.cancel_timer(&Timer::Join(self.id.clone()));
        let is_missing =
            |member: &&Member| member.joining.is_none() && member.instance_id.is_none();
        let missing: Vec<Rc<str>> =
            self.members.values().filter(is_missing).map(|member| member.id.clone()).collect();
        for id in missing {
            self.remove(&id);
            turn.cancel_timer(&Timer::Session(self.id.clone(), id));
        }
        if !self.elect_joined_leader() && !self.members.is_empty() {
            // Only static members are left, and none of them came: their sessions decide.
            turn.set_timer(Timer::Join(self.id.clone()), self.rebalance_timeout_ms());
            return;
        }
        self.generation = self.generation.wrapping_add(1).max(1);
        self.pending_sync.clear();
        if self.members.is_empty() {
            self.protocol = None;
            self.subscribed_topics = self.compute_subscribed_topics();
            self.enter(State::Empty, turn.now().wall);
            let record = records::group_metadata(self, &BTreeMap::new());
            turn.write(vec![record], Effect::None);
            return;
        }
        self.protocol = self.select_protocol();
        self.subscribed_topics = self.compute_subscribed_topics();
        self.enter(State::CompletingRebalance, turn.now().wall);
        let ids: Vec<Rc<str>> = self.members.keys().cloned().collect();
        for id in ids {
            let answer = self.join_answer(&id);
            self.answer_join(&id, answer, turn);
            self.restart_session(&id, turn);
            self.members.get_mut(&id).expect("it was listed").is_new = false;
            self.pending_sync.insert(id);
        }
        turn.set_timer(Timer::Sync(self.id.clone()), self.rebalance_timeout_ms());
    }

    /// Makes sure that the leader is one who has joined; false if nobody has.
    fn elect_joined_leader(&mut self) -> bool {
        let has_joined =
            |id: &Rc<str>| self.members.get(id).is_some_and(|member| member.joining.is_some());
        if self.leader.as_ref().is_some_and(has_joined) {
            return true;
        }
        match self.members.values().find(|member| member.joining.is_some()) {
            Some(joined) => {
                self.leader = Some(joined.id.clone());
                true
            }
            None => false,
        }
    }

    /// A member asks for its assignment; the leader brings everybody's.
    pub fn sync(
        &mut self,
        member_id: &Rc<str>,
        token: Token,
        assignments: BTreeMap<String, Bytes>,
        turn: &mut Turn<'_>,
    ) {
        self.pending_sync.remove(member_id);
        if self.pending_sync.is_empty() {
            turn.cancel_timer(&Timer::Sync(self.id.clone()));
        }
        let member = self.members.get_mut(member_id).expect("the member was looked up");
        if self.state == State::Stable {
            let answer = Sync {
                error: ErrorCode::None,
                protocol_type: self.protocol_type.clone(),
                protocol: self.protocol.clone(),
                assignment: member.assignment.clone(),
            };
            turn.answer(token, Response::Sync(answer));
            return;
        }
        if let Some(superseded) = member.syncing.replace(token) {
            let answer = Sync::failed(ErrorCode::RebalanceInProgress);
            turn.answer(superseded, Response::Sync(answer));
        }
        if self.is_leader(member_id) && self.assigning != Some(self.generation) {
            self.assigning = Some(self.generation);
            let record = records::group_metadata(self, &assignments);
            let (group, generation) = (self.id.clone(), self.generation);
            turn.write(vec![record], Effect::Assign { group, generation, assignments });
        }
    }

    /// The leader's assignment is durable: everybody gets their part of it.
    pub fn assign(&mut self, assignments: &BTreeMap<String, Bytes>, turn: &mut Turn<'_>) {
        for member in self.members.values_mut() {
            member.assignment = assignments.get(member.id.as_ref()).cloned().unwrap_or_default();
        }
        let ids: Vec<Rc<str>> = self.members.keys().cloned().collect();
        for id in ids {
            let member = self.members.get_mut(&id).expect("it was listed");
            let Some(token) = member.syncing.take() else { continue };
            let answer = Sync {
                error: ErrorCode::None,
                protocol_type: self.protocol_type.clone(),
                protocol: self.protocol.clone(),
                assignment: member.assignment.clone(),
            };
            turn.answer(token, Response::Sync(answer));
            self.restart_session(&id, turn);
        }
        self.enter(State::Stable, turn.now().wall);
    }

    /// There will be no assignment: everybody who waits for one is told why.
    pub fn fail_assignment(&mut self, error: ErrorCode, turn: &mut Turn<'_>) {
        let ids: Vec<Rc<str>> = self.members.keys().cloned().collect();
        for id in ids {
            let member = self.members.get_mut(&id).expect("it was listed");
            member.assignment = Bytes::new();
            if let Some(token) = member.syncing.take() {
                turn.answer(token, Response::Sync(Sync::failed(error)));
                self.restart_session(&id, turn);
            }
        }
    }

    /// The time to sync is over: who did not is out.
    pub fn on_sync_deadline(&mut self, turn: &mut Turn<'_>) {
        let is_due = matches!(self.state, State::CompletingRebalance | State::Stable);
        if !is_due || self.pending_sync.is_empty() {
            return;
        }
        for id in std::mem::take(&mut self.pending_sync) {
            self.take_out(&id, turn);
        }
        self.prepare_rebalance(turn);
    }

    /// A member was silent for too long.
    pub fn on_session_deadline(&mut self, member_id: &Rc<str>, turn: &mut Turn<'_>) {
        if self.pending_members.remove(member_id) {
            self.maybe_complete_join(turn);
            return;
        }
        let Some(member) = self.members.get(member_id) else { return };
        // Who waits for an answer cannot heartbeat; the deadline is set anew with the answer.
        let is_waiting = member.joining.is_some() || member.syncing.is_some();
        if is_waiting && !member.is_new {
            return;
        }
        self.take_out(member_id, turn);
        self.after_leaving(turn);
    }

    /// Some members are gone: the others rebalance.
    pub fn after_leaving(&mut self, turn: &mut Turn<'_>) {
        match self.state {
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(turn),
            State::PreparingRebalance => self.maybe_complete_join(turn),
            State::Empty | State::Dead => {}
        }
    }

    /// Removes a member and tells it so, if it waits.
    pub fn take_out(&mut self, member_id: &str, turn: &mut Turn<'_>) {
        let Some(member) = self.remove(member_id) else { return };
        turn.cancel_timer(&Timer::Session(self.id.clone(), member.id.clone()));
        if let Some(token) = member.joining {
            let answer = Join::failed(ErrorCode::UnknownMemberId, "");
            turn.answer(token, Response::Join(answer));
        }
        if let Some(token) = member.syncing {
            let answer = Sync::failed(ErrorCode::UnknownMemberId);
            turn.answer(token, Response::Sync(answer));
        }
    }

    /// Answers a member's JoinGroup, if it waits.
    pub fn answer_join(&mut self, member_id: &str, answer: Join, turn: &mut Turn<'_>) {
        let member = self.members.get_mut(member_id);
        if let Some(token) = member.and_then(|member| member.joining.take()) {
            turn.answer(token, Response::Join(answer));
        }
    }

    /// A member was heard of.
    pub fn restart_session(&self, member_id: &str, turn: &mut Turn<'_>) {
        let Some(member) = self.members.get(member_id) else { return };
        let timeout_ms = u64::try_from(member.session_timeout_ms).unwrap_or(0);
        turn.set_timer(Timer::Session(self.id.clone(), member.id.clone()), timeout_ms);
    }

    /// Gives a static member a new id; whoever has the old one is fenced.
    pub fn replace_static(&mut self, old_id: &str, new_id: &Rc<str>, turn: &mut Turn<'_>) {
        let mut member = self.members.remove(old_id).expect("the static member was looked up");
        turn.cancel_timer(&Timer::Session(self.id.clone(), member.id.clone()));
        if let Some(token) = member.joining.take() {
            let answer = Join::failed(ErrorCode::FencedInstanceId, old_id);
            turn.answer(token, Response::Join(answer));
        }
        if let Some(token) = member.syncing.take() {
            let answer = Sync::failed(ErrorCode::FencedInstanceId);
            turn.answer(token, Response::Sync(answer));
        }
        if self.is_leader(old_id) {
            self.leader = Some(new_id.clone());
        }
        self.pending_sync.remove(old_id);
        member.id = new_id.clone();
        let instance_id = member.instance_id.clone().expect("only static members are replaced");
        self.static_members.insert(instance_id, new_id.clone());
        self.members.insert(new_id.clone(), member);
        self.restart_session(new_id, turn);
    }
}

/// What a member says of itself when it joins again.
pub struct MemberUpdate {
    /// Who.
    pub id: Rc<str>,
    /// What it can do.
    pub protocols: Vec<(String, Bytes)>,
    /// How long it may be silent.
    pub session_timeout_ms: i32,
    /// How long it may take to join a rebalance.
    pub rebalance_timeout_ms: i32,
    /// Its JoinGroup.
    pub token: Token,
}
