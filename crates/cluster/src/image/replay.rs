//! How each record changes the image.

use model::{LeaderEpoch, NodeId, PartitionId, TopicPartition};

use super::{Broker, Delta, MetadataImage, Partition, ProducerIds, TRANSACTION_RECORDS_MAX, Topic};
use crate::Error;
use crate::record::{
    BrokerRegistrationChange, ConfigResource, MetadataRecord, NO_LEADER, PartitionChange,
    PartitionRecord, RegisterBroker,
};

fn damaged<T>(what: String) -> Result<T, Error> {
    Err(Error::Damaged(what))
}

impl MetadataImage {
    pub(super) fn replay_all(&mut self, records: &[MetadataRecord]) -> Result<Delta, Error> {
        let mut delta = Delta::default();
        for record in records {
            self.replay_in_transaction(record, &mut delta)?;
        }
        Ok(delta)
    }

    /// Holds a record back while a transaction is open, and replays it otherwise.
    fn replay_in_transaction(
        &mut self,
        record: &MetadataRecord,
        delta: &mut Delta,
    ) -> Result<(), Error> {
        let Some(waiting) = &mut self.transaction else {
            return self.replay(record, delta);
        };
        if matches!(record, MetadataRecord::BeginTransaction { .. }) {
            return damaged("a transaction begins inside another".to_owned());
        }
        if matches!(record, MetadataRecord::AbortTransaction { .. }) {
            self.transaction = None;
            return Ok(());
        }
        if matches!(record, MetadataRecord::EndTransaction) {
            let waiting = self.transaction.take().unwrap_or_default();
            return waiting.iter().try_for_each(|record| self.replay(record, delta));
        }
        if waiting.len() >= TRANSACTION_RECORDS_MAX {
            return damaged("a transaction does not end".to_owned());
        }
        waiting.push(record.clone());
        Ok(())
    }

    fn replay(&mut self, record: &MetadataRecord, delta: &mut Delta) -> Result<(), Error> {
        match record {
            MetadataRecord::RegisterBroker(record) => self.register_broker(record, delta),
            MetadataRecord::UnregisterBroker { broker_id, broker_epoch } => {
                self.unregister_broker(*broker_id, *broker_epoch, delta)?;
            }
            MetadataRecord::BrokerRegistrationChange(change) => {
                self.change_registration(change, delta)?;
            }
            MetadataRecord::Topic { name, topic_id } => {
                let topic =
                    Topic { id: *topic_id, name: name.clone(), partitions: Default::default() };
                self.add_topic(topic, delta)?;
            }
            MetadataRecord::RemoveTopic { topic_id } => {
                let Some(topic) = self.topics.remove(topic_id) else {
                    return damaged(format!("topic {topic_id} is removed and is not there"));
                };
                self.topic_ids.remove(&topic.name);
                self.configs.remove(&ConfigResource::topic(&topic.name));
                delta.remove_topic(topic);
            }
            MetadataRecord::Partition(record) => self.set_partition(record, delta)?,
            MetadataRecord::PartitionChange(change) => self.change_partition(change, delta)?,
            MetadataRecord::Config { resource, name, value } => {
                self.set_config(resource, name, value.as_deref());
                delta.configs.insert(resource.clone());
            }
            MetadataRecord::FeatureLevel { name, feature_level } => {
                if *feature_level == 0 {
                    self.features.remove(name);
                } else {
                    self.features.insert(name.clone(), *feature_level);
                }
                delta.features.insert(name.clone());
            }
            MetadataRecord::ProducerIds { broker_id, broker_epoch, next_producer_id } => {
                self.producer_ids = Some(ProducerIds {
                    broker_id: *broker_id,
                    broker_epoch: *broker_epoch,
                    next: *next_producer_id,
                });
            }
            MetadataRecord::NoOp => {}
            MetadataRecord::BeginTransaction { .. } => self.transaction = Some(Vec::new()),
            MetadataRecord::EndTransaction | MetadataRecord::AbortTransaction { .. } => {
                return damaged("a transaction ends that did not begin".to_owned());
            }
            MetadataRecord::RegisterController(record) => {
                self.controllers.insert(record.controller_id, record.clone());
            }
            MetadataRecord::UnregisterController { controller_id } => {
                self.controllers.remove(controller_id);
            }
            MetadataRecord::ClearElr { topic_name } => self.clear_elr(topic_name, delta)?,
            MetadataRecord::Other { .. } => self.kept.push(record.clone()),
        }
        Ok(())
    }

