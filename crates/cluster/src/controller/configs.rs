//! Settings of topics, brokers, groups and subscriptions to clients' metrics: altered one by one (IncrementalAlterConfigs) or as a whole (AlterConfigs).

use model::NodeId;
use model::collections::BTreeMap;
use model::server_config::{self, ServerSetting, Update};
use model::topic_config::{self, Kind, TopicConfig};

use super::{Controller, Decision, Intent};
use crate::record::{ConfigResource, MetadataRecord, ResourceType};
use crate::{Error, client_metrics, group_config};

/// What is done to one setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigOperation {
    /// It gets this value.
    Set(String),
    /// It goes back to its default.
    Delete,
    /// These words, separated by commas, are added to a list.
    Append(String),
    /// These words are taken from a list.
    Subtract(String),
}

/// How the changes of a resource are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlterMode {
    /// What is not named stays as it is.
    Incremental,
    /// What is not named goes back to its default.
    Full,
}

/// The changes of one resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigChange {
    /// Whose settings.
    pub resource: ConfigResource,
    /// Which, and what becomes of them.
    pub operations: Vec<(String, ConfigOperation)>,
}

impl Controller {
    /// Alters settings. Each resource succeeds or fails alone and whole, in the order of the
    /// request.
    pub fn alter_configs(
        &mut self,
        changes: &[ConfigChange],
        mode: AlterMode,
        intent: Intent,
    ) -> Decision<Vec<(ConfigResource, Result<(), Error>)>> {
        let mut times = BTreeMap::<&ConfigResource, usize>::new();
        for change in changes {
            *times.entry(&change.resource).or_default() += 1;
        }
        let mut records = Vec::new();
        let mut answers = Vec::new();
        for change in changes {
            let count = match times.get_mut(&change.resource) {
                Some(count) if *count > 0 => std::mem::replace(count, 0),
                _ => continue,
            };
            let result = if count > 1 {
                Err(Error::InvalidRequest("a resource is named twice".to_owned()))
            } else {
                self.alter_config(change, mode).map(|decided| records.extend(decided))
            };
            answers.push((change.resource.clone(), result));
        }
        self.conclude(intent, records, answers)
    }

    fn alter_config(
        &self,
        change: &ConfigChange,
        mode: AlterMode,
    ) -> Result<Vec<MetadataRecord>, Error> {
        let resource = &change.resource;
        let scope = self.scope(resource)?;
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        let before: BTreeMap<String, String> = self.image.configs(resource).map(owned).collect();
        let mut after = match mode {
            AlterMode::Incremental => before.clone(),
            AlterMode::Full => BTreeMap::new(),
        };
        let mut named = BTreeMap::new();
        for (name, operation) in &change.operations {
            if named.insert(name, ()).is_some() {
                let twice = "Error due to duplicate config keys".to_owned();
                return Err(Error::InvalidRequest(twice));
            }
            let value = altered(scope, name, operation, before.get(name).map(String::as_str))?;
            match value {
                Some(value) => after.insert(name.clone(), value),
                None => after.remove(name),
            };
        }
        let records = differences(resource, &before, &after);
        if resource.name.is_empty()
            && let Some(refusal) = scope.needs_a_name()
        {
            return Err(Error::InvalidRequest(refusal.to_owned()));
        }
        match scope {
            Scope::Topic => check_settings(&after)?,
            Scope::Brokers | Scope::Broker => check_server_settings(scope, &records)?,
            Scope::Group => group_config::check(&after, &self.given)?,
            Scope::ClientMetrics => {
                // As in Apache Kafka, a name that is none is told before a value that is none.
                for name in after.keys() {
                    client_metrics::find(name)?;
                }
                for (name, value) in &after {
                    client_metrics::check(name, value)?;
                }
            }
        }
        // As in Apache Kafka, what is wrong with the settings is told before that.
        if scope == Scope::Topic && self.image.topic_by_name(&resource.name).is_none() {
            return Err(Error::UnknownTopic(resource.name.clone()));
        }
        Ok(records)
    }

