//! The decision of an append: everything is checked before anything changes, then each batch is
//! copied once into the open chunk and queued for the write of this turn.
//!
//! Cost of a batch: one pass of the CRC, one walk over the lengths of its records, one copy; no
//! allocation but a chunk now and then. The records of a compressed batch are walked over by
//! whoever receives it, in slices, before the append ([`Log::append_surveyed`]).

use std::{future::poll_fn, task::Poll};

use bytes::Bytes;
use model::{
    LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, TimestampMs,
    record_batch::{
        BatchError, Compression, Counts, HEADER_BYTES, Progress, RecordBatch, RecordScan,
        RecordSummary, TimestampType, attribute, batches, position,
    },
    topic_config::TopicConfig,
};
use smallvec::SmallVec;

use crate::{
    AppendError, Log,
    index::IndexedBatch,
    log::{State, Status},
    producers::Judgement,
    record_rules::RecordRules,
    resync::BATCH_BYTES_MAX,
    segment::{Phase, Segment},
    storage::{StorageInner, UNSYNCED_BYTES_MAX},
    tail::{TailBatch, length_of, position_of},
    transactions::TransactionStep,
    verification::Verification,
};

/// Who appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendOrigin {
    /// A producer: everything is checked, and control batches are refused.
    Client,
    /// A coordinator of this broker, with records of its own or with transaction markers.
    Coordinator,
    /// The metadata quorum: offsets are assigned already and have to continue the log.
    Raft,
}

/// What an append is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendOptions {
    /// Written into every batch.
    pub leader_epoch: LeaderEpoch,
    /// Who appends.
    pub origin: AppendOrigin,
    /// The broker's clock.
    pub now_ms: i64,
}

/// What a walk over the records of a batch has found ([`RecordScan`]).
pub type Survey = Result<RecordSummary, BatchError>;

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of the first record.
    pub base_offset: Offset,
    /// The offset of the last record: the append is durable once `last_offset.next()` is.
    pub last_offset: Offset,
    /// The broker's time where the topic has `message.timestamp.type=LogAppendTime`, else none.
    pub log_append_time: TimestampMs,
    /// Where the log starts.
    pub log_start_offset: Offset,
    /// True if the batch was there already, at these offsets; nothing was appended.
    pub is_duplicate: bool,
    /// True if `flush.messages` records are not on disk: this append is to be before it is
    /// answered.
    pub is_flush_due: bool,
}

impl Appended {
    /// What to wait for.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.last_offset.next()
    }
}

impl Log {
    /// Appends record batches, all or none. Decides without waiting; the write starts at the end
    /// of the turn. Answer the producer after [`Log::wait_written`] or [`Log::wait_durable`] of
    /// [`Appended::end`].
    ///
    /// # Errors
    /// When it is refused; nothing has changed then.
    pub fn append(&self, bytes: &Bytes, options: &AppendOptions) -> Result<Appended, AppendError> {
        self.append_surveyed(bytes, options, None)
    }

    /// [`Log::append`] of one batch whose records the caller has walked over: of a compressed one it
    /// has to, since decompressing it takes longer than a shard's other work may wait.
    ///
    /// # Errors
    /// When it is refused; nothing has changed then.
    pub fn append_surveyed(
        &self,
        bytes: &Bytes,
        options: &AppendOptions,
        survey: Option<&Survey>,
    ) -> Result<Appended, AppendError> {
        self.append_verified(bytes, options, survey, Verification::Off)
    }

