//! Lets go of the start of a log: by age and size, as the topic's settings say, or up to an offset
//! that somebody asks for. By the rules of Apache Kafka: whole segments below the high watermark,
//! oldest first; the active one too, which is rolled before.
//!
//! ```text
//!   Log::retain           moves the log start; nothing below it is served any more
//!   a round of marks      makes the log start durable (the caller; see `marks`)
//!   Log::remove_retained  renames the files to `.deleted`, and removes them some time later
//! ```
//! In this order, so that a crash neither brings back records that were let go nor loses where an
//! empty log ends. Readers that hold a file or memory go on.

use std::{path::PathBuf, time::Duration};

use model::{Offset, TimestampMs};
use runtime::{Errno, TaskQueue};

use crate::{
    Error, Log, WaitError,
    log::{State, Status},
    segment::{Phase, Segment, segment_path},
};

/// The files of a segment.
const SUFFIXES: [&str; 4] = ["log", "index", "timeindex", "txnindex"];

/// What was let go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// How many segments.
    pub segments: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// Whether there is something to remove once the log start is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retained {
    /// Every segment has something above the log start.
    All,
    /// Segments lie below the log start: see [`Log::remove_retained`].
    Some,
}

/// A segment that may be let go.
struct Candidate {
    base_offset: Offset,
    /// The offset behind it.
    end: Offset,
    size: u64,
}

