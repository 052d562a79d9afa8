//! The records of the metadata log, with the fields that a node needs.
//!
//! Field for field these are KRaft's (INTEROP in the design notes has the list); the broker
//! converts them to and from the bytes. A record that this node does not act on (quotas, ACLs,
//! SCRAM credentials, delegation tokens) is kept whole as [`MetadataRecord::Other`], so that a
//! snapshot of the image loses nothing.

use model::{LeaderEpoch, NodeId, PartitionId, ProducerId, TopicId, Uuid};

use crate::feature;

/// "No broker": what the records name as leader of a partition that has none.
pub const NO_LEADER: NodeId = NodeId(-1);

/// The kinds of things that have settings, by Kafka's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceType(pub i8);

impl ResourceType {
    /// A topic, by its name.
    pub const TOPIC: ResourceType = ResourceType(2);
    /// A broker, by its id; all brokers under the empty name.
    pub const BROKER: ResourceType = ResourceType(4);
    /// A subscription to clients' metrics.
    pub const CLIENT_METRICS: ResourceType = ResourceType(16);
    /// A group.
    pub const GROUP: ResourceType = ResourceType(32);
}

/// A thing that has settings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigResource {
    /// What it is.
    pub resource_type: ResourceType,
    /// Which of its kind.
    pub name: String,
}

impl ConfigResource {
    /// All brokers.
    #[must_use]
    pub fn all_brokers() -> ConfigResource {
        ConfigResource { resource_type: ResourceType::BROKER, name: String::new() }
    }

    /// A broker.
    #[must_use]
    pub fn broker(id: NodeId) -> ConfigResource {
        ConfigResource { resource_type: ResourceType::BROKER, name: id.to_string() }
    }

    /// A topic.
    #[must_use]
    pub fn topic(name: &str) -> ConfigResource {
        ConfigResource { resource_type: ResourceType::TOPIC, name: name.to_owned() }
    }
}

/// Where a broker or controller listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndPoint {
    /// The listener's name.
    pub name: String,
    /// The host to connect to.
    pub host: String,
    /// The port.
    pub port: u16,
    /// 0 PLAINTEXT, 1 SSL, 2 SASL_PLAINTEXT, 3 SASL_SSL.
    pub security_protocol: i16,
}

/// The levels of a feature that a node supports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeatureRange {
    /// The feature.
    pub name: String,
    /// The lowest level.
    pub min_supported_version: i16,
    /// The highest level.
    pub max_supported_version: i16,
}

/// A broker's new incarnation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterBroker {
    /// The broker.
    pub broker_id: NodeId,
    /// Chosen anew by each process.
    pub incarnation_id: Uuid,
    /// The offset of this record.
    pub broker_epoch: i64,
    /// Where clients and brokers reach it.
    pub end_points: Vec<EndPoint>,
    /// What it supports.
    pub features: Vec<FeatureRange>,
    /// Its rack.
    pub rack: Option<String>,
    /// Whether it may lead nothing yet.
    pub fenced: bool,
    /// Whether it is giving up its partitions.
    pub in_controlled_shutdown: bool,
    /// The ids of its log directories.
    pub log_dirs: Vec<Uuid>,
    /// Those that get no new partitions; `None` until the broker has said.
    pub cordoned_log_dirs: Option<Vec<Uuid>>,
}

/// A change of a broker's registration. Absent fields change nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerRegistrationChange {
    /// The broker.
    pub broker_id: NodeId,
    /// The epoch of the registration that is changed.
    pub broker_epoch: i64,
    /// On the wire -1 unfences and 1 fences.
    pub fenced: Option<bool>,
    /// Only ever set.
    pub in_controlled_shutdown: Option<bool>,
    /// The new log directories; empty: as before.
    pub log_dirs: Vec<Uuid>,
    /// The new cordoned ones.
    pub cordoned_log_dirs: Option<Vec<Uuid>>,
}

