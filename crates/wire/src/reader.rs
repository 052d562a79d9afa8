//! The decoding primitives: bounded by the bytes that are there.
//!
//! Every count and length is compared with the remaining bytes before anything is reserved, and a
//! vector starts with room for at most [`INITIAL_ELEMENTS_MAX`] elements and grows as they are
//! decoded. So a frame of N bytes cannot cost more memory than its elements' structs: a small
//! multiple of N, whatever it claims (tests/bounds.rs holds the multiple); and all arrays of a
//! message together no more than [`ELEMENTS_BYTES_MAX`], however large the frame.
//! Strings and bytes borrow from the frame; only arrays allocate.

use model::Uuid;

use crate::{Error, Records, Result};

/// The most elements for which a vector reserves room before the first is decoded. An element is
/// larger in memory than on the wire, so the claimed count alone must not reserve megabytes.
const INITIAL_ELEMENTS_MAX: usize = 1024;

/// What the elements of all arrays of one message may take in memory. A produce of 100 MiB that
/// holds topics of three bytes each in place of records would take gigabytes; a fetch of 100,000
/// partitions takes 8 MiB.
const ELEMENTS_BYTES_MAX: usize = 32 << 20;

/// How a version writes lengths and counts, and whether it has tagged fields (KIP-482).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lengths {
    /// Two or four bytes; no tagged fields.
    Fixed,
    /// Unsigned varints of the length plus one; every structure ends with tagged fields.
    Compact,
}

impl Lengths {
    /// The lengths of `version` in a message whose flexible versions begin at `flexible_from`.
    #[must_use]
    pub fn of(version: i16, flexible_from: i16) -> Lengths {
        if version >= flexible_from { Lengths::Compact } else { Lengths::Fixed }
    }
}

/// Whether a field may be null in the version at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nulls {
    /// `None` is a value of the field.
    Allowed,
    /// `None` is an error.
    Refused,
}

impl Nulls {
    /// Allowed when the version is one that allows it.
    #[must_use]
    pub fn when(nullable: bool) -> Nulls {
        if nullable { Nulls::Allowed } else { Nulls::Refused }
    }
}

/// What a message did with a tagged field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// It was decoded; all of its bytes must be used up.
    Known,
    /// It is from the future or a foreign land, and skipped.
    Unknown,
}

/// A position in a frame that is being decoded.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    /// What the elements of arrays may still take.
    elements_bytes_left: usize,
}

