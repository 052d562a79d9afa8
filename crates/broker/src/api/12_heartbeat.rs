//! Heartbeat, versions 0 to 4.

use coordinator::Response;
use wire::heartbeat_request::HeartbeatRequest;

use super::{Answer, Request, group_requests};

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: HeartbeatRequest<'_> = request.decode()?;
    group_requests::ask(request, body.group_id, Response::Heartbeat).await
}
