//! Consume, transform, produce: each record of one topic is copied to another, in transactions that
//! also commit where the copier is.

use std::sync::atomic::Ordering;

use checker::history::{Action, Commit, Kind, Mop, Sent, Transaction};
use client::{CommittedOffset, CommittedOffsets, End, Position, TransactionalProducer};
use model::Offset;
use rig::chance::Chance;

use crate::members::{offsets_of, told};
use crate::readers::assigned;
use crate::tellers::{identity, send};
use crate::world::{Process, Topic, World, log_name};

pub(crate) const GROUP: &str = "copies";
/// Of 1,000 copies so many are aborted.
const ABORTED_PERMILLE: u64 = 150;
/// Of 1,000 so many begin anew, as another instance would.
const BEGINS_PERMILLE: u64 = 50;

/// What a transaction is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filled {
    Whole,
    /// There was nothing to copy.
    Nothing,
}

pub(crate) struct Copier {
    process: Process,
    from: Topic,
    to: Topic,
    chance: Chance,
    commits: u64,
}

impl Copier {
    pub(crate) fn new(world: &World, from: Topic, to: Topic, chance: Chance) -> Copier {
        Copier { process: world.process("copier"), from, to, chance, commits: 0 }
    }

    /// Copies until the load is over, and leaves nothing open.
    pub(crate) async fn run(mut self, pause_ms: u64) {
        let id = self.process.name.clone();
        while !self.process.world.is_over() {
            // Who was there before is fenced first: what it has asked for is decided then.
            let mut producer = self.process.come(&id).await;
            let Some(mut positions) = self.start().await else { continue };
            while !self.process.world.is_over()
                && self.copy(&mut producer, &mut positions).await
                && self.chance.between(1, 1000) > BEGINS_PERMILLE
            {
                self.process.world.pause_ms(&mut self.chance, pause_ms).await;
            }
        }
        self.process.come(&id).await;
    }

    /// Begins where the group has committed.
    async fn start(&mut self) -> Option<Vec<Position>> {
        let partitions: Vec<i32> = (0..self.from.partitions).collect();
        let asked = [(self.from.name.to_owned(), partitions.clone())].into();
        let committed = match offsets_of(&self.process, GROUP, asked).await {
            Ok(committed) => committed,
            Err(error) => {
                self.process.rest(&error).await;
                return None;
            }
        };
        let at = |partition| {
            let topic = self.from.name.to_owned();
            let found = committed.get(&(topic.clone(), partition));
            Position { topic, partition, offset: found.map_or(Offset(0), |found| found.offset) }
        };
        let positions: Vec<Position> = partitions.into_iter().map(at).collect();
        self.process.done(Action::Assign(assigned(&positions)));
        Some(positions)
    }

    /// A transaction. False if the next one has to begin anew.
    async fn copy(
        &mut self,
        producer: &mut TransactionalProducer,
        positions: &mut [Position],
    ) -> bool {
        let mut transaction =
            Transaction { producer: Some(identity(producer)), ..Transaction::default() };
        self.process.invoke(Action::Txn(transaction.clone()));
        let shared = self.process.world.shared.clone();
        shared.open.fetch_add(1, Ordering::SeqCst);
        let filled = self.fill(producer, positions, &mut transaction).await;
        let drawn = self.chance.between(1, 1000);
        let kind = match filled {
            Ok(Filled::Whole) => {
                let end = if drawn <= ABORTED_PERMILLE { End::Abort } else { End::Commit };
                self.process.end(producer, end, &mut transaction, &mut self.chance).await
            }
            Ok(Filled::Nothing) => Kind::Fail,
            Err(error) => {
                self.process.rest(&error).await;
                Kind::Fail
            }
        };
        shared.open.fetch_sub(1, Ordering::SeqCst);
        self.process.complete(kind, Action::Txn(transaction));
        kind == Kind::Ok || matches!(filled, Ok(Filled::Nothing))
    }

    /// Reads, copies, commits the offsets.
    async fn fill(
        &mut self,
        producer: &mut TransactionalProducer,
        positions: &mut [Position],
        transaction: &mut Transaction,
    ) -> Result<Filled, client::Error> {
        let reads = self.process.fetch(positions).await?;
        transaction.mops.push(Mop::Poll(reads.clone()));
        if reads.is_empty() {
            // It has nothing to end: the broker knows of no transaction.
            return Ok(Filled::Nothing);
        }
        self.commits += 1;
        let most = u64::try_from(self.to.partitions - 1).unwrap_or(0);
        for read in reads.values().flatten() {
            let partition = i32::try_from(self.chance.between(0, most)).expect("few partitions");
            let mut sent = [Sent {
                partition: log_name(self.to.name, partition),
                value: read
                    .value
                    .as_ref()
                    .map(|value| format!("{value}-copy-{}-{}", self.process.number, self.commits)),
                copy_of: read.value.clone(),
                ..Sent::default()
            }];
            let result = send(&self.process, producer, self.to.name, partition, &mut sent).await;
            transaction.mops.extend(sent.into_iter().map(Mop::Send));
            result?;
        }
        let metadata = format!("c{}-{}", self.process.number, self.commits);
        let mut offsets = CommittedOffsets::new();
        for position in &*positions {
            let found = CommittedOffset { offset: position.offset, metadata: metadata.clone() };
            offsets.insert((position.topic.clone(), position.partition), found);
        }
        let group = GROUP.to_owned();
        transaction.offsets = Some(Commit { group, generation: None, offsets: told(&offsets) });
        let connection = self.process.connection().await;
        producer.commit_offsets(&connection, GROUP, &offsets).await?;
        Ok(Filled::Whole)
    }
}
