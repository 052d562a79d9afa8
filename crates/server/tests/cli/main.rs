//! The command line as scripts and people meet it: the ready line, the clean stop, and every
//! refusal as one line on stderr with a non-zero exit.

#![expect(clippy::unwrap_used, reason = "a test")]

mod commands;
mod doctor;
mod foreign_settings;
mod listeners;
mod perf;
mod start_topics;

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
};

use tempfile::TempDir;

const BINARY: &str = env!("CARGO_BIN_EXE_odradek");

/// `odradek` with nothing of this process's settings in its environment.
fn odradek(words: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(words).env_clear();
    command
}

fn start_in(directory: &Path, words: &[&str]) -> Command {
    let mut command = odradek(&["start", "--data-dir"]);
    command.arg(directory).args(["--listen", "127.0.0.1:0", "--shards", "2"]).args(words);
    command
}

/// A broker that has said that it is ready; killed when dropped.
struct Broker {
    child: Child,
    stdout: BufReader<ChildStdout>,
    ready: String,
}

impl Broker {
    fn start(mut command: Command) -> Broker {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it is built");
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut ready = String::new();
        stdout.read_line(&mut ready).unwrap();
        if !ready.starts_with("ready ") {
            let mut stderr = String::new();
            child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
            panic!("not ready: {ready:?}, {stderr}");
        }
        Broker { child, stdout, ready }
    }

    /// The value of `NAME=value` in the ready line.
    fn says(&self, name: &str) -> &str {
        let field = |word: &'_ str| word.starts_with(name) && word[name.len()..].starts_with('=');
        let word = self.ready.split_whitespace().find(|word| field(word));
        &word.unwrap_or_else(|| panic!("no {name} in {}", self.ready))[name.len() + 1..]
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status().unwrap();
        assert!(status.success(), "kill -s {name} {pid}");
    }

