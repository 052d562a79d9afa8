//! Groups with members of both protocols, and groups that change their protocol while they work.

use std::collections::BTreeSet;

use coordinator::{MigrationPolicy, Response, Settings, WriteError};
use model::{ErrorCode, TopicId};
use proptest::prelude::*;
use wire::consumer_protocol_assignment::{self, ConsumerProtocolAssignment};
use wire::consumer_protocol_subscription::{self, ConsumerProtocolSubscription};

use crate::classic_consumers::{Classic, G, Kind, Phase, versioned};
use crate::consumers::{Client, Partitions};
use crate::harness::{Harness, Joining};

struct World {
    harness: Harness,
    classic: Vec<Classic>,
    newer: Vec<Client>,
}

impl World {
    fn new(policy: MigrationPolicy, kind: Kind, classic: usize, newer: usize) -> World {
        let mut settings = Settings::default();
        settings.consumer.migration = policy;
        let harness = Harness::new(settings);
        harness.topics.set("a", 6);
        harness.topics.set("b", 3);
        let topics = ["a", "b"];
        World {
            harness,
            classic: (0..classic).map(|_| Classic::new(kind, &topics)).collect(),
            newer: (0..newer).map(|at| Client::new(&format!("m{at}"), &topics)).collect(),
        }
    }

    fn all_owned(&self) -> Vec<(TopicId, i32)> {
        let classic = self.classic.iter().flat_map(|one| one.owned.iter().copied());
        classic.chain(self.newer.iter().flat_map(|one| one.owned.iter().copied())).collect()
    }

    fn check_disjoint(&self) {
        let mut seen = Partitions::new();
        for one in self.all_owned() {
            assert!(
                seen.insert(one),
                "{one:?} is read by two: {:?} {:?}",
                self.classic,
                self.newer
            );
        }
    }

    /// What the log says is what there is.
    fn check_replayed(&self) {
        if !self.harness.writes.is_empty() {
            return;
        }
        let (live, replayed) = (&self.harness.coordinator, self.harness.replayed());
        let (there, logged) =
            (live.describe_consumer_group(G), replayed.describe_consumer_group(G));
        if there.error == ErrorCode::None {
            assert_eq!(logged, there);
        } else {
            // At most the tombstones of one without members were not written.
            assert!(logged.members.is_empty(), "{logged:?}");
        }
        if live.describe_group(G).state == "Stable" {
            assert_eq!(replayed.describe_group(G), live.describe_group(G));
        }
    }

    fn is_consumer_group(&self) -> bool {
        self.harness.coordinator.describe_consumer_group(G).error == ErrorCode::None
    }

