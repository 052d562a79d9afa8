//! The encoding primitives: a head in one buffer, records as slices in between.
//!
//! Cost: one buffer for all heads of a message, one refcount for each slice of records; record
//! bytes are not copied. What a version cannot say (a null, a string of 40 KB with a two-byte
//! length) does not stop the writing: the first such error is kept and [`Writer::finish`] returns
//! it, so that encoding code has no error paths and an over-long value from outside cannot panic.

use bytes::Bytes;
use model::Uuid;

use crate::{Error, Lengths, Nulls, Records, Result};

/// An encoded message: its parts in the order in which they go out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Encoded {
    /// Heads and record slices, none empty.
    pub parts: Vec<Part>,
    /// The bytes of all parts together.
    pub len_bytes: usize,
}

/// One piece of an encoded message.
#[derive(Clone, Debug, PartialEq)]
pub enum Part {
    /// Bytes in memory: a head, or a slice of records.
    Bytes(Bytes),
    /// Records that the sender fetches by the token: a range of a file.
    External {
        /// How many bytes belong here.
        len_bytes: usize,
        /// As given in [`Records::External`].
        token: u64,
    },
}

impl Encoded {
    /// All parts in one piece; copies if there is more than one.
    ///
    /// # Panics
    /// If a part is external: its bytes are not here.
    #[must_use]
    pub fn into_bytes(mut self) -> Bytes {
        if let [Part::Bytes(bytes)] = self.parts.as_mut_slice() {
            return std::mem::take(bytes);
        }
        let mut whole = Vec::with_capacity(self.len_bytes);
        for part in &self.parts {
            match part {
                Part::Bytes(bytes) => whole.extend_from_slice(bytes),
                Part::External { .. } => panic!("external records have no bytes to gather"),
            }
        }
        whole.into()
    }
}

/// Collects an encoded message.
#[derive(Debug, Default)]
pub struct Writer {
    head: Vec<u8>,
    /// Parts that stand between two bytes of the head, each with its position in the head.
    inserts: Vec<(usize, Part)>,
    inserted_bytes: usize,
    error: Option<Error>,
}

macro_rules! integers {
    ($($name:ident)*) => { $(
        #[doc = concat!("A big-endian ", stringify!($name), ".")]
        #[inline]
        pub fn $name(&mut self, value: $name) {
            self.head.extend_from_slice(&value.to_be_bytes());
        }
    )* };
}

impl Writer {
    /// An empty writer.
    #[must_use]
    pub fn new() -> Writer {
        Writer::default()
    }

    /// An empty writer with room for a head of `head_bytes`.
    #[must_use]
    pub fn with_capacity(head_bytes: usize) -> Writer {
        Writer { head: Vec::with_capacity(head_bytes), ..Writer::default() }
    }

