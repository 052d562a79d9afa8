//! Control records: what a batch with the control bit holds.
//!
//! ```text
//! key:   version (int16, 0) | type (int16)
//! value: version (int16) | fields of the type
//! ```
//! In the markers of a transaction the version stands before the message; in the others it is the
//! message's own first field.

use crate::{
    Decode, Encode, Error, Reader, Result, Writer, end_txn_marker::EndTxnMarker,
    kraft_version_record::KRaftVersionRecord, leader_change_message::LeaderChangeMessage,
    snapshot_footer_record::SnapshotFooterRecord, snapshot_header_record::SnapshotHeaderRecord,
    voters_record::VotersRecord,
};

const KEY_VERSION: i16 = 0;
const MARKER_VERSION: i16 = 0;

/// A control record.
#[derive(Clone, Debug, PartialEq)]
pub enum ControlRecord<'a> {
    /// Type 0: the transaction is aborted.
    Abort(EndTxnMarker),
    /// Type 1: the transaction is committed.
    Commit(EndTxnMarker),
    /// Type 2: who leads the quorum in this epoch.
    LeaderChange(LeaderChangeMessage),
    /// Type 3: the first record of a snapshot.
    SnapshotHeader(SnapshotHeaderRecord),
    /// Type 4: the last record of a snapshot.
    SnapshotFooter(SnapshotFooterRecord),
    /// Type 5: the finalized kraft.version.
    KRaftVersion(KRaftVersionRecord),
    /// Type 6: the voters from here on.
    Voters(VotersRecord<'a>),
}

impl<'a> ControlRecord<'a> {
    /// The number of the type in the key.
    #[must_use]
    pub fn record_type(&self) -> i16 {
        match self {
            ControlRecord::Abort(_) => 0,
            ControlRecord::Commit(_) => 1,
            ControlRecord::LeaderChange(_) => 2,
            ControlRecord::SnapshotHeader(_) => 3,
            ControlRecord::SnapshotFooter(_) => 4,
            ControlRecord::KRaftVersion(_) => 5,
            ControlRecord::Voters(_) => 6,
        }
    }

    /// Decodes a record of a control batch.
    pub fn decode(key: &[u8], value: &'a [u8]) -> Result<ControlRecord<'a>> {
        let mut key = Reader::new(key);
        let _version = key.i16()?; // later versions only add to the key
        let record_type = key.i16()?;
        let version = Reader::new(value).i16()?;
        let mut reader = Reader::new(value);
        if matches!(record_type, 0 | 1) {
            reader.i16()?;
        }
        let body = &mut reader;
        let record = match record_type {
            0 => ControlRecord::Abort(EndTxnMarker::decode(body, version)?),
            1 => ControlRecord::Commit(EndTxnMarker::decode(body, version)?),
            2 => ControlRecord::LeaderChange(LeaderChangeMessage::decode(body, version)?),
            3 => ControlRecord::SnapshotHeader(SnapshotHeaderRecord::decode(body, version)?),
            4 => ControlRecord::SnapshotFooter(SnapshotFooterRecord::decode(body, version)?),
            5 => ControlRecord::KRaftVersion(KRaftVersionRecord::decode(body, version)?),
            6 => ControlRecord::Voters(VotersRecord::decode(body, version)?),
            other => return Err(Error::UnknownRecordType(other)),
        };
        reader.finish()?;
        Ok(record)
    }

    /// The key and the value of the record, in the version that the record's own field states.
    pub fn encode(&self) -> Result<(Vec<u8>, Vec<u8>)> {
        let mut key = Writer::new();
        key.i16(KEY_VERSION);
        key.i16(self.record_type());
        let mut value = Writer::new();
        let body = &mut value;
        match self {
            ControlRecord::Abort(record) | ControlRecord::Commit(record) => {
                body.i16(MARKER_VERSION);
                record.encode(body, MARKER_VERSION);
            }
            ControlRecord::LeaderChange(record) => record.encode(body, record.version),
            ControlRecord::SnapshotHeader(record) => record.encode(body, record.version),
            ControlRecord::SnapshotFooter(record) => record.encode(body, record.version),
            ControlRecord::KRaftVersion(record) => record.encode(body, record.version),
            ControlRecord::Voters(record) => record.encode(body, record.version),
        }
        Ok((key.finish()?.into_bytes().into(), value.finish()?.into_bytes().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_kafkas_bytes() {
        let record = ControlRecord::Commit(EndTxnMarker { coordinator_epoch: 7 });
        let (key, value) = record.encode().unwrap();
        assert_eq!(
            (key.as_slice(), value.as_slice()),
            (&b"\0\0\0\x01"[..], &b"\0\0\0\0\0\x07"[..])
        );
        assert_eq!(ControlRecord::decode(&key, &value), Ok(record));
    }

    #[test]
    fn quorum_records_round_trip() {
        let check = |record: ControlRecord<'_>, expected: &[u8]| {
            let (key, value) = record.encode().unwrap();
            assert_eq!(value, expected);
            assert_eq!(ControlRecord::decode(&key, &value), Ok(record));
        };
        let header = SnapshotHeaderRecord { version: 0, last_contained_log_timestamp: 3 };
        check(ControlRecord::SnapshotHeader(header), b"\0\0\0\0\0\0\0\0\0\x03\0");
        check(ControlRecord::SnapshotFooter(SnapshotFooterRecord { version: 0 }), b"\0\0\0");
        let version = KRaftVersionRecord { version: 0, k_raft_version: 1 };
        check(ControlRecord::KRaftVersion(version), b"\0\0\0\x01\0");
        let change = LeaderChangeMessage { version: 1, leader_id: 2, ..Default::default() };
        check(ControlRecord::LeaderChange(change), b"\0\x01\0\0\0\x02\x01\x01\0");
        check(ControlRecord::Voters(VotersRecord::default()), b"\0\0\x01\0");
    }

    #[test]
    fn unknown_type_is_refused() {
        let decoded = ControlRecord::decode(b"\0\0\0\x09", b"\0\0");
        assert_eq!(decoded, Err(Error::UnknownRecordType(9)));
    }
}
