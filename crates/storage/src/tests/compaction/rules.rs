//! What is dropped when: keys, tombstones, markers, producers, settings.

use super::*;
use crate::{AbortedTransaction, AppendError, files::transaction_entries, testing::SharedDisk};

fn run<F: Future<Output = ()> + 'static>(act: impl FnOnce(Runtime, SharedDisk) -> F) {
    let disk = SharedDisk::new(1);
    let of_life = disk.clone();
    disk.run(|runtime| act(runtime, of_life));
}

async fn open_with(runtime: &Runtime, config: TopicConfig) -> Opened {
    open(runtime, Rc::new(config), StorageOptions::default()).await.unwrap()
}

fn pass_time(disk: &SharedDisk, ms: u64) {
    disk.0.borrow_mut().now += ms * 1_000_000;
}

fn seen(key: &[u8], value: Option<&[u8]>, at: i64) -> Seen {
    Seen { key: key.to_vec(), value: value.map(<[u8]>::to_vec), timestamp: NOW + at }
}

#[test]
fn the_last_record_of_each_key_is_kept_where_it_was_whatever_the_codec() {
    for codec in [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        run(async move |runtime, _| {
            let Opened { log, .. } = open_with(&runtime, quiet_config()).await;
            let writer = Writer { codec, ..PLAIN };
            let append = |records: &[(&[u8], Option<&[u8]>)]| {
                log.append(&keyed(records, writer), &options(NOW)).unwrap();
            };
            append(&[(b"a", Some(b"1")), (b"b", Some(b"2")), (b"a", Some(b"3"))]);
            append(&[(b"c", Some(b"4")), (b"b", Some(b"5"))]);
            append(&[(b"c", Some(b"6"))]);
            settle(&log).await;
            append(&[(b"a", Some(b"7"))]);
            durable(&log).await;
            let compacted = log.compact().await.unwrap().unwrap();
            assert_eq!((compacted.records_dropped, compacted.cleaned_to), (3, Offset(6)));
            assert!(compacted.bytes_after < compacted.bytes_before);
            // The active segment is not looked at: its key `a` is there twice.
            let wanted = BTreeMap::from([
                (2, seen(b"a", Some(b"3"), 2)),
                (4, seen(b"b", Some(b"5"), 1)),
                (5, seen(b"c", Some(b"6"), 0)),
                (6, seen(b"a", Some(b"7"), 0)),
            ]);
            assert_eq!(data_of(&log).await, wanted, "{codec:?}");
            assert_eq!(log.compact().await.unwrap(), None);
        });
    }
}

#[test]
fn a_tombstone_goes_after_delete_retention_counted_from_the_first_round() {
    run(async |runtime, disk| {
        let config = TopicConfig { delete_retention_ms: 5000, ..quiet_config() };
        let Opened { log, .. } = open_with(&runtime, config).await;
        let append = |key: &[u8], value: Option<&[u8]>| {
            log.append(&keyed(&[(key, value)], PLAIN), &options(NOW)).unwrap();
        };
        let has = async |key: &[u8]| data_of(&log).await.values().any(|seen| seen.key == key);
        append(b"gone", Some(b"1"));
        append(b"gone", None);
        append(b"stays", Some(b"1"));
        settle(&log).await;
        pass_time(&disk, 60_000);
        log.compact().await.unwrap().unwrap();
        assert!(has(b"gone").await, "the tombstone is new to the consumers of a compacted log");
        let horizon = batches_of(&log).await.iter().find_map(|(bytes, _)| {
            RecordBatch::first(bytes).unwrap().delete_horizon().map(|horizon| horizon.0)
        });
        assert!(horizon.is_some_and(|horizon| horizon >= NOW + 65_000), "{horizon:?}");
        for (wait, is_there) in [(1000, true), (5000, false)] {
            pass_time(&disk, wait);
            append(b"other", Some(b"2"));
            settle(&log).await;
            log.compact().await.unwrap().unwrap();
            assert_eq!(has(b"gone").await, is_there, "after {wait} ms more");
            assert!(has(b"stays").await);
        }
    });
}

