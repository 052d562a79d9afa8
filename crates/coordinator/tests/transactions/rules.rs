//! What Apache Kafka's clients count on, one promise a test.

use coordinator::WriteError;
use coordinator::transactions::{Outcome, TransactionFilter, TransactionState};
use model::ErrorCode;

use crate::harness::{Harness, TIMEOUT_MS, identity, partitions};

const FIRST: i16 = 0;
const SECOND: i16 = 2;

#[test]
fn a_transaction_of_the_first_generation_keeps_its_epoch() {
    let mut harness = Harness::new(FIRST);
    let producer = harness.init("a").unwrap();
    assert_eq!(producer, identity(1000, 0));
    for (outcome, complete) in [
        (Outcome::Commit, TransactionState::CompleteCommit),
        (Outcome::Abort, TransactionState::CompleteAbort),
    ] {
        assert_eq!(harness.add("a", producer, &[0, 1]), ErrorCode::None);
        assert_eq!(harness.describe("a").unwrap().partitions, partitions(&[0, 1]));
        let token = harness.ask_end("a", producer, outcome, FIRST);
        assert_eq!(harness.identity_of(token), None, "not answered before it is durable");
        harness.finish_write(Ok(()));
        assert_eq!(harness.identity_of(token).unwrap(), Ok(producer));
        // While markers are on their way nothing else happens.
        let early = harness.ask_add("a", producer, &[2], FIRST);
        assert_eq!(harness.added(early), Some(ErrorCode::ConcurrentTransactions));
        let [markers] = &harness.settle()[..] else { panic!("one transaction ended") };
        assert_eq!((markers.producer, markers.outcome), (producer, outcome));
        assert_eq!(markers.partitions, partitions(&[0, 1]));
        assert_eq!(harness.describe("a").unwrap().state, complete);
        // An end that comes again is answered as the first; the other end is refused.
        assert!(harness.end("a", producer, outcome).is_ok());
        let other = if outcome == Outcome::Commit { Outcome::Abort } else { Outcome::Commit };
        assert_eq!(harness.end("a", producer, other), Err(ErrorCode::InvalidTxnState));
    }
}

#[test]
fn each_end_of_the_second_generation_bumps_the_epoch() {
    let mut harness = Harness::new(SECOND);
    let producer = harness.init("a").unwrap();
    assert_eq!(harness.add("a", producer, &[3]), ErrorCode::None);
    let token = harness.ask_end("a", producer, Outcome::Commit, SECOND);
    let [markers] = &harness.settle()[..] else { panic!("one transaction ended") };
    assert_eq!(markers.producer, identity(1000, 1));
    assert_eq!(harness.identity_of(token).unwrap(), Ok(identity(1000, 1)));
    // The retry of the end; a delayed end cannot hit the next transaction.
    assert_eq!(harness.end("a", producer, Outcome::Commit), Ok(identity(1000, 1)));
    assert_eq!(harness.add("a", identity(1000, 1), &[4]), ErrorCode::None);
    assert_eq!(harness.end("a", producer, Outcome::Commit), Err(ErrorCode::ProducerFenced));
    assert_eq!(harness.add("a", producer, &[5]), ErrorCode::ProducerFenced);
    assert_eq!(harness.end("a", identity(1000, 1), Outcome::Abort), Ok(identity(1000, 2)));
    // An abort of nothing bumps, too; a commit of nothing is refused.
    let nothing = identity(1000, 2);
    assert_eq!(harness.end("a", nothing, Outcome::Commit), Err(ErrorCode::InvalidTxnState));
    assert_eq!(harness.end("a", nothing, Outcome::Abort), Ok(identity(1000, 3)));
}

