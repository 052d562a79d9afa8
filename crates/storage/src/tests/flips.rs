//! One bit is flipped in one file of a stopped or killed log, anywhere: what was not written is
//! never served, what is durable is never lost without a word, and a derived file costs nothing.
//!
//! `ODRADEK_FLIPS` says how many; a run prints what became of them.

use std::{collections::BTreeMap, env};

use model::record_batch::RecordBatch;

use super::*;
use crate::{ReadError, testing::Chance};

/// How many flips, unless `ODRADEK_FLIPS` says otherwise.
const FLIPS: u64 = 500;

/// A log as it was left, and what it holds.
struct Left {
    disk: SharedDisk,
    /// The batches by base offset, as they have to be served.
    batches: BTreeMap<i64, Vec<u8>>,
    end: i64,
    mark: i64,
    /// The timestamp of each batch's last offset.
    times: Vec<(i64, i64)>,
    /// Which leader epoch ends where.
    epochs: Vec<(LeaderEpoch, Offset)>,
    files: Vec<String>,
}

fn batch(number: i64, chance: &mut Chance) -> Bytes {
    let mut builder = RecordBatchBuilder::new(BatchOptions {
        producer_id: ProducerId(5),
        producer_epoch: ProducerEpoch(0),
        base_sequence: Sequence(i32::try_from(number).unwrap()),
        ..BatchOptions::default()
    });
    let value = vec![u8::try_from(number % 250).unwrap(); 100 + chance.below(900)];
    builder.append(&NewRecord {
        timestamp: TimestampMs(NOW + number * 10),
        key: Some(b"k"),
        value: Some(&value),
        headers: &[],
    });
    builder.build()
}

/// Three lives of three leader epochs, the last of which is killed or stopped.
fn left(is_clean: bool) -> Left {
    let disk = SharedDisk::new(9);
    let mut mark = 0;
    for life in 0..3 {
        mark = disk.run(move |runtime| async move {
            let mut chance = Chance::new(life);
            let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
            let epoch = LeaderEpoch(i32::try_from(life).unwrap() * 2 + 1);
            let append = AppendOptions { leader_epoch: epoch, ..options(NOW) };
            for number in 0..70 {
                let next = opened.log.log_end_offset().0;
                let appended = opened.log.append(&batch(next, &mut chance), &append).unwrap();
                opened.log.wait_durable(appended.end()).await.unwrap();
                if number == 50 {
                    let points = opened.storage.checkpoint().await.unwrap();
                    opened.directory.write_checkpoints(&points).await.unwrap();
                    opened.storage.marks_recorded();
                }
            }
            let mark = opened.log.recovery_point().0;
            if life < 2 || is_clean {
                stop(opened).await;
                return 210;
            }
            mark
        });
    }
    let (batches, times, epochs) = disk.copy().run(|runtime| async move {
        let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
        let (mut batches, mut times) = (BTreeMap::new(), Vec::new());
        let mut from = Offset::ZERO;
        while from < opened.log.high_watermark() {
            let found = opened.log.read(from, 1, FirstBatch::Whole, Offset(1000)).await.unwrap();
            let bytes = found.batches.concat();
            times.push((RecordBatch::first(&bytes).unwrap().max_timestamp().0, from.0));
            batches.insert(from.0, bytes);
            from = found.next_offset;
        }
        (batches, times, epochs_of(&opened.log))
    });
    assert!(batches.len() == 210 && epochs.len() == 3 && (is_clean || mark < 210));
    let partition = disk.names("/data/topic-0").into_iter().map(|name| format!("topic-0/{name}"));
    let directory = disk.names("/data").into_iter().filter(|name| name.ends_with("-checkpoint"));
    let files = partition.chain(directory).map(|name| format!("/data/{name}"));
    // The topic's id is not derived: a partition with another one is set aside, as a whole.
    let files = files
        .filter(|path| !path.ends_with(".metadata") && !disk.content(path).unwrap().is_empty());
    let files = files.collect();
    Left { batches, end: 210, mark: mark.min(210), times, epochs, files, disk }
}

fn epochs_of(log: &Log) -> Vec<(LeaderEpoch, Offset)> {
    [1, 3, 5].into_iter().filter_map(|epoch| log.end_offset_for_epoch(LeaderEpoch(epoch))).collect()
}

/// What became of a flip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Everything is served: nobody needs the bit, or what holds it was made again.
    Harmless,
    /// The damaged offsets are reported, everything else is served and appended to.
    Reported,
    /// The same, and the log takes no records.
    ReadOnly,
    /// A torn tail above the mark was cut.
    CutAboveMark,
}

