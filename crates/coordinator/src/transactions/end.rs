//! How transactions end: by their clients of either generation, or by the coordinator.

use std::rc::Rc;

use model::{ErrorCode, ProducerEpoch, ProducerId};

use super::coordinator::{
    EndRequest, ProducerIdentity, Told, TransactionActions, TransactionCoordinator,
    TransactionResponse, check_id,
};
use super::transaction::{EPOCH_BUMP_FROM, NO_EPOCH, Outcome, State, Transaction, is_exhausted};
use crate::actions::{Now, Token};

/// What becomes of a request.
enum Verdict {
    /// It is answered at once.
    Done(ProducerIdentity),
    /// The transaction ends.
    End,
    /// There is nothing to end, but the epoch is bumped as if there were.
    EndWithoutPartitions,
}

impl TransactionCoordinator {
    /// Ends a transaction. The answer comes when it is durable how.
    pub fn end(&mut self, token: Token, request: &EndRequest<'_>, now: Now) -> TransactionActions {
        let refused =
            |error| TransactionActions::answer(token, TransactionResponse::Identity(Err(error)));
        self.decide_end(token, request, now).unwrap_or_else(refused)
    }

    fn decide_end(
        &mut self,
        token: Token,
        request: &EndRequest<'_>,
        now: Now,
    ) -> Result<TransactionActions, ErrorCode> {
        check_id(request.transactional_id)?;
        let known = self.entries.get_key_value(request.transactional_id);
        let (id, entry) = known.ok_or(ErrorCode::InvalidProducerIdMapping)?;
        let (id, is_pending) = (id.clone(), entry.pending.is_some());
        let transaction = &entry.transaction;
        let verdict = if request.client_version >= EPOCH_BUMP_FROM {
            judge_bumping(transaction, is_pending, request)?
        } else {
            judge_plain(transaction, is_pending, request)?
        };
        let ended = Transaction {
            previous_producer_id: transaction.producer_id,
            next_producer_id: ProducerId::NONE,
            state: request.outcome.prepare(),
            last_update: now.wall,
            client_version: request.client_version,
            ..transaction.clone()
        };
        let ended = match verdict {
            Verdict::Done(identity) => {
                let response = TransactionResponse::Identity(Ok(identity));
                return Ok(TransactionActions::answer(token, response));
            }
            Verdict::End => ended,
            Verdict::EndWithoutPartitions => Transaction { start: now.wall, ..ended },
        };
        let ended =
            if request.client_version >= EPOCH_BUMP_FROM { self.bumped(ended)? } else { ended };
        let completed = ended.completed(request.outcome, now.wall);
        let identity =
            ProducerIdentity { id: completed.producer_id, epoch: completed.producer_epoch };
        Ok(self.change(&id, ended, Some((token, Told::Identity(identity)))))
    }

    /// Aborts an open transaction with an epoch that its producer does not have.
    pub(super) fn fence(
        &mut self,
        id: &Rc<str>,
        told: Option<(Token, Told)>,
        now: Now,
    ) -> Result<TransactionActions, ErrorCode> {
        let transaction = &self.entries[id].transaction;
        assert!(transaction.state == State::Ongoing, "there is something to abort");
        let aborted = Transaction {
            previous_producer_id: transaction.producer_id,
            next_producer_id: ProducerId::NONE,
            state: State::PrepareAbort,
            last_update: now.wall,
            client_version: 0,
            ..transaction.clone()
        };
        let aborted = if self.bumps_epochs() {
            let client_version = self.settings.transaction_version;
            self.bumped(Transaction { client_version, ..aborted })?
        } else {
            let producer_epoch = ProducerEpoch(aborted.producer_epoch.0.saturating_add(1));
            Transaction { producer_epoch, last_producer_epoch: NO_EPOCH, ..aborted }
        };
        Ok(self.change(id, aborted, told))
    }