    /// [`Log::append_surveyed`] of what may be part of a transaction, or its marker.
    ///
    /// # Errors
    /// When it is refused; nothing has changed then.
    pub fn append_verified(
        &self,
        bytes: &Bytes,
        options: &AppendOptions,
        survey: Option<&Survey>,
        verification: Verification,
    ) -> Result<Appended, AppendError> {
        let mut state = self.0.state.borrow_mut();
        match state.status {
            Status::Open if state.is_stopping => return Err(AppendError::Closed),
            Status::Open => {}
            Status::Fenced(reason) => return Err(AppendError::Fenced(reason)),
            Status::Closed => return Err(AppendError::Closed),
        }
        let verdict = state.check(bytes, options, survey, verification)?;
        if let Some(duplicate) = verdict.duplicate {
            return Ok(duplicate);
        }
        self.make_room(&mut state, bytes, &verdict, options)?;
        state.is_as_closed = false;
        let base_offset = state.end;
        let mut taken = 0;
        for (batch, newest) in batches(bytes).zip(&verdict.newest) {
            let batch = batch.expect("checked above");
            taken += self.append_batch(&mut state, &batch, *newest, options);
            state.producers.verifications.end(&batch, verification);
        }
        let appended = Appended {
            base_offset,
            last_offset: state.end.plus(-1),
            log_append_time: append_time(&state.config, options),
            log_start_offset: state.log_start,
            is_duplicate: false,
            is_flush_due: state.must_flush(),
        };
        let active = state.segments.last().expect("just appended to").base_offset;
        let starts_writing = !std::mem::replace(&mut state.is_writing, true);
        let need = state.need_after(position_of(bytes.len()));
        drop(state);
        let storage = &self.0.storage;
        storage.needs.note_append(
            position_of(bytes.len()),
            need,
            storage.options.unmarked_bytes_max,
        );
        if taken > 0 {
            self.0.storage.note_chunk(self, active, taken);
        }
        if starts_writing {
            self.start_writing();
        }
        Ok(appended)
    }

