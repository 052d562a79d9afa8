//! What a topic's settings ask of each record that a producer sends: a key, a timestamp near the
//! broker's clock. A batch that claims the broker's own time is taken, as by Apache Kafka, where the
//! topic wants the producers' and that claim is near the clock.
//!
//! An append looks at what a batch's records have in common; whoever answers the producer walks
//! over them again, once they were refused, to name those that are at fault (KIP-467).

use model::{
    TimestampMs,
    record_batch::{RecordBatch, RecordHead, RecordSummary, TimestampType},
    topic_config::TopicConfig,
};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordRules {
    needs_keys: bool,
    /// The earliest and the latest timestamp; none where the broker gives its own.
    times: Option<(TimestampMs, TimestampMs)>,
    claims_append_time: bool,
}

/// Why a record is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordFault {
    /// A compacted topic takes no record without a key.
    NoKey,
    /// Its timestamp is too far from the broker's clock.
    Timestamp {
        /// The record's.
        timestamp: TimestampMs,
        /// The earliest that is taken.
        earliest: TimestampMs,
        /// The latest.
        latest: TimestampMs,
    },
    /// Its batch says that the broker gave the timestamp.
    TimestampType,
}

impl std::fmt::Display for RecordFault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RecordFault::NoKey => formatter.write_str("a compacted topic's records need a key"),
            RecordFault::Timestamp { timestamp, earliest, latest } => {
                write!(formatter, "timestamp {timestamp} is not within {earliest} and {latest}")
            }
            RecordFault::TimestampType => {
                formatter.write_str("a producer may not claim the broker's time")
            }
        }
    }
}

impl RecordRules {
    pub(crate) fn of(config: &TopicConfig, batch: &RecordBatch<'_>, now_ms: i64) -> RecordRules {
        let before_ms = config.message_timestamp_before_max_ms;
        let after_ms = config.message_timestamp_after_max_ms;
        let is_producers = config.message_timestamp_type == TimestampType::CreateTime;
        RecordRules {
            needs_keys: config.cleanup_policy.compact,
            times: is_producers.then(|| {
                let earliest = TimestampMs(now_ms.saturating_sub(before_ms));
                (earliest, TimestampMs(now_ms.saturating_add(after_ms)))
            }),
            claims_append_time: batch.timestamp_type() == TimestampType::LogAppendTime,
        }
    }

    /// True if none of the records is at fault.
    pub(crate) fn allow(&self, summary: &RecordSummary) -> bool {
        let are_timely = self.times.is_none_or(|(earliest, latest)| {
            let is_early = summary.oldest != TimestampMs::NONE && summary.oldest < earliest;
            !is_early && summary.newest <= latest
        });
        let are_keyed = !self.needs_keys || summary.are_all_keyed;
        // The records of a batch that claims it have one timestamp.
        let is_claim_taken = self.times.is_some() && summary.oldest != TimestampMs::NONE;
        are_keyed && are_timely && (!self.claims_append_time || is_claim_taken)
    }

    /// Why a record is refused, if it is.
    #[must_use]
    pub fn fault(&self, record: &RecordHead) -> Option<RecordFault> {
        if self.needs_keys && !record.has_key {
            return Some(RecordFault::NoKey);
        }
        if let Some((earliest, latest)) =
            self.times.filter(|_| record.timestamp != TimestampMs::NONE)
        {
            let timestamp = record.timestamp;
            let is_out = timestamp < earliest || timestamp > latest;
            return is_out.then_some(RecordFault::Timestamp { timestamp, earliest, latest });
        }
        self.claims_append_time.then_some(RecordFault::TimestampType)
    }
}
