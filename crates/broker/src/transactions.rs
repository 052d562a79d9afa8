//! Transactions on the shards that own partitions of `__transaction_state`.
//!
//! The coordinator of a partition decides; here its records are appended, its markers are written
//! to the partitions of the transaction, its answers travel back to whoever asked, and its
//! deadlines are kept. Records are appended in the order in which they were decided, and what
//! depends on them happens when they are durable, in the same order. Markers are written until all
//! of them are durable: a commit that was answered is one.

use std::{cell::RefCell, future::Future, rc::Rc, time::Duration};

use cluster::feature;
use coordinator::{
    Now, Token, TransactionEnd,
    transactions::{
        EndRequest, Markers, Outcome, Partitions, ProducerIdentity, TransactionActions,
        TransactionCoordinator, TransactionResponse, TransactionSettings,
    },
};
use model::{ErrorCode, TopicPartition, collections::HashMap};
use runtime::{ShardIndex, TaskQueue, local::Notify};
use storage::Verification;

use crate::{
    connection::first_of,
    coordinator_desk::Desk,
    coordinator_log, error_map,
    markers::Marker,
    peers::Call,
    shard::{Partition, Shard},
    topic_settings::TRANSACTION_STATE,
};

/// How long after a failure markers are written again, at first and at most.
const MARKER_PAUSE: Duration = Duration::from_millis(10);
const MARKER_PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long after a failure another producer id is asked for.
const PRODUCER_ID_PAUSE: Duration = Duration::from_secs(1);

/// The coordinators of one shard, by partition.
#[derive(Default)]
pub(crate) struct Transactions {
    hosted: RefCell<HashMap<TopicPartition, Rc<Hosted>>>,
}

/// The coordinator of one partition, with what it waits for and who waits for it.
pub(crate) struct Hosted {
    pub(crate) coordinator: RefCell<TransactionCoordinator>,
    desk: Desk<TransactionResponse>,
    /// Told when a change is durable, a transaction complete, and when it is over.
    settled: Notify,
}

/// What a producer asks of the coordinator of its transactional id.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// Who it is.
    Init {
        transactional_id: String,
        timeout_ms: i32,
        /// Who it was, if it says so.
        expected: Option<ProducerIdentity>,
    },
    /// That partitions are in its transaction.
    Add {
        transactional_id: String,
        producer: ProducerIdentity,
        partitions: Partitions,
        client_version: i16,
        /// How long the answer that the transaction before has not ended yet waits for its end: it
        /// is to be asked again then, since markers change what partitions say.
        patience: Duration,
    },
    /// That its transaction ends.
    End {
        transactional_id: String,
        producer: ProducerIdentity,
        outcome: Outcome,
        client_version: i16,
    },
}

impl Ask {
    fn transactional_id(&self) -> &str {
        match self {
            Ask::Init { transactional_id, .. }
            | Ask::Add { transactional_id, .. }
            | Ask::End { transactional_id, .. } => transactional_id,
        }
    }
}

impl Transactions {
    pub(crate) fn find(&self, id: TopicPartition) -> Option<Rc<Hosted>> {
        self.hosted.borrow().get(&id).cloned()
    }

    /// All coordinators of this shard.
    pub(crate) fn all(&self) -> Vec<Rc<Hosted>> {
        self.hosted.borrow().values().cloned().collect()
    }

    /// A partition is no longer this shard's: whoever waits is sent away.
    pub(crate) fn partition_removed(&self, id: TopicPartition) {
        if let Some(hosted) = self.hosted.borrow_mut().remove(&id) {
            let empty = TransactionCoordinator::new(TransactionSettings::default());
            let actions = hosted.coordinator.replace(empty).unload();
            hosted.desk.answer_all(actions.responses);
            hosted.desk.end();
            hosted.settled.notify_all();
        }
    }
}

impl Shard {
    /// The finalized level of `transaction.version`.
    pub(crate) fn transaction_version(&self) -> i16 {
        let image = self.image.borrow();
        image.feature(feature::TRANSACTION_VERSION).min(feature::TRANSACTION_VERSION_MAX)
    }

