//! Which partition of `__consumer_offsets` a group belongs to, and how that topic is created.

/// The topic that holds groups and offsets.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// The topic's own settings.
pub const OFFSETS_TOPIC_CONFIGS: [(&str, &str); 3] = [
    ("cleanup.policy", "compact"),
    ("compression.type", "producer"),
    ("segment.bytes", "104857600"),
];

/// The partition of a group among `partition_count`: the absolute value of Java's hash of the
/// name, where the one hash that has none counts as 0.
///
/// # Panics
/// Without partitions.
#[must_use]
pub fn partition_of(group_id: &str, partition_count: i32) -> i32 {
    assert!(partition_count > 0, "the offsets topic has partitions");
    let hash = group_id
        .encode_utf16()
        .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    hash.checked_abs().unwrap_or(0) % partition_count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_where_apache_kafka_puts_them() {
        // Java: (Utils.abs(name.hashCode())) % count; "polygenelubricants" hashes to i32::MIN.
        let cases = [
            ("g1", 50, 42),
            ("", 50, 0),
            ("a", 50, 47),
            ("group1", 50, 40),
            ("others", 50, 25),
            ("polygenelubricants", 50, 0),
            ("\u{1F600}", 50, 49),
        ];
        for (group, count, expected) in cases {
            assert_eq!(partition_of(group, count), expected, "{group}");
        }
    }
}
