//! DescribeTopicPartitions, version 0 (KIP-966): topics in the order of their names, so many
//! partitions at a time, and a cursor to where the next request goes on.

use std::ops::Bound;

use cluster::{
    MetadataImage,
    image::{Partition, Topic},
};
use model::{ErrorCode, NodeId, PartitionId, collections::BTreeSet};
use wire::{
    describe_topic_partitions_request::{self, DescribeTopicPartitionsRequest},
    describe_topic_partitions_response::{
        Cursor, DescribeTopicPartitionsResponse, DescribeTopicPartitionsResponsePartition,
        DescribeTopicPartitionsResponseTopic,
    },
};

use super::{Answer, Request, authorized_operations};
use crate::{error_map, topic_settings};

/// Partitions in one answer: `max.request.partition.size.limit`. Some 80 bytes each.
const PARTITIONS_MAX: i32 = 2000;

pub(super) fn answer(request: &Request<'_>) -> Answer {
    let body: DescribeTopicPartitionsRequest<'_> = request.decode()?;
    let image = request.shard.image.borrow();
    // The cursor's topic has to be one of those that are named.
    let is_left_out = |cursor: &describe_topic_partitions_request::Cursor<'_>| {
        !body.topics.is_empty() && !body.topics.iter().any(|one| one.name == cursor.topic_name)
    };
    let is_wrong = |cursor: &describe_topic_partitions_request::Cursor<'_>| {
        cursor.partition_index < 0 || is_left_out(cursor)
    };
    let (topics, next_cursor) = if body.cursor.as_ref().is_some_and(is_wrong) {
        let refused = |name| DescribeTopicPartitionsResponseTopic {
            error_code: ErrorCode::InvalidRequest.code(),
            name: Some(name),
            topic_authorized_operations: authorized_operations::NOT_ASKED,
            ..Default::default()
        };
        (body.topics.iter().map(|topic| refused(topic.name)).collect(), None)
    } else {
        page(&image, &body)
    };
    request.respond(&DescribeTopicPartitionsResponse { topics, next_cursor, ..Default::default() })
}

/// The topics of one answer, and where the next one begins.
fn page<'a>(
    image: &'a MetadataImage,
    body: &'a DescribeTopicPartitionsRequest<'_>,
) -> (Vec<DescribeTopicPartitionsResponseTopic<'a>>, Option<Cursor<'a>>) {
    let from = body.cursor.as_ref().map_or("", |cursor| cursor.topic_name);
    let names: BTreeSet<&str> = if body.topics.is_empty() {
        image.topics().map(|topic| topic.name.as_str()).collect()
    } else {
        body.topics.iter().map(|topic| topic.name).collect()
    };
    let mut left = usize::try_from(body.response_partition_limit.clamp(1, PARTITIONS_MAX))
        .expect("the limit is positive");
    let mut topics = Vec::new();
    for name in names.range::<str, _>((Bound::Included(from), Bound::Unbounded)) {
        if left == 0 {
            return (topics, Some(Cursor { topic_name: name, partition_index: 0 }));
        }
        let Some(topic) = image.topic_by_name(name) else {
            let unknown = ErrorCode::UnknownTopicOrPartition;
            let error = cluster::topic_name::check(name).err();
            topics.push(refused(name, error.as_ref().map_or(unknown, error_map::cluster)));
            continue;
        };
        let first = match &body.cursor {
            Some(cursor) if cursor.topic_name == *name => PartitionId(cursor.partition_index),
            _ => PartitionId(0),
        };
        let mut rest = topic.partitions.range(first..);
        let partitions: Vec<_> =
            rest.by_ref().take(left).map(|(id, one)| partition(*id, one)).collect();
        left -= partitions.len();
        topics.push(described(topic, partitions));
        if let Some((next, _)) = rest.next() {
            return (topics, Some(Cursor { topic_name: name, partition_index: next.0 }));
        }
    }
    (topics, None)
}

fn described<'a>(
    topic: &'a Topic,
    partitions: Vec<DescribeTopicPartitionsResponsePartition>,
) -> DescribeTopicPartitionsResponseTopic<'a> {
    DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::None.code(),
        name: Some(&topic.name),
        topic_id: topic.id,
        is_internal: topic_settings::is_internal(&topic.name),
        partitions,
        topic_authorized_operations: authorized_operations::of_topic(true),
    }
}

fn refused(name: &str, error: ErrorCode) -> DescribeTopicPartitionsResponseTopic<'_> {
    DescribeTopicPartitionsResponseTopic {
        error_code: error.code(),
        name: Some(name),
        is_internal: topic_settings::is_internal(name),
        topic_authorized_operations: authorized_operations::of_topic(true),
        ..Default::default()
    }
}

fn partition(id: PartitionId, partition: &Partition) -> DescribeTopicPartitionsResponsePartition {
    let ids = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect::<Vec<_>>();
    let error = match partition.leader {
        Some(_) => ErrorCode::None,
        None => ErrorCode::LeaderNotAvailable,
    };
    DescribeTopicPartitionsResponsePartition {
        error_code: error.code(),
        partition_index: id.0,
        leader_id: partition.leader.map_or(-1, |node| node.0),
        leader_epoch: partition.leader_epoch.0,
        replica_nodes: ids(&partition.replicas),
        isr_nodes: ids(&partition.isr),
        eligible_leader_replicas: Some(ids(&partition.eligible_leader_replicas)),
        last_known_elr: Some(ids(&partition.last_known_elr)),
        offline_replicas: Vec::new(),
    }
}
