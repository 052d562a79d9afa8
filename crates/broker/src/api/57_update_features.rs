//! UpdateFeatures, versions 0 to 2: all features of a request get their new levels, or none does.

use cluster::controller::{Direction, FeatureUpdate, Intent};
use model::ErrorCode;
use wire::{
    update_features_request::{FeatureUpdateKey, UpdateFeaturesRequest},
    update_features_response::{UpdatableFeatureResult, UpdateFeaturesResponse},
};

use super::{Answer, Request};
use crate::{
    controller::{CONTROLLER_SHARD, UpdateFeatures},
    error_map,
};

/// Before this version a flag said what the kind of upgrade says now.
const UPGRADE_TYPE_FROM_VERSION: i16 = 1;

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: UpdateFeaturesRequest<'_> = request.decode()?;
    let updates = body
        .feature_updates
        .iter()
        .map(|update| FeatureUpdate {
            name: update.feature.to_owned(),
            level: update.max_version_level,
            direction: direction(update, request.head.version),
        })
        .collect();
    let intent = if body.validate_only { Intent::Validate } else { Intent::Apply };
    let call = UpdateFeatures { updates, intent };
    let updated = request.shard.call(CONTROLLER_SHARD, call).await.answer().await;
    let message = updated.as_ref().err().map(std::string::ToString::to_string);
    let results = match &updated {
        Err(_) => Vec::new(),
        Ok(()) => body
            .feature_updates
            .iter()
            .map(|update| UpdatableFeatureResult { feature: update.feature, ..Default::default() })
            .collect(),
    };
    request.respond(&UpdateFeaturesResponse {
        error_code: updated.as_ref().map_or_else(error_map::cluster, |()| ErrorCode::None).code(),
        error_message: message.as_deref(),
        results,
        ..Default::default()
    })
}

fn direction(update: &FeatureUpdateKey<'_>, version: i16) -> Direction {
    match update.upgrade_type {
        _ if version < UPGRADE_TYPE_FROM_VERSION => {
            if update.allow_downgrade {
                Direction::SafeDown
            } else {
                Direction::Up
            }
        }
        1 => Direction::Up,
        2 => Direction::SafeDown,
        3 => Direction::UnsafeDown,
        _ => Direction::Unknown,
    }
}
