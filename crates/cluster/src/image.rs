//! What the metadata log says, up to an offset.
//!
//! An image is built by replaying records and by nothing else. Each shard has its own; the broker
//! hands every shard the same batches. [`MetadataImage::apply`] returns a [`Delta`]: which things
//! to look at again.
//!
//! Records between BeginTransaction and EndTransaction are held back until the end, so that no
//! half of a transaction is ever seen; AbortTransaction drops them.
//!
//! An error of `apply` means that the log says what cannot be. The image is then partly changed
//! and must not be used: the node stops.

mod delta;
mod replay;
mod snapshot;

use model::collections::BTreeMap;
use model::{LeaderEpoch, NodeId, Offset, PartitionId, ProducerId, TopicId, TopicPartition, Uuid};

pub use delta::Delta;

use crate::record::{
    ConfigResource, EndPoint, FeatureRange, LeaderRecoveryState, MetadataRecord,
    RegisterController, ResourceType,
};
use crate::{Error, feature};

/// Records that may wait for the end of their transaction: far above what one request of the
/// largest size makes (10,000 records), and far below what would hurt.
const TRANSACTION_RECORDS_MAX: usize = 1 << 20;

/// A broker's registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// The broker.
    pub id: NodeId,
    /// The offset of its registration.
    pub epoch: i64,
    /// Its process.
    pub incarnation_id: Uuid,
    /// Where it is reached.
    pub end_points: Vec<EndPoint>,
    /// What it supports.
    pub features: Vec<FeatureRange>,
    /// Its rack.
    pub rack: Option<String>,
    /// Whether it may lead nothing.
    pub fenced: bool,
    /// Whether it is giving up its partitions.
    pub in_controlled_shutdown: bool,
    /// Its log directories.
    pub log_dirs: Vec<Uuid>,
    /// Those that get no new partitions.
    pub cordoned_log_dirs: Option<Vec<Uuid>>,
}

impl Broker {
    /// Whether it may be given partitions to lead.
    #[must_use]
    pub fn is_active(&self) -> bool {
        !self.fenced && !self.in_controlled_shutdown
    }
}

/// A partition as the log says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// The brokers that hold it, the preferred leader first.
    pub replicas: Vec<NodeId>,
    /// Those of them that have every committed record.
    pub isr: Vec<NodeId>,
    /// Those that a reassignment takes away.
    pub removing_replicas: Vec<NodeId>,
    /// Those that a reassignment adds.
    pub adding_replicas: Vec<NodeId>,
    /// The leader.
    pub leader: Option<NodeId>,
    /// Whether the leader may have lost records.
    pub leader_recovery_state: LeaderRecoveryState,
    /// How often the leader changed.
    pub leader_epoch: LeaderEpoch,
    /// How often anything of this changed.
    pub partition_epoch: i32,
    /// The log directory of each replica.
    pub directories: Vec<Uuid>,
    /// Replicas outside the ISR that still have every committed record.
    pub eligible_leader_replicas: Vec<NodeId>,
    /// The last members of the former, or the last leader.
    pub last_known_elr: Vec<NodeId>,
}

/// A topic and its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: String,
    /// Its partitions; in a sound log their ids run from 0 without a gap.
    pub partitions: BTreeMap<PartitionId, Partition>,
}

/// The metadata up to an offset.
#[derive(Clone, Debug, Default)]
pub struct MetadataImage {
    next_offset: Offset,
    brokers: BTreeMap<NodeId, Broker>,
    controllers: BTreeMap<NodeId, RegisterController>,
    topics: BTreeMap<TopicId, Topic>,
    topic_ids: BTreeMap<String, TopicId>,
    configs: BTreeMap<ConfigResource, BTreeMap<String, String>>,
    features: BTreeMap<String, i16>,
    producer_ids: Option<ProducerIds>,
    kept: Vec<MetadataRecord>,
    /// What waits for the end of a transaction; `None` outside of one.
    transaction: Option<Vec<MetadataRecord>>,
}

/// The last block of producer ids that was given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ProducerIds {
    broker_id: NodeId,
    broker_epoch: i64,
    next: ProducerId,
}

impl MetadataImage {
    /// The image of an empty log.
    #[must_use]
    pub fn new() -> MetadataImage {
        MetadataImage::default()
    }

