//! What was written for Apache Kafka starts this broker: the environment of compose files that are
//! in common use (tests/docker/compose; `cargo xtask docker` runs them as they are), and the
//! settings of the distribution.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    path::{Path, PathBuf},
};

use serde_json::Value;
use tempfile::TempDir;

use super::{Broker, odradek, start_in};

/// The keys of `config/server.properties` of Apache Kafka 4, with their values.
const DISTRIBUTED: &str = "\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=localhost:9093
listeners=PLAINTEXT://:9092,CONTROLLER://:9093
inter.broker.listener.name=PLAINTEXT
advertised.listeners=PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,\
SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL
num.network.threads=3
num.io.threads=8
socket.send.buffer.bytes=102400
socket.receive.buffer.bytes=102400
socket.request.max.bytes=104857600
log.dirs=/tmp/kraft-combined-logs
num.partitions=1
num.recovery.threads.per.data.dir=1
offsets.topic.replication.factor=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.retention.hours=168
log.segment.bytes=1073741824
log.retention.check.interval.ms=300000
";

fn compose_files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/docker/compose");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The environment of the one service of a compose file, which may be a map or a list.
fn environment(path: &Path) -> BTreeMap<String, String> {
    let file: Value = serde_yaml_ng::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let services = file["services"].as_object().unwrap();
    let [service] = &services.values().collect::<Vec<_>>()[..] else { panic!("{path:?}") };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let given = &service["environment"];
    if let Some(pairs) = given.as_object() {
        return pairs.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    }
    let pair = |pair: &Value| text(pair).split_once('=').map(own).unwrap();
    given.as_array().unwrap().iter().map(pair).collect()
}

fn own((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// The entries of a list of listeners: name, host and port.
fn entries(list: &str) -> Vec<(&str, &str, &str)> {
    let parts = list.split(',').map(|entry| {
        let (name, address) = entry.split_once("://").unwrap();
        let (host, port) = address.rsplit_once(':').unwrap();
        (name, host, port)
    });
    parts.collect()
}

/// The setting of this name under either prefix.
fn setting_mut<'a>(environment: &'a mut BTreeMap<String, String>, name: &str) -> &'a mut String {
    let is_it = |variable: &str| {
        let rest = variable.strip_prefix("KAFKA_CFG_").or_else(|| variable.strip_prefix("KAFKA_"));
        rest == Some(name)
    };
    environment.iter_mut().find(|(variable, _)| is_it(variable)).expect("it is given").1
}

/// Names of containers are addresses of this machine here, and ports are free ones. Answers where
/// each advertised listener is asked first.
fn at_home(environment: &mut BTreeMap<String, String>) -> Vec<String> {
    let listeners = setting_mut(environment, "LISTENERS").clone();
    let sockets: Vec<TcpListener> =
        entries(&listeners).iter().map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let ports: Vec<String> =
        sockets.iter().map(|socket| socket.local_addr().unwrap().port().to_string()).collect();
    let mut at = Vec::new();
    let (mut listening, mut advertised) = (Vec::new(), Vec::new());
    let told = setting_mut(environment, "ADVERTISED_LISTENERS").clone();
    for (index, ((name, host, _), port)) in entries(&listeners).into_iter().zip(&ports).enumerate()
    {
        // Each is told another address of this machine. Who listens everywhere is asked at the
        // usual one, and its clients go on there.
        let own = format!("127.0.0.{}", index + 2);
        let is_named = host.starts_with(|letter: char| letter.is_alphabetic());
        let (host, asked) =
            if is_named { (own.as_str(), own.as_str()) } else { (host, "127.0.0.1") };
        listening.push(format!("{name}://{host}:{port}"));
        if entries(&told).iter().any(|(other, ..)| *other == name) {
            advertised.push(format!("{name}://{own}:{port}"));
            at.push(format!("{asked}:{port}"));
        }
    }
    *setting_mut(environment, "LISTENERS") = listening.join(",");
    *setting_mut(environment, "ADVERTISED_LISTENERS") = advertised.join(",");
    at
}

#[test]
fn environments_of_compose_files_for_other_images_start_it() {
    let files = compose_files();
    assert_eq!(files.len(), 3, "{files:?}");
    for path in files {
        let directory = TempDir::new().unwrap();
        let mut environment = environment(&path);
        let at = at_home(&mut environment);
        environment.insert("KAFKA_LOG_DIRS".to_owned(), directory.path().display().to_string());
        let mut command = odradek(&["start", "--shards", "2", "--set", "admin.listen=none"]);
        command.envs(&environment);
        let broker = Broker::start(command);
        for address in &at {
            let topic = format!("by-{}", address.replace(':', "-"));
            for words in [
                &["topic", "create", &topic, "--partitions", "2"][..],
                &["topic", "describe", &topic],
                &["group", "list"],
            ] {
                let asked = odradek(words).args(["--bootstrap-server", address]).output().unwrap();
                let stderr = String::from_utf8_lossy(&asked.stderr);
                assert!(asked.status.success(), "{path:?}, {words:?} at {address}: {stderr}");
            }
        }
        broker.signal("TERM");
        let (status, _, stderr) = broker.end();
        assert!(status.success(), "{path:?}: {stderr}");
    }
}

#[test]
fn the_settings_of_apache_kafkas_distribution_start_it() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("server.properties");
    std::fs::write(&file, DISTRIBUTED).unwrap();
    let file = file.to_str().unwrap();
    // The ports of a test are not 9092, and the directory is its own: the rest is as it stands.
    let broker = Broker::start(start_in(&directory.path().join("data"), &["--config", file]));
    broker.signal("TERM");
    let (status, _, stderr) = broker.end();
    assert!(status.success(), "{stderr}");
    let inert: Vec<&str> =
        stderr.lines().filter(|line| line.contains("these settings do nothing here")).collect();
    let [line] = inert[..] else { panic!("{stderr}") };
    // A refusal of one of them would have kept it from starting; these are threads and replicas.
    for name in ["num.io.threads", "num.network.threads"] {
        assert!(line.contains(name), "{line}");
    }
    for name in ["listeners", "log.dirs", "num.partitions", "log.retention", "log.segment"] {
        assert!(!line.contains(name), "{name}: {line}");
    }
}
