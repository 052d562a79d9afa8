//! Files that were changed behind the log's back: what is durable is never cut off and never
//! served wrong, what is derived is rebuilt.

use model::{record_batch::RecordBatch, topic_config::CleanupPolicy};

use super::*;
use crate::{Error, ReadError};

const LOG: &str = "/data/topic-0/00000000000000000000.log";
/// The size of a batch of one of the values.
const BATCH: usize = 271;

pub(super) fn value(number: usize) -> Vec<u8> {
    let mut value = number.to_be_bytes().to_vec();
    value.resize(200, 5);
    value
}

/// Where the batches end: the last byte of each is a zero.
pub(super) fn end_of(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).unwrap() + 2
}

/// Forty records of 200 bytes; then a stop of this kind.
pub(super) fn disk_with_records(is_clean: bool, config: Rc<TopicConfig>) -> SharedDisk {
    let disk = SharedDisk::new(3);
    disk.run(move |runtime| async move {
        let opened = open(&runtime, config, StorageOptions::default()).await.unwrap();
        for number in 0..40 {
            let batch = produced(&[value(number)], ProducerId(1), i32::try_from(number).unwrap());
            assert_eq!(batch.len(), BATCH);
            let appended = opened.log.append(&batch, &options(NOW)).unwrap();
            opened.log.wait_durable(appended.end()).await.unwrap();
        }
        if is_clean {
            stop(opened).await;
        } else {
            let points = opened.storage.checkpoint().await.unwrap();
            opened.directory.write_checkpoints(&points).await.unwrap();
        }
    });
    disk
}

/// What a start finds: the values and the report, or why it refuses.
fn start(disk: &SharedDisk, config: Rc<TopicConfig>) -> Result<(usize, RecoveryReport), Error> {
    disk.run(move |runtime| async move {
        let opened = open(&runtime, config, StorageOptions::default()).await?;
        let values = read_all(&opened.log).await;
        for (number, (offset, found)) in values.iter().enumerate() {
            assert_eq!(offset.0, i64::try_from(number).unwrap());
            assert_eq!(found, &value(number));
        }
        let report = opened.report;
        let next = i32::try_from(values.len()).unwrap();
        let again = opened.log.append(&produced(&[vec![1]], ProducerId(1), next), &options(NOW));
        assert!(!again.unwrap().is_duplicate);
        Ok((values.len(), report))
    })
}

#[test]
fn a_torn_tail_above_the_mark_is_cut() {
    for garbage in [1, 60, 61, 5000] {
        let disk = disk_with_records(false, small_config());
        disk.damage(LOG, |bytes| {
            let end = end_of(bytes);
            bytes.truncate(end);
            bytes.resize(end + garbage, 0xee);
            bytes.resize(end + garbage + 9000, 0);
        });
        let (count, report) = start(&disk, small_config()).unwrap();
        assert_eq!((count, report.cut_bytes), (40, u64::try_from(garbage).unwrap()));
    }
}

#[test]
fn a_tail_of_zeros_is_no_torn_tail() {
    for is_clean in [true, false] {
        let disk = disk_with_records(is_clean, small_config());
        disk.damage(LOG, |bytes| bytes.resize(bytes.len() + 70_000, 0));
        let (count, report) = start(&disk, small_config()).unwrap();
        assert_eq!((count, report.cut_bytes), (40, 0));
    }
}

/// What each offset gives: its value, checked, or nothing for one that is reported as damaged.
pub(super) async fn read_each(log: &Log) -> Vec<Option<Vec<u8>>> {
    let (start, end) = (log.log_start_offset(), log.high_watermark());
    let mut found = Vec::new();
    for from in (start.0..end.0).map(Offset) {
        match log.read(from, 1, FirstBatch::Whole, end).await {
            Ok(read) => {
                let bytes = read.batches.concat();
                let batch = RecordBatch::first(&bytes).unwrap();
                batch.verify_crc().unwrap();
                assert_eq!(batch.leader_epoch(), LeaderEpoch(1));
                assert!(batch.base_offset() <= from && from <= batch.last_offset(), "{from}");
                let place = usize::try_from(from.0 - batch.base_offset().0).unwrap();
                let record = batch.records().nth(place).unwrap().unwrap();
                found.push(Some(record.value.unwrap().to_vec()));
            }
            Err(ReadError::Damaged(_) | ReadError::Missing { .. }) => found.push(None),
            Err(error) => panic!("at {from}: {error}"),
        }
    }
    found
}

