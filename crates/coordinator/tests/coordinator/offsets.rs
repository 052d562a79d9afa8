//! Offsets: who may commit them, when they are seen, and when they go.

use std::rc::Rc;

use coordinator::coordinator::GroupFilter;
use coordinator::offset_fetch::{self, GroupQuery, Stability};
use coordinator::{Actions, GroupCoordinator, Response, Settings, WriteError};
use model::record_batch::{BatchOptions, NewRecord, RecordBatch, RecordBatchBuilder, attribute};
use model::{ErrorCode, ProducerId, TimestampMs, TopicId, Uuid};
use wire::consumer_offsets_record::ConsumerOffsetsRecord;
use wire::control_record::ControlRecord;
use wire::coordinator_record::decode_consumer_offsets_record;
use wire::end_txn_marker::EndTxnMarker;
use wire::offset_commit_request::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use wire::offset_delete_request::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use wire::offset_fetch_request::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};

use crate::harness::{
    Harness, Joining, LogRecord, TOPIC, TOPIC_ID, TestTopics, offset_in, resolve,
};

const G: &str = "group";
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const SIMPLE: (&str, i32) = ("", -1);

fn harness() -> Harness {
    Harness::new(Settings::default())
}

fn commit_error(harness: &mut Harness, group: &str, member: (&str, i32)) -> ErrorCode {
    let token = harness.commit(group, member, &[(0, 5)]);
    harness.flush();
    harness.committed(token).topics[0].partitions[0].1
}

#[test]
fn offsets_are_seen_when_they_are_durable_and_not_before() {
    let mut harness = harness();
    let token = harness.commit(G, SIMPLE, &[(0, 5), (1, 6)]);
    assert_eq!(harness.offset(G, 0), -1);
    assert!(harness.responses.is_empty());
    harness.flush();
    assert_eq!(harness.committed(token).topics[0].partitions.len(), 2);
    assert_eq!((harness.offset(G, 0), harness.offset(G, 1)), (5, 6));
    harness.restart();
    assert_eq!((harness.offset(G, 0), harness.offset(G, 1), harness.offset(G, 2)), (5, 6, -1));
}

#[test]
fn an_offset_that_was_not_written_was_not_committed() {
    let cases = [
        (WriteError::TooLarge, ErrorCode::InvalidCommitOffsetSize),
        (WriteError::NotCoordinator, ErrorCode::NotCoordinator),
        (WriteError::Unavailable, ErrorCode::CoordinatorNotAvailable),
    ];
    for (error, expected) in cases {
        let mut harness = harness();
        let token = harness.commit(G, SIMPLE, &[(0, 5)]);
        harness.finish_write(Err(error));
        assert_eq!(harness.committed(token).topics[0].partitions, [(0, expected)]);
        assert_eq!((harness.offset(G, 0), harness.coordinator.group_count()), (-1, 0));
    }
}

#[test]
fn only_members_of_this_generation_commit_while_there_are_members() {
    let mut harness = harness();
    let id = harness.stable_group(G);
    let cases = [
        ((id.as_str(), 1), ErrorCode::None),
        ((id.as_str(), 2), ErrorCode::IllegalGeneration),
        (("nobody", 1), ErrorCode::UnknownMemberId),
        (("", 1), ErrorCode::UnknownMemberId),
        (SIMPLE, ErrorCode::UnknownMemberId),
        ((id.as_str(), -1), ErrorCode::IllegalGeneration),
    ];
    for (member, expected) in cases {
        assert_eq!(commit_error(&mut harness, G, member), expected, "{member:?}");
    }
    assert_eq!(commit_error(&mut harness, "other", ("x", 1)), ErrorCode::GroupIdNotFound);
    assert_eq!(commit_error(&mut harness, "other", ("x", -1)), ErrorCode::None);
    let joins = harness.join(G, Joining { member_id: &id, ..Joining::default() });
    assert_eq!(harness.joined(joins).generation, 2);
    assert_eq!(commit_error(&mut harness, G, (&id, 2)), ErrorCode::RebalanceInProgress);
    harness.leave(G, &[(&id, None)]);
    harness.flush();
    assert_eq!(commit_error(&mut harness, G, SIMPLE), ErrorCode::None);
    assert_eq!(harness.offset(G, 0), 5);
}

