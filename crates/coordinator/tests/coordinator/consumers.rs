//! Consumer groups of KIP-848, with members that do what they are told.

use std::collections::{BTreeMap, BTreeSet};

use coordinator::response::ConsumerHeartbeat;
use coordinator::{GroupSettings, Response, Settings, WriteError};
use model::{ErrorCode, TopicId};
use proptest::prelude::*;
use wire::consumer_group_heartbeat_request::{ConsumerGroupHeartbeatRequest, TopicPartitions};
use wire::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};

use crate::harness::{Harness, TOPIC, TOPIC_ID};

pub type Partitions = BTreeSet<(TopicId, i32)>;

/// A member as a client plays it.
#[derive(Clone, Debug)]
pub struct Client {
    pub id: String,
    pub instance_id: Option<String>,
    pub epoch: i32,
    pub topics: Vec<String>,
    regex: Option<String>,
    assignor: Option<String>,
    /// What it reads.
    pub owned: Partitions,
    /// What it was last told to have.
    told: Partitions,
}

impl Client {
    pub fn new(id: &str, topics: &[&str]) -> Client {
        Client {
            id: id.to_owned(),
            instance_id: None,
            epoch: 0,
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            regex: None,
            assignor: None,
            owned: Partitions::new(),
            told: Partitions::new(),
        }
    }

    /// Sends a full heartbeat; the answer may still wait for a write.
    pub fn send(&self, harness: &mut Harness, group: &str) -> coordinator::Token {
        let mut owned = BTreeMap::<TopicId, Vec<i32>>::new();
        for (topic, partition) in &self.owned {
            owned.entry(*topic).or_default().push(*partition);
        }
        let owned = owned.into_iter();
        let request = ConsumerGroupHeartbeatRequest {
            group_id: group,
            member_id: &self.id,
            member_epoch: self.epoch,
            instance_id: self.instance_id.as_deref(),
            rebalance_timeout_ms: 10_000,
            subscribed_topic_names: Some(self.topics.iter().map(String::as_str).collect()),
            subscribed_topic_regex: self.regex.as_deref(),
            server_assignor: self.assignor.as_deref(),
            topic_partitions: Some(
                owned
                    .map(|(topic_id, partitions)| TopicPartitions { topic_id, partitions })
                    .collect(),
            ),
            ..ConsumerGroupHeartbeatRequest::default()
        };
        harness.call(1, |coordinator, caller, now| {
            coordinator.consumer_heartbeat(caller, &request, now)
        })
    }

    /// Takes an answer in: gives up at once, and takes only when told.
    pub fn take(&mut self, answer: &ConsumerHeartbeat) {
        if matches!(answer.error, ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId) {
            self.epoch = 0;
            self.owned.clear();
            self.told.clear();
        }
        if answer.error != ErrorCode::None {
            return;
        }
        assert!(answer.member_epoch >= self.epoch, "member epochs grow");
        self.epoch = answer.member_epoch;
        if let Some(assignment) = &answer.assignment {
            let partitions = assignment
                .iter()
                .flat_map(|(topic, partitions)| partitions.iter().map(|one| (*topic, *one)));
            self.told = partitions.collect();
            self.owned = self.told.clone();
        }
    }

    pub fn beat(&mut self, harness: &mut Harness, group: &str) -> ConsumerHeartbeat {
        let token = self.send(harness, group);
        harness.flush();
        let answer = answered(harness, token);
        self.take(&answer);
        answer
    }

    pub fn leave(&mut self, harness: &mut Harness, group: &str, epoch: i32) -> ConsumerHeartbeat {
        let leaving = Client { epoch, ..self.clone() };
        let token = leaving.send(harness, group);
        harness.flush();
        (self.epoch, self.owned, self.told) = (0, Partitions::new(), Partitions::new());
        answered(harness, token)
    }
}

pub fn answered(harness: &mut Harness, token: coordinator::Token) -> ConsumerHeartbeat {
    match harness.responses.remove(&token) {
        Some(Response::ConsumerHeartbeat(answer)) => answer,
        other => panic!("no answer to a heartbeat: {other:?}"),
    }
}

