//! What can be wrong with bytes from outside, and what a message cannot say in a version.

use std::fmt;

/// Why bytes are not the message they claim to be, or why a message cannot be written.
///
/// The variants up to `TrailingBytes` come from decoding, the rest from encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The bytes end before the message does, or a length or count promises more than is there.
    Truncated,
    /// A length or count is negative where null has no meaning, or a varint is too long.
    InvalidLength,
    /// The elements of all arrays together would take more memory than a message may.
    TooManyElements,
    /// A field is null in a version in which it may not be.
    UnexpectedNull,
    /// A string is not UTF-8.
    InvalidUtf8,
    /// A tagged field's size and its content disagree.
    TagLength {
        /// The tag.
        tag: u32,
    },
    /// No such API, or one that the table does not hold.
    UnknownApiKey(i16),
    /// No such type of record in this log.
    UnknownRecordType(i16),
    /// The metadata record's frame version is not 1.
    UnknownFrameVersion(u32),
    /// The message exists, this version of it does not. Encoding can fail so too.
    UnsupportedVersion {
        /// The message, as Kafka calls it.
        message: &'static str,
        /// The version that was asked for.
        version: i16,
    },
    /// A frame or record is longer than its message.
    TrailingBytes(usize),

    /// A field is `None` in a version that has no null for it.
    NullNotAllowed,
    /// A string, bytes or array is too long for its length field.
    TooLong,
}

/// The result of everything in this room.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Truncated => formatter.write_str("the message is cut short"),
            Error::InvalidLength => formatter.write_str("a length or count is out of range"),
            Error::TooManyElements => formatter.write_str("the arrays have too many elements"),
            Error::UnexpectedNull => formatter.write_str("null where a value is required"),
            Error::InvalidUtf8 => formatter.write_str("a string is not UTF-8"),
            Error::TagLength { tag } => write!(formatter, "tagged field {tag} has a wrong size"),
            Error::UnknownApiKey(key) => write!(formatter, "unknown API key {key}"),
            Error::UnknownRecordType(key) => write!(formatter, "unknown record type {key}"),
            Error::UnknownFrameVersion(version) => {
                write!(formatter, "unknown frame version {version} of a metadata record")
            }
            Error::UnsupportedVersion { message, version } => {
                write!(formatter, "{message} has no version {version}")
            }
            Error::TrailingBytes(count) => write!(formatter, "{count} bytes after the message"),
            Error::NullNotAllowed => formatter.write_str("this version has no null for the field"),
            Error::TooLong => formatter.write_str("a value is too long for its length field"),
        }
    }
}

impl std::error::Error for Error {}
