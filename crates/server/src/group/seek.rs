//! `odradek group seek` and `odradek group delete`: where a group that nobody is in goes on, and
//! that it is forgotten.

use std::collections::BTreeSet;

use clap::Args;
use client::{
    AutoCreate, Cluster, CommittedOffset, CommittedOffsets, Connection, Error, OffsetSpec,
};
use model::{ErrorCode, Offset};
use runtime::Runtime;
use serde_json::Value;
use wire::delete_groups_request::DeleteGroupsRequest;

use crate::{
    alone::{self, Broker},
    offset_choice::OffsetChoice,
    table::{Format, Table},
    topic,
};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  odradek group seek billing --to earliest
  odradek group seek billing --topic orders --to @1767225600000 --execute
  odradek group seek billing --topic orders --partition 0 --to 42 --execute

Without --execute nothing is changed: it shows what would be.")]
pub(crate) struct Seek {
    #[command(flatten)]
    broker: Broker,
    /// The group; nobody may be in it
    #[arg(value_name = "GROUP")]
    group: String,
    /// In this topic [default: all in which the group has committed]
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// In this partition alone
    #[arg(long, value_name = "N", requires = "topic")]
    partition: Option<i32>,
    /// Where it goes on: earliest, latest, an offset, or @MILLISECONDS since 1970
    #[arg(long, value_name = "WHERE", value_parser = OffsetChoice::parse)]
    to: OffsetChoice,
    /// Do it
    #[arg(long)]
    execute: bool,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    broker: Broker,
    /// The groups; nobody may be in them
    #[arg(value_name = "GROUP", required = true)]
    groups: Vec<String>,
}

pub(super) fn seek(options: Seek) -> Result<(), String> {
    let Seek { broker, group, topic, partition, to, execute, format } = options;
    let table = alone::on_cluster(&broker, async move |runtime, cluster| {
        let committed = Box::pin(committed(&runtime, &cluster, &group)).await?;
        let partitions = match topic {
            None => committed.keys().cloned().collect(),
            Some(topic) => partitions_of(&cluster, topic, partition).await?,
        };
        let topics: BTreeSet<&str> = partitions.iter().map(|(topic, _)| topic.as_str()).collect();
        let topics: Vec<&str> = topics.into_iter().collect();
        if !topics.is_empty() {
            cluster.refresh(&topics, AutoCreate::Never).await?;
        }
        let mut table = Table::new(&["topic", "partition", "committed_offset", "new_offset"]);
        let mut wanted = CommittedOffsets::new();
        for (topic, partition) in partitions {
            let offset = Box::pin(find(&cluster, &topic, partition, to)).await?;
            let place = (topic.clone(), partition);
            let before = committed.get(&place).map_or(Value::Null, |one| one.offset.0.into());
            table.push([topic.into(), partition.into(), before, offset.0.into()]);
            wanted.insert(place, CommittedOffset { offset, metadata: String::new() });
        }
        if execute && !wanted.is_empty() {
            let done = alone::coordinated(&runtime, async || {
                let coordinator = Box::pin(coordinator_of(&cluster, &group)).await?;
                Box::pin(coordinator.commit_offsets(&group, "", -1, &wanted)).await
            });
            match Box::pin(done).await {
                // What a group with members says to who is none of them.
                Err(Error::Refused(ErrorCode::UnknownMemberId)) => {
                    return Ok(Err(format!("{group}: it has members; stop them first")));
                }
                committed => committed?,
            }
        }
        Ok(Ok(table))
    })??;
    alone::print(&table.render(format))?;
    if !execute {
        note("nothing was changed; --execute does it");
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "stdout is the table's")]
fn note(text: &str) {
    eprintln!("{text}");
}

/// What the group has committed.
///
/// # Errors
/// The connection's or the coordinator's.
pub(super) async fn committed(
    runtime: &Runtime,
    cluster: &Cluster,
    group: &str,
) -> client::Result<CommittedOffsets> {
    let asked = alone::coordinated(runtime, async || {
        let coordinator = Box::pin(coordinator_of(cluster, group)).await?;
        Box::pin(coordinator.committed_offsets(group, None)).await
    });
    Box::pin(asked).await
}

/// The broker that coordinates the group.
///
/// # Errors
/// The connections', and the broker's that is asked.
pub(crate) async fn coordinator_of(cluster: &Cluster, group: &str) -> client::Result<Connection> {
    let (coordinator, ..) = cluster.any().await?.find_coordinator(group).await?;
    cluster.refresh(&[], AutoCreate::Never).await?;
    Box::pin(cluster.broker(coordinator)).await
}

async fn partitions_of(
    cluster: &Cluster,
    topic: String,
    partition: Option<i32>,
) -> client::Result<BTreeSet<(String, i32)>> {
    let leaders = topic::leaders_of(cluster, &topic).await?;
    let all = 0..i32::try_from(leaders.len()).map_err(|_| Error::Nonsense("too many"))?;
    if partition.is_some_and(|partition| !all.contains(&partition)) {
        return Err(Error::Refused(ErrorCode::UnknownTopicOrPartition));
    }
    let wanted = partition.map_or_else(|| all.collect::<Vec<i32>>(), |one| vec![one]);
    Ok(wanted.into_iter().map(|partition| (topic.clone(), partition)).collect())
}

/// The offset, within what the partition has: a later time than any record's is its end.
async fn find(
    cluster: &Cluster,
    topic: &str,
    partition: i32,
    to: OffsetChoice,
) -> client::Result<Offset> {
    let leader = cluster.leader(topic, partition).await?;
    let asked = async |spec| leader.list_offset(topic, partition, spec).await;
    let start = asked(OffsetSpec::Earliest).await?.unwrap_or(Offset::ZERO);
    let end = asked(OffsetSpec::Latest).await?.unwrap_or(start);
    let found = match to {
        OffsetChoice::At(offset) => Some(offset),
        OffsetChoice::Spec(spec) => asked(spec).await?,
    };
    Ok(found.unwrap_or(end).clamp(start, end.max(start)))
}

pub(super) fn delete(options: Delete) -> Result<(), String> {
    let Delete { broker, groups } = options;
    let failed = alone::on_cluster(&broker, async move |runtime, cluster| {
        let mut failed = Vec::new();
        for group in &groups {
            let done = alone::coordinated(&runtime, async || forget(&cluster, group).await);
            match Box::pin(done).await? {
                Ok(()) => alone::print(&format!("deleted {group}\n")).unwrap_or_default(),
                Err(refusal) => failed.push(format!("{group}: {refusal}")),
            }
        }
        Ok(failed)
    })?;
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
}

async fn forget(cluster: &Cluster, group: &str) -> client::Result<Result<(), String>> {
    let coordinator = Box::pin(coordinator_of(cluster, group)).await?;
    let answer = coordinator.call(&DeleteGroupsRequest { groups_names: vec![group] }).await?;
    let response = answer.decode()?;
    let result = response.results.first().ok_or(Error::Nonsense("no group"))?;
    alone::judge_coordinator(result.error_code, result.error_message)
}
