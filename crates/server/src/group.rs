//! `odradek group`: consumer groups of any Kafka cluster, and how far behind they are.

pub(crate) mod seek;

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use client::{AutoCreate, Cluster, ListedGroup, OffsetSpec};
use model::{ErrorCode, Offset};
use runtime::Runtime;
use serde_json::Value;

use crate::{
    alone::{self, Broker},
    table::{Format, Table},
};

#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  odradek group list
  odradek group describe billing --format json
  odradek group seek billing --to earliest --execute
  odradek group delete billing")]
pub(crate) enum Command {
    /// Name the groups
    List(List),
    /// Show what a group has committed, and how far it is behind
    Describe(Describe),
    /// Say where a group goes on; without --execute only show it
    Seek(seek::Seek),
    /// Forget groups, and what they have committed
    Delete(seek::Delete),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    broker: Broker,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Describe {
    #[command(flatten)]
    broker: Broker,
    /// The group
    #[arg(value_name = "GROUP")]
    group: String,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command; the error is for people, in one line.
pub(crate) fn run(command: Command) -> Result<(), String> {
    match command {
        Command::List(options) => list(&options),
        Command::Describe(options) => describe(options),
        Command::Seek(options) => seek::seek(options),
        Command::Delete(options) => seek::delete(options),
    }
}

fn list(options: &List) -> Result<(), String> {
    let groups =
        alone::on_cluster(&options.broker, async |runtime, cluster| all(&runtime, &cluster).await)?;
    let mut table = Table::new(&["group", "state", "type"]);
    for group in groups {
        table.push([group.group_id.into(), group.state.into(), group.group_type.into()]);
    }
    alone::print(&table.render(options.format))
}

/// The groups of all coordinators, by name.
///
/// # Errors
/// The connections', and the brokers'.
pub(crate) async fn all(runtime: &Runtime, cluster: &Cluster) -> client::Result<Vec<ListedGroup>> {
    let metadata = cluster.refresh(&[], AutoCreate::Never).await?;
    let mut groups = Vec::new();
    for broker in metadata.brokers {
        let asked = alone::coordinated(runtime, async || {
            Box::pin(cluster.broker(broker.node_id)).await?.list_groups().await
        });
        groups.extend(Box::pin(asked).await?);
    }
    groups.sort_by(|one, other| one.group_id.cmp(&other.group_id));
    Ok(groups)
}

fn describe(options: Describe) -> Result<(), String> {
    let (group, format) = (options.group, options.format);
    let table = alone::on_cluster(&options.broker, async move |runtime, cluster| {
        let columns = &["topic", "partition", "committed_offset", "end_offset", "lag"];
        let mut table = Table::new(columns);
        for Standing { topic, partition, committed, end } in
            standing(&runtime, &cluster, &group).await?
        {
            let lag = end.map(|end| (end.0 - committed.0).max(0));
            table.push([
                topic.into(),
                partition.into(),
                committed.0.into(),
                end.map_or(Value::Null, |end| end.0.into()),
                lag.map_or(Value::Null, Value::from),
            ]);
        }
        Ok(table)
    })?;
    alone::print(&table.render(format))
}

/// How far a group is in a partition.
pub(crate) struct Standing {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) committed: Offset,
    /// `None` for a topic that is gone, or a partition without a leader.
    pub(crate) end: Option<Offset>,
}

/// Where a group stands in all that it has committed.
///
/// # Errors
/// The connections', and the coordinator's.
pub(crate) async fn standing(
    runtime: &Runtime,
    cluster: &Cluster,
    group: &str,
) -> client::Result<Vec<Standing>> {
    let committed = Box::pin(seek::committed(runtime, cluster, group)).await?;
    let topics: BTreeSet<&str> = committed.keys().map(|(topic, _)| topic.as_str()).collect();
    let topics: Vec<&str> = topics.into_iter().collect();
    if !topics.is_empty() {
        cluster.refresh(&topics, AutoCreate::Never).await?;
    }
    let mut standing = Vec::new();
    for ((topic, partition), committed) in committed {
        let end = match Box::pin(cluster.leader(&topic, partition)).await {
            Ok(leader) => leader.list_offset(&topic, partition, OffsetSpec::Latest).await?,
            Err(client::Error::Refused(ErrorCode::LeaderNotAvailable)) => None,
            Err(error) => return Err(error),
        };
        standing.push(Standing { topic, partition, committed: committed.offset, end });
    }
    Ok(standing)
}
