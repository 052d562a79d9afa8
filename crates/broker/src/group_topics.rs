//! The topics that consumer groups subscribe to and the settings that they have, out of a shard's
//! metadata.

use std::{
    fmt,
    rc::{Rc, Weak},
};

use cluster::{
    group_config::{self, Given},
    record::{ConfigResource, ResourceType},
};
use coordinator::{GroupSettings, TopicShape, Topics};
use model::{PartitionId, TopicId};

use crate::shard::Shard;

const ASSIGNMENT_INTERVAL: &str = "consumer.assignment.interval.ms";
const BROKER_ASSIGNMENT_INTERVAL: &str = "group.consumer.assignment.interval.ms";

/// A shard's metadata; of a shard that is gone, none.
pub(crate) struct GroupTopics {
    shard: Weak<Shard>,
    /// What the broker was given of groups: it bounds what each may have.
    given: Given,
}

impl GroupTopics {
    /// The metadata of this shard. A coordinator, which the shard owns, holds on to it weakly.
    pub(crate) fn of(shard: &Rc<Shard>) -> Rc<GroupTopics> {
        let given = shard.config.group_settings();
        Rc::new(GroupTopics { shard: Rc::downgrade(shard), given })
    }
}

impl fmt::Debug for GroupTopics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("GroupTopics")
    }
}

impl Topics for GroupTopics {
    fn by_name(&self, name: &str) -> Option<TopicShape> {
        let shard = self.shard.upgrade()?;
        let image = shard.image.borrow();
        let topic = image.topic_by_name(name)?;
        let partition_count = i32::try_from(topic.partitions.len()).ok()?;
        Some(TopicShape { id: topic.id, partition_count })
    }

    fn name_of(&self, id: TopicId) -> Option<String> {
        let shard = self.shard.upgrade()?;
        let image = shard.image.borrow();
        image.topic(id).map(|topic| topic.name.clone())
    }

    fn racks(&self, id: TopicId, partition: i32) -> Vec<String> {
        let Some(shard) = self.shard.upgrade() else { return Vec::new() };
        let image = shard.image.borrow();
        let partition = image.topic(id).and_then(|one| one.partitions.get(&PartitionId(partition)));
        let replicas = partition.iter().flat_map(|partition| &partition.replicas);
        replicas.filter_map(|node| image.brokers().get(node)?.rack.clone()).collect()
    }

    fn matching(&self, passes: &dyn Fn(&str) -> bool) -> Vec<String> {
        let Some(shard) = self.shard.upgrade() else { return Vec::new() };
        let image = shard.image.borrow();
        let names = image.topics().map(|topic| topic.name.as_str());
        names.filter(|name| passes(name)).map(str::to_owned).collect()
    }

    fn settings_of(&self, group_id: &str) -> GroupSettings {
        let Some(shard) = self.shard.upgrade() else { return GroupSettings::default() };
        let resource =
            ConfigResource { resource_type: ResourceType::GROUP, name: group_id.to_owned() };
        let image = shard.image.borrow();
        let mut own = GroupSettings::default();
        // What the broker has of that may be altered while it runs.
        for brokers in [ConfigResource::all_brokers(), ConfigResource::broker(shard.node())] {
            let mut settings = image.configs(&brokers);
            if let Some((_, value)) = settings.find(|(name, _)| *name == BROKER_ASSIGNMENT_INTERVAL)
            {
                own.assignment_interval_ms =
                    group_config::number_in_force(ASSIGNMENT_INTERVAL, value, &self.given);
            }
        }
        for (name, value) in image.configs(&resource) {
            let number = || group_config::number_in_force(name, value, &self.given);
            match name {
                "consumer.heartbeat.interval.ms" => {
                    own.heartbeat_interval_ms = number().and_then(|ms| ms.try_into().ok());
                }
                "consumer.session.timeout.ms" => {
                    own.session_timeout_ms = number().and_then(|ms| ms.try_into().ok());
                }
                ASSIGNMENT_INTERVAL => own.assignment_interval_ms = number(),
                _ => {}
            }
        }
        own
    }

    fn version(&self) -> i64 {
        self.shard.upgrade().map_or(0, |shard| shard.image.borrow().next_offset().0 - 1)
    }
}
