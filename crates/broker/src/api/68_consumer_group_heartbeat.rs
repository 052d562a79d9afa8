//! ConsumerGroupHeartbeat, versions 0 and 1: members of KIP-848's groups join, say what they have
//! and want, and leave.

use coordinator::{Response, response::ConsumerHeartbeat};
use model::ErrorCode;
use wire::consumer_group_heartbeat_request::ConsumerGroupHeartbeatRequest;

use super::{Answer, Request, group_requests};

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: ConsumerGroupHeartbeatRequest<'_> = request.decode()?;
    let refused = |error| Response::ConsumerHeartbeat(ConsumerHeartbeat::failed(error, None));
    if !request.shard.has_consumer_groups() {
        let response = refused(ErrorCode::UnsupportedVersion);
        return Ok(response.encode(request.head.correlation_id, request.head.version)?);
    }
    // Two lines: a member that is silent, one that is not answered and one that is not heard look
    // the same in the group's records.
    let (group, member, epoch) = (body.group_id, body.member_id, body.member_epoch);
    let owned = body.topic_partitions.as_ref();
    let owned =
        owned.map(|topics| topics.iter().map(|topic| topic.partitions.len()).sum::<usize>());
    let peer = request.connection.peer;
    tracing::debug!(group, member, epoch, ?owned, %peer, "heartbeat of a consumer group's member");
    let answer = group_requests::ask(request, group, refused).await;
    tracing::debug!(group, member, epoch, %peer, "its heartbeat is answered");
    answer
}
