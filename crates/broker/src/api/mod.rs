//! One file for each API; here the table of what is offered, and the way from a frame to an answer.

#[path = "25_add_offsets_to_txn.rs"]
mod add_offsets_to_txn;
#[path = "24_add_partitions_to_txn.rs"]
mod add_partitions_to_txn;
#[path = "33_alter_configs.rs"]
mod alter_configs;
#[path = "45_alter_partition_reassignments.rs"]
mod alter_partition_reassignments;
#[path = "34_alter_replica_log_dirs.rs"]
mod alter_replica_log_dirs;
#[path = "18_api_versions.rs"]
mod api_versions;
mod authorized_operations;
mod config_resources;
#[path = "69_consumer_group_describe.rs"]
mod consumer_group_describe;
#[path = "68_consumer_group_heartbeat.rs"]
mod consumer_group_heartbeat;
#[path = "37_create_partitions.rs"]
mod create_partitions;
#[path = "19_create_topics.rs"]
pub(crate) mod create_topics;
#[path = "42_delete_groups.rs"]
mod delete_groups;
#[path = "21_delete_records.rs"]
mod delete_records;
#[path = "20_delete_topics.rs"]
mod delete_topics;
#[path = "60_describe_cluster.rs"]
mod describe_cluster;
#[path = "32_describe_configs.rs"]
mod describe_configs;
#[path = "15_describe_groups.rs"]
mod describe_groups;
#[path = "35_describe_log_dirs.rs"]
mod describe_log_dirs;
#[path = "61_describe_producers.rs"]
mod describe_producers;
#[path = "55_describe_quorum.rs"]
mod describe_quorum;
#[path = "75_describe_topic_partitions.rs"]
mod describe_topic_partitions;
#[path = "65_describe_transactions.rs"]
mod describe_transactions;
#[path = "43_elect_leaders.rs"]
mod elect_leaders;
#[path = "26_end_txn.rs"]
mod end_txn;
#[path = "01_fetch.rs"]
mod fetch;
pub(crate) mod fetch_session;
#[path = "10_find_coordinator.rs"]
mod find_coordinator;
#[path = "71_get_telemetry_subscriptions.rs"]
mod get_telemetry_subscriptions;
mod group_requests;
#[path = "12_heartbeat.rs"]
mod heartbeat;
#[path = "44_incremental_alter_configs.rs"]
mod incremental_alter_configs;
#[path = "22_init_producer_id.rs"]
mod init_producer_id;
mod isolation;
#[path = "11_join_group.rs"]
mod join_group;
#[path = "13_leave_group.rs"]
mod leave_group;
#[path = "74_list_config_resources.rs"]
mod list_config_resources;
#[path = "16_list_groups.rs"]
mod list_groups;
#[path = "02_list_offsets.rs"]
mod list_offsets;
#[path = "46_list_partition_reassignments.rs"]
mod list_partition_reassignments;
#[path = "66_list_transactions.rs"]
mod list_transactions;
#[path = "03_metadata.rs"]
mod metadata;
#[path = "08_offset_commit.rs"]
mod offset_commit;
#[path = "47_offset_delete.rs"]
mod offset_delete;
#[path = "09_offset_fetch.rs"]
mod offset_fetch;
#[path = "23_offset_for_leader_epoch.rs"]
mod offset_for_leader_epoch;
#[path = "00_produce.rs"]
pub(crate) mod produce;
mod produce_checks;
#[path = "72_push_telemetry.rs"]
mod push_telemetry;
#[path = "14_sync_group.rs"]
mod sync_group;
#[path = "28_txn_offset_commit.rs"]
mod txn_offset_commit;
#[path = "64_unregister_broker.rs"]
mod unregister_broker;
#[path = "57_update_features.rs"]
mod update_features;
#[path = "27_write_txn_markers.rs"]
mod write_txn_markers;

use std::{
    fmt,
    future::{Future, ready},
    pin::Pin,
    rc::Rc,
};

use bytes::Bytes;
use model::ErrorCode;
use wire::{
    Encoded, Response,
    api::ApiKey,
    frame::{self, RequestHead},
};

use crate::{config::BrokerConfig, connection::Connection, shard::Shard};

