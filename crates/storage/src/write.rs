//! Brings what was appended to the disk: one task for each log that has something to write, which
//! ends when nothing is left. At most one write of a log is in flight, so no two touch a block.
//!
//! All logs of a shard start their writes when it has nothing else to do, or soon where it always
//! has; what is appended while a write is in flight goes out as the next one. Cost: one task and one vectored write for all that
//! was queued, one copied block where the end is not on a boundary.

use std::{path::PathBuf, rc::Rc, time::Duration};

use model::Offset;
use runtime::{Access, Cache, Create, Errno, File, OpenOptions, TaskQueue};

use crate::{
    Error, FenceReason, Log,
    log::{Names, State, Status},
    segment::{Phase, segment_path},
    tail::{BLOCK_BYTES, block_ceil, block_floor, position_of},
};

/// The largest write: what a disk takes in a few milliseconds.
const WRITE_BYTES_MAX: u64 = 8 << 20;
/// What the first allocation of a segment secures: a topic with a few records costs no more.
const ALLOCATION_BYTES_MIN: u64 = 64 << 10;
/// What one allocation secures at most: a start after a crash reads what is secured. A busy log has
/// it done beside its writes, where it is zeroed ahead.
const ALLOCATION_BYTES_MAX: u64 = 4 << 20;
/// How long a busy shard gathers batches for a write.
const GATHERED_FOR: Duration = Duration::from_micros(500);
/// How long after a failed allocation the next is tried, at the earliest.
const SPACE_RETRY: Duration = Duration::from_millis(500);

const SEGMENT_OPTIONS: OpenOptions =
    OpenOptions { create: Create::Truncate, access: Access::ReadWrite, cache: Cache::Direct };

/// Why a write could not be made.
enum Failure {
    /// Nobody knows what is on disk.
    Fence(FenceReason),
    /// Nothing was written for want of space.
    NoSpace,
}

/// What is to be written next.
struct Job {
    base_offset: Offset,
    start: u64,
    end: u64,
    end_offset: Offset,
    is_vouched: bool,
}

impl Log {
    /// Starts the task that writes; the caller has set `is_writing`.
    pub(crate) fn start_writing(&self) {
        let log = self.clone();
        self.runtime().spawn("log write", TaskQueue::Foreground, async move {
            log.write_until_idle().await;
        });
    }

    async fn write_until_idle(&self) {
        loop {
            self.runtime().lull(GATHERED_FOR).await;
            match self.write_next().await {
                Ok(true) => {}
                Ok(false) => return,
                Err(Failure::NoSpace) => self.take_back_unsecured(),
                Err(Failure::Fence(reason)) => {
                    self.fence(reason);
                    self.0.state.borrow_mut().is_writing = false;
                    self.0.progress.notify_all();
                    return;
                }
            }
        }
    }

    /// Writes what is queued, up to a limit. False if there was nothing, or the log is fenced.
    async fn write_next(&self) -> Result<bool, Failure> {
        let next = {
            let mut state = self.0.state.borrow_mut();
            let next = state.next_to_write();
            if next.is_none() {
                state.is_writing = false;
            }
            next
        };
        let Some(base_offset) = next else {
            self.0.progress.notify_all();
            return Ok(false);
        };
        let file = self.segment_file(base_offset).await?;
        let end = self.secure(base_offset, &file).await?;
        self.wait_for_zeroing(base_offset, end).await;
        let (job, slices) = self.job(base_offset, end);
        self.zero_ahead(base_offset, job.end - job.start);
        let position = if file.info().direct { block_floor(job.start) } else { job.start };
        let length: usize = slices.iter().map(bytes::Bytes::len).sum();
        let count = file.write(position, slices).await;
        match count {
            _ if cfg!(feature = "mutant_completion_result_ignored") => {}
            Ok(count) if count == length => {}
            Ok(_) => return Err(Failure::Fence(FenceReason::Write(Errno::IO))),
            Err(errno) => return Err(Failure::Fence(FenceReason::Write(errno))),
        }
        self.mark_written(base_offset, job.end, job.end_offset);
        self.0.storage.note_written(self, job_written(&job), &file);
        self.0.storage.bound_tails();
        Ok(true)
    }

    /// Gives a new active segment its file before its first write: an empty log then still tells
    /// where it ends.
    pub(crate) async fn create_active_file(&self) -> Result<(), Error> {
        let progress = &self.0.progress;
        progress.wait_until(|| !self.0.state.borrow().is_writing).await;
        let base_offset = {
            let mut state = self.0.state.borrow_mut();
            let active = state.segments.last().filter(|active| !active.is_on_disk);
            let Some(base_offset) = active.map(|active| active.base_offset) else { return Ok(()) };
            if state.status != Status::Open || state.is_stopping {
                return Ok(());
            }
            state.is_writing = true;
            base_offset
        };
        let outcome = self.segment_file(base_offset).await;
        // Writes what came in the meantime.
        self.start_writing();
        let path = segment_path(&self.0.directory.borrow(), base_offset, "log");
        match outcome {
            Ok(_) => Ok(()),
            Err(Failure::NoSpace) => Err(Error::Io { path, errno: Errno::NO_SPACE }),
            Err(Failure::Fence(reason)) => {
                self.fence(reason);
                Err(Error::Fenced(reason))
            }
        }
    }

