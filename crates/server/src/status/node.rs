//! What a broker of ours tells on its admin port: its metrics, twice, and its slowest requests.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use runtime::{Elapsed, Runtime, Stream};
use serde_json::{Value, json};

use super::row;
use crate::{alone, doctor, slow_requests::duration, table::Table};

/// From the first look to the second: rates are those of this time.
const BETWEEN: Duration = Duration::from_secs(1);
/// How long the port may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// What an answer may take: the metrics of a node, without topics, have some ten KiB.
const ANSWER_BYTES_MAX: usize = 16 << 20;
const RECEIVE_BYTES: usize = 64 << 10;

/// Whether the slowest requests are asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Slow {
    Asked,
    Left,
}

/// Which broker it is.
pub(super) struct Identity {
    pub(super) cluster_id: String,
    id: i32,
    address: String,
}

impl Identity {
    /// Whether clients come to it by this port.
    pub(super) fn listens_on(&self, port: u16) -> bool {
        self.address.rsplit_once(':').is_some_and(|(_, its)| its.parse() == Ok(port))
    }
}

/// How a broker is.
pub(super) struct NodeStatus {
    pub(super) identity: Identity,
    before: Samples,
    now: Samples,
    pub(super) slow: Option<Value>,
}

/// # Errors
/// One line, without the address.
pub(super) fn look(address: SocketAddr, slow: Slow) -> Result<NodeStatus, String> {
    alone::on_runtime(RECEIVE_BYTES, move |runtime| async move {
        let metrics = async || -> Result<Samples, String> {
            Ok(Samples::parse(&get(&runtime, address, "/metrics?scope=node").await?))
        };
        let before = metrics().await?;
        let identity = before.identity().ok_or("it is no broker's")?;
        runtime.sleep(BETWEEN).await;
        let now = metrics().await?;
        let slow = match slow {
            Slow::Left => None,
            Slow::Asked => {
                let answer = get(&runtime, address, "/debug/slow").await?;
                Some(serde_json::from_str(&answer).map_err(|error| error.to_string())?)
            }
        };
        Ok(NodeStatus { identity, before, now, slow })
    })?
}

/// The body of what `GET path` is answered.
async fn get(runtime: &Runtime, address: SocketAddr, path: &str) -> Result<String, String> {
    let deadline = runtime.now() + PATIENCE;
    match runtime.deadline(deadline, exchange(runtime, address, path)).await {
        Ok(answer) => body_of(&answer?),
        Err(Elapsed) => Err("no answer in time".to_owned()),
    }
}

async fn exchange(runtime: &Runtime, address: SocketAddr, path: &str) -> Result<Vec<u8>, String> {
    let told = |errno: runtime::Errno| errno.to_string();
    let stream = Stream::connect(runtime, address).await.map_err(told)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.send_all(vec![request.into()]).await.map_err(told)?;
    let mut answer = Vec::new();
    loop {
        let bytes = stream.receive(RECEIVE_BYTES).await.map_err(told)?;
        if bytes.is_empty() {
            return Ok(answer);
        }
        if answer.len() + bytes.len() > ANSWER_BYTES_MAX {
            return Err("its answer is too large".to_owned());
        }
        answer.extend_from_slice(&bytes);
    }
}

fn body_of(answer: &[u8]) -> Result<String, String> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").ok_or("it does not speak HTTP")?;
    let status = head.strip_prefix("HTTP/1.1 ").ok_or("it does not speak HTTP")?;
    let status = status.lines().next().unwrap_or_default();
    if status.starts_with("200") { Ok(body.to_owned()) } else { Err(format!("HTTP {status}")) }
}

/// Metrics by name and labels, as they are written.
struct Samples(BTreeMap<String, f64>);

impl Samples {
    fn parse(page: &str) -> Samples {
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Samples(page.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect())
    }

    fn one(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or(0.0)
    }

