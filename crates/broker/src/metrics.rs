//! What a node counts, and how whoever watches it gets it.
//!
//! Each shard counts for itself, in cells: a count costs an addition, whether somebody looks or
//! not. From outside the mesh comes a [`Scrape`]; shard 0 asks every shard for its [`survey`] with
//! one message each, and answers with one page in Prometheus' text format ([`text`]).

mod survey;
mod text;

use std::{
    cell::{Cell, RefCell},
    fmt,
    future::Future,
    rc::Rc,
};

use model::collections::BTreeMap;
use runtime::{
    Instant,
    durations::{DurationCounts, Durations},
};
use wire::api::ApiKey;

use crate::{
    peers::Call,
    shard::{Partition, Shard},
    stages::{STAGES, Stage, StageTimes},
};

/// How much of its metrics a node is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All.
    All,
    /// Without those of topics, partitions and groups: where there are many, a small part.
    Node,
}

/// Asks a node for its metrics, from outside the mesh: to shard 0.
pub struct Scrape {
    scope: Scope,
    reply: Box<dyn FnOnce(String) + Send>,
}

impl Scrape {
    /// `reply` gets the page, on shard 0's thread: it hands it on and returns.
    #[must_use]
    pub fn new(scope: Scope, reply: impl FnOnce(String) + Send + 'static) -> Scrape {
        Scrape { scope, reply: Box::new(reply) }
    }
}

impl fmt::Debug for Scrape {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Scrape")
    }
}

/// Asks whether a node's shards answer, from outside the mesh: to shard 0.
pub struct Ping {
    reply: Box<dyn FnOnce() + Send>,
}

impl Ping {
    /// `reply` is called when every shard has answered, on shard 0's thread.
    #[must_use]
    pub fn new(reply: impl FnOnce() + Send + 'static) -> Ping {
        Ping { reply: Box::new(reply) }
    }
}

impl fmt::Debug for Ping {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Ping")
    }
}

#[derive(Clone)]
struct Answer;

impl Call for Answer {
    type Answer = ();

    fn start(self, _shard: &Rc<Shard>) -> impl Future<Output = ()> + 'static {
        std::future::ready(())
    }
}

/// What clients do with a partition, or with all that a shard has. As Apache Kafka's
/// `BrokerTopicMetrics` count it: bytes are those of batches, a request counts for each of its
/// partitions.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    messages_in: Cell<u64>,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    produces: Cell<u64>,
    failed_produces: Cell<u64>,
    fetches: Cell<u64>,
    failed_fetches: Cell<u64>,
}

/// What [`Traffic`] had counted at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct TrafficCounts {
    messages_in: u64,
    bytes_in: u64,
    bytes_out: u64,
    produces: u64,
    failed_produces: u64,
    fetches: u64,
    failed_fetches: u64,
}

fn add(cell: &Cell<u64>, count: u64) {
    cell.set(cell.get() + count);
}

impl Traffic {
    pub(crate) fn produced(&self, messages: u64, bytes: u64) {
        add(&self.produces, 1);
        add(&self.messages_in, messages);
        add(&self.bytes_in, bytes);
    }

    pub(crate) fn produce_failed(&self) {
        add(&self.produces, 1);
        add(&self.failed_produces, 1);
    }

    pub(crate) fn fetched(&self, bytes: u64) {
        add(&self.fetches, 1);
        add(&self.bytes_out, bytes);
    }

    pub(crate) fn fetch_failed(&self) {
        add(&self.fetches, 1);
        add(&self.failed_fetches, 1);
    }

    fn counts(&self) -> TrafficCounts {
        TrafficCounts {
            messages_in: self.messages_in.get(),
            bytes_in: self.bytes_in.get(),
            bytes_out: self.bytes_out.get(),
            produces: self.produces.get(),
            failed_produces: self.failed_produces.get(),
            fetches: self.fetches.get(),
            failed_fetches: self.failed_fetches.get(),
        }
    }
}

impl TrafficCounts {
    fn add(&mut self, other: TrafficCounts) {
        self.messages_in += other.messages_in;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.produces += other.produces;
        self.failed_produces += other.failed_produces;
        self.fetches += other.fetches;
        self.failed_fetches += other.failed_fetches;
    }
}

