//! `odradek perf`: load for any Kafka broker, and what it measured.
//!
//! ```text
//!   flags, or a file of the OpenMessaging Benchmark   ->  Workload
//!   threads: producers and consumers, each with connections of its own
//!      |  counts of each second
//!   this thread: progress, Summary                    ->  text, JSON, SVG
//! ```
//! Latencies are told as their users see them: at a rate, from when a record was due.

mod chart;
mod consumer;
mod files;
mod open_messaging;
mod producer;
mod progress;
mod schedule;
mod summary;
mod tally;
mod threads;
mod worker;
mod workload;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU32, AtomicU64},
    time::Duration,
};

use clap::{Args, Subcommand};
use client::{AutoCreate, Cluster, FetchOptions, NewTopic};
use model::ErrorCode;

use self::{
    progress::Progress,
    summary::{About, Summary},
    worker::Run,
    workload::{
        Consumption, End, Idempotence, NewTopicOptions, Production, Role, Sending, Workload,
    },
};
use crate::alone::{self, Broker};

/// Values beyond this are no records.
const RECORD_BYTES_MAX: usize = 64 << 20;
/// How long a new topic may take until each partition has its leader.
const TOPIC_PATIENCE: Duration = Duration::from_secs(30);
/// How long a load without another end goes on.
const SECONDS_DEFAULT: u64 = 30;

#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  odradek perf produce --topic load --partitions 6 --batch-bytes 131072
  odradek perf end-to-end --topic load --rate 10000 --seconds 60 --chart load.svg
  odradek perf consume --topic load --bootstrap-server kafka-1:9092 --json load.json
  odradek perf workload 1-topic-16-partitions-1kb.yaml --seconds 30")]
pub(crate) enum Command {
    /// Write records, and time their acknowledgements
    Produce(Produce),
    /// Read everything that is there
    Consume(Consume),
    /// Write and read: how long a record takes from one client to the other
    EndToEnd(EndToEnd),
    /// The same, while others read everything from the beginning, over and over
    Mixed(Mixed),
    /// Run a workload file of the OpenMessaging Benchmark
    Workload(FromFile),
}

