//! Producers of transactions, for `--transactions`: they commit, abort, leave transactions to
//! somebody who takes their id over, or to their time, through every crash.

use std::{cell::RefCell, collections::BTreeSet, rc::Rc, time::Duration};

use client::{Client, Connection, Error};
use model::{
    ErrorCode, ProducerEpoch, ProducerId, Sequence, TimestampMs,
    record_batch::{BatchOptions, NewRecord, RecordBatchBuilder, attribute},
};
use wire::{
    Records,
    end_txn_request::EndTxnRequest,
    init_producer_id_request::InitProducerIdRequest,
    produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData},
    txn_offset_commit_request::{
        TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
    },
};

use super::{
    clients::Workload,
    ledger::{Fate, Ledger},
};
use crate::Rng;

/// The topic of the transactions.
pub(crate) const LEDGER: &str = "ledger";
pub(crate) const PARTITIONS: i32 = 2;
/// How long a transaction may take: longer than any broker is away, or soon over.
const LONG_MS: i32 = 600_000;
const SHORT_MS: i32 = 100;
/// How long the coordinator is given to abort one that has taken too long.
const OVERDUE: Duration = Duration::from_millis(400);
/// Of 1,000 transactions so many have each end; the others are committed.
const ABORTED_PERMILLE: u32 = 200;
const TAKEN_OVER_PERMILLE: u32 = 100;
const OVERDUE_PERMILLE: u32 = 60;
/// Of 1,000 commits without an answer so many are not asked for again.
const GIVEN_UP_PERMILLE: u32 = 300;

/// Who a producer is.
#[derive(Clone, Copy, Debug)]
struct Identity {
    id: i64,
    epoch: i16,
}

pub(crate) struct Teller {
    workload: Workload,
    ledger: Rc<RefCell<Ledger>>,
    index: usize,
    rng: Rng,
    client: Client,
    name: String,
    identity: Option<Identity>,
    /// The next sequence of each partition in this epoch.
    sequences: [i32; 2],
}

/// A transaction's values, by partition.
type Batches = Vec<(i32, Vec<Rc<str>>)>;

/// How a transaction is to end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Commit,
    Abort,
    /// Another producer comes with the same id.
    TakenOver,
    /// It takes too long.
    Overdue,
}

impl Teller {
    pub(crate) fn new(
        workload: Workload,
        ledger: Rc<RefCell<Ledger>>,
        index: usize,
        rng: Rng,
    ) -> Teller {
        let name = format!("teller-{index}");
        let client = workload.client(&name);
        let sequences = [0; 2];
        Teller { workload, ledger, index, rng, client, name, identity: None, sequences }
    }

    /// The group whose offset a teller's transactions commit.
    pub(crate) fn group(index: usize) -> String {
        format!("ledger-{index}")
    }

    /// Goes through its quota of transactions, and leaves none open.
    pub(crate) async fn run(mut self, quota: u64) {
        for _ in 0..quota {
            let way = self.way();
            let timeout_ms = if way == Way::Overdue { SHORT_MS } else { LONG_MS };
            if self.identity.is_none() || way == Way::Overdue {
                self.come(timeout_ms).await;
            }
            match self.transaction(way).await {
                Ok(()) => {}
                // Its time was up before it came so far.
                Err(error) if way == Way::Overdue && is_fenced(&error) => self.client.disconnect(),
                Err(error) => self.lose(error).await,
            }
            if way == Way::Overdue {
                self.identity = None;
            }
            let pause = Duration::from_micros(self.rng.below(20_000));
            self.workload.runtime.sleep(pause).await;
        }
        self.come(LONG_MS).await;
        self.workload.done();
    }

    fn way(&mut self) -> Way {
        let drawn = u32::try_from(self.rng.below(1000)).expect("small");
        let overdue = ABORTED_PERMILLE + TAKEN_OVER_PERMILLE;
        match drawn {
            _ if drawn < ABORTED_PERMILLE => Way::Abort,
            _ if drawn < overdue => Way::TakenOver,
            _ if drawn < overdue + OVERDUE_PERMILLE => Way::Overdue,
            _ => Way::Commit,
        }
    }

    /// Something failed: what was open stays so until somebody comes with the id.
    async fn lose(&mut self, error: Error) {
        self.client.disconnect();
        self.identity = None;
        if !is_passing(&error) {
            self.workload.refuse_nonsense(&self.name, error);
        }
        self.workload.pause().await;
    }

    /// Comes with its id, as often as it takes; whatever was open is aborted then.
    async fn come(&mut self, timeout_ms: i32) {
        loop {
            let connection = self.workload.connect(&self.client).await;
            match self.init(&connection, timeout_ms).await {
                Ok(identity) => {
                    self.workload.operation();
                    self.identity = Some(identity);
                    self.sequences = [0; 2];
                    return;
                }
                Err(error) => self.lose(error).await,
            }
        }
    }

