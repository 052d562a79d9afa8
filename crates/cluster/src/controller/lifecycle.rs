//! The life of this node: the first records of a new log, registration at each start, leadership
//! taken and given up, blocks of producer ids.

use model::{NodeId, ProducerId, Uuid};

use super::{Controller, Decision, Intent};
use crate::image::Partition;
use crate::record::{
    BrokerRegistrationChange, EndPoint, LeaderRecoveryState, MetadataRecord, NO_LEADER,
    PartitionChange, RegisterBroker, RegisterController,
};
use crate::{Error, MetadataImage, feature};

/// Producer ids that a broker gets at once, as Apache Kafka gives them out.
pub const PRODUCER_ID_BLOCK_COUNT: i64 = 1000;

/// The data records of the first snapshot of a new directory, between the control records (header,
/// KRaftVersion, Voters) and the footer: what `kafka-storage format` writes there, with the
/// features that this node has.
#[must_use]
pub fn bootstrap_snapshot() -> Vec<MetadataRecord> {
    let level = |name: &str, feature_level| {
        let name = name.to_owned();
        MetadataRecord::FeatureLevel { name, feature_level }
    };
    vec![
        level(feature::METADATA_VERSION, feature::METADATA_VERSION_MAX),
        level(feature::GROUP_VERSION, feature::GROUP_VERSION_MAX),
        level(feature::TRANSACTION_VERSION, feature::TRANSACTION_VERSION_MAX),
    ]
}

/// The first data records of a new log, behind the control records of its first epoch: the same
/// again, for those who read the log alone.
#[must_use]
pub fn bootstrap_log() -> Vec<MetadataRecord> {
    let name = Some("Bootstrap records".to_owned());
    let mut records = vec![MetadataRecord::BeginTransaction { name }];
    records.extend(bootstrap_snapshot());
    records.push(MetadataRecord::EndTransaction);
    records
}

/// This node, as it registers at a start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerStart {
    /// Its id.
    pub node: NodeId,
    /// Fresh random bits.
    pub incarnation_id: Uuid,
    /// The ids of its log directories.
    pub log_dirs: Vec<Uuid>,
    /// Where clients reach it.
    pub listeners: Vec<EndPoint>,
    /// Its rack.
    pub rack: Option<String>,
    /// Where the controller would be reached: what the Voters record says.
    pub controller_listeners: Vec<EndPoint>,
}

/// Producer ids that are this broker's alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerIdBlock {
    /// The first.
    pub first: ProducerId,
    /// How many.
    pub count: i64,
}

impl Controller {
    /// Registers this node and makes it the leader of what it holds. `next_offset` is the offset
    /// that the first of the records will get; the answer is the broker's epoch.
    ///
    /// This is called once a start, before anything is served. Each partition's leader epoch
    /// grows, so that clients notice if records were lost that nobody was promised. A partition
    /// whose only replica this is has every record that was acknowledged (acknowledged is
    /// durable), so it is led again, cleanly, whether the last stop was clean or not.
    ///
    /// Unlike those of a request, these records may be split into several batches.
    pub fn start_broker(&mut self, start: &BrokerStart, next_offset: i64) -> Decision<i64> {
        let mut records = Vec::new();
        if self.image.is_in_transaction() {
            let reason = Some("its controller stopped".to_owned());
            records.push(MetadataRecord::AbortTransaction { reason });
        }
        records.push(MetadataRecord::RegisterController(RegisterController {
            controller_id: start.node,
            incarnation_id: start.incarnation_id,
            end_points: start.controller_listeners.clone(),
            features: feature::supported(),
        }));
        let position = i64::try_from(records.len()).expect("a few records");
        let broker_epoch = next_offset + position;
        records.push(MetadataRecord::RegisterBroker(RegisterBroker {
            broker_id: start.node,
            incarnation_id: start.incarnation_id,
            broker_epoch,
            end_points: start.listeners.clone(),
            features: feature::supported(),
            rack: start.rack.clone(),
            fenced: true,
            in_controlled_shutdown: false,
            log_dirs: start.log_dirs.clone(),
            cordoned_log_dirs: None,
        }));
        let mut change = BrokerRegistrationChange::of(start.node, broker_epoch);
        if self.image.metadata_version() >= feature::METADATA_VERSION_CORDON {
            change.cordoned_log_dirs = Some(Vec::new());
            records.push(MetadataRecord::BrokerRegistrationChange(change.clone()));
            change.cordoned_log_dirs = None;
        }
        change.fenced = Some(false);
        records.push(MetadataRecord::BrokerRegistrationChange(change));
        records.extend(partition_changes(&self.image, |partition| elect(partition, start.node)));
        self.conclude(Intent::Apply, records, broker_epoch)
    }

