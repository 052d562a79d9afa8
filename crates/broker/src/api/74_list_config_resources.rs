//! ListConfigResources, versions 0 and 1: what there is that has settings. Version 0 knows
//! subscriptions to clients' metrics alone.

use cluster::{MetadataImage, record::ResourceType};
use model::ErrorCode;
use wire::{
    list_config_resources_request::ListConfigResourcesRequest,
    list_config_resources_response::{ConfigResource, ListConfigResourcesResponse},
};

use super::{Answer, Request};

/// The levels of a broker's log, which are settings of a kind of their own.
const BROKER_LOGGER: ResourceType = ResourceType(8);
/// In the order of Apache Kafka's answers.
const SUPPORTED: [ResourceType; 5] = [
    ResourceType::GROUP,
    ResourceType::CLIENT_METRICS,
    BROKER_LOGGER,
    ResourceType::BROKER,
    ResourceType::TOPIC,
];
/// From this version on a request says which types it wants; none are all.
const TYPES_FROM_VERSION: i16 = 1;

pub(super) fn answer(request: &Request<'_>) -> Answer {
    let body: ListConfigResourcesRequest = request.decode()?;
    let asked: Vec<ResourceType> = if request.head.version < TYPES_FROM_VERSION {
        vec![ResourceType::CLIENT_METRICS]
    } else {
        body.resource_types.iter().copied().map(ResourceType).collect()
    };
    if asked.iter().any(|kind| !SUPPORTED.contains(kind)) {
        let error_code = ErrorCode::UnsupportedVersion.code();
        return request.respond(&ListConfigResourcesResponse { error_code, ..Default::default() });
    }
    let image = request.shard.image.borrow();
    let node = request.shard.config.node_id.to_string();
    let mut config_resources = Vec::new();
    for kind in SUPPORTED.into_iter().filter(|kind| asked.is_empty() || asked.contains(kind)) {
        let resource = |name| ConfigResource { resource_name: name, resource_type: kind.0 };
        config_resources.extend(names(&image, kind, &node).into_iter().map(resource));
    }
    request.respond(&ListConfigResourcesResponse { config_resources, ..Default::default() })
}

fn names<'a>(image: &'a MetadataImage, kind: ResourceType, node: &'a str) -> Vec<&'a str> {
    match kind {
        ResourceType::TOPIC => image.topics().map(|topic| topic.name.as_str()).collect(),
        ResourceType::BROKER | BROKER_LOGGER => vec![node],
        _ => image.configured(kind).collect(),
    }
}
