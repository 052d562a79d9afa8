//! TxnOffsetCommit, versions 0 to 6: offsets that hold once a transaction is committed. From version
//! 5 on the group's partition comes into the transaction with it.

use coordinator::{Response, response::OffsetCommit, transactions::ProducerIdentity};
use model::{ErrorCode, ProducerEpoch, ProducerId};
use wire::txn_offset_commit_request::TxnOffsetCommitRequest;

use super::{Answer, Request, client_host};
use crate::verification::{Membership, Transactional};

/// From this version on clients know TRANSACTION_ABORTABLE.
const ABORTABLE_FROM_VERSION: i16 = 4;
/// From this version on partitions come into the transaction with the offsets.
const ADDED_FROM_VERSION: i16 = 5;

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: TxnOffsetCommitRequest<'_> = request.decode()?;
    let version = request.head.version;
    let transactional = Transactional {
        transactional_id: body.transactional_id,
        producer: ProducerIdentity {
            id: ProducerId(body.producer_id),
            epoch: ProducerEpoch(body.producer_epoch),
        },
        membership: Membership::of(version, ABORTABLE_FROM_VERSION, ADDED_FROM_VERSION),
    };
    if body.group_id.is_empty() {
        let response = refused(&body, ErrorCode::InvalidGroupId);
        return Ok(response.encode(request.head.correlation_id, version)?);
    }
    let (group, host) = (body.group_id, client_host(request));
    let asking = request.shard.ask_group_in_transaction(group, &transactional, request, host);
    let response = asking.await.unwrap_or_else(|error| refused(&body, error));
    Ok(response.encode(request.head.correlation_id, version)?)
}

fn refused(body: &TxnOffsetCommitRequest<'_>, error: ErrorCode) -> Response {
    let topics = body.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|one| one.partition_index);
        (topic.name, topic.topic_id, partitions)
    });
    Response::TxnOffsetCommit(OffsetCommit::refused(topics, error))
}
