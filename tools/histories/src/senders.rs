//! Idempotent producers that send one batch after the other, each until it is answered.

use checker::history::{Action, Identity, Kind, Sends, Sent};
use client::{Acks, Error, ProducerState};
use model::ErrorCode;
use rig::chance::Chance;
use std::time::Duration;

use crate::world::{Process, Topic, World, log_name, place, records};

/// How many records a batch has at most.
const RECORDS_MAX: u64 = 4;
/// How long the broker may take for a batch.
const PRODUCE_TIMEOUT: Duration = Duration::from_secs(5);
/// Of 1,000 batches without an answer so many are not sent again.
const GIVEN_UP_PERMILLE: u64 = 150;
/// Of 1,000 keyed records so many are tombstones.
const TOMBSTONE_PERMILLE: u64 = 150;
/// Few, so that compaction has something to do.
const KEYS: u64 = 8;

/// What kind of records a producer sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Records {
    Plain,
    Keyed,
}

pub(crate) struct Sender {
    process: Process,
    topic: Topic,
    kind: Records,
    chance: Chance,
    state: Option<ProducerState>,
    next: u64,
}

/// What became of a batch.
enum Outcome {
    There(Option<model::Offset>),
    Refused,
    Unknown,
}

impl Sender {
    pub(crate) fn new(world: &World, topic: Topic, kind: Records, chance: Chance) -> Sender {
        Sender { process: world.process("sender"), topic, kind, chance, state: None, next: 0 }
    }

    pub(crate) async fn run(mut self, pause_ms: u64) {
        while !self.process.world.is_over() {
            let partition =
                self.chance.between(0, u64::try_from(self.topic.partitions - 1).unwrap_or(0));
            self.send(i32::try_from(partition).expect("few partitions")).await;
            self.process.world.pause_ms(&mut self.chance, pause_ms).await;
        }
    }

    /// Sends a batch to a partition.
    pub(crate) async fn send(&mut self, partition: i32) {
        let mut sent = self.make(partition);
        let Some(state) = self.state().await else { return };
        let producer = Some(identity(&state));
        let action =
            |sent: &[Sent]| Action::Send(Sends { producer: producer.clone(), sent: sent.to_vec() });
        self.process.invoke(action(&sent));
        match self.send_until_known(&sent, partition).await {
            Outcome::There(offset) => {
                place(&mut sent, offset);
                self.process.complete(Kind::Ok, action(&sent));
            }
            Outcome::Refused => {
                self.state = None;
                self.process.complete(Kind::Fail, action(&sent));
            }
            Outcome::Unknown => {
                // What comes next would leave a gap in the sequence.
                self.state = None;
                self.process.complete(Kind::Info, action(&sent));
            }
        }
    }

    async fn send_until_known(&mut self, sent: &[Sent], partition: i32) -> Outcome {
        let timestamp_ms = self.process.world.runtime.wall_clock_ms();
        let state = self.state.as_mut().expect("it was just made sure of");
        let batch = state.batch(self.topic.name, partition, &records(sent, timestamp_ms));
        let mut may_be_there = false;
        loop {
            let connection = self.process.connection().await;
            let batches = std::slice::from_ref(&batch);
            let results = connection.produce(batches, Acks::All, PRODUCE_TIMEOUT).await;
            let result = results.and_then(|results| {
                results.into_iter().next().ok_or(Error::Nonsense("a batch without an answer"))?
            });
            let error = match result {
                Ok(produced) => return Outcome::There(produced.base_offset),
                Err(Error::Refused(ErrorCode::DuplicateSequenceNumber)) => {
                    return Outcome::There(None);
                }
                Err(error) => error,
            };
            if !error.is_retriable() {
                let is_certain = matches!(error, Error::Refused(_)) && !may_be_there;
                self.process.rest(&error).await;
                return if is_certain { Outcome::Refused } else { Outcome::Unknown };
            }
            may_be_there = true;
            self.process.rest(&error).await;
            let is_over = self.process.world.is_over();
            if self.chance.between(1, 1000) <= GIVEN_UP_PERMILLE && !is_over {
                return Outcome::Unknown;
            }
        }
    }

    fn make(&mut self, partition: i32) -> Vec<Sent> {
        let count = self.chance.between(1, RECORDS_MAX);
        let mut sent = Vec::new();
        for _ in 0..count {
            self.next += 1;
            let mut one = Sent {
                partition: log_name(self.topic.name, partition),
                value: Some(format!("s{}-{}", self.process.number, self.next)),
                ..Sent::default()
            };
            if self.kind == Records::Keyed {
                one.key = Some(format!("k{}", self.chance.between(1, KEYS)));
                let is_tombstone = self.chance.between(1, 1000) <= TOMBSTONE_PERMILLE;
                one.value.take_if(|_| is_tombstone);
            }
            sent.push(one);
        }
        sent
    }

    /// Who it is to the broker; nobody when that is refused.
    async fn state(&mut self) -> Option<ProducerState> {
        if self.state.is_none() {
            let made = self.process.retry(async |connection| connection.init_producer_id().await);
            self.state = made.await.ok();
        }
        self.state.clone()
    }
}

fn identity(state: &ProducerState) -> Identity {
    Identity { transactional_id: None, id: state.id().0, epoch: state.epoch().0 }
}
