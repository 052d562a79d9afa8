//! The groups of one partition of `__consumer_offsets`.

mod admin;
mod classic_members;
mod consumer;
mod join;
mod membership;
mod migration;
mod offsets;
mod replay;
mod transactions;

use std::rc::Rc;

use bytes::Bytes;
use model::collections::BTreeMap;
use model::{ErrorCode, ProducerId};

pub use admin::{GroupDescription, GroupFilter, GroupListing, GroupPositions, MemberDescription};
pub use consumer::{ConsumerGroupDescription, describe_response};
pub use offsets::{KnownTopic, Resolve};
pub use replay::{LoadError, Replayed};

use crate::actions::{
    Actions, Now, Record, Token, TransactionEnd, Write, WriteError, WriteForm, WriteId,
};
use crate::consumer::Event;
use crate::group::{Group, State};
use crate::offsets::CommittedOffset;
use crate::records::STRING_BYTES_MAX;
use crate::response::{Join, OffsetCommit, OffsetDelete, Response, Sync};
use crate::settings::{ConsumerSettings, Settings};
use crate::timers::{Timer, Timers};
use crate::topics::Topics;

/// The coordinator of the groups of one partition.
#[derive(Debug)]
pub struct GroupCoordinator {
    groups: BTreeMap<Rc<str>, Group>,
    /// Offsets of transactions that have not ended.
    pending: BTreeMap<ProducerId, transactions::PendingOffsets>,
    engine: Engine,
}

/// What groups share: settings, the broker's metadata, deadlines and writes under way.
#[derive(Debug)]
struct Engine {
    settings: Settings,
    topics: Rc<dyn Topics>,
    timers: Timers,
    effects: BTreeMap<WriteId, Effect>,
    next_write: u64,
}

/// What happens when a write is done.
#[derive(Debug)]
pub enum Effect {
    /// Nothing: the record only tells the next coordinator.
    None,
    /// The members get their assignments, if the group is still there.
    Assign {
        /// The group.
        group: Rc<str>,
        /// The generation that is assigned.
        generation: i32,
        /// What each member gets.
        assignments: BTreeMap<String, Bytes>,
    },
    /// What changed in a consumer group holds.
    Consumer(consumer::ConsumerWrite),
    /// A static member's new id holds.
    ReplaceStatic(join::StaticReplacement),
    /// Offsets become visible.
    CommitOffsets {
        /// Whom to tell.
        token: Token,
        /// The group.
        group: Rc<str>,
        /// The offsets, by topic and partition.
        offsets: Vec<(String, i32, CommittedOffset)>,
        /// What to say if it succeeds.
        response: OffsetCommit,
    },
    /// Offsets of a transaction wait for its end.
    PendingCommit(transactions::PendingCommit),
    /// They become visible, or are forgotten.
    EndTransaction {
        /// Whom to tell.
        token: Token,
        /// Which transaction, and how it ended.
        end: TransactionEnd,
    },
    /// Offsets are forgotten.
    DeleteOffsets {
        /// Whom to tell, and what if it succeeds.
        answer: Option<(Token, OffsetDelete)>,
        /// The offsets, by group, topic and partition.
        offsets: Vec<(Rc<str>, String, i32)>,
    },
    /// Groups are forgotten, with their offsets.
    DeleteGroups {
        /// Whom to tell, and what if it succeeds.
        answer: Option<(Token, Vec<(String, ErrorCode)>)>,
        /// The groups.
        groups: Vec<Rc<str>>,
    },
}

/// One event on its way through the coordinator.
pub struct Turn<'a> {
    engine: &'a mut Engine,
    now: Now,
    actions: Actions,
}