macro_rules! integers {
    ($($name:ident)*) => { $(
        #[doc = concat!("A big-endian ", stringify!($name), ".")]
        #[inline]
        pub fn $name(&mut self) -> Result<$name> {
            self.array_of_bytes().map($name::from_be_bytes)
        }
    )* };
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, elements_bytes_left: ELEMENTS_BYTES_MAX }
    }

    /// How many bytes are left.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// All that is left, without moving on.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// Refuses bytes behind the message.
    pub fn finish(self) -> Result<()> {
        if self.bytes.is_empty() { Ok(()) } else { Err(Error::TrailingBytes(self.bytes.len())) }
    }

    integers!(i8 u8 i16 u16 i32 u32 i64 f64);

    /// A byte; anything but zero is true.
    #[inline]
    pub fn bool(&mut self) -> Result<bool> {
        Ok(self.u8()? != 0)
    }

    /// Sixteen bytes.
    #[inline]
    pub fn uuid(&mut self) -> Result<Uuid> {
        self.array_of_bytes().map(Uuid)
    }

    /// An unsigned varint of at most 32 bits, seven bits a byte, lowest first.
    #[inline]
    pub fn uvarint(&mut self) -> Result<u32> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.u8()?;
            if shift == 28 && byte > 0x0f {
                return Err(Error::InvalidLength);
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Error::InvalidLength)
    }

    /// The next `count` bytes.
    #[inline]
    pub fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(Error::Truncated)?;
        self.bytes = rest;
        Ok(taken)
    }

    /// A string that is not null.
    #[inline]
    pub fn string(&mut self, lengths: Lengths) -> Result<&'a str> {
        self.nullable_string(lengths, Nulls::Refused)?.ok_or(Error::UnexpectedNull)
    }

    /// A string or null.
    #[inline]
    pub fn nullable_string(&mut self, lengths: Lengths, nulls: Nulls) -> Result<Option<&'a str>> {
        let length = match lengths {
            Lengths::Fixed => fixed_length(i32::from(self.i16()?))?,
            Lengths::Compact => self.compact_length()?,
        };
        let Some(length) = non_null(length, nulls)? else { return Ok(None) };
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| Error::InvalidUtf8)?;
        Ok(Some(text))
    }

    /// Bytes that are not null.
    #[inline]
    pub fn bytes(&mut self, lengths: Lengths) -> Result<&'a [u8]> {
        self.nullable_bytes(lengths, Nulls::Refused)?.ok_or(Error::UnexpectedNull)
    }

    /// Bytes or null.
    #[inline]
    pub fn nullable_bytes(&mut self, lengths: Lengths, nulls: Nulls) -> Result<Option<&'a [u8]>> {
        let length = self.length(lengths)?;
        let Some(length) = non_null(length, nulls)? else { return Ok(None) };
        self.take(length).map(Some)
    }

    /// Records that are not null.
    #[inline]
    pub fn records(&mut self, lengths: Lengths) -> Result<Records<'a>> {
        self.bytes(lengths).map(Records::Borrowed)
    }

    /// Records or null.
    #[inline]
    pub fn nullable_records(
        &mut self,
        lengths: Lengths,
        nulls: Nulls,
    ) -> Result<Option<Records<'a>>> {
        Ok(self.nullable_bytes(lengths, nulls)?.map(Records::Borrowed))
    }

    /// An array that is not null, of elements that take at least `element_bytes_min` each.
    #[inline]
    pub fn array<T>(
        &mut self,
        lengths: Lengths,
        element_bytes_min: usize,
        element: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.nullable_array(lengths, Nulls::Refused, element_bytes_min, element)?
            .ok_or(Error::UnexpectedNull)
    }

    /// An array or null, of elements that take at least `element_bytes_min` each.
    #[inline]
    pub fn nullable_array<T>(
        &mut self,
        lengths: Lengths,
        nulls: Nulls,
        element_bytes_min: usize,
        mut element: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Option<Vec<T>>> {
        let count = self.length(lengths)?;
        let Some(count) = non_null(count, nulls)? else { return Ok(None) };
        if count > self.remaining() / element_bytes_min {
            return Err(Error::Truncated);
        }
        self.elements_bytes_left = count
            .checked_mul(size_of::<T>())
            .and_then(|bytes| self.elements_bytes_left.checked_sub(bytes))
            .ok_or(Error::TooManyElements)?;
        let mut elements = Vec::with_capacity(count.min(INITIAL_ELEMENTS_MAX));
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }

    /// The byte before a nullable structure: whether the structure follows.
    #[inline]
    pub fn is_present(&mut self) -> Result<bool> {
        Ok(self.i8()? >= 0)
    }

    /// The byte before a nullable structure that is a tagged field.
    #[inline]
    pub fn is_present_in_tag(&mut self) -> Result<bool> {
        Ok(self.i8()? > 0)
    }

    /// Skips the tagged fields of a structure that knows none.
    #[inline]
    pub fn skip_tagged_fields(&mut self, lengths: Lengths) -> Result<()> {
        self.tagged_fields(lengths, |_, _| Ok(Tag::Unknown))
    }

    /// Hands each tagged field to `field`; skips what it does not know.
    #[inline]
    pub fn tagged_fields(
        &mut self,
        lengths: Lengths,
        mut field: impl FnMut(u32, &mut Reader<'a>) -> Result<Tag>,
    ) -> Result<()> {
        if lengths == Lengths::Fixed {
            return Ok(());
        }
        for _ in 0..self.uvarint()? {
            let tag = self.uvarint()?;
            let size = length_as_usize(self.uvarint()?);
            let bytes = self.take(size)?;
            let mut content = Reader { bytes, elements_bytes_left: self.elements_bytes_left };
            if field(tag, &mut content)? == Tag::Known && content.remaining() > 0 {
                return Err(Error::TagLength { tag });
            }
            self.elements_bytes_left = content.elements_bytes_left;
        }
        Ok(())
    }

    #[inline]
    fn array_of_bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (taken, rest) = self.bytes.split_first_chunk::<N>().ok_or(Error::Truncated)?;
        self.bytes = rest;
        Ok(*taken)
    }

    /// The length of bytes or the count of an array; `None` is null.
    #[inline]
    fn length(&mut self, lengths: Lengths) -> Result<Option<usize>> {
        match lengths {
            Lengths::Fixed => fixed_length(self.i32()?),
            Lengths::Compact => self.compact_length(),
        }
    }

    #[inline]
    fn compact_length(&mut self) -> Result<Option<usize>> {
        Ok(length_as_usize(self.uvarint()?).checked_sub(1))
    }
}

#[inline]
fn fixed_length(length: i32) -> Result<Option<usize>> {
    match length {
        -1 => Ok(None),
        length => usize::try_from(length).map(Some).map_err(|_| Error::InvalidLength),
    }
}

#[inline]
fn length_as_usize(length: u32) -> usize {
    usize::try_from(length).expect("usize has at least 32 bits")
}

