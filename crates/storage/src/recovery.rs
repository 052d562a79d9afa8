//! Opens a log that is on disk, after a clean stop or after none.
//!
//! The durable mark is the recovery point of the checkpoint file, believed only where a producer
//! snapshot at it is in the partition's directory (so the mark of a deleted topic of the same name
//! is not); else an older snapshot's offset, else 0. What lies below it is damage where it cannot
//! be read: never cut off, never served, while the rest of the log is (`judge` has the rules).
//! What lies above is a torn tail where it cannot be read, and is cut, unless valid batches follow
//! beyond what may have been in flight.
//!
//! A killed process's direct writes may land after it is gone: an allocation in a file waits for
//! all that are in flight on it, and is the first thing done to every file that may have some.
//! Nothing is served before what is kept was synced.

mod keep;

use std::{
    path::{Path, PathBuf},
    rc::Rc,
};

use model::{
    LeaderEpoch, Offset, PartitionId, TimestampMs, TopicId,
    record_batch::{Counts, HEADER_BYTES, RecordBatch, position},
    topic_config::TopicConfig,
};
use runtime::{Access, Cache, Create, Errno, File, OpenOptions, Runtime};

use crate::{
    Damage, Error, FenceReason, Log, Storage, compact,
    damage::Fault,
    index::{IndexedBatch, Indexes, OFFSET_ENTRY_BYTES, TIME_ENTRY_BYTES},
    judge::{Verdict, check_new_epoch},
    leader_epochs::{self, LeaderEpochs},
    log::{Names, State, Status},
    producers::Producers,
    resync::Searched,
    scan::Scanned,
    segment::{Phase, Segment, offset_of_name, segment_path},
    storage::read_small_file,
    tail::{BLOCK_BYTES, length_of, position_of},
    transactions::{TransactionStep, Transactions},
};

/// The largest index file that is read: Kafka's preallocated ones have 10 MiB.
const INDEX_BYTES_MAX: usize = 64 << 20;
/// The largest producer snapshot that is read: a million producers.
const SNAPSHOT_BYTES_MAX: usize = 64 << 20;
/// The largest leader epoch checkpoint that is read.
const EPOCHS_BYTES_MAX: usize = 16 << 20;

/// Whether the clean-shutdown marker was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CleanStop {
    /// The last process closed everything.
    Clean,
    /// It was killed, or the power went.
    Unclean,
}

/// What the log directory's checkpoint files say of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveryStart {
    /// From `recovery-point-offset-checkpoint`.
    pub recovery_point: Option<Offset>,
    /// From `log-start-offset-checkpoint`.
    pub log_start_offset: Option<Offset>,
    /// From `cleaner-offset-checkpoint`.
    pub cleaned_to: Option<Offset>,
    /// How the last process ended.
    pub stop: CleanStop,
}

/// What opening a log found and did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Bytes of batches that were read and checked.
    pub checked_bytes: u64,
    /// Bytes of a torn tail that were cut off; a tail of zeros counts for nothing.
    pub cut_bytes: u64,
    /// Segments removed because the one before them was cut.
    pub cut_segments: usize,
    /// Segments whose indexes were missing or wrong.
    pub rebuilt_indexes: usize,
    /// Damaged ranges, which are neither served nor cut off.
    pub damaged_ranges: usize,
}

