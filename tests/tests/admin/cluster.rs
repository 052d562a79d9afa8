//! What there is to ask of a cluster of one: DescribeCluster, DescribeQuorum, DescribeLogDirs,
//! AlterReplicaLogDirs, ElectLeaders, reassignments, UpdateFeatures, UnregisterBroker,
//! ListConfigResources.

use model::ErrorCode;
use tests::raw_client::{RawClient, batch, decoded};
use wire::{
    Decode, Message, Request,
    alter_partition_reassignments_request::{
        AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
    },
    alter_partition_reassignments_response::AlterPartitionReassignmentsResponse,
    alter_replica_log_dirs_request::{
        AlterReplicaLogDir, AlterReplicaLogDirTopic, AlterReplicaLogDirsRequest,
    },
    alter_replica_log_dirs_response::AlterReplicaLogDirsResponse,
    describe_cluster_request::DescribeClusterRequest,
    describe_cluster_response::DescribeClusterResponse,
    describe_log_dirs_request::{DescribableLogDirTopic, DescribeLogDirsRequest},
    describe_log_dirs_response::DescribeLogDirsResponse,
    describe_quorum_request::{DescribeQuorumRequest, PartitionData, TopicData},
    describe_quorum_response::DescribeQuorumResponse,
    elect_leaders_request::{ElectLeadersRequest, TopicPartitions},
    elect_leaders_response::ElectLeadersResponse,
    list_config_resources_request::ListConfigResourcesRequest,
    list_config_resources_response::ListConfigResourcesResponse,
    list_partition_reassignments_request::{
        ListPartitionReassignmentsRequest, ListPartitionReassignmentsTopics,
    },
    list_partition_reassignments_response::ListPartitionReassignmentsResponse,
    unregister_broker_request::UnregisterBrokerRequest,
    unregister_broker_response::UnregisterBrokerResponse,
    update_features_request::{FeatureUpdateKey, UpdateFeaturesRequest},
    update_features_response::UpdateFeaturesResponse,
};

use super::broker;

const OK: i16 = 0;
const TOPIC: &str = "topic";
const NODE: i32 = 1;

/// Asks, and has the answer looked at.
fn ask<'r, R: Request, A>(
    client: &mut RawClient,
    version: i16,
    request: &R,
    look: impl FnOnce(A),
    frame: &'r mut Vec<u8>,
) where
    A: Message + Decode<'r>,
{
    *frame = client.ask(version, request);
    look(decoded::<R, A>(frame, version));
}

#[test]
fn a_cluster_of_one_describes_itself() {
    let (_broker, mut client) = broker();
    for version in 0..=2 {
        let request = DescribeClusterRequest {
            include_cluster_authorized_operations: true,
            ..Default::default()
        };
        let check = |response: DescribeClusterResponse<'_>| {
            assert_eq!(response.error_code, OK);
            assert_eq!((response.controller_id, response.brokers.len()), (NODE, 1));
            let broker = &response.brokers[0];
            assert_eq!((broker.broker_id, broker.host), (NODE, "127.0.0.1"));
            assert_eq!(response.cluster_id.len(), 22);
            assert_eq!(response.cluster_authorized_operations, 0x1fa0);
        };
        ask(&mut client, version, &request, check, &mut Vec::new());
    }
    for (endpoint_type, error) in
        [(2, ErrorCode::MismatchedEndpointType), (9, ErrorCode::UnsupportedEndpointType)]
    {
        let request = DescribeClusterRequest { endpoint_type, ..Default::default() };
        let check = |response: DescribeClusterResponse<'_>| {
            assert_eq!(response.error_code, error.code());
            assert!(response.error_message.is_some() && response.brokers.is_empty());
        };
        ask(&mut client, 2, &request, check, &mut Vec::new());
    }
    for version in 0..=2 {
        let quorum = |topic_name, partition_index| DescribeQuorumRequest {
            topics: vec![TopicData {
                topic_name,
                partitions: vec![PartitionData { partition_index }],
            }],
        };
        let check = |response: DescribeQuorumResponse<'_>| {
            let partition = &response.topics[0].partitions[0];
            assert_eq!((partition.error_code, partition.leader_id), (OK, NODE));
            let voter = &partition.current_voters[0];
            assert_eq!((voter.replica_id, voter.log_end_offset), (NODE, partition.high_watermark));
            assert!(partition.high_watermark > 0 && partition.observers.is_empty());
            assert_eq!(response.nodes.len(), usize::from(version == 2));
        };
        ask(&mut client, version, &quorum("__cluster_metadata", 0), check, &mut Vec::new());
        for (topic, partition) in [("__cluster_metadata", 1), (TOPIC, 0)] {
            let check = |response: DescribeQuorumResponse<'_>| {
                let error_code = response.topics[0].partitions[0].error_code;
                assert_eq!(error_code, ErrorCode::UnknownTopicOrPartition.code());
            };
            ask(&mut client, version, &quorum(topic, partition), check, &mut Vec::new());
        }
    }
}

