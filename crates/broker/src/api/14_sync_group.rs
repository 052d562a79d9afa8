//! SyncGroup, versions 0 to 5. The answer comes when the leader has brought the assignment and it
//! is durable.

use coordinator::{Response, response::Sync};
use model::ErrorCode;
use wire::sync_group_request::SyncGroupRequest;

use super::{Answer, Request, group_requests};

/// From this version on a member says what it has joined with.
const PROTOCOL_FROM_VERSION: i16 = 5;

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: SyncGroupRequest<'_> = request.decode()?;
    let refused = |error| Response::Sync(Sync::failed(error));
    if request.head.version >= PROTOCOL_FROM_VERSION
        && (body.protocol_type.is_none() || body.protocol_name.is_none())
    {
        let response = refused(ErrorCode::InconsistentGroupProtocol);
        return Ok(response.encode(request.head.correlation_id, request.head.version)?);
    }
    group_requests::ask(request, body.group_id, refused).await
}
