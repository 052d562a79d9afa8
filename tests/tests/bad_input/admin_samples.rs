//! Requests of administrators as [`samples`](super::samples) has those of clients.

use model::Uuid;
use tests::raw_client::framed;
use wire::{
    Reader,
    alter_partition_reassignments_request::{
        AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
    },
    alter_replica_log_dirs_request::{
        AlterReplicaLogDir, AlterReplicaLogDirTopic, AlterReplicaLogDirsRequest,
    },
    api::ApiKey,
    consumer_group_describe_request::ConsumerGroupDescribeRequest,
    consumer_group_heartbeat_request::{self, ConsumerGroupHeartbeatRequest},
    create_partitions_request::{
        CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic,
    },
    delete_groups_request::DeleteGroupsRequest,
    describe_cluster_request::DescribeClusterRequest,
    describe_groups_request::DescribeGroupsRequest,
    describe_log_dirs_request::{DescribableLogDirTopic, DescribeLogDirsRequest},
    describe_producers_request::{self, DescribeProducersRequest},
    describe_quorum_request::{self, DescribeQuorumRequest},
    describe_topic_partitions_request::{Cursor, DescribeTopicPartitionsRequest, TopicRequest},
    elect_leaders_request::{ElectLeadersRequest, TopicPartitions},
    get_telemetry_subscriptions_request::GetTelemetrySubscriptionsRequest,
    list_config_resources_request::ListConfigResourcesRequest,
    list_groups_request::ListGroupsRequest,
    list_partition_reassignments_request::{
        ListPartitionReassignmentsRequest, ListPartitionReassignmentsTopics,
    },
    offset_delete_request::{
        OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
    },
    push_telemetry_request::PushTelemetryRequest,
    unregister_broker_request::UnregisterBrokerRequest,
    update_features_request::{FeatureUpdateKey, UpdateFeaturesRequest},
};

use super::{
    samples::{GROUP, TOPIC, discard},
    transaction_samples,
};

fn describe_quorum(version: i16) -> Vec<u8> {
    let partition = describe_quorum_request::PartitionData { partition_index: 0 };
    let topic = describe_quorum_request::TopicData {
        topic_name: "__cluster_metadata",
        partitions: vec![partition],
    };
    framed(version, &DescribeQuorumRequest { topics: vec![topic] })
}

fn describe_producers(version: i16) -> Vec<u8> {
    let (name, partition_indexes) = (TOPIC, vec![0]);
    let topic = describe_producers_request::TopicRequest { name, partition_indexes };
    framed(version, &DescribeProducersRequest { topics: vec![topic] })
}

fn consumer_group_heartbeat(version: i16) -> Vec<u8> {
    let topic_id = Uuid([7; 16]);
    let owned = consumer_group_heartbeat_request::TopicPartitions { topic_id, partitions: vec![0] };
    let request = ConsumerGroupHeartbeatRequest {
        group_id: "consumers",
        member_id: "member",
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(vec![TOPIC]),
        subscribed_topic_regex: (version > 0).then_some("some.*"),
        server_assignor: Some("uniform"),
        topic_partitions: Some(vec![owned]),
        ..Default::default()
    };
    framed(version, &request)
}

fn describe_topic_partitions(version: i16) -> Vec<u8> {
    let request = DescribeTopicPartitionsRequest {
        topics: vec![TopicRequest { name: TOPIC }],
        cursor: Some(Cursor { topic_name: TOPIC, partition_index: 0 }),
        ..Default::default()
    };
    framed(version, &request)
}

/// A gauge of one value, by whom nobody has asked for it.
fn push_telemetry(version: i16) -> Vec<u8> {
    let metrics = &[
        0x0a, 20, 0x12, 18, 0x12, 16, 0x0a, 1, b'm', 0x2a, 11, 0x0a, 9, 0x21, 0, 0, 0, 0, 0, 0,
        0xf8, 0x3f,
    ];
    let request = PushTelemetryRequest {
        client_instance_id: Uuid([7; 16]),
        subscription_id: 7,
        metrics,
        ..Default::default()
    };
    framed(version, &request)
}

