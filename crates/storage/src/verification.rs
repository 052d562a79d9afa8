//! Which producers are being asked about at the coordinator of their transactions (KIP-890).
//!
//! A batch that begins a transaction in a partition is appended only when the coordinator has said
//! that the partition is part of it. Between that answer and the append the transaction may end:
//! then its marker would lie before the batch, and nothing would ever end what the batch begins.
//! So a question is asked under a guard; the marker takes the guard away, and without it the batch
//! is refused. What was never appended goes with the producers that expire.

use model::{
    ProducerEpoch, ProducerId, Sequence, TimestampMs, collections::BTreeMap,
    record_batch::RecordBatch,
};

use crate::{
    AppendError, Log,
    producers::{EPOCH_BUMP_FROM, Producers},
};

/// Names a question, for the append that follows its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerificationGuard(u64);

/// What is known of the transaction that a batch belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verification {
    /// Nobody asks: `transaction.partition.verification.enable` is off.
    #[default]
    Off,
    /// A batch that begins a transaction has to have this guard.
    Needed(Option<VerificationGuard>),
    /// The batch is a marker of this `transaction.version`.
    Marker(i16),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    guard: VerificationGuard,
    epoch: ProducerEpoch,
    /// The first batch that was asked for: none behind it may come before it.
    lowest: Sequence,
    timestamp: TimestampMs,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verifications {
    by_producer: BTreeMap<ProducerId, Asked>,
    next: u64,
}

impl Verifications {
    fn begin(
        &mut self,
        id: ProducerId,
        epoch: ProducerEpoch,
        sequence: Sequence,
        timestamp: TimestampMs,
    ) -> VerificationGuard {
        let next = VerificationGuard(self.next);
        let asked = self.by_producer.entry(id).or_insert_with(|| {
            self.next += 1;
            Asked { guard: next, epoch, lowest: sequence, timestamp }
        });
        let is_newer = epoch > asked.epoch;
        if is_newer || (epoch == asked.epoch && sequence < asked.lowest) {
            (asked.epoch, asked.lowest) = (epoch, sequence);
        }
        asked.guard
    }

    /// Whether a batch that begins a transaction has what it needs.
    pub(crate) fn check(
        &self,
        batch: &RecordBatch<'_>,
        guard: Option<VerificationGuard>,
    ) -> Result<(), AppendError> {
        let id = batch.producer_id();
        let asked = self.by_producer.get(&id);
        let Some(asked) = asked.filter(|asked| Some(asked.guard) == guard) else {
            return Err(AppendError::NotInTransaction(id));
        };
        let found = batch.base_sequence();
        if found > asked.lowest {
            return Err(AppendError::OutOfOrderSequence { expected: asked.lowest, found });
        }
        Ok(())
    }

    /// A batch or a marker of the producer was appended: what was asked is answered, or too late.
    ///
    /// A marker of version 2 has the epoch that the producer goes on with: what was asked with this
    /// epoch is asked for the next transaction, which the coordinator may take the partition into
    /// as soon as this marker is durable.
    pub(crate) fn end(&mut self, batch: &RecordBatch<'_>, verification: Verification) {
        if !batch.is_transactional() {
            return;
        }
        let (id, epoch) = (batch.producer_id(), batch.producer_epoch());
        let is_bumped = matches!(verification, Verification::Marker(version) if version >= EPOCH_BUMP_FROM)
            // The last epoch cannot grow: it is the one that has ended.
            && epoch < ProducerEpoch(i16::MAX);
        let asked = self.by_producer.get(&id);
        if is_bumped && asked.is_some_and(|asked| asked.epoch >= epoch) {
            return;
        }
        self.by_producer.remove(&id);
    }

    pub(crate) fn expire(&mut self, before: TimestampMs) {
        self.by_producer.retain(|_, asked| asked.timestamp >= before);
    }
}

impl Producers {
    /// A guard to ask the coordinator under; none where the transaction has begun already.
    fn begin_verification(
        &mut self,
        id: ProducerId,
        epoch: ProducerEpoch,
        sequence: Sequence,
        now: TimestampMs,
    ) -> Option<VerificationGuard> {
        let asks = !self.is_in_transaction(id, epoch);
        asks.then(|| self.verifications.begin(id, epoch, sequence, now))
    }
}

impl Log {
    /// Whether the coordinator has to be asked before a batch of this producer is appended: then
    /// gives the guard for the append.
    #[must_use]
    pub fn begin_verification(
        &self,
        id: ProducerId,
        epoch: ProducerEpoch,
        sequence: Sequence,
    ) -> Option<VerificationGuard> {
        let now = TimestampMs(self.runtime().wall_clock_ms());
        self.0.state.borrow_mut().producers.begin_verification(id, epoch, sequence, now)
    }
}
