//! Clients that ask for much and read nothing, beside one that goes on.

use std::time::Duration;

use tests::{
    broker_process::BrokerProcess,
    raw_client::{RawClient, batch, decoded, framed},
};
use wire::{
    Records,
    create_topics_request::{CreatableTopic, CreateTopicsRequest},
    create_topics_response::CreateTopicsResponse,
    fetch_request::{FetchPartition, FetchRequest, FetchTopic},
    metadata_request::MetadataRequest,
    produce_request::{PartitionProduceData, ProduceRequest},
    produce_response::ProduceResponse,
};

use crate::DRIVERS;

const MIB: u64 = 1 << 20;
const TOPIC: &str = "large";
const PARTITIONS: i32 = 8;
/// Of 100 KB each, to each partition.
const BATCHES: usize = 160;
/// Connections that never read, of each kind.
const CONNECTIONS: i64 = 100;
const PIPELINED: usize = 10_000;
/// How long a socket that takes nothing is given.
const STUCK: Duration = Duration::from_millis(50);
const RESIDENT_MAX: u64 = 256 * MIB;

fn fill(client: &mut RawClient) {
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
    client.create_topic("small");
    for _ in 0..BATCHES {
        produce_to_all(client);
    }
}

/// 100 KB to each partition.
fn produce_to_all(client: &mut RawClient) {
    let records = batch(&[&[7; 100_000]]);
    let data = |index| PartitionProduceData { index, records: Some(Records::Borrowed(&records)) };
    let mut request = tests::raw_client::produce_request(TOPIC, None);
    request.topic_data[0].partition_data = (0..PARTITIONS).map(data).collect();
    let answer = client.ask(9, &request);
    let response: ProduceResponse<'_> = decoded::<ProduceRequest<'_>, _>(&answer, 9);
    for partition in &response.responses[0].partition_responses {
        assert_eq!(partition.error_code, 0, "partition {}", partition.index);
    }
}

/// Asks for all there is from `offset` on.
fn fetch_everything(offset: i64) -> Vec<u8> {
    let partitions = (0..PARTITIONS).map(|partition| FetchPartition {
        partition,
        fetch_offset: offset,
        partition_max_bytes: i32::MAX,
        current_leader_epoch: -1,
        ..Default::default()
    });
    let topic = FetchTopic { topic: TOPIC, partitions: partitions.collect(), ..Default::default() };
    let request = FetchRequest {
        max_bytes: i32::MAX,
        session_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    };
    framed(12, &request)
}

/// Another client is served, and the broker is small.
fn check(broker: &BrokerProcess, good: &mut RawClient, next: &mut i64, peak: &mut u64) {
    assert_eq!(good.produce("small", &batch(&[b"on"])), (0, *next));
    *next += 1;
    *peak = broker.resident_bytes().max(*peak);
    assert!(*peak < RESIDENT_MAX, "{} MiB", *peak / MIB);
}

#[test]
fn clients_that_ask_for_everything_and_never_read_leave_memory_to_others() {
    for driver in DRIVERS {
        let mut broker = BrokerProcess::start(driver, &[]);
        let mut good = RawClient::connect(broker.address());
        fill(&mut good);
        let sockets = broker.socket_count();
        let (mut next, mut peak) = (0, broker.resident_bytes());
        println!("{driver}: {} MiB with nobody", peak / MIB);
        let mut stuck = Vec::new();
        // Old records, each from another place; 10,000 requests of some; and the newest ones.
        for index in 0..CONNECTIONS {
            let mut client = RawClient::connect(broker.address());
            client.send(&fetch_everything(index).repeat(20)).unwrap();
            stuck.push(client);
            check(&broker, &mut good, &mut next, &mut peak);
        }
        println!("{driver}: {} MiB with old records", peak / MIB);
        let everything = MetadataRequest::default();
        for request in [fetch_everything(0), framed(9, &everything)] {
            let mut client = RawClient::connect(broker.address());
            client.send_until_full(&request.repeat(PIPELINED), STUCK);
            stuck.push(client);
            check(&broker, &mut good, &mut next, &mut peak);
        }
        let mut end = i64::try_from(BATCHES).unwrap();
        for _ in 0..CONNECTIONS {
            produce_to_all(&mut good);
            end += 1;
            let mut client = RawClient::connect(broker.address());
            client.send(&fetch_everything(end - 10).repeat(20)).unwrap();
            stuck.push(client);
            check(&broker, &mut good, &mut next, &mut peak);
        }
        println!("{driver}: {} MiB with new records", peak / MIB);
        let small = good.fetch_all("small");
        assert_eq!(small.len(), usize::try_from(next).unwrap(), "{driver}");
        let large = good.fetch_all(TOPIC);
        assert_eq!(large.len(), usize::try_from(end).unwrap(), "{driver}");
        check(&broker, &mut good, &mut next, &mut peak);
        drop(stuck);
        broker.wait_for_sockets(sockets);
        check(&broker, &mut good, &mut next, &mut peak);
        println!("{driver}: at most {} MiB", peak / MIB);
        broker.check_sound();
    }
}
