//! Consumers of the classic protocol, as their clients play them: how they join and lead a group, and
//! what they read meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use coordinator::response::Join;
use coordinator::{Response, Token};
use model::{ErrorCode, TopicId};
use wire::consumer_protocol_assignment::{self, ConsumerProtocolAssignment};
use wire::consumer_protocol_subscription::{self, ConsumerProtocolSubscription};
use wire::{Decode as _, Encode, Reader, Writer};

use crate::consumers::Partitions;
use crate::harness::{Harness, Joining};

/// The group that they join.
pub const G: &str = "g";
const EMBEDDED_VERSION: i16 = 3;

pub fn versioned(value: &impl Encode) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.i16(EMBEDDED_VERSION);
    value.encode(&mut writer, EMBEDDED_VERSION);
    writer.finish().expect("small").into_bytes().to_vec()
}

/// How a classic consumer takes a rebalance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It gives everything up first.
    Eager,
    /// It reads on what it keeps, and joins again when it has given the rest up.
    Cooperative,
}

#[derive(Clone, Debug, Default)]
pub enum Phase {
    #[default]
    Out,
    Joining(Token),
    Syncing(Token),
    In,
}

/// A consumer of the classic protocol.
#[derive(Clone, Debug)]
pub struct Classic {
    kind: Kind,
    pub id: String,
    pub instance_id: Option<String>,
    pub generation: i32,
    topics: Vec<String>,
    pub owned: Partitions,
    pub phase: Phase,
    /// The error that it was last told.
    pub told: ErrorCode,
}

impl Classic {
    pub fn new(kind: Kind, topics: &[&str]) -> Classic {
        Classic {
            kind,
            id: String::new(),
            instance_id: None,
            generation: -1,
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            owned: Partitions::new(),
            phase: Phase::Out,
            told: ErrorCode::None,
        }
    }

    pub fn reset(&mut self) {
        (self.id, self.generation, self.phase) = (String::new(), -1, Phase::Out);
        self.owned.clear();
    }

    fn protocol(&self) -> &'static str {
        match self.kind {
            Kind::Eager => "range",
            Kind::Cooperative => "cooperative-sticky",
        }
    }

    /// Does what it does next; answers may wait for a write.
    pub fn act(&mut self, harness: &mut Harness) {
        match self.phase.clone() {
            Phase::Out => self.join(harness),
            Phase::Joining(token) => self.joined(harness, token),
            Phase::Syncing(token) => self.synced(harness, token),
            Phase::In => {
                let request = wire::heartbeat_request::HeartbeatRequest {
                    group_id: G,
                    generation_id: self.generation,
                    member_id: &self.id,
                    group_instance_id: self.instance_id.as_deref(),
                };
                let token = harness.call(4, |coordinator, caller, now| {
                    coordinator.heartbeat(caller, &request, now)
                });
                harness.flush();
                match harness.responses.remove(&token) {
                    Some(Response::Heartbeat(error)) => self.after(error),
                    other => panic!("no answer to a heartbeat: {other:?}"),
                }
            }
        }
    }

    fn join(&mut self, harness: &mut Harness) {
        if self.kind == Kind::Eager {
            self.owned.clear();
        }
        let mut owned = BTreeMap::<String, Vec<i32>>::new();
        for (topic, partition) in &self.owned {
            owned.entry(name_of(harness, *topic)).or_default().push(*partition);
        }
        let subscription = ConsumerProtocolSubscription {
            topics: self.topics.iter().map(String::as_str).collect(),
            owned_partitions: owned
                .iter()
                .map(|(topic, partitions)| consumer_protocol_subscription::TopicPartition {
                    topic,
                    partitions: partitions.clone(),
                })
                .collect(),
            generation_id: self.generation,
            ..ConsumerProtocolSubscription::default()
        };
        let metadata = versioned(&subscription);
        let id = self.id.clone();
        let joining = Joining {
            member_id: &id,
            instance_id: self.instance_id.as_deref(),
            protocols: &[(self.protocol(), &metadata)],
            rebalance_timeout_ms: 20_000,
            ..Joining::default()
        };
        self.phase = Phase::Joining(harness.join(G, joining));
    }

    fn joined(&mut self, harness: &mut Harness, token: Token) {
        let Some(Response::Join(join)) = harness.responses.remove(&token) else { return };
        if join.error == ErrorCode::MemberIdRequired {
            (self.id, self.phase) = (join.member_id, Phase::Out);
            return;
        }
        if join.error != ErrorCode::None {
            return self.after(join.error);
        }
        (self.id, self.generation) = (join.member_id.clone(), join.generation);
        let assignments = assign(harness, self.kind, &join);
        let assignments: Vec<(&str, &[u8])> =
            assignments.iter().map(|(id, bytes)| (id.as_str(), bytes.as_slice())).collect();
        let id = self.id.clone();
        self.phase = Phase::Syncing(harness.sync(G, &id, self.generation, &assignments));
    }

    fn synced(&mut self, harness: &mut Harness, token: Token) {
        let Some(Response::Sync(sync)) = harness.responses.remove(&token) else { return };
        if sync.error != ErrorCode::None {
            return self.after(sync.error);
        }
        let read = read_assignment(harness, &sync.assignment);
        let has_revoked = self.owned.difference(&read).next().is_some();
        self.owned = read;
        self.told = ErrorCode::None;
        self.phase = if has_revoked { Phase::Out } else { Phase::In };
    }

    fn after(&mut self, error: ErrorCode) {
        self.told = error;
        let is_lost = [ErrorCode::UnknownMemberId, ErrorCode::FencedInstanceId].contains(&error);
        let joins_again = [
            ErrorCode::RebalanceInProgress,
            ErrorCode::CoordinatorNotAvailable,
            ErrorCode::InconsistentGroupProtocol,
            ErrorCode::IllegalGeneration,
        ];
        if is_lost {
            self.reset();
        } else if joins_again.contains(&error) {
            self.phase = Phase::Out;
            if error == ErrorCode::IllegalGeneration {
                self.owned.clear();
            }
        } else {
            assert_eq!(error, ErrorCode::None, "a consumer is never told so");
        }
    }

    /// The connection breaks while it waits: it joins with what it has.
    pub fn lose_answer(&mut self) {
        if matches!(self.phase, Phase::Joining(_) | Phase::Syncing(_)) {
            self.phase = Phase::Out;
        }
    }

    pub fn leave(&mut self, harness: &mut Harness) {
        if !self.id.is_empty() {
            let (id, name) = (self.id.clone(), self.instance_id.clone());
            harness.leave(G, &[(&id, name.as_deref())]);
        }
        self.reset();
    }
}

