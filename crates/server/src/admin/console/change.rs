//! What the console changes, where `odradek.console=write`: a record is sent, a topic is made or
//! deleted.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{State, rejection::JsonRejection},
};
use client::{Acks, AutoCreate, Error, NewTopic};
use model::{TimestampMs, record_batch::NewRecord};
use serde::Deserialize;
use serde_json::json;

use super::{Answer, Console, Failure};
use crate::topic::produce::partition_of;

/// How long the broker may take.
const TIMEOUT: Duration = Duration::from_secs(8);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    topic: String,
    /// Without one the key decides, or it is the first.
    partition: Option<i32>,
    key: Option<String>,
    value: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Topic {
    name: String,
    /// Without a number it is the broker's.
    partitions: Option<i32>,
    #[serde(default)]
    settings: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    name: String,
}

fn body<T>(given: Result<Json<T>, JsonRejection>) -> Result<T, Failure> {
    let refused =
        |error: JsonRejection| Failure { status: error.status(), reason: error.body_text() };
    given.map(|Json(body)| body).map_err(refused)
}

pub(super) async fn produce(
    State(console): State<Arc<Console>>,
    given: Result<Json<Record>, JsonRejection>,
) -> Answer {
    let Record { topic, partition, key, value, headers } = body(given)?;
    let answer = console.ask(async move |runtime, cluster| {
        let leaders = cluster.leaders(&topic, AutoCreate::Never, TIMEOUT).await?;
        let count = i32::try_from(leaders.len()).map_err(|_| Error::Nonsense("too many"))?;
        let by_key = || key.as_ref().map_or(0, |key| partition_of(key.as_bytes(), count));
        let partition = partition.unwrap_or_else(by_key);
        let leader = cluster.leader(&topic, partition).await?;
        let headers: Vec<(&str, Option<&[u8]>)> =
            headers.iter().map(|(name, value)| (name.as_str(), Some(value.as_bytes()))).collect();
        let record = NewRecord {
            timestamp: TimestampMs(runtime.wall_clock_ms()),
            key: key.as_deref().map(str::as_bytes),
            value: value.as_deref().map(str::as_bytes),
            headers: &headers,
        };
        let mut producer = leader.init_producer_id().await?;
        let batch = producer.batch(&topic, partition, &[record]);
        let produced = leader.produce(&[batch], Acks::All, TIMEOUT).await?;
        let produced = produced.into_iter().next().ok_or(Error::Nonsense("no answer"))??;
        let offset = produced.base_offset.map(|offset| offset.0);
        Ok(json!({ "partition": partition, "offset": offset }))
    });
    Ok(Json(answer.await?))
}

pub(super) async fn create(
    State(console): State<Arc<Console>>,
    given: Result<Json<Topic>, JsonRejection>,
) -> Answer {
    let Topic { name, partitions, settings } = body(given)?;
    let answer = console.ask(async move |_, cluster| {
        let configs: Vec<(&str, &str)> =
            settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let new = NewTopic {
            name: &name,
            partition_count: partitions.unwrap_or(-1),
            replication_factor: -1,
            configs: &configs,
        };
        cluster.any().await?.create_topic(&new, TIMEOUT).await?;
        Ok(json!({ "created": name }))
    });
    Ok(Json(answer.await?))
}

pub(super) async fn delete(
    State(console): State<Arc<Console>>,
    given: Result<Json<Named>, JsonRejection>,
) -> Answer {
    let Named { name } = body(given)?;
    let answer = console.ask(async move |_, cluster| {
        cluster.any().await?.delete_topic(&name, TIMEOUT).await?;
        Ok(json!({ "deleted": name }))
    });
    Ok(Json(answer.await?))
}
