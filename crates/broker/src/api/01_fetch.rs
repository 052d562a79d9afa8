//! Fetch, versions 4 to 18, with sessions.
//!
//! ONE message to each shard that owns something of what is fetched. A hot read gives slices of
//! the log's in-memory tail; they go to the socket as they are: no record byte is copied here.
//! With too little to send, the fetch waits until an owner reports growth, until its time is up or
//! the connection ends.

use std::{future::Future, rc::Rc, time::Duration};

use bytes::Bytes;
use model::{ErrorCode, LeaderEpoch, Offset, PartitionId, TopicId};
use runtime::{Instant, ShardIndex};
use smallvec::SmallVec;
use storage::{AbortedTransaction, CommittedRead, FirstBatch, Log};
use wire::{
    Records,
    fetch_request::FetchRequest,
    fetch_response::{
        self, EpochEndOffset, FetchResponse, FetchableTopicResponse, LeaderIdAndEpoch,
        PartitionData,
    },
};

use super::{
    Answer, Request,
    fetch_session::{Plan, Wanted},
    isolation::Isolation,
};
use crate::{
    answer_memory::Granted,
    connection::Connection,
    error_map,
    peers::{Call, CallPlace},
    shard::{Partition, Shard},
    slow::FetchedPartitions,
    stages::{Span, Stage},
};

/// From this version on topics are named by id.
const TOPIC_ID_FROM_VERSION: i16 = 13;
/// A shard is asked to watch for growth for at most so long at a time, so that a wait for a
/// connection that is gone ends.
const WATCH_MAX: Duration = Duration::from_secs(1);
/// What each of several owners may give at least, though it be more than its part: what a consumer
/// asks for of a partition by default, and a read of a file gives.
const OWNER_BYTES_MIN: usize = 1 << 20;

/// One partition's share of a fetch, on its way to its owner.
#[derive(Clone)]
struct Share {
    topic: TopicId,
    partition: PartitionId,
    offset: i64,
    max_bytes: usize,
    leader_epoch: i32,
    last_fetched_epoch: i32,
}

/// What one partition gives.
#[derive(Clone)]
struct Fetched {
    error: ErrorCode,
    high_watermark: i64,
    last_stable: i64,
    log_start: i64,
    leader_epoch: i32,
    diverging: Option<(i32, i64)>,
    slices: Vec<Bytes>,
    bytes: usize,
    /// The producer and the first offset of transactions that were aborted; for consumers of
    /// committed records alone.
    aborted: Option<Vec<(i64, i64)>>,
}

impl Fetched {
    fn refused(error: ErrorCode) -> Fetched {
        Fetched {
            error,
            high_watermark: -1,
            last_stable: -1,
            log_start: -1,
            leader_epoch: -1,
            diverging: None,
            slices: Vec::new(),
            bytes: 0,
            aborted: None,
        }
    }
}

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: FetchRequest<'_> = request.decode()?;
    let shard = request.shard;
    let refused = |error: ErrorCode| {
        request.respond(&FetchResponse { error_code: error.code(), ..Default::default() })
    };
    let by_id = request.head.version >= TOPIC_ID_FROM_VERSION;
    let new_id = i32::try_from(shard.runtime.random() >> 33).expect("31 bits").max(1);
    let plan = {
        let mut sessions = request.connection.sessions.borrow_mut();
        sessions.plan(&body, by_id, &shard.fetch_session_slots, new_id)
    };
    let (session, wanted, is_incremental) = match plan {
        Plan::Full { session, wanted } => (session, wanted, false),
        Plan::Incremental { session, wanted } => (session, wanted, true),
        Plan::Refused(error) => return refused(error),
    };
    let isolation = match Isolation::of(body.isolation_level) {
        Ok(isolation) => isolation,
        Err(error) => return refused(error),
    };
    let limits = Limits::of(shard, &body, isolation, &wanted);
    let (fetched, granted) = fetch_or_wait(request, &wanted, by_id, &limits).await;
    request.connection.held.hold(granted);
    let included: Vec<usize> = (0..wanted.len())
        .filter(|index| !is_incremental || has_news(&wanted[*index], &fetched[*index]))
        .collect();
    if session != 0 {
        let told: Vec<(usize, i64, i64)> = included
            .iter()
            .map(|index| {
                let one = &fetched[*index];
                // After an error everything is news.
                let watermark = if one.error == ErrorCode::None { one.high_watermark } else { -1 };
                (*index, watermark, one.log_start)
            })
            .collect();
        let sent: Vec<usize> =
            included.iter().copied().filter(|index| fetched[*index].bytes > 0).collect();
        request.connection.sessions.borrow_mut().told(session, &told, &sent);
    }
    let response = FetchResponse {
        session_id: session,
        responses: responses(shard, &wanted, &fetched, &included),
        ..Default::default()
    };
    request.respond(&response)
}

