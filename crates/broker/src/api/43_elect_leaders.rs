//! ElectLeaders, versions 0 to 2. This node leads each of its partitions from the start on, and is
//! the preferred leader of each, so no election is ever needed.

use model::{ErrorCode, PartitionId, collections::BTreeMap};
use wire::{
    elect_leaders_request::ElectLeadersRequest,
    elect_leaders_response::{ElectLeadersResponse, PartitionResult, ReplicaElectionResult},
};

use super::{Answer, Request};
use crate::shard::Shard;

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

type Outcome = (ErrorCode, Option<String>);

pub(super) fn answer(request: &Request<'_>) -> Answer {
    let body: ElectLeadersRequest<'_> = request.decode()?;
    if ![PREFERRED, UNCLEAN].contains(&body.election_type) {
        return refuse(request, &body);
    }
    let mut outcomes = BTreeMap::<&str, BTreeMap<i32, Outcome>>::new();
    let image = request.shard.image.borrow();
    match &body.topic_partitions {
        Some(topics) => {
            for topic in topics {
                let of_topic = outcomes.entry(topic.topic).or_default();
                for index in &topic.partitions {
                    let outcome = elect(request.shard, topic.topic, *index, body.election_type);
                    of_topic.insert(*index, outcome);
                }
            }
        }
        // All of them: those that need no election are not told.
        None => {
            for topic in image.topics() {
                let of_topic = outcomes.entry(&topic.name).or_default();
                for id in topic.partitions.keys() {
                    let outcome = elect(request.shard, &topic.name, id.0, body.election_type);
                    if outcome.0 != ErrorCode::ElectionNotNeeded {
                        of_topic.insert(id.0, outcome);
                    }
                }
            }
        }
    }
    let replica_election_results = outcomes
        .iter()
        .map(|(topic, partitions)| ReplicaElectionResult {
            topic,
            partition_result: partitions
                .iter()
                .map(|(id, (error, message))| PartitionResult {
                    partition_id: *id,
                    error_code: error.code(),
                    error_message: message.as_deref(),
                })
                .collect(),
        })
        .collect();
    request.respond(&ElectLeadersResponse { replica_election_results, ..Default::default() })
}

/// Refuses an election of a type that does not exist: as a whole, and for each that is named.
fn refuse(request: &Request<'_>, body: &ElectLeadersRequest<'_>) -> Answer {
    let error_code = ErrorCode::InvalidRequest.code();
    let refused =
        |id: &i32| PartitionResult { partition_id: *id, error_code, ..Default::default() };
    let named = body.topic_partitions.iter().flatten();
    let replica_election_results = named
        .map(|topic| ReplicaElectionResult {
            topic: topic.topic,
            partition_result: topic.partitions.iter().map(refused).collect(),
        })
        .collect();
    request.respond(&ElectLeadersResponse {
        error_code,
        replica_election_results,
        ..Default::default()
    })
}

fn elect(shard: &Shard, topic: &str, index: i32, election_type: i8) -> Outcome {
    let unknown = ErrorCode::UnknownTopicOrPartition;
    let image = shard.image.borrow();
    let Some(found) = image.topic_by_name(topic) else {
        return (unknown, Some(format!("No such topic as {topic}")));
    };
    let Some(partition) = found.partitions.get(&PartitionId(index)) else {
        return (unknown, Some(format!("No such partition as {topic}-{index}")));
    };
    let own = Some(shard.node());
    if partition.leader == own {
        return (ErrorCode::ElectionNotNeeded, None);
    }
    // It has lost records that other replicas had: nobody here can lead it.
    let error = if election_type == PREFERRED {
        ErrorCode::PreferredLeaderNotAvailable
    } else {
        ErrorCode::EligibleLeadersNotAvailable
    };
    (error, None)
}
