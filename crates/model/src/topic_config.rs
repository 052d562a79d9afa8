//! The settings of a topic: Kafka's names, defaults and bounds (those of 4.4), and the typed form
//! that storage works with.
//!
//! [`SETTINGS`] is the one table; [`TopicConfig`] holds those that change what this broker does.
//! A setting that is in the table and not in the struct is checked and kept by whoever keeps the
//! text (the metadata log), so that Apache Kafka finds it again.

use std::fmt;

use crate::{
    compression::{OWN_LEVEL, Target, ZSTD_LEVEL},
    record_batch::Compression,
};

/// What values a setting takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A 32-bit number within bounds, both included.
    Int(i32, i32),
    /// A 64-bit number within bounds, both included.
    Long(i64, i64),
    /// A number within bounds, both included.
    Double(f64, f64),
    /// `true` or `false`.
    Boolean,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Any of these words, separated by commas.
    Choices(&'static [&'static str]),
    /// Words separated by commas.
    List,
    /// A 16-bit number within bounds, both included.
    Short(i16, i16),
    /// Any text.
    Text,
    /// Any text that nobody is shown.
    Secret,
    /// The name of a class.
    Class,
}

/// A topic's setting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setting {
    /// Its name, as `kafka-configs` takes it.
    pub name: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// Its value where nobody sets one.
    pub default: &'static str,
    /// The broker's setting that changes the default for its topics; empty where there is none.
    pub server_name: &'static str,
}

const fn setting(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    server_name: &'static str,
) -> Setting {
    Setting { name, kind, default, server_name }
}

const LONG_MAX: &str = "9223372036854775807";
/// A week.
const WEEK_MS: &str = "604800000";
/// The default of `max.decompressed.message.bytes` and its bound: what one array can hold in Java.
pub const DECOMPRESSED_BYTES_MAX: i32 = 2_147_483_639;
const INT: Kind = Kind::Int(0, i32::MAX);
const LONG: Kind = Kind::Long(0, i64::MAX);
const LONG_FROM_ONE: Kind = Kind::Long(1, i64::MAX);
/// -1 stands for "no limit".
const LONG_OR_NONE: Kind = Kind::Long(-1, i64::MAX);
/// -2 stands for "as the whole log".
const LONG_OR_TOTAL: Kind = Kind::Long(-2, i64::MAX);
const CODECS: Kind = Kind::Choice(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]);