fn harness() -> Harness {
    let harness = Harness::new(Settings::default());
    harness.topics.set("a", 6);
    harness.topics.set("b", 3);
    harness
}

/// Heartbeats of all until nobody is told anything new.
fn settle(harness: &mut Harness, group: &str, clients: &mut [Client]) {
    for _ in 0..20 {
        harness.advance(2_000);
        for client in clients.iter_mut() {
            client.beat(harness, group);
        }
        check_disjoint(clients);
        if state(harness, group) == "Stable" {
            return;
        }
    }
    panic!("{group} does not come to rest: {clients:?}");
}

fn state(harness: &Harness, group: &str) -> &'static str {
    harness.coordinator.describe_consumer_group(group).state
}

fn check_disjoint(clients: &[Client]) {
    let mut all = Partitions::new();
    for one in clients.iter().flat_map(|client| &client.owned) {
        assert!(all.insert(*one), "{one:?} is read by two: {clients:?}");
    }
}

fn sizes(clients: &[Client]) -> Vec<usize> {
    clients.iter().map(|client| client.owned.len()).collect()
}

#[test]
fn members_share_and_give_up_before_others_get() {
    let mut harness = harness();
    let mut clients = vec![Client::new("m1", &["a", "b"])];
    let first = clients[0].beat(&mut harness, "g");
    assert_eq!((first.error, first.member_epoch), (ErrorCode::None, 2));
    assert_eq!(sizes(&clients), [9]);
    clients.push(Client::new("m2", &["a", "b"]));
    harness.advance(1_000);
    let second = clients[1].beat(&mut harness, "g");
    assert_eq!((second.member_epoch, sizes(&clients)), (3, vec![9, 0]), "nothing is free yet");
    assert_eq!(state(&harness, "g"), "Reconciling");
    settle(&mut harness, "g", &mut clients);
    assert_eq!(sizes(&clients), [5, 4]);
    clients[0].leave(&mut harness, "g", -1);
    settle(&mut harness, "g", &mut clients[1..]);
    assert_eq!(sizes(&clients), [0, 9]);
    clients[1].leave(&mut harness, "g", -1);
    assert_eq!(state(&harness, "g"), "Empty");
}

#[test]
fn the_assignor_of_most_members_is_taken_and_uniform_in_a_tie() {
    let cases: [(&[Option<&str>], &str); 7] = [
        (&[None], "uniform"),
        (&[Some("range")], "range"),
        (&[Some("range"), Some("uniform")], "uniform"),
        (&[Some("uniform"), Some("range")], "uniform"),
        (&[Some("range"), None, Some("range"), Some("uniform")], "range"),
        (&[Some("range"), Some("uniform"), Some("range"), Some("uniform")], "uniform"),
        (&[None, None, Some("range")], "range"),
    ];
    for (assignors, expected) in cases {
        let mut harness = harness();
        let clients = assignors.iter().enumerate().map(|(index, assignor)| Client {
            assignor: assignor.map(str::to_owned),
            ..Client::new(&format!("m{index}"), &["a", "b"])
        });
        let mut clients: Vec<Client> = clients.collect();
        settle(&mut harness, "g", &mut clients);
        let described = harness.coordinator.describe_consumer_group("g");
        assert_eq!(described.assignor, expected, "{assignors:?}");
    }
}

#[test]
fn what_the_log_says_is_what_there_is() {
    let mut harness = harness();
    let mut clients = vec![Client::new("m1", &["a"]), Client::new("m2", &["a", "b"])];
    clients[1].regex = Some("b.*".to_owned());
    settle(&mut harness, "g", &mut clients);
    let before = harness.coordinator.describe_consumer_group("g");
    assert_eq!(harness.replayed().describe_consumer_group("g"), before);
    harness.restart();
    settle(&mut harness, "g", &mut clients);
    assert_eq!(harness.coordinator.describe_consumer_group("g"), before, "nobody has to move");
    let token =
        harness.call(2, |coordinator, caller, now| coordinator.delete_groups(caller, &["g"], now));
    let refused = vec![("g".to_owned(), ErrorCode::NonEmptyGroup)];
    assert_eq!(harness.responses.remove(&token), Some(Response::DeleteGroups(refused)));
    for client in &mut clients {
        client.leave(&mut harness, "g", -1);
    }
    harness.call(2, |coordinator, caller, now| coordinator.delete_groups(caller, &["g"], now));
    harness.flush();
    assert_eq!(harness.coordinator.group_count(), 0);
    assert_eq!(harness.replayed().group_count(), 0);
}

