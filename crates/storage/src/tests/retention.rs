//! What is let go stays gone, what is not stays, whatever happens in between.

use std::time::Duration;

use super::*;
use crate::{Error, ReadError, Retained, testing::Chance};

const DAY_MS: i64 = 86_400_000;

fn limits(bytes: Option<i64>, ms: Option<i64>) -> Rc<TopicConfig> {
    Rc::new(TopicConfig { retention_bytes: bytes, retention_ms: ms, ..(*small_config()).clone() })
}

/// A record of its own number at each offset.
fn numbered(number: i64, timestamp: i64) -> Bytes {
    let mut value = number.to_be_bytes().to_vec();
    value.resize(1000, 7);
    let mut builder = RecordBatchBuilder::new(BatchOptions::default());
    builder.append(&NewRecord {
        timestamp: TimestampMs(timestamp),
        value: Some(&value),
        ..NewRecord::default()
    });
    builder.build()
}

async fn append_numbered(log: &Log, count: i64, timestamp: i64) {
    for _ in 0..count {
        let number = log.log_end_offset().0;
        log.append(&numbered(number, timestamp), &options(NOW)).unwrap();
    }
    log.wait_durable(log.log_end_offset()).await.unwrap();
}

/// A round of marks, as the broker does it.
async fn round(opened: &Opened) -> Result<(), crate::Error> {
    let points = opened.storage.checkpoint_due().await;
    opened.directory.write_recovery_points(&points).await?;
    opened.storage.marks_recorded();
    Ok(())
}

/// Retention, as the broker does it.
async fn enforce(opened: &Opened, now_ms: i64) -> Result<(), crate::Error> {
    if opened.log.retain(now_ms).await? == Retained::Some {
        round(opened).await?;
        opened.log.remove_retained().await?;
    }
    Ok(())
}

async fn check_numbers(log: &Log) {
    let start = log.log_start_offset().0;
    let values = read_all(log).await;
    assert_eq!(values.len(), usize::try_from(log.high_watermark().0 - start).unwrap());
    for (expected, (offset, value)) in (start..).zip(&values) {
        assert_eq!((offset.0, &value[..8]), (expected, &expected.to_be_bytes()[..]));
    }
}

#[test]
fn segments_go_by_size_and_age_as_in_apache_kafka() {
    // Of 200 records of some 1,070 bytes in segments of 40,000: limits, the clock, the log start.
    let cases: [(Option<i64>, Option<i64>, i64, i64); 9] = [
        (None, None, NOW + 1000 * DAY_MS, 0),
        (Some(100_000), None, NOW, 74),
        (Some(i64::MAX), None, NOW, 0),
        // Kafka's 0 bytes keep nothing, and the active segment goes with the others.
        (Some(0), None, NOW, 200),
        (None, Some(1000), NOW + 1000, 0),
        (None, Some(1000), NOW + 1001, 200),
        (Some(100_000), Some(1000), NOW + 1001, 200),
        // The clock was set back: nothing is old.
        (None, Some(1000), NOW - 1000 * DAY_MS, 0),
        (None, Some(0), NOW, 0),
    ];
    for (bytes, ms, now_ms, expected) in cases {
        let disk = SharedDisk::new(1);
        let name = format!("{bytes:?} {ms:?} {now_ms}");
        let told = name.clone();
        disk.run(move |runtime| async move {
            let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
            append_numbered(&opened.log, 200, NOW).await;
            opened.log.set_config(limits(bytes, ms));
            enforce(&opened, now_ms).await.unwrap();
            assert_eq!(opened.log.log_start_offset(), Offset(expected), "{told}");
            check_numbers(&opened.log).await;
            if expected > 0 {
                let gone = opened.log.read(Offset(0), 1, FirstBatch::Whole, Offset(200)).await;
                assert!(matches!(gone, Err(ReadError::OffsetOutOfRange { .. })), "{told}");
            }
            append_numbered(&opened.log, 1, NOW).await;
            check_numbers(&opened.log).await;
            stop(opened).await;
        });
        disk.run(move |runtime| async move {
            let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
            assert_eq!(opened.log.log_start_offset(), Offset(expected), "{name}");
            assert_eq!(opened.log.log_end_offset(), Offset(201), "{name}");
            check_numbers(&opened.log).await;
        });
    }
}

#[test]
fn a_future_timestamp_keeps_its_segment_and_those_behind_it() {
    let disk = SharedDisk::new(1);
    disk.run(|runtime| async move {
        let config = TopicConfig {
            message_timestamp_after_max_ms: i64::MAX,
            ..(*limits(None, Some(1000))).clone()
        };
        let opened = open(&runtime, Rc::new(config), StorageOptions::default()).await.unwrap();
        append_numbered(&opened.log, 40, NOW).await;
        append_numbered(&opened.log, 1, NOW + 5 * DAY_MS).await;
        append_numbered(&opened.log, 100, NOW).await;
        enforce(&opened, NOW + DAY_MS).await.unwrap();
        assert_eq!(opened.log.log_start_offset(), Offset(37));
        enforce(&opened, NOW + 6 * DAY_MS).await.unwrap();
        assert_eq!(opened.log.log_start_offset(), Offset(141));
    });
}

