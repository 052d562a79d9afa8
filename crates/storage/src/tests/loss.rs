//! Losses: accepted by a command alone, found at the start where segments are gone, and the same
//! after a recovery that was itself cut short.

use model::record_batch::position;

use super::{damage::read_each, *};
use crate::{Error, LossToAccept, accept_loss};

const RECORDS: usize = 60;

fn value(number: usize) -> Vec<u8> {
    let mut value = number.to_be_bytes().to_vec();
    value.resize(300, 9);
    value
}

fn segment(base: i64) -> String {
    format!("/data/topic-0/{base:020}.log")
}

/// Six segments of ten records each; stopped, or killed with the mark at 55.
fn disk_with_segments(is_clean: bool) -> SharedDisk {
    let disk = SharedDisk::new(4);
    disk.run(move |runtime| async move {
        let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
        for number in 0..RECORDS {
            let appended = opened.log.append(&batch_of(&[value(number)]), &options(NOW)).unwrap();
            opened.log.wait_durable(appended.end()).await.unwrap();
            if number % 10 == 9 && number + 1 < RECORDS {
                opened.log.roll();
            }
            if number == 54 {
                let points = opened.storage.checkpoint().await.unwrap();
                opened.directory.write_checkpoints(&points).await.unwrap();
            }
        }
        if is_clean {
            stop(opened).await;
        }
    });
    disk
}

/// Which offsets have no record that can be read; the others have the right one.
fn lost(found: &[Option<Vec<u8>>]) -> Vec<usize> {
    for (number, found) in found.iter().enumerate() {
        assert!(found.as_ref().is_none_or(|found| *found == value(number)), "{number}");
    }
    (0..found.len()).filter(|number| found[*number].is_none()).collect()
}

async fn start(runtime: &Runtime) -> Opened {
    open(runtime, small_config(), StorageOptions::default()).await.unwrap()
}

#[test]
fn segments_that_are_gone_are_found_at_the_start() {
    let middle: Vec<usize> = (20..40).collect();
    let first: Vec<usize> = (0..10).collect();
    for (is_clean, gone, expected, knows_end) in [
        (true, vec![20, 30], &middle, true),
        (false, vec![20, 30], &middle, true),
        (true, vec![0], &first, true),
        (false, vec![0], &first, true),
        (true, vec![50], &(50..60).collect(), false),
        (false, vec![50], &(50..55).collect(), false),
    ] {
        let disk = disk_with_segments(is_clean);
        for base in &gone {
            disk.remove(&segment(*base));
        }
        let (found, damaged, can_append) = disk.run(|runtime| async move {
            let opened = start(&runtime).await;
            let damaged = opened.log.damages();
            let found = read_each(&opened.log).await;
            let append = opened.log.append(&batch_of(&[vec![1]]), &options(NOW));
            (found, damaged, append.is_ok())
        });
        let what = format!("clean {is_clean}, without {gone:?}: {damaged:?}");
        assert_eq!(damaged.len(), 1, "{what}");
        let offsets = damaged[0].from.0..damaged[0].to.0;
        let expected: Vec<i64> = expected.iter().map(|at| i64::try_from(*at).unwrap()).collect();
        assert_eq!(offsets.collect::<Vec<i64>>(), expected, "{what}");
        assert_eq!(can_append, knows_end, "{what}");
        if gone != [0] {
            let lost: Vec<i64> =
                lost(&found).into_iter().map(|at| i64::try_from(at).unwrap()).collect();
            assert_eq!(lost, expected, "{what}");
        }
    }
}

fn accept(disk: &SharedDisk, loss: &LossToAccept) -> Result<crate::LossReport, Error> {
    let loss = loss.clone();
    disk.run(|runtime| async move { accept_loss(&runtime, Path::new("/data"), &loss).await })
}

