//! Markers of transactions, on their way to the partitions that they end transactions in.
//!
//! ONE message to each shard that owns something of it. A marker is written when it is durable; one
//! for a partition of `__consumer_offsets` is its group coordinator's to write, since offsets
//! become visible with it.

use std::{future::Future, pin::Pin, rc::Rc};

use coordinator::{Response, TransactionEnd};
use model::{ErrorCode, PartitionId, TopicPartition};
use runtime::ShardIndex;

use crate::{
    coordinator_log, error_map, peers::Call, shard::Shard, topic_settings::CONSUMER_OFFSETS,
};

/// A marker, and where it is to be written.
#[derive(Clone, Debug)]
pub(crate) struct Marker {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) end: TransactionEnd,
}

impl Shard {
    /// Writes markers; tells what became of each, in their order. A topic that is not there is
    /// UNKNOWN_TOPIC_OR_PARTITION.
    pub(crate) async fn write_markers(self: &Rc<Self>, markers: &[Marker]) -> Vec<ErrorCode> {
        let mut results = vec![ErrorCode::UnknownTopicOrPartition; markers.len()];
        let asked = markers.iter().enumerate().filter_map(|(place, marker)| {
            let (id, owner) = self.place_of(&marker.topic, marker.partition)?;
            Some((place, owner, (id, marker.end)))
        });
        for (place, error) in self.call_owners(asked, WriteMarkers).await {
            results[place] = error;
        }
        results
    }

    /// A partition by its topic's name and its number, with its owner.
    pub(crate) fn place_of(
        &self,
        topic: &str,
        partition: i32,
    ) -> Option<(TopicPartition, ShardIndex)> {
        let topic = self.image.borrow().topic_by_name(topic)?.id;
        let partition = PartitionId(partition);
        Some((TopicPartition { topic, partition }, self.owner_of(topic, partition)?))
    }
}

/// Markers for the partitions of one shard.
struct WriteMarkers(Vec<(TopicPartition, TransactionEnd)>);

type Written = Pin<Box<dyn Future<Output = ErrorCode>>>;

impl Call for WriteMarkers {
    type Answer = Vec<ErrorCode>;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Answer> + 'static {
        let written: Vec<Written> =
            self.0.into_iter().map(|(id, end)| write(shard, id, end)).collect();
        async move {
            let mut results = Vec::with_capacity(written.len());
            for one in written {
                results.push(one.await);
            }
            results
        }
    }
}

fn write(shard: &Rc<Shard>, id: TopicPartition, end: TransactionEnd) -> Written {
    let done = |error: ErrorCode| -> Written { Box::pin(std::future::ready(error)) };
    let Some(partition) = shard.partition(id.topic, id.partition) else {
        return done(ErrorCode::NotLeaderOrFollower);
    };
    if partition.log.topic() == CONSUMER_OFFSETS {
        let Some(groups) = shard.groups.find(id) else {
            return done(ErrorCode::NotLeaderOrFollower);
        };
        let answer = groups.ask(shard, |coordinator, caller, now| {
            coordinator.end_transaction(caller.token, end, now)
        });
        return Box::pin(async move {
            match answer.receive().await {
                Some(Response::TransactionEnded(error)) => error,
                Some(_) | None => ErrorCode::NotLeaderOrFollower,
            }
        });
    }
    match coordinator_log::append_marker(shard, &partition, end) {
        Ok(appended) => {
            let wait = partition.log.wait_acknowledged(&appended);
            Box::pin(async move {
                wait.await.map_or_else(|error| error_map::wait(&error), |()| ErrorCode::None)
            })
        }
        Err(error) => {
            tracing::debug!(partition = %partition.name(), %error, "marker refused");
            done(error_map::append(&error))
        }
    }
}
