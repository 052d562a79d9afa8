//! The durable marks: when they are moved, and that moving them disturbs nothing else.

use std::time::Duration;

use model::record_batch::TimestampType;

use super::*;
use crate::{CheckpointNeed, index::Indexes, testing::Chance};

fn large_config() -> Rc<TopicConfig> {
    Rc::new(TopicConfig { max_message_bytes: 4 << 20, ..TopicConfig::default() })
}

async fn append_durably(log: &Log, bytes: usize) {
    let appended = log.append(&batch_of(&[vec![3; bytes]]), &options(NOW)).unwrap();
    log.wait_durable(appended.end()).await.unwrap();
}

#[test]
fn a_log_that_passes_its_window_asks_for_a_checkpoint_at_once_and_an_idle_one_never() {
    let disk = SharedDisk::new(1);
    disk.run(|runtime| async move {
        let opened = open(&runtime, large_config(), StorageOptions::default()).await.unwrap();
        let storage = &opened.storage;
        let a_day = Duration::from_secs(86_400);
        let wanted = async || {
            let limit = runtime.now() + a_day;
            runtime.deadline(limit, storage.checkpoint_wanted()).await.ok()
        };
        assert_eq!(wanted().await, None, "nothing was appended");
        append_durably(&opened.log, 1000).await;
        assert_eq!(wanted().await, Some(CheckpointNeed::Later));
        assert_eq!(wanted().await, None, "asked once for a round");
        let mut appended = 0;
        while appended << 20 < crate::marks::WINDOW_BYTES {
            append_durably(&opened.log, 3 << 20).await;
            appended += 3;
        }
        assert_eq!(wanted().await, Some(CheckpointNeed::Now));
        let points = storage.checkpoint_due().await;
        assert_eq!(points[0].recovery_point, opened.log.durable_end());
        assert_eq!(wanted().await, None, "everything is marked");
        let names = opened.directory.path().to_owned();
        let before = runtime.list_directory(&names.join("topic-0")).await.unwrap();
        storage.checkpoint_due().await;
        let after = runtime.list_directory(&names.join("topic-0")).await.unwrap();
        assert_eq!(before, after, "a round without news writes nothing");
    });
}

#[test]
fn many_logs_that_pass_the_budget_together_ask_for_a_checkpoint_at_once() {
    let disk = SharedDisk::new(1);
    disk.run(|runtime| async move {
        let storage_options =
            StorageOptions { unmarked_bytes_max: 20 << 20, ..StorageOptions::default() };
        let opened = open_some(&runtime, large_config(), storage_options, 10).await.unwrap();
        let storage = &opened.storage;
        let mut appended = 0;
        while appended < 20 {
            for log in &opened.logs[..9] {
                append_durably(log, 1 << 20).await;
                appended += 1;
            }
        }
        append_durably(&opened.logs[9], 1000).await;
        assert_eq!(storage.checkpoint_wanted().await, CheckpointNeed::Now);
        let points = storage.checkpoint_due().await;
        for (log, point) in opened.logs.iter().zip(&points).take(9) {
            assert_eq!(point.recovery_point, log.durable_end());
        }
        assert_eq!(points[9].recovery_point, Offset(0), "too little to be worth it");
        append_durably(&opened.logs[0], 1 << 20).await;
        assert_eq!(storage.checkpoint_wanted().await, CheckpointNeed::Later);
    });
}

#[test]
fn the_snapshot_of_a_mark_that_may_still_be_named_is_kept() {
    let disk = SharedDisk::new(1);
    disk.run(|runtime| async move {
        let opened = open(&runtime, large_config(), StorageOptions::default()).await.unwrap();
        append_durably(&opened.log, 1000).await;
        let points = opened.storage.checkpoint().await.unwrap();
        opened.directory.write_checkpoints(&points).await.unwrap();
        opened.storage.marks_recorded();
        // Marks that never come into the directory's file.
        for _ in 0..5 {
            append_durably(&opened.log, 1000).await;
            opened.storage.checkpoint().await.unwrap();
        }
    });
    let opened = disk.run(|runtime| async move {
        let opened = open(&runtime, large_config(), StorageOptions::default()).await.unwrap();
        (opened.log.recovery_point(), opened.log.log_end_offset())
    });
    assert_eq!(opened, (Offset(1), Offset(6)));
}

