//! `odradek start --topic`: topics that are there when the broker is ready.

use tempfile::TempDir;

use super::{Broker, odradek, refusal, start_in};

/// What `topic list` and the settings of a topic say.
fn prints(broker: &Broker, words: &[&str]) -> String {
    let output = odradek(words).args(["--bootstrap-server", broker.says("listen")]).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn stop(broker: Broker) -> String {
    broker.signal("TERM");
    let (status, _, stderr) = broker.end();
    assert!(status.success(), "{stderr}");
    stderr
}

#[test]
fn topics_of_the_start_are_there_when_it_is_ready() {
    for driver in ["auto", "sync"] {
        let directory = TempDir::new().unwrap();
        let words = ["--driver", driver, "--set", "num.partitions=4", "--set", "admin.listen=none"];
        let start = |more: &[&str]| start_in(directory.path(), &[&words, more].concat());
        let mut command = start(&["--topic", "orders:3", "--topic", "events"]);
        command.env("KAFKA_CREATE_TOPICS", "kept:2:1:compact,orders:9:1");
        let broker = Broker::start(command);
        let listed = "TOPIC   PARTITIONS\nevents  4\nkept    2\norders  3\n";
        assert_eq!(prints(&broker, &["topic", "list"]), listed);
        let settings = prints(&broker, &["config", "describe", "topic", "kept", "--altered"]);
        assert!(settings.contains("cleanup.policy") && settings.contains("compact"), "{settings}");
        let stderr = stop(broker);
        assert!(!stderr.contains("left so") && !stderr.contains("create.topics"), "{stderr}");
        // Again: what is there stays, and what is new is made.
        let broker = Broker::start(start(&["--topic", "orders:5", "--topic", "more:1"]));
        let listed = "TOPIC   PARTITIONS\nevents  4\nkept    2\nmore    1\norders  3\n";
        assert_eq!(prints(&broker, &["topic", "list"]), listed);
        let stderr = stop(broker);
        let warned = |line: &&str| {
            line.contains("WARN")
                && line.contains("left so")
                && line.contains("orders")
                && line.contains("asked=5")
        };
        assert_eq!(stderr.lines().filter(warned).count(), 1, "{stderr}");
        assert!(stderr.contains("there=3"), "{stderr}");
    }
}

#[test]
fn topics_that_cannot_be_are_refused_at_the_start() {
    let directory = TempDir::new().unwrap();
    let data = directory.path().join("data");
    let refused = |words: &[&str]| refusal(start_in(&data, words));
    let refused_by_variable = |value: &str| {
        let mut command = start_in(&data, &[]);
        command.env("KAFKA_CREATE_TOPICS", value);
        refusal(command)
    };
    for (topics, said) in [
        (&["a:0"][..], "\"0\" is no number of partitions"),
        (&["a:x"], "\"x\" is no number of partitions"),
        (&["a b:1"], "Topic name is invalid"),
        (&[""], "Topic name is invalid"),
        (&["a:1:1"], "\"1:1\" is no number of partitions"),
        (&["a:1", "a:2"], "named twice"),
    ] {
        let words: Vec<&str> = topics.iter().flat_map(|topic| ["--topic", topic]).collect();
        let line = refused(&words);
        assert!(line.contains("--topic") && line.contains(said), "{topics:?}: {line}");
    }
    for (variable, said) in [("a:1", "NAME:PARTITIONS:REPLICAS"), ("a:1:x", "replicas")] {
        let line = refused_by_variable(variable);
        assert!(line.contains("KAFKA_CREATE_TOPICS") && line.contains(said), "{line}");
    }
    assert!(!data.exists(), "what is refused leaves nothing behind");
    for (variable, said) in [("a:1:2", "replication"), ("a:1:1:shred", "cleanup.policy")] {
        let line = refused_by_variable(variable);
        let line_lower = line.to_lowercase();
        assert!(line.contains("topic a ") && line_lower.contains(said), "{line}");
    }
    let line = refused(&["--topic", "a.b", "--topic", "a_b"]);
    assert!(line.contains("collides"), "{line}");
}
