//! What the pages show: metrics, topics, groups, settings.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::{Query, State},
    http::StatusCode,
};
use broker::Scope;
use client::{AutoCreate, Cluster, Connection, Error};
use runtime::Runtime;
use serde::Deserialize;
use serde_json::{Value, json};
use wire::{
    Decode as _, Reader,
    consumer_group_describe_request::ConsumerGroupDescribeRequest,
    consumer_protocol_assignment::ConsumerProtocolAssignment,
    describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource},
    describe_groups_request::DescribeGroupsRequest,
};

use super::{Answer, Console, Failure};
use crate::{
    admin::{metrics_page, slowest},
    config::source_name,
    group, slow_requests,
    topic::{ends, leaders_of},
};

/// Rows of one answer, whatever is asked for.
const ROWS_MAX: usize = 500;
/// The numbers of Kafka's config resources.
const RESOURCE_TOPIC: i8 = 2;
const RESOURCE_BROKER: i8 = 4;

/// A part of a list.
#[derive(Deserialize)]
pub(super) struct Part {
    #[serde(default)]
    search: String,
    #[serde(default)]
    from: usize,
    #[serde(default)]
    count: Option<usize>,
    #[serde(default)]
    internal: bool,
}

impl Part {
    fn of<T>(&self, all: Vec<T>) -> Vec<T> {
        let count = self.count.unwrap_or(ROWS_MAX).min(ROWS_MAX);
        all.into_iter().skip(self.from).take(count).collect()
    }
}

#[derive(Deserialize)]
pub(super) struct Named {
    name: String,
    #[serde(default)]
    from: usize,
    #[serde(default)]
    count: Option<usize>,
}

/// The metrics of the node as a whole, without buckets.
pub(super) async fn overview(State(console): State<Arc<Console>>) -> Answer {
    let page = metrics_page(&console.shared, Scope::Node).await.ok_or_else(silent)?;
    let metrics: BTreeMap<&str, f64> = page.lines().filter_map(metric_of_the_node).collect();
    let address = console.shared.served.get().map(ToString::to_string);
    Ok(Json(json!({
        "metrics": metrics,
        "version": env!("CARGO_PKG_VERSION"),
        "address": address,
        "can_change": console.can_change,
    })))
}

/// The slowest requests.
pub(super) async fn slow(State(console): State<Arc<Console>>) -> Answer {
    let slowest = slowest(&console.shared).await.ok_or_else(silent)?;
    Ok(Json(slow_requests::json(&slowest)))
}

fn silent() -> Failure {
    Failure {
        status: StatusCode::SERVICE_UNAVAILABLE,
        reason: "the broker does not answer".to_owned(),
    }
}

fn metric_of_the_node(line: &str) -> Option<(&str, f64)> {
    if line.starts_with('#') {
        return None;
    }
    let (name, value) = line.rsplit_once(' ')?;
    if name.contains("_bucket{") {
        return None;
    }
    Some((name, value.parse().ok()?))
}

pub(super) async fn topics(
    State(console): State<Arc<Console>>,
    Query(part): Query<Part>,
) -> Answer {
    let metadata = console
        .ask(async |_, cluster: Cluster| {
            cluster.any().await?.metadata(None, AutoCreate::Never).await
        })
        .await?;
    let mut found: Vec<(String, bool, usize)> = metadata
        .topics
        .into_iter()
        .filter(|topic| part.internal || !topic.is_internal)
        .filter(|topic| topic.name.contains(&part.search))
        .map(|topic| (topic.name, topic.is_internal, topic.leaders.len()))
        .collect();
    found.sort();
    let (count, partitions) = (found.len(), found.iter().map(|topic| topic.2).sum::<usize>());
    let rows = part.of(found).into_iter().map(|(name, is_internal, partitions)| {
        json!({ "name": name, "internal": is_internal, "partitions": partitions })
    });
    let rows: Vec<Value> = rows.collect();
    Ok(Json(json!({ "count": count, "partitions": partitions, "topics": rows })))
}

