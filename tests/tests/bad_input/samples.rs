//! Requests as clients send them, in every version that the broker offers.

use broker::api::OFFERED;
use tests::raw_client::{batch, framed};
use wire::{
    Decode, Message, Reader, Records, Request,
    alter_configs_request::{self, AlterConfigsRequest},
    api::ApiKey,
    api_versions_request::ApiVersionsRequest,
    create_topics_request::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest},
    delete_records_request::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic},
    delete_topics_request::{DeleteTopicState, DeleteTopicsRequest},
    describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource},
    fetch_request::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic},
    find_coordinator_request::FindCoordinatorRequest,
    frame,
    heartbeat_request::HeartbeatRequest,
    incremental_alter_configs_request::{self, IncrementalAlterConfigsRequest},
    init_producer_id_request::InitProducerIdRequest,
    join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol},
    leave_group_request::{LeaveGroupRequest, MemberIdentity},
    list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic},
    metadata_request::{MetadataRequest, MetadataRequestTopic},
    offset_commit_request::{
        OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    },
    offset_fetch_request::{
        OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic,
        OffsetFetchRequestTopics,
    },
    offset_for_leader_epoch_request::{
        OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
    },
    produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData},
    sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment},
};

use super::{admin_samples, transaction_samples};

/// The topic that samples talk of.
pub const TOPIC: &str = "sample";
/// The group that they talk of.
pub(super) const GROUP: &str = "group";
const MEMBER: &str = "member";
/// What a topic's settings are called on the wire, and one of them.
const TOPIC_RESOURCE: i8 = 2;
const SETTING: &str = "segment.ms";

/// One frame without its size for each version of each API that is offered.
pub fn frames() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for offered in OFFERED {
        for version in offered.min..=offered.max {
            let mut frame = sample(offered.key, version);
            frame.drain(..4);
            frames.push(frame);
        }
    }
    frames
}

/// A usual request.
#[expect(clippy::wildcard_enum_match_arm, reason = "the others are administrators'")]
fn sample(key: ApiKey, version: i16) -> Vec<u8> {
    match key {
        ApiKey::Produce => produce(version),
        ApiKey::Fetch => fetch(version),
        ApiKey::ListOffsets => list_offsets(version),
        ApiKey::Metadata => metadata(version),
        ApiKey::OffsetCommit => offset_commit(version),
        ApiKey::OffsetFetch => offset_fetch(version),
        ApiKey::FindCoordinator => find_coordinator(version),
        ApiKey::JoinGroup => join_group(version),
        ApiKey::Heartbeat => framed(
            version,
            &HeartbeatRequest { group_id: GROUP, member_id: MEMBER, ..Default::default() },
        ),
        ApiKey::LeaveGroup => leave_group(version),
        ApiKey::SyncGroup => sync_group(version),
        ApiKey::ApiVersions => framed(
            version,
            &ApiVersionsRequest {
                client_software_name: "raw",
                client_software_version: "1",
                ..Default::default()
            },
        ),
        ApiKey::CreateTopics => create_topics(version),
        ApiKey::DeleteTopics => delete_topics(version),
        ApiKey::InitProducerId => framed(
            version,
            &InitProducerIdRequest { transaction_timeout_ms: 60_000, ..Default::default() },
        ),
        ApiKey::OffsetForLeaderEpoch => offset_for_leader_epoch(version),
        ApiKey::DeleteRecords => delete_records(version),
        ApiKey::DescribeConfigs => describe_configs(version),
        ApiKey::AlterConfigs => alter_configs(version),
        ApiKey::IncrementalAlterConfigs => incremental_alter_configs(version),
        other => transaction_samples::sample(other, version)
            .unwrap_or_else(|| admin_samples::sample(other, version)),
    }
}

fn delete_records(version: i16) -> Vec<u8> {
    let partition = DeleteRecordsPartition { partition_index: 0, offset: 1 };
    let topic = DeleteRecordsTopic { name: TOPIC, partitions: vec![partition] };
    framed(version, &DeleteRecordsRequest { topics: vec![topic], timeout_ms: 1000 })
}

fn describe_configs(version: i16) -> Vec<u8> {
    let resource = DescribeConfigsResource {
        resource_type: TOPIC_RESOURCE,
        resource_name: TOPIC,
        configuration_keys: Some(vec![SETTING, "cleanup.policy"]),
    };
    framed(version, &DescribeConfigsRequest { resources: vec![resource], ..Default::default() })
}

