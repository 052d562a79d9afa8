//! Consumer groups on the shards that own partitions of `__consumer_offsets`.
//!
//! The coordinator of a partition decides; here its records are appended, its answers travel back
//! to whoever asked, and its deadlines are kept. Records of one partition are appended in the order
//! in which they were decided, and what depends on them happens when they are durable, in the same
//! order.

use std::{cell::RefCell, future::Future, rc::Rc};

use bytes::Bytes;
use cluster::{MetadataImage, feature};
use coordinator::{
    Actions, Caller, GroupCoordinator, Now, Response, Settings, Token,
    coordinator::{
        ConsumerGroupDescription, GroupDescription, GroupFilter, GroupListing, GroupPositions,
        KnownTopic,
    },
    offset_fetch::{FetchedGroup, GroupQuery},
};
use model::{ErrorCode, Offset, Sequence, TopicId, TopicPartition, Uuid, collections::HashMap};
use runtime::{Instant, ShardIndex, TaskQueue, local::Oneshot};
use storage::{Log, Verification};
use wire::{api::ApiKey, frame};

use crate::{
    api::Request,
    coordinator_desk::Desk,
    coordinator_log,
    group_topics::GroupTopics,
    peers::{Call, CallPlace},
    shard::{Partition, Shard},
    stages::{Span, Stage, StageTimes},
    topic_settings::CONSUMER_OFFSETS,
    verification::{Entered, Transactional},
};

/// How often expired offsets are looked for: `offsets.retention.check.interval.ms`.
const RETENTION_CHECK_INTERVAL_MS: u64 = 600_000;

/// The coordinators of one shard, by partition.
#[derive(Default)]
pub(crate) struct Groups {
    hosted: RefCell<HashMap<TopicPartition, Rc<Hosted>>>,
}

/// The coordinator of one partition, with what it waits for and who waits for it.
pub(crate) struct Hosted {
    coordinator: RefCell<GroupCoordinator>,
    topics: Rc<GroupTopics>,
    desk: Desk<Response>,
}

impl Groups {
    pub(crate) fn find(&self, id: TopicPartition) -> Option<Rc<Hosted>> {
        self.hosted.borrow().get(&id).cloned()
    }

    /// The groups of this shard that pass a filter.
    pub(crate) fn list(&self, filter: &GroupFilter) -> Vec<GroupListing> {
        let hosted = self.hosted.borrow();
        hosted.values().flat_map(|one| one.coordinator.borrow().list_groups(filter)).collect()
    }

    /// How far the groups of this shard are.
    pub(crate) fn positions(&self) -> Vec<GroupPositions> {
        let hosted = self.hosted.borrow();
        hosted.values().flat_map(|one| one.coordinator.borrow().positions()).collect()
    }

    /// A partition is no longer this shard's: whoever waits is sent away.
    pub(crate) fn partition_removed(&self, id: TopicPartition) {
        if let Some(hosted) = self.hosted.borrow_mut().remove(&id) {
            let topics = hosted.topics.clone();
            let empty = GroupCoordinator::new(Settings::default(), topics);
            let actions = hosted.coordinator.replace(empty).unload();
            hosted.desk.answer_all(actions.responses);
            hosted.desk.end();
        }
    }
}

impl Shard {
    fn group_settings(&self) -> Settings {
        let config = &self.config;
        let small = |value: u64| i32::try_from(value).unwrap_or(i32::MAX);
        let minutes = i64::try_from(config.offsets_retention_minutes).unwrap_or(i64::MAX);
        Settings {
            session_timeout_min_ms: small(config.group_min_session_timeout_ms),
            session_timeout_max_ms: small(config.group_max_session_timeout_ms),
            initial_rebalance_delay_ms: u32::try_from(config.group_initial_rebalance_delay_ms)
                .unwrap_or(u32::MAX),
            group_size_max: config.group_max_size,
            offset_metadata_max: config.offset_metadata_max_bytes,
            offsets_retention_ms: minutes.saturating_mul(60_000),
            retention_check_interval_ms: RETENTION_CHECK_INTERVAL_MS,
            consumer: config.group_consumer.clone(),
        }
    }

