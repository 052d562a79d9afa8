//! Responses as the coordinator keeps them, and as each version of the protocol writes them.
//!
//! A response may come long after its request and on another shard, so these own what they hold.

use bytes::Bytes;
use model::{ErrorCode, TopicId};
use wire::consumer_group_heartbeat_response::{
    Assignment, ConsumerGroupHeartbeatResponse, TopicPartitions,
};
use wire::delete_groups_response::{DeletableGroupResult, DeleteGroupsResponse};
use wire::heartbeat_response::HeartbeatResponse;
use wire::join_group_response::{JoinGroupResponse, JoinGroupResponseMember};
use wire::leave_group_response::{LeaveGroupResponse, MemberResponse};
use wire::offset_commit_response::{
    OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use wire::offset_delete_response::{
    OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use wire::sync_group_response::SyncGroupResponse;
use wire::txn_offset_commit_response::{
    TxnOffsetCommitResponse, TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use wire::{Encoded, frame};

/// The first version of JoinGroup whose protocol name may be null.
const JOIN_NULL_PROTOCOL_FROM: i16 = 7;
/// The first version of LeaveGroup with several members.
const LEAVE_BATCH_FROM: i16 = 3;
/// The first version of OffsetCommit and OffsetFetch that names topics by id.
pub(crate) const TOPIC_IDS_FROM: i16 = 10;

/// The first version of TxnOffsetCommit that names topics by id.
const TXN_TOPIC_IDS_FROM: i16 = 6;
/// Older clients than those of this version of TxnOffsetCommit take loading for an end.
const TXN_LOADING_FROM: i16 = 2;

/// What a request is answered with.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// To JoinGroup.
    Join(Join),
    /// To SyncGroup.
    Sync(Sync),
    /// To Heartbeat.
    Heartbeat(ErrorCode),
    /// To LeaveGroup.
    Leave(Leave),
    /// To ConsumerGroupHeartbeat.
    ConsumerHeartbeat(ConsumerHeartbeat),
    /// To OffsetCommit.
    OffsetCommit(OffsetCommit),
    /// To TxnOffsetCommit.
    TxnOffsetCommit(OffsetCommit),
    /// To whoever ends a transaction in this partition; no client's.
    TransactionEnded(ErrorCode),
    /// To OffsetDelete.
    OffsetDelete(OffsetDelete),
    /// To DeleteGroups, or to the part of it that this coordinator was given.
    DeleteGroups(Vec<(String, ErrorCode)>),
}

/// To JoinGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// Whether it failed.
    pub error: ErrorCode,
    /// The generation; -1 on errors.
    pub generation: i32,
    /// What kind of group this is.
    pub protocol_type: Option<String>,
    /// What the members agreed on.
    pub protocol: Option<String>,
    /// Who assigns; empty on errors.
    pub leader: String,
    /// Whether the leader must keep the assignment that there is.
    pub skip_assignment: bool,
    /// Who the member is.
    pub member_id: String,
    /// For the leader: everybody.
    pub members: Vec<JoinMember>,
}

/// A member, for the leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinMember {
    /// Who.
    pub member_id: String,
    /// Its static name.
    pub instance_id: Option<String>,
    /// What it said of itself, opaque.
    pub metadata: Bytes,
}

impl Join {
    /// A refusal.
    #[must_use]
    pub fn failed(error: ErrorCode, member_id: &str) -> Join {
        Join {
            error,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: Vec::new(),
        }
    }

    fn to_wire(&self, version: i16) -> JoinGroupResponse<'_> {
        let no_protocol = if version < JOIN_NULL_PROTOCOL_FROM { Some("") } else { None };
        JoinGroupResponse {
            throttle_time_ms: 0,
            error_code: self.error.code(),
            generation_id: self.generation,
            protocol_type: self.protocol_type.as_deref(),
            protocol_name: self.protocol.as_deref().or(no_protocol),
            leader: &self.leader,
            skip_assignment: self.skip_assignment,
            member_id: &self.member_id,
            members: self
                .members
                .iter()
                .map(|member| JoinGroupResponseMember {
                    member_id: &member.member_id,
                    group_instance_id: member.instance_id.as_deref(),
                    metadata: &member.metadata,
                })
                .collect(),
        }
    }
}

/// To SyncGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sync {
    /// Whether it failed.
    pub error: ErrorCode,
    /// What kind of group this is.
    pub protocol_type: Option<String>,
    /// What the members agreed on.
    pub protocol: Option<String>,
    /// What the leader gave this member, opaque.
    pub assignment: Bytes,
}

impl Sync {
    /// A refusal.
    #[must_use]
    pub fn failed(error: ErrorCode) -> Sync {
        Sync { error, protocol_type: None, protocol: None, assignment: Bytes::new() }
    }
}

/// Partitions by topic.
pub type ConsumerAssignment = Vec<(TopicId, Vec<i32>)>;

