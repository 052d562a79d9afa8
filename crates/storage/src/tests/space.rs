//! What becomes of appends on a full disk.

use super::*;
use crate::AppendError;

fn value(number: usize, size: usize) -> Vec<u8> {
    let mut value = number.to_be_bytes().to_vec();
    value.resize(size.max(8), u8::try_from(number % 256).unwrap());
    value
}

#[test]
fn without_space_appends_are_refused_and_taken_again_once_there_is_some() {
    let disk = SharedDisk::new(1);
    let shared = disk.clone();
    disk.run(move |runtime| async move {
        let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
        for number in 0..3 {
            let appended = opened.log.append(&batch_of(&[value(number, 8)]), &options(NOW));
            opened.log.wait_durable(appended.unwrap().end()).await.unwrap();
        }
        shared.0.borrow_mut().space = 0;
        let mut end = 3;
        let mut refused = 0;
        for _ in 0..20 {
            let batch = produced(
                &[value(end, (end * 37) % 3000), vec![9; 20_000]],
                ProducerId(1),
                i32::try_from((end - 3) * 2).unwrap(),
            );
            match opened.log.append(&batch, &options(NOW)) {
                Ok(appended) => match opened.log.wait_durable(appended.end()).await {
                    Ok(()) => end += 1,
                    Err(crate::WaitError::NoSpace) => refused += 1,
                    Err(error) => panic!("{error}"),
                },
                Err(AppendError::NoSpace) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(refused > 10 && end > 3, "{refused} {end}");
        shared.0.borrow_mut().space = u64::MAX;
        for _ in 0..100 {
            let batch =
                produced(&[value(1, 8)], ProducerId(1), i32::try_from((end - 3) * 2).unwrap());
            match opened.log.append(&batch, &options(NOW)) {
                Ok(appended) => {
                    opened.log.wait_durable(appended.end()).await.unwrap();
                    return;
                }
                Err(AppendError::NoSpace) => {
                    runtime.sleep(std::time::Duration::from_millis(100)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
        panic!("appends are still refused");
    });
}

/// Appends until one is refused for want of space, and gives how many were taken.
async fn append_until_full(log: &Log, from: i64, value_bytes: usize) -> i64 {
    for number in from..from + 10_000 {
        let value = vec![7; value_bytes];
        match log.append(&batch_of(&[value]), &options(NOW)) {
            Ok(appended) => match log.wait_durable(appended.end()).await {
                Ok(()) => {}
                Err(crate::WaitError::NoSpace) => return number - from,
                Err(error) => panic!("{error}"),
            },
            Err(AppendError::NoSpace) => return number - from,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the disk does not fill");
}

#[test]
fn the_last_of_the_disk_is_left_to_the_logs_that_may_use_it() {
    const TOTAL: u64 = 32 << 20;
    let disk = SharedDisk::new(1);
    let shared = disk.clone();
    disk.run(move |runtime| async move {
        let config = Rc::new(TopicConfig { segment_bytes: 4 << 20, ..TopicConfig::default() });
        let opened = open_some(&runtime, config, StorageOptions::default(), 3).await.unwrap();
        let [ordinary, internal, new] = &opened.logs[..] else { panic!("three logs") };
        internal.use_reserve();
        {
            let mut disk = shared.0.borrow_mut();
            (disk.space, disk.total_space) = (TOTAL, TOTAL);
        }
        let taken = append_until_full(ordinary, 0, 20_000).await;
        let left = shared.0.borrow().space;
        assert!(taken > 1000, "{taken}");
        // The reserve is left, and little above it.
        assert!((TOTAL / 16..TOTAL / 16 + (256 << 10)).contains(&left), "{left}");
        // A partition that has nothing yet does not get as far as its directory.
        assert_eq!(append_until_full(new, 0, 8).await, 0);
        assert!(!shared.names("/data").contains(&"topic-2".to_owned()));
        // Small steps: nearly all of it is used.
        let taken = append_until_full(internal, 0, 1000).await;
        assert!(taken > 1500, "{taken}");
        assert!(shared.0.borrow().space < 8192);
        let read = read_all(ordinary).await;
        assert!(read.len() > 1000);
        shared.0.borrow_mut().space = TOTAL;
        for log in &opened.logs {
            let mut tries = 0;
            while append_until_taken(log).await.is_err() {
                tries += 1;
                assert!(tries < 20, "appends are still refused");
                runtime.sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    });
}

async fn append_until_taken(log: &Log) -> Result<(), AppendError> {
    let appended = log.append(&batch_of(&[value(1, 8)]), &options(NOW))?;
    log.wait_durable(appended.end()).await.map_err(|_| AppendError::NoSpace)
}

#[test]
fn what_is_taken_back_gives_its_memory_back_and_leaves_a_log_that_can_be_closed() {
    let disk = SharedDisk::new(3);
    let shared = disk.clone();
    disk.run(move |runtime| async move {
        let config = Rc::new(TopicConfig { segment_bytes: 8 << 20, ..TopicConfig::default() });
        let opened = open_some(&runtime, config, StorageOptions::default(), 2).await.unwrap();
        let [log, new] = &opened.logs[..] else { panic!("two logs") };
        let appended = log.append(&batch_of(&[value(0, 8)]), &options(NOW)).unwrap();
        log.wait_durable(appended.end()).await.unwrap();
        let before = opened.storage.tail_bytes();
        {
            let mut disk = shared.0.borrow_mut();
            (disk.space, disk.total_space) = (1 << 20, 32 << 20);
        }
        for round in 0..4 {
            for log in [log, new] {
                for number in 0..40 {
                    // Refused in advance, or taken back below.
                    let _ = log.append(&batch_of(&[value(number, 100_000)]), &options(NOW));
                }
                let waited = log.wait_durable(log.log_end_offset()).await;
                assert!(round > 0 || waited == Err(crate::WaitError::NoSpace), "{waited:?}");
                runtime.sleep(std::time::Duration::from_millis(600)).await;
            }
        }
        let grown = opened.storage.tail_bytes().saturating_sub(before);
        assert!(grown <= 1 << 20, "{grown} bytes are still counted");
        assert_eq!(new.log_end_offset(), Offset::ZERO);
        assert_eq!(new.segment_count(), 0);
        // Appended, and taken back while the log is closing.
        shared.0.borrow_mut().space = u64::MAX;
        runtime.sleep(std::time::Duration::from_millis(600)).await;
        while log.append(&batch_of(&[value(1, 1_000_000)]), &options(NOW)).is_err() {
            runtime.sleep(std::time::Duration::from_millis(100)).await;
        }
        log.wait_durable(log.log_end_offset()).await.unwrap();
        shared.0.borrow_mut().space = 1 << 20;
        let end = log.log_end_offset();
        for number in 0..40 {
            log.append(&batch_of(&[value(number, 100_000)]), &options(NOW)).unwrap();
        }
        let points = opened.storage.close().await.unwrap();
        assert!(log.log_end_offset() >= end);
        assert!(points.iter().all(|point| point.recovery_point <= point.high_watermark));
        opened.directory.write_checkpoints(&points).await.unwrap();
        opened.directory.write_clean_shutdown(1).await.unwrap();
        assert!(!shared.names("/data").contains(&"topic-1".to_owned()));
    });
}
