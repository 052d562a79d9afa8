//! How a node starts: the directory, the identity, the metadata, the partitions, the listener.
//!
//! Shard 0 does it for all; the other shards wait for its calls. The order matters: the directory
//! is locked before anything is read, the quorum's epoch is durable before a record of it is
//! written, this node is registered and leads its partitions before a shard opens them, and the
//! socket listens last, when everything can be served and the topics of the start are there.

use std::{
    cell::Cell,
    future::Future,
    net::SocketAddr,
    path::PathBuf,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cluster::{
    MetadataImage, MetadataRecord,
    controller::{BrokerStart, bootstrap_log},
    quorum::{self, Voter},
    record::EndPoint,
};
use model::{
    LeaderEpoch, Offset, PartitionId, TimestampMs, TopicPartition, Uuid, collections::BTreeMap,
    topic_config::TopicConfig,
};
use runtime::{Instant, Listener, Runtime, TaskQueue};
use storage::{
    LogDirectory, OpenMode, PartitionDirectory, RecordedPartitions, RecoveryReport, RecoveryStart,
    ScrubOptions, Storage, StorageOptions,
};

use crate::{
    Error,
    claim::{self, Claim},
    config::{BrokerConfig, ClientListener},
    connection_limits::Pace,
    controller::{self, ControllerHost},
    follow::delta_of_everything,
    handle_shares::HandleShares,
    loggers::Loggers,
    metadata_log::{self, CONTROLLER_LISTENER, Contents, Metadata},
    metadata_snapshot::{self, SnapshotNeed},
    peers::{Call, ShardMessage},
    shard::{Identity, Shard},
    start_topics,
    topic_settings::CLUSTER_METADATA,
};

/// What a shard is started as.
pub enum Role {
    /// Shard 0: it opens the directory and the listener.
    First {
        /// Called when the node serves.
        on_ready: Box<dyn FnOnce(Ready) + Send>,
    },
    /// Any other.
    Other,
}

/// What is known once the node serves.
#[derive(Clone, Debug)]
pub struct Ready {
    /// The address that its first listener really has.
    pub address: SocketAddr,
    /// Those of all others.
    pub further_addresses: Vec<SocketAddr>,
    /// What an acknowledged record of a topic without a setting of its own is: on disk by
    /// `fdatasync`, or `replicated`.
    pub durability: String,
    /// Partitions that this node has.
    pub partition_count: usize,
    /// Bytes that recovery looked at, and bytes of torn writes that it cut off.
    pub recovered: (u64, u64),
}

/// Tails of all logs of a shard together: what hot fetches are served from.
const TAIL_BYTES_MAX: usize = 16 << 20;

/// What the directory held when it was opened, for every shard.
pub(crate) struct StartPlan {
    partitions: BTreeMap<(String, PartitionId), PartitionDirectory>,
    recorded: RecordedPartitions,
    checked_bytes: AtomicU64,
    cut_bytes: AtomicU64,
}

impl StartPlan {
    fn new(directory: &LogDirectory) -> StartPlan {
        let keyed = directory
            .partitions()
            .iter()
            .map(|one| ((one.topic.clone(), one.partition), one.clone()))
            .collect();
        StartPlan {
            partitions: keyed,
            recorded: directory.recorded().clone(),
            checked_bytes: AtomicU64::new(0),
            cut_bytes: AtomicU64::new(0),
        }
    }

    /// Where a partition's log is; `None` where it has to be created.
    pub(crate) fn find(&self, topic: &str, id: TopicPartition) -> Option<(PathBuf, RecoveryStart)> {
        let found = self.partitions.get(&(topic.to_owned(), id.partition))?;
        (found.topic_id == Some(id.topic)).then(|| (found.path.clone(), found.start))
    }

    /// What is recorded of a partition that had records and whose log is not there.
    pub(crate) fn find_gone(&self, topic: &str, id: TopicPartition) -> Option<RecoveryStart> {
        self.recorded.find(topic, id.topic, id.partition)
    }

    /// Notes what recovery did.
    pub(crate) fn recovered(&self, report: &RecoveryReport) {
        self.checked_bytes.fetch_add(report.checked_bytes, Ordering::Relaxed);
        self.cut_bytes.fetch_add(report.cut_bytes, Ordering::Relaxed);
    }
}

/// The keys of all shards' compaction, at most: Kafka's `log.cleaner.dedupe.buffer.size`.
const DEDUPE_BUFFER_BYTES: usize = 128 << 20;

/// What may be appended to all logs until the durable marks follow: what a start after a crash
/// reads in a third of a second.
const UNMARKED_BYTES: u64 = 256 << 20;
/// A shard's part of it at least, so that many shards do not go about it all the time.
const WORTH_A_ROUND: u64 = 32 << 20;

/// Runs one shard of the node until it is stopped.
///
/// # Errors
/// Why the node cannot start or had to stop; on shard 0 alone.
pub async fn run_shard(
    runtime: Runtime,
    config: Arc<BrokerConfig>,
    loggers: Arc<dyn Loggers>,
    role: Role,
) -> Result<(), Error> {
    let producer_expiration_ms =
        i64::try_from(config.producer_id_expiration_ms).unwrap_or(i64::MAX);
    let mark_interval = Duration::from_millis(config.flush_offset_checkpoint_interval_ms);
    let options = StorageOptions {
        tail_bytes_max: TAIL_BYTES_MAX,
        producer_expiration_ms,
        commit: config.commit_strategy,
        mark_interval,
        open_files_max: HandleShares::of(config.handles_max, runtime.shard_count()).files_max,
        unmarked_bytes_max: (UNMARKED_BYTES / u64::from(runtime.shard_count())).max(WORTH_A_ROUND),
        dedupe_buffer_bytes: DEDUPE_BUFFER_BYTES / usize::from(runtime.shard_count()),
    };
    let storage = Storage::new(&runtime, options);
    let shard = Rc::new(Shard::new(runtime.clone(), config, loggers, storage));
    runtime.spawn("mesh", TaskQueue::Foreground, Rc::clone(&shard).receive_messages());
    runtime.spawn("marks", TaskQueue::Background, Rc::clone(&shard).ask_for_checkpoints());
    let failures = Rc::clone(&shard).spread_disk_failure();
    runtime.spawn("disk failure", TaskQueue::Foreground, failures);
    start_scrub(&shard);
    match role {
        Role::First { on_ready } => {
            let result = Box::pin(run_first(&shard, on_ready)).await;
            shard.end_other_shards().await;
            result
        }
        Role::Other => {
            shard.stopping.wait_until(|| shard.stopped.get()).await;
            Ok(())
        }
    }
}

/// Reads what is old now and then, to find what has gone bad.
fn start_scrub(shard: &Rc<Shard>) {
    let shards = u64::from(shard.runtime.shard_count());
    let bytes_per_second = shard.config.scrub_bytes_per_second / shards;
    if bytes_per_second == 0 {
        return;
    }
    let interval = Duration::from_millis(shard.config.scrub_interval_ms);
    let storage = Rc::clone(&shard.storage);
    shard.runtime.spawn("scrub", TaskQueue::Background, async move {
        storage.scrub_forever(ScrubOptions { bytes_per_second, interval }).await;
    });
}

#[expect(clippy::large_stack_frames, reason = "once, at the start")]
async fn run_first(
    shard: &Rc<Shard>,
    on_ready: Box<dyn FnOnce(Ready) + Send>,
) -> Result<(), Error> {
    let path = shard.config.data_dir.clone();
    let directory = Box::pin(LogDirectory::look(&shard.runtime, &path, OpenMode::CreateIfMissing))
        .await
        .map_err(Error::Storage)?;
    for name in directory.unknown() {
        tracing::debug!(name, "left alone in the data directory");
    }
    let claim = Box::pin(claim::judge(shard, &directory)).await?;
    directory.take().await.map_err(Error::Storage)?;
    let started = Box::pin(start_metadata(shard, &directory, &claim)).await?;
    Box::pin(set_strays_aside(shard, &directory, &started.image)).await?;
    let plan = Arc::new(StartPlan::new(&directory));
    let begin = Begin {
        identity: claim.identity,
        plan: Arc::clone(&plan),
        metadata: Arc::new(started.metadata),
    };
    for begun in shard.call_all(begin).await {
        begun.map_err(Error::Partition)?;
    }
    directory.remove_deleted();
    Box::pin(start_topics::create(shard)).await?;
    let mut listeners = Vec::new();
    for ClientListener { address, .. } in &shard.config.listeners {
        let listener = Listener::bind(&shard.runtime, *address).await;
        listeners.push(listener.map_err(|errno| Error::Listen { address: *address, errno })?);
    }
    let address = listeners.first().expect("a broker listens").address();
    shard.listening.set(address).expect("it listens once");
    let ready = Ready {
        address,
        further_addresses: listeners.iter().skip(1).map(Listener::address).collect(),
        durability: match shard.config.topic_defaults.get("durability") {
            Some(replicated) if replicated != "sync" => replicated.clone(),
            Some(_) | None => "fdatasync".to_owned(),
        },
        partition_count: shard.image.borrow().topics().map(|one| one.partitions.len()).sum(),
        recovered: (
            plan.checked_bytes.load(Ordering::Relaxed),
            plan.cut_bytes.load(Ordering::Relaxed),
        ),
    };
    let (checked, cut) = ready.recovered;
    tracing::debug!("recovery: checked {checked} bytes");
    if cut > 0 {
        tracing::info!("recovery: cut {cut} bytes of torn writes");
    }
    let retaining = Rc::clone(shard).retain_periodically();
    shard.runtime.spawn("retention", TaskQueue::Background, retaining);
    let snapshots = Rc::clone(shard).write_snapshots();
    shard.runtime.spawn("metadata snapshots", TaskQueue::Background, snapshots);
    let pace = Rc::new(Cell::new(Pace::default()));
    for listener in listeners {
        let accepting = accept(Rc::clone(shard), listener, Rc::clone(&pace));
        shard.runtime.spawn("accept", TaskQueue::Foreground, accepting);
    }
    on_ready(ready);
    Box::pin(shard.serve_until_stopped(&directory)).await
}

/// The metadata as it stands when this node has registered.
struct StartedMetadata {
    image: MetadataImage,
    metadata: Metadata,
}

/// Opens or creates the metadata log, starts a new epoch in it and registers this node.
#[expect(clippy::large_stack_frames, reason = "once, at the start")]
async fn start_metadata(
    shard: &Rc<Shard>,
    directory: &LogDirectory,
    claim: &Claim,
) -> Result<StartedMetadata, Error> {
    let (runtime, identity) = (&shard.runtime, &claim.identity);
    let path = directory.path().join(format!("{CLUSTER_METADATA}-0"));
    let voter = Voter { id: shard.node(), directory_id: identity.directory_id };
    let known = directory.partitions().iter().find(|one| one.topic == CLUSTER_METADATA);
    let mut contents = Contents::default();
    let config = Rc::new(TopicConfig::default());
    let log = match known {
        Some(known) => {
            Box::pin(metadata_log::read_snapshot(runtime, &path, &mut contents)).await?;
            let id = known.topic_id.unwrap_or(Uuid::METADATA_TOPIC);
            let start = known.start;
            let opened = Box::pin(shard.storage.open_log(&path, id, config, start)).await;
            opened.map_err(Error::Storage)?.0
        }
        None => {
            let id = Uuid::METADATA_TOPIC;
            let created = shard.storage.create_log(
                directory.path(),
                CLUSTER_METADATA,
                PartitionId(0),
                id,
                config,
            );
            Box::pin(created).await.map_err(Error::Storage)?
        }
    };
    log.use_reserve();
    if claim.is_new {
        // A first start that did not get further than this has left another directory's id.
        contents = Contents::default();
        Box::pin(metadata_snapshot::write_first(runtime, &path, voter)).await?;
        Box::pin(metadata_log::read_snapshot(runtime, &path, &mut contents)).await?;
        let content = claim::meta_properties(shard, identity);
        directory.write_meta_properties(&content).await.map_err(Error::Storage)?;
    }
    Box::pin(metadata_log::read_log(&log, &mut contents)).await?;
    let before = Box::pin(metadata_log::read_quorum_state(runtime, &path)).await?;
    let mut metadata = contents.metadata;
    let mut image = metadata.image().map_err(Error::Cluster)?;
    let state = quorum::next_state(before.as_ref(), contents.last_epoch, shard.node())
        .map_err(Error::Cluster)?;
    Box::pin(metadata_log::write_quorum_state(runtime, &path, &state)).await?;
    let epoch = LeaderEpoch(state.leader_epoch);
    let now_ms = runtime.wall_clock_ms();
    let is_new = log.log_end_offset() == Offset::ZERO;
    let opening = metadata_log::leader_change(voter, epoch, TimestampMs(now_ms))?;
    controller::append(&log, &opening, epoch, now_ms).await.map_err(Error::Cluster)?;
    if is_new {
        let records = bootstrap_log();
        write(&log, epoch, now_ms, &records, &mut image, &mut metadata).await?;
    }
    let mut controller = controller::controller(shard, image.clone());
    let decision = controller.start_broker(&this_broker(shard, identity), log.log_end_offset().0);
    for records in decision.records.chunks(controller::RECORDS_A_BATCH_MAX) {
        write(&log, epoch, now_ms, records, &mut image, &mut metadata).await?;
    }
    let newest = metadata.snapshot.as_ref().map(|(end, _)| *end);
    let snapshots = SnapshotNeed::new(path, contents.quorum, contents.log_bytes, newest);
    let host = ControllerHost::new(controller, log, epoch, decision.answer, snapshots);
    assert!(shard.controller.set(host).is_ok(), "a node starts once");
    Ok(StartedMetadata { image, metadata })
}

/// Appends records durably and replays them.
async fn write(
    log: &storage::Log,
    epoch: LeaderEpoch,
    now_ms: i64,
    records: &[MetadataRecord],
    image: &mut MetadataImage,
    metadata: &mut Metadata,
) -> Result<(), Error> {
    let level = cluster::feature::METADATA_VERSION_MAX.min(match image.metadata_version() {
        0 => cluster::feature::METADATA_VERSION_MAX,
        level => level,
    });
    let batch = controller::batch_of(records, level, epoch, now_ms).map_err(Error::Cluster)?;
    let base = controller::append(log, &batch, epoch, now_ms).await.map_err(Error::Cluster)?;
    image.apply(base, records).map_err(Error::Cluster)?;
    metadata.batches.push((base, records.to_vec()));
    Ok(())
}

fn this_broker(shard: &Shard, identity: &Identity) -> BrokerStart {
    let end_point = |name: &str, host: String, port: u16| EndPoint {
        name: name.to_owned(),
        host,
        port,
        security_protocol: 0,
    };
    let listeners = shard.config.listeners.iter().map(|one| {
        let own = || (one.address.ip().to_string(), one.address.port());
        let (host, port) = one.advertised.clone().unwrap_or_else(own);
        end_point(&one.name, host, port)
    });
    let (name, controller_host, controller_port) = CONTROLLER_LISTENER;
    BrokerStart {
        node: shard.node(),
        incarnation_id: metadata_log::new_id(&shard.runtime),
        log_dirs: vec![identity.directory_id],
        listeners: listeners.collect(),
        rack: None,
        controller_listeners: vec![end_point(name, controller_host.to_owned(), controller_port)],
    }
}

/// Directories of partitions that the metadata does not have (a topic that was deleted when the
/// process died, or one that belongs to no topic at all) get another name, as in Apache Kafka, so
/// that a topic of their name can be created. Nothing is deleted.
async fn set_strays_aside(
    shard: &Rc<Shard>,
    directory: &LogDirectory,
    image: &MetadataImage,
) -> Result<(), Error> {
    let mut any = false;
    for one in directory.partitions() {
        if one.topic == CLUSTER_METADATA {
            continue;
        }
        let known = one.topic_id.is_some_and(|topic| {
            image.partition(TopicPartition { topic, partition: one.partition }).is_some()
        });
        if !known {
            let id = metadata_log::new_id(&shard.runtime);
            let name = format!("{}-{}.{id}-stray", one.topic, one.partition);
            let to = directory.path().join(name);
            tracing::warn!(from = %one.path.display(), to = %to.display(), "no such partition");
            shard.runtime.rename(&one.path, &to).await.map_err(Error::io(&one.path))?;
            any = true;
        }
    }
    if any {
        let path = directory.path();
        shard.runtime.sync_directory(path).await.map_err(Error::io(path))?;
    }
    Ok(())
}

/// Everything that the metadata says so far: the first call to every shard.
#[derive(Clone)]
struct Begin {
    identity: Identity,
    plan: Arc<StartPlan>,
    metadata: Arc<Metadata>,
}

impl Call for Begin {
    type Answer = Result<(), String>;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Answer> + 'static {
        shard.set_identity(self.identity);
        *shard.start_plan.borrow_mut() = Some(self.plan);
        let replayed = shard.begin(&self.metadata);
        let shard = Rc::clone(shard);
        async move {
            replayed.map_err(|error| error.to_string())?;
            let delta = delta_of_everything(&shard.image.borrow());
            shard.follow(delta).await?;
            *shard.start_plan.borrow_mut() = None;
            Ok(())
        }
    }
}

