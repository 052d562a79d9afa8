//! What all workload clients share, and the producers.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use client::{Acks, Batch, Client, Connection, Error, Options, Produced, ProducerState};
use model::{ErrorCode, TimestampMs, record_batch::NewRecord};
use runtime::{Instant, Runtime, TaskQueue, local::oneshot};

use super::{
    OPERATIONS_MIN,
    features::Role,
    history::{History, Sent},
    plan::{Marks, ProducerPlan, Promise},
};
use crate::Rng;

/// How long a client waits for an answer before it gives the connection up: longer than the
/// slowest disk takes, shorter than the patience of the run.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after a failure, at least and at most: the longer nothing got done, the longer.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(5);
const RETRY_PAUSE_MAX: Duration = Duration::from_millis(250);
/// The share of the time without progress that a client waits until it tries again.
const RETRY_SHARE: u32 = 20;

/// Of 1,000 records with keys so many are tombstones.
const TOMBSTONE_PERMILLE: u32 = 150;

/// What a workload client is given.
#[derive(Clone)]
pub(crate) struct Workload {
    pub(crate) runtime: Runtime,
    pub(crate) address: SocketAddr,
    pub(crate) history: Rc<RefCell<History>>,
    /// Set when the readers are to end.
    pub(crate) stop: Rc<Cell<bool>>,
    /// Producers and others with a quota that have not reached it.
    pub(crate) busy: Rc<Cell<u64>>,
    /// What progress was made when a client last had to try again, and when that was first seen.
    pub(crate) last_progress: Rc<Cell<(u64, Instant)>>,
    pub(crate) marks: Marks,
}

impl Workload {
    pub(crate) fn client(&self, name: &str) -> Client {
        let options = Options {
            client_id: name.to_owned(),
            request_timeout: REQUEST_TIMEOUT,
            ..Options::default()
        };
        Client::new(&self.runtime, self.address, options)
    }

    pub(crate) async fn pause(&self) {
        let progress = self.history.borrow().counts.progress();
        let now = self.runtime.now();
        let (known, since) = self.last_progress.get();
        if progress != known {
            self.last_progress.set((progress, now));
        }
        let idle = if progress == known { now - since } else { Duration::ZERO };
        let pause = (idle / RETRY_SHARE).clamp(RETRY_PAUSE_MIN, RETRY_PAUSE_MAX);
        self.runtime.sleep(pause).await;
    }

    pub(crate) fn operation(&self) {
        self.history.borrow_mut().counts.operations += 1;
    }

    pub(crate) fn complain(&self, complaint: String) {
        self.history.borrow_mut().complain(complaint);
    }

    pub(crate) fn done(&self) {
        self.busy.set(self.busy.get() - 1);
    }

    /// Connects, as often as it takes.
    pub(crate) async fn connect(&self, client: &Client) -> Connection {
        loop {
            match client.connection().await {
                Ok(connection) => return connection,
                Err(error) => {
                    self.refuse_nonsense("connect", error);
                    self.pause().await;
                }
            }
        }
    }

    /// Complains of an answer that no broker may give, crashes or not.
    pub(crate) fn refuse_nonsense(&self, what: &str, error: Error) {
        let is_final = matches!(error, Error::Refused(_)) && !error.is_retriable();
        if error.is_senseless() || is_final {
            self.complain(format!("{what}: {error}"));
        }
    }
}

/// A batch that waits for its acknowledgement.
struct Waiting {
    batch: Batch,
    values: Vec<Rc<str>>,
    attempts: u32,
}

pub(crate) struct Producer {
    workload: Workload,
    plan: ProducerPlan,
    index: usize,
    rng: Rng,
    client: Client,
    state: ProducerState,
    waiting: VecDeque<Waiting>,
    next_number: u64,
}

impl Producer {
    pub(crate) fn new(workload: Workload, plan: ProducerPlan, index: usize, rng: Rng) -> Producer {
        let client = workload.client(&format!("producer-{index}"));
        Producer {
            workload,
            plan,
            index,
            rng,
            client,
            state: ProducerState::plain(),
            waiting: VecDeque::new(),
            next_number: 0,
        }
    }

