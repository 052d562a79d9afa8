//! What a batch of records changed.

use model::collections::{BTreeMap, BTreeSet};
use model::{NodeId, TopicId, TopicPartition};

use super::Topic;
use crate::record::ConfigResource;

/// The things that differ from before. What they are now is for the image to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Topics that were not there before.
    pub topics_created: BTreeSet<TopicId>,
    /// Topics that were there before and are gone, as they last were.
    pub topics_removed: BTreeMap<TopicId, Topic>,
    /// Partitions that are new or changed, those of created topics included.
    pub partitions: BTreeSet<TopicPartition>,
    /// Things whose settings changed, created topics included, removed ones not.
    pub configs: BTreeSet<ConfigResource>,
    /// Brokers that registered, changed or left.
    pub brokers: BTreeSet<NodeId>,
    /// Features whose level changed.
    pub features: BTreeSet<String>,
}

impl Delta {
    /// Whether nothing of this changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.topics_created.is_empty()
            && self.topics_removed.is_empty()
            && self.partitions.is_empty()
            && self.configs.is_empty()
            && self.brokers.is_empty()
            && self.features.is_empty()
    }

    /// Notes that a topic is gone. One that the same records created leaves no trace.
    pub(super) fn remove_topic(&mut self, topic: Topic) {
        self.partitions.retain(|partition| partition.topic != topic.id);
        self.configs.remove(&ConfigResource::topic(&topic.name));
        if !self.topics_created.remove(&topic.id) {
            self.topics_removed.insert(topic.id, topic);
        }
    }
}
