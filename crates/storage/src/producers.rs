//! What a partition knows of its idempotent producers: their epochs, their last batches, their
//! open transactions; and Kafka's `.snapshot` of it.
//!
//! ```text
//!   .snapshot   version 1 (i16), CRC32C of what follows (u32), count (i32), then per producer
//!               id i64, epoch i16, last sequence i32, last offset i64, offset delta i32,
//!               timestamp i64, coordinator epoch i32, first offset of its transaction i64 (-1)
//! ```
//! The last [`BATCHES_KEPT`] batches of a producer are told from new ones, as many as a producer
//! may have in flight. A snapshot keeps only the last of them; replaying the log brings the rest.

use model::{
    Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs, collections::BTreeMap,
    record_batch::RecordBatch,
};
use smallvec::SmallVec;

use crate::{
    AppendError,
    transactions::TransactionStep,
    verification::{Verification, Verifications},
};

/// How many batches a producer may have in flight.
pub(crate) const BATCHES_KEPT: usize = 5;
/// What has to be remembered so that as many batches as are in flight can be taken back and the
/// one before them is still known.
const BATCHES_REMEMBERED: usize = 2 * BATCHES_KEPT;
/// From this version of transactions on each end of one bumps the epoch (KIP-890).
pub(crate) const EPOCH_BUMP_FROM: i16 = 2;
const VERSION: i16 = 1;
const HEADER_BYTES: usize = 10;
const ENTRY_BYTES: usize = 46;
const _: () = assert!(ENTRY_BYTES == 8 + 2 + 4 + 8 + 4 + 8 + 4 + 8);

/// A batch that a producer appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ProducerBatch {
    last_sequence: Sequence,
    last_offset: Offset,
    offset_delta: i32,
    timestamp: TimestampMs,
}

impl ProducerBatch {
    fn base_sequence(&self) -> Sequence {
        if self.last_sequence.0 < 0 {
            self.last_sequence
        } else {
            self.last_sequence.plus(-self.offset_delta)
        }
    }

    fn base_offset(&self) -> Offset {
        self.last_offset.plus(-i64::from(self.offset_delta))
    }
}

/// One producer.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: ProducerEpoch,
    coordinator_epoch: i32,
    transaction_start: Option<Offset>,
    timestamp: TimestampMs,
    /// Of this epoch, oldest first.
    batches: SmallVec<[ProducerBatch; 1]>,
    /// Where all of them were taken back: the sequence of the first, which is sent again before
    /// anything that was in flight behind it may be taken.
    awaited: Option<Sequence>,
}

/// What DescribeProducers tells of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerStatus {
    /// Its id.
    pub id: ProducerId,
    /// Its newest epoch.
    pub epoch: ProducerEpoch,
    /// The sequence of its last record; -1 where there is none in this epoch.
    pub last_sequence: Sequence,
    /// When it last appended.
    pub last_timestamp: TimestampMs,
    /// The epoch of the coordinator that ended its last transaction; -1 for none.
    pub coordinator_epoch: i32,
    /// Where its open transaction starts.
    pub transaction_start: Option<Offset>,
}

/// What a batch means to its producer's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// It continues.
    New,
    /// It is there already, at these offsets.
    Duplicate {
        /// Its first offset.
        base_offset: Offset,
        /// Its last offset.
        last_offset: Offset,
        /// Its timestamp.
        timestamp: TimestampMs,
    },
}

/// A transaction that a marker has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CompletedTransaction {
    producer_id: ProducerId,
    /// The epoch of its records, which the marker's may be above.
    epoch: ProducerEpoch,
    /// Its first record.
    pub(crate) first_offset: Offset,
    /// Its marker.
    last_offset: Offset,
    /// Where the first transaction starts that is still open, or what follows the marker.
    pub(crate) last_stable_offset: Offset,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    by_id: BTreeMap<ProducerId, Producer>,
    /// The open transactions by their first records.
    open: BTreeMap<Offset, ProducerId>,
    /// Those that have ended, with a marker that is not below the high watermark yet. In the order
    /// of the markers.
    unreplicated: Vec<CompletedTransaction>,
    pub(crate) verifications: Verifications,
}

