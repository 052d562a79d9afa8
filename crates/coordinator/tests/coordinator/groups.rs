//! Membership of classic groups: who is in, in which generation, and who is told what and when.

use crate::harness::{Harness, Joining};
use coordinator::{Response, Settings, WriteError};
use model::ErrorCode;
use wire::leave_group_request::LeaveGroupRequest;
use wire::sync_group_request::SyncGroupRequest;

const G: &str = "group";

fn with_id(member_id: &str) -> Joining<'_> {
    Joining { member_id, ..Joining::default() }
}

fn with_instance<'a>(instance_id: &'a str, member_id: &'a str) -> Joining<'a> {
    Joining { instance_id: Some(instance_id), member_id, ..Joining::default() }
}

/// Two members in a stable group of generation 2: the leader and the other.
fn two_members(harness: &mut Harness) -> (String, String) {
    let first = harness.stable_group(G);
    let second = harness.new_id(G);
    let second_joins = harness.join(G, with_id(&second));
    assert_eq!(harness.heartbeat(G, &first, 1), ErrorCode::RebalanceInProgress);
    assert!(!harness.responses.contains_key(&second_joins));
    let first_joins = harness.join(G, with_id(&first));
    let leader = harness.joined(first_joins);
    let follower = harness.joined(second_joins);
    assert_eq!((leader.generation, follower.generation), (2, 2));
    assert_eq!((leader.leader.as_str(), leader.members.len()), (first.as_str(), 2));
    assert_eq!((follower.leader.as_str(), follower.members.len()), (first.as_str(), 0));
    let second_syncs = harness.sync(G, &second, 2, &[]);
    assert!(!harness.responses.contains_key(&second_syncs));
    let first_syncs = harness.sync(G, &first, 2, &[(&first, b"1"), (&second, b"2")]);
    assert!(!harness.responses.contains_key(&first_syncs), "the assignment is not durable");
    harness.flush();
    assert_eq!(harness.synced(first_syncs).assignment, &b"1"[..]);
    assert_eq!(harness.synced(second_syncs).assignment, &b"2"[..]);
    (first, second)
}

#[test]
fn in_a_rebalance_members_are_described_with_what_they_were_given() {
    let mut harness = Harness::new(Settings::default());
    let first = harness.stable_group("g");
    let second = harness.new_id("g");
    let described = |harness: &Harness| {
        let group = harness.coordinator.describe_group("g");
        let member = group.members.into_iter().find(|one| one.member_id == first).unwrap();
        (group.state, group.protocol.is_empty(), member.assignment)
    };
    assert_eq!(described(&harness), ("Stable", false, "all".into()));
    harness.join("g", Joining { member_id: &second, ..Joining::default() });
    assert_eq!(described(&harness), ("PreparingRebalance", true, "all".into()));
    harness.join("g", Joining { member_id: &first, ..Joining::default() });
    assert_eq!(described(&harness), ("CompletingRebalance", true, "all".into()));
}

#[test]
fn a_new_member_comes_back_with_its_id_or_is_forgotten() {
    let mut harness = Harness::new(Settings::default());
    let id = harness.new_id(G);
    assert!(id.starts_with("client-"), "{id}");
    let joins = harness.join(G, with_id(&id));
    let join = harness.joined(joins);
    assert_eq!((join.error, join.generation), (ErrorCode::None, 1));
    assert_eq!((join.leader.as_str(), join.protocol.as_deref()), (id.as_str(), Some("range")));
    assert_eq!(join.members.len(), 1);

    let other = Harness::new_id(&mut harness, "other");
    harness.advance(10_000);
    let joins = harness.join("other", with_id(&other));
    assert_eq!(harness.joined(joins).error, ErrorCode::UnknownMemberId);
}

#[test]
fn a_group_that_nobody_joined_with_its_id_stays_until_the_retention_is_checked() {
    let settings = Settings { retention_check_interval_ms: 60_000, ..Settings::default() };
    let mut harness = Harness::new(settings);
    let silent = harness.new_id("silent");
    let leaves = harness.new_id("left");
    harness.advance(10_000);
    assert_eq!(
        harness.leave("left", &[(&leaves, None)]).members[0].error,
        ErrorCode::UnknownMemberId
    );
    let leaves = harness.new_id("left");
    assert_eq!(harness.leave("left", &[(&leaves, None)]).members[0].error, ErrorCode::None);
    let joins = harness.join("silent", with_id(&silent));
    assert_eq!(harness.joined(joins).error, ErrorCode::UnknownMemberId);
    assert_eq!((harness.state("silent"), harness.state("left")), ("Empty", "Empty"));
    harness.advance(60_000);
    harness.flush();
    assert_eq!((harness.state("silent"), harness.state("left")), ("Dead", "Dead"));
}

