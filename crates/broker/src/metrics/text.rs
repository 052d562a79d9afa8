//! A node's metrics in Prometheus' text format (version 0.0.4), under the names that dashboards
//! for Apache Kafka ask for: those of Strimzi's JMX exporter (`kafka_server_...`, `kafka_log_...`)
//! and of kafka_exporter (`kafka_topic_...`, `kafka_consumergroup_...`). What Apache Kafka has no
//! word for is `odradek_...`.

use std::fmt::{Display, Write as _};

use model::{PartitionId, collections::BTreeMap};
use runtime::durations::{BOUNDS_US, DurationCounts};

use super::{
    Scope, TrafficCounts,
    survey::{NodeSurvey, PartitionSurvey, ShardSurvey},
};
use crate::stages::Stage;

/// A page being written.
struct Page(String);

/// What a metric does.
#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

type Labels<'a> = &'a [(&'a str, &'a dyn Display)];

impl Page {
    fn head(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}").expect(IN_MEMORY);
    }

    fn sample(&mut self, name: &str, labels: Labels<'_>, value: impl Display) {
        self.0.push_str(name);
        let mut separator = '{';
        for (label, text) in labels {
            write!(self.0, "{separator}{label}=\"{}\"", escaped(&text.to_string()))
                .expect(IN_MEMORY);
            separator = ',';
        }
        let end = if labels.is_empty() { " " } else { "} " };
        writeln!(self.0, "{end}{value}").expect(IN_MEMORY);
    }

    /// A metric with one value.
    fn one(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) {
        self.head(name, kind, help);
        self.sample(name, &[], value);
    }

    fn durations(&mut self, name: &str, labels: Labels<'_>, durations: &DurationCounts) {
        let bucket = format!("{name}_bucket");
        let mut below = 0;
        let bounds = BOUNDS_US.iter().map(|bound| seconds(*bound)).chain([f64::INFINITY]);
        for (bound, count) in bounds.zip(durations.counts) {
            below += count;
            let le = if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() };
            let mut labels = labels.to_vec();
            labels.push(("le", &le));
            self.sample(&bucket, &labels, below);
        }
        self.sample(&format!("{name}_sum"), labels, seconds(durations.sum_us));
        self.sample(&format!("{name}_count"), labels, below);
    }
}

const IN_MEMORY: &str = "a string takes everything";

#[expect(clippy::cast_precision_loss, reason = "a figure for a plot")]
fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// A label's value: group ids can hold anything.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

pub(super) fn render(node: &NodeSurvey, scope: Scope) -> String {
    let mut page = Page(String::new());
    topics(&mut page, node, scope);
    replicas(&mut page, node);
    if scope == Scope::All {
        partitions(&mut page, node);
        groups(&mut page, node);
    }
    requests(&mut page, node);
    shards(&mut page, node);
    page.0
}

/// `BrokerTopicMetrics`: of all topics, and of each.
fn topics(page: &mut Page, node: &NodeSurvey, scope: Scope) {
    type Of = fn(&TrafficCounts) -> u64;
    let metrics: [(&str, &str, Of); 7] = [
        ("messagesin", "Records produced.", |all| all.messages_in),
        ("bytesin", "Bytes of batches produced.", |all| all.bytes_in),
        ("bytesout", "Bytes of batches fetched.", |all| all.bytes_out),
        ("totalproducerequests", "Partitions produced to, by request.", |all| all.produces),
        ("failedproducerequests", "Those of them that failed.", |all| all.failed_produces),
        ("totalfetchrequests", "Partitions fetched from, by request.", |all| all.fetches),
        ("failedfetchrequests", "Those of them that failed.", |all| all.failed_fetches),
    ];
    let all = node.all_traffic();
    for (name, help, of) in metrics {
        let name = format!("kafka_server_brokertopicmetrics_{name}_total");
        page.head(&name, Kind::Counter, help);
        page.sample(&name, &[], of(&all));
        for (topic, traffic) in node.traffic.iter().filter(|_| scope == Scope::All) {
            page.sample(&name, &[("topic", topic)], of(traffic));
        }
    }
}