impl Producers {
    /// Whether this incarnation of a producer has a transaction open here.
    pub(crate) fn is_in_transaction(&self, id: ProducerId, epoch: ProducerEpoch) -> bool {
        let known = self.by_id.get(&id);
        known.is_some_and(|one| one.transaction_start.is_some() && one.epoch == epoch)
    }

    /// Judges whether a batch may begin a transaction, if it does.
    pub(crate) fn judge_beginning(
        &self,
        batch: &RecordBatch<'_>,
        verification: Verification,
    ) -> Result<(), AppendError> {
        let Verification::Needed(guard) = verification else { return Ok(()) };
        let (id, epoch) = (batch.producer_id(), batch.producer_epoch());
        if !batch.is_transactional() || self.is_in_transaction(id, epoch) {
            return Ok(());
        }
        self.verifications.check(batch, guard)
    }

    /// Judges a coordinator's own batch of a transaction, which has no sequence.
    pub(crate) fn judge_epoch(&self, batch: &RecordBatch<'_>) -> Result<(), AppendError> {
        let current = self.by_id.get(&batch.producer_id()).map(|one| one.epoch);
        let found = batch.producer_epoch();
        match current.filter(|current| found < *current) {
            Some(current) => Err(AppendError::InvalidProducerEpoch { current, found }),
            None => Ok(()),
        }
    }

    /// Judges a batch from a client. `pending` are batches of the same append that were judged
    /// before it: epoch and last sequence of each producer.
    pub(crate) fn judge(
        &self,
        batch: &RecordBatch<'_>,
        pending: &[(ProducerId, ProducerEpoch, Sequence)],
    ) -> Result<Judgement, AppendError> {
        let (id, epoch) = (batch.producer_id(), batch.producer_epoch());
        let first = batch.base_sequence();
        if let Some((_, pending_epoch, last)) =
            pending.iter().rev().find(|(known, ..)| *known == id)
        {
            return judge_next(*pending_epoch, Some(*last), epoch, first);
        }
        let Some(producer) = self.by_id.get(&id) else { return Ok(Judgement::New) };
        if epoch == producer.epoch {
            let last = batch.last_sequence();
            let kept = producer.batches.iter().rev().take(BATCHES_KEPT);
            for known in kept {
                if known.last_sequence == last && known.base_sequence() == first {
                    return Ok(Judgement::Duplicate {
                        base_offset: known.base_offset(),
                        last_offset: known.last_offset,
                        timestamp: known.timestamp,
                    });
                }
            }
        }
        if let Some(expected) = producer.awaited.filter(|_| epoch == producer.epoch)
            && expected != first
        {
            return Err(AppendError::OutOfOrderSequence { expected, found: first });
        }
        let last = producer.batches.last().map(|batch| batch.last_sequence);
        let judgement = judge_next(producer.epoch, last, epoch, first)?;
        if producer.transaction_start.is_some() && !batch.is_transactional() {
            return Err(AppendError::TransactionOpen(id));
        }
        Ok(judgement)
    }

    /// Judges a marker: that neither its producer nor its coordinator is an old one. From version
    /// 2 of transactions on its epoch is one that no record has, so that a late marker cannot end
    /// the next transaction; the same once more is a marker that was written already, or one of the
    /// last epoch, which cannot grow.
    pub(crate) fn judge_marker(
        &self,
        batch: &RecordBatch<'_>,
        transaction_version: i16,
    ) -> Result<(), AppendError> {
        let Some(producer) = self.by_id.get(&batch.producer_id()) else { return Ok(()) };
        let (current, found) = (producer.epoch, batch.producer_epoch());
        let may_be_same = transaction_version < EPOCH_BUMP_FROM
            || producer.transaction_start.is_none()
            || found == ProducerEpoch(i16::MAX);
        if found < current || (found == current && !may_be_same) {
            return Err(AppendError::InvalidProducerEpoch { current, found });
        }
        let (current, found) = (producer.coordinator_epoch, coordinator_epoch(batch));
        match found.filter(|found| *found < current) {
            Some(found) => Err(AppendError::CoordinatorFenced { current, found }),
            None => Ok(()),
        }
    }

