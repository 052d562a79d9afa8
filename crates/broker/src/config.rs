//! The broker's settings: from Kafka's names and text to types, with Kafka's defaults and bounds.
//!
//! Pure: whoever starts a broker merges its sources into one map, resolves the listener's host,
//! and hands both over; the simulator fills [`BrokerConfig`] by hand. A setting that does nothing
//! here is named in the second half of the answer and never silently taken as honoured; one that
//! asks for what this broker cannot be (a second log directory, an encrypted listener, a voter
//! among others) is refused.

mod admin;
mod consumer_groups;
mod listeners;
mod telemetry;
mod transactions;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    path::PathBuf,
};

use coordinator::ConsumerSettings;
use model::topic_config;
use storage::CommitStrategy;

use crate::{
    StartTopic,
    connection_limits::{self, ConnectionLimits},
};

pub use admin::{ADMIN_DEFAULT, AdminConfig, AdminPort, Console};
pub use listeners::{ClientListener, NAME_DEFAULT, Named, client_listeners};
pub use telemetry::TelemetryConfig;
pub use transactions::TransactionsConfig;

/// Where a broker listens when nobody says: this machine only.
pub const LISTEN_DEFAULT: &str = "127.0.0.1";
/// Kafka's port.
pub const PORT_DEFAULT: u16 = 9092;
/// The data directory when nobody says.
pub const DATA_DIR_DEFAULT: &str = "./odradek-data";
/// What -1 (never) becomes where Kafka means a time: far beyond any uptime, and far below what
/// overflows a clock in nanoseconds.
const NEVER_MS: i64 = 100 * 365 * 86_400_000;
/// Partitions that a default may ask for: a typing error must not cost a million directories.
const PARTITIONS_MAX: i64 = 100_000;
/// What whoever starts the shards puts in the place of this: nobody asked for the limit.
const HANDLES_MAX: usize = 1024;
const INT_MAX: i64 = i32::MAX as i64;

/// What a broker is told at its start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerConfig {
    /// `node.id`.
    pub node_id: i32,
    /// Where it listens for clients: one at least, each with a port of its own.
    pub listeners: Vec<ClientListener>,
    /// Where metrics are served, and what is shown to people.
    pub admin: AdminConfig,
    /// `log.dirs`.
    pub data_dir: PathBuf,
    /// `odradek.commit.strategy`: how writes may become durable there; whoever starts the shards
    /// knows whether the mount allows it.
    pub commit_strategy: CommitStrategy,
    /// How many file handles the process may have. No setting either.
    pub handles_max: usize,
    /// The cluster's id that a new directory gets, and an old one must have; `None`: any.
    pub cluster_id: Option<String>,
    /// `auto.create.topics.enable`.
    pub auto_create_topics_enable: bool,
    /// `delete.topic.enable`.
    pub delete_topic_enable: bool,
    /// `num.partitions`.
    pub num_partitions: i32,
    /// Topics that are made at the start if they are not there. No setting: flags.
    pub start_topics: Vec<StartTopic>,
    /// `default.replication.factor`.
    pub default_replication_factor: i16,
    /// `socket.request.max.bytes`.
    pub socket_request_max_bytes: usize,
    /// `connections.max.idle.ms`.
    pub connections_max_idle_ms: u64,
    /// How many connections there may be.
    pub connection_limits: ConnectionLimits,
    /// `max.incremental.fetch.session.cache.slots`.
    pub max_incremental_fetch_session_cache_slots: usize,
    /// `fetch.max.bytes`.
    pub fetch_max_bytes: usize,
    /// `offsets.topic.num.partitions`.
    pub offsets_topic_num_partitions: i32,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_max_bytes: usize,
    /// `offsets.retention.minutes`.
    pub offsets_retention_minutes: u64,
    /// `group.initial.rebalance.delay.ms`.
    pub group_initial_rebalance_delay_ms: u64,
    /// `group.min.session.timeout.ms`.
    pub group_min_session_timeout_ms: u64,
    /// `group.max.session.timeout.ms`.
    pub group_max_session_timeout_ms: u64,
    /// `group.max.size`.
    pub group_max_size: usize,
    /// `group.consumer.*`.
    pub group_consumer: ConsumerSettings,
    /// Whether `group.coordinator.rebalance.protocols` has KIP-848's.
    pub has_consumer_groups: bool,
    /// `transaction.*` and `transactional.id.*`.
    pub transactions: TransactionsConfig,
    /// Whether clients' metrics are taken (KIP-714).
    pub telemetry: TelemetryConfig,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration_ms: u64,
    /// `log.retention.check.interval.ms`.
    pub log_retention_check_interval_ms: u64,
    /// `log.initial.task.delay.ms`: how long after the start the first of these checks is.
    pub log_initial_task_delay_ms: u64,
    /// `metadata.log.max.record.bytes.between.snapshots`.
    pub metadata_snapshot_bytes: u64,
    /// `metadata.log.max.snapshot.interval.ms`; `None`: the time makes none.
    pub metadata_snapshot_interval_ms: Option<u64>,
    /// `odradek.scrub.bytes.per.second`: of all shards together; 0 for no scrub.
    pub scrub_bytes_per_second: u64,
    /// `odradek.scrub.interval.ms`.
    pub scrub_interval_ms: u64,
    /// `log.flush.offset.checkpoint.interval.ms`.
    pub flush_offset_checkpoint_interval_ms: u64,
    /// The settings that were given, by name; some may be secrets.
    pub given: BTreeMap<String, String>,
    /// Settings of topics whose default is changed here, by the topic's name for them.
    pub topic_defaults: BTreeMap<String, String>,
}

