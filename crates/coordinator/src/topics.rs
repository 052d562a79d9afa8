//! What the broker's metadata says at the time of an event: the topics that the members of
//! consumer groups may subscribe to, and the settings of groups.

use std::fmt::Debug;

use model::TopicId;

use crate::settings::GroupSettings;

/// A topic's size and identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicShape {
    /// Its id.
    pub id: TopicId,
    /// How many partitions it has, from 0.
    pub partition_count: i32,
}

/// Looks topics up. The broker answers from its metadata, a test from a table.
pub trait Topics: Debug {
    /// A topic by its name.
    fn by_name(&self, name: &str) -> Option<TopicShape>;
    /// The name of a topic.
    fn name_of(&self, id: TopicId) -> Option<String>;
    /// The racks of the brokers that hold a partition, as far as they are known.
    fn racks(&self, id: TopicId, partition: i32) -> Vec<String>;
    /// The names of all topics that pass.
    fn matching(&self, passes: &dyn Fn(&str) -> bool) -> Vec<String>;
    /// What a group has in the place of the broker's settings.
    fn settings_of(&self, group_id: &str) -> GroupSettings;
    /// The offset up to which the metadata is known: it grows with every change.
    fn version(&self) -> i64;
}
