//! Topics and partitions: created, grown, deleted.

use model::collections::{BTreeMap, BTreeSet};

use model::{NodeId, PartitionId, TopicId, Uuid};

use super::configs::check_settings;
use super::{Controller, Decision, Intent};
use crate::image::Topic;
use crate::record::{ConfigResource, MetadataRecord};
use crate::{Error, topic_name};

/// Partitions that one request may create. Each costs a record of some 70 bytes in one batch of
/// the metadata log, and a directory; Apache Kafka draws the same line.
pub const PARTITIONS_PER_REQUEST_MAX: i64 = 10_000;

/// The topic of the metadata log itself, which nobody creates.
const METADATA_TOPIC_NAME: &str = "__cluster_metadata";

/// A topic to create.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Its id: fresh random bits from the caller, used if the topic is created.
    pub topic_id: Uuid,
    /// How many partitions; -1: the default, or as assigned.
    pub partition_count: i32,
    /// How many replicas of each; -1: the default, or as assigned.
    pub replication_factor: i16,
    /// The brokers of each partition, if the client chooses them.
    pub assignments: Vec<(PartitionId, Vec<NodeId>)>,
    /// Its settings; a missing value is an error.
    pub configs: Vec<(String, Option<String>)>,
}

/// A topic that was created, or would have been.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its id.
    pub topic_id: TopicId,
    /// How many partitions it has.
    pub partition_count: i32,
    /// How many replicas each has.
    pub replication_factor: i16,
}

/// How a client names a topic to delete.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicName {
    /// By its name.
    Name(String),
    /// By its id; zero is no id.
    Id(TopicId),
    /// By both, which is one too many.
    Both(String, TopicId),
}

/// A topic to give more partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPartitions {
    /// The topic.
    pub name: String,
    /// How many it shall have in all.
    pub total_count: i32,
    /// The brokers of each new one, if the client chooses them.
    pub assignments: Option<Vec<Vec<NodeId>>>,
}

impl Controller {
    /// Creates topics. Each succeeds or fails alone; the answers are in the order of the request,
    /// a name that stands there twice has one.
    pub fn create_topics(
        &mut self,
        topics: &[NewTopic],
        intent: Intent,
    ) -> Decision<Vec<(String, Result<CreatedTopic, Error>)>> {
        let mut times = BTreeMap::<&str, usize>::new();
        for topic in topics {
            *times.entry(&topic.name).or_default() += 1;
        }
        let too_many = self.requested_partitions(topics) > PARTITIONS_PER_REQUEST_MAX;
        let mut records = Vec::new();
        let mut answers = Vec::new();
        // Settled anew as topics are decided: two of one request can collide as well.
        let mut settled = BTreeMap::<String, String>::new();
        for topic in topics {
            let count = match times.get_mut(topic.name.as_str()) {
                Some(count) if *count > 0 => std::mem::replace(count, 0),
                _ => continue,
            };
            let result = if count > 1 {
                Err(Error::InvalidRequest("a topic is named twice".to_owned()))
            } else if too_many {
                Err(too_many_partitions())
            } else {
                self.create_topic(topic, &mut settled, &mut records)
            };
            answers.push((topic.name.clone(), result));
        }
        self.conclude(intent, records, answers)
    }

