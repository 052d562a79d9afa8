//! What makes a log readable without recovery: files at their true length, indexes, leader epochs
//! and producer snapshots on disk. Done for a segment once it was rolled and is durable, for the
//! end of the log at a checkpoint, and for all of it at a clean stop and at a deletion's rename.

use std::path::{Path, PathBuf};

use model::{Offset, TimestampMs};
use runtime::{Access, Cache, Create, File, OpenOptions, TaskQueue};

use crate::{
    Error, FenceReason, Log, RecoveryPoint, WaitError,
    index::{Indexes, OFFSET_ENTRY_BYTES, TIME_ENTRY_BYTES},
    leader_epochs,
    log::{Names, Status},
    segment::{Phase, Segment, offset_of_name, segment_path},
    storage::{StorageInner, replace_file},
    tail::{BLOCK_BYTES, position_of},
    transactions::{self, IndexDue},
};

/// How much of the active segment the indexes on disk may leave out: recovery reads that much more
/// than it must, some hundredths of a second. Of many busy logs each may leave out less.
const UNINDEXED_BYTES_MAX: u64 = 16 << 20;
/// However many logs are busy: two syncs are not worth less.
const UNINDEXED_BYTES_MIN: u64 = 1 << 20;

/// What the indexes on disk have of the active segment.
#[derive(Clone, Copy, Default)]
pub(crate) struct Indexed {
    base_offset: Offset,
    size: u64,
    /// Entries of `.index` and of `.timeindex`.
    entries: [usize; 2],
}

/// Entries that are to be added to the files.
struct IndexGrowth {
    before: Indexed,
    after: Indexed,
    offsets: Vec<u8>,
    times: Vec<u8>,
}

const INDEX_OPTIONS: OpenOptions =
    OpenOptions { create: Create::Never, access: Access::ReadWrite, cache: Cache::Buffered };

/// What a checkpoint has to write.
struct CheckpointDue {
    end: Offset,
    /// Bytes between the recovery point and the end.
    bytes_above: u64,
    producers: Vec<u8>,
    epochs: Option<Vec<u8>>,
    /// Where the active segment starts.
    active: Offset,
    /// What its index files lack, where that is much.
    growth: Option<IndexGrowth>,
    /// What its `.txnindex` does not have yet.
    aborted: Option<IndexDue>,
}

impl Log {
    /// A rolled segment is durable: brings its files into their final form.
    pub(crate) fn finish_in_background(&self, base_offset: Offset) {
        let log = self.clone();
        self.runtime().spawn("segment finish", TaskQueue::Background, async move {
            if let Err(error) = log.finish_segment(base_offset).await {
                // Everything it writes is derived; recovery does it again.
                tracing::warn!(topic = log.topic(), partition = log.partition().0,
                    offset = base_offset.0, %error, "a segment's indexes were not written");
            }
        });
    }

    /// Brings a rolled segment that is durable into its final form.
    async fn finish_segment(&self, base_offset: Offset) -> Result<(), Error> {
        {
            let mut state = self.0.state.borrow_mut();
            let Some(segment) = state.segment_mut(base_offset) else { return Ok(()) };
            if segment.phase != Phase::Rolled {
                return Ok(());
            }
            segment.phase = Phase::Finishing;
        }
        self.wait_for_zeroing(base_offset, u64::MAX - BLOCK_BYTES).await;
        let outcome = self.noted(self.finish_files(base_offset).await);
        let mut state = self.0.state.borrow_mut();
        if let Some(segment) = state.segment_mut(base_offset) {
            match outcome {
                Ok(()) => {
                    segment.phase = Phase::Finished;
                    // Readers open it again, through the page cache.
                    segment.file = None;
                    segment.allocated = segment.size();
                    segment.vouched = 0..0;
                }
                Err(_) => segment.phase = Phase::Rolled,
            }
        }
        drop(state);
        self.0.storage.note_loaded(self, base_offset);
        self.0.progress.notify_all();
        self.ask_for_compaction();
        outcome
    }

