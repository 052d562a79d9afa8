//! Random histories with crashes, compared with what was appended; and one history that is cut at
//! every single step of a round.

use super::{super::transactions::committed_batches, *};
use crate::{
    WaitError,
    testing::{Chance, SharedDisk},
};

const KEYS: usize = 12;

/// A record that was appended.
#[derive(Clone)]
struct Appended {
    seen: Seen,
    is_aborted: bool,
}

/// What the outside knows.
#[derive(Default)]
struct World {
    records: BTreeMap<i64, Appended>,
    durable: i64,
    next: u32,
    sequences: BTreeMap<i64, i32>,
    /// How often the test saw a log that was compacted, and how many records were gone in all.
    compacted: usize,
    gone: usize,
}

type Shared = Rc<RefCell<World>>;

impl World {
    fn forget_from(&mut self, end: i64) {
        self.records.retain(|offset, _| *offset < end);
        self.sequences.retain(|offset, _| *offset < end);
    }

    fn sequence(&self) -> i32 {
        self.sequences.values().next_back().copied().unwrap_or(0)
    }

    /// What the log holds has to be what a compacted one may hold.
    fn check(&mut self, data: &BTreeMap<i64, Seen>, cleaned_to: i64, end: i64) {
        self.compacted += usize::from(cleaned_to > 0);
        self.gone += self.records.range(..end).count() - data.range(..end).count();
        for (offset, seen) in data.range(..end) {
            let appended = self.records.get(offset);
            assert_eq!(appended.map(|one| &one.seen), Some(seen), "offset {offset}");
        }
        let mut last: BTreeMap<&[u8], i64> = BTreeMap::new();
        let mut last_cleaned: BTreeMap<&[u8], i64> = BTreeMap::new();
        for (offset, one) in self.records.range(..end).filter(|(_, one)| !one.is_aborted) {
            last.insert(&one.seen.key, *offset);
            if *offset < cleaned_to {
                last_cleaned.insert(&one.seen.key, *offset);
            }
        }
        for (offset, one) in self.records.range(..end) {
            let is_there = data.contains_key(offset);
            let key = one.seen.key.as_slice();
            if *offset >= cleaned_to || (one.seen.value.is_some() && last.get(key) == Some(offset))
            {
                let is_owed = !one.is_aborted || *offset >= cleaned_to;
                assert!(is_there || !is_owed || self.may_be_gone(*offset), "{offset} is missing");
            } else if last_cleaned.get(key) != Some(offset) {
                assert!(!is_there, "{offset} is not the last of its key below {cleaned_to}");
            }
        }
    }

    /// A later round may have cleaned it before a crash took the checkpoint that says so.
    fn may_be_gone(&self, offset: i64) -> bool {
        let one = &self.records[&offset];
        let is_followed = self
            .records
            .range(offset + 1..)
            .any(|(_, other)| !other.is_aborted && other.seen.key == one.seen.key);
        one.is_aborted || is_followed || one.seen.value.is_none()
    }
}

fn append(log: &Log, world: &Shared, chance: &mut Chance, is_aborted: bool) {
    let mut world = world.borrow_mut();
    let end = log.log_end_offset().0;
    world.forget_from(end);
    let codecs = [
        Compression::None,
        Compression::None,
        Compression::Lz4,
        Compression::Snappy,
        Compression::Zstd,
    ];
    let mut records = Vec::new();
    for _ in 0..1 + chance.below(4) {
        world.next += 1;
        let key = format!("key {}", chance.below(KEYS)).into_bytes();
        let mut value = world.next.to_be_bytes().to_vec();
        value.resize(4 + chance.below(900), 3);
        records.push((key, (!chance.one_in(8)).then_some(value)));
    }
    let idempotent = is_aborted || chance.one_in(2);
    let sequence = world.sequence();
    let writer = Writer {
        producer: if idempotent { ProducerId(1) } else { ProducerId::NONE },
        sequence: if idempotent { sequence } else { -1 },
        flags: if is_aborted { attribute::TRANSACTIONAL } else { 0 },
        codec: codecs[chance.below(codecs.len())],
    };
    let views: Vec<(&[u8], Option<&[u8]>)> =
        records.iter().map(|(key, value)| (key.as_slice(), value.as_deref())).collect();
    let appended = log.append(&keyed(&views, writer), &options(NOW)).unwrap();
    assert_eq!(appended.base_offset.0, end);
    for (index, (key, value)) in (0..).zip(records) {
        let seen = Seen { key, value, timestamp: NOW + index };
        world.records.insert(end + index, Appended { seen, is_aborted });
    }
    if idempotent {
        let count = appended.last_offset.0 - end + 1;
        let count = i32::try_from(count).unwrap();
        world.sequences.insert(appended.last_offset.0, sequence + count);
    }
}

async fn check(log: &Log, world: &Shared) {
    // Rounds go on in the background meanwhile.
    let (cleaned_to, end) = (log.cleaned_to().0, log.high_watermark().0);
    let data = data_of(log).await;
    world.borrow_mut().check(&data, cleaned_to, end);
    for bytes in committed_batches(log, Offset::ZERO, &mut Chance::new(1)).await {
        for (offset, seen) in records_of(&RecordBatch::first(&bytes).unwrap(), Offset::ZERO) {
            let is_aborted = world.borrow().records[&offset].is_aborted;
            assert!(!is_aborted, "{offset} was aborted: {seen:?}");
        }
    }
}