    /// Waits until so many bytes are not refused as busy.
    pub async fn wait_for_room(&self, bytes: usize) {
        let storage = &self.0.storage;
        // Nothing of it is held back meanwhile.
        let _waiter = (storage.durable_waiter(), self.awaiting());
        loop {
            let (mut synced, mut freed) = (self.0.durable.listen(), storage.freed.listen());
            let is_busy = {
                let state = self.0.state.borrow();
                state.status == Status::Open && state.is_busy(position_of(bytes), storage)
            };
            if !is_busy {
                return;
            }
            poll_fn(|context| {
                let is_synced = synced.poll(context.waker()).is_ready();
                let is_freed = freed.poll(context.waker()).is_ready();
                if is_synced || is_freed { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        }
    }

    /// Refuses where memory or disk do not suffice, and rolls where the segment is full.
    fn make_room(
        &self,
        state: &mut State,
        bytes: &Bytes,
        verdict: &Verdict,
        options: &AppendOptions,
    ) -> Result<(), AppendError> {
        let incoming = position_of(bytes.len());
        if state.is_busy(incoming, &self.0.storage) {
            return Err(AppendError::Busy);
        }
        let rolls = state.segments.last().is_none_or(|active| {
            active.phase != Phase::Active
                || must_roll(active, &state.config, state.end, incoming, verdict, options.now_ms)
        });
        let secured = if rolls {
            0
        } else {
            state.segments.last().map_or(0, |active| active.allocated.saturating_sub(active.size()))
        };
        if state.is_space_low && incoming > secured {
            let starts = !std::mem::replace(&mut state.is_securing, true);
            if starts {
                self.secure_in_background();
            }
            return Err(AppendError::NoSpace);
        }
        if rolls {
            let durable = state
                .segments
                .last()
                .filter(|active| active.phase == Phase::Active && active.durable == active.size())
                .map(|active| active.base_offset);
            state.roll(options.now_ms, self.runtime().random());
            if let Some(base_offset) = durable {
                self.finish_in_background(base_offset);
            }
        }
        Ok(())
    }

    fn append_batch(
        &self,
        state: &mut State,
        batch: &RecordBatch<'_>,
        max_timestamp: TimestampMs,
        options: &AppendOptions,
    ) -> usize {
        let base_offset = state.end;
        let last_offset = base_offset.plus(i64::from(batch.last_offset_delta()));
        let timestamps = (state.config.message_timestamp_type, max_timestamp);
        let head = new_head(batch, base_offset, options.leader_epoch, timestamps);
        let interval_bytes = u64::try_from(state.config.index_interval_bytes).unwrap_or(0);
        let segment = state.segments.last_mut().expect("room was made");
        assert!(segment.phase == Phase::Active, "the last segment is active");
        let position = segment.size();
        segment.indexes_mut().add(
            &IndexedBatch { last_offset, max_timestamp, position, size: position_of(batch.size()) },
            interval_bytes,
        );
        segment.first_timestamp.get_or_insert(max_timestamp);
        segment.modified_ms = options.now_ms;
        let taken = segment.tail.append(
            &self.0.storage.pool,
            TailBatch { base_offset, last_offset, max_timestamp, position },
            &head,
            &batch.bytes()[HEADER_BYTES..],
        );
        let completed = state.producers.note(batch, base_offset, max_timestamp);
        if let Some(step) = TransactionStep::of(batch) {
            let segment = state.segments.last_mut().expect("room was made");
            let completed = completed.as_ref();
            segment.transactions.note(batch.producer_id(), base_offset, step, completed);
        }
        if state.epochs.assign(options.leader_epoch, base_offset) {
            state.are_epochs_written = false;
        }
        state.end = last_offset.next();
        taken
    }
}

/// What the checks found.
struct Verdict {
    /// The append is there already.
    duplicate: Option<Appended>,
    /// How many offsets it takes.
    offsets: i64,
    max_timestamp: TimestampMs,
    /// The largest timestamp of each batch.
    newest: SmallVec<[TimestampMs; 1]>,
}

impl State {
    /// Whether so much waits for the disk already that nothing more may be added.
    fn is_busy(&self, incoming: u64, storage: &StorageInner) -> bool {
        let unfinished =
            self.segments.iter().rev().take_while(|segment| segment.phase != Phase::Finished);
        let waiting: u64 = unfinished.map(|segment| segment.size() - segment.durable).sum();
        let is_much = waiting + incoming > UNSYNCED_BYTES_MAX || storage.is_full();
        is_much && waiting > 0
    }

    fn check(
        &self,
        bytes: &[u8],
        options: &AppendOptions,
        survey: Option<&Survey>,
        verification: Verification,
    ) -> Result<Verdict, AppendError> {
        let segment_bytes_max = usize::try_from(self.config.segment_bytes).unwrap_or(0);
        let mut verdict = Verdict {
            duplicate: None,
            offsets: 0,
            max_timestamp: TimestampMs::NONE,
            newest: SmallVec::new(),
        };
        let mut judged: SmallVec<[(ProducerId, ProducerEpoch, Sequence); 1]> = SmallVec::new();
        let mut batch_count = 0;
        let (latest, found) = (self.epochs.latest(), options.leader_epoch);
        if found < latest {
            return Err(AppendError::StaleLeaderEpoch { latest, found });
        }
        for batch in batches(bytes) {
            let batch = batch.map_err(refusal)?;
            let newest = check_batch(&batch, &self.config, options, survey)?;
            if options.origin == AppendOrigin::Raft {
                let expected = self.end.plus(verdict.offsets);
                if batch.base_offset() != expected {
                    let found = batch.base_offset();
                    return Err(AppendError::UnexpectedOffset { expected, found });
                }
            }
            if options.origin == AppendOrigin::Client && batch.producer_id().0 >= 0 {
                match self.producers.judge(&batch, &judged)? {
                    Judgement::New => self.producers.judge_beginning(&batch, verification)?,
                    Judgement::Duplicate { base_offset, last_offset, timestamp } => {
                        verdict.duplicate = Some(Appended {
                            base_offset,
                            last_offset,
                            log_append_time: match self.config.message_timestamp_type {
                                TimestampType::CreateTime => TimestampMs::NONE,
                                TimestampType::LogAppendTime => timestamp,
                            },
                            log_start_offset: self.log_start,
                            is_duplicate: true,
                            is_flush_due: self.must_flush(),
                        });
                    }
                }
                judged.push((batch.producer_id(), batch.producer_epoch(), batch.last_sequence()));
            }
            if options.origin == AppendOrigin::Coordinator && batch.producer_id().0 >= 0 {
                self.judge_by_coordinator(&batch, verification)?;
            }
            verdict.offsets += i64::from(batch.last_offset_delta()) + 1;
            let timestamp = match append_time(&self.config, options) {
                TimestampMs::NONE => newest,
                now => now,
            };
            verdict.newest.push(timestamp);
            verdict.max_timestamp = verdict.max_timestamp.max(timestamp);
            batch_count += 1;
        }
        if batch_count == 0 {
            return Err(AppendError::InvalidRecord("no batch".to_owned()));
        }
        if verdict.duplicate.is_some() && batch_count > 1 {
            let what = "several batches of which one is there already";
            return Err(AppendError::InvalidRecord(what.to_owned()));
        }
        if bytes.len() > segment_bytes_max {
            let (size, max) = (bytes.len(), segment_bytes_max);
            return Err(AppendError::RecordListTooLarge { size, max });
        }
        Ok(verdict)
    }

    /// Judges a marker, or records of a coordinator that are part of a transaction.
    fn judge_by_coordinator(
        &self,
        batch: &RecordBatch<'_>,
        verification: Verification,
    ) -> Result<(), AppendError> {
        match verification {
            Verification::Marker(version) => self.producers.judge_marker(batch, version),
            Verification::Off if batch.is_control() => self.producers.judge_marker(batch, 0),
            Verification::Off | Verification::Needed(_) => {
                self.producers.judge_epoch(batch)?;
                self.producers.judge_beginning(batch, verification)
            }
        }
    }

    /// Begins a new active segment at the log's end; its file comes with its first write.
    pub(crate) fn roll(&mut self, now_ms: i64, random: u64) {
        if let Some(active) = self.segments.last_mut()
            && active.phase == Phase::Active
        {
            active.phase = Phase::Rolled;
            active.indexes_mut().finish();
        }
        let mut segment = Segment::new(self.end, now_ms);
        segment.roll_jitter_ms = roll_jitter_ms(&self.config, random);
        self.segments.push(segment);
    }
}

/// Checks a batch by itself; gives its largest timestamp.
fn check_batch(
    batch: &RecordBatch<'_>,
    config: &TopicConfig,
    options: &AppendOptions,
    survey: Option<&Survey>,
) -> Result<TimestampMs, AppendError> {
    // A start takes nothing larger for a batch: one that was acknowledged would be cut off.
    let size_max = usize::try_from(config.max_message_bytes).unwrap_or(0).min(BATCH_BYTES_MAX);
    if batch.size() > size_max && options.origin != AppendOrigin::Raft {
        return Err(AppendError::MessageTooLarge { size: batch.size(), max: size_max });
    }
    batch.verify_crc().map_err(refusal)?;
    batch.check_counts(Counts::Dense).map_err(refusal)?;
    if options.origin != AppendOrigin::Client {
        batch.check_records(Counts::Dense).map_err(refusal)?;
        return Ok(batch.max_timestamp());
    }
    if batch.is_control() {
        return Err(AppendError::InvalidRecord("a producer may write no control batch".to_owned()));
    }
    if batch.producer_id().0 >= 0 && batch.base_sequence().0 < 0 {
        return Err(AppendError::InvalidRecord("a producer id without a sequence".to_owned()));
    }
    let summary = match (batch.compression(), survey) {
        (_, Some(survey)) => *survey,
        (Compression::None, None) => batch.summarize(Counts::Dense),
        (_, None) => summarize_compressed(batch, decompressed_max(config)),
    };
    let summary = summary.map_err(refusal)?;
    let rules = RecordRules::of(config, batch, options.now_ms);
    if rules.allow(&summary) { Ok(summary.newest) } else { Err(AppendError::RecordsRefused(rules)) }
}

fn decompressed_max(config: &TopicConfig) -> usize {
    usize::try_from(config.max_decompressed_message_bytes).unwrap_or(0)
}

/// Where nobody has surveyed the batch: at one go.
fn summarize_compressed(batch: &RecordBatch<'_>, max: usize) -> Survey {
    let mut scan = RecordScan::new(*batch, Counts::Dense, max)?;
    let mut summary = RecordSummary::EMPTY;
    let mut progress = Progress::More;
    while progress == Progress::More {
        progress = scan.step(|record| {
            summary.add(record.timestamp, record.has_key);
            Progress::More
        })?;
    }
    Ok(RecordSummary { bytes: scan.bytes(), ..summary })
}

fn refusal(error: BatchError) -> AppendError {
    match error {
        BatchError::UnsupportedMagic(magic) => AppendError::UnsupportedFormat(magic),
        BatchError::TooLarge { size, max } => AppendError::MessageTooLarge { size, max },
        BatchError::Truncated { .. }
        | BatchError::InvalidLength(_)
        | BatchError::WrongCrc { .. } => AppendError::Corrupt(error),
        BatchError::UnknownCompression(_)
        | BatchError::InvalidOffsets
        | BatchError::InvalidRecordCount { .. }
        | BatchError::InvalidRecord { .. }
        | BatchError::Undecodable(_) => AppendError::InvalidRecord(error.to_string()),
    }
}

/// The broker's time where the topic wants it in the batches.
fn append_time(config: &TopicConfig, options: &AppendOptions) -> TimestampMs {
    match config.message_timestamp_type {
        TimestampType::CreateTime => TimestampMs::NONE,
        TimestampType::LogAppendTime => TimestampMs(options.now_ms),
    }
}

/// The header as it goes into the log. Only what tells of its timestamps is under the CRC: the
/// broker's time, or the largest of the records where the producer's header says another.
fn new_head(
    batch: &RecordBatch<'_>,
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
    timestamps: (TimestampType, TimestampMs),
) -> [u8; HEADER_BYTES] {
    let bytes = batch.bytes();
    let mut head: [u8; HEADER_BYTES] =
        bytes[..HEADER_BYTES].try_into().expect("a batch has a header");
    let mut put = |at: usize, field: &[u8]| head[at..at + field.len()].copy_from_slice(field);
    put(position::BASE_OFFSET, &base_offset.0.to_be_bytes());
    put(position::PARTITION_LEADER_EPOCH, &leader_epoch.0.to_be_bytes());
    if timestamps != (batch.timestamp_type(), batch.max_timestamp()) {
        let (timestamp_type, max_timestamp) = timestamps;
        let attributes = match timestamp_type {
            TimestampType::CreateTime => batch.attributes() & !attribute::LOG_APPEND_TIME,
            TimestampType::LogAppendTime => batch.attributes() | attribute::LOG_APPEND_TIME,
        };
        put(position::ATTRIBUTES, &attributes.to_be_bytes());
        put(position::MAX_TIMESTAMP, &max_timestamp.0.to_be_bytes());
        let crc = crc32c::crc32c(&head[position::ATTRIBUTES..]);
        let crc = crc32c::crc32c_append(crc, &bytes[HEADER_BYTES..]);
        head[position::CRC..position::CRC + 4].copy_from_slice(&crc.to_be_bytes());
    }
    head
}

/// A number below `segment.jitter.ms` and `segment.ms`.
fn roll_jitter_ms(config: &TopicConfig, random: u64) -> i64 {
    let bound = config.segment_jitter_ms.min(config.segment_ms);
    match u64::try_from(bound) {
        Ok(bound) if bound > 0 => i64::try_from(random % bound).expect("below an i64"),
        Ok(_) | Err(_) => 0,
    }
}

/// True if the append may not go into the active segment: by the rules of Apache Kafka.
fn must_roll(
    active: &Segment,
    config: &TopicConfig,
    end: Offset,
    incoming: u64,
    verdict: &Verdict,
    now_ms: i64,
) -> bool {
    if active.size() == 0 {
        return false;
    }
    let segment_bytes = u64::try_from(config.segment_bytes).unwrap_or(0);
    let last_delta = end.0 + verdict.offsets - 1 - active.base_offset.0;
    // An active segment is not compacted: it may not keep its records from it for longer.
    let segment_ms = match config.cleanup_policy.compact {
        true => config.segment_ms.min(config.max_compaction_lag_ms),
        false => config.segment_ms,
    };
    let index_bytes = length_of(u64::try_from(config.segment_index_bytes).unwrap_or(0));
    let age_ms = match active.first_timestamp {
        Some(first) if first.0 >= 0 => verdict.max_timestamp.0.saturating_sub(first.0),
        Some(_) | None => now_ms.saturating_sub(active.created_ms),
    };
    active.size() + incoming > segment_bytes
        || last_delta > i64::from(i32::MAX)
        || age_ms > segment_ms - active.roll_jitter_ms
        || active.indexes.as_ref().is_some_and(|indexes| indexes.are_full(index_bytes))
}
