//! SyncGroup, versions 0 to 5. The answer comes when the leader has brought the assignment and it
//! is durable.

use coordinator::{Response, response::Sync};
use wire::sync_group_request::SyncGroupRequest;

use super::{Answer, Request, group_requests};

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: SyncGroupRequest<'_> = request.decode()?;
    let refused = |error| Response::Sync(Sync::failed(error));
    group_requests::ask(request, body.group_id, refused).await
}
