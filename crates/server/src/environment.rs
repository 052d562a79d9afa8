//! Settings from environment variables, as Apache Kafka's container images take them.
//!
//! `KAFKA_NUM_PARTITIONS` is `num.partitions`: an underscore stands for a dot, two for an
//! underscore, three for a dash. The prefix `KAFKA_CFG_` of other images is taken too, and
//! `CLUSTER_ID`. Pure.

use std::collections::BTreeMap;

/// Variables of Kafka's scripts and of the JVM, which are no settings of a broker.
const NOT_SETTINGS: &[&str] = &[
    "KAFKA_CLUSTER_ID",
    crate::start_topics::VARIABLE,
    "KAFKA_DEBUG",
    "KAFKA_GC_LOG_OPTS",
    "KAFKA_HEAP_OPTS",
    "KAFKA_HOME",
    "KAFKA_JMX_HOSTNAME",
    "KAFKA_JMX_OPTS",
    "KAFKA_JMX_PORT",
    "KAFKA_JVM_PERFORMANCE_OPTS",
    "KAFKA_KRAFT_CLUSTER_ID",
    "KAFKA_MODE",
    "KAFKA_OPTS",
    "KAFKA_VERSION",
];
/// Families of such variables, by their beginning.
const NOT_SETTINGS_BEGIN: &[&str] = &["KAFKA_LOG4J_", "KAFKA_TOOLS_LOG4J_"];
/// The names under which images take the cluster's id, the last one first.
const CLUSTER_ID: &[&str] = &["KAFKA_CLUSTER_ID", "KAFKA_KRAFT_CLUSTER_ID", "CLUSTER_ID"];

/// The settings among these variables, by Kafka's names.
pub(crate) fn settings(variables: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    let mut ids = CLUSTER_ID.iter().filter_map(|name| variables.get(*name));
    if let Some(id) = ids.rfind(|id| !id.is_empty()) {
        settings.insert("cluster.id".to_owned(), id.clone());
    }
    // The plain prefix is written over the other image's.
    for is_other in [true, false] {
        for (variable, value) in variables {
            let other = variable.strip_prefix("KAFKA_CFG_");
            let plain = variable.strip_prefix("KAFKA_").filter(|_| other.is_none());
            let Some(rest) = (if is_other { other } else { plain }) else { continue };
            if !rest.is_empty() && is_setting(variable) {
                settings.insert(setting_name(rest), value.clone());
            }
        }
    }
    if let Some(derived) = derived_listeners(&settings) {
        settings.insert("listeners".to_owned(), derived);
    }
    settings
}

fn is_setting(variable: &str) -> bool {
    !NOT_SETTINGS.contains(&variable)
        && !NOT_SETTINGS_BEGIN.iter().any(|begin| variable.starts_with(begin))
}

fn setting_name(rest: &str) -> String {
    rest.to_ascii_lowercase()
        .replace("___", "-")
        .replace("__", "\0")
        .replace('_', ".")
        .replace('\0', "_")
}

/// Whoever says what clients shall connect to and not where to listen means the same port on
/// every address.
fn derived_listeners(settings: &BTreeMap<String, String>) -> Option<String> {
    if settings.contains_key("listeners") {
        return None;
    }
    let advertised = settings.get("advertised.listeners")?;
    let anywhere = |entry: &str| {
        let (name, address) = entry.split_once("://")?;
        let (_, port) = address.rsplit_once(':')?;
        Some(format!("{name}://0.0.0.0:{port}"))
    };
    let entries: Option<Vec<String>> = advertised.split(',').map(anywhere).collect();
    entries.map(|entries| entries.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(variables: &[(&str, &str)], expected: &[(&str, &str)]) {
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
        };
        assert_eq!(settings(&map(variables)), map(expected), "{variables:?}");
    }

    #[test]
    fn names_are_mapped_as_kafkas_images_map_them() {
        check(&[("KAFKA_NUM_PARTITIONS", "3")], &[("num.partitions", "3")]);
        check(&[("KAFKA_CFG_NODE_ID", "3")], &[("node.id", "3")]);
        check(&[("KAFKA_CFG_NODE_ID", "3"), ("KAFKA_NODE_ID", "4")], &[("node.id", "4")]);
        check(&[("KAFKA_A__B___C_D", "x")], &[("a_b-c.d", "x")]);
        check(&[("CLUSTER_ID", "x")], &[("cluster.id", "x")]);
        check(&[("KAFKA_KRAFT_CLUSTER_ID", "y"), ("CLUSTER_ID", "")], &[("cluster.id", "y")]);
    }

    #[test]
    fn what_is_no_setting_is_left_out() {
        check(&[("KAFKA_HEAP_OPTS", "-Xmx1g"), ("KAFKA_LOG4J_LOGGERS", "x")], &[]);
        check(&[("KAFKA_CREATE_TOPICS", "a:1:1")], &[]);
        check(
            &[("HOME", "/"), ("KAFKA_", "x"), ("KAFKA", "x"), ("kafka_num_partitions", "3")],
            &[],
        );
    }

    #[test]
    fn listeners_follow_the_advertised_ones() {
        check(
            &[("KAFKA_ADVERTISED_LISTENERS", "PLAINTEXT://localhost:9092")],
            &[
                ("advertised.listeners", "PLAINTEXT://localhost:9092"),
                ("listeners", "PLAINTEXT://0.0.0.0:9092"),
            ],
        );
        check(
            &[("KAFKA_ADVERTISED_LISTENERS", "PLAINTEXT://a:1"), ("KAFKA_LISTENERS", "X://:2")],
            &[("advertised.listeners", "PLAINTEXT://a:1"), ("listeners", "X://:2")],
        );
        check(
            &[("KAFKA_ADVERTISED_LISTENERS", "nonsense")],
            &[("advertised.listeners", "nonsense")],
        );
    }
}