type Change = (&'static str, fn(&SharedDisk), Vec<usize>);

fn changes() -> Vec<Change> {
    let middle: Vec<usize> = (20..40).collect();
    vec![
        ("a bit", |disk| disk.damage(&segment(30), |bytes| bytes[500] ^= 4), vec![31]),
        (
            "two bits",
            |disk| disk.damage(&segment(30), |bytes| (bytes[500], bytes[2000]) = (0, 0)),
            vec![31, 35],
        ),
        (
            "segments",
            |disk| {
                disk.remove(&segment(20));
                disk.remove(&segment(30));
            },
            middle,
        ),
        (
            "the end",
            |disk| disk.damage(&segment(50), |bytes| bytes.truncate(700)),
            vec![51, 52, 53, 54],
        ),
        ("the last one", |disk| disk.remove(&segment(50)), vec![50, 51, 52, 53, 54]),
        (
            "a leader epoch",
            |disk| {
                disk.damage(&segment(30), |bytes| {
                    let fourth = bytes.len() / 10 * 3;
                    bytes[fourth + position::PARTITION_LEADER_EPOCH + 1] ^= 0x80;
                });
            },
            vec![33],
        ),
    ]
}

#[test]
fn only_the_command_accepts_a_loss_and_then_the_log_is_whole() {
    for (what, change, expected) in changes() {
        let disk = disk_with_segments(false);
        change(&disk);
        let before = disk.run(|runtime| async move {
            let opened = start(&runtime).await;
            let lost = lost(&read_each(&opened.log).await);
            stop(opened).await;
            lost
        });
        assert_eq!(before, expected, "{what}");
        let loss = LossToAccept {
            topic: "topic".to_owned(),
            partition: PartitionId(0),
            offsets: Some(Offset(0)..Offset(1)),
            is_compacted: false,
        };
        let all = LossToAccept { offsets: None, ..loss.clone() };
        let none = accept(&disk, &loss).unwrap();
        assert!(none.accepted.is_empty() && !none.left.is_empty(), "{none:?}");
        let report = accept(&disk, &all).unwrap();
        assert_eq!(none.left, report.accepted);
        assert_eq!(accept(&disk, &all).unwrap(), crate::LossReport::default());
        let accepted = report.accepted.iter().map(|damage| damage.to.0 - damage.from.0);
        assert_eq!(accepted.sum::<i64>(), i64::try_from(expected.len()).unwrap(), "{what}");
        disk.run(move |runtime| async move {
            let opened = start(&runtime).await;
            let end = opened.log.log_end_offset();
            // Consumers pass over what is lost, and nothing else.
            let mut offsets = Vec::new();
            for (offset, found) in read_all(&opened.log).await {
                assert_eq!(found, value(usize::try_from(offset.0).unwrap()), "{what}");
                offsets.push(usize::try_from(offset.0).unwrap());
            }
            let all = 0..usize::try_from(end.0).unwrap();
            let kept: Vec<usize> = all.filter(|at| !expected.contains(at)).collect();
            assert_eq!(offsets, kept, "{what}");
            assert!(opened.log.damages().is_empty(), "{what}");
            let appended = opened.log.append(&batch_of(&[vec![1]]), &options(NOW)).unwrap();
            assert_eq!(appended.base_offset, end, "{what}");
            opened.log.wait_durable(appended.end()).await.unwrap();
            stop(opened).await;
        });
    }
}

/// What follows the damage is believed, since it leads to the mark.
#[test]
fn a_loss_is_accepted_where_a_torn_write_follows_the_mark() {
    let disk = SharedDisk::new(4);
    disk.run(|runtime| async move {
        let opened = start(&runtime).await;
        for number in 0..40 {
            opened.log.append(&batch_of(&[value(number)]), &options(NOW)).unwrap();
        }
        stop(opened).await;
    });
    let size = batch_of(&[value(0)]).len();
    disk.damage(&segment(0), |bytes| {
        assert_eq!(bytes.len(), 40 * size, "the end of the file is that of the log");
        bytes[20 * size..20 * size + 12].fill(0);
        let torn = bytes[..size - 5].to_vec();
        bytes.extend(torn);
    });
    let loss = LossToAccept {
        topic: "topic".to_owned(),
        partition: PartitionId(0),
        offsets: Some(Offset(20)..Offset(21)),
        is_compacted: false,
    };
    let report = accept(&disk, &loss).unwrap();
    assert_eq!((report.accepted.len(), report.left.len()), (1, 0), "{report:?}");
}

#[test]
fn a_loss_is_accepted_of_a_stopped_partition_that_is_there_alone() {
    let disk = disk_with_segments(true);
    let loss = LossToAccept {
        topic: "other".to_owned(),
        partition: PartitionId(0),
        offsets: None,
        is_compacted: false,
    };
    let refused = accept(&disk, &loss);
    assert!(matches!(refused, Err(Error::Malformed { .. })), "{refused:?}");
    disk.run(|runtime| async move {
        let opened = start(&runtime).await;
        assert_eq!(opened.directory.stop(), crate::CleanStop::Clean, "the marker was put back");
        let refused = accept_loss(&runtime, Path::new("/data"), &loss).await;
        assert!(matches!(refused, Err(Error::Locked(_))), "{refused:?}");
    });
}

/// A start that is killed leaves nothing that the next one makes something else of: five in a row
/// end where one does.
#[test]
fn a_recovery_that_is_killed_five_times_ends_as_one_that_is_not() {
    for (what, change, expected) in changes() {
        for seed in 0..8 {
            let disk = disk_with_segments(false);
            change(&disk);
            disk.damage(&segment(40), |bytes| bytes.resize(bytes.len() + 5000, 0));
            disk.0.borrow_mut().chance = crate::testing::Chance::new(seed);
            for life in 0..5usize {
                let seed = usize::try_from(seed).unwrap();
                live_until(&disk, 3 + seed * 4 + life * 7, |runtime| async move {
                    drop(open(&runtime, small_config(), StorageOptions::default()).await);
                });
                if life % 2 == 0 { disk.kill() } else { disk.cut_power() }
            }
            let found = disk.run(|runtime| async move {
                let opened = start(&runtime).await;
                read_each(&opened.log).await
            });
            assert_eq!(lost(&found), expected, "{what}, seed {seed}");
            assert!(found.len() >= 55, "{what}, seed {seed}");
        }
    }
}

#[test]
fn the_scrub_finds_damage_that_nobody_has_read_and_keeps_its_rate() {
    let disk = disk_with_segments(true);
    disk.run(|runtime| async move {
        // Of one epoch more, so that the first pass has to find out whether the epochs are right.
        let opened = start(&runtime).await;
        let clean = opened.storage.scrub(1 << 30).await;
        assert_eq!((clean.segments, clean.damaged_ranges), (5, 0));
        stop(opened).await;
    });
    disk.damage(&segment(10), |bytes| bytes[1900] ^= 1);
    // The leader epoch of the second batch, which no CRC covers.
    let size = batch_of(&[value(0)]).len();
    disk.damage(&segment(30), move |bytes| bytes[size + 15] ^= 2);
    disk.run(move |runtime| async move {
        let opened = start(&runtime).await;
        assert!(opened.log.damages().is_empty());
        let (before, rate) = (runtime.now(), 4000);
        let done = opened.storage.scrub(rate).await;
        let took = runtime.now().since(before);
        assert!(took.as_secs() * rate >= done.bytes - rate, "{took:?} for {done:?}");
        let damages = opened.log.damages();
        let found: Vec<i64> = damages.iter().map(|damage| damage.from.0).collect();
        let second = i64::try_from(1900 / size).unwrap() + 10;
        assert_eq!(found, [second, 31], "{damages:?}");
        let lost = lost(&read_each(&opened.log).await);
        assert_eq!(lost, [usize::try_from(second).unwrap(), 31]);
    });
}

#[test]
fn a_partition_whose_directory_is_gone_is_no_new_one() {
    for (is_clean, end) in [(true, 60), (false, 55)] {
        let disk = disk_with_segments(is_clean);
        disk.remove("/data/topic-0");
        // A stop and a start change nothing of it.
        for _ in 0..2 {
            disk.run(move |runtime| async move {
                let opened = start(&runtime).await;
                let recorded = opened.directory.recorded();
                let other = model::Uuid([8; 16]);
                assert!(recorded.find("topic", other, PartitionId(0)).is_none());
                let log = &opened.log;
                let bounds = (log.log_start_offset(), log.high_watermark(), log.log_end_offset());
                assert_eq!(bounds, (Offset(0), Offset(end), Offset(end)));
                let read = log.read(Offset(3), 1, FirstBatch::Whole, Offset(end)).await;
                assert!(matches!(read, Err(crate::ReadError::Missing { .. })), "{read:?}");
                let refused = log.append(&batch_of(&[vec![1]]), &options(NOW));
                let damaged = crate::AppendError::Fenced(crate::FenceReason::Damaged);
                assert_eq!(refused, Err(damaged));
                stop(opened).await;
            });
        }
        let loss = LossToAccept {
            topic: "topic".to_owned(),
            partition: PartitionId(0),
            offsets: Some(Offset(0)..Offset(1)),
            is_compacted: false,
        };
        let some = accept(&disk, &loss).unwrap();
        assert!(some.accepted.is_empty() && some.left.len() == 1, "{some:?}");
        let all = LossToAccept { offsets: None, ..loss };
        let report = accept(&disk, &all).unwrap();
        let accepted = &report.accepted[0];
        assert_eq!((accepted.from, accepted.to), (Offset(0), Offset(end)));
        assert_eq!(accept(&disk, &all).unwrap(), crate::LossReport::default());
        let other = LossToAccept { topic: "other".to_owned(), ..all };
        assert!(matches!(accept(&disk, &other), Err(Error::Malformed { .. })));
        for life in 0..3 {
            disk.run(move |runtime| async move {
                let opened = start(&runtime).await;
                let log = &opened.log;
                assert_eq!(log.log_start_offset(), Offset(end));
                // No offset is given out twice. The first life leaves no directory.
                assert_eq!(log.log_end_offset(), Offset(end + i64::max(life - 1, 0)));
                if life > 0 {
                    let appended = log.append(&batch_of(&[value(1)]), &options(NOW)).unwrap();
                    log.wait_durable(appended.end()).await.unwrap();
                }
                assert_eq!(read_all(log).await.len(), usize::try_from(life).unwrap());
                stop(opened).await;
            });
        }
    }
}
