//! Membership in a classic consumer group, and the offsets that a group commits.

use std::{collections::BTreeMap, time::Duration};

use model::{ErrorCode, Offset};
use wire::{
    Decode, Reader,
    consumer_protocol_assignment::{self, ConsumerProtocolAssignment},
    consumer_protocol_subscription::ConsumerProtocolSubscription,
    find_coordinator_request::FindCoordinatorRequest,
    heartbeat_request::HeartbeatRequest,
    join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol},
    join_group_response::JoinGroupResponse,
    leave_group_request::{LeaveGroupRequest, MemberIdentity},
    list_groups_request::ListGroupsRequest,
    offset_commit_request::{
        OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    },
    offset_fetch_request::{
        OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic,
        OffsetFetchRequestTopics,
    },
    sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment},
};

use crate::{
    Connection, Error, Result,
    assignor::{self, Assignment},
    topics::AutoCreate,
};

const PROTOCOL_TYPE: &str = "consumer";
const ASSIGNOR: &str = "range";
/// Of the subscription's and the assignment's own format: the oldest, which all readers know.
const CONSUMER_PROTOCOL_VERSION: i16 = 0;

/// What a group has committed of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommittedOffset {
    /// Where to go on from.
    pub offset: Offset,
    /// What the committer said of it.
    pub metadata: String,
}

impl From<Offset> for CommittedOffset {
    fn from(offset: Offset) -> CommittedOffset {
        CommittedOffset { offset, metadata: String::new() }
    }
}

/// Committed offsets by topic and partition.
pub type CommittedOffsets = BTreeMap<(String, i32), CommittedOffset>;

/// A group as a broker lists it; what an old one does not tell is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    /// Its id.
    pub group_id: String,
    /// Where it stands.
    pub state: String,
    /// Which protocol its members speak: `classic`, `consumer`.
    pub group_type: String,
}

/// How a member behaves in its group.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    /// The group's name.
    pub group: String,
    /// The topics it wants.
    pub topics: Vec<String>,
    /// Without a heartbeat for so long it is thrown out.
    pub session_timeout: Duration,
    /// How long a rebalance waits for it.
    pub rebalance_timeout: Duration,
}

/// A member of a group, through one connection to the coordinator.
pub struct GroupMember {
    connection: Connection,
    options: GroupOptions,
    member_id: String,
    generation_id: i32,
    assignment: Assignment,
}

impl GroupMember {
    /// One that has not joined yet.
    #[must_use]
    pub fn new(connection: Connection, options: GroupOptions) -> GroupMember {
        let assignment = Assignment::new();
        GroupMember { connection, options, member_id: String::new(), generation_id: -1, assignment }
    }

    /// The partitions of the current generation.
    #[must_use]
    pub fn assignment(&self) -> &Assignment {
        &self.assignment
    }

    /// The id that the coordinator gave.
    #[must_use]
    pub fn member_id(&self) -> &str {
        &self.member_id
    }

    /// The generation that it is part of.
    #[must_use]
    pub fn generation_id(&self) -> i32 {
        self.generation_id
    }

    /// Joins the group, or joins again for its next generation, and waits for the assignment.
    ///
    /// # Errors
    /// The connection's or the coordinator's; [`ErrorCode::RebalanceInProgress`] and
    /// [`ErrorCode::IllegalGeneration`] ask to join again.
    pub async fn join(&mut self) -> Result<()> {
        let result = self.join_and_sync().await;
        if let Err(Error::Refused(ErrorCode::UnknownMemberId)) = result {
            self.member_id.clear();
        }
        result
    }

    async fn join_and_sync(&mut self) -> Result<()> {
        self.assignment.clear();
        let topics = self.options.topics.iter().map(String::as_str).collect();
        let subscription = ConsumerProtocolSubscription { topics, ..Default::default() };
        let subscription = with_version(&subscription)?;
        let mut answer = self.call_join(&subscription).await?;
        if answer.error_code == ErrorCode::MemberIdRequired.code() {
            self.member_id = answer.member_id;
            answer = self.call_join(&subscription).await?;
        }
        Error::check(answer.error_code)?;
        self.member_id = answer.member_id;
        self.generation_id = answer.generation_id;
        let assignments = if answer.leader == self.member_id {
            self.assign(&answer.members).await?
        } else {
            BTreeMap::new()
        };
        self.sync(&assignments).await
    }

    async fn call_join(&self, subscription: &[u8]) -> Result<Joined> {
        let request = JoinGroupRequest {
            group_id: &self.options.group,
            session_timeout_ms: milliseconds(self.options.session_timeout),
            rebalance_timeout_ms: milliseconds(self.options.rebalance_timeout),
            member_id: &self.member_id,
            protocol_type: PROTOCOL_TYPE,
            protocols: vec![JoinGroupRequestProtocol { name: ASSIGNOR, metadata: subscription }],
            ..Default::default()
        };
        let answer = self.connection.call(&request).await?;
        Joined::read(&answer.decode()?)
    }

