//! Where a log reaches a time: the first record that is not older, and the newest of all.
//!
//! The time indexes lead to a batch; which of its records it is, a walk over them tells, compressed
//! or not. That walk is made in slices, a piece of the batch each, and keeps no more than a piece.

use std::rc::Rc;

use model::{
    LeaderEpoch, Offset, TimestampMs,
    record_batch::{Counts, Progress, RecordBatch, RecordScan, batches},
    topic_config::DECOMPRESSED_BYTES_MAX,
};

use crate::{FirstBatch, Log, ReadError, read::COLD_READ_BYTES_MAX, segment::Phase};

/// A record found by its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampOffset {
    /// Its timestamp.
    pub timestamp: TimestampMs,
    /// Its offset.
    pub offset: Offset,
    /// The epoch of the leader that wrote it.
    pub leader_epoch: LeaderEpoch,
}

impl Log {
    /// The first record whose timestamp is at least `timestamp`, below the high watermark.
    ///
    /// # Errors
    /// When the log is closed, or the disk fails.
    pub async fn offset_for_timestamp(
        &self,
        timestamp: TimestampMs,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        loop {
            let swaps = self.swaps();
            let found = self.offset_for_timestamp_once(timestamp).await;
            if self.swaps() == swaps {
                return found;
            }
        }
    }

