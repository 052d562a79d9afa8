//! PushTelemetry: a client's metrics (KIP-714).

use model::ErrorCode;
use wire::{
    push_telemetry_request::PushTelemetryRequest, push_telemetry_response::PushTelemetryResponse,
};

use super::{Answer, Request};
use crate::telemetry::Push;

/// What no client's id is: those whose first 15 bytes are zero.
const RESERVED: [u8; 15] = [0; 15];

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: PushTelemetryRequest<'_> = request.decode()?;
    let instance = body.client_instance_id;
    let error = if instance.0.starts_with(&RESERVED) {
        ErrorCode::InvalidRequest
    } else {
        request.connection.telemetry_instance.set(Some(instance));
        let push = Push {
            client: request.connection.client(instance, request.head.client_id),
            subscription_id: body.subscription_id,
            is_last: body.terminating,
            codec: body.compression_type,
            bytes: body.metrics.len(),
        };
        let taken = request.shard.take_telemetry(push, body.metrics).await;
        taken.err().unwrap_or(ErrorCode::None)
    };
    request.respond(&PushTelemetryResponse { error_code: error.code(), ..Default::default() })
}
