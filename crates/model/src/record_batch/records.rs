//! The records within an uncompressed batch.
//!
//! ```text
//!   length varint | attributes i8 | timestampDelta varlong | offsetDelta varint
//!   keyLength varint, key | valueLength varint, value | headerCount varint, headers
//!   header: keyLength varint, key (UTF-8) | valueLength varint, value      length -1: null
//! ```
//! Varints are zigzag encoded. Every length is checked against the bytes that are there before
//! it is believed; the walk copies nothing and allocates nothing.

use super::{
    BatchError,
    builder::{put_length, put_varlong},
    plain::PlainRecord,
};

/// The longest varlong.
const VARLONG_BYTES_MAX: usize = 10;

/// What a control record says: the type in its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlType {
    /// The transaction was aborted.
    Abort,
    /// The transaction was committed.
    Commit,
    /// A new leader of the quorum.
    LeaderChange,
    /// The start of a snapshot of the quorum.
    SnapshotHeader,
    /// Its end.
    SnapshotFooter,
    /// The quorum's `kraft.version`.
    KRaftVersion,
    /// The quorum's voters.
    Voters,
}

impl ControlType {
    /// Reads the key of a control record: version `i16`, type `i16`. `None` for a type that is not
    /// known.
    #[must_use]
    pub fn from_key(key: &[u8]) -> Option<ControlType> {
        let number = i16::from_be_bytes([*key.get(2)?, *key.get(3)?]);
        Some(match number {
            0 => ControlType::Abort,
            1 => ControlType::Commit,
            2 => ControlType::LeaderChange,
            3 => ControlType::SnapshotHeader,
            4 => ControlType::SnapshotFooter,
            5 => ControlType::KRaftVersion,
            6 => ControlType::Voters,
            _ => return None,
        })
    }

    /// The key of a control record of this type, version 0.
    #[must_use]
    pub fn key(self) -> [u8; 4] {
        let number: u8 = match self {
            ControlType::Abort => 0,
            ControlType::Commit => 1,
            ControlType::LeaderChange => 2,
            ControlType::SnapshotHeader => 3,
            ControlType::SnapshotFooter => 4,
            ControlType::KRaftVersion => 5,
            ControlType::Voters => 6,
        };
        [0, 0, 0, number]
    }
}

/// A record, its lengths checked.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The distance from the batch's BaseTimestamp.
    pub timestamp_delta: i64,
    /// The distance from the batch's BaseOffset.
    pub offset_delta: i32,
    /// `None`: null.
    pub key: Option<&'a [u8]>,
    /// `None`: null, a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    header_count: i32,
    headers: &'a [u8],
    /// All of it, its length in front included.
    bytes: &'a [u8],
    attributes: u8,
    /// What follows the timestamp delta.
    behind_timestamp: &'a [u8],
}

impl<'a> Record<'a> {
    /// All of its bytes as they lie in the batch.
    #[must_use]
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Appends it to `target` with another timestamp delta, all else as it is.
    pub fn put_with_timestamp_delta(&self, timestamp_delta: i64, target: &mut Vec<u8>) {
        let mut head = Vec::with_capacity(VARLONG_BYTES_MAX + 1);
        head.push(self.attributes);
        put_varlong(&mut head, timestamp_delta);
        put_length(target, head.len() + self.behind_timestamp.len());
        target.extend_from_slice(&head);
        target.extend_from_slice(self.behind_timestamp);
    }

    /// Its headers, read anew at each call.
    #[must_use]
    pub fn headers(&self) -> Headers<'a> {
        Headers { cursor: Cursor { rest: self.headers }, left: self.header_count }
    }
}

/// A header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// UTF-8 by contract; not checked.
    pub key: &'a [u8],
    /// `None`: null.
    pub value: Option<&'a [u8]>,
}

/// The headers of a record that was checked.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    cursor: Cursor<'a>,
    left: i32,
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let header = self.cursor.header();
        Some(header.expect("the record's headers were checked when it was read"))
    }
}

/// Walks the records of a batch; ends after the first error. Bytes behind the last record are an
/// error too.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    cursor: Cursor<'a>,
    index: i32,
    count: i32,
    failed: bool,
}

