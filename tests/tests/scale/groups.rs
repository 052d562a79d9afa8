//! A group of a thousand members that share ten thousand partitions, under either protocol. Each
//! member has a connection of its own and does what it is told.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use model::{ErrorCode, TopicId};
use tests::{
    broker_process::BrokerProcess,
    raw_client::{RawClient, Received, decoded, framed},
};
use wire::{
    Encode, Request, Writer,
    consumer_group_heartbeat_request::{ConsumerGroupHeartbeatRequest, TopicPartitions},
    consumer_group_heartbeat_response::ConsumerGroupHeartbeatResponse,
    consumer_protocol_assignment::{ConsumerProtocolAssignment, TopicPartition},
    consumer_protocol_subscription::ConsumerProtocolSubscription,
    create_topics_request::{CreatableTopic, CreateTopicsRequest},
    create_topics_response::CreateTopicsResponse,
    heartbeat_request::HeartbeatRequest,
    heartbeat_response::HeartbeatResponse,
    join_group_request::{JoinGroupRequest, JoinGroupRequestProtocol},
    join_group_response::JoinGroupResponse,
    sync_group_request::{SyncGroupRequest, SyncGroupRequestAssignment},
    sync_group_response::SyncGroupResponse,
};

use crate::DRIVERS;

const MIB: u64 = 1 << 20;
const MEMBERS: usize = 1_000;
const TOPICS: [&str; 10] = ["t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7", "t8", "t9"];
const PARTITIONS_EACH: i32 = 1_000;
/// What each member has in the end.
const SHARE: usize = 10;
/// Far beyond what a debug build takes beside other work.
const SETTLED_IN: Duration = Duration::from_secs(180);
/// What the group may cost above the broker with its partitions.
const GROUP_BYTES_MAX: u64 = 256 * MIB;

fn create_topics(client: &mut RawClient) {
    let topic = |name| CreatableTopic {
        name,
        num_partitions: PARTITIONS_EACH,
        replication_factor: 1,
        ..Default::default()
    };
    for name in TOPICS {
        let request = CreateTopicsRequest { topics: vec![topic(name)], ..Default::default() };
        client.send(&framed(7, &request)).expect("the broker listens");
        let Received::Frame(answer) = client.receive(SETTLED_IN) else { panic!("no answer") };
        let response: CreateTopicsResponse<'_> = decoded::<CreateTopicsRequest<'_>, _>(&answer, 7);
        assert_eq!(response.topics[0].error_code, 0, "{name}");
    }
}

fn connect(broker: &BrokerProcess) -> Vec<RawClient> {
    (0..MEMBERS).map(|_| RawClient::connect(broker.address())).collect()
}

fn send<R: Request>(client: &mut RawClient, version: i16, request: &R) {
    client.send(&framed(version, request)).expect("the broker listens");
}

fn receive(client: &mut RawClient) -> Vec<u8> {
    match client.receive(SETTLED_IN) {
        Received::Frame(answer) => answer,
        other @ (Received::Closed | Received::Silence) => panic!("got {other:?}"),
    }
}

/// A member of KIP-848's protocol.
struct Member {
    client: RawClient,
    id: String,
    epoch: i32,
    owned: BTreeMap<TopicId, Vec<i32>>,
}

impl Member {
    fn send(&mut self) {
        let joins = self.epoch == 0;
        let owned = self.owned.iter().map(|(topic_id, partitions)| TopicPartitions {
            topic_id: *topic_id,
            partitions: partitions.clone(),
        });
        let request = ConsumerGroupHeartbeatRequest {
            group_id: "newer",
            member_id: &self.id,
            member_epoch: self.epoch,
            rebalance_timeout_ms: if joins { 300_000 } else { -1 },
            subscribed_topic_names: joins.then(|| TOPICS.to_vec()),
            topic_partitions: Some(owned.collect()),
            ..Default::default()
        };
        send(&mut self.client, 1, &request);
    }

    /// Takes an answer in; tells whether it said something new.
    fn take(&mut self) -> bool {
        let answer = receive(&mut self.client);
        let response: ConsumerGroupHeartbeatResponse<'_> =
            decoded::<ConsumerGroupHeartbeatRequest<'_>, _>(&answer, 1);
        assert_eq!(ErrorCode::from_code(response.error_code), ErrorCode::None, "{}", self.id);
        let is_new = response.member_epoch != self.epoch || response.assignment.is_some();
        self.epoch = response.member_epoch;
        if let Some(assignment) = response.assignment {
            let topics = assignment.topic_partitions.into_iter();
            self.owned = topics.map(|one| (one.topic_id, one.partitions)).collect();
        }
        is_new
    }

    fn count(&self) -> usize {
        self.owned.values().map(Vec::len).sum()
    }
}

#[test]
fn a_thousand_members_of_kip_848_share_ten_thousand_partitions() {
    for driver in DRIVERS {
        let broker = BrokerProcess::start(driver, &["group.consumer.session.timeout.ms=60000"]);
        create_topics(&mut RawClient::connect(broker.address()));
        let before = broker.resident_bytes();
        let started = Instant::now();
        let mut members: Vec<Member> = connect(&broker)
            .into_iter()
            .enumerate()
            .map(|(at, client)| Member {
                client,
                id: format!("member-{at}"),
                epoch: 0,
                owned: BTreeMap::new(),
            })
            .collect();
        let mut rounds = 0;
        loop {
            rounds += 1;
            members.iter_mut().for_each(Member::send);
            let news = members.iter_mut().filter_map(|member| member.take().then_some(())).count();
            let is_shared = members.iter().all(|member| member.count() == SHARE);
            if news == 0 && is_shared {
                break;
            }
            assert!(started.elapsed() < SETTLED_IN, "not settled after {rounds} rounds");
        }
        let took = started.elapsed();
        let grown = broker.resident_bytes().saturating_sub(before);
        println!(
            "{driver}: KIP-848: {took:.1?}, {rounds} rounds of heartbeats, {} MiB more",
            grown / MIB
        );
        assert!(grown < GROUP_BYTES_MAX, "{} MiB", grown / MIB);
        let started = Instant::now();
        members.iter_mut().for_each(Member::send);
        assert_eq!(members.iter_mut().filter_map(|one| one.take().then_some(())).count(), 0);
        println!("{driver}: KIP-848: {:.1?} for a round at rest", started.elapsed());
    }
}

