//! LeaveGroup, versions 0 to 5.

use coordinator::{Response, response::Leave};
use wire::leave_group_request::LeaveGroupRequest;

use super::{Answer, Request, group_requests};

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: LeaveGroupRequest<'_> = request.decode()?;
    let refused = |error| Response::Leave(Leave { error, members: Vec::new() });
    group_requests::ask(request, body.group_id, refused).await
}
