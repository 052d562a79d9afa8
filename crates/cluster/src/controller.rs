//! The embedded controller, the only voter of its quorum, as decisions.
//!
//! Each method looks at the image, decides, replays its own decision into the controller's image
//! and returns the records: the next decision already sees it, so many can be appended in one
//! batch while the earlier ones are still on their way to the disk.
//!
//! The caller appends the records of the decisions in the order in which they were made, each
//! decision's in one batch, and gives an answer to its client only when its records are committed
//! and every shard has replayed them. If an append fails, what was decided never happened: the
//! controller is dropped and a new one is made from the committed image ([`Controller::new`]).
//!
//! Chance (topic ids, incarnations) and offsets are arguments.

mod configs;
mod features;
mod lifecycle;
mod topics;

use model::{LeaderEpoch, NodeId, PartitionId, TopicId, Uuid};

pub use configs::{AlterMode, ConfigChange, ConfigOperation};
pub use features::{Direction, FeatureUpdate};
pub use lifecycle::{
    BrokerStart, PRODUCER_ID_BLOCK_COUNT, ProducerIdBlock, bootstrap_log, bootstrap_snapshot,
};
pub use topics::{CreatedTopic, NewPartitions, NewTopic, PARTITIONS_PER_REQUEST_MAX, TopicName};

use crate::group_config::Given;
use crate::image::Broker;
use crate::record::{LeaderRecoveryState, MetadataRecord, PartitionRecord};
use crate::{Error, MetadataImage};

/// The log directory of a replica whose broker has several: the broker chooses one.
const DIRECTORY_UNASSIGNED: Uuid = Uuid([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

/// What was decided: the records that make it so, and the answer for when they are committed.
/// No records: the answer holds at once.
#[must_use]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<T> {
    /// To be appended as one batch.
    pub records: Vec<MetadataRecord>,
    /// For the client, once they are committed.
    pub answer: T,
}

/// What holds where a request does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// `num.partitions`.
    pub partition_count: i32,
    /// `default.replication.factor`; brought down to the number of brokers there are.
    pub replication_factor: i16,
}

/// Whether a request is to be carried out or only checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Decide, and change nothing.
    Validate,
    /// Decide and do.
    Apply,
}

/// The controller.
#[derive(Debug)]
pub struct Controller {
    defaults: Defaults,
    given: Given,
    image: MetadataImage,
}

impl Controller {
    /// A controller that goes on from an image.
    #[must_use]
    pub fn new(defaults: Defaults, image: MetadataImage) -> Controller {
        Controller { defaults, given: Given::new(), image }
    }

    /// The same, where the broker was given these settings at its start: they bound groups'.
    #[must_use]
    pub fn with_given(self, given: Given) -> Controller {
        Controller { given, ..self }
    }

    /// The metadata with everything that was decided, committed or not.
    #[must_use]
    pub fn image(&self) -> &MetadataImage {
        &self.image
    }

    /// Replays a decision into the controller's own image.
    fn adopt(&mut self, records: &[MetadataRecord]) {
        let offset = self.image.next_offset();
        self.image.apply(offset, records).expect("the controller's own records fit its image");
    }

    /// Adopts the records if they are meant, and drops them otherwise.
    fn conclude<T>(
        &mut self,
        intent: Intent,
        records: Vec<MetadataRecord>,
        answer: T,
    ) -> Decision<T> {
        match intent {
            Intent::Validate => Decision { records: Vec::new(), answer },
            Intent::Apply => {
                self.adopt(&records);
                Decision { records, answer }
            }
        }
    }

    fn active_brokers(&self) -> Vec<&Broker> {
        self.image.brokers().values().filter(|broker| broker.is_active()).collect()
    }

    /// The brokers of each of `count` partitions from `first` on, spread round-robin.
    fn place(
        &self,
        topic_id: TopicId,
        first: i32,
        count: i32,
        replication_factor: i16,
    ) -> Result<Vec<Vec<NodeId>>, Error> {
        let brokers = self.active_brokers();
        let replica_count = usize::try_from(replication_factor).unwrap_or(0);
        if replica_count == 0 || replica_count > brokers.len() {
            return Err(Error::InvalidReplicationFactor(format!(
                "Unable to replicate the partition {replication_factor} time(s): The target \
                 replication factor of {replication_factor} cannot be reached because only {} \
                 broker(s) are registered or some brokers have all their log directories cordoned.",
                brokers.len()
            )));
        }
        // Where the first partition goes differs from topic to topic.
        let shift = usize::from(topic_id.0[15]);
        let partition = |number: i32| {
            let start = shift + usize::try_from(number).expect("a partition's number");
            (0..replica_count).map(|next| brokers[(start + next) % brokers.len()].id).collect()
        };
        Ok((first..first + count).map(partition).collect())
    }

    /// A new partition, led by the first of its replicas that is active.
    fn partition_record(
        &self,
        topic_id: TopicId,
        partition_id: PartitionId,
        replicas: &[NodeId],
    ) -> Option<PartitionRecord> {
        let broker = |id: &NodeId| self.image.brokers().get(id);
        let is_active = |id: &&NodeId| broker(id).is_some_and(Broker::is_active);
        let isr: Vec<NodeId> = replicas.iter().filter(is_active).copied().collect();
        let directory = |id: &NodeId| match broker(id).map(|broker| broker.log_dirs.as_slice()) {
            Some([only]) => *only,
            _ => DIRECTORY_UNASSIGNED,
        };
        Some(PartitionRecord {
            topic_id,
            partition_id,
            replicas: replicas.to_vec(),
            leader: *isr.first()?,
            isr,
            removing_replicas: Vec::new(),
            adding_replicas: Vec::new(),
            leader_recovery_state: LeaderRecoveryState::Recovered,
            leader_epoch: LeaderEpoch(0),
            partition_epoch: 0,
            directories: replicas.iter().map(directory).collect(),
            eligible_leader_replicas: Vec::new(),
            last_known_elr: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests;
