//! Random lives with crashes, compared with what was appended and acknowledged.

use std::collections::BTreeMap;

use super::*;
use crate::{CommitStrategy, testing::Chance};

/// What the outside knows of the log.
#[derive(Default)]
struct Known {
    /// By offset, what was appended last there.
    values: BTreeMap<i64, Vec<u8>>,
    /// Acknowledged as durable, and as written.
    durable: i64,
    written: i64,
    appended: usize,
    cut_bytes: u64,
    next_value: u64,
}

async fn life(runtime: Runtime, known: Rc<RefCell<Known>>, seed: u64, hot: bool) {
    let mut chance = Chance::new(seed);
    let storage_options = StorageOptions {
        tail_bytes_max: 100 << 10,
        commit: if chance.one_in(4) { CommitStrategy::PerFile } else { CommitStrategy::Shared },
        ..StorageOptions::default()
    };
    let config = if hot { Rc::new(TopicConfig::default()) } else { small_config() };
    let opened = open(&runtime, config, storage_options).await.unwrap();
    known.borrow_mut().cut_bytes += opened.report.cut_bytes;
    check(&opened.log, &known).await;
    let steps = 20 + chance.below(200);
    for _ in 0..steps {
        step(&opened, &known, &mut chance, hot).await;
    }
    if chance.one_in(2) {
        stop(opened).await;
    }
}

async fn step(opened: &Opened, known: &Rc<RefCell<Known>>, chance: &mut Chance, hot: bool) {
    let log = &opened.log;
    match chance.below(12) {
        0 => {
            let points = opened.storage.checkpoint().await.unwrap();
            opened.directory.write_checkpoints(&points).await.unwrap();
        }
        1 => log.roll(),
        2 => {
            let end = log.log_end_offset();
            log.wait_durable(end).await.unwrap();
            known.borrow_mut().durable = end.0;
        }
        3 => {
            let end = log.log_end_offset();
            log.wait_written(end).await.unwrap();
            known.borrow_mut().written = end.0;
        }
        4 => {
            let from = log.log_start_offset();
            let up_to = log.high_watermark();
            known.borrow_mut().durable = up_to.0;
            drop(log.read(from, 5000, FirstBatch::Whole, up_to).await.unwrap());
        }
        _ => {
            let mut values = Vec::new();
            for _ in 0..1 + chance.below(3) {
                let mut known = known.borrow_mut();
                known.next_value += 1;
                let mut value = known.next_value.to_be_bytes().to_vec();
                let size = if hot { 100_000 } else { 3000 };
                value.resize(8 + chance.below(size), 7);
                values.push(value);
            }
            let appended = log.append(&batch_of(&values), &options(NOW)).unwrap();
            let mut known = known.borrow_mut();
            known.appended += values.len();
            for (offset, value) in (appended.base_offset.0..).zip(values) {
                known.values.insert(offset, value);
            }
        }
    }
}

/// Everything acknowledged is there, and what is there is what was appended.
async fn check(log: &Log, known: &Rc<RefCell<Known>>) {
    let found = read_all(log).await;
    let mut known = known.borrow_mut();
    let end = log.log_end_offset().0;
    assert_eq!(log.durable_end().0, end);
    assert!(end >= known.durable, "{} durable records, {end} are there", known.durable);
    assert!(end >= known.written, "{} written records, {end} are there", known.written);
    assert_eq!(i64::try_from(found.len()).unwrap(), end);
    for (offset, value) in found {
        assert_eq!(known.values.get(&offset.0), Some(&value), "offset {offset}");
    }
    known.values.retain(|offset, _| *offset < end);
    (known.durable, known.written) = (end, end);
}

fn run(seed: u64) -> Rc<RefCell<Known>> {
    let disk = SharedDisk::new(seed);
    let mut chance = Chance::new(seed ^ 0xabcd);
    let known = Rc::new(RefCell::new(Known::default()));
    disk.0.borrow_mut().is_direct = !seed.is_multiple_of(5);
    let hot = seed.is_multiple_of(7);
    for round in 0..6 {
        let most = if chance.one_in(3) { 40 } else { 700 };
        let completions = 1 + chance.below(most);
        let shared = Rc::clone(&known);
        let life_seed = seed * 100 + round;
        live_until(&disk, completions, |runtime| life(runtime, shared, life_seed, hot));
        if chance.one_in(3) {
            disk.kill();
        } else {
            disk.cut_power();
            // What was written and not durable may be gone.
            let mut known = known.borrow_mut();
            known.written = known.durable;
        }
    }
    let shared = Rc::clone(&known);
    disk.run(|runtime| async move {
        let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
        check(&opened.log, &shared).await;
        stop(opened).await;
    });
    known
}

#[test]
fn acknowledged_records_survive_any_crash() {
    let (mut appended, mut cut) = (0, 0);
    for seed in 0..60 {
        println!("seed {seed}");
        let known = run(seed);
        appended += known.borrow().appended;
        cut += u64::from(known.borrow().cut_bytes > 0);
    }
    // The test shows nothing where it hits nothing.
    assert!(appended > 4_000, "{appended} records");
    assert!(cut > 5, "{cut} lives with a torn tail");
}
