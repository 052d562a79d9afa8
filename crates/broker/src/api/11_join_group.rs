//! JoinGroup, versions 0 to 9. The answer comes when the group has gathered.

use wire::join_group_request::JoinGroupRequest;

use super::{Answer, Request, group_requests};

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: JoinGroupRequest<'_> = request.decode()?;
    let refused = group_requests::join_refused(body.member_id);
    group_requests::ask(request, body.group_id, refused).await
}
