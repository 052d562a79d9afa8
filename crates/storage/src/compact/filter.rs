//! What becomes of one batch: kept, replaced by one with fewer records, or dropped.
//!
//! Of a key, the record that the map knows as the last is kept. A tombstone is kept until the
//! batch's delete horizon, which is set, to now and `delete.retention.ms`, by the round that first
//! finds it as the last of its key (KIP-534). A record without a key has no place in a compacted
//! log and goes.
//!
//! A compressed batch that is broken inside, or larger than [`decompressed_max`], stays as it is:
//! its CRC says that this is what its producer sent.

use model::{
    TimestampMs,
    compression::{Compressor, Decompressor},
    record_batch::{Compression, Record, RecordBatch, Records, Rewrite},
};

use super::{
    Keys,
    pace::{Pace, RECORD_WORK, SLICE_WORK},
    transactions::Judgement,
};

/// What a batch may have when decompressed, however small it is: producers bound their batches
/// before they compress them, by 1 MiB (Java's `max.request.size`, librdkafka's `batch.size`).
const DECOMPRESSED_BYTES_MIN: usize = 16 << 20;
/// Else so many times its size: what a topic with large batches may need.
const DECOMPRESSED_RATIO: usize = 4;
/// What is taken at first.
const DECOMPRESSED_BYTES_FIRST: usize = 4 << 20;
/// One step of reading: within a slice with every codec.
const READ_STEP_BYTES: usize = 64 << 10;
/// One step of writing: gzip is slow.
const WRITE_STEP_BYTES: usize = 16 << 10;

/// The most that may come out of a compressed batch of this size.
fn decompressed_max(size: usize) -> usize {
    size.saturating_mul(DECOMPRESSED_RATIO).max(DECOMPRESSED_BYTES_MIN)
}

/// What becomes of a batch.
pub(super) enum Fate {
    /// It stays as it is.
    Keep,
    /// This batch takes its place.
    Replace(Vec<u8>),
    /// Nothing is left of it.
    Drop,
}

/// Judges batch after batch, with the memory of the one before.
pub(super) struct Filter {
    now_ms: i64,
    delete_retention_ms: i64,
    decompressed: Vec<u8>,
    /// Which records of the batch are kept.
    kept: Vec<bool>,
    pub(super) records_dropped: u64,
    pub(super) batches_unread: u64,
}

impl Filter {
    pub(super) fn new(now_ms: i64, delete_retention_ms: i64) -> Filter {
        Filter {
            now_ms,
            delete_retention_ms,
            decompressed: Vec::new(),
            kept: Vec::new(),
            records_dropped: 0,
            batches_unread: 0,
        }
    }