    /// All of a name, with their labels.
    fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        let labels = move |(sample, value): (&'a String, &f64)| {
            let labels = sample.strip_prefix(name)?.strip_prefix('{')?.strip_suffix('}')?;
            Some((labels, *value))
        };
        self.0.iter().filter_map(labels)
    }

    fn sum(&self, name: &str) -> f64 {
        self.of(name).map(|(_, value)| value).sum()
    }

    fn identity(&self) -> Option<Identity> {
        let (labels, _) = self.of("kafka_broker_info").next()?;
        Some(Identity {
            cluster_id: self.info("odradek_cluster_info", "cluster_id").to_owned(),
            id: label(labels, "id")?.parse().ok()?,
            address: label(labels, "address")?.to_owned(),
        })
    }

    /// A label of the one sample of a name.
    fn info(&self, name: &str, wanted: &str) -> &str {
        let labels = self.0.keys().find_map(|sample| sample.strip_prefix(name));
        labels.and_then(|labels| label(labels, wanted)).unwrap_or("-")
    }
}

/// A label's value, of one without quotes in it.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = labels.split_once(&format!("{name}=\""))?;
    rest.split_once('"').map(|(value, _)| value)
}

impl NodeStatus {
    /// What is added in a second.
    fn rate(&self, of: impl Fn(&Samples) -> f64) -> f64 {
        let uptime = |samples: &Samples| samples.one("odradek_uptime_seconds");
        let passed = (uptime(&self.now) - uptime(&self.before)).max(0.001);
        ((of(&self.now) - of(&self.before)) / passed).max(0.0)
    }

    fn traffic(&self, name: &str) -> f64 {
        let name = format!("kafka_server_brokertopicmetrics_{name}_total");
        self.rate(|samples| samples.one(&name))
    }

    /// In which time so many of a hundred fdatasyncs are done, in microseconds, as the histogram
    /// tells: those since the first look, else all; `None` where there was none or it took longer
    /// than the last bound.
    fn sync_us(&self, percent: f64) -> Option<u64> {
        let buckets = |samples: &Samples| {
            let mut buckets: BTreeMap<u64, f64> = BTreeMap::new();
            for (labels, count) in samples.of("odradek_file_sync_seconds_bucket") {
                let bound = label(labels, "le").and_then(|bound| bound.parse::<f64>().ok());
                let bound = bound.map_or(u64::MAX, micros);
                *buckets.entry(bound).or_default() += count;
            }
            buckets
        };
        let (before, now) = (buckets(&self.before), buckets(&self.now));
        let recent: Vec<(u64, f64)> = now
            .iter()
            .map(|(bound, count)| (*bound, count - before.get(bound).unwrap_or(&0.0)))
            .collect();
        let all: Vec<(u64, f64)> = now.into_iter().collect();
        let counted = if recent.last().is_some_and(|last| last.1 > 0.0) { recent } else { all };
        let wanted = counted.last()?.1 * percent / 100.0;
        let reached = counted.iter().find(|(_, count)| *count > 0.0 && *count >= wanted)?;
        (reached.0 != u64::MAX).then_some(reached.0)
    }

    fn version(&self) -> &str {
        self.now.info("odradek_build_info", "version")
    }

    fn driver(&self) -> &str {
        self.now.info("odradek_driver_info", "driver")
    }

    pub(super) fn json(&self) -> Value {
        let shards = self.shards().into_iter().map(|shard| {
            json!({
                "shard": shard.number, "busy": rounded(shard.busy),
                "connections": shard.connections, "tail_bytes": shard.tail_bytes,
            })
        });
        let count = |name: &str| whole(self.now.one(name));
        json!({
            "id": self.identity.id,
            "address": self.identity.address,
            "version": self.version(),
            "driver": self.driver(),
            "uptime_seconds": rounded(self.now.one("odradek_uptime_seconds")),
            "partitions": count("kafka_server_replicamanager_partitioncount"),
            "given_up_partitions": count("kafka_server_replicamanager_offlinereplicacount"),
            "bytes_in_per_second": rounded(self.traffic("bytesin")),
            "bytes_out_per_second": rounded(self.traffic("bytesout")),
            "records_in_per_second": rounded(self.traffic("messagesin")),
            "requests_per_second": rounded(self.requests()),
            "memory_bytes": count("process_resident_memory_bytes"),
            "disk_free_bytes": count("odradek_disk_free_bytes"),
            "disk_bytes": count("odradek_disk_bytes"),
            "sync_p50_us": self.sync_us(50.0),
            "sync_p99_us": self.sync_us(99.0),
            "shards": shards.collect::<Vec<_>>(),
        })
    }