/// An API with the versions that this broker answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offered {
    /// The API.
    pub key: ApiKey,
    /// The oldest version answered.
    pub min: i16,
    /// The newest version answered.
    pub max: i16,
}

const fn offered(key: ApiKey, min: i16, max: i16) -> Offered {
    Offered { key, min, max }
}

/// What this broker answers, in the order of the keys. docs/COMPATIBILITY.md is made from it.
pub const OFFERED: &[Offered] = &[
    offered(ApiKey::Produce, 3, 13),
    offered(ApiKey::Fetch, 4, 18),
    offered(ApiKey::ListOffsets, 1, 11),
    offered(ApiKey::Metadata, 0, 13),
    offered(ApiKey::OffsetCommit, 2, 10),
    offered(ApiKey::OffsetFetch, 1, 10),
    offered(ApiKey::FindCoordinator, 0, 6),
    offered(ApiKey::JoinGroup, 0, 9),
    offered(ApiKey::Heartbeat, 0, 4),
    offered(ApiKey::LeaveGroup, 0, 5),
    offered(ApiKey::SyncGroup, 0, 5),
    offered(ApiKey::DescribeGroups, 0, 6),
    offered(ApiKey::ListGroups, 0, 5),
    offered(ApiKey::ApiVersions, 0, 5),
    offered(ApiKey::CreateTopics, 2, 7),
    offered(ApiKey::DeleteTopics, 1, 6),
    offered(ApiKey::DeleteRecords, 0, 2),
    offered(ApiKey::InitProducerId, 0, 5),
    offered(ApiKey::OffsetForLeaderEpoch, 2, 4),
    offered(ApiKey::AddPartitionsToTxn, 0, 5),
    offered(ApiKey::AddOffsetsToTxn, 0, 4),
    offered(ApiKey::EndTxn, 0, 5),
    offered(ApiKey::WriteTxnMarkers, 1, 2),
    offered(ApiKey::TxnOffsetCommit, 0, 6),
    offered(ApiKey::DescribeConfigs, 1, 4),
    offered(ApiKey::AlterConfigs, 0, 2),
    offered(ApiKey::AlterReplicaLogDirs, 1, 2),
    offered(ApiKey::DescribeLogDirs, 1, 5),
    offered(ApiKey::CreatePartitions, 0, 3),
    offered(ApiKey::DeleteGroups, 0, 3),
    offered(ApiKey::ElectLeaders, 0, 2),
    offered(ApiKey::IncrementalAlterConfigs, 0, 1),
    offered(ApiKey::AlterPartitionReassignments, 0, 1),
    offered(ApiKey::ListPartitionReassignments, 0, 0),
    offered(ApiKey::OffsetDelete, 0, 0),
    offered(ApiKey::DescribeQuorum, 0, 2),
    offered(ApiKey::UpdateFeatures, 0, 2),
    offered(ApiKey::DescribeCluster, 0, 2),
    offered(ApiKey::DescribeProducers, 0, 0),
    offered(ApiKey::UnregisterBroker, 0, 0),
    offered(ApiKey::DescribeTransactions, 0, 0),
    offered(ApiKey::ListTransactions, 0, 2),
    offered(ApiKey::ConsumerGroupHeartbeat, 0, 1),
    offered(ApiKey::ConsumerGroupDescribe, 0, 1),
    offered(ApiKey::GetTelemetrySubscriptions, 0, 0),
    offered(ApiKey::PushTelemetry, 0, 0),
    offered(ApiKey::ListConfigResources, 0, 1),
    offered(ApiKey::DescribeTopicPartitions, 0, 0),
];

/// Why a request gets no answer but the end of its connection, as Apache Kafka does it.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The bytes are no request.
    Malformed(wire::Error),
    /// An API or a version that is not offered.
    NotOffered { key: ApiKey, version: i16 },
    /// A produce with acks=0 that failed: the connection ends, since no answer can say it.
    FailedWithoutAcks,
}

impl From<wire::Error> for Refusal {
    fn from(error: wire::Error) -> Refusal {
        Refusal::Malformed(error)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Malformed(error) => write!(formatter, "malformed request: {error}"),
            Refusal::NotOffered { key, version } => {
                write!(formatter, "{key:?} version {version} is not offered")
            }
            Refusal::FailedWithoutAcks => formatter.write_str("a produce with acks=0 failed"),
        }
    }
}

