//! Transactions that are open in a partition's log while no coordinator has them: readers of what
//! is committed wait for their ends for ever (KIP-664).

use std::{collections::BTreeMap, time::Duration};

use clap::Args;
use client::{AutoCreate, Cluster, Error};
use wire::{
    describe_producers_response::ProducerState,
    write_txn_markers_request::{
        WritableTxnMarker, WritableTxnMarkerTopic, WriteTxnMarkersRequest,
    },
};

use super::{listed, producers_of, transaction};
use crate::{
    alone::{self, Broker},
    table::{Format, Table},
};

/// No transaction may last longer, unless `transaction.max.timeout.ms` says so; Kafka's default.
const MINUTES_DEFAULT: u64 = 15;

#[derive(Debug, Args)]
pub(crate) struct FindHanging {
    #[command(flatten)]
    broker: Broker,
    /// In this topic [default: all]
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// How long a transaction may last: the cluster's transaction.max.timeout.ms
    #[arg(long, value_name = "MINUTES", default_value_t = MINUTES_DEFAULT)]
    minutes: u64,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Abort {
    #[command(flatten)]
    broker: Broker,
    /// The topic
    #[arg(value_name = "TOPIC")]
    topic: String,
    /// The partition
    #[arg(long, value_name = "N")]
    partition: i32,
    /// Where the transaction begins there, as find-hanging tells
    #[arg(long, value_name = "OFFSET")]
    start_offset: i64,
}

/// A transaction that is open in a partition for longer than it may be.
struct Open {
    topic: String,
    partition: i32,
    producer_id: i64,
    producer_epoch: i32,
    start_offset: i64,
    last_timestamp: i64,
}

pub(super) fn find(options: FindHanging) -> Result<(), String> {
    let FindHanging { broker, topic, minutes, format } = options;
    let hanging = alone::on_cluster(&broker, async move |runtime, cluster| {
        let age = Duration::from_secs(minutes.saturating_mul(60)).as_millis();
        let age = i64::try_from(age).unwrap_or(i64::MAX);
        let before = runtime.wall_clock_ms().saturating_sub(age);
        let mut hanging = Vec::new();
        let candidates = Box::pin(open_before(&cluster, topic.as_deref(), before)).await?;
        let ids: Vec<i64> = candidates.iter().map(|one| one.producer_id).collect();
        let known: BTreeMap<i64, String> = match ids.is_empty() {
            true => BTreeMap::new(),
            false => {
                let listed = Box::pin(listed(&cluster, -1, &ids)).await?;
                listed.into_iter().map(|one| (one.producer_id, one.transactional_id)).collect()
            }
        };
        for one in candidates {
            let transaction = match known.get(&one.producer_id) {
                None => None,
                Some(id) => Box::pin(transaction(&cluster, id)).await?,
            };
            // The coordinator that has this partition in a transaction will end it there.
            let is_known = transaction.is_some_and(|known| {
                known.producer_id == one.producer_id
                    && known.partitions.contains(&(one.topic.clone(), one.partition))
            });
            if !is_known {
                hanging.push(one);
            }
        }
        Ok(hanging)
    })?;
    let mut table = Table::new(&[
        "topic",
        "partition",
        "producer_id",
        "producer_epoch",
        "start_offset",
        "last_timestamp_ms",
    ]);
    for one in hanging {
        table.push([
            one.topic.into(),
            one.partition.into(),
            one.producer_id.into(),
            one.producer_epoch.into(),
            one.start_offset.into(),
            one.last_timestamp.into(),
        ]);
    }
    alone::print(&table.render(format))
}

async fn open_before(
    cluster: &Cluster,
    topic: Option<&str>,
    before: i64,
) -> client::Result<Vec<Open>> {
    let topics = match topic {
        Some(topic) => vec![topic.to_owned()],
        None => {
            let all = cluster.any().await?.metadata(None, AutoCreate::Never).await?.topics;
            all.into_iter().map(|topic| topic.name).collect()
        }
    };
    let mut open = Vec::new();
    for topic in topics {
        let leaders = crate::topic::leaders_of(cluster, &topic).await?;
        for (partition, _) in (0..).zip(leaders).filter(|(_, leader)| *leader >= 0) {
            let leader = Box::pin(cluster.leader(&topic, partition)).await?;
            for one in producers_of(&leader, &topic, partition).await? {
                if one.current_txn_start_offset >= 0 && one.last_timestamp <= before {
                    open.push(Open {
                        topic: topic.clone(),
                        partition,
                        producer_id: one.producer_id,
                        producer_epoch: one.producer_epoch,
                        start_offset: one.current_txn_start_offset,
                        last_timestamp: one.last_timestamp,
                    });
                }
            }
        }
    }
    Ok(open)
}

pub(super) fn abort(options: Abort) -> Result<(), String> {
    let Abort { broker, topic, partition, start_offset } = options;
    let done = format!("aborted the transaction at {start_offset} of {topic}-{partition}\n");
    alone::on_cluster(&broker, async move |_, cluster| {
        cluster.refresh(&[&topic], AutoCreate::Never).await?;
        let leader = Box::pin(cluster.leader(&topic, partition)).await?;
        let producers = producers_of(&leader, &topic, partition).await?;
        let begins_there = |one: &&ProducerState| one.current_txn_start_offset == start_offset;
        let Some(found) = producers.iter().find(begins_there).filter(|_| start_offset >= 0) else {
            return Ok(Err(format!(
                "no transaction begins at {start_offset} of {topic}-{partition}"
            )));
        };
        let epoch = i16::try_from(found.producer_epoch).map_err(|_| Error::Nonsense("an epoch"))?;
        let request = WriteTxnMarkersRequest {
            markers: vec![WritableTxnMarker {
                producer_id: found.producer_id,
                producer_epoch: epoch,
                transaction_result: false,
                topics: vec![WritableTxnMarkerTopic {
                    name: &topic,
                    partition_indexes: vec![partition],
                }],
                // One that has written no marker yet has no epoch of a coordinator.
                coordinator_epoch: found.coordinator_epoch.max(0),
                ..Default::default()
            }],
        };
        let answer = leader.call(&request).await?;
        let response = answer.decode()?;
        let topics = response.markers.iter().flat_map(|marker| &marker.topics);
        let mut partitions = topics.flat_map(|topic| &topic.partitions);
        let result = partitions.next().ok_or(Error::Nonsense("no partition"))?;
        Error::check(result.error_code)?;
        Ok(Ok(()))
    })??;
    alone::print(&done)
}
