//! The promises of the room, on the tests' disk.

mod ahead;
mod compaction;
mod crashes;
mod damage;
mod durability;
mod flips;
mod kafkas_cases;
mod life;
mod loss;
mod many;
mod marks;
mod retention;
mod space;
mod transactions;
mod verification;

use std::{cell::RefCell, path::Path, rc::Rc};

use bytes::Bytes;
use model::{
    LeaderEpoch, Offset, PartitionId, ProducerEpoch, ProducerId, Sequence, TimestampMs, TopicId,
    record_batch::{BatchOptions, NewRecord, RecordBatchBuilder, batches},
    topic_config::TopicConfig,
};
use runtime::{Runtime, Wait};

use crate::{
    AppendOptions, AppendOrigin, FirstBatch, Log, LogDirectory, OpenMode, RecoveryReport, Storage,
    StorageOptions, testing::SharedDisk,
};

pub(crate) const TOPIC_ID: TopicId = model::Uuid([7; 16]);
/// The clock of the appends.
pub(crate) const NOW: i64 = 1_700_000_000_000;

/// A batch of these values, one record each.
pub(crate) fn batch_of(values: &[Vec<u8>]) -> Bytes {
    produced(values, ProducerId::NONE, -1)
}

/// The same, from an idempotent producer.
pub(crate) fn produced(values: &[Vec<u8>], producer_id: ProducerId, sequence: i32) -> Bytes {
    let mut builder = RecordBatchBuilder::new(BatchOptions {
        producer_id,
        producer_epoch: ProducerEpoch(if producer_id.0 < 0 { -1 } else { 0 }),
        base_sequence: Sequence(sequence),
        ..BatchOptions::default()
    });
    for value in values {
        builder.append(&NewRecord {
            timestamp: TimestampMs(NOW),
            key: Some(b"k"),
            value: Some(value),
            headers: &[],
        });
    }
    builder.build()
}

pub(crate) fn options(now_ms: i64) -> AppendOptions {
    AppendOptions { leader_epoch: LeaderEpoch(1), origin: AppendOrigin::Client, now_ms }
}

/// Small segments and dense indexes: rolls and look-ups happen often.
pub(crate) fn small_config() -> Rc<TopicConfig> {
    Rc::new(TopicConfig {
        segment_bytes: 40_000,
        index_interval_bytes: 1000,
        ..TopicConfig::default()
    })
}

/// An open directory with its partitions.
pub(crate) struct Opened {
    pub(crate) directory: LogDirectory,
    pub(crate) storage: Rc<Storage>,
    /// The first of the logs.
    pub(crate) log: Log,
    pub(crate) logs: Vec<Log>,
    /// Of the first log.
    pub(crate) report: RecoveryReport,
    /// Of all logs.
    pub(crate) cut_bytes: u64,
}

/// Opens the directory and its partition, which is created where it is not there.
pub(crate) async fn open(
    runtime: &Runtime,
    config: Rc<TopicConfig>,
    storage_options: StorageOptions,
) -> Result<Opened, crate::Error> {
    open_some(runtime, config, storage_options, 1).await
}

/// The same with so many partitions.
pub(crate) async fn open_some(
    runtime: &Runtime,
    config: Rc<TopicConfig>,
    storage_options: StorageOptions,
    partition_count: i32,
) -> Result<Opened, crate::Error> {
    let path = Path::new("/data");
    let directory = LogDirectory::open(runtime, path, OpenMode::CreateIfMissing).await?;
    let storage = Storage::new(runtime, storage_options);
    let (mut logs, mut reports) = (Vec::new(), Vec::new());
    for partition in (0..partition_count).map(PartitionId) {
        let config = Rc::clone(&config);
        let known = directory.partitions().iter().find(|found| found.partition == partition);
        let whole = known.filter(|found| found.topic_id == Some(TOPIC_ID)).cloned();
        let (log, report) = match (known, whole) {
            (_, Some(found)) => {
                storage.open_log(&found.path, TOPIC_ID, config, found.start).await?
            }
            (half, None) => {
                // A crash may have left the directory without its metadata.
                if let Some(half) = half {
                    crate::removal::remove_tree(runtime, &half.path).await.unwrap();
                }
                let log = match directory.recorded().find("topic", TOPIC_ID, partition) {
                    None => storage.new_log(path, "topic", partition, TOPIC_ID, config),
                    Some(start) => {
                        storage.gone_log(path, "topic", partition, TOPIC_ID, config, &start)
                    }
                };
                (log, RecoveryReport::default())
            }
        };
        logs.push(log);
        reports.push(report);
    }
    let cut_bytes = reports.iter().map(|report| report.cut_bytes).sum();
    Ok(Opened { directory, storage, log: logs[0].clone(), logs, report: reports[0], cut_bytes })
}

/// Stops as the broker does.
pub(crate) async fn stop(opened: Opened) {
    let points = opened.storage.close().await.unwrap();
    opened.directory.write_checkpoints(&points).await.unwrap();
    opened.directory.write_clean_shutdown(1).await.unwrap();
}

/// Every value in the log up to the high watermark, by reads of different sizes.
pub(crate) async fn read_all(log: &Log) -> Vec<(Offset, Vec<u8>)> {
    let mut values = Vec::new();
    let mut from = log.log_start_offset();
    let up_to = log.high_watermark();
    let mut size = 1;
    while from < up_to {
        size = (size * 7 + 1) % 30_000;
        let found = log.read(from, size, FirstBatch::Whole, up_to).await;
        let found = found.unwrap_or_else(|error| panic!("at {from} of {up_to}: {error}"));
        assert!(!found.batches.is_empty(), "nothing at {from} of {up_to}");
        let bytes = found.batches.concat();
        assert_eq!(bytes.len(), found.size);
        for batch in batches(&bytes) {
            let batch = batch.unwrap();
            batch.verify_crc().unwrap();
            assert_eq!(batch.leader_epoch(), LeaderEpoch(1));
            for record in batch.records() {
                let record = record.unwrap();
                let offset = batch.base_offset().plus(i64::from(record.offset_delta));
                if offset >= from {
                    values.push((offset, record.value.unwrap().to_vec()));
                }
            }
        }
        from = found.next_offset;
    }
    values
}

/// Runs a life that ends after so many completions, or by itself.
pub(crate) fn live_until<F: Future<Output = ()> + 'static>(
    disk: &SharedDisk,
    completions: usize,
    life: impl FnOnce(Runtime) -> F,
) -> bool {
    let mut executor = disk.start();
    let runtime = executor.runtime();
    let ended = Rc::new(RefCell::new(false));
    let flag = Rc::clone(&ended);
    let future = life(runtime.clone());
    runtime.spawn("life", runtime::TaskQueue::Foreground, async move {
        future.await;
        *flag.borrow_mut() = true;
    });
    let stop_at = disk.0.borrow().completions + completions;
    let mut wait = Wait::No;
    while disk.0.borrow().completions < stop_at && !*ended.borrow() {
        wait = match executor.turn(wait) {
            runtime::Turn::Ready => Wait::No,
            runtime::Turn::Idle(None) => Wait::Forever,
            runtime::Turn::Idle(Some(deadline)) => Wait::Until(deadline),
            runtime::Turn::Stopped => break,
        };
    }
    drop(executor);
    *ended.borrow()
}