impl Storage {
    /// Opens the partition in `directory`, which is called `<topic>-<partition>`.
    ///
    /// What was durable and cannot be read is left as it is: [`Log::damages`] tells of it. Where
    /// that is the log's end, the log takes no appends: which offsets were given out behind it is
    /// not known.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn open_log(
        &self,
        directory: &Path,
        topic_id: TopicId,
        config: Rc<TopicConfig>,
        known: RecoveryStart,
    ) -> Result<(Log, RecoveryReport), Error> {
        let Some((topic, partition)) = crate::directory::partition_of_path(directory) else {
            let what = "not the name of a partition's directory".to_owned();
            return Err(Error::Malformed { path: directory.to_owned(), what });
        };
        let now = self.0.runtime.now();
        let mut recovery = Recovery {
            runtime: self.0.runtime.clone(),
            directory: directory.to_owned(),
            known,
            mark: Offset::ZERO,
            state: State::new(config, Offset::ZERO, now),
            report: RecoveryReport::default(),
            has_epochs: false,
            bases: Vec::new(),
            latest_epoch: None,
            end_is_damaged: false,
            doubts_epochs: false,
            epochs_start: None,
            has_start: true,
        };
        recovery.bases = recovery.list_segments().await?;
        Box::pin(recovery.recover()).await?;
        recovery.report.damaged_ranges = recovery.state.damages.ranges().len();
        let doubts_epochs = recovery.doubts_epochs;
        let (mut state, report) = (recovery.state, recovery.report);
        state.names = Names::Durable;
        if report.cut_bytes > 0 || report.cut_segments > 0 {
            tracing::warn!(
                topic,
                partition = partition.0,
                offset = state.end.0,
                segments = report.cut_segments,
                "recovery: cut {} bytes of a torn tail",
                report.cut_bytes
            );
        }
        if state.end > state.recovery_point {
            self.0.needs.raise(state.need());
        }
        for damage in state.damages.ranges() {
            tracing::error!(
                topic,
                partition = partition.0,
                offset = damage.from.0,
                position = damage.positions.start,
                "damaged: {damage}; everything else is served"
            );
        }
        if state.status != Status::Open {
            tracing::error!(
                topic,
                partition = partition.0,
                offset = state.end.0,
                "the end of the log is damaged: it takes no records until the loss is accepted"
            );
        }
        let name = (topic.as_str(), partition, topic_id);
        let log = Log::new(Rc::clone(&self.0), name, directory.to_owned(), state);
        if doubts_epochs && let Err(error) = Box::pin(log.rebuild_epochs()).await {
            tracing::warn!(topic, partition = partition.0, %error, "the leader epochs stay as on disk");
        }
        log.ask_for_compaction();
        Ok((log, report))
    }
}

pub(crate) struct Recovery {
    pub(crate) runtime: Runtime,
    pub(crate) directory: PathBuf,
    known: RecoveryStart,
    /// Below it everything is durable.
    pub(crate) mark: Offset,
    pub(crate) state: State,
    report: RecoveryReport,
    /// The leader epochs were on disk.
    has_epochs: bool,
    /// The segments that are there, by their first offsets.
    pub(crate) bases: Vec<Offset>,
    /// Of the last batch that was checked.
    latest_epoch: Option<LeaderEpoch>,
    /// Nobody knows which offsets were given out behind the damage.
    pub(crate) end_is_damaged: bool,
    /// A batch has another leader epoch than the file of them says.
    doubts_epochs: bool,
    /// Where the first of them begins.
    epochs_start: Option<Offset>,
    /// The segment that the log starts in is there; else what is lost lies below the start.
    has_start: bool,
}

/// How the scan of a segment ended.
struct ScannedSegment {
    file: Rc<File>,
    indexes: Indexes,
    transactions: Option<Transactions>,
    /// From here on these are exact.
    exact_from: Offset,
    first_timestamp: Option<TimestampMs>,
    size: u64,
    /// Where the first batch lies that is not known to be durable.
    above_mark: Option<u64>,
    /// It was cut: what follows in later segments is gone.
    is_cut: bool,
}

impl Recovery {
    /// The base offsets of all segments, in order, once what a crash left behind is settled.
    async fn list_segments(&self) -> Result<Vec<Offset>, Error> {
        compact::swap::settle(&self.runtime, &self.directory).await?;
        let entries = self.runtime.list_directory(&self.directory).await;
        let entries = entries.map_err(Error::io(&self.directory))?;
        let mut bases = Vec::new();
        for entry in entries {
            if let Some(base) = offset_of_name(&entry.name, "log") {
                bases.push(base);
            }
        }
        Ok(bases)
    }

