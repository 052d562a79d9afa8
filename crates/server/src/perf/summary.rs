//! What a run came to: for people, and as JSON.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use serde::Serialize;

use super::{
    tally::{Latencies, Tally, Volume},
    threads::Counted,
};

/// The results of a run, without its warm-up.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) workload: String,
    pub(super) broker: String,
    /// What was asked for, by the names of the flags.
    pub(super) settings: BTreeMap<&'static str, String>,
    pub(super) produced: Option<Rates>,
    pub(super) consumed: Option<Rates>,
    /// Milliseconds from when a record was due (at full speed: sent) to its acknowledgement.
    pub(super) acknowledged_ms: Option<Percentiles>,
    /// Milliseconds from when a record was due (at full speed: sent) until a consumer had it.
    pub(super) end_to_end_ms: Option<Percentiles>,
    /// Records that were not written and fetches that failed, by what was said.
    pub(super) errors: BTreeMap<String, u64>,
    pub(super) client: ClientCost,
    pub(super) seconds: Vec<Second>,
}

/// Records and bytes; of produced ones the values' bytes, of consumed ones the batches'.
#[derive(Debug, Serialize)]
pub(super) struct Rates {
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) seconds: f64,
    pub(super) records_per_second: f64,
    pub(super) mb_per_second: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Percentiles {
    pub(super) count: u64,
    pub(super) mean: f64,
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
    pub(super) p99_9: f64,
    pub(super) p99_99: f64,
    pub(super) max: f64,
}

/// What the load itself costs: a client that is busy measures itself.
#[derive(Debug, Serialize)]
pub(super) struct ClientCost {
    pub(super) threads: usize,
    pub(super) cpu_seconds: f64,
    pub(super) cpu_seconds_per_gb: Option<f64>,
    /// Of the threads' time, 0 to 1.
    pub(super) busy_share: f64,
}

/// One whole second of the run, counted from the end of the warm-up.
#[derive(Debug, Serialize)]
pub(super) struct Second {
    pub(super) second: u64,
    pub(super) produced_mb: f64,
    pub(super) consumed_mb: f64,
    pub(super) produced_records: u64,
    pub(super) consumed_records: u64,
    pub(super) acknowledged_ms: Option<Percentiles>,
    pub(super) end_to_end_ms: Option<Percentiles>,
    pub(super) errors: u64,
}

/// What [`Summary::new`] is told beside the counts.
pub(super) struct About {
    pub(super) workload: String,
    pub(super) broker: String,
    pub(super) settings: BTreeMap<&'static str, String>,
    pub(super) threads: usize,
    pub(super) warm_up: Duration,
}

impl Summary {
    pub(super) fn new(about: About, counted: Counted) -> Summary {
        let warm_up_seconds = about.warm_up.as_secs();
        let whole_seconds = counted.lasted.as_secs();
        let mut all = Tally::default();
        let mut seconds = Vec::new();
        for (second, tally) in counted.seconds {
            let Some(measured) = second.checked_sub(warm_up_seconds) else { continue };
            // The last is seldom a whole one.
            if second < whole_seconds {
                seconds.push(Second::new(measured, &tally));
            }
            all.merge(tally);
        }
        let lasted = counted.lasted.saturating_sub(about.warm_up).as_secs_f64();
        let bytes = all.produced.bytes + all.consumed.bytes;
        let cpu_seconds = counted.cpu.as_secs_f64();
        let threads = u32::try_from(about.threads).unwrap_or(u32::MAX);
        let client = ClientCost {
            threads: about.threads,
            cpu_seconds,
            cpu_seconds_per_gb: (bytes > 0).then(|| cpu_seconds / (megabytes(bytes) / 1000.0)),
            busy_share: (cpu_seconds / (lasted * f64::from(threads)).max(1e-3)).min(1.0),
        };
        Summary {
            workload: about.workload,
            broker: about.broker,
            settings: about.settings,
            produced: Rates::new(all.produced, about.warm_up),
            consumed: Rates::new(all.consumed, about.warm_up),
            acknowledged_ms: Percentiles::new(&all.acknowledged),
            end_to_end_ms: Percentiles::new(&all.end_to_end),
            errors: all.errors,
            client,
            seconds,
        }
    }

    /// Lines for people.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{}  {}\n", self.workload, self.broker);
        let settings: Vec<String> =
            self.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        line(&mut text, "", &settings.join(" "));
        for (name, rates) in [("produced", &self.produced), ("consumed", &self.consumed)] {
            if let Some(rates) = rates {
                line(&mut text, name, &rates.text());
            }
        }
        let latencies = [("ack", &self.acknowledged_ms), ("end to end", &self.end_to_end_ms)];
        for (name, percentiles) in latencies {
            if let Some(percentiles) = percentiles {
                line(&mut text, name, &percentiles.text());
            }
        }
        if self.errors.is_empty() {
            line(&mut text, "errors", "none");
        }
        for (what, count) in &self.errors {
            line(&mut text, "errors", &format!("{count} times: {what}"));
        }
        line(&mut text, "this client", &self.client.text());
        text
    }
}