#[test]
fn deleted_files_stay_for_a_while_and_their_readers_go_on() {
    let disk = SharedDisk::new(1);
    let shared = disk.clone();
    disk.run(|runtime| async move {
        let storage_options = StorageOptions { tail_bytes_max: 0, ..Default::default() };
        let opened = open(&runtime, small_config(), storage_options).await.unwrap();
        append_numbered(&opened.log, 100, NOW).await;
        runtime.sleep(Duration::from_secs(1)).await;
        let log = opened.log.clone();
        let read = async move { log.read(Offset(0), 30_000, FirstBatch::Whole, Offset(9)).await };
        let read = Rc::new(RefCell::new(Box::pin(read)));
        let outcome = Rc::new(RefCell::new(None));
        let (reading, told) = (Rc::clone(&read), Rc::clone(&outcome));
        runtime.spawn("reader", runtime::TaskQueue::Foreground, async move {
            let found = std::future::poll_fn(|context| reading.borrow_mut().as_mut().poll(context));
            let found = found.await;
            *told.borrow_mut() = Some(found);
        });
        opened.log.set_config(Rc::new(TopicConfig {
            file_delete_delay_ms: 5000,
            ..(*limits(None, Some(1000))).clone()
        }));
        enforce(&opened, NOW + 2000).await.unwrap();
        let is_there = |suffix: &str| {
            let names = shared.names("/data/topic-0");
            names.contains(&format!("00000000000000000000.{suffix}"))
        };
        assert!(!is_there("log") && is_there("log.deleted") && is_there("index.deleted"));
        runtime.sleep(Duration::from_secs(4)).await;
        let found = outcome.borrow_mut().take().expect("the read has ended");
        assert!(
            found.is_ok_and(|found| found.next_offset == Offset(9))
                || opened.log.log_start_offset() > Offset(0)
        );
        assert!(is_there("log.deleted"));
        runtime.sleep(Duration::from_secs(2)).await;
        assert!(!is_there("log.deleted"));
        assert_eq!(
            shared.names("/data/topic-0").iter().filter(|name| name.ends_with(".log")).count(),
            1
        );
    });
}

#[test]
fn deleted_records_stay_deleted_also_after_a_kill_and_at_the_end_of_the_log() {
    for is_clean in [true, false] {
        for (asked, expected) in [(150, 150), (200, 200), (999, 200), (-5, 0)] {
            let disk = SharedDisk::new(1);
            disk.run(move |runtime| async move {
                let opened =
                    open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
                append_numbered(&opened.log, 200, NOW).await;
                let start = opened.log.delete_records(Offset(asked)).await.unwrap();
                assert_eq!(start, Offset(expected));
                assert_eq!(
                    opened.log.delete_records(Offset(20)).await.unwrap(),
                    start.max(Offset(20))
                );
                round(&opened).await.unwrap();
                if is_clean {
                    stop(opened).await;
                }
            });
            let expected = Offset(expected.max(20));
            for _ in 0..2 {
                disk.run(move |runtime| async move {
                    let opened =
                        open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
                    assert_eq!(opened.log.log_start_offset(), expected);
                    check_numbers(&opened.log).await;
                    round(&opened).await.unwrap();
                    opened.log.remove_retained().await.unwrap();
                    check_numbers(&opened.log).await;
                });
            }
        }
    }
}

/// The segments still have what was deleted, and its epoch with it.
#[test]
fn leader_epochs_made_anew_do_not_bring_back_deleted_records() {
    let disk = SharedDisk::new(1);
    disk.run(|runtime| async move {
        let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
        append_numbered(&opened.log, 30, NOW).await;
        opened.log.delete_records(Offset(10)).await.unwrap();
        stop(opened).await;
    });
    disk.run(|runtime| async move {
        let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
        append_numbered(&opened.log, 5, NOW).await;
    });
    let epochs = "/data/topic-0/leader-epoch-checkpoint";
    disk.damage(epochs, |bytes| *bytes = b"0\n1\n9 10\n".to_vec());
    for _ in 0..2 {
        disk.run(|runtime| async move {
            let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
            assert_eq!(opened.log.log_start_offset(), Offset(10));
            check_numbers(&opened.log).await;
            opened.log.write_epochs().await.unwrap();
        });
    }
    assert_eq!(disk.content(epochs).unwrap(), b"0\n1\n1 10\n");
}