#[test]
fn old_clients_get_their_id_with_the_generation() {
    let mut harness = Harness::new(Settings::default());
    let joins = harness.join(G, Joining { version: 3, ..Joining::default() });
    let join = harness.joined(joins);
    assert_eq!((join.error, join.generation), (ErrorCode::None, 1));
    assert!(!join.member_id.is_empty());
}

#[test]
fn requests_that_cannot_be_are_refused() {
    let cases = [
        ("", Joining::default(), ErrorCode::InvalidGroupId),
        (
            G,
            Joining { session_timeout_ms: 5_999, ..Joining::default() },
            ErrorCode::InvalidSessionTimeout,
        ),
        (
            G,
            Joining { session_timeout_ms: 1_800_001, ..Joining::default() },
            ErrorCode::InvalidSessionTimeout,
        ),
        (G, Joining { protocols: &[], ..Joining::default() }, ErrorCode::InconsistentGroupProtocol),
        (
            G,
            Joining { protocol_type: "", ..Joining::default() },
            ErrorCode::InconsistentGroupProtocol,
        ),
        (G, with_id("nobody"), ErrorCode::UnknownMemberId),
    ];
    for (group, joining, expected) in cases {
        let mut harness = Harness::new(Settings::default());
        let joins = harness.join(group, joining);
        let join = harness.joined(joins);
        assert_eq!((join.error, join.generation), (expected, -1));
        assert_eq!(harness.coordinator.group_count(), 0);
    }
    let mut harness = Harness::new(Settings::default());
    harness.stable_group(G);
    let connect = Joining { protocol_type: "connect", ..Joining::default() };
    let others = Joining { protocols: &[("sticky", b"")], ..Joining::default() };
    for joining in [connect, others] {
        let joins = harness.join(G, joining);
        assert_eq!(harness.joined(joins).error, ErrorCode::InconsistentGroupProtocol);
    }
}

#[test]
fn metadata_of_other_protocol_types_is_opaque() {
    let mut harness = Harness::new(Settings::default());
    let connect = Joining {
        version: 3,
        protocol_type: "connect",
        protocols: &[("compatible", b"\xff\xfe"), ("default", b"x")],
        ..Joining::default()
    };
    let joins = harness.join(G, connect);
    let join = harness.joined(joins);
    assert_eq!(join.protocol.as_deref(), Some("compatible"));
    assert_eq!(join.members[0].metadata, &b"\xff\xfe"[..]);
}

#[test]
fn members_agree_on_the_protocol_that_most_prefer() {
    let mut harness = Harness::new(Settings::default());
    let prefers: [&[(&str, &[u8])]; 3] = [
        &[("a", b""), ("b", b""), ("c", b"")],
        &[("c", b""), ("b", b"")],
        &[("c", b""), ("b", b""), ("a", b"")],
    ];
    let joins = prefers
        .map(|protocols| harness.join(G, Joining { version: 3, protocols, ..Joining::default() }));
    let first = harness.joined(joins[0]).member_id;
    let again =
        harness.join(G, Joining { member_id: &first, protocols: prefers[0], ..Joining::default() });
    assert_eq!(harness.joined(again).protocol.as_deref(), Some("c"));
}

