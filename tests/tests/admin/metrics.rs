//! The admin port: every name that dashboards for Apache Kafka ask for is there, and says what was
//! done.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use tests::{
    broker_process::BrokerProcess,
    http::{get, samples},
    raw_client::{RawClient, batch, decoded, fetch_request},
};
use wire::{
    fetch_request::FetchRequest,
    fetch_response::FetchResponse,
    offset_commit_request::{
        OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    },
};

use super::groups::join;

/// What the Kafka dashboard of Strimzi asks for, as its rules for the JMX exporter name it.
const STRIMZI: [&str; 22] = [
    "kafka_server_brokertopicmetrics_messagesin_total",
    "kafka_server_brokertopicmetrics_bytesin_total",
    "kafka_server_brokertopicmetrics_bytesout_total",
    "kafka_server_brokertopicmetrics_totalproducerequests_total",
    "kafka_server_brokertopicmetrics_totalfetchrequests_total",
    "kafka_server_brokertopicmetrics_failedproducerequests_total",
    "kafka_server_brokertopicmetrics_failedfetchrequests_total",
    "kafka_server_replicamanager_leadercount",
    "kafka_server_replicamanager_partitioncount",
    "kafka_server_replicamanager_underreplicatedpartitions",
    "kafka_cluster_partition_underminisr",
    "kafka_cluster_partition_atminisr",
    "kafka_cluster_partition_replicascount",
    "kafka_controller_kafkacontroller_activecontrollercount",
    "kafka_controller_kafkacontroller_offlinepartitionscount",
    "kafka_controller_controllerstats_uncleanleaderelections_total",
    "kafka_log_log_size",
    "kafka_network_socketserver_networkprocessoravgidle_percent",
    "kafka_server_kafkarequesthandlerpool_requesthandleravgidle_percent",
    "kafka_server_socket_server_metrics_connection_count",
    "kafka_server_kafkaserver_linux_disk_read_bytes",
    "kafka_server_kafkaserver_linux_disk_write_bytes",
];
/// What kafka_exporter gives.
const EXPORTER: [&str; 15] = [
    "kafka_brokers",
    "kafka_broker_info",
    "kafka_topic_partitions",
    "kafka_topic_partition_current_offset",
    "kafka_topic_partition_oldest_offset",
    "kafka_topic_partition_in_sync_replica",
    "kafka_topic_partition_leader",
    "kafka_topic_partition_leader_is_preferred",
    "kafka_topic_partition_replicas",
    "kafka_topic_partition_under_replicated_partition",
    "kafka_consumergroup_current_offset",
    "kafka_consumergroup_lag",
    "kafka_consumergroup_members",
    "kafka_consumergroup_lag_sum",
    "kafka_consumergroup_current_offset_sum",
];

fn admin(broker: &BrokerProcess) -> SocketAddr {
    broker.admin().expect("it has an admin port")
}

fn metrics(broker: &BrokerProcess) -> BTreeMap<String, f64> {
    let (status, page) = get(admin(broker), "/metrics");
    assert_eq!(status, 200);
    samples(&page)
}

fn commit(client: &mut RawClient, group: &str, offset: i64) {
    let partition = OffsetCommitRequestPartition { committed_offset: offset, ..Default::default() };
    let topics = vec![OffsetCommitRequestTopic {
        name: "topic",
        partitions: vec![partition],
        ..Default::default()
    }];
    let request = OffsetCommitRequest {
        group_id: group,
        generation_id_or_member_epoch: -1,
        topics,
        ..Default::default()
    };
    let _answered = client.ask(8, &request);
}

