//! The storage of one shard: its options, its group commit, the memory of its tails.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
    path::{Path, PathBuf},
    rc::{Rc, Weak},
    time::Duration,
};

use bytes::Bytes;
use model::{Offset, PartitionId, TopicId, collections::BTreeMap, topic_config::TopicConfig};
use runtime::{
    BufferPool, Errno, File, Runtime,
    durations::{DurationCounts, Durations},
    local::Notify,
};

use crate::{
    Error, Log,
    commit::{Unsynced, some_at_a_time},
    compact::Cleaner,
    disk_failure::DiskFailure,
    handles::OpenSegments,
    log::{LogInner, Names, State},
    marks::Needs,
    names::NameSyncs,
    own_sync::OwnSyncs,
    read_ahead::ReadAhead,
    removal::Removals,
    segment::{Phase, Segment},
    space::Claims,
};

/// How much of a log may wait to become durable; appends beyond it wait, or are refused as busy. It is also
/// the window in which recovery takes a broken batch for a torn write: what lies further behind
/// the durable end was never in flight.
pub(crate) const UNSYNCED_BYTES_MAX: u64 = 64 << 20;
/// How far the tails of a shard may pass their bound with what is not yet written; further appends
/// are refused as busy.
const TAIL_BYTES_OVER_MAX: usize = 256 << 20;
/// How many finished segments have their file open and their indexes in memory, at most: with
/// Kafka's default segments an index has up to 2 MiB.
const LOADED_MAX: usize = 32;
/// How many logs are closed at the same time: enough to keep a disk busy.
const CLOSING_MAX: usize = 64;

/// How writes become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitStrategy {
    /// One file's fdatasync vouches for all writes into space that was written and synced before,
    /// on the same device, in `O_DIRECT`; others are synced by themselves.
    Shared,
    /// Every file that was written gets its own fdatasync.
    PerFile,
}

impl fmt::Display for CommitStrategy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            CommitStrategy::Shared => "shared",
            CommitStrategy::PerFile => "per-file",
        })
    }
}

/// How a shard stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorageOptions {
    /// How writes become durable: as [`commit_strategy`](crate::commit_strategy) says of the mount.
    pub commit: CommitStrategy,
    /// The memory of all tails of the shard, which hot fetches are served from. A goal: what is
    /// not yet written cannot be dropped.
    pub tail_bytes_max: usize,
    /// How long a producer without an open transaction is remembered
    /// (`producer.id.expiration.ms`).
    pub producer_expiration_ms: i64,
    /// How long the mark of a log may stand below less than is worth a round of its own: what a
    /// thousand such logs cost a restart together is some megabytes, and a checkpoint of each costs
    /// four syncs.
    pub mark_interval: Duration,
    /// How many segments that take appends have their file open, at most, where it can be helped;
    /// finished ones that are read: a quarter of it, and 32.
    pub open_files_max: usize,
    /// After so many bytes of appends to all logs the marks are moved, of those with at least 1 MiB
    /// above theirs: what a start reads, however many logs are busy.
    pub unmarked_bytes_max: u64,
    /// What the keys of one round of compaction may take (`log.cleaner.dedupe.buffer.size`).
    pub dedupe_buffer_bytes: usize,
}

impl Default for StorageOptions {
    fn default() -> StorageOptions {
        StorageOptions {
            commit: CommitStrategy::Shared,
            tail_bytes_max: 16 << 20,
            producer_expiration_ms: 86_400_000,
            mark_interval: Duration::from_secs(60),
            unmarked_bytes_max: 256 << 20,
            dedupe_buffer_bytes: 128 << 20,
            open_files_max: 4096,
        }
    }
}

/// Whether a sync of one file may stand for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileSystem {
    Vouching,
    Plain,
}

/// Up to where a log need not be looked at after a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryPoint {
    /// The topic's name.
    pub topic: String,
    /// The topic's id.
    pub topic_id: TopicId,
    /// The partition.
    pub partition: PartitionId,
    /// Everything below is durable, and a producer snapshot at it is on disk.
    pub recovery_point: Offset,
    /// The first offset, if that is not the first of the first segment.
    pub log_start_offset: Offset,
    /// Up to where consumers could read.
    pub high_watermark: Offset,
    /// Up to where it is compacted; 0 where it never was.
    pub cleaned_to: Offset,
}