    async fn recover(&mut self) -> Result<(), Error> {
        let bases = self.bases.clone();
        let snapshots = self.snapshots().await?;
        let point = self.known.recovery_point.unwrap_or_default();
        self.mark = snapshots.iter().copied().filter(|at| *at <= point).max().unwrap_or_default();
        let Some(first) = bases.first().copied() else {
            self.open_empty();
            return Ok(());
        };
        self.state.end = first;
        let produced = Box::pin(self.load_producers(&snapshots)).await?;
        self.has_epochs = Box::pin(self.load_epochs()).await?;
        self.miss_start(first);
        let scan_from =
            if self.has_epochs { produced.unwrap_or(first).min(self.mark) } else { first };
        // The segment that ends at the mark may not have been cut to its content yet.
        let start = bases.partition_point(|base| *base < scan_from).saturating_sub(1);
        Box::pin(self.pass_finished(start)).await?;
        let mut removed = Vec::new();
        for (index, base) in bases.iter().enumerate().skip(start) {
            if !Box::pin(self.continues(*base, index, index == start)).await? {
                removed.extend_from_slice(&bases[index..]);
                break;
            }
            let scanned = Box::pin(self.scan(index, scan_from, produced)).await?;
            let is_cut = scanned.is_cut;
            let is_last = index + 1 == bases.len();
            Box::pin(self.keep(*base, scanned, is_last)).await?;
            if is_cut {
                removed.extend_from_slice(&bases[index + 1..]);
                break;
            }
        }
        if self.state.end < self.mark {
            self.miss(self.mark, "the log ends before its durable mark");
            self.end_is_damaged = true;
        }
        Box::pin(self.remove_segments(&removed)).await?;
        Box::pin(self.settle(first)).await
    }

    /// Takes the segments that the scan does not reach.
    async fn pass_finished(&mut self, count: usize) -> Result<(), Error> {
        for index in 0..count {
            let (base, next) = (self.bases[index], self.bases[index + 1]);
            let segment = Box::pin(self.finished(base, next)).await?;
            self.state.end = next;
            Box::pin(self.check_end_of(&segment, next)).await?;
            self.state.segments.push(segment);
        }
        Ok(())
    }

    fn open_empty(&mut self) {
        let start = self.log_start().unwrap_or_default();
        let config = Rc::clone(&self.state.config);
        self.state = State::new(config, start, self.runtime.now());
        if self.mark > start {
            self.bases.push(start);
            self.miss(self.mark, "the segments are missing");
            let state = &mut self.state;
            (state.written_end, state.durable_end) = (state.end, state.end);
            state.recovery_point = self.mark;
            state.status = Status::Fenced(FenceReason::Damaged);
        }
    }

    /// After a clean stop it is known where the log starts: by the checkpoint file, which names
    /// every start that is not 0, or is Apache Kafka's, which then cuts the leader epochs there.
    /// After none, segments may have gone that the checkpoint file still has (Apache Kafka's), but
    /// not before the leader epochs were cut.
    fn miss_start(&mut self, first: Offset) {
        if self.known.recovery_point != Some(self.mark) {
            return;
        }
        let by_epochs = self.state.epochs.first_start().filter(|start| *start < first);
        let start = match (self.known.stop, self.known.log_start_offset) {
            (CleanStop::Clean, Some(start)) => Some(start),
            (CleanStop::Clean, None) => by_epochs.filter(|start| *start == Offset::ZERO),
            (CleanStop::Unclean, start) => {
                by_epochs.map(|epochs| epochs.max(start.unwrap_or_default()))
            }
        };
        if let Some(start) = start.filter(|start| *start < first) {
            self.state.end = start;
            self.has_start = false;
            self.miss(first, "the segments before it are missing");
        }
    }

    /// Whether a segment that starts at `base` may follow what was found so far.
    async fn continues(
        &mut self,
        base: Offset,
        index: usize,
        is_first: bool,
    ) -> Result<bool, Error> {
        let end = self.state.end;
        // Compaction may have emptied the end of the segment before.
        if is_first || base == end || (base > end && self.may_have_gaps(end)) {
            self.state.end = base;
            return Ok(true);
        }
        if base > end && (end < self.mark || self.is_followed(index, 0, end).await?) {
            self.miss(base, "the records before the next segment are missing");
            return Ok(true);
        }
        Ok(false)
    }