/// What a shard counts beside its partitions.
#[derive(Default)]
pub(crate) struct Counters {
    /// Of all its partitions, also of those that are gone.
    pub(crate) traffic: Traffic,
    requests: RefCell<BTreeMap<ApiKey, Durations>>,
    stages: RefCell<BTreeMap<RequestKind, StageDurations>>,
    bytes_received: Cell<u64>,
    bytes_sent: Cell<u64>,
}

/// A request's name, when it was there, and what it took so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrived {
    pub(crate) key: ApiKey,
    /// When its first byte was received.
    pub(crate) began: Instant,
    /// When all of it was.
    pub(crate) at: Instant,
    pub(crate) times: StageTimes,
}

/// The kinds of requests whose stages are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum RequestKind {
    Produce,
    Fetch,
    Group,
    Transaction,
    Other,
}

impl RequestKind {
    #[expect(clippy::wildcard_enum_match_arm, reason = "all others are one kind")]
    fn of(key: ApiKey) -> RequestKind {
        match key {
            ApiKey::Produce => RequestKind::Produce,
            ApiKey::Fetch => RequestKind::Fetch,
            ApiKey::JoinGroup
            | ApiKey::SyncGroup
            | ApiKey::Heartbeat
            | ApiKey::LeaveGroup
            | ApiKey::OffsetCommit
            | ApiKey::OffsetFetch
            | ApiKey::ConsumerGroupHeartbeat => RequestKind::Group,
            ApiKey::InitProducerId
            | ApiKey::AddPartitionsToTxn
            | ApiKey::AddOffsetsToTxn
            | ApiKey::EndTxn
            | ApiKey::TxnOffsetCommit => RequestKind::Transaction,
            _ => RequestKind::Other,
        }
    }
}

/// How long requests of one kind were in each stage; in stages of less than a microsecond nobody is
/// counted.
#[derive(Debug, Default)]
struct StageDurations([Durations; STAGES]);

/// What [`StageDurations`] had counted at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct StageCounts([DurationCounts; STAGES]);

impl StageDurations {
    fn record(&self, times: &StageTimes) {
        for (durations, stage) in self.0.iter().zip(Stage::ALL) {
            let time = times.of(stage);
            if !time.is_zero() {
                durations.record(time);
            }
        }
    }

    fn counts(&self) -> StageCounts {
        StageCounts(self.0.each_ref().map(Durations::counts))
    }
}

impl StageCounts {
    fn add(&mut self, other: &StageCounts) {
        for (sum, counts) in self.0.iter_mut().zip(&other.0) {
            sum.add(counts);
        }
    }
}

impl Counters {
    pub(crate) fn received(&self, bytes: usize) {
        add(&self.bytes_received, bytes as u64);
    }

    /// A request is over: its answer was sent, if it has one.
    pub(crate) fn answered(
        &self,
        request: Arrived,
        now: Instant,
        bytes: usize,
        times: &StageTimes,
    ) {
        add(&self.bytes_sent, bytes as u64);
        let mut requests = self.requests.borrow_mut();
        requests.entry(request.key).or_default().record(now.since(request.at));
        let mut stages = self.stages.borrow_mut();
        stages.entry(RequestKind::of(request.key)).or_default().record(times);
    }

    fn stages(&self) -> Vec<(RequestKind, StageCounts)> {
        let stages = self.stages.borrow();
        stages.iter().map(|(kind, durations)| (*kind, durations.counts())).collect()
    }

    fn requests(&self) -> Vec<(ApiKey, DurationCounts)> {
        let requests = self.requests.borrow();
        requests.iter().map(|(key, durations)| (*key, durations.counts())).collect()
    }
}

impl Shard {
    /// What counts what clients do with a partition: its own, and that of all.
    pub(crate) fn traffic_of<'a>(&'a self, partition: &'a Partition) -> [&'a Traffic; 2] {
        [&partition.traffic, &self.counters.traffic]
    }

    /// Answers somebody who asks from outside. Only shard 0 is asked.
    pub(crate) async fn answer_scrape(self: Rc<Self>, scrape: Scrape) {
        let survey = survey::of_node(&self).await;
        (scrape.reply)(text::render(&survey, scrape.scope));
    }

    /// The same for who only wants to know that all shards answer.
    pub(crate) async fn answer_ping(self: Rc<Self>, ping: Ping) {
        self.call_all(Answer).await;
        (ping.reply)();
    }
}