/// What the group commit has done so far.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) rounds: Cell<u64>,
    pub(crate) files_made_durable: Cell<u64>,
    pub(crate) file_syncs: Cell<u64>,
    pub(crate) sync_times: Durations,
}

impl Counters {
    pub(crate) fn count_round(&self, files: usize, syncs: usize) {
        let add = |cell: &Cell<u64>, count: usize| {
            cell.set(cell.get() + u64::try_from(count).expect("usize is at most 64 bits"));
        };
        add(&self.rounds, 1);
        add(&self.files_made_durable, files);
        add(&self.file_syncs, syncs);
    }

    pub(crate) fn count_own_sync(&self) {
        self.files_made_durable.set(self.files_made_durable.get() + 1);
        self.file_syncs.set(self.file_syncs.get() + 1);
    }
}

/// What a shard's group commit has done since its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitCounts {
    /// Rounds, each with one fdatasync a device.
    pub rounds: u64,
    /// How often a file was made durable, by a round or by itself.
    pub files_made_durable: u64,
    /// fdatasyncs that this took.
    pub file_syncs: u64,
}

/// The storage of one shard.
pub struct Storage(pub(crate) Rc<StorageInner>);

pub(crate) struct StorageInner {
    pub(crate) runtime: Runtime,
    pub(crate) options: StorageOptions,
    pub(crate) pool: BufferPool,
    pub(crate) unsynced: RefCell<Vec<Unsynced>>,
    pub(crate) is_syncing: Cell<bool>,
    /// What the round in flight syncs.
    pub(crate) flushing: RefCell<Vec<Rc<File>>>,
    pub(crate) flush_ended: Notify,
    pub(crate) own_syncs: OwnSyncs,
    pub(crate) durable_waiters: Cell<usize>,
    pub(crate) waiter_came: Notify,
    pub(crate) counters: Counters,
    /// How many stretches are being zeroed.
    pub(crate) zeroing_count: Cell<usize>,
    logs: RefCell<BTreeMap<u64, Weak<LogInner>>>,
    next_log: Cell<u64>,
    tail_bytes: Cell<usize>,
    /// Told when memory was given back that appends may have waited for.
    pub(crate) freed: Notify,
    /// The segments whose tails have memory, in the order in which they are asked for some.
    tails: RefCell<VecDeque<(Weak<LogInner>, Offset)>>,
    /// Finished segments whose file or indexes readers have loaded, oldest first.
    loaded: RefCell<VecDeque<(Weak<LogInner>, Offset)>>,
    zeros: RefCell<Bytes>,
    pub(crate) cleaner: Cleaner,
    pub(crate) read_ahead: ReadAhead,
    pub(crate) needs: Needs,
    pub(crate) disk_failure: DiskFailure,
    pub(crate) name_syncs: NameSyncs,
    pub(crate) removals: Removals,
    pub(crate) claims: Claims,
    pub(crate) open_segments: OpenSegments,
}

impl Storage {
    /// The storage of this shard. Its tasks run while there is work.
    #[must_use]
    pub fn new(runtime: &Runtime, options: StorageOptions) -> Rc<Storage> {
        Rc::new(Storage(Rc::new(StorageInner {
            runtime: runtime.clone(),
            options,
            pool: runtime.pool(),
            unsynced: RefCell::default(),
            is_syncing: Cell::new(false),
            flushing: RefCell::default(),
            flush_ended: Notify::new(),
            own_syncs: OwnSyncs::default(),
            durable_waiters: Cell::new(0),
            waiter_came: Notify::new(),
            counters: Counters::default(),
            zeroing_count: Cell::new(0),
            logs: RefCell::default(),
            next_log: Cell::new(0),
            tail_bytes: Cell::new(0),
            freed: Notify::new(),
            tails: RefCell::default(),
            loaded: RefCell::default(),
            zeros: RefCell::new(Bytes::new()),
            cleaner: Cleaner::default(),
            read_ahead: ReadAhead::new(),
            needs: Needs::default(),
            disk_failure: DiskFailure::default(),
            name_syncs: NameSyncs::default(),
            removals: Removals::default(),
            claims: Claims::default(),
            open_segments: OpenSegments::default(),
        })))
    }

