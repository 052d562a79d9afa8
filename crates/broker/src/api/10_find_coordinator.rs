//! FindCoordinator, versions 0 to 6. Alone, this node is everybody's coordinator; the answer waits
//! for `__consumer_offsets` or `__transaction_state`, so that no client is told to come back later.

use model::ErrorCode;
use wire::{
    find_coordinator_request::FindCoordinatorRequest,
    find_coordinator_response::{Coordinator, FindCoordinatorResponse},
};

use super::{Answer, Request};
use crate::topic_settings::TRANSACTION_STATE;

/// The key is a group's id, or a transactional id; 2 would be a share group's partition.
const KEY_TYPE_GROUP: i8 = 0;
const KEY_TYPE_TRANSACTION: i8 = 1;
/// From this version on several keys are asked at once.
const SEVERAL_FROM_VERSION: i16 = 4;

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: FindCoordinatorRequest<'_> = request.decode()?;
    let shard = request.shard;
    let is_several = request.head.version >= SEVERAL_FROM_VERSION;
    let keys: &[&str] = if is_several { &body.coordinator_keys } else { &[body.key] };
    let mut errors = Vec::with_capacity(keys.len());
    for key in keys {
        let found = match body.key_type {
            KEY_TYPE_GROUP => shard.coordinator_of(key).await.map(drop),
            KEY_TYPE_TRANSACTION => shard.require_coordinators_topic(TRANSACTION_STATE).await,
            _ => Err(ErrorCode::InvalidRequest),
        };
        errors.push(found.err().unwrap_or(ErrorCode::None));
    }
    let (host, port) = shard.advertised(request.connection);
    let place = |error: ErrorCode| {
        if error == ErrorCode::None {
            (shard.config.node_id, host.as_str(), i32::from(port))
        } else {
            (-1, "", -1)
        }
    };
    let response = if is_several {
        let coordinators = keys
            .iter()
            .zip(&errors)
            .map(|(key, error)| {
                let (node_id, host, port) = place(*error);
                let error_message = message(*error);
                Coordinator { key, node_id, host, port, error_code: error.code(), error_message }
            })
            .collect();
        FindCoordinatorResponse { coordinators, ..Default::default() }
    } else {
        let error = errors.first().copied().unwrap_or(ErrorCode::InvalidRequest);
        let (node_id, host, port) = place(error);
        FindCoordinatorResponse {
            error_code: error.code(),
            error_message: message(error),
            node_id,
            host,
            port,
            ..Default::default()
        }
    };
    request.respond(&response)
}

fn message(error: ErrorCode) -> Option<&'static str> {
    (error == ErrorCode::InvalidRequest)
        .then_some("only groups and transactional ids have a coordinator here")
}
