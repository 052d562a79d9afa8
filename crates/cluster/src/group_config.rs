//! The settings of a group: Apache Kafka 4.4's names, defaults and bounds. What a group may have is
//! bounded by what its brokers were given (`group.consumer.min.session.timeout.ms` and so on).
//!
//! Pure tables and checks. Whoever coordinates groups asks for the values in force.

use model::{
    collections::{BTreeMap, BTreeSet},
    server_config,
    topic_config::{Kind, Setting},
};

use crate::Error;

/// What a broker was given at its start, by name.
pub type Given = BTreeMap<String, String>;

const INT_FROM_ZERO: Kind = Kind::Int(0, i32::MAX);
const INT_FROM_ONE: Kind = Kind::Int(1, i32::MAX);
/// How a duration is named in `share.auto.offset.reset`.
const BY_DURATION: &str = "by_duration:";
const ASSIGNORS: &str = "group.streams.assignors";
const DEAD_LETTERS: &str = "errors.deadletterqueue.topic.name";

/// A group's setting.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupSetting {
    /// Its name, kind and default; the broker's setting that changes the default.
    pub setting: Setting,
    /// Whether it is told only where it is set: a setting of Kafka's own tests.
    pub is_internal: bool,
    bounds: Bounds,
}

/// Which settings of a broker bound a group's. Where a broker has none of this name, the number in
/// its place holds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bounds {
    None,
    Range(&'static str, &'static str),
    AtMost(&'static str, i64),
    AtLeast(&'static str, i64),
}

const fn row(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    server_name: &'static str,
    bounds: Bounds,
) -> GroupSetting {
    let setting = Setting { name, kind, default, server_name };
    GroupSetting { setting, is_internal: false, bounds }
}

const fn internal(row: GroupSetting) -> GroupSetting {
    GroupSetting { is_internal: true, ..row }
}

/// The settings, in alphabetical order.
pub const SETTINGS: [GroupSetting; 27] = [
    row(
        "consumer.assignment.interval.ms",
        INT_FROM_ZERO,
        "1000",
        "group.consumer.assignment.interval.ms",
        Bounds::Range(
            "group.consumer.min.assignment.interval.ms",
            "group.consumer.max.assignment.interval.ms",
        ),
    ),
    internal(row(
        "consumer.assignor.offload.enable",
        Kind::Boolean,
        "true",
        "group.consumer.assignor.offload.enable",
        Bounds::None,
    )),
    row(
        "consumer.heartbeat.interval.ms",
        INT_FROM_ONE,
        "5000",
        "group.consumer.heartbeat.interval.ms",
        Bounds::Range(
            "group.consumer.min.heartbeat.interval.ms",
            "group.consumer.max.heartbeat.interval.ms",
        ),
    ),
    row(
        "consumer.session.timeout.ms",
        INT_FROM_ONE,
        "45000",
        "group.consumer.session.timeout.ms",
        Bounds::Range(
            "group.consumer.min.session.timeout.ms",
            "group.consumer.max.session.timeout.ms",
        ),
    ),
    row("errors.deadletterqueue.copy.record.enable", Kind::Boolean, "false", "", Bounds::None),
    row(DEAD_LETTERS, Kind::Text, "", "", Bounds::None),
    row(
        "share.assignment.interval.ms",
        INT_FROM_ZERO,
        "1000",
        "group.share.assignment.interval.ms",
        Bounds::Range(
            "group.share.min.assignment.interval.ms",
            "group.share.max.assignment.interval.ms",
        ),
    ),
    internal(row(
        "share.assignor.offload.enable",
        Kind::Boolean,
        "true",
        "group.share.assignor.offload.enable",
        Bounds::None,
    )),
    row("share.auto.offset.reset", Kind::Text, "latest", "", Bounds::None),
    row(
        "share.delivery.count.limit",
        Kind::Int(2, i32::MAX),
        "5",
        "group.share.delivery.count.limit",
        Bounds::Range(
            "group.share.min.delivery.count.limit",
            "group.share.max.delivery.count.limit",
        ),
    ),
    row(
        "share.heartbeat.interval.ms",
        INT_FROM_ONE,
        "5000",
        "group.share.heartbeat.interval.ms",
        Bounds::Range(
            "group.share.min.heartbeat.interval.ms",
            "group.share.max.heartbeat.interval.ms",
        ),
    ),
    row(
        "share.isolation.level",
        Kind::Choice(&["read_committed", "read_uncommitted"]),
        "read_uncommitted",
        "",
        Bounds::None,
    ),
    row(
        "share.partition.max.record.locks",
        Kind::Int(100, i32::MAX),
        "2000",
        "group.share.partition.max.record.locks",
        Bounds::Range(
            "group.share.min.partition.max.record.locks",
            "group.share.max.partition.max.record.locks",
        ),
    ),
    row(
        "share.record.lock.duration.ms",
        Kind::Int(1000, i32::MAX),
        "30000",
        "group.share.record.lock.duration.ms",
        Bounds::Range(
            "group.share.min.record.lock.duration.ms",
            "group.share.max.record.lock.duration.ms",
        ),
    ),
    row("share.renew.acknowledge.enable", Kind::Boolean, "true", "", Bounds::None),
    row(
        "share.session.timeout.ms",
        INT_FROM_ONE,
        "45000",
        "group.share.session.timeout.ms",
        Bounds::Range("group.share.min.session.timeout.ms", "group.share.max.session.timeout.ms"),
    ),
    internal(row(
        "streams.acceptable.recovery.lag",
        Kind::Long(0, i64::MAX),
        "10000",
        "group.streams.acceptable.recovery.lag",
        Bounds::None,
    )),
    row(
        "streams.assignment.interval.ms",
        INT_FROM_ZERO,
        "1000",
        "group.streams.assignment.interval.ms",
        Bounds::Range(
            "group.streams.min.assignment.interval.ms",
            "group.streams.max.assignment.interval.ms",
        ),
    ),
    row("streams.assignor.name", Kind::Text, "sticky", ASSIGNORS, Bounds::None),
    internal(row(
        "streams.assignor.offload.enable",
        Kind::Boolean,
        "true",
        "group.streams.assignor.offload.enable",
        Bounds::None,
    )),
    row(
        "streams.heartbeat.interval.ms",
        INT_FROM_ONE,
        "5000",
        "group.streams.heartbeat.interval.ms",
        Bounds::Range(
            "group.streams.min.heartbeat.interval.ms",
            "group.streams.max.heartbeat.interval.ms",
        ),
    ),
    row(
        "streams.initial.rebalance.delay.ms",
        INT_FROM_ZERO,
        "3000",
        "group.streams.initial.rebalance.delay.ms",
        Bounds::None,
    ),
    row(
        "streams.num.standby.replicas",
        INT_FROM_ZERO,
        "0",
        "group.streams.num.standby.replicas",
        Bounds::AtMost("group.streams.max.standby.replicas", 2),
    ),
    internal(row(
        "streams.num.warmup.replicas",
        INT_FROM_ZERO,
        "2",
        "group.streams.num.warmup.replicas",
        Bounds::AtMost("group.streams.max.warmup.replicas", 20),
    )),
    row(
        "streams.rack.aware.assignment.tags",
        Kind::List,
        "",
        "group.streams.rack.aware.assignment.tags",
        Bounds::None,
    ),
    row(
        "streams.session.timeout.ms",
        INT_FROM_ONE,
        "45000",
        "group.streams.session.timeout.ms",
        Bounds::Range(
            "group.streams.min.session.timeout.ms",
            "group.streams.max.session.timeout.ms",
        ),
    ),
    internal(row(
        "streams.task.offset.interval.ms",
        INT_FROM_ONE,
        "60000",
        "group.streams.task.offset.interval.ms",
        Bounds::AtLeast("group.streams.min.task.offset.interval.ms", 15_000),
    )),
];

/// The setting of this name.
///
/// # Errors
/// When there is none.
pub fn find(name: &str) -> Result<&'static GroupSetting, Error> {
    let found = SETTINGS.iter().find(|one| one.setting.name == name);
    found.ok_or_else(|| {
        Error::InvalidConfig(format!("Unknown group config name: {}", name.escape_default()))
    })
}