    /// Gives up what this node leads and fences it: the last records before a clean stop, after
    /// which Apache Kafka can take the directory at once. They may be split into several batches.
    ///
    /// # Errors
    /// When this is not how the node is registered.
    pub fn stop_broker(&mut self, node: NodeId, broker_epoch: i64) -> Result<Decision<()>, Error> {
        self.check_epoch(node, broker_epoch)?;
        let mut change = BrokerRegistrationChange::of(node, broker_epoch);
        change.in_controlled_shutdown = Some(true);
        let mut records = vec![MetadataRecord::BrokerRegistrationChange(change.clone())];
        records.extend(partition_changes(&self.image, |partition| {
            (partition.leader == Some(node)).then_some(Election {
                leader: NO_LEADER,
                isr: None,
                clear_elr: false,
            })
        }));
        change.in_controlled_shutdown = None;
        change.fenced = Some(true);
        records.push(MetadataRecord::BrokerRegistrationChange(change));
        Ok(self.conclude(Intent::Apply, records, ()))
    }

    /// Gives a broker a block of producer ids that nobody else ever gets.
    ///
    /// # Errors
    /// When the broker is not registered so, or no ids are left.
    pub fn allocate_producer_ids(
        &mut self,
        broker_id: NodeId,
        broker_epoch: i64,
    ) -> Result<Decision<ProducerIdBlock>, Error> {
        self.check_epoch(broker_id, broker_epoch)?;
        let first = self.image.next_producer_id();
        let next = first.0.checked_add(PRODUCER_ID_BLOCK_COUNT);
        let next_producer_id = ProducerId(next.ok_or(Error::ProducerIdsExhausted)?);
        let record = MetadataRecord::ProducerIds { broker_id, broker_epoch, next_producer_id };
        let block = ProducerIdBlock { first, count: PRODUCER_ID_BLOCK_COUNT };
        Ok(self.conclude(Intent::Apply, vec![record], block))
    }

    fn check_epoch(&self, node: NodeId, broker_epoch: i64) -> Result<(), Error> {
        match self.image.brokers().get(&node) {
            Some(broker) if broker.epoch == broker_epoch => Ok(()),
            _ => Err(Error::StaleBrokerEpoch(node)),
        }
    }
}

/// The next leader of a partition and what goes with it.
struct Election {
    leader: NodeId,
    isr: Option<Vec<NodeId>>,
    clear_elr: bool,
}

/// Makes this node the leader, if it has every committed record: it is in the ISR, or eligible,
/// or the only replica there is. The other replicas join the ISR again when they have caught up.
fn elect(partition: &Partition, node: NodeId) -> Option<Election> {
    let is_member = partition.isr.contains(&node);
    let is_eligible = partition.eligible_leader_replicas.contains(&node);
    let is_alone = partition.replicas.as_slice() == [node];
    let is_replica = partition.replicas.contains(&node);
    if !is_replica || !(is_member || is_eligible || is_alone) {
        return None;
    }
    Some(Election {
        leader: node,
        isr: Some(vec![node]).filter(|isr| *isr != partition.isr),
        clear_elr: !partition.eligible_leader_replicas.is_empty()
            || !partition.last_known_elr.is_empty(),
    })
}

/// The changes that the elections ask for, topic by topic in the order of their names.
fn partition_changes(
    image: &MetadataImage,
    elect: impl Fn(&Partition) -> Option<Election>,
) -> Vec<MetadataRecord> {
    let mut records = Vec::new();
    for topic in image.topics() {
        for (id, partition) in &topic.partitions {
            let Some(election) = elect(partition) else { continue };
            let mut change = PartitionChange::of(topic.id, *id);
            change.leader = Some(election.leader);
            change.isr = election.isr;
            if election.clear_elr {
                change.eligible_leader_replicas = Some(Vec::new());
                change.last_known_elr = Some(Vec::new());
            }
            let is_lost = partition.leader_recovery_state == LeaderRecoveryState::Recovering;
            if is_lost && election.leader != NO_LEADER {
                change.leader_recovery_state = Some(LeaderRecoveryState::Recovered);
            }
            records.push(MetadataRecord::PartitionChange(change));
        }
    }
    records
}