impl<'a> Records<'a> {
    pub(super) fn new(bytes: &'a [u8], count: i32) -> Records<'a> {
        Records { cursor: Cursor { rest: bytes }, index: 0, count, failed: false }
    }

    /// The records in `bytes`, which are those of a batch of `count` once decompressed.
    #[must_use]
    pub fn of_decompressed(bytes: &'a [u8], count: i32) -> Records<'a> {
        Records::new(bytes, count)
    }

    /// Goes on by a record that is plain. `None` where the next is not, or there is none.
    #[inline]
    pub(super) fn next_plain(&mut self) -> Option<PlainRecord> {
        if self.failed || self.index >= self.count {
            return None;
        }
        let plain = PlainRecord::first_of(self.cursor.rest)?;
        self.cursor.rest = &self.cursor.rest[plain.size..];
        self.index += 1;
        Some(plain)
    }

    fn fail(&mut self, what: &'static str) -> Option<Result<Record<'a>, BatchError>> {
        self.failed = true;
        Some(Err(BatchError::InvalidRecord { index: self.index, what }))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        if self.index >= self.count {
            if self.cursor.rest.is_empty() {
                return None;
            }
            return self.fail("bytes are left behind the last record");
        }
        match self.cursor.record() {
            Ok(record) => {
                self.index += 1;
                Some(Ok(record))
            }
            Err(what) => self.fail(what),
        }
    }
}

/// Reads forward; every read is checked against what is left.
#[derive(Clone, Debug)]
struct Cursor<'a> {
    rest: &'a [u8],
}

type Read<T> = Result<T, &'static str>;

impl<'a> Cursor<'a> {
    fn record(&mut self) -> Read<Record<'a>> {
        let all = self.rest;
        let length = usize::try_from(self.varint()?).map_err(|_| "its length is negative")?;
        let body = self.take(length).ok_or("its length is beyond the batch")?;
        let mut body = Cursor { rest: body };
        let attributes = body.take(1).ok_or("it ends within its attributes")?[0];
        let timestamp_delta = body.varlong()?;
        let behind_timestamp = body.rest;
        let offset_delta = body.varint()?;
        let key = body.nullable()?;
        let value = body.nullable()?;
        let header_count = body.varint()?;
        if header_count < 0 {
            return Err("its header count is negative");
        }
        let headers = body.rest;
        for _ in 0..header_count {
            body.header()?;
        }
        if !body.rest.is_empty() {
            return Err("it is longer than its fields");
        }
        let bytes = &all[..all.len() - self.rest.len()];
        Ok(Record {
            timestamp_delta,
            offset_delta,
            key,
            value,
            header_count,
            headers,
            bytes,
            attributes,
            behind_timestamp,
        })
    }

    fn header(&mut self) -> Read<Header<'a>> {
        let key = self.nullable()?.ok_or("a header's key is null")?;
        Ok(Header { key, value: self.nullable()? })
    }

    fn nullable(&mut self) -> Read<Option<&'a [u8]>> {
        let length = self.varint()?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| "a field's length is negative")?;
        self.take(length).map(Some).ok_or("a field's length is beyond the record")
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Read<i32> {
        // Most numbers in a record are below 64: one byte.
        if let Some((&first, rest)) = self.rest.split_first()
            && first < 0x80
        {
            self.rest = rest;
            return Ok(zigzag_32(u32::from(first)));
        }
        let raw = self.unsigned(5)?;
        let raw = u32::try_from(raw).map_err(|_| "a varint is too long")?;
        Ok(zigzag_32(raw))
    }

    fn varlong(&mut self) -> Read<i64> {
        let raw = self.unsigned(10)?;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    fn unsigned(&mut self, bytes_max: u32) -> Read<u64> {
        let mut value = 0u64;
        for index in 0..bytes_max {
            let (&byte, rest) = self.rest.split_first().ok_or("it ends within a varint")?;
            self.rest = rest;
            let bits = u64::from(byte & 0x7f);
            if index == 9 && bits > 1 {
                return Err("a varint is too long");
            }
            value |= bits << (7 * index);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a varint is too long")
    }
}

fn zigzag_32(raw: u32) -> i32 {
    (raw >> 1).cast_signed() ^ -(raw & 1).cast_signed()
}
