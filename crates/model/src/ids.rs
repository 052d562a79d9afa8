//! Numbers with a meaning, each a type of its own.

use std::fmt;

use crate::Uuid;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }
    };
}

number!(
    /// The position of a record in its partition; counts records from 0.
    Offset(i64)
);
number!(
    /// How often the leader of a partition has changed; -1 where it is not known.
    LeaderEpoch(i32)
);
number!(
    /// The identity of an idempotent producer; -1 where there is none.
    ProducerId(i64)
);
number!(
    /// The incarnation of a producer id; a higher one fences the lower.
    ProducerEpoch(i16)
);
number!(
    /// The number of a producer's record in a partition; wraps from `i32::MAX` to 0.
    Sequence(i32)
);
number!(
    /// Milliseconds since 1970 UTC; -1 where there is none.
    TimestampMs(i64)
);
number!(
    /// Kafka's `node.id` (also: broker id, replica id).
    NodeId(i32)
);
number!(
    /// The number of a partition within its topic, from 0.
    PartitionId(i32)
);
number!(
    /// One pinned thread of this process, from 0.
    ShardId(u16)
);

/// A topic's identity: survives neither deletion nor re-creation (KIP-516).
pub type TopicId = Uuid;

/// A partition by its topic's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicId,
    /// The partition within it.
    pub partition: PartitionId,
}

impl Offset {
    /// The first offset of a log that never dropped a record.
    pub const ZERO: Offset = Offset(0);

    /// The offset `count` records later.
    ///
    /// # Panics
    /// When the sum leaves `i64`: offsets are assigned here, so that is a broken program.
    #[must_use]
    pub fn plus(self, count: i64) -> Offset {
        Offset(self.0.checked_add(count).expect("an offset fits 63 bits"))
    }

    /// The offset after this one.
    #[must_use]
    pub fn next(self) -> Offset {
        self.plus(1)
    }
}

impl ProducerId {
    /// The batch has no producer id.
    pub const NONE: ProducerId = ProducerId(-1);
}

impl TimestampMs {
    /// No timestamp.
    pub const NONE: TimestampMs = TimestampMs(-1);
}

impl Sequence {
    /// The sequence `count` records later, wrapping from `i32::MAX` to 0 as Kafka's do.
    #[must_use]
    pub fn plus(self, count: i32) -> Sequence {
        let sum = i64::from(self.0) + i64::from(count);
        let wrapped = sum.rem_euclid(i64::from(i32::MAX) + 1);
        Sequence(i32::try_from(wrapped).expect("reduced modulo 2^31"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_wraps_after_i32_max() {
        assert_eq!(Sequence(i32::MAX).plus(1), Sequence(0));
        assert_eq!(Sequence(i32::MAX - 1).plus(3), Sequence(1));
        assert_eq!(Sequence(0).plus(-1), Sequence(i32::MAX));
        assert_eq!(Sequence(5).plus(7), Sequence(12));
    }
}
