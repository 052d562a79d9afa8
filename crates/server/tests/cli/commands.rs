//! `odradek topic` and `odradek group` against the broker of the same binary.

use std::{
    collections::BTreeMap,
    io::Write,
    process::{Output, Stdio},
    time::Duration,
};

use client::{CommittedOffset, CommittedOffsets, Connection, Options, TransactionalProducer};
use model::{Offset, record_batch::NewRecord};
use runtime::{BufferPool, DriverPreference, Executor, ShardIndex, mesh, open_driver};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Broker, odradek, refusal, start_in};

/// Runs a command with this stdin.
fn run(broker: &Broker, words: &[&str], input: &str) -> Output {
    let mut command = odradek(words);
    command.args(["--bootstrap-server", broker.says("listen")]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// What a command that succeeds prints.
fn prints(broker: &Broker, words: &[&str], input: &str) -> String {
    let output = run(broker, words, input);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn refuses(broker: &Broker, words: &[&str], input: &str, said: &str) {
    let output = run(broker, words, input);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && stderr.contains(said), "{words:?}: {stderr}");
}

fn with_broker(check: impl Fn(&Broker)) {
    for driver in ["auto", "sync"] {
        let directory = TempDir::new().unwrap();
        check(&Broker::start(start_in(directory.path(), &["--driver", driver])));
    }
}

#[test]
fn topics_are_made_shown_and_deleted() {
    with_broker(|broker| {
        let created = prints(broker, &["topic", "create", "b", "a", "--partitions", "3"], "");
        assert_eq!(created, "created b\ncreated a\n");
        assert_eq!(
            prints(broker, &["topic", "list"], ""),
            "TOPIC  PARTITIONS\na      3\nb      3\n"
        );
        let words = ["topic", "create", "a", "c", "--config", "retention.ms=5"];
        refuses(broker, &words, "", "a: the broker answered TopicAlreadyExists");
        let listed = prints(broker, &["topic", "list", "--format", "json"], "");
        let listed: Value = serde_json::from_str(&listed).unwrap();
        assert_eq!(listed[2], json!({"topic": "c", "partitions": 1}), "{listed}");
        refuses(broker, &["topic", "create", "d", "--config", "no.such=1"], "", "InvalidConfig");
        refuses(broker, &["topic", "create", "d", "--config", "x"], "", "NAME=VALUE");
        assert_eq!(prints(broker, &["topic", "delete", "a", "c"], ""), "deleted a\ndeleted c\n");
        refuses(broker, &["topic", "describe", "a"], "", "UnknownTopicOrPartition");
        refuses(broker, &["topic", "delete", "a"], "", "UnknownTopicOrPartition");
    });
}

#[test]
fn lines_are_produced_and_consumed() {
    with_broker(|broker| {
        prints(broker, &["topic", "create", "t", "--partitions", "2"], "");
        let produce = ["topic", "produce", "t", "--partition", "1"];
        assert_eq!(prints(broker, &produce, "one\ntwo\nthree"), "3 records to t\n");
        let keyed = ["topic", "produce", "t", "--key-delimiter", "="];
        prints(broker, &keyed, "k=v\nk=w\n");
        refuses(broker, &keyed, "no key\n", "line 1 has no key");
        let consume = |words: &[&str]| {
            let words = [&["topic", "consume", "t"], words].concat();
            let printed = prints(broker, &words, "");
            let mut lines: Vec<String> = printed.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(consume(&[]), ["one", "three", "two", "v", "w"]);
        let there = ["--partition", "1", "--print", "%o:%k:%v\\n"];
        let all = consume(&there);
        assert_eq!(all[..3], ["0::one", "1::two", "2::three"]);
        assert_eq!(consume(&[&there[..], &["--count", "2"]].concat()), ["0::one", "1::two"]);
        assert_eq!(consume(&[&there[..], &["--from", "2"]].concat())[0], "2::three");
        assert_eq!(consume(&["--from", "latest"]), [""; 0]);
        assert_eq!(consume(&["--from", "@0", "--count", "1"]).len(), 1);
        refuses(broker, &["topic", "consume", "t", "--from", "9"], "", "--partition");
        let beyond = ["topic", "consume", "t", "--from", "99", "--partition", "0"];
        refuses(broker, &beyond, "", "OffsetOutOfRange");
        refuses(broker, &["topic", "consume", "t", "--partition", "2"], "", "UnknownTopic");
        refuses(broker, &["topic", "consume", "t", "--print", "%x"], "", "%x means nothing");
        refuses(broker, &["topic", "produce", "t", "--partition", "7"], "x", "LeaderNotAvailable");
        let described = prints(broker, &["topic", "describe", "t", "--format", "json"], "");
        let described: Vec<Value> = serde_json::from_str(&described).unwrap();
        let records = described.iter().map(|one| one["records"].as_i64().unwrap());
        assert_eq!(records.sum::<i64>(), 5, "{described:?}");
        // What is not there is made, as by any producer.
        assert_eq!(prints(broker, &["topic", "produce", "new"], "x\n"), "1 record to new\n");
    });
}

/// Acts as a client, on a connection of its own.
fn as_client(broker: &Broker, act: impl AsyncFnOnce(Connection) + 'static) {
    let address = broker.says("listen").parse().unwrap();
    let (mut endpoints, _) = mesh(1).unwrap();
    let pool = BufferPool::new(1 << 20);
    let (driver, _) = open_driver(DriverPreference::Sync, endpoints.remove(0), pool).unwrap();
    let mut executor = Executor::new(ShardIndex(0), 1, driver);
    let runtime = executor.runtime();
    executor.block_on(async move {
        act(Connection::connect(&runtime, address, Options::default()).await.unwrap()).await;
    });
}

fn commit(broker: &Broker, group: &'static str, offsets: BTreeMap<(String, i32), i64>) {
    as_client(broker, async move |connection| {
        let offset = |offset| CommittedOffset { offset: Offset(offset), metadata: String::new() };
        let offsets: CommittedOffsets =
            offsets.into_iter().map(|(place, at)| (place, offset(at))).collect();
        connection.find_coordinator(group).await.unwrap();
        connection.commit_offsets(group, "", -1, &offsets).await.unwrap();
    });
}

#[test]
fn groups_are_told_with_their_lag() {
    with_broker(|broker| {
        assert_eq!(prints(broker, &["group", "list"], ""), "GROUP  STATE  TYPE\n");
        prints(broker, &["topic", "produce", "t"], "one\ntwo\nthree\n");
        commit(broker, "mine", BTreeMap::from([(("t".to_owned(), 0), 1)]));
        assert_eq!(
            prints(broker, &["group", "list"], ""),
            "GROUP  STATE  TYPE\nmine   Empty  classic\n"
        );
        let described = prints(broker, &["group", "describe", "mine", "--format", "json"], "");
        let described: Value = serde_json::from_str(&described).unwrap();
        let expected = json!([{
            "topic": "t", "partition": 0, "committed_offset": 1, "end_offset": 3, "lag": 2
        }]);
        assert_eq!(described, expected);
        assert_eq!(
            prints(broker, &["group", "describe", "nobody"], ""),
            "TOPIC  PARTITION  COMMITTED OFFSET  END OFFSET  LAG\n"
        );
    });
}

fn json_of(broker: &Broker, words: &[&str]) -> Value {
    let printed = prints(broker, &[words, &["--format", "json"]].concat(), "");
    serde_json::from_str(&printed).unwrap()
}

#[test]
fn the_state_of_cluster_and_broker_is_shown() {
    for driver in ["auto", "sync"] {
        let directory = TempDir::new().unwrap();
        let words = ["--driver", driver, "--set", "admin.listen=127.0.0.1:0"];
        let broker = Broker::start(start_in(directory.path(), &words));
        prints(&broker, &["topic", "produce", "t"], "one\ntwo\nthree\n");
        commit(&broker, "mine", BTreeMap::from([(("t".to_owned(), 0), 1)]));
        let admin = ["--admin", broker.says("admin")];
        let told = json_of(&broker, &[&["status", "--slow"], &admin[..]].concat());
        assert_eq!(told["errors"], json!([]), "{told}");
        let lag = json!([{ "group": "mine", "state": "Empty", "lag": 2 }]);
        assert_eq!(told["cluster"]["largest_lags"], lag);
        assert_eq!(told["cluster"]["leaderless_partitions"], 0);
        assert_eq!(told["broker"]["driver"], broker.says("driver"));
        assert_eq!(told["broker"]["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(told["broker"]["shards"].as_array().unwrap().len(), 2);
        assert!(told["broker"]["disk_free_bytes"].as_f64() > Some(0.0), "{told}");
        assert!(told["broker"]["sync_p99_us"].as_u64() > Some(0), "{told}");
        let slow = told["slow"].as_array().unwrap();
        let produce = slow.iter().find(|one| one["api"] == "Produce").unwrap();
        assert_eq!((&produce["topic"], &produce["client_id"]), (&"t".into(), &"odradek".into()));
        let page = prints(&broker, &[&["status", "--slow"], &admin[..]].concat(), "");
        assert!(page.contains(&format!(
            "cluster     {}\n",
            told["cluster"]["cluster_id"].as_str().unwrap()
        )));
        for line in
            ["cluster  ", "fdatasync   half within", "GROUP  STATE  LAG", "SHARD  BUSY", "SLOW  "]
        {
            assert!(page.lines().any(|one| one.starts_with(line)), "{line} in {page}");
        }
        assert!(page.contains("mine   Empty  2"), "{page}");
        // A broker alone, as any other Kafka is one.
        let nowhere = ["--admin", "127.0.0.1:1"];
        refuses(&broker, &[&["status"], &nowhere[..]].concat(), "", "admin port 127.0.0.1:1: ");
        // Kafka's port is none of HTTP.
        let wrong = ["--admin", broker.says("listen")];
        refuses(&broker, &[&["status"], &wrong[..]].concat(), "", "admin port ");
    }
}

#[test]
fn a_cluster_without_an_admin_port_is_shown_as_far_as_kafka_tells() {
    let directory = TempDir::new().unwrap();
    let broker = Broker::start(start_in(directory.path(), &["--set", "admin.listen=none"]));
    prints(&broker, &["topic", "create", "t", "--partitions", "3"], "");
    let told = json_of(&broker, &["status"]);
    assert_eq!(told["broker"], Value::Null);
    assert_eq!(told["errors"].as_array().unwrap().len(), 1, "{told}");
    assert_eq!(
        (&told["cluster"]["topics"], &told["cluster"]["partitions"]),
        (&1.into(), &3.into())
    );
    let page = prints(&broker, &["status"], "");
    assert!(page.contains("1 topic, 3 partitions, all with a leader"), "{page}");
    assert!(page.lines().any(|line| line.starts_with("not asked   admin port ")), "{page}");
    refuses(&broker, &["status", "--slow"], "", "admin port ");
}

#[test]
fn nobody_who_answers_is_one_line() {
    let words = ["status", "--bootstrap-server", "127.0.0.1:1", "--admin", "127.0.0.1:2"];
    let said = refusal(odradek(&words));
    assert!(said.contains("127.0.0.1:1: ") && said.contains("admin port 127.0.0.1:2: "), "{said}");
    let said = refusal(odradek(&["topic", "create", "t", "--bootstrap-server", "127.0.0.1:1"]));
    assert!(said.starts_with("odradek: 127.0.0.1:1: "), "{said}");
}

#[test]
fn settings_are_shown_set_and_taken_back() {
    with_broker(|broker| {
        prints(broker, &["topic", "create", "t"], "");
        let describe = ["config", "describe", "topic", "t", "max.message.bytes"];
        let shown = |value: &str, source: &str| {
            json!([{
                "setting": "max.message.bytes", "value": value, "source": source,
                "default": "1048588", "type": "int"
            }])
        };
        assert_eq!(json_of(broker, &describe), shown("1048588", "default"));
        let set = ["config", "set", "topic", "t", "max.message.bytes=5"];
        let dry = [&set[..], &["--dry-run"]].concat();
        assert_eq!(prints(broker, &dry, ""), "would alter t\n");
        assert_eq!(json_of(broker, &describe), shown("1048588", "default"));
        assert_eq!(prints(broker, &set, ""), "altered t\n");
        assert_eq!(json_of(broker, &describe), shown("5", "topic"));
        let altered = json_of(broker, &["config", "describe", "topic", "t", "--altered"]);
        assert_eq!(altered.as_array().unwrap().len(), 1, "{altered}");
        assert_eq!(altered[0]["setting"], "max.message.bytes");
        prints(broker, &["config", "delete", "topic", "t", "max.message.bytes"], "");
        assert_eq!(json_of(broker, &describe), shown("1048588", "default"));
        let documented = json_of(broker, &[&describe[..], &["--documentation"]].concat());
        assert!(documented[0].get("documentation").is_some(), "{documented}");
        let node = json_of(broker, &["config", "describe", "broker", "1", "node.id"]);
        assert_eq!(node[0]["value"], "1");
        let group = ["config", "set", "group", "g", "consumer.session.timeout.ms=50000"];
        prints(broker, &group, "");
        let group = ["config", "describe", "group", "g", "consumer.session.timeout.ms"];
        let group = json_of(broker, &group);
        assert_eq!((&group[0]["value"], &group[0]["source"]), (&"50000".into(), &"group".into()));
        prints(broker, &["config", "set", "client-metrics", "m", "interval.ms=1000"], "");
        let metrics =
            json_of(broker, &["config", "describe", "client-metrics", "m", "interval.ms"]);
        assert_eq!(metrics[0]["value"], "1000");
        refuses(broker, &["config", "set", "topic", "t", "retention.ms=x"], "", "InvalidConfig");
        refuses(broker, &["config", "set", "topic", "t", "x"], "", "NAME=VALUE");
        refuses(broker, &["config", "describe", "topic", "none"], "", "UnknownTopicOrPartition");
        refuses(broker, &["config", "describe", "broker", "7"], "", "BrokerNotAvailable");
    });
}

#[test]
fn topics_are_altered_and_trimmed() {
    with_broker(|broker| {
        prints(broker, &["topic", "create", "t"], "");
        let alter =
            ["topic", "alter", "t", "--partitions", "3", "--config", "retention.ms=5000000"];
        assert_eq!(prints(broker, &alter, ""), "altered t\n");
        assert_eq!(json_of(broker, &["topic", "list"])[0]["partitions"], 3);
        let altered = json_of(broker, &["config", "describe", "topic", "t", "--altered"]);
        assert_eq!(altered[0]["value"], "5000000");
        prints(broker, &["topic", "alter", "t", "--delete-config", "retention.ms"], "");
        let altered = json_of(broker, &["config", "describe", "topic", "t", "--altered"]);
        assert_eq!(altered, json!([]));
        refuses(broker, &["topic", "alter", "t"], "", "nothing to alter");
        refuses(broker, &["topic", "alter", "t", "--partitions", "2"], "", "InvalidPartitions");
        let unknown = ["topic", "alter", "none", "--partitions", "2"];
        refuses(broker, &unknown, "", "UnknownTopicOrPartition");
        prints(broker, &["topic", "produce", "t", "--partition", "1"], "one\ntwo\nthree\n");
        let trim = ["topic", "trim", "t", "--before", "2", "--partition", "1"];
        let expected = json!([{"partition": 1, "start_offset_before": 0, "start_offset": 2}]);
        assert_eq!(json_of(broker, &trim), expected);
        let left = prints(broker, &["topic", "consume", "t", "--partition", "1"], "");
        assert_eq!(left, "three\n");
        refuses(broker, &["topic", "trim", "t", "--before", "1"], "", "--partition");
        let beyond = ["topic", "trim", "t", "--before", "9", "--partition", "1"];
        refuses(broker, &beyond, "", "OffsetOutOfRange");
        let all = json_of(broker, &["topic", "trim", "t", "--before", "latest"]);
        assert_eq!(all[1]["start_offset"], 3);
    });
}

#[test]
fn groups_are_moved_only_when_that_is_said_and_forgotten() {
    with_broker(|broker| {
        prints(broker, &["topic", "produce", "t"], "one\ntwo\nthree\n");
        commit(broker, "mine", BTreeMap::from([(("t".to_owned(), 0), 1)]));
        let committed = || json_of(broker, &["group", "describe", "mine"])[0].clone();
        let seek = ["group", "seek", "mine", "--to", "latest"];
        let expected = json!([{
            "topic": "t", "partition": 0, "committed_offset": 1, "new_offset": 3
        }]);
        assert_eq!(json_of(broker, &seek), expected);
        assert_eq!(committed()["committed_offset"], 1, "a dry run");
        for (to, offset) in [("latest", 3), ("earliest", 0), ("2", 2), ("@0", 0), ("99", 3)] {
            prints(broker, &["group", "seek", "mine", "--to", to, "--execute"], "");
            assert_eq!(committed()["committed_offset"], offset, "{to}");
        }
        // A time after all records is the end.
        let late = ["group", "seek", "new", "--topic", "t", "--to", "@99999999999999", "--execute"];
        prints(broker, &late, "");
        assert_eq!(json_of(broker, &["group", "describe", "new"])[0]["committed_offset"], 3);
        let unknown = ["group", "seek", "mine", "--topic", "none", "--to", "latest"];
        refuses(broker, &unknown, "", "UnknownTopicOrPartition");
        let gone = prints(broker, &["group", "delete", "mine", "new"], "");
        assert_eq!(gone, "deleted mine\ndeleted new\n");
        assert_eq!(json_of(broker, &["group", "list"]), json!([]));
        refuses(broker, &["group", "delete", "mine"], "", "GroupIdNotFound");
    });
}

#[test]
fn transactions_are_told_and_aborted_where_that_is_said() {
    with_broker(|broker| {
        prints(broker, &["topic", "create", "t"], "");
        assert_eq!(json_of(broker, &["txn", "list"]), json!([]));
        refuses(broker, &["txn", "describe", "mine"], "", "no coordinator knows");
        // The producer goes away and leaves its transaction open.
        as_client(broker, async |connection| {
            let patience = Duration::from_secs(600);
            let mut producer =
                TransactionalProducer::come(&connection, "mine", patience).await.unwrap();
            let record = NewRecord { value: Some(b"open"), ..Default::default() };
            let batch = producer.batch("t", 0, &[record]);
            producer.produce(&connection, &batch).await.unwrap();
        });
        let listed = json_of(broker, &["txn", "list"]);
        assert_eq!(
            (&listed[0]["transactional_id"], &listed[0]["state"]),
            (&"mine".into(), &"Ongoing".into())
        );
        assert_eq!(json_of(broker, &["txn", "list", "--longer-than-ms", "500000"]), json!([]));
        let described = json_of(broker, &["txn", "describe", "mine"]);
        assert_eq!(described[0]["partitions"], "t-0", "{described}");
        assert_eq!(described[0]["producer_id"], listed[0]["producer_id"]);
        let producers = ["txn", "producers", "t", "--partition", "0"];
        assert_eq!(json_of(broker, &producers)[0]["transaction_start_offset"], 0);
        // Its coordinator has it: it will end.
        assert_eq!(json_of(broker, &["txn", "find-hanging", "--minutes", "0"]), json!([]));
        let abort = |offset| ["txn", "abort", "t", "--partition", "0", "--start-offset", offset];
        refuses(broker, &abort("1"), "", "no transaction begins at 1");
        let aborted = prints(broker, &abort("0"), "");
        assert_eq!(aborted, "aborted the transaction at 0 of t-0\n");
        assert_eq!(json_of(broker, &producers)[0]["transaction_start_offset"], Value::Null);
        refuses(broker, &abort("0"), "", "no transaction begins at 0");
        let unknown = ["txn", "producers", "none", "--partition", "0"];
        refuses(broker, &unknown, "", "LeaderNotAvailable");
    });
}
