//! The embedded controller on shard 0: decides, writes the metadata log, and has every shard
//! replay what is committed before anybody is answered.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    rc::Rc,
    sync::Arc,
};

use bytes::Bytes;
use cluster::{
    Controller, Decision, Error, MetadataImage, MetadataRecord,
    controller::{Defaults, Intent},
};
use model::{
    LeaderEpoch, Offset, ProducerId, TimestampMs,
    record_batch::{BatchOptions, NewRecord, RecordBatchBuilder},
};
use runtime::{ShardIndex, TaskQueue, local::Turnstile};
use storage::{AppendError, AppendOptions, AppendOrigin, Log, WaitError};

use crate::{
    metadata_log, metadata_records,
    metadata_snapshot::SnapshotNeed,
    peers::{Call, detached},
    shard::Shard,
};

/// Records of one batch of the metadata log; a decision that may be split is split so.
pub(crate) const RECORDS_A_BATCH_MAX: usize = 5000;
/// The shard that has the controller.
pub(crate) const CONTROLLER_SHARD: ShardIndex = ShardIndex(0);

/// The controller and its log.
pub(crate) struct ControllerHost {
    controller: RefCell<Controller>,
    pub(crate) log: Log,
    pub(crate) epoch: LeaderEpoch,
    pub(crate) broker_epoch: i64,
    /// One decision after the other: the next sees what the one before did.
    pub(crate) order: Turnstile,
    pub(crate) snapshots: SnapshotNeed,
    producer_ids: Cell<(i64, i64)>,
}

impl ControllerHost {
    pub(crate) fn new(
        controller: Controller,
        log: Log,
        epoch: LeaderEpoch,
        broker_epoch: i64,
        snapshots: SnapshotNeed,
    ) -> ControllerHost {
        ControllerHost {
            controller: RefCell::new(controller),
            log,
            epoch,
            broker_epoch,
            order: Turnstile::new(),
            snapshots,
            producer_ids: Cell::new((0, 0)),
        }
    }
}

/// A controller that goes on from an image, with what this node was given at its start.
pub(crate) fn controller(shard: &Shard, image: MetadataImage) -> Controller {
    let defaults = Defaults {
        partition_count: shard.config.num_partitions,
        replication_factor: shard.config.default_replication_factor,
    };
    Controller::new(defaults, image).with_given(shard.config.group_settings())
}

impl Shard {
    fn host(&self) -> &ControllerHost {
        self.controller.get().expect("called on the controller's shard, once it has started")
    }

    /// Lets the controller decide, makes the decision durable and has every shard replay it. Must
    /// run to its end: callers run it [`detached`].
    ///
    /// # Errors
    /// The controller's refusal; [`Error::Storage`] when a log cannot be written.
    pub(crate) async fn change_metadata<T>(
        self: &Rc<Self>,
        decide: impl FnOnce(&mut Controller) -> Result<Decision<T>, Error>,
    ) -> Result<T, Error> {
        let host = self.host();
        let _turn = host.order.enter().await;
        let decision = decide(&mut host.controller.borrow_mut())?;
        for records in decision.records.chunks(RECORDS_A_BATCH_MAX) {
            if let Err(error) = self.commit(records).await {
                // What was decided never happened: start again from what is committed.
                let image = self.image.borrow().clone();
                *host.controller.borrow_mut() = controller(self, image);
                return Err(error);
            }
        }
        Ok(decision.answer)
    }

    async fn commit(self: &Rc<Self>, records: &[MetadataRecord]) -> Result<(), Error> {
        let host = self.host();
        let level = host.controller.borrow().image().metadata_version();
        let batch = batch_of(records, level, host.epoch, self.runtime.wall_clock_ms())?;
        let base_offset =
            append(&host.log, &batch, host.epoch, self.runtime.wall_clock_ms()).await?;
        host.snapshots.note(batch.len());
        let records: Arc<[MetadataRecord]> = Arc::from(records);
        // First what the records name, then the records: a client that sees a partition in the
        // metadata can use it.
        let makes = |record: &MetadataRecord| matches!(record, MetadataRecord::Partition(_));
        // From here on the records are durable and will be replayed at the next start, so every
        // shard replays them now, also where a partition's log could not be made.
        let mut outcome = Ok(());
        if records.iter().any(makes) {
            let call = PreparePartitions { records: Arc::clone(&records) };
            for prepared in self.call_all(call).await {
                outcome = outcome.and(prepared);
            }
        }
        for applied in self.call_all(ApplyMetadata { base_offset, records }).await {
            outcome = outcome.and(applied);
        }
        outcome.map_err(Error::Storage)
    }