    /// True where compaction may have left out the batch at `offset`.
    pub(crate) fn may_have_gaps(&self, offset: Offset) -> bool {
        let is_cleaned = self.known.cleaned_to.is_some_and(|to| offset < to);
        self.state.config.cleanup_policy.compact || is_cleaned
    }

    /// Notes that there is nothing from the end so far to `to`, where the log goes on.
    fn miss(&mut self, to: Offset, what: &str) {
        let before = self.bases.partition_point(|base| *base <= self.state.end);
        let base = self.bases[before.saturating_sub(1)];
        let at = self.state.segments.last().map_or(0, Segment::size);
        self.state.damages.add(Damage {
            from: self.state.end,
            to,
            path: segment_path(&self.directory, base, "log"),
            positions: at..at,
            what: what.to_owned(),
        });
        self.state.end = to;
    }

    async fn snapshots(&self) -> Result<Vec<Offset>, Error> {
        let entries = self.runtime.list_directory(&self.directory).await;
        let entries = entries.map_err(Error::io(&self.directory))?;
        Ok(entries.iter().filter_map(|entry| offset_of_name(&entry.name, "snapshot")).collect())
    }

    /// Loads the newest producer snapshot that is whole and not above the mark; removes those
    /// above it, which tell of what may be cut. Gives its offset.
    async fn load_producers(&mut self, snapshots: &[Offset]) -> Result<Option<Offset>, Error> {
        for at in snapshots.iter().rev() {
            let path = segment_path(&self.directory, *at, "snapshot");
            if *at > self.mark {
                self.runtime.remove_file(&path).await.map_err(Error::io(path))?;
                continue;
            }
            let content = read_small_file(&self.runtime, &path, SNAPSHOT_BYTES_MAX).await?;
            if let Some(producers) = content.as_deref().and_then(Producers::parse) {
                self.state.producers = producers;
                return Ok(Some(*at));
            }
        }
        Ok(None)
    }

    async fn load_epochs(&mut self) -> Result<bool, Error> {
        let path = self.directory.join(leader_epochs::FILE_NAME);
        let content = read_small_file(&self.runtime, &path, EPOCHS_BYTES_MAX).await?;
        let epochs = content.as_deref().and_then(LeaderEpochs::parse);
        let found = epochs.is_some();
        self.state.epochs = epochs.unwrap_or_default();
        self.epochs_start = self.state.epochs.first_start();
        self.state.epochs.cut(self.mark);
        Ok(found)
    }

    /// A segment below the part that is checked: its files are as they were left.
    async fn finished(&self, base: Offset, end: Offset) -> Result<Segment, Error> {
        let path = segment_path(&self.directory, base, "log");
        let file = File::open(&self.runtime, &path, OpenOptions::READ).await;
        let file = file.map_err(Error::io(&path))?;
        let info = file.info();
        file.close().await;
        let mut segment = Segment::new(base, info.modified_ms);
        segment.phase = Phase::Finished;
        segment.indexes = None;
        segment.set_size(info.length, &[]);
        segment.transactions = Transactions::starting_at(info.length, end);
        Ok(segment)
    }