    /// Creates a partition's directory, durably, with its topic's id in it, for a partition that
    /// keeps other files there too; any other is a [`Storage::new_log`].
    ///
    /// # Errors
    /// The operating system's; [`Errno::EXISTS`] where the partition is there.
    pub async fn create_log(
        &self,
        parent: &Path,
        topic: &str,
        partition: PartitionId,
        topic_id: TopicId,
        config: Rc<TopicConfig>,
    ) -> Result<Log, Error> {
        let storage = &self.0;
        let directory = parent.join(format!("{topic}-{partition}"));
        let fail = || Error::io(&directory);
        storage.runtime.create_directory(&directory).await.map_err(fail())?;
        crate::directory::write_partition_metadata(&storage.runtime, &directory, topic_id).await?;
        storage.sync_directory(parent).await.map_err(fail())?;
        let log = self.new_log(parent, topic, partition, topic_id, config);
        log.0.state.borrow_mut().names = Names::Durable;
        Ok(log)
    }

    /// A partition that is in memory alone: its directory comes with its first segment, durable
    /// before anything in it is acknowledged. A start that finds no directory makes it so again.
    #[must_use]
    pub fn new_log(
        &self,
        parent: &Path,
        topic: &str,
        partition: PartitionId,
        topic_id: TopicId,
        config: Rc<TopicConfig>,
    ) -> Log {
        let directory = parent.join(format!("{topic}-{partition}"));
        let state = State::new(config, Offset::ZERO, self.0.runtime.now());
        Log::new(Rc::clone(&self.0), (topic, partition, topic_id), directory, state)
    }

    /// How long the fdatasyncs of the group commit took.
    #[must_use]
    pub fn sync_times(&self) -> DurationCounts {
        self.0.counters.sync_times.counts()
    }

    /// The logs of this shard that are in use.
    #[must_use]
    pub fn logs(&self) -> Vec<Log> {
        self.0.all_logs()
    }

    /// The recovery points, start offsets and high watermarks as they are now, for the checkpoint
    /// files of the log directory.
    #[must_use]
    pub fn recovery_points(&self) -> Vec<RecoveryPoint> {
        self.logs().iter().map(Log::checkpoint_entry).collect()
    }

    /// Clean stop: everything durable, files at their true length, indexes, leader epochs and
    /// producer snapshots written. Appends are refused from the call on. Gives the recovery points;
    /// the clean-shutdown marker may be written after the checkpoints if there is no error.
    ///
    /// # Errors
    /// The first of a log that could not be closed so; the others still were.
    pub async fn close(&self) -> Result<Vec<RecoveryPoint>, Error> {
        let logs = self.logs();
        let mut failure = None;
        let close = async |log: Log| log.close().await;
        for outcome in some_at_a_time(&logs, CLOSING_MAX, close).await {
            if let Err(error) = outcome {
                failure.get_or_insert(error);
            }
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(logs.iter().map(Log::checkpoint_entry).collect()),
        }
    }

    /// What the group commit has done.
    #[must_use]
    pub fn commit_counts(&self) -> CommitCounts {
        let counters = &self.0.counters;
        CommitCounts {
            rounds: counters.rounds.get(),
            files_made_durable: counters.files_made_durable.get(),
            file_syncs: counters.file_syncs.get(),
        }
    }

    /// The memory of all tails.
    #[must_use]
    pub fn tail_bytes(&self) -> usize {
        self.0.tail_bytes.get()
    }
}

impl StorageInner {
    pub(crate) fn all_logs(&self) -> Vec<Log> {
        self.logs.borrow().values().filter_map(Weak::upgrade).map(Log).collect()
    }

    pub(crate) fn register(&self, log: &Log) {
        if let Some(reason) = self.failed_sync() {
            log.fence_by(reason);
        }
        let id = self.next_log.replace(self.next_log.get() + 1);
        self.logs.borrow_mut().insert(id, log.downgrade());
    }

    pub(crate) fn unregister(&self, log: &Log) {
        self.logs
            .borrow_mut()
            .retain(|_, known| known.upgrade().is_some_and(|known| !Rc::ptr_eq(&known, &log.0)));
    }

    /// A tail took memory.
    pub(crate) fn note_chunk(&self, log: &Log, base_offset: Offset, bytes: usize) {
        self.tail_bytes.set(self.tail_bytes.get() + bytes);
        let is_news = {
            let mut state = log.0.state.borrow_mut();
            let segment = state.segment_mut(base_offset);
            segment.is_some_and(|segment| !std::mem::replace(&mut segment.is_listed, true))
        };
        if is_news {
            self.tails.borrow_mut().push_back((log.downgrade(), base_offset));
        }
        self.bound_tails();
    }

