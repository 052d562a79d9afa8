//! One producer: records that become due, batches of them, and their acknowledgements.
//!
//! Cost a batch: its values are copied into it once, a CRC over it, one send, one receive.

use std::{cell::Cell, rc::Rc, sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use client::{AutoCreate, Batch, Cluster, ProducerState};
use model::{
    TimestampMs,
    compression::compress,
    record_batch::{
        Compression, HEADER_BYTES, NewRecord, RecordBatch, RecordBatchBuilder, recompressed,
    },
};
use runtime::{Instant, TaskQueue, local::Notify};

use super::{
    schedule::Schedule,
    worker::{ERROR_PAUSE, LOOK_PERIOD, Worker},
    workload::{Idempotence, Production, STAMP_BYTES},
};

/// What a record takes in a batch beside its value, at most: lengths, deltas, no key, no headers.
const RECORD_EXTRA_BYTES: usize = 24;
/// How long the broker may take for a batch.
const PRODUCE_TIMEOUT: Duration = Duration::from_secs(30);

/// One producer.
pub(super) struct Producer {
    topic: String,
    partitions: i32,
    next_partition: i32,
    cluster: Cluster,
    state: ProducerState,
    /// `None`: a record is due when the one before it was sent.
    schedule: Option<Schedule>,
    /// Records to make in all; `None`: until the run is over.
    limit: Option<u64>,
    made: u64,
    payloads: Payloads,
    flight: Rc<Flight>,
}

/// The values that are sent in turn, with room for the stamp.
struct Payloads {
    values: Vec<Vec<u8>>,
    next: usize,
}

/// What was sent and is not answered.
#[derive(Default)]
struct Flight {
    requests: Cell<u32>,
    landed: Notify,
    /// Something failed since this was last looked at.
    failed: Cell<bool>,
}

/// Records that go together, and when they were due.
struct Due {
    first: u64,
    count: u32,
    /// When the first was due; of those without a schedule, all.
    since: Instant,
}

impl Producer {
    /// Connects, and finds the partitions.
    pub(super) async fn prepare(
        cluster: Cluster,
        topic: String,
        production: &Production,
        limit: Option<u64>,
    ) -> client::Result<Producer> {
        let metadata = cluster.refresh(&[&topic], AutoCreate::Never).await?;
        let found = metadata.topics.first();
        let partitions = found.map_or(0, |topic| topic.leaders.len());
        let state = match production.sending.idempotence {
            Idempotence::On => cluster.any().await?.init_producer_id().await?,
            Idempotence::Off => ProducerState::plain(),
        };
        Ok(Producer {
            topic,
            partitions: i32::try_from(partitions).unwrap_or(i32::MAX).max(1),
            next_partition: 0,
            cluster,
            state,
            schedule: None,
            limit,
            made: 0,
            payloads: Payloads { values: production.payloads.to_vec(), next: 0 },
            flight: Rc::default(),
        })
    }

    /// Writes until the run is over or its records are made, and waits for the last answers.
    pub(super) async fn run(mut self, worker: Rc<Worker>, schedule: Option<Schedule>, first: i32) {
        self.schedule = schedule;
        self.next_partition = first % self.partitions;
        let run = std::sync::Arc::clone(&worker.run);
        let production = run.workload.production.as_ref().expect("a producer has something to do");
        let batch_records_max = batch_records_max(production);
        let flight = Rc::clone(&self.flight);
        while !run.is_over() && self.limit.is_none_or(|limit| self.made < limit) {
            flight
                .landed
                .wait_until(|| flight.requests.get() < production.sending.in_flight_max)
                .await;
            let now = worker.runtime.now();
            let due = self.due(now, batch_records_max);
            let send_at = due.since + production.sending.linger;
            if due.count == batch_records_max || (due.count > 0 && now >= send_at) {
                self.send(&worker, production, due).await;
            } else {
                let next = match (self.schedule, due.count) {
                    (Some(schedule), 0) => schedule.due_at(self.made),
                    (Some(schedule), count) => {
                        // Nothing to do before the batch is full.
                        let missing = u64::from(batch_records_max - count);
                        send_at.min(schedule.due_at(due.first + u64::from(count) + missing - 1))
                    }
                    (None, _) => now,
                };
                worker.runtime.sleep_until(next.min(now + LOOK_PERIOD)).await;
            }
        }
        flight.landed.wait_until(|| flight.requests.get() == 0).await;
    }

    /// What could be sent now: at most a batch.
    fn due(&self, now: Instant, batch_records_max: u32) -> Due {
        let left = self.limit.map_or(u64::MAX, |limit| limit - self.made);
        let most = u64::from(batch_records_max).min(left);
        let (count, since) = match self.schedule {
            None => (most, Instant(0)),
            Some(schedule) => {
                let due = schedule.due(now).saturating_sub(self.made);
                (due.min(most), schedule.due_at(self.made))
            }
        };
        let count = u32::try_from(count).expect("no more than a batch");
        Due { first: self.made, count, since }
    }

    async fn send(&mut self, worker: &Rc<Worker>, production: &Production, mut due: Due) {
        let flight = Rc::clone(&self.flight);
        if flight.failed.get() {
            self.recover(worker, production).await;
        }
        if self.schedule.is_none() {
            due.since = worker.runtime.now();
        }
        self.made += u64::from(due.count);
        let partition = self.next_partition;
        self.next_partition = (partition + 1) % self.partitions;
        let connection = match self.cluster.leader(&self.topic, partition).await {
            Ok(connection) => connection,
            Err(error) => {
                worker.tally.borrow_mut().failed(error.to_string(), u64::from(due.count));
                flight.failed.set(true);
                return;
            }
        };
        let bytes = self.build(worker, production, partition, &due);
        let batch = Batch { topic: self.topic.clone(), partition, bytes };
        let (worker, acks, schedule) = (Rc::clone(worker), production.sending.acks, self.schedule);
        let value_bytes = production.record_bytes();
        flight.requests.set(flight.requests.get() + 1);
        let runtime = worker.runtime.clone();
        runtime.spawn("perf produce", TaskQueue::Foreground, async move {
            let batches = std::slice::from_ref(&batch);
            let result = connection.produce(batches, acks, PRODUCE_TIMEOUT).await;
            let refused = match result {
                Ok(results) => results.into_iter().find_map(Result::err),
                Err(error) => Some(error),
            };
            match refused {
                None => acknowledged(&worker, schedule, &due, value_bytes),
                Some(error) => {
                    worker.tally.borrow_mut().failed(error.to_string(), u64::from(due.count));
                    flight.failed.set(true);
                }
            }
            flight.requests.set(flight.requests.get() - 1);
            flight.landed.notify_all();
        });
    }

    /// After a failure: waits for what is under way, looks who leads now, and begins new sequences.
    async fn recover(&mut self, worker: &Rc<Worker>, production: &Production) {
        self.flight.landed.wait_until(|| self.flight.requests.get() == 0).await;
        worker.runtime.sleep(ERROR_PAUSE).await;
        let again = async {
            self.cluster.refresh(&[&self.topic], AutoCreate::Never).await?;
            match production.sending.idempotence {
                Idempotence::On => self.cluster.any().await?.init_producer_id().await,
                Idempotence::Off => Ok(ProducerState::plain()),
            }
        };
        // Else the next send fails, too, and comes back here.
        if let Ok(state) = again.await {
            self.state = state;
            self.flight.failed.set(false);
        }
    }

    fn build(
        &mut self,
        worker: &Worker,
        production: &Production,
        partition: i32,
        due: &Due,
    ) -> Bytes {
        let count = i32::try_from(due.count).expect("a batch's count is an i32");
        let mut builder = RecordBatchBuilder::new(self.state.next(&self.topic, partition, count));
        let timestamp = TimestampMs(worker.runtime.wall_clock_ms());
        for index in 0..u64::from(due.count) {
            let due_at =
                self.schedule.map_or(due.since, |schedule| schedule.due_at(due.first + index));
            let value = self.payloads.stamped(worker.run.run_id, due_at);
            builder.append(&NewRecord { timestamp, value: Some(value), ..Default::default() });
        }
        let plain = builder.build();
        if production.sending.compression == Compression::None {
            return plain;
        }
        let batch = RecordBatch::first(&plain).expect("it was just made");
        let payload = compress(production.sending.compression, &plain[HEADER_BYTES..]);
        recompressed(&batch, production.sending.compression, &payload).into()
    }
}

/// Counts the records of a batch that was answered, each by its own delay.
fn acknowledged(worker: &Worker, schedule: Option<Schedule>, due: &Due, value_bytes: usize) {
    let now = worker.runtime.now();
    let count = u64::from(due.count);
    let bytes = count * value_bytes as u64;
    worker.run.produced_bytes.fetch_add(bytes, Ordering::Relaxed);
    let mut tally = worker.tally.borrow_mut();
    tally.produced.add(count, bytes, now.since(worker.start));
    match schedule {
        None => tally.acknowledged.record(now.since(due.since), count),
        Some(schedule) => {
            for index in due.first..due.first + count {
                tally.acknowledged.record(now.since(schedule.due_at(index)), 1);
            }
        }
    }
}

fn batch_records_max(production: &Production) -> u32 {
    let record = production.record_bytes() + RECORD_EXTRA_BYTES;
    let count = production.sending.batch_bytes.saturating_sub(HEADER_BYTES) / record;
    u32::try_from(count).unwrap_or(u32::MAX).clamp(1, 1 << 24)
}

impl Payloads {
    /// The next value; one that is large enough says when it was due.
    fn stamped(&mut self, run_id: u64, due_at: Instant) -> &[u8] {
        let count = self.values.len();
        let value = &mut self.values[self.next % count];
        self.next = (self.next + 1) % count;
        if let Some(stamp) = value.first_chunk_mut::<STAMP_BYTES>() {
            stamp[..8].copy_from_slice(&run_id.to_be_bytes());
            stamp[8..].copy_from_slice(&due_at.0.to_be_bytes());
        }
        value
    }
}