/// To ConsumerGroupHeartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerHeartbeat {
    /// Whether it failed.
    pub error: ErrorCode,
    /// What there is to say about that.
    pub error_message: Option<String>,
    /// Who the member is.
    pub member_id: Option<String>,
    /// The epoch that it is at now.
    pub member_epoch: i32,
    /// When it is to come again.
    pub heartbeat_interval_ms: i32,
    /// What it may read, where that is news.
    pub assignment: Option<ConsumerAssignment>,
}

impl ConsumerHeartbeat {
    /// A refusal.
    #[must_use]
    pub fn failed(error: ErrorCode, error_message: Option<String>) -> ConsumerHeartbeat {
        ConsumerHeartbeat {
            error,
            error_message,
            member_id: None,
            member_epoch: 0,
            heartbeat_interval_ms: 0,
            assignment: None,
        }
    }

    fn to_wire(&self) -> ConsumerGroupHeartbeatResponse<'_> {
        let topics = |assignment: &ConsumerAssignment| {
            let topics = assignment.iter().map(|(topic_id, partitions)| TopicPartitions {
                topic_id: *topic_id,
                partitions: partitions.clone(),
            });
            Assignment { topic_partitions: topics.collect() }
        };
        ConsumerGroupHeartbeatResponse {
            throttle_time_ms: 0,
            error_code: self.error.code(),
            error_message: self.error_message.as_deref(),
            member_id: self.member_id.as_deref(),
            member_epoch: self.member_epoch,
            heartbeat_interval_ms: self.heartbeat_interval_ms,
            assignment: self.assignment.as_ref().map(topics),
        }
    }
}

/// To LeaveGroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leave {
    /// Whether all of it failed.
    pub error: ErrorCode,
    /// What became of each member, in the order of the request.
    pub members: Vec<LeftMember>,
}

/// A member that was to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftMember {
    /// Who.
    pub member_id: String,
    /// Its static name.
    pub instance_id: Option<String>,
    /// Whether it failed.
    pub error: ErrorCode,
}

impl Leave {
    fn to_wire(&self, version: i16) -> LeaveGroupResponse<'_> {
        let first = self.members.first().map_or(ErrorCode::None, |member| member.error);
        let is_single = version < LEAVE_BATCH_FROM && self.error == ErrorCode::None;
        let member = |member: &'_ LeftMember| member.error.code();
        LeaveGroupResponse {
            throttle_time_ms: 0,
            error_code: if is_single { first.code() } else { self.error.code() },
            members: self
                .members
                .iter()
                .map(|left| MemberResponse {
                    member_id: &left.member_id,
                    group_instance_id: left.instance_id.as_deref(),
                    error_code: member(left),
                })
                .collect(),
        }
    }
}

/// To OffsetCommit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetCommit {
    /// What became of each topic, in the order of the request.
    pub topics: Vec<CommittedTopic>,
}

/// A topic whose offsets were to be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommittedTopic {
    /// Its name.
    pub name: String,
    /// Its id.
    pub topic_id: TopicId,
    /// Each partition and what became of it.
    pub partitions: Vec<(i32, ErrorCode)>,
}

impl CommittedTopic {
    /// A topic for which nothing is committed.
    pub(crate) fn refused(
        name: &str,
        topic_id: TopicId,
        partitions: impl Iterator<Item = i32>,
        error: ErrorCode,
    ) -> CommittedTopic {
        let partitions = partitions.map(|one| (one, error)).collect();
        CommittedTopic { name: name.to_owned(), topic_id, partitions }
    }
}

impl OffsetCommit {
    /// That nothing is committed: for each topic, by name, id and partitions.
    pub fn refused<'a>(
        topics: impl Iterator<Item = (&'a str, TopicId, impl Iterator<Item = i32>)>,
        error: ErrorCode,
    ) -> OffsetCommit {
        let refused = topics.map(|(name, topic_id, partitions)| {
            CommittedTopic::refused(name, topic_id, partitions, error)
        });
        OffsetCommit { topics: refused.collect() }
    }

    /// All partitions, by the ids of their topics.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = (TopicId, i32)> {
        self.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|(partition, _)| (topic.topic_id, *partition))
        })
    }

    /// Puts an error where there is none yet.
    pub(crate) fn fail(&mut self, error: ErrorCode) {
        let partitions = self.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        for (_, result) in partitions.filter(|(_, result)| *result == ErrorCode::None) {
            *result = error;
        }
    }

    fn to_wire(&self, version: i16) -> OffsetCommitResponse<'_> {
        let topics = self.topics.iter().map(|topic| OffsetCommitResponseTopic {
            name: if version < TOPIC_IDS_FROM { &topic.name } else { "" },
            topic_id: topic.topic_id,
            partitions: topic
                .partitions
                .iter()
                .map(|(partition, error)| OffsetCommitResponsePartition {
                    partition_index: *partition,
                    error_code: error.code(),
                })
                .collect(),
        });
        OffsetCommitResponse { throttle_time_ms: 0, topics: topics.collect() }
    }

    fn to_transactional(&self, version: i16) -> TxnOffsetCommitResponse<'_> {
        let is_unknown = |error: ErrorCode| {
            error == ErrorCode::CoordinatorLoadInProgress && version < TXN_LOADING_FROM
        };
        let error = |error: ErrorCode| {
            if is_unknown(error) { ErrorCode::CoordinatorNotAvailable } else { error }
        };
        let topics = self.topics.iter().map(|topic| TxnOffsetCommitResponseTopic {
            name: if version < TXN_TOPIC_IDS_FROM { &topic.name } else { "" },
            topic_id: topic.topic_id,
            partitions: topic
                .partitions
                .iter()
                .map(|(partition, result)| TxnOffsetCommitResponsePartition {
                    partition_index: *partition,
                    error_code: error(*result).code(),
                })
                .collect(),
        });
        TxnOffsetCommitResponse { throttle_time_ms: 0, topics: topics.collect() }
    }
}

