//! A partition on a real disk, with each driver: hot and cold reads, rolls, a stop without
//! closing, a clean stop, and files of one driver opened by the other.

#![expect(clippy::unwrap_used, reason = "a test ends where something fails")]

use std::{path::PathBuf, rc::Rc};

use bytes::Bytes;
use model::{
    LeaderEpoch, Offset, PartitionId, TimestampMs, TopicId,
    record_batch::{BatchOptions, NewRecord, RecordBatchBuilder, batches},
    topic_config::TopicConfig,
};
use runtime::{BufferPool, DriverPreference, Executor, Runtime, ShardIndex, mesh, open_driver};
use storage::{
    AppendOptions, AppendOrigin, FirstBatch, Log, LogDirectory, OpenMode, Storage, StorageOptions,
};

const TOPIC_ID: TopicId = model::Uuid([9; 16]);
const NOW: i64 = 1_700_000_000_000;

fn batch(number: i64, size: usize) -> Bytes {
    let mut value = number.to_be_bytes().to_vec();
    value.resize(size.max(8), u8::try_from(number.rem_euclid(251)).unwrap());
    let mut builder = RecordBatchBuilder::new(BatchOptions::default());
    builder.append(&NewRecord {
        timestamp: TimestampMs(NOW),
        value: Some(&value),
        ..NewRecord::default()
    });
    builder.build()
}

fn size_of(number: i64) -> usize {
    usize::try_from(number * 7919 % 30_000).unwrap()
}

async fn open(runtime: &Runtime, path: PathBuf) -> (LogDirectory, Rc<Storage>, Log) {
    let directory = LogDirectory::open(runtime, &path, OpenMode::CreateIfMissing).await.unwrap();
    let options = StorageOptions { tail_bytes_max: 256 << 10, ..StorageOptions::default() };
    let storage = Storage::new(runtime, options);
    let config = Rc::new(TopicConfig { segment_bytes: 2 << 20, ..TopicConfig::default() });
    let found = directory.partitions().first().cloned();
    let log = match found {
        Some(found) => {
            assert_eq!(found.topic_id, Some(TOPIC_ID));
            storage.open_log(&found.path, TOPIC_ID, config, found.start).await.unwrap().0
        }
        None => storage.create_log(&path, "t", PartitionId(0), TOPIC_ID, config).await.unwrap(),
    };
    (directory, storage, log)
}

async fn check(log: &Log) -> i64 {
    let end = log.high_watermark();
    let (mut from, mut number) = (log.log_start_offset(), 0i64);
    while from < end {
        let found = log.read(from, 300_000, FirstBatch::Whole, end).await.unwrap();
        for batch in batches(&found.batches.concat()) {
            let batch = batch.unwrap();
            let record = batch.records().next().unwrap().unwrap();
            let value = record.value.unwrap();
            assert_eq!(value[..8], number.to_be_bytes());
            assert_eq!(value.len(), size_of(number).max(8));
            number += 1;
        }
        from = found.next_offset;
    }
    number
}

/// A life of its own: opens, checks, appends, and ends as told.
fn live(preference: DriverPreference, path: PathBuf, count: i64, is_clean: bool) -> i64 {
    let (mut endpoints, _) = mesh(1).unwrap();
    let pool = BufferPool::new(4 << 20);
    let (driver, _) = open_driver(preference, endpoints.remove(0), pool).unwrap();
    let mut executor = Executor::new(ShardIndex(0), 1, driver);
    let runtime = executor.runtime();
    executor.block_on(life(runtime, path, count, is_clean))
}

async fn life(runtime: Runtime, path: PathBuf, count: i64, is_clean: bool) -> i64 {
    let (directory, storage, log) = Box::pin(open(&runtime, path)).await;
    let start = Box::pin(check(&log)).await;
    let options =
        AppendOptions { leader_epoch: LeaderEpoch(0), origin: AppendOrigin::Client, now_ms: NOW };
    for number in start..start + count {
        let appended = log.append(&batch(number, size_of(number)), &options).unwrap();
        assert_eq!(appended.base_offset, Offset(number));
        match number % 5 {
            0 => log.wait_durable(appended.end()).await.unwrap(),
            1 => log.wait_written(appended.end()).await.unwrap(),
            _ => {}
        }
    }
    log.wait_durable(log.log_end_offset()).await.unwrap();
    assert_eq!(Box::pin(check(&log)).await, start + count);
    if is_clean {
        let points = Box::pin(storage.close()).await.unwrap();
        Box::pin(directory.write_checkpoints(&points)).await.unwrap();
        Box::pin(directory.write_clean_shutdown(1)).await.unwrap();
    }
    start
}

#[test]
fn every_driver_keeps_what_another_has_written() {
    let drivers = [DriverPreference::Auto, DriverPreference::Sync];
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data");
    let mut count = 0;
    for round in 0..2 {
        for driver in drivers {
            for is_clean in [true, false] {
                assert_eq!(live(driver, path.clone(), 150, is_clean), count, "round {round}");
                count += 150;
            }
        }
    }
}
