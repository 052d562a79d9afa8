//! The image as the shortest list of records that makes it again.

use super::{Broker, MetadataImage, Partition, Topic};
use crate::feature;
use crate::record::{MetadataRecord, NO_LEADER, PartitionRecord, RegisterBroker};

impl MetadataImage {
    /// The records of a snapshot of this image, in the order in which Apache Kafka writes its
    /// own: the metadata's version first, for it says how to read the rest.
    ///
    /// # Panics
    /// Inside a transaction: half of one is not to be written down.
    #[must_use]
    pub fn to_records(&self) -> Vec<MetadataRecord> {
        assert!(!self.is_in_transaction(), "a snapshot is taken between transactions");
        let mut records = Vec::new();
        let is_version = |name: &&String| name.as_str() == feature::METADATA_VERSION;
        let first = self.features.keys().find(is_version);
        let others = self.features.keys().filter(|name| !is_version(name));
        for name in first.into_iter().chain(others) {
            let feature_level = self.feature(name);
            records.push(MetadataRecord::FeatureLevel { name: name.clone(), feature_level });
        }
        let controllers = self.controllers.values().cloned();
        records.extend(controllers.map(MetadataRecord::RegisterController));
        let brokers = self.brokers.values().map(Broker::to_record);
        records.extend(brokers.map(MetadataRecord::RegisterBroker));
        for topic in self.topics() {
            records.push(MetadataRecord::Topic { name: topic.name.clone(), topic_id: topic.id });
            records.extend(topic.partition_records().map(MetadataRecord::Partition));
        }
        for (resource, settings) in &self.configs {
            records.extend(settings.iter().map(|(name, value)| MetadataRecord::Config {
                resource: resource.clone(),
                name: name.clone(),
                value: Some(value.clone()),
            }));
        }
        if let Some(ids) = self.producer_ids {
            records.push(MetadataRecord::ProducerIds {
                broker_id: ids.broker_id,
                broker_epoch: ids.broker_epoch,
                next_producer_id: ids.next,
            });
        }
        records.extend(self.kept.iter().cloned());
        records
    }
}

impl Broker {
    fn to_record(&self) -> RegisterBroker {
        RegisterBroker {
            broker_id: self.id,
            incarnation_id: self.incarnation_id,
            broker_epoch: self.epoch,
            end_points: self.end_points.clone(),
            features: self.features.clone(),
            rack: self.rack.clone(),
            fenced: self.fenced,
            in_controlled_shutdown: self.in_controlled_shutdown,
            log_dirs: self.log_dirs.clone(),
            cordoned_log_dirs: self.cordoned_log_dirs.clone(),
        }
    }
}

impl Topic {
    fn partition_records(&self) -> impl Iterator<Item = PartitionRecord> {
        self.partitions.iter().map(|(id, partition)| {
            let Partition {
                replicas,
                isr,
                removing_replicas,
                adding_replicas,
                leader,
                leader_recovery_state,
                leader_epoch,
                partition_epoch,
                directories,
                eligible_leader_replicas,
                last_known_elr,
            } = partition.clone();
            PartitionRecord {
                topic_id: self.id,
                partition_id: *id,
                replicas,
                isr,
                removing_replicas,
                adding_replicas,
                leader: leader.unwrap_or(NO_LEADER),
                leader_recovery_state,
                leader_epoch,
                partition_epoch,
                directories,
                eligible_leader_replicas,
                last_known_elr,
            }
        })
    }
}
