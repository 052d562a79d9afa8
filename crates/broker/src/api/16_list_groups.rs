//! ListGroups, versions 0 to 5.

use coordinator::coordinator::{GroupFilter, GroupListing};
use wire::{list_groups_request::ListGroupsRequest, list_groups_response::ListGroupsResponse};

use super::{Answer, Request};

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: ListGroupsRequest<'_> = request.decode()?;
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    let filter =
        GroupFilter { states: owned(&body.states_filter), types: owned(&body.types_filter) };
    let listed = request.shard.list_groups(filter).await;
    let groups = listed.iter().map(GroupListing::to_wire).collect();
    request.respond(&ListGroupsResponse { groups, ..Default::default() })
}
