//! DescribeLogDirs, versions 1 to 5: the one log directory, how large the logs in it are, and how
//! large the file system that it lies on.

use std::{future::Future, rc::Rc};

use model::{
    ErrorCode, PartitionId,
    collections::{BTreeMap, BTreeSet},
};
use wire::{
    describe_log_dirs_request::DescribeLogDirsRequest,
    describe_log_dirs_response::{
        DescribeLogDirsPartition, DescribeLogDirsResponse, DescribeLogDirsResult,
        DescribeLogDirsTopic,
    },
};

use super::{Answer, Request};
use crate::{peers::Call, shard::Shard};

/// Where the file system does not say.
const UNKNOWN_BYTES: i64 = -1;

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: DescribeLogDirsRequest<'_> = request.decode()?;
    let asked: Option<BTreeSet<(&str, i32)>> = body.topics.as_ref().map(|topics| {
        let partitions = topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(|partition| (topic.topic, *partition)));
        partitions.collect()
    });
    let mut sizes = BTreeMap::<String, BTreeMap<PartitionId, u64>>::new();
    for size in request.shard.call_all(MeasureLogs).await.into_iter().flatten() {
        let is_asked = |asked: &BTreeSet<(&str, i32)>| {
            asked.contains(&(size.topic.as_str(), size.partition.0))
        };
        if asked.as_ref().is_none_or(is_asked) {
            sizes.entry(size.topic).or_default().insert(size.partition, size.bytes);
        }
    }
    let topics = sizes
        .iter()
        .map(|(name, partitions)| DescribeLogDirsTopic {
            name,
            partitions: partitions
                .iter()
                .map(|(partition, bytes)| DescribeLogDirsPartition {
                    partition_index: partition.0,
                    partition_size: i64::try_from(*bytes).unwrap_or(i64::MAX),
                    offset_lag: 0,
                    is_future_key: false,
                })
                .collect(),
        })
        .collect();
    let space = request.shard.runtime.space(&request.shard.config.data_dir).await;
    let (total_bytes, usable_bytes) = space.map_or((UNKNOWN_BYTES, UNKNOWN_BYTES), |space| {
        let bytes = |count| i64::try_from(count).unwrap_or(i64::MAX);
        (bytes(space.total_bytes), bytes(space.free_bytes))
    });
    let directory = request.shard.config.data_dir.display().to_string();
    let result = DescribeLogDirsResult {
        error_code: ErrorCode::None.code(),
        log_dir: &directory,
        topics,
        total_bytes,
        usable_bytes,
        is_cordoned: false,
    };
    request.respond(&DescribeLogDirsResponse { results: vec![result], ..Default::default() })
}

/// How large a shard's logs are.
#[derive(Clone)]
struct MeasureLogs;

struct LogSize {
    topic: String,
    partition: PartitionId,
    bytes: u64,
}

impl Call for MeasureLogs {
    type Answer = Vec<LogSize>;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Answer> + 'static {
        let size = |partition: &Rc<crate::shard::Partition>| LogSize {
            topic: partition.log.topic().to_owned(),
            partition: partition.log.partition(),
            bytes: partition.log.size_bytes(),
        };
        std::future::ready(shard.partitions().iter().map(size).collect())
    }
}