    /// Notes a batch that was appended, by whomever, with the offset and time that it was given.
    /// Gives the transaction that it ends.
    pub(crate) fn note(
        &mut self,
        batch: &RecordBatch<'_>,
        base_offset: Offset,
        timestamp: TimestampMs,
    ) -> Option<CompletedTransaction> {
        let id = batch.producer_id();
        if id.0 < 0 {
            return None;
        }
        let is_known = self.by_id.contains_key(&id);
        let producer = self.by_id.entry(id).or_insert_with(|| Producer {
            epoch: batch.producer_epoch(),
            coordinator_epoch: -1,
            transaction_start: None,
            timestamp: TimestampMs::NONE,
            batches: SmallVec::new(),
            awaited: None,
        });
        let epoch_before = producer.epoch;
        if !batch.is_control() {
            producer.awaited = None;
        }
        if producer.epoch != batch.producer_epoch() {
            producer.epoch = batch.producer_epoch();
            producer.batches.clear();
            // Nothing of an epoch comes before the marker that begins it.
            producer.awaited = (batch.is_control() && is_known).then_some(Sequence(0));
        }
        producer.timestamp = timestamp;
        if batch.is_control() {
            let Some(TransactionStep::End(_)) = TransactionStep::of(batch) else { return None };
            producer.coordinator_epoch =
                coordinator_epoch(batch).unwrap_or(producer.coordinator_epoch);
            let first_offset = producer.transaction_start.take()?;
            return Some(self.complete((id, epoch_before), first_offset, base_offset));
        }
        if batch.is_transactional() && producer.transaction_start.is_none() {
            producer.transaction_start = Some(base_offset);
            self.open.insert(base_offset, id);
        }
        if producer.batches.len() == BATCHES_REMEMBERED {
            producer.batches.remove(0);
        }
        producer.batches.push(ProducerBatch {
            last_sequence: batch.last_sequence(),
            last_offset: base_offset.plus(i64::from(batch.last_offset_delta())),
            offset_delta: batch.last_offset_delta(),
            timestamp,
        });
        None
    }

    fn complete(
        &mut self,
        (producer_id, epoch): (ProducerId, ProducerEpoch),
        first_offset: Offset,
        last_offset: Offset,
    ) -> CompletedTransaction {
        self.open.remove(&first_offset);
        let first_open = self.open.first_key_value().map(|(first, _)| *first);
        let last_stable_offset = first_open.unwrap_or_else(|| last_offset.next());
        let completed = CompletedTransaction {
            producer_id,
            epoch,
            first_offset,
            last_offset,
            last_stable_offset,
        };
        self.unreplicated.push(completed);
        completed
    }

    /// The high watermark has moved: transactions with their markers below it are over.
    pub(crate) fn forget_replicated(&mut self, high_watermark: Offset) {
        let over = self.unreplicated.partition_point(|one| one.last_offset < high_watermark);
        self.unreplicated.drain(..over);
    }

    /// Takes back what was noted of batches at `offset` and behind.
    pub(crate) fn cut(&mut self, offset: Offset) {
        let kept = self.unreplicated.partition_point(|one| one.last_offset < offset);
        let reopened = self.unreplicated.split_off(kept);
        for producer in self.by_id.values_mut() {
            let first_cut = producer.batches.iter().find(|batch| batch.last_offset >= offset);
            let first_cut = first_cut.map(ProducerBatch::base_sequence);
            producer.batches.retain(|batch| batch.last_offset < offset);
            if producer.batches.is_empty() {
                producer.awaited = first_cut.or(producer.awaited);
            }
            if producer.transaction_start.is_some_and(|start| start >= offset) {
                producer.transaction_start = None;
            }
        }
        self.open.retain(|start, _| *start < offset);
        for one in reopened.into_iter().filter(|one| one.first_offset < offset) {
            if let Some(producer) = self.by_id.get_mut(&one.producer_id) {
                producer.transaction_start = Some(one.first_offset);
                // The marker comes again, with an epoch that no record has.
                (producer.epoch, producer.awaited) = (one.epoch, None);
                self.open.insert(one.first_offset, one.producer_id);
            }
        }
    }

    /// The open transactions by their first records.
    pub(crate) fn open_transactions(&self) -> &BTreeMap<Offset, ProducerId> {
        &self.open
    }