    /// Deletes topics. Each succeeds or fails alone; the answers are in the order of the request,
    /// with the name and id of each topic that was found. What is named twice, be it once by name
    /// and once by id, has one answer and is not deleted.
    #[expect(clippy::type_complexity, reason = "a list of results, used in one place")]
    pub fn delete_topics(
        &mut self,
        names: &[TopicName],
    ) -> Decision<Vec<(TopicName, Result<(String, TopicId), Error>)>> {
        let mut times = BTreeMap::<&TopicName, usize>::new();
        let mut topic_times = BTreeMap::<TopicId, usize>::new();
        for name in names {
            let count = times.entry(name).or_default();
            *count += 1;
            if *count == 1
                && let Ok(topic) = self.find(name)
            {
                *topic_times.entry(topic.id).or_default() += 1;
            }
        }
        let mut records = Vec::new();
        let mut answers = Vec::new();
        for name in names {
            let count = match times.get_mut(name) {
                Some(count) if *count > 0 => std::mem::replace(count, 0),
                _ => continue,
            };
            let found = self.find(name).map(|topic| (topic.name.clone(), topic.id));
            let topic_count = found.as_ref().map_or(1, |(_, id)| topic_times[id]);
            if topic_count > 1 && matches!(name, TopicName::Id(_)) {
                continue;
            }
            let result = if count > 1 || topic_count > 1 {
                Err(Error::InvalidRequest("a topic is named twice".to_owned()))
            } else {
                found
            };
            if let Ok((_, topic_id)) = &result {
                records.push(MetadataRecord::RemoveTopic { topic_id: *topic_id });
            }
            answers.push((name.clone(), result));
        }
        self.conclude(Intent::Apply, records, answers)
    }

    /// Gives topics more partitions. Each succeeds or fails alone, in the order of the request.
    pub fn create_partitions(
        &mut self,
        topics: &[NewPartitions],
        intent: Intent,
    ) -> Decision<Vec<(String, Result<(), Error>)>> {
        let mut names = BTreeSet::new();
        let mut duplicates = BTreeSet::new();
        for topic in topics {
            if !names.insert(topic.name.as_str()) {
                duplicates.insert(topic.name.as_str());
            }
        }
        let mut budget = PARTITIONS_PER_REQUEST_MAX;
        let mut records = Vec::new();
        let mut answers = Vec::new();
        for topic in topics {
            let name = topic.name.as_str();
            if !names.remove(name) {
                continue;
            }
            let result = if duplicates.contains(name) {
                Err(Error::InvalidRequest("a topic is named twice".to_owned()))
            } else {
                self.grow_topic(topic, &mut budget, &mut records)
            };
            answers.push((topic.name.clone(), result));
        }
        self.conclude(intent, records, answers)
    }

    fn find(&self, name: &TopicName) -> Result<&Topic, Error> {
        match name {
            TopicName::Name(name) => {
                self.image.topic_by_name(name).ok_or_else(|| Error::UnknownTopic(name.clone()))
            }
            TopicName::Id(Uuid::ZERO) => {
                Err(Error::InvalidRequest("a topic is named neither by name nor by id".to_owned()))
            }
            TopicName::Id(id) => self.image.topic(*id).ok_or(Error::UnknownTopicId(*id)),
            TopicName::Both(..) => {
                Err(Error::InvalidRequest("a topic is named both by name and by id".to_owned()))
            }
        }
    }

    fn requested_partitions(&self, topics: &[NewTopic]) -> i64 {
        let count = |topic: &NewTopic| match topic.partition_count {
            _ if !topic.assignments.is_empty() => {
                i64::try_from(topic.assignments.len()).unwrap_or(i64::MAX)
            }
            -1 => i64::from(self.defaults.partition_count),
            count => i64::from(count.max(0)),
        };
        topics.iter().map(count).fold(0, i64::saturating_add)
    }

