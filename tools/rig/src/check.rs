//! Holds the log that a broker serves after a fault against the history.
//!
//! The promise, for acks=all in sync mode, as rules on the log of each partition:
//! - offsets count on without a gap, and every record is one that was sent there, untouched;
//! - a record that was acknowledged, or given to a consumer, is there, at the offset named;
//! - no record is there twice, and none that was known to be absent came back;
//! - the records of one producer stand in the order sent, an idempotent one's without a hole;
//! - a batch is there as a whole or not at all.
//!
//! `judge` is a pure function, so each rule has a test with a log that breaks it.

use std::collections::BTreeMap;
use std::fmt;

use crate::history::{History, Kind, State};
use crate::values::ValueId;

/// One record as served: its offset, and who it is, if it is anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) offset: i64,
    pub(crate) id: Option<ValueId>,
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Broken {
    Gap { offset: i64, expected: i64 },
    Garbage { offset: i64 },
    NeverSent { offset: i64 },
    Lost { id: ValueId, offset: i64 },
    SeenThenLost { id: ValueId, offset: i64 },
    Moved { id: ValueId, offset: i64, promised: i64 },
    Twice { id: ValueId, offset: i64, also: i64 },
    CameBack { id: ValueId, offset: i64 },
    OutOfOrder { id: ValueId, offset: i64 },
    Hole { id: ValueId, offset: i64 },
    TornBatch { first: ValueId },
}

/// What the log says about one batch: the offset of its first record, if it is there.
pub(crate) type Found = BTreeMap<(usize, usize), i64>;

/// The verdict on all partitions.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) broken: Vec<String>,
    /// By lane and batch.
    pub(crate) found: Found,
    pub(crate) records: u64,
}

/// How many broken promises are spelled out: the first few tell the story.
const SPELLED_OUT_MAX: usize = 40;

impl Verdict {
    fn add(&mut self, partition: &impl fmt::Debug, broken: &Broken) {
        if self.broken.len() < SPELLED_OUT_MAX {
            self.broken.push(format!("{partition:?}: {broken:?}"));
        }
    }
}

/// Judges `logs`, one a partition.
///
/// `promised` is the history at the moment of the fault: what it calls acknowledged has to be
/// there. `told` is the whole history: what came later may be there, where it says.
pub(crate) fn judge(promised: &History, told: &History, logs: &[Vec<Entry>]) -> Verdict {
    let mut verdict = Verdict::default();
    for (partition, log) in logs.iter().enumerate() {
        judge_partition(promised, told, partition, log, &mut verdict);
    }
    verdict
}

fn judge_partition(
    promised: &History,
    told: &History,
    partition: usize,
    log: &[Entry],
    verdict: &mut Verdict,
) {
    let name = &told.partitions[partition];
    let mut places: BTreeMap<ValueId, i64> = BTreeMap::new();
    for (expected, entry) in (0..).zip(log) {
        let offset = entry.offset;
        if offset != expected {
            verdict.add(name, &Broken::Gap { offset, expected });
            break;
        }
        let Some(id) = entry.id else {
            verdict.add(name, &Broken::Garbage { offset });
            continue;
        };
        if !was_sent(told, partition, id) {
            verdict.add(name, &Broken::NeverSent { offset });
            continue;
        }
        if let Some(also) = places.insert(id, offset) {
            verdict.add(name, &Broken::Twice { id, offset, also });
        }
    }
    verdict.records += places.len() as u64;
    for seen in &promised.seen[partition] {
        if places.get(&seen.id) != Some(&seen.offset) {
            verdict.add(name, &Broken::SeenThenLost { id: seen.id, offset: seen.offset });
            // The rest of a lost stretch would only repeat it.
            break;
        }
    }
    for index in (0..told.lanes.len()).filter(|lane| told.lanes[*lane].partition == partition) {
        for broken in judge_lane(promised, told, index, &places, &mut verdict.found) {
            verdict.add(name, &broken);
        }
    }
}

fn was_sent(told: &History, partition: usize, id: ValueId) -> bool {
    let lane = usize::try_from(id.lane).ok().and_then(|index| told.lanes.get(index));
    lane.is_some_and(|lane| lane.partition == partition && id.count < lane.sent())
}

fn judge_lane(
    promised: &History,
    told: &History,
    index: usize,
    places: &BTreeMap<ValueId, i64>,
    found: &mut Found,
) -> Vec<Broken> {
    let mut broken = Vec::new();
    let lane = &told.lanes[index];
    let mut last = -1;
    let mut missing: Option<u32> = None;
    for (number, batch) in lane.batches.iter().enumerate() {
        let first = told.id(index, batch.first);
        let known = promised.lanes[index].batches.get(number);
        let Some(offset) = places.get(&first).copied() else {
            let rest = (batch.first + 1..batch.first + batch.records)
                .any(|count| places.contains_key(&told.id(index, count)));
            if rest {
                broken.push(Broken::TornBatch { first });
            }
            if let Some(State::At(offset)) = known.map(|batch| batch.state) {
                broken.push(Broken::Lost { id: first, offset });
            }
            missing = missing.or(Some(batch.first));
            continue;
        };
        found.insert((index, number), offset);
        for (count, due) in (batch.first..batch.first + batch.records).zip(offset..) {
            if places.get(&told.id(index, count)) != Some(&due) {
                broken.push(Broken::TornBatch { first });
                break;
            }
        }
        match batch.state {
            State::At(promised) if promised != offset => {
                broken.push(Broken::Moved { id: first, offset, promised });
            }
            State::Absent => broken.push(Broken::CameBack { id: first, offset }),
            State::At(_) | State::Unknown => {}
        }
        if offset <= last {
            broken.push(Broken::OutOfOrder { id: first, offset });
        }
        last = offset;
        if let (Some(count), Kind::Idempotent { .. }) = (missing.take(), lane.kind) {
            broken.push(Broken::Hole { id: told.id(index, count), offset });
        }
    }
    broken
}

/// What became of the batches that nobody answered: the log that was read back tells, for good.
///
/// An idempotent producer sends what is missing again, so for it nothing is settled but what is
/// there; a plain one does not, so what is missing must stay away.
pub(crate) fn settle(history: &mut History, found: &Found) {
    for (index, lane) in history.lanes.iter_mut().enumerate() {
        for (number, batch) in lane.batches.iter_mut().enumerate() {
            if batch.state != State::Unknown {
                continue;
            }
            match (found.get(&(index, number)), lane.kind) {
                (Some(offset), Kind::Plain) => batch.state = State::At(*offset),
                (None, Kind::Plain) => batch.state = State::Absent,
                (_, Kind::Idempotent { .. }) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests;
