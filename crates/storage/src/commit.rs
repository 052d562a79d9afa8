//! The group commit of a shard: what was written becomes durable, with as few fdatasyncs as the
//! files allow.
//!
//! A sync of a file makes its completed writes durable and has the device flush its cache. Writes
//! into space that was written and synced before need the flush alone: ONE such file's sync
//! vouches for all of them on its device, in rounds of which one is in flight at a time. A file in
//! allocated or growing space has its metadata to be written and is synced by itself
//! (`own_sync`), beside the rounds: what is busy does not wait for what is not (docs/STORAGE.md has
//! the conditions).
//!
//! A sync begins at once when somebody waits for durability, else [`SYNC_DELAY`] after a write:
//! nothing stays unsynced for longer, whoever waits.

use std::{
    future::{Future, poll_fn},
    path::Path,
    pin::Pin,
    rc::{Rc, Weak},
    task::Poll,
    time::Duration,
};

use model::Offset;
use runtime::{Errno, File, Instant, TaskQueue};

use crate::{
    FenceReason, Log,
    log::{LogInner, State},
    own_sync::Way,
    storage::{CommitStrategy, FileSystem, StorageInner},
    write::Written,
};

/// How long written data may wait for a sync that nobody waits for. The design's bound is 10 ms,
/// the sync itself included.
pub(crate) const SYNC_DELAY: Duration = Duration::from_millis(5);

/// How long a busy shard gathers writes for a round. A flush costs some 0.1 ms of CPU, wake-ups
/// included: 1,000 active partitions and 64 producers took 6.3 rounds a MB without this, 4.1 with it.
const GATHERED_FOR: Duration = Duration::from_millis(1);

/// A file with completed writes that the device's flush makes durable.
pub(crate) struct Unsynced {
    /// Weak: a log that nobody holds has nobody who waits.
    log: Weak<LogInner>,
    base_offset: Offset,
    file: Rc<File>,
    end: u64,
    end_offset: Offset,
}

/// Counts as somebody who waits for durability while it lives.
pub(crate) struct DurableWaiter(Rc<StorageInner>);

impl Drop for DurableWaiter {
    fn drop(&mut self) {
        self.0.durable_waiters.set(self.0.durable_waiters.get() - 1);
    }
}

impl Log {
    /// Where the segment stands among the files of the coming round; else it is given this place.
    fn place_in_round(&self, base_offset: Offset, place: (u64, usize)) -> Option<usize> {
        let mut state = self.0.state.borrow_mut();
        let segment = state.segment_mut(base_offset)?;
        match segment.unsynced {
            Some((round, known)) if round == place.0 => Some(known),
            Some(_) | None => {
                segment.unsynced = Some(place);
                None
            }
        }
    }
}

impl StorageInner {
    pub(crate) fn durable_waiter(self: &Rc<Self>) -> DurableWaiter {
        self.durable_waiters.set(self.durable_waiters.get() + 1);
        self.waiter_came.notify_all();
        DurableWaiter(Rc::clone(self))
    }

    /// Whether one file's sync may vouch for others of this log's device.
    pub(crate) fn file_system(&self, state: &State) -> FileSystem {
        let is_direct = state
            .segments
            .last()
            .and_then(|segment| segment.file.as_ref())
            .is_some_and(|file| file.info().direct);
        match self.options.commit {
            CommitStrategy::Shared if is_direct => FileSystem::Vouching,
            CommitStrategy::Shared | CommitStrategy::PerFile => FileSystem::Plain,
        }
    }

    /// What was written takes part in the next round, or its file is synced by itself.
    pub(crate) fn commit_later(self: &Rc<Self>, log: &Log, written: &Written, file: &Rc<File>) {
        let is_vouched = written.is_vouched && self.options.commit == CommitStrategy::Shared;
        match log.note_own_sync(written, is_vouched) {
            Way::Flush => self.flush_later(log, written, file),
            Way::OwnSync => self.sync_later(log, written.base_offset, file),
            Way::Known => {}
        }
    }

    pub(crate) fn flush_later(self: &Rc<Self>, log: &Log, written: &Written, file: &Rc<File>) {
        let mut unsynced = self.unsynced.borrow_mut();
        let place = (self.counters.rounds.get(), unsynced.len());
        let known = log.place_in_round(written.base_offset, place);
        match known.and_then(|place| unsynced.get_mut(place)) {
            Some(known) => {
                known.end = written.end;
                known.end_offset = written.end_offset;
            }
            None => unsynced.push(Unsynced {
                log: log.downgrade(),
                base_offset: written.base_offset,
                file: Rc::clone(file),
                end: written.end,
                end_offset: written.end_offset,
            }),
        }
        drop(unsynced);
        if !self.is_syncing.replace(true) {
            let storage = Rc::clone(self);
            self.runtime.spawn("group commit", TaskQueue::Foreground, async move {
                storage.flush_until_idle().await;
            });
        }
    }

