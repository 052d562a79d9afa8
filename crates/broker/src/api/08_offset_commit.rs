//! OffsetCommit, versions 2 to 10.

use coordinator::{
    Response,
    response::{CommittedTopic, OffsetCommit},
};
use model::ErrorCode;
use wire::offset_commit_request::OffsetCommitRequest;

use super::{Answer, Request, group_requests};

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: OffsetCommitRequest<'_> = request.decode()?;
    group_requests::ask(request, body.group_id, |error| refused(&body, error)).await
}

fn refused(body: &OffsetCommitRequest<'_>, error: ErrorCode) -> Response {
    let topics = body
        .topics
        .iter()
        .map(|topic| CommittedTopic {
            name: topic.name.to_owned(),
            topic_id: topic.topic_id,
            partitions: topic.partitions.iter().map(|one| (one.partition_index, error)).collect(),
        })
        .collect();
    Response::OffsetCommit(OffsetCommit { topics })
}
