//! Groups without end, members without end, what members may not do to each other.

use std::{
    thread,
    time::{Duration, Instant},
};

use model::ErrorCode;
use tests::{
    broker_process::{BrokerProcess, PATIENCE},
    raw_client::{RawClient, Received, decoded, framed},
};
use wire::{
    describe_groups_request::DescribeGroupsRequest,
    describe_groups_response::DescribeGroupsResponse,
    heartbeat_request::HeartbeatRequest,
    heartbeat_response::HeartbeatResponse,
    join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol},
    join_group_response::JoinGroupResponse,
    list_groups_request::ListGroupsRequest,
    list_groups_response::ListGroupsResponse,
    offset_commit_request::{
        OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    },
    offset_commit_response::OffsetCommitResponse,
    sync_group_request::SyncGroupRequest,
    sync_group_response::SyncGroupResponse,
};

use super::{DRIVERS, MIB, scaled};

/// What a group may cost, with the block of memory that grows in steps.
const BYTES_A_GROUP_MAX: u64 = 4 << 10;
const AT_ONCE: usize = 50;
/// Of one group; `coordinator` has it.
const PENDING_MEMBERS_MAX: usize = 10_000;

fn joining<'a>(group: &'a str, member: &'a str, instance: Option<&'a str>) -> JoinGroupRequest<'a> {
    JoinGroupRequest {
        group_id: group,
        member_id: member,
        group_instance_id: instance,
        session_timeout_ms: 60_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer",
        protocols: vec![JoinGroupRequestProtocol { name: "range", metadata: b"" }],
        ..Default::default()
    }
}

/// The error of an answer to JoinGroup version 5, and the member's id.
fn joined(answer: &[u8]) -> (i16, String) {
    let response: JoinGroupResponse<'_> = decoded::<JoinGroupRequest<'_>, _>(answer, 5);
    (response.error_code, response.member_id.to_owned())
}

fn committing<'a>(group: &'a str, metadata: &'a str) -> OffsetCommitRequest<'a> {
    let partition =
        OffsetCommitRequestPartition { committed_metadata: Some(metadata), ..Default::default() };
    let topic = OffsetCommitRequestTopic {
        name: "topic",
        partitions: vec![partition],
        ..Default::default()
    };
    OffsetCommitRequest {
        group_id: group,
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    }
}

fn committed(answer: &[u8]) -> i16 {
    let response: OffsetCommitResponse<'_> = decoded::<OffsetCommitRequest<'_>, _>(answer, 8);
    response.topics[0].partitions[0].error_code
}

fn members_of(client: &mut RawClient, group: &str) -> usize {
    let request = DescribeGroupsRequest { groups: vec![group], ..Default::default() };
    let answer = client.ask(4, &request);
    let response: DescribeGroupsResponse<'_> = decoded::<DescribeGroupsRequest<'_>, _>(&answer, 4);
    response.groups[0].members.len()
}

/// A broker that has a coordinator for every group.
fn broker(driver: &str, settings: &[&str]) -> (BrokerProcess, RawClient) {
    let broker = BrokerProcess::start(driver, settings);
    let mut client = RawClient::connect(broker.address());
    client.create_topic("topic");
    assert_eq!(committed(&client.ask(8, &committing("first", ""))), 0);
    (broker, client)
}

#[test]
fn many_groups_cost_little() {
    for driver in DRIVERS {
        let (mut broker, mut client) = broker(driver, &[]);
        let (before, began) = (broker.resident_bytes(), Instant::now());
        // Half of them are asked for by a member that does not come back, half have an offset.
        let count = scaled(1_000);
        let names: Vec<String> = (0..count).map(|index| format!("group-{index}")).collect();
        for some in names.chunks(AT_ONCE) {
            let frames = some.iter().enumerate().flat_map(|(index, name)| match index % 2 {
                0 => framed(5, &joining(name, "", None)),
                _ => framed(8, &committing(name, "")),
            });
            client.send(&frames.collect::<Vec<u8>>()).unwrap();
            for index in 0..some.len() {
                let Received::Frame(answer) = client.receive(PATIENCE) else { panic!("no answer") };
                if index % 2 == 0 {
                    assert_eq!(joined(&answer).0, ErrorCode::MemberIdRequired.code());
                } else {
                    assert_eq!(committed(&answer), 0);
                }
            }
        }
        let took = began.elapsed();
        let began = Instant::now();
        let answer = client.ask(4, &ListGroupsRequest::default());
        let listed = began.elapsed();
        let response: ListGroupsResponse<'_> = decoded::<ListGroupsRequest<'_>, _>(&answer, 4);
        assert!(response.groups.len() > count / 2, "{driver}: {}", response.groups.len());
        let grown = broker.resident_bytes().saturating_sub(before);
        let each = grown / u64::try_from(count).unwrap();
        println!(
            "{driver}: {count} groups in {took:.1?}, {each} bytes each, listed in {listed:.1?}"
        );
        assert!(
            each < BYTES_A_GROUP_MAX + 16 * MIB / u64::try_from(count).unwrap(),
            "{driver}: {each}"
        );
        broker.check_sound();
    }
}