impl Turn<'_> {
    /// The time of the event.
    pub fn now(&self) -> Now {
        self.now
    }

    /// The operator's settings.
    pub fn settings(&self) -> &Settings {
        &self.engine.settings
    }

    /// Answers a request.
    pub fn answer(&mut self, token: Token, response: Response) {
        self.actions.responses.push((token, response));
    }

    /// Appends records; the effect comes when they are durable.
    pub fn write(&mut self, records: Vec<Record>, effect: Effect) {
        assert!(!records.is_empty(), "a write has records");
        self.write_as(WriteForm::Plain, records, effect);
    }

    /// The same for what is part of a transaction, or ends one.
    pub fn write_as(&mut self, form: WriteForm, records: Vec<Record>, effect: Effect) {
        let id = WriteId(self.engine.next_write);
        self.engine.next_write += 1;
        self.engine.effects.insert(id, effect);
        self.actions.writes.push(Write { id, form, records });
    }

    /// Sets a timer to go off after a while.
    pub fn set_timer(&mut self, timer: Timer, delay_ms: u64) {
        let deadline_ms = self.now.monotonic_ms.saturating_add(delay_ms);
        self.engine.timers.set(timer, deadline_ms);
    }

    /// Sets a timer that is not set yet.
    pub fn set_timer_if_absent(&mut self, timer: Timer, delay_ms: u64) {
        let deadline_ms = self.now.monotonic_ms.saturating_add(delay_ms);
        self.engine.timers.set_if_absent(timer, deadline_ms);
    }

    /// The settings of one consumer group: the broker's, but for those that it has of its own.
    pub fn consumer_settings(&self, group_id: &str) -> ConsumerSettings {
        self.engine.settings.consumer.with(self.engine.topics.settings_of(group_id))
    }

    /// What the broker's metadata says.
    pub fn topics(&self) -> Rc<dyn Topics> {
        Rc::clone(&self.engine.topics)
    }

    /// Takes a timer back.
    pub fn cancel_timer(&mut self, timer: &Timer) {
        self.engine.timers.cancel(timer);
    }
}

impl GroupCoordinator {
    /// A coordinator without groups: [`replay_batch`](Self::replay_batch) the partition's
    /// batches next, then
    /// [`loaded`](Self::loaded).
    #[must_use]
    pub fn new(settings: Settings, topics: Rc<dyn Topics>) -> GroupCoordinator {
        let (timers, effects) = (Timers::default(), BTreeMap::new());
        let engine = Engine { settings, topics, timers, effects, next_write: 0 };
        GroupCoordinator { groups: BTreeMap::new(), pending: BTreeMap::new(), engine }
    }