    fn state(&self) -> &'static str {
        let consumer = self.harness.coordinator.describe_consumer_group(G);
        if consumer.error == ErrorCode::None { consumer.state } else { self.harness.state(G) }
    }

    /// Who is not in the group any more has noticed: its own clock says so.
    fn drop_lost(&mut self) {
        let consumers = self.harness.coordinator.describe_consumer_group(G).members;
        let classic = self.harness.coordinator.describe_group(G).members;
        let mut ids: BTreeSet<String> = consumers.into_iter().map(|one| one.member_id).collect();
        ids.extend(classic.into_iter().map(|one| one.member_id));
        self.classic.iter_mut().filter(|one| !ids.contains(&one.id)).for_each(|one| {
            one.owned.clear();
            // An answer that comes so late is not read any more.
            if matches!(one.phase, Phase::Syncing(_)) {
                one.phase = Phase::Out;
            }
        });
        self.newer.iter_mut().filter(|one| !ids.contains(&one.id)).for_each(|one| {
            one.owned.clear();
        });
    }

    fn advance(&mut self, ms: u64) {
        self.harness.advance(ms);
        self.harness.flush();
        self.drop_lost();
    }

    fn act(&mut self, at: usize) {
        self.classic[at].act(&mut self.harness);
        self.harness.flush();
        self.check_disjoint();
    }

    fn beat(&mut self, at: usize) -> ErrorCode {
        let error = self.newer[at].beat(&mut self.harness, G).error;
        self.check_disjoint();
        error
    }

    /// Everybody acts until everything is read and nobody is told anything new.
    fn settle(&mut self) {
        for _ in 0..150 {
            for at in 0..self.classic.len() {
                self.act(at);
            }
            for at in 0..self.newer.len() {
                self.beat(at);
            }
            self.advance(1_000);
            self.check_disjoint();
            let are_in = self.classic.iter().all(|one| matches!(one.phase, Phase::In));
            if are_in && self.state() == "Stable" && self.all_owned().len() == 9 {
                self.check_replayed();
                return;
            }
        }
        panic!("{} does not come to rest: {:?} {:?}", self.state(), self.classic, self.newer);
    }

    /// What a schedule does, and what has to hold after each of its steps.
    fn step(&mut self, step: Step) {
        match step {
            Step::Act(at) => self.act(at),
            Step::Beat(at) => {
                self.beat(at);
            }
            Step::LeaveClassic(at) => {
                let mut one = self.classic[at].clone();
                one.leave(&mut self.harness);
                self.classic[at] = one;
            }
            Step::LeaveNewer(at) => {
                let mut one = self.newer[at].clone();
                one.leave(&mut self.harness, G, -1);
                self.newer[at] = one;
            }
            Step::VanishClassic(at) => self.classic[at].reset(),
            Step::VanishNewer(at) => {
                let id = format!("{}x", self.newer[at].id);
                self.newer[at] = Client::new(&id, &["a", "b"]);
            }
            Step::Advance(ms) => self.advance(ms),
            Step::FailAct(at) => {
                self.harness.flush();
                let mut one = self.classic[at].clone();
                if !matches!(one.phase, Phase::In) {
                    one.act(&mut self.harness);
                    self.harness.finish_write(Err(WriteError::Unavailable));
                }
                self.classic[at] = one;
            }
            Step::FailBeat(at) => {
                self.harness.flush();
                let token = self.newer[at].send(&mut self.harness, G);
                let has_failed = self.harness.finish_write(Err(WriteError::Unavailable));
                self.harness.flush();
                let answer = crate::consumers::answered(&mut self.harness, token);
                if !has_failed {
                    self.newer[at].take(&answer);
                }
            }
            Step::LoseAnswer(at) => self.classic[at].lose_answer(),
            Step::LoseBeat(at) => {
                // The connection breaks behind the request: it is done, and asked for again.
                self.newer[at].send(&mut self.harness, G);
            }
            Step::Restart => {
                self.harness.restart();
                self.classic.iter_mut().for_each(Classic::lose_answer);
            }
        }
        self.harness.flush();
        self.check_disjoint();
        self.check_replayed();
    }

    fn sizes(&self) -> (Vec<usize>, Vec<usize>) {
        let classic = self.classic.iter().map(|one| one.owned.len()).collect();
        (classic, self.newer.iter().map(|one| one.owned.len()).collect())
    }
}

fn kinds() -> [Kind; 2] {
    [Kind::Eager, Kind::Cooperative]
}