#[test]
fn aborted_records_go_and_markers_stay_as_long_as_they_mean_something() {
    run(async |runtime, disk| {
        let config = Rc::new(TopicConfig { delete_retention_ms: 5000, ..quiet_config() });
        // An active producer's last batch would keep its marker.
        let forgetful = StorageOptions { producer_expiration_ms: 0, ..StorageOptions::default() };
        let Opened { log, .. } = open(&runtime, config, forgetful).await.unwrap();
        let (aborts, commits) = (ProducerId(1), ProducerId(2));
        let mut sequences = BTreeMap::from([(aborts, 0), (commits, 0)]);
        let mut transact = |producer: ProducerId, key: &[u8], value: &[u8]| {
            let sequence = sequences.get_mut(&producer).unwrap();
            let flags = attribute::TRANSACTIONAL;
            let writer = Writer { producer, sequence: *sequence, flags, ..PLAIN };
            *sequence += 1;
            log.append(&keyed(&[(key, Some(value))], writer), &options(NOW)).unwrap();
        };
        log.append(&keyed(&[(b"k", Some(b"before"))], PLAIN), &options(NOW)).unwrap();
        transact(aborts, b"k", b"aborted");
        transact(commits, b"other", b"committed");
        append_marker(&log, aborts, ControlType::Abort);
        append_marker(&log, commits, ControlType::Commit);
        let end = append_marker(&log, commits, ControlType::Commit);
        settle(&log).await;
        let offsets = async || {
            let mut offsets: Vec<(i64, bool)> = Vec::new();
            for (bytes, records) in batches_of(&log).await {
                let batch = RecordBatch::first(&bytes).unwrap();
                offsets.extend(records.iter().map(|(offset, _)| (*offset, batch.is_control())));
            }
            offsets
        };
        log.compact().await.unwrap().unwrap();
        assert_eq!(offsets().await, [(0, false), (2, false), (3, true), (4, true), (5, true)]);
        // As in Apache Kafka: while the marker belongs to something that the round came upon.
        let index = "/data/topic-0/00000000000000000000.txnindex";
        let (entries, _) = transaction_entries(&disk.content(index).unwrap());
        let entry = AbortedTransaction {
            producer_id: aborts,
            first_offset: Offset(1),
            last_offset: Offset(3),
            last_stable_offset: Offset(2),
        };
        assert_eq!(entries, [(0, entry)]);
        // The abort has nothing left to end: from this round on its time counts.
        for _ in 0..2 {
            log.append(&keyed(&[(b"x", Some(b"x"))], PLAIN), &options(NOW)).unwrap();
            settle(&log).await;
            log.compact().await.unwrap().unwrap();
            pass_time(&disk, 6000);
        }
        let found = offsets().await;
        assert!(!disk.names("/data/topic-0").iter().any(|name| name.ends_with(".txnindex")));
        assert!(!found.contains(&(3, true)), "{found:?}");
        assert!(found.contains(&(4, true)), "its transaction is there: {found:?}");
        assert!(!found.contains(&(end.0, true)), "nothing belongs to it: {found:?}");
    });
}

#[test]
fn an_aborted_transaction_counts_for_nothing_wherever_its_marker_is() {
    run(async |runtime, _| {
        let Opened { log, .. } = open_with(&runtime, quiet_config()).await;
        let flags = attribute::TRANSACTIONAL;
        let writer = Writer { producer: ProducerId(1), sequence: 0, flags, ..PLAIN };
        log.append(&keyed(&[(b"k", Some(b"committed"))], PLAIN), &options(NOW)).unwrap();
        log.append(&keyed(&[(b"k", Some(b"aborted"))], writer), &options(NOW)).unwrap();
        log.append(&keyed(&[(b"x", Some(b"x"))], PLAIN), &options(NOW)).unwrap();
        settle(&log).await;
        append_marker(&log, ProducerId(1), ControlType::Abort);
        durable(&log).await;
        log.compact().await.unwrap().unwrap();
        let data = data_of(&log).await;
        assert_eq!(data.get(&0), Some(&seen(b"k", Some(b"committed"), 0)), "{data:?}");
        assert_eq!(data.get(&1), None);
    });
}

#[test]
fn nothing_is_compacted_from_the_first_open_transaction_on() {
    run(async |runtime, _| {
        let Opened { log, .. } = open_with(&runtime, quiet_config()).await;
        let flags = attribute::TRANSACTIONAL;
        let writer = Writer { producer: ProducerId(1), sequence: 0, flags, ..PLAIN };
        log.append(&keyed(&[(b"k", Some(b"1"))], PLAIN), &options(NOW)).unwrap();
        settle(&log).await;
        log.append(&keyed(&[(b"k", Some(b"2"))], writer), &options(NOW)).unwrap();
        log.append(&keyed(&[(b"k", Some(b"3"))], PLAIN), &options(NOW)).unwrap();
        settle(&log).await;
        let compacted = log.compact().await.unwrap().unwrap();
        assert_eq!(compacted.cleaned_to, Offset(1));
        append_marker(&log, ProducerId(1), ControlType::Commit);
        settle(&log).await;
        let compacted = log.compact().await.unwrap().unwrap();
        assert_eq!(compacted.cleaned_to, Offset(4));
        assert_eq!(data_of(&log).await, BTreeMap::from([(2, seen(b"k", Some(b"3"), 0))]));
    });
}