    /// A tail's memory was given back otherwise than by [`StorageInner::bound_tails`].
    pub(crate) fn forget_chunks(&self, bytes: usize) {
        let was_full = self.is_full();
        self.tail_bytes.set(self.tail_bytes.get() - bytes);
        if was_full && !self.is_full() {
            self.freed.notify_all();
        }
    }

    /// Drops chunks that can be dropped while the tails are over their bound: of each tail in
    /// turn, its oldest ones.
    pub(crate) fn bound_tails(&self) {
        let count = self.tails.borrow().len();
        for _ in 0..count {
            if self.tail_bytes.get() <= self.options.tail_bytes_max {
                return;
            }
            let Some((weak, base_offset)) = self.tails.borrow_mut().pop_front() else { return };
            let Some(log) = weak.upgrade() else { continue };
            let mut state = log.state.borrow_mut();
            let Some(segment) = state.segment_mut(base_offset) else { continue };
            self.bound_tail(segment);
            segment.is_listed = segment.tail.chunk_bytes() > 0;
            if segment.is_listed {
                self.tails.borrow_mut().push_back((weak, base_offset));
            }
        }
    }

    fn bound_tail(&self, segment: &mut Segment) {
        while self.tail_bytes.get() > self.options.tail_bytes_max {
            let freed = match segment.tail.evict_oldest(segment.written) {
                Some(freed) => freed,
                None if segment.written == segment.size() => segment.tail.give_back(),
                None => 0,
            };
            if freed == 0 {
                return;
            }
            self.forget_chunks(freed);
        }
    }

    /// True where no more memory may be taken for appends.
    pub(crate) fn is_full(&self) -> bool {
        self.tail_bytes.get() > self.options.tail_bytes_max + TAIL_BYTES_OVER_MAX
    }

    /// A reader has loaded something of a finished segment: what was loaded first is let go.
    pub(crate) fn note_loaded(&self, log: &Log, base_offset: Offset) {
        let mut loaded = self.loaded.borrow_mut();
        let is_known = |known: &(Weak<LogInner>, Offset)| {
            known.1 == base_offset && std::ptr::eq(known.0.as_ptr(), Rc::as_ptr(&log.0))
        };
        if loaded.iter().any(is_known) {
            return;
        }
        loaded.push_back((log.downgrade(), base_offset));
        if loaded.len() <= LOADED_MAX.min((self.options.open_files_max / 4).max(1)) {
            return;
        }
        let Some((oldest, base_offset)) = loaded.pop_front() else { return };
        drop(loaded);
        let Some(oldest) = oldest.upgrade() else { return };
        let mut state = oldest.state.borrow_mut();
        let end = state.end_of_segment(base_offset);
        if let Some(segment) = state.segment_mut(base_offset)
            && segment.phase == Phase::Finished
        {
            (segment.file, segment.indexes) = (None, None);
            segment.let_transactions_go(end);
        }
    }

    /// Zeros to be written; aligned.
    pub(crate) fn zeros(&self, length: usize) -> Bytes {
        let mut zeros = self.zeros.borrow_mut();
        if zeros.len() < length {
            let mut buffer = self.pool.take(length);
            buffer.set_length(length);
            buffer.fill(0);
            *zeros = buffer.freeze();
        }
        zeros.slice(..length)
    }
}

/// Replaces a small file of a partition, durably.
pub(crate) async fn replace_file(
    runtime: &Runtime,
    path: PathBuf,
    content: Vec<u8>,
) -> Result<(), Error> {
    runtime.replace_file(&path, content).await.map_err(Error::io(path))
}

/// A small file's content; `None` where it is not there.
pub(crate) async fn read_small_file(
    runtime: &Runtime,
    path: &Path,
    length_max: usize,
) -> Result<Option<Vec<u8>>, Error> {
    match runtime.read_file(path, length_max).await {
        Ok(content) => Ok(Some(content)),
        Err(Errno::NOT_FOUND) => Ok(None),
        Err(errno) => Err(Error::Io { path: path.to_owned(), errno }),
    }
}
