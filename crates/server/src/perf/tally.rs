//! What is counted: by each thread for itself, by the second, and then added up.

use std::{collections::BTreeMap, time::Duration};

use hdrhistogram::Histogram;

/// Three digits of each latency are kept.
const DIGITS: u8 = 3;
/// Different errors that are told apart; the rest is counted as one more.
const ERRORS_MAX: usize = 20;

/// Latencies in microseconds, from 1 to what comes.
#[derive(Clone, Debug)]
pub(super) struct Latencies(Histogram<u64>);

/// What happened in some time.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    pub(super) produced: Volume,
    pub(super) consumed: Volume,
    /// From when a record was due to its acknowledgement.
    pub(super) acknowledged: Latencies,
    /// From when a record was due until a consumer has it.
    pub(super) end_to_end: Latencies,
    /// Records that were not written, and fetches that failed, by what was said.
    pub(super) errors: BTreeMap<String, u64>,
}

/// Records, and the bytes of their values (produced) or batches (consumed).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Volume {
    pub(super) records: u64,
    pub(super) bytes: u64,
    /// The time of the run at which the last of them came.
    pub(super) last: Duration,
}

impl Default for Latencies {
    fn default() -> Latencies {
        Latencies(Histogram::new(DIGITS).expect("three digits are possible"))
    }
}

impl Latencies {
    pub(super) fn record(&mut self, latency: Duration, count: u64) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).max(1);
        // Grows to any value below u64::MAX / 2, which is longer than machines run.
        self.0.record_n(micros.min(u64::MAX / 4), count).expect("the histogram grows");
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that `percent` of the records had at most, in milliseconds.
    pub(super) fn percentile_ms(&self, percent: f64) -> f64 {
        milliseconds(self.0.value_at_percentile(percent))
    }

    pub(super) fn mean_ms(&self) -> f64 {
        self.0.mean() / 1000.0
    }

    pub(super) fn max_ms(&self) -> f64 {
        milliseconds(self.0.max())
    }

    fn add(&mut self, other: &Latencies) {
        self.0.add(&other.0).expect("the histogram grows");
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn milliseconds(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

impl Volume {
    pub(super) fn add(&mut self, records: u64, bytes: u64, at: Duration) {
        self.records += records;
        self.bytes += bytes;
        self.last = self.last.max(at);
    }

    fn merge(&mut self, other: Volume) {
        self.add(other.records, other.bytes, other.last);
    }
}

impl Tally {
    /// Counts what failed.
    pub(super) fn failed(&mut self, what: String, count: u64) {
        let known = self.errors.contains_key(&what);
        let name = if known || self.errors.len() < ERRORS_MAX { what } else { "others".to_owned() };
        *self.errors.entry(name).or_default() += count;
    }

    pub(super) fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Adds another's.
    pub(super) fn merge(&mut self, other: Tally) {
        self.produced.merge(other.produced);
        self.consumed.merge(other.consumed);
        self.acknowledged.add(&other.acknowledged);
        self.end_to_end.add(&other.end_to_end);
        for (what, count) in other.errors {
            self.failed(what, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_add_up() {
        let mut all = Tally::default();
        for (latency_ms, count) in [(1, 98), (100, 1), (5000, 1)] {
            let mut one = Tally::default();
            one.produced.add(count, count * 10, Duration::from_millis(latency_ms));
            one.acknowledged.record(Duration::from_millis(latency_ms), count);
            one.failed("no answer".to_owned(), 1);
            all.merge(one);
        }
        assert_eq!(
            all.produced,
            Volume { records: 100, bytes: 1000, last: Duration::from_secs(5) }
        );
        assert_eq!(all.errors, BTreeMap::from([("no answer".to_owned(), 3)]));
        assert_eq!(all.acknowledged.count(), 100);
        let near = |percent: f64, expected: f64| {
            let found = all.acknowledged.percentile_ms(percent);
            assert!((found - expected).abs() <= expected / 500.0, "{percent}: {found}");
        };
        near(50.0, 1.0);
        near(98.5, 100.0);
        near(99.9, 5000.0);
    }

    #[test]
    fn errors_of_many_kinds_take_bounded_memory() {
        let mut tally = Tally::default();
        for number in 0..1000 {
            tally.failed(format!("error {number}"), 2);
        }
        assert_eq!(tally.errors.len(), ERRORS_MAX + 1);
        assert_eq!(tally.error_count(), 2000);
    }

    #[test]
    fn latencies_of_any_size_are_kept() {
        let mut latencies = Latencies::default();
        latencies.record(Duration::ZERO, 1);
        latencies.record(Duration::MAX, 1);
        assert_eq!(latencies.count(), 2);
    }
}
