//! Random schedules of clients, time, failed writes and restarts, with what must hold in each.
//!
//! The clients are consumers as the protocol wants them: join, sync, heartbeat, and join again
//! when told. They may fall silent at any point and come back as somebody new. Each partition of
//! a topic is given by the leader to one member.

use std::collections::{BTreeMap, BTreeSet};

use coordinator::{Response, Settings, Token, WriteError};
use model::ErrorCode;
use proptest::prelude::*;
use wire::consumer_offsets_record::ConsumerOffsetsRecord;
use wire::coordinator_record::decode_consumer_offsets_record;

use crate::harness::{Harness, Joining, offset_in};

const G: &str = "group";
const CLIENTS: usize = 4;
const PARTITIONS: u8 = 6;

#[derive(Clone, Debug)]
enum Step {
    /// The client does what it would do next.
    Act(usize),
    /// The client gives up waiting and asks again.
    AskAgain(usize),
    /// The client leaves.
    Leave(usize),
    /// The client forgets everything.
    Vanish(usize),
    /// The client commits an offset of a partition, with its generation.
    Commit(usize, i32, i64),
    /// Time passes.
    Advance(u64),
    /// The oldest write is durable.
    WriteDone,
    /// The oldest write is not made.
    WriteFailed,
    /// The broker dies and comes back.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..CLIENTS;
    prop_oneof![
        30 => client.clone().prop_map(Step::Act),
        2 => client.clone().prop_map(Step::AskAgain),
        2 => client.clone().prop_map(Step::Leave),
        2 => client.clone().prop_map(Step::Vanish),
        6 => (client, 0..3, 0..1000_i64).prop_map(|(client, partition, offset)| {
            Step::Commit(client, partition, offset)
        }),
        6 => (0..12_000_u64).prop_map(Step::Advance),
        12 => Just(Step::WriteDone),
        2 => Just(Step::WriteFailed),
        1 => Just(Step::Restart),
    ]
}

#[derive(Clone, Debug, Default)]
enum Phase {
    #[default]
    Out,
    Joining(Token),
    /// The members, if this one is the leader.
    Joined(Vec<String>),
    Syncing(Token),
    In,
}

#[derive(Clone, Debug, Default)]
struct Client {
    member_id: String,
    generation: i32,
    phase: Phase,
}

struct World {
    harness: Harness,
    clients: Vec<Client>,
    /// Who was given each partition, by generation.
    owners: BTreeMap<(i32, u8), String>,
    /// The highest generation that somebody was given an assignment of.
    assigned: i32,
    /// Requests that must be answered in the end.
    waiting: BTreeSet<Token>,
    /// SyncGroups that wait: the generation, and who asks.
    syncing: BTreeMap<Token, (i32, String)>,
}

/// One client has a static name, so that those are in every schedule.
fn instance_id(client: usize) -> Option<&'static str> {
    (client == 0).then_some("static")
}

impl World {
    fn new() -> World {
        World {
            harness: Harness::new(Settings::default()),
            clients: vec![Client::default(); CLIENTS],
            owners: BTreeMap::new(),
            assigned: 0,
            waiting: BTreeSet::new(),
            syncing: BTreeMap::new(),
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Act(client) => self.act(client),
            Step::AskAgain(client) => {
                if matches!(self.clients[client].phase, Phase::Joining(_) | Phase::Syncing(_)) {
                    self.clients[client].phase = Phase::Out;
                    self.act(client);
                }
            }
            Step::Leave(client) => {
                let member_id = self.clients[client].member_id.clone();
                if !member_id.is_empty() {
                    self.harness.leave(G, &[(&member_id, instance_id(client))]);
                }
                self.clients[client] = Client::default();
            }
            Step::Vanish(client) => self.clients[client] = Client::default(),
            Step::Commit(client, partition, offset) => {
                let client = &self.clients[client];
                let member = (client.member_id.as_str(), client.generation);
                let token = self.harness.commit(G, member, &[(partition, offset)]);
                self.waiting.insert(token);
            }
            Step::Advance(ms) => self.harness.advance(ms),
            Step::WriteDone => {
                self.harness.finish_write(Ok(()));
            }
            Step::WriteFailed => {
                self.harness.finish_write(Err(WriteError::Unavailable));
            }
            Step::Restart => {
                self.harness.restart();
                self.waiting.clear();
                self.syncing.clear();
                for client in &mut self.clients {
                    if matches!(client.phase, Phase::Joining(_) | Phase::Syncing(_)) {
                        client.phase = Phase::Out;
                    }
                }
            }
        }
        self.check_answers();
        self.check_log();
    }

