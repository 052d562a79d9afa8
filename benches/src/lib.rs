//! What the benchmarks share: a shard on a real driver, a log on a real disk, batches of records.
//!
//! Run with `cargo bench -p benches`. docs/PERFORMANCE.md has figures, and how they were measured.

use std::{path::Path, rc::Rc};

use bytes::Bytes;
use model::{
    LeaderEpoch, PartitionId, TimestampMs, TopicId,
    record_batch::{BatchOptions, NewRecord, RecordBatchBuilder},
    topic_config::TopicConfig,
};
use runtime::{BufferPool, DriverPreference, Executor, Runtime, ShardIndex, mesh, open_driver};
use storage::{AppendOptions, AppendOrigin, Log, Storage, StorageOptions};
use tempfile::TempDir;

/// As large as a tuned producer's batches.
pub const BATCH_BYTES: usize = 128 << 10;
/// The time of all records and of the broker.
const NOW_MS: i64 = 1_700_000_000_000;
/// What the server gives a shard.
const POOL_CACHED_BYTES_MAX: usize = 32 << 20;

/// One shard, on `io_uring` where the kernel has it.
///
/// # Panics
/// Where no driver can be opened.
#[must_use]
pub fn executor() -> Executor {
    let (mut endpoints, _) = mesh(1).expect("a mesh of one shard needs one descriptor");
    let pool = BufferPool::new(POOL_CACHED_BYTES_MAX);
    let (driver, refusal) = open_driver(DriverPreference::Auto, endpoints.remove(0), pool)
        .expect("the fallback runs everywhere");
    if let Some(reason) = refusal {
        tell(&format!("measured without io_uring: {reason}"));
    }
    Executor::new(ShardIndex(0), 1, driver)
}

/// A directory that goes when it is dropped, in the target directory: system folders for temporary
/// files are often in memory.
///
/// # Panics
/// Where none can be made.
#[must_use]
pub fn scratch(target: &str) -> TempDir {
    std::fs::create_dir_all(target).expect("the target directory can be written");
    tempfile::tempdir_in(target).expect("the target directory can be written")
}

/// An empty log in `directory`, the only one of its storage.
///
/// # Panics
/// Where the disk fails.
pub async fn new_log(runtime: &Runtime, directory: &Path) -> (Rc<Storage>, Log) {
    let storage = Storage::new(runtime, StorageOptions::default());
    let id: TopicId = model::Uuid([7; 16]);
    let config = Rc::new(TopicConfig::default());
    let log = storage.create_log(directory, "bench", PartitionId(0), id, config).await;
    (storage, log.expect("an empty directory takes a log"))
}

/// How the broker appends what clients send.
#[must_use]
pub fn append_options() -> AppendOptions {
    AppendOptions { leader_epoch: LeaderEpoch(0), origin: AppendOrigin::Client, now_ms: NOW_MS }
}

/// A batch of records whose values have `value_bytes` each, of about [`BATCH_BYTES`].
#[must_use]
pub fn batch(value_bytes: usize) -> Bytes {
    let value: Vec<u8> = (b'A'..=b'Z').cycle().take(value_bytes).collect();
    let mut builder = RecordBatchBuilder::new(BatchOptions::default());
    let record =
        NewRecord { timestamp: TimestampMs(NOW_MS), value: Some(&value), ..NewRecord::default() };
    for _ in 0..BATCH_BYTES / value_bytes {
        builder.append(&record);
    }
    builder.build()
}

#[expect(clippy::print_stderr, reason = "told to who runs the benchmark")]
fn tell(text: &str) {
    eprintln!("{text}");
}
