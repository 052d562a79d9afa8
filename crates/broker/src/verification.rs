//! Whether partitions are in the transaction that a batch belongs to (KIP-890).
//!
//! A batch that begins a transaction in a partition would hang there for good if the coordinator
//! did not know of the partition: nothing would ever end it. So the coordinator is asked first, by
//! clients of the second generation also to take the partition in. Where the transaction has begun
//! in the partition already, nobody is asked: one message to the owner tells.

use std::{future::Future, rc::Rc, time::Duration};

use cluster::record::ConfigResource;
use coordinator::transactions::{Partitions, ProducerIdentity};
use model::{ErrorCode, Sequence, TopicPartition, collections::BTreeMap};
use runtime::{Instant, ShardIndex};
use storage::{Verification, VerificationGuard};

use crate::{peers::Call, shard::Shard, transactions::Ask};

/// The setting that has clients of the first generation verified.
const ENABLE: &str = "transaction.partition.verification.enable";
/// The generation of clients whose partitions come into their transactions with their batches.
const ADDING_CLIENTS: i16 = 2;

/// How a client's partitions come into its transactions, by the version that it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Membership {
    /// By AddPartitionsToTxn; it knows no TRANSACTION_ABORTABLE.
    Verified,
    /// By AddPartitionsToTxn; it does know it.
    VerifiedAbortable,
    /// With the batch.
    Added,
}

impl Membership {
    /// By the first version with TRANSACTION_ABORTABLE, and the first that adds partitions.
    pub(crate) fn of(version: i16, abortable_from: i16, added_from: i16) -> Membership {
        if version >= added_from {
            Membership::Added
        } else if version >= abortable_from {
            Membership::VerifiedAbortable
        } else {
            Membership::Verified
        }
    }
}

/// Who produces, in which transaction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transactional<'a> {
    pub(crate) transactional_id: &'a str,
    pub(crate) producer: ProducerIdentity,
    pub(crate) membership: Membership,
}

/// A partition that a batch is for.
#[derive(Clone, Debug)]
pub(crate) struct Entered {
    pub(crate) id: TopicPartition,
    pub(crate) owner: ShardIndex,
    pub(crate) topic: String,
    /// The first of the batch; -1 for records of a coordinator.
    pub(crate) sequence: Sequence,
}

impl Shard {
    /// What each of these partitions needs for an append in a transaction, or why there can be none.
    pub(crate) async fn enter_transaction(
        self: &Rc<Self>,
        transactional: &Transactional<'_>,
        partitions: &[Entered],
    ) -> Vec<Result<Verification, ErrorCode>> {
        let is_adding = transactional.membership == Membership::Added;
        if !is_adding && !self.verifies_partitions() {
            return vec![Ok(Verification::Off); partitions.len()];
        }
        let patience = Duration::from_millis(self.config.transactions.add_patience_ms);
        let deadline = self.runtime.now() + patience;
        loop {
            let results = self.try_to_enter(transactional, partitions, deadline).await;
            // The markers of the transaction before take guards away, so that these are new, too.
            let is_early = |result| matches!(result, &Err(ErrorCode::ConcurrentTransactions));
            let is_over = !is_adding || self.runtime.now() >= deadline;
            if is_over || !results.iter().any(is_early) {
                return results;
            }
        }
    }

    async fn try_to_enter(
        self: &Rc<Self>,
        transactional: &Transactional<'_>,
        partitions: &[Entered],
        deadline: Instant,
    ) -> Vec<Result<Verification, ErrorCode>> {
        let mut results = self.begin_verifications(transactional.producer, partitions).await;
        let mut asked = Partitions::new();
        for (one, result) in partitions.iter().zip(&results) {
            if matches!(result, Ok(Verification::Needed(Some(_)))) {
                asked.entry(one.topic.clone()).or_default().insert(one.id.partition.0);
            }
        }
        if asked.is_empty() {
            return results;
        }
        let errors = self.ask_about(transactional, asked, deadline).await;
        for (one, result) in partitions.iter().zip(&mut results) {
            let error = errors.get(&(one.topic.clone(), one.id.partition.0)).copied();
            if let (Ok(Verification::Needed(Some(_))), Some(error)) = (&*result, error)
                && error != ErrorCode::None
            {
                *result = Err(error);
            }
        }
        results
    }

    async fn begin_verifications(
        self: &Rc<Self>,
        producer: ProducerIdentity,
        partitions: &[Entered],
    ) -> Vec<Result<Verification, ErrorCode>> {
        let mut results = vec![Err(ErrorCode::NotLeaderOrFollower); partitions.len()];
        let asked = partitions.iter().enumerate();
        let asked = asked.map(|(place, one)| (place, one.owner, (one.id, one.sequence)));
        let begin = |batches| Begin { producer, batches };
        for (place, guard) in self.call_owners(asked, begin).await {
            results[place] = guard.map(Verification::Needed);
        }
        results
    }

    /// Asks the coordinator; gives what it says of each partition, in words of the produce.
    async fn ask_about(
        self: &Rc<Self>,
        transactional: &Transactional<'_>,
        partitions: Partitions,
        deadline: Instant,
    ) -> BTreeMap<(String, i32), ErrorCode> {
        let Transactional { transactional_id, producer, membership } = *transactional;
        let told = if membership == Membership::Added {
            let ask = Ask::Add {
                transactional_id: transactional_id.to_owned(),
                producer,
                partitions: partitions.clone(),
                client_version: ADDING_CLIENTS,
                patience: deadline.since(self.runtime.now()),
            };
            let error = self.ask_to_add(ask).await;
            let all = partitions.into_iter();
            all.flat_map(|(topic, all)| {
                all.into_iter().map(move |one| (topic.clone(), one, error)).collect::<Vec<_>>()
            })
            .collect()
        } else {
            self.verify_partitions(transactional_id, producer, &partitions).await
        };
        let in_words = |error: ErrorCode| {
            if error == ErrorCode::ProducerFenced {
                ErrorCode::InvalidProducerEpoch
            } else if error == ErrorCode::TransactionAbortable && membership == Membership::Verified
            {
                ErrorCode::InvalidTxnState
            } else {
                error
            }
        };
        told.into_iter().map(|(topic, one, error)| ((topic, one), in_words(error))).collect()
    }

    /// As set for this broker, over what is set for all brokers, over what the node was started with.
    fn verifies_partitions(&self) -> bool {
        let image = self.image.borrow();
        let mut enabled = self.config.transactions.verifies_partitions;
        for resource in [ConfigResource::all_brokers(), ConfigResource::broker(self.node())] {
            for (_, value) in image.configs(&resource).filter(|(name, _)| *name == ENABLE) {
                enabled = value.trim().eq_ignore_ascii_case("true");
            }
        }
        enabled
    }
}

/// Batches of one producer for the partitions of one shard, which are to begin a transaction there
/// or to go on with it.
struct Begin {
    producer: ProducerIdentity,
    batches: Vec<(TopicPartition, Sequence)>,
}

impl Call for Begin {
    type Answer = Vec<Result<Option<VerificationGuard>, ErrorCode>>;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Answer> + 'static {
        let ProducerIdentity { id, epoch } = self.producer;
        let guards = self.batches.into_iter().map(|(place, sequence)| {
            let partition = shard.partition(place.topic, place.partition);
            let partition = partition.ok_or(ErrorCode::NotLeaderOrFollower)?;
            Ok(partition.log.begin_verification(id, epoch, sequence))
        });
        std::future::ready(guards.collect())
    }
}
