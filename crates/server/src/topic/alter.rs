//! `odradek topic alter` and `odradek topic trim`: more partitions, other settings, and records
//! that are let go before their time.

use std::time::Duration;

use clap::Args;
use client::{Error, OffsetSpec};
use model::{ErrorCode, Offset};
use wire::{
    create_partitions_request::{CreatePartitionsRequest, CreatePartitionsTopic},
    delete_records_request::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic},
};

use super::{PATIENCE, leaders_of};
use crate::{
    alone::{self, Broker},
    config::{self, Change},
    offset_choice::OffsetChoice,
    table::{Format, Table},
};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  odradek topic alter orders --partitions 12
  odradek topic alter orders --config retention.ms=86400000 --delete-config cleanup.policy")]
pub(crate) struct Alter {
    #[command(flatten)]
    broker: Broker,
    /// The topic
    #[arg(value_name = "TOPIC")]
    topic: String,
    /// How many partitions it shall have: more than now
    #[arg(long, value_name = "N")]
    partitions: Option<i32>,
    /// A setting by Kafka's name; repeatable
    #[arg(long = "config", value_name = "NAME=VALUE")]
    configs: Vec<String>,
    /// A setting that is taken back to its default; repeatable
    #[arg(long = "delete-config", value_name = "NAME")]
    deleted: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  odradek topic trim orders --before 1000 --partition 0
  odradek topic trim orders --before latest")]
pub(crate) struct Trim {
    #[command(flatten)]
    broker: Broker,
    /// The topic
    #[arg(value_name = "TOPIC")]
    topic: String,
    /// Of this partition alone
    #[arg(long, value_name = "N")]
    partition: Option<i32>,
    /// Let go of all records before this: latest, an offset, or @MILLISECONDS since 1970
    #[arg(long, value_name = "WHERE", value_parser = OffsetChoice::parse)]
    before: OffsetChoice,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

pub(super) fn alter(options: Alter) -> Result<(), String> {
    let Alter { broker, topic, partitions, configs, deleted } = options;
    let set = alone::names_and_values(&configs)?;
    let set = set.into_iter().map(|(name, value)| Change::Set(name, value));
    let changes: Vec<Change> = set.chain(deleted.into_iter().map(Change::Delete)).collect();
    if changes.is_empty() && partitions.is_none() {
        return Err("nothing to alter: --partitions, --config or --delete-config".to_owned());
    }
    let done = format!("altered {topic}\n");
    alone::on_cluster(&broker, async move |_, cluster| {
        let connection = cluster.any().await?;
        if !changes.is_empty() {
            let altered = config::alter_topic(&connection, &topic, &changes).await?;
            if altered.is_err() {
                return Ok(altered);
            }
        }
        let Some(count) = partitions else { return Ok(Ok(())) };
        let request = CreatePartitionsRequest {
            topics: vec![CreatePartitionsTopic { name: &topic, count, assignments: None }],
            timeout_ms: patience_ms(),
            validate_only: false,
        };
        let answer = connection.call(&request).await?;
        let response = answer.decode()?;
        let result = response.results.first().ok_or(Error::Nonsense("no topic"))?;
        Ok(alone::judge(result.error_code, result.error_message))
    })??;
    alone::print(&done)
}

pub(super) fn trim(options: Trim) -> Result<(), String> {
    let Trim { broker, topic, partition, before, format } = options;
    if matches!(before, OffsetChoice::At(_)) && partition.is_none() {
        return Err("an offset is one of a partition: name it with --partition".to_owned());
    }
    let table = alone::on_cluster(&broker, async move |_, cluster| {
        let leaders = leaders_of(&cluster, &topic).await?;
        let all = 0..i32::try_from(leaders.len()).map_err(|_| Error::Nonsense("too many"))?;
        if partition.is_some_and(|partition| !all.contains(&partition)) {
            return Err(Error::Refused(ErrorCode::UnknownTopicOrPartition));
        }
        let mut table = Table::new(&["partition", "start_offset_before", "start_offset"]);
        for partition in partition.map_or_else(|| all.collect(), |one| vec![one]) {
            let leader = Box::pin(cluster.leader(&topic, partition)).await?;
            let asked = async |spec| leader.list_offset(&topic, partition, spec).await;
            let start = asked(OffsetSpec::Earliest).await?.unwrap_or(Offset::ZERO);
            let before = match before {
                OffsetChoice::At(offset) => Some(offset),
                OffsetChoice::Spec(spec) => asked(spec).await?,
            };
            // With no record as late as that, all are earlier.
            let before = match before {
                Some(before) => before,
                None => asked(OffsetSpec::Latest).await?.unwrap_or(Offset::ZERO),
            };
            let request = DeleteRecordsRequest {
                topics: vec![DeleteRecordsTopic {
                    name: &topic,
                    partitions: vec![DeleteRecordsPartition {
                        partition_index: partition,
                        offset: before.0,
                    }],
                }],
                timeout_ms: patience_ms(),
            };
            let answer = leader.call(&request).await?;
            let response = answer.decode()?;
            let mut results = response.topics.iter().flat_map(|topic| &topic.partitions);
            let result = results.next().ok_or(Error::Nonsense("no partition"))?;
            Error::check(result.error_code)?;
            table.push([partition.into(), start.0.into(), result.low_watermark.into()]);
        }
        Ok(table)
    })?;
    alone::print(&table.render(format))
}

fn patience_ms() -> i32 {
    i32::try_from(Duration::as_millis(&PATIENCE)).unwrap_or(i32::MAX)
}
