//! Connections move to the shard whose partitions they are about, and end when the broker stops.

#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "one_broker/node.rs"]
mod node;
mod one_broker;

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use broker::{Scope, Scrape};
use client::{Acks, AutoCreate, Batch, Connection, NewTopic, ProducerState};
use model::record_batch::NewRecord;
use node::{Node, QUICK_DISK};
use runtime::{Runtime, TaskQueue};
use sim::DiskSettings;
use wire::fetch_request::{FetchPartition, FetchRequest, FetchTopic};

const TIMEOUT: Duration = Duration::from_secs(30);
const PARTITIONS: i32 = 2;
/// Of a partition at a time: twice as many as make a connection move.
const PRODUCES: usize = 64;
/// Longer than a connection stays where it moved.
const BETWEEN: Duration = Duration::from_millis(1100);

/// How many connections each shard has.
fn connections(node: &mut Node) -> Vec<usize> {
    let page = node
        .ask(|sender| Box::new(Scrape::new(Scope::Node, move |page| sender.send(page).unwrap())));
    let counts = page.lines().filter(|line| line.contains("networkProcessor="));
    counts.map(|line| line.rsplit(' ').next().unwrap().parse().unwrap()).collect()
}

async fn create(connection: &Connection) {
    let topic = NewTopic {
        name: "orders",
        partition_count: PARTITIONS,
        replication_factor: 1,
        configs: &[],
    };
    connection.create_topic(&topic, TIMEOUT).await.unwrap();
}

async fn answered_at(connection: Connection, batch: Batch) -> i64 {
    let produced = connection.produce(&[batch], Acks::All, TIMEOUT).await.unwrap().remove(0);
    produced.unwrap().base_offset.unwrap().0
}

/// Produces to one partition, five batches on their way at a time, and gives the offsets in the
/// order of sending. Batches of 20 KiB are received into memory of their own.
async fn produce(
    runtime: &Runtime,
    connection: &Connection,
    producer: &mut ProducerState,
    partition: i32,
) -> Vec<i64> {
    let offsets = Rc::new(RefCell::new(vec![None; PRODUCES]));
    let in_flight = Rc::new(Cell::new(0));
    for number in 0..PRODUCES {
        let value = vec![b'v'; if number % 2 == 0 { 20_000 } else { 100 }];
        let record = NewRecord { value: Some(&value), ..Default::default() };
        let batch = producer.batch("orders", partition, &[record]);
        while in_flight.get() >= 5 {
            runtime.sleep(Duration::from_micros(10)).await;
        }
        in_flight.set(in_flight.get() + 1);
        let (connection, offsets, in_flight) =
            (connection.clone(), Rc::clone(&offsets), Rc::clone(&in_flight));
        runtime.spawn("produce", TaskQueue::Foreground, async move {
            let offset = answered_at(connection, batch).await;
            offsets.borrow_mut()[number] = Some(offset);
            in_flight.set(in_flight.get() - 1);
        });
        runtime.yield_now().await;
    }
    while in_flight.get() > 0 {
        runtime.sleep(Duration::from_micros(10)).await;
    }
    offsets.take().into_iter().map(Option::unwrap).collect()
}

/// Fetches from one partition in a session, and checks that it lives.
async fn fetch_in_session(connection: &Connection, partition: i32) {
    let mut session = 0;
    for epoch in 0..i32::try_from(PRODUCES).unwrap() {
        let partitions = vec![FetchPartition {
            partition,
            fetch_offset: i64::from(epoch),
            partition_max_bytes: 1,
            ..Default::default()
        }];
        let request = FetchRequest {
            max_bytes: 1 << 20,
            min_bytes: 1,
            session_id: session,
            session_epoch: epoch,
            topics: vec![FetchTopic { topic: "orders", partitions, ..Default::default() }],
            ..Default::default()
        };
        let answer = connection.call(&request).await.unwrap();
        let response = answer.decode().unwrap();
        assert_eq!(response.error_code, 0, "epoch {epoch}");
        assert!(session == 0 || response.session_id == session, "epoch {epoch}");
        session = response.session_id;
        assert_ne!(session, 0, "epoch {epoch}");
        let fetched = &response.responses[0].partitions[0];
        assert!(fetched.records.as_ref().is_some_and(|records| !records.is_empty()), "{epoch}");
    }
}

