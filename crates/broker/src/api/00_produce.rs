//! Produce, versions 3 to 13.
//!
//! [`dispatch`] gives every batch its place: it appends what belongs to this shard and sends ONE
//! message to each other shard that owns something of it. [`Dispatched::answer`] waits: acks=1
//! until the batches are written, acks=all until they are below the high watermark: on disk, or
//! written where the topic has `durability=replicated`.
//!
//! Record bytes are slices of the receive buffer; the append copies them once, into the log's open
//! chunk. Nothing holds the buffer after that ([`without_records`]): the next frame is received into
//! memory that the caches know. Compressed batches are looked into before they are sent on
//! (`record_survey`), and what is for a topic with a codec of its own is recompressed
//! (`recompression`).

use std::{cell::RefCell, future::Future, pin::Pin, rc::Rc, time::Duration};

use bytes::{Buf, Bytes};
use coordinator::transactions::ProducerIdentity;
use model::{
    ErrorCode, Offset, PartitionId, TopicId, TopicPartition, collections::BTreeMap,
    record_batch::RecordBatch,
};
use runtime::{
    Elapsed, Instant, Runtime, ShardIndex,
    local::{Oneshot, oneshot},
};
use smallvec::SmallVec;
use storage::{
    AppendError, AppendOptions, AppendOrigin, Log, RecordRules, Survey, Verification, WaitError,
};
use wire::{
    Encoded, frame,
    produce_request::ProduceRequest,
    produce_response::{
        BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
    },
};

use super::{
    Refusal, is_offered,
    produce_checks::{is_compressed, is_one_batch, sound},
};
use crate::{
    backlog::Attempt,
    connection::Connection,
    error_map,
    frame_reader::SMALL_BYTES,
    peers::{Answering, Call, CallPlace},
    record_survey,
    shard::{Partition, Shard},
    stages::{AppendTimes, Stage, StageTimes},
    topic_settings::is_internal,
    verification::{Entered, Membership, Transactional},
};

/// From this version on topics are named by id.
const TOPIC_ID_FROM_VERSION: i16 = 13;
/// From this version on clients know TRANSACTION_ABORTABLE (KIP-890).
const ABORTABLE_FROM_VERSION: i16 = 11;
/// From this version on partitions come into transactions with their batches (KIP-890).
const ADDED_FROM_VERSION: i16 = 12;
/// Before this version nobody knew zstd (KIP-110).
const ZSTD_FROM_VERSION: i16 = 7;
/// Who may write to Kafka's own topics, as in Apache Kafka.
const ADMIN_CLIENT_ID: &str = "__admin_client";
/// Where a batch tells its format, and the last of the formats.
const MAGIC_POSITION: usize = 16;
const MAGIC_MAX: u8 = 2;
/// So much recompressed is held before it is sent to its shard: a request of small batches that
/// are large when decompressed takes no more than that and one batch.
const RECOMPRESSED_BYTES_MAX: usize = 8 << 20;

/// How long and for what a produce is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Acks {
    None,
    Leader,
    All,
}

/// A produce whose batches have their places, or are on their way to the shards that give them.
pub(crate) struct Dispatched {
    runtime: Runtime,
    acks: Option<Acks>,
    calls: Calls,
    /// For each partition of the request, in its order, where its answer comes from.
    places: Vec<Place>,
    /// Whose all of its partitions are, if they are one shard's.
    pub(crate) owner: Option<ShardIndex>,
}

/// A call that was answered.
#[derive(Clone, Copy)]
struct Called {
    sent: Instant,
    place: CallPlace,
    times: AppendTimes,
}

#[derive(Clone, Copy)]
enum Place {
    /// Refused before it got to a shard.
    Refused(ErrorCode),
    /// Not in the transaction, for all that the coordinator says.
    Unverified(ErrorCode),
    /// The answer of a shard, by its number and the place in its answers.
    Shard { shard: usize, index: usize },
}