    async fn offset_for_timestamp_once(
        &self,
        timestamp: TimestampMs,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        let bases: Vec<Offset> =
            self.0.state.borrow().segments.iter().map(|segment| segment.base_offset).collect();
        for base_offset in bases {
            if Box::pin(self.newest_of(base_offset)).await?.0 < timestamp {
                continue;
            }
            let mut from = Box::pin(self.search_from(base_offset, timestamp)).await?;
            loop {
                let up_to = self.high_watermark();
                let found = self.read(from, COLD_READ_BYTES_MAX, FirstBatch::Whole, up_to).await;
                let found = match found {
                    Ok(found) => found,
                    // What is damaged has no time; what follows has.
                    Err(ReadError::Damaged(damage)) => {
                        from = damage.to;
                        continue;
                    }
                    Err(ReadError::Missing { to, .. }) => {
                        from = to;
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                if found.batches.is_empty() {
                    break;
                }
                let bytes = found.batches.concat();
                if let Some(found) = Box::pin(self.first_at(&bytes, timestamp)).await {
                    return Ok(Some(found));
                }
                from = found.next_offset;
            }
        }
        Ok(None)
    }

    /// Where in a segment to look for the first record of a time. A time index that says what the
    /// log does not is of no use: the search then begins at the segment's start.
    async fn search_from(
        &self,
        base_offset: Offset,
        timestamp: TimestampMs,
    ) -> Result<Offset, ReadError> {
        // Not held any longer: an append would have to copy them.
        let entry = self.indexes(base_offset).await?.time_entry_before(timestamp);
        let from = match entry {
            Some((time, offset)) if Box::pin(self.batch_time(offset)).await? == Some(time) => {
                offset
            }
            Some(_) | None => base_offset,
        };
        Ok(from.max(self.log_start_offset()))
    }

    /// The largest timestamp of a segment and its offset, as the log has it.
    pub(crate) async fn newest_of(
        &self,
        base_offset: Offset,
    ) -> Result<(TimestampMs, Offset), ReadError> {
        let newest = self.indexes(base_offset).await?.max_timestamp();
        if newest.0.0 < 0 || Box::pin(self.batch_time(newest.1)).await? == Some(newest.0) {
            return Ok(newest);
        }
        let (extent, in_memory) = {
            let state = self.0.state.borrow();
            let index = state.segment_index_of(base_offset).ok_or(ReadError::Closed)?;
            let batches = state.segments[index].tail.batches();
            let in_memory = batches.iter().map(|batch| (batch.max_timestamp, batch.last_offset));
            (state.extent(index), in_memory.max_by_key(|(time, _)| *time))
        };
        let rebuilt = Box::pin(self.rebuild_indexes(&extent)).await?;
        let newest = [Some(rebuilt.max_timestamp()), in_memory];
        if in_memory.is_none() {
            let mut state = self.0.state.borrow_mut();
            let is_same = state.compaction.swaps == extent.swaps;
            if let Some(segment) = state.segment_mut(base_offset)
                && segment.phase == Phase::Finished
                && is_same
            {
                segment.indexes = Some(Rc::new(rebuilt));
            }
        }
        let newest = newest.into_iter().flatten().max_by_key(|(time, _)| *time);
        Ok(newest.unwrap_or((TimestampMs::NONE, base_offset)))
    }

    /// The largest timestamp of the batch that holds `offset`; `None` where it cannot be read.
    async fn batch_time(&self, offset: Offset) -> Result<Option<TimestampMs>, ReadError> {
        let end = self.log_end_offset();
        match self.read(offset, 1, FirstBatch::Whole, end).await {
            Ok(found) => {
                let bytes = found.batches.concat();
                Ok(RecordBatch::first(&bytes).ok().map(|batch| batch.max_timestamp()))
            }
            Err(ReadError::Closed) => Err(ReadError::Closed),
            Err(_) => Ok(None),
        }
    }

    /// The first record of the largest timestamp below the high watermark.
    ///
    /// # Errors
    /// When the log is closed, or the disk fails.
    pub async fn max_timestamp(&self) -> Result<Option<TimestampOffset>, ReadError> {
        loop {
            let swaps = self.swaps();
            let found = self.max_timestamp_once().await;
            if self.swaps() == swaps {
                return found;
            }
        }
    }

    async fn max_timestamp_once(&self) -> Result<Option<TimestampOffset>, ReadError> {
        let bases: Vec<Offset> =
            self.0.state.borrow().segments.iter().map(|segment| segment.base_offset).collect();
        let mut newest: Option<(TimestampMs, Offset)> = None;
        for base_offset in bases {
            let (timestamp, offset) = Box::pin(self.newest_of(base_offset)).await?;
            let is_newer = newest.is_none_or(|(newest, _)| timestamp > newest);
            if timestamp.0 >= 0 && is_newer {
                newest = Some((timestamp, offset));
            }
        }
        let Some((timestamp, offset)) = newest else { return Ok(None) };
        let up_to = self.high_watermark();
        let found = match self.read(offset, 1, FirstBatch::Whole, up_to).await {
            Ok(found) => found.batches.concat(),
            Err(error @ (ReadError::Closed | ReadError::Io(_))) => return Err(error),
            // Below the log start, or damaged: it is no record that can be read.
            Err(_) => return Ok(None),
        };
        let newest = Box::pin(self.first_at(&found, timestamp)).await;
        Ok(newest.filter(|newest| newest.timestamp == timestamp))
    }

    /// The first record of `bytes`, from the log's start on, that is not older than `timestamp`.
    async fn first_at(&self, bytes: &[u8], timestamp: TimestampMs) -> Option<TimestampOffset> {
        let log_start = self.log_start_offset();
        // All that the setting can let in.
        let max = usize::try_from(DECOMPRESSED_BYTES_MAX).unwrap_or(usize::MAX);
        for batch in batches(bytes).map_while(Result::ok) {
            if batch.max_timestamp() < timestamp || batch.last_offset() < log_start {
                continue;
            }
            let mut found = None;
            let Ok(mut scan) = RecordScan::new(batch, Counts::Sparse, max) else {
                continue;
            };
            // A batch that is broken inside has no more records to find.
            while let Ok(Progress::More) = scan.step(|record| {
                let is_it = record.timestamp >= timestamp && record.offset >= log_start;
                if !is_it {
                    return Progress::More;
                }
                found = Some((record.timestamp, record.offset));
                Progress::Done
            }) {
                self.runtime().yield_now().await;
            }
            if let Some((timestamp, offset)) = found {
                let leader_epoch = batch.leader_epoch();
                return Some(TimestampOffset { timestamp, offset, leader_epoch });
            }
        }
        None
    }
}