#[test]
fn members_rebalance_when_one_joins_and_when_one_leaves() {
    let mut harness = Harness::new(Settings::default());
    let (first, second) = two_members(&mut harness);
    assert_eq!(harness.heartbeat(G, &second, 2), ErrorCode::None);
    assert_eq!(harness.heartbeat(G, &second, 1), ErrorCode::IllegalGeneration);

    let left = harness.leave(G, &[(&first, None), ("nobody", None)]);
    let errors: Vec<_> = left.members.iter().map(|member| member.error).collect();
    assert_eq!(errors, [ErrorCode::None, ErrorCode::UnknownMemberId]);
    assert_eq!(harness.heartbeat(G, &second, 2), ErrorCode::RebalanceInProgress);
    let joins = harness.join(G, with_id(&second));
    let join = harness.joined(joins);
    assert_eq!((join.generation, join.leader.as_str()), (3, second.as_str()));

    assert_eq!(harness.leave(G, &[(&second, None)]).error, ErrorCode::None);
    harness.flush();
    assert_eq!(harness.state(G), "Empty");
    harness.restart();
    assert_eq!(harness.state(G), "Empty");
    let late = harness.leave("nowhere", &[("x", None)]);
    assert_eq!(late.members[0].error, ErrorCode::UnknownMemberId);
}

#[test]
fn followers_that_join_again_unchanged_do_not_disturb() {
    let mut harness = Harness::new(Settings::default());
    let (first, second) = two_members(&mut harness);
    let joins = harness.join(G, with_id(&second));
    assert_eq!(harness.joined(joins).generation, 2);
    assert_eq!(harness.state(G), "Stable");
    let changed = Joining { protocols: &[("range", b"new")], ..with_id(&second) };
    let joins = harness.join(G, changed);
    assert_eq!(harness.state(G), "PreparingRebalance");
    let leader_joins = harness.join(G, with_id(&first));
    assert_eq!(harness.joined(joins).generation, 3);
    assert_eq!(harness.joined(leader_joins).generation, 3);
}

#[test]
fn the_leader_that_joins_again_starts_a_rebalance() {
    let mut harness = Harness::new(Settings::default());
    let (first, _) = two_members(&mut harness);
    harness.join(G, with_id(&first));
    assert_eq!(harness.state(G), "PreparingRebalance");
}

#[test]
fn members_that_fall_silent_are_out_and_those_that_wait_are_not() {
    let mut harness = Harness::new(Settings::default());
    let (first, second) = two_members(&mut harness);
    harness.advance(6_000);
    assert_eq!(harness.heartbeat(G, &first, 2), ErrorCode::None);
    harness.advance(5_000);
    assert_eq!(harness.heartbeat(G, &second, 2), ErrorCode::UnknownMemberId);
    let joins = harness.join(G, with_id(&first));
    assert_eq!(harness.joined(joins).generation, 3);
    // A member that waits for others does not heartbeat, and stays until they had their time.
    let third = harness.new_id(G);
    let third_joins = harness.join(G, with_id(&third));
    harness.advance(9_000);
    assert_eq!(harness.heartbeat(G, &first, 3), ErrorCode::RebalanceInProgress);
    harness.advance(9_000);
    assert!(!harness.responses.contains_key(&third_joins));
    harness.advance(2_000);
    let join = harness.joined(third_joins);
    assert_eq!((join.error, join.generation), (ErrorCode::None, 4));
    assert_eq!(join.members.len(), 1);
}

#[test]
fn the_rebalance_timeout_ends_the_wait_for_those_who_do_not_join() {
    let mut harness = Harness::new(Settings::default());
    let first = harness.stable_group(G);
    let second = harness.new_id(G);
    let joins = harness.join(G, with_id(&second));
    for _ in 0..11 {
        harness.advance(5_000);
        assert_eq!(harness.heartbeat(G, &first, 1), ErrorCode::RebalanceInProgress);
    }
    assert!(!harness.responses.contains_key(&joins));
    harness.advance(5_000);
    assert_eq!(harness.joined(joins).members.len(), 1);
    assert_eq!(harness.heartbeat(G, &first, 1), ErrorCode::UnknownMemberId);
}

#[test]
fn members_that_do_not_sync_are_out() {
    let mut harness = Harness::new(Settings::default());
    let id = harness.new_id(G);
    let joins = harness.join(G, with_id(&id));
    harness.joined(joins);
    for _ in 0..12 {
        assert_eq!(harness.heartbeat(G, &id, 1), ErrorCode::None);
        harness.advance(5_000);
    }
    assert_eq!(harness.heartbeat(G, &id, 1), ErrorCode::UnknownMemberId);
    assert_eq!(harness.state(G), "Empty");
}

