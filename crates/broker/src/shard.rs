//! One shard's part of the broker: what its tasks share.
//!
//! Everything here belongs to one thread. What another shard owns is reached by a call.

use std::{
    cell::{Cell, OnceCell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
};

use cluster::{Delta, MetadataImage, MetadataRecord, record::ConfigResource};
use model::{
    LeaderEpoch, NodeId, Offset, PartitionId, TopicId, TopicPartition, Uuid,
    collections::HashMap,
    topic_config::{self, TopicConfig},
};
use runtime::{Runtime, ShardIndex, local::Notify};
use storage::{Log, Storage};

use crate::{
    answer_memory::AnswerMemory,
    api::fetch_session::Slots,
    backlog::{Backlog, WaitingBytes},
    config::BrokerConfig,
    connection::Connection,
    connection_limits::{self, ConnectionCounts, ConnectionLimits},
    controller::ControllerHost,
    gather_turns::GatherTurns,
    groups::Groups,
    home::Load,
    loggers::Loggers,
    metadata_log::Metadata,
    metrics::{Counters, Traffic},
    peers::Peers,
    placement::Placement,
    recompression::OwnCodecs,
    slow::SlowRequests,
    start::StartPlan,
    stop::CheckpointsAsked,
    telemetry::Telemetry,
    topic_settings::is_internal,
    transactions::Transactions,
};

/// What a node is called.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) cluster_id: String,
    pub(crate) directory_id: Uuid,
}

/// A partition that this shard owns.
pub(crate) struct Partition {
    pub(crate) log: Log,
    pub(crate) backlog: Backlog,
    pub(crate) traffic: Traffic,
    leader_epoch: Cell<LeaderEpoch>,
}

impl Partition {
    pub(crate) fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch.get()
    }

    /// The largest epoch up to `epoch` and where it ends. The current epoch ends at the log's end,
    /// also before its first record; one that is not known yet is undefined, and -1 is none.
    pub(crate) fn end_of_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let current = self.leader_epoch();
        if epoch == LeaderEpoch(-1) || epoch > current {
            return None;
        }
        if epoch == current {
            return Some((epoch, self.log.log_end_offset()));
        }
        // Where there is none: it is older than all that is left of the log.
        let found = self.log.end_offset_for_epoch(epoch);
        Some(found.unwrap_or_else(|| (epoch, self.log.log_start_offset())))
    }

    /// As its directory is called.
    pub(crate) fn name(&self) -> String {
        format!("{}-{}", self.log.topic(), self.log.partition())
    }
}

/// One shard.
pub(crate) struct Shard {
    pub(crate) runtime: Runtime,
    pub(crate) config: Arc<BrokerConfig>,
    /// The log of the whole process.
    pub(crate) loggers: Arc<dyn Loggers>,
    pub(crate) storage: Rc<Storage>,
    pub(crate) image: RefCell<MetadataImage>,
    pub(crate) peers: Peers,
    pub(crate) groups: Groups,
    pub(crate) transactions: Transactions,
    pub(crate) fetch_session_slots: Slots,
    pub(crate) waiting_bytes: WaitingBytes,
    pub(crate) own_codecs: OwnCodecs,
    pub(crate) answer_memory: AnswerMemory,
    pub(crate) gather_turns: Rc<GatherTurns>,
    pub(crate) telemetry: Telemetry,
    pub(crate) counters: Counters,
    pub(crate) load: Load,
    pub(crate) slow: SlowRequests,
    /// On shard 0: where the first listener is, once clients are listened for.
    pub(crate) listening: OnceCell<SocketAddr>,
    /// On shard 0: the connections of all shards.
    pub(crate) connections: ConnectionCounts,
    /// Told when one of them has ended, and when a stop is asked for.
    pub(crate) connection_ended: Notify,
    /// The controller, on shard 0.
    pub(crate) controller: OnceCell<ControllerHost>,
    /// Set when the shard is to end.
    pub(crate) stopped: Cell<bool>,
    /// Told when a stop is asked for and when the shard is to end.
    pub(crate) stopping: Notify,
    pub(crate) stop_asked: Cell<bool>,
    /// Connections look at no further request: the node gives its partitions up.
    pub(crate) requests_ended: Cell<bool>,
    pub(crate) checkpoints_asked: CheckpointsAsked,
    partitions: RefCell<HashMap<TopicPartition, Rc<Partition>>>,
    placement: RefCell<Placement>,
    identity: OnceCell<Identity>,
    /// What the directory held at the start, until the first metadata is applied.
    pub(crate) start_plan: RefCell<Option<Arc<StartPlan>>>,
}