    async fn flush_until_idle(self: Rc<Self>) {
        loop {
            // All that completes before the shard has nothing else to do goes together.
            self.runtime.lull(GATHERED_FOR).await;
            if !self.unsynced.borrow().is_empty() {
                self.wait_for_waiter(self.runtime.now() + SYNC_DELAY).await;
            }
            let batch = std::mem::take(&mut *self.unsynced.borrow_mut());
            if batch.is_empty() {
                self.is_syncing.set(false);
                return;
            }
            self.flush(batch).await;
        }
    }

    /// Until somebody waits for durability, at the latest until then.
    pub(crate) async fn wait_for_waiter(&self, deadline: Instant) {
        if self.durable_waiters.get() == 0 {
            let waiter = self.waiter_came.wait_until(|| self.durable_waiters.get() > 0);
            // Either end of the wait is as good.
            let _ = self.runtime.deadline(deadline, waiter).await;
        }
    }

    /// One sync a device, for all of these files on it.
    async fn flush(&self, mut batch: Vec<Unsynced>) {
        // What has come to need a sync of its own is covered by that.
        batch.retain(|written| {
            let log = written.log.upgrade().map(Log);
            log.is_some_and(|log| !log.has_own_sync(written.base_offset))
        });
        let mut targets: Vec<Rc<File>> = Vec::new();
        let mut told_by = Vec::with_capacity(batch.len());
        for written in &batch {
            let device = written.file.info().device;
            let known = targets.iter().position(|target| target.info().device == device);
            told_by.push(known.unwrap_or(targets.len()));
            if known.is_none() {
                targets.push(Rc::clone(&written.file));
            }
        }
        self.counters.count_round(batch.len(), targets.len());
        (*self.flushing.borrow_mut()).clone_from(&targets);
        let sync = |file: Rc<File>| async move { self.sync_file(&file).await };
        let syncs = targets.into_iter().map(|file| Box::pin(sync(file)) as Joined<'_, _>);
        let outcomes = join_all(syncs.collect()).await;
        self.flushing.borrow_mut().clear();
        self.flush_ended.notify_all();
        let told = || batch.iter().zip(&told_by).map(|(written, sync)| (written, outcomes[*sync]));
        for (written, outcome) in told() {
            if let (Some(log), Err(errno)) = (written.log.upgrade(), outcome) {
                Log(log).fence(FenceReason::Sync(errno));
            }
        }
        for (written, outcome) in told() {
            let Some(log) = written.log.upgrade().map(Log) else { continue };
            if outcome.is_ok() && log.fenced().is_none() {
                log.mark_durable(written.base_offset, written.end, written.end_offset);
            }
        }
    }

    /// Waits until no round syncs this file: of two syncs at the same time only one is told of an
    /// error.
    pub(crate) async fn wait_for_flush_of(&self, file: &Rc<File>) {
        let is_free = || !self.flushing.borrow().iter().any(|target| Rc::ptr_eq(target, file));
        self.flush_ended.wait_until(is_free).await;
    }

    /// Syncs a file. After a failure nobody knows what is on disk, and no later sync tells.
    pub(crate) async fn sync_file(&self, file: &File) -> Result<(), Errno> {
        let start = self.runtime.now();
        let outcome = file.sync().await;
        self.counters.sync_times.record(self.runtime.now().since(start));
        if cfg!(feature = "mutant_fdatasync_retried_after_error") && outcome.is_err() {
            return file.sync().await;
        }
        outcome
    }

    /// Makes the names in a directory durable.
    pub(crate) async fn sync_directory(&self, path: &Path) -> Result<(), Errno> {
        if cfg!(feature = "mutant_no_directory_sync") {
            return Ok(());
        }
        self.with_handle(|| self.runtime.sync_directory(path)).await
    }
}

/// One of several that are waited for together.
pub(crate) type Joined<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Does something with each of these logs, with so many at the same time; gives what came of it, in
/// their order.
pub(crate) async fn some_at_a_time<T>(
    logs: &[Log],
    count_max: usize,
    act: impl AsyncFn(Log) -> T,
) -> Vec<T> {
    let mut results = Vec::with_capacity(logs.len());
    for some in logs.chunks(count_max) {
        let running = some.iter().map(|log| Box::pin(act(log.clone())) as Joined<'_, T>);
        results.extend(join_all(running.collect()).await);
    }
    results
}

/// Waits for all of the futures; their results stand in their order.
pub(crate) async fn join_all<T>(futures: Vec<Joined<'_, T>>) -> Vec<T> {
    let mut pending: Vec<_> = futures.into_iter().map(Some).collect();
    let mut results: Vec<Option<T>> = pending.iter().map(|_| None).collect();
    poll_fn(|context| {
        let mut is_done = true;
        for (future, result) in pending.iter_mut().zip(&mut results) {
            let Some(running) = future else { continue };
            match running.as_mut().poll(context) {
                Poll::Ready(value) => {
                    *result = Some(value);
                    *future = None;
                }
                Poll::Pending => is_done = false,
            }
        }
        if is_done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    results.into_iter().map(|result| result.expect("every future has ended")).collect()
}
