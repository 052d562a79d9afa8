//! Offsets that are part of transactions.

use coordinator::coordinator::GroupFilter;
use coordinator::offset_fetch::{GroupQuery, Stability, TopicQuery};
use coordinator::response::OffsetCommit;
use coordinator::transactions::{Outcome, ProducerIdentity};
use coordinator::{
    GroupCoordinator, Response, Settings, Token, TransactionEnd, WriteError, WriteForm,
};
use model::record_batch::{BatchOptions, NewRecord, RecordBatch, RecordBatchBuilder, attribute};
use model::{ErrorCode, ProducerEpoch, ProducerId, TimestampMs};
use wire::control_record::ControlRecord;
use wire::end_txn_marker::EndTxnMarker;
use wire::txn_offset_commit_request::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};

use crate::harness::{Harness, TOPIC, TOPIC_ID, resolve};

const G: &str = "g";

fn producer(id: i64) -> ProducerIdentity {
    ProducerIdentity { id: ProducerId(id), epoch: ProducerEpoch(0) }
}

/// A harness that keeps the batches of its log, as they were written.
struct Transactional {
    harness: Harness,
    batches: Vec<bytes::Bytes>,
}

/// Who commits: member, generation, version.
type Member<'a> = (&'a str, i32, i16);
const NOBODY: Member<'_> = ("", -1, 5);

impl Transactional {
    fn new() -> Transactional {
        let settings = Settings { offsets_retention_ms: 1000, ..Settings::default() };
        Transactional { harness: Harness::new(settings), batches: Vec::new() }
    }

    fn send(
        &mut self,
        id: i64,
        (member_id, generation, version): Member<'_>,
        offsets: &[(i32, i64)],
    ) -> Token {
        let partitions = offsets.iter().map(|(partition_index, committed_offset)| {
            TxnOffsetCommitRequestPartition {
                partition_index: *partition_index,
                committed_offset: *committed_offset,
                ..TxnOffsetCommitRequestPartition::default()
            }
        });
        let topic = TxnOffsetCommitRequestTopic {
            name: TOPIC,
            topic_id: TOPIC_ID,
            partitions: partitions.collect(),
        };
        let request = TxnOffsetCommitRequest {
            transactional_id: "t",
            group_id: G,
            producer_id: id,
            producer_epoch: 0,
            generation_id_or_member_epoch: generation,
            member_id,
            group_instance_id: None,
            topics: vec![topic],
        };
        self.harness.call(version, |coordinator, caller, now| {
            coordinator.commit_transactional_offsets(caller, &request, &resolve, now)
        })
    }

    fn answer(&mut self, token: Token) -> OffsetCommit {
        match self.harness.responses.remove(&token) {
            Some(Response::TxnOffsetCommit(commit)) => commit,
            other => panic!("no answer to a commit: {other:?}"),
        }
    }

    /// Makes all writes durable.
    fn flush(&mut self) {
        while let Some(write) = self.harness.writes.front() {
            let (options, records) = match write.form {
                WriteForm::Plain => (BatchOptions::default(), write.records.clone()),
                WriteForm::Transactional(producer) => {
                    (of(producer, attribute::TRANSACTIONAL), write.records.clone())
                }
                WriteForm::Marker(end) => {
                    let marker = EndTxnMarker { coordinator_epoch: end.coordinator_epoch };
                    let record = match end.outcome {
                        Outcome::Commit => ControlRecord::Commit(marker),
                        Outcome::Abort => ControlRecord::Abort(marker),
                    };
                    let (key, value) = record.encode().expect("a marker");
                    let flags = attribute::TRANSACTIONAL | attribute::CONTROL;
                    let record = coordinator::Record { key, value: Some(value) };
                    (of(end.producer, flags), vec![record])
                }
            };
            let mut builder = RecordBatchBuilder::new(options);
            for record in &records {
                let (key, value) = (Some(record.key.as_slice()), record.value.as_deref());
                let timestamp = TimestampMs(0);
                builder.append(&NewRecord { timestamp, key, value, headers: &[] });
            }
            self.batches.push(builder.build());
            self.harness.finish_write(Ok(()));
        }
    }

    fn commit(&mut self, id: i64, offsets: &[(i32, i64)]) {
        let token = self.send(id, NOBODY, offsets);
        self.flush();
        let answer = self.answer(token);
        let partitions = &answer.topics[0].partitions;
        assert!(partitions.iter().all(|(_, error)| *error == ErrorCode::None), "{answer:?}");
    }

