//! ConsumerGroupDescribe, versions 0 and 1: where KIP-848's groups stand, and their members.

use coordinator::coordinator::ConsumerGroupDescription;
use model::{ErrorCode, collections::BTreeMap};
use wire::{
    consumer_group_describe_request::ConsumerGroupDescribeRequest,
    consumer_group_describe_response::{ConsumerGroupDescribeResponse, DescribedGroup},
};

use super::{Answer, Request, authorized_operations};

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: ConsumerGroupDescribeRequest<'_> = request.decode()?;
    let described = if request.shard.has_consumer_groups() {
        request.shard.describe_consumer_groups(&body.group_ids).await
    } else {
        let error = ErrorCode::UnsupportedVersion;
        let failed = |id: &&str| {
            let description = ConsumerGroupDescription::failed(id, error, None);
            ((*id).to_owned(), description)
        };
        body.group_ids.iter().map(failed).collect::<BTreeMap<_, _>>()
    };
    let is_told = body.include_authorized_operations;
    let groups = described
        .values()
        .map(|group| {
            let mut group = group.to_wire();
            if group.group_id.is_empty() {
                group.error_code = ErrorCode::InvalidGroupId.code();
            }
            let operations = authorized_operations::of_group(is_told && group.error_code == 0);
            DescribedGroup { authorized_operations: operations, ..group }
        })
        .collect();
    request.respond(&ConsumerGroupDescribeResponse { groups, ..Default::default() })
}
