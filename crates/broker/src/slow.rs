//! The slowest requests of a shard, and what is known of them.
//!
//! Slow is what takes long without what the client asked to wait for ([`StageTimes::busy`]): a fetch
//! that waits for records is not. A table has the slowest of the last minutes; who is faster than
//! all of a full one costs a comparison, who is not has its frame decoded once more.

use std::{
    cell::RefCell, cmp::Reverse, fmt, future::Future, net::SocketAddr, rc::Rc, time::Duration,
};

use bytes::Bytes;
use model::{PartitionId, TopicId};
use runtime::Instant;
use wire::{
    Lengths, Message as _, Reader,
    api::ApiKey,
    consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest,
    frame::{self, RequestHead},
    heartbeat_request::HeartbeatRequest,
    join_group_request::JoinGroupRequest,
    leave_group_request::LeaveGroupRequest,
    offset_commit_request::OffsetCommitRequest,
    produce_request::ProduceRequest,
    sync_group_request::SyncGroupRequest,
};

use crate::{
    connection::Connection, metrics::Arrived, peers::Call, shard::Shard, stages::StageTimes,
};

/// Rows of a table: a screen of them, and some.
const ROWS_MAX: usize = 32;
/// So long a table is filled; then it is kept for as long again, and told with the next one.
const WINDOW: Duration = Duration::from_secs(300);
/// What a node tells, of all its shards.
const TOLD_MAX: usize = 64;
/// What is kept of a client's id and of a group's name, which can have 32 KiB.
const NAME_CHARACTERS_MAX: usize = 100;

/// A request that was slow.
#[derive(Clone, Debug)]
pub struct SlowRequest {
    /// Its API, as Kafka calls it.
    pub api: String,
    /// The version of that.
    pub version: i16,
    /// The client's name for itself.
    pub client_id: String,
    /// The client.
    pub peer: SocketAddr,
    /// The shard that has its connection.
    pub shard: u16,
    /// Its group, of a request of a member.
    pub group: Option<String>,
    /// The first topic that it is about, of a produce or a fetch.
    pub topic: Option<String>,
    /// The first partition of that.
    pub partition: Option<i32>,
    /// How many partitions it is about in all.
    pub partitions: usize,
    /// Bytes of the request.
    pub request_bytes: usize,
    /// Bytes of the answer.
    pub response_bytes: usize,
    /// When its first byte came, in milliseconds since 1970 UTC.
    pub began_ms: i64,
    /// Where its time went.
    pub times: StageTimes,
}

/// What a node tells of them.
#[derive(Clone, Debug)]
pub struct Slowest {
    /// When it was asked, in milliseconds since 1970 UTC.
    pub now_ms: i64,
    /// The slowest first.
    pub requests: Vec<SlowRequest>,
}

/// Asks a node for its slowest requests, from outside the mesh: to shard 0.
pub struct AskSlow {
    reply: Box<dyn FnOnce(Slowest) + Send>,
}

impl AskSlow {
    /// `reply` gets them on shard 0's thread: it hands them on and returns.
    #[must_use]
    pub fn new(reply: impl FnOnce(Slowest) + Send + 'static) -> AskSlow {
        AskSlow { reply: Box::new(reply) }
    }
}

impl fmt::Debug for AskSlow {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("AskSlow")
    }
}

/// A shard's slowest requests.
#[derive(Default)]
pub(crate) struct SlowRequests(RefCell<Tables<SlowRequest>>);

/// The table that is filled, and the one before it.
struct Tables<T> {
    rows: Vec<(Duration, T)>,
    before: Vec<(Duration, T)>,
    until: Instant,
}

impl<T> Default for Tables<T> {
    fn default() -> Tables<T> {
        Tables { rows: Vec::new(), before: Vec::new(), until: Instant::default() }
    }
}

impl<T> Tables<T> {
    /// Puts a row in, if it is slower than one that is there.
    fn offer(&mut self, busy: Duration, now: Instant, row: impl FnOnce() -> T) {
        self.turn(now);
        if self.rows.len() < ROWS_MAX {
            self.rows.push((busy, row()));
        } else if self.rows.last().is_some_and(|fastest| fastest.0 < busy) {
            let fastest = self.rows.len() - 1;
            self.rows[fastest] = (busy, row());
        } else {
            return;
        }
        // The slowest first.
        self.rows.sort_by_key(|row| Reverse(row.0));
    }

    fn turn(&mut self, now: Instant) {
        if now >= self.until {
            let is_recent = now.since(self.until) < WINDOW;
            let rows = std::mem::take(&mut self.rows);
            self.before = if is_recent { rows } else { Vec::new() };
            self.until = now + WINDOW;
        }
    }
}

impl SlowRequests {
    fn told(&self, now: Instant) -> Vec<SlowRequest> {
        let mut tables = self.0.borrow_mut();
        tables.turn(now);
        let rows = tables.rows.iter().chain(&tables.before);
        rows.map(|(_, request)| request.clone()).collect()
    }
}

/// A request that is over.
pub(crate) struct Ended<'a> {
    pub(crate) frame: &'a Bytes,
    pub(crate) request_bytes: usize,
    pub(crate) now: Instant,
    pub(crate) response_bytes: usize,
}

impl Shard {
    /// A request is over: its answer was sent, if it has one.
    pub(crate) fn request_ended(
        &self,
        connection: &Connection,
        arrived: Arrived,
        ended: Ended<'_>,
    ) {
        let mut times = arrived.times;
        times.close(ended.now.since(arrived.began));
        self.counters.answered(arrived, ended.now, ended.response_bytes, &times);
        let describe = || self.describe(connection, arrived, &ended, times);
        self.slow.0.borrow_mut().offer(times.busy(), ended.now, describe);
    }

