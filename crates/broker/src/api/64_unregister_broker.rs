//! UnregisterBroker, version 0. The one broker there is is this node, and a node that runs is not
//! unregistered: Apache Kafka does it, and then refuses its heartbeats until it is started again.

use model::NodeId;
use wire::{
    unregister_broker_request::UnregisterBrokerRequest,
    unregister_broker_response::UnregisterBrokerResponse,
};

use super::{Answer, Request};
use crate::error_map;

pub(super) fn answer(request: &Request<'_>) -> Answer {
    let body: UnregisterBrokerRequest = request.decode()?;
    let id = NodeId(body.broker_id);
    let error = if id == request.shard.node() {
        cluster::Error::InvalidRequest(format!("Broker ID {id} is this node, which runs"))
    } else {
        cluster::Error::UnknownBroker(id)
    };
    request.respond(&UnregisterBrokerResponse {
        error_code: error_map::cluster(&error).code(),
        error_message: Some(&error.to_string()),
        ..Default::default()
    })
}
