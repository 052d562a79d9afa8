//! ListGroups, DescribeGroups, OffsetDelete, DeleteGroups.

use model::ErrorCode;
use tests::{
    broker_process::BrokerProcess,
    raw_client::{RawClient, decoded},
};
use wire::{
    consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest,
    consumer_group_heartbeat_response::{ConsumerGroupHeartbeatResponse, TopicPartitions},
    delete_groups_request::DeleteGroupsRequest,
    delete_groups_response::DeleteGroupsResponse,
    describe_groups_request::DescribeGroupsRequest,
    describe_groups_response::DescribeGroupsResponse,
    heartbeat_request::HeartbeatRequest,
    heartbeat_response::HeartbeatResponse,
    incremental_alter_configs_request::{
        AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
    },
    incremental_alter_configs_response::IncrementalAlterConfigsResponse,
    join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol},
    join_group_response::JoinGroupResponse,
    list_groups_request::ListGroupsRequest,
    list_groups_response::ListGroupsResponse,
    offset_commit_request::{
        OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    },
    offset_commit_response::OffsetCommitResponse,
    offset_delete_request::{
        OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
    },
    offset_delete_response::OffsetDeleteResponse,
    offset_fetch_request::{OffsetFetchRequest, OffsetFetchRequestGroup},
    offset_fetch_response::OffsetFetchResponse,
};

use super::broker;

const TOPIC: &str = "topic";
const OK: i16 = 0;

fn commit(client: &mut RawClient, group: &str) {
    let partitions = (0..2)
        .map(|partition_index| OffsetCommitRequestPartition {
            partition_index,
            committed_offset: 1,
            ..Default::default()
        })
        .collect();
    let topic = OffsetCommitRequestTopic { name: TOPIC, partitions, ..Default::default() };
    let request = OffsetCommitRequest {
        group_id: group,
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    };
    let answer = client.ask(8, &request);
    let response: OffsetCommitResponse<'_> = decoded::<OffsetCommitRequest<'_>, _>(&answer, 8);
    let errors = response.topics[0].partitions.iter().map(|one| one.error_code);
    assert_eq!(errors.collect::<Vec<_>>(), [OK, OK], "{group}");
}

/// Has one member join a group; it stays for as long as its session.
pub(super) fn join(client: &mut RawClient, group: &str) {
    let protocol = JoinGroupRequestProtocol { name: "range", metadata: b"about me" };
    let request = JoinGroupRequest {
        group_id: group,
        session_timeout_ms: 60_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "mine",
        protocols: vec![protocol],
        ..Default::default()
    };
    let answer = client.ask(3, &request);
    let response: JoinGroupResponse<'_> = decoded::<JoinGroupRequest<'_>, _>(&answer, 3);
    assert_eq!(response.error_code, OK);
}

fn list(client: &mut RawClient, version: i16, states: &[&str], types: &[&str]) -> Vec<String> {
    let request =
        ListGroupsRequest { states_filter: states.to_vec(), types_filter: types.to_vec() };
    let answer = client.ask(version, &request);
    let response: ListGroupsResponse<'_> = decoded::<ListGroupsRequest<'_>, _>(&answer, version);
    assert_eq!(response.error_code, OK);
    let row = |group: &wire::list_groups_response::ListedGroup<'_>| {
        [group.group_id, group.protocol_type, group.group_state, group.group_type].join(" ")
    };
    response.groups.iter().map(row).collect()
}

fn delete(client: &mut RawClient, version: i16, groups: &[&str]) -> Vec<(String, ErrorCode)> {
    let answer = client.ask(version, &DeleteGroupsRequest { groups_names: groups.to_vec() });
    let response: DeleteGroupsResponse<'_> =
        decoded::<DeleteGroupsRequest<'_>, _>(&answer, version);
    let result = |one: &wire::delete_groups_response::DeletableGroupResult<'_>| {
        (one.group_id.to_owned(), ErrorCode::from_code(one.error_code))
    };
    response.results.iter().map(result).collect()
}