/// What whoever starts the broker has decided already.
#[derive(Clone, Debug)]
pub struct Decided {
    /// The names and resolved addresses of the listeners, one at least; see
    /// [`client_listeners`].
    pub listen: Vec<(String, SocketAddr)>,
    /// A data directory that wins over `log.dirs`.
    pub data_dir: Option<PathBuf>,
}

/// A setting that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// The value does not fit.
    Value {
        /// The setting.
        name: String,
        /// What was given.
        value: String,
        /// What it takes.
        expected: String,
    },
    /// Kafka can be this; this broker cannot.
    Unsupported {
        /// The setting.
        name: String,
        /// What was given.
        value: String,
        /// What stands against it.
        reason: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Value { name, value, expected } => {
                write!(formatter, "invalid value {value:?} for {name}: {expected} expected")
            }
            ConfigError::Unsupported { name, value, reason } => {
                write!(formatter, "{name}={value} is not supported: {reason}")
            }
        }
    }
}

impl std::error::Error for ConfigError {}

impl BrokerConfig {
    /// What was given of groups: it bounds what each group may have.
    pub(crate) fn group_settings(&self) -> BTreeMap<String, String> {
        let given = self.given.iter().filter(|(name, _)| name.starts_with("group."));
        given.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// Where the first listener is.
    #[must_use]
    pub fn listen(&self) -> SocketAddr {
        self.listeners.first().expect("a broker listens").address
    }

    /// The defaults of a broker at this address, in this directory.
    #[must_use]
    pub fn new(listen: SocketAddr, data_dir: PathBuf) -> BrokerConfig {
        let listen = vec![(NAME_DEFAULT.to_owned(), listen)];
        let decided = Decided { listen, data_dir: Some(data_dir) };
        let (config, _) = BrokerConfig::from_properties(&BTreeMap::new(), decided)
            .expect("the defaults are within their bounds");
        config
    }

    /// Reads settings by Kafka's names. The second half of the answer names those that do nothing
    /// here, known to Kafka or not.
    ///
    /// # Errors
    /// At the first value that is refused.
    pub fn from_properties(
        properties: &BTreeMap<String, String>,
        decided: Decided,
    ) -> Result<(BrokerConfig, Vec<String>), ConfigError> {
        let reader = Reader::new(properties);
        let node_id = node_id(&reader)?;
        check_roles(&reader, node_id)?;
        let config = BrokerConfig::read(&reader, node_id, decided)?;
        if config.group_min_session_timeout_ms > config.group_max_session_timeout_ms {
            return Err(reader.refuse("group.min.session.timeout.ms", "at most the largest"));
        }
        let mut inert = reader.unread();
        inert.extend(kept_only(&reader));
        inert.sort_unstable();
        Ok((config, inert))
    }

    fn read(
        reader: &Reader<'_>,
        node_id: i32,
        decided: Decided,
    ) -> Result<BrokerConfig, ConfigError> {
        Ok(BrokerConfig {
            node_id,
            listeners: listeners::read(reader, &decided)?,
            admin: admin::settings(reader)?,
            data_dir: data_dir(reader, decided.data_dir)?,
            commit_strategy: commit_strategy(reader)?,
            handles_max: HANDLES_MAX,
            cluster_id: cluster_id(reader)?,
            auto_create_topics_enable: reader.boolean("auto.create.topics.enable", true)?,
            delete_topic_enable: reader.boolean("delete.topic.enable", true)?,
            num_partitions: reader.number("num.partitions", 1, PARTITIONS_MAX, 1)?,
            start_topics: Vec::new(),
            default_replication_factor: replication_factor(reader)?,
            socket_request_max_bytes: reader.int("socket.request.max.bytes", 1, 104_857_600)?,
            connections_max_idle_ms: reader.time_or_never("connections.max.idle.ms", 600_000)?,
            connection_limits: limits_of_connections(reader)?,
            max_incremental_fetch_session_cache_slots: reader.int(
                "max.incremental.fetch.session.cache.slots",
                0,
                1000,
            )?,
            fetch_max_bytes: reader.int("fetch.max.bytes", 1024, 57_671_680)?,
            offsets_topic_num_partitions: reader.number(
                "offsets.topic.num.partitions",
                1,
                PARTITIONS_MAX,
                50,
            )?,
            offset_metadata_max_bytes: reader.int("offset.metadata.max.bytes", 0, 4096)?,
            offsets_retention_minutes: reader.int("offsets.retention.minutes", 1, 10_080)?,
            // 3,000 in Kafka's code, 0 in the server.properties that it ships.
            group_initial_rebalance_delay_ms: reader.int(
                "group.initial.rebalance.delay.ms",
                0,
                0,
            )?,
            group_min_session_timeout_ms: reader.int("group.min.session.timeout.ms", 0, 6000)?,
            group_max_session_timeout_ms: reader.int(
                "group.max.session.timeout.ms",
                0,
                1_800_000,
            )?,
            group_max_size: reader.int("group.max.size", 1, INT_MAX)?,
            group_consumer: consumer_groups::settings(reader)?,
            has_consumer_groups: consumer_groups::is_enabled(reader)?,
            transactions: transactions::settings(reader)?,
            telemetry: telemetry::settings(reader)?,
            metadata_snapshot_bytes: snapshot_bytes(reader)?,
            metadata_snapshot_interval_ms: snapshot_interval(reader)?,
            producer_id_expiration_ms: reader.int("producer.id.expiration.ms", 1, 86_400_000)?,
            log_retention_check_interval_ms: reader.time(
                "log.retention.check.interval.ms",
                1,
                300_000,
            )?,
            log_initial_task_delay_ms: reader.time("log.initial.task.delay.ms", 0, 30_000)?,
            scrub_bytes_per_second: reader.int("odradek.scrub.bytes.per.second", 0, 8 << 20)?,
            scrub_interval_ms: reader.int("odradek.scrub.interval.ms", 1000, 604_800_000)?,
            flush_offset_checkpoint_interval_ms: reader.int(
                "log.flush.offset.checkpoint.interval.ms",
                1,
                60_000,
            )?,
            given: reader.properties.clone(),
            topic_defaults: topic_defaults(reader)?,
        })
    }
}

fn replication_factor(reader: &Reader<'_>) -> Result<i16, ConfigError> {
    reader.number("default.replication.factor", 1, i64::from(i16::MAX), 1)
}

/// Reads the map and remembers which names it was asked for.
struct Reader<'a> {
    properties: &'a BTreeMap<String, String>,
    read: std::cell::RefCell<BTreeSet<String>>,
}

