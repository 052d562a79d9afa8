//! Keys and values of the coordinators' records.
//!
//! ```text
//! key:   type (int16)    | fields
//! value: version (int16) | fields; a record without value is a tombstone
//! ```

use crate::{
    Decode, Error, Message, Reader, RecordKey, RecordValue, Result, Writer,
    consumer_offsets_record::ConsumerOffsetsRecord, transaction_log_key::TransactionLogKey,
    transaction_log_value::TransactionLogValue,
};

/// The one version of every key's fields; what stands before them is the type.
const KEY_VERSION: i16 = 0;

/// Encodes a key with its type.
pub fn encode_key<K: RecordKey>(key: &K) -> Result<Vec<u8>> {
    let mut writer = Writer::new();
    writer.i16(K::TYPE);
    key.encode(&mut writer, KEY_VERSION);
    Ok(writer.finish()?.into_bytes().into())
}

/// Encodes a value with its version.
pub fn encode_value<V: RecordValue>(value: &V, version: i16) -> Result<Vec<u8>> {
    let mut writer = Writer::new();
    writer.i16(version);
    value.encode(&mut writer, version);
    Ok(writer.finish()?.into_bytes().into())
}

/// Decodes a record of `__consumer_offsets`. A type that the table does not hold is
/// [`Error::UnknownRecordType`], which a replay may skip.
pub fn decode_consumer_offsets_record<'a>(
    key: &'a [u8],
    value: Option<&'a [u8]>,
) -> Result<ConsumerOffsetsRecord<'a>> {
    ConsumerOffsetsRecord::decode_parts(RawKey::new(key)?, RawValue(value))
}

/// Decodes a record of `__transaction_state`.
pub fn decode_transaction_state_record<'a>(
    key: &'a [u8],
    value: Option<&'a [u8]>,
) -> Result<(TransactionLogKey<'a>, Option<TransactionLogValue<'a>>)> {
    let key = RawKey::new(key)?;
    if key.record_type != TransactionLogKey::TYPE {
        return Err(Error::UnknownRecordType(key.record_type));
    }
    Ok((key.body()?, RawValue(value).body()?))
}

/// A key whose type is known and whose fields are not yet decoded.
pub(crate) struct RawKey<'a> {
    pub(crate) record_type: i16,
    fields: &'a [u8],
}

impl<'a> RawKey<'a> {
    fn new(bytes: &'a [u8]) -> Result<RawKey<'a>> {
        let mut fields = Reader::new(bytes);
        Ok(RawKey { record_type: fields.i16()?, fields: fields.rest() })
    }

    pub(crate) fn body<K: Message + Decode<'a>>(self) -> Result<K> {
        to_its_end(Reader::new(self.fields), KEY_VERSION)
    }
}

/// A value or a tombstone, not yet decoded.
pub(crate) struct RawValue<'a>(Option<&'a [u8]>);

impl<'a> RawValue<'a> {
    pub(crate) fn body<V: Message + Decode<'a>>(self) -> Result<Option<V>> {
        let Some(bytes) = self.0 else { return Ok(None) };
        let mut fields = Reader::new(bytes);
        let version = fields.i16()?;
        to_its_end(fields, version).map(Some)
    }
}

/// Decodes fields that nothing may follow.
fn to_its_end<'a, M: Message + Decode<'a>>(mut reader: Reader<'a>, version: i16) -> Result<M> {
    let message = M::decode(&mut reader, version)?;
    reader.finish()?;
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        consumer_group_member_metadata_key::ConsumerGroupMemberMetadataKey,
        consumer_group_member_metadata_value::{
            ClassicMemberMetadata, ConsumerGroupMemberMetadataValue,
        },
        offset_commit_key::OffsetCommitKey,
        offset_commit_value::OffsetCommitValue,
    };

    #[test]
    fn committed_offset_is_kafkas_bytes() {
        let key = OffsetCommitKey { group: "g", topic: "t", partition: 5 };
        let value = OffsetCommitValue { offset: 9, commit_timestamp: 1, ..Default::default() };
        let key_bytes = encode_key(&key).unwrap();
        assert_eq!(key_bytes, b"\0\x01\0\x01g\0\x01t\0\0\0\x05");
        let value_bytes = encode_value(&value, 3).unwrap();
        let expected = b"\0\x03\0\0\0\0\0\0\0\x09\xff\xff\xff\xff\0\0\0\0\0\0\0\0\0\x01";
        assert_eq!(value_bytes, expected);
        assert_eq!(
            decode_consumer_offsets_record(&key_bytes, Some(&value_bytes)),
            Ok(ConsumerOffsetsRecord::OffsetCommit(key.clone(), Some(value)))
        );
        assert_eq!(
            decode_consumer_offsets_record(&key_bytes, None),
            Ok(ConsumerOffsetsRecord::OffsetCommit(key, None))
        );
    }

    /// A tagged structure that may be null and whose default is not null: null is written.
    #[test]
    fn null_of_a_tagged_structure_is_written() {
        let key = ConsumerGroupMemberMetadataKey { group_id: "g", member_id: "m" };
        let check = |classic_member_metadata: Option<ClassicMemberMetadata<'_>>, tags: &[u8]| {
            let value =
                ConsumerGroupMemberMetadataValue { classic_member_metadata, ..Default::default() };
            let bytes = encode_value(&value, 0).unwrap();
            assert!(bytes.ends_with(tags), "{bytes:?}");
            let key_bytes = encode_key(&key).unwrap();
            let decoded = decode_consumer_offsets_record(&key_bytes, Some(&bytes));
            let expected = ConsumerOffsetsRecord::ConsumerGroupMemberMetadata(
                key.clone(),
                Some(value.clone()),
            );
            assert_eq!(decoded.unwrap(), expected);
        };
        check(None, &[1, 0, 1, 0]);
        check(Some(ClassicMemberMetadata::default()), &[0]);
        let metadata =
            ClassicMemberMetadata { session_timeout_ms: 7, supported_protocols: Vec::new() };
        check(Some(metadata), &[1, 0, 7, 1, 0, 0, 0, 7, 1, 0]);
    }

    #[test]
    fn foreign_records_are_refused() {
        let check = |key: &[u8], value: Option<&[u8]>, expected| {
            assert_eq!(decode_consumer_offsets_record(key, value).unwrap_err(), expected);
        };
        check(b"\x7f\x00", None, Error::UnknownRecordType(0x7f00));
        check(b"\0", None, Error::Truncated);
        check(b"\0\x02\0\x01gg", None, Error::TrailingBytes(1));
        let unsupported = Error::UnsupportedVersion { message: "GroupMetadataValue", version: 9 };
        check(b"\0\x02\0\x01g", Some(b"\0\x09"), unsupported);
        assert!(decode_transaction_state_record(b"\0\x01\0\x01g", None).is_err());
    }
}