fn has_news(wanted: &Wanted, fetched: &Fetched) -> bool {
    fetched.bytes > 0
        || fetched.error != ErrorCode::None
        || fetched.diverging.is_some()
        || fetched.high_watermark != wanted.told_high_watermark.get()
        || fetched.log_start != wanted.told_log_start.get()
}

/// Whether owners read ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadAhead {
    Usual,
    Paused,
}

#[derive(Clone, Copy)]
struct Limits {
    bytes_min: usize,
    bytes_max: usize,
    /// What may come together: consumers ask for 50 MiB, and for 1 MiB of each of a few partitions.
    gathered_max: usize,
    deadline: Instant,
    isolation: Isolation,
    read_ahead: ReadAhead,
}

impl Limits {
    fn of(
        shard: &Shard,
        request: &FetchRequest<'_>,
        isolation: Isolation,
        wanted: &[Wanted],
    ) -> Limits {
        let size = |bytes: i32| usize::try_from(bytes).unwrap_or(0);
        let bytes_max = size(request.max_bytes).min(shard.config.fetch_max_bytes);
        let all = wanted.iter().map(|one| size(one.max_bytes)).fold(0, usize::saturating_add);
        let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
        Limits {
            bytes_min: size(request.min_bytes).min(bytes_max),
            bytes_max,
            gathered_max: bytes_max.min(all),
            deadline: shard.runtime.now() + wait,
            isolation,
            read_ahead: ReadAhead::Usual,
        }
    }

    /// The same for an answer that was granted `bytes`. What is read ahead is a MiB: it would not
    /// help one that gets less than it wants, and takes memory where there is little.
    fn granted(&self, bytes: usize) -> Limits {
        if bytes >= self.gathered_max {
            return *self;
        }
        let read_ahead = if bytes < OWNER_BYTES_MIN { ReadAhead::Paused } else { ReadAhead::Usual };
        let (bytes_min, bytes_max) = (self.bytes_min.min(bytes.max(1)), self.bytes_max.min(bytes));
        Limits { bytes_min, bytes_max, read_ahead, ..*self }
    }
}

/// Reads, and reads again after growth while there is too little to send.
async fn fetch_or_wait(
    request: &Request<'_>,
    wanted: &[Wanted],
    by_id: bool,
    wanted_limits: &Limits,
) -> (Vec<Fetched>, Granted) {
    let (shard, connection) = (request.shard, request.connection);
    let mut begun = shard.runtime.now();
    loop {
        // Given back while it waits: whoever has nothing to send holds nothing.
        let turn = shard.gather_turns.take(shard.answer_memory.is_scarce()).await;
        let mut granted = shard.answer_memory.grant(wanted_limits.gathered_max);
        let limits = &wanted_limits.granted(granted.bytes());
        let owners = owners_of(shard, wanted, by_id, limits);
        note_fetched(connection, &owners);
        let sent = shard.runtime.now();
        connection.spend(Stage::Queue, sent - begun);
        let (mut fetched, slowest) = gather(shard, wanted.len(), &owners, limits).await;
        let now = shard.runtime.now();
        if let Some((place, span)) = slowest {
            connection.spend(Stage::LogRead, span.finished - span.started);
            if place == CallPlace::There {
                connection.spend(Stage::Hop, (span.started - sent) + (now - span.finished));
            }
        }
        let bytes: usize = fetched.iter().map(|one| one.bytes).sum();
        let failed = fetched.iter().any(|one| one.error != ErrorCode::None);
        let diverged = fetched.iter().any(|one| one.diverging.is_some());
        let late = now >= limits.deadline;
        if bytes >= limits.bytes_min || failed || diverged || late || wanted.is_empty() {
            granted.gathered(fetched.iter_mut().map(|one| &mut one.slices));
            note_owner(connection, &owners);
            return (fetched, granted);
        }
        drop((granted, turn));
        wait_for_growth(shard, &owners, &fetched, limits).await;
        begun = shard.runtime.now();
        connection.spend(Stage::Pending, begun - now);
    }
}

