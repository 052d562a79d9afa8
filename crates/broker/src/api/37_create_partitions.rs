//! CreatePartitions, versions 0 to 3: answered when the new partitions can be used, so the
//! request's own time limit has nothing to wait for.

use cluster::controller::{Intent, NewPartitions};
use model::{ErrorCode, NodeId};
use wire::{
    create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic},
    create_partitions_response::{CreatePartitionsResponse, CreatePartitionsTopicResult},
};

use super::{Answer, Request};
use crate::{
    controller::{CONTROLLER_SHARD, CreatePartitions},
    error_map,
};

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: CreatePartitionsRequest<'_> = request.decode()?;
    let topics = body.topics.iter().map(new_partitions).collect();
    let intent = if body.validate_only { Intent::Validate } else { Intent::Apply };
    let call = CreatePartitions { topics, intent };
    let created = match request.shard.call(CONTROLLER_SHARD, call).await.answer().await {
        Ok(created) => created,
        Err(error) => {
            let failed = |topic: &CreatePartitionsTopic<'_>| {
                (topic.name.to_owned(), Err::<(), _>(error.clone()))
            };
            body.topics.iter().map(failed).collect()
        }
    };
    let texts: Vec<Option<String>> = created
        .iter()
        .map(|(_, result)| result.as_ref().err().map(std::string::ToString::to_string))
        .collect();
    let results = created
        .iter()
        .zip(&texts)
        .map(|((name, result), text)| {
            let error = result.as_ref().map_or_else(error_map::cluster, |()| ErrorCode::None);
            let error_message = text.as_deref();
            CreatePartitionsTopicResult { name, error_code: error.code(), error_message }
        })
        .collect();
    request.respond(&CreatePartitionsResponse { results, ..Default::default() })
}

fn new_partitions(topic: &CreatePartitionsTopic<'_>) -> NewPartitions {
    let nodes = |ids: &[i32]| ids.iter().copied().map(NodeId).collect();
    NewPartitions {
        name: topic.name.to_owned(),
        total_count: topic.count,
        assignments: topic
            .assignments
            .as_ref()
            .map(|assigned| assigned.iter().map(|one| nodes(&one.broker_ids)).collect()),
    }
}