    async fn init(&self, connection: &Connection, timeout_ms: i32) -> Result<Identity, Error> {
        let request = InitProducerIdRequest {
            transactional_id: Some(&self.name),
            transaction_timeout_ms: timeout_ms,
            ..Default::default()
        };
        let answer = connection.call(&request).await?;
        let response = answer.decode()?;
        Error::check(response.error_code)?;
        Ok(Identity { id: response.producer_id, epoch: response.producer_epoch })
    }

    async fn transaction(&mut self, way: Way) -> Result<(), Error> {
        let identity = self.identity.expect("it has come");
        let connection = self.workload.connect(&self.client).await;
        let mut partitions: BTreeSet<i32> = BTreeSet::new();
        for _ in 0..2 {
            partitions.insert(if self.rng.chance(500) { 0 } else { 1 });
        }
        let commits_offset = self.rng.chance(400);
        let made = self.make(&partitions, commits_offset);
        let number = made.0;
        for (partition, values) in &made.1 {
            self.produce(&connection, identity, *partition, values).await?;
        }
        if commits_offset {
            self.commit_offset(&connection, identity, number).await?;
        }
        match way {
            Way::Commit => self.commit(identity, number).await,
            Way::Abort => {
                let next = self.end(&connection, identity, false).await?;
                self.go_on(next);
                self.set(number, Fate::Aborted);
                self.workload.history.borrow_mut().counts.transactions_aborted += 1;
                Ok(())
            }
            Way::TakenOver => {
                self.take_over(identity, number).await;
                Ok(())
            }
            Way::Overdue => self.wait_too_long(&connection, identity, number).await,
        }
    }

    /// Begins a transaction in the ledger: its number, and its values by partition.
    fn make(&mut self, partitions: &BTreeSet<i32>, commits_offset: bool) -> (usize, Batches) {
        let mut ledger = self.ledger.borrow_mut();
        let mut made = Vec::new();
        let mut all = Vec::new();
        let stamp = self.workload.runtime.random();
        for partition in partitions {
            let count = self.rng.between(1, 4);
            let values: Vec<Rc<str>> = (0..count)
                .map(|record| format!("t{}-{stamp:x}-{partition}-{record}", self.index).into())
                .collect();
            all.extend(values.iter().map(|value| (*partition, Rc::clone(value))));
            made.push((*partition, values));
        }
        let group = commits_offset.then_some(self.index);
        (ledger.begin(all, group), made)
    }

    async fn produce(
        &mut self,
        connection: &Connection,
        identity: Identity,
        partition: i32,
        values: &[Rc<str>],
    ) -> Result<(), Error> {
        let next = &mut self.sequences[usize::try_from(partition).expect("0 or 1")];
        let sequence = *next;
        *next += i32::try_from(values.len()).expect("few");
        send(connection, &self.name, identity, (partition, sequence), values).await?;
        self.workload.operation();
        Ok(())
    }

    async fn commit_offset(
        &self,
        connection: &Connection,
        identity: Identity,
        number: usize,
    ) -> Result<(), Error> {
        let group = Teller::group(self.index);
        let partition = TxnOffsetCommitRequestPartition {
            partition_index: 0,
            committed_offset: i64::try_from(number).expect("few") + 1,
            ..Default::default()
        };
        let topic = TxnOffsetCommitRequestTopic {
            name: LEDGER,
            partitions: vec![partition],
            ..Default::default()
        };
        let request = TxnOffsetCommitRequest {
            transactional_id: &self.name,
            group_id: &group,
            producer_id: identity.id,
            producer_epoch: identity.epoch,
            topics: vec![topic],
            ..Default::default()
        };
        let answer = connection.call(&request).await?;
        let response = answer.decode()?;
        let codes = response.topics.iter().flat_map(|topic| &topic.partitions);
        for partition in codes {
            Error::check(partition.error_code)?;
        }
        self.workload.operation();
        Ok(())
    }

    async fn end(
        &self,
        connection: &Connection,
        identity: Identity,
        committed: bool,
    ) -> Result<Identity, Error> {
        let request = EndTxnRequest {
            transactional_id: &self.name,
            producer_id: identity.id,
            producer_epoch: identity.epoch,
            committed,
        };
        let answer = connection.call(&request).await?;
        let response = answer.decode()?;
        Error::check(response.error_code)?;
        self.workload.operation();
        Ok(Identity { id: response.producer_id, epoch: response.producer_epoch })
    }