    /// Where the first transaction starts that is open, or whose marker is not below the high
    /// watermark: it may still be lost.
    pub(crate) fn first_unstable(&self, high_watermark: Offset) -> Option<Offset> {
        let open = self.open.first_key_value().map(|(first, _)| *first);
        let unreplicated = self.unreplicated.iter();
        let ended = unreplicated
            .filter(|one| one.last_offset >= high_watermark)
            .map(|one| one.first_offset);
        ended.chain(open).min()
    }

    /// Forgets producers without an open transaction that appended nothing since `before`.
    pub(crate) fn expire(&mut self, before: TimestampMs) {
        self.by_id.retain(|_, producer| {
            producer.transaction_start.is_some() || producer.timestamp >= before
        });
        self.verifications.expire(before);
    }

    /// Every producer, by id.
    pub(crate) fn statuses(&self) -> Vec<ProducerStatus> {
        self.by_id
            .iter()
            .map(|(id, producer)| ProducerStatus {
                id: *id,
                epoch: producer.epoch,
                last_sequence: producer
                    .batches
                    .last()
                    .map_or(Sequence(-1), |batch| batch.last_sequence),
                last_timestamp: producer.timestamp,
                coordinator_epoch: producer.coordinator_epoch,
                transaction_start: producer.transaction_start,
            })
            .collect()
    }

    /// Of every producer its epoch and the offset of its last record, which compaction has to leave
    /// a trace of.
    pub(crate) fn last_batches(&self) -> BTreeMap<ProducerId, (ProducerEpoch, Option<Offset>)> {
        let last = |producer: &Producer| producer.batches.last().map(|batch| batch.last_offset);
        self.by_id.iter().map(|(id, one)| (*id, (one.epoch, last(one)))).collect()
    }

    /// The content of a `.snapshot`.
    pub(crate) fn file(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(4 + self.by_id.len() * ENTRY_BYTES);
        let count = i32::try_from(self.by_id.len()).expect("fewer producers than 2^31");
        body.extend_from_slice(&count.to_be_bytes());
        for (id, producer) in &self.by_id {
            let none = ProducerBatch {
                last_sequence: Sequence(-1),
                last_offset: Offset(-1),
                offset_delta: 0,
                timestamp: producer.timestamp,
            };
            let last = producer.batches.last().unwrap_or(&none);
            body.extend_from_slice(&id.0.to_be_bytes());
            body.extend_from_slice(&producer.epoch.0.to_be_bytes());
            body.extend_from_slice(&last.last_sequence.0.to_be_bytes());
            body.extend_from_slice(&last.last_offset.0.to_be_bytes());
            body.extend_from_slice(&last.offset_delta.to_be_bytes());
            body.extend_from_slice(&producer.timestamp.0.to_be_bytes());
            body.extend_from_slice(&producer.coordinator_epoch.to_be_bytes());
            let start = producer.transaction_start.map_or(-1, |start| start.0);
            body.extend_from_slice(&start.to_be_bytes());
        }
        let mut bytes = VERSION.to_be_bytes().to_vec();
        bytes.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
        bytes.extend_from_slice(&body);
        bytes
    }

    /// Reads a `.snapshot`. `None` when it is not whole or of another version.
    pub(crate) fn parse(content: &[u8]) -> Option<Producers> {
        let (header, entries) = content.split_at_checked(HEADER_BYTES)?;
        let version = i16::from_be_bytes([header[0], header[1]]);
        let crc = u32::from_be_bytes([header[2], header[3], header[4], header[5]]);
        let count = i32::from_be_bytes([header[6], header[7], header[8], header[9]]);
        let (entries, rest) = entries.as_chunks::<ENTRY_BYTES>();
        let is_whole = version == VERSION
            && crc == crc32c::crc32c(&content[6..])
            && usize::try_from(count).is_ok_and(|count| count == entries.len())
            && rest.is_empty();
        if !is_whole {
            return None;
        }
        let by_id: BTreeMap<ProducerId, Producer> = entries.iter().map(parse_entry).collect();
        let open = by_id.iter().filter_map(|(id, one)| Some((one.transaction_start?, *id)));
        let open = open.collect();
        Some(Producers { by_id, open, ..Producers::default() })
    }
}

