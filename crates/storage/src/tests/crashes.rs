//! Random lives with crashes, compared with what was appended and acknowledged.

use std::collections::BTreeMap;

use model::topic_config::Durability;

use super::*;
use crate::{AppendError, CommitStrategy, WaitError, testing::Chance};

/// The partitions of a life: they share the group commit.
const PARTITIONS: usize = 3;
/// The one of them whose `durability` changes.
const REPLICATED: usize = 2;

/// What the outside knows of a log.
#[derive(Clone, Default)]
struct Known {
    /// By offset, what was appended last there.
    values: BTreeMap<i64, Vec<u8>>,
    /// Acknowledged as durable, and as written.
    durable: i64,
    written: i64,
    /// The sequence that its one idempotent producer goes on with.
    sequence: i32,
    /// The sequence behind the last record at each offset.
    sequences: BTreeMap<i64, i32>,
}

/// What the outside knows, and how often the test hit what it aims at.
#[derive(Default)]
struct World {
    known: [Known; PARTITIONS],
    next_value: u64,
    appended: usize,
    cut_lives: usize,
    duplicates: usize,
    refused: usize,
    vouched: u64,
    fenced: usize,
}

type Shared = Rc<RefCell<World>>;

/// What kind of lives a seed has.
#[derive(Clone, Copy)]
struct Kind {
    seed: u64,
    /// Large batches into large segments: space is zeroed ahead.
    is_hot: bool,
    /// The disk is full now and then.
    is_tight: bool,
    /// A write or a sync fails now and then.
    is_failing: bool,
}

async fn life(runtime: Runtime, disk: SharedDisk, world: Shared, kind: Kind) {
    let mut chance = Chance::new(kind.seed);
    let storage_options = StorageOptions {
        tail_bytes_max: 100 << 10,
        commit: if chance.one_in(4) { CommitStrategy::PerFile } else { CommitStrategy::Shared },
        // Fewer than there are logs: files are closed and opened again all the time.
        open_files_max: if kind.seed.is_multiple_of(2) { 2 } else { 4096 },
        ..StorageOptions::default()
    };
    let config = if kind.is_hot { Rc::new(TopicConfig::default()) } else { small_config() };
    let count = i32::try_from(PARTITIONS).unwrap();
    let opened = open_some(&runtime, config, storage_options, count).await.unwrap();
    world.borrow_mut().cut_lives += usize::from(opened.cut_bytes > 0);
    for partition in 0..PARTITIONS {
        check(&opened.logs[partition], &world, partition).await;
    }
    for _ in 0..20 + chance.below(300) {
        if kind.is_tight && chance.one_in(10) {
            disk.0.borrow_mut().space = if chance.one_in(2) { 0 } else { 300_000 };
        }
        if kind.is_failing && chance.one_in(60) {
            let mut disk = disk.0.borrow_mut();
            let place =
                if chance.one_in(2) { &mut disk.fail_write_in } else { &mut disk.fail_sync_in };
            *place = Some(chance.below(10));
        }
        if opened.logs.iter().any(|log| log.fenced().is_some()) {
            // What is durable is still served.
            world.borrow_mut().fenced += 1;
            for log in &opened.logs {
                read_all(log).await;
            }
            return;
        }
        let before = opened.storage.commit_counts();
        step(&opened, &world, &mut chance, kind.is_hot).await;
        let after = opened.storage.commit_counts();
        world.borrow_mut().vouched += (after.files_made_durable - before.files_made_durable)
            - (after.file_syncs - before.file_syncs);
    }
    {
        let mut disk = disk.0.borrow_mut();
        (disk.space, disk.fail_write_in, disk.fail_sync_in) = (u64::MAX, None, None);
    }
    if chance.one_in(2) && opened.logs.iter().all(|log| log.fenced().is_none()) {
        stop(opened).await;
    }
}

