//! CreateTopics, versions 2 to 7.

use cluster::controller::{Intent, NewTopic};
use model::{ErrorCode, NodeId, PartitionId, Uuid};
use wire::{
    create_topics_request::{CreatableTopic, CreateTopicsRequest},
    create_topics_response::{CreatableTopicConfigs, CreatableTopicResult, CreateTopicsResponse},
};

use super::{Answer, Request};
use crate::{
    described_settings::{Described, Layers, Shown, Source, describe_with},
    error_map,
};

/// From this version on the answer tells a new topic's settings.
const CONFIGS_FROM_VERSION: i16 = 5;

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: CreateTopicsRequest<'_> = request.decode()?;
    let topics: Vec<NewTopic> = body.topics.iter().map(new_topic).collect();
    let intent = if body.validate_only { Intent::Validate } else { Intent::Apply };
    let created = request.shard.create_topics(topics, intent).await;
    let results: Vec<(String, Outcome<'_>)> = match &created {
        Ok(created) => created
            .iter()
            .map(|(name, result)| {
                let outcome = match result {
                    Ok(topic) => Outcome::Created(topic),
                    Err(error) => Outcome::failed(error),
                };
                (name.clone(), outcome)
            })
            .collect(),
        Err(error) => body
            .topics
            .iter()
            .map(|topic| (topic.name.to_owned(), Outcome::failed(error)))
            .collect(),
    };
    let settings: Vec<Vec<Described>> =
        results.iter().map(|(name, _)| settings_of(request, &body, name)).collect();
    let topics = results
        .iter()
        .zip(&settings)
        .map(|((name, outcome), settings)| match outcome {
            Outcome::Created(topic) => CreatableTopicResult {
                name,
                topic_id: topic.topic_id,
                error_code: ErrorCode::None.code(),
                num_partitions: topic.partition_count,
                replication_factor: topic.replication_factor,
                configs: Some(settings.iter().map(created_config).collect()),
                ..Default::default()
            },
            Outcome::Failed(code, message) => CreatableTopicResult {
                name,
                error_code: code.code(),
                error_message: Some(message),
                num_partitions: -1,
                replication_factor: -1,
                ..Default::default()
            },
        })
        .collect();
    request.respond(&CreateTopicsResponse { topics, ..Default::default() })
}

enum Outcome<'a> {
    Created(&'a cluster::controller::CreatedTopic),
    Failed(ErrorCode, String),
}

impl Outcome<'_> {
    fn failed(error: &cluster::Error) -> Outcome<'static> {
        Outcome::Failed(error_map::cluster(error), error.to_string())
    }
}

/// The settings that a topic of the request has, or would have.
fn settings_of(
    request: &Request<'_>,
    body: &CreateTopicsRequest<'_>,
    name: &str,
) -> Vec<Described> {
    if request.head.version < CONFIGS_FROM_VERSION {
        return Vec::new();
    }
    let Some(topic) = body.topics.iter().find(|topic| topic.name == name) else {
        return Vec::new();
    };
    let own: Vec<(&str, &str)> =
        topic.configs.iter().filter_map(|config| Some((config.name, config.value?))).collect();
    let image = request.shard.image.borrow();
    describe_with(&Layers::new(&request.shard.config, &image), &own, Shown::AsSet)
}

fn created_config(setting: &Described) -> CreatableTopicConfigs<'_> {
    CreatableTopicConfigs {
        name: &setting.name,
        value: setting.value.as_deref(),
        read_only: false,
        config_source: setting.source().unwrap_or(Source::Default).code(),
        is_sensitive: false,
    }
}

fn new_topic(topic: &CreatableTopic<'_>) -> NewTopic {
    NewTopic {
        name: topic.name.to_owned(),
        topic_id: Uuid::ZERO,
        partition_count: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: topic
            .assignments
            .iter()
            .map(|one| {
                let nodes = one.broker_ids.iter().copied().map(NodeId).collect();
                (PartitionId(one.partition_index), nodes)
            })
            .collect(),
        configs: topic
            .configs
            .iter()
            .map(|config| (config.name.to_owned(), config.value.map(str::to_owned)))
            .collect(),
    }
}
