//! What an append, a read, a roll, a stop and a start do when nothing goes wrong.

use super::*;
use crate::{AppendError, CommitCounts, CommitStrategy, ReadError};

fn value(number: usize, size: usize) -> Vec<u8> {
    let mut value = number.to_be_bytes().to_vec();
    value.resize(size.max(8), u8::try_from(number % 256).unwrap());
    value
}

async fn append_some(log: &Log, first: usize, count: usize) {
    for number in first..first + count {
        let values = vec![value(number, (number * 37) % 3000)];
        let appended = log.append(&batch_of(&values), &options(NOW)).unwrap();
        log.wait_durable(appended.end()).await.unwrap();
    }
}

fn check_values(values: &[(Offset, Vec<u8>)], count: usize) {
    assert_eq!(values.len(), count);
    for (number, (offset, found)) in values.iter().enumerate() {
        assert_eq!(offset.0, i64::try_from(number).unwrap());
        assert_eq!(found, &value(number, (number * 37) % 3000));
    }
}

#[test]
fn what_was_appended_is_read_hot_and_cold_and_after_a_clean_stop() {
    for is_direct in [true, false] {
        let disk = SharedDisk::new(1);
        disk.0.borrow_mut().is_direct = is_direct;
        disk.run(|runtime| async move {
            let storage_options = StorageOptions { tail_bytes_max: 64 << 10, ..Default::default() };
            let opened = open(&runtime, small_config(), storage_options).await.unwrap();
            append_some(&opened.log, 0, 200).await;
            assert!(opened.log.segment_count() > 3);
            assert!(opened.storage.tail_bytes() <= 128 << 10);
            check_values(&read_all(&opened.log).await, 200);
            stop(opened).await;
        });
        let length = disk.content("/data/topic-0/00000000000000000000.log").unwrap().len();
        assert!(length <= 40_000, "{length}");
        for life in 0..3 {
            disk.run(move |runtime| async move {
                let opened =
                    open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
                assert!(opened.report.checked_bytes < 8000, "{:?}", opened.report);
                check_values(&read_all(&opened.log).await, 200 + life * 50);
                append_some(&opened.log, 200 + life * 50, 50).await;
                check_values(&read_all(&opened.log).await, 250 + life * 50);
                stop(opened).await;
            });
        }
    }
}

#[test]
fn a_partition_is_metadata_alone_until_its_first_append() {
    let disk = SharedDisk::new(1);
    disk.run(|runtime| async move {
        let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
        assert_eq!(opened.log.segment_count(), 0);
        stop(opened).await;
    });
    assert!(!disk.names("/data").contains(&"topic-0".to_owned()));
}

#[test]
fn the_files_are_those_of_kafka() {
    let disk = SharedDisk::new(1);
    disk.run(|runtime| async move {
        let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
        append_some(&opened.log, 0, 10).await;
        stop(opened).await;
    });
    assert_eq!(
        disk.names("/data/topic-0"),
        [
            "00000000000000000000.index",
            "00000000000000000000.log",
            "00000000000000000000.timeindex",
            "00000000000000000010.snapshot",
            "leader-epoch-checkpoint",
            "partition.metadata",
        ]
    );
    let epochs = disk.content("/data/topic-0/leader-epoch-checkpoint").unwrap();
    assert_eq!(epochs, b"0\n1\n1 0\n");
    let points = disk.content("/data/recovery-point-offset-checkpoint").unwrap();
    assert_eq!(points, b"0\n1\ntopic 0 10\n");
}

#[test]
fn a_duplicate_is_answered_with_its_first_offsets_also_after_a_restart() {
    let disk = SharedDisk::new(1);
    let batch = |sequence: i32| produced(&[value(1, 10), value(2, 10)], ProducerId(5), sequence);
    disk.run(move |runtime| async move {
        let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
        for sequence in [0, 2, 4] {
            opened.log.append(&batch(sequence), &options(NOW)).unwrap();
        }
        let again = opened.log.append(&batch(2), &options(NOW)).unwrap();
        assert!(again.is_duplicate);
        assert_eq!((again.base_offset, again.last_offset), (Offset(2), Offset(3)));
        let refused = opened.log.append(&batch(10), &options(NOW)).unwrap_err();
        assert!(matches!(refused, AppendError::OutOfOrderSequence { .. }), "{refused}");
        opened.log.wait_durable(Offset(6)).await.unwrap();
    });
    disk.run(move |runtime| async move {
        let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
        assert!(opened.log.append(&batch(2), &options(NOW)).unwrap().is_duplicate);
        assert!(!opened.log.append(&batch(6), &options(NOW)).unwrap().is_duplicate);
        stop(opened).await;
    });
    disk.run(move |runtime| async move {
        let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
        // A snapshot knows the last batch of each producer.
        assert!(opened.log.append(&batch(6), &options(NOW)).unwrap().is_duplicate);
        assert!(!opened.log.append(&batch(8), &options(NOW)).unwrap().is_duplicate);
    });
}

