//! What a share of the seeds does beside the rest: logs that let go of records, by age, by size, by
//! request or by key; logs that hold their syncs back; settings that change; a wall clock that
//! jumps; a topic that is deleted and made again under load.
//!
//! More than half of the seeds have none of it, and are the runs that they were before.

use super::plan::{ProducerPlan, Promise, TopicPlan};
use crate::Rng;

/// Of 1,000 seeds so many have some of it.
const FEATURED_PERMILLE: u32 = 450;
/// Of these, so many have each kind.
const EACH_PERMILLE: u32 = 400;
/// How much larger a share the producers of the usual topics have in other seeds.
const USUAL_SHARE: u32 = 2;
/// An hour: only a clock that jumps makes records so old.
pub(crate) const HOUR_MS: i64 = 3_600_000;
/// Longer than any clock is off here.
const DAY_MS: i64 = 24 * HOUR_MS;

/// What may become of a topic's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// They stay.
    Kept,
    /// The oldest may go.
    Trimmed {
        /// `retention.ms`, never less; -1 for none.
        retention_ms: i64,
        /// `retention.bytes`, never less; -1 for none.
        retention_bytes: i64,
    },
    /// All but the last of each key may go, and tombstones after `delete.retention.ms`.
    Compacted { delete_retention_ms: i64 },
    /// `durability=replicated`: a power cut may take the end.
    HeldBack { flush_ms: u64, flush_messages: u64 },
}

impl Role {
    /// Its settings, beside those that all topics have.
    pub(crate) fn settings(self) -> Vec<(&'static str, String)> {
        match self {
            Role::Kept => Vec::new(),
            Role::Trimmed { retention_ms, retention_bytes } => vec![
                ("retention.ms", retention_ms.to_string()),
                ("retention.bytes", retention_bytes.to_string()),
                ("file.delete.delay.ms", "10".to_owned()),
            ],
            Role::Compacted { delete_retention_ms } => vec![
                ("cleanup.policy", "compact".to_owned()),
                ("retention.ms", "-1".to_owned()),
                ("min.cleanable.dirty.ratio", "0.01".to_owned()),
                ("delete.retention.ms", delete_retention_ms.to_string()),
                ("file.delete.delay.ms", "10".to_owned()),
            ],
            Role::HeldBack { flush_ms, flush_messages } => vec![
                ("durability", "replicated".to_owned()),
                ("flush.ms", flush_ms.to_string()),
                ("flush.messages", flush_messages.to_string()),
            ],
        }
    }

    /// What the settings may be changed to while the topic is in use, without another promise.
    pub(crate) fn changes(self) -> Vec<(&'static str, Vec<String>)> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let mut changes = vec![
            // The largest batch still fits.
            (
                "internal.segment.bytes",
                match self {
                    Role::Kept => words(&["20480", "65536", "262144"]),
                    Role::Trimmed { .. } | Role::Compacted { .. } | Role::HeldBack { .. } => {
                        words(&["4096", "8192", "30000"])
                    }
                },
            ),
            ("index.interval.bytes", words(&["0", "512", "4096"])),
        ];
        match self {
            Role::Kept => {}
            Role::Trimmed { retention_ms, retention_bytes } => {
                let bytes = ["-1".to_owned(), retention_bytes.to_string()];
                changes.push(("retention.ms", vec!["-1".to_owned(), retention_ms.to_string()]));
                changes.push(("retention.bytes", bytes.to_vec()));
            }
            Role::Compacted { .. } => {
                changes.push(("cleanup.policy", words(&["compact", "compact,delete"])));
                changes.push(("min.compaction.lag.ms", words(&["0", "0", "50"])));
                changes.push(("min.cleanable.dirty.ratio", words(&["0.01", "0.3"])));
            }
            Role::HeldBack { flush_ms, .. } => {
                changes.push(("flush.ms", vec![flush_ms.to_string(), "5".to_owned()]));
            }
        }
        changes
    }
}

/// What a seed has of it beside the topics.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Features {
    /// Any of it, the topics included.
    pub(crate) is_any: bool,
    /// Settings change.
    pub(crate) alters_settings: bool,
    /// The broker's wall clock jumps.
    pub(crate) clock_jumps: bool,
    /// A topic is deleted and made again, so many times.
    pub(crate) recreations: u64,
    /// Members of KIP-848's protocol, and classic ones, in a group of their own.
    pub(crate) mixed_members: (u64, u64),
}

impl Features {
    pub(crate) fn by_seed(
        rng: &mut Rng,
        topics: &mut Vec<TopicPlan>,
        producers: &mut Vec<ProducerPlan>,
    ) -> Features {
        if !rng.chance(FEATURED_PERMILLE) {
            return Features::default();
        }
        let [mut trims, compacts, holds_back, alters_settings, recreates] =
            [0; 5].map(|_| rng.chance(EACH_PERMILLE));
        trims |= !compacts && !holds_back;
        for producer in producers.iter_mut() {
            producer.batch_count /= USUAL_SHARE;
        }
        let retention_ms = rng.pick(&[-1, 300, HOUR_MS]);
        let retention_bytes = rng.pick(&[-1, 10_000, 40_000]);
        let delete_retention_ms = rng.pick(&[0, 100, DAY_MS]);
        let flush_ms = rng.pick(&[10, 100]);
        let flush_messages = rng.pick(&[1, 20, 100_000]);
        let key_count = rng.pick(&[3, 20]);
        let once = Promise::ExactlyOnce;
        let parts = [
            (trims, "trimmed", Role::Trimmed { retention_ms, retention_bytes }, 0, &[once][..]),
            (compacts, "compacted", Role::Compacted { delete_retention_ms }, key_count, &[once]),
            (
                holds_back,
                "held-back",
                Role::HeldBack { flush_ms, flush_messages },
                0,
                &[once, Promise::AtLeastOnce],
            ),
        ];
        for (is_on, name, role, key_count, promises) in parts {
            if is_on {
                let segment_bytes = rng.pick(&[4 << 10, 8 << 10, 16 << 10]);
                topics.push(TopicPlan { name, partition_count: 1, segment_bytes, role });
                producers.extend(promises.iter().map(|promise| ProducerPlan {
                    promise: *promise,
                    topic: name,
                    partition_count: 1,
                    batch_count: u32::try_from(rng.between(80, 160)).expect("small"),
                    window: if key_count == 0 { 1 + rng.index(5) } else { 1 },
                    record_bytes_max: rng.pick(&[40, 400]),
                    pause_us_max: rng.pick(&[500, 5000]),
                    key_count,
                }));
            }
        }
        let clock_jumps = rng.chance(500);
        let recreations = if recreates { rng.between(2, 5) } else { 0 };
        let mixed_members = (rng.between(0, 2), rng.between(0, 2));
        Features { is_any: true, alters_settings, clock_jumps, recreations, mixed_members }
    }
}