    /// The exit status, what was left on stdout, and stderr.
    fn end(mut self) -> (ExitStatus, String, String) {
        let (mut rest, mut stderr) = (String::new(), String::new());
        self.stdout.read_to_string(&mut rest).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        (self.child.wait().unwrap(), rest, stderr)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It has ended already in most tests; then there is nothing to kill.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Runs a command that has to refuse, and returns its one line.
fn refusal(mut command: Command) -> String {
    let spawned = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.expect("it is built");
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    if !first.is_empty() {
        child.kill().unwrap();
        child.wait().unwrap();
        panic!("{command:?} was accepted: {first}");
    }
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{command:?} was accepted: {stderr}");
    let said: Vec<&str> = stderr.lines().filter(|line| line.starts_with("odradek: ")).collect();
    assert_eq!(said.len(), 1, "{command:?}: {stderr}");
    said[0].to_owned()
}

#[test]
fn the_ready_line_names_address_driver_shards_durability_and_time() {
    for driver in ["auto", "sync"] {
        let directory = TempDir::new().unwrap();
        let broker = Broker::start(start_in(directory.path(), &["--driver", driver]));
        let port = broker.says("listen").strip_prefix("127.0.0.1:").unwrap();
        assert_ne!(port.parse::<u16>().unwrap(), 0);
        assert!(["uring", "sync"].contains(&broker.says("driver")));
        assert!(driver == "auto" || broker.says("driver") == driver);
        assert_eq!(broker.says("shards"), "2");
        assert_eq!(broker.says("durability"), "fdatasync");
        assert!(["shared", "per-file"].contains(&broker.says("commit")));
        broker.says("ms").parse::<u64>().unwrap();
    }
}

#[test]
fn a_signal_stops_it_cleanly_and_it_starts_again() {
    let directory = TempDir::new().unwrap();
    for driver in ["auto", "sync"] {
        for signal in ["TERM", "INT"] {
            let broker = Broker::start(start_in(directory.path(), &["--driver", driver]));
            broker.signal(signal);
            let (status, rest, stderr) = broker.end();
            assert!(status.success(), "{driver}, SIG{signal}: {status}, {stderr}");
            assert_eq!(rest, "", "stdout has the ready line alone");
            assert!(stderr.contains(&format!("SIG{signal}")), "{stderr}");
        }
    }
}

#[test]
fn a_killed_broker_leaves_a_directory_that_opens() {
    let directory = TempDir::new().unwrap();
    for _ in 0..3 {
        let broker = Broker::start(start_in(directory.path(), &[]));
        broker.signal("KILL");
        assert!(!broker.end().0.success());
    }
}

#[test]
fn the_ready_line_says_that_every_file_is_synced_where_that_is_asked_for() {
    let directory = TempDir::new().unwrap();
    let setting = ["--set", "odradek.commit.strategy=per-file"];
    let broker = Broker::start(start_in(directory.path(), &setting));
    assert_eq!(broker.says("commit"), "per-file");
}

#[test]
fn a_port_in_use_is_refused() {
    let (first, second) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let broker = Broker::start(start_in(first.path(), &[]));
    let address = broker.says("listen").to_owned();
    let mut command = odradek(&["start", "--listen", &address, "--data-dir"]);
    command.arg(second.path());
    let line = refusal(command);
    assert!(line.contains(&address) && line.contains("in use"), "{line}");
}

#[test]
fn a_locked_directory_is_refused() {
    let directory = TempDir::new().unwrap();
    let _broker = Broker::start(start_in(directory.path(), &[]));
    let line = refusal(start_in(directory.path(), &[]));
    assert!(
        line.contains(directory.path().to_str().unwrap()) && line.contains("uses this directory"),
        "{line}"
    );
}

#[test]
fn another_nodes_directory_is_refused() {
    let directory = TempDir::new().unwrap();
    let broker = Broker::start(start_in(directory.path(), &["--set", "node.id=1"]));
    broker.signal("TERM");
    assert!(broker.end().0.success());
    let line = refusal(start_in(directory.path(), &["--set", "node.id=2"]));
    assert!(line.contains("node.id") || line.contains("node 1"), "{line}");
    let line = refusal(start_in(directory.path(), &["--set", "cluster.id=another"]));
    assert!(line.contains("cluster"), "{line}");
}

#[test]
fn a_directory_with_another_voter_is_refused() {
    let directory = TempDir::new().unwrap();
    let broker = Broker::start(start_in(directory.path(), &[]));
    broker.signal("TERM");
    assert!(broker.end().0.success());
    let path = directory.path().join("meta.properties");
    let text = std::fs::read_to_string(&path).unwrap();
    let is_other = |line: &&str| !line.starts_with("directory.id=");
    let mut lines: Vec<&str> = text.lines().filter(is_other).collect();
    lines.push("directory.id=AAAAAAAAAAAAAAAAAAAAQQ");
    std::fs::write(&path, lines.join("\n")).unwrap();
    let line = refusal(start_in(directory.path(), &[]));
    assert!(line.contains("voter") && line.contains("AAAAAAAAAAAAAAAAAAAAQQ"), "{line}");
    std::fs::write(&path, text).unwrap();
    drop(Broker::start(start_in(directory.path(), &[])));
}

#[test]
fn a_directory_that_cannot_be_is_refused() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let line = refusal(start_in(&file, &[]));
    assert!(line.contains(file.to_str().unwrap()), "{line}");
}

#[test]
fn wrong_settings_are_refused_by_name() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("server.properties");
    std::fs::write(&file, "num.partitions=\\u12").unwrap();
    let (file, missing) = (file.to_str().unwrap(), "/no/such/file");
    let cases: &[(&[&str], &str)] = &[
        (&["--set", "num.partitions=0"], "num.partitions"),
        (&["--set", "num.partitions"], "--set"),
        (&["--set", "listeners=SSL://:9093"], "listeners"),
        (&["--set", "controller.quorum.voters=1@a:1,2@b:1"], "controller.quorum.voters"),
        (&["--set", "log.segment.bytes=1"], "log.segment.bytes"),
        (&["--set", "odradek.commit.strategy=never"], "odradek.commit.strategy"),
        (&["--config", file], file),
        (&["--config", missing], missing),
        (&["--log", "broker=loudest"], "--log"),
    ];
    for (words, name) in cases {
        let line = refusal(start_in(&directory.path().join("data"), words));
        assert!(line.contains(name), "{words:?}: {line}");
    }
    let mut from_variable = start_in(&directory.path().join("data"), &[]);
    from_variable.env("KAFKA_NUM_PARTITIONS", "-1");
    let line = refusal(from_variable);
    assert!(line.contains("num.partitions"), "{line}");
    let mut command = odradek(&["start", "--listen", "9092", "--data-dir"]);
    command.arg(directory.path());
    assert!(refusal(command).contains("9092"));
}

#[test]
fn flags_that_make_no_sense_are_refused() {
    for words in [
        ["start", "--shards", "0"],
        ["start", "--shards", "257"],
        ["start", "--driver", "glommio"],
        ["start", "--no-such-flag", "x"],
        ["run", "", ""],
    ] {
        let output = odradek(&words).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{words:?}");
    }
}

