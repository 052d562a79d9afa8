//! What a disk holds of a broker's logs: which batch lies where, and below which offset all of it is
//! durable and known to be by the broker's next start.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
};

use model::record_batch::{RecordBatch, position};

use super::history::Partition;
use crate::disk::Disk;

const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";

pub(crate) struct Survey {
    /// The last process stopped cleanly.
    pub(crate) is_clean: bool,
    pub(crate) logs: BTreeMap<Partition, PartitionSurvey>,
}

pub(crate) struct PartitionSurvey {
    /// The durable mark.
    pub(crate) mark: i64,
    pub(crate) segments: Vec<SegmentSurvey>,
}

pub(crate) struct SegmentSurvey {
    pub(crate) path: PathBuf,
    pub(crate) content: Vec<u8>,
    batches: Vec<BatchPlace>,
    /// Where the next segment begins.
    next: Option<i64>,
}

struct BatchPlace {
    positions: Range<usize>,
    offsets: Range<i64>,
}

/// What a change of a segment's bytes does to its batches.
pub(crate) struct Effect {
    /// From the end of the last sound batch before it to the first sound one behind it.
    pub(crate) offsets: Range<i64>,
    /// Nothing sound lies behind it in the log.
    pub(crate) is_end: bool,
}

impl Survey {
    pub(crate) fn of(disk: &Disk, directory: &Path) -> Survey {
        let paths = disk.paths_under(directory);
        let points = recovery_points(disk, directory);
        let mut logs: BTreeMap<Partition, PartitionSurvey> = BTreeMap::new();
        let mut bases: BTreeMap<Partition, Vec<(i64, &PathBuf)>> = BTreeMap::new();
        let mut snapshots: BTreeMap<Partition, Vec<i64>> = BTreeMap::new();
        for path in &paths {
            let Some(partition) = partition_of(directory, path) else { continue };
            if let Some(base) = offset_of_name(path, "log") {
                bases.entry(partition).or_default().push((base, path));
            } else if let Some(at) = offset_of_name(path, "snapshot") {
                snapshots.entry(partition).or_default().push(at);
            }
        }
        for (partition, mut segments) in bases {
            segments.sort_unstable();
            let point = points.get(&partition).copied().unwrap_or(0);
            let known = snapshots.get(&partition).into_iter().flatten();
            let mark = known.filter(|at| **at <= point).max().copied().unwrap_or(0);
            let nexts = segments.iter().skip(1).map(|(base, _)| Some(*base)).chain([None]);
            let survey = segments.iter().zip(nexts).map(|((_, path), next)| {
                let content = disk.content_of(path).unwrap_or_default();
                SegmentSurvey { path: (*path).clone(), batches: places(&content), content, next }
            });
            logs.insert(partition, PartitionSurvey { mark, segments: survey.collect() });
        }
        let is_clean = disk.content_of(&directory.join(CLEAN_SHUTDOWN)).is_some();
        Survey { is_clean, logs }
    }
}

impl SegmentSurvey {
    /// How many bytes from the start on hold batches below `mark`.
    pub(crate) fn durable_bytes(&self, mark: i64) -> usize {
        let durable = self.batches.iter().take_while(|batch| batch.offsets.end <= mark);
        durable.last().map_or(0, |batch| batch.positions.end)
    }

    /// Where the log's last batch lies.
    pub(crate) fn last_batch(&self) -> Option<Range<usize>> {
        self.batches.last().filter(|_| self.is_last()).map(|batch| batch.positions.clone())
    }

    pub(crate) fn is_last(&self) -> bool {
        self.next.is_none()
    }

    /// True if the leader epoch of a log's last batch changes: nobody can tell which one wrote it.
    pub(crate) fn is_last_epoch_changed(&self, after: &[u8]) -> bool {
        self.batches.last().filter(|_| self.is_last()).is_some_and(|last| {
            let epoch = last.positions.start + position::PARTITION_LEADER_EPOCH;
            let epoch = epoch..epoch + 4;
            self.content.get(epoch.clone()) != after.get(epoch)
        })
    }

