//! `odradek topic` and `odradek group` against the broker of the same binary.

use std::{
    collections::BTreeMap,
    io::Write,
    process::{Output, Stdio},
};

use client::{CommittedOffset, CommittedOffsets, Connection, Options};
use model::Offset;
use runtime::{BufferPool, DriverPreference, Executor, ShardIndex, mesh, open_driver};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Broker, odradek, start_in};

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
        assert_eq!(prints(broker, &["topic", "produce", "new"], "x\n"), "1 records to new\n");
    });
}

fn commit(broker: &Broker, group: &'static str, offsets: BTreeMap<(String, i32), i64>) {
    let address = broker.says("listen").parse().unwrap();
    let (mut endpoints, _) = mesh(1).unwrap();
    let pool = BufferPool::new(1 << 20);
    let (driver, _) = open_driver(DriverPreference::Sync, endpoints.remove(0), pool).unwrap();
    let mut executor = Executor::new(ShardIndex(0), 1, driver);
    let runtime = executor.runtime();
    executor.block_on(async move {
        let connection = Connection::connect(&runtime, address, Options::default()).await.unwrap();
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