#[derive(Debug, Args)]
pub(crate) struct Common {
    #[command(flatten)]
    broker: Broker,
    /// Threads of the load [default: the number of cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    /// Write the results as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draw the results as SVG
    #[arg(long, value_name = "FILE.svg", value_parser = chart::file)]
    chart: Option<PathBuf>,
    /// Delete the topics afterwards
    #[arg(long)]
    delete_topics: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Topics {
    /// The topic; of several, the beginning of their names
    #[arg(long, value_name = "NAME", default_value = "perf")]
    topic: String,
    /// How many topics
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    topics: u32,
    /// Partitions of a topic that is not there yet
    #[arg(long, value_name = "N", default_value_t = 1)]
    partitions: i32,
    /// Replicas of a topic that is not there yet [default: the broker's]
    #[arg(long, value_name = "N", default_value_t = -1, hide_default_value = true)]
    replication_factor: i16,
    /// A setting of a topic that is not there yet, by Kafka's name; repeatable
    #[arg(long = "topic-config", value_name = "NAME=VALUE")]
    topic_configs: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Load {
    /// Producers of each topic
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    producers: u32,
    /// Records a second, all producers together [default: as fast as it goes]
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// Bytes of a record's value
    #[arg(long, value_name = "N", default_value_t = 1024)]
    record_bytes: usize,
    /// When a batch is answered: all, 1 or 0
    #[arg(long, value_name = "ACKS", default_value = "all")]
    acks: String,
    /// Bytes of a batch at most, as Kafka's `batch.size`
    #[arg(long, value_name = "N", default_value_t = 16384)]
    batch_bytes: usize,
    /// How long a batch waits to be full, as Kafka's `linger.ms`
    #[arg(long, value_name = "N", default_value_t = 5)]
    linger_ms: u64,
    /// Requests of a producer without an answer
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    in_flight: u32,
    /// Producers without ids: duplicates are not recognised
    #[arg(long)]
    no_idempotence: bool,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(long, value_name = "CODEC", default_value = "none")]
    compression: String,
    /// End when so many records are written
    #[arg(long, value_name = "N", conflicts_with = "seconds")]
    records: Option<u64>,
    #[command(flatten)]
    time: Time,
}

#[derive(Debug, Args)]
pub(crate) struct Time {
    /// How long it is measured [default: 30]
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// How long the load goes on before that
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    warm_up: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Readers {
    /// Consumers of each topic, which share its partitions
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    consumers: u32,
    /// How often everything is read: each subscription has its own consumers
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    subscriptions: u32,
    /// As Kafka's `fetch.min.bytes`
    #[arg(long, value_name = "N", default_value_t = 1)]
    fetch_min_bytes: i32,
    /// As Kafka's `fetch.max.wait.ms`
    #[arg(long, value_name = "N", default_value_t = 500)]
    fetch_max_wait_ms: u64,
    /// As Kafka's `max.partition.fetch.bytes`
    #[arg(long, value_name = "N", default_value_t = 1 << 20)]
    partition_fetch_bytes: i32,
}

/// Write records, and time their acknowledgements.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  odradek perf produce --topic load --partitions 6 --seconds 10 --delete-topics
  odradek perf produce --topic load --batch-bytes 131072 --producers 4 --compression lz4
  odradek perf produce --topic load --rate 1000 --record-bytes 100 --linger-ms 0")]
pub(crate) struct Produce {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    topics: Topics,
    #[command(flatten)]
    load: Load,
}

/// Read everything that is there.
#[derive(Debug, Args)]
pub(crate) struct Consume {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    topics: Topics,
    #[command(flatten)]
    readers: Readers,
}

/// Write and read at the same time.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  odradek perf end-to-end --topic load --rate 1000 --warm-up 5 --chart load.svg
  odradek perf end-to-end --topic load --partitions 6 --json load.json --delete-topics")]
pub(crate) struct EndToEnd {
    #[command(flatten)]
    produce: Produce,
    #[command(flatten)]
    readers: Readers,
}

/// Write, read, and catch up.
#[derive(Debug, Args)]
pub(crate) struct Mixed {
    #[command(flatten)]
    both: EndToEnd,
    /// Consumers of each topic that read it from the beginning, over and over
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    catch_up: u32,
}

/// A workload from a file.
#[derive(Debug, Args)]
pub(crate) struct FromFile {
    #[command(flatten)]
    common: Common,
    /// A workload of the OpenMessaging Benchmark
    #[arg(value_name = "WORKLOAD.yaml")]
    workload: PathBuf,
    /// How its clients behave: a driver file for Kafka
    #[arg(long, value_name = "DRIVER.yaml")]
    driver: Option<PathBuf>,
    /// How long it is measured, whatever the file says
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// How long the load goes on before that, whatever the file says
    #[arg(long, value_name = "SECONDS")]
    warm_up: Option<u64>,
}

/// Runs the command.
///
/// # Errors
/// One line for people: what could not be done, or that there were errors.
pub(crate) fn run(command: &Command) -> Result<(), String> {
    // Before any other thread exists, so that none is interrupted.
    let signals =
        runtime::block_signals().map_err(|error| format!("cannot hold signals back: {error}"))?;
    let common = command.common();
    let workload = command.workload()?;
    if let Some(reason) = workload.refusal() {
        return Err(reason.to_owned());
    }
    let bootstrap = common.broker.address()?;
    let threads = usize::from(common.threads.unwrap_or_else(crate::threads::core_count));
    let threads = threads.min(workload.actor_count());
    let topics = workload.topics.clone();
    make_topics(&common.broker, &workload)?;
    let about = About {
        workload: workload.name.clone(),
        broker: common.broker.name().to_owned(),
        settings: described(&workload),
        threads,
        warm_up: workload.warm_up,
    };
    let mut progress = Progress::new(&workload);
    let producers_left = AtomicU32::new(workload.producer_count());
    let run = Run {
        workload,
        bootstrap,
        run_id: threads::random(),
        over: AtomicBool::new(false),
        produced_bytes: AtomicU64::new(0),
        producers_left,
    };
    let counted = threads::execute(run, threads, signals, &mut progress);
    progress.end();
    let summary = Summary::new(about, counted?);
    if common.delete_topics {
        delete_topics(&common.broker, topics)?;
    }
    tell(common, &summary)
}

#[expect(clippy::print_stdout, reason = "the results")]
fn tell(common: &Common, summary: &Summary) -> Result<(), String> {
    print!("{}", summary.text());
    if let Some(path) = &common.json {
        let text = serde_json::to_string_pretty(summary).map_err(|error| error.to_string())?;
        files::write(path, &text)?;
    }
    if let Some(path) = &common.chart {
        chart::draw(summary, path)?;
    }
    match summary.errors.values().sum() {
        0 => Ok(()),
        1 => Err("1 error".to_owned()),
        count @ 2_u64.. => Err(format!("{count} errors")),
    }
}

impl Command {
    fn common(&self) -> &Common {
        match self {
            Command::Produce(Produce { common, .. })
            | Command::Consume(Consume { common, .. })
            | Command::EndToEnd(EndToEnd { produce: Produce { common, .. }, .. })
            | Command::Mixed(Mixed {
                both: EndToEnd { produce: Produce { common, .. }, .. },
                ..
            })
            | Command::Workload(FromFile { common, .. }) => common,
        }
    }

