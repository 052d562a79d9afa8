//! OffsetDelete, version 0: offsets that no member of their group uses are forgotten.

use coordinator::{Response, response::OffsetDelete};
use wire::offset_delete_request::OffsetDeleteRequest;

use super::{Answer, Request, group_requests};

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: OffsetDeleteRequest<'_> = request.decode()?;
    let refused = |error| Response::OffsetDelete(OffsetDelete { error, topics: Vec::new() });
    group_requests::ask(request, body.group_id, refused).await
}