#[test]
fn an_active_producers_last_sequence_outlives_its_records() {
    let disk = SharedDisk::new(1);
    let config = quiet_config();
    let writer = |sequence| Writer { producer: ProducerId(7), sequence, ..PLAIN };
    disk.run(|runtime| async move {
        let opened = open_with(&runtime, config).await;
        for sequence in 0..4 {
            let batch = keyed(&[(b"k", Some(b"v"))], writer(sequence));
            opened.log.append(&batch, &options(NOW)).unwrap();
        }
        opened.log.append(&keyed(&[(b"k", Some(b"last"))], PLAIN), &options(NOW)).unwrap();
        settle(&opened.log).await;
        let compacted = opened.log.compact().await.unwrap().unwrap();
        assert_eq!(compacted.records_dropped, 4);
        assert_eq!(data_of(&opened.log).await.len(), 1);
        stop(opened).await;
    });
    // What the snapshots say is derived: the log alone has to tell it.
    for name in disk.names("/data/topic-0").iter().filter(|name| name.ends_with(".snapshot")) {
        disk.remove(&format!("/data/topic-0/{name}"));
    }
    disk.run(|runtime| async move {
        let opened = open_with(&runtime, quiet_config()).await;
        assert_eq!(opened.log.producers()[0].last_sequence, Sequence(3));
        let again = keyed(&[(b"k", Some(b"v"))], writer(3));
        assert!(opened.log.append(&again, &options(NOW)).unwrap().is_duplicate);
        let next = keyed(&[(b"k", Some(b"v"))], writer(4));
        assert_eq!(opened.log.append(&next, &options(NOW)).unwrap().base_offset, Offset(5));
    });
}

#[test]
fn segments_are_merged_and_a_small_map_takes_several_rounds() {
    run(async |runtime, _| {
        let storage_options =
            StorageOptions { dedupe_buffer_bytes: 0, ..StorageOptions::default() };
        let config = Rc::new(quiet_config());
        let Opened { log, .. } = open(&runtime, config, storage_options).await.unwrap();
        let mut wanted = BTreeMap::new();
        for round in 0..3000u32 {
            let key = (round % 1500).to_be_bytes();
            let value = round.to_be_bytes();
            let appended =
                log.append(&keyed(&[(&key, Some(&value))], PLAIN), &options(NOW)).unwrap();
            wanted.insert(key.to_vec(), (appended.base_offset.0, value.to_vec()));
            if round % 300 == 0 {
                durable(&log).await;
            }
        }
        settle(&log).await;
        let before = log.segment_count();
        let mut rounds = 0;
        while log.compact().await.unwrap().is_some() {
            rounds += 1;
        }
        assert!(rounds > 2, "{rounds} rounds");
        assert!(log.segment_count() < before, "{} of {before}", log.segment_count());
        let found: BTreeMap<_, _> = data_of(&log)
            .await
            .into_iter()
            .map(|(offset, seen)| (seen.key, (offset, seen.value.unwrap())))
            .collect();
        assert_eq!(found, wanted);
        assert_eq!(data_of(&log).await.len(), 1500);
    });
}

#[test]
fn records_without_a_key_are_refused_in_compressed_batches_too() {
    run(async |runtime, _| {
        let Opened { log, .. } = open_with(&runtime, quiet_config()).await;
        let mut builder = RecordBatchBuilder::new(BatchOptions::default());
        let value = vec![0; 1000];
        builder.append(&NewRecord { value: Some(&value), ..NewRecord::default() });
        let batch = builder.build();
        for codec in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let refused = log.append(&with_codec(&batch, codec), &options(NOW));
            assert!(matches!(refused, Err(AppendError::RecordsRefused(_))), "{codec:?}");
        }
        let mut broken = with_codec(&batch, Compression::Lz4).to_vec();
        broken.truncate(broken.len() - 9);
        let length = i32::try_from(broken.len() - 12).unwrap();
        broken[position::BATCH_LENGTH..][..4].copy_from_slice(&length.to_be_bytes());
        let crc = crc32c::crc32c(&broken[position::ATTRIBUTES..]);
        broken[position::CRC..][..4].copy_from_slice(&crc.to_be_bytes());
        let refused = log.append(&broken.into(), &options(NOW));
        assert!(matches!(refused, Err(AppendError::InvalidRecord(_))), "{refused:?}");
    });
}