/// `ReplicaManager`, `KafkaController`, and the node among its brokers.
fn replicas(page: &mut Page, node: &NodeSurvey) {
    let count = node.partitions.len();
    let offline = node.partitions.values().filter(|partition| !partition.is_writable).count();
    let gauges = [
        ("kafka_server_replicamanager_partitioncount", "Partitions of this node.", count),
        ("kafka_server_replicamanager_leadercount", "Those that it leads.", count),
        (
            "kafka_server_replicamanager_underreplicatedpartitions",
            "With too few in-sync replicas.",
            0,
        ),
        ("kafka_server_replicamanager_underminisrpartitioncount", "Below min.insync.replicas.", 0),
        (
            "kafka_server_replicamanager_offlinereplicacount",
            "Given up after a failed write or sync.",
            offline,
        ),
        ("kafka_controller_kafkacontroller_activecontrollercount", "Active controllers here.", 1),
        ("kafka_controller_kafkacontroller_offlinepartitionscount", "Without a leader.", 0),
        (
            "kafka_controller_kafkacontroller_globaltopiccount",
            "Topics of the cluster.",
            node.topic_count,
        ),
        (
            "kafka_controller_kafkacontroller_globalpartitioncount",
            "Partitions of the cluster.",
            count,
        ),
        ("kafka_brokers", "Brokers of the cluster.", 1),
    ];
    for (name, help, value) in gauges {
        page.one(name, Kind::Gauge, help, value);
    }
    let name = "kafka_controller_controllerstats_uncleanleaderelections_total";
    page.one(name, Kind::Counter, "Leaders that may lack records.", 0);
    page.head("kafka_broker_info", Kind::Gauge, "Brokers of the cluster.");
    let address = format!("{}:{}", node.address.0, node.address.1);
    page.sample("kafka_broker_info", &[("address", &address), ("id", &node.node_id)], 1);
    let name = "kafka_server_socket_server_metrics_connection_count";
    page.head(name, Kind::Gauge, "Connections, by the shard that serves them.");
    for (shard, connections) in node.connections.iter().enumerate() {
        page.sample(name, &[("listener", &"PLAINTEXT"), ("networkProcessor", &shard)], connections);
    }
}

/// What a metric takes from a partition.
type OfPartition = fn(&PartitionSurvey) -> i64;

fn partitions(page: &mut Page, node: &NodeSurvey) {
    let by_partition: [(&str, &str, OfPartition); 12] = [
        ("kafka_log_log_size", "Bytes of the log.", |one| {
            i64::try_from(one.size_bytes).unwrap_or(i64::MAX)
        }),
        ("kafka_log_log_numlogsegments", "Segments of the log.", |one| {
            i64::try_from(one.segments).unwrap_or(i64::MAX)
        }),
        ("kafka_log_log_logstartoffset", "The first offset.", |one| one.log_start.0),
        ("kafka_log_log_logendoffset", "The next offset.", |one| one.log_end.0),
        ("kafka_cluster_partition_replicascount", "Replicas.", |_| 1),
        ("kafka_cluster_partition_insyncreplicascount", "In-sync replicas.", |_| 1),
        ("kafka_cluster_partition_underreplicated", "1: with too few in-sync replicas.", |_| 0),
        ("kafka_cluster_partition_underminisr", "1: below min.insync.replicas.", |_| 0),
        ("kafka_cluster_partition_atminisr", "1: at min.insync.replicas.", |_| 1),
        ("odradek_partition_durable_offset", "Records below are on disk.", |one| one.durable_end.0),
        ("odradek_partition_unsynced_records", "Records that no sync has covered yet.", |one| {
            one.log_end.0 - one.durable_end.0
        }),
        ("odradek_partition_writable", "0: given up after a failed write or sync.", |one| {
            i64::from(one.is_writable)
        }),
    ];
    each_partition(page, node, &by_partition);
    let name = "kafka_topic_partitions";
    page.head(name, Kind::Gauge, "Partitions of a topic.");
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for (topic, _) in node.partitions.keys() {
        *counts.entry(topic).or_default() += 1;
    }
    for (topic, count) in counts {
        page.sample(name, &[("topic", &topic)], count);
    }
    let of_exporter: [(&str, &str, OfPartition); 6] = [
        ("kafka_topic_partition_current_offset", "The next offset that consumers see.", |one| {
            one.high_watermark.0
        }),
        ("kafka_topic_partition_oldest_offset", "The first offset.", |one| one.log_start.0),
        ("kafka_topic_partition_in_sync_replica", "In-sync replicas.", |_| 1),
        ("kafka_topic_partition_replicas", "Replicas.", |_| 1),
        ("kafka_topic_partition_leader_is_preferred", "1: the leader is the preferred one.", |_| 1),
        ("kafka_topic_partition_under_replicated_partition", "1: too few in sync.", |_| 0),
    ];
    each_partition(page, node, &of_exporter);
    let name = "kafka_topic_partition_leader";
    page.head(name, Kind::Gauge, "The leader's id.");
    for (topic, partition) in node.partitions.keys() {
        page.sample(name, &[("partition", &partition.0), ("topic", topic)], node.node_id);
    }
}

