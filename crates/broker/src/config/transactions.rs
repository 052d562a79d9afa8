//! The settings of transactions: `transaction.*` and what belongs to it.

use coordinator::transactions::TransactionSettings;

use super::{ConfigError, PARTITIONS_MAX, Reader};

/// The settings of transactions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionsConfig {
    /// What coordinators go by; the level of `transaction.version` is the metadata's.
    pub settings: TransactionSettings,
    /// `transaction.partition.verification.enable`.
    pub verifies_partitions: bool,
    /// `add.partitions.to.txn.retry.backoff.max.ms`: how long a batch of the next transaction waits
    /// for the markers of the one before.
    pub add_patience_ms: u64,
    /// `transaction.state.log.num.partitions`.
    pub log_partition_count: i32,
    /// The settings of `__transaction_state` that are given here, by the topic's names.
    pub log_settings: Vec<(&'static str, String)>,
}

pub(super) fn settings(reader: &Reader<'_>) -> Result<TransactionsConfig, ConfigError> {
    const TWO_PHASE: &str = "transaction.two.phase.commit.enable";
    const SEGMENT_BYTES: &str = "transaction.state.log.segment.bytes";
    const MIN_ISR: &str = "transaction.state.log.min.isr";
    if reader.boolean(TWO_PHASE, false)? {
        let reason = "transactions are not prepared for others to end";
        return Err(reader.unsupported(TWO_PHASE, reason));
    }
    let segment_bytes: i32 = reader.int(SEGMENT_BYTES, 1, 104_857_600)?;
    let mut log_settings = vec![("segment.bytes", segment_bytes.to_string())];
    // Kafka's default of 2 would stop this node's transactions where its only replica is led by
    // Apache Kafka.
    if reader.text(MIN_ISR).is_some() {
        let min_isr: i32 = reader.int(MIN_ISR, 1, 1)?;
        log_settings.push(("min.insync.replicas", min_isr.to_string()));
    }
    Ok(TransactionsConfig {
        settings: TransactionSettings {
            timeout_max_ms: reader.int("transaction.max.timeout.ms", 1, 900_000)?,
            id_expiration_ms: reader.int("transactional.id.expiration.ms", 1, 604_800_000)?,
            abort_interval_ms: reader.int(
                "transaction.abort.timed.out.transaction.cleanup.interval.ms",
                1,
                10_000,
            )?,
            expiration_interval_ms: reader.int(
                "transaction.remove.expired.transaction.cleanup.interval.ms",
                1,
                3_600_000,
            )?,
            transaction_version: 0,
        },
        verifies_partitions: reader.boolean("transaction.partition.verification.enable", true)?,
        add_patience_ms: reader.int("add.partitions.to.txn.retry.backoff.max.ms", 0, 100)?,
        log_partition_count: reader.number(
            "transaction.state.log.num.partitions",
            1,
            PARTITIONS_MAX,
            50,
        )?,
        log_settings,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<TransactionsConfig, ConfigError> {
        let all: BTreeMap<String, String> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        settings(&Reader::new(&all))
    }

    #[test]
    fn settings_have_kafkas_defaults_and_bounds() {
        let config = read(&[]).unwrap();
        assert_eq!(config.settings, TransactionSettings::default());
        assert_eq!((config.log_partition_count, config.add_patience_ms), (50, 100));
        assert_eq!(config.log_settings, [("segment.bytes", "104857600".to_owned())]);
        let given = read(&[
            ("transaction.max.timeout.ms", "5"),
            ("transaction.state.log.num.partitions", "3"),
            ("transaction.state.log.min.isr", "1"),
            ("transaction.partition.verification.enable", "false"),
        ]);
        let given = given.unwrap();
        assert_eq!((given.settings.timeout_max_ms, given.log_partition_count), (5, 3));
        assert!(!given.verifies_partitions);
        assert_eq!(given.log_settings[1], ("min.insync.replicas", "1".to_owned()));
        for (name, value) in [
            ("transaction.max.timeout.ms", "0"),
            ("transactional.id.expiration.ms", "0"),
            ("transaction.state.log.num.partitions", "0"),
            ("transaction.two.phase.commit.enable", "true"),
        ] {
            assert!(read(&[(name, value)]).is_err(), "{name}={value}");
        }
    }
}