    /// Cuts the file to its content and writes the indexes.
    async fn finish_files(&self, base_offset: Offset) -> Result<(), Error> {
        let (file, size, indexes, aborted, is_longer) = {
            let state = self.0.state.borrow();
            let Some(segment) = state.segment(base_offset) else { return Ok(()) };
            assert!(segment.written == segment.size(), "a segment is written before it is cut");
            let aborted = segment.transactions.index_due();
            let is_longer = segment.allocated > segment.size();
            (segment.file.clone(), segment.size(), segment.indexes.clone(), aborted, is_longer)
        };
        let directory = self.0.directory.borrow().clone();
        let path = segment_path(&directory, base_offset, "log");
        let file = match file {
            None if is_longer => Some(self.reopen(base_offset).await.map_err(Error::io(&path))?),
            file => file,
        };
        if let Some(file) = file {
            file.set_length(size).await.map_err(Error::io(&path))?;
            file.sync().await.map_err(Error::io(&path))?;
        }
        if let Some(indexes) = indexes {
            // A checkpoint may be writing them as they were before: both use the same names.
            let progress = &self.0.progress;
            progress.wait_until(|| self.0.state.borrow().indexing != Some(base_offset)).await;
            self.write_indexes(base_offset, &indexes).await?;
        }
        if let Some(due) = aborted {
            self.write_transaction_index(base_offset, &due).await?;
        }
        Ok(())
    }

    async fn write_transaction_index(
        &self,
        base_offset: Offset,
        due: &IndexDue,
    ) -> Result<(), Error> {
        let directory = self.0.directory.borrow().clone();
        transactions::write_index(self.runtime(), &directory, base_offset, due).await?;
        let mut state = self.0.state.borrow_mut();
        if let Some(segment) = state.segment_mut(base_offset) {
            segment.transactions.index_written(due);
        }
        Ok(())
    }

    async fn write_indexes(&self, base_offset: Offset, indexes: &Indexes) -> Result<(), Error> {
        let directory = self.0.directory.borrow().clone();
        let runtime = self.runtime();
        for (suffix, content) in
            [("index", indexes.offset_file()), ("timeindex", indexes.time_file())]
        {
            let path = segment_path(&directory, base_offset, suffix);
            let replace = || runtime.replace_file(&path, content.clone());
            let replaced = self.0.storage.with_handle(replace).await;
            replaced.map_err(Error::io(&path))?;
        }
        Ok(())
    }

    /// Adds entries to the index files of the active segment; writes them anew where nothing is
    /// known of them.
    async fn extend_indexes(&self, growth: IndexGrowth) -> Result<(), Error> {
        let directory = self.0.directory.borrow().clone();
        let IndexGrowth { before, after, offsets, times } = growth;
        let [offset_entries, time_entries] = before.entries;
        for (suffix, position, content) in [
            ("timeindex", time_entries * TIME_ENTRY_BYTES, times),
            ("index", offset_entries * OFFSET_ENTRY_BYTES, offsets),
        ] {
            let path = segment_path(&directory, after.base_offset, suffix);
            if before.size == 0 {
                replace_file(self.runtime(), path, content).await?;
            } else if !content.is_empty() {
                self.extend_file(&path, position_of(position), content).await?;
            }
        }
        Ok(())
    }

    async fn extend_file(&self, path: &Path, position: u64, content: Vec<u8>) -> Result<(), Error> {
        let file =
            File::open(self.runtime(), path, INDEX_OPTIONS).await.map_err(Error::io(path))?;
        let outcome = match file.write_all(position, content.into()).await {
            Ok(()) => file.sync().await,
            Err(errno) => Err(errno),
        };
        file.close().await;
        outcome.map_err(Error::io(path))
    }

    /// Writes what lets recovery start at the durable end instead of where it had to last time.
    /// Does nothing where nothing was appended since.
    ///
    /// # Errors
    /// The operating system's; the recovery point stays where it was.
    pub async fn checkpoint(&self) -> Result<(), Error> {
        let Some(due) = self.checkpoint_due() else { return Ok(()) };
        let outcome = self.noted(self.write_checkpoint(due).await);
        self.end_checkpoint();
        outcome
    }

    /// The next one may write the leader epochs, and the files that come with them.
    fn end_checkpoint(&self) {
        self.0.state.borrow_mut().is_checkpointing = false;
        self.0.progress.notify_all();
    }

