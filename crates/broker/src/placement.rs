//! Which shard owns which partition: computed by every shard from the same metadata, in the same
//! order, and stored nowhere.
//!
//! A new partition goes to the shard with the fewest of its topic's partitions, then the fewest in
//! all, then the lowest number.

use model::{TopicId, TopicPartition, collections::HashMap};
use runtime::ShardIndex;

pub(crate) struct Placement {
    owners: HashMap<TopicPartition, ShardIndex>,
    of_topic: HashMap<TopicId, Vec<u32>>,
    in_all: Vec<u32>,
}

impl Placement {
    pub(crate) fn new(shard_count: u16) -> Placement {
        Placement {
            owners: HashMap::default(),
            of_topic: HashMap::default(),
            in_all: vec![0; usize::from(shard_count)],
        }
    }

    pub(crate) fn owner(&self, partition: TopicPartition) -> Option<ShardIndex> {
        self.owners.get(&partition).copied()
    }

    /// Gives a partition an owner, if it has none.
    pub(crate) fn place(&mut self, partition: TopicPartition) {
        if self.owners.contains_key(&partition) {
            return;
        }
        let shard_count = self.in_all.len();
        let of_topic = self.of_topic.entry(partition.topic).or_insert_with(|| vec![0; shard_count]);
        let shard = (0..shard_count)
            .min_by_key(|shard| (of_topic[*shard], self.in_all[*shard]))
            .expect("there is a shard");
        of_topic[shard] += 1;
        self.in_all[shard] += 1;
        let index = u16::try_from(shard).expect("made from a u16");
        self.owners.insert(partition, ShardIndex(index));
    }

    /// Forgets a partition that is gone.
    pub(crate) fn remove(&mut self, partition: TopicPartition) {
        let Some(owner) = self.owners.remove(&partition) else { return };
        let shard = usize::from(owner.0);
        self.in_all[shard] -= 1;
        let of_topic = self.of_topic.get_mut(&partition.topic).expect("it had a partition");
        of_topic[shard] -= 1;
        if of_topic.iter().all(|count| *count == 0) {
            self.of_topic.remove(&partition.topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use model::{PartitionId, Uuid};

    use super::*;

    fn id(topic: u64, partition: i32) -> TopicPartition {
        TopicPartition { topic: Uuid::from_random(topic, topic), partition: PartitionId(partition) }
    }

    #[test]
    fn partitions_spread_by_topic_then_in_all() {
        let mut placement = Placement::new(2);
        for partition in 0..3 {
            placement.place(id(1, partition));
        }
        let owner = |placement: &Placement, id| placement.owner(id).unwrap().0;
        assert_eq!([0, 1, 2].map(|p| owner(&placement, id(1, p))), [0, 1, 0]);
        placement.place(id(2, 0));
        assert_eq!(owner(&placement, id(2, 0)), 1);
        for partition in 0..3 {
            placement.remove(id(1, partition));
        }
        placement.place(id(3, 0));
        assert_eq!(owner(&placement, id(3, 0)), 0);
        assert_eq!(placement.owner(id(1, 0)), None);
    }
}