    fn register_broker(&mut self, record: &RegisterBroker, delta: &mut Delta) {
        let broker = Broker {
            id: record.broker_id,
            epoch: record.broker_epoch,
            incarnation_id: record.incarnation_id,
            end_points: record.end_points.clone(),
            features: record.features.clone(),
            rack: record.rack.clone(),
            fenced: record.fenced,
            in_controlled_shutdown: record.in_controlled_shutdown,
            log_dirs: record.log_dirs.clone(),
            cordoned_log_dirs: record.cordoned_log_dirs.clone(),
        };
        self.brokers.insert(record.broker_id, broker);
        delta.brokers.insert(record.broker_id);
    }

    fn unregister_broker(
        &mut self,
        id: NodeId,
        epoch: i64,
        delta: &mut Delta,
    ) -> Result<(), Error> {
        self.registered(id, epoch)?;
        self.brokers.remove(&id);
        delta.brokers.insert(id);
        Ok(())
    }

    fn change_registration(
        &mut self,
        change: &BrokerRegistrationChange,
        delta: &mut Delta,
    ) -> Result<(), Error> {
        let broker = self.registered(change.broker_id, change.broker_epoch)?;
        if let Some(fenced) = change.fenced {
            broker.fenced = fenced;
        }
        if let Some(shutting_down) = change.in_controlled_shutdown {
            broker.in_controlled_shutdown = shutting_down;
        }
        if !change.log_dirs.is_empty() {
            broker.log_dirs.clone_from(&change.log_dirs);
        }
        if let Some(cordoned) = &change.cordoned_log_dirs {
            broker.cordoned_log_dirs = Some(cordoned.clone());
        }
        delta.brokers.insert(change.broker_id);
        Ok(())
    }

    fn registered(&mut self, id: NodeId, epoch: i64) -> Result<&mut Broker, Error> {
        match self.brokers.get_mut(&id) {
            Some(broker) if broker.epoch == epoch => Ok(broker),
            Some(broker) => damaged(format!(
                "broker {id} changes with epoch {epoch} and is registered with {}",
                broker.epoch
            )),
            None => damaged(format!("broker {id} changes and is not registered")),
        }
    }

    fn add_topic(&mut self, topic: Topic, delta: &mut Delta) -> Result<(), Error> {
        if self.topics.contains_key(&topic.id) {
            return damaged(format!("topic id {} is created twice", topic.id));
        }
        if self.topic_ids.contains_key(&topic.name) {
            return damaged(format!("topic '{}' is created twice", topic.name));
        }
        delta.topics_created.insert(topic.id);
        self.topic_ids.insert(topic.name.clone(), topic.id);
        self.topics.insert(topic.id, topic);
        Ok(())
    }

    fn set_partition(&mut self, record: &PartitionRecord, delta: &mut Delta) -> Result<(), Error> {
        let id = record.topic_id;
        let Some(topic) = self.topics.get_mut(&id) else {
            return damaged(format!("a partition is created in topic {id}, which is not there"));
        };
        if record.partition_id < PartitionId(0) {
            return damaged(format!("topic {id} has a partition {}", record.partition_id));
        }
        let partition = Partition {
            replicas: record.replicas.clone(),
            isr: record.isr.clone(),
            removing_replicas: record.removing_replicas.clone(),
            adding_replicas: record.adding_replicas.clone(),
            leader: Some(record.leader).filter(|leader| *leader != NO_LEADER),
            leader_recovery_state: record.leader_recovery_state,
            leader_epoch: record.leader_epoch,
            partition_epoch: record.partition_epoch,
            directories: record.directories.clone(),
            eligible_leader_replicas: record.eligible_leader_replicas.clone(),
            last_known_elr: record.last_known_elr.clone(),
        };
        topic.partitions.insert(record.partition_id, partition);
        delta.partitions.insert(TopicPartition { topic: id, partition: record.partition_id });
        Ok(())
    }

