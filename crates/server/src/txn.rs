//! `odradek txn`: transactions of any Kafka cluster, and those that nobody will end.

mod hanging;

use clap::{Args, Subcommand};
use client::{AutoCreate, Cluster, Connection, Error};
use model::ErrorCode;
use serde_json::Value;
use wire::{
    describe_producers_request::{DescribeProducersRequest, TopicRequest},
    describe_producers_response::ProducerState,
    describe_transactions_request::DescribeTransactionsRequest,
    list_transactions_request::ListTransactionsRequest,
};

use crate::{
    alone::{self, Broker},
    table::{Format, Table},
};

#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  odradek txn list
  odradek txn describe billing-1
  odradek txn find-hanging --topic orders
  odradek txn abort orders --partition 0 --start-offset 42")]
pub(crate) enum Command {
    /// Name the transactional ids and their states
    List(List),
    /// Show the transaction of a transactional id
    Describe(Describe),
    /// Show the producers that a partition knows
    Producers(Producers),
    /// Find transactions that are open in a partition and that no coordinator will end
    FindHanging(hanging::FindHanging),
    /// Abort such a transaction
    Abort(hanging::Abort),
}

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    broker: Broker,
    /// Only those that run for longer than this
    #[arg(long, value_name = "MS", default_value_t = -1, hide_default_value = true)]
    longer_than_ms: i64,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Describe {
    #[command(flatten)]
    broker: Broker,
    /// Its transactional id
    #[arg(value_name = "TRANSACTIONAL_ID")]
    transactional_id: String,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct Producers {
    #[command(flatten)]
    broker: Broker,
    /// The topic
    #[arg(value_name = "TOPIC")]
    topic: String,
    /// The partition
    #[arg(long, value_name = "N")]
    partition: i32,
    /// For people or for programs
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Runs the command; the error is for people, in one line.
pub(crate) fn run(command: Command) -> Result<(), String> {
    match command {
        Command::List(options) => list(&options),
        Command::Describe(options) => describe(options),
        Command::Producers(options) => producers(options),
        Command::FindHanging(options) => hanging::find(options),
        Command::Abort(options) => hanging::abort(options),
    }
}

/// A transactional id as its coordinator lists it.
struct Listed {
    coordinator: i32,
    transactional_id: String,
    producer_id: i64,
    state: String,
}

async fn listed(
    cluster: &Cluster,
    longer_than_ms: i64,
    producer_ids: &[i64],
) -> client::Result<Vec<Listed>> {
    let brokers = cluster.refresh(&[], AutoCreate::Never).await?.brokers;
    let mut all = Vec::new();
    for broker in brokers {
        let connection = Box::pin(cluster.broker(broker.node_id)).await?;
        let request = ListTransactionsRequest {
            producer_id_filters: producer_ids.to_vec(),
            duration_filter: longer_than_ms,
            ..Default::default()
        };
        let answer = connection.call(&request).await?;
        let response = answer.decode()?;
        Error::check(response.error_code)?;
        all.extend(response.transaction_states.iter().map(|one| Listed {
            coordinator: broker.node_id,
            transactional_id: one.transactional_id.to_owned(),
            producer_id: one.producer_id,
            state: one.transaction_state.to_owned(),
        }));
    }
    all.sort_by(|one, other| one.transactional_id.cmp(&other.transactional_id));
    Ok(all)
}

fn list(options: &List) -> Result<(), String> {
    let longer_than_ms = options.longer_than_ms;
    let all = alone::on_cluster(&options.broker, async move |runtime, cluster| {
        let asked = async || Box::pin(listed(&cluster, longer_than_ms, &[])).await;
        Box::pin(alone::coordinated(&runtime, asked)).await
    })?;
    let mut table = Table::new(&["transactional_id", "coordinator", "producer_id", "state"]);
    for one in all {
        let Listed { coordinator, transactional_id, producer_id, state } = one;
        table.push([transactional_id.into(), coordinator.into(), producer_id.into(), state.into()]);
    }
    alone::print(&table.render(options.format))
}

/// A transaction as its coordinator has it.
struct Transaction {
    coordinator: i32,
    state: String,
    producer_id: i64,
    producer_epoch: i16,
    timeout_ms: i32,
    /// Of an ongoing one.
    started_ms: Option<i64>,
    partitions: Vec<(String, i32)>,
}

async fn transaction(
    cluster: &Cluster,
    transactional_id: &str,
) -> client::Result<Option<Transaction>> {
    let any = cluster.any().await?;
    let (coordinator, ..) = Box::pin(any.find_transaction_coordinator(transactional_id)).await?;
    cluster.refresh(&[], AutoCreate::Never).await?;
    let connection = Box::pin(cluster.broker(coordinator)).await?;
    let request = DescribeTransactionsRequest { transactional_ids: vec![transactional_id] };
    let answer = connection.call(&request).await?;
    let response = answer.decode()?;
    let found = response.transaction_states.first().ok_or(Error::Nonsense("no transaction"))?;
    if found.error_code == ErrorCode::TransactionalIdNotFound.code() {
        return Ok(None);
    }
    Error::check(found.error_code)?;
    let partitions = found.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| (topic.topic.to_owned(), *partition))
    });
    Ok(Some(Transaction {
        coordinator,
        state: found.transaction_state.to_owned(),
        producer_id: found.producer_id,
        producer_epoch: found.producer_epoch,
        timeout_ms: found.transaction_timeout_ms,
        started_ms: Some(found.transaction_start_time_ms).filter(|at| *at >= 0),
        partitions: partitions.collect(),
    }))
}