#[test]
fn a_mark_is_never_ahead_of_what_is_durable() {
    for seed in 0..20 {
        SharedDisk::new(seed).run(|runtime| async move {
            let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
            opened.log.append(&batch_of(&[vec![1; 900]]), &options(NOW)).unwrap();
            let log = opened.log.clone();
            let ended = Rc::new(RefCell::new(None));
            let told = Rc::clone(&ended);
            runtime.spawn("checkpoint", runtime::TaskQueue::Foreground, async move {
                let result = log.checkpoint().await;
                *told.borrow_mut() = Some(result);
            });
            while ended.borrow().is_none() {
                runtime.sleep(Duration::from_micros(50)).await;
                assert!(opened.log.recovery_point() <= opened.log.durable_end());
            }
            assert_eq!(opened.log.recovery_point(), Offset(1));
        });
    }
}

/// Once a checkpoint and the end of a segment wrote the same temporary file: one of them failed,
/// or the indexes were half one and half the other.
#[test]
fn a_checkpoint_and_the_end_of_a_segment_do_not_share_a_temporary_file() {
    for seed in 0..100 {
        let disk = SharedDisk::new(seed);
        let bases = disk.run(|runtime| async move {
            let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
            let mut chance = Chance::new(seed);
            for round in 0..6 {
                for _ in 0..25 + chance.below(10) {
                    opened.log.append(&batch_of(&[vec![1; 900]]), &options(NOW + round)).unwrap();
                }
                opened.log.wait_durable(opened.log.log_end_offset()).await.unwrap();
                let log = opened.log.clone();
                let outcome = Rc::new(RefCell::new(None));
                let told = Rc::clone(&outcome);
                runtime.spawn("checkpoint", runtime::TaskQueue::Foreground, async move {
                    let result = log.checkpoint().await;
                    *told.borrow_mut() = Some(result);
                });
                let pause = u64::try_from(chance.below(200)).unwrap();
                runtime.sleep(Duration::from_micros(pause)).await;
                opened.log.roll();
                while outcome.borrow().is_none() {
                    runtime.sleep(Duration::from_millis(1)).await;
                }
                outcome.borrow_mut().take().unwrap().unwrap();
            }
            opened.log.wait_durable(opened.log.log_end_offset()).await.unwrap();
            runtime.sleep(Duration::from_secs(1)).await;
            let state = opened.log.0.state.borrow();
            let finished = &state.segments[..state.segments.len() - 1];
            finished.iter().map(|segment| segment.base_offset).collect::<Vec<_>>()
        });
        for pair in bases.windows(2) {
            let file = |suffix: &str| {
                disk.content(&format!("/data/topic-0/{:020}.{suffix}", pair[0].0)).unwrap()
            };
            let indexes =
                Indexes::parse(pair[0], &file("index"), &file("timeindex"), 1 << 20, pair[1]);
            let whole = file("log").len();
            let indexes = indexes.unwrap_or_else(|| panic!("seed {seed}: {pair:?}"));
            let left_out = u64::try_from(whole).unwrap() - indexes.last_position();
            assert!(left_out < 3100, "seed {seed}: {pair:?} {left_out}");
        }
    }
}

#[test]
fn the_index_files_grow_with_the_marks_and_a_torn_entry_costs_nothing() {
    let disk = SharedDisk::new(1);
    let storage_options =
        StorageOptions { unmarked_bytes_max: 1 << 20, ..StorageOptions::default() };
    const INDEX: &str = "/data/topic-0/00000000000000000000.index";
    const TIMES: &str = "/data/topic-0/00000000000000000000.timeindex";
    let seen = disk.clone();
    let config = || {
        let message_timestamp_type = TimestampType::LogAppendTime;
        Rc::new(TopicConfig { message_timestamp_type, ..TopicConfig::default() })
    };
    disk.run(move |runtime| async move {
        let opened = open(&runtime, config(), storage_options).await.unwrap();
        for round in 0..6 {
            for number in 0..40 {
                let options = options(NOW + round * 40 + number);
                let appended = opened.log.append(&batch_of(&[vec![3; 50_000]]), &options).unwrap();
                opened.log.wait_durable(appended.end()).await.unwrap();
            }
            let points = opened.storage.checkpoint_due().await;
            opened.directory.write_checkpoints(&points).await.unwrap();
            opened.storage.marks_recorded();
            let whole = opened.log.0.state.borrow().segments[0].indexes.clone().unwrap();
            assert_eq!(seen.content(INDEX).unwrap(), whole.offset_file());
            assert_eq!(seen.content(TIMES).unwrap(), whole.time_file());
        }
        append_durably(&opened.log, 1000).await;
    });
    for cut in 0..9 {
        disk.damage(INDEX, |bytes| bytes.truncate(bytes.len() - cut));
        let report = disk.run(move |runtime| async move {
            let opened = open(&runtime, config(), storage_options).await.unwrap();
            assert_eq!(opened.log.log_end_offset(), Offset(241));
            opened.report
        });
        assert_eq!(report.rebuilt_indexes, 0, "{cut}");
        assert!(report.checked_bytes < 400_000, "{cut}: {report:?}");
    }
}