    fn change_partition(
        &mut self,
        change: &PartitionChange,
        delta: &mut Delta,
    ) -> Result<(), Error> {
        let key = TopicPartition { topic: change.topic_id, partition: change.partition_id };
        let topic = self.topics.get_mut(&key.topic);
        let Some(partition) = topic.and_then(|topic| topic.partitions.get_mut(&key.partition))
        else {
            return damaged(format!(
                "partition {} of topic {} changes and is not there",
                key.partition, key.topic
            ));
        };
        partition.change(change)?;
        delta.partitions.insert(key);
        Ok(())
    }

    fn set_config(&mut self, resource: &ConfigResource, name: &str, value: Option<&str>) {
        match value {
            Some(value) => {
                let settings = self.configs.entry(resource.clone()).or_default();
                settings.insert(name.to_owned(), value.to_owned());
            }
            None => {
                let Some(settings) = self.configs.get_mut(resource) else { return };
                settings.remove(name);
                if settings.is_empty() {
                    self.configs.remove(resource);
                }
            }
        }
    }

    fn clear_elr(&mut self, topic_name: &str, delta: &mut Delta) -> Result<(), Error> {
        let ids: Vec<_> = if topic_name.is_empty() {
            self.topic_ids.values().copied().collect()
        } else if let Some(id) = self.topic_ids.get(topic_name) {
            vec![*id]
        } else {
            return damaged(format!("topic '{topic_name}' changes and is not there"));
        };
        for id in ids {
            let topic = self.topics.get_mut(&id).expect("every name's topic is there");
            for (number, partition) in &mut topic.partitions {
                if partition.eligible_leader_replicas.is_empty()
                    && partition.last_known_elr.is_empty()
                {
                    continue;
                }
                partition.eligible_leader_replicas.clear();
                partition.last_known_elr.clear();
                partition.partition_epoch = next_epoch(partition.partition_epoch)?;
                delta.partitions.insert(TopicPartition { topic: id, partition: *number });
            }
        }
        Ok(())
    }
}

impl Partition {
    fn change(&mut self, change: &PartitionChange) -> Result<(), Error> {
        fn set<T: Clone>(field: &mut T, new: Option<&T>) {
            if let Some(new) = new {
                field.clone_from(new);
            }
        }
        set(&mut self.isr, change.isr.as_ref());
        set(&mut self.replicas, change.replicas.as_ref());
        set(&mut self.removing_replicas, change.removing_replicas.as_ref());
        set(&mut self.adding_replicas, change.adding_replicas.as_ref());
        set(&mut self.leader_recovery_state, change.leader_recovery_state.as_ref());
        set(&mut self.directories, change.directories.as_ref());
        set(&mut self.eligible_leader_replicas, change.eligible_leader_replicas.as_ref());
        set(&mut self.last_known_elr, change.last_known_elr.as_ref());
        if let Some(leader) = change.leader {
            self.leader = Some(leader).filter(|leader| *leader != NO_LEADER);
            self.leader_epoch = LeaderEpoch(next_epoch(self.leader_epoch.0)?);
        }
        self.partition_epoch = next_epoch(self.partition_epoch)?;
        Ok(())
    }
}

fn next_epoch(epoch: i32) -> Result<i32, Error> {
    epoch.checked_add(1).ok_or_else(|| Error::Damaged("an epoch is at its end".to_owned()))
}