    /// Checks a segment from `scan_from` on.
    async fn scan(
        &mut self,
        index: usize,
        scan_from: Offset,
        produced: Option<Offset>,
    ) -> Result<ScannedSegment, Error> {
        let base = self.bases[index];
        let path = segment_path(&self.directory, base, "log");
        let (file, length) = self.open_settled(&path).await?;
        let searched = Searched { file: Rc::clone(&file), pool: self.runtime.pool(), end: length };
        let loaded = self.load_indexes(base, length).await?;
        let mut indexes = loaded.unwrap_or_else(|| Indexes::new(base));
        // After a clean stop everything is known to be whole: only the end has to be found.
        let is_whole =
            self.known.stop == CleanStop::Clean && scan_from == self.mark && self.is_mark_known();
        let from = if is_whole { Offset(i64::MAX) } else { scan_from };
        let (start, entry) = indexes.anchor(from, 0);
        indexes.cut_behind(start);
        indexes.set_size(start);
        let mut segment = SegmentScan {
            index,
            limit: self.bases.get(index + 1).copied().unwrap_or(Offset(i64::MAX)),
            entry,
            searched,
            indexes,
            transactions: None,
            produced,
            first_timestamp: None,
            above_mark: None,
        };
        let mut tail = self.scan_batches(&mut segment, start).await;
        if matches!(tail, Ok(Tail::Adrift)) {
            // The index leads to no batch: it is dropped, and all of the segment looked at.
            self.report.rebuilt_indexes += 1;
            self.state.end = base;
            segment.entry = None;
            segment.indexes = Indexes::new(base);
            tail = self.scan_batches(&mut segment, 0).await;
        }
        let (size, garbage) = match tail.map_err(Error::io(&path))? {
            Tail::Ended(size) => (size, 0),
            Tail::Torn { size, garbage } if cfg!(feature = "mutant_torn_tail_kept") => {
                (size + garbage, 0)
            }
            Tail::Torn { size, garbage } => (size, garbage),
            Tail::Adrift => unreachable!("without an index there is nothing to be adrift from"),
        };
        self.report.cut_bytes += garbage;
        let mut first_timestamp = segment.first_timestamp;
        if start > 0 {
            first_timestamp = self.first_timestamp(&file).await.map_err(Error::io(&path))?;
        }
        let SegmentScan { indexes, transactions, above_mark, .. } = segment;
        Ok(ScannedSegment {
            file,
            indexes,
            transactions,
            exact_from: produced.unwrap_or(base),
            first_timestamp,
            size,
            above_mark,
            is_cut: garbage > 0,
        })
    }

    /// Checks the batches of a segment from a position on, and judges what is none.
    async fn scan_batches(&mut self, segment: &mut SegmentScan, start: u64) -> Result<Tail, Errno> {
        let mut scanner = segment.searched.scanner(start);
        loop {
            let fault = match scanner.next().await? {
                Scanned::End => return Ok(Tail::Ended(scanner.position())),
                Scanned::Bad(error) => Fault::Batch(error),
                Scanned::Batch { position, batch } => {
                    let mut checked = self.check(&batch, segment);
                    let epoch = batch.leader_epoch();
                    if checked.is_ok() && self.latest_epoch.is_none_or(|latest| latest < epoch) {
                        checked = check_new_epoch(&batch, position, &segment.searched).await?;
                    }
                    match checked {
                        Ok(()) => {
                            segment.entry = None;
                            self.report.checked_bytes += position_of(batch.size());
                            segment.first_timestamp.get_or_insert_with(|| batch.max_timestamp());
                            self.take(&batch, position, segment);
                            continue;
                        }
                        Err(fault) => {
                            // It is judged as one that is not there.
                            scanner.step_back(position);
                            fault
                        }
                    }
                }
            };
            if segment.entry.is_some() {
                return Ok(Tail::Adrift);
            }
            let at = scanner.position();
            let judged = self.judge(segment.index, &segment.searched, at, &fault);
            match Box::pin(judged).await? {
                Verdict::Ended => return Ok(Tail::Ended(at)),
                Verdict::Torn(garbage) => return Ok(Tail::Torn { size: at, garbage }),
                Verdict::DamagedToEnd => return Ok(Tail::Ended(segment.searched.end)),
                Verdict::Damaged(sound) => {
                    self.state.end = sound.base_offset;
                    scanner = segment.searched.scanner(sound.position);
                }
            }
        }
    }

    /// Opens a segment and waits for what a dead process may still be writing to it. Gives its
    /// length.
    async fn open_settled(&self, path: &Path) -> Result<(Rc<File>, u64), Error> {
        let options =
            OpenOptions { create: Create::Never, access: Access::ReadWrite, cache: Cache::Direct };
        let file = File::open(&self.runtime, path, options).await.map_err(Error::io(path))?;
        // A shorter file was cut, and is waited for before it is written.
        if self.known.stop == CleanStop::Unclean && file.info().length >= BLOCK_BYTES {
            wait_for_the_dead(&file, path).await?;
        }
        let length = file.describe().await.map_err(Error::io(path))?.length;
        Ok((Rc::new(file), length))
    }

