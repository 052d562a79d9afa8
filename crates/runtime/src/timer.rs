//! Instants and the shard's timers.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fmt,
    ops::{Add, Sub},
    task::Waker,
    time::Duration,
};

/// A point of the driver's monotonic clock, in nanoseconds since a start of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

impl Instant {
    /// How long ago `earlier` was; zero if it is later.
    #[must_use]
    pub fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;
    /// Saturates: a deadline beyond 584 years never comes.
    fn add(self, duration: Duration) -> Instant {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Instant(self.0.saturating_add(nanos))
    }
}

impl Sub for Instant {
    type Output = Duration;
    fn sub(self, earlier: Instant) -> Duration {
        self.since(earlier)
    }
}

/// The deadline came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the deadline has passed")
    }
}

impl std::error::Error for Elapsed {}

/// Wakers by deadline; those of one instant fire in the order in which they were set.
#[derive(Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<Entry>>,
    next_sequence: u64,
}

struct Entry {
    deadline: Instant,
    sequence: u64,
    waker: Waker,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.sequence == other.sequence
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
        (self.deadline, self.sequence).cmp(&(other.deadline, other.sequence))
    }
}

impl Timers {
    /// Wakes `waker` once `deadline` has come. A timer whose task is gone wakes nobody.
    pub(crate) fn set(&mut self, deadline: Instant, waker: Waker) {
        self.next_sequence += 1;
        self.heap.push(Reverse(Entry { deadline, sequence: self.next_sequence, waker }));
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|entry| entry.0.deadline)
    }

    /// Wakes what is due at `now`.
    pub(crate) fn fire(&mut self, now: Instant) {
        while let Some(Reverse(entry)) = self.heap.peek() {
            if entry.deadline > now {
                return;
            }
            let Some(Reverse(entry)) = self.heap.pop() else { return };
            entry.waker.wake();
        }
    }
}
