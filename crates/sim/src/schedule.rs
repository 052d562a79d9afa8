//! What will happen when: one queue for the whole world.

use std::{cmp::Reverse, collections::BinaryHeap};

use runtime::{Errno, Message, Output, ShardIndex};

use crate::{disk::ReplyTo, net::Arrival, world::ShardKey};

/// Something that happens at a time.
pub(crate) enum Due {
    /// An operation's result reaches its shard.
    Reply { to: ReplyTo, result: Result<Output, Errno> },
    /// An operation of a disk ends.
    Disk { node: u16, operation: u64 },
    /// A connection attempt reaches its address.
    Knock { from: ReplyTo, address: std::net::SocketAddr },
    /// Something reaches a socket.
    Arrive { socket: u32, arrival: Arrival },
    /// A message reaches another shard of its process.
    Mesh { from: ShardIndex, to: ShardKey, message: Message },
    /// The moment that the trigger of this number was waiting for.
    Trigger(u64),
}

struct Entry {
    at: u64,
    order: u64,
    due: Due,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.order == other.order
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Entry) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

/// Virtual time and what is to come.
#[derive(Default)]
pub(crate) struct Schedule {
    pub(crate) now: u64,
    queue: BinaryHeap<Reverse<Entry>>,
    next_order: u64,
}

impl Schedule {
    /// Plans something for `at`; what is planned for one time happens in the order of planning.
    pub(crate) fn at(&mut self, at: u64, due: Due) {
        self.next_order += 1;
        self.queue.push(Reverse(Entry { at, order: self.next_order, due }));
    }

    /// When the next thing happens.
    pub(crate) fn next(&self) -> Option<u64> {
        self.queue.peek().map(|entry| entry.0.at)
    }

    /// Takes the next thing and moves the time to it.
    pub(crate) fn pop(&mut self) -> Option<Due> {
        let Reverse(entry) = self.queue.pop()?;
        self.now = self.now.max(entry.at);
        Some(entry.due)
    }
}