/// One partition's share of a produce, on its way to its owner.
struct Share {
    topic: TopicId,
    partition: PartitionId,
    records: Bytes,
    /// What its records are, if they are or were compressed.
    survey: Option<Survey>,
    /// What is known of its transaction.
    verification: Verification,
}

/// What became of it.
struct Produced {
    error: ErrorCode,
    message: Option<String>,
    /// What some of its records were refused by, and they; which, is found out for the answer.
    refused_by: Option<(RecordRules, Bytes)>,
    refused_records: Vec<(i32, String)>,
    base_offset: i64,
    log_append_time_ms: i64,
    log_start_offset: i64,
}

impl Produced {
    fn refused(error: ErrorCode) -> Produced {
        Produced {
            error,
            message: None,
            refused_by: None,
            refused_records: Vec::new(),
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: -1,
        }
    }
}

struct ProduceShares {
    shares: Vec<Share>,
    acks: Acks,
    timeout: Duration,
}

/// Decodes a produce and gives its batches their places, in order with earlier ones. With it comes
/// what of the frame is needed for the answer: the rest of a large one is let go as soon as it is in
/// its logs.
///
/// # Errors
/// When the connection cannot go on.
pub(crate) async fn dispatch(
    shard: &Rc<Shard>,
    frame: Bytes,
) -> Result<(Dispatched, Bytes), Refusal> {
    let (head, body) = frame::decode_request_header(&frame)?;
    if !is_offered(&shard.config, head.key, head.version) {
        return Err(Refusal::NotOffered { key: head.key, version: head.version });
    }
    let request: ProduceRequest<'_> = frame::decode_body(body, head.version)?;
    let acks = match request.acks {
        0 => Some(Acks::None),
        1 => Some(Acks::Leader),
        -1 => Some(Acks::All),
        _ => None,
    };
    let (refusal, entered) = match enter_transaction(shard, &request, head.version).await {
        Ok(entered) => (None, entered),
        Err(error) => (Some(error), EnteredPartitions::default()),
    };
    let refuses_zstd = head.version < ZSTD_FROM_VERSION;
    let mut shares: SmallVec<[(ShardIndex, Vec<Share>); 2]> = SmallVec::new();
    let mut places = Vec::new();
    {
        let image = shard.image.borrow();
        for topic in &request.topic_data {
            let found = if head.version >= TOPIC_ID_FROM_VERSION {
                image.topic(topic.topic_id).ok_or(ErrorCode::UnknownTopicId)
            } else {
                image.topic_by_name(topic.name).ok_or(ErrorCode::UnknownTopicOrPartition)
            };
            for data in &topic.partition_data {
                let partition = PartitionId(data.index);
                let owner = found.and_then(|topic| {
                    let owner = shard.owner_of(topic.id, partition);
                    let owner = owner.ok_or(ErrorCode::UnknownTopicOrPartition)?;
                    let is_closed =
                        is_internal(&topic.name) && head.client_id != Some(ADMIN_CLIENT_ID);
                    Ok((topic.id, owner, is_closed))
                });
                let records = data.records.as_ref().and_then(wire::Records::as_borrowed);
                let judged = match refusal {
                    Some(error) => Err(error),
                    None => owner.and_then(|found| {
                        let records = sound(records, refuses_zstd, acks.is_some(), found.2)?;
                        Ok((found.0, found.1, records))
                    }),
                };
                let place = match judged {
                    Err(error) => Place::Refused(error),
                    Ok((topic, owner, records)) => match entered.of(topic, partition) {
                        Err(error) => Place::Unverified(error),
                        Ok(verification) => {
                            let records = wire::subslice(&frame, records);
                            let share =
                                Share { topic, partition, records, survey: None, verification };
                            add_share(&mut shares, owner, share)
                        }
                    },
                };
                places.push(place);
            }
        }
    }
    let owner = if let [(owner, _)] = shares.as_slice() { Some(*owner) } else { None };
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let kept =
        if frame.len() <= SMALL_BYTES { frame.clone() } else { without_records(&head, request)? };
    let calls = send_all(shard, shares, acks.unwrap_or(Acks::None), timeout).await;
    let runtime = shard.runtime.clone();
    Ok((Dispatched { runtime, acks, calls, places, owner }, kept))
}

