//! Names that are none, and more partitions than anybody needs.

use std::{collections::BTreeSet, fs, path::Path};

use model::ErrorCode;
use tests::{
    broker_process::BrokerProcess,
    raw_client::{RawClient, batch, decoded},
};
use wire::{
    create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic},
    create_partitions_response::CreatePartitionsResponse,
    create_topics_request::{CreatableReplicaAssignment, CreatableTopic, CreateTopicsRequest},
    create_topics_response::CreateTopicsResponse,
    metadata_request::{MetadataRequest, MetadataRequestTopic},
    metadata_response::MetadataResponse,
};

use super::{DRIVERS, MIB};

fn create(client: &mut RawClient, topics: Vec<CreatableTopic<'_>>) -> Vec<i16> {
    let request = CreateTopicsRequest { topics, ..Default::default() };
    let answer = client.ask(7, &request);
    let response: CreateTopicsResponse<'_> = decoded::<CreateTopicsRequest<'_>, _>(&answer, 7);
    response.topics.iter().map(|topic| topic.error_code).collect()
}

fn topic(name: &str, num_partitions: i32) -> CreatableTopic<'_> {
    CreatableTopic { name, num_partitions, replication_factor: 1, ..Default::default() }
}

/// Every file and directory there is, from here down.
fn names_in(directory: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            names.extend(names_in(&path));
        }
        names.insert(path.display().to_string());
    }
    names
}

#[test]
fn names_that_are_none_are_refused_and_nothing_is_made() {
    let long = "a".repeat(250);
    let names = [
        "",
        ".",
        "..",
        "../x",
        "/etc/x",
        "a/b",
        "a\0b",
        "a b",
        "a\nb",
        "\u{e9}",
        "\u{ff0e}\u{ff0e}",
        "a:b",
        "a\\b",
        "*",
        "%2e%2e",
        &long,
    ];
    for driver in DRIVERS {
        let mut broker = BrokerProcess::start(driver, &[]);
        let mut client = RawClient::connect(broker.address());
        client.create_topic("a.b");
        let outside = broker.data_dir().parent().unwrap().to_owned();
        let before = names_in(&outside);
        for name in names {
            let made = create(&mut client, vec![topic(name, 1)]);
            assert_eq!(made, [ErrorCode::InvalidTopicException.code()], "{driver}: {name:?}");
            // Asked for, it is not created either.
            let asked = MetadataRequestTopic { name: Some(name), ..Default::default() };
            let request = MetadataRequest {
                topics: Some(vec![asked]),
                allow_auto_topic_creation: true,
                ..Default::default()
            };
            let answer = client.ask(9, &request);
            let response: MetadataResponse<'_> = decoded::<MetadataRequest<'_>, _>(&answer, 9);
            let error = response.topics[0].error_code;
            assert_eq!(error, ErrorCode::InvalidTopicException.code(), "{driver}: {name:?}");
        }
        // Its metrics would have the name of another's.
        let made = create(&mut client, vec![topic("a_b", 1)]);
        assert_eq!(made, [ErrorCode::InvalidTopicException.code()], "{driver}");
        let escapes = names_in(&outside).difference(&before).count();
        println!("{driver}: {} names refused, {escapes} files made", names.len() + 1);
        assert_eq!(escapes, 0, "{driver}");
        // Names that differ by case alone, and the longest.
        for name in ["A.B", &"b".repeat(249)] {
            assert_eq!(create(&mut client, vec![topic(name, 1)]), [0], "{driver}: {name}");
            assert_eq!(client.produce(name, &batch(&[name.as_bytes()])), (0, 0), "{driver}");
        }
        assert_eq!(client.produce("a.b", &batch(&[b"other"])), (0, 0), "{driver}");
        broker.check_sound();
    }
}

#[test]
fn partitions_without_end_are_refused_and_cost_nothing() {
    let violation = ErrorCode::PolicyViolation.code();
    for driver in DRIVERS {
        let mut broker = BrokerProcess::start(driver, &[]);
        let mut client = RawClient::connect(broker.address());
        client.create_topic("small");
        let before = broker.resident_bytes();
        // One more than a request may ask for, beside the one that is there.
        for count in [10_002, 1_000_000, i32::MAX] {
            assert_eq!(create(&mut client, vec![topic("bomb", count)]), [violation], "{count}");
            let grown = CreatePartitionsTopic { name: "small", count, assignments: None };
            let request = CreatePartitionsRequest { topics: vec![grown], ..Default::default() };
            let answer = client.ask(3, &request);
            let response: CreatePartitionsResponse<'_> =
                decoded::<CreatePartitionsRequest<'_>, _>(&answer, 3);
            assert_eq!(response.results[0].error_code, violation, "{driver}: {count}");
        }
        // A thousand topics of a thousand, in one request.
        let names: Vec<String> = (0..1000).map(|index| format!("bomb-{index}")).collect();
        let made = create(&mut client, names.iter().map(|name| topic(name, 1000)).collect());
        assert!(made.iter().all(|code| *code == violation), "{driver}: {made:?}");
        // So many by their assignments, and one partition on so many brokers.
        let assignments = |count: i32, replicas: usize| CreatableTopic {
            name: "bomb",
            num_partitions: -1,
            replication_factor: -1,
            assignments: (0..count)
                .map(|partition_index| CreatableReplicaAssignment {
                    partition_index,
                    broker_ids: vec![1; replicas],
                })
                .collect(),
            ..Default::default()
        };
        assert_eq!(create(&mut client, vec![assignments(20_000, 1)]), [violation], "{driver}");
        let made = create(&mut client, vec![assignments(1, 1_000_000)]);
        assert_eq!(made, [ErrorCode::InvalidReplicaAssignment.code()], "{driver}");
        let grown = broker.resident_bytes().saturating_sub(before);
        println!("{driver}: partitions refused for {} KiB", grown >> 10);
        assert!(grown < 64 * MIB, "{driver}: {grown}");
        assert_eq!(client.produce("small", &batch(&[b"on"])), (0, 0), "{driver}");
        broker.check_sound();
    }
}