#[test]
fn a_batch_that_no_start_would_believe_is_refused_whatever_the_topic_allows() {
    let disk = SharedDisk::new(1);
    let config = TopicConfig {
        max_message_bytes: i32::MAX,
        segment_bytes: i32::MAX,
        ..TopicConfig::default()
    };
    disk.run(move |runtime| async move {
        let opened = open(&runtime, Rc::new(config), StorageOptions::default()).await.unwrap();
        let refused = opened.log.append(&batch_of(&[vec![1; 65 << 20]]), &options(NOW));
        assert!(matches!(refused, Err(AppendError::MessageTooLarge { .. })), "{refused:?}");
    });
}

#[test]
fn refused_batches_leave_the_log_as_it_was() {
    let disk = SharedDisk::new(1);
    disk.run(|runtime| async move {
        let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
        let good = batch_of(&[value(1, 100)]);
        let mut wrong_crc = good.to_vec();
        wrong_crc[70] ^= 1;
        let mut old_format = good.to_vec();
        old_format[16] = 1;
        let too_large = batch_of(&[value(1, 1_100_000)]);
        let too_many = [good.to_vec(), batch_of(&[value(1, 50_000)]).to_vec()].concat();
        let second_is_bad = [good.to_vec(), wrong_crc.clone()].concat();
        let cases: [(&str, Vec<u8>); 7] = [
            ("empty", Vec::new()),
            ("wrong crc", wrong_crc),
            ("old format", old_format),
            ("too large", too_large.to_vec()),
            ("more than a segment", too_many),
            ("half", good[..50].to_vec()),
            ("the second is bad", second_is_bad),
        ];
        for (name, bytes) in cases {
            let refused = opened.log.append(&Bytes::from(bytes), &options(NOW));
            assert!(refused.is_err(), "{name}");
            assert_eq!(opened.log.log_end_offset(), Offset(0), "{name}");
        }
        assert_eq!(opened.log.segment_count(), 0);
        let appended = opened.log.append(&good, &options(NOW)).unwrap();
        opened.log.wait_durable(appended.end()).await.unwrap();
    });
}

#[test]
fn offsets_outside_the_log_are_refused_and_its_end_is_empty() {
    let disk = SharedDisk::new(1);
    disk.run(|runtime| async move {
        let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
        append_some(&opened.log, 0, 3).await;
        let read = async |from: i64| {
            opened.log.read(Offset(from), 100, FirstBatch::Whole, Offset(3)).await
        };
        assert!(read(3).await.unwrap().batches.is_empty());
        for from in [-1, 4] {
            let refused = read(from).await.unwrap_err();
            let expected = ReadError::OffsetOutOfRange { log_start: Offset(0), log_end: Offset(3) };
            assert_eq!(refused, expected);
        }
        let small = opened.log.read(Offset(2), 1, FirstBatch::WithinLimit, Offset(3)).await;
        assert!(small.unwrap().batches.is_empty());
    });
}

#[test]
fn records_are_found_by_time() {
    let disk = SharedDisk::new(1);
    disk.run(|runtime| async move {
        let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
        for number in 0..100i64 {
            let mut builder = RecordBatchBuilder::new(BatchOptions::default());
            for record in 0..2 {
                builder.append(&NewRecord {
                    timestamp: TimestampMs(1000 + number * 20 + record * 10),
                    value: Some(&[1; 900]),
                    ..NewRecord::default()
                });
            }
            opened.log.append(&builder.build(), &options(10_000)).unwrap();
        }
        opened.log.wait_durable(Offset(200)).await.unwrap();
        for (timestamp, offset) in [(0, 0), (1000, 0), (1001, 1), (1990, 99), (2985, 199)] {
            let found = opened.log.offset_for_timestamp(TimestampMs(timestamp)).await.unwrap();
            assert_eq!(found.unwrap().offset, Offset(offset), "{timestamp}");
        }
        assert_eq!(opened.log.offset_for_timestamp(TimestampMs(2991)).await.unwrap(), None);
        let newest = opened.log.max_timestamp().await.unwrap().unwrap();
        assert_eq!((newest.timestamp, newest.offset), (TimestampMs(2990), Offset(199)));
    });
}

