//! Damage to what was durable, in a share of the seeds: where the disk strikes, and the life of the
//! broker that has to cope with it.
//!
//! One broker alone cannot bring back what its disk has lost. So the model has to know exactly what
//! was hit, and demands the rest: no other bytes are served than were written, each damaged record
//! is spoken of, everything else is there, and nothing below the durable mark is cut. What lies
//! above the mark is spared: there nobody can tell damage from a torn write, and it is cut as one.
//!
//! ```text
//!   stop or crash | the disk strikes | a life with damage | stop or crash | the operator accepts
//! ```

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use super::{
    history::Partition,
    node::DATA_DIRECTORY,
    survey::{SegmentSurvey, Survey, partition_of},
};
use crate::{
    Rng,
    disk::{Acknowledged, Disk},
    number::wide,
};

/// The topic of the groups' commits.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";
const METADATA_TOPIC: &str = "__cluster_metadata";
/// How often another place is looked for, where one may not be hit.
const ATTEMPTS_MAX: usize = 30;
/// Of 1,000 strokes after a clean stop so many hit a log's last batch.
const AT_END_PERMILLE: u32 = 300;
const SECTOR: usize = 512;
const BLOCK: usize = 4096;

/// What the disk does to a seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DamagePlan {
    /// After the end of this life.
    pub(crate) after_life: usize,
    /// That life is to end with a clean stop.
    pub(crate) stops_before: bool,
    pub(crate) target: Target,
    /// How many places are hit.
    pub(crate) count: u64,
    /// How many more while the broker runs.
    pub(crate) count_running: u64,
    /// The life with damage ends so.
    pub(crate) stops_after: bool,
    /// The operator gives up what is damaged, also where nothing forces it.
    pub(crate) accepts: bool,
}

/// Which files are hit: one kind in a seed, as one fault is to be survived, and not two that hide
/// each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Segments of topics and of the groups' commits.
    Logs,
    /// What is made from the logs: indexes, snapshots, checkpoints.
    Derived,
    /// The metadata log and what belongs to it.
    Metadata,
}

/// What the disk does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stroke {
    BitFlip,
    Rot,
    LostWrite,
    StaleBlock,
    MisdirectedWrite,
}

/// How often the disk did it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Struck {
    /// One bit.
    pub bits: u64,
    /// A sector of other bytes.
    pub sectors: u64,
    /// A write that was acknowledged and synced is not there.
    pub writes_lost: u64,
    /// A block of one is as it was before.
    pub blocks_stale: u64,
    /// One is at another place.
    pub writes_misdirected: u64,
    /// Of all of them those in files that are made from the logs.
    pub derived: u64,
    /// Those in the metadata.
    pub metadata: u64,
}

impl Struck {
    fn note(&mut self, stroke: Stroke, target: Target) {
        match stroke {
            Stroke::BitFlip => self.bits += 1,
            Stroke::Rot => self.sectors += 1,
            Stroke::LostWrite => self.writes_lost += 1,
            Stroke::StaleBlock => self.blocks_stale += 1,
            Stroke::MisdirectedWrite => self.writes_misdirected += 1,
        }
        match target {
            Target::Logs => {}
            Target::Derived => self.derived += 1,
            Target::Metadata => self.metadata += 1,
        }
    }

    /// Adds another seed's.
    pub fn add(&mut self, other: &Struck) {
        self.bits += other.bits;
        self.sectors += other.sectors;
        self.writes_lost += other.writes_lost;
        self.blocks_stale += other.blocks_stale;
        self.writes_misdirected += other.writes_misdirected;
        self.derived += other.derived;
        self.metadata += other.metadata;
    }
}

impl DamagePlan {
    pub(crate) fn by_seed(rng: &mut Rng, life_count: usize) -> DamagePlan {
        let target = match rng.below(10) {
            0..6 => Target::Logs,
            6..9 => Target::Derived,
            _ => Target::Metadata,
        };
        DamagePlan {
            after_life: rng.index(life_count),
            stops_before: rng.chance(500),
            target,
            count: if target == Target::Metadata { 1 } else { rng.between(1, 4) },
            count_running: if target == Target::Logs { rng.below(3) } else { 0 },
            stops_after: rng.chance(500),
            accepts: rng.chance(500),
        }
    }
}

/// Whether a broker runs on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    AtRest,
    Running,
}

/// What a stroke has damaged of a log.
pub(crate) struct Hit {
    pub(crate) partition: Partition,
    pub(crate) offsets: Range<i64>,
    pub(crate) is_end: bool,
}

