//! When records are due. A record's latency counts from when it was due and not from when it was
//! sent, so that a stall is told for all records that it kept waiting ("coordinated omission",
//! Tene, "How NOT to Measure Latency").

use std::time::Duration;

use runtime::Instant;

/// One producer's share of the rate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    start: Instant,
    interval_ns: f64,
}

impl Schedule {
    /// Producer `number` of `count`, which together make `rate` records a second in turn.
    pub(super) fn new(start: Instant, rate: f64, number: u32, count: u32) -> Schedule {
        assert!(rate > 0.0, "a rate is positive");
        assert!(number < count, "producer {number} of {count}");
        let interval_ns = 1e9 / rate;
        let phase = Duration::from_secs_f64(interval_ns * f64::from(number) / 1e9);
        Schedule { start: start + phase, interval_ns: interval_ns * f64::from(count) }
    }

    /// How many are due.
    pub(super) fn due(&self, now: Instant) -> u64 {
        if now < self.start {
            return 0;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a positive count far below 2^52"
        )]
        let due = (now.since(self.start).as_nanos() as f64 / self.interval_ns) as u64;
        due + 1
    }

    /// When record `index`, counted from 0, is due.
    pub(super) fn due_at(&self, index: u64) -> Instant {
        #[expect(clippy::cast_precision_loss, reason = "a count far below 2^52")]
        let offset = Duration::from_secs_f64(index as f64 * self.interval_ns / 1e9);
        self.start + offset
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn producers_take_turns_at_the_rate() {
        let start = Instant(1_000_000);
        let all: Vec<_> = (0..4).map(|number| Schedule::new(start, 1000.0, number, 4)).collect();
        for millisecond in 0..100_u64 {
            let now = start + Duration::from_millis(millisecond) + Duration::from_micros(1);
            let due: u64 = all.iter().map(|schedule| schedule.due(now)).sum();
            assert_eq!(due, millisecond + 1);
        }
    }

    #[test]
    fn what_is_due_at_a_time_is_due_then() {
        for rate in [0.5, 3.0, 1000.0, 123_456.7, 5e6] {
            let schedule = Schedule::new(Instant(77), rate, 1, 3);
            for index in [0, 1, 2, 1000, 999_999] {
                let due_at = schedule.due_at(index);
                let after = schedule.due(due_at + Duration::from_nanos(2));
                assert!(after > index, "{rate} {index}: {after}");
                assert!(after <= index + 2, "{rate} {index}: {after}");
            }
            assert_eq!(schedule.due(Instant(0)), 0);
        }
    }
}