    async fn write_checkpoint(&self, due: CheckpointDue) -> Result<(), Error> {
        let end_of_marked = if cfg!(feature = "mutant_durable_mark_ahead") {
            self.wait_written(due.end).await
        } else {
            self.wait_durable(due.end).await
        };
        if end_of_marked.is_err() {
            return Ok(());
        }
        // Recovery does not look below its start: what lies there has its final form.
        self.finish_rolled(due.end).await?;
        let is_behind = due.growth.is_some() || due.aborted.is_some();
        if is_behind && self.begin_indexing(due.active) {
            let outcome = self.write_active_indexes(due.active, due.growth, due.aborted).await;
            self.0.state.borrow_mut().indexing = None;
            self.0.progress.notify_all();
            outcome?;
        }
        self.write_epochs_and_producers(due.end, due.epochs, due.producers).await?;
        let now = self.runtime().now();
        let mut state = self.0.state.borrow_mut();
        state.recovery_point = state.recovery_point.max(due.end);
        state.mark.bytes_above -= due.bytes_above;
        state.mark.since = now;
        Ok(())
    }

    async fn write_active_indexes(
        &self,
        base_offset: Offset,
        growth: Option<IndexGrowth>,
        aborted: Option<IndexDue>,
    ) -> Result<(), Error> {
        if let Some(aborted) = &aborted {
            self.write_transaction_index(base_offset, aborted).await?;
        }
        if let Some(growth) = growth {
            let after = growth.after;
            let outcome = self.extend_indexes(growth).await;
            // What is in the files after a failure is not known: they are written anew.
            let indexed = if outcome.is_ok() { after } else { Indexed::default() };
            self.0.state.borrow_mut().indexed = indexed;
            outcome?;
        }
        Ok(())
    }

    /// Claims the index files of the active segment. One that was rolled in the meantime has them
    /// written, or is about to: in full.
    fn begin_indexing(&self, base_offset: Offset) -> bool {
        let mut state = self.0.state.borrow_mut();
        let is_active = state
            .segment(base_offset)
            .is_some_and(|segment| matches!(segment.phase, Phase::Active | Phase::Rolled));
        if is_active {
            state.indexing = Some(base_offset);
        }
        is_active
    }

    /// What a checkpoint has to write now; a snapshot can be taken of the appended end alone.
    fn checkpoint_due(&self) -> Option<CheckpointDue> {
        let mut state = self.0.state.borrow_mut();
        let end = state.end;
        if state.status != Status::Open || end == state.recovery_point || state.is_checkpointing {
            return None;
        }
        let now = self.runtime().wall_clock_ms();
        let expiration_ms = self.0.storage.options.producer_expiration_ms;
        state.producers.expire(TimestampMs(now.saturating_sub(expiration_ms)));
        let active = state.segments.last()?;
        let segment_bytes = u64::try_from(state.config.segment_bytes).unwrap_or(0);
        let unindexed_max = self.0.storage.unindexed_bytes_max().min(segment_bytes / 4);
        let growth = index_growth(active, state.indexed, unindexed_max);
        let due = CheckpointDue {
            end,
            bytes_above: state.mark.bytes_above,
            producers: state.producers.file(),
            epochs: (!state.are_epochs_written).then(|| state.epochs.file()),
            active: active.base_offset,
            growth,
            aborted: active.transactions.index_due(),
        };
        state.is_checkpointing = true;
        Some(due)
    }

    /// Brings the rolled segments below `end` into their final form, or waits for whoever does.
    pub(crate) async fn finish_rolled(&self, end: Offset) -> Result<(), Error> {
        loop {
            let unfinished = {
                let state = self.0.state.borrow();
                let mut pairs = state.segments.windows(2).filter(|pair| {
                    let is_rolled = matches!(pair[0].phase, Phase::Rolled | Phase::Finishing);
                    is_rolled && pair[1].base_offset <= end
                });
                pairs.next().map(|pair| (pair[0].base_offset, pair[0].phase))
            };
            match unfinished {
                None => return Ok(()),
                Some((base_offset, Phase::Rolled)) => self.finish_segment(base_offset).await?,
                Some(_) => self.0.progress.notified().await,
            }
        }
    }

    /// Writes the leader epochs, unless the file has them as they are.
    pub(crate) async fn write_epochs(&self) -> Result<(), Error> {
        let progress = &self.0.progress;
        progress.wait_until(|| !self.0.state.borrow().is_checkpointing).await;
        let epochs = {
            let mut state = self.0.state.borrow_mut();
            if state.are_epochs_written || state.status != Status::Open {
                return Ok(());
            }
            // Both write the same temporary file.
            state.is_checkpointing = true;
            state.epochs.file()
        };
        let outcome = self.write_epochs_file(epochs).await;
        self.end_checkpoint();
        outcome
    }