/// Every setting of a topic in Apache Kafka 4.4, and one more, in alphabetical order.
pub const SETTINGS: &[Setting] = &[
    setting(
        "cleanup.policy",
        Kind::Choices(&["compact", "delete"]),
        "delete",
        "log.cleanup.policy",
    ),
    setting("compression.gzip.level", Kind::Int(-1, 9), "-1", "compression.gzip.level"),
    setting("compression.lz4.level", Kind::Int(1, 17), "9", "compression.lz4.level"),
    setting("compression.type", CODECS, "producer", "compression.type"),
    setting("compression.zstd.level", Kind::Int(-131_072, 22), "3", "compression.zstd.level"),
    setting("delete.retention.ms", LONG, "86400000", "log.cleaner.delete.retention.ms"),
    // Odradek's own: Apache Kafka keeps it, and does nothing with it.
    setting("durability", Kind::Choice(&["sync", "replicated"]), "sync", "odradek.durability"),
    setting("errors.deadletterqueue.group.enable", Kind::Boolean, "false", ""),
    setting("file.delete.delay.ms", LONG, "60000", "log.segment.delete.delay.ms"),
    setting("flush.messages", LONG_FROM_ONE, LONG_MAX, "log.flush.interval.messages"),
    setting("flush.ms", LONG, LONG_MAX, "log.flush.interval.ms"),
    setting("follower.replication.throttled.replicas", Kind::List, "", ""),
    setting("index.interval.bytes", INT, "4096", "log.index.interval.bytes"),
    setting("internal.segment.bytes", INT, "", ""),
    setting("leader.replication.throttled.replicas", Kind::List, "", ""),
    setting("local.retention.bytes", LONG_OR_TOTAL, "-2", "log.local.retention.bytes"),
    setting("local.retention.ms", LONG_OR_TOTAL, "-2", "log.local.retention.ms"),
    setting("max.compaction.lag.ms", LONG_FROM_ONE, LONG_MAX, "log.cleaner.max.compaction.lag.ms"),
    setting(
        "max.decompressed.message.bytes",
        Kind::Int(1, DECOMPRESSED_BYTES_MAX),
        "2147483639",
        "max.decompressed.message.bytes",
    ),
    setting("max.message.bytes", INT, "1048588", "message.max.bytes"),
    setting(
        "message.timestamp.after.max.ms",
        LONG,
        "3600000",
        "log.message.timestamp.after.max.ms",
    ),
    setting(
        "message.timestamp.before.max.ms",
        LONG,
        LONG_MAX,
        "log.message.timestamp.before.max.ms",
    ),
    setting(
        "message.timestamp.type",
        Kind::Choice(&["CreateTime", "LogAppendTime"]),
        "CreateTime",
        "log.message.timestamp.type",
    ),
    setting(
        "min.cleanable.dirty.ratio",
        Kind::Double(0.0, 1.0),
        "0.5",
        "log.cleaner.min.cleanable.ratio",
    ),
    setting("min.compaction.lag.ms", LONG, "0", "log.cleaner.min.compaction.lag.ms"),
    setting("min.insync.replicas", Kind::Int(1, i32::MAX), "1", "min.insync.replicas"),
    setting("preallocate", Kind::Boolean, "false", "log.preallocate"),
    setting("remote.copy.lag.bytes", LONG_OR_NONE, "-1", "log.remote.copy.lag.bytes"),
    setting("remote.copy.lag.ms", LONG_OR_NONE, "0", "log.remote.copy.lag.ms"),
    setting("remote.log.copy.disable", Kind::Boolean, "false", ""),
    setting("remote.log.delete.on.disable", Kind::Boolean, "false", ""),
    setting("remote.storage.enable", Kind::Boolean, "false", ""),
    setting("retention.bytes", Kind::Long(i64::MIN, i64::MAX), "-1", "log.retention.bytes"),
    setting("retention.ms", LONG_OR_NONE, WEEK_MS, "log.retention.ms"),
    setting("segment.bytes", Kind::Int(1 << 20, i32::MAX), "1073741824", "log.segment.bytes"),
    setting("segment.index.bytes", Kind::Int(4, i32::MAX), "10485760", "log.index.size.max.bytes"),
    setting("segment.jitter.ms", LONG, "0", "log.roll.jitter.ms"),
    setting("segment.ms", LONG_FROM_ONE, WEEK_MS, "log.roll.ms"),
    setting(
        "unclean.leader.election.enable",
        Kind::Boolean,
        "false",
        "unclean.leader.election.enable",
    ),
];

/// A name or value that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidSetting {
    /// No topic has a setting of this name.
    UnknownName(String),
    /// The value does not fit.
    Value {
        /// The setting.
        name: &'static str,
        /// What was given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl fmt::Display for InvalidSetting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidSetting::UnknownName(name) => {
                write!(formatter, "Unknown topic config name: {name}")
            }
            InvalidSetting::Value { name, value, reason } => {
                write!(formatter, "Invalid value {value} for configuration {name}: {reason}")
            }
        }
    }
}

impl std::error::Error for InvalidSetting {}

/// A number as Java's `Double.toString` writes it.
fn java_double(number: f64) -> String {
    if number == 0.0 || (1e-3..1e7).contains(&number.abs()) {
        return format!("{number:?}");
    }
    let text = format!("{number:E}");
    match text.split_once('E') {
        Some((mantissa, exponent)) if !mantissa.contains('.') => format!("{mantissa}.0E{exponent}"),
        Some(_) | None => text,
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Int(min, max) => write!(formatter, "a number from {min} to {max}"),
            Kind::Long(min, max) => write!(formatter, "a number from {min} to {max}"),
            Kind::Double(min, max) => write!(formatter, "a number from {min} to {max}"),
            Kind::Boolean => formatter.write_str("true or false"),
            Kind::Choice(words) => write!(formatter, "one of {}", words.join(", ")),
            Kind::Choices(words) => write!(formatter, "any of {}", words.join(", ")),
            Kind::List => formatter.write_str("a list"),
            Kind::Short(min, max) => write!(formatter, "a number from {min} to {max}"),
            Kind::Text => formatter.write_str("any text"),
            Kind::Secret => formatter.write_str("a secret"),
            Kind::Class => formatter.write_str("a class"),
        }
    }
}

