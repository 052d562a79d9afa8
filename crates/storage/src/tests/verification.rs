//! What begins a transaction in a partition, and what ends it, by the rules of KIP-890.

use model::record_batch::{ControlType, attribute};

use super::*;
use crate::{AppendError, Verification, VerificationGuard};

const PRODUCER: ProducerId = ProducerId(7);

fn batch(epoch: i16, sequence: i32, flags: i16, key: Option<&[u8]>) -> Bytes {
    let mut builder = RecordBatchBuilder::new(BatchOptions {
        producer_id: PRODUCER,
        producer_epoch: ProducerEpoch(epoch),
        base_sequence: Sequence(sequence),
        flags: flags | attribute::TRANSACTIONAL,
        ..BatchOptions::default()
    });
    let value = Some(&[0, 0, 0, 0, 0, 1][..]);
    builder.append(&NewRecord { timestamp: TimestampMs(NOW), key, value, headers: &[] });
    builder.build()
}

fn produce(
    log: &Log,
    (epoch, sequence): (i16, i32),
    guard: Option<VerificationGuard>,
) -> Result<Offset, AppendError> {
    let bytes = batch(epoch, sequence, 0, None);
    let verification = Verification::Needed(guard);
    let appended = log.append_verified(&bytes, &options(NOW), None, verification)?;
    Ok(appended.base_offset)
}

fn by_coordinator() -> AppendOptions {
    AppendOptions { origin: AppendOrigin::Coordinator, ..options(NOW) }
}

fn mark(log: &Log, epoch: i16, version: i16) -> Result<Offset, AppendError> {
    let key = ControlType::Commit.key();
    let bytes = batch(epoch, -1, attribute::CONTROL, Some(&key));
    let verification = Verification::Marker(version);
    let appended = log.append_verified(&bytes, &by_coordinator(), None, verification)?;
    Ok(appended.base_offset)
}

fn ask(log: &Log, epoch: i16, sequence: i32) -> Option<VerificationGuard> {
    log.begin_verification(PRODUCER, ProducerEpoch(epoch), Sequence(sequence))
}

fn run(test: impl AsyncFnOnce(&Log) + 'static) {
    SharedDisk::new(1).run(|runtime| async move {
        let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
        test(&opened.log).await;
        stop(opened).await;
    });
}

const NOT_IN_IT: AppendError = AppendError::NotInTransaction(PRODUCER);

#[test]
fn a_transaction_begins_with_a_guard_alone() {
    run(async |log| {
        assert_eq!(produce(log, (0, 0), None), Err(NOT_IN_IT));
        let guard = ask(log, 0, 0);
        assert!(guard.is_some());
        // Whoever asks again meanwhile is given the same.
        assert_eq!(ask(log, 0, 0), guard);
        assert_eq!(produce(log, (0, 0), guard), Ok(Offset(0)));
        assert_eq!(ask(log, 0, 1), None);
        assert_eq!(produce(log, (0, 1), None), Ok(Offset(1)));
        assert_eq!(mark(log, 1, 2), Ok(Offset(2)));
        // The next one needs a guard of its own.
        assert_eq!(produce(log, (1, 0), guard), Err(NOT_IN_IT));
        let next = ask(log, 1, 0);
        assert_ne!(next, guard);
        assert_eq!(produce(log, (1, 0), next), Ok(Offset(3)));
        log.wait_durable(Offset(4)).await.unwrap();
    });
}

#[test]
fn a_marker_takes_the_guard_away() {
    run(async |log| {
        let guard = ask(log, 0, 0);
        // The transaction that was asked about ends before the batch comes: by the first version of
        // transactions its epoch is still good.
        assert_eq!(mark(log, 0, 0), Ok(Offset(0)));
        assert_eq!(produce(log, (0, 0), guard), Err(NOT_IN_IT));
        assert_eq!(log.last_stable_offset(), log.high_watermark());
        let guard = ask(log, 0, 0);
        assert_eq!(mark(log, 1, 2), Ok(Offset(1)));
        let fenced = produce(log, (0, 0), guard);
        assert!(matches!(fenced, Err(AppendError::InvalidProducerEpoch { .. })), "{fenced:?}");
        log.wait_durable(Offset(2)).await.unwrap();
    });
}