#[test]
fn what_cannot_be_committed_is_refused_one_by_one() {
    let mut harness = harness();
    let long = "ä".repeat(4097);
    let partition = |partition_index, committed_metadata| OffsetCommitRequestPartition {
        partition_index,
        committed_offset: 1,
        committed_metadata,
        ..OffsetCommitRequestPartition::default()
    };
    let topic = |name, partitions| OffsetCommitRequestTopic {
        name,
        partitions,
        ..OffsetCommitRequestTopic::default()
    };
    let good = vec![
        partition(8, None),
        partition(-1, None),
        partition(0, None),
        partition(1, Some(&long)),
        partition(2, Some(&long[..8192])),
    ];
    let request = OffsetCommitRequest {
        group_id: G,
        topics: vec![topic(TOPIC, good), topic("gone", vec![partition(0, None)])],
        ..OffsetCommitRequest::default()
    };
    let token = harness.commit_request(9, &request);
    harness.flush();
    let answer = harness.committed(token);
    let results: Vec<_> =
        answer.topics.iter().flat_map(|topic| &topic.partitions).map(|(_, error)| *error).collect();
    assert_eq!(
        results,
        [
            ErrorCode::UnknownTopicOrPartition,
            ErrorCode::UnknownTopicOrPartition,
            ErrorCode::None,
            ErrorCode::OffsetMetadataTooLarge,
            ErrorCode::None,
            ErrorCode::UnknownTopicOrPartition,
        ]
    );
    let only_bad = OffsetCommitRequest { topics: request.topics[1..].to_vec(), ..request };
    let token = harness.commit_request(9, &only_bad);
    assert!(harness.writes.is_empty());
    harness.committed(token);
}

#[test]
fn records_are_apache_kafkas() {
    let mut harness = harness();
    let id = harness.stable_group(G);
    harness.commit(G, (&id, 1), &[(3, 9)]);
    harness.flush();
    let versions: Vec<_> =
        harness.log.iter().map(|(_, value)| value.as_ref().map(|bytes| bytes[1])).collect();
    assert_eq!(versions, [Some(3), Some(4)]);
    let (key, value) = &harness.log[1];
    let record = decode_consumer_offsets_record(key, value.as_deref()).expect("a record");
    let ConsumerOffsetsRecord::OffsetCommit(key, Some(value)) = record else {
        panic!("{record:?}");
    };
    assert_eq!((key.group, key.topic, key.partition), (G, TOPIC, 3));
    assert_eq!((value.offset, value.leader_epoch, value.metadata), (9, -1, "meta"));
    assert_eq!((value.topic_id, value.commit_timestamp), (TOPIC_ID, harness.now().wall.0));
    let (key, value) = &harness.log[0];
    let record = decode_consumer_offsets_record(key, value.as_deref()).expect("a record");
    let ConsumerOffsetsRecord::GroupMetadata(_, Some(value)) = record else {
        panic!("{record:?}");
    };
    assert_eq!((value.protocol_type, value.generation), ("consumer", 1));
    assert_eq!((value.protocol, value.leader), (Some("range"), Some(id.as_str())));
    let member = &value.members[0];
    assert_eq!((member.client_id, member.client_host), ("client", "/127.0.0.1"));
    assert_eq!((member.rebalance_timeout, member.session_timeout), (60_000, 10_000));
    assert_eq!(member.assignment, b"all");
}

#[test]
fn foreign_records_are_skipped_and_broken_ones_refused() {
    let mut harness = harness();
    let coordinator = &mut harness.coordinator;
    let share_group_metadata = b"\0\x0b\0\x01g";
    let replayed = coordinator.replay(share_group_metadata, None);
    assert_eq!(replayed, Ok(coordinator::coordinator::Replayed::Skipped));
    let replayed = coordinator.replay(b"\x7f\0", None);
    assert_eq!(replayed, Ok(coordinator::coordinator::Replayed::Skipped));
    for (key, value) in [(&b"\0"[..], None), (b"\0\x02\0\x01g", Some(&b"\0\x03\0"[..]))] {
        assert!(coordinator.replay(key, value).is_err());
    }
    assert_eq!(coordinator.group_count(), 0);
}

