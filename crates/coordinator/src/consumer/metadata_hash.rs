//! The hash of what a consumer group subscribes to (KIP-1101): it tells whether topics changed
//! since the assignment was made, and it is in the group's record, so that it has to be the very
//! number that Apache Kafka computes.
//!
//! ```text
//! topic: XXH3-64 of  0u8 | id, its two halves as i64 | name | partition count i32
//!                    | for each partition: its number i32 | for each rack, sorted: length i32, rack
//! group: XXH3-64 of the topics' hashes as i64, in the order of the names; 0 without topics
//! ```
//! All numbers are little-endian. A text is its UTF-16 units and then their count as i32.

use model::collections::BTreeMap;
use twox_hash::XxHash3_64;

use crate::topics::Topics;

/// The version of the way in which topics are hashed.
const TOPIC_HASH_MAGIC: u8 = 0;

/// The hash of the topics of these names; those that do not exist do not count.
pub fn metadata_hash<'a>(names: impl Iterator<Item = &'a str>, topics: &dyn Topics) -> i64 {
    // Java sorts by UTF-16 units, which differs from UTF-8 outside of what topics are named with.
    let hashes: BTreeMap<&str, i64> =
        names.filter_map(|name| Some((name, topic_hash(name, topics)?))).collect();
    if hashes.is_empty() {
        return 0;
    }
    let bytes: Vec<u8> = hashes.values().flat_map(|hash| hash.to_le_bytes()).collect();
    XxHash3_64::oneshot(&bytes).cast_signed()
}

fn topic_hash(name: &str, topics: &dyn Topics) -> Option<i64> {
    let topic = topics.by_name(name)?;
    let (high, low) = topic.id.0.split_at(8);
    let mut bytes = vec![TOPIC_HASH_MAGIC];
    bytes.extend(high.iter().rev());
    bytes.extend(low.iter().rev());
    put_text(&mut bytes, name);
    bytes.extend(topic.partition_count.to_le_bytes());
    for partition in 0..topic.partition_count {
        bytes.extend(partition.to_le_bytes());
        let mut racks = topics.racks(topic.id, partition);
        racks.sort();
        for rack in racks {
            bytes.extend(utf16_length(&rack).to_le_bytes());
            put_text(&mut bytes, &rack);
        }
    }
    Some(XxHash3_64::oneshot(&bytes).cast_signed())
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
    bytes.extend(utf16_length(text).to_le_bytes());
}

fn utf16_length(text: &str) -> i32 {
    i32::try_from(text.encode_utf16().count()).expect("names are shorter than 2 GiB")
}

#[cfg(test)]
mod tests {
    use model::{TopicId, Uuid};

    use super::*;
    use crate::settings::GroupSettings;
    use crate::topics::TopicShape;

    #[derive(Debug)]
    struct Table;

    const ORDERS: &str = "orders-long-name";
    const A_ID: Uuid = Uuid([0x61, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    const ORDERS_ID: Uuid = Uuid([0x62, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);

    impl Topics for Table {
        fn by_name(&self, name: &str) -> Option<TopicShape> {
            match name {
                "a" => Some(TopicShape { id: A_ID, partition_count: 6 }),
                ORDERS => Some(TopicShape { id: ORDERS_ID, partition_count: 3 }),
                _ => None,
            }
        }

        fn name_of(&self, _: TopicId) -> Option<String> {
            None
        }

        fn racks(&self, id: TopicId, _: i32) -> Vec<String> {
            let racks: &[&str] = if id == A_ID { &[] } else { &["rack-a", "r"] };
            racks.iter().map(|rack| (*rack).to_owned()).collect()
        }

        fn matching(&self, _: &dyn Fn(&str) -> bool) -> Vec<String> {
            Vec::new()
        }

        fn settings_of(&self, _: &str) -> GroupSettings {
            GroupSettings::default()
        }

        fn version(&self) -> i64 {
            0
        }
    }

    #[test]
    fn hashes_are_apache_kafkas() {
        // Of Utils.computeTopicHash and computeGroupHash in Apache Kafka 4.4.0.
        assert_eq!(topic_hash("a", &Table), Some(-5_544_566_549_262_438_167));
        assert_eq!(topic_hash(ORDERS, &Table), Some(-3_589_863_050_512_787_313));
        let cases: [(&[&str], i64); 4] = [
            (&[], 0),
            (&["gone"], 0),
            (&["a", "gone"], 5_417_672_157_347_786_780),
            (&[ORDERS, "a"], -4_681_856_634_434_465_880),
        ];
        for (names, expected) in cases {
            assert_eq!(metadata_hash(names.iter().copied(), &Table), expected, "{names:?}");
        }
    }
}
