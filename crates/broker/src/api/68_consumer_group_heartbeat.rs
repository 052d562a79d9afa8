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
    group_requests::ask(request, body.group_id, refused).await
}