fn line(text: &mut String, name: &str, value: &str) {
    writeln!(text, "  {name:<12} {value}").expect("a string takes everything");
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

impl Rates {
    fn new(volume: Volume, warm_up: Duration) -> Option<Rates> {
        let seconds = volume.last.saturating_sub(warm_up).as_secs_f64().max(1e-6);
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let records_per_second = volume.records as f64 / seconds;
        (volume.records > 0).then(|| Rates {
            records: volume.records,
            bytes: volume.bytes,
            seconds,
            records_per_second,
            mb_per_second: megabytes(volume.bytes) / seconds,
        })
    }

    fn text(&self) -> String {
        format!(
            "{:.1} MB/s  {:.0} records/s  ({} records, {:.1} MB in {:.2} s)",
            self.mb_per_second,
            self.records_per_second,
            self.records,
            megabytes(self.bytes),
            self.seconds
        )
    }
}

impl Percentiles {
    fn new(latencies: &Latencies) -> Option<Percentiles> {
        let at = |percent| latencies.percentile_ms(percent);
        (latencies.count() > 0).then(|| Percentiles {
            count: latencies.count(),
            mean: latencies.mean_ms(),
            p50: at(50.0),
            p90: at(90.0),
            p95: at(95.0),
            p99: at(99.0),
            p99_9: at(99.9),
            p99_99: at(99.99),
            max: latencies.max_ms(),
        })
    }

    fn text(&self) -> String {
        format!(
            "p50 {:.2}  p90 {:.2}  p95 {:.2}  p99 {:.2}  p99.9 {:.2}  p99.99 {:.2}  max {:.2} ms",
            self.p50, self.p90, self.p95, self.p99, self.p99_9, self.p99_99, self.max
        )
    }

    /// Shares of the records and their latencies, in ascending order.
    pub(super) fn curve(&self) -> [(f64, f64); 7] {
        [
            (50.0, self.p50),
            (90.0, self.p90),
            (95.0, self.p95),
            (99.0, self.p99),
            (99.9, self.p99_9),
            (99.99, self.p99_99),
            (99.999, self.max),
        ]
    }
}

impl ClientCost {
    fn text(&self) -> String {
        let each = self.cpu_seconds_per_gb;
        let each = each.map_or_else(String::new, |each| format!("{each:.2} CPU-seconds/GB, "));
        let percent = self.busy_share * 100.0;
        let threads = if self.threads == 1 { "thread" } else { "threads" };
        format!("{each}{} {threads} busy for {percent:.0} % of the time", self.threads)
    }
}

impl Second {
    fn new(second: u64, tally: &Tally) -> Second {
        Second {
            second,
            produced_mb: megabytes(tally.produced.bytes),
            consumed_mb: megabytes(tally.consumed.bytes),
            produced_records: tally.produced.records,
            consumed_records: tally.consumed.records,
            acknowledged_ms: Percentiles::new(&tally.acknowledged),
            end_to_end_ms: Percentiles::new(&tally.end_to_end),
            errors: tally.error_count(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted() -> Counted {
        let mut seconds = BTreeMap::new();
        for second in 0..4_u64 {
            let mut tally = Tally::default();
            let at = Duration::from_secs(second + 1);
            tally.produced.add(1000, 2_000_000, at);
            tally.acknowledged.record(Duration::from_millis(10 * (second + 1)), 1000);
            seconds.insert(second, tally);
        }
        let lasted = Duration::from_secs(4);
        Counted { seconds, lasted, cpu: Duration::from_millis(400) }
    }

    fn about(warm_up: u64) -> About {
        About {
            workload: "produce".to_owned(),
            broker: "127.0.0.1:9092".to_owned(),
            settings: BTreeMap::from([("acks", "all".to_owned())]),
            threads: 1,
            warm_up: Duration::from_secs(warm_up),
        }
    }

    #[test]
    fn the_warm_up_does_not_count() {
        for (warm_up, records, half) in [(0, 4000, 20.0), (2, 2000, 30.0)] {
            let summary = Summary::new(about(warm_up), counted());
            let produced = summary.produced.unwrap();
            assert_eq!(produced.records, records);
            assert!((produced.mb_per_second - 2.0).abs() < 1e-9, "{produced:?}");
            assert!((summary.acknowledged_ms.unwrap().p50 - half).abs() < half / 500.0);
            assert_eq!(summary.seconds.first().map(|second| second.second), Some(0));
            assert!(summary.consumed.is_none() && summary.end_to_end_ms.is_none());
        }
    }

    #[test]
    fn people_are_told_the_same_as_programs() {
        let summary = Summary::new(about(0), counted());
        let text = summary.text();
        for part in ["acks=all", "2.0 MB/s", "1000 records/s", "p50 20", "max 40", "none"] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        assert!(text.contains("50.00 CPU-seconds/GB, 1 thread busy for 10 %"), "{text}");
        let json: serde_json::Value = serde_json::to_value(&summary).unwrap();
        assert_eq!(json["produced"]["records"], 4000);
        assert_eq!(json["seconds"].as_array().map(Vec::len), Some(4));
        assert_eq!(json["consumed"], serde_json::Value::Null);
    }
}
