//! Appends of one partition that wait because too much waits for its disk already. They are made in
//! the order in which they came, and a later one is not made before them: what a producer has
//! pipelined stays in order.
//!
//! A connection whose produce waits here is read on up to its own limit of requests in flight, and
//! not further; so a slow disk slows producers down instead of refusing them. What waits is in
//! memory as the frames that were received, and bounded by [`WAITING_BYTES_MAX`].

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
};

use runtime::TaskQueue;

use crate::shard::{Partition, Shard};

/// What the appends that wait on a shard may hold, all partitions together; beyond it they are
/// refused, and clients try again. As much as one log may have waiting for the disk.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// It was made, or refused for good, or nobody wants it any more.
    Over,
    /// There is no room yet.
    Busy,
}

struct Waiting {
    bytes: usize,
    attempt: Box<dyn FnMut() -> Attempt>,
}

/// The appends of one partition that wait.
#[derive(Default)]
pub(crate) struct Backlog {
    waiting: RefCell<VecDeque<Waiting>>,
    /// While one is being made, it is in neither place.
    is_draining: Cell<bool>,
}

impl Backlog {
    /// True where an append may be made at once.
    pub(crate) fn is_empty(&self) -> bool {
        !self.is_draining.get()
    }
}

/// The memory of all that wait on a shard.
#[derive(Default)]
pub(crate) struct WaitingBytes(Cell<usize>);

impl Partition {
    /// Has an append of so many bytes made when there is room for it, behind those that wait
    /// already. False if too much waits: it is not made.
    pub(crate) fn append_later(
        self: &Rc<Self>,
        shard: &Rc<Shard>,
        bytes: usize,
        attempt: impl FnMut() -> Attempt + 'static,
    ) -> bool {
        let total = &shard.waiting_bytes.0;
        if total.get() + bytes > WAITING_BYTES_MAX {
            return false;
        }
        total.set(total.get() + bytes);
        let attempt = Box::new(attempt);
        self.backlog.waiting.borrow_mut().push_back(Waiting { bytes, attempt });
        if !self.backlog.is_draining.replace(true) {
            let (partition, shard) = (Rc::clone(self), Rc::clone(shard));
            shard.runtime.clone().spawn("backlog", TaskQueue::Foreground, async move {
                partition.drain_backlog(&shard).await;
            });
        }
        true
    }

    async fn drain_backlog(&self, shard: &Shard) {
        loop {
            let next = self.backlog.waiting.borrow_mut().pop_front();
            let Some(mut next) = next else {
                self.backlog.is_draining.set(false);
                return;
            };
            while (next.attempt)() == Attempt::Busy {
                self.log.wait_for_room(next.bytes).await;
            }
            let total = &shard.waiting_bytes.0;
            total.set(total.get() - next.bytes);
        }
    }
}
