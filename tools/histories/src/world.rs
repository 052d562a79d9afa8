//! What every client is given: a way to the broker, wherever it is now, and to the history.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use checker::history::{Action, Kind, Read, Reads, Sent};
use client::{Connection, Error, FetchOptions, Isolation, Options, Position};
use model::record_batch::NewRecord;
use model::{Offset, TimestampMs};
use rig::chance::Chance;
use runtime::{Runtime, TaskQueue};

use crate::shared::{Phase, Shared};

/// Longer than the broker is paused, shorter than the liveness that is asked for.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(8);
const RETRY_PAUSE: Duration = Duration::from_millis(30);

const FETCH: FetchOptions = FetchOptions {
    max_wait: Duration::from_millis(50),
    min_bytes: 1,
    max_bytes: 1 << 20,
    partition_max_bytes: 8 << 10,
    isolation: Isolation::Committed,
};

/// A topic of the run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Topic {
    pub(crate) name: &'static str,
    pub(crate) partitions: i32,
    pub(crate) configs: &'static [(&'static str, &'static str)],
}

impl Topic {
    /// Its partitions as a history names them.
    pub(crate) fn logs(&self) -> Vec<String> {
        (0..self.partitions).map(|partition| log_name(self.name, partition)).collect()
    }
}

pub(crate) fn log_name(topic: &str, partition: i32) -> String {
    format!("{topic}-{partition}")
}

/// Handed to each client.
#[derive(Clone)]
pub(crate) struct World {
    pub(crate) runtime: Runtime,
    pub(crate) shared: Arc<Shared>,
    processes: Rc<Cell<u64>>,
    /// Clients that have not come to their end.
    pub(crate) busy: Rc<Cell<u64>>,
}

impl World {
    pub(crate) fn new(runtime: Runtime, shared: Arc<Shared>) -> World {
        World { runtime, shared, processes: Rc::new(Cell::new(1)), busy: Rc::default() }
    }

    /// Starts a client that comes to its end after the load.
    pub(crate) fn start(&self, name: &'static str, client: impl Future<Output = ()> + 'static) {
        self.busy.set(self.busy.get() + 1);
        let busy = Rc::clone(&self.busy);
        let client: std::pin::Pin<Box<dyn Future<Output = ()>>> = Box::pin(client);
        self.runtime.spawn(name, TaskQueue::Foreground, async move {
            client.await;
            busy.set(busy.get() - 1);
        });
    }

    /// A new process of the history.
    pub(crate) fn process(&self, name: &str) -> Process {
        let number = self.processes.get();
        self.processes.set(number + 1);
        Process {
            world: self.clone(),
            number,
            name: format!("{name}-{number}"),
            connection: Rc::default(),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.shared.phase() > Phase::Load
    }

    pub(crate) async fn pause_ms(&self, chance: &mut Chance, most: u64) {
        self.runtime.sleep(Duration::from_millis(chance.between(0, most))).await;
    }
}

/// One who does one thing at a time, on a connection of its own.
#[derive(Clone)]
pub(crate) struct Process {
    pub(crate) world: World,
    pub(crate) number: u64,
    pub(crate) name: String,
    connection: Rc<RefCell<Option<Connection>>>,
}

impl Process {
    pub(crate) fn invoke(&self, action: Action) {
        self.world.shared.note(self.number, Kind::Invoke, action);
    }

    pub(crate) fn complete(&self, kind: Kind, action: Action) {
        self.world.shared.note(self.number, kind, action);
    }

    /// Does what needs no answer.
    pub(crate) fn done(&self, action: Action) {
        self.invoke(action.clone());
        self.complete(Kind::Ok, action);
    }

    /// Its connection, a new one as often as it takes.
    pub(crate) async fn connection(&self) -> Connection {
        loop {
            let current = self.connection.borrow().clone();
            if let Some(connection) = current.filter(|connection| !connection.is_closed()) {
                return connection;
            }
            let address = self.world.shared.address();
            let options = Options {
                client_id: self.name.clone(),
                request_timeout: REQUEST_TIMEOUT,
                ..Options::default()
            };
            match Connection::connect(&self.world.runtime, address, options).await {
                Ok(connection) => *self.connection.borrow_mut() = Some(connection),
                Err(error) => self.rest(&error).await,
            }
        }
    }

    /// After a failure: complains if no broker may answer so, and waits a moment.
    pub(crate) async fn rest(&self, error: &Error) {
        self.judge(error);
        if error.is_of_connection() {
            self.disconnect();
        }
        self.world.runtime.sleep(RETRY_PAUSE).await;
    }

    pub(crate) fn disconnect(&self) {
        self.connection.borrow_mut().take();
    }

    fn judge(&self, error: &Error) {
        if error.is_senseless() {
            self.world.shared.complain(format!("{}: {error}", self.name));
        }
    }

    /// Calls until there is an answer that is not to be asked for again.
    pub(crate) async fn retry<T>(
        &self,
        call: impl AsyncFn(Connection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        loop {
            match call(self.connection().await).await {
                Err(error) if error.is_retriable() => self.rest(&error).await,
                other => return other,
            }
        }
    }

    /// Fetches committed records of each position, and moves it on.
    ///
    /// # Errors
    /// When nothing was read: the positions are as they were.
    pub(crate) async fn fetch(&self, positions: &mut [Position]) -> Result<Reads, Error> {
        let connection = self.connection().await;
        let fetched = connection.fetch(positions, FETCH).await?;
        let mut reads = Reads::new();
        let mut moved = Vec::new();
        for one in &fetched {
            let at = |position: &Position| {
                position.topic == one.topic && position.partition == one.partition
            };
            let index = positions.iter().position(at);
            let index = index.ok_or(Error::Nonsense("a fetch of what nobody asked for"))?;
            // A partition that is not ready is asked again; its answer has no records.
            let (records, next) = one.records_from(positions[index].offset)?;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let records: Vec<Read> = records
                .into_iter()
                .map(|record| Read {
                    offset: record.offset.0,
                    value: record.value.as_deref().map(text),
                    key: record.key.as_deref().map(text),
                })
                .collect();
            if !records.is_empty() {
                reads.insert(log_name(&one.topic, one.partition), records);
            }
            moved.push((index, next));
        }
        for (index, next) in moved {
            positions[index].offset = next;
        }
        Ok(reads)
    }
}

/// The records of a batch, as they are sent.
pub(crate) fn records(sent: &[Sent], timestamp_ms: i64) -> Vec<NewRecord<'_>> {
    let mut records = Vec::with_capacity(sent.len());
    for Sent { key, value, .. } in sent {
        records.push(NewRecord {
            timestamp: TimestampMs(timestamp_ms),
            key: key.as_ref().map(String::as_bytes),
            value: value.as_ref().map(String::as_bytes),
            ..NewRecord::default()
        });
    }
    records
}

/// Tells where a batch came to lie.
pub(crate) fn place(sent: &mut [Sent], base_offset: Option<Offset>) {
    for (delta, one) in (0..).zip(sent) {
        one.offset = base_offset.map(|base| base.0 + delta);
    }
}

/// The start of each of these partitions.
pub(crate) fn from_start(topic: &Topic) -> Vec<Position> {
    let at = |partition| Position { topic: topic.name.to_owned(), partition, offset: Offset(0) };
    (0..topic.partitions).map(at).collect()
}