#[inline]
fn non_null(length: Option<usize>, nulls: Nulls) -> Result<Option<usize>> {
    match (length, nulls) {
        (None, Nulls::Refused) => Err(Error::UnexpectedNull),
        (length, _) => Ok(length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_have_at_most_32_bits() {
        let check = |bytes: &[u8], expected| assert_eq!(Reader::new(bytes).uvarint(), expected);
        check(&[0], Ok(0));
        check(&[0x7f], Ok(127));
        check(&[0x80, 0x01], Ok(128));
        check(&[0xff, 0xff, 0xff, 0xff, 0x0f], Ok(u32::MAX));
        check(&[0xff, 0xff, 0xff, 0xff, 0x1f], Err(Error::InvalidLength));
        check(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x01], Err(Error::InvalidLength));
        check(&[0x80, 0x80], Err(Error::Truncated));
    }

    #[test]
    fn lengths_are_refused_before_they_are_believed() {
        let check = |bytes: &[u8], lengths, expected| {
            let decoded = Reader::new(bytes).nullable_string(lengths, Nulls::Allowed);
            assert_eq!(decoded, expected, "{bytes:?}");
        };
        check(b"\0\x02ab", Lengths::Fixed, Ok(Some("ab")));
        check(b"\x03ab", Lengths::Compact, Ok(Some("ab")));
        check(b"\xff\xff", Lengths::Fixed, Ok(None));
        check(b"\0", Lengths::Compact, Ok(None));
        check(b"\xff\xfe", Lengths::Fixed, Err(Error::InvalidLength));
        check(b"\0\x03ab", Lengths::Fixed, Err(Error::Truncated));
        check(b"\xff\xff\xff\xff\x0fab", Lengths::Compact, Err(Error::Truncated));
        check(b"\0\x01\xff", Lengths::Fixed, Err(Error::InvalidUtf8));
    }

    #[test]
    fn null_is_an_error_where_it_has_no_meaning() {
        let check = |bytes: &[u8], lengths| {
            let reader = || Reader::new(bytes);
            assert_eq!(reader().bytes(lengths), Err(Error::UnexpectedNull));
            assert_eq!(reader().records(lengths), Err(Error::UnexpectedNull));
            assert_eq!(reader().array(lengths, 1, Reader::i8), Err(Error::UnexpectedNull));
            assert_eq!(reader().nullable_bytes(lengths, Nulls::Allowed), Ok(None));
        };
        check(b"\xff\xff\xff\xff", Lengths::Fixed);
        check(b"\0", Lengths::Compact);
    }

    #[test]
    fn a_count_that_the_bytes_cannot_hold_is_refused() {
        let check = |bytes: &[u8], element_bytes_min, expected| {
            let mut reader = Reader::new(bytes);
            let decoded = reader.array(Lengths::Compact, element_bytes_min, Reader::i8);
            assert_eq!(decoded, expected);
        };
        check(&[3, 1, 2], 1, Ok(vec![1, 2]));
        check(&[4, 1, 2], 1, Err(Error::Truncated));
        check(&[3, 1, 2], 2, Err(Error::Truncated));
    }

    #[test]
    fn arrays_that_would_take_too_much_memory_together_are_refused() {
        let half = 1 << 20;
        let mut bytes = Vec::new();
        for _ in 0..3 {
            bytes.extend(i32::to_be_bytes(half));
            bytes.extend(vec![0; 1 << 20]);
        }
        let mut reader = Reader::new(&bytes);
        let mut wide =
            || reader.array(Lengths::Fixed, 1, |reader| Ok([u64::from(reader.u8()?); 2])).map(drop);
        assert_eq!([wide(), wide(), wide()], [Ok(()), Ok(()), Err(Error::TooManyElements)]);
    }

    #[test]
    fn unknown_tags_are_skipped_and_known_ones_must_fit() {
        let read = |bytes: &[u8]| {
            let mut value = None;
            let mut reader = Reader::new(bytes);
            reader.tagged_fields(Lengths::Compact, |tag, content| {
                if tag != 1 {
                    return Ok(Tag::Unknown);
                }
                value = Some(content.i8()?);
                Ok(Tag::Known)
            })?;
            reader.finish()?;
            Ok(value)
        };
        assert_eq!(read(&[0]), Ok(None));
        assert_eq!(read(&[2, 0, 3, 9, 9, 9, 1, 1, 7]), Ok(Some(7)));
        assert_eq!(read(&[1, 1, 2, 7, 7]), Err(Error::TagLength { tag: 1 }));
        assert_eq!(read(&[1, 1, 0]), Err(Error::Truncated));
        assert_eq!(read(&[1, 0, 9, 1]), Err(Error::Truncated));
        assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Err(Error::Truncated));
        assert_eq!(read(&[0, 5]), Err(Error::TrailingBytes(1)));
    }
}