/// The same request but for its records, which are what is large in it.
fn without_records(
    head: &frame::RequestHead<'_>,
    mut request: ProduceRequest<'_>,
) -> Result<Bytes, Refusal> {
    for data in request.topic_data.iter_mut().flat_map(|topic| &mut topic.partition_data) {
        data.records = None;
    }
    let encoded =
        frame::encode_request(head.correlation_id, head.client_id, head.version, &request)?;
    let mut frame = encoded.into_bytes();
    frame.advance(frame::SIZE_BYTES);
    Ok(frame)
}

/// What was sent on; to one shard there can be several.
type Calls = SmallVec<[ProduceCall; 2]>;

struct ProduceCall {
    /// The number of its shard.
    shard: usize,
    sent: Instant,
    answering: Answering<(Vec<Produced>, AppendTimes)>,
}

/// Sends every shard its shares, once they were looked into.
async fn send_all(
    shard: &Rc<Shard>,
    shares: SmallVec<[(ShardIndex, Vec<Share>); 2]>,
    acks: Acks,
    timeout: Duration,
) -> Calls {
    let send = async |index, owner, shares| {
        let sent = shard.runtime.now();
        let answering = shard.call(owner, ProduceShares { shares, acks, timeout }).await;
        ProduceCall { shard: index, sent, answering }
    };
    let may_recompress = shard.own_codecs.are_any();
    let mut calls = Calls::new();
    for (index, (owner, mut shares)) in shares.into_iter().enumerate() {
        if may_recompress {
            let mut recompressed_bytes = 0;
            let mut ready = Vec::with_capacity(shares.len());
            for mut share in shares {
                recompressed_bytes += recompress(shard, &mut share).await;
                look_into(shard, &mut share).await;
                ready.push(share);
                if recompressed_bytes > RECOMPRESSED_BYTES_MAX {
                    recompressed_bytes = 0;
                    calls.push(send(index, owner, std::mem::take(&mut ready)).await);
                }
            }
            shares = ready;
        } else {
            for share in &mut shares {
                look_into(shard, share).await;
            }
        }
        if !shares.is_empty() {
            calls.push(send(index, owner, shares).await);
        }
    }
    calls
}

fn topic_name(shard: &Shard, share: &Share) -> String {
    let image = shard.image.borrow();
    image.topic(share.topic).map(|topic| topic.name.clone()).unwrap_or_default()
}

/// Gives a share the records that its topic wants; tells how many bytes were made for it.
async fn recompress(shard: &Shard, share: &mut Share) -> usize {
    match shard.recompress(&topic_name(shard, share), &share.records).await {
        None => 0,
        Some((records, survey)) => {
            *share = Share { records, survey: Some(survey), ..*share };
            share.records.len()
        }
    }
}

/// Finds out what the records of a share are, where nobody knows and the log cannot see it.
async fn look_into(shard: &Shard, share: &mut Share) {
    if share.survey.is_none() && is_compressed(&share.records) {
        let max = shard.decompressed_max(&topic_name(shard, share));
        share.survey = record_survey::survey(&shard.runtime, &share.records, max).await;
    }
}

/// The partitions of a request whose batches are part of a transaction.
#[derive(Default)]
struct EnteredPartitions(BTreeMap<TopicPartition, Result<Verification, ErrorCode>>);

impl EnteredPartitions {
    fn of(&self, topic: TopicId, partition: PartitionId) -> Result<Verification, ErrorCode> {
        let known = self.0.get(&TopicPartition { topic, partition });
        known.copied().unwrap_or(Ok(Verification::Off))
    }
}