    /// The image of a snapshot that stands for all records below `next_offset`.
    ///
    /// # Errors
    /// [`Error::Damaged`], also when the snapshot ends inside a transaction.
    pub fn from_snapshot(
        records: &[MetadataRecord],
        next_offset: Offset,
    ) -> Result<MetadataImage, Error> {
        let mut image = MetadataImage::new();
        image.replay_all(records)?;
        if image.is_in_transaction() {
            return Err(Error::Damaged("a snapshot ends inside a transaction".to_owned()));
        }
        image.next_offset = next_offset;
        Ok(image)
    }

    /// Replays the records of one batch, the first of which has offset `base_offset`.
    ///
    /// # Errors
    /// [`Error::Damaged`]: the image is then not to be used any more.
    pub fn apply(
        &mut self,
        base_offset: Offset,
        records: &[MetadataRecord],
    ) -> Result<Delta, Error> {
        if base_offset < self.next_offset {
            return Err(Error::Damaged(format!(
                "records at offset {base_offset} after those up to {}",
                self.next_offset
            )));
        }
        let delta = self.replay_all(records)?;
        let count = i64::try_from(records.len()).expect("a slice's length fits 63 bits");
        self.next_offset = base_offset.plus(count);
        Ok(delta)
    }

    /// The offset after the last record that was applied.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// Whether records are held back until their transaction ends.
    #[must_use]
    pub fn is_in_transaction(&self) -> bool {
        self.transaction.is_some()
    }

    /// The registered brokers, by id.
    #[must_use]
    pub fn brokers(&self) -> &BTreeMap<NodeId, Broker> {
        &self.brokers
    }

    /// The registered controllers, by id.
    #[must_use]
    pub fn controllers(&self) -> &BTreeMap<NodeId, RegisterController> {
        &self.controllers
    }

    /// The topic of this id.
    #[must_use]
    pub fn topic(&self, id: TopicId) -> Option<&Topic> {
        self.topics.get(&id)
    }

    /// The topic of this name.
    #[must_use]
    pub fn topic_by_name(&self, name: &str) -> Option<&Topic> {
        let id = self.topic_ids.get(name)?;
        Some(self.topics.get(id).expect("every name's topic is there"))
    }

    /// The topics in the order of their names.
    pub fn topics(&self) -> impl Iterator<Item = &Topic> {
        self.topic_ids.values().map(|id| self.topics.get(id).expect("every name's topic is there"))
    }

    /// The topics whose names might differ from this one only by `.` for `_`: those that begin as
    /// it does, up to its first such character.
    pub(crate) fn colliding_candidates(&self, name: &str) -> impl Iterator<Item = &str> {
        let prefix = name.split(['.', '_']).next().unwrap_or_default().to_owned();
        let names = self.topic_ids.range(prefix.clone()..).map(|(name, _)| name.as_str());
        names.take_while(move |name| name.starts_with(&prefix))
    }

    /// How many topics there are.
    #[must_use]
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// The partition, if there is one.
    #[must_use]
    pub fn partition(&self, partition: TopicPartition) -> Option<&Partition> {
        self.topics.get(&partition.topic)?.partitions.get(&partition.partition)
    }

    /// The settings of a thing that differ from the defaults, by name.
    pub fn configs(&self, resource: &ConfigResource) -> impl Iterator<Item = (&str, &str)> {
        let settings = self.configs.get(resource).into_iter().flatten();
        settings.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The things of a kind that have settings of their own, by name.
    pub fn configured(&self, kind: ResourceType) -> impl Iterator<Item = &str> {
        let of_kind = move |resource: &&ConfigResource| resource.resource_type == kind;
        self.configs.keys().filter(of_kind).map(|resource| resource.name.as_str())
    }

    /// Whether a controller of this id is registered.
    #[must_use]
    pub fn has_controller(&self, id: NodeId) -> bool {
        self.controllers.contains_key(&id)
    }

    /// The finalized level of a feature; 0 where it is not finalized.
    #[must_use]
    pub fn feature(&self, name: &str) -> i16 {
        self.features.get(name).copied().unwrap_or(0)
    }

    /// The finalized features and their levels.
    #[must_use]
    pub fn features(&self) -> &BTreeMap<String, i16> {
        &self.features
    }

    /// The level of `metadata.version`; 0 before the bootstrap records.
    #[must_use]
    pub fn metadata_version(&self) -> i16 {
        self.feature(feature::METADATA_VERSION)
    }

    /// The first producer id that no broker was given.
    #[must_use]
    pub fn next_producer_id(&self) -> ProducerId {
        self.producer_ids.map_or(ProducerId(0), |ids| ids.next)
    }
}

#[cfg(test)]
mod tests;
