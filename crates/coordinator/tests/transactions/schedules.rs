//! Random schedules of producers, time, failed writes and restarts, with what must hold in each.
//!
//! Producers of either generation share two transactional ids. Each does what a client may do, also
//! out of turn, with an identity that it was once given.

use std::collections::BTreeMap;

use coordinator::transactions::{Outcome, Partitions, ProducerIdentity, TransactionState};
use coordinator::{Token, WriteError};
use model::ErrorCode;
use proptest::prelude::*;

use crate::harness::{Harness, TIMEOUT_MS};

const IDS: [&str; 2] = ["a", "b"];

#[derive(Clone, Debug)]
enum Step {
    /// A producer starts on a transactional id.
    Init(usize),
    /// Somebody with the n-th newest identity asks for the next epoch.
    InitAgain(usize, usize),
    /// Somebody with the n-th newest identity adds a partition.
    Add(usize, usize, i32),
    /// Somebody with the n-th newest identity ends the transaction.
    End(usize, usize, Outcome),
    Advance(u64),
    WriteDone,
    WriteFailed,
    /// The log takes nothing from now on, or takes all again.
    Full(bool),
    MarkersDone,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop_oneof![Just(Outcome::Commit), Just(Outcome::Abort)];
    let step = prop_oneof![
        2 => (0..2_usize).prop_map(Step::Init),
        1 => (0..2_usize, 0..3_usize).prop_map(|(id, back)| Step::InitAgain(id, back)),
        6 => (0..2_usize, 0..3_usize, 0..4_i32).prop_map(|(id, back, to)| Step::Add(id, back, to)),
        4 => (0..2_usize, 0..3_usize, outcome).prop_map(|(id, back, o)| Step::End(id, back, o)),
        1 => (1..70_000_u64).prop_map(Step::Advance),
        12 => Just(Step::WriteDone),
        1 => Just(Step::WriteFailed),
        1 => any::<bool>().prop_map(Step::Full),
        4 => Just(Step::MarkersDone),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..120)
}

/// What a client asked for and is not answered yet.
enum Asked {
    Init,
    InitAgain,
    Add { producer: ProducerIdentity, partition: i32 },
    End { producer: ProducerIdentity, outcome: Outcome },
}

#[derive(Default)]
struct Client {
    /// Identities in the order in which they were given.
    identities: Vec<ProducerIdentity>,
    /// What was acknowledged as part of the open transaction.
    added: Partitions,
    /// What was acknowledged as its end, until its markers are done.
    ended: Option<Outcome>,
}

struct World {
    harness: Harness,
    version: i16,
    clients: [Client; 2],
    asked: BTreeMap<Token, (usize, Asked)>,
}

impl World {
    fn identity(&self, id: usize, back: usize) -> Option<ProducerIdentity> {
        self.clients[id].identities.iter().rev().nth(back).copied()
    }

    fn take(&mut self, step: &Step) {
        let version = self.version;
        match step {
            Step::Init(id) => {
                let token = self.harness.ask_init(IDS[*id], TIMEOUT_MS, None);
                self.asked.insert(token, (*id, Asked::Init));
            }
            Step::InitAgain(id, back) => {
                let Some(producer) = self.identity(*id, *back) else { return };
                let token = self.harness.ask_init(IDS[*id], TIMEOUT_MS, Some(producer));
                self.asked.insert(token, (*id, Asked::InitAgain));
            }
            Step::Add(id, back, to) => {
                let Some(producer) = self.identity(*id, *back) else { return };
                let token = self.harness.ask_add(IDS[*id], producer, &[*to], version);
                self.asked.insert(token, (*id, Asked::Add { producer, partition: *to }));
            }
            Step::End(id, back, outcome) => {
                let Some(producer) = self.identity(*id, *back) else { return };
                let token = self.harness.ask_end(IDS[*id], producer, *outcome, version);
                let outcome = *outcome;
                self.asked.insert(token, (*id, Asked::End { producer, outcome }));
            }
            Step::Advance(ms) => self.harness.advance(*ms),
            Step::WriteDone => drop(self.harness.finish_write(Ok(()))),
            Step::WriteFailed => drop(self.harness.finish_write(Err(WriteError::Unavailable))),
            Step::Full(is_full) => self.harness.is_full = *is_full,
            Step::MarkersDone => self.finish_markers(),
            Step::Restart => {
                self.asked.clear();
                self.harness.restart();
            }
        }
        self.hear();
        self.check();
    }