fn alter_configs(version: i16) -> Vec<u8> {
    let config = alter_configs_request::AlterableConfig { name: SETTING, value: Some("60000") };
    let resource = alter_configs_request::AlterConfigsResource {
        resource_type: TOPIC_RESOURCE,
        resource_name: TOPIC,
        configs: vec![config],
    };
    framed(version, &AlterConfigsRequest { resources: vec![resource], validate_only: false })
}

fn incremental_alter_configs(version: i16) -> Vec<u8> {
    let config = incremental_alter_configs_request::AlterableConfig {
        name: SETTING,
        config_operation: 0,
        value: Some("60000"),
    };
    let resource = incremental_alter_configs_request::AlterConfigsResource {
        resource_type: TOPIC_RESOURCE,
        resource_name: TOPIC,
        configs: vec![config],
    };
    let resources = vec![resource];
    framed(version, &IncrementalAlterConfigsRequest { resources, validate_only: false })
}

fn offset_for_leader_epoch(version: i16) -> Vec<u8> {
    let asked = OffsetForLeaderPartition { partition: 0, leader_epoch: 1, ..Default::default() };
    let topic = OffsetForLeaderTopic { topic: TOPIC, partitions: vec![asked] };
    framed(version, &OffsetForLeaderEpochRequest { topics: vec![topic], ..Default::default() })
}

fn produce(version: i16) -> Vec<u8> {
    let records = batch(&[b"one", b"two", b"three"]);
    let data = PartitionProduceData { index: 0, records: Some(Records::Borrowed(&records)) };
    let topic = TopicProduceData { name: TOPIC, partition_data: vec![data], ..Default::default() };
    let topic_data = vec![topic];
    framed(
        version,
        &ProduceRequest { acks: -1, timeout_ms: 1000, topic_data, ..Default::default() },
    )
}

fn fetch(version: i16) -> Vec<u8> {
    let partition = FetchPartition { partition_max_bytes: 1 << 16, ..Default::default() };
    let topic = FetchTopic { topic: TOPIC, partitions: vec![partition], ..Default::default() };
    let forgotten = ForgottenTopic { topic: TOPIC, partitions: vec![1, 2], ..Default::default() };
    let request = FetchRequest {
        replica_id: -1,
        max_bytes: 1 << 16,
        topics: vec![topic],
        forgotten_topics_data: vec![forgotten],
        ..Default::default()
    };
    framed(version, &request)
}

fn list_offsets(version: i16) -> Vec<u8> {
    let partition = ListOffsetsPartition { timestamp: -1, ..Default::default() };
    let topic = ListOffsetsTopic { name: TOPIC, partitions: vec![partition] };
    let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
    framed(version, &request)
}

fn metadata(version: i16) -> Vec<u8> {
    let topic = MetadataRequestTopic { name: Some(TOPIC), ..Default::default() };
    framed(version, &MetadataRequest { topics: Some(vec![topic]), ..Default::default() })
}

fn offset_commit(version: i16) -> Vec<u8> {
    let partition = OffsetCommitRequestPartition {
        committed_offset: 3,
        committed_metadata: Some("note"),
        ..Default::default()
    };
    let topic =
        OffsetCommitRequestTopic { name: TOPIC, partitions: vec![partition], ..Default::default() };
    let request = OffsetCommitRequest {
        group_id: GROUP,
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    };
    framed(version, &request)
}

fn offset_fetch(version: i16) -> Vec<u8> {
    let partition_indexes = vec![0, 1];
    let topic =
        OffsetFetchRequestTopic { name: TOPIC, partition_indexes: partition_indexes.clone() };
    let in_group =
        OffsetFetchRequestTopics { name: TOPIC, partition_indexes, ..Default::default() };
    let group = OffsetFetchRequestGroup {
        group_id: GROUP,
        topics: Some(vec![in_group]),
        ..Default::default()
    };
    let request = OffsetFetchRequest {
        group_id: GROUP,
        topics: Some(vec![topic]),
        groups: vec![group],
        ..Default::default()
    };
    framed(version, &request)
}

fn find_coordinator(version: i16) -> Vec<u8> {
    let request = FindCoordinatorRequest {
        key: GROUP,
        coordinator_keys: vec![GROUP, "another"],
        ..Default::default()
    };
    framed(version, &request)
}

fn join_group(version: i16) -> Vec<u8> {
    let protocol = JoinGroupRequestProtocol { name: "range", metadata: b"\0\0\0\0\0\0\0\0\0\0" };
    let request = JoinGroupRequest {
        group_id: GROUP,
        session_timeout_ms: 6000,
        rebalance_timeout_ms: 6000,
        protocol_type: "consumer",
        protocols: vec![protocol],
        ..Default::default()
    };
    framed(version, &request)
}