/// Hits one place of the target, if there is one that may be hit. `is_hit` tells which partitions
/// were before: one damage a log, as two that are near each other may become one.
pub(crate) fn strike(
    disk: &mut Disk,
    target: Target,
    state: State,
    is_hit: impl Fn(&Partition) -> bool,
    rng: &mut Rng,
    struck: &mut Struck,
) -> Vec<Hit> {
    let survey = Survey::of(disk, Path::new(DATA_DIRECTORY));
    let of_target: &[Stroke] = match target {
        Target::Logs => &[
            Stroke::BitFlip,
            Stroke::Rot,
            Stroke::LostWrite,
            Stroke::StaleBlock,
            Stroke::MisdirectedWrite,
        ],
        Target::Derived | Target::Metadata => &[Stroke::BitFlip, Stroke::Rot],
    };
    let stroke = rng.pick(of_target);
    for _ in 0..ATTEMPTS_MAX {
        let change = match target {
            Target::Logs => change_of_log(disk, &survey, stroke, rng),
            Target::Derived | Target::Metadata => change_of_file(disk, target, stroke, rng),
        };
        let Some(change) = change else { continue };
        let Some(hits) = hits_of(&survey, &change, state, &is_hit) else { continue };
        for (path, content) in &change.files {
            tracing::info!(path = %path.display(), stroke = ?change.stroke, ?state, "the disk strikes");
            apply(disk, path, content);
        }
        struck.note(change.stroke, target);
        return hits;
    }
    Vec::new()
}

/// New contents of files.
struct Change {
    stroke: Stroke,
    files: Vec<(PathBuf, Vec<u8>)>,
}

fn apply(disk: &mut Disk, path: &Path, content: &[u8]) {
    let before = disk.content_of(path).expect("it was read before");
    for (at, (new, old)) in content.chunks(SECTOR).zip(before.chunks(SECTOR)).enumerate() {
        if new != old {
            disk.damage(path, wide(at * SECTOR), new);
        }
    }
}

fn change_of_log(disk: &Disk, survey: &Survey, stroke: Stroke, rng: &mut Rng) -> Option<Change> {
    let logs: Vec<(&SegmentSurvey, usize)> = survey
        .logs
        .iter()
        .filter(|((topic, _), _)| topic != METADATA_TOPIC)
        .flat_map(|(_, log)| {
            log.segments.iter().map(|segment| (segment, segment.durable_bytes(log.mark)))
        })
        .filter(|(_, durable_bytes)| *durable_bytes > 0)
        .collect();
    if logs.is_empty() {
        return None;
    }
    let (segment, durable_bytes) = rng.pick(&logs);
    match stroke {
        Stroke::BitFlip | Stroke::Rot => {
            let last =
                segment.last_batch().filter(|_| survey.is_clean && rng.chance(AT_END_PERMILLE));
            let content = changed(&segment.content, last.unwrap_or(0..durable_bytes), stroke, rng);
            Some(Change { stroke, files: vec![(segment.path.clone(), content)] })
        }
        Stroke::LostWrite | Stroke::StaleBlock | Stroke::MisdirectedWrite => {
            let writes = disk.acknowledged(Path::new(DATA_DIRECTORY));
            let is_of_a_topic = |path: &Path| {
                let partition = partition_of(Path::new(DATA_DIRECTORY), path);
                partition.is_some_and(|(topic, _)| topic != METADATA_TOPIC)
            };
            let writes: Vec<&(PathBuf, Acknowledged)> =
                writes.iter().filter(|(path, _)| is_of_a_topic(path)).collect();
            if writes.is_empty() {
                return None;
            }
            let (path, write) = rng.pick(&writes);
            let content = disk.content_of(path)?;
            let blocks = if stroke == Stroke::StaleBlock {
                let block = rng.index(write.block_count());
                block..block + 1
            } else {
                0..write.block_count()
            };
            let without = write.taken_back(&content, blocks);
            if without == content {
                return None;
            }
            let mut files = vec![(path.clone(), without)];
            if stroke == Stroke::MisdirectedWrite {
                let at = rng.index(durable_bytes.div_ceil(BLOCK)) * BLOCK;
                put_at(&mut files, segment, at, &write.data);
            }
            Some(Change { stroke, files })
        }
    }
}

/// A write comes to lie at another place, in its own file or another's; not beyond its end.
fn put_at(files: &mut Vec<(PathBuf, Vec<u8>)>, segment: &SegmentSurvey, at: usize, data: &[u8]) {
    if files[0].0 != segment.path {
        files.push((segment.path.clone(), segment.content.clone()));
    }
    let content = &mut files.last_mut().expect("the write's own at least").1;
    let end = (at + data.len()).min(content.len());
    content[at..end].copy_from_slice(&data[..end - at]);
}

