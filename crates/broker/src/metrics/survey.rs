//! What every shard tells of itself when it is asked, and what that is together.

use std::{future::Future, rc::Rc};

use coordinator::coordinator::GroupPositions;
use model::{Offset, PartitionId, collections::BTreeMap};
use runtime::{ShardIndex, Space, durations::DurationCounts};
use wire::api::ApiKey;

use super::{RequestKind, StageCounts, TrafficCounts};
use crate::{controller::CONTROLLER_SHARD, peers::Call, shard::Shard};

/// What a node tells of itself.
#[derive(Debug, Default)]
pub(super) struct NodeSurvey {
    pub(super) node_id: i32,
    pub(super) cluster_id: Option<String>,
    pub(super) address: (String, u16),
    pub(super) driver: String,
    pub(super) topic_count: usize,
    pub(super) connections: Vec<usize>,
    pub(super) shards: Vec<ShardSurvey>,
    pub(super) partitions: BTreeMap<(String, PartitionId), PartitionSurvey>,
    /// By topic.
    pub(super) traffic: BTreeMap<String, TrafficCounts>,
    pub(super) requests: BTreeMap<ApiKey, DurationCounts>,
    pub(super) stages: BTreeMap<RequestKind, StageCounts>,
    pub(super) groups: Vec<GroupPositions>,
    /// What there is on the log directory's file system, if that is known.
    pub(super) space: Option<Space>,
}

/// What a shard tells of itself.
#[derive(Debug)]
pub(super) struct ShardSurvey {
    pub(super) shard: ShardIndex,
    pub(super) traffic: TrafficCounts,
    pub(super) bytes_received: u64,
    pub(super) bytes_sent: u64,
    pub(super) file_syncs: u64,
    pub(super) sync_rounds: u64,
    pub(super) sync_times: DurationCounts,
    pub(super) tail_bytes: usize,
    partitions: Vec<PartitionSurvey>,
    requests: Vec<(ApiKey, DurationCounts)>,
    stages: Vec<(RequestKind, StageCounts)>,
    groups: Vec<GroupPositions>,
}

/// What is to be said of a partition.
#[derive(Debug)]
pub(super) struct PartitionSurvey {
    topic: String,
    partition: PartitionId,
    pub(super) log_start: Offset,
    pub(super) high_watermark: Offset,
    pub(super) log_end: Offset,
    pub(super) durable_end: Offset,
    pub(super) size_bytes: u64,
    pub(super) segments: usize,
    /// False for a log that was given up after a failed write or sync.
    pub(super) is_writable: bool,
    traffic: TrafficCounts,
}

#[derive(Clone)]
struct Tell;

impl Call for Tell {
    type Answer = ShardSurvey;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = ShardSurvey> + 'static {
        std::future::ready(of_shard(shard))
    }
}

fn of_shard(shard: &Rc<Shard>) -> ShardSurvey {
    let partitions = shard.partitions().into_iter().map(|partition| {
        let log = &partition.log;
        PartitionSurvey {
            topic: log.topic().to_owned(),
            partition: log.partition(),
            log_start: log.log_start_offset(),
            high_watermark: log.high_watermark(),
            log_end: log.log_end_offset(),
            durable_end: log.durable_end(),
            size_bytes: log.size_bytes(),
            segments: log.segment_count(),
            is_writable: log.fenced().is_none(),
            traffic: partition.traffic.counts(),
        }
    });
    let commits = shard.storage.commit_counts();
    let counters = &shard.counters;
    ShardSurvey {
        shard: shard.runtime.shard(),
        traffic: counters.traffic.counts(),
        bytes_received: counters.bytes_received.get(),
        bytes_sent: counters.bytes_sent.get(),
        file_syncs: commits.file_syncs,
        sync_rounds: commits.rounds,
        sync_times: shard.storage.sync_times(),
        tail_bytes: shard.storage.tail_bytes(),
        partitions: partitions.collect(),
        requests: counters.requests(),
        stages: counters.stages(),
        groups: shard.groups.positions(),
    }
}

/// Asks every shard, with one message each.
pub(super) async fn of_node(shard: &Rc<Shard>) -> NodeSurvey {
    assert!(shard.runtime.shard() == CONTROLLER_SHARD, "it has the connections and the controller");
    let space = shard.runtime.space(&shard.config.data_dir).await.ok();
    let mut node = NodeSurvey {
        node_id: shard.config.node_id,
        cluster_id: shard.cluster_id().map(str::to_owned),
        address: shard.listens_at(),
        driver: shard.runtime.driver_kind().to_string(),
        topic_count: shard.image.borrow().topics().count(),
        connections: shard.connections.of_shards(),
        space,
        ..NodeSurvey::default()
    };
    for mut one in shard.call_all(Tell).await {
        for partition in std::mem::take(&mut one.partitions) {
            node.traffic.entry(partition.topic.clone()).or_default().add(partition.traffic);
            node.partitions.insert((partition.topic.clone(), partition.partition), partition);
        }
        for (key, durations) in std::mem::take(&mut one.requests) {
            node.requests.entry(key).or_default().add(&durations);
        }
        for (kind, counts) in std::mem::take(&mut one.stages) {
            node.stages.entry(kind).or_default().add(&counts);
        }
        node.groups.append(&mut one.groups);
        node.shards.push(one);
    }
    node.groups.sort_by(|one, other| one.group_id.cmp(&other.group_id));
    node
}

impl NodeSurvey {
    /// All shards together, also of partitions that are gone.
    pub(super) fn all_traffic(&self) -> TrafficCounts {
        let mut all = TrafficCounts::default();
        for shard in &self.shards {
            all.add(shard.traffic);
        }
        all
    }

    /// How far a group is behind; `None` for a partition that is not there.
    pub(super) fn lag(&self, topic: &str, partition: i32, committed: Offset) -> Option<i64> {
        let known = self.partitions.get(&(topic.to_owned(), PartitionId(partition)))?;
        Some((known.high_watermark.0 - committed.0).max(0))
    }
}