#[test]
fn a_rolling_upgrade_and_back_loses_nobody_and_nothing() {
    for kind in kinds() {
        let mut world = World::new(MigrationPolicy::Bidirectional, kind, 2, 0);
        world.settle();
        assert!(!world.is_consumer_group());
        let generation = world.classic[0].generation;
        world.newer.push(Client::new("n0", &["a", "b"]));
        assert_eq!(world.beat(0), ErrorCode::None);
        assert!(world.is_consumer_group(), "the first member of the new protocol upgrades it");
        assert_eq!(world.newer[0].epoch, generation + 1);
        world.settle();
        assert_eq!(world.sizes().0.iter().max(), Some(&3), "{:?}", world.sizes());
        let described = world.harness.coordinator.describe_consumer_group(G);
        assert_eq!(described.members.iter().filter(|one| one.is_classic).count(), 2);

        // The others come with the new protocol, one by one.
        for at in 1..3 {
            let mut left = world.classic.pop().unwrap();
            left.leave(&mut world.harness);
            world.newer.push(Client::new(&format!("n{at}"), &["a", "b"]));
            world.settle();
        }
        assert_eq!(world.sizes(), (vec![], vec![3, 3, 3]));

        // And back: the last one of the new protocol that leaves makes it a classic group.
        for _ in 0..3 {
            world.classic.push(Classic::new(kind, &["a", "b"]));
            world.settle();
            assert!(world.is_consumer_group());
            let mut left = world.newer.pop().unwrap();
            left.leave(&mut world.harness, G, -1);
            world.drop_lost();
            world.check_replayed();
        }
        assert!(!world.is_consumer_group());
        world.settle();
        assert_eq!(world.harness.coordinator.describe_group(G).members.len(), 3);
        assert_eq!(world.sizes(), (vec![3, 3, 3], vec![]));
    }
}

#[test]
fn the_policy_says_what_changes() {
    let upgrade = |policy| {
        let mut world = World::new(policy, Kind::Cooperative, 1, 0);
        world.settle();
        world.newer.push(Client::new("n", &["a", "b"]));
        world.newer[0].beat(&mut world.harness, G)
    };
    let refused = upgrade(MigrationPolicy::Disabled);
    assert_eq!(refused.error, ErrorCode::GroupIdNotFound);
    let text =
        "Cannot upgrade classic group g to consumer group because online upgrade is disabled.";
    assert_eq!(refused.error_message.as_deref(), Some(text));
    assert_eq!(upgrade(MigrationPolicy::Downgrade).error, ErrorCode::GroupIdNotFound);
    assert_eq!(upgrade(MigrationPolicy::Upgrade).error, ErrorCode::None);

    let cases = [
        (MigrationPolicy::Disabled, ErrorCode::InconsistentGroupProtocol, true),
        (MigrationPolicy::Upgrade, ErrorCode::None, true),
        (MigrationPolicy::Downgrade, ErrorCode::None, false),
        (MigrationPolicy::Bidirectional, ErrorCode::None, false),
    ];
    for (policy, expected, stays) in cases {
        let mut world = World::new(policy, Kind::Cooperative, 0, 1);
        world.settle();
        world.classic.push(Classic::new(Kind::Cooperative, &["a", "b"]));
        for _ in 0..4 {
            world.act(0);
        }
        assert_eq!(world.classic[0].told, expected, "{policy:?}");
        if expected != ErrorCode::None {
            continue;
        }
        world.settle();
        let mut left = world.newer.pop().unwrap();
        left.leave(&mut world.harness, G, -1);
        assert_eq!(world.is_consumer_group(), stays, "{policy:?}");
        world.settle();
        assert_eq!(world.sizes().0, [9], "who stays gets everything under {policy:?}");
    }
}

