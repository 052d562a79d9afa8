//! Syncs of files one by one: of those whose writes need more than the device's flush, since their
//! space was only allocated, or since nothing may vouch for another file here. Some of a shard run
//! at the same time, beside the group commit's rounds.
//!
//! ```text
//!   write completes -> waits in line -> fdatasync of the file -> durable
//!                        ^ later writes of the file join it, those that a flush would do for too:
//!                          no write is told durable before the one in front of it
//! ```
//! At most one sync of a file is in flight, the rounds' included: a failure is told once, and has
//! to be told to the one that stands for the write.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
};

use model::Offset;
use runtime::{File, Instant, TaskQueue};

use crate::{FenceReason, Log, commit::SYNC_DELAY, storage::StorageInner, write::Written};

/// How many files are synced by themselves at the same time. Each takes a worker of the driver,
/// which has eight and more; the rounds and the zeroing ahead need some too.
const OWN_SYNCS_MAX: usize = 4;

/// A segment's writes that wait for a sync of the file's own.
pub(crate) struct OwnSync {
    end: u64,
    end_offset: Offset,
    newer: Newer,
}

/// What was written since the sync in flight began.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Newer {
    Nothing,
    /// What the device's flush does for.
    Vouched,
    Unvouched,
}

/// How a write becomes durable.
pub(crate) enum Way {
    /// By the next round.
    Flush,
    /// By a sync of the file, which has to be asked for.
    OwnSync,
    /// By one that is coming anyway.
    Known,
}

/// A file that waits for its sync.
struct Waiting {
    log: Log,
    base_offset: Offset,
    file: Rc<File>,
    /// When its sync begins at the latest, if there is a worker.
    deadline: Instant,
}

/// The files of a shard that wait in line.
#[derive(Default)]
pub(crate) struct OwnSyncs {
    waiting: RefCell<VecDeque<Waiting>>,
    running_count: Cell<usize>,
}

impl Log {
    /// Says how a completed write becomes durable, and notes it where that is by a sync of the
    /// file's own.
    pub(crate) fn note_own_sync(&self, written: &Written, is_vouched: bool) -> Way {
        let mut state = self.0.state.borrow_mut();
        let segment =
            state.segment_mut(written.base_offset).expect("a segment is not dropped under a write");
        let (end, end_offset) = (written.end, written.end_offset);
        match &mut segment.own_sync {
            Some(own) => {
                let is_known_unvouched = own.newer == Newer::Unvouched;
                let newer = if is_vouched && !is_known_unvouched {
                    Newer::Vouched
                } else {
                    Newer::Unvouched
                };
                **own = OwnSync { end, end_offset, newer };
                Way::Known
            }
            None if is_vouched => Way::Flush,
            None => {
                let own = OwnSync { end, end_offset, newer: Newer::Unvouched };
                segment.own_sync = Some(Box::new(own));
                Way::OwnSync
            }
        }
    }

    /// True if the segment waits for a sync of its own.
    pub(crate) fn has_own_sync(&self, base_offset: Offset) -> bool {
        let state = self.0.state.borrow();
        state.segment(base_offset).is_some_and(|segment| segment.own_sync.is_some())
    }

    /// A sync begins: what it covers.
    fn begin_own_sync(&self, base_offset: Offset) -> Option<(u64, Offset)> {
        let mut state = self.0.state.borrow_mut();
        let own = state.segment_mut(base_offset)?.own_sync.as_mut()?;
        own.newer = Newer::Nothing;
        Some((own.end, own.end_offset))
    }

    /// A sync has ended well: what has been written since then, if something was.
    fn end_own_sync(&self, base_offset: Offset) -> Option<Written> {
        let mut state = self.0.state.borrow_mut();
        let segment = state.segment_mut(base_offset)?;
        let own = segment.own_sync.as_ref()?;
        let written = Written {
            base_offset,
            end: own.end,
            end_offset: own.end_offset,
            is_vouched: own.newer == Newer::Vouched,
        };
        let newer = own.newer;
        if newer != Newer::Unvouched {
            segment.own_sync = None;
        }
        (newer != Newer::Nothing).then_some(written)
    }
}

impl StorageInner {
    /// Puts a file in line, whose segment has been given its [`OwnSync`].
    pub(crate) fn sync_later(self: &Rc<Self>, log: &Log, base_offset: Offset, file: &Rc<File>) {
        let (log, file) = (log.clone(), Rc::clone(file));
        // What was held back before has waited enough.
        let delay = SYNC_DELAY.min(log.0.state.borrow().sync_delay());
        let deadline = self.runtime.now() + delay;
        self.own_syncs.waiting.borrow_mut().push_back(Waiting { log, base_offset, file, deadline });
        let running = &self.own_syncs.running_count;
        if running.get() < OWN_SYNCS_MAX {
            running.set(running.get() + 1);
            let storage = Rc::clone(self);
            self.runtime.spawn("file sync", TaskQueue::Foreground, async move {
                storage.sync_those_in_line().await;
                storage.own_syncs.running_count.set(storage.own_syncs.running_count.get() - 1);
            });
        }
    }

    async fn sync_those_in_line(self: &Rc<Self>) {
        loop {
            // Writes that complete in this turn still join.
            self.runtime.end_of_turn().await;
            let Some(first) = self.own_syncs.waiting.borrow_mut().pop_front() else { return };
            self.wait_for_waiter(first.deadline).await;
            self.wait_for_flush_of(&first.file).await;
            self.sync_alone(&first).await;
        }
    }

    async fn sync_alone(self: &Rc<Self>, waiting: &Waiting) {
        let Waiting { log, base_offset, file, .. } = waiting;
        let Some((end, end_offset)) = log.begin_own_sync(*base_offset) else { return };
        let outcome = self.sync_file(file).await;
        self.counters.count_own_sync();
        match outcome {
            Err(errno) => {
                log.fence(FenceReason::Sync(errno));
                return;
            }
            Ok(()) if log.fenced().is_none() => log.mark_durable(*base_offset, end, end_offset),
            Ok(()) => return,
        }
        match log.end_own_sync(*base_offset) {
            Some(written) if written.is_vouched => self.flush_later(log, &written, file),
            Some(_) => self.sync_later(log, *base_offset, file),
            None => {}
        }
    }
}