    /// Starts a coordinator on a partition of `__transaction_state`, from what is in its log.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(crate) async fn host_transactions(
        self: &Rc<Self>,
        id: TopicPartition,
        partition: Rc<Partition>,
    ) -> Result<(), String> {
        let transaction_version = self.transaction_version();
        let settings = TransactionSettings {
            transaction_version,
            ..self.config.transactions.settings.clone()
        };
        let mut coordinator = TransactionCoordinator::new(settings);
        coordinator_log::load(&partition.log, |batch| coordinator.replay_batch(batch))
            .await
            .map_err(|error| format!("{}: {error}", partition.name()))?;
        let actions = coordinator.loaded(self.now_of_coordinators());
        let hosted = Rc::new(Hosted {
            coordinator: RefCell::new(coordinator),
            desk: Desk::new(partition),
            settled: Notify::new(),
        });
        self.transactions.hosted.borrow_mut().insert(id, Rc::clone(&hosted));
        hosted.carry_out(self, actions);
        let (shard, keeper) = (Rc::clone(self), Rc::clone(&hosted));
        self.runtime.spawn("transaction deadlines", TaskQueue::Foreground, async move {
            keeper.keep_deadlines(&shard).await;
        });
        let shard = Rc::clone(self);
        self.runtime.spawn("transaction writes", TaskQueue::Foreground, async move {
            hosted.finish_writes(&shard).await;
        });
        Ok(())
    }

    /// Features may have another level.
    pub(crate) fn tell_transactions_of_features(&self) {
        let level = self.transaction_version();
        for hosted in self.transactions.hosted.borrow().values() {
            hosted.coordinator.borrow_mut().set_transaction_version(level);
        }
    }

    /// The partition that a transactional id belongs to and its owner.
    ///
    /// # Errors
    /// When `__transaction_state` is not there.
    pub(crate) fn place_of_transaction(
        &self,
        transactional_id: &str,
    ) -> Result<(TopicPartition, ShardIndex), ErrorCode> {
        self.place_of_key(TRANSACTION_STATE, transactional_id).ok_or(ErrorCode::NotCoordinator)
    }

    /// Has the coordinator of a transactional id answer.
    pub(crate) async fn ask_transaction(
        self: &Rc<Self>,
        ask: Ask,
    ) -> Result<TransactionResponse, ErrorCode> {
        let (partition, owner) = self.place_of_transaction(ask.transactional_id())?;
        self.call(owner, TransactionRequest { partition, ask }).await.answer().await
    }

    /// The same of what is answered with who the producer is.
    pub(crate) async fn ask_identity(
        self: &Rc<Self>,
        ask: Ask,
    ) -> Result<ProducerIdentity, ErrorCode> {
        match self.ask_transaction(ask).await? {
            TransactionResponse::Identity(identity) => identity,
            TransactionResponse::Added(_) => Err(ErrorCode::UnknownServerError),
        }
    }

    /// Has partitions taken into a transaction, where it may have to wait for the markers of the
    /// one before.
    pub(crate) async fn ask_to_add_next(
        self: &Rc<Self>,
        add: impl Fn(Duration) -> Ask,
    ) -> ErrorCode {
        let patience = Duration::from_millis(self.config.transactions.add_patience_ms);
        let deadline = self.runtime.now() + patience;
        loop {
            let error = self.ask_to_add(add(deadline.since(self.runtime.now()))).await;
            if error != ErrorCode::ConcurrentTransactions || self.runtime.now() >= deadline {
                return error;
            }
        }
    }

    /// The same of what is answered with an error, or none.
    pub(crate) async fn ask_to_add(self: &Rc<Self>, ask: Ask) -> ErrorCode {
        match self.ask_transaction(ask).await {
            Ok(TransactionResponse::Added(error)) | Err(error) => error,
            Ok(TransactionResponse::Identity(_)) => ErrorCode::UnknownServerError,
        }
    }

    /// Whether partitions are in a producer's transaction, by topic and partition.
    pub(crate) async fn verify_partitions(
        self: &Rc<Self>,
        transactional_id: &str,
        producer: ProducerIdentity,
        partitions: &Partitions,
    ) -> Vec<(String, i32, ErrorCode)> {
        let failed = |error: ErrorCode| {
            let all = partitions.iter();
            all.flat_map(|(topic, all)| all.iter().map(move |one| (topic.clone(), *one, error)))
                .collect()
        };
        match self.place_of_transaction(transactional_id) {
            Err(error) => failed(error),
            Ok((partition, owner)) => {
                let (transactional_id, partitions) =
                    (transactional_id.to_owned(), partitions.clone());
                let call = Verify { partition, transactional_id, producer, partitions };
                let verified = self.call(owner, call).await.answer().await;
                verified.unwrap_or_else(failed)
            }
        }
    }
}

