//! What a run does, whoever asked for it: flags, or a file of the OpenMessaging Benchmark.

use std::{sync::Arc, time::Duration};

use client::{Acks, FetchOptions};
use model::record_batch::Compression;

/// What stands before the time in a record that a run times: no other program's record has it.
pub(super) const STAMP_BYTES: usize = 16;

/// A whole run.
#[derive(Clone, Debug)]
pub(super) struct Workload {
    /// For the report.
    pub(super) name: String,
    /// Made if they are not there.
    pub(super) topics: Vec<String>,
    pub(super) new_topic: NewTopicOptions,
    pub(super) production: Option<Production>,
    pub(super) consumption: Vec<Consumption>,
    /// At the start, and not in the results.
    pub(super) warm_up: Duration,
    pub(super) end: End,
}

/// How topics are made.
#[derive(Clone, Debug)]
pub(super) struct NewTopicOptions {
    pub(super) partition_count: i32,
    pub(super) replication_factor: i16,
    pub(super) configs: Vec<(String, String)>,
}

/// When a run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// So long after the warm-up.
    After(Duration),
    /// When so many records, over all producers, are answered for.
    Produced(u64),
    /// When everything is read that was there at the start.
    Consumed,
}

/// What is written.
#[derive(Clone, Debug)]
pub(super) struct Production {
    pub(super) producers_per_topic: u32,
    /// Records a second over all producers; `None`: as fast as it goes.
    pub(super) rate: Option<f64>,
    /// Values, one of which is sent after the other.
    pub(super) payloads: Arc<[Vec<u8>]>,
    pub(super) sending: Sending,
}

/// How a producer sends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sending {
    pub(super) acks: Acks,
    /// A batch of the records that are due is sent when it has so many bytes, or after `linger`.
    pub(super) batch_bytes: usize,
    pub(super) linger: Duration,
    /// Requests without an answer, for each producer.
    pub(super) in_flight_max: u32,
    pub(super) idempotence: Idempotence,
    pub(super) compression: Compression,
}

impl Default for Sending {
    /// As Kafka's own producers.
    fn default() -> Sending {
        Sending {
            acks: Acks::All,
            batch_bytes: 16384,
            linger: Duration::from_millis(5),
            in_flight_max: 5,
            idempotence: Idempotence::On,
            compression: Compression::None,
        }
    }
}

/// Whether producers have ids, by which brokers know duplicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Idempotence {
    On,
    Off,
}

/// What is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Consumption {
    pub(super) role: Role,
    /// Each subscription reads everything.
    pub(super) subscriptions: u32,
    /// They share the partitions of each topic of their subscription.
    pub(super) consumers_per_topic: u32,
    pub(super) fetch: FetchOptions,
    /// They begin to read when the producers have been answered for so many bytes.
    pub(super) backlog_bytes: u64,
}

/// Where consumers begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Behind what is there, for what comes.
    Tail,
    /// At the beginning.
    Everything,
    /// At the beginning, and there again when they have caught up.
    CatchUp,
}

impl Workload {
    /// Why this makes no run, if it does not.
    pub(super) fn refusal(&self) -> Option<&'static str> {
        let nobody = self.production.is_none() && self.consumption.is_empty();
        let none_to_wait_for = self.production.is_none() && matches!(self.end, End::Produced(_));
        if nobody {
            Some("nobody produces and nobody consumes")
        } else if none_to_wait_for {
            Some("a count of records needs producers")
        } else if self.topics.is_empty() {
            Some("no topic")
        } else {
            None
        }
    }

    /// How many producers there are.
    pub(super) fn producer_count(&self) -> u32 {
        let topics = u32::try_from(self.topics.len()).expect("bounded by the flags");
        self.production.as_ref().map_or(0, |all| topics * all.producers_per_topic)
    }

    /// How many producers and consumers there are.
    pub(super) fn actor_count(&self) -> usize {
        let a_topic = |each: u32| self.topics.len() * each as usize;
        let producers = self.producer_count() as usize;
        let consumers = self.consumption.iter();
        let consumers = consumers.map(|all| a_topic(all.subscriptions * all.consumers_per_topic));
        producers + consumers.sum::<usize>()
    }
}

impl Production {
    /// The bytes of a record's value, on average.
    pub(super) fn record_bytes(&self) -> usize {
        let all: usize = self.payloads.iter().map(Vec::len).sum();
        all / self.payloads.len().max(1)
    }
}

/// Values of `record_bytes` random letters, as Kafka's own perf tool writes them: they compress to
/// some two thirds.
pub(super) fn random_payloads(record_bytes: usize) -> Arc<[Vec<u8>]> {
    /// Enough that a batch does not compress for its repetitions.
    const PAYLOADS_BYTES: usize = 1 << 20;
    let count = (PAYLOADS_BYTES / record_bytes.max(1)).clamp(1, 1024);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut letter = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        b'A' + u8::try_from(state % 26).expect("a letter")
    };
    (0..count).map(|_| (0..record_bytes).map(|_| letter()).collect()).collect()
}