    /// The segment's open file; a new one is created, and its name made durable.
    async fn segment_file(&self, base_offset: Offset) -> Result<Rc<File>, Failure> {
        if let Some(file) = self.open_file(base_offset) {
            return Ok(file);
        }
        let is_on_disk = {
            let state = self.0.state.borrow();
            state.segment(base_offset).is_some_and(|segment| segment.is_on_disk)
        };
        if is_on_disk {
            let reopened = self.reopen(base_offset).await;
            return reopened.map_err(|errno| Failure::Fence(FenceReason::Create(errno)));
        }
        let directory = self.0.directory.borrow().clone();
        let path = segment_path(&directory, base_offset, "log");
        let refused = |errno: Errno| match errno {
            errno if errno.is_no_space() => Failure::NoSpace,
            errno if errno.is_device_failure() => Failure::Fence(FenceReason::Sync(errno)),
            errno => Failure::Fence(FenceReason::Create(errno)),
        };
        // Where its first records would find none, a name is not worth its place.
        let _claim = self.claim_space(ALLOCATION_BYTES_MIN, BLOCK_BYTES).await.map_err(refused)?;
        let _place = self.0.storage.begin_opening().await;
        let is_new = self.0.state.borrow().names != Names::Durable;
        if is_new {
            let make = || self.make_directory(&directory);
            self.0.storage.with_handle(make).await.map_err(refused)?;
        }
        let open = || File::open(self.runtime(), path.clone(), SEGMENT_OPTIONS);
        let file = Rc::new(self.0.storage.with_handle(open).await.map_err(refused)?);
        let unsynced = |errno| Failure::Fence(FenceReason::Sync(errno));
        self.0.storage.sync_directory(&directory).await.map_err(unsynced)?;
        if is_new {
            let parent = directory.parent().map(PathBuf::from).unwrap_or_default();
            self.0.storage.sync_names(&parent).await.map_err(unsynced)?;
        }
        self.0.state.borrow_mut().names = Names::Durable;
        self.set_open(base_offset, &file);
        Ok(file)
    }

    /// Secures space for the next write and gives its end.
    async fn secure(&self, base_offset: Offset, file: &Rc<File>) -> Result<u64, Failure> {
        let (end, allocated, segment_bytes) = {
            let mut state = self.0.state.borrow_mut();
            let segment_bytes = u64::try_from(state.config.segment_bytes).unwrap_or(0);
            let segment = state.segment_mut(base_offset).expect("a segment with work is kept");
            let end = segment.size().min(segment.written + WRITE_BYTES_MAX);
            (end, segment.allocated, segment_bytes)
        };
        if block_ceil(end) <= allocated {
            return Ok(end);
        }
        let needed = block_ceil(end) - allocated;
        let step = allocation_step(allocated, segment_bytes).max(needed);
        let claim = self.claim_space(step, needed).await.map_err(|_| Failure::NoSpace)?;
        let mut outcome = file.allocate(allocated, claim.bytes).await;
        let mut secured = allocated + claim.bytes;
        if outcome.is_err_and(Errno::is_no_space) {
            outcome = file.allocate(allocated, needed).await;
            secured = allocated + needed;
        }
        let mut state = self.0.state.borrow_mut();
        match outcome {
            Ok(()) => state.is_space_low = false,
            Err(errno) if errno.is_no_space() => return Err(Failure::NoSpace),
            Err(Errno::IO) => return Err(Failure::Fence(FenceReason::Write(Errno::IO))),
            // A file system without allocation: the file grows as it is written.
            Err(_) => secured = u64::MAX,
        }
        let segment = state.segment_mut(base_offset).expect("a segment with work is kept");
        segment.allocated = segment.allocated.max(secured);
        Ok(end)
    }

    fn job(&self, base_offset: Offset, end: u64) -> (Job, Vec<bytes::Bytes>) {
        let mut state = self.0.state.borrow_mut();
        let log_end = state.end;
        let is_active = state.segments.last().is_some_and(|last| last.base_offset == base_offset);
        let next_base = state
            .segments
            .iter()
            .find(|segment| segment.base_offset > base_offset)
            .map_or(log_end, |next| next.base_offset);
        let segment = state.segment_mut(base_offset).expect("a segment with work is kept");
        let start = segment.written;
        let segment_end = if is_active { log_end } else { next_base };
        let job = Job {
            base_offset,
            start,
            end,
            end_offset: segment.offset_at(end, segment_end),
            is_vouched: segment.is_vouched(start, end),
        };
        let is_direct = segment.file.as_ref().is_some_and(|file| file.info().direct);
        let mut slices = Vec::new();
        if is_direct {
            slices = segment.tail.write_slices(start, end);
        } else {
            segment.tail.slices(start, end, &mut slices);
        }
        (job, slices)
    }