#[test]
fn a_new_producer_fences_the_old_one_and_aborts_its_transaction() {
    for version in [FIRST, SECOND] {
        let mut harness = Harness::new(version);
        let old = harness.init("a").unwrap();
        assert_eq!(harness.add("a", old, &[0]), ErrorCode::None);
        let token = harness.ask_init("a", TIMEOUT_MS, None);
        let [markers] = &harness.settle()[..] else { panic!("one transaction was aborted") };
        assert_eq!((markers.producer, markers.outcome), (identity(1000, 1), Outcome::Abort));
        assert_eq!(harness.identity_of(token), Some(Err(ErrorCode::ConcurrentTransactions)));
        assert_eq!(harness.init("a"), Ok(identity(1000, 2)));
        assert_eq!(harness.add("a", old, &[0]), ErrorCode::ProducerFenced);
        assert_eq!(harness.end("a", old, Outcome::Commit), Err(ErrorCode::ProducerFenced));
        assert_eq!(harness.init_again("a", old), Err(ErrorCode::ProducerFenced));
    }
}

#[test]
fn a_producer_that_says_who_it_was_may_ask_again() {
    let mut harness = Harness::new(FIRST);
    let first = harness.init("a").unwrap();
    let second = harness.init_again("a", first).unwrap();
    assert_eq!(second, identity(1000, 1));
    assert_eq!(harness.init_again("a", first), Ok(second));
    assert_eq!(harness.init("a"), Ok(identity(1000, 2)));
    assert_eq!(harness.init_again("a", first), Err(ErrorCode::ProducerFenced));
    assert_eq!(harness.init_again("a", identity(7, 0)), Err(ErrorCode::ProducerFenced));
}

#[test]
fn a_producer_with_exhausted_epochs_gets_another_id() {
    let mut harness = Harness::new(FIRST);
    let mut producer = harness.init("a").unwrap();
    while producer.epoch.0 < i16::MAX - 1 {
        producer = harness.init("a").unwrap();
    }
    assert_eq!(harness.init_again("a", producer), Ok(identity(1001, 0)));
    // The answer was lost: the producer asks as who it was.
    assert_eq!(harness.init_again("a", producer), Ok(identity(1001, 0)));

    let mut harness = Harness::new(SECOND);
    let mut producer = harness.init("a").unwrap();
    while producer.epoch.0 < i16::MAX - 1 {
        producer = harness.end("a", producer, Outcome::Abort).unwrap();
    }
    assert_eq!(harness.add("a", producer, &[0]), ErrorCode::None);
    let token = harness.ask_end("a", producer, Outcome::Commit, SECOND);
    let [markers] = &harness.settle()[..] else { panic!("one transaction ended") };
    assert_eq!(markers.producer, identity(1000, i16::MAX));
    assert_eq!(harness.identity_of(token).unwrap(), Ok(identity(1001, 0)));
    assert_eq!(harness.end("a", producer, Outcome::Commit), Ok(identity(1001, 0)));
    assert_eq!(harness.add("a", identity(1001, 0), &[0]), ErrorCode::None);
}

#[test]
fn a_transaction_that_takes_too_long_is_aborted() {
    for version in [FIRST, SECOND] {
        let mut harness = Harness::new(version);
        let producer = harness.init("a").unwrap();
        harness.add("a", producer, &[0]);
        harness.advance(u64::try_from(TIMEOUT_MS).unwrap());
        assert!(harness.writes.is_empty(), "not yet");
        harness.advance(harness.settings.abort_interval_ms);
        let [markers] = &harness.settle()[..] else { panic!("one transaction was aborted") };
        assert_eq!((markers.producer, markers.outcome), (identity(1000, 1), Outcome::Abort));
        let told = harness.end("a", producer, Outcome::Commit);
        // In the second generation the epoch is that of a retry, but the end is another one.
        let expected =
            if version == FIRST { ErrorCode::ProducerFenced } else { ErrorCode::InvalidTxnState };
        assert_eq!(told, Err(expected));
        assert_eq!(harness.add("a", producer, &[0]), ErrorCode::ProducerFenced);
    }
}