impl Kind {
    /// A value as Apache Kafka shows it: as it prints what it has made of it. One that makes no
    /// sense stays as it is.
    #[must_use]
    pub fn shown(&self, value: &str) -> String {
        let trimmed = value.trim();
        let shown = match self {
            Kind::Boolean => Some(trimmed.to_ascii_lowercase()),
            Kind::Int(..) | Kind::Long(..) | Kind::Short(..) => {
                trimmed.parse().ok().map(|number: i64| number.to_string())
            }
            Kind::Double(..) => trimmed.parse().ok().map(java_double),
            Kind::Choices(_) | Kind::List => {
                let words: Vec<&str> = trimmed.split(',').map(str::trim).collect();
                Some(words.join(","))
            }
            Kind::Choice(_) | Kind::Text | Kind::Class => Some(trimmed.to_owned()),
            Kind::Secret => None,
        };
        shown.unwrap_or_else(|| value.to_owned())
    }

    /// What is wrong with a value, in Kafka's words: scripts look for them.
    pub fn refusal(&self, value: &str) -> Option<String> {
        match self {
            Kind::Int(min, max) => out_of_bounds(value.parse::<i32>().ok(), "INT", *min, *max),
            Kind::Long(min, max) => out_of_bounds(value.parse::<i64>().ok(), "LONG", *min, *max),
            Kind::Double(min, max) => {
                out_of_bounds(value.parse::<f64>().ok(), "DOUBLE", *min, *max)
            }
            Kind::Boolean => match parse_boolean(value) {
                Some(_) => None,
                None => Some("Expected value to be either true or false".to_owned()),
            },
            Kind::Choice(words) => (!words.contains(&value)).then(|| not_one_of(words)),
            Kind::Choices(words) => {
                let is_known = |word: &str| words.contains(&word.trim());
                let is_fine = value.trim().is_empty() || value.split(',').all(is_known);
                (!is_fine).then(|| not_one_of(words))
            }
            Kind::Short(min, max) => out_of_bounds(value.parse::<i16>().ok(), "SHORT", *min, *max),
            Kind::List | Kind::Text | Kind::Secret | Kind::Class => None,
        }
    }
}

fn out_of_bounds<T: PartialOrd + fmt::Display>(
    number: Option<T>,
    kind: &str,
    min: T,
    max: T,
) -> Option<String> {
    match number {
        None => Some(format!("Not a number of type {kind}")),
        Some(number) if number < min => Some(format!("Value must be at least {min}")),
        Some(number) if number > max => Some(format!("Value must be no more than {max}")),
        // What is no number is neither below nor above.
        Some(number) if number >= min => None,
        Some(_) => Some(format!("Not a number of type {kind}")),
    }
}

fn not_one_of(words: &[&str]) -> String {
    format!("String must be one of: {}", words.join(", "))
}

fn parse_boolean(value: &str) -> Option<bool> {
    if value.eq_ignore_ascii_case("true") {
        Some(true)
    } else if value.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// The setting of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.binary_search_by(|setting| setting.name.cmp(name)).ok().map(|index| &SETTINGS[index])
}

/// Checks a value against the table.
///
/// # Errors
/// Says what would be right.
pub fn check(name: &str, value: &str) -> Result<&'static Setting, InvalidSetting> {
    let setting = find(name).ok_or_else(|| InvalidSetting::UnknownName(name.to_owned()))?;
    // The one hole in the bounds: 0 is no level of gzip.
    let is_hole = name == "compression.gzip.level" && value.trim() == "0";
    let hole = is_hole.then(|| "Value must be between 1 and 9 or equal to -1".to_owned());
    let is_throttled = name.ends_with(".throttled.replicas") && !are_replicas(value);
    let throttled = is_throttled.then(|| {
        "must be the literal '*' or a list of replicas: [partitionId]:[brokerId],...".to_owned()
    });
    match setting.kind.refusal(value.trim()).or(hole).or(throttled) {
        None => Ok(setting),
        Some(reason) => {
            Err(InvalidSetting::Value { name: setting.name, value: value.to_owned(), reason })
        }
    }
}

/// `*`, or numbers of partitions and brokers.
fn are_replicas(value: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_replica = |text: &str| {
        let pair = text.split_once(':');
        text.is_empty() || pair.is_some_and(|(one, other)| is_number(one) && is_number(other))
    };
    value.trim() == "*" || value.split(',').all(|word| is_replica(word.trim()))
}