    /// The leader's work: everybody's partitions, encoded.
    async fn assign(
        &self,
        subscriptions: &BTreeMap<String, Vec<String>>,
    ) -> Result<BTreeMap<String, bytes::Bytes>> {
        let mut topics: Vec<&str> = subscriptions.values().flatten().map(String::as_str).collect();
        topics.sort_unstable();
        topics.dedup();
        let metadata = self.connection.metadata(Some(&topics), AutoCreate::Allowed).await?;
        let counts = metadata.topics.iter().map(|topic| {
            (topic.name.clone(), i32::try_from(topic.leaders.len()).unwrap_or(i32::MAX))
        });
        let assigned = assignor::range(subscriptions, &counts.collect());
        let encode = |(member, assignment): (String, Assignment)| {
            let partitions = assignment.iter().map(|(topic, partitions)| {
                let partitions = partitions.clone();
                consumer_protocol_assignment::TopicPartition { topic, partitions }
            });
            let assigned_partitions = partitions.collect();
            let encoded = with_version(&ConsumerProtocolAssignment {
                assigned_partitions,
                ..Default::default()
            })?;
            Ok((member, encoded))
        };
        assigned.into_iter().map(encode).collect()
    }

    async fn sync(&mut self, assignments: &BTreeMap<String, bytes::Bytes>) -> Result<()> {
        let request = SyncGroupRequest {
            group_id: &self.options.group,
            generation_id: self.generation_id,
            member_id: &self.member_id,
            protocol_type: Some(PROTOCOL_TYPE),
            protocol_name: Some(ASSIGNOR),
            assignments: assignments
                .iter()
                .map(|(member_id, assignment)| SyncGroupRequestAssignment { member_id, assignment })
                .collect(),
            ..Default::default()
        };
        let answer = self.connection.call(&request).await?;
        let response = answer.decode()?;
        Error::check(response.error_code)?;
        if response.assignment.is_empty() {
            return Ok(());
        }
        let (version, body) = split_version(response.assignment)?;
        let assigned: ConsumerProtocolAssignment<'_> =
            Decode::decode(&mut Reader::new(body), version)?;
        for topic in assigned.assigned_partitions {
            self.assignment.insert(topic.topic.to_owned(), topic.partitions);
        }
        Ok(())
    }

    /// Tells the coordinator that this member lives.
    ///
    /// # Errors
    /// The connection's or the coordinator's: after [`ErrorCode::RebalanceInProgress`] it has to
    /// join again.
    pub async fn heartbeat(&self) -> Result<()> {
        let request = HeartbeatRequest {
            group_id: &self.options.group,
            generation_id: self.generation_id,
            member_id: &self.member_id,
            ..Default::default()
        };
        let answer = self.connection.call(&request).await?;
        Error::check(answer.decode()?.error_code)
    }

    /// Leaves the group, so that the others need not wait for the session to time out.
    ///
    /// # Errors
    /// The connection's or the coordinator's.
    pub async fn leave(self) -> Result<()> {
        let member = MemberIdentity { member_id: &self.member_id, ..Default::default() };
        let request = LeaveGroupRequest {
            group_id: &self.options.group,
            member_id: &self.member_id,
            members: vec![member],
        };
        let answer = self.connection.call(&request).await?;
        let response = answer.decode()?;
        Error::check(response.error_code)?;
        response.members.iter().try_for_each(|member| Error::check(member.error_code))
    }

    /// Commits offsets: of each partition the one to go on from.
    ///
    /// # Errors
    /// The connection's or the coordinator's, of any of them.
    pub async fn commit(&self, offsets: &CommittedOffsets) -> Result<()> {
        self.connection
            .commit_offsets(&self.options.group, &self.member_id, self.generation_id, offsets)
            .await
    }
}

/// What the coordinator answered to a join, without the bytes that it came in.
struct Joined {
    error_code: i16,
    generation_id: i32,
    leader: String,
    member_id: String,
    /// Every member's topics; the leader's answer has them.
    members: BTreeMap<String, Vec<String>>,
}

impl Joined {
    fn read(response: &JoinGroupResponse<'_>) -> Result<Joined> {
        let mut members = BTreeMap::new();
        for member in &response.members {
            let (version, body) = split_version(member.metadata)?;
            let subscription: ConsumerProtocolSubscription<'_> =
                Decode::decode(&mut Reader::new(body), version)?;
            let topics = subscription.topics.iter().map(|topic| (*topic).to_owned()).collect();
            members.insert(member.member_id.to_owned(), topics);
        }
        Ok(Joined {
            error_code: response.error_code,
            generation_id: response.generation_id,
            leader: response.leader.to_owned(),
            member_id: response.member_id.to_owned(),
            members,
        })
    }
}

impl Connection {
    /// Where a group's coordinator is: its node and address.
    ///
    /// # Errors
    /// The connection's or the broker's.
    pub async fn find_coordinator(&self, group: &str) -> Result<(i32, String, i32)> {
        self.find_coordinator_of(group, 0).await
    }

    /// The same of a transactional id.
    ///
    /// # Errors
    /// The connection's or the broker's.
    pub async fn find_transaction_coordinator(&self, id: &str) -> Result<(i32, String, i32)> {
        self.find_coordinator_of(id, 1).await
    }

