//! Settings as a client is shown them: the value in force, where it comes from, and what it would be
//! without that.

use model::topic_config::{Kind, SETTINGS, Setting};

use crate::{config::BrokerConfig, shard::Shard};

/// Where a value comes from, by Kafka's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Set for the topic.
    Topic,
    /// Given to this node at its start.
    Node,
    /// Kafka's own.
    Default,
}

impl Source {
    pub(crate) fn code(self) -> i8 {
        match self {
            Source::Topic => 1,
            Source::Node => 4,
            Source::Default => 5,
        }
    }
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) name: String,
    /// What is in force.
    pub(crate) value: String,
    /// Every place that has a value, the one in force first: name there, value, place.
    pub(crate) synonyms: Vec<(String, String, Source)>,
    /// The kind of its values, by Kafka's numbers.
    pub(crate) type_code: i8,
    pub(crate) documentation: String,
}

impl Described {
    pub(crate) fn source(&self) -> Option<Source> {
        self.synonyms.first().map(|(_, _, source)| *source)
    }
}

/// Defaults that the node's settings have in hours.
const IN_HOURS: [(&str, &str, &str); 3] = [
    ("log.retention.ms", "log.retention.hours", "168"),
    ("log.roll.ms", "log.roll.hours", "168"),
    ("log.roll.jitter.ms", "log.roll.jitter.hours", "0"),
];
/// Settings that are for Kafka's own tests: shown where somebody has set them.
const INTERNAL_PREFIX: &str = "internal.";

/// The settings of a topic, in the order of their names.
pub(crate) fn describe_topic(shard: &Shard, topic: &str) -> Vec<Described> {
    let resource = cluster::record::ConfigResource::topic(topic);
    let image = shard.image.borrow();
    let own: Vec<(&str, &str)> = image.configs(&resource).collect();
    describe_with(&shard.config, &own)
}

/// The same of a topic that has these settings of its own.
pub(crate) fn describe_with(config: &BrokerConfig, own: &[(&str, &str)]) -> Vec<Described> {
    let own_value = |name: &str| own.iter().find(|(known, _)| *known == name).map(|(_, v)| *v);
    SETTINGS
        .iter()
        .filter(|setting| {
            !setting.name.starts_with(INTERNAL_PREFIX) || own_value(setting.name).is_some()
        })
        .map(|setting| {
            let mut synonyms = Vec::new();
            if let Some(value) = own_value(setting.name) {
                synonyms.push((setting.name.to_owned(), value.to_owned(), Source::Topic));
            }
            if let Some(value) = config.topic_defaults.get(setting.name) {
                synonyms.push((setting.server_name.to_owned(), value.clone(), Source::Node));
            }
            if !setting.server_name.is_empty() {
                let hours = IN_HOURS.iter().find(|(name, ..)| *name == setting.server_name);
                let (name, value) = hours
                    .map_or((setting.server_name, setting.default), |(_, name, value)| {
                        (*name, *value)
                    });
                synonyms.push((name.to_owned(), value.to_owned(), Source::Default));
            }
            let in_force = own_value(setting.name)
                .or_else(|| config.topic_defaults.get(setting.name).map(String::as_str))
                .unwrap_or(setting.default);
            described(setting, in_force.to_owned(), synonyms)
        })
        .collect()
}

fn described(
    setting: &Setting,
    value: String,
    synonyms: Vec<(String, String, Source)>,
) -> Described {
    Described {
        name: setting.name.to_owned(),
        value,
        synonyms,
        type_code: type_code(setting.kind),
        documentation: setting.kind.to_string(),
    }
}

fn type_code(kind: Kind) -> i8 {
    match kind {
        Kind::Boolean => 1,
        Kind::Choice(_) => 2,
        Kind::Int(..) => 3,
        Kind::Long(..) => 5,
        Kind::Double(..) => 6,
        Kind::Choices(_) | Kind::List => 7,
    }
}

