//! ListOffsets, versions 1 to 11: where a partition begins, ends, or reaches a time.

use std::{future::Future, rc::Rc};

use model::{ErrorCode, LeaderEpoch, PartitionId, TimestampMs, TopicId};
use runtime::ShardIndex;
use storage::TimestampOffset;
use wire::{
    list_offsets_request::ListOffsetsRequest,
    list_offsets_response::{
        ListOffsetsPartitionResponse, ListOffsetsResponse, ListOffsetsTopicResponse,
    },
};

use super::{Answer, Request, isolation::Isolation};
use crate::{error_map, peers::Call, shard::Shard};

/// Special timestamps: the end, the start, the record of the largest timestamp, the start of what
/// is stored locally (here: the start), the end of what is stored remotely, and the start of what
/// is still to be (here: nothing).
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// Whether a version knows a timestamp, special or not.
fn knows(timestamp: i64, version: i16) -> bool {
    let from = match timestamp {
        LATEST | EARLIEST => 1,
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        EARLIEST_PENDING_UPLOAD => 11,
        other => return other >= 0,
    };
    version >= from
}

#[derive(Clone, Copy)]
struct Share {
    topic: TopicId,
    partition: PartitionId,
    timestamp: i64,
    leader_epoch: i32,
    isolation: Isolation,
}

#[derive(Clone, Copy)]
struct Listed {
    error: ErrorCode,
    timestamp: i64,
    offset: i64,
    leader_epoch: i32,
}

impl Listed {
    fn refused(error: ErrorCode) -> Listed {
        Listed { error, timestamp: -1, offset: -1, leader_epoch: -1 }
    }
}

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: ListOffsetsRequest<'_> = request.decode()?;
    let shard = request.shard;
    let isolation = Isolation::of(body.isolation_level);
    let mut topics = Vec::new();
    for topic in &body.topics {
        let id = shard.image.borrow().topic_by_name(topic.name).map(|topic| topic.id);
        let mut partitions = Vec::new();
        for partition in &topic.partitions {
            let index = PartitionId(partition.partition_index);
            let owner = id.and_then(|id| Some((id, shard.owner_of(id, index)?)));
            let listed = match (owner, isolation) {
                (_, Err(error)) => Listed::refused(error),
                _ if !knows(partition.timestamp, request.head.version) => {
                    Listed::refused(ErrorCode::UnsupportedVersion)
                }
                (None, _) => Listed::refused(ErrorCode::UnknownTopicOrPartition),
                (Some((topic, owner)), Ok(isolation)) => {
                    let share = Share {
                        topic,
                        partition: index,
                        timestamp: partition.timestamp,
                        leader_epoch: partition.current_leader_epoch,
                        isolation,
                    };
                    list(shard, owner, share).await
                }
            };
            partitions.push(ListOffsetsPartitionResponse {
                partition_index: partition.partition_index,
                error_code: listed.error.code(),
                timestamp: listed.timestamp,
                offset: listed.offset,
                leader_epoch: listed.leader_epoch,
            });
        }
        topics.push(ListOffsetsTopicResponse { name: topic.name, partitions });
    }
    request.respond(&ListOffsetsResponse { topics, ..Default::default() })
}

async fn list(shard: &Rc<Shard>, owner: ShardIndex, share: Share) -> Listed {
    shard.call(owner, share).await.answer().await
}

impl Call for Share {
    type Answer = Listed;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Listed> + 'static {
        let shard = Rc::clone(shard);
        async move {
            let Some(partition) = shard.partition(self.topic, self.partition) else {
                return Listed::refused(ErrorCode::NotLeaderOrFollower);
            };
            let epoch = partition.leader_epoch();
            if let Some(error) = error_map::leader_epoch(self.leader_epoch, epoch) {
                return Listed::refused(error);
            }
            let log = &partition.log;
            let at = |offset: i64, timestamp: i64, leader_epoch: i32| Listed {
                error: ErrorCode::None,
                timestamp,
                offset,
                leader_epoch,
            };
            match self.timestamp {
                LATEST => at(self.isolation.end_of(log).0, -1, epoch.0),
                EARLIEST | EARLIEST_LOCAL => {
                    let start = log.log_start_offset();
                    at(start.0, -1, known_or(log.leader_epoch_at(start), epoch))
                }
                LATEST_TIERED | EARLIEST_PENDING_UPLOAD => at(-1, -1, -1),
                other => {
                    let found = if other == MAX_TIMESTAMP {
                        log.max_timestamp().await
                    } else {
                        log.offset_for_timestamp(TimestampMs(other)).await
                    };
                    let is_seen =
                        |found: &TimestampOffset| found.offset < self.isolation.end_of(log);
                    match found.map(|found| found.filter(is_seen)) {
                        Ok(Some(found)) => {
                            let epoch = known_or(found.leader_epoch, epoch);
                            at(found.offset.0, found.timestamp.0, epoch)
                        }
                        Ok(None) => at(-1, -1, -1),
                        Err(error) => Listed::refused(error_map::read(&error)),
                    }
                }
            }
        }
    }
}

/// The epoch of an old record, or the current one where it is not known.
fn known_or(epoch: LeaderEpoch, current: LeaderEpoch) -> i32 {
    if epoch.0 < 0 { current.0 } else { epoch.0 }
}
