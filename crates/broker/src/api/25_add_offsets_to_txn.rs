//! AddOffsetsToTxn, versions 0 to 4: the partition of a group's offsets comes into a transaction.

use coordinator::transactions::{Partitions, ProducerIdentity};
use model::{ErrorCode, ProducerEpoch, ProducerId, collections::BTreeSet};
use wire::{
    add_offsets_to_txn_request::AddOffsetsToTxnRequest,
    add_offsets_to_txn_response::AddOffsetsToTxnResponse,
};

use super::{Answer, Request, old_client_error};
use crate::{topic_settings::CONSUMER_OFFSETS, transactions::Ask};

/// From this version on clients know PRODUCER_FENCED.
const FENCED_FROM_VERSION: i16 = 2;

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: AddOffsetsToTxnRequest<'_> = request.decode()?;
    let error = add(request, &body).await;
    let error = old_client_error(error, request.head.version, FENCED_FROM_VERSION);
    request.respond(&AddOffsetsToTxnResponse { error_code: error.code(), ..Default::default() })
}

async fn add(request: &Request<'_>, body: &AddOffsetsToTxnRequest<'_>) -> ErrorCode {
    let partition = match request.shard.coordinator_of(body.group_id).await {
        Ok((partition, _)) => partition.partition.0,
        Err(error) => return error,
    };
    let mut partitions = Partitions::new();
    partitions.insert(CONSUMER_OFFSETS.to_owned(), BTreeSet::from([partition]));
    let add = |patience| Ask::Add {
        transactional_id: body.transactional_id.to_owned(),
        producer: ProducerIdentity {
            id: ProducerId(body.producer_id),
            epoch: ProducerEpoch(body.producer_epoch),
        },
        partitions: partitions.clone(),
        client_version: 0,
        patience,
    };
    request.shard.ask_to_add_next(add).await
}