async fn look(opened: &Opened, left: &Left, chance: &mut Chance, what: &str) -> Outcome {
    let log = &opened.log;
    let (end, start) = (log.log_end_offset().0, log.log_start_offset().0);
    assert_eq!(start, 0, "{what}: records before the log's start are gone");
    assert!(end >= left.mark && end <= left.end, "{what}: the log ends at {end}");
    let mut lost = Vec::new();
    let mut from = Offset::ZERO;
    while from.0 < end {
        let size = chance.below(30_000);
        match log.read(from, size, FirstBatch::Whole, Offset(end)).await {
            Ok(read) => {
                assert!(!read.batches.is_empty(), "{what}: nothing at {from}");
                for served in batches(&read.batches.concat()) {
                    let served = served.unwrap();
                    let right = left.batches.get(&served.base_offset().0).cloned();
                    // The epoch of the last batch above the mark has no second witness.
                    let is_alone = served.next_offset().0 == end && end > left.mark;
                    let bytes = |bytes: &[u8]| {
                        let mut bytes = bytes.to_vec();
                        if is_alone {
                            bytes[12..16].fill(0);
                        }
                        bytes
                    };
                    let is_right =
                        right.is_some_and(|right| bytes(&right) == bytes(served.bytes()));
                    assert!(is_right, "{what}: {from}");
                }
                assert_eq!(read.first_offset, from, "{what}");
                from = read.next_offset;
            }
            Err(ReadError::Damaged(damage)) => {
                assert!(damage.from <= from && from < damage.to, "{what}: {damage}");
                lost.push(damage.to.0 - from.0);
                from = damage.to;
            }
            Err(ReadError::Missing { from: first, to }) => {
                assert!(first <= from && from < to, "{what}");
                lost.push(to.0 - from.0);
                from = to;
            }
            Err(error) => panic!("{what}: at {from}: {error}"),
        }
    }
    if lost.is_empty() && end == left.end {
        for _ in 0..4 {
            let (time, offset) = left.times[chance.below(left.times.len())];
            let found = log.offset_for_timestamp(TimestampMs(time - 3)).await.unwrap();
            assert_eq!(found.map(|found| found.offset.0), Some(offset), "{what}: time {time}");
        }
        let newest = log.max_timestamp().await.unwrap().unwrap();
        assert_eq!(Some(&(newest.timestamp.0, newest.offset.0)), left.times.last(), "{what}");
        assert_eq!(epochs_of(log), left.epochs, "{what}: epochs");
    }
    let append = AppendOptions { leader_epoch: LeaderEpoch(7), ..options(NOW) };
    let outcome = match log.append(&batch(end, chance), &append) {
        Ok(appended) => {
            assert!(
                !appended.is_duplicate && appended.base_offset.0 == end,
                "{what}: {appended:?}"
            );
            log.wait_durable(appended.end()).await.unwrap();
            if lost.is_empty() { Outcome::Harmless } else { Outcome::Reported }
        }
        Err(crate::AppendError::Fenced(crate::FenceReason::Damaged)) => Outcome::ReadOnly,
        Err(error) => panic!("{what}: {error}"),
    };
    assert!(lost.iter().sum::<i64>() <= 2, "{what}: one bit costs {lost:?}");
    if end < left.end { Outcome::CutAboveMark } else { outcome }
}

#[test]
fn no_flipped_bit_is_served_or_costs_a_record_without_a_word() {
    let count = env::var("ODRADEK_FLIPS").map_or(FLIPS, |text| text.parse().unwrap());
    let lefts = [Rc::new(left(true)), Rc::new(left(false))];
    let mut outcomes: BTreeMap<(&str, String, Outcome), u64> = BTreeMap::new();
    for seed in 0..count {
        let mut chance = Chance::new(seed + 1);
        let is_clean = chance.one_in(2);
        let left = Rc::clone(&lefts[usize::from(!is_clean)]);
        // Half of them in the log: it is the largest, and the only one that is not derived.
        let in_log = chance.one_in(2);
        let files: Vec<&String> =
            left.files.iter().filter(|path| path.ends_with(".log") == in_log).collect();
        let path = files[chance.below(files.len())].clone();
        let disk = left.disk.copy();
        let bytes = disk.content(&path).unwrap().len();
        let content = disk.content(&path).unwrap();
        let used = content.iter().rposition(|byte| *byte != 0).map_or(bytes, |last| last + 1);
        let (at, bit) = (chance.below(used), chance.below(8));
        disk.damage(&path, |bytes| bytes[at] ^= 1 << bit);
        let what = format!("seed {seed}, clean {is_clean}, {path}, byte {at}, bit {bit}");
        let outcome = disk.run({
            let what = what.clone();
            move |runtime| async move {
                let opened =
                    open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
                let outcome = look(&opened, &left, &mut chance, &what).await;
                assert!(!is_clean || outcome != Outcome::CutAboveMark, "{what}: cut");
                outcome
            }
        });
        let is_costly = outcome != Outcome::Harmless;
        assert!(in_log || !is_costly, "{what}: a derived file costs something: {outcome:?}");
        let kind = path.rsplit('.').next().unwrap().rsplit('/').next().unwrap().to_owned();
        let stop = if is_clean { "stopped" } else { "killed" };
        *outcomes.entry((stop, kind, outcome)).or_default() += 1;
    }
    println!("{count} bits flipped:");
    for ((stop, kind, outcome), count) in &outcomes {
        println!("  {stop:8} {kind:34} {outcome:?}: {count}");
    }
    let hit = |wanted| outcomes.keys().any(|(_, _, outcome)| *outcome == wanted);
    for outcome in [Outcome::Harmless, Outcome::Reported, Outcome::CutAboveMark] {
        assert!(hit(outcome), "no flip came to {outcome:?}");
    }
}