/// What a handler gives: the encoded answer.
pub(crate) type Answer = Result<Encoded, Refusal>;

/// A request with its header taken off.
#[derive(Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) shard: &'a Rc<Shard>,
    pub(crate) connection: &'a Rc<Connection>,
    pub(crate) head: RequestHead<'a>,
    /// The whole frame.
    pub(crate) frame: &'a Bytes,
    /// The frame behind its header.
    pub(crate) body: &'a [u8],
}

impl<'a> Request<'a> {
    /// The request as a struct that borrows from the frame.
    pub(crate) fn decode<M: wire::Message + wire::Decode<'a>>(&self) -> Result<M, wire::Error> {
        frame::decode_body(wire::Reader::new(self.body), self.head.version)
    }

    /// Encodes the answer.
    pub(crate) fn respond<R: Response>(&self, response: &R) -> Answer {
        Ok(frame::encode_response(self.head.correlation_id, self.head.version, response)?)
    }
}

/// The client's address, as Java writes it.
fn client_host(request: &Request<'_>) -> String {
    format!("/{}", request.connection.peer.ip().to_canonical())
}

/// An error in words that a client of this version knows: PRODUCER_FENCED came later.
fn old_client_error(error: ErrorCode, version: i16, fenced_from: i16) -> ErrorCode {
    if error == ErrorCode::ProducerFenced && version < fenced_from {
        ErrorCode::InvalidProducerEpoch
    } else {
        error
    }
}

/// What is offered where clients' metrics are taken, and only there.
pub const TELEMETRY: [ApiKey; 2] = [ApiKey::GetTelemetrySubscriptions, ApiKey::PushTelemetry];

/// What this broker offers with these settings.
fn offered_with(config: &BrokerConfig) -> impl Iterator<Item = &'static Offered> {
    let is_telemetry_received = config.telemetry.is_received;
    OFFERED.iter().filter(move |row| is_telemetry_received || !TELEMETRY.contains(&row.key))
}

/// Whether a version is offered.
fn is_offered(config: &BrokerConfig, key: ApiKey, version: i16) -> bool {
    offered_with(config).any(|row| row.key == key && (row.min..=row.max).contains(&version))
}

/// What answers requests of one API.
type Handler = for<'a> fn(&'a Request<'a>) -> Pin<Box<dyn Future<Output = Answer> + 'a>>;