impl<'a> Reader<'a> {
    fn new(properties: &'a BTreeMap<String, String>) -> Reader<'a> {
        Reader { properties, read: std::cell::RefCell::default() }
    }

    /// The trimmed value, unless it is absent or empty.
    fn text(&self, name: &str) -> Option<&'a str> {
        self.read.borrow_mut().insert(name.to_owned());
        self.properties.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    fn unread(&self) -> Vec<String> {
        let read = self.read.borrow();
        self.properties.keys().filter(|name| !read.contains(*name)).cloned().collect()
    }

    fn refuse(&self, name: &str, expected: &str) -> ConfigError {
        let value = self.properties.get(name).cloned().unwrap_or_default();
        ConfigError::Value { name: name.to_owned(), value, expected: expected.to_owned() }
    }

    fn unsupported(&self, name: &str, reason: &str) -> ConfigError {
        let value = self.properties.get(name).cloned().unwrap_or_default();
        ConfigError::Unsupported { name: name.to_owned(), value, reason: reason.to_owned() }
    }

    /// A number within bounds, both included. `T` has to hold the bounds.
    fn number<T: TryFrom<i64>>(
        &self,
        name: &str,
        min: i64,
        max: i64,
        default: i64,
    ) -> Result<T, ConfigError> {
        let number = match self.text(name) {
            None => Some(default),
            Some(text) => text.parse().ok().filter(|number| (min..=max).contains(number)),
        };
        number
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| self.refuse(name, &format!("a number from {min} to {max}")))
    }

