//! What the APIs of group members have in common: the group's coordinator, on the shard that owns
//! its partition of `__consumer_offsets`, is asked with the frame as it came.

use coordinator::{Response, response};
use model::ErrorCode;
use wire::api::ApiKey;

use super::{Answer, Request, client_host};

/// Has the coordinator of `group` answer; `refused` makes the answer when it cannot be asked. The
/// empty name is no group's that has members, but offsets are committed under it; a member of
/// KIP-848's groups is told so in words.
pub(super) async fn ask(
    request: &Request<'_>,
    group: &str,
    refused: impl FnOnce(ErrorCode) -> Response,
) -> Answer {
    let is_named =
        matches!(request.head.key, ApiKey::OffsetCommit | ApiKey::ConsumerGroupHeartbeat);
    if group.is_empty() && !is_named {
        let response = refused(ErrorCode::InvalidGroupId);
        return Ok(response.encode(request.head.correlation_id, request.head.version)?);
    }
    let answered = request.shard.ask_group(group, request, client_host(request)).await;
    let response = answered.unwrap_or_else(refused);
    Ok(response.encode(request.head.correlation_id, request.head.version)?)
}

/// JoinGroup's refusal.
pub(super) fn join_refused(member_id: &str) -> impl FnOnce(ErrorCode) -> Response {
    move |error| Response::Join(response::Join::failed(error, member_id))
}
