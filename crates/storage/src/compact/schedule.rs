//! When a shard compacts: one log at a time, the dirtiest first, in the background's share of the
//! shard.
//!
//! A log is looked at when one of its segments was finished, when its settings changed and when it
//! was opened. The task lives while there is something to do or a time to wait for; an idle shard
//! has none.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    time::Duration,
};

use runtime::{TaskQueue, local::Notify};

use super::plan::Assessment;
use crate::{Log, log::LogInner, storage::StorageInner};

/// How long a log is left alone after a round that failed: Kafka's `log.cleaner.backoff.ms`.
const FAILED_RETRY_MS: i64 = 15_000;
/// The longest sleep: a wall clock that jumps is noticed after that.
const SLEEP_MAX: Duration = Duration::from_secs(3600);

/// The compaction of a shard.
#[derive(Default)]
pub(crate) struct Cleaner {
    /// The logs to look at.
    listed: RefCell<Vec<Weak<LogInner>>>,
    is_running: Cell<bool>,
    changed: Notify,
}

impl Log {
    /// There may be something to compact.
    pub(crate) fn ask_for_compaction(&self) {
        {
            let mut state = self.0.state.borrow_mut();
            if !state.config.cleanup_policy.compact || state.segments.len() < 2 {
                return;
            }
            if !std::mem::replace(&mut state.compaction.is_listed, true) {
                self.0.storage.cleaner.listed.borrow_mut().push(self.downgrade());
            }
        }
        let storage = &self.0.storage;
        storage.cleaner.changed.notify_all();
        if !storage.cleaner.is_running.replace(true) {
            let storage = Rc::clone(storage);
            self.runtime().spawn("log cleaner", TaskQueue::Background, async move {
                storage.clean_until_idle().await;
            });
        }
    }
}

impl StorageInner {
    async fn clean_until_idle(self: Rc<Self>) {
        loop {
            let mut changed = self.cleaner.changed.listen();
            let (dirtiest, again_ms) = self.look().await;
            if let Some(log) = dirtiest {
                clean(&log).await;
                continue;
            }
            if self.cleaner.listed.borrow().is_empty() {
                self.cleaner.is_running.set(false);
                return;
            }
            let now_ms = self.runtime.wall_clock_ms();
            let wait_ms = u64::try_from(again_ms.saturating_sub(now_ms)).unwrap_or(0).max(1);
            let wait = Duration::from_millis(wait_ms).min(SLEEP_MAX);
            let change = std::future::poll_fn(|context| changed.poll(context.waker()));
            // Either end of the wait is as good.
            let _ = self.runtime.deadline(self.runtime.now() + wait, change).await;
        }
    }

    /// Looks at every listed log: the one to be cleaned first, and when to look again. Those that
    /// nothing is to be expected of are no longer listed.
    async fn look(&self) -> (Option<Log>, i64) {
        let listed = std::mem::take(&mut *self.cleaner.listed.borrow_mut());
        let mut dirtiest: Option<(f64, Log)> = None;
        let mut again_ms = i64::MAX;
        for weak in listed {
            let Some(log) = weak.upgrade().map(Log) else { continue };
            // What is asked for from now on lists it anew.
            log.0.state.borrow_mut().compaction.is_listed = false;
            match log.assess().await {
                Assessment::Idle => continue,
                Assessment::Later(at_ms) => again_ms = again_ms.min(at_ms),
                Assessment::Due(ratio) => {
                    again_ms = i64::MIN;
                    if dirtiest.as_ref().is_none_or(|(most, _)| ratio > *most) {
                        dirtiest = Some((ratio, log.clone()));
                    }
                }
            }
            let mut state = log.0.state.borrow_mut();
            if !std::mem::replace(&mut state.compaction.is_listed, true) {
                self.cleaner.listed.borrow_mut().push(weak);
            }
        }
        (dirtiest.map(|(_, log)| log), again_ms)
    }
}

async fn clean(log: &Log) {
    let outcome = log.compact().await;
    let retry_at_ms = log.runtime().wall_clock_ms().saturating_add(FAILED_RETRY_MS);
    match outcome {
        Ok(Some(_)) => {}
        // It was due, and is not to be asked for again and again.
        Ok(None) => log.0.state.borrow_mut().compaction.retry_at_ms = retry_at_ms,
        Err(error) => {
            log.0.state.borrow_mut().compaction.retry_at_ms = retry_at_ms;
            tracing::warn!(topic = log.topic(), partition = log.partition().0, %error,
                "not compacted: the log is as it was");
        }
    }
}