#[test]
fn classic_members_are_told_what_is_wrong() {
    let mut world = World::new(MigrationPolicy::Bidirectional, Kind::Cooperative, 1, 1);
    world.settle();
    let (id, generation) = (world.classic[0].id.clone(), world.classic[0].generation);
    let harness = &mut world.harness;
    let newer = world.newer[0].id.clone();
    let epoch = world.newer[0].epoch;
    assert_eq!(harness.heartbeat(G, &id, generation + 1), ErrorCode::IllegalGeneration);
    assert_eq!(harness.heartbeat(G, "nobody", generation), ErrorCode::UnknownMemberId);
    assert_eq!(harness.heartbeat(G, &newer, epoch), ErrorCode::UnknownMemberId);
    let token = harness.sync(G, &id, generation - 1, &[]);
    assert_eq!(harness.synced(token).error, ErrorCode::IllegalGeneration);
    let cases = [
        ("consumer", "range", ErrorCode::InconsistentGroupProtocol),
        ("connect", "cooperative-sticky", ErrorCode::InconsistentGroupProtocol),
        ("consumer", "cooperative-sticky", ErrorCode::UnknownServerError),
    ];
    for (protocol_type, protocol, expected) in cases {
        let protocols: &[(&str, &[u8])] = &[(protocol, b"?")];
        let joining = Joining { member_id: "new", protocol_type, protocols, ..Joining::default() };
        let token = harness.join(G, joining);
        assert_eq!(harness.joined(token).error, expected, "{protocol_type} {protocol}");
    }
    let unreadable = Joining {
        member_id: "new",
        instance_id: Some("nobody's"),
        protocols: &[("cooperative-sticky", b"?")],
        ..Joining::default()
    };
    let token = harness.join(G, unreadable);
    assert_eq!(harness.joined(token).error, ErrorCode::UnknownMemberId, "before what it says");
    let left = harness.leave(G, &[("nobody", None), ("", Some("s"))]);
    let errors: Vec<ErrorCode> = left.members.iter().map(|member| member.error).collect();
    assert_eq!(errors, [ErrorCode::UnknownMemberId, ErrorCode::UnknownMemberId]);
    world.check_replayed();
}

#[test]
fn a_group_of_a_custom_assignor_stays_classic() {
    let mut harness = Harness::new(Settings::default());
    harness.topics.set("a", 2);
    let subscription =
        versioned(&ConsumerProtocolSubscription { topics: vec!["a"], ..Default::default() });
    let protocols: &[(&str, &[u8])] = &[("own", &subscription)];
    let joining = Joining { version: 3, protocols, ..Joining::default() };
    let token = harness.join(G, joining);
    let id = harness.joined(token).member_id;
    let assignment = ConsumerProtocolAssignment { user_data: Some(b"x"), ..Default::default() };
    harness.sync(G, &id, 1, &[(&id, &versioned(&assignment))]);
    harness.flush();
    let answer = Client::new("n", &["a"]).beat(&mut harness, G);
    assert_eq!(answer.error, ErrorCode::GroupIdNotFound);
    assert!(answer.error_message.unwrap().contains("unsupported custom assignor"));
    assert_eq!(harness.state(G), "Stable");
    assert_eq!(harness.heartbeat(G, &id, 1), ErrorCode::None, "nobody noticed");
}

#[test]
fn what_a_classic_member_says_that_it_has_counts_where_it_is_there() {
    let mut harness = Harness::new(Settings::default());
    harness.topics.set("a", 3);
    let owned =
        |topic, partitions| consumer_protocol_subscription::TopicPartition { topic, partitions };
    let subscription = versioned(&ConsumerProtocolSubscription {
        topics: vec!["a"],
        owned_partitions: vec![owned("a", vec![-1, 1, 3, i32::MAX]), owned("gone", vec![0])],
        ..Default::default()
    });
    let protocols: &[(&str, &[u8])] = &[("cooperative-sticky", &subscription)];
    let token = harness.join(G, Joining { version: 3, protocols, ..Joining::default() });
    let id = harness.joined(token).member_id;
    let given = consumer_protocol_assignment::TopicPartition { topic: "a", partitions: vec![0] };
    let assignment = versioned(&ConsumerProtocolAssignment {
        assigned_partitions: vec![given],
        ..Default::default()
    });
    harness.sync(G, &id, 1, &[(&id, &assignment)]);
    harness.flush();
    let mut client = Client::new("n", &["a"]);
    assert_eq!(client.beat(&mut harness, G).error, ErrorCode::None);
    let described = harness.coordinator.describe_consumer_group(G);
    let member = described.members.iter().find(|one| one.is_classic).unwrap();
    let (_, topic, has) = &member.assignment[0];
    assert_eq!((topic.as_str(), has.as_slice()), ("a", &[0, 1][..]));
    assert_eq!(member.assignment.len(), 1);
    assert_eq!(client.owned.iter().map(|(_, at)| *at).collect::<Vec<_>>(), [2]);
}