/// To OffsetDelete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetDelete {
    /// Whether all of it failed.
    pub error: ErrorCode,
    /// Each topic, with each partition and what became of it.
    pub topics: Vec<(String, Vec<(i32, ErrorCode)>)>,
}

impl OffsetDelete {
    fn to_wire(&self) -> OffsetDeleteResponse<'_> {
        let topics = self.topics.iter().map(|(name, partitions)| OffsetDeleteResponseTopic {
            name,
            partitions: partitions
                .iter()
                .map(|(partition, error)| OffsetDeleteResponsePartition {
                    partition_index: *partition,
                    error_code: error.code(),
                })
                .collect(),
        });
        OffsetDeleteResponse {
            error_code: self.error.code(),
            throttle_time_ms: 0,
            topics: topics.collect(),
        }
    }
}

impl Response {
    /// What is told in the place of this where it cannot be.
    pub(crate) fn failed(self, error: ErrorCode) -> Response {
        match self {
            Response::Join(_) => Response::Join(Join::failed(error, "")),
            Response::Sync(_) => Response::Sync(Sync::failed(error)),
            Response::Heartbeat(_) => Response::Heartbeat(error),
            Response::Leave(_) => Response::Leave(Leave { error, members: Vec::new() }),
            Response::ConsumerHeartbeat(_) => {
                Response::ConsumerHeartbeat(ConsumerHeartbeat::failed(error, None))
            }
            Response::OffsetCommit(mut commit) => {
                commit.fail(error);
                Response::OffsetCommit(commit)
            }
            Response::TxnOffsetCommit(mut commit) => {
                commit.fail(error);
                Response::TxnOffsetCommit(commit)
            }
            // What is a coordinator of groups for others is a partition for that of transactions.
            Response::TransactionEnded(_) if error == ErrorCode::NotCoordinator => {
                Response::TransactionEnded(ErrorCode::NotLeaderOrFollower)
            }
            Response::TransactionEnded(_) => Response::TransactionEnded(error),
            Response::OffsetDelete(_) => {
                Response::OffsetDelete(OffsetDelete { error, topics: Vec::new() })
            }
            Response::DeleteGroups(mut results) => {
                for (_, result) in results.iter_mut().filter(|(_, one)| *one == ErrorCode::None) {
                    *result = error;
                }
                Response::DeleteGroups(results)
            }
        }
    }

    /// The response as a frame, in the version of its request.
    ///
    /// # Errors
    /// When it does not fit the protocol, which only a field that is too long can cause.
    pub fn encode(&self, correlation_id: i32, version: i16) -> wire::Result<Encoded> {
        match self {
            Response::Join(join) => {
                frame::encode_response(correlation_id, version, &join.to_wire(version))
            }
            Response::Sync(sync) => {
                let response = SyncGroupResponse {
                    throttle_time_ms: 0,
                    error_code: sync.error.code(),
                    protocol_type: sync.protocol_type.as_deref(),
                    protocol_name: sync.protocol.as_deref(),
                    assignment: &sync.assignment,
                };
                frame::encode_response(correlation_id, version, &response)
            }
            Response::Heartbeat(error) => {
                let response = HeartbeatResponse { throttle_time_ms: 0, error_code: error.code() };
                frame::encode_response(correlation_id, version, &response)
            }
            Response::ConsumerHeartbeat(heartbeat) => {
                frame::encode_response(correlation_id, version, &heartbeat.to_wire())
            }
            Response::Leave(leave) => {
                frame::encode_response(correlation_id, version, &leave.to_wire(version))
            }
            Response::OffsetCommit(commit) => {
                frame::encode_response(correlation_id, version, &commit.to_wire(version))
            }
            Response::TxnOffsetCommit(commit) => {
                frame::encode_response(correlation_id, version, &commit.to_transactional(version))
            }
            Response::TransactionEnded(_) => unreachable!("only this broker asks for it"),
            Response::OffsetDelete(delete) => {
                frame::encode_response(correlation_id, version, &delete.to_wire())
            }
            Response::DeleteGroups(groups) => {
                let results = groups.iter().map(|(group_id, error)| DeletableGroupResult {
                    group_id,
                    error_code: error.code(),
                    ..DeletableGroupResult::default()
                });
                let response =
                    DeleteGroupsResponse { throttle_time_ms: 0, results: results.collect() };
                frame::encode_response(correlation_id, version, &response)
            }
        }
    }
}
