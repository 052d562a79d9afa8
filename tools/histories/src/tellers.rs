//! Producers of transactions: they send, poll, commit, abort, forget, and are taken over.

use std::sync::atomic::Ordering;
use std::time::Duration;

use checker::history::{Action, Identity, Kind, Mop, Sends, Sent, Transaction};
use client::{End, Error, Position, TransactionalProducer};
use rig::chance::Chance;

use crate::world::{Process, Topic, World, from_start, log_name, place, records};

/// Longer than any broker is away.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(30);
const MOPS_MAX: u64 = 4;
const RECORDS_MAX: u64 = 3;
/// Of 1,000 transactions so many have each end; the others are committed.
const ABORTED_PERMILLE: u64 = 200;
const TAKEN_OVER_PERMILLE: u64 = 100;
const FORGOTTEN_PERMILLE: u64 = 50;
/// Of 1,000 commits without an answer so many are not asked for again.
const GIVEN_UP_PERMILLE: u64 = 100;

/// What a producer's transactional id says to a history.
pub(crate) fn identity(producer: &TransactionalProducer) -> Identity {
    let transactional_id = Some(producer.transactional_id().to_owned());
    let state = producer.state();
    Identity { transactional_id, id: state.id().0, epoch: state.epoch().0 }
}

impl Process {
    /// Comes with a transactional id, as often as it takes.
    pub(crate) async fn come(&self, id: &str) -> TransactionalProducer {
        loop {
            self.invoke(Action::InitPid(Identity::default()));
            let connection = self.connection().await;
            match TransactionalProducer::come(&connection, id, TRANSACTION_TIMEOUT).await {
                Ok(producer) => {
                    self.complete(Kind::Ok, Action::InitPid(identity(&producer)));
                    return producer;
                }
                Err(error) => {
                    self.complete(Kind::Info, Action::InitPid(Identity::default()));
                    self.rest(&error).await;
                }
            }
        }
    }

    /// Asks for a transaction's end until it is answered or given up, and says what is known then.
    pub(crate) async fn end(
        &self,
        producer: &mut TransactionalProducer,
        end: End,
        transaction: &mut Transaction,
        chance: &mut Chance,
    ) -> Kind {
        let mut may_be_committed = false;
        loop {
            let connection = self.connection().await;
            let now = self.world.shared.now_ns();
            if end == End::Commit {
                transaction.first_asked_ns.get_or_insert(now);
                transaction.last_asked_ns = Some(now);
            }
            let error = match producer.end(&connection, end).await {
                Ok(()) if end == End::Commit => return Kind::Ok,
                Ok(()) => {
                    self.world.shared.aborted.fetch_add(1, Ordering::SeqCst);
                    return Kind::Fail;
                }
                Err(error) => error,
            };
            let is_certain = matches!(error, Error::Refused(_)) && !may_be_committed;
            self.rest(&error).await;
            let is_given_up = chance.between(1, 1000) <= GIVEN_UP_PERMILLE;
            if !error.is_retriable() || (is_given_up && !self.world.is_over()) {
                // An abort that was not answered: nobody has asked for a commit.
                let is_failed = end == End::Abort || (is_certain && !error.is_retriable());
                return if is_failed { Kind::Fail } else { Kind::Info };
            }
            may_be_committed = true;
        }
    }
}

pub(crate) struct Teller {
    process: Process,
    topic: Topic,
    id: String,
    chance: Chance,
    producer: Option<TransactionalProducer>,
    positions: Vec<Position>,
    next: u64,
}

impl Teller {
    pub(crate) fn new(world: &World, topic: Topic, chance: Chance) -> Teller {
        let process = world.process("teller");
        let id = process.name.clone();
        let positions = from_start(&topic);
        Teller { process, topic, id, chance, producer: None, positions, next: 0 }
    }

    /// Goes on until the load is over, and leaves nothing open.
    pub(crate) async fn run(mut self, pause_ms: u64) {
        self.assign();
        while !self.process.world.is_over() {
            if self.producer.is_none() {
                self.producer = Some(self.process.come(&self.id).await);
            }
            self.transaction().await;
            self.process.world.pause_ms(&mut self.chance, pause_ms).await;
        }
        self.process.come(&self.id).await;
    }

    fn assign(&self) {
        let at = |position: &Position| {
            (log_name(&position.topic, position.partition), position.offset.0)
        };
        self.process.done(Action::Assign(self.positions.iter().map(at).collect()));
    }

