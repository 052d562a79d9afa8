//! Settings as a client is shown them: the value in force, where it comes from, and what it would be
//! without that.

use cluster::{
    MetadataImage, client_metrics, group_config,
    record::{ConfigResource, ResourceType},
};
use model::{
    NodeId,
    collections::BTreeMap,
    server_config::{self, ServerSetting, Update},
    topic_config::{Kind, SETTINGS},
};

use crate::{
    config::{BrokerConfig, ClientListener},
    shard::Shard,
};

/// Where a value comes from, by Kafka's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Set for the topic.
    Topic,
    /// Set for this broker while it ran.
    Broker,
    /// Set for all brokers while they ran.
    Brokers,
    /// Set for a subscription to clients' metrics.
    ClientMetrics,
    /// Set for a group.
    Group,
    /// The level of a logger, which has no synonyms besides.
    Logger,
    /// Given to this node at its start.
    Node,
    /// Kafka's own.
    Default,
}

impl Source {
    pub(crate) fn code(self) -> i8 {
        match self {
            Source::Topic => 1,
            Source::Broker => 2,
            Source::Brokers => 3,
            Source::ClientMetrics => 7,
            Source::Group => 8,
            Source::Logger => 6,
            Source::Node => 4,
            Source::Default => 5,
        }
    }
}

/// A place that has a value: the name there, the value, the place.
pub(crate) type Synonym = (String, String, Source);

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) name: String,
    /// What is in force; `None` where nothing is, or where nobody is shown it.
    pub(crate) value: Option<String>,
    /// Every place that has a value, the one in force first.
    pub(crate) synonyms: Vec<Synonym>,
    /// The kind of its values, by Kafka's numbers.
    pub(crate) type_code: i8,
    /// Whether it can be altered.
    pub(crate) is_read_only: bool,
    /// Whether its value is a secret.
    pub(crate) is_sensitive: bool,
    pub(crate) documentation: String,
}

impl Described {
    pub(crate) fn source(&self) -> Option<Source> {
        self.synonyms.first().map(|(_, _, source)| *source)
    }
}

/// Settings in milliseconds, and what they are called in longer units: those have the defaults.
const LONGER_UNITS: [(&str, &[&str]); 3] = [
    ("log.retention.ms", &["log.retention.minutes", "log.retention.hours"]),
    ("log.roll.ms", &["log.roll.hours"]),
    ("log.roll.jitter.ms", &["log.roll.jitter.hours"]),
];
/// Settings that are for Kafka's own tests: shown where somebody has set them.
const INTERNAL_PREFIX: &str = "internal.";

/// Everything that says what a broker's settings are, from the nearest to the farthest.
pub(crate) struct Layers<'a> {
    /// Set for this broker.
    broker: BTreeMap<&'a str, &'a str>,
    /// Set for all brokers.
    brokers: BTreeMap<&'a str, &'a str>,
    config: &'a BrokerConfig,
}

impl<'a> Layers<'a> {
    pub(crate) fn new(config: &'a BrokerConfig, image: &'a MetadataImage) -> Layers<'a> {
        let of = |resource| image.configs(&resource).collect();
        Layers {
            broker: of(ConfigResource::broker(NodeId(config.node_id))),
            brokers: of(ConfigResource::all_brokers()),
            config,
        }
    }

    /// Every value of a broker's setting.
    fn synonyms(&self, name: &str) -> Vec<Synonym> {
        let longer = LONGER_UNITS.iter().find(|(short, _)| *short == name);
        let names: Vec<&str> =
            [name].into_iter().chain(longer.map_or(&[][..], |(_, l)| l).iter().copied()).collect();
        let mut synonyms = Vec::new();
        let mut take = |source, value: &dyn Fn(&str) -> Option<String>| {
            synonyms.extend(names.iter().filter_map(|name| {
                let value = value(name)?;
                Some(((*name).to_owned(), value, source))
            }));
        };
        take(Source::Broker, &|name| self.broker.get(name).map(|value| (*value).to_owned()));
        take(Source::Brokers, &|name| self.brokers.get(name).map(|value| (*value).to_owned()));
        take(Source::Node, &|name| started_with(self.config, name));
        take(Source::Default, &|name| default_of(name).map(str::to_owned));
        synonyms
    }
}