    /// Starts a coordinator on a partition of `__consumer_offsets`, from what is in its log.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub(crate) async fn host_groups(
        self: &Rc<Self>,
        id: TopicPartition,
        partition: Rc<Partition>,
    ) -> Result<(), String> {
        let topics = GroupTopics::of(self);
        let mut coordinator = GroupCoordinator::new(self.group_settings(), topics.clone());
        coordinator_log::load(&partition.log, |batch| coordinator.replay_batch(batch))
            .await
            .map_err(|error| format!("{}: {error}", partition.name()))?;
        let actions = coordinator.loaded(self.now_of_coordinators());
        let hosted = Rc::new(Hosted {
            coordinator: RefCell::new(coordinator),
            topics,
            desk: Desk::new(partition),
        });
        self.groups.hosted.borrow_mut().insert(id, Rc::clone(&hosted));
        hosted.carry_out(self, actions);
        let (shard, keeper) = (Rc::clone(self), Rc::clone(&hosted));
        self.runtime.spawn("group deadlines", TaskQueue::Foreground, async move {
            keeper.keep_deadlines(&shard).await;
        });
        let shard = Rc::clone(self);
        self.runtime.spawn("group writes", TaskQueue::Foreground, async move {
            hosted.finish_writes(&shard).await;
        });
        Ok(())
    }

    /// Whether there are KIP-848's groups: the directory's `group.version` and the broker's settings
    /// say so.
    pub(crate) fn has_consumer_groups(&self) -> bool {
        self.config.has_consumer_groups && self.image.borrow().feature(feature::GROUP_VERSION) > 0
    }

    /// Topics came, went or grew: consumer groups look at theirs again.
    pub(crate) fn tell_groups_of_topics(&self) {
        for hosted in self.groups.hosted.borrow().values() {
            hosted.coordinator.borrow_mut().topics_changed();
        }
    }

    /// Topics are gone, and with them the offsets that groups have in them.
    pub(crate) fn forget_offsets_of(self: &Rc<Self>, topics: &[&str]) {
        let all: Vec<Rc<Hosted>> = self.groups.hosted.borrow().values().cloned().collect();
        for hosted in all {
            let now = self.now_of_coordinators();
            let actions = hosted.coordinator.borrow_mut().topics_deleted(topics, now);
            hosted.carry_out(self, actions);
        }
    }

    /// The partition that a group belongs to and its owner; the empty name, which old clients commit
    /// offsets under, has one like any. The topic is created if need be.
    ///
    /// # Errors
    /// When there is no such topic and it cannot be created now.
    pub(crate) async fn coordinator_of(
        self: &Rc<Self>,
        group: &str,
    ) -> Result<(TopicPartition, ShardIndex), ErrorCode> {
        self.require_coordinators_topic(CONSUMER_OFFSETS).await?;
        self.place_of_group(group)
    }

    /// The partition that a group belongs to and its owner; any name is some partition's.
    ///
    /// # Errors
    /// When `__consumer_offsets` is not there.
    pub(crate) fn place_of_group(
        &self,
        group: &str,
    ) -> Result<(TopicPartition, ShardIndex), ErrorCode> {
        self.place_of_key(CONSUMER_OFFSETS, group).ok_or(ErrorCode::CoordinatorNotAvailable)
    }

    /// Has a group's coordinator answer a request.
    pub(crate) async fn ask_group(
        self: &Rc<Self>,
        group: &str,
        request: &Request<'_>,
        client_host: String,
    ) -> Result<Response, ErrorCode> {
        let (partition, owner) = self.coordinator_of(group).await?;
        self.ask_coordinator(request, partition, owner, client_host, Verification::Off).await
    }

    async fn ask_coordinator(
        self: &Rc<Self>,
        request: &Request<'_>,
        partition: TopicPartition,
        owner: ShardIndex,
        client_host: String,
        verification: Verification,
    ) -> Result<Response, ErrorCode> {
        let frame = request.frame.clone();
        let call = GroupRequest { partition, frame, client_host, verification };
        let sent = self.runtime.now();
        let answering = self.call(owner, call).await;
        let place = answering.place();
        let (answer, times) = answering.answer().await;
        request.connection.add_spent(&times.spent);
        if place == CallPlace::There {
            let way = (times.span.started - sent) + (self.runtime.now() - times.span.finished);
            request.connection.spend(Stage::Hop, way);
        }
        answer
    }

    /// Has a group's coordinator answer a request of a transaction.
    pub(crate) async fn ask_group_in_transaction(
        self: &Rc<Self>,
        group: &str,
        transactional: &Transactional<'_>,
        request: &Request<'_>,
        client_host: String,
    ) -> Result<Response, ErrorCode> {
        let (partition, owner) = self.coordinator_of(group).await?;
        let entered = Entered {
            id: partition,
            owner,
            topic: CONSUMER_OFFSETS.to_owned(),
            sequence: Sequence(-1),
        };
        let mut entered = self.enter_transaction(transactional, &[entered]).await;
        let verification = entered.pop().expect("one for each partition")?;
        self.ask_coordinator(request, partition, owner, client_host, verification).await
    }

    /// Asks a group's coordinator for offsets.
    pub(crate) async fn ask_offsets(self: &Rc<Self>, query: &GroupQuery) -> FetchedGroup {
        match self.coordinator_of(&query.group_id).await {
            Ok((partition, owner)) => {
                let call = OffsetQuery { partition, query: query.clone() };
                self.call(owner, call).await.answer().await
            }
            Err(error) => query.failed(error),
        }
    }
}