    /// The records of a batch; `None` where it cannot be looked into.
    pub(super) async fn records<'a>(
        &'a mut self,
        batch: &RecordBatch<'a>,
        pace: &mut Pace,
    ) -> Option<Records<'a>> {
        let is_plain = batch.compression() == Compression::None;
        if is_plain {
            return Some(batch.records());
        }
        self.decompress(batch, pace).await?;
        Some(Records::of_decompressed(&self.decompressed, batch.record_count()))
    }

    async fn decompress(&mut self, batch: &RecordBatch<'_>, pace: &mut Pace) -> Option<()> {
        self.decompressed.clear();
        // What a usual batch may take is kept for the whole round: given back and taken again for
        // each look at each batch, it would be there twice until the allocator lets go of it.
        self.decompressed.shrink_to(DECOMPRESSED_BYTES_MIN + READ_STEP_BYTES);
        if batch.record_count() == 0 {
            return Some(());
        }
        let max = decompressed_max(batch.size());
        let mut reader = Decompressor::new(batch.compression(), batch.payload(), max).ok()?;
        loop {
            self.make_room(max);
            if reader.read(&mut self.decompressed, READ_STEP_BYTES).ok()? == 0 {
                break;
            }
            if pace.spend(SLICE_WORK / 2) {
                pace.rest().await;
            }
        }
        Some(())
    }

    /// Room for the next step. Beyond what is taken at first, all the room that there may be is
    /// taken at once: it becomes memory as it is filled, where a vector that doubles would have its
    /// old and its new bytes, three times as much as there may be.
    fn make_room(&mut self, max: usize) {
        let filled = self.decompressed.len();
        if self.decompressed.capacity() - filled >= READ_STEP_BYTES {
            return;
        }
        let capacity = if filled < DECOMPRESSED_BYTES_FIRST - READ_STEP_BYTES {
            DECOMPRESSED_BYTES_FIRST
        } else {
            max + READ_STEP_BYTES
        };
        self.decompressed.reserve_exact(capacity.saturating_sub(filled).max(READ_STEP_BYTES));
    }

    /// Judges a batch. Where it `may_vanish`, nothing but its records is needed of it.
    pub(super) async fn judge(
        &mut self,
        batch: &RecordBatch<'_>,
        judgement: Judgement,
        keys: &Keys,
        may_vanish: bool,
        pace: &mut Pace,
    ) -> Fate {
        let horizon = batch.delete_horizon();
        let is_past = horizon.is_some_and(|horizon| horizon.0 <= self.now_ms);
        match judgement {
            Judgement::Aborted => self.emptied(batch, may_vanish),
            Judgement::SpentMarker if is_past || batch.record_count() == 0 => {
                self.emptied(batch, may_vanish)
            }
            Judgement::SpentMarker if horizon.is_none() => {
                self.kept.clear();
                self.kept.resize(usize::try_from(batch.record_count()).unwrap_or(0), true);
                rewritten(batch, batch.records(), &self.kept, Some(self.new_horizon()), pace).await
            }
            Judgement::SpentMarker | Judgement::Marker => Fate::Keep,
            Judgement::Data => self.judge_data(batch, keys, may_vanish, pace).await,
        }
    }

    fn new_horizon(&self) -> TimestampMs {
        TimestampMs(self.now_ms.saturating_add(self.delete_retention_ms))
    }

    fn emptied(&mut self, batch: &RecordBatch<'_>, may_vanish: bool) -> Fate {
        self.records_dropped += u64::try_from(batch.record_count()).unwrap_or(0);
        match (may_vanish, batch.record_count()) {
            (true, _) => Fate::Drop,
            (false, 0) => Fate::Keep,
            (false, _) => Fate::Replace(Rewrite::emptied(batch)),
        }
    }

    async fn judge_data(
        &mut self,
        batch: &RecordBatch<'_>,
        keys: &Keys,
        may_vanish: bool,
        pace: &mut Pace,
    ) -> Fate {
        let horizon = batch.delete_horizon();
        let keeps_tombstones = horizon.is_none_or(|horizon| self.now_ms < horizon.0);
        let mut kept = std::mem::take(&mut self.kept);
        kept.clear();
        let mut has_tombstones = false;
        let mut is_read = false;
        if let Some(records) = self.records(batch, pace).await {
            is_read = true;
            for record in records {
                let Ok(record) = record else {
                    is_read = false;
                    break;
                };
                let keeps = is_kept(batch, &record, keys, keeps_tombstones);
                has_tombstones |= keeps && record.value.is_none();
                kept.push(keeps);
                if pace.spend(record.bytes().len() + RECORD_WORK) {
                    pace.rest().await;
                }
            }
        }
        self.kept = kept;
        if !is_read {
            self.batches_unread += 1;
            return Fate::Keep;
        }
        let kept_count = self.kept.iter().filter(|keeps| **keeps).count();
        if kept_count == 0 {
            return self.emptied(batch, may_vanish);
        }
        let new_horizon = (has_tombstones && horizon.is_none()).then(|| self.new_horizon());
        if kept_count == self.kept.len() && new_horizon.is_none() {
            return Fate::Keep;
        }
        let dropped = self.kept.len() - kept_count;
        self.records_dropped += u64::try_from(dropped).expect("usize is at most 64 bits");
        let records = if batch.compression() == Compression::None {
            batch.records()
        } else {
            Records::of_decompressed(&self.decompressed, batch.record_count())
        };
        rewritten(batch, records, &self.kept, new_horizon.or(horizon), pace).await
    }
}

fn is_kept(
    batch: &RecordBatch<'_>,
    record: &Record<'_>,
    keys: &Keys,
    keeps_tombstones: bool,
) -> bool {
    let offset = batch.offset_of(record);
    if offset >= keys.mapped_end {
        return true;
    }
    let Some(key) = record.key else { return false };
    let is_mutant = cfg!(feature = "mutant_compaction_drops_the_newest");
    let is_last = keys.map.get(key).is_none_or(|last| offset >= last && !is_mutant);
    is_last && (record.value.is_some() || keeps_tombstones)
}

/// The batch with the records that are kept.
async fn rewritten(
    batch: &RecordBatch<'_>,
    records: Records<'_>,
    kept: &[bool],
    horizon: Option<TimestampMs>,
    pace: &mut Pace,
) -> Fate {
    let mut rewrite = Rewrite::new(*batch, horizon);
    let mut plain = Vec::new();
    for (record, keeps) in records.zip(kept) {
        let record = record.expect("was read before");
        if *keeps {
            rewrite.keep(&record, &mut plain);
        }
        if pace.spend(record.bytes().len() + RECORD_WORK) {
            pace.rest().await;
        }
    }
    if batch.compression() == Compression::None {
        return Fate::Replace(rewrite.build(&plain));
    }
    let mut compressor = Compressor::new(batch.compression());
    for piece in plain.chunks(WRITE_STEP_BYTES) {
        compressor.write(piece);
        if pace.spend(SLICE_WORK / 2) {
            pace.rest().await;
        }
    }
    Fate::Replace(rewrite.build(&compressor.finish()))
}
