//! Lets go of the start of a log: by age and size, as the topic's settings say, or up to an offset
//! that somebody asks for. Whole segments are removed, never the active one, never anything at or
//! above the high watermark.
//!
//! The log start moves first, then the files go. Readers that hold a file or memory go on.

use model::{Offset, TimestampMs};
use runtime::Errno;

use crate::{
    Error, Log,
    log::{State, Status},
    segment::{Phase, Segment, segment_path},
};

/// What was let go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// How many segments.
    pub segments: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl Log {
    /// Removes the segments that `retention.ms` and `retention.bytes` no longer cover. Nothing
    /// happens to a topic whose cleanup policy is compaction alone.
    ///
    /// # Errors
    /// The operating system's: a file may then be left, and a later start finds it again.
    pub async fn enforce_retention(&self, now_ms: i64) -> Result<Removed, Error> {
        let config = self.config();
        if !config.cleanup_policy.delete {
            return Ok(Removed::default());
        }
        let mut removed = Removed::default();
        let mut excess = match config.retention_bytes {
            Some(limit) => self.size_bytes().saturating_sub(u64::try_from(limit).unwrap_or(0)),
            None => 0,
        };
        loop {
            let Some((base_offset, end, size)) = self.oldest_removable() else {
                return Ok(removed);
            };
            let is_excess = config.retention_bytes.is_some() && excess >= size;
            let is_old = match config.retention_ms {
                Some(limit) => {
                    let newest = self.newest_timestamp(base_offset).await;
                    newest.is_some_and(|newest| now_ms.saturating_sub(newest.0) > limit)
                }
                None => false,
            };
            if !is_excess && !is_old {
                return Ok(removed);
            }
            excess = excess.saturating_sub(size);
            removed.segments += 1;
            removed.bytes += size;
            self.remove_oldest(base_offset, end).await?;
        }
    }

    /// Moves the log start to `offset` (DeleteRecords, or a snapshot of the metadata log that
    /// covers what lies below) and removes the segments that lie below it in full. Gives the log
    /// start, which never falls.
    ///
    /// # Errors
    /// The operating system's, as for [`Log::enforce_retention`].
    pub async fn delete_records(&self, offset: Offset) -> Result<Offset, Error> {
        {
            let mut state = self.0.state.borrow_mut();
            let offset = offset.min(state.high_watermark());
            state.log_start = state.log_start.max(offset);
        }
        loop {
            let start = self.log_start_offset();
            match self.oldest_removable() {
                Some((base_offset, end, _)) if end <= start => {
                    self.remove_oldest(base_offset, end).await?;
                }
                Some(_) | None => return Ok(start),
            }
        }
    }

    /// The oldest segment, if it may go: its base, the offset behind it, its size.
    fn oldest_removable(&self) -> Option<(Offset, Offset, u64)> {
        let state = self.0.state.borrow();
        let [oldest, next, ..] = state.segments.as_slice() else { return None };
        let may_go = oldest.phase == Phase::Finished
            && state.status != Status::Closed
            && next.base_offset <= state.high_watermark();
        may_go.then(|| (oldest.base_offset, next.base_offset, oldest.size()))
    }

    /// The largest timestamp of a segment; of the file where its records have none.
    async fn newest_timestamp(&self, base_offset: Offset) -> Option<TimestampMs> {
        let (newest, _) = self.newest_of(base_offset).await.ok()?;
        if newest.0 >= 0 {
            return Some(newest);
        }
        let state = self.0.state.borrow();
        state.segment(base_offset).map(|segment| TimestampMs(segment.created_ms))
    }

    async fn remove_oldest(&self, base_offset: Offset, end: Offset) -> Result<(), Error> {
        let removed = self.0.state.borrow_mut().drop_oldest(base_offset, end);
        let Some(removed) = removed else { return Ok(()) };
        self.0.storage.forget_chunks(removed.tail.chunk_bytes());
        tracing::info!(
            topic = %self.0.topic,
            partition = self.0.partition.0,
            offset = end.0,
            bytes = removed.size(),
            "removed a segment; the log starts at offset {end}"
        );
        let directory = self.0.directory.borrow().clone();
        for suffix in ["log", "index", "timeindex", "txnindex"] {
            let path = segment_path(&directory, base_offset, suffix);
            match self.runtime().remove_file(&path).await {
                Ok(()) | Err(Errno::NOT_FOUND) => {}
                Err(errno) => return Err(Error::Io { path, errno }),
            }
        }
        Ok(())
    }
}

impl State {
    fn drop_oldest(&mut self, base_offset: Offset, end: Offset) -> Option<Segment> {
        let is_oldest = self.segments.first()?.base_offset == base_offset;
        if !is_oldest || self.segments.len() < 2 {
            return None;
        }
        self.log_start = self.log_start.max(end);
        self.damages.raise_start(self.log_start);
        Some(self.segments.remove(0))
    }
}
