//! Appends of 128 KiB batches to a log on a real disk, counted when they are durable: in groups of
//! eight, as a pipelining producer sends them, and one at a time.
//!
//! Each sample writes a log of its own, which is removed when it was taken. Files are in the
//! target directory: in `O_DIRECT`, where its file system has it.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use benches::{append_options, batch, executor, new_log, scratch};
use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use runtime::Executor;

/// Batches that a pipelining producer has in flight.
const IN_FLIGHT: u64 = 8;

fn appends(criterion: &mut Criterion) {
    let mut executor = executor();
    let mut group = criterion.benchmark_group("segment_append");
    group.sample_size(10).warm_up_time(Duration::from_secs(1));
    for value_bytes in [1024, 100] {
        let batch = batch(value_bytes);
        let size = u64::try_from(batch.len()).expect("a batch is small");
        group.throughput(Throughput::Bytes(size));
        for (name, in_flight) in [("pipelined", IN_FLIGHT), ("one at a time", 1)] {
            group.bench_function(format!("{value_bytes} B records, {name}"), |bencher| {
                bencher.iter_custom(|count| sample(&mut executor, &batch, count, in_flight));
            });
        }
    }
    group.finish();
}

/// The time for `count` durable appends, `in_flight` at a time.
fn sample(executor: &mut Executor, batch: &Bytes, count: u64, in_flight: u64) -> Duration {
    let directory = scratch(env!("CARGO_TARGET_TMPDIR"));
    let path = directory.path().to_owned();
    let (runtime, batch) = (executor.runtime(), batch.clone());
    executor.block_on(async move {
        let (storage, log) = new_log(&runtime, &path).await;
        let started = Instant::now();
        let mut done = 0;
        while done < count {
            for _ in 0..in_flight.min(count - done) {
                black_box(log.append(&batch, &append_options()).expect("the log takes it"));
                done += 1;
            }
            log.wait_durable(log.log_end_offset()).await.expect("the disk takes it");
        }
        let took = started.elapsed();
        Box::pin(storage.close()).await.expect("the disk takes it");
        took
    })
}

criterion_group!(segment_append, appends);
criterion_main!(segment_append);