    async fn find_coordinator_of(&self, key: &str, key_type: i8) -> Result<(i32, String, i32)> {
        let request = FindCoordinatorRequest { key, key_type, coordinator_keys: vec![key] };
        let answer = self.call(&request).await?;
        let response = answer.decode()?;
        if let Some(coordinator) = response.coordinators.first() {
            Error::check(coordinator.error_code)?;
            return Ok((coordinator.node_id, coordinator.host.to_owned(), coordinator.port));
        }
        Error::check(response.error_code)?;
        Ok((response.node_id, response.host.to_owned(), response.port))
    }

    /// The groups that this broker coordinates.
    ///
    /// # Errors
    /// The connection's or the broker's.
    pub async fn list_groups(&self) -> Result<Vec<ListedGroup>> {
        let answer = self.call(&ListGroupsRequest::default()).await?;
        let response = answer.decode()?;
        Error::check(response.error_code)?;
        let listed = response.groups.iter().map(|group| ListedGroup {
            group_id: group.group_id.to_owned(),
            state: group.group_state.to_owned(),
            group_type: group.group_type.to_owned(),
        });
        Ok(listed.collect())
    }

    /// Commits offsets for a group; with an empty member and generation -1 from outside it.
    ///
    /// # Errors
    /// The connection's or the coordinator's, of any of them.
    pub async fn commit_offsets(
        &self,
        group: &str,
        member_id: &str,
        generation_id: i32,
        offsets: &CommittedOffsets,
    ) -> Result<()> {
        let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition<'_>>> = BTreeMap::new();
        for ((topic, partition), committed) in offsets {
            topics.entry(topic).or_default().push(OffsetCommitRequestPartition {
                partition_index: *partition,
                committed_offset: committed.offset.0,
                committed_metadata: Some(&committed.metadata),
                ..Default::default()
            });
        }
        let topics = topics.into_iter().map(|(name, partitions)| OffsetCommitRequestTopic {
            name,
            partitions,
            ..Default::default()
        });
        let request = OffsetCommitRequest {
            group_id: group,
            generation_id_or_member_epoch: generation_id,
            member_id,
            topics: topics.collect(),
            ..Default::default()
        };
        let answer = self.call(&request).await?;
        let response = answer.decode()?;
        let mut partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.try_for_each(|partition| Error::check(partition.error_code))
    }

    /// The offsets that a group has committed for these partitions, or for all; those without one
    /// are left out. One that a transaction is about to change is no answer yet.
    ///
    /// # Errors
    /// The connection's or the coordinator's.
    pub async fn committed_offsets(
        &self,
        group: &str,
        partitions: Option<&Assignment>,
    ) -> Result<CommittedOffsets> {
        let old = partitions.map(|partitions| {
            let topics = partitions.iter().map(|(name, partitions)| OffsetFetchRequestTopic {
                name,
                partition_indexes: partitions.clone(),
            });
            topics.collect()
        });
        let new = partitions.map(|partitions| {
            let topics = partitions.iter().map(|(name, partitions)| OffsetFetchRequestTopics {
                name,
                partition_indexes: partitions.clone(),
                ..Default::default()
            });
            topics.collect()
        });
        let request = OffsetFetchRequest {
            group_id: group,
            topics: old,
            groups: vec![OffsetFetchRequestGroup {
                group_id: group,
                topics: new,
                ..Default::default()
            }],
            require_stable: true,
        };
        let answer = self.call(&request).await?;
        let response = answer.decode()?;
        Error::check(response.error_code)?;
        let mut committed = CommittedOffsets::new();
        let mut note = |topic: &str, partition: i32, offset: i64, metadata: Option<&str>| {
            if offset >= 0 {
                let metadata = metadata.unwrap_or_default().to_owned();
                let found = CommittedOffset { offset: Offset(offset), metadata };
                committed.insert((topic.to_owned(), partition), found);
            }
        };
        for topic in &response.topics {
            for partition in &topic.partitions {
                Error::check(partition.error_code)?;
                let offset = partition.committed_offset;
                note(topic.name, partition.partition_index, offset, partition.metadata);
            }
        }
        for group in &response.groups {
            Error::check(group.error_code)?;
            for topic in &group.topics {
                for partition in &topic.partitions {
                    Error::check(partition.error_code)?;
                    let offset = partition.committed_offset;
                    note(topic.name, partition.partition_index, offset, partition.metadata);
                }
            }
        }
        Ok(committed)
    }
}

/// A structure of the consumer protocol: its version, then its bytes.
fn with_version(message: &impl wire::Encode) -> Result<bytes::Bytes> {
    let body = wire::encode(message, CONSUMER_PROTOCOL_VERSION)?;
    Ok([&CONSUMER_PROTOCOL_VERSION.to_be_bytes()[..], &body].concat().into())
}

fn split_version(bytes: &[u8]) -> Result<(i16, &[u8])> {
    let (version, body) =
        bytes.split_first_chunk::<2>().ok_or(Error::Wire(wire::Error::Truncated))?;
    // A newer member may write a newer version: what this one knows of it comes first.
    Ok((i16::from_be_bytes(*version).min(3), body))
}

fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