#[test]
fn one_who_is_silent_or_keeps_what_it_is_to_give_up_is_fenced() {
    let mut harness = harness();
    let mut clients = vec![Client::new("m1", &["a"]), Client::new("m2", &["a"])];
    settle(&mut harness, "g", &mut clients);
    harness.advance(40_000);
    clients[1].beat(&mut harness, "g");
    harness.advance(6_000);
    harness.flush();
    settle(&mut harness, "g", &mut clients[1..]);
    assert_eq!(sizes(&clients[1..]), [6]);
    let fenced = clients[0].beat(&mut harness, "g");
    assert_eq!(fenced.error, ErrorCode::UnknownMemberId);

    // m1 is back; m2 heartbeats on with all six and is out after its rebalance timeout.
    harness.advance(1_000);
    clients[0].beat(&mut harness, "g");
    let mut last = ErrorCode::None;
    for _ in 0..2 {
        let token = clients[1].send(&mut harness, "g");
        harness.flush();
        last = answered(&mut harness, token).error;
        harness.advance(5_000);
        harness.flush();
    }
    assert_eq!(last, ErrorCode::None);
    assert_eq!(clients[1].beat(&mut harness, "g").error, ErrorCode::UnknownMemberId);
}

#[test]
fn a_static_member_keeps_its_place() {
    let mut harness = harness();
    let mut clients = vec![Client::new("m1", &["a"]), Client::new("m2", &["a"])];
    clients[0].instance_id = Some("s1".to_owned());
    settle(&mut harness, "g", &mut clients);
    let had = clients[0].owned.clone();
    let epoch = clients[0].epoch;
    let mut other = Client { id: "m3".to_owned(), epoch: 0, ..clients[0].clone() };
    other.owned.clear();
    assert_eq!(other.beat(&mut harness, "g").error, ErrorCode::UnreleasedInstanceId);
    let left = clients[0].leave(&mut harness, "g", -2);
    assert_eq!((left.error, left.member_epoch), (ErrorCode::None, -2));
    let back = other.beat(&mut harness, "g");
    assert_eq!((back.error, back.member_epoch), (ErrorCode::None, epoch), "no rebalance");
    assert_eq!(other.owned, had);
    clients[0].epoch = epoch;
    assert_eq!(clients[0].beat(&mut harness, "g").error, ErrorCode::FencedInstanceId);
    assert_eq!(harness.replayed().describe_consumer_group("g").members.len(), 2);
}

#[test]
fn topics_that_come_grow_and_go_are_assigned() {
    let mut harness = harness();
    let mut clients = vec![Client::new("m1", &[]), Client::new("m2", &[])];
    clients.iter_mut().for_each(|client| client.regex = Some("[ab].*".to_owned()));
    settle(&mut harness, "g", &mut clients);
    assert_eq!(sizes(&clients), [5, 4]);
    let epoch = harness.coordinator.describe_consumer_group("g").epoch;
    harness.topics.set("a2", 4);
    harness.topics.set("b", 5);
    harness.coordinator.topics_changed();
    harness.advance(11_000);
    settle(&mut harness, "g", &mut clients);
    settle(&mut harness, "g", &mut clients);
    assert_eq!(sizes(&clients).iter().sum::<usize>(), 15);
    assert!(harness.coordinator.describe_consumer_group("g").epoch > epoch);
    harness.topics.by_name.borrow_mut().remove("a");
    harness.coordinator.topics_changed();
    settle(&mut harness, "g", &mut clients);
    settle(&mut harness, "g", &mut clients);
    assert_eq!(sizes(&clients).iter().sum::<usize>(), 9);
}