async fn life(runtime: Runtime, world: Shared, seed: u64) {
    let mut chance = Chance::new(seed);
    let storage_options = StorageOptions {
        tail_bytes_max: 50 << 10,
        dedupe_buffer_bytes: if chance.one_in(2) { 0 } else { 1 << 20 },
        ..StorageOptions::default()
    };
    let config = TopicConfig {
        segment_bytes: 20_000,
        delete_retention_ms: i64::try_from(chance.below(3)).unwrap() * 2,
        min_cleanable_dirty_ratio: if chance.one_in(2) { 0.0 } else { 0.5 },
        ..compacted_config()
    };
    let opened = open(&runtime, Rc::new(config), storage_options).await.unwrap();
    let log = opened.log.clone();
    let (end, known) = (log.log_end_offset().0, world.borrow().durable);
    assert!(end >= known, "{known} durable, {end} there");
    world.borrow_mut().forget_from(end);
    // An aborted transaction whose marker was lost is ended now, as its coordinator does.
    append_marker(&log, ProducerId(1), ControlType::Abort);
    durable(&log).await;
    check(&log, &world).await;
    for _ in 0..10 + chance.below(150) {
        match chance.below(16) {
            0 => {
                let points = opened.storage.checkpoint().await.unwrap();
                opened.directory.write_checkpoints(&points).await.unwrap();
            }
            1 => log.roll(),
            2 | 3 => {
                let end = log.log_end_offset();
                match log.wait_durable(end).await {
                    Ok(()) => world.borrow_mut().durable = end.0,
                    Err(WaitError::NoSpace | WaitError::Fenced(_) | WaitError::Closed) => return,
                }
            }
            4 => {
                log.compact().await.unwrap();
            }
            5 => check(&log, &world).await,
            6 => {
                for _ in 0..1 + chance.below(3) {
                    append(&log, &world, &mut chance, true);
                }
                append_marker(&log, ProducerId(1), ControlType::Abort);
            }
            _ => append(&log, &world, &mut chance, false),
        }
    }
    if chance.one_in(2) {
        stop(opened).await;
    }
}

#[test]
fn a_compacted_log_is_what_the_oracle_allows_after_any_crash() {
    let (mut compacted, mut gone) = (0, 0);
    for seed in 0..10 {
        println!("seed {seed}");
        let disk = SharedDisk::new(seed);
        disk.0.borrow_mut().is_direct = !seed.is_multiple_of(5);
        let mut chance = Chance::new(seed ^ 0x1234);
        let world = Shared::default();
        for round in 0..6 {
            let completions = 20 + chance.below(3000);
            let shared = Rc::clone(&world);
            live_until(&disk, completions, |runtime| life(runtime, shared, seed * 100 + round));
            if chance.one_in(3) {
                disk.kill();
            } else {
                disk.cut_power();
            }
        }
        let world = world.borrow();
        (compacted, gone) = (compacted + world.compacted, gone + world.gone);
    }
    // The test shows nothing where it hits nothing.
    assert!(compacted > 60, "{compacted} looks at a compacted log");
    assert!(gone > 5000, "{gone} records gone");
}

/// A log with three closed segments that a round makes one of.
async fn dirty_log(runtime: &Runtime) -> (Opened, BTreeMap<Vec<u8>, (i64, Vec<u8>)>) {
    let config = Rc::new(quiet_config());
    let opened = open(runtime, config, StorageOptions::default()).await.unwrap();
    let mut wanted = BTreeMap::new();
    if opened.log.log_end_offset() > Offset::ZERO {
        return (opened, wanted);
    }
    for round in 0..90u32 {
        let key = (round % 10).to_be_bytes().to_vec();
        let mut value = round.to_be_bytes().to_vec();
        value.resize(1000, 1);
        let batch = keyed(&[(&key, Some(&value))], PLAIN);
        let offset = opened.log.append(&batch, &options(NOW)).unwrap().base_offset.0;
        wanted.insert(key, (offset, value));
    }
    settle(&opened.log).await;
    (opened, wanted)
}

#[test]
fn a_round_may_end_at_every_step() {
    let mut is_over = false;
    let (mut before, mut after) = (0, 0);
    for completions in 0.. {
        if is_over {
            break;
        }
        let disk = SharedDisk::new(completions);
        let wanted = disk.run(|runtime| async move {
            let (opened, wanted) = dirty_log(&runtime).await;
            opened.storage.close().await.unwrap();
            wanted
        });
        let steps = usize::try_from(completions).unwrap();
        let in_round = Rc::new(RefCell::new(0));
        let (counter, of_life) = (Rc::clone(&in_round), disk.clone());
        is_over = live_until(&disk, steps, |runtime| async move {
            let (opened, _) = dirty_log(&runtime).await;
            // The round's steps alone count: opening is another test's.
            *counter.borrow_mut() = of_life.0.borrow().completions;
            opened.log.compact().await.unwrap().unwrap();
        });
        if completions % 2 == 0 {
            disk.kill()
        } else {
            disk.cut_power()
        }
        let data = disk.run(|runtime| async move {
            let (opened, _) = dirty_log(&runtime).await;
            let data = data_of(&opened.log).await;
            opened.storage.close().await.unwrap();
            data
        });
        let found: BTreeMap<_, _> = data
            .iter()
            .map(|(offset, seen)| (seen.key.clone(), (*offset, seen.value.clone().unwrap())))
            .collect();
        assert!(found == wanted, "{completions}");
        assert!((10..=90).contains(&data.len()), "{completions}: {}", data.len());
        if *in_round.borrow() > 0 {
            before += usize::from(data.len() == 90);
            after += usize::from(data.len() < 90);
        }
    }
    assert!(before > 10 && after > 5, "{before} ends before the swap, {after} after it");
}
