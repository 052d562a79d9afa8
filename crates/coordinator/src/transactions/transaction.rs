//! One transactional id: its producer, where its transaction stands, and its record.

use model::collections::{BTreeMap, BTreeSet};
use model::{ProducerEpoch, ProducerId, TimestampMs};
use wire::coordinator_record::{encode_key, encode_value};
use wire::transaction_log_key::TransactionLogKey;
use wire::transaction_log_value::{PartitionsSchema, TransactionLogValue};

use crate::actions::Record;

/// No epoch: the producer was not told of one yet.
pub(super) const NO_EPOCH: ProducerEpoch = ProducerEpoch(-1);
/// From this epoch on a producer gets a new id: one more is kept to fence it with.
const EXHAUSTED_FROM: ProducerEpoch = ProducerEpoch(i16::MAX - 1);
/// The generation of clients whose every end of a transaction bumps the epoch (KIP-890).
pub(super) const EPOCH_BUMP_FROM: i16 = 2;
/// The timeout of a transaction that is never aborted by the coordinator (KIP-939).
const TIMEOUT_NEVER: i32 = i32::MAX;

/// Partitions by topic.
pub type Partitions = BTreeMap<String, BTreeSet<i32>>;

/// Where a transaction stands; the numbers are those of the records.
///
/// ```text
///   Empty ------> Ongoing ------> PrepareCommit -> CompleteCommit --> Ongoing, Empty
///     |             |  commit                                     \-> (expired)
///     |             '- abort ---> PrepareAbort --> CompleteAbort ---> the same
///     '---- abort without partitions, of the second generation ---^
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// A producer, and no transaction yet.
    Empty = 0,
    /// There is a transaction.
    Ongoing = 1,
    /// It is decided that it is committed; markers are being written.
    PrepareCommit = 2,
    /// It is decided that it is aborted; markers are being written.
    PrepareAbort = 3,
    /// All markers are written.
    CompleteCommit = 4,
    /// All markers are written.
    CompleteAbort = 5,
    /// Expired; no record says so, since a tombstone does.
    Dead = 6,
    /// An epoch is being fenced; no record says so, since the abort does.
    PrepareEpochFence = 7,
}

impl State {
    /// All of them.
    pub const ALL: [State; 8] = [
        State::Empty,
        State::Ongoing,
        State::PrepareCommit,
        State::PrepareAbort,
        State::CompleteCommit,
        State::CompleteAbort,
        State::Dead,
        State::PrepareEpochFence,
    ];

    /// As clients are told.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::Empty => "Empty",
            State::Ongoing => "Ongoing",
            State::PrepareCommit => "PrepareCommit",
            State::PrepareAbort => "PrepareAbort",
            State::CompleteCommit => "CompleteCommit",
            State::CompleteAbort => "CompleteAbort",
            State::Dead => "Dead",
            State::PrepareEpochFence => "PrepareEpochFence",
        }
    }

    pub(super) fn is_preparing(self) -> bool {
        matches!(self, State::PrepareCommit | State::PrepareAbort)
    }

    pub(super) fn may_expire(self) -> bool {
        matches!(self, State::Empty | State::CompleteCommit | State::CompleteAbort)
    }
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of it is to be seen.
    Commit,
    /// None of it is to be seen.
    Abort,
}

impl Outcome {
    pub(super) fn prepare(self) -> State {
        match self {
            Outcome::Commit => State::PrepareCommit,
            Outcome::Abort => State::PrepareAbort,
        }
    }

    pub(super) fn complete(self) -> State {
        match self {
            Outcome::Commit => State::CompleteCommit,
            Outcome::Abort => State::CompleteAbort,
        }
    }
}

/// A transactional id's state, as its newest durable record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Its producer.
    pub producer_id: ProducerId,
    /// The producer id before the last change; none if there was none.
    pub previous_producer_id: ProducerId,
    /// The producer id that follows when the markers are written, where epochs are exhausted.
    pub next_producer_id: ProducerId,
    /// The producer's epoch; -1 before it was told of one.
    pub producer_epoch: ProducerEpoch,
    /// The epoch before it, if its bump may be asked for again. Not in the records.
    pub last_producer_epoch: ProducerEpoch,
    /// How long a transaction may take.
    pub timeout_ms: i32,
    /// Where it stands.
    pub state: State,
    /// What the transaction writes to, until its markers are written.
    pub partitions: Partitions,
    /// When the transaction began; -1 without one.
    pub start: TimestampMs,
    /// When anything changed last.
    pub last_update: TimestampMs,
    /// The generation of the client that changed it: 0 to 2, as `transaction.version`.
    pub client_version: i16,
}

impl Transaction {
    /// A producer that was not told of an epoch yet.
    pub(super) fn new(producer_id: ProducerId, timeout_ms: i32, now: TimestampMs) -> Transaction {
        Transaction {
            producer_id,
            previous_producer_id: ProducerId::NONE,
            next_producer_id: ProducerId::NONE,
            producer_epoch: NO_EPOCH,
            last_producer_epoch: NO_EPOCH,
            timeout_ms,
            state: State::Empty,
            partitions: Partitions::new(),
            start: TimestampMs::NONE,
            last_update: now,
            client_version: 0,
        }
    }

    pub(super) fn is_epoch_exhausted(&self) -> bool {
        is_exhausted(self.producer_epoch)
    }

    pub(super) fn bumps_epochs(&self) -> bool {
        self.client_version >= EPOCH_BUMP_FROM
    }