    /// There was no space: drops what was appended beyond the space that is secured, and fails
    /// those who wait for it. Nothing of it was written or seen by a reader.
    fn take_back_unsecured(&self) {
        let mut freed = 0;
        let mut state = self.0.state.borrow_mut();
        state.is_space_low = true;
        let Some(base_offset) = state.next_to_write() else { return };
        let later = state.segments.partition_point(|segment| segment.base_offset <= base_offset);
        for segment in state.segments.drain(later..) {
            freed += segment.tail.chunk_bytes();
        }
        let end = state.end;
        let segment = state.segment_mut(base_offset).expect("a segment with work is kept");
        // Of a file that may not be created: nothing.
        let secured = segment.allocated.max(segment.written);
        let batches = segment.tail.batches();
        let kept = batches.partition_point(|batch| batch.position < secured);
        let kept_end = batches.get(kept).map_or_else(|| segment.size(), |next| next.position);
        let first_cut = if kept_end <= secured { kept } else { kept - 1 };
        let cut = *batches.get(first_cut).expect("what is not secured is in the tail");
        let max_timestamp = batches
            .range(..first_cut)
            .map(|batch| (batch.max_timestamp, batch.last_offset))
            .max_by_key(|(timestamp, _)| *timestamp);
        freed += segment.tail.chunk_bytes();
        segment.tail.cut(&self.0.storage.pool, cut.position);
        freed -= segment.tail.chunk_bytes();
        segment.written = segment.written.min(cut.position);
        segment.durable = segment.durable.min(cut.position);
        segment.indexes_mut().cut(cut.base_offset, max_timestamp);
        segment.phase = Phase::Active;
        state.take_back(cut.base_offset);
        if state.names != Names::Durable {
            // Nothing is on the disk: the log is as before its first append.
            let dropped = state.segments.drain(..);
            freed += dropped.map(|segment| segment.tail.chunk_bytes()).sum::<usize>();
        }
        tracing::warn!(
            topic = %self.0.topic,
            partition = self.0.partition.0,
            offset = cut.base_offset.0,
            records = end.0 - cut.base_offset.0,
            "no space on the disk: refused what was not yet written"
        );
        drop(state);
        self.0.storage.forget_chunks(freed);
        self.tell_waiters();
    }

    /// Tries to secure space for a log whose appends are refused for want of it.
    pub(crate) fn secure_in_background(&self) {
        let log = self.clone();
        self.runtime().spawn("log space", TaskQueue::Background, async move {
            let found = log.probe_space().await;
            log.0.state.borrow_mut().is_space_low = !found;
            if !found {
                log.runtime().sleep(SPACE_RETRY).await;
            }
            log.0.state.borrow_mut().is_securing = false;
        });
    }

    async fn probe_space(&self) -> bool {
        let active = {
            let mut state = self.0.state.borrow_mut();
            state.segments.last_mut().map(|segment| (segment.base_offset, segment.allocated))
        };
        let Some((base_offset, allocated)) = active else { return true };
        let claim = self.claim_space(ALLOCATION_BYTES_MIN, ALLOCATION_BYTES_MIN).await;
        let Ok(_claim) = claim else { return false };
        let Some(file) = self.open_file(base_offset) else { return true };
        if file.allocate(allocated, ALLOCATION_BYTES_MIN).await.is_err() {
            return false;
        }
        let mut state = self.0.state.borrow_mut();
        if let Some(segment) = state.segment_mut(base_offset) {
            segment.allocated = segment.allocated.max(allocated + ALLOCATION_BYTES_MIN);
        }
        true
    }
}

/// What the group commit has to know of a write.
pub(crate) struct Written {
    pub(crate) base_offset: Offset,
    pub(crate) end: u64,
    pub(crate) end_offset: Offset,
    pub(crate) is_vouched: bool,
}

fn job_written(job: &Job) -> Written {
    Written {
        base_offset: job.base_offset,
        end: job.end,
        end_offset: job.end_offset,
        is_vouched: job.is_vouched,
    }
}

/// How much the next allocation secures: as much again as there is, within bounds.
fn allocation_step(allocated: u64, segment_bytes: u64) -> u64 {
    let step = allocated.clamp(ALLOCATION_BYTES_MIN, ALLOCATION_BYTES_MAX);
    let rest = block_ceil(segment_bytes).saturating_sub(allocated);
    step.min(rest.max(position_of(1)))
}

impl State {
    /// The first segment with something that is not written; none where the log is
    /// fenced or closed.
    fn next_to_write(&self) -> Option<Offset> {
        if self.status != Status::Open {
            return None;
        }
        let unfinished =
            self.segments.iter().rev().take_while(|segment| segment.phase != Phase::Finished);
        unfinished
            .filter(|segment| segment.written < segment.size())
            .map(|segment| segment.base_offset)
            .min()
    }
}