    /// Creates topics; an answer each.
    pub(crate) async fn create_topics(
        self: &Rc<Self>,
        topics: Vec<cluster::controller::NewTopic>,
        intent: Intent,
    ) -> Result<CreatedTopics, Error> {
        let call = CreateTopics { topics, intent };
        self.call(CONTROLLER_SHARD, call).await.answer().await
    }

    /// Creates a topic that somebody asked about.
    pub(crate) async fn create_topic_automatically(
        self: &Rc<Self>,
        name: &str,
    ) -> Result<(), Error> {
        let topic = crate::topic_settings::automatic_topic(&self.config, name);
        let created = self.create_topics(vec![topic], Intent::Apply).await?;
        match created.into_iter().next() {
            Some((_, Ok(_))) => Ok(()),
            Some((_, Err(error))) => Err(error),
            None => Err(Error::InvalidRequest("no answer for the topic".to_owned())),
        }
    }

    /// A producer id that nobody had before.
    pub(crate) async fn next_producer_id(self: &Rc<Self>) -> Result<ProducerId, Error> {
        self.call(CONTROLLER_SHARD, AllocateProducerId).await.answer().await
    }
}

/// Appends a batch and waits until it is durable; gives its first offset.
pub(crate) async fn append(
    log: &Log,
    batch: &Bytes,
    leader_epoch: LeaderEpoch,
    now_ms: i64,
) -> Result<Offset, Error> {
    let options = AppendOptions { leader_epoch, origin: AppendOrigin::Coordinator, now_ms };
    let failed = |error: String| Error::Storage(format!("the metadata log: {error}"));
    let appended = log.append(batch, &options).map_err(|error| {
        if error == AppendError::Closed { Error::Stopping } else { failed(error.to_string()) }
    })?;
    log.wait_durable(appended.end()).await.map_err(|error| {
        if error == WaitError::Closed { Error::Stopping } else { failed(error.to_string()) }
    })?;
    Ok(appended.base_offset)
}

/// One batch of metadata records, for the log to give it its offset.
pub(crate) fn batch_of(
    records: &[MetadataRecord],
    metadata_version: i16,
    leader_epoch: LeaderEpoch,
    now_ms: i64,
) -> Result<Bytes, Error> {
    batch_at(records, metadata_version, Offset::ZERO, leader_epoch, TimestampMs(now_ms))
}

/// One batch of metadata records at an offset.
pub(crate) fn batch_at(
    records: &[MetadataRecord],
    metadata_version: i16,
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
    timestamp: TimestampMs,
) -> Result<Bytes, Error> {
    let mut builder = RecordBatchBuilder::new(BatchOptions {
        base_offset,
        leader_epoch,
        ..BatchOptions::default()
    });
    for record in records {
        let value = metadata_records::encode(record, metadata_version)
            .map_err(|error| Error::InvalidRequest(error.to_string()))?;
        builder.append(&NewRecord { timestamp, key: None, value: Some(&value), headers: &[] });
    }
    Ok(builder.build())
}

/// A name each, with what became of it.
pub(crate) type CreatedTopics = Vec<(String, Result<cluster::controller::CreatedTopic, Error>)>;

struct CreateTopics {
    topics: Vec<cluster::controller::NewTopic>,
    intent: Intent,
}

impl Call for CreateTopics {
    type Answer = Result<CreatedTopics, Error>;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Answer> + 'static {
        let shard = Rc::clone(shard);
        detached(&shard.runtime.clone(), "create topics", TaskQueue::Foreground, async move {
            let (mut topics, intent) = (self.topics, self.intent);
            for topic in &mut topics {
                topic.topic_id = metadata_log::new_id(&shard.runtime);
            }
            shard.change_metadata(|controller| Ok(controller.create_topics(&topics, intent))).await
        })
    }
}

/// Deletes topics; an answer each.
pub(crate) struct DeleteTopics(pub(crate) Vec<cluster::controller::TopicName>);

impl Call for DeleteTopics {
    type Answer = Result<
        Vec<(cluster::controller::TopicName, Result<(String, model::TopicId), Error>)>,
        Error,
    >;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Answer> + 'static {
        let shard = Rc::clone(shard);
        async move { shard.change_metadata(|controller| Ok(controller.delete_topics(&self.0))).await }
    }
}

