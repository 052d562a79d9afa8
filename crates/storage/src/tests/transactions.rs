//! Transactions: what readers of committed records see, hot and cold, after stops and crashes, and
//! whatever has become of the `.txnindex` files; and that these are Kafka's.

use std::collections::{BTreeMap, BTreeSet};

use model::record_batch::{ControlType, RecordBatch, attribute};

use super::*;
use crate::{AbortedTransaction, AppendError, files::transaction_entries, testing::Chance};

const PRODUCERS: usize = 5;

fn data(producer: ProducerId, sequence: i32, values: &[Vec<u8>], flags: i16) -> Bytes {
    let mut builder = RecordBatchBuilder::new(BatchOptions {
        producer_id: producer,
        producer_epoch: ProducerEpoch(0),
        base_sequence: Sequence(sequence),
        flags,
        ..BatchOptions::default()
    });
    for value in values {
        let timestamp = TimestampMs(NOW);
        builder.append(&NewRecord { timestamp, key: Some(b"k"), value: Some(value), headers: &[] });
    }
    builder.build()
}

fn marker(producer: ProducerId, end: ControlType, coordinator_epoch: u8) -> Bytes {
    let mut builder = RecordBatchBuilder::new(BatchOptions {
        producer_id: producer,
        producer_epoch: ProducerEpoch(0),
        flags: attribute::TRANSACTIONAL | attribute::CONTROL,
        ..BatchOptions::default()
    });
    builder.append(&NewRecord {
        timestamp: TimestampMs(NOW),
        key: Some(&end.key()),
        value: Some(&[0, 0, 0, 0, 0, coordinator_epoch]),
        headers: &[],
    });
    builder.build()
}

fn by_coordinator() -> AppendOptions {
    AppendOptions { origin: AppendOrigin::Coordinator, ..options(NOW) }
}

/// What was written, and what becomes of it.
#[derive(Clone, Default)]
struct Written {
    /// Each record's value and the transaction that it is of.
    records: BTreeMap<i64, (Vec<u8>, Option<usize>)>,
    /// How each transaction ended.
    ends: Vec<Option<ControlType>>,
    /// Of each producer the next sequence, and its open transaction with its first offset.
    producers: BTreeMap<i64, (i32, Option<(usize, i64)>)>,
    /// What `.txnindex` has, over all segments.
    aborted: Vec<AbortedTransaction>,
    end: i64,
}

impl Written {
    /// Appends something, as a producer or a coordinator may.
    fn step(&mut self, log: &Log, chance: &mut Chance) {
        let id = i64::try_from(chance.below(PRODUCERS)).unwrap();
        let (sequence, open) = self.producers.entry(id).or_default();
        let (producer, base) = (ProducerId(100 + id), self.end);
        let ends = open.is_some() && chance.one_in(3);
        if let (true, Some((transaction, first))) = (ends, *open) {
            let end = if chance.one_in(2) { ControlType::Commit } else { ControlType::Abort };
            let appended = log.append(&marker(producer, end, 0), &by_coordinator()).unwrap();
            assert_eq!(appended.base_offset, Offset(base));
            *open = None;
            self.ends[transaction] = Some(end);
            self.end = base + 1;
            if end == ControlType::Abort {
                let open = self.producers.values().filter_map(|(_, open)| *open);
                let first_open = open.map(|(_, first)| first).min();
                self.aborted.push(AbortedTransaction {
                    producer_id: producer,
                    first_offset: Offset(first),
                    last_offset: Offset(base),
                    last_stable_offset: Offset(first_open.unwrap_or(base + 1)),
                });
            }
            return;
        }
        // One producer is idempotent alone.
        let is_plain = id == 0;
        let count = 1 + chance.below(3);
        let values: Vec<Vec<u8>> = (0..count)
            .map(|index| format!("{base}/{index}").into_bytes())
            .map(|mut value| {
                value.resize(value.len() + chance.below(800), b'.');
                value
            })
            .collect();
        let flags = if is_plain { 0 } else { attribute::TRANSACTIONAL };
        let batch = data(producer, *sequence, &values, flags);
        let appended = log.append(&batch, &options(NOW)).unwrap();
        assert_eq!(appended.base_offset, Offset(base));
        if !is_plain && open.is_none() {
            *open = Some((self.ends.len(), base));
            self.ends.push(None);
        }
        *sequence += i32::try_from(count).unwrap();
        let transaction = open.map(|(transaction, _)| transaction);
        for (offset, value) in (base..).zip(values) {
            self.records.insert(offset, (value, transaction));
        }
        self.end = appended.last_offset.0 + 1;
    }

