//! Between the metadata log's bytes and the records that `cluster` decides and replays.

use cluster::record::{
    BrokerRegistrationChange, ConfigResource, EndPoint, FeatureRange, LeaderRecoveryState,
    MetadataRecord, PartitionChange, PartitionRecord, RegisterBroker, RegisterController,
    ResourceType,
};
use model::{LeaderEpoch, NodeId, PartitionId, ProducerId};
use wire::{
    Error, MetadataMessage, Result,
    abort_transaction_record::AbortTransactionRecord,
    begin_transaction_record::BeginTransactionRecord,
    broker_registration_change_record::BrokerRegistrationChangeRecord,
    clear_elr_record::ClearElrRecord,
    config_record::ConfigRecord,
    end_transaction_record::EndTransactionRecord,
    feature_level_record::FeatureLevelRecord,
    metadata_frame,
    metadata_record::MetadataRecord as Wire,
    no_op_record::NoOpRecord,
    partition_change_record::PartitionChangeRecord,
    partition_record::PartitionRecord as WirePartition,
    producer_ids_record::ProducerIdsRecord,
    register_broker_record::{BrokerEndpoint, BrokerFeature, RegisterBrokerRecord},
    register_controller_record::{ControllerEndpoint, ControllerFeature, RegisterControllerRecord},
    remove_topic_record::RemoveTopicRecord,
    topic_record::TopicRecord,
    unregister_broker_record::UnregisterBrokerRecord,
    unregister_controller_record::UnregisterControllerRecord,
};

/// What a change record says of a leader that stays.
const LEADER_UNCHANGED: i32 = -2;
/// What a change record says of a recovery state that stays.
const RECOVERY_STATE_UNCHANGED: i8 = -1;

