//! More partitions and connections than the process may have file handles.

use std::time::{Duration, Instant};

use tests::{
    broker_process::{BrokerProcess, End, Launch, PATIENCE},
    raw_client::{RawClient, Received, batch, decoded, framed, produce_request},
};
use wire::{
    Records,
    api_versions_request::ApiVersionsRequest,
    create_topics_request::{CreatableTopic, CreateTopicsRequest},
    create_topics_response::CreateTopicsResponse,
    fetch_request::{FetchPartition, FetchRequest, FetchTopic},
    fetch_response::FetchResponse,
    produce_request::{PartitionProduceData, ProduceRequest},
    produce_response::ProduceResponse,
};

use crate::DRIVERS;

const TOPIC: &str = "many";
const PARTITIONS: i32 = 1000;
/// Partitions of one request: all of them get their files at the same time.
const PARTITIONS_A_REQUEST: i32 = 250;
const CONNECTIONS: usize = 300;
/// What is left of 256 for connections, with two shards.
const CONNECTIONS_SERVED: usize = 96;

fn create(client: &mut RawClient) {
    let topic = CreatableTopic {
        name: TOPIC,
        num_partitions: PARTITIONS,
        replication_factor: 1,
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    let answer = client.ask(7, &request);
    let response: CreateTopicsResponse<'_> = decoded::<CreateTopicsRequest<'_>, _>(&answer, 7);
    assert_eq!(response.topics[0].error_code, 0);
}

/// A record to each partition; `round` records are there before.
fn produce_to_all(client: &mut RawClient, round: i64) {
    let records = batch(&[round.to_string().as_bytes()]);
    for first in (0..PARTITIONS).step_by(PARTITIONS_A_REQUEST as usize) {
        let mut request = produce_request(TOPIC, None);
        request.topic_data[0].partition_data = (first..first + PARTITIONS_A_REQUEST)
            .map(|index| PartitionProduceData { index, records: Some(Records::Borrowed(&records)) })
            .collect();
        let answer = client.ask(9, &request);
        let response: ProduceResponse<'_> = decoded::<ProduceRequest<'_>, _>(&answer, 9);
        for partition in &response.responses[0].partition_responses {
            let found = (partition.error_code, partition.base_offset);
            assert_eq!(found, (0, round), "partition {}", partition.index);
        }
    }
}

/// These partitions have so many records, each served.
fn fetch_from(client: &mut RawClient, partitions: impl Iterator<Item = i32>, rounds: i64) {
    for index in partitions {
        let mut next = 0;
        while next < rounds {
            let (high_watermark, count) = fetch(client, index, next);
            assert_eq!(high_watermark, rounds, "partition {index}");
            assert!(count > 0, "partition {index} at {next}");
            next += count;
        }
        assert_eq!(next, rounds, "partition {index}");
    }
}

/// The high watermark, and how many records there are from `offset` on: one a batch.
fn fetch(client: &mut RawClient, index: i32, offset: i64) -> (i64, i64) {
    let partition = FetchPartition {
        partition: index,
        fetch_offset: offset,
        partition_max_bytes: 1 << 20,
        current_leader_epoch: -1,
        ..Default::default()
    };
    let topic = FetchTopic { topic: TOPIC, partitions: vec![partition], ..Default::default() };
    let request = FetchRequest {
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    };
    let answer = client.ask(12, &request);
    let response: FetchResponse<'_> = decoded::<FetchRequest<'_>, _>(&answer, 12);
    let found = &response.responses[0].partitions[0];
    assert_eq!(found.error_code, 0, "partition {index} at {offset}");
    let records = found.records.as_ref().and_then(Records::as_borrowed).unwrap_or_default();
    let count = model::record_batch::batches(records).count();
    (found.high_watermark, i64::try_from(count).expect("few"))
}

#[test]
fn a_thousand_partitions_and_connections_too_many_are_served_with_256_handles() {
    for driver in DRIVERS {
        let launch = Launch { driver, limit: Some("ulimit -n 256"), ..Launch::default() };
        let mut broker = BrokerProcess::launch(&launch);
        let mut client = RawClient::connect(broker.address());
        create(&mut client);
        produce_to_all(&mut client, 0);
        let mut others: Vec<RawClient> =
            (0..CONNECTIONS).map(|_| RawClient::connect(broker.address())).collect();
        let ping = framed(0, &ApiVersionsRequest::default());
        for other in &mut others {
            other.send(&ping).unwrap();
        }
        // Those that came first are served; the rest wait for them to end.
        for other in &mut others[..CONNECTIONS_SERVED - 2] {
            assert!(matches!(other.receive(PATIENCE), Received::Frame(_)), "{driver}");
        }
        let late = others.last_mut().unwrap().receive(Duration::from_millis(100));
        assert_eq!(late, Received::Silence, "{driver}");
        produce_to_all(&mut client, 1);
        fetch_from(&mut client, (0..PARTITIONS).step_by(10), 2);
        assert!(broker.file_count() + broker.socket_count() < 256, "{driver}");
        let mut last = others.split_off(CONNECTIONS - CONNECTIONS_SERVED + 2);
        drop(others);
        let began = Instant::now();
        for other in &mut last {
            assert!(matches!(other.receive(PATIENCE), Received::Frame(_)), "{driver}");
        }
        println!("{driver}: the last connections are served after {:.1?}", began.elapsed());
        drop(last);
        broker.restart(End::Kill);
        let mut client = RawClient::connect(broker.address());
        produce_to_all(&mut client, 2);
        fetch_from(&mut client, 0..PARTITIONS, 3);
        broker.check_sound();
    }
}
