//! A disk that is slow at one thing is told from the stages of the requests that waited for it.

#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "one_broker/node.rs"]
mod node;
mod one_broker;

use std::time::Duration;

use broker::{AskSlow, SlowRequest, Stage};
use client::{Acks, AutoCreate, Connection, FetchOptions, Isolation, Position, ProducerState};
use model::{Offset, record_batch::NewRecord};
use node::{Node, QUICK_DISK};
use runtime::Runtime;
use sim::DiskSettings;

const SLOW_NS: (u64, u64) = (100_000_000, 110_000_000);
const SLOW: Duration = Duration::from_millis(100);
/// What all else takes together.
const REST_MAX: Duration = Duration::from_millis(5);
const PRODUCES: usize = 3;

/// Those about the topic, in their order.
fn slowest(node: &mut Node, api: &str) -> Vec<SlowRequest> {
    let slowest = node.ask(|sender| Box::new(AskSlow::new(move |told| sender.send(told).unwrap())));
    let mut requests = slowest.requests;
    requests.retain(|request| request.api == api && request.topic.as_deref() == Some("orders"));
    requests.sort_by_key(|request| request.began_ms);
    requests
}

async fn produce(_: Runtime, connection: Connection) {
    connection.metadata(Some(&["orders"]), AutoCreate::Allowed).await.unwrap();
    let mut producer = ProducerState::plain();
    for number in 0..PRODUCES {
        let value = vec![b'v'; 1_000 + number];
        let record = NewRecord { value: Some(&value), ..Default::default() };
        let batch = producer.batch("orders", 0, &[record]);
        let timeout = Duration::from_secs(30);
        connection.produce(&[batch], Acks::All, timeout).await.unwrap().remove(0).unwrap();
    }
}

async fn fetch(_: Runtime, connection: Connection) {
    let position = Position { topic: "orders".to_owned(), partition: 0, offset: Offset(0) };
    let options = FetchOptions {
        max_wait: Duration::ZERO,
        min_bytes: 1,
        max_bytes: 1 << 20,
        partition_max_bytes: 1 << 20,
        isolation: Isolation::Uncommitted,
    };
    let fetched = connection.fetch(&[position], options).await.unwrap().remove(0);
    assert_eq!(fetched.records_from(Offset(0)).unwrap().0.len(), PRODUCES);
}

#[test]
fn a_slow_disk_is_the_stage_that_waited_for_it() {
    let quick = QUICK_DISK;
    let cases = [
        (quick, None, None),
        (DiskSettings { write_ns: SLOW_NS, ..quick }, Some(Stage::Write), None),
        (DiskSettings { sync_ns: SLOW_NS, ..quick }, Some(Stage::Sync), None),
        (DiskSettings { read_ns: SLOW_NS, ..quick }, None, Some(Stage::LogRead)),
    ];
    for (disk, slow_produce, slow_fetch) in cases {
        let mut node = Node::new(disk);
        node.start();
        node.begin_client(produce);
        node.end_clients();
        let produced = slowest(&mut node, "Produce");
        assert_eq!(produced.len(), PRODUCES);
        // The first one's write has the beginning of a segment, with syncs of its own.
        produced[1..].iter().for_each(|request| check(request, slow_produce));
        node.stop();
        // What is read now is in no memory.
        node.start();
        node.begin_client(fetch);
        node.end_clients();
        let fetched = slowest(&mut node, "Fetch");
        assert_eq!(fetched.len(), 1);
        check(&fetched[0], slow_fetch);
        assert_eq!(node.simulation.violations(), Vec::<String>::new());
    }
}

/// The stage has all the time, or nothing was slow.
fn check(request: &SlowRequest, slow: Option<Stage>) {
    let times = request.times;
    let waited = slow.map_or(Duration::ZERO, |stage| times.of(stage));
    assert!(slow.is_none() || waited >= SLOW, "{slow:?}: {request:?}");
    assert!(times.total() - waited < REST_MAX, "{slow:?}: {request:?}");
}
