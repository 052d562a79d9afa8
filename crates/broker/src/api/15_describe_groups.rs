//! DescribeGroups, versions 0 to 6: where groups stand, and their members.

use wire::{
    describe_groups_request::DescribeGroupsRequest,
    describe_groups_response::{DescribeGroupsResponse, DescribedGroup},
};

use super::{Answer, Request, authorized_operations};

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: DescribeGroupsRequest<'_> = request.decode()?;
    let described = request.shard.describe_groups(&body.groups).await;
    let is_told = body.include_authorized_operations;
    let groups = described
        .values()
        .map(|group| {
            let group = group.to_wire(request.head.version);
            let operations = authorized_operations::of_group(is_told && group.error_code == 0);
            DescribedGroup { authorized_operations: operations, ..group }
        })
        .collect();
    request.respond(&DescribeGroupsResponse { groups, ..Default::default() })
}
