//! Files of the OpenMessaging Benchmark: a workload, and a driver for Kafka.
//!
//! What they ask for and this program does not do is refused if the figures would mean something
//! else, and else named once.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use client::{Acks, FetchOptions};
use model::record_batch::Compression;
use serde::Deserialize;

use super::files;
use super::workload::{
    Consumption, End, Idempotence, NewTopicOptions, Production, Role, Sending, Workload,
    random_payloads,
};
use crate::properties;

/// A workload is a page of text.
const FILE_BYTES_MAX: usize = 1 << 20;
/// Actors of one kind at most: each has a connection.
const COUNT_MAX: u32 = 10_000;

/// A workload file; what it leaves out is as in the benchmark.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WorkloadFile {
    name: String,
    topics: u32,
    partitions_per_topic: i32,
    message_size: usize,
    payload_file: Option<PathBuf>,
    subscriptions_per_topic: u32,
    producers_per_topic: u32,
    consumer_per_subscription: u32,
    producer_rate: f64,
    #[serde(rename = "consumerBacklogSizeGB")]
    consumer_backlog_size_gb: u64,
    test_duration_minutes: u64,
    warmup_duration_minutes: u64,
}

impl Default for WorkloadFile {
    fn default() -> WorkloadFile {
        WorkloadFile {
            name: String::new(),
            topics: 1,
            partitions_per_topic: 1,
            message_size: 1024,
            payload_file: None,
            subscriptions_per_topic: 1,
            producers_per_topic: 1,
            consumer_per_subscription: 1,
            producer_rate: 0.0,
            consumer_backlog_size_gb: 0,
            test_duration_minutes: 1,
            warmup_duration_minutes: 1,
        }
    }
}

/// A driver file of Kafka's.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DriverFile {
    replication_factor: Option<i16>,
    topic_config: String,
    producer_config: String,
    consumer_config: String,
}

/// How clients behave: what a driver file can say.
#[derive(Clone, Debug)]
pub(super) struct Clients {
    pub(super) replication_factor: i16,
    pub(super) topic_configs: Vec<(String, String)>,
    pub(super) sending: Sending,
    pub(super) fetch: FetchOptions,
}

impl Default for Clients {
    /// As Kafka's own clients.
    fn default() -> Clients {
        Clients {
            replication_factor: -1,
            topic_configs: Vec::new(),
            sending: Sending::default(),
            fetch: FetchOptions::default(),
        }
    }
}

/// Reads a workload and, if there is one, a driver file. The second is what was not understood.
///
/// # Errors
/// One line that names the file.
pub(super) fn read(
    workload: &Path,
    driver: Option<&Path>,
) -> Result<(Workload, Vec<String>), String> {
    let named = |path: &Path| {
        let path = path.to_owned();
        move |reason: String| format!("{}: {reason}", path.display())
    };
    let mut ignored = Vec::new();
    let clients = match driver {
        Some(path) => driver_of(&text(path)?, &mut ignored).map_err(named(path))?,
        None => Clients::default(),
    };
    let directory = workload.parent().unwrap_or_else(|| Path::new("."));
    let made = workload_of(&text(workload)?, directory, &clients).map_err(named(workload))?;
    Ok((made, ignored))
}

fn text(path: &Path) -> Result<String, String> {
    let bytes = files::read(path, FILE_BYTES_MAX)?;
    String::from_utf8(bytes).map_err(|_| format!("{}: not UTF-8", path.display()))
}

