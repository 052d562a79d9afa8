//! Files that were changed behind the log's back: what is durable is never cut off and never
//! served wrong, what is derived is rebuilt.

use super::*;
use crate::{Error, ReadError};

const LOG: &str = "/data/topic-0/00000000000000000000.log";

fn value(number: usize) -> Vec<u8> {
    let mut value = number.to_be_bytes().to_vec();
    value.resize(200, 5);
    value
}

/// Where the batches end: the last byte of each is a zero.
fn end_of(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).unwrap() + 2
}

/// Forty records of 200 bytes; then a stop of this kind.
fn disk_with_records(is_clean: bool, config: Rc<TopicConfig>) -> SharedDisk {
    let disk = SharedDisk::new(3);
    disk.run(move |runtime| async move {
        let opened = open(&runtime, config, StorageOptions::default()).await.unwrap();
        for number in 0..40 {
            let batch = produced(&[value(number)], ProducerId(1), i32::try_from(number).unwrap());
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

#[test]
fn damage_below_the_mark_is_neither_cut_nor_served() {
    for is_clean in [true, false] {
        for change in ["flip", "truncate", "remove"] {
            let disk = disk_with_records(is_clean, small_config());
            let index = "/data/topic-0/00000000000000000000.index";
            match change {
                "flip" => disk.damage(LOG, |bytes| bytes[2000] ^= 1),
                "truncate" => disk.damage(LOG, |bytes| bytes.truncate(3000)),
                _ => disk.remove(LOG),
            }
            // Without the index all of it is looked at.
            disk.remove(index);
            let before = disk.content(LOG);
            let outcome = start(&disk, small_config());
            assert!(matches!(outcome, Err(Error::Damaged { .. })), "{change}: {outcome:?}");
            assert!(disk.content(LOG) == before, "{change}");
        }
    }
}

#[test]
fn damage_that_no_start_looked_at_is_found_by_the_reader() {
    let disk = disk_with_records(true, small_config());
    disk.damage(LOG, |bytes| bytes[2000] ^= 1);
    disk.run(|runtime| async move {
        let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
        let read = async |from: i64| {
            opened.log.read(Offset(from), 100, FirstBatch::Whole, Offset(40)).await
        };
        assert!(matches!(read(7).await, Err(ReadError::Damaged(_))));
        assert_eq!(read(0).await.unwrap().first_offset, Offset(0));
        assert_eq!(read(30).await.unwrap().first_offset, Offset(30));
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
