//! The settings of a broker: Kafka's names, defaults and bounds (those of 4.4), and which of them
//! may be altered while it runs (KIP-226).

mod table;

pub use table::SETTINGS;

use crate::topic_config::{InvalidSetting, Kind};

/// Whether a setting may be altered while the broker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// It may not.
    ReadOnly,
    /// It may, for each broker and for all of them.
    ClusterWide,
    /// It may in Apache Kafka, for each broker alone.
    PerBroker,
    /// It may in Apache Kafka, for each listener alone.
    PerListener,
}

/// A broker's setting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServerSetting {
    /// Its name, as `server.properties` has it.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// Its value where nobody sets one.
    pub default: Option<&'static str>,
    /// Whether it may be altered.
    pub update: Update,
}

const fn row(
    name: &'static str,
    kind: Kind,
    default: Option<&'static str>,
    update: Update,
) -> ServerSetting {
    ServerSetting { name, kind, default, update }
}

/// The setting of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static ServerSetting> {
    SETTINGS.binary_search_by(|setting| setting.name.cmp(name)).ok().map(|index| &SETTINGS[index])
}

/// Checks a value against the table.
///
/// # Errors
/// Says what would be right.
pub fn check(setting: &'static ServerSetting, value: &str) -> Result<(), InvalidSetting> {
    match setting.kind.refusal(value.trim()) {
        None => Ok(()),
        Some(reason) => {
            Err(InvalidSetting::Value { name: setting.name, value: value.to_owned(), reason })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topic_config;

    #[test]
    fn names_are_in_order_and_defaults_fit() {
        assert!(SETTINGS.is_sorted_by(|one, other| one.name < other.name));
        for setting in SETTINGS {
            assert_eq!(find(setting.name), Some(setting));
            if let Some(default) = setting.default {
                // Apache Kafka takes no level of gzip between -1 and 1, and its own default.
                let is_gzip = setting.name == "compression.gzip.level";
                assert!(is_gzip || check(setting, default).is_ok(), "{}", setting.name);
            }
        }
        assert_eq!(find("nonsense"), None);
    }

    #[test]
    fn what_topics_take_from_the_broker_may_be_altered_while_it_runs() {
        // The one of Odradek's own is given at the start alone.
        let is_kafkas = |name: &str| !name.is_empty() && !name.starts_with("odradek.");
        for topic in topic_config::SETTINGS.iter().filter(|one| is_kafkas(one.server_name)) {
            let setting = find(topic.server_name).expect(topic.server_name);
            assert_eq!(setting.update, Update::ClusterWide, "{}", setting.name);
            if let Some(default) = setting.default {
                assert_eq!(default, topic.default, "{}", setting.name);
            }
        }
    }

    #[test]
    fn values_are_refused_with_a_reason() {
        let cases = [
            ("log.retention.ms", "x", "Not a number of type LONG"),
            ("num.io.threads", "0", "Value must be at least 1"),
            ("log.cleanup.policy", "x", "String must be one of: compact, delete"),
            ("log.preallocate", "maybe", "Expected value to be either true or false"),
        ];
        for (name, value, reason) in cases {
            let error = check(find(name).unwrap(), value).unwrap_err().to_string();
            let expected = format!("Invalid value {value} for configuration {name}: {reason}");
            assert_eq!(error, expected);
        }
    }
}