    /// Whose settings these are; refuses what has none that can be altered. Whether a topic is there is
    /// left open, and whether there is a name.
    fn scope(&self, resource: &ConfigResource) -> Result<Scope, Error> {
        let name = &resource.name;
        match resource.resource_type {
            ResourceType::TOPIC => Ok(Scope::Topic),
            ResourceType::BROKER if name.is_empty() => Ok(Scope::Brokers),
            ResourceType::BROKER => {
                let is_own = |id: &NodeId| id.to_string() == *name;
                if self.image.brokers().keys().any(is_own) {
                    Ok(Scope::Broker)
                } else {
                    let name = name.escape_default();
                    Err(Error::InvalidRequest(format!("there is no broker '{name}' here")))
                }
            }
            ResourceType::CLIENT_METRICS => Ok(Scope::ClientMetrics),
            ResourceType::GROUP => Ok(Scope::Group),
            ResourceType(other) => Err(Error::InvalidRequest(format!(
                "the settings of resources of type {other} cannot be altered here"
            ))),
        }
    }
}

/// What settings belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// A topic.
    Topic,
    /// All brokers.
    Brokers,
    /// One broker.
    Broker,
    /// A subscription to clients' metrics.
    ClientMetrics,
    /// A group.
    Group,
}

impl Scope {
    /// What is told where these settings have to be somebody's and are nobody's. As in Apache
    /// Kafka, what cannot be done to a setting is told before that, and what it cannot be after it.
    fn needs_a_name(self) -> Option<&'static str> {
        match self {
            Scope::Topic => Some("Default topic resources are not allowed."),
            Scope::ClientMetrics => Some("Subscription name can't be empty"),
            Scope::Group => Some("Default group resources are not allowed."),
            Scope::Brokers | Scope::Broker => None,
        }
    }

    /// What values a setting takes, and what it is by default.
    ///
    /// As in Apache Kafka, a name that is none is looked at later, and is no list until then; no list
    /// of groups and of subscriptions to clients' metrics can be added to.
    fn setting(self, name: &str) -> (Kind, &'static str) {
        let known = match self {
            Scope::Topic => topic_config::find(name).map(|one| (one.kind, one.default)),
            Scope::ClientMetrics | Scope::Group => None,
            Scope::Brokers | Scope::Broker => {
                server_config::find(name).map(|one| (one.kind, one.default.unwrap_or_default()))
            }
        };
        known.unwrap_or((Kind::Text, ""))
    }
}

fn server_setting(name: &str) -> Result<&'static ServerSetting, Error> {
    server_config::find(name).ok_or_else(|| {
        Error::InvalidConfig(format!("Unknown broker config name: {}", name.escape_default()))
    })
}

/// Checks what is set of a broker. What is taken back is not looked at.
fn check_server_settings(scope: Scope, records: &[MetadataRecord]) -> Result<(), Error> {
    let mut unknown = Ok(());
    for record in records {
        let MetadataRecord::Config { name, value: Some(value), .. } = record else { continue };
        let setting = match server_setting(name) {
            Ok(setting) => setting,
            // What Apache Kafka refuses of the others is told first: this it would keep.
            Err(error) => {
                unknown = unknown.and(Err(error));
                continue;
            }
        };
        let refusal = match setting.update {
            Update::ClusterWide => None,
            Update::PerListener => Some(
                "These security configs can be dynamically updated only per-listener using the \
                 listener prefix",
            ),
            Update::PerBroker if scope == Scope::Brokers => Some(
                "Cannot update these configs at default cluster level, broker id must be specified",
            ),
            // There is one listener, with one protocol, for as long as the node runs.
            Update::ReadOnly | Update::PerBroker => Some("Cannot update these configs dynamically"),
        };
        if let Some(refusal) = refusal {
            return Err(Error::InvalidRequest(format!("{refusal}: [{name}]")));
        }
        let invalid =
            |refused: topic_config::InvalidSetting| Error::InvalidRequest(refused.to_string());
        server_config::check(setting, value).map_err(invalid)?;
        let is_topics = |topic: &&topic_config::Setting| topic.server_name == name;
        if let Some(topic) = topic_config::SETTINGS.iter().find(is_topics) {
            topic_config::check(topic.name, value).map_err(invalid)?;
        }
    }
    unknown
}