impl Shard {
    pub(crate) fn new(
        runtime: Runtime,
        config: Arc<BrokerConfig>,
        loggers: Arc<dyn Loggers>,
        storage: Rc<Storage>,
    ) -> Shard {
        let shard_count = runtime.shard_count();
        let slots = config.max_incremental_fetch_session_cache_slots / usize::from(shard_count);
        Shard {
            storage,
            image: RefCell::new(MetadataImage::new()),
            peers: Peers::default(),
            groups: Groups::default(),
            transactions: Transactions::default(),
            fetch_session_slots: Slots { used: Cell::new(0), max: slots },
            waiting_bytes: WaitingBytes::default(),
            own_codecs: OwnCodecs::default(),
            answer_memory: AnswerMemory::new(shard_count),
            gather_turns: Rc::default(),
            telemetry: Telemetry::new(shard_count),
            counters: Counters::default(),
            load: Load::default(),
            slow: SlowRequests::default(),
            listening: OnceCell::new(),
            connections: ConnectionCounts::new(shard_count),
            connection_ended: Notify::new(),
            controller: OnceCell::new(),
            stopped: Cell::new(false),
            stopping: Notify::new(),
            stop_asked: Cell::new(false),
            requests_ended: Cell::new(false),
            checkpoints_asked: CheckpointsAsked::default(),
            partitions: RefCell::default(),
            placement: RefCell::new(Placement::new(shard_count)),
            identity: OnceCell::new(),
            start_plan: RefCell::new(None),
            runtime,
            config,
            loggers,
        }
    }

    pub(crate) fn set_identity(&self, identity: Identity) {
        self.identity.set(identity).expect("a shard is told who it is once");
    }

    /// The cluster's id, once it is known: who watches may ask before.
    pub(crate) fn cluster_id(&self) -> Option<&str> {
        self.identity.get().map(|identity| identity.cluster_id.as_str())
    }

    pub(crate) fn identity(&self) -> &Identity {
        self.identity.get().expect("set before anything is served")
    }

    /// How many connections there may be: as set for this broker, over what is set for all
    /// brokers, over what the node was started with.
    pub(crate) fn connection_limits(&self) -> ConnectionLimits {
        let mut limits = self.config.connection_limits.clone();
        let image = self.image.borrow();
        for resource in [ConfigResource::all_brokers(), ConfigResource::broker(self.node())] {
            for (name, value) in image.configs(&resource) {
                if connection_limits::SETTINGS.contains(&name)
                    && let Err(expected) = limits.set(name, value)
                {
                    tracing::debug!(name, value, expected, "setting not understood");
                }
            }
        }
        limits
    }

    pub(crate) fn node(&self) -> NodeId {
        NodeId(self.config.node_id)
    }

    /// Where clients reach this node: as configured for the listener that this client came by,
    /// or as it already did.
    pub(crate) fn advertised(&self, connection: &Connection) -> (String, u16) {
        let (ip, port) = (connection.local.ip().to_canonical(), connection.local.port());
        let came_by = match &self.config.listeners[..] {
            // Its port may be any that was free.
            [only] => Some(only),
            several => several.iter().find(|listener| listener.address.port() == port),
        };
        let advertised = came_by.and_then(|listener| listener.advertised.clone());
        advertised.unwrap_or_else(|| (ip.to_string(), port))
    }

    /// Where clients reach this node, as far as it can tell without one.
    pub(crate) fn listens_at(&self) -> (String, u16) {
        let first = self.config.listeners.first().expect("a broker listens");
        let address = self.listening.get().copied().unwrap_or(first.address);
        let own = || (address.ip().to_string(), address.port());
        first.advertised.clone().unwrap_or_else(own)
    }

    /// The shard that owns a partition; `None` where there is no such partition.
    pub(crate) fn owner_of(&self, topic: TopicId, partition: PartitionId) -> Option<ShardIndex> {
        self.placement.borrow().owner(TopicPartition { topic, partition })
    }

    /// Gives a partition its owner, and tells which shard that is.
    pub(crate) fn place(&self, partition: TopicPartition) -> ShardIndex {
        let mut placement = self.placement.borrow_mut();
        placement.place(partition);
        placement.owner(partition).expect("just placed")
    }

    /// A partition of this shard's.
    pub(crate) fn partition(
        &self,
        topic: TopicId,
        partition: PartitionId,
    ) -> Option<Rc<Partition>> {
        self.partitions.borrow().get(&TopicPartition { topic, partition }).cloned()
    }

