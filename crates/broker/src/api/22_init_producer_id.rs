//! InitProducerId, versions 0 to 5: an identity for an idempotent producer.
//!
//! Ids come in blocks from the metadata log, so that no two producers ever share one, also after a
//! crash. Transactions are not offered: their APIs are not in the table, and a transactional id is
//! refused here.

use model::ErrorCode;
use wire::{
    init_producer_id_request::InitProducerIdRequest,
    init_producer_id_response::InitProducerIdResponse,
};

use super::{Answer, Request};
use crate::error_map;

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: InitProducerIdRequest<'_> = request.decode()?;
    let refused = |error: ErrorCode| InitProducerIdResponse {
        error_code: error.code(),
        producer_id: -1,
        producer_epoch: -1,
        ..Default::default()
    };
    let response = match body.transactional_id {
        Some("") => refused(ErrorCode::InvalidRequest),
        Some(_) => refused(ErrorCode::TransactionalIdAuthorizationFailed),
        None => match request.shard.next_producer_id().await {
            Ok(id) => InitProducerIdResponse {
                producer_id: id.0,
                producer_epoch: 0,
                ..Default::default()
            },
            Err(error) => {
                tracing::warn!(%error, "no producer id");
                refused(error_map::cluster(&error))
            }
        },
    };
    request.respond(&response)
}
