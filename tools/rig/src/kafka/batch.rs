//! Record batches (magic 2): built for a produce, taken apart after a fetch.
//!
//! This is a second implementation of the layout on purpose: a rig that used the broker's own
//! would share its mistakes.
//! ```text
//! BaseOffset i64 | BatchLength i32 | PartitionLeaderEpoch i32 | Magic i8 | CRC u32 |
//! Attributes i16 | LastOffsetDelta i32 | BaseTimestamp i64 | MaxTimestamp i64 |
//! ProducerId i64 | ProducerEpoch i16 | BaseSequence i32 | RecordCount i32 | records
//! ```
//! The CRC-32C covers everything from Attributes on.

use super::bytes::{Reader, Writer};

/// From PartitionLeaderEpoch up to and with CRC: counted by BatchLength, not covered by the CRC.
const BETWEEN_LENGTH_AND_ATTRIBUTES_BYTES: usize = 4 + 1 + 4;
const MAGIC: i8 = 2;
/// Compression (bits 0 to 2) and control batches (bit 5) are never sent by a rig.
const UNEXPECTED_ATTRIBUTES: i16 = 0b10_0111;

/// Who sent a batch, as the broker sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
}

impl Identity {
    /// A producer without idempotence.
    pub(crate) const NONE: Self = Self { producer_id: -1, producer_epoch: -1, base_sequence: -1 };
}

/// A batch as it lies in a log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) base_offset: i64,
    pub(crate) identity: Identity,
    pub(crate) values: Vec<Vec<u8>>,
}

/// The bytes of a batch of `values`, to be sent.
pub(crate) fn build(identity: Identity, timestamp: i64, values: &[Vec<u8>]) -> Vec<u8> {
    let count = i32::try_from(values.len()).expect("a rig sends small batches");
    let mut body = Writer::default();
    body.int16(0).int32(count - 1).int64(timestamp).int64(timestamp);
    body.int64(identity.producer_id).int16(identity.producer_epoch).int32(identity.base_sequence);
    body.int32(count);
    for (delta, value) in (0_i64..).zip(values) {
        let mut record = Writer::default();
        record.int8(0).varint(0).varint(delta).varint(-1);
        record.varint(i64::try_from(value.len()).expect("a short value")).raw(value).varint(0);
        let record = record.finish();
        body.varint(i64::try_from(record.len()).expect("a short record")).raw(&record);
    }
    let body = body.finish();
    let mut batch = Writer::default();
    batch.int64(0).count(body.len() + BETWEEN_LENGTH_AND_ATTRIBUTES_BYTES).int32(-1).int8(MAGIC);
    batch.uint32(crc32c::crc32c(&body)).raw(&body);
    batch.finish()
}

/// The batches of a fetched record set. A last one that was cut by the fetch's limit is left out.
///
/// # Errors
/// When a batch is not what a broker may serve: a wrong CRC, magic, count or length.
pub(crate) fn parse_all(records: &[u8]) -> Result<Vec<Batch>, String> {
    let mut reader = Reader::new(records);
    let mut batches = Vec::new();
    while reader.remaining() >= 12 {
        let base_offset = reader.int64()?;
        let length = reader.int32()?;
        let length = usize::try_from(length)
            .map_err(|_| format!("batch at offset {base_offset}: length {length}"))?;
        if length > reader.remaining() {
            break;
        }
        let body = reader.raw(length)?;
        let batch = parse(base_offset, body)
            .map_err(|reason| format!("batch at offset {base_offset}: {reason}"))?;
        batches.push(batch);
    }
    Ok(batches)
}

fn parse(base_offset: i64, body: &[u8]) -> Result<Batch, String> {
    let mut reader = Reader::new(body);
    let _leader_epoch = reader.int32()?;
    let magic = reader.int8()?;
    if magic != MAGIC {
        return Err(format!("magic {magic}"));
    }
    let crc = reader.uint32()?;
    let covered = &body[BETWEEN_LENGTH_AND_ATTRIBUTES_BYTES..];
    if crc != crc32c::crc32c(covered) {
        return Err("wrong CRC".to_owned());
    }
    let attributes = reader.int16()?;
    if attributes & UNEXPECTED_ATTRIBUTES != 0 {
        return Err(format!("attributes {attributes:#x}"));
    }
    let last_offset_delta = reader.int32()?;
    reader.raw(16)?;
    let identity = Identity {
        producer_id: reader.int64()?,
        producer_epoch: reader.int16()?,
        base_sequence: reader.int32()?,
    };
    let count = reader.int32()?;
    if count != last_offset_delta + 1 {
        return Err(format!("{count} records, LastOffsetDelta {last_offset_delta}"));
    }
    let values = (0..i64::from(count))
        .map(|delta| parse_record(&mut reader, delta))
        .collect::<Result<Vec<_>, _>>()?;
    if reader.remaining() > 0 {
        return Err(format!("{} bytes after the last record", reader.remaining()));
    }
    Ok(Batch { base_offset, identity, values })
}

fn parse_record(reader: &mut Reader<'_>, expected_delta: i64) -> Result<Vec<u8>, String> {
    let sized = |reader: &mut Reader<'_>| -> Result<usize, String> {
        let length = reader.varint()?;
        usize::try_from(length).map_err(|_| format!("a length of {length}"))
    };
    let length = sized(reader)?;
    let mut record = Reader::new(reader.raw(length)?);
    record.int8()?;
    record.varint()?;
    let delta = record.varint()?;
    if delta != expected_delta {
        return Err(format!("offset delta {delta} where {expected_delta} was due"));
    }
    if record.varint()? != -1 {
        return Err("a key that nobody sent".to_owned());
    }
    let length = sized(&mut record)?;
    Ok(record.raw(length)?.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values() -> Vec<Vec<u8>> {
        vec![b"one".to_vec(), vec![7; 300], Vec::new()]
    }

    #[test]
    fn a_built_batch_is_taken_apart_again() {
        let identity = Identity { producer_id: 9, producer_epoch: 1, base_sequence: 4 };
        let mut bytes = build(identity, 1000, &values());
        bytes[..8].copy_from_slice(&77_i64.to_be_bytes());
        let whole = bytes.len();
        bytes.extend(build(Identity::NONE, 1000, &values()));
        let expected = Batch { base_offset: 77, identity, values: values() };
        assert_eq!(parse_all(&bytes[..whole]).unwrap(), [expected]);
        assert_eq!(parse_all(&bytes).unwrap().len(), 2);
        assert_eq!(parse_all(&bytes[..bytes.len() - 1]).unwrap().len(), 1);
    }

    #[test]
    fn a_changed_byte_is_noticed() {
        let good = build(Identity::NONE, 1000, &values());
        for at in (16..good.len()).step_by(5) {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(parse_all(&bad).is_err(), "byte {at}");
        }
    }
}
