//! Read-ahead: who reads on in sequence is served from memory, and nothing else changes.

use super::*;
use crate::ReadError;

const LOG: &str = "/data/topic-0/00000000000000000000.log";
const BATCH_COUNT: usize = 600;
const VALUE_BYTES: usize = 10_000;

fn value(number: usize) -> Vec<u8> {
    let mut value = number.to_be_bytes().to_vec();
    value.resize(VALUE_BYTES, u8::try_from(number % 256).unwrap());
    value
}

/// A log of one finished segment of 6 MB that was stopped cleanly.
fn disk_with_log() -> SharedDisk {
    let disk = SharedDisk::new(11);
    disk.run(|runtime| async move {
        let opened = open(&runtime, Rc::default(), StorageOptions::default()).await.unwrap();
        for number in 0..BATCH_COUNT {
            let appended = opened.log.append(&batch_of(&[value(number)]), &options(NOW)).unwrap();
            opened.log.wait_written(appended.end()).await.unwrap();
        }
        stop(opened).await;
    });
    disk
}

/// Reads from `from` on, `max_bytes` at a time, `step` reads; gives where it came to.
async fn read_some(log: &Log, from: Offset, max_bytes: usize, step: usize) -> Offset {
    let mut at = from;
    for _ in 0..step {
        let found = log.read(at, max_bytes, FirstBatch::Whole, log.high_watermark()).await.unwrap();
        assert_eq!(found.first_offset, at);
        let bytes = found.batches.concat();
        for batch in batches(&bytes) {
            let batch = batch.unwrap();
            batch.verify_crc().unwrap();
            let record = batch.records().next().unwrap().unwrap();
            assert_eq!(batch.base_offset(), at);
            assert_eq!(record.value.unwrap(), value(usize::try_from(at.0).unwrap()));
            at = at.next();
        }
        assert_eq!(found.next_offset, at);
    }
    at
}

#[test]
fn a_reader_in_sequence_is_served_from_memory_and_leaves_none_behind() {
    let cases = [(1, 500), (25_000, 250), (1 << 20, 5), (5 << 20, 5)];
    for (max_bytes, reads) in cases {
        disk_with_log().run(move |runtime| async move {
            let opened = open(&runtime, Rc::default(), StorageOptions::default()).await.unwrap();
            let ahead = &opened.storage.0.read_ahead;
            let end = read_some(&opened.log, Offset(0), max_bytes, reads).await;
            assert!(end.0 > 450, "{max_bytes}: up to {end}");
            let hits = ahead.hits.get();
            // The first read says that there is a reader, the second that it reads in sequence.
            assert!(hits + 3 >= u64::try_from(reads).unwrap(), "{max_bytes}: {hits} of {reads}");
            assert!(ahead.held_bytes() > 0);
            runtime.sleep(std::time::Duration::from_secs(15)).await;
            assert_eq!((ahead.held_bytes(), ahead.count()), (0, 0));
            read_some(&opened.log, end, 30_000, 5).await;
        });
    }
}

#[test]
fn many_readers_share_a_bounded_memory_and_each_gets_its_own() {
    disk_with_log().run(|runtime| async move {
        let opened = open(&runtime, Rc::default(), StorageOptions::default()).await.unwrap();
        let mut places: Vec<Offset> = (0..100).map(|number| Offset(number * 5)).collect();
        for _ in 0..4 {
            for place in &mut places {
                *place = read_some(&opened.log, *place, 60_000, 1).await;
                assert!(opened.storage.0.read_ahead.held_bytes() <= 32 << 20);
            }
        }
    });
}

#[test]
fn a_pause_lets_go_of_what_was_read_ahead_and_ends_by_itself() {
    disk_with_log().run(|runtime| async move {
        let opened = open(&runtime, Rc::default(), StorageOptions::default()).await.unwrap();
        let ahead = &opened.storage.0.read_ahead;
        let at = read_some(&opened.log, Offset(0), 60_000, 4).await;
        assert!(ahead.held_bytes() > 0);
        opened.storage.pause_read_ahead();
        // What was on its way has come by then, too.
        let at = read_some(&opened.log, at, 60_000, 4).await;
        assert_eq!(ahead.held_bytes(), 0);
        let hits = ahead.hits.get();
        let at = read_some(&opened.log, at, 60_000, 4).await;
        assert_eq!((ahead.held_bytes(), ahead.hits.get()), (0, hits));
        runtime.sleep(std::time::Duration::from_millis(1100)).await;
        read_some(&opened.log, at, 60_000, 4).await;
        assert!(ahead.held_bytes() > 0 && ahead.hits.get() > hits);
    });
}

#[test]
fn one_read_here_and_there_costs_no_memory() {
    disk_with_log().run(|runtime| async move {
        let opened = open(&runtime, Rc::default(), StorageOptions::default()).await.unwrap();
        for number in 0..50 {
            read_some(&opened.log, Offset((number * 83) % 500), 30_000, 1).await;
        }
        assert_eq!(opened.storage.0.read_ahead.held_bytes(), 0);
    });
}

#[test]
fn what_was_damaged_is_not_served_from_a_stretch_either() {
    let disk = disk_with_log();
    let batch_bytes = disk.content(LOG).unwrap().len() / BATCH_COUNT;
    disk.damage(LOG, |bytes| bytes[batch_bytes * 40 + 5000] ^= 1);
    disk.run(|runtime| async move {
        let opened = open(&runtime, Rc::default(), StorageOptions::default()).await.unwrap();
        let mut at = Offset(0);
        let error = loop {
            let read = opened.log.read(at, 25_000, FirstBatch::Whole, Offset(600)).await;
            match read {
                Ok(found) => at = found.next_offset,
                Err(error) => break error,
            }
        };
        assert!(at >= Offset(38) && at <= Offset(40), "{at}");
        assert!(matches!(error, ReadError::Damaged(_)), "{error}");
        assert!(opened.storage.0.read_ahead.hits.get() > 10);
    });
}
