//! The transactional ids of one partition of `__transaction_state`.

use std::rc::Rc;

use model::collections::BTreeMap;
use model::{ErrorCode, ProducerEpoch, ProducerId};

use super::settings::Settings;
use super::transaction::{
    EPOCH_BUMP_FROM, NO_EPOCH, Outcome, Partitions, State, Transaction, is_exhausted, tombstone,
};
use crate::actions::{Now, Record, Token, Write, WriteError, WriteForm, WriteId};
use crate::records::STRING_BYTES_MAX;

/// When a completion that could not be written is tried again.
const COMPLETION_RETRY_MS: u64 = 1_000;
/// How many bytes of tombstones are written at a time: well below the largest batch, so that one
/// tombstone of the longest id more still fits.
const TOMBSTONE_BYTES_MAX: usize = 256 << 10;

/// What a request is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionResponse {
    /// To InitProducerId and EndTxn.
    Identity(Result<ProducerIdentity, ErrorCode>),
    /// To AddPartitionsToTxn and AddOffsetsToTxn.
    Added(ErrorCode),
}

/// Who a producer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdentity {
    /// Its id.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
}

/// The end that a client wants for its transaction.
#[derive(Clone, Copy, Debug)]
pub struct EndRequest<'a> {
    /// Whose.
    pub transactional_id: &'a str,
    /// Who asks.
    pub producer: ProducerIdentity,
    /// How it ends.
    pub outcome: Outcome,
    /// The generation of the client: 0, or 2 for one that expects its epoch to be bumped.
    pub client_version: i16,
}

/// Markers to be written to every partition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Markers {
    /// Whose; to be given back when all are written.
    pub transactional_id: Rc<str>,
    /// Its producer, with the epoch of the markers.
    pub producer: ProducerIdentity,
    /// How it ended.
    pub outcome: Outcome,
    /// Where to.
    pub partitions: Partitions,
    /// The generation of the transaction: from 2 on the epoch is one that no record has.
    pub client_version: i16,
}

/// What is to be done now.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransactionActions {
    /// Responses that hold already. Each token is answered exactly once.
    pub responses: Vec<(Token, TransactionResponse)>,
    /// To be appended, in this order, after those of earlier actions.
    pub writes: Vec<Write>,
    /// To be written, in any order.
    pub markers: Vec<Markers>,
}

impl TransactionActions {
    pub(super) fn answer(token: Token, response: TransactionResponse) -> TransactionActions {
        TransactionActions { responses: vec![(token, response)], ..Default::default() }
    }

    fn extend(&mut self, more: TransactionActions) {
        self.responses.extend(more.responses);
        self.writes.extend(more.writes);
        self.markers.extend(more.markers);
    }
}

/// A transactional id with what is on its way.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) transaction: Transaction,
    /// The state that it is about to have.
    pub(super) pending: Option<State>,
}

/// What happens when a write is done.
#[derive(Debug)]
pub(super) enum Effect {
    /// A transactional id changes.
    Change { id: Rc<str>, next: Transaction, told: Option<(Token, Told)> },
    /// Transactional ids are forgotten.
    Forget(Vec<Rc<str>>),
}

/// What somebody is told when a change is durable.
#[derive(Clone, Copy, Debug)]
pub(super) enum Told {
    /// The partitions are in the transaction.
    Added,
    /// Who the producer is now.
    Identity(ProducerIdentity),
    /// To ask again: the old transaction is being aborted.
    AskAgain,
}

/// The coordinator of the transactional ids of one partition.
#[derive(Debug)]
pub struct TransactionCoordinator {
    pub(super) entries: BTreeMap<Rc<str>, Entry>,
    pub(super) settings: Settings,
    effects: BTreeMap<WriteId, Effect>,
    next_write: u64,
    /// Completions whose records could not be written.
    unwritten: BTreeMap<Rc<str>, Outcome>,
    /// A producer id that nobody has.
    spare: Option<ProducerId>,
    is_short_of_ids: bool,
    abort_at: u64,
    expire_at: u64,
    retry_at: u64,
}

impl TransactionCoordinator {
    /// A coordinator without transactional ids: [`replay_batch`](Self::replay_batch) the
    /// partition's batches next, then [`loaded`](Self::loaded).
    #[must_use]
    pub fn new(settings: Settings) -> TransactionCoordinator {
        TransactionCoordinator {
            entries: BTreeMap::new(),
            settings,
            effects: BTreeMap::new(),
            next_write: 0,
            unwritten: BTreeMap::new(),
            spare: None,
            is_short_of_ids: false,
            abort_at: 0,
            expire_at: 0,
            retry_at: 0,
        }
    }