    /// When [`on_time`](Self::on_time) is to be called next, by the monotonic clock.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.engine.timers.next_deadline()
    }

    /// How many groups there are.
    #[must_use]
    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// Does what is due.
    pub fn on_time(&mut self, now: Now) -> Actions {
        let mut actions = Actions::default();
        while let Some(timer) = self.engine.timers.pop_due(now.monotonic_ms) {
            let due = match timer {
                Timer::Retention => self.expire_offsets(now),
                Timer::Session(group, member) if self.is_consumer_group(&group) => {
                    self.consumer_event(&group, Event::SessionOver(member), now)
                }
                Timer::Session(group, member) => self.in_group(&group, now, |group, turn| {
                    group.on_session_deadline(&member, turn);
                }),
                Timer::Rebalance(group, member) => {
                    self.consumer_event(&group, Event::RebalanceOver(member), now)
                }
                Timer::ConsumerJoin(group, member) | Timer::ConsumerSync(group, member) => {
                    self.consumer_event(&group, Event::JoinOver(member), now)
                }
                Timer::Join(group) => self.in_group(&group, now, Group::on_join_deadline),
                Timer::Sync(group) => self.in_group(&group, now, Group::on_sync_deadline),
            };
            actions.responses.extend(due.responses);
            actions.writes.extend(due.writes);
        }
        actions
    }

    /// A write is durable, or was not made. Writes are done in the order of their ids.
    ///
    /// # Panics
    /// When there is no such write.
    pub fn write_done(&mut self, id: WriteId, result: Result<(), WriteError>, now: Now) -> Actions {
        let effect = self.engine.effects.remove(&id).expect("a write is done once");
        match effect {
            Effect::None => Actions::default(),
            Effect::Assign { group, generation, assignments } => {
                self.in_group(&group, now, |group, turn| {
                    group.assigning.take_if(|assigning| *assigning == generation);
                    // A member may have come or gone meanwhile, or the group become another one:
                    // then this is not wanted any more.
                    if group.consumer.is_some()
                        || group.state != State::CompletingRebalance
                        || group.generation != generation
                    {
                        return;
                    }
                    match result {
                        Ok(()) => group.assign(&assignments, turn),
                        Err(error) => {
                            group.fail_assignment(error.group_error(), turn);
                            group.prepare_rebalance(turn);
                        }
                    }
                })
            }
            Effect::Consumer(write) => self.consumer_write_done(write, result, now),
            Effect::ReplaceStatic(replacement) => {
                self.in_group(&replacement.group.clone(), now, |group, turn| {
                    replacement.done(group, result, turn);
                })
            }
            Effect::CommitOffsets { token, group, offsets, response } => {
                self.commit_done(token, &group, offsets, response, result, now)
            }
            Effect::PendingCommit(commit) => self.pending_commit_done(commit, result, now),
            Effect::EndTransaction { token, end } => self.transaction_end_done(token, end, result),
            Effect::DeleteOffsets { answer, offsets } => {
                self.offset_deletion_done(answer, &offsets, result)
            }
            Effect::DeleteGroups { answer, groups } => {
                self.group_deletion_done(answer, &groups, result, now)
            }
        }
    }

    /// This node does not lead the partition any more: everybody who waits is sent away. The
    /// writes under way will not be asked for again, and nothing else is to be called.
    pub fn unload(self) -> Actions {
        let mut actions = Actions::default();
        let error = ErrorCode::NotCoordinator;
        for group in self.groups.values() {
            for member in group.members.values() {
                if let Some(token) = member.joining {
                    let answer = Join::failed(error, &member.id);
                    actions.responses.push((token, Response::Join(answer)));
                }
                if let Some(token) = member.syncing {
                    actions.responses.push((token, Response::Sync(Sync::failed(error))));
                }
            }
            let waiting = group.consumer.iter().flat_map(|group| &group.waiting);
            actions.responses.extend(waiting.filter_map(|event| event.refused(error)));
        }
        for effect in self.engine.effects.into_values() {
            actions.responses.extend(effect.failed(error));
        }
        actions
    }

    fn is_consumer_group(&self, id: &str) -> bool {
        self.groups.get(id).is_some_and(|group| group.consumer.is_some())
    }

    fn turn(&mut self, now: Now) -> Turn<'_> {
        Turn { engine: &mut self.engine, now, actions: Actions::default() }
    }

    /// Lets something happen to a group, if there is one, and forgets it if nothing is left.
    fn in_group(
        &mut self,
        id: &str,
        now: Now,
        event: impl FnOnce(&mut Group, &mut Turn<'_>),
    ) -> Actions {
        let mut turn = Turn { engine: &mut self.engine, now, actions: Actions::default() };
        if let Some(group) = self.groups.get_mut(id) {
            event(group, &mut turn);
            if group.is_vacant() {
                self.groups.remove(id);
            }
        }
        turn.actions
    }
}

impl Effect {
    /// What those are told who wait for it, if it never comes.
    fn failed(self, error: ErrorCode) -> Option<(Token, Response)> {
        match self {
            // Those who wait for these are members, who are told as such.
            Effect::None | Effect::Assign { .. } | Effect::ReplaceStatic(_) => None,
            Effect::Consumer(write) => write.answer.map(|(token, one)| (token, one.failed(error))),
            Effect::CommitOffsets { token, response, .. } => {
                Some((token, Response::OffsetCommit(response).failed(error)))
            }
            Effect::PendingCommit(commit) => {
                Some((commit.token, Response::TxnOffsetCommit(commit.response).failed(error)))
            }
            Effect::EndTransaction { token, .. } => {
                Some((token, Response::TransactionEnded(ErrorCode::None).failed(error)))
            }
            Effect::DeleteOffsets { answer, .. } => answer
                .map(|(token, response)| (token, Response::OffsetDelete(response).failed(error))),
            Effect::DeleteGroups { answer, .. } => answer
                .map(|(token, results)| (token, Response::DeleteGroups(results).failed(error))),
        }
    }
}

/// Whether a group id can be in a record; the empty one can, for the sake of old clients.
fn is_storable(text: &str) -> bool {
    text.len() <= STRING_BYTES_MAX
}