/// Checks the settings of a group, each alone and together, in Kafka's order and words.
///
/// # Errors
/// At the first that is refused.
pub fn check(settings: &BTreeMap<String, String>, given: &Given) -> Result<(), Error> {
    for name in settings.keys() {
        find(name)?;
    }
    for (name, value) in settings {
        check_value(find(name)?, value)?;
    }
    for (name, value) in settings {
        check_bounds(find(name)?, value, given)?;
    }
    for kind in ["consumer", "share", "streams"] {
        let session = format!("{kind}.session.timeout.ms");
        let heartbeat = format!("{kind}.heartbeat.interval.ms");
        let are_set = settings.contains_key(&session) || settings.contains_key(&heartbeat);
        let number = |name: &str| {
            let own = settings.get(name).and_then(|value| value.trim().parse().ok());
            own.or_else(|| server_number(find(name).ok()?.setting.server_name, given))
        };
        if are_set && number(&session) <= number(&heartbeat) {
            return Err(Error::InvalidConfig(format!(
                "{session} must be greater than {heartbeat}"
            )));
        }
    }
    Ok(())
}

/// The number that a group's setting amounts to. The broker's bounds may be others by now than when
/// it was set: then the nearest bound holds. Nothing for a setting that is no number.
#[must_use]
pub fn number_in_force(name: &str, value: &str, given: &Given) -> Option<i64> {
    let number: i64 = value.trim().parse().ok()?;
    let bound = |name: &str, default: i64| server_number(name, given).unwrap_or(default);
    Some(match find(name).ok()?.bounds {
        Bounds::None => number,
        // Not `clamp`, which wants the two in order.
        Bounds::Range(min, max) => {
            let (min, max) = (bound(min, 0), bound(max, i64::MAX));
            if number < min { min } else { number.min(max) }
        }
        Bounds::AtMost(max, default) => number.min(bound(max, default)),
        Bounds::AtLeast(min, default) => number.max(bound(min, default)),
    })
}