/// A usual request.
#[expect(clippy::wildcard_enum_match_arm, reason = "what is offered without a sample fails")]
pub(super) fn sample(key: ApiKey, version: i16) -> Vec<u8> {
    match key {
        ApiKey::DescribeGroups => framed(
            version,
            &DescribeGroupsRequest { groups: vec![GROUP, "another"], ..Default::default() },
        ),
        ApiKey::ListGroups => framed(version, &list_groups(version)),
        ApiKey::DeleteGroups => {
            framed(version, &DeleteGroupsRequest { groups_names: vec![GROUP, "another"] })
        }
        ApiKey::OffsetDelete => offset_delete(version),
        ApiKey::ConsumerGroupHeartbeat => consumer_group_heartbeat(version),
        ApiKey::ConsumerGroupDescribe => {
            let group_ids = vec![GROUP, "another"];
            framed(version, &ConsumerGroupDescribeRequest { group_ids, ..Default::default() })
        }
        ApiKey::AlterReplicaLogDirs => {
            let topic = AlterReplicaLogDirTopic { name: TOPIC, partitions: vec![0] };
            let dir = AlterReplicaLogDir { path: "/data", topics: vec![topic] };
            framed(version, &AlterReplicaLogDirsRequest { dirs: vec![dir] })
        }
        ApiKey::DescribeLogDirs => {
            let topic = DescribableLogDirTopic { topic: TOPIC, partitions: vec![0, 7] };
            framed(version, &DescribeLogDirsRequest { topics: Some(vec![topic]) })
        }
        ApiKey::CreatePartitions => create_partitions(version),
        ApiKey::ElectLeaders => {
            let topic = TopicPartitions { topic: TOPIC, partitions: vec![0] };
            let topic_partitions = Some(vec![topic]);
            framed(version, &ElectLeadersRequest { topic_partitions, ..Default::default() })
        }
        ApiKey::AlterPartitionReassignments => {
            let partition =
                ReassignablePartition { partition_index: 0, replicas: Some(vec![1, 2]) };
            let topics = vec![ReassignableTopic { name: TOPIC, partitions: vec![partition] }];
            framed(version, &AlterPartitionReassignmentsRequest { topics, ..Default::default() })
        }
        ApiKey::ListPartitionReassignments => {
            let topic =
                ListPartitionReassignmentsTopics { name: TOPIC, partition_indexes: vec![0] };
            let topics = Some(vec![topic]);
            framed(version, &ListPartitionReassignmentsRequest { topics, ..Default::default() })
        }
        ApiKey::DescribeQuorum => describe_quorum(version),
        ApiKey::DescribeProducers => describe_producers(version),
        ApiKey::UpdateFeatures => {
            // What cannot be had: a test that sends it changes nothing.
            let update = FeatureUpdateKey {
                feature: "metadata.version",
                max_version_level: 1,
                ..Default::default()
            };
            let feature_updates = vec![update];
            framed(version, &UpdateFeaturesRequest { feature_updates, ..Default::default() })
        }
        ApiKey::DescribeCluster => framed(version, &DescribeClusterRequest::default()),
        ApiKey::UnregisterBroker => framed(version, &UnregisterBrokerRequest { broker_id: 7 }),
        ApiKey::GetTelemetrySubscriptions => {
            framed(version, &GetTelemetrySubscriptionsRequest { client_instance_id: Uuid([7; 16]) })
        }
        ApiKey::PushTelemetry => push_telemetry(version),
        ApiKey::ListConfigResources => {
            let resource_types = if version == 0 { Vec::new() } else { vec![2, 4, 16] };
            framed(version, &ListConfigResourcesRequest { resource_types })
        }
        ApiKey::DescribeTopicPartitions => describe_topic_partitions(version),
        other => panic!("no sample of {other:?}"),
    }
}

/// The first versions of ListGroups with these filters.
const STATES_FROM: i16 = 4;
const TYPES_FROM: i16 = 5;

fn list_groups(version: i16) -> ListGroupsRequest<'static> {
    ListGroupsRequest {
        states_filter: if version < STATES_FROM { Vec::new() } else { vec!["Empty", "Stable"] },
        types_filter: if version < TYPES_FROM { Vec::new() } else { vec!["classic"] },
    }
}

fn offset_delete(version: i16) -> Vec<u8> {
    let partition = OffsetDeleteRequestPartition { partition_index: 0 };
    let topic = OffsetDeleteRequestTopic { name: TOPIC, partitions: vec![partition] };
    framed(version, &OffsetDeleteRequest { group_id: GROUP, topics: vec![topic] })
}

fn create_partitions(version: i16) -> Vec<u8> {
    let assignment = CreatePartitionsAssignment { broker_ids: vec![1] };
    let topic =
        CreatePartitionsTopic { name: TOPIC, count: 2, assignments: Some(vec![assignment]) };
    let topics = vec![topic];
    framed(version, &CreatePartitionsRequest { topics, timeout_ms: 1000, validate_only: false })
}

/// Decodes the body of such a request.
#[expect(clippy::wildcard_enum_match_arm, reason = "what is not offered is not decoded")]
pub(super) fn decode(key: ApiKey, body: Reader<'_>, version: i16) -> wire::Result<()> {
    match key {
        ApiKey::DescribeGroups => discard::<DescribeGroupsRequest<'_>>(body, version),
        ApiKey::ListGroups => discard::<ListGroupsRequest<'_>>(body, version),
        ApiKey::DeleteGroups => discard::<DeleteGroupsRequest<'_>>(body, version),
        ApiKey::OffsetDelete => discard::<OffsetDeleteRequest<'_>>(body, version),
        ApiKey::ConsumerGroupHeartbeat => {
            discard::<ConsumerGroupHeartbeatRequest<'_>>(body, version)
        }
        ApiKey::ConsumerGroupDescribe => discard::<ConsumerGroupDescribeRequest<'_>>(body, version),
        ApiKey::AlterReplicaLogDirs => discard::<AlterReplicaLogDirsRequest<'_>>(body, version),
        ApiKey::DescribeLogDirs => discard::<DescribeLogDirsRequest<'_>>(body, version),
        ApiKey::CreatePartitions => discard::<CreatePartitionsRequest<'_>>(body, version),
        ApiKey::ElectLeaders => discard::<ElectLeadersRequest<'_>>(body, version),
        ApiKey::AlterPartitionReassignments => {
            discard::<AlterPartitionReassignmentsRequest<'_>>(body, version)
        }
        ApiKey::ListPartitionReassignments => {
            discard::<ListPartitionReassignmentsRequest<'_>>(body, version)
        }
        ApiKey::DescribeQuorum => discard::<DescribeQuorumRequest<'_>>(body, version),
        ApiKey::DescribeProducers => discard::<DescribeProducersRequest<'_>>(body, version),
        ApiKey::UpdateFeatures => discard::<UpdateFeaturesRequest<'_>>(body, version),
        ApiKey::DescribeCluster => discard::<DescribeClusterRequest>(body, version),
        ApiKey::UnregisterBroker => discard::<UnregisterBrokerRequest>(body, version),
        ApiKey::ListConfigResources => discard::<ListConfigResourcesRequest>(body, version),
        ApiKey::DescribeTopicPartitions => {
            discard::<DescribeTopicPartitionsRequest<'_>>(body, version)
        }
        other => transaction_samples::decode(other, body, version),
    }
}