    /// One that Kafka keeps in 32 bits.
    fn int<T: TryFrom<i64>>(&self, name: &str, min: i64, default: i64) -> Result<T, ConfigError> {
        self.number(name, min, INT_MAX, default)
    }

    /// Milliseconds from `min` on, which Kafka keeps in 64 bits.
    fn time(&self, name: &str, min: i64, default: i64) -> Result<u64, ConfigError> {
        let given: i64 = self.number(name, min, i64::MAX, default)?;
        Ok(u64::try_from(given.min(NEVER_MS)).expect("the bounds are not negative"))
    }

    /// Milliseconds, of which any negative number means never.
    fn time_or_never(&self, name: &str, default: i64) -> Result<u64, ConfigError> {
        let given: i64 = self.number(name, i64::MIN, i64::MAX, default)?;
        let bounded = if given < 0 { NEVER_MS } else { given.min(NEVER_MS) };
        Ok(u64::try_from(bounded).expect("not negative by now"))
    }

    fn boolean(&self, name: &str, default: bool) -> Result<bool, ConfigError> {
        match self.text(name) {
            None => Ok(default),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
            Some(_) => Err(self.refuse(name, "true or false")),
        }
    }
}

fn commit_strategy(reader: &Reader<'_>) -> Result<CommitStrategy, ConfigError> {
    const NAME: &str = "odradek.commit.strategy";
    match reader.text(NAME) {
        None | Some("auto") => Ok(CommitStrategy::Shared),
        Some("per-file") => Ok(CommitStrategy::PerFile),
        Some(_) => Err(reader.refuse(NAME, "auto or per-file")),
    }
}

fn limits_of_connections(reader: &Reader<'_>) -> Result<ConnectionLimits, ConfigError> {
    let mut limits = ConnectionLimits::default();
    for name in connection_limits::SETTINGS {
        if let Some(value) = reader.text(name) {
            limits.set(name, value).map_err(|expected| reader.refuse(name, expected))?;
        }
    }
    Ok(limits)
}

/// `node.id`, or `broker.id`, as it was called before KRaft.
fn node_id(reader: &Reader<'_>) -> Result<i32, ConfigError> {
    let old_name: i64 = reader.int("broker.id", 0, 1)?;
    reader.int("node.id", 0, old_name)
}

