//! Creating, restarting with and deleting thousands of partitions.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use tests::{
    broker_process::{BrokerProcess, End},
    raw_client::{RawClient, batch, decoded, produce_request},
};
use wire::{
    Records,
    create_topics_request::{CreatableTopic, CreateTopicsRequest},
    create_topics_response::CreateTopicsResponse,
    delete_topics_request::{DeleteTopicState, DeleteTopicsRequest},
    delete_topics_response::DeleteTopicsResponse,
    produce_request::{PartitionProduceData, ProduceRequest},
    produce_response::ProduceResponse,
};

use crate::DRIVERS;

const COUNT: i32 = 5000;
/// How many of them get records: each then has files, and syncs of them take what a shared disk
/// takes. `ODRADEK_FILLED` gives another number, for the figures.
const FILLED: i32 = 200;
/// Far more than what is promised: other tests, and others' disks, run beside this one.
const BOUND: Duration = Duration::from_secs(30);

fn create(client: &mut RawClient, names: &[String], partitions: i32) -> Duration {
    let topics = names.iter().map(|name| CreatableTopic {
        name,
        num_partitions: partitions,
        replication_factor: 1,
        ..Default::default()
    });
    let request = CreateTopicsRequest { topics: topics.collect(), ..Default::default() };
    let began = Instant::now();
    let answer = client.ask(7, &request);
    let took = began.elapsed();
    let response: CreateTopicsResponse<'_> = decoded::<CreateTopicsRequest<'_>, _>(&answer, 7);
    assert_eq!(response.topics.len(), names.len());
    for topic in &response.topics {
        assert_eq!(topic.error_code, 0, "{}", topic.name);
    }
    took
}

fn delete(client: &mut RawClient, name: &str) -> Duration {
    let topic = DeleteTopicState { name: Some(name), ..Default::default() };
    let request = DeleteTopicsRequest { topics: vec![topic], ..Default::default() };
    let began = Instant::now();
    let answer = client.ask(6, &request);
    let took = began.elapsed();
    let response: DeleteTopicsResponse<'_> = decoded::<DeleteTopicsRequest<'_>, _>(&answer, 6);
    assert_eq!(response.responses[0].error_code, 0);
    took
}

/// One record to each partition of a topic.
fn fill(client: &mut RawClient, topic: &str, partitions: i32) -> Duration {
    let records = batch(&[b"one"]);
    let began = Instant::now();
    for first in (0..partitions).step_by(500) {
        let mut request = produce_request(topic, None);
        request.topic_data[0].partition_data = (first..partitions.min(first + 500))
            .map(|index| PartitionProduceData { index, records: Some(Records::Borrowed(&records)) })
            .collect();
        let answer = client.ask(9, &request);
        let response: ProduceResponse<'_> = decoded::<ProduceRequest<'_>, _>(&answer, 9);
        for partition in &response.responses[0].partition_responses {
            assert_eq!(partition.error_code, 0, "{topic}-{}", partition.index);
        }
    }
    began.elapsed()
}

/// How long a start takes, and how long it is until a produce is acknowledged.
fn restart(broker: &mut BrokerProcess, end: End) -> [Duration; 2] {
    broker.restart(end);
    let began = Instant::now();
    let mut client = RawClient::connect(broker.address());
    let (code, _) = client.produce("many", &batch(&[b"again"]));
    assert_eq!(code, 0);
    let ready = broker.started_in();
    assert!(ready + began.elapsed() < BOUND);
    [ready, ready + began.elapsed()]
}

fn filled_count() -> i32 {
    std::env::var("ODRADEK_FILLED").map_or(FILLED, |count| count.parse().expect("a number"))
}

#[test]
fn thousands_of_partitions_are_created_and_started_with_at_once() {
    for driver in DRIVERS {
        let mut broker = BrokerProcess::start(driver, &[]);
        let mut client = RawClient::connect(broker.address());
        let created = create(&mut client, &["many".to_owned()], COUNT);
        let names: Vec<String> = (0..COUNT / 10).map(|topic| format!("some-{topic}")).collect();
        let created_in_topics = create(&mut client, &names, 10);
        assert!(created.max(created_in_topics) < BOUND);
        println!(
            "{driver}: 5,000 partitions of one topic {created:?}, of 500 {created_in_topics:?}"
        );
        println!("{driver}: empty, killed {:?}", restart(&mut broker, End::Kill));
        println!("{driver}: empty, stopped {:?}", restart(&mut broker, End::Stop));
        let mut client = RawClient::connect(broker.address());
        let count = filled_count();
        let filled = fill(&mut client, "many", count);
        println!("{driver}: a first record to each of {count} {filled:?}");
        println!("{driver}: with {count} logs, killed {:?}", restart(&mut broker, End::Kill));
        println!("{driver}: with {count} logs, stopped {:?}", restart(&mut broker, End::Stop));
        println!("{driver}: {} MiB", broker.resident_bytes() >> 20);
        broker.check_sound();
    }
}

#[test]
fn a_topic_of_many_partitions_is_deleted_under_load() {
    for driver in DRIVERS {
        let mut broker = BrokerProcess::start(driver, &[]);
        let mut client = RawClient::connect(broker.address());
        let count = filled_count();
        create(&mut client, &["many".to_owned()], count);
        create(&mut client, &["other".to_owned()], 1);
        fill(&mut client, "many", count);
        let address = broker.address();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let load = thread::spawn(move || {
            let mut client = RawClient::connect(address);
            let mut longest = Duration::ZERO;
            let mut count = 0;
            while stopped.try_recv().is_err() {
                let began = Instant::now();
                assert_eq!(client.produce("other", &batch(&[&[7; 1000]])), (0, count));
                longest = longest.max(began.elapsed());
                count += 1;
            }
            (longest, count)
        });
        let took = delete(&mut client, "many");
        let deadline = Instant::now() + tests::broker_process::PATIENCE;
        let remaining = || {
            let names = fs::read_dir(broker.data_dir()).expect("it is there");
            let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            names.filter(|name| name.starts_with("many-")).count()
        };
        while remaining() > 0 {
            assert!(Instant::now() < deadline, "{} directories are left", remaining());
            thread::sleep(Duration::from_millis(10));
        }
        stop.send(()).expect("the load runs");
        let (longest, produced) = load.join().expect("every produce is taken");
        assert!(took < BOUND && produced > 0);
        println!(
            "{driver}: deleted {count} partitions in {took:?}; {produced} produces beside it, the longest took {longest:?}"
        );
        create(&mut client, &["many".to_owned()], 2);
        assert_eq!(client.produce("many", &batch(&[b"new"])), (0, 0));
        broker.check_sound();
    }
}