#[test]
fn a_deleted_log_is_gone_and_its_readers_are_told() {
    let disk = SharedDisk::new(1);
    disk.run(|runtime| async move {
        let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
        append_some(&opened.log, 0, 3).await;
        opened.log.delete().await.unwrap();
        let refused = opened.log.append(&batch_of(&[value(1, 8)]), &options(NOW));
        assert_eq!(refused.unwrap_err(), AppendError::Closed);
        let read = opened.log.read(Offset(0), 1, FirstBatch::Whole, Offset(3)).await;
        assert_eq!(read.unwrap_err(), ReadError::Closed);
        assert!(opened.storage.logs().is_empty());
        runtime.sleep(std::time::Duration::from_secs(1)).await;
    });
    assert_eq!(disk.names("/data"), [".lock"]);
}

#[test]
fn a_failed_sync_ends_the_appends_of_every_log() {
    let disk = SharedDisk::new(1);
    let shared = disk.clone();
    disk.run(move |runtime| async move {
        let opened =
            open_some(&runtime, small_config(), StorageOptions::default(), 3).await.unwrap();
        for log in &opened.logs[..2] {
            let appended = log.append(&batch_of(&[value(0, 8)]), &options(NOW)).unwrap();
            log.wait_durable(appended.end()).await.unwrap();
        }
        let batch = batch_of(&[value(1, 8)]);
        let others = opened.logs[1].append(&batch, &options(NOW)).unwrap();
        opened.logs[1].wait_durable(others.end()).await.unwrap();
        shared.0.borrow_mut().fail_sync_in = Some(0);
        let appended = opened.logs[0].append(&batch, &options(NOW)).unwrap();
        opened.logs[0].wait_durable(appended.end()).await.unwrap_err();
        assert_eq!(opened.storage.disk_failure().await, runtime::Errno::IO);
        let reason = crate::FenceReason::Sync(runtime::Errno::IO);
        let path = Path::new("/data");
        let new = opened.storage.new_log(path, "new", PartitionId(0), TOPIC_ID, small_config());
        for log in opened.logs.iter().chain([&new]) {
            let refused = log.append(&batch, &options(NOW));
            assert_eq!(refused, Err(AppendError::Fenced(reason)), "{log:?}");
        }
        assert_eq!(read_all(&opened.logs[1]).await.len(), 2, "what is durable is served");
    });
}

#[test]
fn a_failed_sync_or_write_fences_the_log() {
    for fails_write in [true, false] {
        let disk = SharedDisk::new(1);
        let shared = disk.clone();
        disk.run(move |runtime| async move {
            let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
            append_some(&opened.log, 0, 3).await;
            if fails_write {
                shared.0.borrow_mut().fail_write_in = Some(0);
            } else {
                shared.0.borrow_mut().fail_sync_in = Some(0);
            }
            let appended = opened.log.append(&batch_of(&[value(3, 8)]), &options(NOW)).unwrap();
            opened.log.wait_durable(appended.end()).await.unwrap_err();
            assert_eq!(opened.log.high_watermark(), Offset(3));
            let refused = opened.log.append(&batch_of(&[value(3, 8)]), &options(NOW));
            assert!(matches!(refused.unwrap_err(), AppendError::Fenced(_)));
            check_values(&read_all(&opened.log).await, 3);
            assert!(opened.storage.close().await.is_err());
        });
    }
}