impl BrokerRegistrationChange {
    /// A change of nothing, to be filled in.
    #[must_use]
    pub fn of(broker_id: NodeId, broker_epoch: i64) -> BrokerRegistrationChange {
        BrokerRegistrationChange {
            broker_id,
            broker_epoch,
            fenced: None,
            in_controlled_shutdown: None,
            log_dirs: Vec::new(),
            cordoned_log_dirs: None,
        }
    }
}

/// Whether a leader may have lost committed records (KIP-704).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeaderRecoveryState {
    /// It has all of them.
    #[default]
    Recovered,
    /// It was elected uncleanly and has not been repaired.
    Recovering,
}

/// A partition in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionRecord {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition.
    pub partition_id: PartitionId,
    /// The brokers that hold it, the preferred leader first.
    pub replicas: Vec<NodeId>,
    /// Those of them that have every committed record.
    pub isr: Vec<NodeId>,
    /// Those that a reassignment takes away.
    pub removing_replicas: Vec<NodeId>,
    /// Those that a reassignment adds.
    pub adding_replicas: Vec<NodeId>,
    /// The leader, or [`NO_LEADER`].
    pub leader: NodeId,
    /// Whether the leader may have lost records.
    pub leader_recovery_state: LeaderRecoveryState,
    /// How often the leader changed.
    pub leader_epoch: LeaderEpoch,
    /// How often anything of this changed.
    pub partition_epoch: i32,
    /// The log directory of each replica.
    pub directories: Vec<Uuid>,
    /// Replicas outside the ISR that still have every committed record (KIP-966).
    pub eligible_leader_replicas: Vec<NodeId>,
    /// The last members of the former, or the last leader.
    pub last_known_elr: Vec<NodeId>,
}

/// A change of a partition. Absent fields change nothing. Replaying one adds 1 to the partition's
/// epoch, and 1 to its leader epoch if (and only if) it names a leader, be it the same or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionChange {
    /// The topic.
    pub topic_id: TopicId,
    /// The partition.
    pub partition_id: PartitionId,
    /// The new ISR.
    pub isr: Option<Vec<NodeId>>,
    /// The new leader, or [`NO_LEADER`].
    pub leader: Option<NodeId>,
    /// The new replicas.
    pub replicas: Option<Vec<NodeId>>,
    /// The new set of those to take away.
    pub removing_replicas: Option<Vec<NodeId>>,
    /// The new set of those to add.
    pub adding_replicas: Option<Vec<NodeId>>,
    /// The new state of the leader.
    pub leader_recovery_state: Option<LeaderRecoveryState>,
    /// The new log directories.
    pub directories: Option<Vec<Uuid>>,
    /// The new eligible replicas.
    pub eligible_leader_replicas: Option<Vec<NodeId>>,
    /// The new last known ones.
    pub last_known_elr: Option<Vec<NodeId>>,
}

impl PartitionChange {
    /// A change of nothing, to be filled in.
    #[must_use]
    pub fn of(topic_id: TopicId, partition_id: PartitionId) -> PartitionChange {
        PartitionChange {
            topic_id,
            partition_id,
            isr: None,
            leader: None,
            replicas: None,
            removing_replicas: None,
            adding_replicas: None,
            leader_recovery_state: None,
            directories: None,
            eligible_leader_replicas: None,
            last_known_elr: None,
        }
    }
}

/// A controller's new incarnation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisterController {
    /// The controller.
    pub controller_id: NodeId,
    /// Chosen anew by each process.
    pub incarnation_id: Uuid,
    /// Where it is reached.
    pub end_points: Vec<EndPoint>,
    /// What it supports.
    pub features: Vec<FeatureRange>,
}