/// This node is broker and only controller in one, or it does not start.
fn check_roles(reader: &Reader<'_>, node_id: i32) -> Result<(), ConfigError> {
    if let Some(roles) = reader.text("process.roles") {
        let mut roles: Vec<&str> = roles.split(',').map(str::trim).collect();
        roles.sort_unstable();
        if roles != ["broker", "controller"] && roles != ["broker"] {
            return Err(reader.unsupported("process.roles", "a node is broker and controller"));
        }
    }
    if let Some(voters) = reader.text("controller.quorum.voters") {
        let own = format!("{node_id}@");
        if voters.contains(',') || !voters.starts_with(&own) {
            let reason = format!("node {node_id} can only be the sole voter");
            return Err(reader.unsupported("controller.quorum.voters", &reason));
        }
    }
    Ok(())
}

fn data_dir(reader: &Reader<'_>, decided: Option<PathBuf>) -> Result<PathBuf, ConfigError> {
    let (many, one) = (reader.text("log.dirs"), reader.text("log.dir"));
    if let Some(decided) = decided {
        return Ok(decided);
    }
    if many.is_some_and(|many| many.contains(',')) {
        return Err(reader.unsupported("log.dirs", "one log directory is what there can be"));
    }
    Ok(PathBuf::from(many.or(one).unwrap_or(DATA_DIR_DEFAULT)))
}

/// Kafka has no such setting; its images take the id from the variable `CLUSTER_ID`.
fn cluster_id(reader: &Reader<'_>) -> Result<Option<String>, ConfigError> {
    let Some(id) = reader.text("cluster.id") else { return Ok(None) };
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.=+/".contains(&byte);
    if id.len() > 64 || !id.bytes().all(is_plain) {
        return Err(reader.refuse("cluster.id", "at most 64 letters, digits, -, _ and ."));
    }
    Ok(Some(id.to_owned()))
}

fn snapshot_bytes(reader: &Reader<'_>) -> Result<u64, ConfigError> {
    reader.number("metadata.log.max.record.bytes.between.snapshots", 1, i64::MAX, 20 << 20)
}

/// 0 is never.
fn snapshot_interval(reader: &Reader<'_>) -> Result<Option<u64>, ConfigError> {
    let ms = reader.number("metadata.log.max.snapshot.interval.ms", 0, i64::MAX, 3_600_000)?;
    Ok(Some(ms).filter(|ms| *ms > 0))
}

/// The server's settings that are defaults of topics, under the topics' names.
fn topic_defaults(reader: &Reader<'_>) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut defaults = BTreeMap::new();
    for setting in topic_config::SETTINGS {
        if setting.server_name.is_empty() {
            continue;
        }
        let found = match reader.text(setting.server_name) {
            Some(value) => Some((setting.server_name, value.to_owned())),
            None => in_longer_units(reader, setting.server_name)?,
        };
        let Some((server_name, value)) = found else { continue };
        topic_config::check(setting.name, &value).map_err(|_| {
            let expected = setting.kind.to_string();
            reader.refuse(server_name, &expected)
        })?;
        defaults.insert(setting.name.to_owned(), value);
    }
    // The longer units are known even where the shorter one wins.
    for name in LONGER_UNITS.iter().map(|(_, longer, _)| longer) {
        let _ = reader.text(name);
    }
    Ok(defaults)
}

/// Settings of topics that are checked and kept with the topic, and that nothing acts on.
const KEPT_ONLY: [&str; 6] = [
    "compression.lz4.level",
    "local.retention.bytes",
    "local.retention.ms",
    "min.insync.replicas",
    "preallocate",
    "unclean.leader.election.enable",
];

