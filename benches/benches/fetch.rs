//! A hot fetch without its socket: a read of the log's tail and the response around it, as the
//! list of slices that would be sent. No record byte is touched, so bytes a second say little; the
//! time for one fetch is the figure.

use std::{hint::black_box, rc::Rc, time::Duration};

use benches::{append_options, batch, executor, new_log, scratch};
use criterion::{Criterion, criterion_group, criterion_main};
use model::Offset;
use runtime::Executor;
use storage::{FirstBatch, Log, Storage};
use wire::{
    Encoded, Records,
    fetch_response::{FetchResponse, FetchableTopicResponse, PartitionData},
    frame,
};

/// The newest version.
const VERSION: i16 = 18;
/// Batches in the tail.
const BATCHES: usize = 16;

fn fetches(criterion: &mut Criterion) {
    let mut executor = executor();
    let directory = scratch(env!("CARGO_TARGET_TMPDIR"));
    let mut group = criterion.benchmark_group("fetch");
    group.measurement_time(Duration::from_secs(2)).sample_size(20);
    let (_storage, log) = filled(&mut executor, directory.path().to_owned());
    for max_bytes in [128 << 10, 1 << 20] {
        group.bench_function(format!("hot, {} KiB", max_bytes >> 10), |bencher| {
            bencher.iter(|| black_box(fetch(&log, max_bytes)));
        });
    }
    group.finish();
}

/// A log whose records are all durable and in its tail.
fn filled(executor: &mut Executor, path: std::path::PathBuf) -> (Rc<Storage>, Log) {
    let runtime = executor.runtime();
    executor.block_on(async move {
        let (storage, log) = new_log(&runtime, &path).await;
        let batch = batch(1024);
        for _ in 0..BATCHES {
            log.append(&batch, &append_options()).expect("the log takes it");
        }
        log.wait_durable(log.log_end_offset()).await.expect("the disk takes it");
        (storage, log)
    })
}

fn fetch(log: &Log, max_bytes: usize) -> Encoded {
    let end = log.high_watermark();
    let read = log.try_read(Offset::ZERO, max_bytes, FirstBatch::Whole, end);
    let found = read.expect("the log is open").expect("all of it is in the tail");
    let partition = PartitionData {
        high_watermark: end.0,
        last_stable_offset: end.0,
        records: Some(Records::Slices(found.batches)),
        ..Default::default()
    };
    let topic = FetchableTopicResponse {
        topic_id: log.topic_id(),
        partitions: vec![partition],
        ..Default::default()
    };
    let response = FetchResponse { responses: vec![topic], ..Default::default() };
    frame::encode_response(7, VERSION, &response).expect("the version can say it")
}

criterion_group!(fetch_benches, fetches);
criterion_main!(fetch_benches);
