//! Partitions that had records and whose directory is gone: reported, and not taken for new ones.
//!
//! ```text
//!   odradek-partitions    0, the number of lines, then per line: topic id, partition
//! ```
//! The file names the partitions that the recovery points, which were durable before, tell of by
//! their topics' names: a topic of the same name that came later has another id. Apache Kafka leaves
//! it alone; what it did to the directory in between changes no id.
//!
//! Once the loss is accepted, `log-start-offset-checkpoint` names the recovery point: the partition
//! is empty from there on, and no offset is given out twice.

use std::{path::Path, rc::Rc};

use model::{
    Offset, PartitionId, TopicId,
    collections::{BTreeMap, BTreeSet},
    topic_config::TopicConfig,
};

use crate::{
    Damage, FenceReason, Log, RecoveryPoint, RecoveryStart, Storage, checkpoint,
    log::{State, Status},
    segment::segment_path,
};

pub(crate) const FILE_NAME: &str = "odradek-partitions";

/// What the directory's files say of partitions, whether they are there or not.
#[derive(Clone, Debug, Default)]
pub struct RecordedPartitions {
    pub(crate) starts: BTreeMap<(String, PartitionId), RecoveryStart>,
    pub(crate) had_records: BTreeSet<(TopicId, PartitionId)>,
}

impl RecordedPartitions {
    /// What is recorded of a partition that is not there; `None` for one that never had a record.
    #[must_use]
    pub fn find(
        &self,
        topic: &str,
        topic_id: TopicId,
        partition: PartitionId,
    ) -> Option<RecoveryStart> {
        let start = self.starts.get(&(topic.to_owned(), partition)).copied()?;
        let has_mark = start.recovery_point.is_some_and(|point| point > Offset::ZERO);
        (has_mark && self.had_records.contains(&(topic_id, partition))).then_some(start)
    }
}

/// The content of the file.
pub(crate) fn file(points: &[RecoveryPoint]) -> Vec<u8> {
    let with_records = points.iter().filter(|point| point.recovery_point > Offset::ZERO);
    let lines: Vec<String> =
        with_records.map(|point| format!("{} {}\n", point.topic_id, point.partition)).collect();
    format!("0\n{}\n{}", lines.len(), lines.concat()).into_bytes()
}

pub(crate) fn parse(content: &[u8]) -> Option<BTreeSet<(TopicId, PartitionId)>> {
    checkpoint::lines(content)?
        .into_iter()
        .map(|line| {
            let (id, partition) = line.split_once(' ')?;
            Some((id.parse().ok()?, PartitionId(partition.parse().ok()?)))
        })
        .collect()
}

/// The records that are lost with a partition's directory; `None` where that was accepted.
pub(crate) fn damage(directory: &Path, start: &RecoveryStart) -> Option<Damage> {
    let to = start.recovery_point.unwrap_or_default();
    let from = start.log_start_offset.unwrap_or_default();
    let path = segment_path(directory, from, "log");
    let what = "the partition's directory is missing".to_owned();
    (from < to).then_some(Damage { from, to, path, positions: 0..0, what })
}

impl Storage {
    /// A partition of which something is recorded and that is not there. Its records cannot be
    /// read, and it takes none; where their loss was accepted, it is empty and goes on behind them.
    #[must_use]
    pub fn gone_log(
        &self,
        parent: &Path,
        topic: &str,
        partition: PartitionId,
        topic_id: TopicId,
        config: Rc<TopicConfig>,
        start: &RecoveryStart,
    ) -> Log {
        let directory = parent.join(format!("{topic}-{partition}"));
        let end = start.recovery_point.unwrap_or_default();
        let log_start = start.log_start_offset.unwrap_or_default();
        let mut state = State::new(config, log_start.max(end), self.0.runtime.now());
        if let Some(damage) = damage(&directory, start) {
            tracing::error!(
                topic,
                partition = partition.0,
                offset = damage.from.0,
                "damaged: {damage}; the partition takes no records until the loss is accepted"
            );
            state.log_start = damage.from;
            state.damages.add(damage);
            state.status = Status::Fenced(FenceReason::Damaged);
        }
        Log::new(Rc::clone(&self.0), (topic, partition, topic_id), directory, state)
    }
}