    /// Another level of `transaction.version` is finalized.
    pub fn set_transaction_version(&mut self, level: i16) {
        self.settings.transaction_version = level;
    }

    /// Everything is replayed. What was decided to end gets its markers.
    pub fn loaded(&mut self, now: Now) -> TransactionActions {
        self.abort_at = now.monotonic_ms.saturating_add(self.settings.abort_interval_ms);
        self.expire_at = now.monotonic_ms.saturating_add(self.settings.expiration_interval_ms);
        let mut actions = TransactionActions::default();
        for (id, entry) in &mut self.entries {
            actions.markers.extend(start_markers(id, entry));
        }
        actions
    }

    /// Whether something came to nothing for want of a producer id that nobody has: a request was
    /// answered with COORDINATOR_LOAD_IN_PROGRESS, or what is due has to wait. It is to be asked
    /// again after [`give_producer_id`](Self::give_producer_id).
    #[must_use]
    pub fn is_short_of_producer_ids(&self) -> bool {
        self.is_short_of_ids
    }

    /// Hands over a producer id that nobody has.
    pub fn give_producer_id(&mut self, id: ProducerId) {
        self.spare = Some(id);
        self.is_short_of_ids = false;
    }

    pub(super) fn take_producer_id(&mut self) -> Result<ProducerId, ErrorCode> {
        self.is_short_of_ids = self.spare.is_none();
        self.spare.take().ok_or(ErrorCode::CoordinatorLoadInProgress)
    }