fn note_owner(connection: &Connection, owners: &Owners) {
    match owners.shares.as_slice() {
        [] => {}
        [(owner, _)] => connection.home.note(Some(*owner)),
        _ => connection.home.note(None),
    }
}

fn note_fetched(connection: &Connection, owners: &Owners) {
    let first = owners.shares.first().and_then(|(_, shares)| shares.first());
    let count = owners.shares.iter().map(|(_, shares)| shares.len()).sum();
    connection.fetched.set(first.map(|(_, share)| FetchedPartitions {
        topic: share.topic,
        partition: share.partition,
        count,
    }));
}

/// The shares of one owner, each with its place in the request.
type OwnerShares = (ShardIndex, Vec<(usize, Share)>);

/// What each owner is asked for, and what cannot be asked of any.
struct Owners {
    shares: SmallVec<[OwnerShares; 2]>,
    refused: Vec<(usize, ErrorCode)>,
}

fn owners_of(shard: &Rc<Shard>, wanted: &[Wanted], by_id: bool, limits: &Limits) -> Owners {
    let image = shard.image.borrow();
    let mut owners = Owners { shares: SmallVec::new(), refused: Vec::new() };
    for (index, one) in wanted.iter().enumerate() {
        let topic = if by_id {
            image.topic(one.id).ok_or(ErrorCode::UnknownTopicId)
        } else {
            image.topic_by_name(&one.name).ok_or(ErrorCode::UnknownTopicOrPartition)
        };
        let partition = PartitionId(one.partition);
        let owner = topic.and_then(|topic| {
            let owner = shard.owner_of(topic.id, partition);
            owner.map(|owner| (topic.id, owner)).ok_or(ErrorCode::UnknownTopicOrPartition)
        });
        let (topic, owner) = match owner {
            Ok(found) => found,
            Err(error) => {
                owners.refused.push((index, error));
                continue;
            }
        };
        let share = Share {
            topic,
            partition,
            offset: one.offset,
            max_bytes: usize::try_from(one.max_bytes).unwrap_or(0).min(limits.bytes_max),
            leader_epoch: one.leader_epoch,
            last_fetched_epoch: one.last_fetched_epoch,
        };
        match owners.shares.iter_mut().find(|(known, _)| *known == owner) {
            Some((_, shares)) => shares.push((index, share)),
            None => owners.shares.push((owner, vec![(index, share)])),
        }
    }
    owners
}

/// What the owners give, and where and when the last of them gave its part.
async fn gather(
    shard: &Rc<Shard>,
    count: usize,
    owners: &Owners,
    limits: &Limits,
) -> (Vec<Fetched>, Option<(CallPlace, Span)>) {
    let mut answering: SmallVec<[_; 2]> = SmallVec::new();
    // What many owners gather together is not much more than what was granted.
    let fair = limits.bytes_max / owners.shares.len().max(1);
    let bytes_max = limits.bytes_max.min(fair.max(OWNER_BYTES_MIN));
    for (owner, shares) in &owners.shares {
        let call = FetchShares {
            shares: shares.iter().map(|(_, share)| share.clone()).collect(),
            bytes_max,
            isolation: limits.isolation,
            read_ahead: limits.read_ahead,
        };
        answering.push(shard.call(*owner, call).await);
    }
    let mut fetched = vec![Fetched::refused(ErrorCode::UnknownServerError); count];
    for (index, error) in &owners.refused {
        fetched[*index] = Fetched::refused(*error);
    }
    let mut slowest: Option<(CallPlace, Span)> = None;
    for ((_, shares), answering) in owners.shares.iter().zip(answering) {
        let place = answering.place();
        let (answers, span) = answering.answer().await;
        if slowest.is_none_or(|(_, other)| span.finished > other.finished) {
            slowest = Some((place, span));
        }
        for ((index, _), answer) in shares.iter().zip(answers) {
            fetched[*index] = answer;
        }
    }
    // Each owner kept to the limit by itself; together they may have passed it.
    let mut total = 0;
    for one in &mut fetched {
        if total > 0 && total + one.bytes > limits.bytes_max {
            one.slices.clear();
            one.bytes = 0;
            one.aborted.as_mut().map(Vec::clear);
        }
        total += one.bytes;
    }
    (fetched, slowest)
}

