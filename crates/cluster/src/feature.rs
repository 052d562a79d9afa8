//! The features of KRaft that this node has, and the levels that a new directory begins with.
//!
//! A stock Apache Kafka 4.4 finalizes six: `metadata.version` 33, `eligible.leader.replicas.version`
//! 1, `group.version` 1, `share.version` 2, `streams.version` 1 and `transaction.version` 2. Clients
//! read the finalized levels as promises (KIP-848 groups, transactions of KIP-890), so only what
//! this node does is finalized: the metadata's own version, that of groups and that of transactions. A directory that Apache Kafka wrote
//! keeps its levels in its log; what is told to clients is [`finalized`], never more than supported.

use crate::MetadataImage;
use crate::record::FeatureRange;

/// The feature that says which records the metadata log may hold.
pub const METADATA_VERSION: &str = "metadata.version";
/// The feature that says how the quorum keeps its voters; its level is in control records.
pub const KRAFT_VERSION: &str = "kraft.version";

/// The feature that says whether groups may speak KIP-848's protocol.
pub const GROUP_VERSION: &str = "group.version";

/// The feature that says how transactions end and how partitions come into them (KIP-890).
pub const TRANSACTION_VERSION: &str = "transaction.version";

/// The level of `transaction.version` whose transactions have an epoch each, and the one of a new
/// directory.
pub const TRANSACTION_VERSION_MAX: i16 = 2;
/// The level of `group.version` with KIP-848's groups, and the one of a new directory.
pub const GROUP_VERSION_MAX: i16 = 1;
/// 4.0-IV1: the first level whose partition records are version 2. Older ones are not written.
pub const METADATA_VERSION_MIN: i16 = 23;
/// 4.3-IV0: brokers register with version 4, and log directories can be cordoned.
pub const METADATA_VERSION_CORDON: i16 = 30;
/// 4.4-IV2: the newest level of Apache Kafka 4.4, and the one of a new directory.
pub const METADATA_VERSION_MAX: i16 = 33;
/// The level of `kraft.version` that is written: voters are in the log (KIP-853).
pub const KRAFT_VERSION_LEVEL: i16 = 1;

/// What this node supports, by name.
pub const SUPPORTED: [(&str, i16, i16); 4] = [
    (GROUP_VERSION, 0, GROUP_VERSION_MAX),
    (KRAFT_VERSION, 0, KRAFT_VERSION_LEVEL),
    (METADATA_VERSION, METADATA_VERSION_MIN, METADATA_VERSION_MAX),
    (TRANSACTION_VERSION, 0, TRANSACTION_VERSION_MAX),
];

/// [`SUPPORTED`] as a registration names it.
#[must_use]
pub fn supported() -> Vec<FeatureRange> {
    let range = |(name, min, max): (&str, i16, i16)| FeatureRange {
        name: name.to_owned(),
        min_supported_version: min,
        max_supported_version: max,
    };
    SUPPORTED.into_iter().map(range).collect()
}

/// The finalized levels that this node may tell its clients, in the order of their names.
#[must_use]
pub fn finalized(image: &MetadataImage) -> Vec<(&'static str, i16)> {
    let level = |(name, _, max): (&'static str, i16, i16)| {
        let level = match name {
            KRAFT_VERSION => KRAFT_VERSION_LEVEL,
            _ => image.feature(name).min(max),
        };
        (level > 0).then_some((name, level))
    };
    SUPPORTED.into_iter().filter_map(level).collect()
}
