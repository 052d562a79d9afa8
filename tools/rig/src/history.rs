//! What was sent, what was promised, what was seen: the side of the story that the checker holds
//! against the log.
//!
//! A lane is one producer on one partition: the unit within which order is promised. A batch is
//! `Unknown` from the moment it is sent until the broker answers, or until the log is read back
//! after a crash and shows what became of it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::kafka::TopicPartition;
use crate::kafka::batch::{self, Identity};
use crate::values::{ValueId, value};

/// Whether the producer numbers its batches, so that the broker can refuse a second copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Idempotent { producer_id: i64, producer_epoch: i16 },
    Plain,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Sent, not answered: in the log once, or not at all.
    Unknown,
    /// In the log from this offset on, for good.
    At(i64),
    /// Not in the log, and never to come.
    Absent,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    /// The count of its first record.
    pub(crate) first: u32,
    pub(crate) records: u32,
    pub(crate) state: State,
}

/// One producer on one partition.
#[derive(Debug, Clone)]
pub(crate) struct Lane {
    pub(crate) producer: usize,
    /// An index into `History::partitions`.
    pub(crate) partition: usize,
    pub(crate) kind: Kind,
    pub(crate) batches: Vec<Sent>,
}

impl Lane {
    /// How many records were ever sent.
    pub(crate) fn sent(&self) -> u32 {
        self.batches.last().map_or(0, |last| last.first + last.records)
    }
}

/// A record that a consumer was given while the load ran.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) offset: i64,
    pub(crate) id: ValueId,
}

/// The clock, in milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).expect("this side of the year 292 million")
}

#[derive(Debug, Clone)]
pub(crate) struct History {
    pub(crate) run: u64,
    /// All batches carry this time, so that they can be sent again byte for byte. It is that of
    /// the run's beginning: brokers forget producers, and delete records, that look old.
    timestamp_ms: i64,
    pub(crate) partitions: Vec<TopicPartition>,
    pub(crate) lanes: Vec<Lane>,
    /// For each partition.
    pub(crate) seen: Vec<Vec<Seen>>,
}

impl History {
    /// No batch yet: `kinds` has one item a producer, each of whom writes to every partition.
    pub(crate) fn new(run: u64, partitions: Vec<TopicPartition>, kinds: &[Kind]) -> Self {
        let lanes = (0..partitions.len())
            .flat_map(|partition| {
                let of = move |(producer, kind): (usize, &Kind)| Lane {
                    producer,
                    partition,
                    kind: *kind,
                    batches: Vec::new(),
                };
                kinds.iter().enumerate().map(of)
            })
            .collect();
        let seen = vec![Vec::new(); partitions.len()];
        Self { run, timestamp_ms: now_ms(), partitions, lanes, seen }
    }

    /// Notes a batch of `records` as sent, and returns its index in the lane.
    pub(crate) fn send(&mut self, lane: usize, records: u32) -> usize {
        let lane = &mut self.lanes[lane];
        lane.batches.push(Sent { first: lane.sent(), records, state: State::Unknown });
        lane.batches.len() - 1
    }

    pub(crate) fn id(&self, lane: usize, count: u32) -> ValueId {
        ValueId { run: self.run, lane: u32::try_from(lane).expect("few lanes"), count }
    }

    /// The bytes of a batch, the same each time.
    pub(crate) fn batch_bytes(&self, lane: usize, index: usize) -> Vec<u8> {
        let sent = self.lanes[lane].batches[index];
        let identity = match self.lanes[lane].kind {
            Kind::Plain => Identity::NONE,
            Kind::Idempotent { producer_id, producer_epoch } => Identity {
                producer_id,
                producer_epoch,
                base_sequence: i32::try_from(sent.first).expect("fewer records than sequences"),
            },
        };
        let counts = sent.first..sent.first + sent.records;
        let values: Vec<Vec<u8>> = counts.map(|count| value(self.id(lane, count))).collect();
        batch::build(identity, self.timestamp_ms, &values)
    }

    pub(crate) fn partition_index(&self, at: &TopicPartition) -> Option<usize> {
        self.partitions.iter().position(|known| known == at)
    }

    pub(crate) fn count(&self, wanted: impl Fn(State) -> bool) -> u64 {
        let batches = self.lanes.iter().flat_map(|lane| &lane.batches);
        batches.filter(|batch| wanted(batch.state)).map(|batch| u64::from(batch.records)).sum()
    }

    pub(crate) fn acknowledged(&self) -> u64 {
        self.count(|state| matches!(state, State::At(_)))
    }
}

/// A history that several threads write.
#[derive(Debug)]
pub(crate) struct Shared(Mutex<History>);

impl Shared {
    pub(crate) const fn new(history: History) -> Self {
        Self(Mutex::new(history))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, History> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The story as far as it is told now.
    pub(crate) fn snapshot(&self) -> History {
        self.lock().clone()
    }
}
