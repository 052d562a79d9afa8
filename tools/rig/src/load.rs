//! Load on a broker: producers with several requests in flight, and a consumer at their heels.
//!
//! Everything is noted in the history before it is sent and when it is answered. Until the fault
//! has struck, an error is a complaint; after it, an answer that is still read counts, for the
//! broker gave it, and anything else is silence.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use crate::history::{Seen, Shared, State};
use crate::kafka::{Connection, TopicPartition, batch, is_transient};
use crate::values::identify;
use rig::chance::Chance;

/// Kafka's brokers remember the last five batches of a producer, so no client sends more ahead.
const IN_FLIGHT_MAX: usize = 5;
const PARTITIONS_A_REQUEST_MAX: u64 = 3;
const RECORDS_A_BATCH_MAX: u64 = 12;
/// How long the consumer waits for news.
const CONSUMER_WAIT_MS: i32 = 50;

#[derive(Debug, Default)]
struct Signals {
    /// Send nothing more.
    stop: AtomicBool,
    /// The broker is, or is about to be, broken.
    struck: AtomicBool,
    complaints: Mutex<Vec<String>>,
}

impl Signals {
    fn note(&self, outcome: Result<(), String>, who: &str) {
        if let Err(reason) = outcome
            && !self.struck.load(Ordering::SeqCst)
        {
            let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
            complaints.push(format!("{who}: {reason}"));
            self.stop.store(true, Ordering::SeqCst);
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

/// A running load.
#[derive(Debug)]
pub(crate) struct Load {
    signals: Arc<Signals>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// One thread a producer of the history, one for the consumer.
    pub(crate) fn start(address: SocketAddr, history: &Arc<Shared>, chance: &mut Chance) -> Self {
        let signals = Arc::<Signals>::default();
        let producers = history.lock().lanes.iter().map(|lane| lane.producer + 1).max();
        let mut threads = Vec::new();
        for producer in 0..producers.unwrap_or(0) {
            let (signals, history) = (Arc::clone(&signals), Arc::clone(history));
            let chance = chance.fork();
            threads.push(thread::spawn(move || {
                let outcome = Producer { producer, history, chance }.run(address, &signals);
                signals.note(outcome, &format!("producer {producer}"));
            }));
        }
        let (shared, history) = (Arc::clone(&signals), Arc::clone(history));
        threads.push(thread::spawn(move || {
            let outcome = consume(address, &history, &shared);
            shared.note(outcome, "consumer");
        }));
        Self { signals, threads }
    }

    /// From here on the broker may fall silent.
    pub(crate) fn strike(&self) {
        self.signals.struck.store(true, Ordering::SeqCst);
    }

    /// Whether somebody complained already.
    pub(crate) fn failed(&self) -> bool {
        !self.signals.complaints.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Waits for all threads; the broker has to be gone, or `struck` not yet called.
    pub(crate) fn finish(self) -> Vec<String> {
        self.signals.stop.store(true, Ordering::SeqCst);
        let mut complaints = Vec::new();
        for thread in self.threads {
            if thread.join().is_err() {
                complaints.push("a thread of the load panicked".to_owned());
            }
        }
        complaints
            .append(&mut self.signals.complaints.lock().unwrap_or_else(PoisonError::into_inner));
        complaints
    }
}

/// A request without an answer: its number, and each batch as lane and index.
struct InFlight {
    correlation: i32,
    batches: Vec<(TopicPartition, usize, usize)>,
}

struct Producer {
    producer: usize,
    history: Arc<Shared>,
    chance: Chance,
}

impl Producer {
    fn run(mut self, address: SocketAddr, signals: &Signals) -> Result<(), String> {
        let mut connection = Connection::open(address)?;
        let lanes: Vec<usize> = {
            let history = self.history.lock();
            let mine = |lane: &usize| history.lanes[*lane].producer == self.producer;
            (0..history.lanes.len()).filter(mine).collect()
        };
        let mut in_flight = VecDeque::new();
        loop {
            while in_flight.len() < IN_FLIGHT_MAX && !signals.stopped() {
                let request = self.send(&mut connection, &lanes)?;
                in_flight.push_back(request);
            }
            let Some(request) = in_flight.pop_front() else { return Ok(()) };
            self.receive(&mut connection, &request)?;
        }
    }

    fn send(&mut self, connection: &mut Connection, lanes: &[usize]) -> Result<InFlight, String> {
        let first = self.chance.index(lanes.len());
        let count = self.chance.between(1, PARTITIONS_A_REQUEST_MAX);
        let chosen = lanes.iter().cycle().skip(first).take(lanes.len());
        let mut batches = Vec::new();
        let mut bodies = Vec::new();
        let mut history = self.history.lock();
        for (lane, _) in chosen.zip(0..count) {
            let records = self.chance.between(1, RECORDS_A_BATCH_MAX);
            let records = u32::try_from(records).expect("a small number");
            let batch = history.send(*lane, records);
            let at = history.partitions[history.lanes[*lane].partition].clone();
            bodies.push((at.clone(), history.batch_bytes(*lane, batch)));
            batches.push((at, *lane, batch));
        }
        drop(history);
        let correlation = connection.produce(&bodies)?;
        Ok(InFlight { correlation, batches })
    }

    fn receive(&self, connection: &mut Connection, request: &InFlight) -> Result<(), String> {
        let answers = connection.produced(request.correlation)?;
        let mut history = self.history.lock();
        for (at, lane, batch) in &request.batches {
            let answer = answers.iter().find(|answer| answer.at == *at);
            let answer = answer.ok_or_else(|| format!("no answer for {at:?}"))?;
            if answer.error_code != 0 {
                return Err(format!("produce to {at:?}: error {}", answer.error_code));
            }
            history.lanes[*lane].batches[*batch].state = State::At(answer.base_offset);
        }
        Ok(())
    }
}

/// Reads every partition from where this load found it, noting what it is given.
fn consume(address: SocketAddr, history: &Shared, signals: &Signals) -> Result<(), String> {
    let mut connection = Connection::open(address)?;
    let (run, partitions) = {
        let history = history.lock();
        (history.run, history.partitions.clone())
    };
    let mut from = Vec::new();
    for at in partitions {
        let (error_code, end) = connection.end_offset(&at)?;
        if error_code != 0 {
            return Err(format!("list offsets of {at:?}: error {error_code}"));
        }
        from.push((at, end));
    }
    while !signals.stopped() {
        for fetched in connection.fetch(&from, CONSUMER_WAIT_MS)? {
            let at = &fetched.at;
            if is_transient(fetched.error_code) {
                continue;
            }
            if fetched.error_code != 0 {
                return Err(format!("fetch from {at:?}: error {}", fetched.error_code));
            }
            let position = from.iter().position(|(known, _)| known == at);
            let position = position.ok_or_else(|| format!("{at:?} was not asked for"))?;
            for batch in batch::parse_all(&fetched.records).map_err(|e| format!("{at:?}: {e}"))? {
                let mut history = history.lock();
                let index = history.partition_index(at).expect("it was asked for");
                for (offset, value) in (batch.base_offset..).zip(&batch.values) {
                    let id = identify(run, value)
                        .ok_or_else(|| format!("{at:?}: garbage served at offset {offset}"))?;
                    history.seen[index].push(Seen { offset, id });
                    from[position].1 = offset + 1;
                }
            }
        }
    }
    Ok(())
}