/// A record of the metadata log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetadataRecord {
    /// See [`RegisterBroker`].
    RegisterBroker(RegisterBroker),
    /// A broker is gone for good.
    UnregisterBroker {
        /// The broker.
        broker_id: NodeId,
        /// The epoch of its last registration.
        broker_epoch: i64,
    },
    /// See [`BrokerRegistrationChange`]. The old FenceBroker and UnfenceBroker records are read
    /// as this one.
    BrokerRegistrationChange(BrokerRegistrationChange),
    /// A topic is created; its partitions follow.
    Topic {
        /// Its name.
        name: String,
        /// Its id, never used before.
        topic_id: TopicId,
    },
    /// A topic is deleted, with its partitions and settings.
    RemoveTopic {
        /// The topic.
        topic_id: TopicId,
    },
    /// See [`PartitionRecord`].
    Partition(PartitionRecord),
    /// See [`PartitionChange`].
    PartitionChange(PartitionChange),
    /// A setting.
    Config {
        /// Whose.
        resource: ConfigResource,
        /// Which.
        name: String,
        /// Its value; `None`: back to the default.
        value: Option<String>,
    },
    /// The finalized level of a feature; 0 takes it away.
    FeatureLevel {
        /// The feature.
        name: String,
        /// The level.
        feature_level: i16,
    },
    /// Producer ids below this one belong to some broker.
    ProducerIds {
        /// The broker that got the block.
        broker_id: NodeId,
        /// Its epoch.
        broker_epoch: i64,
        /// The first id that nobody has.
        next_producer_id: ProducerId,
    },
    /// Nothing, but an offset.
    NoOp,
    /// Nothing up to the end of the transaction is to be seen before it.
    BeginTransaction {
        /// What it is for.
        name: Option<String>,
    },
    /// All of the transaction is to be seen.
    EndTransaction,
    /// Nothing of the transaction is to be seen.
    AbortTransaction {
        /// Why.
        reason: Option<String>,
    },
    /// See [`RegisterController`].
    RegisterController(RegisterController),
    /// A controller is gone for good.
    UnregisterController {
        /// The controller.
        controller_id: NodeId,
    },
    /// The eligible replicas of a topic (of all topics under the empty name) are forgotten.
    ClearElr {
        /// The topic's name.
        topic_name: String,
    },
    /// A record that this node does not act on, as it was read.
    Other {
        /// The record's kind.
        api_key: u16,
        /// The version of its bytes.
        version: u16,
        /// The bytes behind the frame's header.
        bytes: Vec<u8>,
    },
}

impl MetadataRecord {
    /// The version that Apache Kafka's controller writes this record with, at a level of
    /// `metadata.version` from [`feature::METADATA_VERSION_MIN`] on.
    #[must_use]
    pub fn version(&self, metadata_version: i16) -> u16 {
        match self {
            MetadataRecord::RegisterBroker(_) => {
                if metadata_version >= feature::METADATA_VERSION_CORDON { 4 } else { 3 }
            }
            MetadataRecord::BrokerRegistrationChange(change) => {
                if change.cordoned_log_dirs.is_some() {
                    3
                } else if !change.log_dirs.is_empty() {
                    2
                } else {
                    u16::from(change.in_controlled_shutdown.is_some())
                }
            }
            MetadataRecord::Partition(_) | MetadataRecord::PartitionChange(_) => 2,
            MetadataRecord::Other { version, .. } => *version,
            MetadataRecord::UnregisterBroker { .. }
            | MetadataRecord::Topic { .. }
            | MetadataRecord::RemoveTopic { .. }
            | MetadataRecord::Config { .. }
            | MetadataRecord::FeatureLevel { .. }
            | MetadataRecord::ProducerIds { .. }
            | MetadataRecord::NoOp
            | MetadataRecord::BeginTransaction { .. }
            | MetadataRecord::EndTransaction
            | MetadataRecord::AbortTransaction { .. }
            | MetadataRecord::RegisterController(_)
            | MetadataRecord::UnregisterController { .. }
            | MetadataRecord::ClearElr { .. } => 0,
        }
    }
}