fn name_of(harness: &Harness, id: TopicId) -> String {
    let topics = harness.topics.by_name.borrow();
    topics.iter().find(|(_, (shape, _))| shape.id == id).expect("it was assigned").0.clone()
}

fn read_assignment(harness: &Harness, bytes: &[u8]) -> Partitions {
    let mut reader = Reader::new(bytes);
    if bytes.is_empty() {
        return Partitions::new();
    }
    let version = reader.i16().expect("a version");
    let read = ConsumerProtocolAssignment::decode(&mut reader, version).expect("well-formed");
    let topics = harness.topics.by_name.borrow();
    let read = read.assigned_partitions.into_iter();
    let read = read.map(|one| (topics[one.topic].0.id, one.partitions));
    read.flat_map(|(id, all)| all.into_iter().map(move |one| (id, one))).collect()
}

/// A leader's assignment: in turn, and for cooperative members nothing that another one still has.
fn assign(harness: &Harness, kind: Kind, join: &Join) -> Vec<(String, Vec<u8>)> {
    let topics = harness.topics.by_name.borrow();
    let mut wants = Vec::new();
    let mut owners = BTreeMap::new();
    for member in &join.members {
        let mut reader = Reader::new(&member.metadata);
        let version = reader.i16().expect("a version");
        let read = ConsumerProtocolSubscription::decode(&mut reader, version).expect("well-formed");
        let names: BTreeSet<String> = read.topics.into_iter().map(str::to_owned).collect();
        for one in read.owned_partitions {
            for partition in one.partitions {
                owners.insert((one.topic.to_owned(), partition), member.member_id.clone());
            }
        }
        wants.push((member.member_id.clone(), names));
    }
    let mut shares = BTreeMap::<String, BTreeMap<String, Vec<i32>>>::new();
    let mut next = 0;
    for (name, (shape, _)) in topics.iter() {
        let able: Vec<&String> =
            wants.iter().filter(|(_, names)| names.contains(name)).map(|(id, _)| id).collect();
        for partition in 0..shape.partition_count {
            let Some(id) = able.get(next % able.len().max(1)) else { continue };
            next += 1;
            let owner = owners.get(&(name.clone(), partition));
            if kind == Kind::Cooperative && owner.is_some_and(|owner| owner != *id) {
                continue;
            }
            let share = shares.entry((*id).clone()).or_default();
            share.entry(name.clone()).or_default().push(partition);
        }
    }
    let none = BTreeMap::new();
    let assignment = |id: &String| {
        let share = shares.get(id).unwrap_or(&none);
        let assigned_partitions = share
            .iter()
            .map(|(topic, partitions)| consumer_protocol_assignment::TopicPartition {
                topic,
                partitions: partitions.clone(),
            })
            .collect();
        versioned(&ConsumerProtocolAssignment { assigned_partitions, user_data: None })
    };
    wants.iter().map(|(id, _)| (id.clone(), assignment(id))).collect()
}