    fn describe(
        &self,
        connection: &Connection,
        arrived: Arrived,
        ended: &Ended<'_>,
        times: StageTimes,
    ) -> SlowRequest {
        let took_ms = i64::try_from(times.total().as_millis()).unwrap_or(i64::MAX);
        let mut request = SlowRequest {
            api: format!("{:?}", arrived.key),
            version: -1,
            client_id: String::new(),
            peer: connection.peer,
            shard: self.runtime.shard().0,
            group: None,
            topic: None,
            partition: None,
            partitions: 0,
            request_bytes: ended.request_bytes,
            response_bytes: ended.response_bytes,
            began_ms: self.runtime.wall_clock_ms().saturating_sub(took_ms),
            times,
        };
        let Ok((head, body)) = frame::decode_request_header(ended.frame) else { return request };
        request.version = head.version;
        let client_id = head.client_id.unwrap_or_default();
        request.client_id = client_id.chars().take(NAME_CHARACTERS_MAX).collect();
        request.group = group_of(&head, body.clone());
        if let Some(fetched) = connection.fetched.take() {
            request.topic = self.topic_named(fetched.topic, "");
            request.partition = Some(fetched.partition.0);
            request.partitions = fetched.count;
        } else if head.key == ApiKey::Produce
            && let Ok(body) = frame::decode_body::<ProduceRequest<'_>>(body, head.version)
        {
            let topics = &body.topic_data;
            request.partitions = topics.iter().map(|topic| topic.partition_data.len()).sum();
            if let Some(topic) = topics.first() {
                request.topic = self.topic_named(topic.topic_id, topic.name);
                request.partition = topic.partition_data.first().map(|partition| partition.index);
            }
        }
        request
    }

    /// A topic by its name, or by its id where it has none.
    fn topic_named(&self, id: TopicId, name: &str) -> Option<String> {
        if !name.is_empty() {
            return Some(name.to_owned());
        }
        self.image.borrow().topic(id).map(|topic| topic.name.clone())
    }

    /// Answers somebody who asks from outside. Only shard 0 is asked.
    pub(crate) async fn answer_slow(self: Rc<Self>, asked: AskSlow) {
        let mut all: Vec<SlowRequest> =
            self.call_all(TellSlow).await.into_iter().flatten().collect();
        all.sort_by_key(|request| Reverse(request.times.busy()));
        all.truncate(TOLD_MAX);
        (asked.reply)(Slowest { now_ms: self.runtime.wall_clock_ms(), requests: all });
    }
}

/// The group of a request of one of its members: the first that it says.
#[expect(clippy::wildcard_enum_match_arm, reason = "all others are no group's")]
fn group_of(head: &RequestHead<'_>, mut body: Reader<'_>) -> Option<String> {
    let flexible_from = match head.key {
        ApiKey::JoinGroup => JoinGroupRequest::FLEXIBLE_FROM,
        ApiKey::SyncGroup => SyncGroupRequest::FLEXIBLE_FROM,
        ApiKey::Heartbeat => HeartbeatRequest::FLEXIBLE_FROM,
        ApiKey::LeaveGroup => LeaveGroupRequest::FLEXIBLE_FROM,
        ApiKey::OffsetCommit => OffsetCommitRequest::FLEXIBLE_FROM,
        ApiKey::ConsumerGroupHeartbeat => ConsumerGroupHeartbeatRequest::FLEXIBLE_FROM,
        _ => return None,
    };
    let group = body.string(Lengths::of(head.version, flexible_from)).ok()?;
    Some(group.chars().take(NAME_CHARACTERS_MAX).collect())
}

/// What a fetch was about: the first partition that it wanted, and how many there were.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FetchedPartitions {
    pub(crate) topic: TopicId,
    pub(crate) partition: PartitionId,
    pub(crate) count: usize,
}

#[derive(Clone)]
struct TellSlow;

impl Call for TellSlow {
    type Answer = Vec<SlowRequest>;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Vec<SlowRequest>> + 'static {
        std::future::ready(shard.slow.told(shard.runtime.now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(count: u64) -> Instant {
        Instant::default() + Duration::from_secs(count)
    }

    fn offered(tables: &mut Tables<u64>, now: Instant, micros: u64) {
        tables.offer(Duration::from_micros(micros), now, || micros);
    }

    #[test]
    fn the_slowest_stay() {
        let mut tables = Tables::default();
        for micros in (0..1000).map(|one| (one * 7919) % 1000) {
            offered(&mut tables, seconds(1), micros);
        }
        let rows: Vec<u64> = tables.rows.iter().map(|row| row.1).collect();
        let slowest: Vec<u64> = (0..1000).rev().take(ROWS_MAX).collect();
        assert_eq!(rows, slowest);
        tables.offer(Duration::from_micros(5), seconds(2), || panic!("it is faster than all"));
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let mut tables = Tables::default();
        offered(&mut tables, seconds(1000), 9);
        offered(&mut tables, seconds(1299), 8);
        offered(&mut tables, seconds(1300), 1);
        assert_eq!((tables.rows.len(), tables.before.len()), (1, 2), "kept for as long again");
        tables.turn(seconds(1601));
        assert_eq!((tables.rows.len(), tables.before.len()), (0, 1));
        tables.turn(seconds(9000));
        assert_eq!((tables.rows.len(), tables.before.len()), (0, 0), "nobody came for long");
    }
}