#[test]
fn refusals_name_what_is_wrong() {
    let mut settings = Settings::default();
    settings.consumer.size_max = 1;
    let mut harness = Harness::new(settings);
    harness.topics.set("a", 2);
    let mut first = Client::new("m1", &["a"]);
    first.beat(&mut harness, "g");
    let known = || Client { epoch: 2, ..Client::new("m1", &["a"]) };
    let cases = [
        (Client::new("", &["a"]), ErrorCode::InvalidRequest),
        (Client { epoch: -3, ..known() }, ErrorCode::InvalidRequest),
        (Client { epoch: -2, ..known() }, ErrorCode::InvalidRequest),
        (Client { assignor: Some("sticky".to_owned()), ..known() }, ErrorCode::UnsupportedAssignor),
        (Client { regex: Some("(".to_owned()), ..known() }, ErrorCode::InvalidRegularExpression),
        (Client { epoch: 7, ..known() }, ErrorCode::FencedMemberEpoch),
        (Client { instance_id: Some(" ".to_owned()), ..known() }, ErrorCode::InvalidRequest),
        (Client::new("m2", &["a"]), ErrorCode::GroupMaxSizeReached),
    ];
    for (mut client, expected) in cases {
        let answer = client.beat(&mut harness, "g");
        assert_eq!(answer.error, expected, "{client:?}");
    }
    let mut nobody = known();
    assert_eq!(nobody.beat(&mut harness, "h").error, ErrorCode::GroupIdNotFound);
    assert_eq!(first.beat(&mut harness, "g").error, ErrorCode::None, "nothing of it stayed");
}

#[test]
fn a_failed_write_changes_nothing() {
    let mut harness = harness();
    let mut first = Client::new("m1", &["a"]);
    let token = first.send(&mut harness, "g");
    let waiting = Client::new("m2", &["a"]).send(&mut harness, "g");
    assert!(harness.finish_write(Err(WriteError::Unavailable)));
    let error = answered(&mut harness, token).error;
    assert_eq!(error, ErrorCode::CoordinatorNotAvailable);
    harness.flush();
    assert_eq!(answered(&mut harness, waiting).error, ErrorCode::None);
    first.beat(&mut harness, "g");
    let before = harness.coordinator.describe_consumer_group("g");
    let leaving = Client { epoch: -1, ..first.clone() };
    let token = leaving.send(&mut harness, "g");
    harness.finish_write(Err(WriteError::Unavailable));
    assert_eq!(answered(&mut harness, token).error, ErrorCode::CoordinatorNotAvailable);
    assert_eq!(harness.coordinator.describe_consumer_group("g"), before);
    assert_eq!(harness.replayed().describe_consumer_group("g"), before);
}

#[test]
fn offsets_are_committed_at_the_members_epoch() {
    let mut harness = harness();
    harness.topics.by_name.borrow_mut().clear();
    harness.topics.set(TOPIC, 8);
    harness.topics.by_name.borrow_mut().get_mut(TOPIC).unwrap().0.id = TOPIC_ID;
    let mut clients = vec![Client::new("m1", &[TOPIC])];
    clients[0].beat(&mut harness, "g");
    clients.push(Client::new("m2", &[TOPIC]));
    settle(&mut harness, "g", &mut clients);
    let (epoch, kept) = (clients[0].epoch, clients[0].owned.first().unwrap().1);
    let gone = clients[1].owned.first().unwrap().1;
    let long = "m".repeat(4097);
    let cases = [
        (9, "m1", epoch, kept, ErrorCode::None),
        (9, "m1", epoch, gone, ErrorCode::None),
        (9, "m1", 2, kept, ErrorCode::None),
        (9, "m1", 2, gone, ErrorCode::StaleMemberEpoch),
        (9, "m1", epoch + 1, kept, ErrorCode::StaleMemberEpoch),
        (8, "m1", epoch, kept, ErrorCode::UnsupportedVersion),
        (9, "nobody", epoch, kept, ErrorCode::UnknownMemberId),
        (9, "", -1, kept, ErrorCode::UnknownMemberId),
    ];
    for (version, member_id, epoch, partition_index, expected) in cases {
        let request = OffsetCommitRequest {
            group_id: "g",
            member_id,
            generation_id_or_member_epoch: epoch,
            topics: vec![OffsetCommitRequestTopic {
                name: TOPIC,
                partitions: vec![OffsetCommitRequestPartition {
                    partition_index,
                    committed_offset: 5,
                    ..OffsetCommitRequestPartition::default()
                }],
                ..OffsetCommitRequestTopic::default()
            }],
            ..OffsetCommitRequest::default()
        };
        let token = harness.commit_request(version, &request);
        harness.flush();
        let error = harness.committed(token).topics[0].partitions[0].1;
        assert_eq!(error, expected, "{member_id} at {epoch}, partition {partition_index}");
        // What cannot be kept is told before whether it comes too late.
        let mut too_long = request.clone();
        too_long.topics[0].partitions[0].committed_metadata = Some(&long);
        let token = harness.commit_request(version, &too_long);
        harness.flush();
        let told = harness.committed(token).topics[0].partitions[0].1;
        let is_late = epoch == 2 && partition_index == gone;
        let is_metadata = expected == ErrorCode::None || is_late;
        let expected = if is_metadata { ErrorCode::OffsetMetadataTooLarge } else { expected };
        assert_eq!(told, expected, "{member_id} at {epoch}, partition {partition_index}");
    }
}

