//! `odradek topic`: topics of any Kafka cluster, by Kafka's protocol.

mod alter;
mod consume;
pub(crate) mod produce;

use std::time::Duration;

use clap::{Args, Subcommand};
use client::{AutoCreate, Cluster, Error, NewTopic, OffsetSpec, Topic};
use model::Offset;
use serde_json::Value;

use crate::{
    alone::{self, Broker},
    table::{Format, Table},
};

/// How long the cluster may take to make or remove a topic.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  odradek topic create orders --partitions 6 --config retention.ms=86400000
  echo hello | odradek topic produce orders
  odradek topic consume orders --from earliest --count 1")]
pub(crate) enum Command {
    /// Name the topics
    List(List),
    /// Show a topic's partitions: leaders and offsets
    Describe(Describe),
    /// Make topics
    Create(Create),
    /// Give a topic more partitions or other settings
    Alter(alter::Alter),
    /// Let go of records before an offset
    Trim(alter::Trim),
    /// Remove topics, and all that is in them
    Delete(Delete),
    /// Send lines of stdin, a record each
    Produce(produce::Produce),
    /// Print records
    Consume(consume::Consume),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    broker: Broker,
    /// Kafka's own topics, too
    #[arg(long)]
    internal: bool,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Describe {
    #[command(flatten)]
    broker: Broker,
    /// The topic
    #[arg(value_name = "TOPIC")]
    topic: String,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  odradek topic create orders --partitions 3
  odradek topic create users --config cleanup.policy=compact
  odradek topic create one two three --bootstrap-server kafka-1:9092")]
pub(crate) struct Create {
    #[command(flatten)]
    broker: Broker,
    /// The topics
    #[arg(value_name = "TOPIC", required = true)]
    topics: Vec<String>,
    /// How many partitions [default: the broker's]
    #[arg(long, value_name = "N", default_value_t = -1, hide_default_value = true)]
    partitions: i32,
    /// How many replicas of each [default: the broker's]
    #[arg(long, value_name = "N", default_value_t = -1, hide_default_value = true)]
    replication_factor: i16,
    /// A setting by Kafka's name; repeatable
    #[arg(long = "config", value_name = "NAME=VALUE")]
    configs: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    broker: Broker,
    /// The topics
    #[arg(value_name = "TOPIC", required = true)]
    topics: Vec<String>,
}

/// Runs the command; the error is for people, in one line.
pub(crate) fn run(command: Command) -> Result<(), String> {
    match command {
        Command::List(options) => list(&options),
        Command::Describe(options) => describe(options),
        Command::Create(options) => create(options),
        Command::Alter(options) => alter::alter(options),
        Command::Trim(options) => alter::trim(options),
        Command::Delete(options) => delete(options),
        Command::Produce(options) => produce::run(options),
        Command::Consume(options) => consume::run(options),
    }
}

fn list(options: &List) -> Result<(), String> {
    let internal = options.internal;
    let topics = alone::on_cluster(&options.broker, async move |_, cluster| {
        Ok(cluster.any().await?.metadata(None, AutoCreate::Never).await?.topics)
    })?;
    let mut shown: Vec<Topic> =
        topics.into_iter().filter(|topic| internal || !topic.is_internal).collect();
    shown.sort_by(|one, other| one.name.cmp(&other.name));
    let mut table = Table::new(&["topic", "partitions"]);
    for topic in shown {
        table.push([topic.name.into(), topic.leaders.len().into()]);
    }
    alone::print(&table.render(options.format))
}

fn describe(options: Describe) -> Result<(), String> {
    let (topic, format) = (options.topic, options.format);
    let table = alone::on_cluster(&options.broker, async move |_, cluster| {
        let leaders = leaders_of(&cluster, &topic).await?;
        let mut table =
            Table::new(&["partition", "leader", "start_offset", "end_offset", "records"]);
        for (partition, leader) in (0..).zip(leaders) {
            if leader < 0 {
                let none = Value::Null;
                table.push([partition.into(), none.clone(), none.clone(), none.clone(), none]);
                continue;
            }
            let (start, end) = ends(&cluster, &topic, partition).await?;
            let records = end.0 - start.0;
            let row = [partition.into(), leader.into(), start.0.into(), end.0.into()];
            let [partition, leader, from, to] = row;
            table.push([partition, leader, from, to, records.into()]);
        }
        Ok(table)
    })?;
    alone::print(&table.render(format))
}

/// The leader of each partition.
///
/// # Errors
/// The connection's, and the topic's.
pub(crate) async fn leaders_of(cluster: &Cluster, topic: &str) -> client::Result<Vec<i32>> {
    let metadata = cluster.refresh(&[topic], AutoCreate::Never).await?;
    let found = metadata.topics.into_iter().next().ok_or(Error::Nonsense("no topic"))?;
    Error::check(found.error_code.code())?;
    Ok(found.leaders)
}

/// The first offset that is there, and the one after the last.
///
/// # Errors
/// The connection's, and the leader's.
pub(crate) async fn ends(
    cluster: &Cluster,
    topic: &str,
    partition: i32,
) -> client::Result<(Offset, Offset)> {
    let leader = cluster.leader(topic, partition).await?;
    let start = leader.list_offset(topic, partition, OffsetSpec::Earliest).await?;
    let end = leader.list_offset(topic, partition, OffsetSpec::Latest).await?;
    Ok((start.unwrap_or(Offset::ZERO), end.unwrap_or(Offset::ZERO)))
}

fn create(options: Create) -> Result<(), String> {
    let configs = alone::names_and_values(&options.configs)?;
    let (partition_count, replication_factor) = (options.partitions, options.replication_factor);
    let topics = options.topics;
    for_each(&options.broker, topics, "created", async move |cluster: &Cluster, name: &str| {
        let configs: Vec<(&str, &str)> =
            configs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let new = NewTopic { name, partition_count, replication_factor, configs: &configs };
        cluster.any().await?.create_topic(&new, PATIENCE).await
    })
}

fn delete(options: Delete) -> Result<(), String> {
    for_each(&options.broker, options.topics, "deleted", async |cluster: &Cluster, name: &str| {
        cluster.any().await?.delete_topic(name, PATIENCE).await
    })
}

/// Does something to each topic and says so; goes on behind one that fails, and then fails.
fn for_each(
    broker: &Broker,
    topics: Vec<String>,
    done: &'static str,
    act: impl AsyncFn(&Cluster, &str) -> client::Result<()> + 'static,
) -> Result<(), String> {
    let failed = alone::on_cluster(broker, async move |_, cluster| {
        let mut failed = Vec::new();
        for topic in &topics {
            match act(&cluster, topic).await {
                Ok(()) => alone::print(&format!("{done} {topic}\n")).unwrap_or_default(),
                // Nobody was asked, about no topic.
                Err(error) if failed.is_empty() && error.is_of_connection() => return Err(error),
                Err(error) => failed.push(format!("{topic}: {error}")),
            }
        }
        Ok(failed)
    })?;
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
}
