//! CreatePartitions, DescribeTopicPartitions.

use model::{ErrorCode, Uuid};
use tests::raw_client::{RawClient, decoded};
use wire::{
    create_partitions_request::{
        CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic,
    },
    create_partitions_response::CreatePartitionsResponse,
    describe_topic_partitions_request::{Cursor, DescribeTopicPartitionsRequest, TopicRequest},
    describe_topic_partitions_response::DescribeTopicPartitionsResponse,
    metadata_request::{MetadataRequest, MetadataRequestTopic},
    metadata_response::MetadataResponse,
};

use super::broker;

const OK: i16 = 0;

/// The brokers of each new partition, where they are chosen.
type Assigned<'a> = Option<&'a [&'a [i32]]>;

fn grow(
    client: &mut RawClient,
    version: i16,
    validate_only: bool,
    topics: &[(&str, i32, Assigned<'_>)],
) -> Vec<(String, ErrorCode)> {
    let topics = topics
        .iter()
        .map(|(name, count, assigned)| CreatePartitionsTopic {
            name,
            count: *count,
            assignments: assigned.map(|assigned| {
                let nodes = assigned.iter().map(|nodes| nodes.to_vec());
                nodes.map(|broker_ids| CreatePartitionsAssignment { broker_ids }).collect()
            }),
        })
        .collect();
    let request = CreatePartitionsRequest { topics, timeout_ms: 1000, validate_only };
    let answer = client.ask(version, &request);
    let response: CreatePartitionsResponse<'_> =
        decoded::<CreatePartitionsRequest<'_>, _>(&answer, version);
    let result = |one: &wire::create_partitions_response::CreatePartitionsTopicResult<'_>| {
        assert_eq!(one.error_message.is_some(), one.error_code != OK);
        (one.name.to_owned(), ErrorCode::from_code(one.error_code))
    };
    response.results.iter().map(result).collect()
}

/// The topics of one answer as `name: partitions`, or with their error, and the cursor.
fn describe(
    client: &mut RawClient,
    names: &[&str],
    limit: i32,
    cursor: Option<(&str, i32)>,
) -> (Vec<String>, Option<(String, i32)>) {
    let request = DescribeTopicPartitionsRequest {
        topics: names.iter().map(|name| TopicRequest { name }).collect(),
        response_partition_limit: limit,
        cursor: cursor.map(|(topic_name, partition_index)| Cursor { topic_name, partition_index }),
    };
    let answer = client.ask(0, &request);
    let response: DescribeTopicPartitionsResponse<'_> =
        decoded::<DescribeTopicPartitionsRequest<'_>, _>(&answer, 0);
    let topics = response.topics.iter().map(|topic| {
        let name = topic.name.unwrap_or_default();
        if topic.error_code != OK {
            return format!("{name}: {:?}", ErrorCode::from_code(topic.error_code));
        }
        let ids: Vec<i32> = topic.partitions.iter().map(|one| one.partition_index).collect();
        assert!(topic.partitions.iter().all(|one| one.error_code == OK && one.leader_id >= 0));
        format!("{name}: {ids:?}")
    });
    let next = response.next_cursor.as_ref();
    let next = next.map(|cursor| (cursor.topic_name.to_owned(), cursor.partition_index));
    (topics.collect(), next)
}

#[test]
fn topics_grow_in_every_version_and_the_new_partitions_are_served() {
    let (_broker, mut client) = broker();
    client.create_topic("a");
    let one = |error| vec![("a".to_owned(), error)];
    for version in 0..=3 {
        let count = i32::from(version) + 4;
        let grown = [("a", count, None)];
        assert_eq!(grow(&mut client, version, true, &grown), one(ErrorCode::None));
        assert_eq!(grow(&mut client, version, false, &grown), one(ErrorCode::None), "{version}");
        let (described, _) = describe(&mut client, &["a"], 100, None);
        let ids: Vec<i32> = (0..count).collect();
        assert_eq!(described, [format!("a: {ids:?}")]);
    }
    let own = [&[1_i32][..], &[1]];
    assert_eq!(grow(&mut client, 3, false, &[("a", 9, Some(&own))]), one(ErrorCode::None));
    let refused: &[(i32, Assigned<'_>, ErrorCode)] = &[
        (9, None, ErrorCode::InvalidPartitions),
        (1, None, ErrorCode::InvalidPartitions),
        (-1, None, ErrorCode::InvalidPartitions),
        (10_010, None, ErrorCode::PolicyViolation),
        (i32::MAX, None, ErrorCode::PolicyViolation),
        (11, Some(&[&[1]]), ErrorCode::InvalidReplicaAssignment),
        (10, Some(&[&[2]]), ErrorCode::InvalidReplicaAssignment),
        (10, Some(&[&[1, 1]]), ErrorCode::InvalidReplicaAssignment),
        (10, Some(&[&[]]), ErrorCode::InvalidReplicaAssignment),
    ];
    for (count, assigned, error) in refused {
        let asked = [("a", *count, *assigned)];
        assert_eq!(grow(&mut client, 3, false, &asked), one(*error), "{count} {assigned:?}");
    }
    let twice = [("a", 10, None), ("a", 11, None), ("b", 3, None)];
    let unknown = ("b".to_owned(), ErrorCode::UnknownTopicOrPartition);
    let expected = [one(ErrorCode::InvalidRequest), vec![unknown]].concat();
    assert_eq!(grow(&mut client, 3, false, &twice), expected);
}

#[test]
fn topics_are_found_by_id_also_beside_an_empty_name() {
    let (_broker, mut client) = broker();
    client.create_topic("a");
    // From version 12 on topics are asked for by id; the Java client leaves the name empty.
    for version in 12..=13 {
        let mut ask = |topic_id, name| {
            let topic = MetadataRequestTopic { topic_id, name };
            let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
            let answer = client.ask(version, &request);
            let response: MetadataResponse<'_> =
                decoded::<MetadataRequest<'_>, _>(&answer, version);
            let topic = &response.topics[0];
            let name = topic.name.map(str::to_owned);
            (ErrorCode::from_code(topic.error_code), topic.topic_id, name)
        };
        let (error, id, _) = ask(Uuid::ZERO, Some("a"));
        assert_eq!(error, ErrorCode::None);
        let unknown = Uuid([7; 16]);
        for name in [None, Some("")] {
            assert_eq!(ask(id, name), (ErrorCode::None, id, Some("a".to_owned())), "{name:?}");
            assert_eq!(ask(unknown, name), (ErrorCode::UnknownTopicId, unknown, None), "{name:?}");
        }
    }
}

#[test]
fn topics_are_described_page_by_page() {
    let (_broker, mut client) = broker();
    for name in ["b", "a", "c"] {
        client.create_topic(name);
    }
    let mut pages = Vec::new();
    let mut cursor: Option<(String, i32)> = None;
    loop {
        let from = cursor.as_ref().map(|(name, partition)| (name.as_str(), *partition));
        let (page, next) = describe(&mut client, &[], 2, from);
        pages.push(page.join(", "));
        cursor = next;
        if cursor.is_none() {
            break;
        }
    }
    let expected = ["a: [0, 1]", "a: [2], b: [0]", "b: [1, 2]", "c: [0, 1]", "c: [2]"];
    assert_eq!(pages, expected);
    let (page, next) = describe(&mut client, &["c", "nowhere", "a", "c", "a b"], 4, None);
    assert_eq!(page, ["a: [0, 1, 2]", "a b: InvalidTopicException", "c: [0]"]);
    assert_eq!(next, Some(("c".to_owned(), 1)));
    // A limit below one is one.
    let (page, next) = describe(&mut client, &["nowhere", "a", "c"], -1, Some(("c", 2)));
    assert_eq!(page, ["c: [2]"]);
    assert_eq!(next, Some(("nowhere".to_owned(), 0)));
    let (page, next) = describe(&mut client, &["nowhere"], 1, Some(("nowhere", 0)));
    assert_eq!((page, next), (vec!["nowhere: UnknownTopicOrPartition".to_owned()], None));
    let (page, next) = describe(&mut client, &["a"], 10, Some(("a", -1)));
    assert_eq!((page, next), (vec!["a: InvalidRequest".to_owned()], None));
    // A cursor beyond the last topic, or the last partition, is the end.
    assert_eq!(describe(&mut client, &[], 10, Some(("d", 0))), (Vec::new(), None));
    assert_eq!(describe(&mut client, &[], 10, Some(("c", 7))), (vec!["c: []".to_owned()], None));
}