/// Finds out whether the partitions of a request are in its transaction.
///
/// # Errors
/// When all of the request is refused.
async fn enter_transaction(
    shard: &Rc<Shard>,
    request: &ProduceRequest<'_>,
    version: i16,
) -> Result<EnteredPartitions, ErrorCode> {
    let mut producers: SmallVec<[ProducerIdentity; 1]> = SmallVec::new();
    let mut partitions: Vec<Entered> = Vec::new();
    {
        let image = shard.image.borrow();
        for topic in &request.topic_data {
            for data in &topic.partition_data {
                let records = data.records.as_ref().and_then(wire::Records::as_borrowed);
                let batch = records.and_then(|records| RecordBatch::first(records).ok());
                let Some(batch) = batch.filter(RecordBatch::is_transactional) else { continue };
                let (id, epoch) = (batch.producer_id(), batch.producer_epoch());
                let producer = ProducerIdentity { id, epoch };
                if !producers.contains(&producer) {
                    producers.push(producer);
                }
                let found = if version >= TOPIC_ID_FROM_VERSION {
                    image.topic(topic.topic_id)
                } else {
                    image.topic_by_name(topic.name)
                };
                let Some(found) = found else { continue };
                let partition = PartitionId(data.index);
                if let Some(owner) = shard.owner_of(found.id, partition) {
                    partitions.push(Entered {
                        id: TopicPartition { topic: found.id, partition },
                        owner,
                        topic: found.name.clone(),
                        sequence: batch.base_sequence(),
                    });
                }
            }
        }
    }
    let producer = match producers.as_slice() {
        [] => return Ok(EnteredPartitions::default()),
        [producer] => *producer,
        _ => return Err(ErrorCode::InvalidProducerIdMapping),
    };
    // Whoever may not write as this transactional id is told so, and so is who names none.
    let transactional_id =
        request.transactional_id.ok_or(ErrorCode::TransactionalIdAuthorizationFailed)?;
    let membership = Membership::of(version, ABORTABLE_FROM_VERSION, ADDED_FROM_VERSION);
    let transactional = Transactional { transactional_id, producer, membership };
    let results = shard.enter_transaction(&transactional, &partitions).await;
    let ids = partitions.iter().map(|one| one.id);
    Ok(EnteredPartitions(ids.zip(results).collect()))
}

/// What a producer is told of a partition that could not be found to be in its transaction. What
/// passes is an error that clients of all ages try again after.
fn unverified(error: ErrorCode) -> (ErrorCode, Option<&'static str>) {
    let passing = |message| (ErrorCode::NotEnoughReplicas, Some(message));
    if error == ErrorCode::InvalidTxnState {
        (error, Some("the partition is not in the transaction"))
    } else if error == ErrorCode::ConcurrentTransactions {
        passing("not known whether the partition is in the transaction: CONCURRENT_TRANSACTIONS")
    } else if error == ErrorCode::CoordinatorNotAvailable {
        passing("not known whether the partition is in the transaction: COORDINATOR_NOT_AVAILABLE")
    } else if error == ErrorCode::CoordinatorLoadInProgress {
        passing(
            "not known whether the partition is in the transaction: COORDINATOR_LOAD_IN_PROGRESS",
        )
    } else if error == ErrorCode::NotCoordinator {
        passing("not known whether the partition is in the transaction: NOT_COORDINATOR")
    } else {
        (error, None)
    }
}

fn add_share(
    shares: &mut SmallVec<[(ShardIndex, Vec<Share>); 2]>,
    owner: ShardIndex,
    share: Share,
) -> Place {
    let shard = shares.iter().position(|(known, _)| *known == owner).unwrap_or_else(|| {
        shares.push((owner, Vec::new()));
        shares.len() - 1
    });
    shares[shard].1.push(share);
    Place::Shard { shard, index: shares[shard].1.len() - 1 }
}