/// Whose clock stamps the records of a topic.
pub use crate::record_batch::TimestampType;

/// What becomes of old records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Only the last record of each key is kept.
    pub compact: bool,
    /// Segments are deleted by age and size.
    pub delete: bool,
}

/// What an acknowledged record survives on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A power cut: `acks=all` waits for the disk.
    Sync,
    /// The end of the process, as in Apache Kafka; a power cut of all replicas takes what was not
    /// flushed yet.
    Replicated,
}

/// The settings of a topic that change what storage does.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    /// `cleanup.policy`.
    pub cleanup_policy: CleanupPolicy,
    /// `compression.gzip.level`.
    pub compression_gzip_level: i32,
    /// `compression.type`; `None`: `producer`.
    pub compression_type: Option<Compression>,
    /// `compression.zstd.level`.
    pub compression_zstd_level: i32,
    /// `delete.retention.ms`.
    pub delete_retention_ms: i64,
    /// `durability`.
    pub durability: Durability,
    /// `file.delete.delay.ms`.
    pub file_delete_delay_ms: i64,
    /// `flush.messages`.
    pub flush_messages: i64,
    /// `flush.ms`.
    pub flush_ms: i64,
    /// `index.interval.bytes`.
    pub index_interval_bytes: i32,
    /// `max.compaction.lag.ms`.
    pub max_compaction_lag_ms: i64,
    /// `max.decompressed.message.bytes`: what may come out of a compressed batch.
    pub max_decompressed_message_bytes: i32,
    /// `max.message.bytes`: the largest batch.
    pub max_message_bytes: i32,
    /// `message.timestamp.after.max.ms`.
    pub message_timestamp_after_max_ms: i64,
    /// `message.timestamp.before.max.ms`.
    pub message_timestamp_before_max_ms: i64,
    /// `message.timestamp.type`.
    pub message_timestamp_type: TimestampType,
    /// `min.cleanable.dirty.ratio`.
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`.
    pub min_compaction_lag_ms: i64,
    /// `min.insync.replicas`.
    pub min_insync_replicas: i32,
    /// `retention.bytes`; `None`: no limit.
    pub retention_bytes: Option<i64>,
    /// `retention.ms`; `None`: no limit.
    pub retention_ms: Option<i64>,
    /// `segment.bytes`, or `internal.segment.bytes` where that is set.
    pub segment_bytes: i32,
    /// `segment.index.bytes`.
    pub segment_index_bytes: i32,
    /// `segment.jitter.ms`.
    pub segment_jitter_ms: i64,
    /// `segment.ms`.
    pub segment_ms: i64,
    /// `unclean.leader.election.enable`.
    pub unclean_leader_election: bool,
}

impl Default for TopicConfig {
    fn default() -> TopicConfig {
        TopicConfig {
            cleanup_policy: CleanupPolicy { compact: false, delete: true },
            compression_gzip_level: OWN_LEVEL,
            compression_type: None,
            compression_zstd_level: ZSTD_LEVEL,
            delete_retention_ms: 86_400_000,
            durability: Durability::Sync,
            file_delete_delay_ms: 60_000,
            flush_messages: i64::MAX,
            flush_ms: i64::MAX,
            index_interval_bytes: 4096,
            max_compaction_lag_ms: i64::MAX,
            max_decompressed_message_bytes: DECOMPRESSED_BYTES_MAX,
            max_message_bytes: 1_048_588,
            message_timestamp_after_max_ms: 3_600_000,
            message_timestamp_before_max_ms: i64::MAX,
            message_timestamp_type: TimestampType::CreateTime,
            min_cleanable_dirty_ratio: 0.5,
            min_compaction_lag_ms: 0,
            min_insync_replicas: 1,
            retention_bytes: None,
            retention_ms: Some(604_800_000),
            segment_bytes: 1 << 30,
            segment_index_bytes: 10_485_760,
            segment_jitter_ms: 0,
            segment_ms: 604_800_000,
            unclean_leader_election: false,
        }
    }
}

impl TopicConfig {
    /// What a batch is to become that was sent with this codec; `None`: it stays as it is.
    #[must_use]
    pub fn recompression(&self, sent: Compression) -> Option<Target> {
        let codec = self.compression_type.filter(|codec| *codec != sent)?;
        let own = Target::of(codec);
        let level = match codec {
            Compression::Gzip => self.compression_gzip_level,
            Compression::Zstd => self.compression_zstd_level,
            Compression::None | Compression::Snappy | Compression::Lz4 => own.level,
        };
        Some(Target { level, ..own })
    }

    /// The defaults with these settings over them, later ones over earlier ones. What
    /// `internal.segment.bytes` says wins over `segment.bytes`, in whatever order they come.
    ///
    /// # Errors
    /// At the first name or value that is refused.
    pub fn from_settings<'a>(
        settings: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<TopicConfig, InvalidSetting> {
        let mut config = TopicConfig::default();
        let mut internal_segment_bytes = None;
        for (name, value) in settings {
            config.set(name, value)?;
            if name == "internal.segment.bytes" {
                internal_segment_bytes = Some(config.segment_bytes);
            }
        }
        config.segment_bytes = internal_segment_bytes.unwrap_or(config.segment_bytes);
        Ok(config)
    }

    /// Sets one setting. One that storage does not act on is only checked.
    ///
    /// # Errors
    /// When the name or the value is refused; nothing is changed then.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), InvalidSetting> {
        let setting = check(name, value)?;
        let value = value.trim();
        match setting.name {
            "cleanup.policy" => {
                let has = |word| value.split(',').any(|given| given.trim() == word);
                self.cleanup_policy =
                    CleanupPolicy { compact: has("compact"), delete: has("delete") };
            }
            "compression.gzip.level" => self.compression_gzip_level = int(value),
            "compression.type" => self.compression_type = codec(value),
            "compression.zstd.level" => self.compression_zstd_level = int(value),
            "delete.retention.ms" => self.delete_retention_ms = long(value),
            "durability" => {
                self.durability = match value {
                    "replicated" => Durability::Replicated,
                    _ => Durability::Sync,
                };
            }
            "file.delete.delay.ms" => self.file_delete_delay_ms = long(value),
            "flush.messages" => self.flush_messages = long(value),
            "flush.ms" => self.flush_ms = long(value),
            "index.interval.bytes" => self.index_interval_bytes = int(value),
            "max.compaction.lag.ms" => self.max_compaction_lag_ms = long(value),
            "max.decompressed.message.bytes" => {
                self.max_decompressed_message_bytes = int(value);
            }
            "max.message.bytes" => self.max_message_bytes = int(value),
            "message.timestamp.after.max.ms" => self.message_timestamp_after_max_ms = long(value),
            "message.timestamp.before.max.ms" => self.message_timestamp_before_max_ms = long(value),
            "message.timestamp.type" => {
                self.message_timestamp_type = if value == "LogAppendTime" {
                    TimestampType::LogAppendTime
                } else {
                    TimestampType::CreateTime
                };
            }
            "min.cleanable.dirty.ratio" => {
                self.min_cleanable_dirty_ratio =
                    value.parse().expect("the table's kind was checked");
            }
            "min.compaction.lag.ms" => self.min_compaction_lag_ms = long(value),
            "min.insync.replicas" => self.min_insync_replicas = int(value),
            "retention.bytes" => self.retention_bytes = limit(value),
            "retention.ms" => self.retention_ms = limit(value),
            "segment.bytes" | "internal.segment.bytes" => self.segment_bytes = int(value),
            "segment.index.bytes" => self.segment_index_bytes = int(value),
            "segment.jitter.ms" => self.segment_jitter_ms = long(value),
            "segment.ms" => self.segment_ms = long(value),
            "unclean.leader.election.enable" => {
                self.unclean_leader_election =
                    parse_boolean(value).expect("the table's kind was checked");
            }
            _ => {}
        }
        Ok(())
    }
}

/// The codec of this name; `None`: the producer's.
fn codec(name: &str) -> Option<Compression> {
    match name {
        "uncompressed" => Some(Compression::None),
        "gzip" => Some(Compression::Gzip),
        "snappy" => Some(Compression::Snappy),
        "lz4" => Some(Compression::Lz4),
        "zstd" => Some(Compression::Zstd),
        _ => None,
    }
}

fn int(value: &str) -> i32 {
    value.parse().expect("the table's kind was checked")
}

fn long(value: &str) -> i64 {
    value.parse().expect("the table's kind was checked")
}

/// A negative number stands for none.
fn limit(value: &str) -> Option<i64> {
    Some(long(value)).filter(|number| *number >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_its_defaults_are_the_structs() {
        assert!(SETTINGS.is_sorted_by(|a, b| a.name < b.name));
        let defaults = SETTINGS
            .iter()
            .filter(|setting| !setting.default.is_empty())
            .map(|setting| (setting.name, setting.default));
        assert_eq!(TopicConfig::from_settings(defaults), Ok(TopicConfig::default()));
    }

    #[test]
    fn values_out_of_bounds_are_refused() {
        let cases = [
            ("segment.bytes", "1048575"),
            ("segment.bytes", "2147483648"),
            ("retention.ms", "-2"),
            ("cleanup.policy", "shred"),
            ("cleanup.policy", "compact,shred"),
            ("cleanup.policy", "delete,"),
            ("leader.replication.throttled.replicas", "0:1,x"),
            ("message.timestamp.type", "createtime"),
            ("min.cleanable.dirty.ratio", "1.5"),
            ("min.cleanable.dirty.ratio", "NaN"),
            ("preallocate", "yes"),
            ("compression.gzip.level", "0"),
            ("max.message.bytes", ""),
        ];
        for (name, value) in cases {
            let error = TopicConfig::default().set(name, value).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
        let error = TopicConfig::default().set("no.such", "1").unwrap_err();
        assert_eq!(error, InvalidSetting::UnknownName("no.such".to_owned()));
    }

    #[test]
    fn a_codec_of_the_topic_changes_what_was_sent_with_another() {
        let config = |settings: &[(&'static str, &'static str)]| {
            TopicConfig::from_settings(settings.iter().copied()).unwrap()
        };
        assert_eq!(config(&[]).recompression(Compression::Gzip), None);
        let gzip = config(&[("compression.type", "gzip"), ("compression.gzip.level", "9")]);
        assert_eq!(gzip.recompression(Compression::Gzip), None);
        let target = Target { codec: Compression::Gzip, level: 9, plain_bytes: None };
        assert_eq!(gzip.recompression(Compression::None), Some(target));
        let plain = config(&[("compression.type", "uncompressed")]);
        assert_eq!(plain.recompression(Compression::None), None);
        let target = plain.recompression(Compression::Zstd);
        assert_eq!(target.map(|target| target.codec), Some(Compression::None));
        let zstd = config(&[("compression.zstd.level", "-5"), ("compression.type", "zstd")]);
        assert_eq!(zstd.recompression(Compression::Lz4).map(|target| target.level), Some(-5));
    }

    #[test]
    fn values_are_taken() {
        let config = TopicConfig::from_settings([
            ("follower.replication.throttled.replicas", "0:1,12:3"),
            ("leader.replication.throttled.replicas", "*"),
            ("cleanup.policy", ""),
            ("cleanup.policy", "compact,delete"),
            ("internal.segment.bytes", "65536"),
            ("segment.bytes", "2097152"),
            ("retention.bytes", "-1"),
            ("retention.ms", " 1000 "),
            ("unclean.leader.election.enable", "TRUE"),
            ("remote.storage.enable", "false"),
        ])
        .unwrap();
        assert_eq!(config.cleanup_policy, CleanupPolicy { compact: true, delete: true });
        assert_eq!(config.segment_bytes, 65536);
        assert_eq!(config.retention_bytes, None);
        assert_eq!(config.retention_ms, Some(1000));
        assert!(config.unclean_leader_election);
    }

    #[test]
    fn values_are_shown_as_apache_kafka_has_understood_them() {
        for (kind, value, expected) in [
            (Kind::Boolean, "TRUE", "true"),
            (Kind::Boolean, " False ", "false"),
            (Kind::Int(0, 9), " +7 ", "7"),
            (Kind::Long(0, 9), "007", "7"),
            (Kind::Double(0.0, 9.0), "1", "1.0"),
            (Kind::Double(0.0, 9.0), "0.50", "0.5"),
            (Kind::Double(0.0, 9.0), "0.00001", "1.0E-5"),
            (Kind::Double(0.0, 9.0), "0.000125", "1.25E-4"),
            (Kind::List, " a , b,c", "a,b,c"),
            (Kind::Text, " a b ", "a b"),
            (Kind::Int(0, 9), "many", "many"),
        ] {
            assert_eq!(kind.shown(value), expected, "{value:?}");
        }
    }
}