    fn last_stable(&self) -> i64 {
        let open = self.producers.values().filter_map(|(_, open)| *open);
        open.map(|(_, first)| first).min().unwrap_or(self.end)
    }

    /// What a consumer of committed records has to see from an offset on.
    fn committed(&self, from: i64) -> Vec<(i64, Vec<u8>)> {
        let is_seen = |transaction: &Option<usize>| {
            transaction.is_none_or(|index| self.ends[index] == Some(ControlType::Commit))
        };
        self.records
            .range(from..self.last_stable())
            .filter(|(_, (_, transaction))| is_seen(transaction))
            .map(|(offset, (value, _))| (*offset, value.clone()))
            .collect()
    }
}

/// The batches that a consumer of committed records takes from an offset on: it drops what it is
/// told was aborted, as the clients of Kafka do.
pub(super) async fn committed_batches(log: &Log, from: Offset, chance: &mut Chance) -> Vec<Bytes> {
    let mut taken = Vec::new();
    let mut from = from;
    loop {
        let size = chance.below(12_000);
        let found = log.read_committed(from, size, FirstBatch::Whole).await.unwrap();
        if found.read.batches.is_empty() {
            return taken;
        }
        let mut aborted = found.aborted;
        aborted.sort_by_key(|one| std::cmp::Reverse(one.first_offset));
        let mut producers = BTreeSet::new();
        for batch in batches(&found.read.batches.concat()) {
            let batch = batch.unwrap();
            let producer = batch.producer_id();
            while let Some(one) = aborted.pop_if(|one| one.first_offset <= batch.last_offset()) {
                producers.insert(one.producer_id);
            }
            if batch.is_control() {
                let record = batch.records().next().map(Result::unwrap);
                let end = record.and_then(|record| ControlType::from_key(record.key?));
                if end == Some(ControlType::Abort) {
                    producers.remove(&producer);
                }
            } else if !batch.is_transactional() || !producers.contains(&producer) {
                taken.push(Bytes::copy_from_slice(batch.bytes()));
            }
        }
        from = found.read.next_offset;
    }
}

async fn consume(log: &Log, from: i64, chance: &mut Chance) -> Vec<(i64, Vec<u8>)> {
    let mut seen = Vec::new();
    for bytes in committed_batches(log, Offset(from), chance).await {
        let batch = RecordBatch::first(&bytes).unwrap();
        let records = batch.records().map(Result::unwrap);
        let found =
            records.map(|record| (batch.offset_of(&record).0, record.value.unwrap().to_vec()));
        seen.extend(found.filter(|(offset, _)| *offset >= from));
    }
    seen
}

async fn check(log: &Log, written: &Written, chance: &mut Chance, what: &str) {
    assert_eq!(log.last_stable_offset().0, written.last_stable(), "{what}");
    for start in [0, chance.below(usize::try_from(written.last_stable()).unwrap() + 1)] {
        let start = i64::try_from(start).unwrap();
        let seen = consume(log, start, chance).await;
        assert!(seen == written.committed(start), "{what}: from {start}");
    }
}

fn index_files(disk: &SharedDisk) -> Vec<String> {
    let names = disk.names("/data/topic-0").into_iter().filter(|name| name.ends_with(".txnindex"));
    names.map(|name| format!("/data/topic-0/{name}")).collect()
}

/// The entries of all `.txnindex`, each in the file of the segment that has its marker.
fn indexed(disk: &SharedDisk) -> Vec<AbortedTransaction> {
    let bases: Vec<i64> = disk
        .names("/data/topic-0")
        .iter()
        .filter_map(|name| name.strip_suffix(".log")?.parse().ok())
        .collect();
    let mut entries = Vec::new();
    for path in index_files(disk) {
        let (found, rest) = transaction_entries(&disk.content(&path).unwrap());
        assert!(rest == 0 && !found.is_empty(), "{path}");
        for (version, entry) in found {
            assert_eq!(version, 0);
            let base = bases.iter().rev().find(|base| **base <= entry.last_offset.0).unwrap();
            assert!(path.ends_with(&format!("/{base:020}.txnindex")), "{path}: {entry:?}");
            entries.push(entry);
        }
    }
    entries
}

