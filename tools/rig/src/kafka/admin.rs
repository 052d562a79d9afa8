//! What a rig asks beside producing and fetching: groups' offsets, and letting go of records.

use super::bytes::{Reader, Writer};
use super::{Connection, TopicPartition};

const OFFSET_COMMIT: (i16, i16) = (8, 7);
const OFFSET_FETCH: (i16, i16) = (9, 5);
const FIND_COORDINATOR: (i16, i16) = (10, 2);
const DELETE_TOPICS: (i16, i16) = (20, 3);
const DELETE_RECORDS: (i16, i16) = (21, 1);
const TIMEOUT_MS: i32 = 20_000;

impl Connection {
    /// Which error a look for a group's coordinator gives.
    pub(crate) fn find_coordinator(&mut self, group: &str) -> Result<i16, String> {
        let mut body = Writer::default();
        body.string(group).int8(0);
        let answer = self.call(FIND_COORDINATOR, body)?;
        let mut reader = Reader::new(&answer);
        reader.int32()?;
        reader.int16()
    }

    /// Commits an offset as a consumer without a group's membership does; the error.
    pub(crate) fn commit_offset(
        &mut self,
        group: &str,
        at: &TopicPartition,
        offset: i64,
    ) -> Result<i16, String> {
        let mut body = Writer::default();
        body.string(group).int32(-1).string("").null_string().count(1).string(&at.topic);
        body.count(1).int32(at.partition).int64(offset).int32(-1).null_string();
        let answer = self.call(OFFSET_COMMIT, body)?;
        let mut reader = Reader::new(&answer);
        reader.int32()?;
        reader.count()?;
        reader.string()?;
        reader.count()?;
        reader.int32()?;
        reader.int16()
    }

    /// A group's committed offset: the error, and the offset (-1: none).
    pub(crate) fn committed_offset(
        &mut self,
        group: &str,
        at: &TopicPartition,
    ) -> Result<(i16, i64), String> {
        let mut body = Writer::default();
        body.string(group).count(1).string(&at.topic).count(1).int32(at.partition);
        let answer = self.call(OFFSET_FETCH, body)?;
        let mut reader = Reader::new(&answer);
        reader.int32()?;
        reader.count()?;
        reader.string()?;
        reader.count()?;
        reader.int32()?;
        let offset = reader.int64()?;
        reader.int32()?;
        reader.string()?;
        let of_partition = reader.int16()?;
        let of_group = reader.int16()?;
        Ok((if of_group == 0 { of_partition } else { of_group }, offset))
    }

    /// Deletes a topic; the error.
    pub(crate) fn delete_topic(&mut self, topic: &str) -> Result<i16, String> {
        let mut body = Writer::default();
        body.count(1).string(topic).int32(TIMEOUT_MS);
        let answer = self.call(DELETE_TOPICS, body)?;
        let mut reader = Reader::new(&answer);
        reader.int32()?;
        reader.count()?;
        reader.string()?;
        reader.int16()
    }

    /// Lets go of all records of a partition; the error, and where the log starts then.
    pub(crate) fn delete_records(&mut self, at: &TopicPartition) -> Result<(i16, i64), String> {
        const HIGH_WATERMARK: i64 = -1;
        let mut body = Writer::default();
        body.count(1).string(&at.topic).count(1).int32(at.partition).int64(HIGH_WATERMARK);
        body.int32(TIMEOUT_MS);
        let answer = self.call(DELETE_RECORDS, body)?;
        let mut reader = Reader::new(&answer);
        reader.int32()?;
        reader.count()?;
        reader.string()?;
        reader.count()?;
        reader.int32()?;
        let log_start = reader.int64()?;
        Ok((reader.int16()?, log_start))
    }
}
