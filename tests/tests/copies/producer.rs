//! The client, in a process of its own: produces marked records, fetches them, checks them.

use std::{io::Write, net::SocketAddr, time::Duration};

use client::{Acks, Connection, FetchOptions, NewTopic, Options, Position, ProducerState};
use model::{Offset, record_batch::NewRecord};
use runtime::{BufferPool, DriverPreference, Executor, Runtime, ShardIndex, mesh, open_driver};

use crate::memory::{MARK_BYTES, mark};

/// The variable that makes a process the client of the broker at its address.
pub const ADDRESS: &str = "COPIES_OF_BROKER";
/// The variable that says which number its first marked record has.
pub const FIRST_RECORD: &str = "COPIES_FIRST_RECORD";
/// Records in the batch that is looked at, and in each before it.
pub const RECORDS: u32 = 150;
/// Batches of the same size before it, without marks.
const BATCHES_BEFORE: u32 = 4;
/// One record behind it, so that its last block is written in full; small, so that it is received
/// into another buffer.
const LAST_VALUE_BYTES: usize = 8 << 10;
const VALUE_BYTES: usize = 1024;
const TOPIC: &str = "marked";
const TIMEOUT: Duration = Duration::from_secs(30);

/// Does all of it, and waits for a line after each step that it tells.
pub fn run(address: SocketAddr, first: u32) {
    let (mut endpoints, _) = mesh(1).unwrap();
    let pool = BufferPool::new(4 << 20);
    let (driver, _) = open_driver(DriverPreference::Sync, endpoints.remove(0), pool).unwrap();
    let mut executor = Executor::new(ShardIndex(0), 1, driver);
    let runtime = executor.runtime();
    let connection = executor.block_on(produce(runtime, address, first));
    tell_and_wait("produced");
    executor.block_on(fetch(connection, first));
    tell_and_wait("fetched");
}

async fn produce(runtime: Runtime, address: SocketAddr, first: u32) -> Connection {
    let connection = Connection::connect(&runtime, address, Options::default()).await.unwrap();
    let topic = NewTopic { name: TOPIC, partition_count: 1, replication_factor: 1, configs: &[] };
    connection.create_topic(&topic, TIMEOUT).await.unwrap();
    let plain: Vec<_> = (0..RECORDS).map(|_| vec![b'.'; VALUE_BYTES]).collect();
    for _ in 0..BATCHES_BEFORE {
        produce_batch(&connection, &plain).await;
    }
    let mut marked = plain;
    for (number, value) in (first..).zip(&mut marked) {
        value[100..100 + MARK_BYTES].copy_from_slice(&mark(number));
    }
    produce_batch(&connection, &marked).await;
    produce_batch(&connection, &[vec![b'.'; LAST_VALUE_BYTES]]).await;
    connection
}

async fn produce_batch(connection: &Connection, values: &[Vec<u8>]) {
    let records: Vec<NewRecord<'_>> =
        values.iter().map(|value| NewRecord { value: Some(value), ..Default::default() }).collect();
    let batch = ProducerState::plain().batch(TOPIC, 0, &records);
    let produced = connection.produce(&[batch], Acks::All, TIMEOUT).await.unwrap();
    produced.into_iter().next().unwrap().unwrap();
}

async fn fetch(connection: Connection, first: u32) {
    let offset = Offset(i64::from(BATCHES_BEFORE * RECORDS));
    let from = Position { topic: TOPIC.to_owned(), partition: 0, offset };
    let fetched = connection.fetch(&[from], FetchOptions::default()).await.unwrap();
    let (records, _) = fetched[0].records_from(offset).unwrap();
    assert_eq!(records.len(), usize::try_from(RECORDS).unwrap() + 1);
    for (number, record) in (first..first + RECORDS).zip(records) {
        assert_eq!(record.value.unwrap()[100..100 + MARK_BYTES], mark(number));
    }
}

fn tell_and_wait(word: &str) {
    println!("\n{word}");
    std::io::stdout().flush().unwrap();
    std::io::stdin().read_line(&mut String::new()).unwrap();
}
