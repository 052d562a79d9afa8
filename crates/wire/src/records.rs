//! Record bytes in a message: never touched here, only pointed at.

use bytes::Bytes;

/// The bytes of a `records` field.
///
/// Decoding yields `Borrowed`. A response is written with `Slices` or `External`, which are not
/// copied; `Borrowed` is copied into the head and is for small things and for tests.
#[derive(Clone, Debug, PartialEq)]
pub enum Records<'a> {
    /// A part of the decoded frame; see [`crate::subslice`] for how to keep it.
    Borrowed(&'a [u8]),
    /// Refcounted slices of memory, sent one after the other.
    Slices(Vec<Bytes>),
    /// Bytes that are elsewhere (a range of a file): the sender puts them where the token stands.
    External {
        /// How many bytes the sender will put there.
        len_bytes: usize,
        /// The caller's own word for them; comes back in [`crate::Part::External`].
        token: u64,
    },
}

impl<'a> Records<'a> {
    /// No records: what a fetch of an empty partition answers.
    pub const EMPTY: Records<'static> = Records::Borrowed(&[]);

    /// The size on the wire.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        match self {
            Records::Borrowed(bytes) => bytes.len(),
            Records::Slices(slices) => slices.iter().map(Bytes::len).sum(),
            Records::External { len_bytes, .. } => *len_bytes,
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len_bytes() == 0
    }

    /// The decoded bytes; `None` for records that were made to be sent.
    #[must_use]
    pub fn as_borrowed(&self) -> Option<&'a [u8]> {
        match self {
            Records::Borrowed(bytes) => Some(bytes),
            Records::Slices(_) | Records::External { .. } => None,
        }
    }
}

/// The part of a refcounted frame that a decoded field borrows, without copying.
///
/// ```
/// let frame = bytes::Bytes::from_static(b"....records");
/// let field: &[u8] = &frame[4..];
/// assert_eq!(wire::subslice(&frame, field), "records");
/// ```
///
/// # Panics
/// If `part` was not decoded from `frame`.
#[must_use]
pub fn subslice(frame: &Bytes, part: &[u8]) -> Bytes {
    frame.slice_ref(part)
}

/// Where in `frame` a decoded field begins; `None` if it does not lie within it.
/// For receive buffers that are not [`Bytes`].
#[must_use]
pub fn position_in(frame: &[u8], part: &[u8]) -> Option<usize> {
    let position = part.as_ptr().addr().checked_sub(frame.as_ptr().addr())?;
    (position + part.len() <= frame.len()).then_some(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_knows_its_place_in_the_frame() {
        let frame = [1, 2, 3, 4];
        assert_eq!(position_in(&frame, &frame[1..3]), Some(1));
        assert_eq!(position_in(&frame, &frame[4..]), Some(4));
        assert_eq!(position_in(&frame[1..3], &frame), None);
        assert_eq!(position_in(&frame[..2], &frame[1..3]), None);
    }

    #[test]
    fn sizes_add_up() {
        let slices = vec![Bytes::from_static(b"ab"), Bytes::from_static(b"c")];
        assert_eq!(Records::Slices(slices).len_bytes(), 3);
        assert_eq!(Records::External { len_bytes: 9, token: 0 }.len_bytes(), 9);
        assert!(Records::EMPTY.is_empty());
    }
}