fn check_value(found: &GroupSetting, value: &str) -> Result<(), Error> {
    let name = found.setting.name;
    let trimmed = value.trim();
    let is_reset = name == "share.auto.offset.reset" && !is_offset_reset(value);
    let reset = is_reset.then(|| {
        format!(
            "Invalid value `{value}` for configuration {name}. The value must be either \
             'earliest', 'latest' or of the format 'by_duration:<PnDTnHnMn.nS>'."
        )
    });
    match found.setting.kind.refusal(trimmed).or(reset) {
        None => Ok(()),
        Some(reason) => Err(Error::InvalidConfig(format!(
            "Invalid value {value} for configuration {name}: {reason}"
        ))),
    }
}

fn check_bounds(found: &GroupSetting, value: &str, given: &Given) -> Result<(), Error> {
    let name = found.setting.name;
    let number = || value.trim().parse::<i64>().unwrap_or(0);
    let refusal = match found.bounds {
        Bounds::Range(min, max) => {
            let (min, max) = (server_number(min, given), server_number(max, given));
            let (min, max) = (min.unwrap_or(0), max.unwrap_or(i64::MAX));
            let is_within = (min..=max).contains(&number());
            (!is_within).then(|| format!("{name} must be in the range {min} to {max} inclusive."))
        }
        Bounds::AtMost(max, default) => {
            let max = server_number(max, given).unwrap_or(default);
            (number() > max).then(|| format!("{name} must be less than or equal to {max}"))
        }
        Bounds::AtLeast(min, default) => {
            let min = server_number(min, given).unwrap_or(default);
            (number() < min).then(|| format!("{name} must be greater than or equal to {min}"))
        }
        Bounds::None => other_refusal(found, value, given),
    };
    refusal.map_or(Ok(()), |refusal| Err(Error::InvalidConfig(refusal)))
}