#[test]
fn members_have_a_bound() {
    // A group gathers for long enough to have all of them.
    let settings = ["group.max.size=3", "group.initial.rebalance.delay.ms=60000"];
    for driver in DRIVERS {
        let (mut broker, mut client) = broker(driver, &settings);
        let before = broker.resident_bytes();
        // Ids that nobody comes back with.
        let request = framed(5, &joining("pending", "", None)).repeat(AT_ONCE);
        let mut given = 0;
        for _ in 0..PENDING_MEMBERS_MAX / AT_ONCE + 20 {
            client.send(&request).unwrap();
            for _ in 0..AT_ONCE {
                let Received::Frame(answer) = client.receive(PATIENCE) else { panic!("no answer") };
                given += usize::from(joined(&answer).0 == ErrorCode::MemberIdRequired.code());
            }
        }
        let grown = broker.resident_bytes().saturating_sub(before);
        println!("{driver}: {given} ids of members given, {} KiB", grown >> 10);
        assert!(given <= PENDING_MEMBERS_MAX && grown < 32 * MIB, "{driver}: {given}, {grown}");
        // Members: the fourth is told that the group is full.
        let mut members = Vec::new();
        for _ in 0..3 {
            let mut member = RawClient::connect(broker.address());
            let (error, id) = joined(&member.ask(5, &joining("full", "", None)));
            assert_eq!(error, ErrorCode::MemberIdRequired.code());
            member.send(&framed(5, &joining("full", &id, None))).unwrap();
            members.push(member);
        }
        // Their requests are on connections of their own: nobody else may overtake them.
        let deadline = Instant::now() + PATIENCE;
        while members_of(&mut client, "full") < members.len() {
            assert!(Instant::now() < deadline, "{driver}: the members do not join");
            thread::sleep(Duration::from_millis(5));
        }
        let full = joined(&client.ask(5, &joining("full", "", None)));
        if full.0 == ErrorCode::MemberIdRequired.code() {
            let answer = client.ask(5, &joining("full", &full.1, None));
            assert_eq!(joined(&answer).0, ErrorCode::GroupMaxSizeReached.code(), "{driver}");
        } else {
            assert_eq!(full.0, ErrorCode::GroupMaxSizeReached.code(), "{driver}");
        }
        broker.check_sound();
    }
}

#[test]
fn members_take_nothing_from_each_other_and_offsets_have_short_metadata() {
    for driver in DRIVERS {
        let (mut broker, mut client) = broker(driver, &[]);
        let mut member = RawClient::connect(broker.address());
        let (error, id) = joined(&member.ask(5, &joining("group", "", Some("static"))));
        assert_eq!(error, 0);
        // An id that was guessed.
        let answer = client.ask(5, &joining("group", "guessed", None));
        assert_eq!(joined(&answer).0, ErrorCode::UnknownMemberId.code(), "{driver}");
        // The static name with another id, and in a heartbeat and a sync.
        let answer = client.ask(5, &joining("group", "guessed", Some("static")));
        assert_eq!(joined(&answer).0, ErrorCode::FencedInstanceId.code(), "{driver}");
        let mut beat = HeartbeatRequest {
            group_id: "group",
            generation_id: 1,
            member_id: "guessed",
            group_instance_id: Some("static"),
        };
        let answer = client.ask(3, &beat);
        let response: HeartbeatResponse = decoded::<HeartbeatRequest<'_>, _>(&answer, 3);
        assert_eq!(response.error_code, ErrorCode::FencedInstanceId.code(), "{driver}");
        beat.group_instance_id = None;
        let answer = client.ask(3, &beat);
        let response: HeartbeatResponse = decoded::<HeartbeatRequest<'_>, _>(&answer, 3);
        assert_eq!(response.error_code, ErrorCode::UnknownMemberId.code(), "{driver}");
        let sync = SyncGroupRequest {
            group_id: "group",
            generation_id: 1,
            member_id: "guessed",
            ..Default::default()
        };
        let answer = client.ask(3, &sync);
        let response: SyncGroupResponse<'_> = decoded::<SyncGroupRequest<'_>, _>(&answer, 3);
        assert_eq!(response.error_code, ErrorCode::UnknownMemberId.code(), "{driver}");
        // The member is as it was.
        let sync = SyncGroupRequest { member_id: &id, ..sync };
        let answer = member.ask(3, &sync);
        let response: SyncGroupResponse<'_> = decoded::<SyncGroupRequest<'_>, _>(&answer, 3);
        assert_eq!(response.error_code, 0, "{driver}");
        for (length, error) in [
            (4096, ErrorCode::None),
            (4097, ErrorCode::OffsetMetadataTooLarge),
            (32_000, ErrorCode::OffsetMetadataTooLarge),
        ] {
            let metadata = "m".repeat(length);
            let answer = client.ask(8, &committing("offsets", &metadata));
            assert_eq!(committed(&answer), error.code(), "{driver}: {length}");
        }
        broker.check_sound();
    }
}