fn cold() -> StorageOptions {
    StorageOptions { tail_bytes_max: 0, ..StorageOptions::default() }
}

/// One life: what is there is checked, more is appended, and it is checked again.
fn live(disk: &SharedDisk, written: &Written, seed: u64, is_clean: bool) -> Written {
    let mut written = written.clone();
    disk.run(move |runtime| async move {
        let mut chance = Chance::new(seed);
        let storage_options = if chance.one_in(2) { cold() } else { StorageOptions::default() };
        let opened = open(&runtime, small_config(), storage_options).await.unwrap();
        let log = opened.log.clone();
        check(&log, &written, &mut chance, &format!("seed {seed}: after a start")).await;
        for step in 0..250 {
            written.step(&log, &mut chance);
            if chance.one_in(40) {
                log.wait_durable(log.log_end_offset()).await.unwrap();
                let points = opened.storage.checkpoint().await.unwrap();
                opened.directory.write_checkpoints(&points).await.unwrap();
                opened.storage.marks_recorded();
            }
            if chance.one_in(60) {
                log.wait_durable(log.log_end_offset()).await.unwrap();
                check(&log, &written, &mut chance, &format!("seed {seed}, step {step}")).await;
            }
        }
        log.wait_durable(log.log_end_offset()).await.unwrap();
        if is_clean {
            stop(opened).await;
        }
        written
    })
}

#[test]
fn readers_of_committed_records_see_those_of_committed_transactions_alone() {
    for seed in 0..12 {
        let disk = SharedDisk::new(seed);
        let mut written = Written::default();
        for life in 0..4 {
            let is_clean = (seed + life) % 2 == 0;
            written = live(&disk, &written, seed * 10 + life, is_clean);
            if is_clean {
                assert_eq!(indexed(&disk), written.aborted, "seed {seed}, life {life}");
            }
        }
        assert!(written.aborted.len() > 20);
    }
}

#[test]
fn no_index_of_transactions_is_believed_over_the_log() {
    for seed in 0..12 {
        let disk = SharedDisk::new(seed);
        let written = live(&disk, &Written::default(), seed, seed % 2 == 0);
        let mut chance = Chance::new(seed);
        for path in index_files(&disk) {
            match seed % 3 {
                0 => disk.remove(&path),
                1 => disk.damage(&path, |bytes| {
                    let at = chance.below(bytes.len());
                    bytes[at] ^= 1 << chance.below(8);
                }),
                _ => disk.damage(&path, |bytes| bytes.fill(7)),
            }
        }
        disk.run(move |runtime| async move {
            let opened = open(&runtime, small_config(), cold()).await.unwrap();
            check(&opened.log, &written, &mut Chance::new(seed), &format!("seed {seed}")).await;
            stop(opened).await;
        });
    }
}

#[test]
fn a_start_after_a_crash_makes_the_index_of_transactions_anew() {
    for seed in 0..8 {
        let disk = SharedDisk::new(seed);
        let written = live(&disk, &Written::default(), seed, false);
        // Nothing is known to be durable: all of the log is gone through.
        for name in disk.names("/data/topic-0") {
            if name.ends_with(".snapshot") || name.ends_with(".txnindex") {
                disk.remove(&format!("/data/topic-0/{name}"));
            }
        }
        disk.run(|runtime| async move {
            let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
            stop(opened).await;
        });
        assert_eq!(indexed(&disk), written.aborted, "seed {seed}");
    }
}