#[test]
fn groups_are_listed_described_and_deleted_in_every_version() {
    let (_broker, mut client) = broker();
    assert_eq!(list(&mut client, 5, &[], &[]), [""; 0], "no group makes no topic");
    client.create_topic(TOPIC);
    join(&mut client, "lively");
    for version in 0..=3 {
        for group in ["one", "other"] {
            commit(&mut client, group);
        }
        let groups = delete(&mut client, version, &["one", "one", "nowhere", "lively"]);
        let expected = [
            ("lively", ErrorCode::NonEmptyGroup),
            ("nowhere", ErrorCode::GroupIdNotFound),
            ("one", ErrorCode::None),
        ];
        assert_eq!(groups, expected.map(|(id, error)| (id.to_owned(), error)));
    }
    let lively = "lively mine CompletingRebalance classic";
    let other = "other  Empty classic";
    assert_eq!(list(&mut client, 5, &[], &[]), [lively, other]);
    assert_eq!(list(&mut client, 5, &["empty"], &["Classic"]), [other]);
    assert_eq!(list(&mut client, 5, &["Stable", "nonsense"], &[]), [""; 0]);
    assert_eq!(list(&mut client, 5, &[], &["consumer"]), [""; 0]);
    assert_eq!(list(&mut client, 4, &["Empty"], &[]), ["other  Empty "]);
    for version in 0..=3 {
        assert_eq!(list(&mut client, version, &[], &[]), ["lively mine  ", "other   "]);
    }
    for version in 0..=6 {
        let request = DescribeGroupsRequest {
            groups: vec!["other", "lively", "nowhere", "lively"],
            include_authorized_operations: version >= 3,
        };
        let answer = client.ask(version, &request);
        let response: DescribeGroupsResponse<'_> =
            decoded::<DescribeGroupsRequest<'_>, _>(&answer, version);
        let [lively, nowhere, other] = response.groups.as_slice() else {
            panic!("each once: {response:?}");
        };
        let states = [lively, nowhere, other].map(|group| group.group_state);
        assert_eq!(states, ["CompletingRebalance", "Dead", "Empty"]);
        assert_eq!(lively.members.len(), 1);
        assert_eq!(lively.members[0].client_host, "/127.0.0.1");
        let operations = if version >= 3 { 0xd48 } else { i32::MIN };
        assert_eq!(lively.authorized_operations, operations);
        let error = if version < 6 { OK } else { ErrorCode::GroupIdNotFound.code() };
        assert_eq!(nowhere.error_code, error, "version {version}");
        assert_eq!(nowhere.error_message.is_some(), version >= 6);
    }
}

#[test]
fn offsets_are_deleted_where_nobody_uses_them() {
    let (_broker, mut client) = broker();
    client.create_topic(TOPIC);
    commit(&mut client, "simple");
    join(&mut client, "lively");
    let mut delete_offsets = |group: &str, topic: &str, partitions: &[i32]| {
        let partition = |index: &i32| OffsetDeleteRequestPartition { partition_index: *index };
        let partitions = partitions.iter().map(partition).collect();
        let topics = vec![OffsetDeleteRequestTopic { name: topic, partitions }];
        let answer = client.ask(0, &OffsetDeleteRequest { group_id: group, topics });
        let response: OffsetDeleteResponse<'_> = decoded::<OffsetDeleteRequest<'_>, _>(&answer, 0);
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        let errors: Vec<i16> = partitions.map(|one| one.error_code).collect();
        (response.error_code, errors)
    };
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(delete_offsets("simple", TOPIC, &[0, 2, 3]), (OK, vec![OK, OK, unknown]));
    assert_eq!(delete_offsets("simple", "nowhere", &[0]), (OK, vec![unknown]));
    let not_empty = ErrorCode::NonEmptyGroup.code();
    assert_eq!(delete_offsets("lively", TOPIC, &[0]), (not_empty, Vec::new()));
    let not_found = ErrorCode::GroupIdNotFound.code();
    assert_eq!(delete_offsets("nowhere", TOPIC, &[0]), (not_found, Vec::new()));
    // A group that has lost its last offset is still there.
    for _ in 0..2 {
        assert_eq!(delete_offsets("simple", TOPIC, &[1]), (OK, vec![OK]));
    }
}

/// A member joins a consumer group; gives the error and how often it is to come.
fn heartbeat_848(client: &mut RawClient, group: &str) -> (i16, i32) {
    let (error, interval, _) = heartbeat_of(client, group, "me", 0);
    (error, interval)
}