/// From this version on DescribeLogDirs tells the size of the file system (KIP-827).
const SPACE_FROM_VERSION: i16 = 4;

#[test]
fn log_directories_are_described_and_nothing_is_moved() {
    let (_broker, mut client) = broker();
    client.create_topic(TOPIC);
    let records = batch(&[b"one", b"two"]);
    assert_eq!(client.produce(TOPIC, &records).0, OK);
    let size = i64::try_from(records.len()).expect("a small batch");
    let mut directory = String::new();
    for version in 1..=5 {
        let check = |response: DescribeLogDirsResponse<'_>| {
            assert_eq!((response.error_code, response.results.len()), (OK, 1));
            let result = &response.results[0];
            directory = result.log_dir.to_owned();
            let [topic] = result.topics.as_slice() else { panic!("one topic: {result:?}") };
            let sizes: Vec<i64> = topic.partitions.iter().map(|one| one.partition_size).collect();
            assert_eq!((topic.name, sizes), (TOPIC, vec![size, 0, 0]));
            let (total, usable) = (result.total_bytes, result.usable_bytes);
            let is_told = total > 0 && (0..=total).contains(&usable);
            assert!(is_told || version < SPACE_FROM_VERSION, "{total} {usable}");
        };
        let all = DescribeLogDirsRequest { topics: None };
        ask(&mut client, version, &all, check, &mut Vec::new());
        let check = |response: DescribeLogDirsResponse<'_>| {
            let partitions = response.results[0].topics.iter().flat_map(|topic| &topic.partitions);
            let ids: Vec<i32> = partitions.map(|one| one.partition_index).collect();
            assert_eq!(ids, [1]);
        };
        let asked = |topic, partitions| DescribableLogDirTopic { topic, partitions };
        let topics = Some(vec![asked(TOPIC, vec![1, 9]), asked("nowhere", vec![0])]);
        ask(&mut client, version, &DescribeLogDirsRequest { topics }, check, &mut Vec::new());
    }
    let move_to = |path, name, partition| {
        let topics = vec![AlterReplicaLogDirTopic { name, partitions: vec![partition] }];
        AlterReplicaLogDirsRequest { dirs: vec![AlterReplicaLogDir { path, topics }] }
    };
    let cases = [
        (directory.as_str(), TOPIC, 0, ErrorCode::None),
        (directory.as_str(), TOPIC, 9, ErrorCode::UnknownTopicOrPartition),
        (directory.as_str(), "nowhere", 0, ErrorCode::UnknownTopicOrPartition),
        ("/elsewhere", TOPIC, 0, ErrorCode::LogDirNotFound),
    ];
    for version in 1..=2 {
        for (path, topic, partition, error) in cases {
            let check = |response: AlterReplicaLogDirsResponse<'_>| {
                assert_eq!(response.results[0].partitions[0].error_code, error.code(), "{path}");
            };
            let request = move_to(path, topic, partition);
            ask(&mut client, version, &request, check, &mut Vec::new());
        }
    }
}