/// Its leader epochs are not written any more, and a start believes the lower of the two.
#[test]
fn a_fenced_log_does_not_say_that_records_are_deleted() {
    let disk = SharedDisk::new(1);
    let shared = disk.clone();
    disk.run(move |runtime| async move {
        let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
        append_numbered(&opened.log, 50, NOW).await;
        opened.log.delete_records(Offset(10)).await.unwrap();
        shared.0.borrow_mut().fail_sync_in = Some(0);
        let appended = opened.log.append(&numbered(50, NOW), &options(NOW)).unwrap();
        opened.log.wait_durable(appended.end()).await.unwrap_err();
        let refused = opened.log.delete_records(Offset(20)).await;
        assert!(matches!(refused, Err(Error::Fenced(_))), "{refused:?}");
        assert_eq!(opened.log.log_start_offset(), Offset(10));
    });
}

/// Both write the leader epochs, by way of one temporary file.
#[test]
fn a_log_closes_while_records_are_deleted() {
    for round in 0..40 {
        let disk = SharedDisk::new(round);
        disk.run(move |runtime| async move {
            let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
            append_numbered(&opened.log, 50, NOW).await;
            for first in 1..=5 {
                let log = opened.log.clone();
                runtime.spawn("deletions", runtime::TaskQueue::Foreground, async move {
                    for offset in (first..=50).step_by(5) {
                        if log.delete_records(Offset(offset)).await.is_err() {
                            break;
                        }
                    }
                });
            }
            runtime.sleep(Duration::from_micros(round * 37)).await;
            opened.log.close().await.unwrap();
        });
    }
}

/// The checkpoint file knows names alone; the partition of another topic that had this name before
/// must not lose records to it.
#[test]
fn the_log_start_of_a_deleted_topic_of_the_same_name_is_not_believed() {
    let disk = SharedDisk::new(1);
    disk.run(|runtime| async move {
        let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
        append_numbered(&opened.log, 10, NOW).await;
        opened.log.delete_records(Offset(7)).await.unwrap();
        let points = opened.storage.recovery_points();
        assert_eq!(points[0].recovery_point, Offset(0));
        opened.directory.write_recovery_points(&points).await.unwrap();
        opened.log.delete().await.unwrap();
        let path = Path::new("/data");
        let again = opened
            .storage
            .create_log(path, "topic", PartitionId(0), TOPIC_ID, small_config())
            .await
            .unwrap();
        append_numbered(&again, 10, NOW).await;
        again.write_epochs().await.unwrap();
    });
    disk.run(|runtime| async move {
        let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
        assert_eq!(opened.log.log_start_offset(), Offset(0));
        assert_eq!(read_all(&opened.log).await.len(), 10);
    });
}

/// What the outside was told.
#[derive(Clone, Copy, Default)]
struct Told {
    durable: i64,
    /// Asked to be deleted, and told that it is.
    asked: i64,
    deleted: i64,
}

async fn random_life(runtime: Runtime, told: Rc<RefCell<Told>>, seed: u64) {
    let mut chance = Chance::new(seed);
    let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
    let log = &opened.log;
    {
        let told = told.borrow();
        assert!(log.log_end_offset().0 >= told.durable, "seed {seed}: acknowledged records lost");
        let start = log.log_start_offset().0;
        assert!(start >= told.deleted, "seed {seed}: {start} was deleted to {}", told.deleted);
        assert!(start <= told.asked, "seed {seed}: {start} was never deleted");
    }
    check_numbers(log).await;
    loop {
        let end = log.log_end_offset().0;
        match chance.below(10) {
            0 => {
                let range = usize::try_from(end - log.log_start_offset().0 + 1).unwrap();
                let offset = log.log_start_offset().0 + i64::try_from(chance.below(range)).unwrap();
                let asked = told.borrow().asked.max(offset);
                told.borrow_mut().asked = asked;
                let start = log.delete_records(Offset(offset)).await.unwrap();
                if chance.one_in(2) {
                    round(&opened).await.unwrap();
                    told.borrow_mut().deleted = start.0;
                }
            }
            1 => {
                let keep = i64::try_from(chance.below(150_000)).unwrap();
                log.set_config(limits(Some(keep), None));
                let asked = told.borrow().asked;
                told.borrow_mut().asked = asked.max(end);
                enforce(&opened, NOW).await.unwrap();
                let start = log.log_start_offset().0;
                told.borrow_mut().asked = start;
            }
            2 => round(&opened).await.unwrap(),
            _ => {
                let count = i64::try_from(chance.below(30)).unwrap();
                append_numbered(log, count, NOW).await;
                told.borrow_mut().durable = log.durable_end().0;
            }
        }
    }
}

#[test]
fn no_crash_brings_back_or_loses_what_was_not_said() {
    for seed in 0..6 {
        let disk = SharedDisk::new(seed);
        let told = Rc::new(RefCell::new(Told::default()));
        let mut chance = Chance::new(seed);
        for life in 0..6 {
            let world = Rc::clone(&told);
            let life_seed = seed * 100 + life;
            live_until(&disk, 50 + chance.below(1500), move |runtime| {
                random_life(runtime, world, life_seed)
            });
            if chance.one_in(2) {
                disk.cut_power();
            } else {
                disk.kill();
            }
        }
        assert!(told.borrow().durable > 0);
    }
}