/// The same of this member, at this epoch; gives its partitions, too.
fn heartbeat_of(
    client: &mut RawClient,
    group: &str,
    member_id: &str,
    member_epoch: i32,
) -> (i16, i32, Option<usize>) {
    let request = ConsumerGroupHeartbeatRequest {
        group_id: group,
        member_id,
        member_epoch,
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(vec![TOPIC]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    };
    let answer = client.ask(1, &request);
    let response: ConsumerGroupHeartbeatResponse<'_> =
        decoded::<ConsumerGroupHeartbeatRequest<'_>, _>(&answer, 1);
    let count = |topics: &[TopicPartitions]| topics.iter().map(|one| one.partitions.len()).sum();
    let assigned = response.assignment.map(|assignment| count(&assignment.topic_partitions));
    (response.error_code, response.heartbeat_interval_ms, assigned)
}

#[test]
fn the_interval_of_assignments_is_altered_while_the_broker_runs() {
    let settings = ["num.partitions=3", "group.consumer.assignment.interval.ms=15000"];
    let broker = BrokerProcess::start("uring", &settings);
    let mut client = RawClient::connect(broker.address());
    client.create_topic(TOPIC);
    for resource_name in ["", "1"] {
        let group = format!("g{resource_name}");
        while heartbeat_of(&mut client, &group, "first", 0) != (OK, 5_000, Some(3)) {}
        let waits = heartbeat_of(&mut client, &group, "second", 0);
        assert_eq!(waits, (OK, 5_000, Some(0)), "the last assignment was just made");
        let alter = |client: &mut RawClient, config_operation, value| {
            let name = "group.consumer.assignment.interval.ms";
            let config = AlterableConfig { name, config_operation, value };
            let resources = vec![AlterConfigsResource {
                resource_type: 4,
                resource_name,
                configs: vec![config],
            }];
            let request = IncrementalAlterConfigsRequest { resources, validate_only: false };
            let answer = client.ask(1, &request);
            let response: IncrementalAlterConfigsResponse<'_> =
                decoded::<IncrementalAlterConfigsRequest<'_>, _>(&answer, 1);
            assert_eq!(response.responses[0].error_code, OK);
        };
        alter(&mut client, 0, Some("0"));
        let (error, _, left) = heartbeat_of(&mut client, &group, "first", 0);
        assert_eq!((error, left), (OK, Some(2)), "one of three is to be given up");
        alter(&mut client, 1, None);
    }
}

#[test]
fn what_a_group_has_of_its_own_acts_at_once() {
    let (_broker, mut client) = broker();
    client.create_topic(TOPIC);
    assert_eq!(heartbeat_848(&mut client, "own"), (OK, 5_000));
    let config = AlterableConfig {
        name: "consumer.heartbeat.interval.ms",
        config_operation: 0,
        value: Some("7000"),
    };
    let resource =
        AlterConfigsResource { resource_type: 32, resource_name: "own", configs: vec![config] };
    let request =
        IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    let answer = client.ask(1, &request);
    let response: IncrementalAlterConfigsResponse<'_> =
        decoded::<IncrementalAlterConfigsRequest<'_>, _>(&answer, 1);
    assert_eq!(response.responses[0].error_code, OK);
    assert_eq!(heartbeat_848(&mut client, "own"), (OK, 7_000));
    assert_eq!(heartbeat_848(&mut client, "other"), (OK, 5_000));
}

#[test]
fn the_protocol_of_consumer_groups_can_be_switched_off() {
    let settings = ["group.coordinator.rebalance.protocols=classic"];
    let broker = BrokerProcess::start("uring", &settings);
    let mut client = RawClient::connect(broker.address());
    let refused = ErrorCode::UnsupportedVersion.code();
    assert_eq!(heartbeat_848(&mut client, "group"), (refused, 0));
}

#[test]
fn offsets_are_kept_under_the_empty_name_and_nobody_is_a_member_there() {
    let (_broker, mut client) = broker();
    client.create_topic(TOPIC);
    commit(&mut client, "");
    let group = OffsetFetchRequestGroup { group_id: "", topics: None, ..Default::default() };
    let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
    let answer = client.ask(9, &request);
    let response: OffsetFetchResponse<'_> = decoded::<OffsetFetchRequest<'_>, _>(&answer, 9);
    assert_eq!(response.groups[0].error_code, OK);
    let offsets = response.groups[0].topics[0].partitions.iter().map(|one| one.committed_offset);
    assert_eq!(offsets.collect::<Vec<_>>(), [1, 1]);

    let invalid = ErrorCode::InvalidGroupId.code();
    let answer = client.ask(4, &HeartbeatRequest::default());
    let response: HeartbeatResponse = decoded::<HeartbeatRequest<'_>, _>(&answer, 4);
    assert_eq!(response.error_code, invalid);
    let answer = client.ask(9, &JoinGroupRequest::default());
    let response: JoinGroupResponse<'_> = decoded::<JoinGroupRequest<'_>, _>(&answer, 9);
    assert_eq!(response.error_code, invalid);
    let answer = client.ask(0, &OffsetDeleteRequest::default());
    let response: OffsetDeleteResponse<'_> = decoded::<OffsetDeleteRequest<'_>, _>(&answer, 0);
    assert_eq!(response.error_code, invalid);
    assert_eq!(heartbeat_848(&mut client, "").0, ErrorCode::InvalidRequest.code());
    assert_eq!(delete(&mut client, 3, &[""]), [(String::new(), ErrorCode::None)]);
}
