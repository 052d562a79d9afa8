//! The fast look at a record as nearly all are: without headers, and with lengths, deltas and
//! lengths of fields that take three bytes or fewer each. Whatever else it finds is not its
//! business: [`Records`](super::Records) looks at that, and says what is wrong where something is.
//!
//! Cost: two loads of 16 bytes at most and a dozen shifts; half of what broker CPU went into a GB
//! of 100 byte records was spent here, as long as each field was read byte by byte.

/// What a look reads at a time: the five numbers in front of a key, or all six where it is null.
const WINDOW_BYTES: usize = 16;

/// What a look has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlainRecord {
    /// All of it, its length in front included.
    pub(super) size: usize,
    pub(super) timestamp_delta: i64,
    pub(super) offset_delta: i32,
    pub(super) has_key: bool,
}

impl PlainRecord {
    /// Looks at the record that `bytes` begin with. `None`: not plain, or not sound.
    #[inline]
    pub(super) fn first_of(bytes: &[u8]) -> Option<PlainRecord> {
        let mut window = Window::at(bytes, 0)?;
        let length = usize::try_from(window.varint()?).ok()?;
        let size = window.taken + length;
        window.skip_byte();
        let timestamp_delta = i64::from(window.varint()?);
        let offset_delta = window.varint()?;
        let key_length = window.varint()?;
        let has_key = key_length != -1;
        let mut position = window.taken;
        if has_key {
            position += usize::try_from(key_length).ok()?;
            window = Window::at(bytes, position)?;
        }
        let before = window.taken;
        let value_length = window.varint()?;
        position += window.taken - before;
        if value_length != -1 {
            position += usize::try_from(value_length).ok()?;
        }
        // Behind the value: that there is no header, and that is all.
        let ends_here = *bytes.get(position)? == 0 && position + 1 == size;
        ends_here.then_some(PlainRecord { size, timestamp_delta, offset_delta, has_key })
    }
}

/// Some bytes, of which numbers are taken from the front. Five of three bytes and one fit.
struct Window {
    bytes: u128,
    taken: usize,
}

impl Window {
    #[inline]
    fn at(bytes: &[u8], at: usize) -> Option<Window> {
        let window = bytes.get(at..)?.first_chunk::<WINDOW_BYTES>()?;
        Some(Window { bytes: u128::from_le_bytes(*window), taken: 0 })
    }

    #[inline]
    fn skip_byte(&mut self) {
        self.bytes >>= 8;
        self.taken += 1;
    }

    /// Takes a zigzag varint of at most three bytes.
    #[inline]
    fn varint(&mut self) -> Option<i32> {
        let low = u32::try_from(self.bytes & 0xff_ffff).expect("24 bits");
        let (raw, size) = if low & 0x80 == 0 {
            (low & 0x7f, 1)
        } else if low & 0x8000 == 0 {
            (low & 0x7f | (low >> 1) & 0x3f80, 2)
        } else if low & 0x80_0000 == 0 {
            (low & 0x7f | (low >> 1) & 0x3f80 | (low >> 2) & 0x1f_c000, 3)
        } else {
            return None;
        };
        self.bytes >>= 8 * size;
        self.taken += size;
        Some((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record_batch::{Records, builder::put_length};

    /// A record with fields of these lengths, -1 for null, and header bytes as given.
    fn record(deltas: (i32, i32), lengths: (i32, i32), headers: &[u8]) -> Vec<u8> {
        let mut body = vec![0];
        let put = |body: &mut Vec<u8>, number: i32| {
            crate::record_batch::builder::put_varlong(body, i64::from(number));
        };
        put(&mut body, deltas.0);
        put(&mut body, deltas.1);
        for length in [lengths.0, lengths.1] {
            put(&mut body, length);
            body.extend(std::iter::repeat_n(7, usize::try_from(length).unwrap_or(0)));
        }
        body.extend_from_slice(headers);
        let mut all = Vec::new();
        put_length(&mut all, body.len());
        all.extend_from_slice(&body);
        all
    }

    proptest! {
        #[test]
        fn what_it_says_is_what_the_careful_walk_says(
            deltas in (-3_000_000..3_000_000, -2..20_000),
            lengths in (-1..300, -1..20_000),
            headers in prop_oneof![Just(vec![0]), Just(vec![2, 2, 65, 1]), Just(vec![])],
            behind in 0_usize..40,
            broken in proptest::option::of((0_usize..24, any::<u8>())),
        ) {
            let mut bytes = record(deltas, lengths, &headers);
            bytes.extend(std::iter::repeat_n(0, behind));
            if let Some((at, byte)) = broken {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            if let Some(plain) = PlainRecord::first_of(&bytes) {
                let careful = Records::new(&bytes, 1).next().unwrap().unwrap();
                prop_assert_eq!(plain.size, careful.bytes().len());
                prop_assert_eq!(plain.timestamp_delta, careful.timestamp_delta);
                prop_assert_eq!(plain.offset_delta, careful.offset_delta);
                prop_assert_eq!(plain.has_key, careful.key.is_some());
                prop_assert_eq!(careful.headers().count(), 0);
            } else if broken.is_none() && headers == [0] && behind >= WINDOW_BYTES {
                let is_short = |number: i32| (-(1 << 20)..1 << 20).contains(&number);
                prop_assert!(!is_short(deltas.0) || !is_short(deltas.1));
            }
        }
    }
}