    /// When [`on_time`](Self::on_time) is to be called next, by the monotonic clock.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        let retry = (!self.unwritten.is_empty()).then_some(self.retry_at);
        let regular = (!self.entries.is_empty()).then(|| self.abort_at.min(self.expire_at));
        retry.into_iter().chain(regular).min()
    }

    /// Does what is due: aborts what takes too long, forgets what nobody uses.
    pub fn on_time(&mut self, now: Now) -> TransactionActions {
        let mut actions = TransactionActions::default();
        if now.monotonic_ms >= self.retry_at {
            for (id, outcome) in std::mem::take(&mut self.unwritten) {
                actions.extend(self.complete(&id, outcome, now));
            }
        }
        if now.monotonic_ms >= self.abort_at {
            self.abort_at = now.monotonic_ms.saturating_add(self.settings.abort_interval_ms);
            let is_late = |entry: &Entry| {
                entry.pending.is_none() && entry.transaction.has_timed_out(now.wall)
            };
            let late = self.entries.iter().filter(|(_, entry)| is_late(entry));
            let late: Vec<Rc<str>> = late.map(|(id, _)| id.clone()).collect();
            for id in late {
                match self.fence(&id, None, now) {
                    Ok(more) => actions.extend(more),
                    // Without a producer id: the next time.
                    Err(_) => break,
                }
            }
        }
        if now.monotonic_ms >= self.expire_at {
            self.expire_at = now.monotonic_ms.saturating_add(self.settings.expiration_interval_ms);
            actions.extend(self.expire(now));
        }
        actions
    }

    /// Gives a producer its id and its next epoch, and ends what an earlier one had begun.
    /// `expected` is who the producer was, if it says so (KIP-360).
    pub fn init_producer_id(
        &mut self,
        token: Token,
        transactional_id: &str,
        timeout_ms: i32,
        expected: Option<ProducerIdentity>,
        now: Now,
    ) -> TransactionActions {
        let decided = check_id(transactional_id).and_then(|()| {
            if !(1..=self.settings.timeout_max_ms).contains(&timeout_ms) {
                return Err(ErrorCode::InvalidTransactionTimeout);
            }
            self.decide_init(token, transactional_id, timeout_ms, expected, now)
        });
        let refused = |error| TransactionResponse::Identity(Err(error));
        decided.unwrap_or_else(|error| TransactionActions::answer(token, refused(error)))
    }

    fn decide_init(
        &mut self,
        token: Token,
        transactional_id: &str,
        timeout_ms: i32,
        expected: Option<ProducerIdentity>,
        now: Now,
    ) -> Result<TransactionActions, ErrorCode> {
        let id: Rc<str> = match self.entries.get_key_value(transactional_id) {
            Some((id, _)) => id.clone(),
            None => {
                let producer_id = self.take_producer_id()?;
                let id: Rc<str> = transactional_id.into();
                let transaction = Transaction::new(producer_id, timeout_ms, now.wall);
                self.entries.insert(id.clone(), Entry { transaction, pending: None });
                id
            }
        };
        let entry = &self.entries[&id];
        let transaction = &entry.transaction;
        if entry.pending.is_some() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        if expected.is_some_and(|expected| !may_init(transaction, expected)) {
            return Err(ErrorCode::ProducerFenced);
        }
        match transaction.state {
            State::PrepareCommit | State::PrepareAbort => {
                return Err(ErrorCode::ConcurrentTransactions);
            }
            State::Ongoing => return self.fence(&id, Some((token, Told::AskAgain)), now),
            State::Empty | State::CompleteCommit | State::CompleteAbort => {}
            State::Dead | State::PrepareEpochFence => {
                return Err(ErrorCode::CoordinatorNotAvailable);
            }
        }
        let is_newest = |one: ProducerIdentity| one.epoch == transaction.producer_epoch;
        let next = if transaction.is_epoch_exhausted() && expected.is_none_or(is_newest) {
            let last = expected.map_or(NO_EPOCH, |_| transaction.producer_epoch);
            let (current, old) = (transaction.clone(), transaction.producer_id);
            let renamed = Transaction {
                producer_id: self.take_producer_id()?,
                producer_epoch: ProducerEpoch(0),
                last_producer_epoch: last,
                ..current
            };
            renamed.emptied(old, timeout_ms, now.wall)
        } else {
            next_epoch(transaction, timeout_ms, expected, now)?
        };
        let identity = ProducerIdentity { id: next.producer_id, epoch: next.producer_epoch };
        Ok(self.change(&id, next, Some((token, Told::Identity(identity)))))
    }

    /// Adds partitions to a transaction, which begins with the first of them.
    pub fn add_partitions(
        &mut self,
        token: Token,
        transactional_id: &str,
        producer: ProducerIdentity,
        partitions: &Partitions,
        client_version: i16,
        now: Now,
    ) -> TransactionActions {
        let told = |error| TransactionActions::answer(token, TransactionResponse::Added(error));
        let id = match self.check_producer(transactional_id, producer, Pending::Refused) {
            Ok(id) => id,
            Err(error) => return told(error),
        };
        let transaction = &self.entries[&id].transaction;
        if transaction.state.is_preparing() {
            return told(ErrorCode::ConcurrentTransactions);
        }
        if transaction.state == State::Ongoing && transaction.has_all(partitions) {
            return told(ErrorCode::None);
        }
        let next = transaction.with_partitions(partitions, client_version, now.wall);
        self.change(&id, next, Some((token, Told::Added)))
    }

    /// Whether partitions are in the producer's transaction, by topic and partition.
    #[must_use]
    pub fn verify_partitions(
        &self,
        transactional_id: &str,
        producer: ProducerIdentity,
        partitions: &Partitions,
    ) -> Vec<(String, i32, ErrorCode)> {
        let checked = self.check_producer(transactional_id, producer, Pending::Passed);
        let checked = checked.and_then(|id| {
            let transaction = &self.entries[&id].transaction;
            let is_ending = transaction.state.is_preparing();
            if is_ending { Err(ErrorCode::ConcurrentTransactions) } else { Ok(transaction) }
        });
        let all =
            partitions.iter().flat_map(|(topic, all)| all.iter().map(move |one| (topic, one)));
        all.map(|(topic, partition)| {
            let error = match checked {
                Err(error) => error,
                Ok(transaction) => match transaction.partitions.get(topic) {
                    Some(known) if known.contains(partition) => ErrorCode::None,
                    Some(_) | None => ErrorCode::TransactionAbortable,
                },
            };
            (topic.clone(), *partition, error)
        })
        .collect()
    }

    fn check_producer(
        &self,
        transactional_id: &str,
        producer: ProducerIdentity,
        pending: Pending,
    ) -> Result<Rc<str>, ErrorCode> {
        check_id(transactional_id)?;
        let known = self.entries.get_key_value(transactional_id);
        let (id, entry) = known.ok_or(ErrorCode::InvalidProducerIdMapping)?;
        if pending == Pending::Refused && entry.pending.is_some() {
            return Err(ErrorCode::ConcurrentTransactions);
        }
        if entry.transaction.producer_id != producer.id {
            return Err(ErrorCode::InvalidProducerIdMapping);
        }
        let is_mutant = cfg!(feature = "mutant_fencing_skipped");
        if entry.transaction.producer_epoch != producer.epoch && !is_mutant {
            return Err(ErrorCode::ProducerFenced);
        }
        Ok(id.clone())
    }

    /// A write is in the log, and not durable yet. Whether that is all that is to be told of it:
    /// that a transaction is complete holds from now on.
    ///
    /// Its producer goes on with records that come behind this one in the same log, so none of them
    /// is durable without it. Where it is lost with all of them, the transaction is found with its
    /// end decided, and gets the same markers again.
    pub fn write_appended(&mut self, write: WriteId) -> bool {
        let is_completion = |effect: &Effect| match effect {
            Effect::Change { next, .. } => {
                matches!(next.state, State::CompleteCommit | State::CompleteAbort)
            }
            Effect::Forget(_) => false,
        };
        if !self.effects.get(&write).is_some_and(is_completion) {
            return false;
        }
        if let Some(Effect::Change { id, next, told }) = self.effects.remove(&write) {
            assert!(told.is_none(), "nobody is told of a completion");
            let entry = self.entries.get_mut(&id).expect("what is pending is not forgotten");
            entry.pending = None;
            entry.transaction = next;
        }
        true
    }

    /// A write is durable, or was not made. Writes are done in the order of their ids.
    ///
    /// # Panics
    /// When there is no such write.
    pub fn write_done(
        &mut self,
        write: WriteId,
        result: Result<(), WriteError>,
        now: Now,
    ) -> TransactionActions {
        let effect = self.effects.remove(&write).expect("a write is done once");
        match effect {
            Effect::Change { id, next, told } => {
                let mut actions = TransactionActions::default();
                let entry = self.entries.get_mut(&id).expect("what is pending is not forgotten");
                entry.pending = None;
                let told = told.map(|(token, told)| (token, told.answer(result)));
                actions.responses.extend(told);
                match (result, next.state) {
                    (Ok(()), _) => {
                        entry.transaction = next;
                        actions.markers.extend(start_markers(&id, entry));
                    }
                    (Err(_), State::CompleteCommit | State::CompleteAbort) => {
                        let is_commit = next.state == State::CompleteCommit;
                        let outcome = if is_commit { Outcome::Commit } else { Outcome::Abort };
                        entry.pending = Some(next.state);
                        self.retry_at = now.monotonic_ms.saturating_add(COMPLETION_RETRY_MS);
                        self.unwritten.insert(id, outcome);
                    }
                    (Err(_), _) if entry.transaction.producer_epoch == NO_EPOCH => {
                        self.entries.remove(&id);
                    }
                    (Err(_), _) => {}
                }
                actions
            }
            Effect::Forget(ids) => {
                for id in ids {
                    match result {
                        Ok(()) => drop(self.entries.remove(&id)),
                        Err(_) => {
                            let entry = self.entries.get_mut(&id);
                            entry.expect("what is pending is not forgotten").pending = None;
                        }
                    }
                }
                TransactionActions::default()
            }
        }
    }

    /// All markers of a transaction are durable.
    ///
    /// # Panics
    /// When no markers were asked for.
    pub fn markers_written(&mut self, transactional_id: &str, now: Now) -> TransactionActions {
        let known = self.entries.get_key_value(transactional_id);
        let (id, entry) = known.expect("what is pending is not forgotten");
        let outcome = outcome_of(entry.transaction.state).expect("markers were asked for");
        self.complete(&id.clone(), outcome, now)
    }

    fn complete(&mut self, id: &Rc<str>, outcome: Outcome, now: Now) -> TransactionActions {
        let next = self.entries[id].transaction.completed(outcome, now.wall);
        self.change(id, next, None)
    }

    /// This node does not lead the partition any more: everybody who waits is sent away. Nothing
    /// else is to be called.
    pub fn unload(self) -> TransactionActions {
        let error = Err(WriteError::NotCoordinator);
        let told = self.effects.into_values().filter_map(|effect| match effect {
            Effect::Change { told, .. } => told,
            Effect::Forget(_) => None,
        });
        let responses = told.map(|(token, told)| (token, told.answer(error))).collect();
        TransactionActions { responses, ..Default::default() }
    }

    fn expire(&mut self, now: Now) -> TransactionActions {
        let expiration_ms = self.settings.id_expiration_ms;
        let mut actions = TransactionActions::default();
        let (mut ids, mut records, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut batches = Vec::new();
        for (id, entry) in &mut self.entries {
            let age_ms = now.wall.0.saturating_sub(entry.transaction.last_update.0);
            let is_used = !entry.transaction.state.may_expire() || age_ms < expiration_ms;
            if entry.pending.is_some() || is_used {
                continue;
            }
            entry.pending = Some(State::Dead);
            let record = tombstone(id);
            bytes += record.key.len();
            ids.push(id.clone());
            records.push(record);
            if bytes >= TOMBSTONE_BYTES_MAX {
                batches.push((std::mem::take(&mut ids), std::mem::take(&mut records)));
                bytes = 0;
            }
        }
        if !ids.is_empty() {
            batches.push((ids, records));
        }
        for (ids, records) in batches {
            actions.writes.push(self.write(records, Effect::Forget(ids)));
        }
        actions
    }

    /// Writes what a transactional id is to be.
    pub(super) fn change(
        &mut self,
        id: &Rc<str>,
        next: Transaction,
        told: Option<(Token, Told)>,
    ) -> TransactionActions {
        let entry = self.entries.get_mut(id).expect("only what is there changes");
        let is_completion = outcome_of(entry.transaction.state).is_some();
        assert!(entry.pending.is_none() || is_completion, "one change at a time");
        entry.pending = Some(next.state);
        let record = next.record(id, self.settings.value_version());
        let write = self.write(vec![record], Effect::Change { id: id.clone(), next, told });
        TransactionActions { writes: vec![write], ..Default::default() }
    }

    fn write(&mut self, records: Vec<Record>, effect: Effect) -> Write {
        let id = WriteId(self.next_write);
        self.next_write += 1;
        self.effects.insert(id, effect);
        Write { id, form: WriteForm::Plain, records }
    }

    pub(super) fn bumps_epochs(&self) -> bool {
        self.settings.transaction_version >= EPOCH_BUMP_FROM
    }
}

