//! The value of a record: says who it is, and is wholly determined by that.
//!
//! So a value read back is either exactly the one that was sent, or garbage; and a batch can be
//! sent again, byte for byte, without being kept.

use crate::kafka::bytes::{Reader, Writer};
use rig::chance::Chance;

/// A record's name: who sent it where, as which of his.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ValueId {
    /// Tells the records of this run from those of any other.
    pub(crate) run: u64,
    /// The sender and partition, as an index into the history.
    pub(crate) lane: u32,
    /// The sender's count on that partition, from 0.
    pub(crate) count: u32,
}

const HEAD_BYTES: usize = 16;
/// One record in this many is long.
const LONG_ONE_IN: u64 = 40;

/// The bytes of the record's value.
pub(crate) fn value(id: ValueId) -> Vec<u8> {
    let mut head = Writer::default();
    head.uint32(id.lane).uint32(id.count);
    head.int64(id.run.cast_signed());
    let mut bytes = head.finish();
    let mut chance = Chance::new(id.run ^ (u64::from(id.lane) << 32 | u64::from(id.count)));
    let longest = if chance.between(1, LONG_ONE_IN) == 1 { 16_000 } else { 600 };
    let filler_bytes = chance.between(0, longest);
    bytes.reserve(usize::try_from(filler_bytes).expect("bounded above"));
    let mut left = filler_bytes;
    while left > 0 {
        let filler = chance.number().to_be_bytes();
        let taken = left.min(8);
        bytes.extend_from_slice(&filler[..usize::try_from(taken).expect("at most eight")]);
        left -= taken;
    }
    bytes
}

/// Whose value it is, if it is one of `run` and untouched.
pub(crate) fn identify(run: u64, bytes: &[u8]) -> Option<ValueId> {
    if bytes.len() < HEAD_BYTES {
        return None;
    }
    let mut reader = Reader::new(bytes);
    let lane = reader.uint32().ok()?;
    let count = reader.uint32().ok()?;
    let id = ValueId { run: reader.int64().ok()?.cast_unsigned(), lane, count };
    (id.run == run && value(id) == bytes).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_names_itself_and_nothing_else_passes() {
        for count in 0..200 {
            let id = ValueId { run: 7, lane: 3, count };
            let good = value(id);
            assert_eq!(identify(7, &good), Some(id));
            assert_eq!(identify(8, &good), None, "another run's");
            let mut bad = good.clone();
            *bad.last_mut().unwrap() ^= 1;
            assert_eq!(identify(7, &bad), None, "a changed byte");
            assert_eq!(identify(7, &good[..good.len() - 1]), None, "a short one");
        }
        assert_eq!(identify(7, &[]), None);
    }
}
