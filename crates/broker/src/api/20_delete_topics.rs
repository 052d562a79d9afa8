//! DeleteTopics, versions 1 to 6.

use cluster::controller::TopicName;
use model::{ErrorCode, Uuid};
use wire::{
    delete_topics_request::DeleteTopicsRequest,
    delete_topics_response::{DeletableTopicResult, DeleteTopicsResponse},
};

use super::{Answer, Request};
use crate::{
    controller::{CONTROLLER_SHARD, DeleteTopics},
    error_map,
};

/// From this version on topics are named by name or by id.
const STATES_FROM_VERSION: i16 = 6;

struct Row {
    name: Option<String>,
    id: Uuid,
    error: ErrorCode,
    message: Option<String>,
}

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: DeleteTopicsRequest<'_> = request.decode()?;
    let names: Vec<TopicName> = if request.head.version >= STATES_FROM_VERSION {
        body.topics
            .iter()
            .map(|topic| match topic.name {
                Some(name) if topic.topic_id == Uuid::ZERO => TopicName::Name(name.to_owned()),
                Some(name) => TopicName::Both(name.to_owned(), topic.topic_id),
                None => TopicName::Id(topic.topic_id),
            })
            .collect()
    } else {
        body.topic_names.iter().map(|name| TopicName::Name((*name).to_owned())).collect()
    };
    let rows = if request.shard.config.delete_topic_enable {
        delete(request, names).await
    } else {
        names.iter().map(|name| row(name, ErrorCode::TopicDeletionDisabled, None)).collect()
    };
    let responses = rows
        .iter()
        .map(|row| DeletableTopicResult {
            name: row.name.as_deref(),
            topic_id: row.id,
            error_code: row.error.code(),
            error_message: row.message.as_deref(),
        })
        .collect();
    request.respond(&DeleteTopicsResponse { responses, ..Default::default() })
}

async fn delete(request: &Request<'_>, names: Vec<TopicName>) -> Vec<Row> {
    let call = DeleteTopics(names.clone());
    let deleted = request.shard.call(CONTROLLER_SHARD, call).await.answer().await;
    match deleted {
        Ok(deleted) => deleted
            .into_iter()
            .map(|(name, result)| match result {
                Ok((name, id)) => {
                    Row { name: Some(name), id, error: ErrorCode::None, message: None }
                }
                Err(error) => row(&name, error_map::cluster(&error), Some(error.to_string())),
            })
            .collect(),
        Err(error) => {
            let code = error_map::cluster(&error);
            names.iter().map(|name| row(name, code, Some(error.to_string()))).collect()
        }
    }
}

fn row(name: &TopicName, error: ErrorCode, message: Option<String>) -> Row {
    let (name, id) = match name {
        TopicName::Name(name) => (Some(name.clone()), Uuid::ZERO),
        TopicName::Id(id) => (None, *id),
        TopicName::Both(name, id) => (Some(name.clone()), *id),
    };
    Row { name, id, error, message }
}
