//! Topics: what there is, creation and deletion.

use std::time::Duration;

use model::{ErrorCode, TopicId};
use wire::{
    create_topics_request::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest},
    delete_topics_request::{DeleteTopicState, DeleteTopicsRequest},
    metadata_request::{MetadataRequest, MetadataRequestTopic},
};

use crate::{Connection, Error, Result};

/// What the cluster is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Its id.
    pub cluster_id: Option<String>,
    /// The node that takes administrative requests.
    pub controller_id: i32,
    /// The brokers.
    pub brokers: Vec<Broker>,
    /// The topics that were asked for.
    pub topics: Vec<Topic>,
}

/// A broker of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its node id.
    pub node_id: i32,
    /// Where clients reach it.
    pub host: String,
    /// Its port.
    pub port: i32,
}

/// A topic, or what the broker says of the name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: TopicId,
    /// Whether it is there.
    pub error_code: ErrorCode,
    /// One of Kafka's own.
    pub is_internal: bool,
    /// The leader of each partition, by the partition's number; -1 where there is none.
    pub leaders: Vec<i32>,
}

/// Whether a topic that is not there comes to be by being asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCreate {
    /// If the broker allows it.
    Allowed,
    /// In no case.
    Never,
}

/// A topic to be created.
#[derive(Clone, Copy, Debug)]
pub struct NewTopic<'a> {
    /// Its name.
    pub name: &'a str,
    /// How many partitions; -1 for the broker's default.
    pub partition_count: i32,
    /// How many replicas of each; -1 for the broker's default.
    pub replication_factor: i16,
    /// Kafka's settings by name.
    pub configs: &'a [(&'a str, &'a str)],
}

impl Connection {
    /// The cluster and these topics; all of them for `None`.
    ///
    /// # Errors
    /// The connection's; those of a topic stand with it.
    pub async fn metadata(
        &self,
        topics: Option<&[&str]>,
        auto_create: AutoCreate,
    ) -> Result<Metadata> {
        let request = MetadataRequest {
            topics: topics.map(|names| names.iter().map(|name| by_name(name)).collect()),
            allow_auto_topic_creation: auto_create == AutoCreate::Allowed,
            ..Default::default()
        };
        let answer = self.call(&request).await?;
        let response = answer.decode()?;
        Error::check(response.error_code)?;
        let broker = |broker: &wire::metadata_response::MetadataResponseBroker<'_>| Broker {
            node_id: broker.node_id,
            host: broker.host.to_owned(),
            port: broker.port,
        };
        Ok(Metadata {
            cluster_id: response.cluster_id.map(str::to_owned),
            controller_id: response.controller_id,
            brokers: response.brokers.iter().map(broker).collect(),
            topics: response.topics.iter().map(topic).collect(),
        })
    }

    /// Creates a topic, and waits until it is usable.
    ///
    /// # Errors
    /// The connection's or the broker's: [`ErrorCode::TopicAlreadyExists`] among them.
    pub async fn create_topic(&self, new: &NewTopic<'_>, timeout: Duration) -> Result<()> {
        let configs = new
            .configs
            .iter()
            .map(|(name, value)| CreatableTopicConfig { name, value: Some(value) });
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: new.name,
                num_partitions: new.partition_count,
                replication_factor: new.replication_factor,
                configs: configs.collect(),
                ..Default::default()
            }],
            timeout_ms: milliseconds(timeout),
            ..Default::default()
        };
        let answer = self.call(&request).await?;
        let response = answer.decode()?;
        let result = response.topics.first().ok_or(Error::Nonsense("no topic in the answer"))?;
        Error::check(result.error_code)
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// The connection's or the broker's: [`ErrorCode::UnknownTopicOrPartition`] among them.
    pub async fn delete_topic(&self, name: &str, timeout: Duration) -> Result<()> {
        let request = DeleteTopicsRequest {
            topics: vec![DeleteTopicState { name: Some(name), ..Default::default() }],
            topic_names: vec![name],
            timeout_ms: milliseconds(timeout),
        };
        let answer = self.call(&request).await?;
        let response = answer.decode()?;
        let result = response.responses.first().ok_or(Error::Nonsense("no topic in the answer"))?;
        Error::check(result.error_code)
    }
}

fn topic(topic: &wire::metadata_response::MetadataResponseTopic<'_>) -> Topic {
    let mut leaders = vec![-1; topic.partitions.len()];
    for partition in &topic.partitions {
        let index = usize::try_from(partition.partition_index).ok();
        if let Some(leader) = index.and_then(|index| leaders.get_mut(index)) {
            *leader = partition.leader_id;
        }
    }
    Topic {
        name: topic.name.unwrap_or_default().to_owned(),
        id: topic.topic_id,
        error_code: ErrorCode::from_code(topic.error_code),
        is_internal: topic.is_internal,
        leaders,
    }
}

fn by_name(name: &str) -> MetadataRequestTopic<'_> {
    MetadataRequestTopic { name: Some(name), ..Default::default() }
}

fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