/// What a pending change means to a check.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pending {
    Refused,
    /// The log checks again.
    Passed,
}

impl Told {
    fn answer(self, result: Result<(), WriteError>) -> TransactionResponse {
        let failed = result.err().map(WriteError::group_error);
        match self {
            Told::Added => TransactionResponse::Added(failed.unwrap_or(ErrorCode::None)),
            Told::Identity(identity) => {
                TransactionResponse::Identity(failed.map_or(Ok(identity), Err))
            }
            Told::AskAgain => {
                let error = failed.unwrap_or(ErrorCode::ConcurrentTransactions);
                TransactionResponse::Identity(Err(error))
            }
        }
    }
}

/// Whether a transactional id can be asked about, and be in a record.
pub(super) fn check_id(transactional_id: &str) -> Result<(), ErrorCode> {
    let is_sound = !transactional_id.is_empty() && transactional_id.len() <= STRING_BYTES_MAX;
    if is_sound { Ok(()) } else { Err(ErrorCode::InvalidRequest) }
}

/// How a transaction ends whose markers are due.
fn outcome_of(state: State) -> Option<Outcome> {
    match state {
        State::PrepareCommit => Some(Outcome::Commit),
        State::PrepareAbort => Some(Outcome::Abort),
        State::Empty
        | State::Ongoing
        | State::CompleteCommit
        | State::CompleteAbort
        | State::Dead
        | State::PrepareEpochFence => None,
    }
}