async fn wait_for_growth(shard: &Rc<Shard>, owners: &Owners, fetched: &[Fetched], limits: &Limits) {
    let until = limits.deadline.min(shard.runtime.now() + WATCH_MAX);
    let isolation = limits.isolation;
    let mut watching = Vec::new();
    for (owner, shares) in &owners.shares {
        let watched = shares
            .iter()
            .map(|(index, share)| {
                let seen = match isolation {
                    Isolation::ReadUncommitted => fetched[*index].high_watermark,
                    Isolation::ReadCommitted => fetched[*index].last_stable,
                };
                (share.topic, share.partition, Offset(seen))
            })
            .collect();
        let watch = WatchGrowth { watched, isolation, until };
        watching.push(Box::pin(shard.call(*owner, watch).await.answer()));
    }
    if watching.is_empty() {
        shard.runtime.sleep_until(until).await;
        return;
    }
    std::future::poll_fn(|context| {
        let any = watching.iter_mut().any(|one| one.as_mut().poll(context).is_ready());
        if any { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

struct FetchShares {
    shares: Vec<Share>,
    bytes_max: usize,
    isolation: Isolation,
    read_ahead: ReadAhead,
}

impl Call for FetchShares {
    type Answer = (Vec<Fetched>, Span);

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Answer> + 'static {
        let shard = Rc::clone(shard);
        if self.read_ahead == ReadAhead::Paused {
            shard.storage.pause_read_ahead();
        }
        async move {
            let started = shard.runtime.now();
            let mut total = 0;
            let mut fetched = Vec::with_capacity(self.shares.len());
            for share in &self.shares {
                let room = self.bytes_max.saturating_sub(total);
                // The first batch goes out whatever its size, later ones only where they fit.
                let first = if total == 0 { FirstBatch::Whole } else { FirstBatch::WithinLimit };
                let bytes_max = room.min(share.max_bytes);
                let one = read(&shard, share, bytes_max, first, self.isolation).await;
                total += one.bytes;
                fetched.push(one);
            }
            (fetched, Span { started, finished: shard.runtime.now() })
        }
    }
}

async fn read(
    shard: &Rc<Shard>,
    share: &Share,
    bytes_max: usize,
    first: FirstBatch,
    isolation: Isolation,
) -> Fetched {
    let Some(partition) = shard.partition(share.topic, share.partition) else {
        return Fetched::refused(ErrorCode::NotLeaderOrFollower);
    };
    let leader_epoch = partition.leader_epoch();
    if let Some(error) = error_map::leader_epoch(share.leader_epoch.max(-1), leader_epoch) {
        return Fetched::refused(error);
    }
    let log = &partition.log;
    let mut fetched = Fetched {
        error: ErrorCode::None,
        high_watermark: log.high_watermark().0,
        last_stable: log.last_stable_offset().0,
        log_start: log.log_start_offset().0,
        leader_epoch: leader_epoch.0,
        diverging: None,
        slices: Vec::new(),
        bytes: 0,
        aborted: None,
    };
    match diverging(&partition, share) {
        Ok(None) => {}
        Ok(diverging) => return Fetched { diverging, ..fetched },
        Err(error) => return Fetched::refused(error),
    }
    let traffic = shard.traffic_of(&partition);
    match isolation.read(log, Offset(share.offset), bytes_max, first).await {
        Ok(CommittedRead { read, aborted }) => {
            for traffic in traffic {
                traffic.fetched(read.size as u64);
            }
            fetched.bytes = read.size;
            fetched.slices = read.batches;
            if isolation == Isolation::ReadCommitted {
                let pair = |one: &AbortedTransaction| (one.producer_id.0, one.first_offset.0);
                fetched.aborted = Some(aborted.iter().map(pair).collect());
            }
        }
        Err(error) => {
            for traffic in traffic {
                traffic.fetch_failed();
            }
            tracing::debug!(partition = %partition.name(), offset = share.offset, %error, "read");
            fetched = Fetched::refused(error_map::read(&error));
        }
    }
    fetched
}

/// Where the client's log leaves ours: it fetched more of an epoch than this log has of it
/// (KIP-595).
///
/// # Errors
/// OFFSET_OUT_OF_RANGE where this log knows nothing of the epoch that the client fetched last.
fn diverging(partition: &Partition, share: &Share) -> Result<Option<(i32, i64)>, ErrorCode> {
    if share.last_fetched_epoch < 0 {
        return Ok(None);
    }
    let found = partition.end_of_epoch(LeaderEpoch(share.last_fetched_epoch));
    let (epoch, end) = found.ok_or(ErrorCode::OffsetOutOfRange)?;
    let diverged = epoch.0 < share.last_fetched_epoch || end.0 < share.offset;
    Ok(diverged.then_some((epoch.0, end.0)))
}

struct WatchGrowth {
    watched: Vec<(TopicId, PartitionId, Offset)>,
    isolation: Isolation,
    until: Instant,
}

impl Call for WatchGrowth {
    type Answer = ();

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = ()> + 'static {
        let watched: Vec<(Log, Offset)> = self
            .watched
            .iter()
            .filter_map(|(topic, partition, seen)| {
                let partition = shard.partition(*topic, *partition)?;
                Some((partition.log.clone(), *seen))
            })
            .collect();
        let gone = watched.len() < self.watched.len();
        let (runtime, isolation) = (shard.runtime.clone(), self.isolation);
        async move {
            if gone || watched.iter().any(|(log, seen)| isolation.end_of(log) != *seen) {
                return;
            }
            let mut listening: Vec<_> =
                watched.iter().map(|(log, _)| log.on_growth().listen()).collect();
            let any = std::future::poll_fn(|context| {
                let mut ready = false;
                for one in &mut listening {
                    ready |= one.poll(context.waker()).is_ready();
                }
                if ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            });
            // Late is as good as grown: the fetch looks again either way.
            let _late = runtime.deadline(self.until, any).await;
        }
    }
}

fn responses<'a>(
    shard: &Rc<Shard>,
    wanted: &'a [Wanted],
    fetched: &[Fetched],
    included: &[usize],
) -> Vec<FetchableTopicResponse<'a>> {
    let mut responses: Vec<FetchableTopicResponse<'a>> = Vec::new();
    for index in included {
        let (one, data) = (&wanted[*index], &fetched[*index]);
        let same = responses
            .last_mut()
            .is_some_and(|topic| topic.topic_id == one.id && topic.topic == &*one.name);
        if !same {
            responses.push(FetchableTopicResponse {
                topic: &one.name,
                topic_id: one.id,
                partitions: Vec::new(),
            });
        }
        let topic = responses.last_mut().expect("just added");
        topic.partitions.push(partition_data(shard, one.partition, data));
    }
    responses
}