impl Hosted {
    /// Appends what was decided, answers who is to be answered and has the markers written.
    fn carry_out(self: &Rc<Self>, shard: &Rc<Shard>, actions: TransactionActions) {
        let mut is_settled = false;
        self.desk.append_all(shard, actions.writes, Verification::Off, |write| {
            let is_complete = self.coordinator.borrow_mut().write_appended(write);
            is_settled |= is_complete;
            is_complete
        });
        if is_settled {
            self.settled.notify_all();
        }
        self.desk.answer_all(actions.responses);
        for markers in actions.markers {
            let (hosted, shard) = (Rc::clone(self), Rc::clone(shard));
            shard.runtime.clone().spawn("transaction markers", TaskQueue::Foreground, async move {
                hosted.write_markers(&shard, markers).await;
            });
        }
        self.desk.notify_changed();
    }

    async fn answer(
        self: &Rc<Self>,
        shard: &Rc<Shard>,
        ask: Ask,
    ) -> Result<TransactionResponse, ErrorCode> {
        let patience = match &ask {
            Ask::Add { patience, .. } => *patience,
            Ask::Init { .. } | Ask::End { .. } => Duration::ZERO,
        };
        let deadline = shard.runtime.now() + patience;
        loop {
            if self.desk.is_over() {
                return Err(ErrorCode::NotCoordinator);
            }
            let mut settled = self.settled.listen();
            let (token, receiver) = self.desk.expect_answer();
            let actions = self.decide(token, &ask, shard.now_of_coordinators());
            self.carry_out(shard, actions);
            // Dropped without an answer: the coordinator went away.
            let response = receiver.receive().await.ok_or(ErrorCode::NotCoordinator)?;
            if self.lacks_producer_id(response) {
                self.provide_producer_id(shard).await?;
                continue;
            }
            let is_early =
                response == TransactionResponse::Added(ErrorCode::ConcurrentTransactions);
            if !is_early || shard.runtime.now() >= deadline {
                return Ok(response);
            }
            let settled = std::future::poll_fn(|context| settled.poll(context.waker()));
            // Either end of the wait is as good: who asks again is told.
            let _ = first_of(settled, shard.runtime.sleep_until(deadline)).await;
            return Ok(response);
        }
    }

    fn decide(&self, token: Token, ask: &Ask, now: Now) -> TransactionActions {
        let mut coordinator = self.coordinator.borrow_mut();
        match ask {
            Ask::Init { transactional_id, timeout_ms, expected } => {
                coordinator.init_producer_id(token, transactional_id, *timeout_ms, *expected, now)
            }
            Ask::Add { transactional_id, producer, partitions, client_version, .. } => coordinator
                .add_partitions(
                    token,
                    transactional_id,
                    *producer,
                    partitions,
                    *client_version,
                    now,
                ),
            Ask::End { transactional_id, producer, outcome, client_version } => {
                let request = EndRequest {
                    transactional_id,
                    producer: *producer,
                    outcome: *outcome,
                    client_version: *client_version,
                };
                coordinator.end(token, &request, now)
            }
        }
    }

    /// Whether a request came to nothing for want of a producer id.
    fn lacks_producer_id(&self, response: TransactionResponse) -> bool {
        let lacks = TransactionResponse::Identity(Err(ErrorCode::CoordinatorLoadInProgress));
        response == lacks && self.coordinator.borrow().is_short_of_producer_ids()
    }

    /// Gets a producer id that nobody has.
    async fn provide_producer_id(&self, shard: &Rc<Shard>) -> Result<(), ErrorCode> {
        let id = shard.next_producer_id().await.map_err(|error| {
            tracing::warn!(%error, "no producer id");
            error_map::cluster(&error)
        })?;
        self.coordinator.borrow_mut().give_producer_id(id);
        Ok(())
    }