    fn create_topic(
        &self,
        topic: &NewTopic,
        settled: &mut BTreeMap<String, String>,
        records: &mut Vec<MetadataRecord>,
    ) -> Result<CreatedTopic, Error> {
        self.check_name(&topic.name, settled)?;
        let configs = checked_configs(topic)?;
        let placed = if topic.assignments.is_empty() {
            self.placed_partitions(topic)?
        } else {
            self.assigned_partitions(topic)?
        };
        let topic_id = topic.topic_id;
        let mut partitions = Vec::with_capacity(placed.len());
        for (number, replicas) in (0..).zip(&placed) {
            let record = self.partition_record(topic_id, PartitionId(number), replicas);
            partitions.push(MetadataRecord::Partition(record.ok_or_else(|| {
                Error::InvalidReplicaAssignment(format!(
                    "no broker of partition {number} is active"
                ))
            })?));
        }
        let replication_factor = placed.first().map_or(0, Vec::len);
        records.push(MetadataRecord::Topic { name: topic.name.clone(), topic_id });
        records.extend(configs.into_iter().map(|(name, value)| MetadataRecord::Config {
            resource: ConfigResource::topic(&topic.name),
            name,
            value: Some(value),
        }));
        records.extend(partitions);
        settled.insert(topic_name::collision_form(&topic.name), topic.name.clone());
        Ok(CreatedTopic {
            topic_id,
            partition_count: i32::try_from(placed.len()).expect("bounded by the request's limit"),
            replication_factor: i16::try_from(replication_factor)
                .expect("bounded by the number of brokers"),
        })
    }

    /// Refuses what is no name, what exists, and what differs from an existing name only by
    /// `.` for `_`.
    fn check_name(&self, name: &str, settled: &BTreeMap<String, String>) -> Result<(), Error> {
        topic_name::check(name)?;
        if name == METADATA_TOPIC_NAME {
            return Err(Error::InvalidRequest(format!(
                "Creation of internal topic {name} is prohibited."
            )));
        }
        if self.image.topic_by_name(name).is_some() {
            return Err(Error::TopicExists(name.to_owned()));
        }
        if !topic_name::may_collide(name) {
            return Ok(());
        }
        let form = topic_name::collision_form(name);
        let collides = |other: &&str| topic_name::collision_form(other) == form;
        let other = settled.get(&form).map(String::as_str);
        match other.or_else(|| self.image.colliding_candidates(name).find(collides)) {
            Some(other) => Err(Error::InvalidTopic(format!(
                "Topic '{name}' collides with existing topic: {other}"
            ))),
            None => Ok(()),
        }
    }

    /// The brokers of each partition, where the client leaves it to us.
    fn placed_partitions(&self, topic: &NewTopic) -> Result<Vec<Vec<NodeId>>, Error> {
        let replication_factor = match topic.replication_factor {
            -1 => {
                let brokers = i16::try_from(self.active_brokers().len()).unwrap_or(i16::MAX);
                self.defaults.replication_factor.min(brokers.max(1))
            }
            factor if factor < 1 => {
                return Err(Error::InvalidReplicationFactor(
                    "Replication factor must be larger than 0, or -1 to use the default value."
                        .to_owned(),
                ));
            }
            factor => factor,
        };
        let partition_count = match topic.partition_count {
            -1 => self.defaults.partition_count,
            count if count < 1 => {
                return Err(Error::InvalidPartitions(
                    "Number of partitions was set to an invalid non-positive value.".to_owned(),
                ));
            }
            count => count,
        };
        self.place(topic.topic_id, 0, partition_count, replication_factor)
    }

    /// The brokers of each partition, where the client chose them.
    fn assigned_partitions(&self, topic: &NewTopic) -> Result<Vec<Vec<NodeId>>, Error> {
        if topic.partition_count != -1 || topic.replication_factor != -1 {
            return Err(Error::InvalidRequest(
                "brokers were assigned, so the numbers of partitions and replicas are to be -1"
                    .to_owned(),
            ));
        }
        let mut assigned = BTreeMap::new();
        for (partition, replicas) in &topic.assignments {
            if assigned.insert(partition.0, replicas.clone()).is_some() {
                return Err(Error::InvalidReplicaAssignment(format!(
                    "partition {partition} is assigned twice"
                )));
            }
        }
        if !assigned.keys().copied().eq((0..).take(assigned.len())) {
            return Err(Error::InvalidReplicaAssignment(
                "partitions should be a consecutive 0-based integer sequence".to_owned(),
            ));
        }
        let assigned: Vec<Vec<NodeId>> = assigned.into_values().collect();
        let replica_count = assigned.first().map_or(0, Vec::len);
        assigned.iter().try_for_each(|replicas| self.check_assignment(replicas, replica_count))?;
        Ok(assigned)
    }

