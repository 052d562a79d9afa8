//! DescribeQuorum, versions 0 to 2: the quorum of the metadata log, whose only voter is this node.

use model::{ErrorCode, Offset};
use wire::{
    describe_quorum_request::DescribeQuorumRequest,
    describe_quorum_response::{
        DescribeQuorumResponse, Listener, Node, PartitionData, ReplicaState, TopicData,
    },
};

use super::{Answer, Request};
use crate::{
    controller::{CONTROLLER_SHARD, DescribeQuorum},
    topic_settings::CLUSTER_METADATA,
};

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: DescribeQuorumRequest<'_> = request.decode()?;
    let is_metadata = match body.topics.as_slice() {
        [topic] => {
            let partitions: Vec<i32> =
                topic.partitions.iter().map(|partition| partition.partition_index).collect();
            topic.topic_name == CLUSTER_METADATA && partitions == [0]
        }
        _ => false,
    };
    if !is_metadata {
        return request.respond(&refused(&body));
    }
    let shard = request.shard;
    let status = shard.call(CONTROLLER_SHARD, DescribeQuorum).await.answer().await;
    let node = shard.config.node_id;
    let now_ms = shard.runtime.wall_clock_ms();
    let Offset(log_end_offset) = status.log_end_offset;
    let voter = ReplicaState {
        replica_id: node,
        replica_directory_id: shard.identity().directory_id,
        log_end_offset,
        // The leader is always up to date with itself.
        last_fetch_timestamp: now_ms,
        last_caught_up_timestamp: now_ms,
    };
    let partition = PartitionData {
        leader_id: node,
        leader_epoch: status.leader_epoch.0,
        high_watermark: status.high_watermark.0,
        current_voters: vec![voter],
        ..Default::default()
    };
    let image = shard.image.borrow();
    let end_points = image.controllers().get(&shard.node()).map(|one| one.end_points.as_slice());
    let listeners = end_points
        .unwrap_or_default()
        .iter()
        .map(|point| Listener { name: &point.name, host: &point.host, port: point.port })
        .collect();
    request.respond(&DescribeQuorumResponse {
        topics: vec![TopicData { topic_name: CLUSTER_METADATA, partitions: vec![partition] }],
        nodes: vec![Node { node_id: node, listeners }],
        ..Default::default()
    })
}

/// No other partition has a quorum.
fn refused<'a>(body: &DescribeQuorumRequest<'a>) -> DescribeQuorumResponse<'a> {
    let topics = body
        .topics
        .iter()
        .map(|topic| TopicData {
            topic_name: topic.topic_name,
            partitions: topic
                .partitions
                .iter()
                .map(|partition| PartitionData {
                    partition_index: partition.partition_index,
                    error_code: ErrorCode::UnknownTopicOrPartition.code(),
                    ..Default::default()
                })
                .collect(),
        })
        .collect();
    DescribeQuorumResponse { topics, ..Default::default() }
}
