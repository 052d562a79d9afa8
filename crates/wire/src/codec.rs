//! What the generated messages have in common.

use crate::{Error, Reader, Result, Writer, api::ApiKey};

/// The versions from `min` to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The oldest.
    pub min: i16,
    /// The newest.
    pub max: i16,
}

impl Versions {
    /// Whether `version` is one of them.
    #[must_use]
    pub fn contains(self, version: i16) -> bool {
        (self.min..=self.max).contains(&version)
    }
}

/// A structure that can be written in any version of its message.
pub trait Encode {
    /// Writes what `version` can say: a field that the version lacks is left out in silence, a
    /// null that it lacks fails the writer.
    fn encode(&self, writer: &mut Writer, version: i16);
}

/// A structure that can be read in any version of its message.
pub trait Decode<'a>: Sized {
    /// Reads one; strings and bytes borrow from the frame, fields that the version lacks get their
    /// defaults, unknown tagged fields are skipped.
    fn decode(reader: &mut Reader<'a>, version: i16) -> Result<Self>;
}

/// A whole message: something that has versions of its own.
pub trait Message {
    /// Kafka's name.
    const NAME: &'static str;
    /// The versions that the table knows.
    const VERSIONS: Versions;
    /// The first flexible version (KIP-482); `i16::MAX` if there is none.
    const FLEXIBLE_FROM: i16;

    /// Refuses a version that the table does not know.
    fn check_version(version: i16) -> Result<()> {
        if Self::VERSIONS.contains(version) {
            return Ok(());
        }
        Err(Error::UnsupportedVersion { message: Self::NAME, version })
    }
}

/// A request, which knows its response.
pub trait Request: Message + Encode {
    /// The API.
    const KEY: ApiKey;
    /// What answers it, in the same version.
    type Response<'r>: Response + Decode<'r>;
}

/// A response.
pub trait Response: Message + Encode {
    /// The API.
    const KEY: ApiKey;
}

/// A record of the metadata log.
pub trait MetadataMessage: Message + Encode {
    /// Its key in the frame.
    const KEY: i16;
}

/// The key of a coordinator's record.
pub trait RecordKey: Message + Encode {
    /// The record's type, written first.
    const TYPE: i16;
}

/// The value of a coordinator's record.
pub trait RecordValue: Message + Encode {}

/// Decodes a message that must fill `bytes` exactly.
pub fn decode<'a, M: Message + Decode<'a>>(bytes: &'a [u8], version: i16) -> Result<M> {
    let mut reader = Reader::new(bytes);
    let message = M::decode(&mut reader, version)?;
    reader.finish()?;
    Ok(message)
}

/// Encodes a message alone, without header or frame, in one piece.
///
/// # Panics
/// If it holds external records.
pub fn encode(message: &impl Encode, version: i16) -> Result<bytes::Bytes> {
    let mut writer = Writer::new();
    message.encode(&mut writer, version);
    Ok(writer.finish()?.into_bytes())
}