    /// The timestamp of a segment's first batch, which the scan has passed over.
    async fn first_timestamp(&self, file: &File) -> Result<Option<TimestampMs>, Errno> {
        let bytes = length_of(BLOCK_BYTES);
        let buffer = file.read(0, bytes, self.runtime.pool().take(bytes)).await?;
        let Some(field) = buffer.get(position::MAX_TIMESTAMP..position::MAX_TIMESTAMP + 8) else {
            return Ok(None);
        };
        let field = field.try_into().expect("the range has eight bytes");
        Ok(Some(TimestampMs(i64::from_be_bytes(field))))
    }

    async fn load_indexes(&mut self, base: Offset, length: u64) -> Result<Option<Indexes>, Error> {
        // A killed Apache Kafka leaves 20 MiB of zeros a partition: not more is read than entries
        // for all batches would take, and one that is none.
        let entries = length_of(length) / HEADER_BYTES + 1;
        let path = segment_path(&self.directory, base, "index");
        let offsets = self.read_index(&path, entries * OFFSET_ENTRY_BYTES).await?;
        let path = segment_path(&self.directory, base, "timeindex");
        let times = self.read_index(&path, entries * TIME_ENTRY_BYTES).await?;
        let (Some(offsets), Some(times)) = (offsets, times) else {
            self.report.rebuilt_indexes += 1;
            return Ok(None);
        };
        let end = Offset(i64::MAX);
        // An entry that was being added.
        let offsets = &offsets[..offsets.len() - offsets.len() % OFFSET_ENTRY_BYTES];
        let times = &times[..times.len() - times.len() % TIME_ENTRY_BYTES];
        let parsed = Indexes::parse(base, offsets, times, length.max(1), end);
        if parsed.is_none() {
            self.report.rebuilt_indexes += 1;
        }
        Ok(parsed)
    }

    /// The start of an index file, up to `length_max` bytes; `None` where there is no file.
    async fn read_index(&self, path: &Path, length_max: usize) -> Result<Option<Vec<u8>>, Error> {
        let file = match File::open(&self.runtime, path, OpenOptions::READ).await {
            Ok(file) => file,
            Err(Errno::NOT_FOUND) => return Ok(None),
            Err(errno) => return Err(Error::Io { path: path.to_owned(), errno }),
        };
        let length = file.info().length.min(position_of(length_max.min(INDEX_BYTES_MAX)));
        if length == 0 {
            return Ok(Some(Vec::new()));
        }
        let buffer = self.runtime.pool().take(length_of(length));
        let content = file.read(0, length_of(length), buffer).await.map_err(Error::io(path))?;
        file.close().await;
        Ok(Some(content.to_vec()))
    }

    /// What a batch has to be to follow the one before it. The first one after an index's entry
    /// has to end where the entry says.
    fn check(&mut self, batch: &RecordBatch<'_>, segment: &SegmentScan) -> Result<(), Fault> {
        batch.verify_crc()?;
        batch.check_counts(Counts::Sparse)?;
        if let Some(expected) = segment.entry {
            let found = batch.last_offset();
            let is_believed = cfg!(feature = "mutant_stale_index_believed");
            return if found == expected || is_believed {
                Ok(())
            } else {
                Err(Fault::Offset { expected, found })
            };
        }
        let (found, expected) = (batch.base_offset(), self.state.end);
        let may_skip = self.may_have_gaps(expected);
        let continues = found == expected || (may_skip && found > expected);
        if !continues || batch.next_offset() > segment.limit {
            return Err(Fault::Offset { expected, found });
        }
        let (epoch, latest) = (batch.leader_epoch(), self.latest_epoch);
        let latest = latest.filter(|latest| *latest > epoch && epoch != LeaderEpoch(-1));
        match latest {
            Some(expected) if found >= self.mark => Err(Fault::Epoch { expected, found: epoch }),
            Some(_) | None => Ok(()),
        }
    }