impl Dispatched {
    /// Waits for the batches as `acks` asks and makes the answer; none for acks=0. At `taken` all
    /// earlier requests of the connection were answered.
    pub(crate) async fn answer(
        self,
        connection: &Connection,
        frame: &Bytes,
        taken: Instant,
    ) -> Result<Option<Encoded>, Refusal> {
        let mut produced: Vec<Vec<Produced>> = Vec::new();
        let mut slowest: Option<Called> = None;
        for ProduceCall { shard, sent, answering } in self.calls {
            let place = answering.place();
            let (answer, times) = answering.answer().await;
            if slowest.is_none_or(|other| times.finished > other.times.finished) {
                slowest = Some(Called { sent, place, times });
            }
            if shard == produced.len() {
                produced.push(answer);
            } else {
                produced[shard].extend(answer);
            }
        }
        if let Some(call) = slowest {
            let mut spent = StageTimes::default();
            spent.add_append(call.sent, &call.times);
            // What was done before its turn came has waited for that, and not on the way back.
            spent.add(Stage::Queue, taken - call.times.finished);
            if call.place == CallPlace::There {
                let now = self.runtime.now();
                spent.add(Stage::Hop, now - taken.max(call.times.finished));
            }
            connection.add_spent(&spent);
        }
        if self.acks == Some(Acks::None) {
            let failed = produced.iter().flatten().any(|one| one.error != ErrorCode::None)
                || self.places.iter().any(|place| !matches!(place, Place::Shard { .. }));
            if failed {
                // As Apache Kafka does: nobody reads an error, so the connection says it.
                return Err(Refusal::FailedWithoutAcks);
            }
            return Ok(None);
        }
        let (head, body) = frame::decode_request_header(frame)?;
        let request: ProduceRequest<'_> = frame::decode_body(body, head.version)?;
        for one in produced.iter_mut().flatten() {
            if let Some((rules, records)) = one.refused_by.take() {
                let refused = record_survey::refused(&self.runtime, &records, &rules).await;
                (one.error, one.refused_records) = (refused.error, refused.records);
            }
        }
        let mut places = self.places.iter();
        let responses = request
            .topic_data
            .iter()
            .map(|topic| TopicProduceResponse {
                name: topic.name,
                topic_id: topic.topic_id,
                partition_responses: topic
                    .partition_data
                    .iter()
                    .map(|data| {
                        let place = places.next().expect("a place for every partition");
                        partition_response(data.index, *place, &produced)
                    })
                    .collect(),
            })
            .collect();
        let response = ProduceResponse { responses, ..Default::default() };
        Ok(Some(frame::encode_response(head.correlation_id, head.version, &response)?))
    }
}

fn partition_response(
    index: i32,
    place: Place,
    produced: &[Vec<Produced>],
) -> PartitionProduceResponse<'_> {
    match place {
        Place::Refused(error) => PartitionProduceResponse {
            index,
            error_code: error.code(),
            base_offset: -1,
            ..Default::default()
        },
        Place::Unverified(error) => {
            let (error, message) = unverified(error);
            PartitionProduceResponse {
                index,
                error_code: error.code(),
                base_offset: -1,
                error_message: message,
                ..Default::default()
            }
        }
        Place::Shard { shard, index: at } => {
            let one = &produced[shard][at];
            PartitionProduceResponse {
                index,
                error_code: one.error.code(),
                base_offset: one.base_offset,
                log_append_time_ms: one.log_append_time_ms,
                log_start_offset: one.log_start_offset,
                record_errors: one
                    .refused_records
                    .iter()
                    .map(|(index, message)| BatchIndexAndErrorMessage {
                        batch_index: *index,
                        batch_index_error_message: Some(message),
                    })
                    .collect(),
                error_message: one.message.as_deref(),
                ..Default::default()
            }
        }
    }
}

impl Call for ProduceShares {
    type Answer = (Vec<Produced>, AppendTimes);

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Answer> + 'static {
        let runtime = shard.runtime.clone();
        let started = runtime.now();
        let deadline = started + self.timeout;
        let acks = self.acks;
        let shares = self.shares.into_iter();
        let placed: Vec<Placed> = shares.map(|share| place(shard, share, acks, deadline)).collect();
        let mut times = AppendTimes::begin(started, runtime.now());
        async move {
            let mut produced = Vec::with_capacity(placed.len());
            for one in placed {
                produced.push(one.finish(&runtime, deadline, &mut times).await);
            }
            (produced, times)
        }
    }
}