    fn workload(&self) -> Result<Workload, String> {
        let tail = |readers: &Readers| readers.consumption(Role::Tail);
        match self {
            Command::Produce(produce) => produce.workload("produce", Vec::new()),
            Command::Consume(consume) => Ok(Workload {
                name: "consume".to_owned(),
                topics: consume.topics.names(),
                new_topic: consume.topics.new_topic()?,
                production: None,
                consumption: vec![consume.readers.consumption(Role::Everything)],
                warm_up: Duration::ZERO,
                end: End::Consumed,
            }),
            Command::EndToEnd(both) => {
                both.produce.workload("end-to-end", vec![tail(&both.readers)])
            }
            Command::Mixed(mixed) => {
                let catch_up = Consumption {
                    subscriptions: mixed.catch_up,
                    consumers_per_topic: 1,
                    ..mixed.both.readers.consumption(Role::CatchUp)
                };
                let readers = vec![tail(&mixed.both.readers), catch_up];
                mixed.both.produce.workload("mixed", readers)
            }
            Command::Workload(file) => file.workload(),
        }
    }
}

impl Produce {
    fn workload(&self, name: &str, consumption: Vec<Consumption>) -> Result<Workload, String> {
        let end = match (self.load.records, self.load.time.seconds) {
            (Some(records), _) => End::Produced(records),
            (None, seconds) => End::After(Duration::from_secs(seconds.unwrap_or(SECONDS_DEFAULT))),
        };
        Ok(Workload {
            name: name.to_owned(),
            topics: self.topics.names(),
            new_topic: self.topics.new_topic()?,
            production: Some(self.load.production()?),
            consumption,
            warm_up: Duration::from_secs(self.load.time.warm_up),
            end,
        })
    }
}

impl Topics {
    fn names(&self) -> Vec<String> {
        match self.topics {
            1 => vec![self.topic.clone()],
            count => (0..count).map(|number| format!("{}-{number}", self.topic)).collect(),
        }
    }