/// What is wrong with a value that no number bounds.
fn other_refusal(found: &GroupSetting, value: &str, given: &Given) -> Option<String> {
    let name = found.setting.name;
    if name == DEAD_LETTERS && value.starts_with("__") {
        return Some(format!("{name}: DLQ topic name must not start with '__'"));
    }
    if found.setting.server_name == ASSIGNORS {
        let known = server_value(ASSIGNORS, given).unwrap_or(found.setting.default);
        let known: Vec<&str> = known.split(',').map(str::trim).collect();
        let is_known = known.contains(&value.trim());
        return (!is_known).then(|| {
            let (value, known) = (value.escape_default(), known.join(", "));
            format!(
                "{name} '{value}' is not a registered task assignor. Registered assignors are: \
                 [{known}]."
            )
        });
    }
    if found.setting.kind == Kind::List {
        let words: Vec<&str> = value.split(',').map(str::trim).collect();
        let distinct: BTreeSet<&&str> = words.iter().collect();
        let is_distinct = distinct.len() == words.len();
        return (!is_distinct).then(|| format!("{name} must not contain duplicate tag keys."));
    }
    None
}

fn server_value<'a>(name: &str, given: &'a Given) -> Option<&'a str> {
    let default = || server_config::find(name)?.default;
    given.get(name).map(String::as_str).or_else(default)
}

fn server_number(name: &str, given: &Given) -> Option<i64> {
    server_value(name, given)?.trim().parse().ok()
}

/// `earliest`, `latest`, or a duration of ISO 8601 that is not negative.
fn is_offset_reset(value: &str) -> bool {
    match value.strip_prefix(BY_DURATION) {
        Some(duration) => is_duration(duration),
        None => value == "earliest" || value == "latest",
    }
}

