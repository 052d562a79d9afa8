//! DeleteRecords, versions 0 to 2: what lies below an offset is no longer served.
//!
//! Answered when the new log start offsets are durable. The files below them go at the next check
//! of the retention, as in Apache Kafka.

use std::{future::Future, time::Duration};

use model::{ErrorCode, Offset, PartitionId};
use runtime::ShardIndex;
use wire::{
    delete_records_request::DeleteRecordsRequest,
    delete_records_response::{
        DeleteRecordsPartitionResult, DeleteRecordsResponse, DeleteRecordsTopicResult,
    },
};

use super::{Answer, Request};
use crate::{
    retention::{DeleteBefore, DeleteRecords},
    topic_settings::is_internal,
};

/// The log start offset of a partition, or why it was not moved.
type Outcome = Result<Offset, ErrorCode>;

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: DeleteRecordsRequest<'_> = request.decode()?;
    let mut outcomes: Vec<Outcome> = Vec::new();
    let mut asked: Vec<(usize, ShardIndex, DeleteBefore)> = Vec::new();
    for topic in &body.topics {
        for partition in &topic.partitions {
            let index = PartitionId(partition.partition_index);
            match owner(request, topic.name, index) {
                Err(error) => outcomes.push(Err(error)),
                Ok((owner, id)) => {
                    let offset = partition.offset;
                    let one = DeleteBefore { topic: id, partition: index, offset };
                    asked.push((outcomes.len(), owner, one));
                    outcomes.push(Err(ErrorCode::RequestTimedOut));
                }
            }
        }
    }
    let timeout = Duration::from_millis(u64::try_from(body.timeout_ms).unwrap_or(0));
    let runtime = &request.shard.runtime;
    let deleted = runtime.deadline(runtime.now() + timeout, delete(request, asked)).await;
    for (place, outcome) in deleted.unwrap_or_default() {
        outcomes[place] = outcome;
    }
    let mut outcomes = outcomes.into_iter();
    let topics = body
        .topics
        .iter()
        .map(|topic| DeleteRecordsTopicResult {
            name: topic.name,
            partitions: topic
                .partitions
                .iter()
                .map(|partition| {
                    let outcome = outcomes.next().expect("an outcome for every partition");
                    DeleteRecordsPartitionResult {
                        partition_index: partition.partition_index,
                        low_watermark: outcome.map_or(-1, |log_start| log_start.0),
                        error_code: outcome.err().unwrap_or(ErrorCode::None).code(),
                    }
                })
                .collect(),
        })
        .collect();
    request.respond(&DeleteRecordsResponse { topics, ..Default::default() })
}

fn owner(
    request: &Request<'_>,
    topic: &str,
    partition: PartitionId,
) -> Result<(ShardIndex, model::TopicId), ErrorCode> {
    let id = request.shard.image.borrow().topic_by_name(topic).map(|topic| topic.id);
    let id = id.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let owner = request.shard.owner_of(id, partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if is_internal(topic) {
        return Err(ErrorCode::InvalidTopicException);
    }
    Ok((owner, id))
}

/// Moves the log starts, one message to each shard, and has them made durable.
fn delete(
    request: &Request<'_>,
    asked: Vec<(usize, ShardIndex, DeleteBefore)>,
) -> impl Future<Output = Vec<(usize, Outcome)>> + use<> {
    let shard = std::rc::Rc::clone(request.shard);
    async move {
        let mut outcomes = shard.call_owners(asked, DeleteRecords).await;
        let is_any = outcomes.iter().any(|(_, outcome)| outcome.is_ok());
        if is_any && !shard.record_log_starts().await {
            for (_, outcome) in &mut outcomes {
                *outcome = outcome.and(Err(ErrorCode::KafkaStorageError));
            }
        }
        outcomes
    }
}
