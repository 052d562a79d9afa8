//! DescribeProducers, version 0: what partitions know of their producers. Who looks for a
//! transaction that hangs finds there whose it is (`kafka-transactions`, KIP-664).

use std::{future::Future, rc::Rc};

use model::{ErrorCode, PartitionId, TopicId, collections::BTreeSet};
use storage::ProducerStatus;
use wire::{
    describe_producers_request::DescribeProducersRequest,
    describe_producers_response::{
        DescribeProducersResponse, PartitionResponse, ProducerState, TopicResponse,
    },
};

use super::{Answer, Request};
use crate::{error_map, peers::Call, shard::Shard};

/// What Apache Kafka says of a topic that is not there.
const UNKNOWN_TOPIC: &str = "This server does not host this topic-partition.";

/// A topic, or what is wrong with it and what is said of that.
type Found = Result<TopicId, (ErrorCode, String)>;

/// A partition, and what it knows.
type Told = (i32, Result<Vec<ProducerStatus>, ErrorCode>);

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: DescribeProducersRequest<'_> = request.decode()?;
    let mut topics = Vec::with_capacity(body.topics.len());
    // A partition that stands in the request a thousand times is answered once: it may have many
    // producers.
    let mut seen = BTreeSet::new();
    for topic in &body.topics {
        let found = find(request.shard, topic.name);
        let mut partitions = Vec::new();
        for index in &topic.partition_indexes {
            if !seen.insert((topic.name, *index)) {
                continue;
            }
            let told = match &found {
                Ok(id) => ask(request.shard, *id, PartitionId(*index)).await,
                Err((error, _)) => Err(*error),
            };
            partitions.push((*index, told));
        }
        topics.push((topic.name, found, partitions));
    }
    let topics = topics.iter().map(|(name, found, partitions)| TopicResponse {
        name,
        partitions: partitions.iter().map(|told| partition_response(found, told)).collect(),
    });
    request.respond(&DescribeProducersResponse { topics: topics.collect(), ..Default::default() })
}

fn find(shard: &Shard, name: &str) -> Found {
    if let Err(error) = cluster::topic_name::check(name) {
        return Err((error_map::cluster(&error), error.to_string()));
    }
    let image = shard.image.borrow();
    let topic = image.topic_by_name(name).map(|topic| topic.id);
    topic.ok_or_else(|| (ErrorCode::UnknownTopicOrPartition, UNKNOWN_TOPIC.to_owned()))
}

async fn ask(
    shard: &Rc<Shard>,
    topic: TopicId,
    partition: PartitionId,
) -> Result<Vec<ProducerStatus>, ErrorCode> {
    let owner = shard.owner_of(topic, partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    shard.call(owner, Producers { topic, partition }).await.answer().await
}

fn partition_response<'a>(found: &'a Found, told: &Told) -> PartitionResponse<'a> {
    let (partition_index, told) = told;
    let (error, producers) = match told {
        Ok(producers) => (ErrorCode::None, producers.as_slice()),
        Err(error) => (*error, [].as_slice()),
    };
    PartitionResponse {
        partition_index: *partition_index,
        error_code: error.code(),
        error_message: found.as_ref().err().map(|(_, message)| message.as_str()),
        active_producers: producers.iter().map(state).collect(),
    }
}

fn state(producer: &ProducerStatus) -> ProducerState {
    ProducerState {
        producer_id: producer.id.0,
        producer_epoch: i32::from(producer.epoch.0),
        last_sequence: producer.last_sequence.0,
        last_timestamp: producer.last_timestamp.0,
        coordinator_epoch: producer.coordinator_epoch,
        current_txn_start_offset: producer.transaction_start.map_or(-1, |start| start.0),
    }
}

/// One partition's question, on its way to its owner.
struct Producers {
    topic: TopicId,
    partition: PartitionId,
}

impl Call for Producers {
    type Answer = Result<Vec<ProducerStatus>, ErrorCode>;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Answer> + 'static {
        let partition = shard.partition(self.topic, self.partition);
        let producers = partition.map(|partition| partition.log.producers());
        std::future::ready(producers.ok_or(ErrorCode::NotLeaderOrFollower))
    }
}