/// Partitions with their offsets, and the topic's settings.
pub(super) async fn topic(
    State(console): State<Arc<Console>>,
    Query(Named { name, from, count }): Query<Named>,
) -> Answer {
    let part = Part { search: String::new(), from, count, internal: true };
    let answer = console.ask(async move |_, cluster| {
        let leaders = leaders_of(&cluster, &name).await?;
        let count = leaders.len();
        let mut partitions = Vec::new();
        for (partition, leader) in part.of((0..).zip(leaders).collect()) {
            let offsets =
                if leader < 0 { None } else { Some(ends(&cluster, &name, partition).await?) };
            partitions.push(json!({
                "partition": partition,
                "leader": leader,
                "start": offsets.map(|(start, _)| start.0),
                "end": offsets.map(|(_, end)| end.0),
            }));
        }
        let settings = described(&cluster.any().await?, RESOURCE_TOPIC, &name).await?;
        Ok(json!({ "name": name, "count": count, "partitions": partitions, "settings": settings }))
    });
    Ok(Json(answer.await?))
}

/// The broker's settings.
pub(super) async fn settings(State(console): State<Arc<Console>>) -> Answer {
    let node = console.node.clone();
    let answer = console.ask(async move |_, cluster| {
        let settings = described(&cluster.any().await?, RESOURCE_BROKER, &node).await?;
        Ok(json!({ "settings": settings }))
    });
    Ok(Json(answer.await?))
}

async fn described(broker: &Connection, kind: i8, name: &str) -> client::Result<Vec<Value>> {
    let request = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: kind,
            resource_name: name,
            configuration_keys: None,
        }],
        include_synonyms: false,
        include_documentation: true,
    };
    let answer = broker.call(&request).await?;
    let response = answer.decode()?;
    let found = response.results.first().ok_or(Error::Nonsense("no resource in the answer"))?;
    Error::check(found.error_code)?;
    let mut settings: Vec<_> = found.configs.iter().collect();
    settings.sort_by_key(|setting| setting.name);
    let row = |setting: &wire::describe_configs_response::DescribeConfigsResourceResult<'_>| {
        json!({
            "name": setting.name,
            "value": setting.value,
            "source": source_name(setting.config_source),
            "read_only": setting.read_only,
            "sensitive": setting.is_sensitive,
            "documentation": setting.documentation,
        })
    };
    Ok(settings.into_iter().map(row).collect())
}

pub(super) async fn groups(
    State(console): State<Arc<Console>>,
    Query(part): Query<Part>,
) -> Answer {
    let mut found = console
        .ask(async |runtime: Runtime, cluster: Cluster| group::all(&runtime, &cluster).await)
        .await?;
    found.retain(|group| group.group_id.contains(&part.search));
    let count = found.len();
    let rows = part.of(found).into_iter().map(
        |group| json!({ "name": group.group_id, "state": group.state, "type": group.group_type }),
    );
    let rows: Vec<Value> = rows.collect();
    Ok(Json(json!({ "count": count, "groups": rows })))
}

/// Members, and how far behind the group is.
pub(super) async fn group(
    State(console): State<Arc<Console>>,
    Query(Named { name, .. }): Query<Named>,
) -> Answer {
    let answer = console.ask(async move |runtime, cluster| {
        let coordinator = Box::pin(group::seek::coordinator_of(&cluster, &name)).await?;
        let (state, members) = match Box::pin(consumer_members(&coordinator, &name)).await? {
            Some(found) => found,
            None => Box::pin(classic_members(&coordinator, &name)).await?,
        };
        let mut lag = 0;
        let mut partitions = Vec::new();
        for one in Box::pin(group::standing(&runtime, &cluster, &name)).await? {
            let behind = one.end.map(|end| (end.0 - one.committed.0).max(0));
            lag += behind.unwrap_or(0);
            partitions.push(json!({
                "topic": one.topic,
                "partition": one.partition,
                "committed": one.committed.0,
                "end": one.end.map(|end| end.0),
                "lag": behind,
            }));
        }
        Ok(json!({
            "name": name, "state": state, "lag": lag, "members": members, "partitions": partitions,
        }))
    });
    Ok(Json(answer.await?))
}