/// Gives topics more partitions; an answer each, when they can be used.
pub(crate) struct CreatePartitions {
    pub(crate) topics: Vec<cluster::controller::NewPartitions>,
    pub(crate) intent: Intent,
}

impl Call for CreatePartitions {
    type Answer = Result<Vec<(String, Result<(), Error>)>, Error>;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Answer> + 'static {
        let shard = Rc::clone(shard);
        detached(&shard.runtime.clone(), "create partitions", TaskQueue::Foreground, async move {
            let CreatePartitions { topics, intent } = self;
            shard
                .change_metadata(|controller| Ok(controller.create_partitions(&topics, intent)))
                .await
        })
    }
}

/// Brings features to new levels, all or none.
pub(crate) struct UpdateFeatures {
    pub(crate) updates: Vec<cluster::controller::FeatureUpdate>,
    pub(crate) intent: Intent,
}

impl Call for UpdateFeatures {
    type Answer = Result<(), Error>;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Answer> + 'static {
        let shard = Rc::clone(shard);
        detached(&shard.runtime.clone(), "update features", TaskQueue::Foreground, async move {
            let UpdateFeatures { updates, intent } = self;
            shard.change_metadata(|controller| controller.update_features(&updates, intent)).await
        })
    }
}

/// How far the metadata log is.
pub(crate) struct DescribeQuorum;

/// The metadata log, as its only voter sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QuorumStatus {
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) high_watermark: Offset,
    pub(crate) log_end_offset: Offset,
}

impl Call for DescribeQuorum {
    type Answer = QuorumStatus;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Answer> + 'static {
        let host = shard.host();
        std::future::ready(QuorumStatus {
            leader_epoch: host.epoch,
            high_watermark: host.log.durable_end(),
            log_end_offset: host.log.log_end_offset(),
        })
    }
}

/// Alters settings; an answer for each resource, when every shard goes by them.
pub(crate) struct AlterConfigs {
    pub(crate) changes: Vec<cluster::controller::ConfigChange>,
    pub(crate) mode: cluster::controller::AlterMode,
    pub(crate) intent: Intent,
}

impl Call for AlterConfigs {
    type Answer = Result<Vec<(cluster::record::ConfigResource, Result<(), Error>)>, Error>;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Answer> + 'static {
        let shard = Rc::clone(shard);
        detached(&shard.runtime.clone(), "alter configs", TaskQueue::Foreground, async move {
            let AlterConfigs { changes, mode, intent } = self;
            shard
                .change_metadata(|controller| Ok(controller.alter_configs(&changes, mode, intent)))
                .await
        })
    }
}

struct AllocateProducerId;

impl Call for AllocateProducerId {
    type Answer = Result<ProducerId, Error>;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Answer> + 'static {
        let shard = Rc::clone(shard);
        detached(
            &shard.runtime.clone(),
            "allocate producer ids",
            TaskQueue::Foreground,
            async move {
                loop {
                    let host = shard.host();
                    let (next, end) = host.producer_ids.get();
                    if next < end {
                        host.producer_ids.set((next + 1, end));
                        return Ok(ProducerId(next));
                    }
                    let (node, epoch) = (shard.node(), host.broker_epoch);
                    let block = shard
                        .change_metadata(|controller| controller.allocate_producer_ids(node, epoch))
                        .await?;
                    // Whoever waited for a block at the same time got another: it is left unused.
                    host.producer_ids.set((block.first.0, block.first.0 + block.count));
                }
            },
        )
    }
}

/// Committed metadata that names new partitions: every shard makes those that will be its own.
#[derive(Clone)]
struct PreparePartitions {
    records: Arc<[MetadataRecord]>,
}

impl Call for PreparePartitions {
    type Answer = Result<(), String>;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Answer> + 'static {
        let missing = shard.place_new(&self.records);
        let shard = Rc::clone(shard);
        async move { shard.obtain_all(missing).await }
    }
}

/// Committed metadata, for every shard.
#[derive(Clone)]
pub(crate) struct ApplyMetadata {
    pub(crate) base_offset: Offset,
    pub(crate) records: Arc<[MetadataRecord]>,
}

impl Call for ApplyMetadata {
    type Answer = Result<(), String>;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Answer> + 'static {
        let delta = shard.replay(self.base_offset, &self.records);
        let shard = Rc::clone(shard);
        async move {
            let delta = delta.map_err(|error| error.to_string())?;
            shard.follow(delta).await
        }
    }
}