fn each_partition(page: &mut Page, node: &NodeSurvey, metrics: &[(&str, &str, OfPartition)]) {
    for (name, help, of) in metrics {
        page.head(name, Kind::Gauge, help);
        for ((topic, PartitionId(partition)), one) in &node.partitions {
            page.sample(name, &[("partition", partition), ("topic", topic)], of(one));
        }
    }
}

/// What kafka_exporter says of consumer groups, from the coordinator itself.
fn groups(page: &mut Page, node: &NodeSurvey) {
    page.head("kafka_consumergroup_members", Kind::Gauge, "Members of a group.");
    for group in &node.groups {
        let labels: Labels<'_> = &[("consumergroup", &group.group_id)];
        page.sample("kafka_consumergroup_members", labels, group.member_count);
    }
    let (offset, lag) = ("kafka_consumergroup_current_offset", "kafka_consumergroup_lag");
    page.head(offset, Kind::Gauge, "What a group has committed.");
    for group in &node.groups {
        for (topic, partition, committed) in &group.committed {
            let labels: Labels<'_> =
                &[("consumergroup", &group.group_id), ("partition", partition), ("topic", topic)];
            page.sample(offset, labels, committed.0);
        }
    }
    page.head(lag, Kind::Gauge, "How many records a group is behind.");
    let mut sums = Vec::new();
    for group in &node.groups {
        let mut by_topic: BTreeMap<&str, (i64, i64)> = BTreeMap::new();
        for (topic, partition, committed) in &group.committed {
            let Some(behind) = node.lag(topic, *partition, *committed) else { continue };
            let labels: Labels<'_> =
                &[("consumergroup", &group.group_id), ("partition", partition), ("topic", topic)];
            page.sample(lag, labels, behind);
            let sum = by_topic.entry(topic).or_default();
            *sum = (sum.0.saturating_add(behind), sum.1.saturating_add(committed.0));
        }
        sums.push((&group.group_id, by_topic));
    }
    type Of = fn((i64, i64)) -> i64;
    let metrics: [(&str, &str, Of); 2] = [
        ("kafka_consumergroup_lag_sum", "The same of all partitions of a topic.", |sum| sum.0),
        (
            "kafka_consumergroup_current_offset_sum",
            "What a group has committed of a topic.",
            |sum| sum.1,
        ),
    ];
    for (name, help, of) in metrics {
        page.head(name, Kind::Gauge, help);
        for (group, by_topic) in &sums {
            for (topic, sum) in by_topic {
                page.sample(name, &[("consumergroup", group), ("topic", topic)], of(*sum));
            }
        }
    }
}

