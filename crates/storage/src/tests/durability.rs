//! `durability`, `flush.messages` and `flush.ms`: what an answer waits for, and what a crash may take.

use model::topic_config::Durability;

use super::*;
use crate::AppendError;

fn replicated() -> TopicConfig {
    TopicConfig { durability: Durability::Replicated, ..TopicConfig::default() }
}

fn values(bytes: usize) -> Vec<Vec<u8>> {
    vec![vec![5; bytes]]
}

async fn open_with(runtime: &Runtime, config: TopicConfig) -> Opened {
    open(runtime, Rc::new(config), StorageOptions::default()).await.unwrap()
}

/// Lives that end without a stop, each with what it leaves.
fn after_a_crash(
    config: &TopicConfig,
    crash: impl FnOnce(&SharedDisk),
    life: impl AsyncFnOnce(Runtime, Opened) + 'static,
) -> Offset {
    let disk = SharedDisk::new(7);
    let opened_with = config.clone();
    disk.run(|runtime| async move {
        let opened = open_with(&runtime, opened_with).await;
        life(runtime, opened).await;
    });
    crash(&disk);
    let opened_with = config.clone();
    disk.run(|runtime| async move {
        let opened = open_with(&runtime, opened_with).await;
        assert_eq!(opened.log.high_watermark(), opened.log.log_end_offset());
        opened.log.log_end_offset()
    })
}

#[test]
fn a_replicated_record_is_answered_and_shown_when_it_is_written() {
    let life = async |_, opened: Opened| {
        let log = &opened.log;
        let appended = log.append(&batch_of(&values(100)), &options(NOW)).unwrap();
        assert_eq!(log.high_watermark(), Offset(0), "it is in memory alone");
        log.wait_acknowledged(&appended).await.unwrap();
        assert_eq!((log.high_watermark(), log.durable_end()), (Offset(1), Offset(0)));
        assert_eq!(read_all(log).await.len(), 1);
    };
    assert_eq!(after_a_crash(&replicated(), SharedDisk::kill, life), Offset(1));
    assert_eq!(after_a_crash(&replicated(), SharedDisk::cut_power, life), Offset(0));
    let life = async |_, opened: Opened| {
        let log = &opened.log;
        let appended = log.append(&batch_of(&values(100)), &options(NOW)).unwrap();
        log.wait_acknowledged(&appended).await.unwrap();
        assert_eq!((log.high_watermark(), log.durable_end()), (Offset(1), Offset(1)));
    };
    assert_eq!(after_a_crash(&TopicConfig::default(), SharedDisk::cut_power, life), Offset(1));
}

#[test]
fn what_is_replicated_is_on_disk_after_a_while_or_when_it_is_much_or_when_somebody_waits() {
    for (flush_ms, long_ms, short_ms) in [(i64::MAX, 130, 80), (700, 730, 600), (20, 50, 10)] {
        let config = TopicConfig { flush_ms, ..replicated() };
        let life = async move |runtime: Runtime, opened: Opened| {
            let log = &opened.log;
            for number in 1..4 {
                let appended = log.append(&batch_of(&values(100)), &options(NOW)).unwrap();
                log.wait_acknowledged(&appended).await.unwrap();
                runtime.sleep(std::time::Duration::from_millis(short_ms)).await;
                assert_eq!(log.durable_end(), Offset(number - 1), "{flush_ms} ms");
                let rest = std::time::Duration::from_millis(long_ms - short_ms);
                runtime.sleep(rest).await;
                assert_eq!(log.durable_end(), Offset(number), "{flush_ms} ms");
            }
            // Nothing is timed where nothing is held back.
            let appended = log.append(&batch_of(&values(300 << 10)), &options(NOW)).unwrap();
            log.wait_acknowledged(&appended).await.unwrap();
            runtime.sleep(std::time::Duration::from_millis(8)).await;
            assert_eq!(log.durable_end(), Offset(4), "{flush_ms} ms");
            let appended = log.append(&batch_of(&values(100)), &options(NOW)).unwrap();
            log.wait_durable(appended.end()).await.unwrap();
            assert_eq!(log.durable_end(), Offset(5), "{flush_ms} ms");
        };
        assert_eq!(after_a_crash(&config, SharedDisk::cut_power, life), Offset(5));
    }
}

