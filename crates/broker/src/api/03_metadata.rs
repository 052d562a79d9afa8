//! Metadata, versions 0 to 13: the brokers, and topics with their partitions.
//!
//! A topic that is asked for and not there is created where the client and
//! `auto.create.topics.enable` allow it, and the answer waits for it: no client sees
//! LEADER_NOT_AVAILABLE.

use std::rc::Rc;

use cluster::{Error, image::Topic};
use model::{
    ErrorCode, Uuid,
    collections::{BTreeMap, BTreeSet},
};
use wire::{
    metadata_request::{MetadataRequest, MetadataRequestTopic},
    metadata_response::{
        MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
    },
};

use super::{Answer, Request, authorized_operations};
use crate::{error_map, shard::Shard, topic_settings};

/// Before this version an empty list of topics asks for all of them.
const NULL_MEANS_ALL_FROM_VERSION: i16 = 1;
/// Before this version topics are asked for by name alone.
const IDS_FROM_VERSION: i16 = 12;
/// Before this version every metadata request may create topics.
const AUTO_CREATION_FROM_VERSION: i16 = 4;

/// One topic that a request names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Asked<'a> {
    Name(&'a str),
    Id(Uuid),
}

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: MetadataRequest<'_> = request.decode()?;
    let shard = request.shard;
    let version = request.head.version;
    if version < IDS_FROM_VERSION
        && let Some(topics) = &body.topics
        && topics.iter().any(|topic| topic.name.is_none() || topic.topic_id != Uuid::ZERO)
    {
        return refuse_ids(request, topics);
    }
    let asked: Option<Vec<Asked<'_>>> = match &body.topics {
        None => None,
        Some(topics) if topics.is_empty() && version < NULL_MEANS_ALL_FROM_VERSION => None,
        Some(topics) => {
            // Each is described once, however often it is named: else a few bytes for a topic of
            // many partitions would be answered with megabytes.
            let mut seen = BTreeSet::new();
            // Who names a topic by its id may leave the name empty, as the Java client does.
            let asked = topics.iter().map(|topic| match topic.name {
                Some(name) if topic.topic_id == Uuid::ZERO => Asked::Name(name),
                Some(_) | None => Asked::Id(topic.topic_id),
            });
            Some(asked.filter(|one| seen.insert(*one)).collect())
        }
    };
    let may_create = shard.config.auto_create_topics_enable
        && (version < AUTO_CREATION_FROM_VERSION || body.allow_auto_topic_creation);
    let mut failed: BTreeMap<&str, ErrorCode> = BTreeMap::new();
    if let Some(asked) = &asked {
        for one in asked {
            if let Asked::Name(name) = one
                && let Err(error) = require_topic(shard, name, may_create).await
            {
                failed.insert(name, error);
            }
        }
    }
    let image = shard.image.borrow();
    let topics = match &asked {
        None => image
            .topics()
            .map(|topic| described(topic, body.include_topic_authorized_operations))
            .collect(),
        Some(asked) => asked
            .iter()
            .map(|one| {
                let (name, id, found, unknown) = match one {
                    Asked::Name(name) => (
                        Some(*name),
                        Uuid::ZERO,
                        image.topic_by_name(name),
                        failed.get(name).copied().unwrap_or(ErrorCode::UnknownTopicOrPartition),
                    ),
                    Asked::Id(id) => (None, *id, image.topic(*id), ErrorCode::UnknownTopicId),
                };
                found.map_or_else(
                    || {
                        let is_told = name.is_some() && body.include_topic_authorized_operations;
                        refused(name, id, unknown, is_told)
                    },
                    |topic| described(topic, body.include_topic_authorized_operations),
                )
            })
            .collect(),
    };
    respond(request, &body, topics)
}

fn respond(
    request: &Request<'_>,
    body: &MetadataRequest<'_>,
    topics: Vec<MetadataResponseTopic<'_>>,
) -> Answer {
    let shard = request.shard;
    let (host, port) = shard.advertised(request.connection);
    let response = MetadataResponse {
        brokers: vec![MetadataResponseBroker {
            node_id: shard.config.node_id,
            host: &host,
            port: i32::from(port),
            rack: None,
        }],
        cluster_id: Some(&shard.identity().cluster_id),
        controller_id: shard.config.node_id,
        topics,
        cluster_authorized_operations: authorized_operations::of_cluster(
            body.include_cluster_authorized_operations,
        ),
        ..Default::default()
    };
    request.respond(&response)
}

/// Makes sure that the topic is there, creating it if that is allowed.
async fn require_topic(shard: &Rc<Shard>, name: &str, may_create: bool) -> Result<(), ErrorCode> {
    if shard.image.borrow().topic_by_name(name).is_some() {
        return Ok(());
    }
    if let Err(error) = cluster::topic_name::check(name) {
        return Err(error_map::cluster(&error));
    }
    if !may_create {
        return Err(ErrorCode::UnknownTopicOrPartition);
    }
    match shard.create_topic_automatically(name).await {
        Ok(()) | Err(Error::TopicExists(_)) => Ok(()),
        Err(error) => {
            tracing::info!(topic = name, %error, "not created automatically");
            Err(error_map::cluster(&error))
        }
    }
}

fn described(topic: &Topic, with_operations: bool) -> MetadataResponseTopic<'_> {
    let partitions = topic
        .partitions
        .iter()
        .map(|(id, partition)| {
            let leader = partition.leader;
            MetadataResponsePartition {
                error_code: match leader {
                    Some(_) => ErrorCode::None.code(),
                    None => ErrorCode::LeaderNotAvailable.code(),
                },
                partition_index: id.0,
                leader_id: leader.map_or(-1, |node| node.0),
                leader_epoch: partition.leader_epoch.0,
                replica_nodes: partition.replicas.iter().map(|node| node.0).collect(),
                isr_nodes: partition.isr.iter().map(|node| node.0).collect(),
                offline_replicas: Vec::new(),
            }
        })
        .collect();
    MetadataResponseTopic {
        error_code: ErrorCode::None.code(),
        name: Some(&topic.name),
        topic_id: topic.id,
        is_internal: topic_settings::is_internal(&topic.name),
        partitions,
        topic_authorized_operations: authorized_operations::of_topic(with_operations),
    }
}

fn refused(
    name: Option<&str>,
    id: Uuid,
    error: ErrorCode,
    with_operations: bool,
) -> MetadataResponseTopic<'_> {
    MetadataResponseTopic {
        error_code: error.code(),
        name,
        topic_id: id,
        is_internal: name.is_some_and(topic_settings::is_internal),
        topic_authorized_operations: authorized_operations::of_topic(with_operations),
        ..Default::default()
    }
}

/// Refuses a request that names topics by their ids before it may: as a whole.
fn refuse_ids(request: &Request<'_>, topics: &[MetadataRequestTopic<'_>]) -> Answer {
    let topics = topics
        .iter()
        .map(|topic| MetadataResponseTopic {
            name: Some(topic.name.unwrap_or_default()),
            ..refused(None, topic.topic_id, ErrorCode::InvalidRequest, false)
        })
        .collect();
    request.respond(&MetadataResponse { topics, controller_id: -1, ..Default::default() })
}