#[test]
fn a_connection_moves_to_its_partitions_and_loses_nothing() {
    let mut node = Node::new(QUICK_DISK);
    node.start();
    let seen: Rc<RefCell<Vec<Vec<usize>>>> = Rc::default();
    let (phase, looked) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let (of_client, looked_at) = (Rc::clone(&phase), Rc::clone(&looked));
    node.begin_client(async move |runtime: Runtime, connection: Connection| {
        create(&connection).await;
        let mut producer = connection.init_producer_id().await.unwrap();
        for round in 0..4 {
            let offsets = produce(&runtime, &connection, &mut producer, round % PARTITIONS).await;
            let first = i64::from(round / PARTITIONS) * i64::try_from(PRODUCES).unwrap();
            let expected = first..first + i64::try_from(PRODUCES).unwrap();
            assert!(offsets.iter().copied().eq(expected), "{offsets:?}");
            of_client.set(round + 1);
            while looked_at.get() <= round {
                runtime.sleep(Duration::from_millis(1)).await;
            }
            runtime.sleep(BETWEEN).await;
        }
        for partition in [0, 1, 0] {
            fetch_in_session(&connection, partition).await;
            runtime.sleep(BETWEEN).await;
        }
    });
    for round in 1..=4 {
        node.wait_until(|| phase.get() == round);
        seen.borrow_mut().push(connections(&mut node));
        looked.set(round);
    }
    node.end_clients();
    let seen = seen.take();
    let mut each = [vec![1, 0], vec![0, 1]];
    each.sort_by_key(|counts| *counts != seen[0]);
    assert_eq!(seen, [&each[..], &each[..]].concat(), "it was on the shard of each in turn");
    assert_eq!(connections(&mut node), [0, 0]);
    assert_eq!(node.simulation.violations(), Vec::<String>::new());
}

/// A broker whose partitions take long to close, and whose records to be durable.
fn slow_to_stop() -> Node {
    let sync_ns = (50_000_000, 60_000_000);
    let mut node = Node::new(DiskSettings { sync_ns, ..QUICK_DISK });
    node.start();
    node
}

#[test]
fn nobody_is_told_that_a_stopping_broker_leads_nothing() {
    let mut node = slow_to_stop();
    let answers = Rc::new(Cell::new(0));
    let told = Rc::clone(&answers);
    node.begin_client(async move |_, connection: Connection| {
        create(&connection).await;
        loop {
            match connection.metadata(Some(&["orders"]), AutoCreate::Never).await {
                Ok(metadata) => {
                    let leaders = &metadata.topics[0].leaders;
                    assert!(leaders.iter().all(|leader| *leader >= 0), "{metadata:?}");
                    told.set(told.get() + 1);
                }
                Err(error) => {
                    assert!(error.is_of_connection(), "{error:?}");
                    return;
                }
            }
        }
    });
    node.wait_until(|| answers.get() > 10);
    node.stop();
    node.end_clients();
    assert_eq!(node.simulation.violations(), Vec::<String>::new());
}

#[test]
fn what_is_in_the_log_is_answered_though_the_broker_stops() {
    let mut node = slow_to_stop();
    let (is_sent, answered) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(None)));
    let (sent, produced) = (Rc::clone(&is_sent), Rc::clone(&answered));
    let is_refused = Rc::new(Cell::new(false));
    let refused = Rc::clone(&is_refused);
    node.begin_client(async move |runtime: Runtime, connection: Connection| {
        create(&connection).await;
        let record = NewRecord { value: Some(b"v"), ..Default::default() };
        let batch = ProducerState::plain().batch("orders", 0, &[record]);
        let of_produce = connection.clone();
        runtime.spawn("produce", TaskQueue::Foreground, async move {
            produced.set(Some(answered_at(of_produce, batch).await));
        });
        runtime.yield_now().await;
        // Behind it, and not begun before the stop.
        let behind = connection.clone();
        runtime.spawn("metadata", TaskQueue::Foreground, async move {
            let asked = behind.metadata(Some(&["orders"]), AutoCreate::Never).await;
            refused.set(asked.is_err_and(|error| error.is_of_connection()));
        });
        runtime.sleep(Duration::from_millis(1)).await;
        sent.set(true);
        while !connection.is_closed() {
            runtime.sleep(Duration::from_millis(1)).await;
        }
        runtime.yield_now().await;
    });
    node.wait_until(|| is_sent.get());
    node.stop();
    node.end_clients();
    assert_eq!((answered.get(), is_refused.get()), (Some(0), true));
    assert_eq!(node.simulation.violations(), Vec::<String>::new());
}
