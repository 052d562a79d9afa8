//! A coordinator with its log, its clock and its clients, for tests.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use coordinator::coordinator::KnownTopic;
use coordinator::offset_fetch::{GroupQuery, Stability, TopicQuery};
use coordinator::response::{Join, Leave, OffsetCommit, Sync};
use coordinator::{
    Actions, Caller, GroupCoordinator, GroupSettings, Now, Response, Settings, Token, TopicShape,
    Topics, Write, WriteError,
};
use model::{ErrorCode, TimestampMs, TopicId, Uuid};
use wire::heartbeat_request::HeartbeatRequest;
use wire::join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol};
use wire::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use wire::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use wire::sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment};

/// The wall clock when the monotonic one is 0.
const EPOCH_MS: i64 = 1_700_000_000_000;
/// The one topic that exists, by name and id.
pub const TOPIC: &str = "orders";
pub const TOPIC_ID: TopicId = Uuid([7; 16]);

/// The broker's metadata: one topic of eight partitions.
pub fn resolve(name: &str, topic_id: TopicId) -> Result<KnownTopic, ErrorCode> {
    if name == TOPIC || topic_id == TOPIC_ID {
        Ok(KnownTopic { name: TOPIC.to_owned(), topic_id: TOPIC_ID, partition_count: 8 })
    } else {
        Err(ErrorCode::UnknownTopicOrPartition)
    }
}

/// Topics by name: what consumer groups see.
#[derive(Debug, Default)]
pub struct TestTopics {
    pub by_name: RefCell<BTreeMap<String, (TopicShape, Vec<String>)>>,
    /// What groups have of their own.
    pub settings: RefCell<BTreeMap<String, GroupSettings>>,
}

impl TestTopics {
    /// Makes a topic, or makes one larger.
    pub fn set(&self, name: &str, partition_count: i32) -> TopicId {
        let mut bytes = [0; 16];
        for (place, byte) in bytes.iter_mut().zip(name.bytes()) {
            *place = byte;
        }
        let shape = TopicShape { id: Uuid(bytes), partition_count };
        self.by_name.borrow_mut().insert(name.to_owned(), (shape, Vec::new()));
        shape.id
    }
}

impl Topics for TestTopics {
    fn by_name(&self, name: &str) -> Option<TopicShape> {
        self.by_name.borrow().get(name).map(|(shape, _)| *shape)
    }

    fn name_of(&self, id: TopicId) -> Option<String> {
        let topics = self.by_name.borrow();
        topics.iter().find(|(_, (shape, _))| shape.id == id).map(|(name, _)| name.clone())
    }

    fn racks(&self, id: TopicId, _partition: i32) -> Vec<String> {
        let topics = self.by_name.borrow();
        let found = topics.values().find(|(shape, _)| shape.id == id);
        found.map(|(_, racks)| racks.clone()).unwrap_or_default()
    }

    fn matching(&self, passes: &dyn Fn(&str) -> bool) -> Vec<String> {
        self.by_name.borrow().keys().filter(|name| passes(name)).cloned().collect()
    }

    fn settings_of(&self, group_id: &str) -> GroupSettings {
        self.settings.borrow().get(group_id).copied().unwrap_or_default()
    }

    fn version(&self) -> i64 {
        0
    }
}

pub type LogRecord = (Vec<u8>, Option<Vec<u8>>);

pub struct Harness {
    pub coordinator: GroupCoordinator,
    pub settings: Settings,
    pub topics: Rc<TestTopics>,
    pub now_ms: u64,
    pub log: Vec<LogRecord>,
    pub writes: VecDeque<Write>,
    pub responses: BTreeMap<Token, Response>,
    pub client_id: String,
    next_token: u64,
}

/// A JoinGroup, with what most tests have in common.
#[derive(Clone, Copy)]
pub struct Joining<'a> {
    pub version: i16,
    pub member_id: &'a str,
    pub instance_id: Option<&'a str>,
    pub protocol_type: &'a str,
    pub protocols: &'a [(&'a str, &'a [u8])],
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
}

impl Default for Joining<'_> {
    fn default() -> Self {
        Joining {
            version: 9,
            member_id: "",
            instance_id: None,
            protocol_type: "consumer",
            protocols: &[("range", b"")],
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
        }
    }
}

impl Harness {
    pub fn new(settings: Settings) -> Harness {
        let topics = Rc::new(TestTopics::default());
        let mut coordinator = GroupCoordinator::new(settings.clone(), topics.clone());
        let now = Now { wall: TimestampMs(EPOCH_MS), monotonic_ms: 0 };
        assert_eq!(coordinator.loaded(now), Actions::default());
        Harness {
            coordinator,
            settings,
            topics,
            now_ms: 0,
            log: Vec::new(),
            writes: VecDeque::new(),
            responses: BTreeMap::new(),
            client_id: "client".to_owned(),
            next_token: 0,
        }
    }

