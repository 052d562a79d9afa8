//! DescribeConfigs, versions 1 to 4: the settings of topics, of this broker, of groups, of
//! subscriptions to clients' metrics, and what was set for all brokers.

use model::{ErrorCode, NodeId};
use wire::{
    describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource},
    describe_configs_response::{
        DescribeConfigsResourceResult, DescribeConfigsResponse, DescribeConfigsResult,
        DescribeConfigsSynonym,
    },
};

use super::{Answer, Request};
use crate::{
    described_settings::{
        Described, Layers, Source, describe_all_nodes, describe_client_metrics, describe_group,
        describe_loggers, describe_node, describe_topic,
    },
    loggers,
    shard::Shard,
};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;

/// The settings of a resource, or why there are none.
type Outcome = Result<Vec<Described>, (ErrorCode, String)>;

pub(super) fn answer(request: &Request<'_>) -> Answer {
    let body: DescribeConfigsRequest<'_> = request.decode()?;
    let outcomes: Vec<Outcome> =
        body.resources.iter().map(|resource| describe(request.shard, resource)).collect();
    let results = body
        .resources
        .iter()
        .zip(&outcomes)
        .map(|(resource, outcome)| {
            let result = DescribeConfigsResult {
                error_code: ErrorCode::None.code(),
                error_message: None,
                resource_type: resource.resource_type,
                resource_name: resource.resource_name,
                configs: Vec::new(),
            };
            match outcome {
                Ok(settings) => DescribeConfigsResult {
                    configs: settings.iter().map(|setting| entry(setting, &body)).collect(),
                    ..result
                },
                Err((error, message)) => DescribeConfigsResult {
                    error_code: error.code(),
                    error_message: Some(message),
                    ..result
                },
            }
        })
        .collect();
    request.respond(&DescribeConfigsResponse { results, ..Default::default() })
}

fn describe(shard: &Shard, resource: &DescribeConfigsResource<'_>) -> Outcome {
    let invalid = |message: String| Err((ErrorCode::InvalidRequest, message));
    let mut settings = match resource.resource_type {
        TOPIC => {
            let name = resource.resource_name;
            if let Err(error) = cluster::topic_name::check(name) {
                return Err((ErrorCode::InvalidTopicException, error.to_string()));
            }
            if shard.image.borrow().topic_by_name(name).is_none() {
                return Err((ErrorCode::UnknownTopicOrPartition, String::new()));
            }
            describe_topic(shard, name)
        }
        BROKER => {
            let image = shard.image.borrow();
            let layers = Layers::new(&shard.config, &image);
            match resource.resource_name.parse().map(NodeId) {
                Ok(node) if node == shard.node() => describe_node(&layers),
                _ if resource.resource_name.is_empty() => describe_all_nodes(&layers),
                _ => {
                    return invalid(format!(
                        "Unexpected broker id, expected {} or empty string, but received {}",
                        shard.node(),
                        resource.resource_name.escape_default()
                    ));
                }
            }
        }
        BROKER_LOGGER => match loggers::check_node(shard.node(), resource.resource_name) {
            Ok(()) => describe_loggers(shard),
            Err(error) => return invalid(error.to_string()),
        },
        CLIENT_METRICS if resource.resource_name.is_empty() => {
            return invalid("Client metrics subscription name must not be empty".to_owned());
        }
        GROUP if resource.resource_name.is_empty() => {
            return invalid("Group name must not be empty".to_owned());
        }
        GROUP => describe_group(shard, resource.resource_name),
        CLIENT_METRICS => describe_client_metrics(shard, resource.resource_name),
        other => return invalid(format!("resources of type {other} have no settings here")),
    };
    if let Some(names) = resource.configuration_keys.as_ref().filter(|names| !names.is_empty()) {
        settings.retain(|setting| names.contains(&setting.name.as_str()));
    }
    Ok(settings)
}

fn entry<'a>(
    setting: &'a Described,
    request: &DescribeConfigsRequest<'_>,
) -> DescribeConfigsResourceResult<'a> {
    let source = setting.source().unwrap_or(Source::Default);
    let is_logger = source == Source::Logger;
    let synonyms = setting
        .synonyms
        .iter()
        .filter(|_| request.include_synonyms && !is_logger)
        .map(|(name, value, source)| DescribeConfigsSynonym {
            name,
            value: Some(value.as_str()).filter(|_| !setting.is_sensitive),
            source: source.code(),
        })
        .collect();
    DescribeConfigsResourceResult {
        name: &setting.name,
        value: setting.value.as_deref(),
        read_only: setting.is_read_only,
        config_source: source.code(),
        is_sensitive: setting.is_sensitive,
        synonyms,
        config_type: setting.type_code,
        // That of loggers is empty, and told in any case, as in Apache Kafka.
        documentation: (request.include_documentation || is_logger)
            .then_some(setting.documentation.as_str()),
    }
}
