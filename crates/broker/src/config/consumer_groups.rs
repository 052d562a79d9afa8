//! The settings of KIP-848's groups, `group.consumer.*`.

use coordinator::{ConsumerSettings, MigrationPolicy, consumer::assignor::Assignor};

use super::{ConfigError, INT_MAX, Reader};

/// The settings of consumer groups, checked as Apache Kafka checks them at its start.
pub(super) fn settings(reader: &Reader<'_>) -> Result<ConsumerSettings, ConfigError> {
    const ASSIGNORS: &str = "group.consumer.assignors";
    let names = reader.text(ASSIGNORS).unwrap_or("uniform,range");
    let mut assignors = Vec::new();
    for name in names.split(',').map(str::trim) {
        let known = Assignor::named(name).filter(|known| !assignors.contains(known));
        assignors.push(known.ok_or_else(|| reader.refuse(ASSIGNORS, "uniform, range or both"))?);
    }
    let between = |name: &str, min: (&str, i64), max: (&str, i64), default: i64| {
        let least: i64 = reader.int(min.0, 0, min.1)?;
        let most: i64 = reader.int(max.0, 0, max.1)?;
        let value: i64 = reader.int(name, 0, default)?;
        if (least..=most).contains(&value) {
            Ok(value)
        } else {
            Err(reader
                .refuse(name, &format!("a number from {least} ({}) to {most} ({})", min.0, max.0)))
        }
    };
    let session_timeout_ms = between(
        "group.consumer.session.timeout.ms",
        ("group.consumer.min.session.timeout.ms", 45_000),
        ("group.consumer.max.session.timeout.ms", 60_000),
        45_000,
    )?;
    let heartbeat_interval_ms = between(
        "group.consumer.heartbeat.interval.ms",
        ("group.consumer.min.heartbeat.interval.ms", 5_000),
        ("group.consumer.max.heartbeat.interval.ms", 15_000),
        5_000,
    )?;
    let assignment_interval_ms = between(
        "group.consumer.assignment.interval.ms",
        ("group.consumer.min.assignment.interval.ms", 0),
        ("group.consumer.max.assignment.interval.ms", 15_000),
        1_000,
    )?;
    if heartbeat_interval_ms >= session_timeout_ms {
        let expected = "less than group.consumer.session.timeout.ms";
        return Err(reader.refuse("group.consumer.heartbeat.interval.ms", expected));
    }
    Ok(ConsumerSettings {
        heartbeat_interval_ms: i32::try_from(heartbeat_interval_ms).unwrap_or(i32::MAX),
        session_timeout_ms: u64::try_from(session_timeout_ms).unwrap_or(0),
        size_max: reader.int("group.consumer.max.size", 1, INT_MAX)?,
        assignors,
        assignment_interval_ms,
        regex_refresh_interval_ms: reader.int(
            "group.consumer.regex.refresh.interval.ms",
            10_000,
            600_000,
        )?,
        migration: migration_policy(reader)?,
    })
}

fn migration_policy(reader: &Reader<'_>) -> Result<MigrationPolicy, ConfigError> {
    const POLICY: &str = "group.consumer.migration.policy";
    let Some(name) = reader.text(POLICY) else { return Ok(MigrationPolicy::default()) };
    MigrationPolicy::named(name)
        .ok_or_else(|| reader.refuse(POLICY, "disabled, upgrade, downgrade or bidirectional"))
}

/// Whether `group.coordinator.rebalance.protocols` has the protocol of KIP-848. It always has the
/// classic one; share and streams groups are there in no case.
pub(super) fn is_enabled(reader: &Reader<'_>) -> Result<bool, ConfigError> {
    const PROTOCOLS: &str = "group.coordinator.rebalance.protocols";
    let names = reader.text(PROTOCOLS).unwrap_or("classic,consumer");
    let names: Vec<&str> = names.split(',').map(str::trim).collect();
    let is_known = |name: &&str| ["classic", "consumer", "share", "streams"].contains(name);
    if !names.iter().all(is_known) || !names.contains(&"classic") {
        let expected = "classic, and of consumer, share and streams what is wanted";
        return Err(reader.refuse(PROTOCOLS, expected));
    }
    Ok(names.contains(&"consumer"))
}
