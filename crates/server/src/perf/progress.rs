//! A line on stderr while the load runs: renewed in place on a terminal, else one every few
//! seconds.

use indicatif::{ProgressBar, ProgressStyle};

use super::{
    tally::Tally,
    workload::{End, Workload},
};

/// Without a terminal there is a line every so many seconds.
const LINE_PERIOD_SECONDS: u64 = 5;

/// Where the line goes.
pub(super) struct Progress {
    bar: ProgressBar,
    warm_up_seconds: u64,
}

impl Progress {
    pub(super) fn new(workload: &Workload) -> Progress {
        let warm_up_seconds = workload.warm_up.as_secs();
        let bar = match workload.end {
            End::After(duration) => ProgressBar::new(warm_up_seconds + duration.as_secs()),
            End::Produced(_) | End::Consumed => ProgressBar::no_length(),
        };
        let template = "{elapsed_precise} {wide_bar} {msg}";
        bar.set_style(ProgressStyle::with_template(template).expect("a template of its fields"));
        Progress { bar, warm_up_seconds }
    }

    /// Tells of a second that has passed.
    #[expect(clippy::print_stderr, reason = "it is for who waits")]
    pub(super) fn second(&mut self, second: u64, tally: &Tally) {
        let warm_up = if second < self.warm_up_seconds { "warm-up: " } else { "" };
        let line = format!("{warm_up}{}", line(tally));
        if !self.bar.is_hidden() {
            self.bar.set_position(second + 1);
            self.bar.set_message(line);
        } else if (second + 1).is_multiple_of(LINE_PERIOD_SECONDS) {
            eprintln!("{:>5} s  {line}", second + 1);
        }
    }

    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

fn line(tally: &Tally) -> String {
    let mut parts = Vec::new();
    for (what, volume) in [("produced", tally.produced), ("consumed", tally.consumed)] {
        if volume.records > 0 {
            let megabytes = volume.bytes / 1_000_000;
            parts.push(format!("{what} {} records/s {megabytes} MB/s", volume.records));
        }
    }
    for (what, latencies) in [("ack", &tally.acknowledged), ("end to end", &tally.end_to_end)] {
        if latencies.count() > 0 {
            let (half, most) = (latencies.percentile_ms(50.0), latencies.percentile_ms(99.0));
            parts.push(format!("{what} p50 {half:.2} p99 {most:.2} ms"));
        }
    }
    match tally.error_count() {
        0 => {}
        errors => parts.push(format!("{errors} errors")),
    }
    if parts.is_empty() { "nothing".to_owned() } else { parts.join("  ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_line_says_what_happened() {
        let mut tally = Tally::default();
        assert_eq!(line(&tally), "nothing");
        tally.produced.add(2000, 5_000_000, Duration::from_secs(1));
        tally.acknowledged.record(Duration::from_micros(1500), 2000);
        tally.failed("no answer".to_owned(), 3);
        assert_eq!(
            line(&tally),
            "produced 2000 records/s 5 MB/s  ack p50 1.50 p99 1.50 ms  3 errors"
        );
    }
}
