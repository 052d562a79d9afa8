//! With `durability=replicated` nobody waits for a sync: what is written is held back from the
//! group commit for a while, so that one sync stands for more.
//!
//! It goes on when [`HELD_BYTES_MAX`] of the segment are not synced, when `flush.ms` (by default
//! [`HELD_FOR`]) has passed since the first of it, when `flush.messages` records are not synced,
//! when somebody waits for durability after all (a stop, a round of marks), or when the log goes on
//! in another segment.

use std::{rc::Rc, time::Duration};

use model::{Offset, topic_config::Durability};
use runtime::{File, TaskQueue};
use smallvec::SmallVec;

use crate::{Log, commit::SYNC_DELAY, log::State, storage::StorageInner, write::Written};

/// How long what was written may be lost by a power cut, where no setting says it.
const HELD_FOR: Duration = Duration::from_millis(100);
/// How much of it.
const HELD_BYTES_MAX: u64 = 256 << 10;

/// The writes of one segment that the group commit does not know of yet.
pub(crate) struct HeldBack {
    written: Written,
    file: Rc<File>,
}

/// What was held back, and may be no longer.
pub(crate) type LetGo = SmallVec<[(Written, Rc<File>); 2]>;

/// Counts as somebody who waits for this log's durability while it lives.
pub(crate) struct Awaiting(Log);

impl Drop for Awaiting {
    fn drop(&mut self) {
        self.0.0.state.borrow_mut().durable_waiters -= 1;
    }
}

impl State {
    /// How long a write may wait for its sync where nobody asks for one.
    pub(crate) fn sync_delay(&self) -> Duration {
        let set = u64::try_from(self.config.flush_ms).unwrap_or(0);
        let is_set = self.config.flush_ms != i64::MAX;
        match self.config.durability {
            Durability::Sync => SYNC_DELAY.min(Duration::from_millis(set)),
            Durability::Replicated if is_set => Duration::from_millis(set),
            Durability::Replicated => HELD_FOR,
        }
    }

    /// True where `flush.messages` records and more are not synced.
    pub(crate) fn must_flush(&self) -> bool {
        self.end.0 - self.durable_end.0 >= self.config.flush_messages
    }

    fn may_hold_back(&self, written: &Written) -> bool {
        let durable = self.segment(written.base_offset).map_or(0, |segment| segment.durable);
        self.config.durability == Durability::Replicated
            && self.durable_waiters == 0
            && written.end.saturating_sub(durable) < HELD_BYTES_MAX
            && !self.must_flush()
    }

    /// Adds a write to what is held back; gives what is to go on, in its order.
    fn hold_back(&mut self, written: Written, file: &Rc<File>) -> LetGo {
        let mut let_go = LetGo::new();
        let mut next = HeldBack { written, file: Rc::clone(file) };
        if let Some(held) = self.held_back.take() {
            if held.written.base_offset == next.written.base_offset {
                next.written.is_vouched &= held.written.is_vouched;
            } else {
                let_go.push((held.written, held.file));
            }
        }
        if self.may_hold_back(&next.written) {
            self.held_back = Some(next);
        } else {
            let_go.push((next.written, next.file));
        }
        let_go
    }
}

impl Log {
    /// Somebody waits for the log's durability: nothing is held back meanwhile.
    pub(crate) fn awaiting(&self) -> Awaiting {
        self.0.state.borrow_mut().durable_waiters += 1;
        self.hand_over();
        Awaiting(self.clone())
    }

    /// Gives what is held back to the group commit.
    pub(crate) fn hand_over(&self) {
        let held = self.0.state.borrow_mut().held_back.take();
        if let Some(held) = held {
            self.0.storage.commit_later(self, &held.written, &held.file);
        }
    }

    /// Lets what is held back go on after the time that it may be.
    fn hand_over_in_time(&self) {
        let delay = {
            let mut state = self.0.state.borrow_mut();
            if state.held_back.is_none() || std::mem::replace(&mut state.is_timed, true) {
                return;
            }
            state.sync_delay()
        };
        // A log that nobody holds has nothing to hand over.
        let (log, runtime) = (self.downgrade(), self.runtime().clone());
        self.runtime().spawn("held back", TaskQueue::Foreground, async move {
            runtime.sleep(delay).await;
            if let Some(log) = log.upgrade().map(Log) {
                log.0.state.borrow_mut().is_timed = false;
                log.hand_over();
            }
        });
    }
}

impl StorageInner {
    /// A write completed: it is to become durable, at once or in a while.
    pub(crate) fn note_written(self: &Rc<Self>, log: &Log, written: Written, file: &Rc<File>) {
        let let_go = log.0.state.borrow_mut().hold_back(written, file);
        for (written, file) in let_go {
            self.commit_later(log, &written, &file);
        }
        log.hand_over_in_time();
    }
}

impl Log {
    /// Up to where `acks=all` is answered: what is on disk, or with `durability=replicated` what is
    /// written.
    #[must_use]
    pub fn acknowledged_end(&self) -> Offset {
        self.0.state.borrow().acknowledged_end()
    }
}