    fn new_topic(&self) -> Result<NewTopicOptions, String> {
        Ok(NewTopicOptions {
            partition_count: self.partitions,
            replication_factor: self.replication_factor,
            configs: alone::names_and_values(&self.topic_configs)?,
        })
    }
}

impl Load {
    fn production(&self) -> Result<Production, String> {
        if self.rate.is_some_and(|rate| !(rate > 0.0 && rate.is_finite())) {
            return Err("--rate is a positive number".to_owned());
        }
        if self.record_bytes > RECORD_BYTES_MAX {
            return Err(format!("--record-bytes is at most {RECORD_BYTES_MAX}"));
        }
        let unknown = |name: &str, value: &str| format!("{name} {value:?} makes no sense");
        Ok(Production {
            producers_per_topic: self.producers,
            rate: self.rate,
            payloads: workload::random_payloads(self.record_bytes),
            sending: Sending {
                acks: open_messaging::acks(&self.acks)
                    .ok_or_else(|| unknown("--acks", &self.acks))?,
                batch_bytes: self.batch_bytes,
                linger: Duration::from_millis(self.linger_ms),
                in_flight_max: self.in_flight,
                idempotence: if self.no_idempotence { Idempotence::Off } else { Idempotence::On },
                compression: open_messaging::codec(&self.compression)
                    .ok_or_else(|| unknown("--compression", &self.compression))?,
            },
        })
    }
}

impl Readers {
    fn consumption(&self, role: Role) -> Consumption {
        Consumption {
            role,
            subscriptions: self.subscriptions,
            consumers_per_topic: self.consumers,
            fetch: FetchOptions {
                max_wait: Duration::from_millis(self.fetch_max_wait_ms),
                min_bytes: self.fetch_min_bytes,
                partition_max_bytes: self.partition_fetch_bytes,
                ..FetchOptions::default()
            },
            backlog_bytes: 0,
        }
    }
}

impl FromFile {
    #[expect(clippy::print_stderr, reason = "what was not understood has to be told")]
    fn workload(&self) -> Result<Workload, String> {
        let (mut workload, ignored) = open_messaging::read(&self.workload, self.driver.as_deref())?;
        if !ignored.is_empty() {
            eprintln!("these settings do nothing here: {}", ignored.join(", "));
        }
        if let Some(seconds) = self.seconds {
            workload.end = End::After(Duration::from_secs(seconds));
        }
        if let Some(seconds) = self.warm_up {
            workload.warm_up = Duration::from_secs(seconds);
        }
        Ok(workload)
    }
}

/// What makes the figures comparable, by the names of the flags.
fn described(workload: &Workload) -> BTreeMap<&'static str, String> {
    let mut settings = BTreeMap::new();
    settings.insert("topics", workload.topics.len().to_string());
    settings.insert("partitions", workload.new_topic.partition_count.to_string());
    if let Some(production) = &workload.production {
        let Production { producers_per_topic, rate, sending, .. } = production;
        settings.insert("producers", producers_per_topic.to_string());
        settings.insert("rate", rate.map_or("full".to_owned(), |rate| rate.to_string()));
        settings.insert("record-bytes", production.record_bytes().to_string());
        settings.insert("acks", format!("{:?}", sending.acks).to_lowercase());
        settings.insert("batch-bytes", sending.batch_bytes.to_string());
        settings.insert("linger-ms", sending.linger.as_millis().to_string());
        settings.insert("in-flight", sending.in_flight_max.to_string());
        settings.insert("idempotence", format!("{:?}", sending.idempotence).to_lowercase());
        settings.insert("compression", format!("{:?}", sending.compression).to_lowercase());
    }
    let consumers =
        workload.consumption.iter().map(|all| all.subscriptions * all.consumers_per_topic);
    let consumers: u32 = consumers.sum();
    if consumers > 0 {
        settings.insert("consumers", consumers.to_string());
    }
    settings
}

/// Makes the topics that are not there, if somebody writes to them, and waits for their leaders.
fn make_topics(broker: &Broker, workload: &Workload) -> Result<(), String> {
    let (names, options) = (workload.topics.clone(), workload.new_topic.clone());
    let produces = workload.production.is_some();
    alone::on_cluster(broker, async move |_runtime, cluster| {
        let configs: Vec<(&str, &str)> =
            options.configs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        for name in &names {
            let new = NewTopic {
                name,
                partition_count: options.partition_count,
                replication_factor: options.replication_factor,
                configs: &configs,
            };
            if !is_there(&cluster, name).await? {
                if !produces {
                    return Err(client::Error::Refused(ErrorCode::UnknownTopicOrPartition));
                }
                let created = cluster.any().await?.create_topic(&new, TOPIC_PATIENCE).await;
                match created {
                    Ok(()) | Err(client::Error::Refused(ErrorCode::TopicAlreadyExists)) => {}
                    Err(error) => return Err(error),
                }
            }
            cluster.leaders(name, AutoCreate::Never, TOPIC_PATIENCE).await?;
        }
        Ok(())
    })
    .map_err(|error| format!("topic {}: {error}", workload.topics.join(", ")))
}

async fn is_there(cluster: &Cluster, name: &str) -> client::Result<bool> {
    let metadata = cluster.refresh(&[name], AutoCreate::Never).await?;
    let found = metadata.topics.first().map(|topic| topic.error_code);
    Ok(found == Some(ErrorCode::None))
}

fn delete_topics(broker: &Broker, names: Vec<String>) -> Result<(), String> {
    alone::on_cluster(broker, async move |_runtime, cluster| {
        for name in &names {
            cluster.any().await?.delete_topic(name, TOPIC_PATIENCE).await?;
        }
        Ok(())
    })
}
