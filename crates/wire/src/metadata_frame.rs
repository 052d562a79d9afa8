//! Records of the metadata log in their frame.
//!
//! ```text
//! frame version (uvarint, 1) | record key (uvarint) | record version (uvarint) | record
//! ```
//! The record of the log has no key; this is its value.

use crate::{
    Encode, Error, MetadataMessage, Reader, Result, Writer, metadata_record::MetadataRecord,
};

const FRAME_VERSION: u32 = 1;

/// Decodes the value of a record of the metadata log: the record and its version.
pub fn decode_metadata_record(value: &[u8]) -> Result<(MetadataRecord<'_>, i16)> {
    let mut reader = Reader::new(value);
    let frame_version = reader.uvarint()?;
    if frame_version != FRAME_VERSION {
        return Err(Error::UnknownFrameVersion(frame_version));
    }
    let key = small(reader.uvarint()?)?;
    let version = small(reader.uvarint()?)?;
    let record = MetadataRecord::decode_body(&mut reader, key, version)?;
    reader.finish()?;
    Ok((record, version))
}

/// Encodes one record as the value of a record of the metadata log.
pub fn encode_metadata_record<M: MetadataMessage>(record: &M, version: i16) -> Result<Vec<u8>> {
    framed(record, M::KEY, version)
}

impl MetadataRecord<'_> {
    /// Encodes the record as the value of a record of the metadata log.
    pub fn to_value(&self, version: i16) -> Result<Vec<u8>> {
        framed(self, self.key(), version)
    }
}

/// Puts a record that is kept as bytes, without being understood, back into its frame.
pub fn encode_opaque_record(key: u16, version: u16, body: &[u8]) -> Result<Vec<u8>> {
    let mut writer = framed_writer(key, version);
    writer.raw(body);
    Ok(writer.finish()?.into_bytes().into())
}

fn framed(record: &impl Encode, key: i16, version: i16) -> Result<Vec<u8>> {
    let mut writer = framed_writer(key.unsigned_abs(), version.unsigned_abs());
    record.encode(&mut writer, version);
    Ok(writer.finish()?.into_bytes().into())
}

fn framed_writer(key: u16, version: u16) -> Writer {
    let mut writer = Writer::new();
    writer.uvarint(FRAME_VERSION);
    writer.uvarint(u32::from(key));
    writer.uvarint(u32::from(version));
    writer
}

fn small(value: u32) -> Result<i16> {
    i16::try_from(value).map_err(|_| Error::InvalidLength)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{partition_change_record::PartitionChangeRecord, topic_record::TopicRecord};
    use model::Uuid;

    #[test]
    fn topic_record_is_kafkas_bytes() {
        let record = TopicRecord { name: "foo", topic_id: Uuid([7; 16]) };
        let value = encode_metadata_record(&record, 0).unwrap();
        let expected = [&b"\x01\x02\x00\x04foo"[..], &[7; 16], &[0]].concat();
        assert_eq!(value, expected);
        assert_eq!(decode_metadata_record(&value), Ok((MetadataRecord::Topic(record), 0)));
    }

    #[test]
    fn tags_ascend_though_the_table_has_them_otherwise() {
        let record = PartitionChangeRecord {
            directories: Some(vec![]),
            eligible_leader_replicas: Some(vec![1]),
            leader: 3,
            ..Default::default()
        };
        let value = encode_metadata_record(&record, 2).unwrap();
        let tags = b"\x03\x01\x04\0\0\0\x03\x06\x05\x02\0\0\0\x01\x08\x01\x01";
        assert!(value.ends_with(tags), "{value:?}");
        let (decoded, version) = decode_metadata_record(&value).unwrap();
        assert_eq!((&decoded, version), (&MetadataRecord::PartitionChange(record), 2));
        assert_eq!(decoded.to_value(2).unwrap(), value);
    }

    #[test]
    fn foreign_frames_are_refused() {
        let check =
            |value: &[u8], expected| assert_eq!(decode_metadata_record(value), Err(expected));
        check(b"", Error::Truncated);
        check(b"\x00\x02\x00", Error::UnknownFrameVersion(0));
        check(b"\x01\x7f\x00", Error::UnknownRecordType(127));
        check(b"\x01\x02\x09", Error::UnsupportedVersion { message: "TopicRecord", version: 9 });
        check(b"\x01\x14\x00\x00\x00", Error::TrailingBytes(1));
        check(b"\x01\xff\xff\x7f\x00", Error::InvalidLength);
    }
}