fn workload_of(text: &str, directory: &Path, clients: &Clients) -> Result<Workload, String> {
    let file: WorkloadFile = serde_yaml_ng::from_str(text).map_err(|error| error.to_string())?;
    let counts = [
        ("topics", file.topics, 1),
        ("subscriptionsPerTopic", file.subscriptions_per_topic, 0),
        ("producersPerTopic", file.producers_per_topic, 0),
        ("consumerPerSubscription", file.consumer_per_subscription, 0),
    ];
    for (name, count, least) in counts {
        if count < least || count > COUNT_MAX {
            return Err(format!("{name} is {count}, allowed are {least} to {COUNT_MAX}"));
        }
    }
    if !(file.producer_rate >= 0.0 && file.producer_rate.is_finite()) {
        return Err(format!("producerRate is {}", file.producer_rate));
    }
    let payloads = match &file.payload_file {
        Some(path) => Arc::from([payload(directory, path)?]),
        None => random_payloads(file.message_size.min(super::RECORD_BYTES_MAX)),
    };
    let production = (file.producers_per_topic > 0).then(|| Production {
        producers_per_topic: file.producers_per_topic,
        rate: (file.producer_rate > 0.0).then_some(file.producer_rate),
        payloads,
        sending: clients.sending,
    });
    let consumption = Consumption {
        role: Role::Tail,
        subscriptions: file.subscriptions_per_topic,
        consumers_per_topic: file.consumer_per_subscription,
        fetch: clients.fetch,
        backlog_bytes: file.consumer_backlog_size_gb.saturating_mul(1 << 30),
    };
    let consumes = consumption.subscriptions > 0 && consumption.consumers_per_topic > 0;
    let minutes = |minutes: u64| Duration::from_secs(minutes.saturating_mul(60));
    let name = if file.name.is_empty() { "workload".to_owned() } else { file.name };
    Ok(Workload {
        name,
        topics: (0..file.topics).map(|number| format!("perf-{number}")).collect(),
        new_topic: NewTopicOptions {
            partition_count: file.partitions_per_topic,
            replication_factor: clients.replication_factor,
            configs: clients.topic_configs.clone(),
        },
        production,
        consumption: if consumes { vec![consumption] } else { Vec::new() },
        warm_up: minutes(file.warmup_duration_minutes),
        end: End::After(minutes(file.test_duration_minutes)),
    })
}

/// The bytes of a record. The benchmark names such files from its own root, which is often the
/// parent of the workload's directory.
fn payload(directory: &Path, path: &Path) -> Result<Vec<u8>, String> {
    let places = [path.to_owned(), directory.join(path), directory.join("..").join(path)];
    let found = places.iter().find(|place| place.is_file());
    let found = found.ok_or_else(|| format!("payloadFile {} is not there", path.display()))?;
    let bytes = files::read(found, super::RECORD_BYTES_MAX)?;
    if bytes.is_empty() {
        return Err(format!("{} is empty", found.display()));
    }
    Ok(bytes)
}

fn driver_of(text: &str, ignored: &mut Vec<String>) -> Result<Clients, String> {
    let file: DriverFile = serde_yaml_ng::from_str(text).map_err(|error| error.to_string())?;
    let parse = |text: &str| properties::parse(text).map_err(|error| error.to_string());
    let mut clients = Clients::default();
    if let Some(factor) = file.replication_factor {
        clients.replication_factor = factor;
    }
    clients.topic_configs = parse(&file.topic_config)?.into_iter().collect();
    for (name, value) in parse(&file.producer_config)? {
        if !producer_setting(&mut clients.sending, &name, &value)? {
            ignored.push(name);
        }
    }
    for (name, value) in parse(&file.consumer_config)? {
        if !consumer_setting(&mut clients, &name, &value)? {
            ignored.push(name);
        }
    }
    Ok(clients)
}