#[test]
fn offsets_of_transactions_hold_when_their_end_says_so() {
    let mut harness = harness();
    for offset in 5..8 {
        harness.commit(G, SIMPLE, &[(0, offset)]);
    }
    harness.flush();
    let [five, six, seven] = [0, 1, 2].map(|at| harness.log[at].clone());
    let batch = |producer: i64, flags, (key, value): &LogRecord| {
        let options =
            BatchOptions { producer_id: ProducerId(producer), flags, ..BatchOptions::default() };
        let mut builder = RecordBatchBuilder::new(options);
        builder.append(&NewRecord {
            timestamp: TimestampMs(0),
            key: Some(key),
            value: value.as_deref(),
            headers: &[],
        });
        builder.build()
    };
    let plain = |record| batch(-1, 0, record);
    let pending = |producer, record| batch(producer, attribute::TRANSACTIONAL, record);
    let ended = |producer, marker: ControlRecord<'_>| {
        let (key, value) = marker.encode().expect("a marker");
        let flags = attribute::TRANSACTIONAL | attribute::CONTROL;
        batch(producer, flags, &(key, Some(value)))
    };
    let commits = |producer| ended(producer, ControlRecord::Commit(EndTxnMarker::default()));
    let aborts = |producer| ended(producer, ControlRecord::Abort(EndTxnMarker::default()));
    let cases = [
        (vec![plain(&five), pending(1, &six)], 5),
        (vec![plain(&five), pending(1, &six), commits(1)], 6),
        (vec![plain(&five), pending(1, &six), aborts(1)], 5),
        (vec![pending(1, &six), aborts(1), pending(1, &seven), commits(1)], 7),
        (vec![pending(1, &six), pending(2, &seven), commits(2), commits(1)], 6),
        // A plain commit overtakes what an open transaction said before it.
        (vec![pending(1, &six), plain(&five), commits(1)], 5),
    ];
    for (number, (batches, expected)) in cases.iter().enumerate() {
        let mut coordinator =
            GroupCoordinator::new(Settings::default(), Rc::new(TestTopics::default()));
        for bytes in batches {
            let batch = RecordBatch::first(bytes).expect("a batch");
            assert_eq!(coordinator.replay_batch(&batch), Ok(Vec::new()));
        }
        assert_eq!(coordinator.loaded(harness.now()), Actions::default());
        assert_eq!(offset_in(&coordinator, G, 0), *expected, "case {number}");
    }
}

#[test]
fn offset_fetch_has_the_shape_of_its_version() {
    let mut harness = harness();
    harness.commit(G, SIMPLE, &[(0, 5)]);
    harness.flush();
    let resolve = |name: &str, id: TopicId| {
        (name == TOPIC || id == TOPIC_ID).then(|| (TOPIC.to_owned(), TOPIC_ID))
    };
    let answer = |request: &OffsetFetchRequest<'_>, version| {
        let queries = offset_fetch::queries(request, version, &resolve);
        let fetched: Vec<_> =
            queries.iter().map(|query| harness.coordinator.fetch_offsets(query)).collect();
        let response = offset_fetch::response(&fetched, version);
        wire::encode(&response, version).expect("it fits").to_vec()
    };
    let expect = |bytes: &[u8], version| {
        let response: wire::offset_fetch_response::OffsetFetchResponse<'_> =
            wire::decode(bytes, version).expect("a response");
        let old = response.topics.iter().flat_map(|topic| {
            topic
                .partitions
                .iter()
                .map(|one| (one.partition_index, one.committed_offset, one.error_code))
        });
        let groups = response.groups.iter().flat_map(|group| &group.topics);
        let new = groups.flat_map(|topic| {
            topic
                .partitions
                .iter()
                .map(|one| (one.partition_index, one.committed_offset, one.error_code))
        });
        old.chain(new).collect::<Vec<_>>()
    };
    for version in 1..=7 {
        let topics = vec![OffsetFetchRequestTopic { name: TOPIC, partition_indexes: vec![0, 1] }];
        let request = OffsetFetchRequest {
            group_id: G,
            topics: Some(topics),
            ..OffsetFetchRequest::default()
        };
        assert_eq!(expect(&answer(&request, version), version), [(0, 5, 0), (1, -1, 0)]);
        let all = OffsetFetchRequest { topics: None, ..request };
        assert_eq!(expect(&answer(&all, version), version), [(0, 5, 0)]);
    }
    for version in 8..=10 {
        let topic = |name, topic_id| OffsetFetchRequestTopics {
            name,
            topic_id,
            partition_indexes: vec![0],
        };
        let group = |group_id, topics| OffsetFetchRequestGroup {
            group_id,
            topics,
            ..OffsetFetchRequestGroup::default()
        };
        let topics = if version < 10 {
            [topic(TOPIC, TopicId::ZERO), topic("gone", TopicId::ZERO)]
        } else {
            [topic("", TOPIC_ID), topic("", Uuid::from_random(1, 1))]
        };
        let gone = if version < 10 { 0 } else { ErrorCode::UnknownTopicId.code() };
        let request = OffsetFetchRequest {
            groups: vec![group(G, Some(topics.to_vec())), group(G, None), group("other", None)],
            ..OffsetFetchRequest::default()
        };
        let expected = [(0, 5, 0), (0, -1, gone), (0, 5, 0)];
        assert_eq!(expect(&answer(&request, version), version), expected, "{version}");
    }
}

