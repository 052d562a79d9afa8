//! Producers of transactions, for `--transactions`: they commit, abort, leave transactions to
//! somebody who takes their id over, or to their time, through every crash.

use std::{cell::RefCell, collections::BTreeSet, rc::Rc, time::Duration};

use checker::history::{Action, Commit, Identity, Kind, Mop, Transaction};
use client::{Client, CommittedOffset, Connection, End, Error, Produced, TransactionalProducer};
use model::{Offset, TimestampMs, record_batch::NewRecord};

use super::{
    clients::Workload,
    ledger::{Fate, Ledger},
    told::{self, Told},
};
use crate::Rng;

/// The topic of the transactions.
pub(crate) const LEDGER: &str = "ledger";
pub(crate) const PARTITIONS: i32 = 2;
/// How long a transaction may take: longer than any broker is away, or soon over.
const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(100);
/// How long the coordinator is given to abort one that has taken too long.
const OVERDUE: Duration = Duration::from_millis(400);
/// Of 1,000 transactions so many have each end; the others are committed.
const ABORTED_PERMILLE: u32 = 200;
const TAKEN_OVER_PERMILLE: u32 = 100;
const OVERDUE_PERMILLE: u32 = 60;
/// Of 1,000 commits without an answer so many are not asked for again.
const GIVEN_UP_PERMILLE: u32 = 300;