/// A batch that has its place in the log, or in the queue for it.
enum Placed {
    Appended(Appended),
    Waits {
        /// Taken when its time is up: then it is not appended any more.
        share: Rc<RefCell<Option<Share>>>,
        /// With the time of the append.
        appended: Oneshot<(Appended, Instant)>,
    },
}

/// What an append was answered, and what is to be waited for. The wait has begun: what is taken
/// back later is then told apart.
struct Appended {
    produced: Produced,
    wait: Option<Wait>,
}

impl Placed {
    async fn finish(
        self,
        runtime: &Runtime,
        deadline: Instant,
        times: &mut AppendTimes,
    ) -> Produced {
        let Appended { produced, wait } = match self {
            Placed::Appended(appended) => appended,
            Placed::Waits { share, appended } => {
                match runtime.deadline(deadline, appended.receive()).await {
                    Ok(Some((appended, at))) => {
                        times.note_appended(at);
                        appended
                    }
                    Ok(None) => return Produced::refused(ErrorCode::NotLeaderOrFollower),
                    Err(_) => {
                        drop(share.take());
                        times.note_appended(runtime.now());
                        return Produced::refused(ErrorCode::RequestTimedOut);
                    }
                }
            }
        };
        let Some(wait) = wait else { return produced };
        let (waited, wait_times) = wait.finish(runtime, deadline).await;
        times.note_written(wait_times.written);
        times.note_finished(wait_times.finished);
        match waited {
            Ok(Ok(())) => produced,
            Ok(Err(error)) => Produced::refused(error_map::wait(&error)),
            Err(_) => Produced::refused(ErrorCode::RequestTimedOut),
        }
    }
}

/// Appends a batch, or puts it behind those of its partition that wait for room.
fn place(shard: &Rc<Shard>, share: Share, acks: Acks, deadline: Instant) -> Placed {
    let Some(partition) = shard.partition(share.topic, share.partition) else {
        return Placed::refused(ErrorCode::NotLeaderOrFollower);
    };
    if !is_one_batch(&share.records) {
        let has_format = share.records.get(MAGIC_POSITION).is_none_or(|magic| *magic <= MAGIC_MAX);
        let error = if has_format { ErrorCode::InvalidRecord } else { ErrorCode::CorruptMessage };
        return Placed::refused(error);
    }
    if partition.backlog.is_empty()
        && let Some(appended) = append(shard, &partition, &share, acks)
    {
        return Placed::Appended(appended);
    }
    let bytes = share.records.len();
    let share = Rc::new(RefCell::new(Some(share)));
    let (sender, receiver) = oneshot();
    let mut sender = Some(sender);
    let attempt = {
        let (shard, partition, share) =
            (Rc::clone(shard), Rc::clone(&partition), Rc::clone(&share));
        move || {
            let mut waiting = share.borrow_mut();
            let now = shard.runtime.now();
            let Some(one) = waiting.as_ref().filter(|_| now < deadline) else {
                *waiting = None;
                return Attempt::Over;
            };
            let Some(appended) = append(&shard, &partition, one, acks) else {
                return Attempt::Busy;
            };
            *waiting = None;
            if let Some(sender) = sender.take() {
                sender.send((appended, now));
            }
            Attempt::Over
        }
    };
    if !partition.append_later(shard, bytes, attempt) {
        return Placed::refused(error_map::append(&AppendError::Busy));
    }
    Placed::Waits { share, appended: receiver }
}

impl Placed {
    fn refused(error: ErrorCode) -> Placed {
        Placed::Appended(Appended { produced: Produced::refused(error), wait: None })
    }
}