    fn requests(&self) -> f64 {
        self.rate(|samples| samples.sum("kafka_network_requestmetrics_requests_total"))
    }

    pub(super) fn text(&self) -> String {
        let bytes = |name: &str| doctor::size(whole(self.now.one(name)));
        let rate = |name: &str| doctor::size(whole(self.traffic(name)));
        let at_most = |micros: Option<u64>| micros.map_or_else(|| "-".to_owned(), duration);
        let partitions = whole(self.now.one("kafka_server_replicamanager_partitioncount"));
        let given_up = match whole(self.now.one("kafka_server_replicamanager_offlinereplicacount"))
        {
            0 => String::new(),
            count => format!(", {count} given up after a failed write or sync: see its log"),
        };
        [
            row(
                "broker",
                &format!(
                    "{} at {}, odradek {}, driver {}, up {}",
                    self.identity.id,
                    self.identity.address,
                    self.version(),
                    self.driver(),
                    span(whole(self.now.one("odradek_uptime_seconds"))),
                ),
            ),
            row("partitions", &format!("{partitions}{given_up}")),
            row(
                "in",
                &format!("{}/s, {} records/s", rate("bytesin"), whole(self.traffic("messagesin")),),
            ),
            row("out", &format!("{}/s", rate("bytesout"))),
            row("requests", &format!("{}/s", whole(self.requests()))),
            row("memory", &bytes("process_resident_memory_bytes")),
            row(
                "disk",
                &format!(
                    "{} of {} free",
                    bytes("odradek_disk_free_bytes"),
                    bytes("odradek_disk_bytes"),
                ),
            ),
            row(
                "fdatasync",
                &format!(
                    "half within {}, 99 of 100 within {}",
                    at_most(self.sync_us(50.0)),
                    at_most(self.sync_us(99.0)),
                ),
            ),
        ]
        .concat()
    }

    fn shards(&self) -> Vec<Shard> {
        let of = |samples: &Samples, name: &str, key: &str| -> BTreeMap<u64, f64> {
            let by_number = samples
                .of(name)
                .filter_map(|(labels, value)| Some((label(labels, key)?.parse().ok()?, value)));
            by_number.collect()
        };
        let connections = of(
            &self.now,
            "kafka_server_socket_server_metrics_connection_count",
            "networkProcessor",
        );
        let tails = of(&self.now, "odradek_tail_bytes", "shard");
        let shards = connections.into_iter().map(|(number, connections)| {
            let cpu = |samples: &Samples| {
                let all = of(samples, "odradek_shard_cpu_seconds_total", "shard");
                all.get(&number).copied().unwrap_or(0.0)
            };
            Shard {
                number,
                busy: self.rate(cpu).min(1.0),
                connections: whole(connections),
                tail_bytes: tails.get(&number).copied().map_or(0, whole),
            }
        });
        shards.collect()
    }

    pub(super) fn shards_table(&self) -> Table {
        let mut table = Table::new(&["shard", "busy", "connections", "tails"]);
        for shard in self.shards() {
            table.push([
                shard.number.into(),
                format!("{}%", whole(shard.busy * 100.0)).into(),
                shard.connections.into(),
                doctor::size(shard.tail_bytes).into(),
            ]);
        }
        table
    }
}