/// The epoch of the coordinator that wrote a marker, whose value is: version i16, epoch i32.
fn coordinator_epoch(batch: &RecordBatch<'_>) -> Option<i32> {
    let record = batch.records().next()?.ok()?;
    let epoch = record.value?.get(2..6)?;
    Some(i32::from_be_bytes(epoch.try_into().expect("the range has four bytes")))
}

/// Judges by the epoch and last sequence that came before.
fn judge_next(
    known_epoch: ProducerEpoch,
    last: Option<Sequence>,
    epoch: ProducerEpoch,
    first: Sequence,
) -> Result<Judgement, AppendError> {
    if epoch < known_epoch {
        return Err(AppendError::InvalidProducerEpoch { current: known_epoch, found: epoch });
    }
    let expected = match last {
        // A new incarnation starts at 0.
        _ if epoch > known_epoch => Sequence(0),
        // Only a marker is known of this epoch: its first batch may have been deleted since.
        None => return Ok(Judgement::New),
        Some(last) if last.0 < 0 => return Ok(Judgement::New),
        Some(last) => last.plus(1),
    };
    if first != expected {
        return Err(AppendError::OutOfOrderSequence { expected, found: first });
    }
    Ok(Judgement::New)
}

fn parse_entry(entry: &[u8; ENTRY_BYTES]) -> (ProducerId, Producer) {
    fn at<const N: usize>(entry: &[u8; ENTRY_BYTES], start: usize) -> [u8; N] {
        entry[start..start + N].try_into().expect("the entry has these bytes")
    }
    let last_sequence = Sequence(i32::from_be_bytes(at(entry, 10)));
    let timestamp = TimestampMs(i64::from_be_bytes(at(entry, 26)));
    let transaction_start = i64::from_be_bytes(at(entry, 38));
    let mut batches = SmallVec::new();
    if last_sequence.0 >= 0 {
        batches.push(ProducerBatch {
            last_sequence,
            last_offset: Offset(i64::from_be_bytes(at(entry, 14))),
            offset_delta: i32::from_be_bytes(at(entry, 22)),
            timestamp,
        });
    }
    let producer = Producer {
        epoch: ProducerEpoch(i16::from_be_bytes(at(entry, 8))),
        coordinator_epoch: i32::from_be_bytes(at(entry, 34)),
        transaction_start: (transaction_start >= 0).then_some(Offset(transaction_start)),
        timestamp,
        batches,
        awaited: None,
    };
    (ProducerId(i64::from_be_bytes(at(entry, 0))), producer)
}

#[cfg(test)]
mod tests {
    use model::record_batch::{BatchOptions, NewRecord, RecordBatchBuilder, attribute};

    use super::*;

    fn batch(offset: i64, epoch: i16, sequence: i32, records: i32, flags: i16) -> bytes::Bytes {
        let mut builder = RecordBatchBuilder::new(BatchOptions {
            base_offset: Offset(offset),
            producer_id: ProducerId(7),
            producer_epoch: ProducerEpoch(epoch),
            base_sequence: Sequence(sequence),
            flags,
            ..BatchOptions::default()
        });
        for _ in 0..records {
            builder.append(&NewRecord { timestamp: TimestampMs(5), ..NewRecord::default() });
        }
        builder.build()
    }

    fn note(producers: &mut Producers, bytes: &[u8]) {
        let batch = RecordBatch::first(bytes).unwrap();
        producers.note(&batch, batch.base_offset(), batch.max_timestamp());
    }

