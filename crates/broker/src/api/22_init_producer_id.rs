//! InitProducerId, versions 0 to 5: an identity for an idempotent producer, or for the producer of a
//! transactional id: then whoever had that id before is fenced, and its transaction ends.
//!
//! Ids come in blocks from the metadata log, so that no two producers ever share one, also after a
//! crash.

use coordinator::transactions::ProducerIdentity;
use model::{ErrorCode, ProducerEpoch, ProducerId};
use wire::{
    init_producer_id_request::InitProducerIdRequest,
    init_producer_id_response::InitProducerIdResponse,
};

use super::{Answer, Request, old_client_error};
use crate::{error_map, topic_settings::TRANSACTION_STATE, transactions::Ask};

/// From this version on clients know PRODUCER_FENCED.
const FENCED_FROM_VERSION: i16 = 4;

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: InitProducerIdRequest<'_> = request.decode()?;
    let response = match identity(request, &body).await {
        Ok(producer) => InitProducerIdResponse {
            producer_id: producer.id.0,
            producer_epoch: producer.epoch.0,
            ..Default::default()
        },
        Err(error) => InitProducerIdResponse {
            error_code: old_client_error(error, request.head.version, FENCED_FROM_VERSION).code(),
            producer_id: -1,
            producer_epoch: -1,
            ..Default::default()
        },
    };
    request.respond(&response)
}

async fn identity(
    request: &Request<'_>,
    body: &InitProducerIdRequest<'_>,
) -> Result<ProducerIdentity, ErrorCode> {
    let expected = match (body.producer_id, body.producer_epoch) {
        (-1, -1) => None,
        (-1, _) | (_, -1) => return Err(ErrorCode::InvalidRequest),
        (id, epoch) => Some(ProducerIdentity { id: ProducerId(id), epoch: ProducerEpoch(epoch) }),
    };
    let Some(transactional_id) = body.transactional_id else {
        let id = request.shard.next_producer_id().await.map_err(|error| {
            tracing::warn!(%error, "no producer id");
            error_map::cluster(&error)
        })?;
        return Ok(ProducerIdentity { id, epoch: ProducerEpoch(0) });
    };
    if transactional_id.is_empty() {
        return Err(ErrorCode::InvalidRequest);
    }
    request.shard.require_coordinators_topic(TRANSACTION_STATE).await?;
    let ask = Ask::Init {
        transactional_id: transactional_id.to_owned(),
        timeout_ms: body.transaction_timeout_ms,
        expected,
    };
    request.shard.ask_identity(ask).await
}