/// One file as a whole, wherever in it.
fn change_of_file(disk: &Disk, target: Target, stroke: Stroke, rng: &mut Rng) -> Option<Change> {
    let paths = disk.paths_under(Path::new(DATA_DIRECTORY));
    let has_content = |path: &PathBuf| disk.content_of(path).is_some_and(|all| !all.is_empty());
    let paths: Vec<&PathBuf> =
        paths.iter().filter(|path| target_of(path) == Some(target) && has_content(path)).collect();
    if paths.is_empty() {
        return None;
    }
    let path = rng.pick(&paths);
    let content = disk.content_of(path)?;
    let content = changed(&content, 0..content.len(), stroke, rng);
    Some(Change { stroke, files: vec![(path.clone(), content)] })
}

fn changed(content: &[u8], within: Range<usize>, stroke: Stroke, rng: &mut Rng) -> Vec<u8> {
    let mut content = content.to_vec();
    let at = within.start + rng.index(within.len());
    if stroke == Stroke::BitFlip {
        content[at] ^= 1 << rng.below(8);
        return content;
    }
    let start = at - at % SECTOR;
    let end = (start + SECTOR).min(content.len());
    let zeros = rng.chance(300);
    for byte in &mut content[start..end] {
        *byte = if zeros { 0 } else { u8::try_from(rng.below(256)).expect("below 256") };
    }
    content
}

/// What a file is to a start; none where it is not hit: a topic's id, which stands in one file
/// alone, and the lock.
fn target_of(path: &Path) -> Option<Target> {
    let name = path.file_name()?.to_str()?;
    let partition = partition_of(Path::new(DATA_DIRECTORY), path);
    let is_metadata = partition.is_some_and(|(topic, _)| topic == METADATA_TOPIC);
    match name {
        "meta.properties" | "quorum-state" => Some(Target::Metadata),
        "partition.metadata" | ".lock" => None,
        _ if name.ends_with(".log") || name.ends_with(".checkpoint") => {
            is_metadata.then_some(Target::Metadata)
        }
        _ => Some(Target::Derived),
    }
}

/// What a change does to the logs; `None` where it may not be made.
fn hits_of(
    survey: &Survey,
    change: &Change,
    state: State,
    is_hit: &impl Fn(&Partition) -> bool,
) -> Option<Vec<Hit>> {
    let mut hits: Vec<Hit> = Vec::new();
    for (path, after) in &change.files {
        let found = survey.logs.iter().find_map(|(partition, log)| {
            let segment = log.segments.iter().find(|segment| segment.path == *path)?;
            Some((partition, log.mark, segment))
        });
        let Some((partition, mark, segment)) = found else { continue };
        let is_running = state == State::Running && segment.is_last();
        if is_running || is_hit(partition) || segment.is_last_epoch_changed(after) {
            return None;
        }
        let is_misdirected = change.stroke == Stroke::MisdirectedWrite;
        if is_misdirected && segment.takes_anothers_batch(after, mark) {
            return None;
        }
        let Some(effect) = segment.effect(after) else { continue };
        let is_below = effect.offsets.end < mark || effect.offsets.end == mark && survey.is_clean;
        if !is_below || (effect.is_end && !survey.is_clean) {
            return None;
        }
        if hits.iter().any(|hit| hit.partition == *partition) {
            return None;
        }
        let (offsets, is_end) = (effect.offsets, effect.is_end);
        hits.push(Hit { partition: partition.clone(), offsets, is_end });
    }
    Some(hits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart() {
        let cases = [
            ("orders-0/00000000000000000000.log", None),
            ("orders-0/00000000000000000000.index", Some(Target::Derived)),
            ("orders-0/00000000000000000017.snapshot", Some(Target::Derived)),
            ("orders-0/partition.metadata", None),
            ("recovery-point-offset-checkpoint", Some(Target::Derived)),
            ("meta.properties", Some(Target::Metadata)),
            ("__cluster_metadata-0/00000000000000000000.log", Some(Target::Metadata)),
            ("__cluster_metadata-0/quorum-state", Some(Target::Metadata)),
        ];
        for (name, expected) in cases {
            assert_eq!(target_of(&Path::new(DATA_DIRECTORY).join(name)), expected, "{name}");
        }
    }

    #[test]
    fn damage_changes_one_bit_or_one_sector() {
        let content = vec![7u8; 3000];
        for seed in 0..50 {
            let mut rng = Rng::new(seed);
            let flipped = changed(&content, 0..2000, Stroke::BitFlip, &mut rng);
            let differing: Vec<usize> = (0..3000).filter(|at| flipped[*at] != 7).collect();
            assert!(differing.len() == 1 && differing[0] < 2000);
            let rotten = changed(&content, 0..2000, Stroke::Rot, &mut rng);
            let sectors: Vec<usize> =
                (0..3000).filter(|at| rotten[*at] != 7).map(|at| at / SECTOR).collect();
            assert!(!sectors.is_empty() && sectors.iter().all(|sector| *sector == sectors[0]));
        }
    }
}