async fn step(opened: &Opened, world: &Shared, chance: &mut Chance, is_hot: bool) {
    let partition = chance.below(PARTITIONS);
    let log = &opened.logs[partition];
    match chance.below(14) {
        0 => {
            if let Ok(points) = opened.storage.checkpoint().await {
                // Derived: where it fails, the next start checks more.
                if opened.directory.write_checkpoints(&points).await.is_ok() {
                    opened.storage.marks_recorded();
                }
            }
        }
        // Large segments stay for long enough to be zeroed ahead.
        1 if !is_hot || chance.one_in(20) => log.roll(),
        2 | 3 => {
            let end = log.log_end_offset();
            match log.wait_durable(end).await {
                Ok(()) => world.borrow_mut().known[partition].durable = end.0,
                Err(WaitError::NoSpace) => forget_refused(log, world, partition),
                Err(WaitError::Fenced(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        4 => {
            let end = log.log_end_offset();
            match log.wait_written(end).await {
                Ok(()) => world.borrow_mut().known[partition].written = end.0,
                Err(WaitError::NoSpace) => forget_refused(log, world, partition),
                Err(WaitError::Fenced(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        5 => {
            let (from, up_to) = (log.log_start_offset(), log.high_watermark());
            {
                let known = &mut world.borrow_mut().known[partition];
                // Where nothing is or was replicated, what consumers see is on disk.
                let is_sync = partition != REPLICATED;
                known.durable = if is_sync { up_to.0 } else { log.durable_end().0 };
                known.written = known.written.max(up_to.0);
            }
            drop(log.read(from, 5000, FirstBatch::Whole, up_to).await.unwrap());
        }
        6 => append_again(log, world, partition),
        9 if partition == REPLICATED && chance.one_in(4) => {
            let durability =
                if chance.one_in(3) { Durability::Sync } else { Durability::Replicated };
            let before = log.high_watermark();
            log.set_config(Rc::new(TopicConfig { durability, ..(*log.config()).clone() }));
            assert!(log.high_watermark() >= before);
        }
        7 | 8 => {
            for partition in 0..PARTITIONS {
                append(&opened.logs[partition], world, partition, chance, is_hot);
            }
            let end = log.log_end_offset();
            if log.wait_written(end).await.is_err() {
                forget_refused(log, world, partition);
            }
        }
        _ => append(log, world, partition, chance, is_hot),
    }
}

/// What was taken back is appended again by its producer, from where it was cut.
fn forget_refused(log: &Log, world: &Shared, partition: usize) {
    let end = log.log_end_offset().0;
    let mut world = world.borrow_mut();
    world.refused += 1;
    world.known[partition].forget_from(end);
}

impl Known {
    fn forget_from(&mut self, end: i64) {
        self.values.retain(|offset, _| *offset < end);
        self.sequences.retain(|offset, _| *offset < end);
        self.sequence = self.sequences.last_key_value().map_or(0, |(_, sequence)| *sequence);
    }
}

fn append(log: &Log, world: &Shared, partition: usize, chance: &mut Chance, is_hot: bool) {
    // Others may have found the disk full in the meantime.
    let end = log.log_end_offset().0;
    let mut world = world.borrow_mut();
    world.known[partition].forget_from(end);
    let mut values = Vec::new();
    for _ in 0..1 + chance.below(3) {
        world.next_value += 1;
        let mut value = world.next_value.to_be_bytes().to_vec();
        value.resize(8 + chance.below(if is_hot { 100_000 } else { 3000 }), 7);
        values.push(value);
    }
    let sequence = world.known[partition].sequence;
    match log.append(&produced(&values, ProducerId(1), sequence), &options(NOW)) {
        Ok(appended) => {
            assert!(!appended.is_duplicate);
            assert_eq!(appended.base_offset.0, end);
            world.appended += values.len();
            let known = &mut world.known[partition];
            for (offset, value) in (end..).zip(values) {
                known.sequence += 1;
                known.values.insert(offset, value);
                known.sequences.insert(offset, known.sequence);
            }
        }
        Err(AppendError::NoSpace) => world.refused += 1,
        Err(AppendError::Fenced(_)) => {}
        Err(error) => panic!("{error}"),
    }
}

/// The last record again, as a producer does that had no answer.
fn append_again(log: &Log, world: &Shared, partition: usize) {
    let mut world = world.borrow_mut();
    let known = &mut world.known[partition];
    known.forget_from(log.log_end_offset().0);
    let producers = log.producers();
    let Some(producer) = producers.first() else { return };
    assert_eq!(producer.last_sequence.0 + 1, known.sequence, "the producer's state is the log's");
    world.duplicates += 1;
}

/// Everything acknowledged is there, and what is there is what was appended.
async fn check(log: &Log, world: &Shared, partition: usize) {
    let found = read_all(log).await;
    let mut world = world.borrow_mut();
    let known = &mut world.known[partition];
    let end = log.log_end_offset().0;
    assert_eq!(log.durable_end().0, end);
    assert!(end >= known.durable, "{} durable records, {end} are there", known.durable);
    assert!(end >= known.written, "{} written records, {end} are there", known.written);
    assert_eq!(i64::try_from(found.len()).unwrap(), end);
    for (offset, value) in found {
        assert_eq!(known.values.get(&offset.0), Some(&value), "offset {offset}");
    }
    known.forget_from(end);
    (known.durable, known.written) = (end, end);
    let last = log.producers().first().map_or(-1, |producer| producer.last_sequence.0);
    assert_eq!(last + 1, known.sequence, "the producer's state is the log's");
}

fn run(seed: u64, world: &Shared) {
    let disk = SharedDisk::new(seed);
    let mut chance = Chance::new(seed ^ 0xabcd);
    world.borrow_mut().known = Default::default();
    disk.0.borrow_mut().is_direct = !seed.is_multiple_of(5);
    for round in 0..6 {
        let most = if chance.one_in(3) { 40 } else { 3000 };
        let completions = 1 + chance.below(most);
        let kind = Kind {
            seed: seed * 100 + round,
            is_hot: seed.is_multiple_of(3),
            is_tight: seed.is_multiple_of(4),
            is_failing: seed % 4 == 1,
        };
        let (shared, of_life) = (Rc::clone(world), disk.clone());
        live_until(&disk, completions, |runtime| life(runtime, of_life, shared, kind));
        {
            let mut disk = disk.0.borrow_mut();
            (disk.space, disk.fail_write_in, disk.fail_sync_in) = (u64::MAX, None, None);
        }
        if chance.one_in(3) {
            disk.kill();
        } else {
            disk.cut_power();
            // What was written and not durable may be gone.
            for known in &mut world.borrow_mut().known {
                known.written = known.durable;
            }
        }
    }
    let shared = Rc::clone(world);
    disk.run(|runtime| async move {
        let count = i32::try_from(PARTITIONS).unwrap();
        let opened = open_some(&runtime, small_config(), StorageOptions::default(), count).await;
        let opened = opened.unwrap();
        for partition in 0..PARTITIONS {
            check(&opened.logs[partition], &shared, partition).await;
        }
        stop(opened).await;
    });
}

#[test]
fn acknowledged_records_survive_any_crash() {
    let world = Shared::default();
    for seed in 0..24 {
        println!("seed {seed}");
        run(seed, &world);
    }
    let world = world.borrow();
    // The test shows nothing where it hits nothing.
    assert!(world.appended > 4_000, "{} records", world.appended);
    assert!(world.cut_lives > 5, "{} lives with a torn tail", world.cut_lives);
    assert!(world.duplicates > 100, "{} looks at the producer's state", world.duplicates);
    assert!(world.refused > 20, "{} refused for want of space", world.refused);
    assert!(world.fenced > 3, "{} lives that ended with a fenced log", world.fenced);
    assert!(world.vouched > 30, "{} files vouched for by another", world.vouched);
}