impl Hosted {
    /// A group with its members.
    pub(crate) fn describe(&self, group: &str) -> GroupDescription {
        self.coordinator.borrow().describe_group(group)
    }

    /// A consumer group with its members.
    pub(crate) fn describe_consumer(&self, group: &str) -> ConsumerGroupDescription {
        self.coordinator.borrow().describe_consumer_group(group)
    }

    /// Lets the coordinator decide something that nobody asks for as a member.
    pub(crate) fn ask(
        &self,
        shard: &Rc<Shard>,
        decide: impl FnOnce(&mut GroupCoordinator, &Caller<'_>, Now) -> Actions,
    ) -> Oneshot<Response> {
        let (token, receiver) = self.desk.expect_answer();
        let caller =
            Caller { token, version: 0, client_id: "", client_host: "", random: Uuid::ZERO };
        let now = shard.now_of_coordinators();
        let actions = decide(&mut self.coordinator.borrow_mut(), &caller, now);
        self.carry_out(shard, actions);
        receiver
    }

    /// Appends what was decided and answers who is to be answered.
    fn carry_out(&self, shard: &Rc<Shard>, actions: Actions) {
        self.carry_out_verified(shard, actions, Verification::Off);
    }

    /// The same of what may be part of a transaction.
    fn carry_out_verified(&self, shard: &Rc<Shard>, actions: Actions, verification: Verification) {
        self.desk.append_all(shard, actions.writes, verification, |_| false);
        self.desk.answer_all(actions.responses);
        self.desk.notify_changed();
    }

    /// Tells the coordinator of each write, in order, when it is durable.
    async fn finish_writes(self: Rc<Self>, shard: &Rc<Shard>) {
        while let Some((id, appended)) = self.desk.next_appended().await {
            let result = self.desk.durable(appended).await;
            if self.desk.is_over() {
                return;
            }
            let now = shard.now_of_coordinators();
            let actions = self.coordinator.borrow_mut().write_done(id, result, now);
            self.carry_out(shard, actions);
        }
    }

    /// Wakes the coordinator at its deadlines.
    async fn keep_deadlines(&self, shard: &Rc<Shard>) {
        while !self.desk.is_over() {
            let deadline = self.coordinator.borrow().next_deadline();
            if self.desk.is_due(&shard.runtime, deadline).await {
                let now = shard.now_of_coordinators();
                let actions = self.coordinator.borrow_mut().on_time(now);
                self.carry_out(shard, actions);
            }
        }
    }
}

/// A request for a group's coordinator.
struct GroupRequest {
    partition: TopicPartition,
    frame: Bytes,
    client_host: String,
    verification: Verification,
}

impl Call for GroupRequest {
    type Answer = (Result<Response, ErrorCode>, GroupTimes);

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Answer> + 'static {
        let runtime = shard.runtime.clone();
        let started = runtime.now();
        let asked = shard.groups.find(self.partition).ok_or(ErrorCode::NotCoordinator);
        let asked = asked.and_then(|hosted| {
            let (token, receiver) = hosted.desk.expect_answer();
            let log = &hosted.desk.partition.log;
            let before = log.log_end_offset();
            match self.decide(shard, &hosted, token) {
                Ok(actions) => {
                    hosted.carry_out_verified(shard, actions, self.verification);
                    let end = log.log_end_offset();
                    let waits = if end > before {
                        GroupWait::Record(log.clone(), end)
                    } else {
                        GroupWait::of(self.key())
                    };
                    Ok((receiver, waits))
                }
                Err(error) => {
                    hosted.desk.expect_no_answer(token);
                    Err(error)
                }
            }
        });
        async move {
            let (answer, spent) = match asked {
                Ok((receiver, waits)) => {
                    let decided = runtime.now();
                    // Dropped without an answer: the coordinator went away.
                    let answer = receiver.receive().await.ok_or(ErrorCode::NotCoordinator);
                    (answer, waits.spent(decided, runtime.now()))
                }
                Err(error) => (Err(error), StageTimes::default()),
            };
            let span = Span { started, finished: runtime.now() };
            (answer, GroupTimes { span, spent })
        }
    }
}