    pub fn now(&self) -> Now {
        let passed = i64::try_from(self.now_ms).expect("tests are short");
        Now { wall: TimestampMs(EPOCH_MS + passed), monotonic_ms: self.now_ms }
    }

    /// Runs a request with a fresh token.
    pub fn call(
        &mut self,
        version: i16,
        request: impl FnOnce(&mut GroupCoordinator, &Caller<'_>, Now) -> Actions,
    ) -> Token {
        self.next_token += 1;
        let token = Token(self.next_token);
        let client_id = self.client_id.clone();
        let caller = Caller {
            token,
            version,
            client_id: &client_id,
            client_host: "/127.0.0.1",
            random: Uuid::from_random(self.next_token, 0),
        };
        let now = self.now();
        let actions = request(&mut self.coordinator, &caller, now);
        self.take_actions(actions);
        token
    }

    fn take_actions(&mut self, actions: Actions) {
        for (token, response) in actions.responses {
            assert!(token.0 <= self.next_token, "an answer to nobody");
            let second = self.responses.insert(token, response);
            assert!(second.is_none(), "{token:?} is answered twice");
        }
        self.writes.extend(actions.writes);
    }

    /// Makes all writes durable, and those that follow from them.
    pub fn flush(&mut self) {
        while self.finish_write(Ok(())) {}
    }

    /// Ends the oldest write, if there is one.
    pub fn finish_write(&mut self, result: Result<(), WriteError>) -> bool {
        let Some(write) = self.writes.pop_front() else { return false };
        if result.is_ok() {
            self.log.extend(write.records.into_iter().map(|record| (record.key, record.value)));
        }
        let now = self.now();
        let actions = self.coordinator.write_done(write.id, result, now);
        self.take_actions(actions);
        true
    }

    /// Lets time pass, deadline by deadline.
    pub fn advance(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while let Some(deadline) = self.coordinator.next_deadline().filter(|at| *at <= end) {
            self.now_ms = self.now_ms.max(deadline);
            let now = self.now();
            let actions = self.coordinator.on_time(now);
            self.take_actions(actions);
        }
        self.now_ms = end;
    }

    /// A coordinator that knows nothing but the log.
    pub fn replayed(&self) -> GroupCoordinator {
        let mut coordinator = GroupCoordinator::new(self.settings.clone(), self.topics.clone());
        for (key, value) in &self.log {
            let replayed = coordinator.replay(key, value.as_deref());
            assert_eq!(replayed, Ok(coordinator::coordinator::Replayed::Applied));
        }
        coordinator
    }

    /// The process dies: what waits is lost, and what is not durable.
    pub fn restart(&mut self) {
        self.writes.clear();
        self.coordinator = self.replayed();
        let now = self.now();
        let actions = self.coordinator.loaded(now);
        self.take_actions(actions);
    }

    pub fn join(&mut self, group: &str, joining: Joining<'_>) -> Token {
        let protocols = joining
            .protocols
            .iter()
            .map(|(name, metadata)| JoinGroupRequestProtocol { name, metadata });
        let request = JoinGroupRequest {
            group_id: group,
            session_timeout_ms: joining.session_timeout_ms,
            rebalance_timeout_ms: joining.rebalance_timeout_ms,
            member_id: joining.member_id,
            group_instance_id: joining.instance_id,
            protocol_type: joining.protocol_type,
            protocols: protocols.collect(),
            ..JoinGroupRequest::default()
        };
        self.call(joining.version, |coordinator, caller, now| {
            coordinator.join(caller, &request, now)
        })
    }

    pub fn sync(
        &mut self,
        group: &str,
        member_id: &str,
        generation_id: i32,
        assignments: &[(&str, &[u8])],
    ) -> Token {
        let assignments = assignments
            .iter()
            .map(|(member_id, assignment)| SyncGroupRequestAssignment { member_id, assignment });
        let request = SyncGroupRequest {
            group_id: group,
            generation_id,
            member_id,
            assignments: assignments.collect(),
            ..SyncGroupRequest::default()
        };
        self.call(5, |coordinator, caller, now| coordinator.sync(caller, &request, now))
    }

    pub fn heartbeat(&mut self, group: &str, member_id: &str, generation_id: i32) -> ErrorCode {
        let request = HeartbeatRequest {
            group_id: group,
            generation_id,
            member_id,
            ..HeartbeatRequest::default()
        };
        let token =
            self.call(4, |coordinator, caller, now| coordinator.heartbeat(caller, &request, now));
        // Only where a consumer group's write is under way.
        if !self.responses.contains_key(&token) {
            self.flush();
        }
        match self.responses.remove(&token) {
            Some(Response::Heartbeat(error)) => error,
            other => panic!("a heartbeat is answered at once, not with {other:?}"),
        }
    }

    pub fn leave(&mut self, group: &str, members: &[(&str, Option<&str>)]) -> Leave {
        let members = members.iter().map(|(member_id, instance_id)| MemberIdentity {
            member_id,
            group_instance_id: *instance_id,
            ..MemberIdentity::default()
        });
        let request = LeaveGroupRequest {
            group_id: group,
            members: members.collect(),
            ..LeaveGroupRequest::default()
        };
        let token =
            self.call(5, |coordinator, caller, now| coordinator.leave(caller, &request, now));
        // Of a consumer group one leaves with a record.
        if !self.responses.contains_key(&token) {
            self.flush();
        }
        match self.responses.remove(&token) {
            Some(Response::Leave(leave)) => leave,
            other => panic!("a member leaves at once, not with {other:?}"),
        }
    }

    /// Commits offsets of [`TOPIC`]; `(member_id, generation)` may be `("", -1)`.
    pub fn commit(
        &mut self,
        group: &str,
        (member_id, generation): (&str, i32),
        offsets: &[(i32, i64)],
    ) -> Token {
        let partition =
            |(partition_index, committed_offset): &(i32, i64)| OffsetCommitRequestPartition {
                partition_index: *partition_index,
                committed_offset: *committed_offset,
                committed_metadata: Some("meta"),
                ..OffsetCommitRequestPartition::default()
            };
        let request = OffsetCommitRequest {
            group_id: group,
            generation_id_or_member_epoch: generation,
            member_id,
            topics: vec![OffsetCommitRequestTopic {
                name: TOPIC,
                partitions: offsets.iter().map(partition).collect(),
                ..OffsetCommitRequestTopic::default()
            }],
            ..OffsetCommitRequest::default()
        };
        self.commit_request(9, &request)
    }

    pub fn commit_request(&mut self, version: i16, request: &OffsetCommitRequest<'_>) -> Token {
        self.call(version, |coordinator, caller, now| {
            coordinator.commit_offsets(caller, request, &resolve, now)
        })
    }

    /// The durable offset of a partition of [`TOPIC`].
    pub fn offset(&self, group: &str, partition: i32) -> i64 {
        offset_in(&self.coordinator, group, partition)
    }

    pub fn joined(&mut self, token: Token) -> Join {
        match self.responses.remove(&token) {
            Some(Response::Join(join)) => join,
            other => panic!("no answer to a join: {other:?}"),
        }
    }

    pub fn synced(&mut self, token: Token) -> Sync {
        match self.responses.remove(&token) {
            Some(Response::Sync(sync)) => sync,
            other => panic!("no answer to a sync: {other:?}"),
        }
    }

    pub fn committed(&mut self, token: Token) -> OffsetCommit {
        match self.responses.remove(&token) {
            Some(Response::OffsetCommit(commit)) => commit,
            other => panic!("no answer to a commit: {other:?}"),
        }
    }

    /// A new dynamic member that has its id.
    pub fn new_id(&mut self, group: &str) -> String {
        let token = self.join(group, Joining::default());
        let join = self.joined(token);
        assert_eq!(join.error, ErrorCode::MemberIdRequired);
        join.member_id
    }

    /// A stable group of one member: its id, in generation 1.
    pub fn stable_group(&mut self, group: &str) -> String {
        let id = self.new_id(group);
        let token = self.join(group, Joining { member_id: &id, ..Joining::default() });
        let join = self.joined(token);
        assert_eq!((join.error, join.generation), (ErrorCode::None, 1));
        let token = self.sync(group, &id, 1, &[(&id, b"all")]);
        self.flush();
        assert_eq!(self.synced(token).assignment, &b"all"[..]);
        id
    }

    pub fn state(&self, group: &str) -> &'static str {
        self.coordinator.describe_group(group).state
    }
}

pub fn offset_in(coordinator: &GroupCoordinator, group: &str, partition: i32) -> i64 {
    let query = GroupQuery {
        group_id: group.to_owned(),
        member_id: None,
        member_epoch: -1,
        stability: Stability::Any,
        topics: Some(vec![TopicQuery {
            name: TOPIC.to_owned(),
            topic_id: TOPIC_ID,
            partitions: vec![partition],
        }]),
    };
    coordinator.fetch_offsets(&query).topics()[0].partitions[0].offset
}