#[test]
fn a_marker_leaves_the_guard_of_the_next_transaction() {
    run(async |log| {
        assert_eq!(produce(log, (0, 0), ask(log, 0, 0)), Ok(Offset(0)));
        // The producer goes on before the marker of what it has ended comes.
        let next = ask(log, 1, 0);
        assert!(next.is_some());
        assert_eq!(mark(log, 1, 2), Ok(Offset(1)));
        assert_eq!(mark(log, 1, 2), Ok(Offset(2)), "the same once more");
        assert_eq!(produce(log, (1, 0), next), Ok(Offset(3)));
        // Nothing is left of it behind its own marker.
        let late = ask(log, 2, 0);
        assert_eq!(mark(log, 2, 2), Ok(Offset(4)));
        assert_eq!(mark(log, 3, 2), Ok(Offset(5)));
        let fenced = produce(log, (2, 0), late);
        assert!(matches!(fenced, Err(AppendError::InvalidProducerEpoch { .. })), "{fenced:?}");
        assert_eq!(produce(log, (3, 0), late), Err(NOT_IN_IT));
        log.wait_durable(Offset(6)).await.unwrap();
    });
}

#[test]
fn no_batch_comes_before_one_that_was_asked_for_first() {
    run(async |log| {
        let guard = ask(log, 0, 0);
        assert_eq!(ask(log, 0, 1), guard);
        let early = AppendError::OutOfOrderSequence { expected: Sequence(0), found: Sequence(1) };
        assert_eq!(produce(log, (0, 1), guard), Err(early.clone()));
        assert_eq!(produce(log, (0, 0), guard), Ok(Offset(0)));
        assert_eq!(produce(log, (0, 1), None), Ok(Offset(1)));
        // Nor where a marker has begun the epoch.
        assert_eq!(mark(log, 1, 2), Ok(Offset(2)));
        let guard = ask(log, 1, 1);
        assert_eq!(produce(log, (1, 1), guard), Err(early));
        let guard = ask(log, 1, 0);
        assert_eq!(produce(log, (1, 0), guard), Ok(Offset(3)));
        log.wait_durable(Offset(4)).await.unwrap();
    });
}

#[test]
fn a_late_marker_does_not_end_the_next_transaction() {
    run(async |log| {
        let mut end = 0;
        let mut begin = |log: &Log, epoch: i16, sequence: i32| {
            assert_eq!(produce(log, (epoch, sequence), ask(log, epoch, sequence)), Ok(Offset(end)));
            end += 2;
        };
        begin(log, 5, 0);
        let too_old = |found| AppendError::InvalidProducerEpoch {
            current: ProducerEpoch(5),
            found: ProducerEpoch(found),
        };
        assert_eq!(mark(log, 4, 0), Err(too_old(4)));
        assert_eq!(mark(log, 4, 2), Err(too_old(4)));
        // From version 2 on the epoch of a marker is one that no record has.
        assert_eq!(mark(log, 5, 2), Err(too_old(5)));
        assert_eq!(mark(log, 5, 1), Ok(Offset(1)));
        begin(log, 5, 1);
        assert_eq!(mark(log, 6, 2), Ok(Offset(3)));
        // A marker that is there already is taken again, as long as nothing follows it.
        assert_eq!(mark(log, 6, 2), Ok(Offset(4)));
        log.wait_durable(Offset(5)).await.unwrap();
        assert_eq!(log.last_stable_offset(), Offset(5));
    });
}