impl Log {
    /// Moves the log start past the segments that `retention.ms` and `retention.bytes` no longer
    /// cover. They only tell whether something lies below the log start where the cleanup policy is
    /// compaction alone.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn retain(&self, now_ms: i64) -> Result<Retained, Error> {
        let config = self.config();
        if config.cleanup_policy.delete {
            let candidates = self.0.state.borrow().candidates();
            let excess = config.retention_bytes.map_or(0, |limit| {
                let size: u64 = candidates.iter().map(|one| one.size).sum();
                (size + self.size_above(&candidates))
                    .saturating_sub(u64::try_from(limit).unwrap_or(0))
            });
            let by_size = match config.retention_bytes {
                Some(_) => count_of_excess(&candidates, excess),
                None => 0,
            };
            let mut count = by_size;
            if let Some(limit) = config.retention_ms {
                let newest_max = TimestampMs(now_ms.saturating_sub(limit).saturating_sub(1));
                while let Some(candidate) = candidates.get(count)
                    && self.is_old(candidate.base_offset, newest_max).await
                {
                    count += 1;
                }
            }
            if let Some(last) = count.checked_sub(1).map(|last| &candidates[last]) {
                self.let_go(last).await?;
            }
        }
        let state = self.0.state.borrow();
        Ok(if state.below_log_start().is_some() { Retained::Some } else { Retained::All })
    }

    /// Moves the log start to `offset` (DeleteRecords, or a snapshot of the metadata log that
    /// covers what lies below), not beyond the high watermark, and not back. Gives the log start.
    /// It is durable after the next round of marks; what lies below it in full is removed by
    /// [`Log::remove_retained`].
    ///
    /// # Errors
    /// [`Error::Fenced`] and [`Error::NotDurable`]: where the log starts could not be kept; and the
    /// operating system's.
    pub async fn delete_records(&self, offset: Offset) -> Result<Offset, Error> {
        // A log that a power cut shortens may not end before it starts.
        let shown = offset.min(self.high_watermark());
        if let Err(error) = self.wait_durable(shown).await {
            return Err(Error::NotDurable(error));
        }
        let log_start = {
            let mut state = self.0.state.borrow_mut();
            if let Some(refusal) = state.refusal_to_delete() {
                return Err(refusal);
            }
            let offset = offset.min(state.high_watermark()).min(state.durable_end);
            state.advance_log_start(offset);
            state.log_start
        };
        if log_start == Offset::ZERO {
            // Nothing is deleted, and a log without records has no directory yet.
            return Ok(log_start);
        }
        self.write_epochs().await?;
        // It may have been fenced or closed meanwhile: then nothing was written, and a start would
        // believe what the leader epochs begin with.
        self.0.state.borrow().refusal_to_delete().map_or(Ok(log_start), Err)
    }

    /// Removes the segments that lie below the log start in full. To be called when the log start
    /// is durable. What the durable mark does not cover yet is left for the next time: a start
    /// after a crash has to find what producers wrote last.
    ///
    /// # Errors
    /// The operating system's: a file may then be left, and a later start finds it again.
    pub async fn remove_retained(&self) -> Result<Removed, Error> {
        let mut removed = Removed::default();
        let mut paths = Vec::new();
        loop {
            let next = self.0.state.borrow().below_log_start();
            let Some((base_offset, end)) = next.filter(|(_, end)| *end <= self.recovery_point())
            else {
                break;
            };
            self.finish_rolled(end).await?;
            let segment = self.0.state.borrow_mut().drop_oldest(base_offset);
            let Some(segment) = segment else { break };
            self.0.storage.forget_chunks(segment.tail.chunk_bytes());
            removed.segments += 1;
            removed.bytes += segment.size();
            self.set_aside(base_offset, &mut paths).await?;
        }
        if removed.segments > 0 {
            tracing::info!(
                topic = %self.0.topic,
                partition = self.0.partition.0,
                offset = self.log_start_offset().0,
                segments = removed.segments,
                bytes = removed.bytes,
                "segments below the log start are deleted"
            );
            self.remove_later(paths);
        }
        Ok(removed)
    }

    /// Moves the log start behind a segment. The active one is rolled before: the log still has
    /// one, which tells where it ends.
    async fn let_go(&self, last: &Candidate) -> Result<(), Error> {
        let is_active = {
            let state = self.0.state.borrow();
            state.segments.last().is_some_and(|active| active.base_offset == last.base_offset)
        };
        if is_active {
            if self.log_end_offset() != last.end {
                // Something was appended since: it is young again.
                return Ok(());
            }
            self.roll();
            self.create_active_file().await?;
        }
        {
            let mut state = self.0.state.borrow_mut();
            let is_early = state.high_watermark().min(state.durable_end) < last.end;
            if state.status != Status::Open || is_early {
                return Ok(());
            }
            state.advance_log_start(last.end);
            state.mark_soon(last.end);
        }
        self.write_epochs().await
    }

    /// The bytes of the segments that are no candidates.
    fn size_above(&self, candidates: &[Candidate]) -> u64 {
        let state = self.0.state.borrow();
        let above = candidates.last().map_or(state.log_start, |last| last.end);
        let segments = state.segments.iter().filter(|segment| segment.base_offset >= above);
        segments.map(Segment::size).sum()
    }

    /// Whether the largest timestamp of a segment is no later than this one; where its records have
    /// none, the time when it was last written. What an index claims is believed where it keeps the
    /// segment, and else compared with the log.
    async fn is_old(&self, base_offset: Offset, newest_max: TimestampMs) -> bool {
        let swaps = self.swaps();
        let known = {
            let state = self.0.state.borrow();
            let Some(segment) = state.segment(base_offset) else { return false };
            let indexes = segment.indexes.as_ref();
            let claimed = indexes.map(|indexes| indexes.max_timestamp().0);
            segment.newest.or_else(|| claimed.filter(|claimed| *claimed > newest_max))
        };
        let newest = match known {
            Some(newest) => newest,
            None => match Box::pin(self.newest_of(base_offset)).await {
                Ok((newest, _)) => newest,
                Err(_) => return false,
            },
        };
        let mut state = self.0.state.borrow_mut();
        if state.compaction.swaps != swaps {
            // It may be another one by now: the next time tells.
            return false;
        }
        let Some(segment) = state.segment_mut(base_offset) else { return false };
        if segment.phase == Phase::Finished {
            segment.newest = Some(newest);
        }
        let newest = if newest.0 >= 0 { newest } else { TimestampMs(segment.modified_ms) };
        newest <= newest_max
    }

    async fn set_aside(&self, base_offset: Offset, paths: &mut Vec<PathBuf>) -> Result<(), Error> {
        let directory = self.0.directory.borrow().clone();
        for suffix in SUFFIXES {
            let path = segment_path(&directory, base_offset, suffix);
            let aside = segment_path(&directory, base_offset, &format!("{suffix}.deleted"));
            match self.runtime().rename(&path, &aside).await {
                Ok(()) => paths.push(aside),
                Err(Errno::NOT_FOUND) => {}
                Err(errno) => return Err(Error::Io { path, errno }),
            }
        }
        Ok(())
    }

    /// Removes files after `file.delete.delay.ms`; a start before that removes them at once.
    fn remove_later(&self, paths: Vec<PathBuf>) {
        let delay_ms = u64::try_from(self.config().file_delete_delay_ms).unwrap_or(0);
        let runtime = self.runtime().clone();
        self.runtime().spawn("segment deletion", TaskQueue::Background, async move {
            runtime.sleep(Duration::from_millis(delay_ms.min(DELAY_MS_MAX))).await;
            for path in paths {
                match runtime.remove_file(&path).await {
                    // The whole log may have been deleted since.
                    Ok(()) | Err(Errno::NOT_FOUND) => {}
                    Err(errno) => {
                        tracing::warn!(path = %path.display(), %errno, "a deleted file is left");
                    }
                }
            }
        });
    }
}

