//! What the operator can set, with Apache Kafka's names and defaults.

use crate::consumer::assignor::Assignor;

/// The settings of a group coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `group.min.session.timeout.ms`.
    pub session_timeout_min_ms: i32,
    /// `group.max.session.timeout.ms`.
    pub session_timeout_max_ms: i32,
    /// `group.initial.rebalance.delay.ms`. 0 as in the server.properties that Apache Kafka ships;
    /// its code's own default is 3000.
    pub initial_rebalance_delay_ms: u32,
    /// `group.max.size`.
    pub group_size_max: usize,
    /// `offset.metadata.max.bytes`, counted in UTF-16 units as there.
    pub offset_metadata_max: usize,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`.
    pub retention_check_interval_ms: u64,
    /// Those of consumer groups.
    pub consumer: ConsumerSettings,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            session_timeout_min_ms: 6_000,
            session_timeout_max_ms: 1_800_000,
            initial_rebalance_delay_ms: 0,
            group_size_max: usize::MAX,
            offset_metadata_max: 4096,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1000,
            retention_check_interval_ms: 600_000,
            consumer: ConsumerSettings::default(),
        }
    }
}

/// The settings of consumer groups (KIP-848), `group.consumer.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerSettings {
    /// `heartbeat.interval.ms`.
    pub heartbeat_interval_ms: i32,
    /// `session.timeout.ms`.
    pub session_timeout_ms: u64,
    /// `max.size`.
    pub size_max: usize,
    /// `assignors`, the default first; never empty.
    pub assignors: Vec<Assignor>,
    /// `assignment.interval.ms`: how soon after one assignment the next may be made.
    pub assignment_interval_ms: i64,
    /// `regex.refresh.interval.ms`.
    pub regex_refresh_interval_ms: i64,
    /// `migration.policy`.
    pub migration: MigrationPolicy,
}

/// Which groups change their protocol while they have members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MigrationPolicy {
    /// None does, and no classic member joins a consumer group.
    Disabled,
    /// A classic group becomes a consumer group when a member of that protocol joins.
    Upgrade,
    /// A consumer group becomes a classic group when its last member of that protocol leaves.
    Downgrade,
    /// Both.
    #[default]
    Bidirectional,
}

impl MigrationPolicy {
    /// The policy of this name, however it is written.
    #[must_use]
    pub fn named(name: &str) -> Option<MigrationPolicy> {
        let named = [
            ("disabled", MigrationPolicy::Disabled),
            ("upgrade", MigrationPolicy::Upgrade),
            ("downgrade", MigrationPolicy::Downgrade),
            ("bidirectional", MigrationPolicy::Bidirectional),
        ];
        named.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, one)| one)
    }

    pub(crate) fn upgrades(self) -> bool {
        matches!(self, MigrationPolicy::Upgrade | MigrationPolicy::Bidirectional)
    }

    pub(crate) fn downgrades(self) -> bool {
        matches!(self, MigrationPolicy::Downgrade | MigrationPolicy::Bidirectional)
    }
}

/// What one consumer group has in the place of the broker's settings, within the broker's bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupSettings {
    /// `consumer.heartbeat.interval.ms`.
    pub heartbeat_interval_ms: Option<i32>,
    /// `consumer.session.timeout.ms`.
    pub session_timeout_ms: Option<u64>,
    /// `consumer.assignment.interval.ms`.
    pub assignment_interval_ms: Option<i64>,
}

impl ConsumerSettings {
    /// These, but for what a group has of its own.
    pub(crate) fn with(&self, own: GroupSettings) -> ConsumerSettings {
        ConsumerSettings {
            heartbeat_interval_ms: own.heartbeat_interval_ms.unwrap_or(self.heartbeat_interval_ms),
            session_timeout_ms: own.session_timeout_ms.unwrap_or(self.session_timeout_ms),
            assignment_interval_ms: own
                .assignment_interval_ms
                .unwrap_or(self.assignment_interval_ms),
            ..self.clone()
        }
    }

    /// The assignor of groups whose members prefer none.
    pub(crate) fn default_assignor(&self) -> Assignor {
        self.assignors.first().copied().unwrap_or(Assignor::Uniform)
    }
}

impl Default for ConsumerSettings {
    fn default() -> ConsumerSettings {
        ConsumerSettings {
            heartbeat_interval_ms: 5_000,
            session_timeout_ms: 45_000,
            size_max: 2_147_483_647,
            assignors: vec![Assignor::Uniform, Assignor::Range],
            assignment_interval_ms: 1_000,
            regex_refresh_interval_ms: 600_000,
            migration: MigrationPolicy::default(),
        }
    }
}