/// Days, hours, minutes and seconds, each at most once and in this order, at least one.
fn is_duration(text: &str) -> bool {
    let text = text.to_ascii_uppercase();
    let Some(text) = text.strip_prefix('P') else { return false };
    let (days, times) = text.split_once('T').map_or((text, None), |(d, t)| (d, Some(t)));
    let mut count = 0;
    let mut is_part = |rest: &mut &str, unit: char, may_be_fraction: bool| {
        let Some((number, behind)) = rest.split_once(unit) else { return true };
        *rest = behind;
        count += 1;
        let (whole, fraction) = number.split_once(['.', ',']).unwrap_or((number, ""));
        let are_digits = |digits: &str| digits.bytes().all(|digit| digit.is_ascii_digit());
        let is_whole = !whole.is_empty() && whole.len() <= 18 && are_digits(whole);
        let is_fraction = number.len() == whole.len() || may_be_fraction;
        is_whole && is_fraction && fraction.len() <= 9 && are_digits(fraction)
    };
    let mut rest = days;
    if !is_part(&mut rest, 'D', false) || !rest.is_empty() {
        return false;
    }
    let Some(mut rest) = times else { return count > 0 };
    let before = rest;
    let are_parts = is_part(&mut rest, 'H', false)
        && is_part(&mut rest, 'M', false)
        && is_part(&mut rest, 'S', true);
    are_parts && rest.is_empty() && !before.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(settings: &[(&str, &str)], given: &[(&str, &str)]) -> String {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let (settings, given): (BTreeMap<_, _>, Given) = (map(settings), map(given));
        check(&settings, &given).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_table_is_sorted_and_its_defaults_are_the_brokers() {
        assert!(SETTINGS.is_sorted_by(|one, other| one.setting.name < other.setting.name));
        for one in SETTINGS {
            let setting = one.setting;
            let value = [(setting.name, setting.default)];
            assert_eq!(refused(&value, &[]), "", "{}", setting.name);
            match server_config::find(setting.server_name) {
                Some(server) => assert_eq!(server.default, Some(setting.default)),
                None => assert!(one.is_internal || setting.server_name.is_empty()),
            }
            if let Bounds::Range(min, max) = one.bounds {
                assert!(server_number(min, &Given::new()) < server_number(max, &Given::new()));
            }
        }
    }

    #[test]
    fn what_kafka_refuses_is_refused_in_its_words() {
        let cases = [
            ("nope", "1", "Unknown group config name: nope"),
            ("consumer.session.timeout.ms", "45001", ""),
            ("consumer.session.timeout.ms", "x", "Not a number of type INT"),
            ("consumer.session.timeout.ms", "1", "must be in the range 45000 to 60000 inclusive."),
            ("consumer.heartbeat.interval.ms", "0", "Value must be at least 1"),
            ("consumer.heartbeat.interval.ms", "15001", "in the range 5000 to 15000 inclusive."),
            ("share.delivery.count.limit", "11", "must be in the range 2 to 10 inclusive."),
            ("share.isolation.level", "x", "must be one of: read_committed, read_uncommitted"),
            ("share.auto.offset.reset", "by_duration:P2DT3H4M5.6S", ""),
            ("share.auto.offset.reset", "by_duration:PT", "must be either 'earliest', 'latest'"),
            ("share.auto.offset.reset", "by_duration:P", "must be either 'earliest', 'latest'"),
            ("share.auto.offset.reset", "by_duration:-PT1H", "must be either 'earliest'"),
            ("share.auto.offset.reset", "by_duration:PT1M2H", "must be either 'earliest'"),
            ("share.auto.offset.reset", "Latest", "must be either 'earliest'"),
            ("streams.num.standby.replicas", "3", "must be less than or equal to 2"),
            ("streams.num.warmup.replicas", "21", "must be less than or equal to 20"),
            ("streams.task.offset.interval.ms", "14999", "greater than or equal to 15000"),
            ("streams.rack.aware.assignment.tags", "a,b", ""),
            ("streams.rack.aware.assignment.tags", "a,a", "must not contain duplicate tag keys."),
            ("streams.assignor.name", "x", "Registered assignors are: [sticky]."),
            (DEAD_LETTERS, "__x", "DLQ topic name must not start with '__'"),
            (DEAD_LETTERS, "dlq.x", ""),
        ];
        for (name, value, expected) in cases {
            let refusal = refused(&[(name, value)], &[]);
            let is_expected =
                refusal.contains(expected) && refusal.is_empty() == expected.is_empty();
            assert!(is_expected, "{name}={value}: {refusal}");
        }
    }

    #[test]
    fn a_number_that_the_brokers_bounds_have_left_behind_is_cut() {
        let given =
            Given::from([("group.consumer.max.session.timeout.ms".to_owned(), "50000".to_owned())]);
        let session = "consumer.session.timeout.ms";
        let cases = [
            (session, "48000", Some(48_000)),
            (session, "60000", Some(50_000)),
            (session, "1", Some(45_000)),
            ("streams.num.standby.replicas", "9", Some(2)),
            ("streams.task.offset.interval.ms", "1", Some(15_000)),
            ("share.isolation.level", "read_committed", None),
            ("nope", "1", None),
        ];
        for (name, value, expected) in cases {
            assert_eq!(number_in_force(name, value, &given), expected, "{name}={value}");
        }
    }

    #[test]
    fn the_brokers_settings_bound_a_groups() {
        let given = [
            ("group.consumer.min.session.timeout.ms", "100"),
            ("group.consumer.max.heartbeat.interval.ms", "50000"),
        ];
        let refusal = refused(&[("consumer.session.timeout.ms", "99")], &given);
        assert!(refusal.contains("100 to 60000"), "{refusal}");
        assert_eq!(refused(&[("consumer.session.timeout.ms", "5001")], &given), "");
        let refusal = refused(&[("consumer.session.timeout.ms", "5000")], &given);
        assert!(refusal.contains("must be greater than consumer.heartbeat.interval.ms"));
        let refusal = refused(&[("consumer.heartbeat.interval.ms", "45000")], &given);
        assert!(refusal.contains("must be greater than consumer.heartbeat.interval.ms"));
    }
}