/// Asks for the markers of a transaction whose end is decided.
fn start_markers(id: &Rc<str>, entry: &mut Entry) -> Option<Markers> {
    let transaction = &entry.transaction;
    let outcome = outcome_of(transaction.state)?;
    entry.pending = Some(outcome.complete());
    Some(Markers {
        transactional_id: id.clone(),
        producer: ProducerIdentity {
            id: transaction.producer_id,
            epoch: transaction.producer_epoch,
        },
        outcome,
        partitions: transaction.partitions.clone(),
        client_version: transaction.client_version,
    })
}

/// Whether a producer that says who it was may go on: it is the newest, or it asks again after its
/// id was exchanged.
fn may_init(transaction: &Transaction, expected: ProducerIdentity) -> bool {
    let was_renamed =
        expected.id == transaction.previous_producer_id && is_exhausted(expected.epoch);
    transaction.producer_epoch == NO_EPOCH || expected.id == transaction.producer_id || was_renamed
}

/// The producer with its next epoch, or with the one that it was given and asks for again.
fn next_epoch(
    transaction: &Transaction,
    timeout_ms: i32,
    expected: Option<ProducerIdentity>,
    now: Now,
) -> Result<Transaction, ErrorCode> {
    let current = transaction.producer_epoch;
    // The bump cannot overflow: a producer with an exhausted epoch that is not the newest is fenced.
    let next = |last| Ok(transaction.with_next_epoch(last, timeout_ms, now.wall));
    match expected.map(|expected| expected.epoch) {
        None => next(NO_EPOCH),
        Some(epoch) if current == NO_EPOCH || epoch == current => next(current),
        Some(epoch) if epoch == transaction.last_producer_epoch => {
            let same = transaction.clone();
            Ok(same.emptied(transaction.producer_id, timeout_ms, now.wall))
        }
        Some(_) => Err(ErrorCode::ProducerFenced),
    }
}