    /// With the next epoch, and a producer id to go on with where that is the last one.
    fn bumped(&mut self, ended: Transaction) -> Result<Transaction, ErrorCode> {
        let last = ended.producer_epoch;
        let next_producer_id =
            if is_exhausted(last) { self.take_producer_id()? } else { ProducerId::NONE };
        Ok(Transaction {
            next_producer_id,
            producer_epoch: ProducerEpoch(last.0.saturating_add(1)),
            last_producer_epoch: last,
            ..ended
        })
    }
}

/// By the rules of the first generation: the epoch stays, and an end that came before is a retry.
fn judge_plain(
    transaction: &Transaction,
    is_pending: bool,
    request: &EndRequest<'_>,
) -> Result<Verdict, ErrorCode> {
    let current = identity_of(transaction);
    if current.id != request.producer.id {
        return Err(ErrorCode::InvalidProducerIdMapping);
    }
    if current.epoch != request.producer.epoch {
        return Err(ErrorCode::ProducerFenced);
    }
    if is_pending {
        return Err(ErrorCode::ConcurrentTransactions);
    }
    match transaction.state {
        State::Ongoing => Ok(Verdict::End),
        // A client of this generation does not look at who it is told to be.
        state if state == request.outcome.complete() => {
            Ok(Verdict::Done(ProducerIdentity { id: ProducerId::NONE, epoch: NO_EPOCH }))
        }
        state if state == request.outcome.prepare() => Err(ErrorCode::ConcurrentTransactions),
        State::Empty
        | State::PrepareCommit
        | State::PrepareAbort
        | State::CompleteCommit
        | State::CompleteAbort
        | State::Dead
        | State::PrepareEpochFence => Err(ErrorCode::InvalidTxnState),
    }
}

/// By the rules of the second: each end bumps the epoch, so a retry has the epoch before.
fn judge_bumping(
    transaction: &Transaction,
    is_pending: bool,
    request: &EndRequest<'_>,
) -> Result<Verdict, ErrorCode> {
    let (current, asked) = (identity_of(transaction), request.producer);
    let is_renamed = transaction.previous_producer_id == asked.id
        && asked.epoch == ProducerEpoch(i16::MAX - 1)
        && current.epoch == ProducerEpoch(0);
    let is_before = asked.epoch.0.checked_add(1) == Some(current.epoch.0);
    let is_retry = is_before || is_renamed;
    if is_pending {
        return Err(ErrorCode::ConcurrentTransactions);
    }
    if current.id != asked.id && !is_renamed {
        return Err(ErrorCode::InvalidProducerIdMapping);
    }
    let is_current = asked.epoch == current.epoch;
    let is_valid = match transaction.state {
        State::Empty | State::Ongoing | State::Dead | State::PrepareEpochFence => is_current,
        State::PrepareCommit | State::PrepareAbort => is_before,
        State::CompleteCommit | State::CompleteAbort => is_current || is_retry,
    };
    if !is_valid {
        return Err(ErrorCode::ProducerFenced);
    }
    let is_abort = request.outcome == Outcome::Abort;
    match transaction.state {
        State::Ongoing => Ok(Verdict::End),
        State::Empty if is_abort => Ok(Verdict::EndWithoutPartitions),
        State::CompleteCommit | State::CompleteAbort if is_retry => {
            let is_same = transaction.state == request.outcome.complete();
            if is_same { Ok(Verdict::Done(current)) } else { Err(ErrorCode::InvalidTxnState) }
        }
        State::CompleteCommit | State::CompleteAbort if is_abort => {
            Ok(Verdict::EndWithoutPartitions)
        }
        state if state == request.outcome.prepare() => Err(ErrorCode::ConcurrentTransactions),
        State::Empty
        | State::PrepareCommit
        | State::PrepareAbort
        | State::CompleteCommit
        | State::CompleteAbort
        | State::Dead
        | State::PrepareEpochFence => Err(ErrorCode::InvalidTxnState),
    }
}

fn identity_of(transaction: &Transaction) -> ProducerIdentity {
    ProducerIdentity { id: transaction.producer_id, epoch: transaction.producer_epoch }
}
