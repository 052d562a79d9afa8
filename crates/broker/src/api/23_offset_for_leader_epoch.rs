//! OffsetForLeaderEpoch, versions 2 to 4: where an epoch ends, for consumers who check that what
//! they have read is still so (KIP-320).

use std::{future::Future, rc::Rc};

use model::{ErrorCode, LeaderEpoch, PartitionId, TopicId};
use wire::{
    offset_for_leader_epoch_request::{OffsetForLeaderEpochRequest, OffsetForLeaderPartition},
    offset_for_leader_epoch_response::{
        EpochEndOffset, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
    },
};

use super::{Answer, Request};
use crate::{error_map, peers::Call, shard::Shard};

/// What stands for no epoch and for no offset.
const UNDEFINED: (i32, i64) = (-1, -1);

/// One partition's question, on its way to its owner.
struct Share {
    topic: TopicId,
    partition: PartitionId,
    current_leader_epoch: i32,
    epoch: i32,
}

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: OffsetForLeaderEpochRequest<'_> = request.decode()?;
    let mut topics = Vec::with_capacity(body.topics.len());
    for topic in &body.topics {
        let id = request.shard.image.borrow().topic_by_name(topic.topic).map(|topic| topic.id);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in &topic.partitions {
            let found = ask(request, id, asked).await;
            let ((leader_epoch, end_offset), error) = match found {
                Ok(end) => (end, ErrorCode::None),
                Err(error) => (UNDEFINED, error),
            };
            partitions.push(EpochEndOffset {
                error_code: error.code(),
                partition: asked.partition,
                leader_epoch,
                end_offset,
            });
        }
        topics.push(OffsetForLeaderTopicResult { topic: topic.topic, partitions });
    }
    request.respond(&OffsetForLeaderEpochResponse { topics, ..Default::default() })
}

async fn ask(
    request: &Request<'_>,
    topic: Option<TopicId>,
    asked: &OffsetForLeaderPartition,
) -> Result<(i32, i64), ErrorCode> {
    let partition = PartitionId(asked.partition);
    let owner = topic.and_then(|topic| Some((topic, request.shard.owner_of(topic, partition)?)));
    let (topic, owner) = owner.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let share = Share {
        topic,
        partition,
        current_leader_epoch: asked.current_leader_epoch,
        epoch: asked.leader_epoch,
    };
    request.shard.call(owner, share).await.answer().await
}

impl Call for Share {
    type Answer = Result<(i32, i64), ErrorCode>;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Answer> + 'static {
        let found = match shard.partition(self.topic, self.partition) {
            None => Err(ErrorCode::NotLeaderOrFollower),
            Some(partition) => {
                let current = partition.leader_epoch();
                match error_map::leader_epoch(self.current_leader_epoch, current) {
                    Some(error) => Err(error),
                    None => {
                        let found = partition.end_of_epoch(LeaderEpoch(self.epoch));
                        Ok(found.map_or(UNDEFINED, |(epoch, end)| (epoch.0, end.0)))
                    }
                }
            }
        };
        std::future::ready(found)
    }
}
