//! Why a request was slow: each is made slow for a known reason, and that stage is named.

use std::{net::SocketAddr, thread::sleep, time::Duration};

use serde_json::Value;
use tests::{
    broker_process::{BrokerProcess, PATIENCE},
    http::{get, samples},
    raw_client::{RawClient, Received, batch, fetch_request, framed, produce_request},
};
use wire::{
    Request,
    api_versions_request::ApiVersionsRequest,
    fetch_request::FetchRequest,
    offset_commit_request::{
        OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    },
};

/// How long each of them is made to take.
const DELAY: Duration = Duration::from_millis(300);
/// What of it has to be found, the rest being left to the machine.
const FOUND_US: u64 = 250_000;

struct Slow {
    broker: BrokerProcess,
    client: RawClient,
}

impl Slow {
    fn start(driver: &str) -> Slow {
        let broker = BrokerProcess::start(driver, &["admin.listen=127.0.0.1:0"]);
        let mut client = RawClient::connect(broker.address());
        client.create_topic("topic");
        Slow { broker, client }
    }

    fn admin(&self) -> SocketAddr {
        self.broker.admin().expect("it has an admin port")
    }

    /// What the broker says of requests of this API.
    fn all(&self, api: &str) -> Vec<Value> {
        let (status, page) = get(self.admin(), "/debug/slow");
        assert_eq!(status, 200);
        let page: Value = serde_json::from_str(&page).expect("JSON");
        let all = page["requests"].as_array().expect("an array");
        all.iter().filter(|request| request["api"] == api).cloned().collect()
    }

    /// What it says of the last of them.
    fn last(&self, api: &str) -> Value {
        let all = self.all(api).into_iter();
        all.max_by_key(|request| request["began_ms"].as_i64()).expect("there was one")
    }

    /// The answer to what is still in flight.
    fn answered(&mut self) {
        let Received::Frame(_) = self.client.receive(PATIENCE) else { panic!("no answer") };
    }

    fn send<R: Request>(&mut self, version: i16, request: &R) {
        self.client.send(&framed(version, request)).expect("the broker listens");
    }
}

fn stage(request: &Value, name: &str) -> u64 {
    request["stages_us"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {request}"))
}

/// A fetch behind the end, which waits for as long as the delay.
fn waiting_fetch() -> FetchRequest<'static> {
    let max_wait_ms = i32::try_from(DELAY.as_millis()).expect("it is short");
    FetchRequest { min_bytes: 1, max_wait_ms, ..fetch_request("topic", 1) }
}

/// Whether this stage is named as the one that took long, and no other as half of it.
fn check(driver: &str, request: &Value, name: &str) {
    assert!(stage(request, name) >= FOUND_US, "{driver}: {name} in {request}");
    let total = request["total_us"].as_u64().expect("a number");
    assert!(total - stage(request, name) < total / 2, "{driver}: {name} in {request}");
    let stages = request["stages_us"].as_object().expect("an object");
    let sum: u64 = stages.values().filter_map(Value::as_u64).sum();
    assert_eq!(sum, total, "{driver}: every moment is in one stage: {request}");
}

#[test]
fn the_stage_that_took_long_is_named() {
    for driver in ["uring", "sync"] {
        let mut slow = Slow::start(driver);

        // Its client sends half of it.
        let records = batch(&[b"value"]);
        let produce = framed(9, &produce_request("topic", Some(&records)));
        slow.client.send(&produce[..20]).expect("the broker listens");
        sleep(DELAY);
        slow.client.send(&produce[20..]).expect("the broker listens");
        slow.answered();
        let found = slow.last("Produce");
        check(driver, &found, "read");
        assert_eq!((&found["topic"], &found["partition"]), (&"topic".into(), &0.into()));
        assert_eq!((&found["client_id"], &found["version"]), (&"raw".into(), &9.into()));
        assert_eq!(found["request_bytes"], produce.len() - 4);
        assert!(stage(&found, "sync") > 0, "{driver}: {found}");

        // There is nothing to fetch.
        slow.send(12, &waiting_fetch());
        slow.answered();
        let found = slow.last("Fetch");
        check(driver, &found, "pending");
        assert_eq!((&found["topic"], &found["partition"]), (&"topic".into(), &0.into()));
        assert!(found["slow_us"].as_u64() < Some(FOUND_US), "it was asked to wait: {found}");

        // It comes behind one that waits.
        slow.send(12, &waiting_fetch());
        slow.send(0, &ApiVersionsRequest::default());
        slow.answered();
        slow.answered();
        check(driver, &slow.last("ApiVersions"), "queue");
    }
}

#[test]
fn a_client_that_does_not_take_its_answer_is_told_apart() {
    for driver in ["uring", "sync"] {
        let mut slow = Slow::start(driver);
        let records = batch(&[&[7; 1_000_000]]);
        assert_eq!(slow.client.produce("topic", &records), (0, 0));
        // More answers than sockets hold.
        let answers = 30;
        for _ in 0..answers {
            slow.send(12, &fetch_request("topic", 0));
        }
        // A busy machine takes its time until the sockets are full.
        sleep(DELAY * 3);
        for _ in 0..answers {
            slow.answered();
        }
        let of_send = |request: &Value| stage(request, "send");
        let all = slow.all("Fetch");
        let found = all.iter().max_by_key(|request| of_send(request)).expect("there are some");
        check(driver, found, "send");
        assert!(found["response_bytes"].as_u64() > Some(1_000_000), "{found}");
    }
}

#[test]
fn a_commit_of_offsets_waits_for_the_disk_alone() {
    let mut slow = Slow::start("uring");
    let partition = OffsetCommitRequestPartition { committed_offset: 0, ..Default::default() };
    let topics = vec![OffsetCommitRequestTopic {
        name: "topic",
        partitions: vec![partition],
        ..Default::default()
    }];
    let request = OffsetCommitRequest {
        group_id: "mine",
        generation_id_or_member_epoch: -1,
        topics,
        ..Default::default()
    };
    for _ in 0..2 {
        let _answered = slow.client.ask(8, &request);
    }
    let found = slow.last("OffsetCommit");
    assert_eq!(found["group"], "mine");
    assert!(stage(&found, "sync") > 0, "{found}");
    assert_eq!(stage(&found, "pending"), 0, "{found}");
}

#[test]
fn slow_requests_are_told_to_people_and_counted_for_monitors() {
    let mut slow = Slow::start("uring");
    assert_eq!(slow.client.produce("topic", &batch(&[b"value"])), (0, 0));
    slow.send(12, &waiting_fetch());
    slow.answered();
    let (status, text) = get(slow.admin(), "/debug/slow?format=text");
    assert_eq!(status, 200);
    let fetch = text.lines().find(|line| line.contains("Fetch v12")).expect("a line");
    // The longest stage is the first.
    assert!(fetch.contains("topic-0") && fetch.contains("  pending "), "{text}");
    assert_eq!(get(slow.admin(), "/debug/slow?format=xml").0, 400);
    let (_, page) = get(slow.admin(), "/metrics");
    let found = samples(&page);
    let name = "odradek_request_stage_seconds";
    let sum = found[&format!("{name}_sum{{kind=\"Fetch\",stage=\"pending\"}}")];
    assert!((0.25..10.0).contains(&sum), "{sum}");
    assert!(found[&format!("{name}_count{{kind=\"Other\",stage=\"handle\"}}")] >= 1.0);
}
