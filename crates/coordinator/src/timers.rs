//! Deadlines as data: what is due next, and at what time.

use std::rc::Rc;

use model::collections::{BTreeMap, BTreeSet};

/// What happens at a deadline.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// A member was not heard of for its session timeout.
    Session(Rc<str>, Rc<str>),
    /// The time to join is over.
    Join(Rc<str>),
    /// The time to sync is over.
    Sync(Rc<str>),
    /// A member of a consumer group was to give partitions up by now.
    Rebalance(Rc<str>, Rc<str>),
    /// A classic member of a consumer group was to join again by now.
    ConsumerJoin(Rc<str>, Rc<str>),
    /// A classic member of a consumer group was to ask for its assignment by now.
    ConsumerSync(Rc<str>, Rc<str>),
    /// Old offsets are to be looked for.
    Retention,
}

/// The deadlines of one coordinator, at most one for each timer.
#[derive(Debug, Default)]
pub struct Timers {
    deadlines: BTreeMap<Timer, u64>,
    queue: BTreeSet<(u64, Timer)>,
}

impl Timers {
    /// Sets a timer, anew if it was set.
    pub fn set(&mut self, timer: Timer, deadline_ms: u64) {
        self.cancel(&timer);
        self.queue.insert((deadline_ms, timer.clone()));
        self.deadlines.insert(timer, deadline_ms);
    }

    /// Takes a timer back, if it was set.
    pub fn cancel(&mut self, timer: &Timer) {
        if let Some((timer, deadline_ms)) = self.deadlines.remove_entry(timer) {
            self.queue.remove(&(deadline_ms, timer));
        }
    }

    /// Sets a timer that is not set yet.
    pub fn set_if_absent(&mut self, timer: Timer, deadline_ms: u64) {
        if !self.is_set(&timer) {
            self.set(timer, deadline_ms);
        }
    }

    /// Whether a timer is set.
    pub fn is_set(&self, timer: &Timer) -> bool {
        self.deadlines.contains_key(timer)
    }

    /// The earliest deadline.
    #[must_use]
    pub fn next_deadline(&self) -> Option<u64> {
        self.queue.first().map(|(deadline_ms, _)| *deadline_ms)
    }

    /// Takes the earliest timer that is due.
    pub fn pop_due(&mut self, now_ms: u64) -> Option<Timer> {
        if self.next_deadline()? > now_ms {
            return None;
        }
        let (_, timer) = self.queue.pop_first()?;
        self.deadlines.remove(&timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_are_due_in_order_and_once() {
        let mut timers = Timers::default();
        let join = Timer::Join("g".into());
        let sync = Timer::Sync("g".into());
        timers.set(join.clone(), 5);
        timers.set(sync.clone(), 3);
        timers.set(join.clone(), 7);
        timers.set(Timer::Retention, 1);
        timers.cancel(&Timer::Retention);
        assert_eq!(timers.next_deadline(), Some(3));
        assert_eq!(timers.pop_due(2), None);
        assert_eq!(timers.pop_due(9), Some(sync));
        assert_eq!(timers.pop_due(9), Some(join));
        assert_eq!((timers.pop_due(9), timers.next_deadline()), (None, None));
    }
}