#[test]
fn flush_messages_makes_every_answer_wait_for_the_disk() {
    for durability in [Durability::Sync, Durability::Replicated] {
        let config = TopicConfig { durability, flush_messages: 3, ..TopicConfig::default() };
        let life = async |_, opened: Opened| {
            let log = &opened.log;
            let mut forced = 0;
            for number in 1..=9 {
                let appended = log.append(&batch_of(&values(100)), &options(NOW)).unwrap();
                assert_eq!(appended.is_flush_due, number % 3 == 0, "{number}");
                log.wait_for_leader(&appended).await.unwrap();
                if appended.is_flush_due {
                    assert_eq!(log.durable_end(), Offset(number));
                    forced += 1;
                } else {
                    assert!(log.durable_end() < Offset(number), "{number}");
                }
            }
            assert_eq!(forced, 3);
        };
        assert_eq!(after_a_crash(&config, SharedDisk::cut_power, life), Offset(9));
    }
}

#[test]
fn a_change_of_durability_acts_at_once_and_takes_nothing_from_consumers() {
    let life = async |_, opened: Opened| {
        let log = &opened.log;
        let append = || log.append(&batch_of(&values(100)), &options(NOW)).unwrap();
        log.wait_acknowledged(&append()).await.unwrap();
        log.set_config(Rc::new(TopicConfig::default()));
        assert_eq!((log.high_watermark(), log.durable_end()), (Offset(1), Offset(0)));
        let appended = append();
        log.wait_written(appended.end()).await.unwrap();
        assert_eq!(log.high_watermark(), Offset(1), "what is written alone is not shown any more");
        log.wait_acknowledged(&appended).await.unwrap();
        assert_eq!((log.high_watermark(), log.durable_end()), (Offset(2), Offset(2)));
        // And back: what is written is shown at once.
        let appended = append();
        log.wait_written(appended.end()).await.unwrap();
        assert_eq!(log.high_watermark(), Offset(2));
        log.set_config(Rc::new(replicated()));
        assert_eq!(log.high_watermark(), Offset(3));
    };
    after_a_crash(&replicated(), SharedDisk::kill, life);
}

#[test]
fn a_log_does_not_start_behind_the_end_that_a_power_cut_leaves() {
    let life = async |_, opened: Opened| {
        let log = &opened.log;
        let mut appended = None;
        for _ in 0..5 {
            appended = Some(log.append(&batch_of(&values(100)), &options(NOW)).unwrap());
        }
        log.wait_acknowledged(&appended.unwrap()).await.unwrap();
        assert_eq!(log.durable_end(), Offset(0));
        assert_eq!(log.delete_records(Offset(5)).await.unwrap(), Offset(5));
        assert_eq!(log.durable_end(), Offset(5));
    };
    assert_eq!(after_a_crash(&replicated(), SharedDisk::cut_power, life), Offset(5));
}

#[test]
fn an_append_that_finds_no_room_does_not_wait_for_what_is_held_back() {
    let bytes_max = 70 << 20;
    let config = TopicConfig {
        flush_ms: 3_600_000,
        max_message_bytes: bytes_max,
        segment_bytes: bytes_max,
        ..replicated()
    };
    let life = async |runtime: Runtime, opened: Opened| {
        let log = &opened.log;
        let appended = log.append(&batch_of(&values(100)), &options(NOW)).unwrap();
        log.wait_acknowledged(&appended).await.unwrap();
        assert_eq!(log.durable_end(), Offset(0));
        // With what waits it is more than may wait.
        let large = batch_of(&values((64 << 20) - 100));
        assert_eq!(log.append(&large, &options(NOW)), Err(AppendError::Busy));
        let second = std::time::Duration::from_secs(1);
        let deadline = runtime.now() + second;
        assert!(runtime.deadline(deadline, log.wait_for_room(large.len())).await.is_ok());
        let appended = log.append(&large, &options(NOW)).unwrap();
        log.wait_durable(appended.end()).await.unwrap();
    };
    assert_eq!(after_a_crash(&config, SharedDisk::cut_power, life), Offset(2));
}