    /// Sends its quota, each batch until it is acknowledged.
    pub(crate) async fn run(mut self) {
        if self.plan.promise == Promise::ExactlyOnce {
            self.state = self.init_producer_id().await;
        }
        let mut made = 0;
        while self.has_to_send(made) || !self.waiting.is_empty() {
            while self.has_to_send(made) && self.waiting.len() < self.plan.window {
                let waiting = self.make_batch();
                self.waiting.push_back(waiting);
                made += 1;
            }
            self.send_all().await;
            let pause = self.rng.below(self.plan.pause_us_max + 1);
            self.workload.runtime.sleep(Duration::from_micros(pause)).await;
        }
        self.workload.done();
    }

    /// True until its quota is sent, and everybody together has done enough.
    fn has_to_send(&self, made: u32) -> bool {
        let operations = self.workload.history.borrow().counts.operations;
        let is_answered = self.plan.promise != Promise::Nothing;
        made < self.plan.batch_count || (is_answered && operations < OPERATIONS_MIN)
    }

    async fn init_producer_id(&self) -> ProducerState {
        loop {
            let connection = self.workload.connect(&self.client).await;
            match connection.init_producer_id().await {
                Ok(state) => return state,
                Err(error) => {
                    self.workload.refuse_nonsense("InitProducerId", error);
                    self.workload.pause().await;
                }
            }
        }
    }

    fn make_batch(&mut self) -> Waiting {
        let partitions = u64::try_from(self.plan.partition_count).expect("positive");
        let partition = i32::try_from(self.rng.below(partitions)).expect("below an i32");
        let count = self.rng.between(1, 4);
        let timestamp_ms = self.workload.runtime.wall_clock_ms();
        let mut values: Vec<Rc<str>> = Vec::new();
        let mut keys = Vec::new();
        for _ in 0..count {
            let filler =
                usize::try_from(self.rng.below(self.plan.record_bytes_max)).expect("small");
            let value: Rc<str> =
                format!("p{}-{}-{:.<filler$}", self.index, self.next_number, "").into();
            let (key, is_tombstone) = self.key();
            let sent = Sent {
                timestamp_ms,
                key: key.clone(),
                is_tombstone,
                is_doubtful: false,
                partition: (self.plan.topic.to_owned(), partition),
                producer: self.index,
                number: self.next_number,
                promise: self.plan.promise,
                acked: None,
            };
            self.workload.history.borrow_mut().note_sent(&value, sent);
            self.next_number += 1;
            values.push(value);
            keys.push((key, is_tombstone));
        }
        let records: Vec<NewRecord<'_>> = values
            .iter()
            .zip(&keys)
            .map(|(value, (key, is_tombstone))| NewRecord {
                timestamp: TimestampMs(timestamp_ms),
                key: key.as_deref().map(str::as_bytes),
                value: (!is_tombstone).then_some(value.as_bytes()),
                ..NewRecord::default()
            })
            .collect();
        let batch = self.state.batch(self.plan.topic, partition, &records);
        Waiting { batch, values, attempts: 0 }
    }

    fn key(&mut self) -> (Option<Rc<str>>, bool) {
        if self.plan.key_count == 0 {
            return (None, false);
        }
        let key = format!("key-{}", self.rng.below(self.plan.key_count));
        (Some(key.into()), self.rng.chance(TOMBSTONE_PERMILLE))
    }