    /// True if whole batches of elsewhere come to lie where the log's own offsets lead to them, or
    /// where they lead on, from behind something broken, to where a batch is known to begin or end:
    /// at the `mark`, or where the next segment begins. The format has nothing that tells whose they
    /// are.
    pub(crate) fn takes_anothers_batch(&self, after: &[u8], mark: i64) -> bool {
        let Some(mut expected) = offset_of_name(&self.path, "log") else { return false };
        let is_anothers = |place: &BatchPlace| {
            self.content.get(place.positions.clone()) != after.get(place.positions.clone())
        };
        let mut sound = 0;
        for place in places(after) {
            if place.offsets.start != expected {
                break;
            }
            if is_anothers(&place) {
                return true;
            }
            expected = place.offsets.end;
            sound = place.positions.end;
        }
        let known = [mark, self.next.unwrap_or(mark)];
        (sound..after.len()).any(|at| {
            let chain = chain_at(after, at);
            chain.first().is_some_and(is_anothers)
                && chain.iter().any(|place| {
                    known.contains(&place.offsets.start) || known.contains(&place.offsets.end)
                })
        })
    }

    /// What becomes of the batches if the content becomes `after`; `None` if nothing does.
    pub(crate) fn effect(&self, after: &[u8]) -> Option<Effect> {
        let differs = |batch: &BatchPlace| {
            self.content.get(batch.positions.clone()) != after.get(batch.positions.clone())
        };
        let first = self.batches.iter().position(differs)?;
        let last = self.batches.iter().rposition(differs)?;
        let from = match first.checked_sub(1) {
            Some(before) => self.batches[before].offsets.end,
            None => offset_of_name(&self.path, "log")?,
        };
        let (to, is_end) = match (self.batches.get(last + 1), self.next) {
            (Some(next), _) => (next.offsets.start, false),
            (None, Some(next)) => (next, false),
            (None, None) => (self.batches[last].offsets.end, true),
        };
        Some(Effect { offsets: from..to, is_end })
    }
}

/// The batches from there on of which each follows the one before it.
fn chain_at(content: &[u8], at: usize) -> Vec<BatchPlace> {
    let mut chain: Vec<BatchPlace> = Vec::new();
    for place in places(&content[at..]) {
        if chain.last().is_some_and(|last| last.offsets.end != place.offsets.start) {
            break;
        }
        let positions = place.positions.start + at..place.positions.end + at;
        chain.push(BatchPlace { positions, offsets: place.offsets });
    }
    chain
}

fn places(content: &[u8]) -> Vec<BatchPlace> {
    let mut places = Vec::new();
    let mut at = 0;
    while let Ok(batch) = RecordBatch::first(&content[at..]) {
        if batch.verify_crc().is_err() {
            break;
        }
        let end = at + batch.size();
        let offsets = batch.base_offset().0..batch.next_offset().0;
        places.push(BatchPlace { positions: at..end, offsets });
        at = end;
    }
    places
}

/// The partition in whose directory a file lies.
pub(crate) fn partition_of(directory: &Path, path: &Path) -> Option<Partition> {
    let parent = path.parent().filter(|parent| parent.parent() == Some(directory))?;
    let (topic, partition) = parent.file_name()?.to_str()?.rsplit_once('-')?;
    Some((topic.to_owned(), partition.parse().ok()?))
}

fn offset_of_name(path: &Path, suffix: &str) -> Option<i64> {
    let name = path.file_name()?.to_str()?;
    name.strip_suffix(suffix)?.strip_suffix('.')?.parse().ok()
}

/// The lines of the checkpoint file, which this broker writes: topic, partition, offset.
fn recovery_points(disk: &Disk, directory: &Path) -> BTreeMap<Partition, i64> {
    let content = disk.content_of(&directory.join(RECOVERY_POINTS)).unwrap_or_default();
    let content = String::from_utf8_lossy(&content).into_owned();
    let parse = |line: &str| {
        let mut words = line.split(' ');
        let (topic, partition, offset) = (words.next()?, words.next()?, words.next()?);
        Some(((topic.to_owned(), partition.parse().ok()?), offset.parse().ok()?))
    };
    content.lines().filter_map(parse).collect()
}