/// Why records of a transaction wait until its begin is durable, and the completion before it in
/// the same log: a coordinator that lost both sends the markers before them again.
#[test]
fn a_marker_that_is_sent_again_cannot_tell_the_next_transaction_apart() {
    run(async |log| {
        let begin = |epoch, sequence| produce(log, (epoch, sequence), ask(log, epoch, sequence));
        assert_eq!(begin(5, 0), Ok(Offset(0)));
        assert_eq!(mark(log, 5, 0), Ok(Offset(1)));
        assert_eq!(begin(5, 1), Ok(Offset(2)));
        // By the first version it ends what it was not meant for.
        assert_eq!(mark(log, 5, 0), Ok(Offset(3)));
        log.wait_durable(Offset(4)).await.unwrap();
        assert_eq!(log.last_stable_offset(), Offset(4));
        // By the second it is refused, as one that comes late is.
        assert_eq!(begin(5, 2), Ok(Offset(4)));
        assert_eq!(mark(log, 6, 2), Ok(Offset(5)));
        assert_eq!(begin(6, 0), Ok(Offset(6)));
        let six = ProducerEpoch(6);
        let refused = AppendError::InvalidProducerEpoch { current: six, found: six };
        assert_eq!(mark(log, 6, 2), Err(refused));
        // What is ended with its own epoch, as `kafka-transactions` does it, is acknowledged to the
        // producer who sends it again.
        assert_eq!(mark(log, 6, 0), Ok(Offset(7)));
        assert_eq!(begin(6, 0), Ok(Offset(6)));
        log.wait_durable(Offset(8)).await.unwrap();
        assert_eq!(log.last_stable_offset(), Offset(8));
    });
}

#[test]
fn a_marker_that_is_taken_back_may_come_again() {
    let disk = SharedDisk::new(1);
    let shared = disk.clone();
    disk.run(move |runtime| async move {
        let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
        let log = &opened.log;
        produce(log, (0, 0), ask(log, 0, 0)).unwrap();
        log.wait_durable(Offset(1)).await.unwrap();
        shared.0.borrow_mut().space = 0;
        // It needs a segment of its own, for which there is no space; the marker lies behind it.
        log.append(&batch_of(&[vec![1; 39_900]]), &options(NOW)).unwrap();
        let marked = mark(log, 1, 2).unwrap();
        let lost = log.wait_durable(marked.next()).await;
        assert_eq!(lost, Err(crate::WaitError::NoSpace));
        shared.0.borrow_mut().space = u64::MAX;
        let marked = loop {
            match mark(log, 1, 2) {
                Ok(marked) => break marked,
                Err(AppendError::NoSpace) => {
                    runtime.sleep(std::time::Duration::from_millis(100)).await;
                }
                Err(error) => panic!("{error}"),
            }
        };
        log.wait_durable(marked.next()).await.unwrap();
        assert_eq!((marked, log.last_stable_offset()), (Offset(1), Offset(2)));
        assert_eq!(produce(log, (1, 0), ask(log, 1, 0)), Ok(Offset(2)));
        log.wait_durable(Offset(3)).await.unwrap();
        stop(opened).await;
    });
}

#[test]
fn the_last_epoch_ends_with_itself() {
    run(async |log| {
        let last = i16::MAX;
        assert_eq!(produce(log, (last, 0), ask(log, last, 0)), Ok(Offset(0)));
        assert_eq!(mark(log, last, 2), Ok(Offset(1)));
        log.wait_durable(Offset(2)).await.unwrap();
    });
}

#[test]
fn records_of_a_coordinator_are_judged_by_epoch_and_guard() {
    run(async |log| {
        let append = |epoch, verification| {
            let bytes = batch(epoch, -1, 0, None);
            log.append_verified(&bytes, &by_coordinator(), None, verification)
                .map(|appended| appended.base_offset)
        };
        assert_eq!(append(3, Verification::Needed(None)), Err(NOT_IN_IT));
        let guard = ask(log, 3, -1);
        assert_eq!(append(3, Verification::Needed(guard)), Ok(Offset(0)));
        assert_eq!(append(3, Verification::Off), Ok(Offset(1)));
        let fenced = append(2, Verification::Off);
        assert!(matches!(fenced, Err(AppendError::InvalidProducerEpoch { .. })), "{fenced:?}");
        log.wait_durable(Offset(2)).await.unwrap();
        assert_eq!(log.last_stable_offset(), Offset(0));
        assert_eq!(mark(log, 4, 2), Ok(Offset(2)));
        log.wait_durable(Offset(3)).await.unwrap();
        assert_eq!(log.last_stable_offset(), Offset(3));
    });
}
