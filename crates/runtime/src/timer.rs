//! Instants and the shard's timers.

use std::{
    collections::BTreeMap,
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
    set: BTreeMap<TimerKey, Waker>,
    next_sequence: u64,
}

/// Names a timer that was set: its deadline, and its number among those of one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerKey(Instant, u64);

impl Timers {
    /// Wakes `waker` once `deadline` has come.
    pub(crate) fn set(&mut self, deadline: Instant, waker: Waker) -> TimerKey {
        self.next_sequence += 1;
        let key = TimerKey(deadline, self.next_sequence);
        self.set.insert(key, waker);
        key
    }

    /// Wakes another one instead. A timer that has fired is not set again.
    pub(crate) fn update(&mut self, key: TimerKey, waker: &Waker) {
        if let Some(place) = self.set.get_mut(&key) {
            place.clone_from(waker);
        }
    }

    /// Forgets a timer, which may have fired.
    pub(crate) fn cancel(&mut self, key: TimerKey) {
        self.set.remove(&key);
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.set.keys().next().map(|key| key.0)
    }

    /// Wakes what is due at `now`.
    pub(crate) fn fire(&mut self, now: Instant) {
        while let Some(entry) = self.set.first_entry()
            && entry.key().0 <= now
        {
            entry.remove().wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        task::Wake,
    };

    use super::*;

    struct Noted(u32, Arc<Mutex<Vec<u32>>>);

    impl Wake for Noted {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    #[test]
    fn timers_fire_in_order_and_the_cancelled_not_at_all() {
        let woken = Arc::new(Mutex::new(Vec::new()));
        let waker = |name| Waker::from(Arc::new(Noted(name, Arc::clone(&woken))));
        let mut timers = Timers::default();
        let keys: Vec<TimerKey> = [(1, 30), (2, 10), (3, 30), (4, 20), (5, 40)]
            .map(|(name, deadline)| timers.set(Instant(deadline), waker(name)))
            .to_vec();
        timers.cancel(keys[1]);
        timers.update(keys[3], &waker(44));
        assert_eq!(timers.next(), Some(Instant(20)));
        timers.fire(Instant(30));
        assert_eq!(*woken.lock().unwrap(), [44, 1, 3]);
        timers.cancel(keys[0]);
        assert_eq!(timers.next(), Some(Instant(40)));
    }
}