#[test]
fn the_first_members_are_waited_for_as_long_as_they_keep_coming() {
    let settings = Settings { initial_rebalance_delay_ms: 3_000, ..Settings::default() };
    let mut harness = Harness::new(settings);
    let old = Joining { version: 3, rebalance_timeout_ms: 7_000, ..Joining::default() };
    let first = harness.join(G, old);
    harness.advance(2_000);
    let second = harness.join(G, old);
    harness.advance(2_000);
    let third = harness.join(G, old);
    harness.advance(2_999);
    assert!(harness.responses.is_empty());
    harness.advance(1);
    let answers = [first, second, third].map(|token| harness.joined(token));
    assert!(answers.iter().all(|join| join.generation == 1));
    assert_eq!(answers.iter().map(|join| join.members.len()).max(), Some(3));
}

#[test]
fn a_full_group_takes_nobody_else() {
    let mut harness = Harness::new(Settings { group_size_max: 1, ..Settings::default() });
    let first = harness.stable_group(G);
    let joins = harness.join(G, Joining { version: 3, ..Joining::default() });
    assert_eq!(harness.joined(joins).error, ErrorCode::GroupMaxSizeReached);
    assert_eq!(harness.heartbeat(G, &first, 1), ErrorCode::None);
}

#[test]
fn sync_is_for_members_of_this_generation() {
    let mut harness = Harness::new(Settings::default());
    let id = harness.stable_group(G);
    let check = |harness: &mut Harness, request: SyncGroupRequest<'_>, expected| {
        let token =
            harness.call(5, |coordinator, caller, now| coordinator.sync(caller, &request, now));
        assert_eq!(harness.synced(token).error, expected, "{request:?}");
    };
    let good = SyncGroupRequest {
        group_id: G,
        generation_id: 1,
        member_id: &id,
        protocol_type: Some("consumer"),
        protocol_name: Some("range"),
        ..SyncGroupRequest::default()
    };
    let harness = &mut harness;
    check(harness, good.clone(), ErrorCode::None);
    check(harness, SyncGroupRequest { group_id: "", ..good.clone() }, ErrorCode::InvalidGroupId);
    check(harness, SyncGroupRequest { group_id: "x", ..good.clone() }, ErrorCode::UnknownMemberId);
    check(harness, SyncGroupRequest { member_id: "x", ..good.clone() }, ErrorCode::UnknownMemberId);
    check(
        harness,
        SyncGroupRequest { generation_id: 2, ..good.clone() },
        ErrorCode::IllegalGeneration,
    );
    let wrong = SyncGroupRequest { protocol_type: Some("connect"), ..good.clone() };
    check(harness, wrong, ErrorCode::InconsistentGroupProtocol);
    let wrong = SyncGroupRequest { protocol_name: Some("sticky"), ..good.clone() };
    check(harness, wrong, ErrorCode::InconsistentGroupProtocol);
    let wrong = SyncGroupRequest { group_instance_id: Some("i"), ..good.clone() };
    check(harness, wrong, ErrorCode::UnknownMemberId);
    harness.join(G, with_id(&id));
    harness.join(G, with_id(&id));
    harness.flush();
    let other = SyncGroupRequest { generation_id: 1, ..good };
    check(harness, other, ErrorCode::IllegalGeneration);
}

#[test]
fn an_assignment_that_was_not_written_is_not_handed_out() {
    let mut harness = Harness::new(Settings::default());
    let id = harness.new_id(G);
    let joins = harness.join(G, with_id(&id));
    harness.joined(joins);
    let syncs = harness.sync(G, &id, 1, &[(&id, b"all")]);
    assert!(harness.finish_write(Err(WriteError::Unavailable)));
    let sync = harness.synced(syncs);
    assert_eq!(sync.error, ErrorCode::CoordinatorNotAvailable);
    assert!(sync.assignment.is_empty());
    assert_eq!(harness.heartbeat(G, &id, 1), ErrorCode::RebalanceInProgress);
    let joins = harness.join(G, with_id(&id));
    assert_eq!(harness.joined(joins).generation, 2);
}

