//! What administrators see of transactions.

use model::{ErrorCode, ProducerId, TimestampMs};

use super::coordinator::{ProducerIdentity, TransactionCoordinator, check_id};
use super::transaction::{Partitions, State};
use crate::actions::Now;

/// A transactional id, for DescribeTransactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionDescription {
    /// Where its transaction stands.
    pub state: State,
    /// How long a transaction may take.
    pub timeout_ms: i32,
    /// When the transaction began; -1 without one.
    pub start: TimestampMs,
    /// Its producer.
    pub producer: ProducerIdentity,
    /// What the transaction writes to.
    pub partitions: Partitions,
}

/// Which transactional ids ListTransactions is to give; what is empty filters nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransactionFilter {
    /// In one of these states.
    pub states: Vec<State>,
    /// Of one of these producers.
    pub producer_ids: Vec<ProducerId>,
    /// Begun longer ago than this.
    pub longer_than_ms: Option<i64>,
}

/// A transactional id, for ListTransactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionListing {
    /// Its name.
    pub transactional_id: String,
    /// Its producer.
    pub producer_id: ProducerId,
    /// Where its transaction stands.
    pub state: State,
}

impl TransactionCoordinator {
    /// A transactional id.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn describe(&self, transactional_id: &str) -> Result<TransactionDescription, ErrorCode> {
        check_id(transactional_id)?;
        let entry = self.entries.get(transactional_id);
        let transaction = &entry.ok_or(ErrorCode::TransactionalIdNotFound)?.transaction;
        Ok(TransactionDescription {
            state: transaction.state,
            timeout_ms: transaction.timeout_ms,
            start: transaction.start,
            producer: ProducerIdentity {
                id: transaction.producer_id,
                epoch: transaction.producer_epoch,
            },
            partitions: transaction.partitions.clone(),
        })
    }

    /// The transactional ids that pass a filter.
    #[must_use]
    pub fn list(&self, filter: &TransactionFilter, now: Now) -> Vec<TransactionListing> {
        let passes = |entry: &&super::transaction::Transaction| {
            let age_ms = now.wall.0.saturating_sub(entry.start.0);
            (filter.states.is_empty() || filter.states.contains(&entry.state))
                && (filter.producer_ids.is_empty()
                    || filter.producer_ids.contains(&entry.producer_id))
                && filter.longer_than_ms.is_none_or(|longer_than_ms| age_ms > longer_than_ms)
        };
        let all = self.entries.iter().map(|(id, entry)| (id, &entry.transaction));
        all.filter(|(_, one)| passes(one))
            .map(|(id, one)| TransactionListing {
                transactional_id: id.to_string(),
                producer_id: one.producer_id,
                state: one.state,
            })
            .collect()
    }
}