#[test]
fn metrics_say_what_was_done_under_the_names_that_dashboards_ask_for() {
    for driver in ["uring", "sync"] {
        let broker = BrokerProcess::start(driver, &["admin.listen=127.0.0.1:0"]);
        let mut client = RawClient::connect(broker.address());
        client.create_topic("topic");
        let records = batch(&[b"one", b"two", b"three"]);
        assert_eq!(client.produce("topic", &records), (0, 0));
        let mut damaged = records.clone();
        damaged[70] ^= 1;
        assert_ne!(client.produce("topic", &damaged).0, 0);
        assert_eq!(client.fetch_all("topic").len(), 3);
        let beyond = client.ask(12, &fetch_request("topic", 100));
        let beyond: FetchResponse<'_> = decoded::<FetchRequest<'_>, _>(&beyond, 12);
        assert_eq!(beyond.responses[0].partitions[0].error_code, 1);
        let odd = "a \"group\"\\\nof mine";
        commit(&mut client, odd, 1);
        // One that has a member, beside one that has none.
        commit(&mut client, "with-a-member", 2);
        join(&mut client, "with-a-member");
        let found = metrics(&broker);
        for name in STRIMZI.iter().chain(&EXPORTER) {
            let is_there = |sample: &String| sample.split('{').next() == Some(name);
            assert!(found.keys().any(is_there), "{driver}: {name}");
        }
        for name in asked_for() {
            let is_there = |sample: &String| sample.split('{').next() == Some(&name);
            assert!(found.keys().any(is_there), "{driver}: tools/monitoring asks for {name}");
        }
        let group = "consumergroup=\"a \\\"group\\\"\\\\\\nof mine\"";
        let joined = "consumergroup=\"with-a-member\"";
        let size = records.len() as f64;
        for (sample, expected) in [
            ("kafka_server_brokertopicmetrics_messagesin_total{topic=\"topic\"}", 3.0),
            ("kafka_server_brokertopicmetrics_messagesin_total", 3.0),
            ("kafka_server_brokertopicmetrics_bytesin_total{topic=\"topic\"}", size),
            ("kafka_server_brokertopicmetrics_totalproducerequests_total", 2.0),
            ("kafka_server_brokertopicmetrics_failedproducerequests_total", 1.0),
            ("kafka_server_brokertopicmetrics_failedfetchrequests_total", 1.0),
            ("kafka_server_brokertopicmetrics_bytesout_total", size),
            ("kafka_topic_partition_current_offset{partition=\"0\",topic=\"topic\"}", 3.0),
            ("odradek_partition_durable_offset{partition=\"0\",topic=\"topic\"}", 3.0),
            ("kafka_log_log_size{partition=\"0\",topic=\"topic\"}", size),
            ("kafka_network_requestmetrics_requests_total{request=\"Produce\"}", 2.0),
            ("odradek_request_seconds_count{request=\"Produce\"}", 2.0),
            (&format!("kafka_consumergroup_lag{{{group},partition=\"0\",topic=\"topic\"}}"), 2.0),
            (&format!("kafka_consumergroup_lag_sum{{{group},topic=\"topic\"}}"), 2.0),
            (&format!("kafka_consumergroup_members{{{group}}}"), 0.0),
            (&format!("kafka_consumergroup_lag{{{joined},partition=\"0\",topic=\"topic\"}}"), 1.0),
            (&format!("kafka_consumergroup_lag_sum{{{joined},topic=\"topic\"}}"), 1.0),
            (&format!("kafka_consumergroup_current_offset_sum{{{joined},topic=\"topic\"}}"), 2.0),
            (&format!("kafka_consumergroup_members{{{joined}}}"), 1.0),
        ] {
            assert_eq!(found.get(sample), Some(&expected), "{driver}: {sample}");
        }
        let written = found["kafka_server_kafkaserver_linux_disk_write_bytes"];
        assert!(written >= size, "{driver}: {written} bytes were written");
        let syncs: f64 = sum(&found, "odradek_file_sync_seconds_count");
        assert!(syncs >= 1.0, "{driver}: an acknowledged record was synced");
        assert!(sum(&found, "odradek_bytes_received_total") > size, "{driver}");
        assert!(sum(&found, "kafka_server_socket_server_metrics_connection_count") >= 1.0);
    }
}

/// The metrics that our own dashboard and alerts ask for.
fn asked_for() -> BTreeSet<String> {
    let texts = [
        include_str!("../../../tools/monitoring/dashboard.json"),
        include_str!("../../../tools/monitoring/alerts.yaml"),
    ];
    let words = texts.iter().flat_map(|text| {
        text.split(|character: char| !(character.is_ascii_alphanumeric() || character == '_'))
    });
    let is_metric = |word: &&str| {
        ["kafka_", "odradek_", "process_"].iter().any(|prefix| word.starts_with(prefix))
    };
    let found: BTreeSet<String> = words.filter(is_metric).map(str::to_owned).collect();
    assert!(found.len() > 10, "{found:?}");
    found
}

fn sum(found: &BTreeMap<String, f64>, name: &str) -> f64 {
    let of_name = found.iter().filter(|(sample, _)| sample.split('{').next() == Some(name));
    of_name.map(|(_, value)| value).sum()
}

#[test]
fn health_is_told_and_the_console_is_there_where_it_is_wanted() {
    for (console, root, page) in [("off", 404, 404), ("auto", 307, 200), ("read", 307, 200)] {
        let console = format!("odradek.console={console}");
        let broker = BrokerProcess::start("uring", &["admin.listen=127.0.0.1:0", &console]);
        for (path, expected) in [
            ("/healthz", 200),
            ("/readyz", 200),
            ("/", root),
            ("/console/", page),
            ("/console/api/topics", page),
            ("/console/api/../../etc/passwd", 404),
            ("/metrics/../../etc/passwd", 404),
        ] {
            assert_eq!(get(admin(&broker), path).0, expected, "{console} {path}");
        }
        assert_eq!(get(admin(&broker), "/healthz").1, "ok\n");
    }
}

#[test]
fn who_holds_the_admin_port_open_takes_nothing_from_clients() {
    use std::{io::Write, net::TcpStream};
    let mut broker = BrokerProcess::start("uring", &["admin.listen=127.0.0.1:0"]);
    let before = broker.socket_count();
    let held: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = TcpStream::connect(admin(&broker)).expect("it listens");
            stream.write_all(b"GET /metrics HT").expect("it is taken");
            stream
        })
        .collect();
    let mut client = RawClient::connect(broker.address());
    client.create_topic("topic");
    assert_eq!(client.produce("topic", &batch(&[b"one"])), (0, 0));
    assert!(broker.socket_count() <= before + 32 + 1, "{} sockets", broker.socket_count());
    drop(held);
    assert_eq!(get(admin(&broker), "/healthz").0, 200);
    broker.check_sound();
}