fn leave_group(version: i16) -> Vec<u8> {
    let member = MemberIdentity { member_id: MEMBER, ..Default::default() };
    let members = vec![member];
    framed(version, &LeaveGroupRequest { group_id: GROUP, member_id: MEMBER, members })
}

fn sync_group(version: i16) -> Vec<u8> {
    let assignment = SyncGroupRequestAssignment { member_id: MEMBER, assignment: b"\0\0" };
    let request = SyncGroupRequest {
        group_id: GROUP,
        member_id: MEMBER,
        protocol_type: Some("consumer"),
        protocol_name: Some("range"),
        assignments: vec![assignment],
        ..Default::default()
    };
    framed(version, &request)
}

fn create_topics(version: i16) -> Vec<u8> {
    let config = CreatableTopicConfig { name: "retention.ms", value: Some("1000") };
    let topic = CreatableTopic {
        name: "created",
        num_partitions: 2,
        replication_factor: 1,
        configs: vec![config],
        ..Default::default()
    };
    let topics = vec![topic];
    framed(version, &CreateTopicsRequest { topics, timeout_ms: 1000, ..Default::default() })
}

fn delete_topics(version: i16) -> Vec<u8> {
    let request = DeleteTopicsRequest {
        topics: vec![DeleteTopicState { name: Some("created"), ..Default::default() }],
        topic_names: vec!["created"],
        timeout_ms: 1000,
    };
    framed(version, &request)
}

/// Decodes a frame as the broker does; hands the records of a produce to `records`.
#[expect(clippy::wildcard_enum_match_arm, reason = "the others are administrators'")]
pub fn decode(frame: &[u8], records: impl FnMut(&[u8])) -> wire::Result<()> {
    let (head, body) = frame::decode_request_header(frame)?;
    let version = head.version;
    match head.key {
        ApiKey::Produce => {
            let request: ProduceRequest<'_> = frame::decode_body(body, version)?;
            let partitions = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
            partitions
                .filter_map(|data| data.records.as_ref().and_then(Records::as_borrowed))
                .for_each(records);
            Ok(())
        }
        ApiKey::Fetch => discard::<FetchRequest<'_>>(body, version),
        ApiKey::ListOffsets => discard::<ListOffsetsRequest<'_>>(body, version),
        ApiKey::Metadata => discard::<MetadataRequest<'_>>(body, version),
        ApiKey::OffsetCommit => discard::<OffsetCommitRequest<'_>>(body, version),
        ApiKey::OffsetFetch => discard::<OffsetFetchRequest<'_>>(body, version),
        ApiKey::FindCoordinator => discard::<FindCoordinatorRequest<'_>>(body, version),
        ApiKey::JoinGroup => discard::<JoinGroupRequest<'_>>(body, version),
        ApiKey::Heartbeat => discard::<HeartbeatRequest<'_>>(body, version),
        ApiKey::LeaveGroup => discard::<LeaveGroupRequest<'_>>(body, version),
        ApiKey::SyncGroup => discard::<SyncGroupRequest<'_>>(body, version),
        ApiKey::ApiVersions => discard::<ApiVersionsRequest<'_>>(body, version),
        ApiKey::CreateTopics => discard::<CreateTopicsRequest<'_>>(body, version),
        ApiKey::DeleteTopics => discard::<DeleteTopicsRequest<'_>>(body, version),
        ApiKey::InitProducerId => discard::<InitProducerIdRequest<'_>>(body, version),
        ApiKey::OffsetForLeaderEpoch => discard::<OffsetForLeaderEpochRequest<'_>>(body, version),
        ApiKey::DeleteRecords => discard::<DeleteRecordsRequest<'_>>(body, version),
        ApiKey::DescribeConfigs => discard::<DescribeConfigsRequest<'_>>(body, version),
        ApiKey::AlterConfigs => discard::<AlterConfigsRequest<'_>>(body, version),
        ApiKey::IncrementalAlterConfigs => {
            discard::<IncrementalAlterConfigsRequest<'_>>(body, version)
        }
        other => admin_samples::decode(other, body, version),
    }
}

pub(super) fn discard<'a, M: Message + Request + Decode<'a>>(
    body: Reader<'a>,
    version: i16,
) -> wire::Result<()> {
    let message: M = frame::decode_body(body, version)?;
    std::hint::black_box(&message);
    Ok(())
}