    async fn write_epochs_file(&self, epochs: Vec<u8>) -> Result<(), Error> {
        let path = self.0.directory.borrow().join(leader_epochs::FILE_NAME);
        replace_file(self.runtime(), path, epochs.clone()).await?;
        let mut state = self.0.state.borrow_mut();
        state.are_epochs_written = state.epochs.file() == epochs;
        Ok(())
    }

    async fn write_epochs_and_producers(
        &self,
        end: Offset,
        epochs: Option<Vec<u8>>,
        producers: Vec<u8>,
    ) -> Result<(), Error> {
        let runtime = self.runtime();
        let directory = self.0.directory.borrow().clone();
        if let Some(epochs) = epochs {
            self.write_epochs_file(epochs).await?;
        }
        replace_file(runtime, segment_path(&directory, end, "snapshot"), producers).await?;
        self.remove_old_snapshots(&directory).await
    }

    async fn remove_old_snapshots(&self, directory: &std::path::Path) -> Result<(), Error> {
        let entries = self.runtime().list_directory(directory).await;
        let entries = entries.map_err(Error::io(directory))?;
        let recorded = self.0.state.borrow().mark.recorded;
        let mut snapshots =
            entries.iter().filter_map(|entry| offset_of_name(&entry.name, "snapshot"));
        // Those behind it are newer than what the directory's file may still name.
        while let Some(offset) = snapshots.next().filter(|offset| *offset < recorded) {
            let path = segment_path(directory, offset, "snapshot");
            self.runtime().remove_file(&path).await.map_err(Error::io(path))?;
        }
        Ok(())
    }

    /// Closes the log as a clean stop does; see [`crate::Storage::close`].
    ///
    /// # Errors
    /// When it is fenced, or the operating system's.
    pub async fn close(&self) -> Result<(), Error> {
        {
            let mut state = self.0.state.borrow_mut();
            match state.status {
                Status::Closed => return Ok(()),
                // It was never written to, and its files stay as they are.
                Status::Fenced(FenceReason::Damaged) => {
                    state.status = Status::Closed;
                    return Ok(());
                }
                Status::Fenced(reason) => return Err(Error::Fenced(reason)),
                Status::Open => {}
            }
            // Waiters still see the appends become durable.
            state.is_stopping = true;
        }
        let end = loop {
            let end = self.log_end_offset();
            match self.wait_durable(end).await {
                Ok(()) => break end,
                Err(WaitError::Fenced(reason)) => return Err(Error::Fenced(reason)),
                Err(WaitError::Closed) => return Ok(()),
                // The log is shorter now.
                Err(WaitError::NoSpace) => {}
            }
        };
        self.wait_until_quiet().await;
        if !self.0.state.borrow().is_as_closed {
            // Retention and DeleteRecords write the leader epochs, too.
            self.0.state.borrow_mut().is_checkpointing = true;
            let outcome = self.write_everything().await;
            self.end_checkpoint();
            outcome?;
        }
        self.0.state.borrow_mut().recovery_point = end;
        self.release_tails();
        self.set_closed();
        Ok(())
    }

    /// Brings all files into the form that a clean stop leaves; everything is durable.
    async fn write_everything(&self) -> Result<(), Error> {
        let bases: Vec<Offset> = {
            let mut state = self.0.state.borrow_mut();
            // One that found no space for its file.
            state.segments.pop_if(|last| !last.is_on_disk && last.size() == 0);
            for segment in &mut state.segments {
                if segment.phase == Phase::Active {
                    segment.indexes_mut().finish();
                    segment.phase = Phase::Rolled;
                }
            }
            let rolled = state.segments.iter().filter(|segment| segment.phase == Phase::Rolled);
            rolled.map(|segment| segment.base_offset).collect()
        };
        for base_offset in bases {
            self.finish_segment(base_offset).await?;
        }
        let (end, epochs, producers, is_empty) = {
            let state = self.0.state.borrow();
            (state.end, state.epochs.file(), state.producers.file(), state.segments.is_empty())
        };
        let directory = self.0.directory.borrow().clone();
        if !is_empty {
            self.write_epochs_and_producers(end, Some(epochs), producers).await?;
            self.0.storage.sync_directory(&directory).await.map_err(Error::io(&directory))?;
        }
        Ok(())
    }