/// Takes connections and deals each to the shard that has the fewest, from where it may move
/// ([`home`](crate::home)). The pace is
/// that of all listeners together; where connections are at their limit, each listener may take the
/// one that it already waited for.
async fn accept(shard: Rc<Shard>, listener: Listener, pace: Rc<Cell<Pace>>) {
    let handles =
        HandleShares::of(shard.config.handles_max, shard.runtime.shard_count()).connections_max;
    let mut told = None;
    while may_accept(&shard, handles, &pace, &mut told).await.is_some() {
        let Some(accepted) = unless_stopping(&shard, listener.accept()).await else { return };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                // Out of file handles, or a client that was gone at once.
                tracing::warn!(%error, "no connection accepted");
                shard.runtime.sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let limits = shard.connection_limits();
        let mut came = pace.get();
        came.came(shard.runtime.now(), limits.creation_rate);
        pace.set(came);
        let address = stream.peer().ip();
        if shard.connections.of_address(address) >= limits.of_address(address) {
            tracing::debug!(peer = %stream.peer(), "closed: its address has too many connections");
            continue;
        }
        let to = shard.connections.deal(address);
        if to == shard.runtime.shard() {
            shard.take_connection(stream.detach());
        } else {
            let message = ShardMessage::Connection(stream.detach());
            shard.runtime.send(to, Box::new(message)).await;
        }
    }
}

