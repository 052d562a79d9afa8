//! EndTxn, versions 0 to 5: a transaction is committed or aborted. The answer comes when it is
//! durable which; the markers follow. From version 5 on the producer goes on with another epoch,
//! and now and then with another id (KIP-890).

use coordinator::transactions::{Outcome, ProducerIdentity};
use model::{ErrorCode, ProducerEpoch, ProducerId};
use wire::{end_txn_request::EndTxnRequest, end_txn_response::EndTxnResponse};

use super::{Answer, Request, old_client_error};
use crate::transactions::Ask;

/// From this version on each end bumps the epoch.
const EPOCH_BUMP_FROM_VERSION: i16 = 5;
/// From this version on clients know PRODUCER_FENCED.
const FENCED_FROM_VERSION: i16 = 2;

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: EndTxnRequest<'_> = request.decode()?;
    let version = request.head.version;
    let ask = Ask::End {
        transactional_id: body.transactional_id.to_owned(),
        producer: ProducerIdentity {
            id: ProducerId(body.producer_id),
            epoch: ProducerEpoch(body.producer_epoch),
        },
        outcome: if body.committed { Outcome::Commit } else { Outcome::Abort },
        client_version: if version >= EPOCH_BUMP_FROM_VERSION { 2 } else { 0 },
    };
    let ended = request.shard.ask_identity(ask).await;
    let error = ended.err().unwrap_or(ErrorCode::None);
    let nobody = ProducerIdentity { id: ProducerId::NONE, epoch: ProducerEpoch(-1) };
    let producer = ended.unwrap_or(nobody);
    request.respond(&EndTxnResponse {
        error_code: old_client_error(error, version, FENCED_FROM_VERSION).code(),
        producer_id: producer.id.0,
        producer_epoch: producer.epoch.0,
        ..Default::default()
    })
}