    /// The bytes written so far, records included.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.head.len() + self.inserted_bytes
    }

    /// The message in parts, or the first error.
    pub fn finish(self) -> Result<Encoded> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let len_bytes = self.len_bytes();
        let head = Bytes::from(self.head);
        let mut parts = Vec::with_capacity(2 * self.inserts.len() + 1);
        let mut from = 0;
        for (position, part) in self.inserts {
            if position > from {
                parts.push(Part::Bytes(head.slice(from..position)));
                from = position;
            }
            parts.push(part);
        }
        if from == 0 {
            parts.push(Part::Bytes(head));
        } else if from < head.len() {
            parts.push(Part::Bytes(head.slice(from..)));
        }
        parts.retain(|part| !matches!(part, Part::Bytes(bytes) if bytes.is_empty()));
        Ok(Encoded { parts, len_bytes })
    }

    /// The same with a size in the first four bytes, which must have been left for it.
    pub(crate) fn finish_frame(mut self) -> Result<Encoded> {
        match i32::try_from(self.len_bytes() - 4) {
            Ok(size) => self.head[..4].copy_from_slice(&size.to_be_bytes()),
            Err(_) => self.fail(Error::TooLong),
        }
        self.finish()
    }

    /// Keeps the first error for [`Writer::finish`].
    #[cold]
    pub fn fail(&mut self, error: Error) {
        self.error.get_or_insert(error);
    }

    integers!(i8 u8 i16 u16 i32 u32 i64 f64);

    /// One byte, 0 or 1.
    #[inline]
    pub fn bool(&mut self, value: bool) {
        self.head.push(u8::from(value));
    }

    /// Sixteen bytes.
    #[inline]
    pub fn uuid(&mut self, value: Uuid) {
        self.head.extend_from_slice(&value.0);
    }

    /// An unsigned varint, seven bits a byte, lowest first.
    #[inline]
    pub fn uvarint(&mut self, value: u32) {
        let (bytes, count) = varint_bytes(value);
        self.head.extend_from_slice(&bytes[..count]);
    }

    /// Bytes without a length.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.head.extend_from_slice(bytes);
    }

    /// A string.
    #[inline]
    pub fn string(&mut self, value: &str, lengths: Lengths) {
        match lengths {
            Lengths::Fixed => match i16::try_from(value.len()) {
                Ok(length) => self.i16(length),
                Err(_) => return self.fail(Error::TooLong),
            },
            Lengths::Compact => self.length(value.len(), lengths),
        }
        self.raw(value.as_bytes());
    }

    /// A string or null.
    #[inline]
    pub fn nullable_string(&mut self, value: Option<&str>, lengths: Lengths, nulls: Nulls) {
        match (value, lengths) {
            (Some(value), _) => self.string(value, lengths),
            (None, _) if nulls == Nulls::Refused => self.fail(Error::NullNotAllowed),
            (None, Lengths::Fixed) => self.i16(-1),
            (None, Lengths::Compact) => self.u8(0),
        }
    }

    /// Bytes.
    #[inline]
    pub fn bytes(&mut self, value: &[u8], lengths: Lengths) {
        self.length(value.len(), lengths);
        self.raw(value);
    }

    /// Bytes or null.
    #[inline]
    pub fn nullable_bytes(&mut self, value: Option<&[u8]>, lengths: Lengths, nulls: Nulls) {
        match value {
            Some(value) => self.bytes(value, lengths),
            None => self.null(lengths, nulls),
        }
    }

    /// Records, as parts of their own unless borrowed.
    pub fn records(&mut self, value: &Records<'_>, lengths: Lengths) {
        self.length(value.len_bytes(), lengths);
        match value {
            Records::Borrowed(bytes) => self.raw(bytes),
            Records::Slices(slices) => {
                for slice in slices {
                    self.insert(Part::Bytes(slice.clone()), slice.len());
                }
            }
            Records::External { len_bytes, token } => {
                let part = Part::External { len_bytes: *len_bytes, token: *token };
                self.insert(part, *len_bytes);
            }
        }
    }

    /// Records or null.
    pub fn nullable_records(
        &mut self,
        value: Option<&Records<'_>>,
        lengths: Lengths,
        nulls: Nulls,
    ) {
        match value {
            Some(value) => self.records(value, lengths),
            None => self.null(lengths, nulls),
        }
    }

    /// An array.
    #[inline]
    pub fn array<T>(
        &mut self,
        elements: &[T],
        lengths: Lengths,
        mut element: impl FnMut(&mut Writer, &T),
    ) {
        self.length(elements.len(), lengths);
        for value in elements {
            element(self, value);
        }
    }

    /// An array or null.
    #[inline]
    pub fn nullable_array<T>(
        &mut self,
        elements: Option<&[T]>,
        lengths: Lengths,
        nulls: Nulls,
        element: impl FnMut(&mut Writer, &T),
    ) {
        match elements {
            Some(elements) => self.array(elements, lengths, element),
            None => self.null(lengths, nulls),
        }
    }

    /// The count of tagged fields that follow, in a structure that has them.
    #[inline]
    pub fn tagged_field_count(&mut self, present: &[bool], lengths: Lengths) {
        if lengths == Lengths::Compact {
            let count = present.iter().filter(|present| **present).count();
            self.uvarint(u32::try_from(count).expect("a schema has few tags"));
        }
    }

    /// One tagged field; tags must ascend.
    #[inline]
    pub fn tagged_field(&mut self, tag: u32, content: impl FnOnce(&mut Writer)) {
        self.uvarint(tag);
        let start = self.head.len();
        let inserts = self.inserts.len();
        self.head.push(0); // the size, if it is below 128: nearly always
        content(self);
        assert_eq!(inserts, self.inserts.len(), "no records in tagged fields");
        let Ok(size) = u32::try_from(self.head.len() - start - 1) else {
            return self.fail(Error::TooLong);
        };
        let (bytes, count) = varint_bytes(size);
        self.head[start] = bytes[0];
        if count > 1 {
            self.head.splice(start + 1..start + 1, bytes[1..count].iter().copied());
        }
    }

    /// The length of bytes or the count of an array.
    #[inline]
    fn length(&mut self, length: usize, lengths: Lengths) {
        match (i32::try_from(length), lengths) {
            (Ok(length), Lengths::Fixed) => self.i32(length),
            (Ok(length), Lengths::Compact) => self.uvarint(length.unsigned_abs() + 1),
            (Err(_), _) => self.fail(Error::TooLong),
        }
    }

    /// The length that says null.
    #[inline]
    fn null(&mut self, lengths: Lengths, nulls: Nulls) {
        match (nulls, lengths) {
            (Nulls::Refused, _) => self.fail(Error::NullNotAllowed),
            (Nulls::Allowed, Lengths::Fixed) => self.i32(-1),
            (Nulls::Allowed, Lengths::Compact) => self.u8(0),
        }
    }

    fn insert(&mut self, part: Part, len_bytes: usize) {
        self.inserted_bytes += len_bytes;
        self.inserts.push((self.head.len(), part));
    }
}