/// When a coordinator was asked and has answered, and what it waited for meanwhile.
struct GroupTimes {
    span: Span,
    spent: StageTimes,
}

/// What the answer of a coordinator waits for.
enum GroupWait {
    /// That what was decided for it is on disk.
    Record(Log, Offset),
    /// Other members.
    Members,
    /// Nothing, or what was decided before.
    Nothing,
}

impl GroupWait {
    fn of(key: Option<ApiKey>) -> GroupWait {
        if matches!(key, Some(ApiKey::JoinGroup | ApiKey::SyncGroup)) {
            GroupWait::Members
        } else {
            GroupWait::Nothing
        }
    }

    fn spent(&self, decided: Instant, now: Instant) -> StageTimes {
        let mut spent = StageTimes::default();
        match self {
            GroupWait::Record(log, end) => {
                let written = log.written_at(*end).unwrap_or(now).max(decided);
                spent.add(Stage::Write, written - decided);
                spent.add(Stage::Sync, now - written);
            }
            GroupWait::Members => spent.add(Stage::Pending, now - decided),
            GroupWait::Nothing => {}
        }
        spent
    }
}

impl GroupRequest {
    fn key(&self) -> Option<ApiKey> {
        frame::decode_request_header(&self.frame).ok().map(|(head, _)| head.key)
    }

    fn decide(
        &self,
        shard: &Rc<Shard>,
        hosted: &Hosted,
        token: Token,
    ) -> Result<Actions, ErrorCode> {
        let malformed = |_: wire::Error| ErrorCode::InvalidRequest;
        let (head, body) = frame::decode_request_header(&self.frame).map_err(malformed)?;
        let caller = Caller {
            token,
            version: head.version,
            client_id: head.client_id.unwrap_or_default(),
            client_host: &self.client_host,
            random: Uuid::from_random(shard.runtime.random(), shard.runtime.random()),
        };
        let now = shard.now_of_coordinators();
        let mut coordinator = hosted.coordinator.borrow_mut();
        macro_rules! decoded {
            () => {
                &frame::decode_body(body, head.version).map_err(malformed)?
            };
        }
        let image = shard.image.borrow();
        let resolve = |name: &str, id: TopicId| known_topic(&image, name, id);
        #[expect(clippy::wildcard_enum_match_arm, reason = "what is no group's is not sent here")]
        let actions = match head.key {
            ApiKey::JoinGroup => coordinator.join(&caller, decoded!(), now),
            ApiKey::SyncGroup => coordinator.sync(&caller, decoded!(), now),
            ApiKey::Heartbeat => coordinator.heartbeat(&caller, decoded!(), now),
            ApiKey::LeaveGroup => coordinator.leave(&caller, decoded!(), now),
            ApiKey::ConsumerGroupHeartbeat => {
                coordinator.consumer_heartbeat(&caller, decoded!(), now)
            }
            ApiKey::OffsetCommit => coordinator.commit_offsets(&caller, decoded!(), &resolve, now),
            ApiKey::TxnOffsetCommit => {
                coordinator.commit_transactional_offsets(&caller, decoded!(), &resolve, now)
            }
            ApiKey::OffsetDelete => coordinator.delete_offsets(&caller, decoded!(), &resolve, now),
            other => unreachable!("{other:?} is no request of a group"),
        };
        Ok(actions)
    }
}

/// A topic by its id, or by its name where the id is zero.
fn known_topic(image: &MetadataImage, name: &str, id: TopicId) -> Result<KnownTopic, ErrorCode> {
    let topic = if id == TopicId::ZERO {
        image.topic_by_name(name).ok_or(ErrorCode::UnknownTopicOrPartition)?
    } else {
        image.topic(id).ok_or(ErrorCode::UnknownTopicId)?
    };
    Ok(KnownTopic {
        name: topic.name.clone(),
        topic_id: topic.id,
        partition_count: i32::try_from(topic.partitions.len()).expect("partition numbers are i32"),
    })
}

struct OffsetQuery {
    partition: TopicPartition,
    query: GroupQuery,
}

impl Call for OffsetQuery {
    type Answer = FetchedGroup;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = FetchedGroup> + 'static {
        let fetched = match shard.groups.find(self.partition) {
            Some(hosted) => hosted.coordinator.borrow().fetch_offsets(&self.query),
            None => self.query.failed(ErrorCode::NotCoordinator),
        };
        std::future::ready(fetched)
    }
}