#[test]
fn the_offset_of_a_deleted_topic_is_none_of_its_namesake() {
    let mut harness = harness();
    harness.commit(G, SIMPLE, &[(0, 5)]);
    harness.flush();
    let query = |topic_id| GroupQuery {
        member_id: None,
        member_epoch: -1,
        group_id: G.to_owned(),
        stability: Stability::Any,
        topics: Some(vec![offset_fetch::TopicQuery {
            name: TOPIC.to_owned(),
            topic_id,
            partitions: vec![0],
        }]),
    };
    let offset = |harness: &Harness, topic_id| {
        harness.coordinator.fetch_offsets(&query(topic_id)).topics()[0].partitions[0].offset
    };
    assert_eq!(offset(&harness, TOPIC_ID), 5);
    assert_eq!(offset(&harness, TopicId::ZERO), 5);
    assert_eq!(offset(&harness, Uuid::from_random(1, 1)), -1);
    let now = harness.now();
    let actions = harness.coordinator.topics_deleted(&[TOPIC], now);
    assert!(actions.responses.is_empty());
    harness.writes.extend(actions.writes);
    harness.flush();
    assert_eq!((offset(&harness, TOPIC_ID), harness.coordinator.group_count()), (-1, 0));
    harness.restart();
    assert_eq!(harness.coordinator.group_count(), 0);
}

#[test]
fn groups_are_deleted_when_they_have_no_members() {
    let mut harness = harness();
    let id = harness.stable_group(G);
    harness.commit(G, (&id, 1), &[(0, 5)]);
    harness.commit("simple", SIMPLE, &[(0, 5)]);
    harness.flush();
    let delete = |harness: &mut Harness| {
        harness.call(2, |coordinator, caller, now| {
            coordinator.delete_groups(caller, &[G, "simple", "other", "simple"], now)
        })
    };
    let results = |harness: &mut Harness, token| match harness.responses.remove(&token) {
        Some(Response::DeleteGroups(results)) => {
            results.into_iter().map(|(_, error)| error).collect::<Vec<_>>()
        }
        other => panic!("{other:?}"),
    };
    let failing = delete(&mut harness);
    assert_eq!(commit_error_of_dead(&mut harness), ErrorCode::CoordinatorNotAvailable);
    assert_eq!(harness.offset("simple", 0), 5);
    harness.finish_write(Err(WriteError::Unavailable));
    assert_eq!(
        results(&mut harness, failing),
        [ErrorCode::NonEmptyGroup, ErrorCode::CoordinatorNotAvailable, ErrorCode::GroupIdNotFound]
    );
    assert_eq!(harness.offset("simple", 0), 5);
    let token = delete(&mut harness);
    harness.flush();
    assert_eq!(
        results(&mut harness, token),
        [ErrorCode::NonEmptyGroup, ErrorCode::None, ErrorCode::GroupIdNotFound]
    );
    assert_eq!(harness.offset("simple", 0), -1);
    harness.restart();
    assert_eq!((harness.coordinator.group_count(), harness.offset(G, 0)), (1, 5));
}

fn commit_error_of_dead(harness: &mut Harness) -> ErrorCode {
    let token = harness.commit("simple", SIMPLE, &[(0, 9)]);
    harness.committed(token).topics[0].partitions[0].1
}