#[test]
fn an_assignment_that_was_overtaken_is_not_handed_out() {
    let mut harness = Harness::new(Settings::default());
    let first = harness.new_id(G);
    let joins = harness.join(G, with_id(&first));
    harness.joined(joins);
    let syncs = harness.sync(G, &first, 1, &[(&first, b"all")]);
    let second = harness.join(G, Joining { version: 3, ..Joining::default() });
    assert_eq!(harness.synced(syncs).error, ErrorCode::RebalanceInProgress);
    harness.flush();
    assert_eq!(harness.state(G), "PreparingRebalance");
    let joins = harness.join(G, with_id(&first));
    assert_eq!(harness.joined(joins).generation, 2);
    assert_eq!(harness.joined(second).generation, 2);
}

#[test]
fn the_assignment_of_a_generation_is_written_once() {
    let mut harness = Harness::new(Settings::default());
    let id = harness.new_id(G);
    let joins = harness.join(G, with_id(&id));
    harness.joined(joins);
    let first = harness.sync(G, &id, 1, &[(&id, b"first")]);
    let second = harness.sync(G, &id, 1, &[(&id, b"second")]);
    assert_eq!(harness.writes.len(), 1);
    assert_eq!(harness.synced(first).error, ErrorCode::RebalanceInProgress);
    harness.flush();
    assert_eq!(harness.synced(second).assignment, &b"first"[..]);
}

#[test]
fn members_go_on_after_a_restart_with_their_ids_and_generation() {
    let mut harness = Harness::new(Settings::default());
    let (first, second) = two_members(&mut harness);
    harness.advance(9_000);
    harness.restart();
    assert_eq!(harness.state(G), "Stable");
    harness.advance(9_000);
    assert_eq!(harness.heartbeat(G, &first, 2), ErrorCode::None);
    assert_eq!(harness.heartbeat(G, &second, 2), ErrorCode::None);
    let syncs = harness.sync(G, &second, 2, &[]);
    assert_eq!(harness.synced(syncs).assignment, &b"2"[..]);
    let commits = harness.commit(G, (&second, 2), &[(0, 5)]);
    harness.flush();
    assert_eq!(harness.committed(commits).topics[0].partitions, [(0, ErrorCode::None)]);
    // The leader is the one that it was: it alone can start a rebalance unchanged.
    let joins = harness.join(G, with_id(&second));
    assert_eq!(harness.joined(joins).generation, 2);
    harness.join(G, with_id(&first));
    assert_eq!(harness.state(G), "PreparingRebalance");
    // Who is silent after the restart is out after its session timeout.
    harness.advance(10_001);
    assert_eq!(harness.heartbeat(G, &second, 2), ErrorCode::UnknownMemberId);
}

#[test]
fn a_static_member_comes_back_without_a_rebalance_and_fences_its_former_self() {
    for (version, skips) in [(9, true), (5, false)] {
        let mut harness = Harness::new(Settings::default());
        let joins = harness.join(G, with_instance("i", ""));
        let old = harness.joined(joins).member_id;
        let syncs = harness.sync(G, &old, 1, &[(&old, b"all")]);
        harness.flush();
        harness.synced(syncs);
        let joins = harness.join(G, Joining { version, ..with_instance("i", "") });
        assert!(!harness.responses.contains_key(&joins), "the new id is not durable");
        harness.flush();
        let join = harness.joined(joins);
        assert_eq!((join.error, join.generation), (ErrorCode::None, 1));
        assert_eq!((join.skip_assignment, join.members.len()), (skips, usize::from(skips)));
        assert_eq!(join.leader == join.member_id, skips);
        assert_ne!(join.member_id, old);
        assert_eq!(harness.state(G), "Stable");
        let syncs = harness.sync(G, &join.member_id, 1, &[]);
        assert_eq!(harness.synced(syncs).assignment, &b"all"[..]);
        let again = harness.join(G, with_instance("i", &old));
        assert_eq!(harness.joined(again).error, ErrorCode::FencedInstanceId);
        assert_eq!(harness.heartbeat(G, &old, 1), ErrorCode::UnknownMemberId);
        harness.restart();
        assert_eq!(harness.heartbeat(G, &join.member_id, 1), ErrorCode::None);
    }
}