#[test]
fn a_prepared_transaction_ends_so_after_a_crash() {
    for outcome in [Outcome::Commit, Outcome::Abort] {
        let mut harness = Harness::new(FIRST);
        let producer = harness.init("a").unwrap();
        harness.add("a", producer, &[0, 7]);
        harness.ask_end("a", producer, outcome, FIRST);
        harness.finish_write(Ok(()));
        harness.restart();
        let token = harness.ask_end("a", producer, outcome, FIRST);
        assert_eq!(harness.identity_of(token), Some(Err(ErrorCode::ConcurrentTransactions)));
        let [markers] = &harness.settle()[..] else { panic!("markers are written anew") };
        assert_eq!((markers.outcome, &markers.partitions), (outcome, &partitions(&[0, 7])));
        assert!(harness.end("a", producer, outcome).is_ok());
    }
}

#[test]
fn a_failed_write_changes_nothing() {
    let mut harness = Harness::new(SECOND);
    let token = harness.ask_init("a", TIMEOUT_MS, None);
    harness.finish_write(Err(WriteError::Unavailable));
    let told = harness.identity_of(token);
    assert_eq!(told, Some(Err(ErrorCode::CoordinatorNotAvailable)));
    assert_eq!(harness.describe("a"), Err(ErrorCode::TransactionalIdNotFound));
    let producer = harness.init("a").unwrap();
    let token = harness.ask_add("a", producer, &[0], SECOND);
    harness.finish_write(Err(WriteError::NotCoordinator));
    assert_eq!(harness.added(token), Some(ErrorCode::NotCoordinator));
    assert_eq!(harness.describe("a").unwrap().state, TransactionState::Empty);
    harness.add("a", producer, &[0]);
    let token = harness.ask_end("a", producer, Outcome::Commit, SECOND);
    harness.finish_write(Err(WriteError::Unavailable));
    assert_eq!(harness.identity_of(token), Some(Err(ErrorCode::CoordinatorNotAvailable)));
    assert!(harness.markers.is_empty());
    // The markers are written and the completion is not: it is written again.
    harness.ask_end("a", producer, Outcome::Commit, SECOND);
    harness.finish_write(Ok(()));
    harness.is_full = true;
    harness.finish_markers();
    harness.finish_write(Err(WriteError::Unavailable));
    harness.is_full = false;
    assert_eq!(harness.describe("a").unwrap().state, TransactionState::PrepareCommit);
    harness.advance(1_000);
    assert!(harness.settle().is_empty(), "no markers are written again");
    assert_eq!(harness.describe("a").unwrap().state, TransactionState::CompleteCommit);
}

#[test]
fn ids_that_nobody_uses_are_forgotten() {
    let mut harness = Harness::new(FIRST);
    let busy = harness.init("busy").unwrap();
    harness.init("idle").unwrap();
    harness.add("busy", busy, &[0]);
    let week_ms = u64::try_from(harness.settings.id_expiration_ms).unwrap();
    harness.coordinator.set_transaction_version(FIRST);
    harness.advance(week_ms);
    // The open transaction is aborted for its time; it is no idle id.
    harness.settle();
    assert_eq!(harness.describe("idle"), Err(ErrorCode::TransactionalIdNotFound));
    assert!(harness.describe("busy").is_ok());
    assert_eq!(Harness::names(&harness.replayed(), harness.now()), ["busy"]);
}

#[test]
fn only_what_was_added_is_verified() {
    let mut harness = Harness::new(FIRST);
    let producer = harness.init("a").unwrap();
    let verify = |harness: &Harness, id: &str, producer| {
        let all = harness.coordinator.verify_partitions(id, producer, &partitions(&[0, 1]));
        let errors: Vec<ErrorCode> = all.into_iter().map(|(_, _, error)| error).collect();
        <[ErrorCode; 2]>::try_from(errors).unwrap()
    };
    harness.add("a", producer, &[0]);
    let mixed = [ErrorCode::None, ErrorCode::TransactionAbortable];
    assert_eq!(verify(&harness, "a", producer), mixed);
    assert_eq!(verify(&harness, "b", producer), [ErrorCode::InvalidProducerIdMapping; 2]);
    assert_eq!(verify(&harness, "a", identity(1000, 9)), [ErrorCode::ProducerFenced; 2]);
    assert_eq!(verify(&harness, "", producer), [ErrorCode::InvalidRequest; 2]);
    harness.ask_end("a", producer, Outcome::Commit, FIRST);
    harness.finish_write(Ok(()));
    assert_eq!(verify(&harness, "a", producer), [ErrorCode::ConcurrentTransactions; 2]);
}