pub(crate) struct Teller {
    workload: Workload,
    ledger: Rc<RefCell<Ledger>>,
    told: Told,
    index: usize,
    rng: Rng,
    client: Client,
    name: String,
    producer: Option<TransactionalProducer>,
    /// The transaction under way, as a history has it.
    transaction: Transaction,
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
        (ledger, told): (Rc<RefCell<Ledger>>, Told),
        index: usize,
        rng: Rng,
    ) -> Teller {
        let name = format!("teller-{index}");
        let client = workload.client(&name);
        let (producer, transaction) = (None, Transaction::default());
        Teller { workload, ledger, told, index, rng, client, name, producer, transaction }
    }

    /// The group whose offset a teller's transactions commit.
    pub(crate) fn group(index: usize) -> String {
        format!("ledger-{index}")
    }

    /// Goes through its quota of transactions, and leaves none open.
    pub(crate) async fn run(mut self, quota: u64) {
        for _ in 0..quota {
            let way = self.way();
            let timeout = if way == Way::Overdue { SHORT } else { LONG };
            if self.producer.is_none() || way == Way::Overdue {
                self.come(self.process(told::TELLERS), timeout).await;
            }
            match self.transaction(way).await {
                Ok(()) => {}
                // Its time was up before it came so far.
                Err(error) if way == Way::Overdue && TransactionalProducer::is_fenced(&error) => {
                    self.client.disconnect();
                }
                Err(error) => self.lose(error).await,
            }
            if way == Way::Overdue {
                self.producer = None;
            }
            let pause = Duration::from_micros(self.rng.below(20_000));
            self.workload.runtime.sleep(pause).await;
        }
        self.come(self.process(told::TELLERS), LONG).await;
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
        self.producer = None;
        if !error.is_retriable() {
            self.workload.refuse_nonsense(&self.name, error);
        }
        self.workload.pause().await;
    }

    /// Comes with its id, as often as it takes; whatever was open is aborted then.
    async fn come(&mut self, process: u64, timeout: Duration) {
        loop {
            let connection = self.workload.connect(&self.client).await;
            self.told.note(process, Kind::Invoke, Action::InitPid(Identity::default()));
            match TransactionalProducer::come(&connection, &self.name, timeout).await {
                Ok(producer) => {
                    self.workload.operation();
                    let identity = told::identity(&producer);
                    self.told.note(process, Kind::Ok, Action::InitPid(identity));
                    self.producer = Some(producer);
                    return;
                }
                Err(error) => {
                    let nobody = Action::InitPid(Identity::default());
                    self.told.note(process, Kind::Info, nobody);
                    self.lose(error).await;
                }
            }
        }
    }

    /// Its number as one of a kind.
    fn process(&self, kind: u64) -> u64 {
        kind + u64::try_from(self.index).expect("few tellers")
    }

    fn producer(&mut self) -> &mut TransactionalProducer {
        self.producer.as_mut().expect("it has come")
    }

    async fn transaction(&mut self, way: Way) -> Result<(), Error> {
        let connection = self.workload.connect(&self.client).await;
        let mut partitions: BTreeSet<i32> = BTreeSet::new();
        for _ in 0..2 {
            partitions.insert(if self.rng.chance(500) { 0 } else { 1 });
        }
        let commits_offset = self.rng.chance(400);
        let (number, made) = self.make(&partitions, commits_offset);
        self.begin(&made);
        let ended = self.go_through(&connection, (number, &made), way, commits_offset).await;
        let kind = told::outcome(self.ledger.borrow().fate(number));
        let transaction = std::mem::take(&mut self.transaction);
        self.told.note(self.process(told::TELLERS), kind, Action::Txn(transaction));
        ended
    }

    /// Tells the history what is about to be sent.
    fn begin(&mut self, made: &Batches) {
        let sent = made.iter().flat_map(|(partition, values)| told::sent(*partition, values));
        let mops = sent.map(Mop::Send).collect();
        let producer = Some(told::identity(self.producer()));
        self.transaction = Transaction { producer, mops, ..Transaction::default() };
        let begun = Action::Txn(self.transaction.clone());
        self.told.note(self.process(told::TELLERS), Kind::Invoke, begun);
    }

    async fn go_through(
        &mut self,
        connection: &Connection,
        (number, made): (usize, &Batches),
        way: Way,
        commits_offset: bool,
    ) -> Result<(), Error> {
        for (partition, values) in made {
            self.produce(connection, *partition, values).await?;
        }
        if commits_offset {
            self.commit_offset(connection, number).await?;
        }
        match way {
            Way::Commit => self.commit(number).await,
            Way::Abort => {
                self.end(connection, End::Abort).await?;
                self.set(number, Fate::Aborted);
                self.workload.history.borrow_mut().counts.transactions_aborted += 1;
                Ok(())
            }
            Way::TakenOver => {
                self.take_over(number).await;
                Ok(())
            }
            Way::Overdue => self.wait_too_long(connection, number).await,
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
        partition: i32,
        values: &[Rc<str>],
    ) -> Result<(), Error> {
        let produced = send(connection, self.producer(), partition, values).await?;
        let base_offset = produced.base_offset.map(|base| base.0);
        told::place(&mut self.transaction, partition, base_offset);
        self.workload.operation();
        Ok(())
    }

    async fn commit_offset(&mut self, connection: &Connection, number: usize) -> Result<(), Error> {
        let group = Teller::group(self.index);
        let offset = Offset(i64::try_from(number).expect("few") + 1);
        let metadata = number.to_string();
        let word = (offset.0, metadata.clone());
        let offsets = [((LEDGER.to_owned(), 0), CommittedOffset { offset, metadata })].into();
        self.transaction.offsets = Some(Commit {
            group: group.clone(),
            generation: None,
            offsets: [(told::log_name(0), word)].into(),
        });
        self.producer().commit_offsets(connection, &group, &offsets).await?;
        self.workload.operation();
        Ok(())
    }

    async fn end(&mut self, connection: &Connection, end: End) -> Result<(), Error> {
        if end == End::Commit {
            let now = self.told.now_ns();
            self.transaction.first_asked_ns.get_or_insert(now);
            self.transaction.last_asked_ns = Some(now);
        }
        self.producer().end(connection, end).await?;
        self.workload.operation();
        Ok(())
    }

    /// Asks for the commit until it is answered, or gives it up.
    async fn commit(&mut self, number: usize) -> Result<(), Error> {
        self.set(number, Fate::Committing);
        loop {
            let connection = self.workload.connect(&self.client).await;
            match self.end(&connection, End::Commit).await {
                Ok(()) => {
                    self.set(number, Fate::Committed);
                    self.workload.history.borrow_mut().counts.transactions_committed += 1;
                    return Ok(());
                }
                Err(error) if !error.is_retriable() || self.rng.chance(GIVEN_UP_PERMILLE) => {
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
    async fn take_over(&mut self, number: usize) {
        let mut old = self.producer().clone();
        self.come(self.process(told::SUCCESSORS), LONG).await;
        self.set(number, Fate::Aborted);
        self.workload.history.borrow_mut().counts.transactions_taken_over += 1;
        let connection = self.workload.connect(&self.client).await;
        // What it sends next would be a transaction of its own.
        let zombies = old.clone();
        let process = self.process(told::ZOMBIES);
        let producer = Some(told::identity(&zombies));
        let empty = Action::Txn(Transaction { producer, ..Transaction::default() });
        self.told.note(process, Kind::Invoke, empty.clone());
        let committed = old.end(&connection, End::Commit).await;
        self.told.note(process, known(committed.as_ref().err()), empty);
        if committed.is_ok() {
            let complaint = format!("{}: {zombies:?} has committed, and is fenced", self.name);
            self.workload.complain(complaint);
        }
        for partition in 0..PARTITIONS {
            let zombie: Rc<str> = format!("zombie-{}-{number}-{partition}", self.index).into();
            let values = vec![(partition, Rc::clone(&zombie))];
            let lost = self.ledger.borrow_mut().begin(values, None);
            self.set(lost, Fate::Aborted);
            let mut late = zombies.clone();
            let action = told::sends(&zombies, partition, std::slice::from_ref(&zombie));
            self.told.note(process, Kind::Invoke, action.clone());
            let written = send(&connection, &mut late, partition, &[zombie]).await;
            self.told.note(process, known(written.as_ref().err()), action);
            if written.is_ok() {
                let name = &self.name;
                self.workload.complain(format!("{name}: {zombies:?} has written, and is fenced"));
            }
        }
    }

    /// The coordinator aborts what takes too long, if it is there meanwhile.
    async fn wait_too_long(&mut self, connection: &Connection, number: usize) -> Result<(), Error> {
        self.workload.runtime.sleep(OVERDUE).await;
        self.set(number, Fate::Committing);
        match self.end(connection, End::Commit).await {
            Ok(()) => {
                self.set(number, Fate::Committed);
                Ok(())
            }
            Err(error) if TransactionalProducer::is_fenced(&error) => {
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

    fn set(&self, number: usize, fate: Fate) {
        self.ledger.borrow_mut().set(number, fate);
    }
}

/// What is known of one request by its error.
fn known(error: Option<&Error>) -> Kind {
    match error {
        None => Kind::Ok,
        Some(Error::Refused(_)) => Kind::Fail,
        Some(_) => Kind::Info,
    }
}

/// Produces a batch of a transaction.
async fn send(
    connection: &Connection,
    producer: &mut TransactionalProducer,
    partition: i32,
    values: &[Rc<str>],
) -> Result<Produced, Error> {
    let timestamp = TimestampMs(connection.runtime().wall_clock_ms());
    let mut records = Vec::new();
    for value in values {
        let value = Some(value.as_bytes());
        records.push(NewRecord { timestamp, value, ..NewRecord::default() });
    }
    let batch = producer.batch(LEDGER, partition, &records);
    producer.produce(connection, &batch).await
}
