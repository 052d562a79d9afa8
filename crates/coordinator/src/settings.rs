//! What the operator can set, with Apache Kafka's names and defaults.

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
        }
    }
}