    fn end(&mut self, id: i64, outcome: Outcome) -> Token {
        let end = TransactionEnd {
            producer: producer(id),
            outcome,
            coordinator_epoch: 3,
            transaction_version: 2,
        };
        self.harness
            .call(0, |coordinator, caller, now| coordinator.end_transaction(caller.token, end, now))
    }

    fn ended(&mut self, id: i64, outcome: Outcome) {
        let token = self.end(id, outcome);
        self.flush();
        let answer = self.harness.responses.remove(&token);
        assert_eq!(answer, Some(Response::TransactionEnded(ErrorCode::None)));
    }

    /// The process dies; another coordinator reads the log.
    fn restart(&mut self) {
        let harness = &mut self.harness;
        harness.writes.clear();
        let topics = harness.topics.clone();
        harness.coordinator = GroupCoordinator::new(harness.settings.clone(), topics);
        for bytes in &self.batches {
            let batch = RecordBatch::first(bytes).expect("a batch");
            let skipped = harness.coordinator.replay_batch(&batch);
            assert_eq!(skipped, Ok(Vec::new()));
        }
        let now = harness.now();
        let actions = harness.coordinator.loaded(now);
        assert!(actions.writes.is_empty() && actions.responses.is_empty());
    }

    /// The offset and the error of a partition.
    fn fetch(&self, partition: i32, stability: Stability) -> (i64, ErrorCode) {
        let topics = vec![TopicQuery {
            name: TOPIC.to_owned(),
            topic_id: TOPIC_ID,
            partitions: vec![partition],
        }];
        let query = |topics| GroupQuery {
            group_id: G.to_owned(),
            member_id: None,
            member_epoch: -1,
            stability,
            topics,
        };
        let coordinator = &self.harness.coordinator;
        let asked = coordinator.fetch_offsets(&query(Some(topics)));
        let one = &asked.topics()[0].partitions[0];
        let all = coordinator.fetch_offsets(&query(None));
        let all = all.topics().iter().flat_map(|topic| &topic.partitions);
        let in_all = all.into_iter().find(|other| other.partition == partition);
        if let Some(in_all) = in_all {
            assert_eq!(in_all, one);
        }
        (one.offset, one.error)
    }

    /// What is seen by who takes any offset, and by who wants a stable one.
    fn seen(&self, partition: i32) -> (i64, Result<i64, ErrorCode>) {
        let (any, error) = self.fetch(partition, Stability::Any);
        assert_eq!(error, ErrorCode::None);
        let stable = match self.fetch(partition, Stability::Required) {
            (offset, ErrorCode::None) => Ok(offset),
            (offset, error) => {
                assert_eq!(offset, -1);
                Err(error)
            }
        };
        (any, stable)
    }
}

fn of(producer: ProducerIdentity, flags: i16) -> BatchOptions {
    BatchOptions {
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        flags,
        ..BatchOptions::default()
    }
}

const UNSTABLE: Result<i64, ErrorCode> = Err(ErrorCode::UnstableOffsetCommit);

#[test]
fn offsets_hold_once_the_transaction_is_committed() {
    for outcome in [Outcome::Commit, Outcome::Abort] {
        for restarts in [false, true] {
            let mut log = Transactional::new();
            log.harness.commit(G, ("", -1), &[(0, 5)]);
            log.flush();
            log.commit(1, &[(0, 7), (1, 8)]);
            if restarts {
                log.restart();
            }
            assert_eq!(log.seen(0), (5, UNSTABLE));
            assert_eq!(log.seen(1), (-1, UNSTABLE));
            assert_eq!(log.seen(2), (-1, Ok(-1)));
            // Until the marker is durable nothing has changed.
            let token = log.end(1, outcome);
            assert_eq!(log.seen(0), (5, UNSTABLE));
            log.flush();
            assert!(log.harness.responses.contains_key(&token));
            let (zero, one) = if outcome == Outcome::Commit { (7, 8) } else { (5, -1) };
            for _ in 0..2 {
                assert_eq!(log.seen(0), (zero, Ok(zero)));
                assert_eq!(log.seen(1), (one, Ok(one)));
                log.restart();
            }
        }
    }
}

#[test]
fn what_comes_later_overtakes_what_is_pending() {
    let mut log = Transactional::new();
    log.commit(1, &[(0, 7), (1, 7)]);
    log.commit(2, &[(0, 8)]);
    log.harness.commit(G, ("", -1), &[(0, 5)]);
    log.flush();
    assert_eq!((log.seen(0), log.seen(1)), ((5, Ok(5)), (-1, UNSTABLE)));
    log.ended(1, Outcome::Commit);
    log.ended(2, Outcome::Commit);
    for _ in 0..2 {
        assert_eq!((log.seen(0), log.seen(1)), ((5, Ok(5)), (7, Ok(7))));
        log.restart();
    }
}