#[test]
fn a_static_members_new_id_that_was_not_written_is_settled_by_the_next_generation() {
    let mut harness = Harness::new(Settings::default());
    let joins = harness.join(G, with_instance("i", ""));
    let old = harness.joined(joins).member_id;
    let syncs = harness.sync(G, &old, 1, &[(&old, b"all")]);
    harness.flush();
    harness.synced(syncs);
    let joins = harness.join(G, with_instance("i", ""));
    assert!(harness.finish_write(Err(WriteError::NotCoordinator)));
    assert_eq!(harness.joined(joins).error, ErrorCode::NotCoordinator);
    assert_eq!(harness.state(G), "PreparingRebalance");
    let joins = harness.join(G, with_instance("i", ""));
    let join = harness.joined(joins);
    assert_eq!((join.generation, join.members.len()), (2, 1));
}

#[test]
fn a_static_member_whose_new_id_took_long_to_write_still_has_a_session() {
    let mut harness = Harness::new(Settings::default());
    let joins = harness.join(G, with_instance("i", ""));
    let old = harness.joined(joins).member_id;
    let syncs = harness.sync(G, &old, 1, &[(&old, b"all")]);
    harness.flush();
    harness.synced(syncs);
    let joins = harness.join(G, with_instance("i", ""));
    harness.advance(20_000);
    harness.flush();
    let new = harness.joined(joins).member_id;
    harness.advance(20_000);
    assert_eq!(harness.heartbeat(G, &new, 1), ErrorCode::UnknownMemberId);
}

#[test]
fn static_members_stay_through_a_rebalance_that_they_miss_and_can_be_removed_by_name() {
    let mut harness = Harness::new(Settings::default());
    let long = Joining { session_timeout_ms: 300_000, ..with_instance("i", "") };
    let joins = harness.join(G, long);
    let fixed = harness.joined(joins).member_id;
    let second = harness.new_id(G);
    let second_joins = harness.join(G, with_id(&second));
    harness.advance(60_000);
    let join = harness.joined(second_joins);
    assert_eq!((join.generation, join.members.len()), (2, 2));
    assert_eq!(join.leader, second);
    let left = harness.leave(G, &[("", Some("i")), ("", Some("j")), (&second, Some("i"))]);
    let errors: Vec<_> = left.members.iter().map(|member| member.error).collect();
    assert_eq!(errors, [ErrorCode::None, ErrorCode::UnknownMemberId, ErrorCode::UnknownMemberId]);
    assert_eq!(harness.heartbeat(G, &fixed, 2), ErrorCode::UnknownMemberId);
}

#[test]
fn old_leave_requests_name_one_member() {
    let mut harness = Harness::new(Settings::default());
    let id = harness.stable_group(G);
    for (member_id, expected) in [("x", ErrorCode::UnknownMemberId), (&id, ErrorCode::None)] {
        let request = LeaveGroupRequest { group_id: G, member_id, ..LeaveGroupRequest::default() };
        let token =
            harness.call(2, |coordinator, caller, now| coordinator.leave(caller, &request, now));
        let response = harness.responses.remove(&token).expect("an answer");
        let bytes = response.encode(0, 2).expect("it fits").into_bytes();
        assert_eq!(bytes[bytes.len() - 2..], expected.code().to_be_bytes());
    }
}

#[test]
fn everybody_who_waits_is_answered_when_the_partition_moves_away() {
    let mut harness = Harness::new(Settings::default());
    let first = harness.stable_group(G);
    let second = harness.new_id(G);
    let waits = [harness.join(G, with_id(&second)), harness.commit("simple", ("", -1), &[(0, 1)])];
    assert_eq!(harness.heartbeat(G, &first, 1), ErrorCode::RebalanceInProgress);
    let answers = harness.coordinator.unload().responses;
    let mut tokens: Vec<_> = answers.iter().map(|(token, _)| *token).collect();
    tokens.sort_unstable();
    assert_eq!(tokens, waits);
    assert!(answers.iter().all(|(_, response)| match response {
        Response::Join(join) => join.error == ErrorCode::NotCoordinator,
        Response::OffsetCommit(commit) =>
            commit.topics[0].partitions == [(0, ErrorCode::NotCoordinator)],
        Response::Sync(_)
        | Response::Heartbeat(_)
        | Response::Leave(_)
        | Response::OffsetDelete(_)
        | Response::TxnOffsetCommit(_)
        | Response::TransactionEnded(_)
        | Response::ConsumerHeartbeat(_)
        | Response::DeleteGroups(_) => false,
    }));
}
