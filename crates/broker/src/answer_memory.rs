//! The memory of fetched records on their way to clients, bounded for each shard.
//!
//! A fetch is granted what it may gather before it reads, and holds that until its answer was sent
//! or its connection is gone. Where little is left, fetches are granted less; where nothing is,
//! a fetch still gets its first batch, so that a client that reads what it asked for goes on,
//! however many others never do. Kafka's clients take a fetch that gives less than they asked for
//! as it comes.
//!
//! ```text
//!   granted to all fetches of a shard  <=  SHARD_BYTES_MAX + one batch a connection
//! ```

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

/// What the answers of a shard may hold: some hundred consumers that are given 1 MiB at a time.
const SHARD_BYTES_MAX: usize = 48 << 20;
/// What one answer may hold: a consumer that asks for more gets it in several.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// The answers of a shard.
#[derive(Clone, Default)]
pub(crate) struct AnswerMemory(Rc<Cell<usize>>);

/// What one answer was granted, given back when dropped.
pub(crate) struct Granted {
    memory: AnswerMemory,
    bytes: Cell<usize>,
}

/// What a connection's answer holds: one at a time.
#[derive(Default)]
pub(crate) struct Held(RefCell<Option<Granted>>);

impl AnswerMemory {
    /// What a fetch that wants so many bytes may gather, beside its first batch.
    pub(crate) fn grant(&self, wanted: usize) -> Granted {
        let rest = SHARD_BYTES_MAX.saturating_sub(self.0.get());
        // Never all that is left: the next one gets something too.
        let bytes = wanted.min(ANSWER_BYTES_MAX).min(rest / 2);
        self.0.set(self.0.get() + bytes);
        Granted { memory: self.clone(), bytes: Cell::new(bytes) }
    }

    /// What is granted now.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.0.get()
    }
}

impl Granted {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    /// So much was gathered; a first batch may be more than was granted.
    pub(crate) fn gathered(&self, bytes: usize) {
        let total = &self.memory.0;
        total.set(total.get() - self.bytes.replace(bytes) + bytes);
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        let total = &self.memory.0;
        total.set(total.get() - self.bytes.get());
    }
}

impl Held {
    /// An answer is on its way.
    pub(crate) fn hold(&self, granted: Granted) {
        *self.0.borrow_mut() = Some(granted);
    }

    /// It was sent, or will not be.
    pub(crate) fn release(&self) {
        drop(self.0.borrow_mut().take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_granted_stays_below_the_bound_and_comes_back() {
        let memory = AnswerMemory::default();
        let all: Vec<Granted> = (0..100).map(|_| memory.grant(usize::MAX)).collect();
        assert_eq!(all[0].bytes(), ANSWER_BYTES_MAX);
        assert!(all[50].bytes() < 1024, "{}", all[50].bytes());
        assert!(memory.bytes() <= SHARD_BYTES_MAX);
        all[99].gathered(1 << 20);
        assert!(memory.bytes() <= SHARD_BYTES_MAX + (1 << 20));
        drop(all);
        assert_eq!(memory.bytes(), 0);
        let some = memory.grant(1000);
        assert_eq!(some.bytes(), 1000);
        let held = Held::default();
        held.hold(some);
        assert_eq!(memory.bytes(), 1000);
        held.release();
        assert_eq!(memory.bytes(), 0);
    }
}