/// What an answer waits for.
struct Wait {
    log: Log,
    end: Offset,
    until: WaitedFor,
    outcome: Pin<Box<dyn Future<Output = Result<(), WaitError>>>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WaitedFor {
    Written,
    Durable,
}

impl Wait {
    fn of(log: &Log, appended: &storage::Appended, acks: Acks) -> Option<Wait> {
        let wait = |until, outcome| Wait { log: log.clone(), end: appended.end(), until, outcome };
        match acks {
            Acks::None => None,
            Acks::Leader => {
                let until =
                    if appended.is_flush_due { WaitedFor::Durable } else { WaitedFor::Written };
                Some(wait(until, Box::pin(log.wait_for_leader(appended))))
            }
            Acks::All => Some(wait(WaitedFor::Durable, Box::pin(log.wait_acknowledged(appended)))),
        }
    }

    async fn finish(self, runtime: &Runtime, deadline: Instant) -> (Waited, WaitTimes) {
        let waited = runtime.deadline(deadline, self.outcome).await;
        let written = self.log.written_at(self.end);
        let finished = match (&waited, self.until) {
            (Ok(Ok(())), WaitedFor::Written) => written,
            // With durability=replicated it may be written alone.
            (Ok(Ok(())), WaitedFor::Durable) => self.log.durable_at(self.end).or(written),
            (Ok(Err(_)) | Err(_), _) => None,
        };
        let now = || runtime.now();
        let times = WaitTimes {
            written: written.unwrap_or_else(now),
            finished: finished.unwrap_or_else(now),
        };
        (waited, times)
    }
}

type Waited = Result<Result<(), WaitError>, Elapsed>;

/// When what was waited for came, or was given up.
struct WaitTimes {
    written: Instant,
    finished: Instant,
}

/// Whether an answer with this error has the log start offset, which Apache Kafka's has unless the
/// error says that there is no such log here, or that the batch was not looked into.
fn tells_log_start(error: ErrorCode) -> bool {
    !matches!(
        error,
        ErrorCode::UnknownTopicOrPartition
            | ErrorCode::NotLeaderOrFollower
            | ErrorCode::MessageTooLarge
            | ErrorCode::RecordListTooLarge
            | ErrorCode::CorruptMessage
            | ErrorCode::KafkaStorageError
    )
}

/// Appends one partition's batch; `None` where there is no room for it yet.
fn append(shard: &Shard, partition: &Partition, share: &Share, acks: Acks) -> Option<Appended> {
    let options = AppendOptions {
        leader_epoch: partition.leader_epoch(),
        origin: AppendOrigin::Client,
        now_ms: shard.runtime.wall_clock_ms(),
    };
    let log = &partition.log;
    let survey = share.survey.as_ref();
    Some(match log.append_verified(&share.records, &options, survey, share.verification) {
        Ok(appended) => {
            let count = appended.last_offset.0 - appended.base_offset.0 + 1;
            let bytes = share.records.len() as u64;
            for traffic in shard.traffic_of(partition) {
                traffic.produced(u64::try_from(count).unwrap_or(0), bytes);
            }
            let produced = Produced {
                error: ErrorCode::None,
                message: None,
                refused_by: None,
                refused_records: Vec::new(),
                base_offset: appended.base_offset.0,
                log_append_time_ms: appended.log_append_time.0,
                log_start_offset: log.log_start_offset().0,
            };
            Appended { produced, wait: Wait::of(log, &appended, acks) }
        }
        Err(AppendError::Busy) => return None,
        Err(error) => {
            let code = error_map::append(&error);
            for traffic in shard.traffic_of(partition) {
                traffic.produce_failed();
            }
            tracing::debug!(partition = %partition.name(), %error, "append refused");
            let mut produced = Produced::refused(code);
            produced.message = Some(error.to_string());
            if tells_log_start(code) {
                produced.log_start_offset = log.log_start_offset().0;
            }
            if let AppendError::RecordsRefused(rules) = error {
                produced.refused_by = Some((rules, share.records.clone()));
            }
            Appended { produced, wait: None }
        }
    })
}