/// Checks the settings of a topic, each alone and together.
pub(super) fn check_settings(settings: &BTreeMap<String, String>) -> Result<(), Error> {
    let pairs = settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let config = TopicConfig::from_settings(pairs)
        .map_err(|refused| Error::InvalidConfig(refused.to_string()))?;
    if config.min_compaction_lag_ms > config.max_compaction_lag_ms {
        return Err(Error::InvalidConfig(format!(
            "conflict topic config setting min.compaction.lag.ms ({}) > max.compaction.lag.ms ({})",
            config.min_compaction_lag_ms, config.max_compaction_lag_ms
        )));
    }
    let remote = settings.get("remote.storage.enable");
    if remote.is_some_and(|value| value.trim().eq_ignore_ascii_case("true")) {
        return Err(Error::InvalidConfig(
            "Tiered Storage functionality is disabled in the broker. Topic cannot be configured \
             with remote log storage."
                .to_owned(),
        ));
    }
    Ok(())
}

/// The words between commas as Java splits: those at the end that are empty are none.
fn split(words: &str) -> impl Iterator<Item = &str> {
    let rest = words.trim_end_matches(',');
    let is_nothing = rest.is_empty() && !words.is_empty();
    rest.split(',').filter(move |_| !is_nothing)
}

/// The value of a setting after an operation; `None`: the default.
fn altered(
    scope: Scope,
    name: &str,
    operation: &ConfigOperation,
    before: Option<&str>,
) -> Result<Option<String>, Error> {
    // What is not there can be taken back, whatever it is called.
    if *operation == ConfigOperation::Delete {
        return Ok(None);
    }
    let (kind, default) = scope.setting(name);
    let list = |what: &str| match kind {
        Kind::Choices(_) | Kind::List => {
            let value = before.unwrap_or(default);
            Ok(value.split(',').filter(|word| !word.is_empty()).collect::<Vec<_>>())
        }
        Kind::Int(..)
        | Kind::Long(..)
        | Kind::Double(..)
        | Kind::Short(..)
        | Kind::Boolean
        | Kind::Choice(_)
        | Kind::Text
        | Kind::Secret
        | Kind::Class => Err(Error::InvalidConfig(format!(
            "Can't {what} to key {name} because its type is not LIST."
        ))),
    };
    match operation {
        ConfigOperation::Set(value) => Ok(Some(value.clone())),
        ConfigOperation::Delete => Ok(None),
        ConfigOperation::Append(words) => {
            let mut list = list("APPEND")?;
            for word in split(words) {
                if !list.contains(&word) {
                    list.push(word);
                }
            }
            Ok(Some(list.join(",")))
        }
        ConfigOperation::Subtract(words) => {
            let mut list = list("SUBTRACT")?;
            list.retain(|word| !split(words).any(|taken| taken == *word));
            Ok(Some(list.join(",")))
        }
    }
}

/// The records that lead from one state of the settings to another.
fn differences(
    resource: &ConfigResource,
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Vec<MetadataRecord> {
    let record = |name: &String, value: Option<&String>| MetadataRecord::Config {
        resource: resource.clone(),
        name: name.clone(),
        value: value.cloned(),
    };
    let removed = before.keys().filter(|name| !after.contains_key(*name));
    let changed = after.iter().filter(|(name, value)| before.get(*name) != Some(*value));
    removed
        .map(|name| record(name, None))
        .chain(changed.map(|(name, value)| record(name, Some(value))))
        .collect()
}