/// What the node was started with, by a setting or in another way.
fn started_with(config: &BrokerConfig, name: &str) -> Option<String> {
    match name {
        "node.id" | "broker.id" => Some(config.node_id.to_string()),
        "log.dirs" => Some(config.data_dir.display().to_string()),
        "listeners" => {
            let entry = |one: &ClientListener| format!("{}://{}", one.name, one.address);
            Some(config.listeners.iter().map(entry).collect::<Vec<_>>().join(","))
        }
        "process.roles" => Some("broker,controller".to_owned()),
        _ => config.given.get(name).cloned(),
    }
}

/// A setting's default, also where it is not Apache Kafka's.
fn default_of(name: &str) -> Option<&'static str> {
    match name {
        "group.initial.rebalance.delay.ms" => Some("0"),
        _ => server_config::find(name)?.default,
    }
}

/// The settings of a topic, in the order of their names.
pub(crate) fn describe_topic(shard: &Shard, topic: &str) -> Vec<Described> {
    let resource = ConfigResource::topic(topic);
    let image = shard.image.borrow();
    let own: Vec<(&str, &str)> = image.configs(&resource).collect();
    describe_with(&Layers::new(&shard.config, &image), &own, Shown::Understood)
}

/// How values are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// As they were set: so the controller does in Apache Kafka, when it has created a topic.
    AsSet,
    /// As Apache Kafka's brokers have understood them.
    Understood,
}

/// The same of a topic that has these settings of its own.
pub(crate) fn describe_with(
    layers: &Layers<'_>,
    own: &[(&str, &str)],
    shown: Shown,
) -> Vec<Described> {
    let own_value = |name: &str| own.iter().find(|(known, _)| *known == name).map(|(_, v)| *v);
    let text = |kind: Kind, value: &str| match shown {
        Shown::AsSet => value.to_owned(),
        Shown::Understood => kind.shown(value),
    };
    SETTINGS
        .iter()
        .filter(|setting| {
            !setting.name.starts_with(INTERNAL_PREFIX) || own_value(setting.name).is_some()
        })
        .map(|setting| {
            let mut synonyms = Vec::new();
            if let Some(value) = own_value(setting.name) {
                let value = text(setting.kind, value);
                synonyms.push((setting.name.to_owned(), value, Source::Topic));
            }
            let of_broker = if setting.server_name.is_empty() {
                Vec::new()
            } else {
                layers.synonyms(setting.server_name)
            };
            // As in Apache Kafka, a value in longer units shows beside one in milliseconds alone.
            let is_other = |one: &Synonym| one.0 != setting.server_name;
            synonyms.extend(of_broker.into_iter().skip_while(is_other));
            let in_force = synonyms.first().map(|(_, value, _)| value.as_str());
            let started_with = layers.config.topic_defaults.get(setting.name).map(String::as_str);
            let value = in_force.or(started_with).unwrap_or(setting.default);
            let value = text(setting.kind, value);
            Described {
                name: setting.name.to_owned(),
                value: Some(value),
                synonyms,
                type_code: type_code(setting.kind),
                is_read_only: false,
                is_sensitive: false,
                documentation: setting.kind.to_string(),
            }
        })
        .collect()
}

