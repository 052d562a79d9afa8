//! AlterReplicaLogDirs, versions 1 and 2: there is one log directory, and what is to be moved there
//! is there.

use model::{ErrorCode, PartitionId};
use wire::{
    alter_replica_log_dirs_request::AlterReplicaLogDirsRequest,
    alter_replica_log_dirs_response::{
        AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
        AlterReplicaLogDirsResponse,
    },
};

use super::{Answer, Request};

pub(super) fn answer(request: &Request<'_>) -> Answer {
    let body: AlterReplicaLogDirsRequest<'_> = request.decode()?;
    let shard = request.shard;
    let directory = shard.config.data_dir.display().to_string();
    let image = shard.image.borrow();
    let move_to = |path: &str, topic: &str, index: i32| {
        let found = image
            .topic_by_name(topic)
            .is_some_and(|topic| topic.partitions.contains_key(&PartitionId(index)));
        if path != directory {
            ErrorCode::LogDirNotFound
        } else if !found {
            ErrorCode::UnknownTopicOrPartition
        } else {
            ErrorCode::None
        }
    };
    let results = body
        .dirs
        .iter()
        .flat_map(|dir| dir.topics.iter().map(|topic| (dir.path, topic)))
        .map(|(path, topic)| AlterReplicaLogDirTopicResult {
            topic_name: topic.name,
            partitions: topic
                .partitions
                .iter()
                .map(|index| AlterReplicaLogDirPartitionResult {
                    partition_index: *index,
                    error_code: move_to(path, topic.name, *index).code(),
                })
                .collect(),
        })
        .collect();
    request.respond(&AlterReplicaLogDirsResponse { results, ..Default::default() })
}