#[test]
fn a_group_changes_its_protocol_while_nobody_is_in_it() {
    let mut harness = harness();
    let classic = harness.stable_group("g");
    let mut client = Client::new("m1", &["a"]);
    assert_eq!(client.beat(&mut harness, "g").error, ErrorCode::GroupIdNotFound);
    harness.leave("g", &[(&classic, None)]);
    harness.flush();
    assert_eq!(client.beat(&mut harness, "g").error, ErrorCode::None);
    assert_eq!(harness.coordinator.describe_group("g").error, ErrorCode::GroupIdNotFound);
    assert_eq!(harness.replayed().describe_consumer_group("g").state, "Stable");
    client.leave(&mut harness, "g", -1);
    harness.stable_group("g");
    assert_eq!(harness.state("g"), "Stable");
    assert_eq!(harness.replayed().describe_group("g").state, "Stable");
}

#[test]
fn what_a_group_has_of_its_own_acts() {
    let mut harness = harness();
    let own = GroupSettings {
        heartbeat_interval_ms: Some(1_234),
        session_timeout_ms: Some(9_000),
        assignment_interval_ms: Some(15_000),
    };
    harness.topics.settings.borrow_mut().insert("g".to_owned(), own);
    let mut clients = [Client::new("m1", &["a"]), Client::new("m2", &["a"])];
    assert_eq!(clients[0].beat(&mut harness, "g").heartbeat_interval_ms, 1_234);
    assert_eq!(Client::new("m1", &["a"]).beat(&mut harness, "h").heartbeat_interval_ms, 5_000);
    harness.advance(8_000);
    clients[0].beat(&mut harness, "g");
    assert_eq!(clients[1].beat(&mut harness, "g").member_epoch, 2, "not assigned again yet");
    harness.advance(8_000);
    clients[0].beat(&mut harness, "g");
    assert_eq!(clients[1].beat(&mut harness, "g").member_epoch, 3);
    harness.advance(9_500);
    harness.flush();
    assert_eq!(clients[1].beat(&mut harness, "g").error, ErrorCode::UnknownMemberId);
}

#[test]
fn a_thousand_members_and_ten_thousand_partitions_settle() {
    let mut harness = Harness::new(Settings::default());
    let names: Vec<String> = (0..100).map(|index| format!("t{index}")).collect();
    names.iter().for_each(|name| {
        harness.topics.set(name, 100);
    });
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut clients: Vec<Client> =
        (0..1_000).map(|index| Client::new(&format!("m{index}"), &names)).collect();
    settle(&mut harness, "g", &mut clients);
    assert!(sizes(&clients).iter().all(|size| *size == 10), "an equal share each");
}

