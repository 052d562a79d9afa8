//! ApiVersions: what this broker offers. Always answered, whatever the version asked in (KIP-511).

use cluster::feature;
use model::ErrorCode;
use wire::{
    api::ApiKey,
    api_versions_request::ApiVersionsRequest,
    api_versions_response::{
        ApiVersion, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
    },
    frame,
};

use super::{Answer, Request, is_offered, offered_with};
use crate::config::BrokerConfig;

/// The version whose body every client can read.
const FALLBACK_VERSION: i16 = 0;
/// Software names and versions as KIP-511 asks: letters, digits, `-` and `.`, no mark at the ends.
const SOFTWARE_NAME_FROM_VERSION: i16 = 3;

pub(super) fn answer(request: &Request<'_>) -> Answer {
    let head = request.head;
    let config = &request.shard.config;
    if !is_offered(config, ApiKey::ApiVersions, head.version) {
        let response = ApiVersionsResponse {
            error_code: ErrorCode::UnsupportedVersion.code(),
            api_keys: api_keys(config),
            ..Default::default()
        };
        return Ok(frame::encode_response(head.correlation_id, FALLBACK_VERSION, &response)?);
    }
    let body: ApiVersionsRequest<'_> = request.decode()?;
    let named = head.version < SOFTWARE_NAME_FROM_VERSION
        || (is_software_name(body.client_software_name)
            && is_software_name(body.client_software_version));
    if !named {
        let error_code = ErrorCode::InvalidRequest.code();
        return request.respond(&ApiVersionsResponse { error_code, ..Default::default() });
    }
    request.connection.note_software(body.client_software_name, body.client_software_version);
    let image = request.shard.image.borrow();
    let finalized = feature::finalized(&image);
    let response = ApiVersionsResponse {
        api_keys: api_keys(config),
        supported_features: feature::SUPPORTED
            .iter()
            .map(|(name, min, max)| SupportedFeatureKey {
                name,
                min_version: *min,
                max_version: *max,
            })
            .collect(),
        finalized_features_epoch: image.next_offset().0 - 1,
        finalized_features: finalized
            .iter()
            .map(|(name, level)| FinalizedFeatureKey {
                name,
                max_version_level: *level,
                min_version_level: *level,
            })
            .collect(),
        ..Default::default()
    };
    request.respond(&response)
}

fn api_keys(config: &BrokerConfig) -> Vec<ApiVersion> {
    offered_with(config)
        .map(|row| ApiVersion {
            api_key: row.key.number(),
            // Apache Kafka advertises 0 for Produce although it serves 3 and up: librdkafka before
            // 2.11 takes anything else for a broker without idempotence (KAFKA-18659).
            min_version: if row.key == ApiKey::Produce { 0 } else { row.min },
            max_version: row.max,
        })
        .collect()
}

fn is_software_name(text: &str) -> bool {
    let is_mark = |byte: u8| byte == b'-' || byte == b'.';
    let (Some(first), Some(last)) = (text.bytes().next(), text.bytes().last()) else {
        return false;
    };
    !is_mark(first)
        && !is_mark(last)
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || is_mark(byte))
}