/// The settings that this node was started with, as far as it acts on them, in the order of their
/// names.
pub(crate) fn describe_node(config: &BrokerConfig) -> Vec<Described> {
    let long = |name: &str, value: String| node_setting(name, value, 5, config);
    let int = |name: &str, value: String| node_setting(name, value, 3, config);
    let boolean = |name: &str, value: bool| node_setting(name, value.to_string(), 1, config);
    let mut settings = vec![
        int("node.id", config.node_id.to_string()),
        node_setting("log.dirs", config.data_dir.display().to_string(), 7, config),
        boolean("auto.create.topics.enable", config.auto_create_topics_enable),
        boolean("delete.topic.enable", config.delete_topic_enable),
        int("num.partitions", config.num_partitions.to_string()),
        int("default.replication.factor", config.default_replication_factor.to_string()),
        int("socket.request.max.bytes", config.socket_request_max_bytes.to_string()),
        long("connections.max.idle.ms", config.connections_max_idle_ms.to_string()),
        int("fetch.max.bytes", config.fetch_max_bytes.to_string()),
        int("offsets.topic.num.partitions", config.offsets_topic_num_partitions.to_string()),
        int("offset.metadata.max.bytes", config.offset_metadata_max_bytes.to_string()),
        int("offsets.retention.minutes", config.offsets_retention_minutes.to_string()),
        int(
            "group.initial.rebalance.delay.ms",
            config.group_initial_rebalance_delay_ms.to_string(),
        ),
        int("group.min.session.timeout.ms", config.group_min_session_timeout_ms.to_string()),
        int("group.max.session.timeout.ms", config.group_max_session_timeout_ms.to_string()),
        int("group.max.size", config.group_max_size.to_string()),
        int("producer.id.expiration.ms", config.producer_id_expiration_ms.to_string()),
        long("log.retention.check.interval.ms", config.log_retention_check_interval_ms.to_string()),
        long("log.initial.task.delay.ms", config.log_initial_task_delay_ms.to_string()),
    ];
    for setting in SETTINGS.iter().filter(|setting| !setting.server_name.is_empty()) {
        let given = config.topic_defaults.get(setting.name);
        let value = given.map_or(setting.default, String::as_str).to_owned();
        let mut one = node_setting(setting.server_name, value, type_code(setting.kind), config);
        if given.is_some() {
            one.synonyms[0].2 = Source::Node;
        }
        settings.push(one);
    }
    settings.sort_by(|one, other| one.name.cmp(&other.name));
    settings.dedup_by(|one, other| one.name == other.name);
    settings
}

fn node_setting(name: &str, value: String, type_code: i8, config: &BrokerConfig) -> Described {
    let source = if config.given.contains(name) { Source::Node } else { Source::Default };
    Described {
        name: name.to_owned(),
        synonyms: vec![(name.to_owned(), value.clone(), source)],
        value,
        type_code,
        documentation: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_value_is_in_force_and_the_others_are_its_synonyms() {
        let mut config = BrokerConfig::new("127.0.0.1:0".parse().unwrap(), "/data".into());
        config.topic_defaults.insert("retention.ms".to_owned(), "7".to_owned());
        let found = |own: &[(&str, &str)], name: &str| {
            let all = describe_with(&config, own);
            assert!(all.is_sorted_by(|one, other| one.name < other.name));
            all.into_iter().find(|one| one.name == name)
        };
        let one = found(&[("retention.ms", "5")], "retention.ms").unwrap();
        let synonyms: Vec<(&str, &str, i8)> = one
            .synonyms
            .iter()
            .map(|(name, value, source)| (name.as_str(), value.as_str(), source.code()))
            .collect();
        assert_eq!(one.value, "5");
        assert_eq!(
            synonyms,
            [
                ("retention.ms", "5", 1),
                ("log.retention.ms", "7", 4),
                ("log.retention.hours", "168", 5)
            ]
        );
        assert_eq!(found(&[], "retention.ms").unwrap().value, "7");
        let default = found(&[], "segment.bytes").unwrap();
        assert_eq!(
            (default.value.as_str(), default.source()),
            ("1073741824", Some(Source::Default))
        );
        assert_eq!(found(&[], "internal.segment.bytes"), None);
        assert!(found(&[("internal.segment.bytes", "65536")], "internal.segment.bytes").is_some());
    }

    #[test]
    fn a_node_tells_each_of_its_settings_once() {
        let config = BrokerConfig::new("127.0.0.1:0".parse().unwrap(), "/data".into());
        let all = describe_node(&config);
        assert!(all.is_sorted_by(|one, other| one.name < other.name));
        assert!(all.iter().all(|one| one.source() == Some(Source::Default)));
        assert!(all.iter().any(|one| one.name == "log.segment.bytes"));
    }
}