#[derive(Clone, Debug)]
enum Step {
    Beat(usize),
    Leave(usize),
    Vanish(usize),
    Subscribe(usize, usize),
    Grow(usize),
    Advance(u64),
    FailWrite(usize),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..5_usize).prop_map(Step::Beat),
        1 => (0..5_usize).prop_map(Step::Leave),
        1 => (0..5_usize).prop_map(Step::Vanish),
        2 => (0..5_usize, 0..4_usize).prop_map(|(client, topics)| Step::Subscribe(client, topics)),
        1 => (0..2_usize).prop_map(Step::Grow),
        3 => (500..20_000_u64).prop_map(Step::Advance),
        1 => (0..5_usize).prop_map(Step::FailWrite),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// No partition is read by two, epochs grow, and at rest everything is assigned; whoever comes,
    /// goes, dies or is slow, and whatever of it is lost.
    #[test]
    fn no_two_members_read_one_partition(
        steps in prop::collection::vec(step(), 1..120),
        is_range in any::<bool>(),
    ) {
        let mut harness = harness();
        let sets: [&[&str]; 4] = [&["a"], &["b"], &["a", "b"], &[]];
        let mut clients: Vec<Client> =
            (0..5).map(|index| Client::new(&format!("m{index}"), &["a", "b"])).collect();
        for client in &mut clients {
            client.assignor = is_range.then(|| "range".to_owned());
        }
        let mut epoch = 0;
        for step in steps {
            match step {
                Step::Beat(index) => {
                    clients[index].beat(&mut harness, "g");
                }
                Step::Leave(index) => {
                    clients[index].leave(&mut harness, "g", -1);
                }
                Step::Vanish(index) => {
                    // The process is gone; its place is free after the session.
                    let client = &mut clients[index];
                    (client.epoch, client.owned, client.told) =
                        (0, Partitions::new(), Partitions::new());
                    client.id.push('x');
                }
                Step::Subscribe(index, topics) => {
                    let names = sets[topics].iter().map(|name| (*name).to_owned());
                    clients[index].topics = names.collect();
                }
                Step::Grow(index) => {
                    let name = ["a", "b"][index];
                    let count = harness.topics.by_name.borrow()[name].0.partition_count;
                    harness.topics.set(name, (count + 1).min(12));
                    harness.coordinator.topics_changed();
                }
                Step::Advance(ms) => {
                    harness.advance(ms);
                    harness.flush();
                    // Who was fenced meanwhile has stopped reading: its own session is over, too.
                    let described = harness.coordinator.describe_consumer_group("g");
                    for client in &mut clients {
                        if described.members.iter().all(|member| member.member_id != client.id) {
                            client.owned.clear();
                        }
                    }
                }
                Step::FailWrite(index) => {
                    let token = clients[index].send(&mut harness, "g");
                    if harness.finish_write(Err(WriteError::Unavailable)) {
                        harness.flush();
                        answered(&mut harness, token);
                    } else {
                        let answer = answered(&mut harness, token);
                        clients[index].take(&answer);
                    }
                }
                Step::Restart => harness.restart(),
            }
            check_disjoint(&clients);
            let described = harness.coordinator.describe_consumer_group("g");
            prop_assert_eq!(&harness.replayed().describe_consumer_group("g"), &described);
            if described.error == ErrorCode::None {
                prop_assert!(described.epoch >= epoch, "group epochs grow");
                prop_assert!(described.assignment_epoch <= described.epoch);
                let members = described.members.iter();
                prop_assert!(members.clone().all(|one| one.epoch <= described.assignment_epoch));
                epoch = described.epoch;
            }
        }
        // Those who vanished are out after their session; the others come to rest.
        for _ in 0..6 {
            harness.advance(10_000);
            harness.flush();
            for client in &mut clients {
                client.beat(&mut harness, "g");
            }
        }
        settle(&mut harness, "g", &mut clients);
        settle(&mut harness, "g", &mut clients);
        let mut wanted = Partitions::new();
        for name in clients.iter().flat_map(|client| &client.topics) {
            let shape = harness.topics.by_name.borrow()[name].0;
            wanted.extend((0..shape.partition_count).map(|partition| (shape.id, partition)));
        }
        let read: Partitions =
            clients.iter().flat_map(|client| client.owned.iter().copied()).collect();
        prop_assert_eq!(read, wanted);
    }
}