#[test]
fn a_failed_commit_or_end_changes_nothing() {
    let mut log = Transactional::new();
    let refused = WriteError::Refused(ErrorCode::InvalidProducerEpoch);
    for (error, told) in [
        (refused, ErrorCode::InvalidProducerEpoch),
        (WriteError::Unavailable, ErrorCode::CoordinatorNotAvailable),
        (WriteError::NotCoordinator, ErrorCode::NotCoordinator),
    ] {
        let token = log.send(1, NOBODY, &[(0, 7)]);
        assert!(log.harness.finish_write(Err(error)));
        assert_eq!(log.answer(token).topics[0].partitions, [(0, told)]);
        assert_eq!(log.seen(0), (-1, Ok(-1)));
        // The group was made for it, and is gone again.
        assert_eq!(log.harness.coordinator.group_count(), 0);
    }
    log.commit(1, &[(0, 7)]);
    for (error, told) in [
        (refused, ErrorCode::InvalidProducerEpoch),
        (WriteError::Unavailable, ErrorCode::NotEnoughReplicas),
        (WriteError::NotCoordinator, ErrorCode::NotLeaderOrFollower),
    ] {
        let token = log.end(1, Outcome::Commit);
        assert!(log.harness.finish_write(Err(error)));
        let answer = log.harness.responses.remove(&token);
        assert_eq!(answer, Some(Response::TransactionEnded(told)));
        assert_eq!(log.seen(0), (-1, UNSTABLE));
    }
    log.ended(1, Outcome::Commit);
    assert_eq!(log.seen(0), (7, Ok(7)));
}

#[test]
fn who_may_commit_is_judged_by_the_group() {
    let mut log = Transactional::new();
    let id = log.harness.stable_group(G);
    log.batches.clear();
    let cases: [(Member<'_>, ErrorCode); 6] = [
        ((&id, 1, 5), ErrorCode::None),
        // Old clients do not say who they are.
        (("", -1, 2), ErrorCode::None),
        ((&id, 2, 5), ErrorCode::IllegalGeneration),
        (("other", 1, 5), ErrorCode::UnknownMemberId),
        (("", 1, 5), ErrorCode::UnknownMemberId),
        (("", -1, 6), ErrorCode::None),
    ];
    for (member, expected) in cases {
        let token = log.send(1, member, &[(0, 7)]);
        while log.harness.finish_write(Ok(())) {}
        assert_eq!(log.answer(token).topics[0].partitions, [(0, expected)], "{member:?}");
    }
    let mut log = Transactional::new();
    for (version, expected) in [(5, ErrorCode::IllegalGeneration), (6, ErrorCode::GroupIdNotFound)]
    {
        let token = log.send(1, ("m", 3, version), &[(0, 7)]);
        assert_eq!(log.answer(token).topics[0].partitions, [(0, expected)]);
    }
    let token = log.send(1, NOBODY, &[(0, 1), (99, 1)]);
    log.flush();
    let expected = [(0, ErrorCode::None), (99, ErrorCode::UnknownTopicOrPartition)];
    assert_eq!(log.answer(token).topics[0].partitions, expected);
}

#[test]
fn a_group_with_something_pending_does_not_expire() {
    let mut log = Transactional::new();
    log.harness.commit(G, ("", -1), &[(0, 5), (1, 5)]);
    log.flush();
    log.commit(1, &[(0, 7)]);
    let interval_ms = log.harness.settings.retention_check_interval_ms;
    log.harness.advance(interval_ms + 2000);
    log.flush();
    assert_eq!((log.seen(0), log.seen(1)), ((5, UNSTABLE), (-1, Ok(-1))));
    log.ended(1, Outcome::Abort);
    log.harness.advance(interval_ms + 2000);
    log.flush();
    assert_eq!(log.seen(0), (-1, Ok(-1)));
    assert_eq!(log.harness.coordinator.list_groups(&GroupFilter::default()), []);
}

#[test]
fn a_group_that_is_deleted_takes_what_is_pending_with_it() {
    let mut log = Transactional::new();
    log.harness.commit(G, ("", -1), &[(1, 5)]);
    log.flush();
    log.commit(1, &[(0, 7)]);
    log.harness.call(2, |coordinator, caller, now| coordinator.delete_groups(caller, &[G], now));
    log.flush();
    for _ in 0..2 {
        log.ended(1, Outcome::Commit);
        assert_eq!((log.seen(0), log.seen(1)), ((-1, Ok(-1)), (-1, Ok(-1))));
        assert_eq!(log.harness.coordinator.group_count(), 0);
        log.restart();
    }
}
