//! ListPartitionReassignments, version 0: what is on its way from one broker to another.

use cluster::image::{Partition, Topic};
use model::{NodeId, PartitionId};
use wire::{
    list_partition_reassignments_request::ListPartitionReassignmentsRequest,
    list_partition_reassignments_response::{
        ListPartitionReassignmentsResponse, OngoingPartitionReassignment, OngoingTopicReassignment,
    },
};

use super::{Answer, Request};

pub(super) fn answer(request: &Request<'_>) -> Answer {
    let body: ListPartitionReassignmentsRequest<'_> = request.decode()?;
    let image = request.shard.image.borrow();
    let topics = match &body.topics {
        None => {
            let all = image.topics().map(|topic| ongoing(topic, topic.partitions.iter()));
            all.filter(|topic| !topic.partitions.is_empty()).collect()
        }
        Some(topics) => topics
            .iter()
            .filter_map(|asked| {
                let topic = image.topic_by_name(asked.name)?;
                let indexes = asked.partition_indexes.iter().copied().map(PartitionId);
                let found = indexes.filter_map(|id| topic.partitions.get_key_value(&id));
                Some(ongoing(topic, found)).filter(|topic| !topic.partitions.is_empty())
            })
            .collect(),
    };
    request.respond(&ListPartitionReassignmentsResponse { topics, ..Default::default() })
}

fn ongoing<'a>(
    topic: &'a Topic,
    partitions: impl Iterator<Item = (&'a PartitionId, &'a Partition)>,
) -> OngoingTopicReassignment<'a> {
    let ids = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect::<Vec<_>>();
    let partitions = partitions
        .filter(|(_, one)| !one.adding_replicas.is_empty() || !one.removing_replicas.is_empty())
        .map(|(id, one)| OngoingPartitionReassignment {
            partition_index: id.0,
            replicas: ids(&one.replicas),
            adding_replicas: ids(&one.adding_replicas),
            removing_replicas: ids(&one.removing_replicas),
        })
        .collect();
    OngoingTopicReassignment { name: &topic.name, partitions }
}