fn nodes(ids: &[i32]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

fn numbers(ids: &[NodeId]) -> Vec<i32> {
    ids.iter().map(|id| id.0).collect()
}

fn recovery_state(number: i8) -> LeaderRecoveryState {
    // Kafka knows 0 and 1; whatever may come later is not "recovered".
    if number == 0 { LeaderRecoveryState::Recovered } else { LeaderRecoveryState::Recovering }
}

fn recovery_number(state: LeaderRecoveryState) -> i8 {
    match state {
        LeaderRecoveryState::Recovered => 0,
        LeaderRecoveryState::Recovering => 1,
    }
}

/// A flag of a registration change: nothing, and what 1 stands for.
fn flag(number: i8) -> Option<bool> {
    match number {
        0 => None,
        positive => Some(positive > 0),
    }
}

/// Decodes one record's value.
///
/// # Errors
/// When the bytes are no metadata record that this node knows.
#[expect(clippy::too_many_lines, reason = "one arm a record")]
pub(crate) fn decode(value: &[u8]) -> Result<MetadataRecord> {
    let (record, version) = metadata_frame::decode_metadata_record(value)?;
    let decoded = match record {
        Wire::RegisterBroker(record) => MetadataRecord::RegisterBroker(register_broker(&record)),
        Wire::UnregisterBroker(record) => MetadataRecord::UnregisterBroker {
            broker_id: NodeId(record.broker_id),
            broker_epoch: record.broker_epoch,
        },
        Wire::Topic(record) => {
            MetadataRecord::Topic { name: record.name.to_owned(), topic_id: record.topic_id }
        }
        Wire::Partition(record) => MetadataRecord::Partition(partition(record)),
        Wire::Config(record) => MetadataRecord::Config {
            resource: ConfigResource {
                resource_type: ResourceType(record.resource_type),
                name: record.resource_name.to_owned(),
            },
            name: record.name.to_owned(),
            value: record.value.map(str::to_owned),
        },
        Wire::PartitionChange(record) => MetadataRecord::PartitionChange(partition_change(record)),
        Wire::FenceBroker(record) => fence(record.id, record.epoch, Some(true)),
        Wire::UnfenceBroker(record) => fence(record.id, record.epoch, Some(false)),
        Wire::RemoveTopic(record) => MetadataRecord::RemoveTopic { topic_id: record.topic_id },
        Wire::FeatureLevel(record) => MetadataRecord::FeatureLevel {
            name: record.name.to_owned(),
            feature_level: record.feature_level,
        },
        Wire::ProducerIds(record) => MetadataRecord::ProducerIds {
            broker_id: NodeId(record.broker_id),
            broker_epoch: record.broker_epoch,
            next_producer_id: ProducerId(record.next_producer_id),
        },
        Wire::BrokerRegistrationChange(record) => {
            MetadataRecord::BrokerRegistrationChange(BrokerRegistrationChange {
                broker_id: NodeId(record.broker_id),
                broker_epoch: record.broker_epoch,
                fenced: flag(record.fenced),
                in_controlled_shutdown: flag(record.in_controlled_shutdown),
                log_dirs: record.log_dirs,
                cordoned_log_dirs: record.cordoned_log_dirs,
            })
        }
        Wire::NoOp(NoOpRecord { .. }) => MetadataRecord::NoOp,
        Wire::BeginTransaction(record) => {
            MetadataRecord::BeginTransaction { name: record.name.map(str::to_owned) }
        }
        Wire::EndTransaction(EndTransactionRecord { .. }) => MetadataRecord::EndTransaction,
        Wire::AbortTransaction(record) => {
            MetadataRecord::AbortTransaction { reason: record.reason.map(str::to_owned) }
        }
        Wire::RegisterController(record) => {
            MetadataRecord::RegisterController(register_controller(&record))
        }
        Wire::UnregisterController(record) => {
            MetadataRecord::UnregisterController { controller_id: NodeId(record.controller_id) }
        }
        Wire::ClearElr(record) => {
            MetadataRecord::ClearElr { topic_name: record.topic_name.to_owned() }
        }
        other @ (Wire::DelegationToken(_)
        | Wire::UserScramCredential(_)
        | Wire::ClientQuota(_)
        | Wire::AccessControlEntry(_)
        | Wire::RemoveAccessControlEntry(_)
        | Wire::RemoveUserScramCredential(_)
        | Wire::RemoveDelegationToken(_)
        | Wire::ZkMigrationState(_)) => {
            let key = other.key();
            MetadataRecord::Other {
                api_key: key.unsigned_abs(),
                version: version.unsigned_abs(),
                bytes: wire::encode(&other, version)?.to_vec(),
            }
        }
    };
    Ok(decoded)
}

fn fence(broker_id: i32, broker_epoch: i64, fenced: Option<bool>) -> MetadataRecord {
    let mut change = BrokerRegistrationChange::of(NodeId(broker_id), broker_epoch);
    change.fenced = fenced;
    MetadataRecord::BrokerRegistrationChange(change)
}

fn register_broker(record: &RegisterBrokerRecord<'_>) -> RegisterBroker {
    RegisterBroker {
        broker_id: NodeId(record.broker_id),
        incarnation_id: record.incarnation_id,
        broker_epoch: record.broker_epoch,
        end_points: record
            .end_points
            .iter()
            .map(|point| EndPoint {
                name: point.name.to_owned(),
                host: point.host.to_owned(),
                port: point.port,
                security_protocol: point.security_protocol,
            })
            .collect(),
        features: record
            .features
            .iter()
            .map(|feature| FeatureRange {
                name: feature.name.to_owned(),
                min_supported_version: feature.min_supported_version,
                max_supported_version: feature.max_supported_version,
            })
            .collect(),
        rack: record.rack.map(str::to_owned),
        fenced: record.fenced,
        in_controlled_shutdown: record.in_controlled_shutdown,
        log_dirs: record.log_dirs.clone(),
        cordoned_log_dirs: record.cordoned_log_dirs.clone(),
    }
}

fn register_controller(record: &RegisterControllerRecord<'_>) -> RegisterController {
    RegisterController {
        controller_id: NodeId(record.controller_id),
        incarnation_id: record.incarnation_id,
        end_points: record
            .end_points
            .iter()
            .map(|point| EndPoint {
                name: point.name.to_owned(),
                host: point.host.to_owned(),
                port: point.port,
                security_protocol: point.security_protocol,
            })
            .collect(),
        features: record
            .features
            .iter()
            .map(|feature| FeatureRange {
                name: feature.name.to_owned(),
                min_supported_version: feature.min_supported_version,
                max_supported_version: feature.max_supported_version,
            })
            .collect(),
    }
}

fn partition(record: WirePartition) -> PartitionRecord {
    PartitionRecord {
        topic_id: record.topic_id,
        partition_id: PartitionId(record.partition_id),
        replicas: nodes(&record.replicas),
        isr: nodes(&record.isr),
        removing_replicas: nodes(&record.removing_replicas),
        adding_replicas: nodes(&record.adding_replicas),
        leader: NodeId(record.leader),
        leader_recovery_state: recovery_state(record.leader_recovery_state),
        leader_epoch: LeaderEpoch(record.leader_epoch),
        partition_epoch: record.partition_epoch,
        directories: record.directories,
        eligible_leader_replicas: nodes(&record.eligible_leader_replicas.unwrap_or_default()),
        last_known_elr: nodes(&record.last_known_elr.unwrap_or_default()),
    }
}

fn partition_change(record: PartitionChangeRecord) -> PartitionChange {
    let list = |ids: &Option<Vec<i32>>| ids.as_deref().map(nodes);
    PartitionChange {
        topic_id: record.topic_id,
        partition_id: PartitionId(record.partition_id),
        isr: list(&record.isr),
        leader: (record.leader != LEADER_UNCHANGED).then_some(NodeId(record.leader)),
        replicas: list(&record.replicas),
        removing_replicas: list(&record.removing_replicas),
        adding_replicas: list(&record.adding_replicas),
        leader_recovery_state: (record.leader_recovery_state != RECOVERY_STATE_UNCHANGED)
            .then(|| recovery_state(record.leader_recovery_state)),
        eligible_leader_replicas: list(&record.eligible_leader_replicas),
        last_known_elr: list(&record.last_known_elr),
        directories: record.directories,
    }
}

fn to_wire<M: MetadataMessage>(record: &M, version: i16) -> Result<Vec<u8>> {
    metadata_frame::encode_metadata_record(record, version)
}

/// Encodes a record as the value of a record of the log, in the version that Apache Kafka writes
/// at this level of `metadata.version`.
///
/// # Errors
/// When a name is longer than the format can say.
pub(crate) fn encode(record: &MetadataRecord, metadata_version: i16) -> Result<Vec<u8>> {
    let version = i16::try_from(record.version(metadata_version)).map_err(|_| Error::TooLong)?;
    match record {
        MetadataRecord::RegisterBroker(record) => encode_register_broker(record, version),
        MetadataRecord::UnregisterBroker { broker_id, broker_epoch } => to_wire(
            &UnregisterBrokerRecord { broker_id: broker_id.0, broker_epoch: *broker_epoch },
            version,
        ),
        MetadataRecord::BrokerRegistrationChange(change) => encode_change(change, version),
        MetadataRecord::Topic { name, topic_id } => {
            to_wire(&TopicRecord { name, topic_id: *topic_id }, version)
        }
        MetadataRecord::RemoveTopic { topic_id } => {
            to_wire(&RemoveTopicRecord { topic_id: *topic_id }, version)
        }
        MetadataRecord::Partition(record) => encode_partition(record, version),
        MetadataRecord::PartitionChange(change) => encode_partition_change(change, version),
        MetadataRecord::Config { resource, name, value } => to_wire(
            &ConfigRecord {
                resource_type: resource.resource_type.0,
                resource_name: &resource.name,
                name,
                value: value.as_deref(),
            },
            version,
        ),
        MetadataRecord::FeatureLevel { name, feature_level } => {
            to_wire(&FeatureLevelRecord { name, feature_level: *feature_level }, version)
        }
        MetadataRecord::ProducerIds { broker_id, broker_epoch, next_producer_id } => to_wire(
            &ProducerIdsRecord {
                broker_id: broker_id.0,
                broker_epoch: *broker_epoch,
                next_producer_id: next_producer_id.0,
            },
            version,
        ),
        MetadataRecord::NoOp => to_wire(&NoOpRecord::default(), version),
        MetadataRecord::BeginTransaction { name } => {
            to_wire(&BeginTransactionRecord { name: name.as_deref() }, version)
        }
        MetadataRecord::EndTransaction => to_wire(&EndTransactionRecord::default(), version),
        MetadataRecord::AbortTransaction { reason } => {
            to_wire(&AbortTransactionRecord { reason: reason.as_deref() }, version)
        }
        MetadataRecord::RegisterController(record) => encode_register_controller(record, version),
        MetadataRecord::UnregisterController { controller_id } => {
            to_wire(&UnregisterControllerRecord { controller_id: controller_id.0 }, version)
        }
        MetadataRecord::ClearElr { topic_name } => to_wire(&ClearElrRecord { topic_name }, version),
        MetadataRecord::Other { api_key, version, bytes } => {
            metadata_frame::encode_opaque_record(*api_key, *version, bytes)
        }
    }
}

fn encode_register_broker(record: &RegisterBroker, version: i16) -> Result<Vec<u8>> {
    let end_points = record
        .end_points
        .iter()
        .map(|point| BrokerEndpoint {
            name: &point.name,
            host: &point.host,
            port: point.port,
            security_protocol: point.security_protocol,
        })
        .collect();
    let features = record
        .features
        .iter()
        .map(|feature| BrokerFeature {
            name: &feature.name,
            min_supported_version: feature.min_supported_version,
            max_supported_version: feature.max_supported_version,
        })
        .collect();
    let wire = RegisterBrokerRecord {
        broker_id: record.broker_id.0,
        is_migrating_zk_broker: false,
        incarnation_id: record.incarnation_id,
        broker_epoch: record.broker_epoch,
        end_points,
        features,
        rack: record.rack.as_deref(),
        fenced: record.fenced,
        in_controlled_shutdown: record.in_controlled_shutdown,
        log_dirs: record.log_dirs.clone(),
        cordoned_log_dirs: record.cordoned_log_dirs.clone(),
    };
    to_wire(&wire, version)
}

fn encode_register_controller(record: &RegisterController, version: i16) -> Result<Vec<u8>> {
    let end_points = record
        .end_points
        .iter()
        .map(|point| ControllerEndpoint {
            name: &point.name,
            host: &point.host,
            port: point.port,
            security_protocol: point.security_protocol,
        })
        .collect();
    let features = record
        .features
        .iter()
        .map(|feature| ControllerFeature {
            name: &feature.name,
            min_supported_version: feature.min_supported_version,
            max_supported_version: feature.max_supported_version,
        })
        .collect();
    let wire = RegisterControllerRecord {
        controller_id: record.controller_id.0,
        incarnation_id: record.incarnation_id,
        zk_migration_ready: false,
        end_points,
        features,
    };
    to_wire(&wire, version)
}

fn encode_change(change: &BrokerRegistrationChange, version: i16) -> Result<Vec<u8>> {
    let number = |flag: Option<bool>| match flag {
        None => 0,
        Some(true) => 1,
        Some(false) => -1,
    };
    let wire = BrokerRegistrationChangeRecord {
        broker_id: change.broker_id.0,
        broker_epoch: change.broker_epoch,
        fenced: number(change.fenced),
        in_controlled_shutdown: number(change.in_controlled_shutdown),
        log_dirs: change.log_dirs.clone(),
        cordoned_log_dirs: change.cordoned_log_dirs.clone(),
    };
    to_wire(&wire, version)
}

fn encode_partition(record: &PartitionRecord, version: i16) -> Result<Vec<u8>> {
    // Kafka leaves the tagged lists out where they are empty.
    let list = |ids: &[NodeId]| (!ids.is_empty()).then(|| numbers(ids));
    let wire = WirePartition {
        partition_id: record.partition_id.0,
        topic_id: record.topic_id,
        replicas: numbers(&record.replicas),
        isr: numbers(&record.isr),
        removing_replicas: numbers(&record.removing_replicas),
        adding_replicas: numbers(&record.adding_replicas),
        leader: record.leader.0,
        leader_recovery_state: recovery_number(record.leader_recovery_state),
        leader_epoch: record.leader_epoch.0,
        partition_epoch: record.partition_epoch,
        directories: record.directories.clone(),
        eligible_leader_replicas: list(&record.eligible_leader_replicas),
        last_known_elr: list(&record.last_known_elr),
    };
    to_wire(&wire, version)
}

fn encode_partition_change(change: &PartitionChange, version: i16) -> Result<Vec<u8>> {
    let list = |ids: &Option<Vec<NodeId>>| ids.as_deref().map(numbers);
    let wire = PartitionChangeRecord {
        partition_id: change.partition_id.0,
        topic_id: change.topic_id,
        isr: list(&change.isr),
        leader: change.leader.map_or(LEADER_UNCHANGED, |leader| leader.0),
        replicas: list(&change.replicas),
        removing_replicas: list(&change.removing_replicas),
        adding_replicas: list(&change.adding_replicas),
        leader_recovery_state: change
            .leader_recovery_state
            .map_or(RECOVERY_STATE_UNCHANGED, recovery_number),
        directories: change.directories.clone(),
        eligible_leader_replicas: list(&change.eligible_leader_replicas),
        last_known_elr: list(&change.last_known_elr),
    };
    to_wire(&wire, version)
}