fn versioned(value: &impl Encode) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.i16(1);
    value.encode(&mut writer, 1);
    writer.finish().expect("small").into_bytes().to_vec()
}

/// What a leader gives the member at a place: a run of one topic.
fn assignment(at: usize) -> Vec<u8> {
    let runs = usize::try_from(PARTITIONS_EACH).expect("positive") / SHARE;
    let first = i32::try_from(at % runs * SHARE).expect("small");
    let last = first + i32::try_from(SHARE).expect("small");
    let one = TopicPartition { topic: TOPICS[at / runs], partitions: (first..last).collect() };
    versioned(&ConsumerProtocolAssignment { assigned_partitions: vec![one], user_data: None })
}

#[test]
fn a_thousand_classic_members_share_ten_thousand_partitions() {
    for driver in DRIVERS {
        // All of them come before the first rebalance.
        let settings = ["group.initial.rebalance.delay.ms=3000"];
        let broker = BrokerProcess::start(driver, &settings);
        create_topics(&mut RawClient::connect(broker.address()));
        let before = broker.resident_bytes();
        let started = Instant::now();
        let mut clients = connect(&broker);
        let subscription = ConsumerProtocolSubscription {
            topics: TOPICS.to_vec(),
            ..ConsumerProtocolSubscription::default()
        };
        let subscription = versioned(&subscription);
        let join = JoinGroupRequest {
            group_id: "classic",
            session_timeout_ms: 60_000,
            rebalance_timeout_ms: 300_000,
            protocol_type: "consumer",
            protocols: vec![JoinGroupRequestProtocol { name: "range", metadata: &subscription }],
            ..Default::default()
        };
        clients.iter_mut().for_each(|client| send(client, 3, &join));
        let mut ids = Vec::with_capacity(MEMBERS);
        let mut leader = None;
        for (at, client) in clients.iter_mut().enumerate() {
            let answer = receive(client);
            let joined: JoinGroupResponse<'_> = decoded::<JoinGroupRequest<'_>, _>(&answer, 3);
            assert_eq!((joined.error_code, joined.generation_id), (0, 1), "member {at}");
            if !joined.members.is_empty() {
                assert_eq!(joined.members.len(), MEMBERS);
                leader = Some(at);
            }
            ids.push(joined.member_id.to_owned());
        }
        let leader = leader.expect("somebody leads");
        let shares: Vec<Vec<u8>> = (0..MEMBERS).map(assignment).collect();
        for (at, client) in clients.iter_mut().enumerate() {
            let shares = ids.iter().zip(&shares).filter(|_| at == leader);
            let sync = SyncGroupRequest {
                group_id: "classic",
                generation_id: 1,
                member_id: &ids[at],
                assignments: shares
                    .map(|(member_id, assignment)| SyncGroupRequestAssignment {
                        member_id,
                        assignment,
                    })
                    .collect(),
                ..Default::default()
            };
            send(client, 3, &sync);
        }
        for (client, share) in clients.iter_mut().zip(&shares) {
            let answer = receive(client);
            let synced: SyncGroupResponse<'_> = decoded::<SyncGroupRequest<'_>, _>(&answer, 3);
            assert_eq!((synced.error_code, synced.assignment), (0, share.as_slice()));
        }
        let took = started.elapsed();
        let grown = broker.resident_bytes().saturating_sub(before);
        println!("{driver}: classic: {took:.1?} with 6 s of delays, {} MiB more", grown / MIB);
        assert!(grown < GROUP_BYTES_MAX, "{} MiB", grown / MIB);
        let took = upgrade(&broker, &mut clients, &ids);
        println!("{driver}: {took:.1?} to take {MEMBERS} members over");
    }
}

/// One member of the newer protocol joins: all others are taken over in one write, and told.
fn upgrade(broker: &BrokerProcess, clients: &mut [RawClient], ids: &[String]) -> Duration {
    let started = Instant::now();
    let mut client = RawClient::connect(broker.address());
    let request = ConsumerGroupHeartbeatRequest {
        group_id: "classic",
        member_id: "newer",
        rebalance_timeout_ms: 300_000,
        subscribed_topic_names: Some(TOPICS.to_vec()),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    };
    send(&mut client, 1, &request);
    let answer = receive(&mut client);
    let response: ConsumerGroupHeartbeatResponse<'_> =
        decoded::<ConsumerGroupHeartbeatRequest<'_>, _>(&answer, 1);
    assert_eq!((response.error_code, response.member_epoch), (0, 2));
    let took = started.elapsed();
    for (client, member_id) in clients.iter_mut().zip(ids) {
        let beat = HeartbeatRequest {
            group_id: "classic",
            generation_id: 1,
            member_id,
            ..Default::default()
        };
        send(client, 3, &beat);
        let answer = receive(client);
        let told: HeartbeatResponse = decoded::<HeartbeatRequest<'_>, _>(&answer, 3);
        assert_eq!(told.error_code, ErrorCode::RebalanceInProgress.code());
    }
    took
}