#[test]
fn an_upgrade_that_is_not_written_leaves_the_classic_group() {
    let mut world = World::new(MigrationPolicy::Bidirectional, Kind::Eager, 2, 0);
    world.settle();
    let client = Client::new("n", &["a", "b"]);
    let token = client.send(&mut world.harness, G);
    // It waits for what becomes of the group.
    let request = wire::heartbeat_request::HeartbeatRequest {
        group_id: G,
        generation_id: world.classic[0].generation,
        member_id: &world.classic[0].id,
        ..Default::default()
    };
    let beat = world
        .harness
        .call(4, |coordinator, caller, now| coordinator.heartbeat(caller, &request, now));
    assert!(!world.harness.responses.contains_key(&beat));
    assert!(world.harness.finish_write(Err(WriteError::Unavailable)));
    let error = crate::consumers::answered(&mut world.harness, token).error;
    assert_eq!(error, ErrorCode::CoordinatorNotAvailable);
    let told = world.harness.responses.remove(&beat);
    assert_eq!(told, Some(Response::Heartbeat(ErrorCode::RebalanceInProgress)));
    assert!(!world.is_consumer_group());
    world.settle();
    assert_eq!(world.harness.coordinator.describe_group(G).members.len(), 2);
}

#[test]
fn static_members_keep_their_place_over_the_protocols() {
    for kind in kinds() {
        let mut world = World::new(MigrationPolicy::Bidirectional, kind, 2, 0);
        world.classic[0].instance_id = Some("s0".to_owned());
        world.classic[1].instance_id = Some("s1".to_owned());
        world.settle();
        // s0 restarts with the new protocol, without leaving.
        let mut newer = Client::new("n0", &["a", "b"]);
        newer.instance_id = Some("s0".to_owned());
        let old = world.classic.remove(0);
        world.newer.push(newer);
        assert_eq!(world.beat(0), ErrorCode::None);
        assert!(world.is_consumer_group());
        let described = world.harness.coordinator.describe_consumer_group(G);
        assert_eq!(described.members.len(), 2);
        world.settle();
        let mut gone = old;
        gone.owned.clear();
        gone.act(&mut world.harness);
        assert_eq!(gone.told, ErrorCode::FencedInstanceId);

        // And back: the last one of the new protocol is replaced, so the group is classic again.
        world.newer.clear();
        let mut back = Classic::new(kind, &["a", "b"]);
        back.instance_id = Some("s0".to_owned());
        world.classic.push(back);
        world.act(1);
        world.act(1);
        assert!(!world.is_consumer_group());
        world.check_replayed();
        world.settle();
        assert_eq!(world.harness.coordinator.describe_group(G).members.len(), 2);
    }
}

#[test]
fn a_static_member_that_makes_the_group_classic_is_told_the_epoch_that_it_was_at() {
    let subscription: &[u8] = b"\0\0\0\0\0\x01\0\x01a\xff\xff\xff\xff";
    for (member_id, generation) in [("m", 2), ("", 0)] {
        let mut world = World::new(MigrationPolicy::Bidirectional, Kind::Eager, 0, 0);
        let mut newer = Client::new("m", &["none"]);
        newer.instance_id = Some("s".to_owned());
        assert_eq!(newer.beat(&mut world.harness, G).member_epoch, 2);
        // What it subscribes to is new, so an assignment is due.
        let joining = Joining {
            member_id,
            instance_id: Some("s"),
            protocols: &[("range", subscription)],
            ..Joining::default()
        };
        let token = world.harness.join(G, joining);
        world.harness.flush();
        let joined = world.harness.joined(token);
        assert_eq!((joined.error, joined.generation), (ErrorCode::None, generation));
        assert!(!world.is_consumer_group());
    }
}