    fn finish_markers(&mut self) {
        let Some(markers) = self.harness.finish_markers() else { return };
        let id = IDS
            .iter()
            .position(|id| **id == *markers.transactional_id)
            .expect("so the schedule goes");
        let client = &mut self.clients[id];
        // What was acknowledged is in it, and ends as was acknowledged.
        for (topic, numbers) in &client.added {
            let covered = markers.partitions.get(topic);
            assert!(covered.is_some_and(|covered| covered.is_superset(numbers)));
        }
        if let Some(ended) = client.ended.take() {
            assert_eq!(markers.outcome, ended);
        }
        client.added.clear();
    }

    /// Takes in the answers.
    fn hear(&mut self) {
        let answered: Vec<Token> = self
            .asked
            .keys()
            .copied()
            .filter(|one| self.harness.responses.contains_key(one))
            .collect();
        for token in answered {
            let (id, asked) = self.asked.remove(&token).expect("so the schedule goes");
            let client = &mut self.clients[id];
            let newest = client.identities.last().copied();
            match asked {
                Asked::Init => {
                    let Ok(given) = self.harness.identity_of(token).expect("answered") else {
                        continue;
                    };
                    let is_newer = newest.is_none_or(|newest| given.epoch > newest.epoch);
                    assert!(is_newer, "{given:?} after {newest:?}");
                    client.identities.push(given);
                }
                Asked::InitAgain => {
                    let Ok(given) = self.harness.identity_of(token).expect("answered") else {
                        continue;
                    };
                    assert!(newest.is_none_or(|newest| given.epoch >= newest.epoch));
                    if newest != Some(given) {
                        client.identities.push(given);
                    }
                }
                Asked::Add { producer, partition } => {
                    if self.harness.added(token).expect("answered") == ErrorCode::None {
                        assert_eq!(Some(producer), newest, "a zombie added a partition");
                        client.added.entry("t".to_owned()).or_default().insert(partition);
                    }
                }
                Asked::End { producer, outcome } => {
                    let Ok(given) = self.harness.identity_of(token).expect("answered") else {
                        continue;
                    };
                    let state = self.harness.describe(IDS[id]).expect("so the schedule goes").state;
                    if self.version < 2 {
                        assert_eq!(Some(producer), newest, "a zombie ended a transaction");
                    }
                    if given.epoch.0 >= 0 && newest.is_some_and(|one| given.epoch > one.epoch) {
                        client.identities.push(given);
                    }
                    let is_under_way = match outcome {
                        Outcome::Commit => TransactionState::PrepareCommit,
                        Outcome::Abort => TransactionState::PrepareAbort,
                    };
                    if state == is_under_way {
                        client.ended = Some(outcome);
                    }
                }
            }
        }
    }

    /// What is known is what the log says, always; but for a completion that it lost again, where
    /// it says how the transaction ends.
    fn check(&self) {
        let replayed = self.harness.replayed_to_its_end();
        for id in IDS {
            let known = self.harness.describe(id);
            let said = replayed.describe(id);
            match known {
                // Made for a write that is not durable yet.
                Ok(known) if known.producer.epoch.0 < 0 => assert!(said.is_err()),
                Ok(known) if self.harness.lost.contains(id) => {
                    let said = said.expect("so the schedule goes").state;
                    let ends = [
                        (TransactionState::PrepareCommit, TransactionState::CompleteCommit),
                        (TransactionState::PrepareAbort, TransactionState::CompleteAbort),
                    ];
                    assert!(ends.contains(&(said, known.state)), "{said:?} and {:?}", known.state);
                }
                known => assert_eq!(known, said),
            }
            if let Ok(known) = self.harness.describe(id) {
                let is_preparing = matches!(
                    known.state,
                    TransactionState::PrepareCommit | TransactionState::PrepareAbort
                );
                let of_id =
                    |one: &&coordinator::transactions::Markers| &*one.transactional_id == id;
                let count = self.harness.markers.iter().filter(of_id).count();
                assert!(count <= usize::from(is_preparing), "markers without a decision");
            }
        }
    }
}

proptest! {
    #[test]
    fn transactions_end_once_and_as_was_said(steps in steps(), second in any::<bool>()) {
        let version = if second { 2 } else { 0 };
        let harness = Harness::new(version);
        let mut world =
            World { harness, version, clients: Default::default(), asked: BTreeMap::new() };
        for step in &steps {
            world.take(step);
        }
        world.harness.is_full = false;
        // In the end everything that is under way comes to its end, and everybody can go on.
        world.harness.settle();
        world.harness.advance(200_000);
        world.harness.settle();
        for id in IDS {
            let mut told = world.harness.init(id);
            if told == Err(ErrorCode::ConcurrentTransactions) {
                told = world.harness.init(id);
            }
            prop_assert!(told.is_ok(), "{told:?}");
            let producer = told.expect("so the schedule goes");
            prop_assert_eq!(world.harness.add(id, producer, &[0]), ErrorCode::None);
            prop_assert!(world.harness.end(id, producer, Outcome::Commit).is_ok());
        }
    }
}
