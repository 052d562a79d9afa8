//! DeleteGroups, versions 0 to 3: groups without members are forgotten, with their offsets.

use wire::{
    delete_groups_request::DeleteGroupsRequest,
    delete_groups_response::{DeletableGroupResult, DeleteGroupsResponse},
};

use super::{Answer, Request};

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: DeleteGroupsRequest<'_> = request.decode()?;
    let deleted = request.shard.delete_groups(&body.groups_names).await;
    let results = deleted
        .iter()
        .map(|(group_id, error)| DeletableGroupResult {
            group_id,
            error_code: error.code(),
            ..Default::default()
        })
        .collect();
    request.respond(&DeleteGroupsResponse { results, ..Default::default() })
}