/// What the group commit did for four logs that each took so many batches of so many bytes, one
/// after the other.
fn counts_of_four_logs(commit: CommitStrategy, bytes: usize, batches: usize) -> CommitCounts {
    let disk = SharedDisk::new(1);
    disk.run(move |runtime| async move {
        let path = Path::new("/data");
        let _directory =
            LogDirectory::open(&runtime, path, OpenMode::CreateIfMissing).await.unwrap();
        let storage = Storage::new(&runtime, StorageOptions { commit, ..Default::default() });
        let config = Rc::new(TopicConfig::default());
        let mut logs = Vec::new();
        for partition in 0..4 {
            let partition = PartitionId(partition);
            let created =
                storage.create_log(path, "t", partition, TOPIC_ID, Rc::clone(&config)).await;
            logs.push(created.unwrap());
        }
        let batch = batch_of(&[vec![1; bytes]]);
        for _ in 0..batches {
            for log in &logs {
                log.append(&batch, &options(NOW)).unwrap();
            }
            for log in &logs {
                log.wait_durable(log.log_end_offset()).await.unwrap();
            }
        }
        storage.commit_counts()
    })
}

#[test]
fn one_sync_vouches_for_many_files_in_space_that_was_zeroed() {
    // From logs that take a few blocks to logs that take a segment in no time.
    for (bytes, batches) in [(500, 200), (10_000, 200), (200_000, 100)] {
        let counts = counts_of_four_logs(CommitStrategy::Shared, bytes, batches);
        // Beyond the one sync of a round: those of files that needed their own.
        let own_syncs = counts.file_syncs - counts.rounds;
        assert!(own_syncs * 10 < counts.files_made_durable, "{bytes}: {counts:?}");
        let counts = counts_of_four_logs(CommitStrategy::PerFile, bytes, batches);
        assert_eq!(counts.file_syncs, counts.files_made_durable, "{bytes}");
    }
}

#[test]
fn a_directory_in_use_is_refused() {
    let disk = SharedDisk::new(1);
    disk.run(|runtime| async move {
        let path = Path::new("/data");
        let first = LogDirectory::open(&runtime, path, OpenMode::CreateIfMissing).await.unwrap();
        let second = LogDirectory::open(&runtime, path, OpenMode::MustExist).await;
        assert!(matches!(second.err().unwrap(), crate::Error::Locked(_)));
        drop(first);
    });
}

#[test]
fn large_batches_are_read_whole_hot_and_cold() {
    for tail_bytes_max in [64 << 20, 0] {
        let disk = SharedDisk::new(1);
        disk.run(move |runtime| async move {
            let config =
                Rc::new(TopicConfig { max_message_bytes: 8 << 20, ..TopicConfig::default() });
            let storage_options = StorageOptions { tail_bytes_max, ..Default::default() };
            let opened = open(&runtime, config, storage_options).await.unwrap();
            let sizes = [3_000_000, 10, 5_000_000, 20, 1_048_576, 4096];
            for (number, size) in sizes.into_iter().enumerate() {
                let batch = batch_of(&[value(number, size)]);
                let appended = opened.log.append(&batch, &options(NOW)).unwrap();
                opened.log.wait_durable(appended.end()).await.unwrap();
            }
            let is_cold = opened.storage.tail_bytes() == 0;
            assert_eq!(is_cold, tail_bytes_max == 0);
            let found = read_all(&opened.log).await;
            assert_eq!(found.len(), sizes.len());
            for (number, (_, found)) in found.iter().enumerate() {
                assert!(found == &value(number, sizes[number]), "{number}");
            }
        });
    }
}

#[test]
fn an_earlier_leader_appends_no_more() {
    let disk = SharedDisk::new(1);
    disk.run(|runtime| async move {
        let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
        let batch = batch_of(&[value(1, 8)]);
        for (epoch, is_taken) in [(0, true), (3, true), (2, false), (-1, false), (3, true)] {
            let leader_epoch = LeaderEpoch(epoch);
            let appended =
                opened.log.append(&batch, &AppendOptions { leader_epoch, ..options(NOW) });
            assert_eq!(appended.is_ok(), is_taken, "{epoch}");
        }
        opened.log.wait_durable(Offset(3)).await.unwrap();
        assert_eq!(opened.log.leader_epoch_at(Offset(0)), LeaderEpoch(0));
        let end = opened.log.end_offset_for_epoch(LeaderEpoch(1));
        assert_eq!(end, Some((LeaderEpoch(0), Offset(1))));
        stop(opened).await;
    });
    disk.run(|runtime| async move {
        let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
        assert_eq!(opened.log.latest_leader_epoch(), LeaderEpoch(3));
        let end = opened.log.end_offset_for_epoch(LeaderEpoch(3));
        assert_eq!(end, Some((LeaderEpoch(3), Offset(3))));
    });
}