#[test]
fn foreign_requests_are_refused() {
    let mut harness = Harness::new(FIRST);
    let check = |harness: &mut Harness, id: &str, timeout_ms, expected| {
        let token = harness.ask_init(id, timeout_ms, None);
        assert_eq!(harness.identity_of(token), Some(Err(expected)));
    };
    check(&mut harness, "", TIMEOUT_MS, ErrorCode::InvalidRequest);
    check(&mut harness, &"x".repeat(40_000), TIMEOUT_MS, ErrorCode::InvalidRequest);
    check(&mut harness, "a", 0, ErrorCode::InvalidTransactionTimeout);
    check(&mut harness, "a", 900_001, ErrorCode::InvalidTransactionTimeout);
    let nobody = identity(1, 0);
    assert_eq!(harness.add("a", nobody, &[0]), ErrorCode::InvalidProducerIdMapping);
    let told = harness.end("a", nobody, Outcome::Abort);
    assert_eq!(told, Err(ErrorCode::InvalidProducerIdMapping));
    let producer = harness.init("a").unwrap();
    let told = harness.end("a", producer, Outcome::Abort);
    assert_eq!(told, Err(ErrorCode::InvalidTxnState), "nothing to abort");
    assert_eq!(harness.add("a", nobody, &[0]), ErrorCode::InvalidProducerIdMapping);
}

#[test]
fn transactions_are_listed_by_what_they_are() {
    let mut harness = Harness::new(FIRST);
    let open = harness.init("open").unwrap();
    let idle = harness.init("idle").unwrap();
    harness.add("open", open, &[0]);
    harness.now_ms += 5_000;
    let check = |filter: TransactionFilter, expected: &[&str]| {
        let listed = harness.coordinator.list(&filter, harness.now());
        let names: Vec<&str> = listed.iter().map(|one| one.transactional_id.as_str()).collect();
        assert_eq!(names, expected, "{filter:?}");
    };
    let all = TransactionFilter::default();
    check(all.clone(), &["idle", "open"]);
    check(TransactionFilter { states: vec![TransactionState::Ongoing], ..all.clone() }, &["open"]);
    check(TransactionFilter { producer_ids: vec![idle.id], ..all.clone() }, &["idle"]);
    let ongoing = TransactionFilter { states: vec![TransactionState::Ongoing], ..all };
    check(TransactionFilter { longer_than_ms: Some(4_999), ..ongoing.clone() }, &["open"]);
    check(TransactionFilter { longer_than_ms: Some(5_000), ..ongoing }, &[]);
}

#[test]
fn the_next_transaction_waits_for_the_markers_and_not_for_their_completion() {
    for outcome in [Outcome::Commit, Outcome::Abort] {
        let mut harness = Harness::new(FIRST);
        let producer = harness.init("a").unwrap();
        assert_eq!(harness.add("a", producer, &[0]), ErrorCode::None);
        harness.ask_end("a", producer, outcome, FIRST);
        harness.finish_write(Ok(()));
        let early = harness.ask_add("a", producer, &[1], FIRST);
        assert_eq!(harness.added(early), Some(ErrorCode::ConcurrentTransactions));
        harness.finish_markers().unwrap();
        // The completion is in the log, and no more; what follows lies behind it.
        let next = harness.ask_add("a", producer, &[1], FIRST);
        assert_eq!((harness.added(next), harness.writes.len()), (None, 2));
        // Both are lost: the markers, and the next transaction, come once more.
        harness.restart();
        let [markers] = &harness.settle()[..] else { panic!("the end was durable") };
        assert_eq!((markers.outcome, &markers.partitions), (outcome, &partitions(&[0])));
        assert_eq!(harness.add("a", producer, &[1]), ErrorCode::None);
    }
}