/// The settings of a subscription to clients' metrics, in the order of their names.
pub(crate) fn describe_client_metrics(shard: &Shard, name: &str) -> Vec<Described> {
    let resource =
        ConfigResource { resource_type: ResourceType::CLIENT_METRICS, name: name.to_owned() };
    let image = shard.image.borrow();
    let set: BTreeMap<&str, &str> = image.configs(&resource).collect();
    let described = client_metrics::SETTINGS.iter().map(|setting| {
        let own = set.get(setting.name).map(|value| setting.kind.shown(value));
        let synonym = |value| (setting.name.to_owned(), value, Source::ClientMetrics);
        Described {
            name: setting.name.to_owned(),
            value: Some(own.clone().unwrap_or_else(|| setting.default.to_owned())),
            synonyms: own.map(synonym).into_iter().collect(),
            type_code: type_code(setting.kind),
            is_read_only: false,
            is_sensitive: false,
            documentation: setting.kind.to_string(),
        }
    });
    described.collect()
}

/// The settings of a group, in the order of their names.
pub(crate) fn describe_group(shard: &Shard, group: &str) -> Vec<Described> {
    let resource = ConfigResource { resource_type: ResourceType::GROUP, name: group.to_owned() };
    let image = shard.image.borrow();
    let own: BTreeMap<&str, &str> = image.configs(&resource).collect();
    describe_group_with(&Layers::new(&shard.config, &image), &own)
}

fn describe_group_with(layers: &Layers<'_>, own: &BTreeMap<&str, &str>) -> Vec<Described> {
    let is_told =
        |one: &&group_config::GroupSetting| !one.is_internal || own.contains_key(one.setting.name);
    let described = group_config::SETTINGS.iter().filter(is_told).map(|one| {
        let setting = one.setting;
        let own = own.get(setting.name).map(|value| setting.kind.shown(value));
        let mut synonyms: Vec<Synonym> =
            own.into_iter().map(|value| (setting.name.to_owned(), value, Source::Group)).collect();
        let of_broker = layers.synonyms(setting.server_name);
        if of_broker.is_empty() {
            let name =
                if setting.server_name.is_empty() { setting.name } else { setting.server_name };
            synonyms.push((name.to_owned(), setting.default.to_owned(), Source::Default));
        }
        synonyms.extend(of_broker);
        Described {
            name: setting.name.to_owned(),
            value: synonyms.first().map(|(_, value, _)| setting.kind.shown(value)),
            synonyms,
            type_code: type_code(setting.kind),
            is_read_only: false,
            is_sensitive: false,
            documentation: setting.kind.to_string(),
        }
    });
    described.collect()
}

/// The loggers of this process, in the order of their names.
pub(crate) fn describe_loggers(shard: &Shard) -> Vec<Described> {
    let mut levels = shard.loggers.levels();
    levels.sort_unstable_by_key(|(name, _)| *name);
    let described = levels.into_iter().map(|(name, level)| {
        let value = level.name().to_owned();
        Described {
            name: name.to_owned(),
            synonyms: vec![(name.to_owned(), value.clone(), Source::Logger)],
            value: Some(value),
            // Of no type, as in Apache Kafka.
            type_code: 0,
            is_read_only: false,
            is_sensitive: false,
            documentation: String::new(),
        }
    });
    described.collect()
}

fn type_code(kind: Kind) -> i8 {
    match kind {
        Kind::Boolean => 1,
        Kind::Choice(_) | Kind::Text => 2,
        Kind::Int(..) => 3,
        Kind::Short(..) => 4,
        Kind::Long(..) => 5,
        Kind::Double(..) => 6,
        Kind::Choices(_) | Kind::List => 7,
        Kind::Class => 8,
        Kind::Secret => 9,
    }
}

/// The settings of this broker, in the order of their names.
pub(crate) fn describe_node(layers: &Layers<'_>) -> Vec<Described> {
    let is_shown = |setting: &&ServerSetting| {
        !THROTTLES.contains(&setting.name) || layers.broker.contains_key(setting.name)
    };
    let settings = server_config::SETTINGS.iter().filter(is_shown);
    settings.map(|setting| described(setting, layers.synonyms(setting.name))).collect()
}