#[test]
fn settings_come_from_the_file_and_from_variables() {
    let directory = TempDir::new().unwrap();
    let (by_file, by_variable) = (directory.path().join("file"), directory.path().join("variable"));
    let file = directory.path().join("server.properties");
    let text = format!("listeners=PLAINTEXT://127.0.0.1:0\nlog.dirs={}\n", by_file.display());
    std::fs::write(&file, text).unwrap();
    let start = || {
        let mut command = odradek(&["start", "--config"]);
        command.arg(&file);
        command
    };
    drop(Broker::start(start()));
    assert!(by_file.join("meta.properties").exists());
    let mut command = start();
    command.env("KAFKA_LOG_DIRS", &by_variable);
    drop(Broker::start(command));
    assert!(by_variable.join("meta.properties").exists());
}

#[test]
fn the_ready_line_tells_the_durability_that_topics_have() {
    for (value, said) in [("sync", "fdatasync"), ("replicated", "replicated")] {
        let directory = TempDir::new().unwrap();
        let setting = format!("odradek.durability={value}");
        let broker = Broker::start(start_in(directory.path(), &["--set", &setting]));
        assert_eq!(broker.says("durability"), said);
        broker.signal("TERM");
        let (_, _, stderr) = broker.end();
        assert!(!stderr.contains("odradek.durability"), "{stderr}");
    }
}

#[test]
fn a_data_directory_is_made_with_those_above_it() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("a/b/c");
    drop(Broker::start(start_in(&path, &[])));
    assert!(path.join("meta.properties").exists());
}

#[test]
fn what_does_nothing_is_said() {
    let directory = TempDir::new().unwrap();
    let broker = Broker::start(start_in(directory.path(), &["--set", "num.network.threads=3"]));
    broker.signal("TERM");
    let (_, _, stderr) = broker.end();
    assert!(stderr.contains("num.network.threads"), "{stderr}");
}

#[test]
fn health_tells_an_answering_broker_from_none() {
    let directory = TempDir::new().unwrap();
    let broker = Broker::start(start_in(directory.path(), &[]));
    let address = broker.says("listen").to_owned();
    let ask = || odradek(&["health", "--bootstrap-server", &address]);
    let output = ask().output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Nobody needs to say where the broker of this environment is.
    let mut by_settings = odradek(&["health"]);
    by_settings.env("KAFKA_LISTENERS", format!("PLAINTEXT://{address},CONTROLLER://:1"));
    by_settings.env("KAFKA_CONTROLLER_LISTENER_NAMES", "CONTROLLER");
    let output = by_settings.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    broker.signal("TERM");
    assert!(broker.end().0.success());
    assert!(refusal(ask()).contains(&address));
    assert!(refusal(by_settings).contains(&address));
    // One that takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let line = refusal(odradek(&["health", "--bootstrap-server", &address, "--timeout-ms", "100"]));
    assert!(line.contains("no answer in time"), "{line}");
}

#[test]
fn shells_and_readers_are_told_of_the_commands() {
    for (words, said) in [
        (&["completions", "bash"][..], "complete -F"),
        (&["completions", "zsh"], "#compdef odradek"),
        (&["completions", "fish"], "complete -c odradek"),
        (&["man"], ".TH odradek 1"),
    ] {
        let output = odradek(words).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && printed.contains(said), "{words:?}: {printed}");
        assert!(printed.contains("doctor"), "{words:?}: {printed}");
    }
    let pages = TempDir::new().unwrap();
    let words = ["man", "--dir", pages.path().to_str().unwrap()];
    assert!(odradek(&words).status().unwrap().success());
    for (page, said) in [
        ("odradek.1", "doctor"),
        ("odradek-topic-create.1", "partitions"),
        ("odradek-status.1", "slow"),
    ] {
        let printed = fs::read_to_string(pages.path().join(page)).unwrap();
        assert!(printed.contains(said), "{page}: {printed}");
    }
    assert!(refusal(odradek(&["man", "--dir", "/not/there"])).contains("/not/there: "));
    // What bash cannot read completes nothing.
    let script = odradek(&["completions", "bash"]).output().unwrap().stdout;
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("odradek");
    std::fs::write(&file, script).unwrap();
    assert!(Command::new("bash").arg("-n").arg(&file).status().unwrap().success());
}