    fn act(&mut self, number: usize) {
        let Client { member_id, generation, phase } = self.clients[number].clone();
        match phase {
            Phase::Out => {
                let token = self.harness.join(
                    G,
                    Joining {
                        member_id: &member_id,
                        instance_id: instance_id(number),
                        ..Joining::default()
                    },
                );
                self.waiting.insert(token);
                self.clients[number].phase = Phase::Joining(token);
            }
            Phase::Joining(token) => self.joined(number, token),
            Phase::Joined(members) => {
                let shares: Vec<Vec<u8>> = (0..members.len())
                    .map(|at| (0..PARTITIONS).skip(at).step_by(members.len()).collect())
                    .collect();
                let assignments: Vec<(&str, &[u8])> = members
                    .iter()
                    .zip(&shares)
                    .map(|(member, share)| (member.as_str(), share.as_slice()))
                    .collect();
                let token = self.harness.sync(G, &member_id, generation, &assignments);
                self.waiting.insert(token);
                // The static member keeps what it had under its former ids.
                let name = instance_id(number).unwrap_or(&member_id).to_owned();
                self.syncing.insert(token, (generation, name));
                self.clients[number].phase = Phase::Syncing(token);
            }
            Phase::Syncing(token) => self.synced(number, token),
            Phase::In => {
                let error = self.harness.heartbeat(G, &member_id, generation);
                self.after_error(number, error);
            }
        }
    }

    fn joined(&mut self, number: usize, token: Token) {
        let Some(Response::Join(join)) = self.harness.responses.get(&token).cloned() else {
            return;
        };
        let client = &mut self.clients[number];
        if join.error == ErrorCode::MemberIdRequired {
            *client = Client { member_id: join.member_id, ..Client::default() };
        } else if join.error == ErrorCode::None {
            assert_eq!(join.members.is_empty(), join.leader != join.member_id);
            client.member_id = join.member_id;
            client.generation = join.generation;
            let members = join.members.into_iter().map(|member| member.member_id).collect();
            client.phase = if join.skip_assignment {
                Phase::Joined(Vec::new())
            } else {
                Phase::Joined(members)
            };
        } else {
            self.after_error(number, join.error);
        }
    }

    fn synced(&mut self, number: usize, token: Token) {
        let Some(Response::Sync(sync)) = self.harness.responses.get(&token).cloned() else {
            return;
        };
        if sync.error != ErrorCode::None {
            self.after_error(number, sync.error);
            return;
        }
        self.clients[number].phase = Phase::In;
    }

    fn after_error(&mut self, number: usize, error: ErrorCode) {
        let client = &mut self.clients[number];
        let is_lost = [ErrorCode::UnknownMemberId, ErrorCode::FencedInstanceId].contains(&error);
        let joins_again = [
            ErrorCode::RebalanceInProgress,
            ErrorCode::IllegalGeneration,
            ErrorCode::CoordinatorNotAvailable,
        ];
        if is_lost {
            *client = Client::default();
        } else if joins_again.contains(&error) {
            client.phase = Phase::Out;
        } else {
            assert_eq!(error, ErrorCode::None, "a consumer is never told so");
        }
    }

    /// No generation comes twice, and no partition has two owners in one.
    fn check_answers(&mut self) {
        let answered: Vec<Token> = self
            .waiting
            .iter()
            .copied()
            .filter(|token| self.harness.responses.contains_key(token))
            .collect();
        for token in answered {
            self.waiting.remove(&token);
            match &self.harness.responses[&token] {
                Response::Join(join) if join.error == ErrorCode::None => {
                    assert!(join.generation >= self.assigned, "the generation went back");
                }
                Response::Sync(sync) if sync.error == ErrorCode::None => {
                    let (generation, name) = &self.syncing[&token];
                    for partition in &sync.assignment {
                        let owner = self.owners.entry((*generation, *partition));
                        let owner = owner.or_insert_with(|| name.clone());
                        assert_eq!(owner, name, "partition {partition} has two owners");
                    }
                    self.assigned = self.assigned.max(*generation);
                }
                Response::Join(_)
                | Response::Sync(_)
                | Response::Heartbeat(_)
                | Response::Leave(_)
                | Response::OffsetCommit(_)
                | Response::OffsetDelete(_)
                | Response::TxnOffsetCommit(_)
                | Response::TransactionEnded(_)
                | Response::ConsumerHeartbeat(_)
                | Response::DeleteGroups(_) => {}
            }
        }
    }

    /// What the log says is what is seen, no more and no less.
    fn check_log(&self) {
        let mut committed = BTreeMap::new();
        for (key, value) in &self.harness.log {
            let record = decode_consumer_offsets_record(key, value.as_deref());
            if let Ok(ConsumerOffsetsRecord::OffsetCommit(key, value)) = record {
                committed.insert(key.partition, value.map_or(-1, |value| value.offset));
            }
        }
        let replayed = self.harness.replayed();
        for partition in 0..3 {
            let expected = committed.get(&partition).copied().unwrap_or(-1);
            assert_eq!(self.harness.offset(G, partition), expected);
            assert_eq!(offset_in(&replayed, G, partition), expected);
        }
        if self.harness.state(G) == "Stable" && self.harness.writes.is_empty() {
            let live = self.harness.coordinator.describe_group(G);
            assert_eq!(replayed.describe_group(G), live);
        }
    }

    /// Lets everything come to rest: nobody is left waiting.
    fn settle(&mut self) {
        for _ in 0..200 {
            self.harness.flush();
            self.harness.advance(5_000);
        }
        self.check_answers();
        assert!(self.waiting.is_empty(), "{:?} are never answered", self.waiting);
        assert!(matches!(self.harness.state(G), "Empty" | "Dead"), "silent members stay");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_schedule_keeps_one_owner_and_answers_everybody(
        steps in prop::collection::vec(step(), 1..250),
    ) {
        let mut world = World::new();
        for step in steps {
            world.run(step);
        }
        world.settle();
    }
}