    pub(super) fn has_all(&self, partitions: &Partitions) -> bool {
        partitions.iter().all(|(topic, wanted)| {
            self.partitions.get(topic).is_some_and(|known| known.is_superset(wanted))
        })
    }

    /// Whether the coordinator is to abort it.
    pub(super) fn has_timed_out(&self, now: TimestampMs) -> bool {
        self.state == State::Ongoing
            && self.timeout_ms != TIMEOUT_NEVER
            && self.start.0.saturating_add(i64::from(self.timeout_ms)) < now.0
    }

    /// The producer with its next epoch, without a transaction.
    pub(super) fn with_next_epoch(
        &self,
        last_producer_epoch: ProducerEpoch,
        timeout_ms: i32,
        now: TimestampMs,
    ) -> Transaction {
        let producer_epoch = ProducerEpoch(self.producer_epoch.0 + 1);
        let last = Transaction { producer_epoch, last_producer_epoch, ..self.clone() };
        last.emptied(self.producer_id, timeout_ms, now)
    }

    /// A transactional id with its epoch as it is, without a transaction; `previous` is the
    /// producer id of before.
    pub(super) fn emptied(
        self,
        previous: ProducerId,
        timeout_ms: i32,
        now: TimestampMs,
    ) -> Transaction {
        Transaction {
            previous_producer_id: previous,
            timeout_ms,
            state: State::Empty,
            partitions: Partitions::new(),
            start: TimestampMs::NONE,
            last_update: now,
            ..self
        }
    }

    /// The transaction, begun if there was none, with more partitions.
    pub(super) fn with_partitions(
        &self,
        added: &Partitions,
        client_version: i16,
        now: TimestampMs,
    ) -> Transaction {
        let mut partitions = self.partitions.clone();
        for (topic, numbers) in added {
            partitions.entry(topic.clone()).or_default().extend(numbers);
        }
        let start = if self.state == State::Ongoing { self.start } else { now };
        Transaction {
            previous_producer_id: self.producer_id,
            state: State::Ongoing,
            partitions,
            start,
            last_update: now,
            client_version,
            ..self.clone()
        }
    }

    /// When the markers are written.
    pub(super) fn completed(&self, outcome: Outcome, now: TimestampMs) -> Transaction {
        let has_next = self.bumps_epochs() && self.next_producer_id != ProducerId::NONE;
        let (producer_id, producer_epoch) = match has_next {
            true => (self.next_producer_id, ProducerEpoch(0)),
            false => (self.producer_id, self.producer_epoch),
        };
        Transaction {
            producer_id,
            previous_producer_id: self.producer_id,
            next_producer_id: ProducerId::NONE,
            producer_epoch,
            state: outcome.complete(),
            partitions: Partitions::new(),
            last_update: now,
            ..self.clone()
        }
    }

    /// The record that says this.
    pub(super) fn record(&self, transactional_id: &str, value_version: i16) -> Record {
        let partitions = self.partitions.iter().map(|(topic, numbers)| PartitionsSchema {
            topic,
            partition_ids: numbers.iter().copied().collect(),
        });
        let has_partitions = self.state != State::Empty;
        let later = |id: ProducerId| if value_version >= 1 { id.0 } else { -1 };
        let value = TransactionLogValue {
            producer_id: self.producer_id.0,
            previous_producer_id: later(self.previous_producer_id),
            next_producer_id: later(self.next_producer_id),
            producer_epoch: self.producer_epoch.0,
            next_producer_epoch: -1,
            transaction_timeout_ms: self.timeout_ms,
            transaction_status: self.state as i8,
            transaction_partitions: has_partitions.then(|| partitions.collect()),
            transaction_last_update_timestamp_ms: self.last_update.0,
            transaction_start_timestamp_ms: self.start.0,
            client_transaction_version: self.client_version,
        };
        let fits = "ids and topics are checked when they come in";
        let value = Some(encode_value(&value, value_version).expect(fits));
        Record { value, ..tombstone(transactional_id) }
    }

    /// What a record says; `None` if no coordinator writes such a one.
    pub(super) fn from_value(value: &TransactionLogValue<'_>) -> Option<Transaction> {
        let state = State::ALL.into_iter().find(|one| *one as i8 == value.transaction_status)?;
        let mut partitions = Partitions::new();
        if state != State::Empty {
            for topic in value.transaction_partitions.iter().flatten() {
                let numbers = partitions.entry(topic.topic.to_owned()).or_default();
                numbers.extend(&topic.partition_ids);
            }
        }
        Some(Transaction {
            producer_id: ProducerId(value.producer_id),
            previous_producer_id: ProducerId(value.previous_producer_id),
            next_producer_id: ProducerId(value.next_producer_id),
            producer_epoch: ProducerEpoch(value.producer_epoch),
            last_producer_epoch: NO_EPOCH,
            timeout_ms: value.transaction_timeout_ms,
            state,
            partitions,
            start: TimestampMs(value.transaction_start_timestamp_ms),
            last_update: TimestampMs(value.transaction_last_update_timestamp_ms),
            client_version: value.client_transaction_version,
        })
    }
}

pub(super) fn is_exhausted(epoch: ProducerEpoch) -> bool {
    epoch >= EXHAUSTED_FROM
}

/// The record that a transactional id is forgotten.
pub(super) fn tombstone(transactional_id: &str) -> Record {
    let key = encode_key(&TransactionLogKey { transactional_id });
    Record { key: key.expect("ids are checked when they come in"), value: None }
}