fn requests(page: &mut Page, node: &NodeSurvey) {
    let name = "kafka_network_requestmetrics_requests_total";
    page.head(name, Kind::Counter, "Requests that were answered.");
    for (key, durations) in &node.requests {
        page.sample(name, &[("request", &format!("{key:?}"))], durations.total());
    }
    let name = "odradek_request_seconds";
    let help = "From when a request was received to when its answer was sent, waiting included.";
    page.head(name, Kind::Histogram, help);
    for (key, durations) in &node.requests {
        page.durations(name, &[("request", &format!("{key:?}"))], durations);
    }
    let name = "odradek_request_stage_seconds";
    page.head(name, Kind::Histogram, "How long requests of a kind were in a stage.");
    for (kind, stages) in &node.stages {
        for (stage, durations) in Stage::ALL.into_iter().zip(&stages.0) {
            if durations.total() > 0 {
                let labels: Labels<'_> =
                    &[("kind", &format!("{kind:?}")), ("stage", &stage.name())];
                page.durations(name, labels, durations);
            }
        }
    }
}

fn shards(page: &mut Page, node: &NodeSurvey) {
    type Of = fn(&ShardSurvey) -> u64;
    let metrics: [(&str, Kind, &str, Of); 5] = [
        ("odradek_bytes_received_total", Kind::Counter, "Bytes of requests.", |one| {
            one.bytes_received
        }),
        ("odradek_bytes_sent_total", Kind::Counter, "Bytes of answers.", |one| one.bytes_sent),
        ("odradek_file_syncs_total", Kind::Counter, "fdatasyncs of logs.", |one| one.file_syncs),
        ("odradek_sync_rounds_total", Kind::Counter, "Group commits.", |one| one.sync_rounds),
        ("odradek_tail_bytes", Kind::Gauge, "Memory of what was last written.", |one| {
            one.tail_bytes as u64
        }),
    ];
    for (name, kind, help, of) in metrics {
        page.head(name, kind, help);
        for shard in &node.shards {
            page.sample(name, &[("shard", &shard.shard.0)], of(shard));
        }
    }
    let name = "odradek_file_sync_seconds";
    page.head(name, Kind::Histogram, "How long an fdatasync of a log takes.");
    for shard in &node.shards {
        page.durations(name, &[("shard", &shard.shard.0)], &shard.sync_times);
    }
    if let Some(space) = node.space {
        let name = "odradek_disk_bytes";
        page.one(name, Kind::Gauge, "Size of the log directory's file system.", space.total_bytes);
        page.one("odradek_disk_free_bytes", Kind::Gauge, "What is free of it.", space.free_bytes);
    }
    if let Some(cluster_id) = &node.cluster_id {
        page.head("odradek_cluster_info", Kind::Gauge, "Which cluster this is.");
        page.sample("odradek_cluster_info", &[("cluster_id", cluster_id)], 1);
    }
    page.head("odradek_driver_info", Kind::Gauge, "How the operating system is asked.");
    page.sample("odradek_driver_info", &[("driver", &node.driver)], 1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn samples_are_written_as_prometheus_reads_them() {
        let mut page = Page(String::new());
        page.one("a_total", Kind::Counter, "Some.", 3);
        page.head("b", Kind::Gauge, "Others.");
        page.sample("b", &[("group", &"a\"b\\c\nd"), ("partition", &7)], -1);
        let expected = "# HELP a_total Some.\n# TYPE a_total counter\na_total 3\n# HELP b Others.\n\
                        # TYPE b gauge\nb{group=\"a\\\"b\\\\c\\nd\",partition=\"7\"} -1\n";
        assert_eq!(page.0, expected);
    }

    #[test]
    fn buckets_count_what_is_below_them() {
        let durations = runtime::durations::Durations::default();
        for micros in [50, 60, 7_000_000] {
            durations.record(Duration::from_micros(micros));
        }
        let mut page = Page(String::new());
        page.durations("d", &[("shard", &0)], &durations.counts());
        for line in [
            "d_bucket{shard=\"0\",le=\"0.00005\"} 1",
            "d_bucket{shard=\"0\",le=\"0.0001\"} 2",
            "d_bucket{shard=\"0\",le=\"5\"} 2",
            "d_bucket{shard=\"0\",le=\"+Inf\"} 3",
            "d_sum{shard=\"0\"} 7.00011",
            "d_count{shard=\"0\"} 3",
        ] {
            assert!(page.0.lines().any(|one| one == line), "{line} in {}", page.0);
        }
    }
}
