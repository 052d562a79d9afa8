//! `odradek perf` against the broker of the same binary: that it counts right. How fast it is, is
//! no test's business.

use std::{fs, path::Path, process::Output};

use serde_json::Value;
use tempfile::TempDir;

use super::{Broker, odradek, start_in};

struct Perf<'a> {
    broker: &'a Broker,
    directory: &'a Path,
}

impl Perf<'_> {
    fn output(&self, words: &str, file: &str) -> Output {
        let words: Vec<&str> = words.split_whitespace().collect();
        let mut command = odradek(&["perf"]);
        command.args(words).args(["--bootstrap-server", self.broker.says("listen")]);
        command.arg("--json").arg(self.directory.join(file));
        command.arg("--chart").arg(self.directory.join("chart.svg"));
        command.output().unwrap()
    }

    /// The results of a run without errors.
    fn run(&self, words: &str) -> Value {
        let output = self.output(words, "results.json");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words}: {stderr}");
        let text = fs::read_to_string(self.directory.join("results.json")).unwrap();
        let results: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(results["errors"], serde_json::json!({}), "{words}");
        let chart = fs::read_to_string(self.directory.join("chart.svg")).unwrap();
        assert!(chart.starts_with("<svg") && chart.trim_end().ends_with("</svg>"), "{words}");
        results
    }
}

fn with_broker(check: impl Fn(&Perf<'_>)) {
    for driver in ["auto", "sync"] {
        let directory = TempDir::new().unwrap();
        let broker = Broker::start(start_in(directory.path(), &["--driver", driver]));
        let results = TempDir::new().unwrap();
        check(&Perf { broker: &broker, directory: results.path() });
    }
}

#[test]
fn what_was_produced_is_consumed() {
    with_broker(|perf| {
        for (topic, produce, records, value_bytes) in [
            ("plain", "--records 5000 --partitions 3", 5000, 1024),
            ("small", "--records 1001 --producers 7 --record-bytes 0 --no-idempotence", 1001, 0),
            ("one", "--records 1 --record-bytes 100000 --acks 1", 1, 100_000),
            ("lz4", "--records 3000 --compression lz4 --rate 100000 --threads 2", 3000, 1024),
            ("zstd", "--records 300 --compression zstd --batch-bytes 1", 300, 1024),
        ] {
            let produced = perf.run(&format!("produce --topic {topic} {produce}"));
            assert_eq!(produced["produced"]["records"], records, "{topic}");
            assert_eq!(produced["produced"]["bytes"], records * value_bytes, "{topic}");
            assert_eq!(produced["acknowledged_ms"]["count"], records, "{topic}");
            for consumers in ["", "--consumers 5", "--threads 1 --consumers 2"] {
                let consumed = perf.run(&format!("consume --topic {topic} {consumers}"));
                assert_eq!(consumed["consumed"]["records"], records, "{topic} {consumers}");
            }
            let twice = perf.run(&format!("consume --topic {topic} --subscriptions 2"));
            assert_eq!(twice["consumed"]["records"], records * 2, "{topic}");
        }
    });
}

#[test]
fn a_record_is_timed_from_when_it_was_due_until_a_consumer_has_it() {
    with_broker(|perf| {
        for codec in ["none", "snappy"] {
            let words = format!(
                "end-to-end --topic timed-{codec} --partitions 4 --rate 2000 --records 2000 \
                 --record-bytes 100 --compression {codec} --linger-ms 50 --batch-bytes 1000000"
            );
            let results = perf.run(&words);
            assert_eq!(results["consumed"]["records"], 2000, "{codec}");
            assert_eq!(results["end_to_end_ms"]["count"], 2000, "{codec}");
            // A batch waits for 50 ms, so its records were due 25 ms before on average.
            let mean = results["acknowledged_ms"]["mean"].as_f64().unwrap();
            assert!(mean > 20.0, "{codec}: {mean}");
            let seconds = results["produced"]["seconds"].as_f64().unwrap();
            assert!(seconds > 0.9, "{codec}: 2000 records of 2000 a second took {seconds} s");
        }
        let again =
            perf.run("mixed --topic timed-none --rate 1000 --seconds 2 --warm-up 1 --catch-up 2");
        let consumed = again["consumed"]["records"].as_u64().unwrap();
        let timed = again["end_to_end_ms"]["count"].as_u64().unwrap();
        assert!(timed > 0, "nothing was timed in two seconds");
        assert!(consumed > timed + 2000, "{consumed}: those who catch up read everything");
    });
}

#[test]
fn a_workload_of_the_open_messaging_benchmark_runs() {
    with_broker(|perf| {
        let workload = perf.directory.join("workload.yaml");
        let driver = perf.directory.join("driver.yaml");
        fs::write(perf.directory.join("payload.data"), vec![b'x'; 77]).unwrap();
        let lines = [
            "name: two topics",
            "topics: 2",
            "partitionsPerTopic: 3",
            "payloadFile: payload.data",
            "subscriptionsPerTopic: 2",
            "consumerPerSubscription: 1",
            "producersPerTopic: 2",
            "producerRate: 1000",
            "consumerBacklogSizeGB: 0",
            "testDurationMinutes: 5",
        ];
        fs::write(&workload, lines.join("\n")).unwrap();
        fs::write(&driver, "replicationFactor: 1\nproducerConfig: |\n  acks=1\n").unwrap();
        let (workload, driver) = (workload.display(), driver.display());
        let results = perf.run(&format!(
            "workload {workload} --driver {driver} --seconds 2 --warm-up 1 --delete-topics"
        ));
        assert_eq!(results["workload"], "two topics");
        assert_eq!(results["settings"]["acks"], "leader");
        assert_eq!(results["settings"]["record-bytes"], "77");
        let produced = results["produced"]["records"].as_u64().unwrap();
        let consumed = results["consumed"]["records"].as_u64().unwrap();
        assert!(produced > 0 && consumed > produced, "{produced}, {consumed}: each is read twice");
        let output = perf.output("consume --topic perf-0", "none.json");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && stderr.contains("perf-0"), "deleted: {stderr}");
    });
}

#[test]
fn what_cannot_be_run_is_refused_in_one_line() {
    let directory = TempDir::new().unwrap();
    let broker = Broker::start(start_in(directory.path(), &[]));
    let results = TempDir::new().unwrap();
    let perf = Perf { broker: &broker, directory: results.path() };
    for (words, said) in [
        ("produce --acks 2", "--acks"),
        ("produce --compression brotli", "--compression"),
        ("produce --rate 0", "--rate"),
        ("produce --rate nan", "--rate"),
        ("produce --record-bytes 100000000", "--record-bytes"),
        ("produce --topic-config x", "NAME=VALUE"),
        ("produce --partitions 0", "InvalidPartitions"),
        ("produce --topic-config no.such=1", "InvalidConfig"),
        ("produce --topic !", "InvalidTopic"),
        ("consume --topic nowhere", "nowhere"),
        ("workload nowhere.yaml", "nowhere.yaml"),
    ] {
        let output = perf.output(words, "none.json");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{words}");
        let lines: Vec<&str> = stderr.lines().collect();
        assert!(lines.last().is_some_and(|line| line.contains(said)), "{words}: {stderr}");
    }
    // Values that the broker does not take are counted, and told by the exit code.
    let output = perf.output("produce --record-bytes 2000000 --records 3", "results.json");
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!output.status.success() && stderr.contains("3 errors"), "{stderr}");
    assert!(stdout.contains("3 times: the broker answered MessageTooLarge"), "{stdout}");
}