/// False for a setting that does nothing here.
fn producer_setting(sending: &mut Sending, name: &str, value: &str) -> Result<bool, String> {
    match name {
        "acks" => sending.acks = acks(value).ok_or_else(|| senseless(name, value))?,
        "linger.ms" => sending.linger = Duration::from_millis(number(name, value)?),
        "batch.size" => sending.batch_bytes = number(name, value)?,
        "max.in.flight.requests.per.connection" => sending.in_flight_max = number(name, value)?,
        "enable.idempotence" => {
            let on = value.parse().map_err(|_| senseless(name, value))?;
            sending.idempotence = if on { Idempotence::On } else { Idempotence::Off };
        }
        "compression.type" => {
            sending.compression = codec(value).ok_or_else(|| senseless(name, value))?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn consumer_setting(clients: &mut Clients, name: &str, value: &str) -> Result<bool, String> {
    match name {
        "fetch.max.wait.ms" => clients.fetch.max_wait = Duration::from_millis(number(name, value)?),
        "fetch.min.bytes" => clients.fetch.min_bytes = number(name, value)?,
        "fetch.max.bytes" => clients.fetch.max_bytes = number(name, value)?,
        "max.partition.fetch.bytes" => clients.fetch.partition_max_bytes = number(name, value)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| senseless(name, value))
}

fn senseless(name: &str, value: &str) -> String {
    format!("{name} {value:?} makes no sense")
}

/// As Kafka's setting `acks` has them.
pub(super) fn acks(text: &str) -> Option<Acks> {
    match text {
        "all" | "-1" => Some(Acks::All),
        "1" => Some(Acks::Leader),
        "0" => Some(Acks::None),
        _ => None,
    }
}

/// By Kafka's names of codecs.
pub(super) fn codec(text: &str) -> Option<Compression> {
    match text {
        "none" => Some(Compression::None),
        "gzip" => Some(Compression::Gzip),
        "snappy" => Some(Compression::Snappy),
        "lz4" => Some(Compression::Lz4),
        "zstd" => Some(Compression::Zstd),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKLOAD: &str = "
name: 1 producer / 1 consumer on 1 topic
topics: 2
partitionsPerTopic: 10
messageSize: 100
useRandomizedPayloads: true
randomBytesRatio: 0.5
subscriptionsPerTopic: 1
consumerPerSubscription: 3
producersPerTopic: 2
producerRate: 50000
consumerBacklogSizeGB: 0
testDurationMinutes: 15
";
    const DRIVER: &str = "
name: Kafka
driverClass: io.openmessaging.benchmark.driver.kafka.KafkaBenchmarkDriver
replicationFactor: 3
topicConfig: |
  min.insync.replicas=2
commonConfig: |
  bootstrap.servers=localhost:9092
producerConfig: |
  acks=1
  linger.ms=1
  batch.size=1048576
  buffer.memory=67108864
consumerConfig: |
  auto.offset.reset=earliest
  max.partition.fetch.bytes=10485760
";

    #[test]
    fn a_workload_and_a_driver_are_read() {
        let mut ignored = Vec::new();
        let clients = driver_of(DRIVER, &mut ignored).unwrap();
        assert_eq!(ignored, ["buffer.memory", "auto.offset.reset"]);
        let workload = workload_of(WORKLOAD, Path::new("."), &clients).unwrap();
        assert_eq!(workload.topics, ["perf-0", "perf-1"]);
        assert_eq!(workload.new_topic.partition_count, 10);
        assert_eq!(workload.new_topic.replication_factor, 3);
        assert_eq!(workload.new_topic.configs, [("min.insync.replicas".into(), "2".into())]);
        assert_eq!(workload.end, End::After(Duration::from_secs(900)));
        assert_eq!(workload.warm_up, Duration::from_secs(60));
        assert_eq!(workload.actor_count(), 2 * 2 + 2 * 3);
        let production = workload.production.unwrap();
        assert_eq!((production.rate, production.record_bytes()), (Some(50000.0), 100));
        assert_eq!(
            (production.sending.acks, production.sending.batch_bytes),
            (Acks::Leader, 1 << 20)
        );
        assert_eq!(workload.consumption[0].fetch.partition_max_bytes, 10 << 20);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let workload = |text: &str| workload_of(text, Path::new("."), &Clients::default());
        for text in [
            "topics: 0",
            "topics: -1",
            "producersPerTopic: 1000000",
            "producerRate: -5",
            "producerRate: .nan",
            "payloadFile: nowhere/at-all.data",
            "topics: [1]",
            "- a list",
        ] {
            assert!(workload(text).is_err(), "{text}");
        }
        for text in ["producerConfig: acks=2", "consumerConfig: fetch.min.bytes=x"] {
            assert!(driver_of(text, &mut Vec::new()).is_err(), "{text}");
        }
    }
}