fn describe(options: Describe) -> Result<(), String> {
    let Describe { broker, transactional_id, format } = options;
    let id = transactional_id.clone();
    let found = alone::on_cluster(&broker, async move |runtime, cluster| {
        let asked = async || Box::pin(transaction(&cluster, &transactional_id)).await;
        Box::pin(alone::coordinated(&runtime, asked)).await
    })?;
    let found = found.ok_or_else(|| format!("{id}: no coordinator knows this id"))?;
    let mut table = Table::new(&[
        "coordinator",
        "producer_id",
        "producer_epoch",
        "state",
        "timeout_ms",
        "started_ms",
        "partitions",
    ]);
    let partitions: Vec<String> =
        found.partitions.iter().map(|(topic, partition)| format!("{topic}-{partition}")).collect();
    table.push([
        found.coordinator.into(),
        found.producer_id.into(),
        found.producer_epoch.into(),
        found.state.into(),
        found.timeout_ms.into(),
        found.started_ms.map_or(Value::Null, Value::from),
        partitions.join(",").into(),
    ]);
    alone::print(&table.render(format))
}

/// The producers that the leader of a partition knows.
async fn producers_of(
    leader: &Connection,
    topic: &str,
    partition: i32,
) -> client::Result<Vec<ProducerState>> {
    let topics = vec![TopicRequest { name: topic, partition_indexes: vec![partition] }];
    let answer = leader.call(&DescribeProducersRequest { topics }).await?;
    let response = answer.decode()?;
    let mut partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    let found = partitions.next().ok_or(Error::Nonsense("no partition"))?;
    Error::check(found.error_code)?;
    Ok(found.active_producers.clone())
}

fn producers(options: Producers) -> Result<(), String> {
    let Producers { broker, topic, partition, format } = options;
    let mut found = alone::on_cluster(&broker, async move |_, cluster| {
        cluster.refresh(&[&topic], AutoCreate::Never).await?;
        let leader = Box::pin(cluster.leader(&topic, partition)).await?;
        producers_of(&leader, &topic, partition).await
    })?;
    found.sort_by_key(|one| one.producer_id);
    let mut table = Table::new(&[
        "producer_id",
        "producer_epoch",
        "coordinator_epoch",
        "last_sequence",
        "last_timestamp_ms",
        "transaction_start_offset",
    ]);
    let known = |number: i64| if number >= 0 { number.into() } else { Value::Null };
    for one in found {
        table.push([
            one.producer_id.into(),
            one.producer_epoch.into(),
            known(one.coordinator_epoch.into()),
            known(one.last_sequence.into()),
            known(one.last_timestamp),
            known(one.current_txn_start_offset),
        ]);
    }
    alone::print(&table.render(format))
}