/// Those of a group of the consumer protocol (KIP-848); `None` if it is none.
async fn consumer_members(
    coordinator: &Connection,
    name: &str,
) -> client::Result<Option<(String, Vec<Value>)>> {
    let request = ConsumerGroupDescribeRequest {
        group_ids: vec![name],
        include_authorized_operations: false,
    };
    let answer = coordinator.call(&request).await?;
    let response = answer.decode()?;
    let Some(found) = response.groups.first().filter(|found| found.error_code == 0) else {
        return Ok(None);
    };
    let members = found.members.iter().map(|member| {
        let assigned = member.assignment.topic_partitions.iter();
        let assigned = assigned.map(|topic| (topic.topic_name, &topic.partitions[..]));
        shown(member.member_id, member.instance_id, member.client_id, member.client_host, assigned)
    });
    Ok(Some((found.group_state.to_owned(), members.collect())))
}

async fn classic_members(
    coordinator: &Connection,
    name: &str,
) -> client::Result<(String, Vec<Value>)> {
    let request =
        DescribeGroupsRequest { groups: vec![name], include_authorized_operations: false };
    let answer = coordinator.call(&request).await?;
    let response = answer.decode()?;
    let found = response.groups.first().ok_or(Error::Nonsense("no group in the answer"))?;
    Error::check(found.error_code)?;
    let members = found.members.iter().map(|member| {
        // Of another protocol than consumers' nobody knows what it means.
        let assignment = member.member_assignment.split_first_chunk::<2>();
        let decoded =
            assignment.filter(|_| found.protocol_type == "consumer").and_then(|(version, body)| {
                let version = i16::from_be_bytes(*version).clamp(0, 3);
                ConsumerProtocolAssignment::decode(&mut Reader::new(body), version).ok()
            });
        let assigned = decoded.iter().flat_map(|decoded| &decoded.assigned_partitions);
        let assigned = assigned.map(|topic| (topic.topic, &topic.partitions[..]));
        shown(
            member.member_id,
            member.group_instance_id,
            member.client_id,
            member.client_host,
            assigned,
        )
    });
    Ok((found.group_state.to_owned(), members.collect()))
}

fn shown<'a>(
    member: &str,
    instance: Option<&str>,
    client: &str,
    host: &str,
    assigned: impl Iterator<Item = (&'a str, &'a [i32])>,
) -> Value {
    let assigned: Vec<Value> = assigned
        .map(|(topic, partitions)| json!({ "topic": topic, "partitions": partitions }))
        .collect();
    json!({
        "member": member, "instance": instance, "client": client, "host": host, "assigned": assigned,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read_and_buckets_left_out() {
        for (line, expected) in [
            ("# TYPE a counter", None),
            ("kafka_brokers 1", Some(("kafka_brokers", 1.0))),
            ("a{shard=\"0\"} 2.5", Some(("a{shard=\"0\"}", 2.5))),
            ("a_bucket{le=\"1\"} 1", None),
            ("a", None),
        ] {
            assert_eq!(metric_of_the_node(line), expected, "{line}");
        }
    }

    #[test]
    fn a_part_is_bounded() {
        let part = |from, count| Part { search: String::new(), from, count, internal: false };
        assert_eq!(part(1, Some(2)).of(vec![1, 2, 3, 4]), [2, 3]);
        assert_eq!(part(9, Some(2)).of(vec![1]), [0; 0]);
        assert_eq!(part(0, Some(usize::MAX)).of(vec![0; 9999]).len(), ROWS_MAX);
        assert_eq!(part(0, None).of(vec![0; 9999]).len(), ROWS_MAX);
    }
}
