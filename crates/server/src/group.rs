//! `odradek group`: consumer groups of any Kafka cluster, and how far behind they are.

mod seek;

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use client::{AutoCreate, OffsetSpec};
use model::{ErrorCode, Offset};
use serde_json::Value;

use crate::{
    alone::{self, Broker},
    table::{Format, Table},
};

#[derive(Debug, Subcommand)]
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
    let mut groups = alone::on_cluster(&options.broker, async |runtime, cluster| {
        let metadata = cluster.refresh(&[], AutoCreate::Never).await?;
        let mut groups = Vec::new();
        for broker in metadata.brokers {
            let asked = alone::coordinated(&runtime, async || {
                Box::pin(cluster.broker(broker.node_id)).await?.list_groups().await
            });
            groups.extend(Box::pin(asked).await?);
        }
        Ok(groups)
    })?;
    groups.sort_by(|one, other| one.group_id.cmp(&other.group_id));
    let mut table = Table::new(&["group", "state", "type"]);
    for group in groups {
        table.push([group.group_id.into(), group.state.into(), group.group_type.into()]);
    }
    alone::print(&table.render(options.format))
}

fn describe(options: Describe) -> Result<(), String> {
    let (group, format) = (options.group, options.format);
    let table = alone::on_cluster(&options.broker, async move |runtime, cluster| {
        let committed = Box::pin(seek::committed(&runtime, &cluster, &group)).await?;
        let topics: BTreeSet<&str> = committed.keys().map(|(topic, _)| topic.as_str()).collect();
        let topics: Vec<&str> = topics.into_iter().collect();
        if !topics.is_empty() {
            cluster.refresh(&topics, AutoCreate::Never).await?;
        }
        let columns = &["topic", "partition", "committed_offset", "end_offset", "lag"];
        let mut table = Table::new(columns);
        for ((topic, partition), committed) in &committed {
            let end = match Box::pin(cluster.leader(topic, *partition)).await {
                Ok(leader) => leader.list_offset(topic, *partition, OffsetSpec::Latest).await?,
                // A topic that is gone, or a partition without a leader.
                Err(client::Error::Refused(ErrorCode::LeaderNotAvailable)) => None,
                Err(error) => return Err(error),
            };
            let lag = end.map(|end| (end.0 - committed.offset.0).max(0));
            let number = |offset: Option<Offset>| offset.map_or(Value::Null, |one| one.0.into());
            table.push([
                topic.as_str().into(),
                (*partition).into(),
                committed.offset.0.into(),
                number(end),
                lag.map_or(Value::Null, Value::from),
            ]);
        }
        Ok(table)
    })?;
    alone::print(&table.render(format))
}
