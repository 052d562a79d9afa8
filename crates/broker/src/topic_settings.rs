//! What a topic is made with where nobody says.

use cluster::controller::NewTopic;
use model::topic_config::{InvalidSetting, TopicConfig};

use crate::config::BrokerConfig;

/// Where groups' offsets are kept.
pub(crate) const CONSUMER_OFFSETS: &str = coordinator::partition::OFFSETS_TOPIC;
/// Where transactions' states are kept.
pub(crate) const TRANSACTION_STATE: &str = coordinator::transactions::TRANSACTIONS_TOPIC;
/// The metadata log.
pub(crate) const CLUSTER_METADATA: &str = "__cluster_metadata";

/// Whether a topic is the broker's own, in Kafka's sense.
pub(crate) fn is_internal(name: &str) -> bool {
    name == CONSUMER_OFFSETS || name == TRANSACTION_STATE
}

/// A topic that is created because somebody asked about it.
pub(crate) fn automatic_topic(config: &BrokerConfig, name: &str) -> NewTopic {
    let mut topic = NewTopic {
        name: name.to_owned(),
        partition_count: -1,
        replication_factor: -1,
        ..NewTopic::default()
    };
    if name == CONSUMER_OFFSETS {
        topic.partition_count = config.offsets_topic_num_partitions;
        topic.configs = coordinator::partition::OFFSETS_TOPIC_CONFIGS
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())))
            .collect();
    }
    if name == TRANSACTION_STATE {
        let config = &config.transactions;
        topic.partition_count = config.log_partition_count;
        let own = coordinator::transactions::TRANSACTIONS_TOPIC_CONFIGS.iter();
        let own = own.map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())));
        let given = config.log_settings.iter();
        let given = given.map(|(name, value)| ((*name).to_owned(), Some(value.clone())));
        topic.configs = own.chain(given).collect();
    }
    topic
}

/// The settings in force, later ones over earlier ones, and those that were not understood: they
/// were checked when they were stored, but a later version may have stored them.
pub(crate) fn resolve(settings: &[(&str, &str)]) -> (TopicConfig, Vec<(String, InvalidSetting)>) {
    if let Ok(config) = TopicConfig::from_settings(settings.iter().copied()) {
        return (config, Vec::new());
    }
    let mut config = TopicConfig::default();
    let mut refused = Vec::new();
    for (name, value) in settings {
        if let Err(error) = config.set(name, value) {
            refused.push(((*name).to_owned(), error));
        }
    }
    (config, refused)
}