    fn check_assignment(&self, replicas: &[NodeId], replica_count: usize) -> Result<(), Error> {
        let refuse = |why: String| Err(Error::InvalidReplicaAssignment(why));
        if replicas.is_empty() {
            return refuse(
                "The manual partition assignment includes an empty replica list.".to_owned(),
            );
        }
        if replicas.len() != replica_count {
            return refuse(format!(
                "The manual partition assignment includes a partition with {} replica(s), but this is \
                 not consistent with previous partitions, which have {replica_count} replica(s).",
                replicas.len()
            ));
        }
        let mut seen = BTreeSet::new();
        for id in replicas {
            if !self.image.brokers().contains_key(id) {
                return refuse(format!(
                    "The manual partition assignment includes broker {id}, but no such broker is \
                     registered."
                ));
            }
            if !seen.insert(*id) {
                return refuse(format!(
                    "The manual partition assignment includes the broker {id} more than once."
                ));
            }
        }
        Ok(())
    }

    fn grow_topic(
        &self,
        request: &NewPartitions,
        budget: &mut i64,
        records: &mut Vec<MetadataRecord>,
    ) -> Result<(), Error> {
        let topic = self.find(&TopicName::Name(request.name.clone()))?;
        let present = i32::try_from(topic.partitions.len()).expect("partitions have i32 numbers");
        let additional = i64::from(request.total_count) - i64::from(present);
        if additional == 0 {
            return Err(Error::InvalidPartitions(format!(
                "Topic already has {present} partition(s)."
            )));
        }
        if additional < 0 {
            return Err(Error::InvalidPartitions(format!(
                "The topic {} currently has {present} partition(s); {} would not be an increase.",
                request.name, request.total_count
            )));
        }
        if additional > *budget {
            return Err(Error::PolicyViolation(
                "Excessively large number of additional partitions per request.".to_owned(),
            ));
        }
        let additional = i32::try_from(additional).expect("below the limit");
        let replica_count = topic.partitions.values().next().map_or(0, |one| one.replicas.len());
        let placed = match &request.assignments {
            None => {
                let replication_factor = i16::try_from(replica_count).unwrap_or(i16::MAX);
                self.place(topic.id, present, additional, replication_factor)?
            }
            Some(assigned) => {
                if i32::try_from(assigned.len()) != Ok(additional) {
                    return Err(Error::InvalidReplicaAssignment(format!(
                        "Attempted to add {additional} additional partition(s), but only {} \
                         assignment(s) were specified.",
                        assigned.len()
                    )));
                }
                assigned
                    .iter()
                    .try_for_each(|replicas| self.check_assignment(replicas, replica_count))?;
                assigned.clone()
            }
        };
        let mut partitions = Vec::with_capacity(placed.len());
        for (number, replicas) in (present..).zip(&placed) {
            let record = self.partition_record(topic.id, PartitionId(number), replicas);
            partitions.push(MetadataRecord::Partition(record.ok_or_else(|| {
                Error::InvalidReplicaAssignment(format!(
                    "no broker of partition {number} is active"
                ))
            })?));
        }
        *budget -= i64::from(additional);
        records.extend(partitions);
        Ok(())
    }
}

fn too_many_partitions() -> Error {
    Error::PolicyViolation("Excessively large number of partitions per request.".to_owned())
}

/// The settings of a new topic, in the order of their names.
fn checked_configs(topic: &NewTopic) -> Result<BTreeMap<String, String>, Error> {
    let mut configs = BTreeMap::new();
    for (name, value) in &topic.configs {
        let value = value.as_ref().ok_or_else(|| {
            Error::InvalidConfig(format!("the setting {} has no value", name.escape_default()))
        })?;
        configs.insert(name.clone(), value.clone());
    }
    check_settings(&configs)?;
    Ok(configs)
}
