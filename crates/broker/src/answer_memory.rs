//! The memory of fetched records on their way to clients, bounded for each shard.
//!
//! A fetch is granted what it may gather before it reads, and holds what it gathered until its
//! answer was sent or its connection is gone. No fetch waits for another's memory: where little is
//! left it is granted less, where nothing is it gets [`SCARCE_BYTES`], or its first batch where
//! that is larger, so that a client that reads what it asked for goes on, however many others
//! never do. Kafka's clients take a fetch that gives less than they asked for as it comes.
//!
//! ```text
//!   held by all answers of a shard  <=  its share + max(SCARCE_BYTES, one batch) a connection
//! ```
//! A slice keeps all of the memory that it lies in, up to 1 MiB: so it counts [`SLICE_BYTES_MIN`] at
//! least, and where half of the share is used a smaller one is copied and keeps nothing else.
//!
//! Cost: a counter read and written twice a fetch; a copy of slices that are small while clients
//! are slow.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use bytes::Bytes;

/// What the answers of all shards may hold together: some fifty consumers that are given 1 MiB at
/// a time.
const NODE_BYTES_MAX: usize = 48 << 20;
/// A shard's share of it at least, however many there are.
const SHARD_BYTES_MIN: usize = 16 << 20;
/// What one answer may hold: a consumer that asks for more gets it in several. The largest that
/// does not make the next fetch's share much smaller.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// What an answer may hold where the share is used up: enough that what a fetch costs beside its
/// bytes does not count much.
const SCARCE_BYTES: usize = 64 << 10;
/// What a slice counts at least: half of what it may keep, a chunk of a tail or a stretch that was
/// read ahead.
const SLICE_BYTES_MIN: usize = 512 << 10;

/// The answers of a shard.
#[derive(Clone)]
pub(crate) struct AnswerMemory {
    held: Rc<Cell<usize>>,
    share: usize,
}

/// What one answer was granted, given back when dropped.
pub(crate) struct Granted {
    memory: AnswerMemory,
    /// What it may gather.
    bytes: usize,
    /// What it is counted with.
    counted: usize,
}

/// What a connection's answer holds: one at a time.
#[derive(Default)]
pub(crate) struct Held(RefCell<Option<Granted>>);

impl AnswerMemory {
    /// A shard's share, of so many.
    pub(crate) fn new(shard_count: u16) -> AnswerMemory {
        let share = (NODE_BYTES_MAX / usize::from(shard_count)).max(SHARD_BYTES_MIN);
        AnswerMemory { held: Rc::default(), share }
    }

    /// True where more than half of the share is held.
    pub(crate) fn is_scarce(&self) -> bool {
        self.held.get() > self.share / 2
    }

    /// What a fetch that wants so many bytes may gather; more, where its first batch is larger.
    pub(crate) fn grant(&self, wanted: usize) -> Granted {
        let wanted = wanted.min(ANSWER_BYTES_MAX);
        // Never all that is left: the next one gets something too.
        let rest = self.share.saturating_sub(self.held.get()) / 2;
        let bytes = wanted.min(rest.max(SCARCE_BYTES));
        self.held.set(self.held.get() + bytes);
        Granted { memory: self.clone(), bytes, counted: bytes }
    }
}

impl Granted {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The answer of these is on its way: from here on it counts what it keeps. Where much is held
    /// already, small slices are copied: what they are slices of may be much more.
    pub(crate) fn gathered<'a>(&mut self, partitions: impl Iterator<Item = &'a mut Vec<Bytes>>) {
        let before = self.memory.held.get() - self.counted;
        self.counted = 0;
        for slice in partitions.flatten() {
            let is_small = slice.len() < SLICE_BYTES_MIN;
            if is_small && before + self.counted > self.memory.share / 2 {
                *slice = Bytes::copy_from_slice(slice);
                self.counted += slice.len();
            } else {
                self.counted += slice.len().max(SLICE_BYTES_MIN);
            }
        }
        self.memory.held.set(before + self.counted);
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        let held = &self.memory.held;
        held.set(held.get() - self.counted);
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
    fn what_is_granted_is_bounded_and_comes_back() {
        let memory = AnswerMemory::new(2);
        assert_eq!(memory.share, 24 << 20);
        let all: Vec<Granted> = (0..100).map(|_| memory.grant(usize::MAX)).collect();
        assert_eq!(all[0].bytes(), ANSWER_BYTES_MAX);
        assert!(all.iter().all(|one| one.bytes() >= SCARCE_BYTES));
        assert!(memory.held.get() <= memory.share + 100 * SCARCE_BYTES);
        assert_eq!(memory.grant(1000).bytes(), 1000);
        drop(all);
        assert_eq!(memory.held.get(), 0);
        assert_eq!(AnswerMemory::new(64).share, SHARD_BYTES_MIN);
    }

    #[test]
    fn an_answer_counts_what_it_keeps_until_it_was_sent() {
        let memory = AnswerMemory::new(1);
        let held = Held::default();
        let mut granted = memory.grant(1 << 20);
        let large = Bytes::from(vec![7; 1 << 20]);
        let mut slices = [vec![large.slice(..10), large.slice(..600_000)], Vec::new()];
        granted.gathered(slices.iter_mut());
        assert_eq!(slices[0][0].as_ptr(), large.as_ptr(), "no copy");
        held.hold(granted);
        assert_eq!(memory.held.get(), SLICE_BYTES_MIN + 600_000);
        held.release();
        assert_eq!(memory.held.get(), 0);
    }

    #[test]
    fn where_memory_is_scarce_an_answer_keeps_nothing_but_its_bytes() {
        let memory = AnswerMemory::new(1);
        let mut first = memory.grant(1);
        let large = Bytes::from(vec![7; memory.share]);
        // As a first batch may be.
        first.gathered([vec![large.clone()]].iter_mut());
        let mut granted = memory.grant(usize::MAX);
        assert_eq!(granted.bytes(), SCARCE_BYTES);
        let mut slices = [vec![large.slice(..10), large.slice(20..50)]];
        granted.gathered(slices.iter_mut());
        assert_eq!(slices[0].concat(), [7; 40]);
        assert!(slices[0].iter().all(Bytes::is_unique), "copies");
        assert_eq!(memory.held.get(), memory.share + 40);
    }
}
