//! OffsetCommit, versions 2 to 10.

use coordinator::{Response, response::OffsetCommit};
use model::ErrorCode;
use wire::offset_commit_request::OffsetCommitRequest;

use super::{Answer, Request, group_requests};

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: OffsetCommitRequest<'_> = request.decode()?;
    group_requests::ask(request, body.group_id, |error| refused(&body, error)).await
}

fn refused(body: &OffsetCommitRequest<'_>, error: ErrorCode) -> Response {
    let topics = body.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|one| one.partition_index);
        (topic.name, topic.topic_id, partitions)
    });
    Response::OffsetCommit(OffsetCommit::refused(topics, error))
}
