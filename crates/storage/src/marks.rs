//! When the durable marks are moved: a checkpoint is asked for once something was appended, soon
//! where a log has passed its window, and by nobody where nothing happens.
//!
//! ```text
//!   mark <= durable end     what recovery reads: above the mark
//!   window                  a log with so much above its mark is due at once
//!   budget                  so are those of a shard that have passed it together
//!   interval                one with less, some time after the first append above it
//! ```
//! A shard asks with one message at most for each kind of need and round; a round is
//! [`Storage::checkpoint_due`] on every shard, the checkpoint files of the directory, and
//! [`Storage::marks_recorded`].

use std::{cell::Cell, time::Duration};

use model::Offset;
use runtime::{Instant, local::Notify};

use crate::{
    Error, Log, RecoveryPoint, Storage,
    commit::some_at_a_time,
    log::{State, Status},
    tail::position_of,
};

/// A log with so many bytes above its mark is due at once: what a restart reads in a tenth of a
/// second or two. Under full load that is a round five times a second, with half a dozen new files
/// each. At 64 MiB they took 5 % of the CPU of a produce on an ext4 without a journal, which passes
/// over inodes that were used a moment ago.
pub(crate) const WINDOW_BYTES: u64 = 128 << 20;
/// A log with so many bytes above its mark is due in any round.
const WORTH_BYTES: u64 = 1 << 20;
/// How many logs are checkpointed at the same time: behind the appends, not before them.
const CONCURRENT_MAX: usize = 4;

/// How soon a checkpoint is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum CheckpointNeed {
    /// Nothing was appended since the last one.
    #[default]
    None,
    /// Within the interval.
    Later,
    /// A log has passed its window, or the shard its budget.
    Now,
}

/// What a log knows of its mark.
pub(crate) struct Mark {
    /// Bytes appended above the recovery point.
    pub(crate) bytes_above: u64,
    /// When the recovery point was last moved.
    pub(crate) since: Instant,
    /// The recovery point that the directory's file may still name: its snapshot is kept.
    pub(crate) recorded: Offset,
}

/// A shard's part of it.
#[derive(Default)]
pub(crate) struct Needs {
    need: Cell<CheckpointNeed>,
    /// What the owner was told since the last round.
    told: Cell<CheckpointNeed>,
    /// Bytes appended to all logs since the last round began.
    appended_bytes: Cell<u64>,
    /// How many logs the last round took.
    due_count: Cell<u64>,
    changed: Notify,
}

impl Needs {
    pub(crate) fn raise(&self, need: CheckpointNeed) {
        if need > self.need.get() {
            self.need.set(need);
            self.changed.notify_all();
        }
    }

    /// A log took an append and has this need; so has the shard, once its logs together have
    /// passed `budget_bytes`.
    pub(crate) fn note_append(&self, bytes: u64, need: CheckpointNeed, budget_bytes: u64) {
        let appended = self.appended_bytes.get() + bytes;
        self.appended_bytes.set(appended);
        self.raise(if appended < budget_bytes { need } else { CheckpointNeed::Now });
    }

    pub(crate) fn due_count(&self) -> u64 {
        self.due_count.get()
    }

    fn start_round(&self) {
        self.appended_bytes.set(0);
        self.need.set(CheckpointNeed::None);
        self.told.set(CheckpointNeed::None);
    }
}

impl State {
    /// A batch was appended: how soon its log wants a checkpoint.
    pub(crate) fn need_after(&mut self, appended_bytes: u64) -> CheckpointNeed {
        self.mark.bytes_above += appended_bytes;
        self.need()
    }

    /// How soon a log that has something above its mark wants a checkpoint.
    pub(crate) fn need(&self) -> CheckpointNeed {
        if self.mark.bytes_above < WINDOW_BYTES {
            CheckpointNeed::Later
        } else {
            CheckpointNeed::Now
        }
    }

    /// What lies below `offset` is to be covered by the mark in the next round.
    pub(crate) fn mark_soon(&mut self, offset: Offset) {
        if offset > self.recovery_point {
            self.mark.bytes_above = self.mark.bytes_above.max(WORTH_BYTES);
        }
    }

    fn has_unmarked(&self) -> bool {
        self.status == Status::Open && self.end > self.recovery_point
    }

    fn is_due(&self, now: Instant, interval: Duration) -> bool {
        self.has_unmarked()
            && (self.mark.bytes_above >= WORTH_BYTES || now.since(self.mark.since) >= interval)
    }
}

impl Storage {
    /// Waits until a checkpoint is wanted sooner than was told since the last one.
    pub async fn checkpoint_wanted(&self) -> CheckpointNeed {
        let needs = &self.0.needs;
        needs.changed.wait_until(|| needs.need.get() > needs.told.get()).await;
        needs.told.set(needs.need.get());
        needs.need.get()
    }

    /// Writes a producer snapshot and indexes at the durable end of every log for which it is
    /// time, and gives the recovery points of all logs for the checkpoint files. A log that could
    /// not be checkpointed keeps its older one, and is tried again.
    pub async fn checkpoint_due(&self) -> Vec<RecoveryPoint> {
        let now = self.0.runtime.now();
        self.0.needs.start_round();
        let interval = self.0.options.mark_interval;
        let is_due = |log: &Log| log.0.state.borrow().is_due(now, interval);
        let due: Vec<Log> = self.logs().into_iter().filter(is_due).collect();
        let count = due.len();
        self.0.needs.due_count.set(position_of(count));
        let failed = checkpoint_some(due).await;
        let took = self.0.runtime.now().since(now);
        tracing::debug!(logs = count, ms = took.as_millis(), "moved the durable marks");
        for (log, error) in failed {
            tracing::warn!(topic = log.topic(), partition = log.partition().0,
                offset = log.recovery_point().0, %error, "the durable mark was not moved");
        }
        let logs = self.logs();
        if logs.iter().any(|log| log.0.state.borrow().has_unmarked()) {
            self.0.needs.raise(CheckpointNeed::Later);
        }
        logs.iter().map(Log::checkpoint_entry).collect()
    }

    /// The same for every log that has grown since the last time, whether it is time or not.
    ///
    /// # Errors
    /// The first of the operating system's; the other logs are still tried.
    pub async fn checkpoint(&self) -> Result<Vec<RecoveryPoint>, Error> {
        self.0.needs.start_round();
        match checkpoint_some(self.logs()).await.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(self.recovery_points()),
        }
    }

    /// The recovery points that the last checkpoint gave are durable in the directory's file:
    /// snapshots of older ones may go.
    pub fn marks_recorded(&self) {
        for log in self.logs() {
            let mut state = log.0.state.borrow_mut();
            state.mark.recorded = state.recovery_point;
        }
    }
}

/// Checkpoints these logs, some at a time; gives those that could not be.
async fn checkpoint_some(logs: Vec<Log>) -> Vec<(Log, Error)> {
    let checkpoint = async |log: Log| {
        let error = log.checkpoint().await.err()?;
        (!log.is_closed()).then_some((log, error))
    };
    some_at_a_time(&logs, CONCURRENT_MAX, checkpoint).await.into_iter().flatten().collect()
}