    /// Writes the markers of a transaction, again and again until all are durable.
    async fn write_markers(self: &Rc<Self>, shard: &Rc<Shard>, markers: Markers) {
        let end = TransactionEnd {
            producer: markers.producer,
            outcome: markers.outcome,
            coordinator_epoch: self.desk.partition.leader_epoch().0,
            transaction_version: markers.client_version,
        };
        let all = markers.partitions.iter();
        let mut rest: Vec<Marker> = all
            .flat_map(|(topic, partitions)| {
                let marker =
                    |partition: &i32| Marker { topic: topic.clone(), partition: *partition, end };
                partitions.iter().map(marker)
            })
            .collect();
        let mut pause = MARKER_PAUSE;
        loop {
            let results = shard.write_markers(&rest).await;
            if self.desk.is_over() {
                return;
            }
            let mut failed = Vec::new();
            for (marker, error) in rest.into_iter().zip(results) {
                let is_gone = error == ErrorCode::UnknownTopicOrPartition
                    && shard.place_of(&marker.topic, marker.partition).is_none();
                if error == ErrorCode::None || is_gone {
                    continue;
                }
                let is_fenced = matches!(
                    error,
                    ErrorCode::InvalidProducerEpoch | ErrorCode::TransactionCoordinatorFenced
                );
                let (topic, partition) = (&marker.topic, marker.partition);
                let id = &markers.transactional_id;
                if is_fenced {
                    // As Apache Kafka does: it stays as it is until somebody loads it anew.
                    tracing::error!(topic, partition, transactional_id = %id, ?error, "a marker is refused");
                    return;
                }
                if pause == MARKER_PAUSE {
                    tracing::warn!(topic, partition, transactional_id = %id, ?error, "a marker is not written yet");
                }
                failed.push(marker);
            }
            if failed.is_empty() {
                break;
            }
            rest = failed;
            if first_of(shard.runtime.sleep(pause), self.desk.wait_until_over()).await.is_none() {
                return;
            }
            pause = (pause * 2).min(MARKER_PAUSE_MAX);
        }
        let now = shard.now_of_coordinators();
        let actions = self.coordinator.borrow_mut().markers_written(&markers.transactional_id, now);
        self.carry_out(shard, actions);
    }

    /// Tells the coordinator of each write, in order, when it is durable.
    async fn finish_writes(self: Rc<Self>, shard: &Rc<Shard>) {
        while let Some((id, appended)) = self.desk.next_appended().await {
            let result = match appended {
                Ok(_) if cfg!(feature = "mutant_decision_not_awaited") => Ok(()),
                appended => self.desk.durable(appended).await,
            };
            if self.desk.is_over() {
                return;
            }
            let now = shard.now_of_coordinators();
            let actions = self.coordinator.borrow_mut().write_done(id, result, now);
            self.carry_out(shard, actions);
            self.settled.notify_all();
        }
    }

    /// Wakes the coordinator at its deadlines.
    async fn keep_deadlines(self: &Rc<Self>, shard: &Rc<Shard>) {
        while !self.desk.is_over() {
            let deadline = self.coordinator.borrow().next_deadline();
            if !self.desk.is_due(&shard.runtime, deadline).await {
                continue;
            }
            let is_short = self.coordinator.borrow().is_short_of_producer_ids();
            if is_short {
                match shard.next_producer_id().await {
                    Ok(id) => self.coordinator.borrow_mut().give_producer_id(id),
                    Err(error) => {
                        tracing::warn!(%error, "no producer id");
                        shard.runtime.sleep(PRODUCER_ID_PAUSE).await;
                    }
                }
            }
            if self.desk.is_over() {
                return;
            }
            let actions = self.coordinator.borrow_mut().on_time(shard.now_of_coordinators());
            self.carry_out(shard, actions);
        }
    }
}

/// A request for the coordinator of a transactional id.
struct TransactionRequest {
    partition: TopicPartition,
    ask: Ask,
}

impl Call for TransactionRequest {
    type Answer = Result<TransactionResponse, ErrorCode>;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Answer> + 'static {
        let shard = Rc::clone(shard);
        async move {
            let hosted = shard.transactions.find(self.partition);
            let hosted = hosted.ok_or(ErrorCode::NotCoordinator)?;
            hosted.answer(&shard, self.ask).await
        }
    }
}

/// A question about a transaction.
struct Verify {
    partition: TopicPartition,
    transactional_id: String,
    producer: ProducerIdentity,
    partitions: Partitions,
}

impl Call for Verify {
    type Answer = Result<Vec<(String, i32, ErrorCode)>, ErrorCode>;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Answer> + 'static {
        let hosted = shard.transactions.find(self.partition).ok_or(ErrorCode::NotCoordinator);
        let verified = hosted.map(|hosted| {
            let coordinator = hosted.coordinator.borrow();
            coordinator.verify_partitions(&self.transactional_id, self.producer, &self.partitions)
        });
        std::future::ready(verified)
    }
}