#[test]
fn silent_classic_members_are_out() {
    let mut world = World::new(MigrationPolicy::Bidirectional, Kind::Cooperative, 2, 1);
    world.settle();
    // One does not heartbeat for its own session timeout.
    for _ in 0..3 {
        world.advance(4_000);
        world.act(0);
        world.beat(0);
    }
    world.classic[1].reset();
    assert_eq!(world.harness.coordinator.describe_consumer_group(G).members.len(), 2);
    // The other one heartbeats and does not join when told to.
    let mut silent = world.classic.remove(0);
    world.classic.remove(0);
    world.newer.push(Client::new("n1", &["a", "b"]));
    world.beat(1);
    let mut told = ErrorCode::None;
    for _ in 0..6 {
        world.beat(0);
        world.beat(1);
        told = world.harness.heartbeat(G, &silent.id, silent.generation);
        if told == ErrorCode::UnknownMemberId {
            break;
        }
        assert_eq!(told, ErrorCode::RebalanceInProgress);
        world.advance(5_000);
    }
    assert_eq!(told, ErrorCode::UnknownMemberId, "its rebalance timeout is over");
    silent.reset();
    world.settle();
    assert_eq!(world.sizes().1, [5, 4]);
}

#[derive(Clone, Debug)]
enum Step {
    Act(usize),
    Beat(usize),
    LeaveClassic(usize),
    LeaveNewer(usize),
    VanishClassic(usize),
    VanishNewer(usize),
    Advance(u64),
    FailAct(usize),
    FailBeat(usize),
    LoseAnswer(usize),
    LoseBeat(usize),
    Restart,
}

const EACH: usize = 3;

/// Its leader has taken most of a cooperative member's partitions from it, and it has not been told:
/// it reads them until then, whoever of the newer protocol comes.
#[test]
fn who_is_to_give_up_reads_on_over_an_upgrade() {
    use Step::{Act, Beat, FailAct};
    let steps = [
        Act(1),
        Act(2),
        Act(2),
        FailAct(0),
        Act(2),
        Act(2),
        Act(2),
        Act(0),
        FailAct(1),
        Act(1),
        Act(2),
        Act(2),
        Act(0),
        Act(2),
        Beat(0),
    ];
    let mut world = World::new(MigrationPolicy::Bidirectional, Kind::Cooperative, EACH, EACH);
    for step in steps {
        world.step(step);
    }
    assert!(world.is_consumer_group());
    assert_eq!(world.sizes(), (vec![0, 0, 9], vec![0, 0, 0]));
    world.settle();
    assert_eq!(world.sizes().0.iter().chain(&world.sizes().1).max(), Some(&2));
}

fn step() -> impl Strategy<Value = Step> {
    let each = || 0..EACH;
    prop_oneof![
        24 => each().prop_map(Step::Act),
        8 => each().prop_map(Step::Beat),
        2 => each().prop_map(Step::LeaveClassic),
        4 => each().prop_map(Step::LeaveNewer),
        1 => each().prop_map(Step::VanishClassic),
        1 => each().prop_map(Step::VanishNewer),
        4 => (200..12_000_u64).prop_map(Step::Advance),
        2 => each().prop_map(Step::FailAct),
        2 => each().prop_map(Step::FailBeat),
        2 => each().prop_map(Step::LoseAnswer),
        1 => each().prop_map(Step::LoseBeat),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Whoever comes, goes, dies or is slow under either protocol, and whatever of it is lost: no
    /// partition is read by two, the log says what there is, and at rest everything is read.
    #[test]
    fn no_partition_is_read_by_two_whatever_the_group_becomes(
        steps in prop::collection::vec(step(), 1..200),
        is_eager in any::<bool>(),
        are_static in any::<bool>(),
    ) {
        let kind = if is_eager { Kind::Eager } else { Kind::Cooperative };
        let mut world = World::new(MigrationPolicy::Bidirectional, kind, EACH, EACH);
        for (at, one) in world.classic.iter_mut().enumerate().filter(|_| are_static) {
            one.instance_id = Some(format!("s{at}"));
        }
        for step in steps {
            world.step(step);
        }
        world.settle();
    }
}
