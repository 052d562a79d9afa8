//! AlterPartitionReassignments, versions 0 and 1. Replicas can only be put where they are: on this
//! node. That is done at once, and anything else is refused.

use model::{ErrorCode, NodeId, PartitionId, collections::BTreeSet};
use wire::{
    alter_partition_reassignments_request::{
        AlterPartitionReassignmentsRequest, ReassignablePartition,
    },
    alter_partition_reassignments_response::{
        AlterPartitionReassignmentsResponse, ReassignablePartitionResponse,
        ReassignableTopicResponse,
    },
};

use super::{Answer, Request};
use crate::shard::Shard;

type Outcome = (ErrorCode, Option<String>);

pub(super) fn answer(request: &Request<'_>) -> Answer {
    let body: AlterPartitionReassignmentsRequest<'_> = request.decode()?;
    let outcomes: Vec<Vec<Outcome>> = body
        .topics
        .iter()
        .map(|topic| {
            let reassigned = topic.partitions.iter();
            reassigned.map(|partition| reassign(request.shard, topic.name, partition)).collect()
        })
        .collect();
    let responses = body
        .topics
        .iter()
        .zip(&outcomes)
        .map(|(topic, outcomes)| ReassignableTopicResponse {
            name: topic.name,
            partitions: topic
                .partitions
                .iter()
                .zip(outcomes)
                .map(|(partition, (error, message))| ReassignablePartitionResponse {
                    partition_index: partition.partition_index,
                    error_code: error.code(),
                    error_message: message.as_deref(),
                })
                .collect(),
        })
        .collect();
    let mut response = AlterPartitionReassignmentsResponse { responses, ..Default::default() };
    // As in Apache Kafka, which does not look at the request where there is nothing to do.
    if !body.topics.is_empty() {
        response.allow_replication_factor_change = body.allow_replication_factor_change;
    }
    request.respond(&response)
}

fn reassign(shard: &Shard, topic: &str, asked: &ReassignablePartition) -> Outcome {
    let index = asked.partition_index;
    let image = shard.image.borrow();
    let found = image.topic_by_name(topic);
    let partition = found.and_then(|topic| topic.partitions.get(&PartitionId(index)));
    if partition.is_none() {
        let message = match found {
            Some(_) => format!("Unable to find partition {topic}:{index}."),
            None => format!("Unable to find a topic named {topic}."),
        };
        return (ErrorCode::UnknownTopicOrPartition, Some(message));
    }
    let invalid = |why: String| (ErrorCode::InvalidReplicaAssignment, Some(why));
    let Some(replicas) = &asked.replicas else {
        return (ErrorCode::NoReassignmentInProgress, None);
    };
    let replicas: Vec<NodeId> = replicas.iter().copied().map(NodeId).collect();
    if replicas.is_empty() {
        return invalid(
            "The manual partition assignment includes an empty replica list.".to_owned(),
        );
    }
    let mut seen = BTreeSet::new();
    for id in &replicas {
        if !image.brokers().contains_key(id) {
            return invalid(format!(
                "The manual partition assignment includes broker {id}, but no such broker is \
                 registered."
            ));
        }
        if !seen.insert(*id) {
            return invalid(format!(
                "The manual partition assignment includes the broker {id} more than once."
            ));
        }
    }
    (ErrorCode::None, None)
}