    /// Waits until no task of the log touches its files.
    async fn wait_until_quiet(&self) {
        self.0
            .progress
            .wait_until(|| {
                let state = self.0.state.borrow();
                let is_finishing =
                    state.segments.iter().any(|segment| segment.phase == Phase::Finishing);
                let is_writing = state.is_writing || state.is_zeroing();
                let is_compacting = state.compaction.is_running;
                !is_writing && !is_finishing && !state.is_checkpointing && !is_compacting
            })
            .await;
    }

    fn release_tails(&self) {
        let mut state = self.0.state.borrow_mut();
        let freed = state.segments.iter_mut().map(|segment| segment.tail.give_back()).sum();
        drop(state);
        self.0.storage.forget_chunks(freed);
    }

    pub(crate) fn checkpoint_entry(&self) -> RecoveryPoint {
        let state = self.0.state.borrow();
        RecoveryPoint {
            topic: self.0.topic.to_string(),
            topic_id: self.0.topic_id,
            partition: self.0.partition,
            recovery_point: state.recovery_point,
            log_start_offset: state.log_start,
            high_watermark: state.high_watermark(),
            cleaned_to: state.compaction.cleaned_to,
        }
    }

    /// Deletes the log: it is renamed durably, so that it is not found again, then removed in the
    /// background. Readers that hold its memory or files go on.
    ///
    /// # Errors
    /// The operating system's, of the rename.
    pub async fn delete(&self) -> Result<(), Error> {
        self.set_closed();
        self.wait_until_quiet().await;
        if self.0.state.borrow().names == Names::None {
            self.0.storage.unregister(self);
            return Ok(());
        }
        let from = self.0.directory.borrow().clone();
        let random = self.runtime().random();
        let id = model::Uuid::from_random(random, self.runtime().random());
        // The form that Apache Kafka removes at its start: topic-partition.<32 hex>-delete.
        let hex: String = id.0.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = format!("{}-{}.{hex}-delete", self.0.topic, self.0.partition);
        let to = from.with_file_name(name);
        self.runtime().rename(&from, &to).await.map_err(Error::io(&from))?;
        let parent = to.parent().map(PathBuf::from).unwrap_or_default();
        self.0.storage.sync_names(&parent).await.map_err(Error::io(&parent))?;
        *self.0.directory.borrow_mut() = to.clone();
        self.release_tails();
        self.0.storage.unregister(self);
        self.0.storage.removals.add(self.runtime(), to);
        Ok(())
    }

    /// Ends the active segment; the next append begins a new one. Nothing happens to an empty one.
    pub fn roll(&self) {
        let now_ms = self.runtime().wall_clock_ms();
        let mut state = self.0.state.borrow_mut();
        let Some(active) = state.segments.last() else { return };
        if state.status != Status::Open || active.size() == 0 {
            return;
        }
        let (base_offset, is_durable) = (active.base_offset, active.durable == active.size());
        state.roll(now_ms, self.runtime().random());
        drop(state);
        if is_durable {
            self.finish_in_background(base_offset);
        }
    }
}

impl StorageInner {
    /// How much of a segment its indexes on disk may leave out, as many logs as are busy.
    fn unindexed_bytes_max(&self) -> u64 {
        let each = self.options.unmarked_bytes_max / self.needs.due_count().max(1);
        each.clamp(UNINDEXED_BYTES_MIN, UNINDEXED_BYTES_MAX)
    }
}

/// What the index files lack of an active segment, if they lack more than so much of it.
fn index_growth(active: &Segment, known: Indexed, unindexed_max: u64) -> Option<IndexGrowth> {
    let is_known = active.base_offset == known.base_offset;
    let before = if is_known { known } else { Indexed::default() };
    if active.size().saturating_sub(before.size) <= unindexed_max {
        return None;
    }
    let indexes = active.indexes.as_deref()?;
    let [offset_entries, time_entries] = before.entries;
    Some(IndexGrowth {
        before,
        after: Indexed {
            base_offset: active.base_offset,
            size: active.size(),
            entries: indexes.entry_counts(),
        },
        offsets: indexes.offset_file_from(offset_entries),
        times: indexes.time_file_from(time_entries),
    })
}