/// Waits until a further connection is allowed; `None` when a stop is asked for.
async fn may_accept(
    shard: &Rc<Shard>,
    handles: usize,
    pace: &Cell<Pace>,
    told: &mut Option<Instant>,
) -> Option<()> {
    loop {
        let limits = shard.connection_limits();
        let max = handles.min(limits.connections);
        let wait = pace.get().wait(shard.runtime.now());
        if shard.connections.total() >= max {
            let now = shard.runtime.now();
            if told.is_none_or(|told| now.since(told) >= TELL_AGAIN) {
                *told = Some(now);
                tracing::warn!(max, "too many connections: further ones wait for others to end");
            }
            // The limit may be altered meanwhile.
            let ended = shard.connection_ended.wait_until(|| shard.connections.total() < max);
            let looked_again = shard.runtime.now() + LIMITS_PAUSE;
            let ended = shard.runtime.deadline(looked_again, ended);
            let _either = unless_stopping(shard, ended).await?;
        } else if limits.creation_rate == 0 || wait > Duration::ZERO {
            let wait = if wait > Duration::ZERO { wait.min(LIMITS_PAUSE) } else { LIMITS_PAUSE };
            unless_stopping(shard, shard.runtime.sleep(wait)).await?;
        } else {
            return Some(());
        }
    }
}

async fn unless_stopping<T>(shard: &Rc<Shard>, future: impl Future<Output = T>) -> Option<T> {
    let stopping = shard.stopping.wait_until(|| shard.stop_asked.get());
    crate::connection::first_of(future, stopping).await
}

/// How often it is said that connections wait.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// How long nothing is accepted after a failure.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// How long connections wait at most until limits are looked at again.
const LIMITS_PAUSE: Duration = Duration::from_secs(1);