/// The offsets that are not served; all others have their values.
async fn damaged_offsets(log: &Log) -> Vec<i64> {
    let found = read_each(log).await;
    let checked = found.into_iter().enumerate().filter_map(|(number, found)| match found {
        Some(found) => {
            assert_eq!(found, value(number));
            None
        }
        None => Some(i64::try_from(number).unwrap()),
    });
    checked.collect()
}

/// Two batches with other offsets come to lie over those of `number` and the next.
fn misdirect(bytes: &mut [u8], offset: i64, number: usize) {
    bytes.copy_within(20 * BATCH..22 * BATCH, number * BATCH);
    for (batch, offset) in bytes[number * BATCH..].chunks_mut(BATCH).zip([offset, offset + 1]) {
        batch[..8].copy_from_slice(&offset.to_be_bytes());
    }
}

/// What is done, which offsets are lost by it, whether the end of the log is still known.
type Change = (&'static str, fn(&mut Vec<u8>), Vec<i64>, bool);

fn changes() -> [Change; 12] {
    let end: Vec<i64> = (38..40).collect();
    [
        ("flip in a record", |bytes| bytes[7 * BATCH + 200] ^= 1, vec![7], true),
        ("flip in an offset", |bytes| bytes[7 * BATCH + 6] ^= 1, vec![7], true),
        ("flip in a length", |bytes| bytes[7 * BATCH + 10] ^= 1, vec![7], true),
        ("two apart", |bytes| (bytes[90], bytes[9 * BATCH + 90]) = (3, 3), vec![0, 9], true),
        ("zeros", |bytes| bytes[7 * BATCH..9 * BATCH].fill(0), vec![7, 8], true),
        (
            "a batch over another",
            |bytes| bytes.copy_within(BATCH..2 * BATCH, 5 * BATCH),
            vec![5],
            true,
        ),
        (
            "batches of a later time over others",
            |bytes| bytes.copy_within(20 * BATCH..24 * BATCH, 5 * BATCH + 100),
            (5..10).collect(),
            true,
        ),
        (
            "batches of another log over others",
            |bytes| misdirect(bytes, 60, 37),
            vec![37, 38],
            true,
        ),
        ("batches of another log at the end", |bytes| misdirect(bytes, 60, 38), end.clone(), false),
        ("a batch is gone", |bytes| drop(bytes.drain(5 * BATCH..6 * BATCH)), vec![5], true),
        (
            "flip at the end",
            |bytes| bytes[38 * BATCH + 100..39 * BATCH + 70].fill(9),
            end.clone(),
            false,
        ),
        ("cut", |bytes| bytes.truncate(38 * BATCH + 100), end, false),
    ]
}

#[test]
fn damage_below_the_mark_is_neither_cut_nor_served_and_all_else_is() {
    let all: Vec<i64> = (0..40).collect();
    for is_clean in [true, false] {
        for (what, change, lost, knows_end) in &changes() {
            for has_index in [true, false] {
                let disk = disk_with_records(is_clean, small_config());
                disk.damage(LOG, *change);
                if !has_index {
                    // All of it is looked at.
                    disk.remove("/data/topic-0/00000000000000000000.index");
                }
                let before = disk.content(LOG).unwrap();
                let (what, lost, knows_end) = (*what, lost.clone(), *knows_end);
                println!("{what}, clean {is_clean}, index {has_index}");
                disk.run(move |runtime| async move {
                    let opened =
                        open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
                    assert_eq!(damaged_offsets(&opened.log).await, lost, "{what} {is_clean}");
                    assert_eq!(opened.log.damages().is_empty(), lost.is_empty(), "{what}");
                    let append = opened.log.append(&batch_of(&[vec![1]]), &options(NOW));
                    assert_eq!(append.is_ok(), knows_end, "{what} {is_clean}: {append:?}");
                    if let Ok(appended) = append {
                        assert_eq!(appended.base_offset, Offset(40));
                        opened.log.wait_durable(appended.end()).await.unwrap();
                    }
                    stop(opened).await;
                });
                let after = disk.content(LOG).unwrap();
                let kept = end_of(&before).min(after.len());
                assert!(after[..kept] == before[..kept], "{what} {is_clean}");
            }
        }
        let disk = disk_with_records(is_clean, small_config());
        disk.remove(LOG);
        let all = all.clone();
        disk.run(move |runtime| async move {
            let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
            assert_eq!(damaged_offsets(&opened.log).await, all);
            assert!(opened.log.append(&batch_of(&[vec![1]]), &options(NOW)).is_err());
        });
    }
}

/// A batch's offset has no CRC over it: with the damage that broke the one before it, it became its.
#[test]
fn an_offset_that_became_that_of_the_broken_batch_before_it_is_not_believed() {
    let compacted = Rc::new(TopicConfig {
        cleanup_policy: CleanupPolicy { compact: true, delete: false },
        min_cleanable_dirty_ratio: 1.0,
        ..(*small_config()).clone()
    });
    for is_clean in [true, false] {
        let disk = disk_with_records(is_clean, Rc::clone(&compacted));
        disk.damage(LOG, |bytes| bytes[BATCH - 9..BATCH + 8].fill(0));
        let config = Rc::clone(&compacted);
        disk.run(move |runtime| async move {
            let opened = open(&runtime, config, StorageOptions::default()).await.unwrap();
            assert_eq!(damaged_offsets(&opened.log).await, [0, 1], "{is_clean}");
        });
    }
}

/// Once a reader that was under way when another found the damage was led behind it.
#[test]
fn every_reader_of_a_damaged_offset_is_told_whoever_finds_it() {
    for damaged in [7, 8, 9, 20] {
        for pause in 0..40u64 {
            let disk = disk_with_records(true, small_config());
            disk.damage(LOG, |bytes| bytes[damaged * BATCH + 200] ^= 1);
            disk.run(move |runtime| async move {
                let opened =
                    open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
                let answers = Rc::new(RefCell::new(Vec::new()));
                for reader in 0..4 {
                    let (log, answers) = (opened.log.clone(), Rc::clone(&answers));
                    let delay = std::time::Duration::from_micros(reader * pause * 5);
                    let waiting = runtime.clone();
                    runtime.spawn("reader", runtime::TaskQueue::Foreground, async move {
                        waiting.sleep(delay).await;
                        let from = Offset(i64::try_from(damaged).unwrap());
                        let answer = log.read(from, 100, FirstBatch::Whole, Offset(40)).await;
                        answers.borrow_mut().push(answer.map(|found| found.first_offset));
                    });
                }
                while answers.borrow().len() < 4 {
                    runtime.sleep(std::time::Duration::from_millis(1)).await;
                }
                for answer in answers.borrow().iter() {
                    let is_told = matches!(answer, Err(ReadError::Damaged(_)));
                    assert!(is_told, "{damaged} {pause}: {answer:?}");
                }
            });
        }
    }
}

#[test]
fn damage_that_no_start_looked_at_is_found_by_the_reader() {
    let disk = disk_with_records(true, small_config());
    disk.damage(LOG, |bytes| bytes[2000] ^= 1);
    disk.run(|runtime| async move {
        let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
        assert!(opened.log.damages().is_empty());
        let read = async |from: i64| {
            opened.log.read(Offset(from), 100, FirstBatch::Whole, Offset(40)).await
        };
        let position = u64::try_from(2000 / BATCH * BATCH).unwrap();
        let damaged = i64::try_from(2000 / BATCH).unwrap();
        assert!(matches!(read(damaged).await, Err(ReadError::Damaged(_))));
        let known = &opened.log.damages()[0];
        assert_eq!((known.from.0, known.to.0), (damaged, damaged + 1));
        assert_eq!(known.positions.start, position);
        for offset in [0, damaged - 1, damaged + 1, 30] {
            assert_eq!(read(offset).await.unwrap().first_offset, Offset(offset));
        }
    });
}

#[test]
fn what_is_derived_is_rebuilt_where_it_is_missing_or_wrong() {
    for is_clean in [true, false] {
        let names = disk_with_records(is_clean, small_config()).names("/data/topic-0");
        let derived: Vec<_> = names
            .iter()
            .filter(|name| !name.ends_with(".log") && *name != "partition.metadata")
            .collect();
        assert!(derived.len() >= 4 || !is_clean && derived.len() >= 2, "{derived:?}");
        for name in derived {
            for change in ["remove", "flip", "empty", "extend"] {
                let disk = disk_with_records(is_clean, small_config());
                let path = format!("/data/topic-0/{name}");
                match change {
                    "remove" => disk.remove(&path),
                    "flip" => disk.damage(&path, |bytes| bytes[0] ^= 0x40),
                    "empty" => disk.damage(&path, Vec::clear),
                    _ => disk.damage(&path, |bytes| bytes.extend_from_slice(&[0x55; 24])),
                }
                let outcome = start(&disk, small_config());
                let (count, _) = outcome.unwrap_or_else(|error| panic!("{name} {change}: {error}"));
                assert_eq!(count, 40, "{name} {change}");
            }
        }
    }
}

#[test]
fn an_index_that_points_to_another_batch_is_not_believed() {
    let disk = disk_with_records(true, small_config());
    let path = "/data/topic-0/00000000000000000000.index";
    let mut offset = 0;
    // The last entry leads one batch too far.
    disk.damage(path, |bytes| {
        let entry = bytes.as_chunks_mut::<8>().0.last_mut().expect("an entry in 10 kB");
        offset = i64::from(u32::from_be_bytes(entry[..4].try_into().unwrap()));
        let position = u32::from_be_bytes(entry[4..].try_into().unwrap());
        let wrong = position + u32::try_from(BATCH).unwrap();
        entry[4..].copy_from_slice(&wrong.to_be_bytes());
    });
    disk.run(move |runtime| async move {
        let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
        assert_eq!(opened.log.log_end_offset(), Offset(40));
        let read = opened.log.read(Offset(offset), 100, FirstBatch::Whole, Offset(40)).await;
        assert_eq!(read.unwrap().first_offset, Offset(offset));
    });
}

#[test]
fn checkpoints_of_the_directory_are_rebuilt_too() {
    for is_clean in [true, false] {
        for change in ["remove", "garbage", "of a deleted topic"] {
            let disk = disk_with_records(is_clean, small_config());
            let path = "/data/recovery-point-offset-checkpoint";
            match change {
                "remove" => disk.remove(path),
                "garbage" => disk.damage(path, |bytes| bytes[0] = b'x'),
                _ => disk.damage(path, |bytes| *bytes = b"0\n1\ntopic 0 777\n".to_vec()),
            }
            if change == "of a deleted topic" {
                let path = "/data/log-start-offset-checkpoint";
                disk.damage(path, |bytes| *bytes = b"0\n1\ntopic 0 700\n".to_vec());
            }
            let (count, _) = start(&disk, small_config()).unwrap();
            assert_eq!(count, 40, "{change}");
        }
    }
}

#[test]
fn leader_epochs_are_rebuilt_where_no_checkpoint_names_the_mark() {
    let disk = SharedDisk::new(3);
    disk.run(|runtime| async move {
        let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
        for number in 0..60 {
            let epoch = LeaderEpoch(i32::try_from(number / 20).unwrap());
            let options = AppendOptions { leader_epoch: epoch, ..options(NOW) };
            opened.log.append(&batch_of(&[value(number)]), &options).unwrap();
        }
        stop(opened).await;
    });
    // As Apache Kafka leaves the metadata log.
    disk.remove("/data/recovery-point-offset-checkpoint");
    disk.run(|runtime| async move {
        let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
        let end = |epoch| opened.log.end_offset_for_epoch(LeaderEpoch(epoch));
        assert_eq!(end(0), Some((LeaderEpoch(0), Offset(20))));
        assert_eq!(end(1), Some((LeaderEpoch(1), Offset(40))));
    });
}

#[test]
fn what_is_derived_and_of_the_future_or_of_another_version_is_made_again() {
    let directory = "/data/topic-0";
    let snapshot = "/data/topic-0/00000000000000000040.snapshot";
    let epochs = "/data/topic-0/leader-epoch-checkpoint";
    let points = "/data/recovery-point-offset-checkpoint";
    let index = "/data/topic-0/00000000000000000000.index";
    let times = "/data/topic-0/00000000000000000000.timeindex";
    type Change = (&'static str, &'static str, fn(&mut Vec<u8>));
    let changes: [Change; 9] = [
        ("a version of snapshots", snapshot, |bytes| bytes[1] = 9),
        ("a version of epochs", epochs, |bytes| bytes[0] = b'7'),
        ("a version of checkpoints", points, |bytes| bytes[0] = b'7'),
        ("an epoch of the future", epochs, |bytes| *bytes = b"0\n2\n1 0\n9 4000\n".to_vec()),
        ("an epoch too high", epochs, |bytes| *bytes = b"0\n1\n9 0\n".to_vec()),
        ("a mark of the future", points, |bytes| *bytes = b"0\n1\ntopic 0 4000\n".to_vec()),
        ("an index behind the end", index, |bytes| bytes.extend([0, 0, 0, 39, 0, 9, 0, 0])),
        ("an index of later offsets", index, |bytes| bytes[3] += 1),
        ("a time of the future", times, |bytes| {
            bytes.extend([0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 39])
        }),
    ];
    for is_clean in [true, false] {
        for (what, path, change) in &changes {
            let disk = disk_with_records(is_clean, small_config());
            if disk.content(path).is_none() {
                continue;
            }
            disk.damage(path, *change);
            let (count, report) = start(&disk, small_config()).unwrap();
            assert_eq!((count, report.cut_bytes), (40, 0), "{what}, clean {is_clean}");
        }
        let disk = disk_with_records(is_clean, small_config());
        assert!(disk.names(directory).iter().any(|name| name.ends_with(".snapshot")));
    }
}

#[test]
fn a_batch_of_a_format_that_is_not_known_is_not_served() {
    for is_clean in [true, false] {
        for magic in [0, 1, 3, 255] {
            let disk = disk_with_records(is_clean, small_config());
            disk.damage(LOG, |bytes| bytes[7 * BATCH + 16] = magic);
            disk.run(move |runtime| async move {
                let opened =
                    open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
                assert_eq!(damaged_offsets(&opened.log).await, [7], "{is_clean} {magic}");
            });
        }
    }
}

#[test]
fn a_stale_batch_behind_the_end_is_not_taken() {
    let disk = disk_with_records(false, small_config());
    disk.damage(LOG, |bytes| {
        let end = end_of(bytes);
        let first = bytes[..500].to_vec();
        bytes.truncate(end);
        bytes.extend_from_slice(&first);
    });
    let (count, report) = start(&disk, small_config()).unwrap();
    assert_eq!((count, report.cut_bytes), (40, 500));
}

#[test]
fn a_segment_that_is_gone_is_not_passed_over() {
    let disk = SharedDisk::new(3);
    disk.run(|runtime| async move {
        let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
        for number in 0..30 {
            opened.log.append(&batch_of(&[value(number)]), &options(NOW)).unwrap();
            if number % 10 == 9 {
                opened.log.roll();
            }
        }
        stop(opened).await;
    });
    disk.remove("/data/topic-0/00000000000000000010.log");
    disk.run(|runtime| async move {
        let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
        let read = async |from: i64| {
            let up_to = opened.log.high_watermark();
            opened.log.read(Offset(from), 100, FirstBatch::Whole, up_to).await
        };
        assert_eq!(read(9).await.unwrap().next_offset, Offset(10));
        let missing = ReadError::Missing { from: Offset(10), to: Offset(20) };
        assert_eq!(read(10).await.unwrap_err(), missing);
        assert_eq!(read(20).await.unwrap().first_offset, Offset(20));
    });
}