/// The given names of the settings that are kept only.
fn kept_only(reader: &Reader<'_>) -> Vec<String> {
    let mut names = Vec::new();
    for setting in topic_config::SETTINGS {
        if setting.server_name.is_empty() || !KEPT_ONLY.contains(&setting.name) {
            continue;
        }
        let longer = LONGER_UNITS.iter().filter(|(short, ..)| *short == setting.server_name);
        let all = longer.map(|(_, longer, _)| *longer).chain([setting.server_name]);
        names.extend(all.filter(|name| reader.text(name).is_some()).map(str::to_owned));
    }
    names
}

/// Settings in milliseconds that Kafka takes in longer units too: the shorter unit wins.
const LONGER_UNITS: [(&str, &str, i64); 4] = [
    ("log.retention.ms", "log.retention.minutes", 60_000),
    ("log.retention.ms", "log.retention.hours", 3_600_000),
    ("log.roll.ms", "log.roll.hours", 3_600_000),
    ("log.roll.jitter.ms", "log.roll.jitter.hours", 3_600_000),
];

fn in_longer_units(
    reader: &Reader<'_>,
    name: &str,
) -> Result<Option<(&'static str, String)>, ConfigError> {
    for (short, longer, factor) in LONGER_UNITS {
        if short != name || reader.text(longer).is_none() {
            continue;
        }
        let number: i64 = reader.number(longer, -1, INT_MAX, 0)?;
        let value = if number < 0 { -1 } else { number * factor };
        return Ok(Some((longer, value.to_string())));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn listen(ports: &[(&str, u16)]) -> Vec<(String, SocketAddr)> {
        ports
            .iter()
            .map(|(name, port)| ((*name).to_owned(), ([127, 0, 0, 1], *port).into()))
            .collect()
    }

    fn decided() -> Decided {
        Decided { listen: listen(&[("PLAINTEXT", 9092)]), data_dir: None }
    }

    fn read(pairs: &[(&str, &str)]) -> Result<(BrokerConfig, Vec<String>), ConfigError> {
        BrokerConfig::from_properties(&map(pairs), decided())
    }

    #[test]
    fn nothing_given_means_kafkas_defaults() {
        let (config, inert) = read(&[]).unwrap();
        assert_eq!(inert, Vec::<String>::new());
        assert_eq!((config.node_id, config.num_partitions), (1, 1));
        assert_eq!(config.socket_request_max_bytes, 104_857_600);
        assert_eq!(config.connections_max_idle_ms, 600_000);
        assert_eq!(config.group_initial_rebalance_delay_ms, 0);
        assert_eq!(config.group_max_size, 2_147_483_647);
        assert_eq!(config.data_dir, PathBuf::from("./odradek-data"));
        assert!(config.auto_create_topics_enable && config.topic_defaults.is_empty());
        let same = BrokerConfig::new(config.listen(), config.data_dir.clone());
        assert_eq!(same, config);
    }

    #[test]
    fn values_are_taken() {
        type Check = fn(&BrokerConfig) -> bool;
        let cases: &[(&str, &str, Check)] = &[
            ("node.id", "7", |c| c.node_id == 7),
            ("broker.id", "8", |c| c.node_id == 8),
            ("auto.create.topics.enable", "FALSE", |c| !c.auto_create_topics_enable),
            ("num.partitions", " 12 ", |c| c.num_partitions == 12),
            ("log.dirs", "/data/a", |c| c.data_dir == std::path::Path::new("/data/a")),
            ("log.dir", "/data/b", |c| c.data_dir == std::path::Path::new("/data/b")),
            ("connections.max.idle.ms", "-1", |c| c.connections_max_idle_ms == 3_153_600_000_000),
            ("connections.max.idle.ms", "9223372036854775807", |c| {
                c.connections_max_idle_ms == 3_153_600_000_000
            }),
            ("max.connections", "9", |c| c.connection_limits.connections == 9),
            ("cluster.id", "5L6g3nShT-eMCtK--X86sw", |c| {
                c.cluster_id.as_deref() == Some("5L6g3nShT-eMCtK--X86sw")
            }),
            ("num.partitions", "", |c| c.num_partitions == 1),
            ("process.roles", "broker,controller", |c| c.node_id == 1),
            ("controller.quorum.voters", "1@localhost:9093", |c| c.node_id == 1),
            ("advertised.listeners", "PLAINTEXT://localhost:9092", |c| {
                c.listeners[0].advertised == Some(("localhost".to_owned(), 9092))
            }),
            ("advertised.listeners", "PLAINTEXT://[::1]:9", |c| {
                c.listeners[0].advertised == Some(("::1".to_owned(), 9))
            }),
        ];
        for (name, value, check) in cases {
            let (config, inert) = read(&[(name, value)]).unwrap();
            assert!(check(&config), "{name}={value}: {config:?}");
            assert_eq!(inert, Vec::<String>::new(), "{name}");
        }
    }

    #[test]
    fn defaults_of_topics_go_by_the_topics_names() {
        type Given = &'static [(&'static str, &'static str)];
        let cases: &[(Given, &str, &str)] = &[
            (&[("log.retention.ms", "5")], "retention.ms", "5"),
            (&[("log.retention.hours", "2")], "retention.ms", "7200000"),
            (&[("log.retention.hours", "-1")], "retention.ms", "-1"),
            (
                &[("log.retention.hours", "2"), ("log.retention.minutes", "3")],
                "retention.ms",
                "180000",
            ),
            (&[("log.retention.hours", "2"), ("log.retention.ms", "4")], "retention.ms", "4"),
            (&[("log.roll.hours", "1")], "segment.ms", "3600000"),
            (&[("log.segment.bytes", "2097152")], "segment.bytes", "2097152"),
            (&[("message.max.bytes", "1000")], "max.message.bytes", "1000"),
            (&[("min.insync.replicas", "1")], "min.insync.replicas", "1"),
            (&[("log.flush.interval.ms", "9")], "flush.ms", "9"),
            (&[("odradek.durability", "replicated")], "durability", "replicated"),
        ];
        for (given, name, value) in cases {
            let (config, inert) = read(given).unwrap();
            assert_eq!(config.topic_defaults, map(&[(name, value)]));
            let expected = if KEPT_ONLY.contains(name) { given.len() } else { 0 };
            assert_eq!(inert.len(), expected, "{given:?}: {inert:?}");
        }
    }

    #[test]
    fn what_does_nothing_is_named() {
        let given =
            [("num.network.threads", "3"), ("no.such", "x"), ("ssl.keystore.location", "k")];
        let (_, inert) = read(&given).unwrap();
        assert_eq!(inert, ["no.such", "num.network.threads", "ssl.keystore.location"]);
        assert!(KEPT_ONLY.iter().all(|name| topic_config::find(name).is_some()));
    }

    #[test]
    fn refusals_name_the_setting() {
        let cases = [
            ("num.partitions", "0"),
            ("num.partitions", "100001"),
            ("num.partitions", "many"),
            ("node.id", "-1"),
            ("default.replication.factor", "32768"),
            ("socket.request.max.bytes", "2147483648"),
            ("auto.create.topics.enable", "yes"),
            ("group.min.session.timeout.ms", "1800001"),
            ("log.segment.bytes", "1"),
            ("log.retention.hours", "x"),
            ("log.dirs", "/a,/b"),
            ("cluster.id", "a b"),
            ("process.roles", "controller"),
            ("controller.quorum.voters", "1@a:9093,2@b:9093"),
            ("controller.quorum.voters", "2@a:9093"),
            ("listeners", "SSL://:9092"),
            ("listeners", "localhost:9092"),
            ("listeners", "PLAINTEXT://:9092,PLAINTEXT_HOST://:9093"),
            ("listeners", "PLAINTEXT://:9092,PLAINTEXT://:9093"),
            ("listeners", "PLAINTEXT://::1:9092"),
            ("advertised.listeners", "PLAINTEXT://0.0.0.0:9092"),
            ("advertised.listeners", "PLAINTEXT://:9092"),
            ("advertised.listeners", "PLAINTEXT://a:0"),
        ];
        for (name, value) in cases {
            let error = read(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(name) && !error.contains('\n'), "{name}={value}: {error}");
        }
    }

    fn found(properties: &[(&str, &str)]) -> Vec<(String, String, u16)> {
        let found = client_listeners(&map(properties)).unwrap();
        found.into_iter().map(|one| (one.name, one.host, one.port)).collect()
    }

    #[test]
    fn the_clients_listeners_are_found_among_kraft_ones() {
        let kraft = [
            ("listeners", "PLAINTEXT_HOST://:29092,CONTROLLER://:9093,INSIDE://box:9092"),
            ("controller.listener.names", "CONTROLLER"),
            ("inter.broker.listener.name", "INSIDE"),
            (
                "listener.security.protocol.map",
                "CONTROLLER:PLAINTEXT,PLAINTEXT_HOST:PLAINTEXT,INSIDE:PLAINTEXT",
            ),
        ];
        let outside = ("PLAINTEXT_HOST".to_owned(), String::new(), 29092);
        let inside = ("INSIDE".to_owned(), "box".to_owned(), 9092);
        assert_eq!(found(&kraft), [outside, inside]);
        let (_, inert) = read(&kraft).unwrap();
        assert_eq!(inert, Vec::<String>::new());
        assert_eq!(found(&[]), []);
        let named = ("PLAINTEXT".to_owned(), "box".to_owned(), 1);
        assert_eq!(found(&[("listeners", "plaintext://box:1")]), [named]);
    }

    #[test]
    fn each_listener_tells_its_own_address() {
        let listeners = ("listeners", "IN://:9092,OUT://:29092");
        let map_of = ("listener.security.protocol.map", "IN:PLAINTEXT,OUT:PLAINTEXT");
        let with = |advertised: &str, ports: &[(&str, u16)]| {
            let given = map(&[listeners, map_of, ("advertised.listeners", advertised)]);
            let decided = Decided { listen: listen(ports), data_dir: None };
            let (config, _) = BrokerConfig::from_properties(&given, decided)?;
            let told = config.listeners.into_iter().map(|one| one.advertised.map(|(host, _)| host));
            Ok::<_, ConfigError>(told.collect::<Vec<_>>())
        };
        let both = [("IN", 9092), ("OUT", 29092)];
        let (kafka, local) = (Some("kafka".to_owned()), Some("localhost".to_owned()));
        let told = with("OUT://localhost:29092,IN://kafka:9092", &both).unwrap();
        assert_eq!(told, [kafka, local.clone()]);
        assert_eq!(with("OUT://localhost:29092", &both).unwrap(), [None, local.clone()]);
        let error = with("IN://a:1,OTHER://b:2", &both).unwrap_err().to_string();
        assert!(error.contains("advertised.listeners"), "{error}");
        // A flag that takes the place of both of them.
        let flag = [("PLAINTEXT", 5)];
        assert_eq!(with("OUT://localhost:29092,IN://kafka:9092", &flag).unwrap(), [None]);
        assert_eq!(with("OUT://localhost:29092", &flag).unwrap(), [local]);
    }

    #[test]
    fn listeners_that_cannot_be_told_apart_are_refused() {
        let map_of = ("listener.security.protocol.map", "A:PLAINTEXT,B:PLAINTEXT");
        for text in ["A://:1,A://:2", "A://:1,B://:1", "A://:1,B://:0"] {
            let error = client_listeners(&map(&[("listeners", text), map_of])).unwrap_err();
            assert!(error.to_string().contains("of its own"), "{text}: {error}");
        }
    }

    #[test]
    fn a_decided_directory_wins() {
        let decided = Decided { data_dir: Some(PathBuf::from("/flag")), ..decided() };
        let given = map(&[("log.dirs", "/a,/b")]);
        let (config, inert) = BrokerConfig::from_properties(&given, decided).unwrap();
        assert_eq!(config.data_dir, PathBuf::from("/flag"));
        assert_eq!(inert, Vec::<String>::new());
    }
}
