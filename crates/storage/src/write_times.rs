//! When the last writes and syncs of a log completed, so that whoever waited can tell for what, also
//! if it looks later.
//!
//! Cost: a clock reading and 16 bytes a write and a sync.

use std::collections::VecDeque;

use model::Offset;
use runtime::Instant;

use crate::Log;

/// So many of each are remembered: about as many writes as complete beside one fdatasync. Of what
/// was forgotten the time of the next one is told.
const TIMES_MAX: usize = 8;

/// The last times, in order, each with the offset that was reached.
#[derive(Default)]
pub(crate) struct Times(VecDeque<(Offset, Instant)>);

impl Times {
    pub(crate) fn note(&mut self, end: Offset, now: Instant) {
        if self.0.len() == TIMES_MAX {
            self.0.pop_front();
        }
        self.0.push_back((end, now));
    }

    fn of(&self, end: Offset) -> Option<Instant> {
        let at = self.0.partition_point(|time| time.0 < end);
        self.0.get(at).map(|time| time.1)
    }
}

impl Log {
    /// When everything below `end` was written; `None` where it is not yet. Of what was long ago a
    /// later time may be told.
    #[must_use]
    pub fn written_at(&self, end: Offset) -> Option<Instant> {
        self.0.state.borrow().write_times.of(end)
    }

    /// When it was durable; the same holds.
    #[must_use]
    pub fn durable_at(&self, end: Offset) -> Option<Instant> {
        self.0.state.borrow().sync_times.of(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_time_that_reached_an_offset_is_told() {
        let mut times = Times::default();
        assert_eq!(times.of(Offset(1)), None);
        for (end, now) in [(5, 10), (7, 20), (7, 25), (9, 30)] {
            times.note(Offset(end), Instant(now));
        }
        for (end, told) in
            [(4, Some(10)), (5, Some(10)), (6, Some(20)), (7, Some(20)), (9, Some(30)), (10, None)]
        {
            assert_eq!(times.of(Offset(end)), told.map(Instant), "{end}");
        }
        for end in 10..=1000 {
            times.note(Offset(end), Instant(u64::try_from(end).unwrap()));
        }
        assert_eq!(times.0.len(), TIMES_MAX);
        assert_eq!(times.of(Offset(1)), Some(Instant(993)), "the oldest that is known");
        assert_eq!(times.of(Offset(1000)), Some(Instant(1000)));
    }
}