/// The bytes of an unsigned varint and how many of them count.
#[inline]
fn varint_bytes(mut value: u32) -> ([u8; 5], usize) {
    let mut bytes = [0; 5];
    let mut count = 0;
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            bytes[count] = low & 0x7f;
            return (bytes, count + 1);
        }
        bytes[count] = low | 0x80;
        count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u32::MAX - 1, u32::MAX] {
            let mut writer = Writer::new();
            writer.uvarint(value);
            let bytes = writer.finish().unwrap().into_bytes();
            assert_eq!(crate::Reader::new(&bytes).uvarint(), Ok(value));
        }
    }

    #[test]
    fn a_tagged_field_has_its_size_before_it() {
        for length in [0_usize, 1, 127, 128, 20_000] {
            let mut writer = Writer::new();
            writer.tagged_field(5, |writer| writer.raw(&vec![7; length]));
            writer.u8(9);
            let bytes = writer.finish().unwrap().into_bytes();
            let mut reader = crate::Reader::new(&bytes);
            assert_eq!(reader.uvarint(), Ok(5));
            assert_eq!(reader.uvarint().map(usize::try_from), Ok(Ok(length)));
            assert_eq!(reader.take(length), Ok(vec![7; length].as_slice()));
            assert_eq!(reader.rest(), [9]);
        }
    }

    #[test]
    fn the_first_error_is_the_one_that_is_told() {
        let mut writer = Writer::new();
        writer.nullable_bytes(None, Lengths::Fixed, Nulls::Refused);
        writer.string(&"x".repeat(32_768), Lengths::Fixed);
        writer.i32(1);
        assert_eq!(writer.finish(), Err(Error::NullNotAllowed));
    }

    #[test]
    fn records_alone_are_one_part() {
        let mut writer = Writer::new();
        let slice = Bytes::from_static(b"x");
        writer.records(&Records::Slices(vec![Bytes::new(), slice]), Lengths::Compact);
        let encoded = writer.finish().unwrap();
        assert_eq!(encoded.parts.len(), 2);
        assert_eq!((encoded.len_bytes, encoded.into_bytes().as_ref()), (2, &[2, b'x'][..]));
    }
}