#[test]
fn offsets_that_members_use_are_not_deleted() {
    // A subscription to "orders", as a consumer writes it.
    let subscription = b"\0\0\0\0\0\x01\0\x06orders\0\0\0\0";
    let mut harness = harness();
    harness.commit(G, SIMPLE, &[(0, 5), (1, 6)]);
    harness.flush();
    let delete = |harness: &mut Harness, group| {
        let partition = |partition_index| OffsetDeleteRequestPartition { partition_index };
        let request = OffsetDeleteRequest {
            group_id: group,
            topics: vec![OffsetDeleteRequestTopic {
                name: TOPIC,
                partitions: vec![partition(0), partition(7), partition(8)],
            }],
        };
        let token = harness.call(0, |coordinator, caller, now| {
            coordinator.delete_offsets(caller, &request, &resolve, now)
        });
        harness.flush();
        match harness.responses.remove(&token) {
            Some(Response::OffsetDelete(answer)) => answer,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(delete(&mut harness, "other").error, ErrorCode::GroupIdNotFound);
    let joins = harness.join(
        G,
        Joining { version: 3, protocols: &[("range", subscription)], ..Joining::default() },
    );
    let id = harness.joined(joins).member_id;
    let answer = delete(&mut harness, G);
    let errors = answer.topics[0].1.iter().map(|(_, error)| *error).collect::<Vec<_>>();
    let used = ErrorCode::GroupSubscribedToTopic;
    assert_eq!(errors, [used, used, ErrorCode::UnknownTopicOrPartition]);
    harness.leave(G, &[(&id, None)]);
    harness.flush();
    let answer = delete(&mut harness, G);
    assert_eq!(answer.topics[0].1[..2], [(0, ErrorCode::None), (7, ErrorCode::None)]);
    assert_eq!((harness.offset(G, 0), harness.offset(G, 1)), (-1, 6));
    harness.restart();
    assert_eq!((harness.offset(G, 0), harness.offset(G, 1)), (-1, 6));
    // A group with nothing left is still there, whoever comes to it.
    harness.commit("simple", SIMPLE, &[(0, 5)]);
    harness.flush();
    assert_eq!(delete(&mut harness, "simple").error, ErrorCode::None);
    let joins = harness.join("simple", Joining { member_id: "nobody", ..Joining::default() });
    assert_eq!(harness.joined(joins).error, ErrorCode::UnknownMemberId);
    assert_eq!(harness.state("simple"), "Empty");
}

#[test]
fn offsets_expire_when_nobody_uses_them() {
    let subscription = b"\0\0\0\0\0\x01\0\x06orders\0\0\0\0";
    let mut harness = harness();
    harness.commit("simple", SIMPLE, &[(0, 5)]);
    let joins = harness.join(
        G,
        Joining {
            version: 3,
            protocols: &[("range", subscription)],
            session_timeout_ms: 1_800_000,
            ..Joining::default()
        },
    );
    let id = harness.joined(joins).member_id;
    harness.sync(G, &id, 1, &[]);
    harness.flush();
    harness.commit(G, (&id, 1), &[(0, 5)]);
    harness.flush();
    let live = |harness: &mut Harness, ms: u64| {
        for _ in 0..ms / 600_000 {
            harness.advance(600_000);
            harness.flush();
            harness.heartbeat(G, &id, 1);
        }
    };
    live(&mut harness, 6 * DAY_MS);
    assert_eq!((harness.offset("simple", 0), harness.offset(G, 0)), (5, 5));
    live(&mut harness, 2 * DAY_MS);
    assert_eq!((harness.offset("simple", 0), harness.offset(G, 0)), (-1, 5));
    harness.leave(G, &[(&id, None)]);
    harness.flush();
    live(&mut harness, 6 * DAY_MS);
    assert_eq!(harness.offset(G, 0), 5);
    live(&mut harness, 2 * DAY_MS);
    assert_eq!((harness.offset(G, 0), harness.coordinator.group_count()), (-1, 0));
    assert_eq!(offset_in(&harness.replayed(), G, 0), -1);
    assert_eq!(harness.replayed().group_count(), 0);
}

#[test]
fn an_offset_under_way_does_not_expire() {
    let mut harness = harness();
    harness.commit(G, SIMPLE, &[(0, 5)]);
    harness.flush();
    harness.advance(7 * DAY_MS - 1);
    harness.commit(G, SIMPLE, &[(0, 6)]);
    harness.advance(600_000);
    harness.flush();
    assert_eq!(harness.offset(G, 0), 6);
    assert_eq!(offset_in(&harness.replayed(), G, 0), 6);
}

#[test]
fn groups_are_listed_by_state() {
    let mut harness = harness();
    harness.stable_group(G);
    harness.commit("simple", SIMPLE, &[(0, 5)]);
    harness.flush();
    let list = |states: &[&'static str], types: &[&'static str]| {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let filter = GroupFilter { states: owned(states), types: owned(types) };
        let groups = harness.coordinator.list_groups(&filter);
        groups.into_iter().map(|group| (group.group_id, group.state)).collect::<Vec<_>>()
    };
    let stable = (G.to_owned(), "Stable");
    let empty = ("simple".to_owned(), "Empty");
    assert_eq!(list(&[], &[]), [stable.clone(), empty.clone()]);
    assert_eq!(list(&["stable"], &["Classic"]), [stable]);
    assert_eq!(list(&["Empty", "Dead"], &[]), [empty]);
    assert_eq!(list(&[], &["consumer"]), []);
    let description = harness.coordinator.describe_group(G);
    assert_eq!((description.protocol.as_str(), description.members.len()), ("range", 1));
    assert_eq!(description.members[0].assignment, &b"all"[..]);
    let missing = harness.coordinator.describe_group("other");
    assert_eq!(missing.to_wire(5).error_code, 0);
    assert_eq!(missing.to_wire(6).error_code, ErrorCode::GroupIdNotFound.code());
    assert_eq!(missing.to_wire(5).group_state, "Dead");
}