/// What was set for all brokers, in the order of the names.
pub(crate) fn describe_all_nodes(layers: &Layers<'_>) -> Vec<Described> {
    let set = layers.brokers.iter().filter_map(|(name, value)| {
        let setting = server_config::find(name)?;
        let synonym = ((*name).to_owned(), (*value).to_owned(), Source::Brokers);
        // As in Apache Kafka, which shows these as they were set.
        let value = (setting.kind != Kind::Secret).then(|| (*value).to_owned());
        Some(Described { value, ..described(setting, vec![synonym]) })
    });
    set.collect()
}

/// Settings without a default, which only show where they are set.
const THROTTLES: [&str; 3] = [
    "follower.replication.throttled.rate",
    "leader.replication.throttled.rate",
    "replica.alter.log.dirs.io.max.bytes.per.second",
];

fn described(setting: &ServerSetting, mut synonyms: Vec<Synonym>) -> Described {
    let is_sensitive = setting.kind == Kind::Secret;
    // What is in force may stand under the name of a longer unit, which is a setting by itself.
    let of_name = synonyms.iter().position(|(name, ..)| name == setting.name);
    match of_name {
        Some(first) => drop(synonyms.drain(..first)),
        None => synonyms.clear(),
    }
    let value = synonyms.first().map(|(_, value, _)| setting.kind.shown(value));
    if is_sensitive {
        synonyms.iter_mut().for_each(|(_, value, _)| value.clear());
    }
    Described {
        name: setting.name.to_owned(),
        value: value.filter(|_| !is_sensitive),
        synonyms,
        type_code: type_code(setting.kind),
        is_read_only: setting.update != Update::ClusterWide,
        is_sensitive,
        documentation: setting.kind.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use model::Offset;

    use super::*;

    fn config(given: &[(&str, &str)]) -> BrokerConfig {
        let mut config = BrokerConfig::new("127.0.0.1:0".parse().unwrap(), "/data".into());
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        config.given.extend(given);
        config
    }

    /// An image in which these were set, for all brokers (`true`) or for the first.
    fn image(set: &[(bool, &str, &str)]) -> MetadataImage {
        let mut image = MetadataImage::new();
        let records: Vec<_> = set
            .iter()
            .map(|(is_for_all, name, value)| cluster::MetadataRecord::Config {
                resource: if *is_for_all {
                    ConfigResource::all_brokers()
                } else {
                    ConfigResource::broker(NodeId(1))
                },
                name: (*name).to_owned(),
                value: Some((*value).to_owned()),
            })
            .collect();
        image.apply(Offset(0), &records).unwrap();
        image
    }

    fn shown(one: &Described) -> (Option<&str>, Vec<(&str, &str, i8)>) {
        let synonyms = one.synonyms.iter();
        let synonyms =
            synonyms.map(|(name, value, source)| (name.as_str(), value.as_str(), source.code()));
        (one.value.as_deref(), synonyms.collect())
    }

    #[test]
    fn the_nearest_value_is_in_force_and_the_others_are_its_synonyms() {
        let config = config(&[("log.retention.ms", "7"), ("log.roll.hours", "3")]);
        let image = image(&[(true, "log.retention.ms", "6"), (false, "log.segment.bytes", "9")]);
        let layers = Layers::new(&config, &image);
        let find = |own: &[(&str, &str)], name: &str| {
            let all = describe_with(&layers, own, Shown::Understood);
            assert!(all.is_sorted_by(|one, other| one.name < other.name));
            all.into_iter().find(|one| one.name == name)
        };
        let farther = [
            ("log.retention.ms", "6", 3),
            ("log.retention.ms", "7", 4),
            ("log.retention.hours", "168", 5),
        ];
        let nearest = [&[("retention.ms", "5", 1)][..], &farther].concat();
        let own = find(&[("retention.ms", "5")], "retention.ms").unwrap();
        assert_eq!(shown(&own), (Some("5"), nearest));
        let inherited = find(&[], "retention.ms").unwrap();
        assert_eq!(shown(&inherited), (Some("6"), farther.to_vec()));
        let segment = find(&[], "segment.bytes").unwrap();
        let expected = [("log.segment.bytes", "9", 2), ("log.segment.bytes", "1073741824", 5)];
        assert_eq!(shown(&segment), (Some("9"), expected.to_vec()));
        for (how, expected) in [(Shown::Understood, "true"), (Shown::AsSet, "TRUE")] {
            let all = describe_with(&layers, &[("preallocate", "TRUE")], how);
            let one = all.iter().find(|one| one.name == "preallocate").unwrap();
            let synonyms = vec![("preallocate", expected, 1), ("log.preallocate", "false", 5)];
            assert_eq!(shown(one), (Some(expected), synonyms));
        }
        // Apache Kafka shows no source of what was given in hours.
        assert_eq!(shown(&find(&[], "segment.ms").unwrap()).1, []);
        assert_eq!(find(&[], "internal.segment.bytes"), None);
        assert!(find(&[("internal.segment.bytes", "65536")], "internal.segment.bytes").is_some());
    }

    #[test]
    fn a_group_has_its_own_settings_over_the_brokers() {
        let config = config(&[("group.consumer.heartbeat.interval.ms", "6000")]);
        let image = image(&[]);
        let layers = Layers::new(&config, &image);
        let own =
            [("share.isolation.level", "read_committed"), ("streams.num.warmup.replicas", "3")];
        let all = describe_group_with(&layers, &own.into_iter().collect());
        assert!(all.is_sorted_by(|one, other| one.name < other.name));
        let find = |name: &str| all.iter().find(|one| one.name == name).map(shown);
        let expected = [("share.isolation.level", "read_committed", 8)];
        let default = [("share.isolation.level", "read_uncommitted", 5)];
        let both = [expected, default].concat();
        assert_eq!(find("share.isolation.level"), Some((Some("read_committed"), both)));
        let given = [
            ("group.consumer.heartbeat.interval.ms", "6000", 4),
            ("group.consumer.heartbeat.interval.ms", "5000", 5),
        ];
        assert_eq!(find("consumer.heartbeat.interval.ms"), Some((Some("6000"), given.to_vec())));
        let warmup = [
            ("streams.num.warmup.replicas", "3", 8),
            ("group.streams.num.warmup.replicas", "2", 5),
        ];
        assert_eq!(find("streams.num.warmup.replicas"), Some((Some("3"), warmup.to_vec())));
        assert_eq!(find("streams.acceptable.recovery.lag"), None, "told where it is set");
    }

    #[test]
    fn a_broker_tells_each_of_its_settings_once() {
        let config = config(&[("num.io.threads", "4"), ("ssl.key.password", "secret")]);
        let image = image(&[(false, "num.io.threads", "9"), (true, "log.retention.ms", "6")]);
        let layers = Layers::new(&config, &image);
        let all = describe_node(&layers);
        assert!(all.is_sorted_by(|one, other| one.name < other.name));
        let find = |name: &str| all.iter().find(|one| one.name == name).expect(name);
        let threads =
            [("num.io.threads", "9", 2), ("num.io.threads", "4", 4), ("num.io.threads", "8", 5)];
        assert_eq!(shown(find("num.io.threads")), (Some("9"), threads.to_vec()));
        assert_eq!(find("log.retention.ms").source(), Some(Source::Brokers));
        assert_eq!(shown(find("log.roll.ms")), (None, Vec::new()));
        assert_eq!(shown(find("log.retention.hours")).0, Some("168"));
        assert_eq!(shown(find("log.dirs")).0, Some("/data"));
        assert!(find("num.partitions").is_read_only && !find("num.io.threads").is_read_only);
        let secret = find("ssl.key.password");
        assert!(secret.is_sensitive);
        assert_eq!(shown(secret), (None, vec![("ssl.key.password", "", 4)]));
        let for_all = describe_all_nodes(&layers);
        assert_eq!(for_all.len(), 1);
        assert_eq!(shown(&for_all[0]), (Some("6"), vec![("log.retention.ms", "6", 3)]));
    }
}