    /// Asks for the commit until it is answered, or gives it up.
    async fn commit(&mut self, identity: Identity, number: usize) -> Result<(), Error> {
        self.set(number, Fate::Committing);
        loop {
            let connection = self.workload.connect(&self.client).await;
            match self.end(&connection, identity, true).await {
                Ok(next) => {
                    self.go_on(next);
                    self.set(number, Fate::Committed);
                    self.workload.history.borrow_mut().counts.transactions_committed += 1;
                    return Ok(());
                }
                Err(error) if !is_passing(&error) || self.rng.chance(GIVEN_UP_PERMILLE) => {
                    self.set(number, Fate::Doubtful);
                    return Err(error);
                }
                Err(_) => {
                    self.client.disconnect();
                    self.workload.pause().await;
                }
            }
        }
    }

    /// Somebody else comes with the id: from then on the one before can do nothing.
    async fn take_over(&mut self, old: Identity, number: usize) {
        self.come(LONG_MS).await;
        self.set(number, Fate::Aborted);
        self.workload.history.borrow_mut().counts.transactions_taken_over += 1;
        let connection = self.workload.connect(&self.client).await;
        if self.end(&connection, old, true).await.is_ok() {
            self.workload.complain(format!("{}: {old:?} has committed, and is fenced", self.name));
        }
        for partition in 0..PARTITIONS {
            let zombie: Rc<str> = format!("zombie-{}-{number}-{partition}", self.index).into();
            let values = vec![(partition, Rc::clone(&zombie))];
            let lost = self.ledger.borrow_mut().begin(values, None);
            self.set(lost, Fate::Aborted);
            let place = (partition, self.rng.pick(&[0, 1]));
            if send(&connection, &self.name, old, place, &[zombie]).await.is_ok() {
                let name = &self.name;
                self.workload.complain(format!("{name}: {old:?} has written, and is fenced"));
            }
        }
    }

    /// The coordinator aborts what takes too long, if it is there meanwhile.
    async fn wait_too_long(
        &mut self,
        connection: &Connection,
        identity: Identity,
        number: usize,
    ) -> Result<(), Error> {
        self.workload.runtime.sleep(OVERDUE).await;
        self.set(number, Fate::Committing);
        match self.end(connection, identity, true).await {
            Ok(_) => {
                self.set(number, Fate::Committed);
                Ok(())
            }
            Err(error) if is_fenced(&error) => {
                self.set(number, Fate::Aborted);
                self.workload.history.borrow_mut().counts.transactions_timed_out += 1;
                Ok(())
            }
            Err(error) => {
                self.set(number, Fate::Doubtful);
                Err(error)
            }
        }
    }

    fn go_on(&mut self, next: Identity) {
        self.identity = Some(next);
        self.sequences = [0; 2];
    }

    fn set(&self, number: usize, fate: Fate) {
        self.ledger.borrow_mut().set(number, fate);
    }
}

/// Produces a batch of a transaction.
async fn send(
    connection: &Connection,
    transactional_id: &str,
    identity: Identity,
    (partition, sequence): (i32, i32),
    values: &[Rc<str>],
) -> Result<(), Error> {
    let mut builder = RecordBatchBuilder::new(BatchOptions {
        producer_id: ProducerId(identity.id),
        producer_epoch: ProducerEpoch(identity.epoch),
        base_sequence: Sequence(sequence),
        flags: attribute::TRANSACTIONAL,
        ..BatchOptions::default()
    });
    let timestamp = TimestampMs(connection.runtime().wall_clock_ms());
    for value in values {
        let value = Some(value.as_bytes());
        builder.append(&NewRecord { timestamp, value, ..NewRecord::default() });
    }
    let data = PartitionProduceData {
        index: partition,
        records: Some(Records::Slices(vec![builder.build()])),
    };
    let topic = TopicProduceData { name: LEDGER, partition_data: vec![data], ..Default::default() };
    let request = ProduceRequest {
        transactional_id: Some(transactional_id),
        acks: -1,
        timeout_ms: 5000,
        topic_data: vec![topic],
    };
    let answer = connection.call(&request).await?;
    let response = answer.decode()?;
    let partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    for partition in partitions {
        Error::check(partition.error_code)?;
    }
    Ok(())
}

/// Whether a producer is told that its transaction is somebody else's to end.
fn is_fenced(error: &Error) -> bool {
    matches!(
        error,
        Error::Refused(
            ErrorCode::ProducerFenced
                | ErrorCode::InvalidProducerEpoch
                | ErrorCode::InvalidTxnState
        )
    )
}

/// Whether a transaction's client tries again after it.
fn is_passing(error: &Error) -> bool {
    error.is_retriable() || matches!(error, Error::Refused(ErrorCode::ConcurrentTransactions))
}