    fn check(known: &[(i64, i16, i32, i32)], epoch: i16, sequence: i32, records: i32) -> String {
        let mut producers = Producers::default();
        for (offset, epoch, sequence, records) in known {
            let bytes = batch(*offset, *epoch, *sequence, *records, 0);
            note(&mut producers, &bytes);
        }
        let bytes = batch(0, epoch, sequence, records, 0);
        match producers.judge(&RecordBatch::first(&bytes).unwrap(), &[]) {
            Ok(Judgement::New) => "new".to_owned(),
            Ok(Judgement::Duplicate { base_offset, last_offset, .. }) => {
                format!("duplicate of {base_offset}-{last_offset}")
            }
            Err(AppendError::OutOfOrderSequence { expected, .. }) => format!("expected {expected}"),
            Err(AppendError::InvalidProducerEpoch { current, .. }) => {
                format!("fenced by {current}")
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn what_was_in_flight_behind_a_batch_that_was_taken_back_waits_for_it() {
        let mut producers = Producers::default();
        note(&mut producers, &batch(0, 0, 0, 2, 0));
        producers.cut(Offset(0));
        let judge = |producers: &Producers, sequence| {
            let bytes = batch(0, 0, sequence, 3, 0);
            producers.judge(&RecordBatch::first(&bytes).unwrap(), &[]).is_ok()
        };
        assert!(!judge(&producers, 2));
        assert!(judge(&producers, 0));
        note(&mut producers, &batch(0, 0, 0, 2, 0));
        assert!(judge(&producers, 2));
        // Another incarnation starts anew.
        producers.cut(Offset(0));
        let bytes = batch(0, 1, 0, 1, 0);
        assert!(producers.judge(&RecordBatch::first(&bytes).unwrap(), &[]).is_ok());
    }

    #[test]
    fn sequences_are_judged_as_kafka_does() {
        let six =
            [(0, 0, 0, 2), (2, 0, 2, 1), (3, 0, 3, 1), (4, 0, 4, 1), (5, 0, 5, 1), (6, 0, 6, 3)];
        assert_eq!(check(&[], 0, 0, 1), "new");
        assert_eq!(check(&[], 0, 17, 1), "new");
        assert_eq!(check(&six, 0, 9, 1), "new");
        assert_eq!(check(&six, 0, 10, 1), "expected 9");
        assert_eq!(check(&six, 0, 6, 3), "duplicate of 6-8");
        assert_eq!(check(&six, 0, 2, 1), "duplicate of 2-2");
        assert_eq!(check(&six, 0, 0, 2), "expected 9");
        assert_eq!(check(&six, 0, 6, 2), "expected 9");
        assert_eq!(check(&six, 1, 0, 1), "new");
        assert_eq!(check(&six, 1, 1, 1), "expected 0");
        assert_eq!(check(&[(0, 3, 0, 1)], 2, 1, 1), "fenced by 3");
        assert_eq!(check(&[(0, 0, i32::MAX, 1)], 0, 0, 1), "new");
        assert_eq!(check(&[(0, 0, i32::MAX - 1, 4)], 0, 2, 1), "new");
        assert_eq!(check(&[(0, 0, i32::MAX - 1, 4)], 0, i32::MAX - 1, 4), "duplicate of 0-3");
    }

    #[test]
    fn a_snapshot_round_trips_and_damage_is_refused() {
        let mut producers = Producers::default();
        for bytes in [batch(0, 2, 0, 3, 0), batch(3, 2, 3, 1, attribute::TRANSACTIONAL)] {
            note(&mut producers, &bytes);
        }
        let file = producers.file();
        assert_eq!(file.len(), HEADER_BYTES + ENTRY_BYTES);
        let read = Producers::parse(&file).unwrap();
        assert_eq!(read.statuses(), producers.statuses());
        assert_eq!(read.first_unstable(Offset(9)), Some(Offset(3)));
        for position in 0..file.len() {
            let mut damaged = file.clone();
            damaged[position] ^= 1;
            assert_eq!(Producers::parse(&damaged), None, "byte {position}");
            assert_eq!(Producers::parse(&file[..position]), None);
        }
        assert_eq!(Producers::parse(&Producers::default().file()), Some(Producers::default()));
    }

    #[test]
    fn what_is_taken_back_may_come_again() {
        let mut producers = Producers::default();
        for offset in 0..8 {
            let bytes = batch(offset, 0, i32::try_from(offset).unwrap(), 1, 0);
            note(&mut producers, &bytes);
        }
        producers.cut(Offset(3));
        let next = batch(3, 0, 3, 1, 0);
        let judge = |bytes| producers.judge(&RecordBatch::first(bytes).unwrap(), &[]);
        assert_eq!(judge(&next), Ok(Judgement::New));
        assert!(judge(&batch(4, 0, 4, 1, 0)).is_err());
    }
}