    fn take(&mut self, batch: &RecordBatch<'_>, position: u64, segment: &mut SegmentScan) {
        let indexes = &mut segment.indexes;
        let interval_bytes = u64::try_from(self.state.config.index_interval_bytes).unwrap_or(0);
        let size = position_of(batch.size());
        let max_timestamp = batch.max_timestamp();
        let last_offset = batch.last_offset();
        if position > indexes.last_position() || position == 0 {
            indexes
                .add(&IndexedBatch { last_offset, max_timestamp, position, size }, interval_bytes);
        } else {
            indexes.note_size(size);
        }
        let is_known = segment.produced.is_some_and(|at| batch.base_offset() < at);
        let completed = if is_known || cfg!(feature = "mutant_producer_state_not_rebuilt") {
            None
        } else {
            self.state.producers.note(batch, batch.base_offset(), max_timestamp)
        };
        let start = (position, batch.base_offset());
        let transactions =
            segment.transactions.get_or_insert_with(|| Transactions::starting_at(start.0, start.1));
        if let Some(step) = TransactionStep::of(batch) {
            transactions.note(batch.producer_id(), batch.base_offset(), step, completed.as_ref());
        }
        if batch.next_offset() > self.mark {
            segment.above_mark.get_or_insert(position);
        }
        let (epoch, base_offset) = (batch.leader_epoch(), batch.base_offset());
        self.state.epochs.assign(epoch, base_offset);
        self.doubts_epochs |= epoch.0 >= 0 && self.state.epochs.epoch_at(base_offset) != epoch;
        self.latest_epoch = Some(epoch);
        self.state.end = batch.next_offset();
    }

    /// The log start of the checkpoint files, which may be that of a deleted topic of the same
    /// name: believed as far as the leader epochs of the partition's directory begin there. Where
    /// these are not known, it is believed as the recovery point is, which was written with it.
    fn log_start(&self) -> Option<Offset> {
        let claimed = self.known.log_start_offset?;
        match self.epochs_start {
            Some(start) => Some(claimed.min(start)),
            None => Some(claimed).filter(|_| self.is_mark_known()),
        }
    }

    /// Whether the checkpoint file names the mark. Where it does not (Apache Kafka leaves the
    /// metadata log out), what lies above it has to be gone through, also after a clean stop.
    fn is_mark_known(&self) -> bool {
        self.known.recovery_point == Some(self.mark)
    }

    /// Up to where the log is clean, believed as the log start is. Else it is compacted anew.
    fn cleaned_to(&self) -> Offset {
        let known = self.known.cleaned_to.filter(|_| self.known.recovery_point == Some(self.mark));
        known.unwrap_or_default()
    }
}

/// Waits for what a dead process may still be writing to a file: an allocation does.
async fn wait_for_the_dead(file: &File, path: &Path) -> Result<(), Error> {
    match file.allocate(0, BLOCK_BYTES).await {
        Err(Errno::IO) => Err(Error::Io { path: path.to_owned(), errno: Errno::IO }),
        // A file system without allocation takes no direct writes either.
        Ok(()) | Err(_) => Ok(()),
    }
}

/// A segment that is being checked.
struct SegmentScan {
    /// Its place among all.
    index: usize,
    /// Its offsets lie below.
    limit: Offset,
    /// Where the first batch has to end, as an index entry says.
    entry: Option<Offset>,
    searched: Searched,
    indexes: Indexes,
    /// From the first batch on that was checked.
    transactions: Option<Transactions>,
    /// The producers' state is that of this offset.
    produced: Option<Offset>,
    first_timestamp: Option<TimestampMs>,
    /// Where the first batch above the mark lies.
    above_mark: Option<u64>,
}

/// How a segment ends.
enum Tail {
    /// With its content, at this position.
    Ended(u64),
    /// With bytes of a torn write.
    Torn { size: u64, garbage: u64 },
    /// The index leads to no batch.
    Adrift,
}

/// The partition that a directory's name tells.
pub(crate) fn parse_partition_name(name: &str) -> Option<(String, PartitionId)> {
    let (topic, partition) = name.rsplit_once('-')?;
    let is_number = !partition.is_empty() && partition.bytes().all(|byte| byte.is_ascii_digit());
    if topic.is_empty() || !is_number {
        return None;
    }
    Some((topic.to_owned(), PartitionId(partition.parse().ok()?)))
}