    /// All partitions of this shard's, in a fixed order.
    pub(crate) fn partitions(&self) -> Vec<Rc<Partition>> {
        let partitions = self.partitions.borrow();
        let mut all: Vec<_> = partitions.iter().map(|(id, one)| (*id, Rc::clone(one))).collect();
        all.sort_by_key(|(id, _)| *id);
        all.into_iter().map(|(_, one)| one).collect()
    }

    pub(crate) fn add_partition(&self, id: TopicPartition, log: Log) {
        if is_internal(log.topic()) {
            log.use_reserve();
        }
        let epoch = self.image.borrow().partition(id).map(|partition| partition.leader_epoch);
        let leader_epoch = Cell::new(epoch.unwrap_or_default());
        let (backlog, traffic) = (Backlog::default(), Traffic::default());
        let partition = Rc::new(Partition { log, backlog, traffic, leader_epoch });
        self.partitions.borrow_mut().insert(id, partition);
    }

    pub(crate) fn remove_partition(&self, id: TopicPartition) -> Option<Rc<Partition>> {
        self.partitions.borrow_mut().remove(&id)
    }

    /// Replays all the metadata there is, and places it.
    ///
    /// # Errors
    /// When it says what cannot be.
    pub(crate) fn begin(&self, metadata: &Metadata) -> Result<(), cluster::Error> {
        if let Some((end, records)) = &metadata.snapshot {
            let image = MetadataImage::from_snapshot(records, *end)?;
            let mut placement = self.placement.borrow_mut();
            for topic in image.topics() {
                for partition in topic.partitions.keys() {
                    placement.place(TopicPartition { topic: topic.id, partition: *partition });
                }
            }
            *self.image.borrow_mut() = image;
        }
        self.note_codecs(&self.image.borrow(), None);
        for (base, records) in &metadata.batches {
            self.replay(*base, records)?;
        }
        Ok(())
    }

    /// Replays metadata records, as every shard does in the same order, and places what is new.
    ///
    /// # Errors
    /// When the log says what cannot be.
    pub(crate) fn replay(
        &self,
        base_offset: Offset,
        records: &[MetadataRecord],
    ) -> Result<Delta, cluster::Error> {
        let mut image = self.image.borrow_mut();
        let delta = image.apply(base_offset, records)?;
        let mut placement = self.placement.borrow_mut();
        if !delta.configs.is_empty() || !delta.topics_removed.is_empty() {
            let removed = delta.topics_removed.values();
            let removed = removed.map(|topic| ConfigResource::topic(&topic.name));
            let changed: Vec<_> = removed.chain(delta.configs.iter().cloned()).collect();
            self.note_codecs(&image, Some(&changed));
            self.telemetry.note_changes(&changed);
        }
        for (id, topic) in &delta.topics_removed {
            for partition in topic.partitions.keys() {
                placement.remove(TopicPartition { topic: *id, partition: *partition });
            }
        }
        for id in &delta.partitions {
            placement.place(*id);
            let own = self.partitions.borrow().get(id).cloned();
            if let (Some(own), Some(partition)) = (own, image.partition(*id)) {
                own.leader_epoch.set(partition.leader_epoch);
            }
        }
        Ok(delta)
    }

    /// The settings of a topic: its own, over this broker's, over those of all brokers, over those
    /// that the node was started with, over Kafka's defaults.
    pub(crate) fn topic_config(&self, topic: &str) -> Rc<TopicConfig> {
        let image = self.image.borrow();
        let started_with = self.config.topic_defaults.iter();
        let mut settings: Vec<(&str, &str)> =
            started_with.map(|(name, value)| (name.as_str(), value.as_str())).collect();
        for resource in [ConfigResource::all_brokers(), ConfigResource::broker(self.node())] {
            settings.extend(image.configs(&resource).filter_map(|(server_name, value)| {
                let mut known = topic_config::SETTINGS.iter();
                let setting = known.find(|setting| setting.server_name == server_name)?;
                Some((setting.name, value))
            }));
        }
        settings.extend(image.configs(&ConfigResource::topic(topic)));
        let (config, refused) = crate::topic_settings::resolve(&settings);
        for (name, error) in refused {
            tracing::warn!(topic, setting = name, %error, "setting not understood, default used");
        }
        Rc::new(config)
    }

    /// Somebody asks for a clean stop.
    pub(crate) fn stop_requested(&self) {
        self.stop_asked.set(true);
        self.connection_ended.notify_all();
        self.stopping.notify_all();
    }
}