    async fn transaction(&mut self) {
        let mut producer = self.producer.take().expect("it has come");
        let mut transaction =
            Transaction { producer: Some(identity(&producer)), ..Transaction::default() };
        self.process.invoke(Action::Txn(transaction.clone()));
        let open = &self.process.world.shared.clone().open;
        open.fetch_add(1, Ordering::SeqCst);
        let mut is_whole = true;
        for _ in 0..self.chance.between(1, MOPS_MAX) {
            if is_whole {
                is_whole = self.step(&mut producer, &mut transaction).await;
            }
        }
        let drawn = self.chance.between(1, 1000);
        let taken_over = ABORTED_PERMILLE + TAKEN_OVER_PERMILLE;
        let kind = if !is_whole {
            // Nobody will ask for its commit; who comes with the id aborts it.
            Kind::Fail
        } else if drawn <= ABORTED_PERMILLE {
            self.process.end(&mut producer, End::Abort, &mut transaction, &mut self.chance).await
        } else if drawn <= taken_over {
            self.take_over(&producer).await;
            Kind::Fail
        } else if drawn <= taken_over + FORGOTTEN_PERMILLE {
            self.process.disconnect();
            Kind::Fail
        } else {
            self.process.end(&mut producer, End::Commit, &mut transaction, &mut self.chance).await
        };
        open.fetch_sub(1, Ordering::SeqCst);
        self.process.complete(kind, Action::Txn(transaction));
        // Its epoch is known only after an answer; after an abort it may not be.
        if kind == Kind::Ok {
            self.producer = Some(producer);
        } else {
            self.assign();
        }
    }

    /// Sends or polls. False if it failed, and the transaction with it.
    async fn step(
        &mut self,
        producer: &mut TransactionalProducer,
        transaction: &mut Transaction,
    ) -> bool {
        if self.chance.between(1, 4) == 1 {
            return match self.process.fetch(&mut self.positions).await {
                Ok(reads) => {
                    transaction.mops.push(Mop::Poll(reads));
                    true
                }
                Err(error) => {
                    self.process.rest(&error).await;
                    false
                }
            };
        }
        let most = u64::try_from(self.topic.partitions - 1).unwrap_or(0);
        let partition = i32::try_from(self.chance.between(0, most)).expect("few partitions");
        let mut sent = self.make(partition);
        let result = send(&self.process, producer, self.topic.name, partition, &mut sent).await;
        transaction.mops.extend(sent.into_iter().map(Mop::Send));
        if let Err(error) = &result {
            self.process.rest(error).await;
        }
        result.is_ok()
    }

    fn make(&mut self, partition: i32) -> Vec<Sent> {
        let mut sent = Vec::new();
        for _ in 0..self.chance.between(1, RECORDS_MAX) {
            self.next += 1;
            let value = Some(format!("t{}-{}", self.process.number, self.next));
            let partition = log_name(self.topic.name, partition);
            sent.push(Sent { partition, value, ..Sent::default() });
        }
        sent
    }

    /// Another process comes with the id; what the one before still asks for is refused.
    async fn take_over(&mut self, old: &TransactionalProducer) {
        let world = self.process.world.clone();
        let successor = world.process("successor");
        successor.come(&self.id).await;
        world.shared.taken_over.fetch_add(1, Ordering::SeqCst);
        let zombie = world.process("zombie");
        let producer = Some(identity(old));
        let mut sent = self.make(0);
        let of =
            |sent: &[Sent]| Action::Send(Sends { producer: producer.clone(), sent: sent.to_vec() });
        zombie.invoke(of(&sent));
        let result = send(&zombie, &mut old.clone(), self.topic.name, 0, &mut sent).await;
        zombie.complete(known(result), of(&sent));
        let mut transaction = Transaction { producer: producer.clone(), ..Transaction::default() };
        zombie.invoke(Action::Txn(transaction.clone()));
        let connection = zombie.connection().await;
        transaction.last_asked_ns = Some(world.shared.now_ns());
        let result = old.clone().end(&connection, End::Commit).await;
        zombie.complete(known(result), Action::Txn(transaction));
        world.shared.zombies.fetch_add(2, Ordering::SeqCst);
    }
}

/// What is known of a single request by its answer.
fn known(result: Result<(), Error>) -> Kind {
    match result {
        Ok(()) => Kind::Ok,
        Err(Error::Refused(_)) => Kind::Fail,
        Err(_) => Kind::Info,
    }
}

/// Sends a batch of a transaction, and tells where it came to lie.
pub(crate) async fn send(
    process: &Process,
    producer: &mut TransactionalProducer,
    topic: &str,
    partition: i32,
    sent: &mut [Sent],
) -> Result<(), Error> {
    let connection = process.connection().await;
    let timestamp_ms = process.world.runtime.wall_clock_ms();
    let batch = producer.batch(topic, partition, &records(sent, timestamp_ms));
    let produced = producer.produce(&connection, &batch).await?;
    place(sent, produced.base_offset);
    Ok(())
}