#[test]
fn a_batch_that_cannot_be_looked_into_stays_and_the_rest_is_compacted() {
    run(async |runtime, _| {
        let config = TopicConfig {
            cleanup_policy: CleanupPolicy { compact: false, delete: true },
            max_message_bytes: 100 << 20,
            segment_bytes: 1 << 30,
            ..quiet_config()
        };
        let Opened { log, .. } = open_with(&runtime, config.clone()).await;
        let append = |value: &[u8], codec| {
            let writer = Writer { codec, ..PLAIN };
            log.append(&keyed(&[(b"k", Some(value))], writer), &options(NOW)).unwrap();
        };
        append(b"first", Compression::None);
        // 40 MiB of zeros in a few KiB.
        append(&vec![0; 40 << 20], Compression::Zstd);
        append(b"last", Compression::None);
        settle(&log).await;
        log.set_config(Rc::new(TopicConfig {
            cleanup_policy: quiet_config().cleanup_policy,
            ..config
        }));
        let compacted = log.compact().await.unwrap().unwrap();
        assert_eq!((compacted.records_dropped, compacted.batches_unread), (1, 1));
        let offsets: Vec<Offset> = batches_of_headers(&log).await;
        assert_eq!(offsets, [Offset(1), Offset(2)]);
    });
}

async fn batches_of_headers(log: &Log) -> Vec<Offset> {
    let up_to = log.high_watermark();
    let found = log.read(Offset(0), 1 << 20, FirstBatch::Whole, up_to).await.unwrap();
    batches(&found.batches.concat()).map(|batch| batch.unwrap().base_offset()).collect()
}

#[test]
fn the_background_compacts_when_the_settings_say_so() {
    // Name, settings, how long after the roll it must not and must have happened.
    let young = TopicConfig { min_compaction_lag_ms: 50_000, ..compacted_config() };
    let lazy = TopicConfig { max_compaction_lag_ms: 80_000, ..quiet_config() };
    let other = TopicConfig {
        cleanup_policy: CleanupPolicy { compact: false, delete: true },
        ..compacted_config()
    };
    let cases = [
        ("dirty", compacted_config(), None, Some(1000)),
        ("not dirty enough", quiet_config(), Some(400_000), None),
        ("too young", young, Some(40_000), Some(70_000)),
        ("overdue", lazy, Some(70_000), Some(100_000)),
        ("not compacted", other, Some(400_000), None),
    ];
    for (name, config, not_yet, by_then) in cases {
        run(async move |runtime, _| {
            let Opened { log, .. } = open_with(&runtime, config).await;
            // A first, clean part, so that the ratio is below 1.
            for value in [b"1", b"2", b"3"] {
                log.append(&keyed(&[(b"k", Some(value))], PLAIN), &options(NOW)).unwrap();
            }
            settle(&log).await;
            let start = runtime.now();
            for (wait_ms, wanted) in [(not_yet, Offset(0)), (by_then, Offset(3))] {
                let Some(wait_ms) = wait_ms else { continue };
                runtime.sleep_until(start + std::time::Duration::from_millis(wait_ms)).await;
                assert_eq!(log.cleaned_to(), wanted, "{name} after {wait_ms} ms");
            }
        });
    }
}

#[test]
fn retention_and_compaction_work_on_one_log_and_readers_go_on() {
    run(async |runtime, _| {
        let config = TopicConfig {
            cleanup_policy: CleanupPolicy { compact: true, delete: true },
            retention_bytes: Some(200_000),
            ..compacted_config()
        };
        let opened = open_with(&runtime, config).await;
        let log = opened.log.clone();
        let reader = log.clone();
        let is_over = Rc::new(std::cell::Cell::new(false));
        let is_told = Rc::clone(&is_over);
        runtime.spawn("reader", runtime::TaskQueue::Foreground, async move {
            while !is_told.get() {
                let up_to = reader.high_watermark();
                let mut from = reader.log_start_offset();
                while from < up_to {
                    match reader.read(from, 3000, FirstBatch::Whole, up_to).await {
                        Ok(found) if found.batches.is_empty() => break,
                        Ok(found) => from = found.next_offset,
                        Err(crate::ReadError::OffsetOutOfRange { log_start, .. }) => {
                            from = log_start;
                        }
                        Err(crate::ReadError::Closed) => return,
                        Err(error) => panic!("at {from}: {error}"),
                    }
                }
                reader.runtime().sleep(std::time::Duration::from_micros(500)).await;
            }
        });
        for round in 0..2000u32 {
            let key = (round * 7 % 90).to_be_bytes();
            let value = vec![1; 700];
            log.append(&keyed(&[(&key, Some(&value))], PLAIN), &options(NOW)).unwrap();
            if round % 20 == 0 {
                durable(&log).await;
                log.retain(NOW + 1000).await.unwrap();
                log.checkpoint().await.unwrap();
                log.remove_retained().await.unwrap();
            }
        }
        settle(&log).await;
        is_over.set(true);
        // A round that retention has overtaken is tried again after a while.
        runtime.sleep(std::time::Duration::from_secs(20)).await;
        assert!(log.cleaned_to() > Offset(1000), "{}", log.cleaned_to());
        assert!(log.size_bytes() < 300_000);
        stop(opened).await;
    });
}
