//! GetTelemetrySubscriptions: which of its metrics a client is to push, and how often (KIP-714).

use model::{ErrorCode, Uuid};
use wire::{
    get_telemetry_subscriptions_request::GetTelemetrySubscriptionsRequest,
    get_telemetry_subscriptions_response::GetTelemetrySubscriptionsResponse,
};

use super::{Answer, Request};
use crate::telemetry::ACCEPTED_CODECS;

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: GetTelemetrySubscriptionsRequest = request.decode()?;
    let (shard, connection) = (request.shard, request.connection);
    let instance = if body.client_instance_id == Uuid::ZERO {
        Uuid::from_random(shard.runtime.random(), shard.runtime.random())
    } else {
        body.client_instance_id
    };
    connection.telemetry_instance.set(Some(instance));
    let client = connection.client(instance, request.head.client_id);
    let asked = match shard.telemetry_subscription(client).await {
        Ok(asked) => asked,
        Err(error) => {
            let error_code = error.code();
            return request
                .respond(&GetTelemetrySubscriptionsResponse { error_code, ..Default::default() });
        }
    };
    let max_bytes = shard.config.telemetry.max_bytes;
    request.respond(&GetTelemetrySubscriptionsResponse {
        error_code: ErrorCode::None.code(),
        client_instance_id: instance,
        subscription_id: asked.id,
        accepted_compression_types: ACCEPTED_CODECS
            .iter()
            .map(|codec| i8::try_from(codec.code()).expect("five codecs"))
            .collect(),
        push_interval_ms: asked.wanted.interval_ms,
        telemetry_max_bytes: i32::try_from(max_bytes).expect("a setting of 32 bits"),
        delta_temporality: true,
        requested_metrics: asked.wanted.metrics.iter().map(String::as_str).collect(),
        ..Default::default()
    })
}