struct Shard {
    number: u64,
    /// Of its time, 0 to 1.
    busy: f64,
    connections: u64,
    tail_bytes: u64,
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a figure for people")]
fn whole(value: f64) -> u64 {
    value.round().max(0.0) as u64
}

fn micros(seconds: f64) -> u64 {
    if seconds.is_finite() { whole(seconds * 1e6) } else { u64::MAX }
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Seconds for people, in the two largest units.
fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{minutes} min {} s", seconds % 60),
        3_600..86_400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# TYPE odradek_uptime_seconds gauge
odradek_uptime_seconds 10
kafka_broker_info{address=\"[::1]:9092\",id=\"7\"} 1
odradek_cluster_info{cluster_id=\"mine\"} 1
odradek_driver_info{driver=\"sync\"} 1
kafka_server_replicamanager_partitioncount 12
odradek_shard_cpu_seconds_total{shard=\"0\"} 1
kafka_server_socket_server_metrics_connection_count{listener=\"PLAINTEXT\",networkProcessor=\"0\"} 3
kafka_server_brokertopicmetrics_bytesin_total 1000
odradek_file_sync_seconds_bucket{shard=\"0\",le=\"0.0001\"} 0
odradek_file_sync_seconds_bucket{shard=\"0\",le=\"0.005\"} 4
odradek_file_sync_seconds_bucket{shard=\"0\",le=\"+Inf\"} 4
";

    fn status(now: &str) -> NodeStatus {
        let before = Samples::parse(PAGE);
        let identity = before.identity().unwrap();
        NodeStatus { identity, before, now: Samples::parse(now), slow: None }
    }

    #[test]
    fn rates_are_those_between_two_looks() {
        let now = PAGE
            .replace("seconds 10", "seconds 12")
            .replace("total{shard=\"0\"} 1", "total{shard=\"0\"} 2")
            .replace("bytesin_total 1000", "bytesin_total 5000");
        let found = status(&now).json();
        assert_eq!((&found["id"], &found["address"]), (&7.into(), &"[::1]:9092".into()));
        assert_eq!(status(PAGE).identity.cluster_id, "mine");
        assert_eq!(found["driver"], "sync");
        assert_eq!(found["bytes_in_per_second"], 2000.0);
        assert_eq!(found["partitions"].as_u64(), Some(12), "a count is no fraction");
        assert_eq!(
            found["shards"][0],
            json!({
                "shard": 0, "busy": 0.5, "connections": 3, "tail_bytes": 0
            })
        );
        assert_eq!((&found["sync_p50_us"], &found["sync_p99_us"]), (&5000.into(), &5000.into()));
    }

    #[test]
    fn a_broker_is_known_by_the_port_of_its_clients() {
        let identity = Samples::parse(PAGE).identity().unwrap();
        assert!(identity.listens_on(9092) && !identity.listens_on(909) && !identity.listens_on(2));
    }

    #[test]
    fn syncs_of_now_count_before_those_of_always() {
        let now = PAGE
            .replace("\"0.0001\"} 0", "\"0.0001\"} 2")
            .replace("\"0.005\"} 4", "\"0.005\"} 6")
            .replace("\"+Inf\"} 4", "\"+Inf\"} 7");
        let status = status(&now);
        assert_eq!((status.sync_us(50.0), status.sync_us(99.0)), (Some(100), None));
    }

    #[test]
    fn only_a_good_answer_is_taken() {
        assert_eq!(body_of(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody"), Ok("body".to_owned()));
        for answer in
            ["HTTP/1.1 404 Not Found\r\n\r\n", "HTTP/1.1 200 OK\r\n", "SSH-2.0\r\n\r\n", ""]
        {
            assert!(body_of(answer.as_bytes()).is_err(), "{answer:?}");
        }
        assert!(Samples::parse("some_other 1").identity().is_none());
    }

    #[test]
    fn spans_have_two_units() {
        for (seconds, text) in
            [(59, "59 s"), (61, "1 min 1 s"), (7_260, "2 h 1 min"), (90_000, "1 d 1 h")]
        {
            assert_eq!(span(seconds), text);
        }
    }
}