    /// Sends all that waits, one behind the other on one connection, and drops what was answered.
    /// After a failure everything from there on is sent again: an idempotent producer's batches
    /// have to arrive in order.
    async fn send_all(&mut self) {
        let connection = self.workload.connect(&self.client).await;
        let life = self.workload.history.borrow().tails.life;
        let mut answers = Vec::new();
        for waiting in &mut self.waiting {
            waiting.attempts += 1;
            if waiting.attempts > 1 {
                self.workload.history.borrow_mut().counts.retried_batches += 1;
            }
            let (sender, receiver) = oneshot();
            let (connection, batch) = (connection.clone(), waiting.batch.clone());
            let acks = acks_of(self.plan.promise);
            self.workload.runtime.spawn("produce", TaskQueue::Foreground, async move {
                sender.send(produce(&connection, &batch, acks).await);
            });
            answers.push(receiver);
        }
        for answer in answers {
            let result = answer.receive().await.expect("the task sends before it ends");
            match result {
                Ok(produced) => self.note_acked(produced, life),
                Err(Error::Refused(ErrorCode::OutOfOrderSequenceNumber))
                    if self.may_be_forgotten() =>
                {
                    self.start_anew().await;
                    return;
                }
                Err(error) => {
                    self.give_up(error);
                    self.workload.pause().await;
                    return;
                }
            }
        }
    }

    fn note_acked(&mut self, produced: Produced, life: u64) {
        let waiting = self.waiting.pop_front().expect("one for each answer");
        if self.plan.promise == Promise::Nothing {
            // Nobody answered.
            return;
        }
        self.workload.operation();
        let mut history = self.workload.history.borrow_mut();
        let known = waiting.values.iter().any(|value| history.was_seen(value));
        history.counts.duplicates_refused += u64::from(waiting.attempts > 1 && known);
        let base_offset = produced.base_offset.map(|offset| offset.0);
        let is_held_back =
            matches!(history.roles.get(self.plan.topic), Some(Role::HeldBack { .. }));
        // A look at the clock takes time, which would make other runs of seeds without it.
        let at = if is_held_back { self.workload.runtime.now() } else { Instant::default() };
        history.note_acked(&waiting.values, base_offset, (life, at));
    }

    /// A snapshot at a clean stop or at a durable mark holds the last batch of each producer alone,
    /// as Apache Kafka's does: of several in flight it no longer knows the earlier ones.
    fn may_be_forgotten(&self) -> bool {
        let history = self.workload.history.borrow();
        let has_stopped = history.counts.clean_stops > 0;
        let is_held_back = matches!(
            history.roles.get(self.plan.topic),
            Some(Role::HeldBack { .. }) if history.tails.power_cuts > 0
        );
        if is_held_back {
            return true;
        }
        self.plan.window > 1 && (has_stopped || self.workload.marks == Marks::Moving)
    }

    /// Does as Kafka's producer does whose sequences are no longer known: a new identity. What was
    /// in flight is given up, as nobody can tell whether it arrived.
    async fn start_anew(&mut self) {
        self.workload.history.borrow_mut().counts.identities_given_up += 1;
        self.client.disconnect();
        self.waiting.clear();
        self.state = self.init_producer_id().await;
    }

    fn give_up(&mut self, error: Error) {
        // The next attempt starts on a connection whose pipeline is empty.
        self.client.disconnect();
        let what = format!("produce of {:?} {}", self.plan.promise, self.index);
        self.workload.refuse_nonsense(&what, error);
        if self.plan.promise == Promise::Nothing {
            self.waiting.pop_front();
        }
    }
}

fn acks_of(promise: Promise) -> Acks {
    match promise {
        Promise::ExactlyOnce | Promise::AtLeastOnce => Acks::All,
        Promise::Written => Acks::Leader,
        Promise::Nothing => Acks::None,
    }
}

async fn produce(connection: &Connection, batch: &Batch, acks: Acks) -> Result<Produced, Error> {
    let batches = std::slice::from_ref(batch);
    let results = connection.produce(batches, acks, REQUEST_TIMEOUT).await?;
    let nothing = Produced { base_offset: None, log_start_offset: model::Offset(-1) };
    match results.into_iter().next() {
        Some(Err(Error::Refused(ErrorCode::DuplicateSequenceNumber))) | None => Ok(nothing),
        Some(result) => result,
    }
}