/// A delay that a clock of nanoseconds holds: a year.
const DELAY_MS_MAX: u64 = 365 * 86_400_000;

/// How many of the oldest segments are too much.
fn count_of_excess(candidates: &[Candidate], mut excess: u64) -> usize {
    let is_excess = |candidate: &&Candidate| {
        let fits = excess >= candidate.size;
        excess = excess.saturating_sub(candidate.size);
        fits
    };
    candidates.iter().take_while(is_excess).count()
}

impl State {
    /// Why a log start that was moved now would not outlive the process.
    fn refusal_to_delete(&self) -> Option<Error> {
        match self.status {
            Status::Fenced(reason) => Some(Error::Fenced(reason)),
            Status::Closed => Some(Error::NotDurable(WaitError::Closed)),
            Status::Open => None,
        }
    }

    /// The segments that may be let go, oldest first: not those that are gone already, none with
    /// anything at or above the high watermark, no empty one.
    fn candidates(&self) -> Vec<Candidate> {
        let high_watermark = self.high_watermark();
        let ends = self.segments.iter().skip(1).map(|next| next.base_offset).chain([self.end]);
        self.segments
            .iter()
            .zip(ends)
            .filter(|(_, end)| *end > self.log_start)
            .take_while(|(segment, end)| *end <= high_watermark && segment.size() > 0)
            .map(|(segment, end)| Candidate {
                base_offset: segment.base_offset,
                end,
                size: segment.size(),
            })
            .collect()
    }

    /// The oldest segment, if the next one starts at or below the log start, and the offset behind
    /// it.
    fn below_log_start(&self) -> Option<(Offset, Offset)> {
        let [oldest, next, ..] = self.segments.as_slice() else { return None };
        let is_below = self.status == Status::Open && next.base_offset <= self.log_start;
        is_below.then_some((oldest.base_offset, next.base_offset))
    }

    fn advance_log_start(&mut self, offset: Offset) {
        if offset <= self.log_start {
            return;
        }
        self.log_start = offset;
        self.is_as_closed = false;
        self.damages.raise_start(offset);
        if self.epochs.cut_start(offset) {
            self.are_epochs_written = false;
        }
    }

    fn drop_oldest(&mut self, base_offset: Offset) -> Option<Segment> {
        let (oldest, _) = self.below_log_start()?;
        let is_finished = self.segments.first()?.phase == Phase::Finished;
        (oldest == base_offset && is_finished).then(|| self.segments.remove(0))
    }
}