#[test]
fn a_transaction_is_stable_once_its_marker_is_below_the_high_watermark() {
    SharedDisk::new(1).run(|runtime| async move {
        let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
        let log = &opened.log;
        let batch =
            |id, sequence| data(ProducerId(id), sequence, &[vec![1]], attribute::TRANSACTIONAL);
        log.append(&batch_of(&[vec![1]]), &options(NOW)).unwrap();
        log.append(&batch(1, 0), &options(NOW)).unwrap();
        log.append(&batch(2, 0), &options(NOW)).unwrap();
        log.wait_durable(Offset(3)).await.unwrap();
        assert_eq!(log.last_stable_offset(), Offset(1));
        log.append(&marker(ProducerId(1), ControlType::Commit, 0), &by_coordinator()).unwrap();
        // Its marker may still be lost.
        assert_eq!((log.high_watermark(), log.last_stable_offset()), (Offset(3), Offset(1)));
        log.wait_durable(Offset(4)).await.unwrap();
        assert_eq!((log.high_watermark(), log.last_stable_offset()), (Offset(4), Offset(2)));
        log.append(&marker(ProducerId(2), ControlType::Abort, 0), &by_coordinator()).unwrap();
        log.wait_durable(Offset(5)).await.unwrap();
        assert_eq!(log.last_stable_offset(), Offset(5));
        // The start of an open transaction may be let go; what follows is not stable for that.
        log.append(&batch(1, 1), &options(NOW)).unwrap();
        log.append(&batch(1, 2), &options(NOW)).unwrap();
        log.wait_durable(Offset(7)).await.unwrap();
        log.delete_records(Offset(6)).await.unwrap();
        assert_eq!((log.log_start_offset(), log.last_stable_offset()), (Offset(6), Offset(6)));
    });
}

#[test]
fn a_marker_that_is_taken_back_has_ended_nothing() {
    let disk = SharedDisk::new(1);
    let shared = disk.clone();
    disk.run(move |runtime| async move {
        let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
        let log = &opened.log;
        let producer = ProducerId(1);
        let batch =
            |sequence, size| data(producer, sequence, &[vec![1; size]], attribute::TRANSACTIONAL);
        let appended = log.append(&batch(0, 10), &options(NOW)).unwrap();
        log.wait_durable(appended.end()).await.unwrap();
        shared.0.borrow_mut().space = 0;
        // It needs a segment of its own, for which there is no space; the marker lies behind it.
        log.append(&batch(1, 39_900), &options(NOW)).unwrap();
        let marked = log.append(&marker(producer, ControlType::Abort, 0), &by_coordinator());
        let lost = log.wait_durable(marked.unwrap().end()).await;
        assert_eq!(lost, Err(crate::WaitError::NoSpace));
        shared.0.borrow_mut().space = u64::MAX;
        assert_eq!((log.log_end_offset(), log.last_stable_offset()), (Offset(1), Offset(0)));
        let ended = loop {
            match log.append(&marker(producer, ControlType::Abort, 0), &by_coordinator()) {
                Ok(ended) => break ended,
                Err(_) => runtime.sleep(std::time::Duration::from_millis(100)).await,
            }
        };
        log.wait_durable(ended.end()).await.unwrap();
        assert!(consume(log, 0, &mut Chance::new(1)).await.is_empty());
        stop(opened).await;
    });
    let entry = AbortedTransaction {
        producer_id: ProducerId(1),
        first_offset: Offset(0),
        last_offset: Offset(1),
        last_stable_offset: Offset(2),
    };
    assert_eq!(indexed(&disk), [entry]);
}

#[test]
fn what_does_not_belong_to_a_transaction_is_refused() {
    SharedDisk::new(1).run(|runtime| async move {
        let opened = open(&runtime, small_config(), StorageOptions::default()).await.unwrap();
        let log = &opened.log;
        let producer = ProducerId(1);
        let batch = |sequence, flags| data(producer, sequence, &[vec![1]], flags);
        log.append(&batch(0, attribute::TRANSACTIONAL), &options(NOW)).unwrap();
        let refused = log.append(&batch(1, 0), &options(NOW)).unwrap_err();
        assert_eq!(refused, AppendError::TransactionOpen(producer));
        let by_client = log.append(&marker(producer, ControlType::Commit, 3), &options(NOW));
        assert!(matches!(by_client, Err(AppendError::InvalidRecord(_))), "{by_client:?}");
        log.append(&marker(producer, ControlType::Commit, 3), &by_coordinator()).unwrap();
        log.append(&batch(1, 0), &options(NOW)).unwrap();
        let old = log.append(&marker(producer, ControlType::Abort, 2), &by_coordinator());
        assert_eq!(old, Err(AppendError::CoordinatorFenced { current: 3, found: 2 }));
        assert_eq!(log.producers()[0].coordinator_epoch, 3);
    });
}