#[test]
fn leaders_and_replicas_stay_where_they_are() {
    let (_broker, mut client) = broker();
    client.create_topic(TOPIC);
    let unknown = ErrorCode::UnknownTopicOrPartition;
    for version in 0..=2 {
        let partitions = |topic, partition| TopicPartitions { topic, partitions: vec![partition] };
        let named = vec![partitions(TOPIC, 0), partitions(TOPIC, 9), partitions("nowhere", 0)];
        for (topic_partitions, expected) in [
            (Some(named), vec![unknown, ErrorCode::ElectionNotNeeded, unknown]),
            (None, Vec::new()),
        ] {
            let request = ElectLeadersRequest { topic_partitions, ..Default::default() };
            let check = |response: ElectLeadersResponse<'_>| {
                let results = response.replica_election_results.iter();
                let partitions = results.flat_map(|topic| &topic.partition_result);
                let errors: Vec<_> =
                    partitions.map(|one| ErrorCode::from_code(one.error_code)).collect();
                assert_eq!((response.error_code, errors), (OK, expected));
            };
            ask(&mut client, version, &request, check, &mut Vec::new());
        }
    }
    let request = ElectLeadersRequest { election_type: 9, ..Default::default() };
    let check = |response: ElectLeadersResponse<'_>| {
        assert_eq!(response.error_code, ErrorCode::InvalidRequest.code());
    };
    ask(&mut client, 2, &request, check, &mut Vec::new());
    let invalid = ErrorCode::InvalidReplicaAssignment;
    let cases = [
        (TOPIC, 0, Some(vec![NODE]), ErrorCode::None),
        (TOPIC, 0, Some(vec![NODE, 2]), invalid),
        (TOPIC, 0, Some(vec![NODE, NODE]), invalid),
        (TOPIC, 0, Some(Vec::new()), invalid),
        (TOPIC, 0, None, ErrorCode::NoReassignmentInProgress),
        (TOPIC, 9, Some(vec![NODE]), unknown),
        ("nowhere", 0, Some(vec![NODE]), unknown),
    ];
    for version in 0..=1 {
        for (name, partition_index, replicas, error) in cases.clone() {
            let partitions = vec![ReassignablePartition { partition_index, replicas }];
            let topics = vec![ReassignableTopic { name, partitions }];
            let request = AlterPartitionReassignmentsRequest { topics, ..Default::default() };
            let check = |response: AlterPartitionReassignmentsResponse<'_>| {
                let partition = &response.responses[0].partitions[0];
                assert_eq!((response.error_code, partition.error_code), (OK, error.code()));
            };
            ask(&mut client, version, &request, check, &mut Vec::new());
        }
    }
    let named = ListPartitionReassignmentsTopics { name: TOPIC, partition_indexes: vec![0, 9] };
    for topics in [None, Some(vec![named])] {
        let request = ListPartitionReassignmentsRequest { topics, ..Default::default() };
        let check = |response: ListPartitionReassignmentsResponse<'_>| {
            assert_eq!((response.error_code, response.topics.len()), (OK, 0));
        };
        ask(&mut client, 0, &request, check, &mut Vec::new());
    }
}

#[test]
fn features_and_brokers_stay_as_they_are() {
    let (_broker, mut client) = broker();
    let cases = [
        ("metadata.version", 33, OK),
        ("metadata.version", 32, ErrorCode::InvalidUpdateVersion.code()),
        ("metadata.version", 34, ErrorCode::InvalidUpdateVersion.code()),
        ("group.version", 1, OK),
        ("group.version", 2, ErrorCode::InvalidUpdateVersion.code()),
    ];
    for version in 0..=2 {
        for (feature, max_version_level, error) in cases {
            let update = FeatureUpdateKey { feature, max_version_level, ..Default::default() };
            let feature_updates = vec![update];
            let request = UpdateFeaturesRequest { feature_updates, ..Default::default() };
            let check = |response: UpdateFeaturesResponse<'_>| {
                assert_eq!(response.error_code, error, "{feature} {max_version_level}");
                let is_told = error == OK && version < 2;
                assert_eq!(response.results.len(), usize::from(is_told));
            };
            ask(&mut client, version, &request, check, &mut Vec::new());
        }
    }
    for (broker_id, error) in
        [(NODE, ErrorCode::InvalidRequest), (7, ErrorCode::BrokerIdNotRegistered)]
    {
        let check = |response: UnregisterBrokerResponse<'_>| {
            assert_eq!(response.error_code, error.code());
        };
        ask(&mut client, 0, &UnregisterBrokerRequest { broker_id }, check, &mut Vec::new());
    }
}

#[test]
fn what_has_settings_is_listed() {
    let (_broker, mut client) = broker();
    client.create_topic(TOPIC);
    let unsupported = ErrorCode::UnsupportedVersion.code();
    let node = NODE.to_string();
    let all = vec![(node.as_str(), 8), (node.as_str(), 4), (TOPIC, 2)];
    let cases = [
        (0, vec![], OK, vec![]),
        (1, vec![], OK, all),
        (1, vec![2, 16, 2], OK, vec![(TOPIC, 2)]),
        (1, vec![2, 7], unsupported, vec![]),
        (1, vec![0], unsupported, vec![]),
    ];
    for (version, types, error, expected) in cases {
        let request = ListConfigResourcesRequest { resource_types: types.clone() };
        let check = |response: ListConfigResourcesResponse<'_>| {
            let resources = response.config_resources.iter();
            let listed: Vec<_> =
                resources.map(|one| (one.resource_name, one.resource_type)).collect();
            assert_eq!((response.error_code, listed), (error, expected), "{types:?}");
        };
        ask(&mut client, version, &request, check, &mut Vec::new());
    }
}