/// Who answers an API's requests, other than Produce's and ApiVersions'. Each handler's future has
/// a box of its own, so that a connection that waits is no larger than what it waits for.
#[expect(clippy::wildcard_enum_match_arm, reason = "what is not offered has no handler")]
fn handler(key: ApiKey) -> Option<Handler> {
    let handler: Handler = match key {
        ApiKey::Fetch => |request| Box::pin(fetch::answer(request)),
        ApiKey::ListOffsets => |request| Box::pin(list_offsets::answer(request)),
        ApiKey::Metadata => |request| Box::pin(metadata::answer(request)),
        ApiKey::OffsetCommit => |request| Box::pin(offset_commit::answer(request)),
        ApiKey::OffsetFetch => |request| Box::pin(offset_fetch::answer(request)),
        ApiKey::FindCoordinator => |request| Box::pin(find_coordinator::answer(request)),
        ApiKey::JoinGroup => |request| Box::pin(join_group::answer(request)),
        ApiKey::Heartbeat => |request| Box::pin(heartbeat::answer(request)),
        ApiKey::LeaveGroup => |request| Box::pin(leave_group::answer(request)),
        ApiKey::SyncGroup => |request| Box::pin(sync_group::answer(request)),
        ApiKey::DescribeGroups => |request| Box::pin(describe_groups::answer(request)),
        ApiKey::ListGroups => |request| Box::pin(list_groups::answer(request)),
        ApiKey::CreateTopics => |request| Box::pin(create_topics::answer(request)),
        ApiKey::DeleteTopics => |request| Box::pin(delete_topics::answer(request)),
        ApiKey::DeleteRecords => |request| Box::pin(delete_records::answer(request)),
        ApiKey::InitProducerId => |request| Box::pin(init_producer_id::answer(request)),
        ApiKey::OffsetForLeaderEpoch => {
            |request| Box::pin(offset_for_leader_epoch::answer(request))
        }
        ApiKey::AddPartitionsToTxn => |request| Box::pin(add_partitions_to_txn::answer(request)),
        ApiKey::AddOffsetsToTxn => |request| Box::pin(add_offsets_to_txn::answer(request)),
        ApiKey::EndTxn => |request| Box::pin(end_txn::answer(request)),
        ApiKey::WriteTxnMarkers => |request| Box::pin(write_txn_markers::answer(request)),
        ApiKey::TxnOffsetCommit => |request| Box::pin(txn_offset_commit::answer(request)),
        ApiKey::DescribeTransactions => |request| Box::pin(describe_transactions::answer(request)),
        ApiKey::ListTransactions => |request| Box::pin(list_transactions::answer(request)),
        ApiKey::DescribeConfigs => |request| Box::pin(ready(describe_configs::answer(request))),
        ApiKey::AlterConfigs => |request| Box::pin(alter_configs::answer(request)),
        ApiKey::AlterReplicaLogDirs => {
            |request| Box::pin(ready(alter_replica_log_dirs::answer(request)))
        }
        ApiKey::DescribeLogDirs => |request| Box::pin(describe_log_dirs::answer(request)),
        ApiKey::CreatePartitions => |request| Box::pin(create_partitions::answer(request)),
        ApiKey::DeleteGroups => |request| Box::pin(delete_groups::answer(request)),
        ApiKey::ElectLeaders => |request| Box::pin(ready(elect_leaders::answer(request))),
        ApiKey::IncrementalAlterConfigs => {
            |request| Box::pin(incremental_alter_configs::answer(request))
        }
        ApiKey::AlterPartitionReassignments => {
            |request| Box::pin(ready(alter_partition_reassignments::answer(request)))
        }
        ApiKey::ListPartitionReassignments => {
            |request| Box::pin(ready(list_partition_reassignments::answer(request)))
        }
        ApiKey::OffsetDelete => |request| Box::pin(offset_delete::answer(request)),
        ApiKey::DescribeQuorum => |request| Box::pin(describe_quorum::answer(request)),
        ApiKey::UpdateFeatures => |request| Box::pin(update_features::answer(request)),
        ApiKey::DescribeCluster => |request| Box::pin(ready(describe_cluster::answer(request))),
        ApiKey::DescribeProducers => |request| Box::pin(describe_producers::answer(request)),
        ApiKey::UnregisterBroker => |request| Box::pin(ready(unregister_broker::answer(request))),
        ApiKey::ConsumerGroupHeartbeat => {
            |request| Box::pin(consumer_group_heartbeat::answer(request))
        }
        ApiKey::ConsumerGroupDescribe => {
            |request| Box::pin(consumer_group_describe::answer(request))
        }
        ApiKey::GetTelemetrySubscriptions => {
            |request| Box::pin(get_telemetry_subscriptions::answer(request))
        }
        ApiKey::PushTelemetry => |request| Box::pin(push_telemetry::answer(request)),
        ApiKey::ListConfigResources => {
            |request| Box::pin(ready(list_config_resources::answer(request)))
        }
        ApiKey::DescribeTopicPartitions => {
            |request| Box::pin(ready(describe_topic_partitions::answer(request)))
        }
        _ => return None,
    };
    Some(handler)
}

/// Answers any request but a produce.
pub(crate) async fn answer(
    shard: &Rc<Shard>,
    connection: &Rc<Connection>,
    frame: &Bytes,
) -> Result<Option<Encoded>, Refusal> {
    let (head, body) = frame::decode_request_header(frame)?;
    let body = body.rest();
    let request = Request { shard, connection, head, frame, body };
    let (key, version) = (head.key, head.version);
    if key == ApiKey::ApiVersions {
        return api_versions::answer(&request).map(Some);
    }
    match handler(key).filter(|_| is_offered(&shard.config, key, version)) {
        Some(handler) => handler(&request).await.map(Some),
        None => Err(Refusal::NotOffered { key, version }),
    }
}
