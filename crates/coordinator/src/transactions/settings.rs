//! What the operator can set, with Apache Kafka's names and defaults.

/// The settings of a transaction coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `transaction.max.timeout.ms`.
    pub timeout_max_ms: i32,
    /// `transactional.id.expiration.ms`.
    pub id_expiration_ms: i64,
    /// `transaction.abort.timed.out.transaction.cleanup.interval.ms`.
    pub abort_interval_ms: u64,
    /// `transaction.remove.expired.transaction.cleanup.interval.ms`.
    pub expiration_interval_ms: u64,
    /// The finalized level of `transaction.version`: records are written in the form of it, and
    /// the coordinator's own aborts bump epochs from 2 on.
    pub transaction_version: i16,
}

impl Settings {
    pub(super) fn value_version(&self) -> i16 {
        i16::from(self.transaction_version >= 1)
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            timeout_max_ms: 900_000,
            id_expiration_ms: 7 * 24 * 60 * 60 * 1000,
            abort_interval_ms: 10_000,
            expiration_interval_ms: 60 * 60 * 1000,
            transaction_version: 0,
        }
    }
}