fn partition_data<'a>(
    shard: &Rc<Shard>,
    partition_index: i32,
    data: &Fetched,
) -> PartitionData<'a> {
    let fenced =
        matches!(data.error, ErrorCode::NotLeaderOrFollower | ErrorCode::FencedLeaderEpoch);
    PartitionData {
        partition_index,
        error_code: data.error.code(),
        high_watermark: data.high_watermark,
        last_stable_offset: data.last_stable,
        log_start_offset: data.log_start,
        diverging_epoch: data.diverging.map_or_else(EpochEndOffset::default, |(epoch, end)| {
            EpochEndOffset { epoch, end_offset: end }
        }),
        current_leader: if fenced {
            LeaderIdAndEpoch { leader_id: shard.config.node_id, leader_epoch: data.leader_epoch }
        } else {
            LeaderIdAndEpoch::default()
        },
        aborted_transactions: data.aborted.as_ref().map(|aborted| {
            let told = aborted.iter().map(|(producer_id, first_offset)| {
                fetch_response::AbortedTransaction {
                    producer_id: *producer_id,
                    first_offset: *first_offset,
                }
            });
            told.collect()
        }),
        preferred_read_replica: -1,
        records: Some(Records::Slices(data.slices.clone())),
        ..Default::default()
    }
}
