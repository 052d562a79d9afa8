//! The scrub: reads every segment that takes no more appends, past the page cache, once in a while
//! and slowly, so that damage is found while it can still be mended, and not by a consumer.
//!
//! Cost: a pass reads each byte once, at no more than the rate; between two passes there is one
//! timer, and nothing else.

use std::{rc::Rc, time::Duration};

use model::Offset;
use runtime::{Access, Cache, Create, File, Instant, OpenOptions, Runtime};

use crate::{
    Log, ReadError, Storage,
    cold::Extent,
    inspect::{Inspector, Step},
    leader_epochs::Runs,
    segment::{Phase, segment_path},
};

/// How long after its start a node scrubs at the earliest: a start has other things to do, and
/// what it found at its end is hardly older.
const FIRST_PASS_AFTER: Duration = Duration::from_secs(3600);
/// How much is read between two pauses.
const SLICE_BYTES: u64 = 1 << 20;

/// How a shard scrubs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubOptions {
    /// At most so much is read.
    pub bytes_per_second: u64,
    /// From the start of a pass to that of the next.
    pub interval: Duration,
}

/// What a pass found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Segments that were read.
    pub segments: usize,
    /// Bytes of their sound batches.
    pub bytes: u64,
    /// Damaged ranges, also those that were known.
    pub damaged_ranges: usize,
}

const READ_DIRECT: OpenOptions =
    OpenOptions { create: Create::Never, access: Access::Read, cache: Cache::Direct };

impl Storage {
    /// Scrubs for as long as the shard runs.
    pub async fn scrub_forever(&self, options: ScrubOptions) {
        let runtime = &self.0.runtime;
        let mut next = runtime.now() + FIRST_PASS_AFTER.min(options.interval);
        loop {
            runtime.sleep_until(next).await;
            let started = runtime.now();
            let done = self.scrub(options.bytes_per_second).await;
            tracing::info!(
                segments = done.segments,
                bytes = done.bytes,
                damaged = done.damaged_ranges,
                "scrubbed what takes no more appends"
            );
            next = (started + options.interval).max(runtime.now());
        }
    }

    /// One pass over all logs of the shard.
    pub async fn scrub(&self, bytes_per_second: u64) -> Scrubbed {
        let mut pace = Pace::new(&self.0.runtime, bytes_per_second);
        let mut done = Scrubbed::default();
        for log in self.logs() {
            if let Err(error) = Box::pin(log.scrub(&mut pace, &mut done)).await
                && !log.is_closed()
            {
                tracing::warn!(topic = log.topic(), partition = log.partition().0, %error,
                    "a log was not scrubbed to its end");
            }
        }
        done
    }
}

impl Log {
    async fn scrub(&self, pace: &mut Pace, done: &mut Scrubbed) -> Result<(), ReadError> {
        if self.scrub_segments(pace, done).await? == Epochs::Other {
            // Which of them is wrong can be told once the log's own are known.
            Box::pin(self.rebuild_epochs()).await?;
            self.scrub_segments(pace, done).await?;
        }
        Ok(())
    }

    async fn scrub_segments(
        &self,
        pace: &mut Pace,
        done: &mut Scrubbed,
    ) -> Result<Epochs, ReadError> {
        let bases: Vec<Offset> = {
            let state = self.0.state.borrow();
            let finished = state.segments.iter().filter(|one| one.phase == Phase::Finished);
            finished.map(|segment| segment.base_offset).collect()
        };
        let mut runs = Runs::default();
        for base_offset in bases {
            let extent = {
                let state = self.0.state.borrow();
                let index = state.segments.iter().position(|one| one.base_offset == base_offset);
                // Retention may have removed it since.
                index.map(|index| state.whole_extent(index))
            };
            if let Some(extent) = extent {
                self.scrub_segment(&extent, &mut runs, pace, done).await?;
            }
        }
        let mut state = self.0.state.borrow_mut();
        let agree = runs.agree_with(&state.epochs);
        let was_sure = state.are_epochs_sure;
        state.are_epochs_sure |= agree;
        Ok(if agree || was_sure { Epochs::Same } else { Epochs::Other })
    }

    async fn scrub_segment(
        &self,
        extent: &Extent,
        runs: &mut Runs,
        pace: &mut Pace,
        done: &mut Scrubbed,
    ) -> Result<(), ReadError> {
        let path = segment_path(&self.0.directory.borrow(), extent.base_offset, "log");
        let file = File::open(self.runtime(), &path, READ_DIRECT).await.map_err(ReadError::Io)?;
        let rules = self.0.state.borrow().rules_of(extent);
        let pool = self.0.storage.pool.clone();
        let positions = 0..extent.limit;
        let file = Rc::new(file);
        let mut inspector = Inspector::new(file, path, pool, positions, extent.base_offset, rules);
        done.segments += 1;
        loop {
            match inspector.step().await.map_err(ReadError::Io)? {
                Step::Sound { batch, leader_epoch, base_offset, .. } => {
                    runs.add(leader_epoch, base_offset);
                    done.bytes += batch.size;
                    pace.spend(batch.size).await;
                }
                Step::Damaged(damage) => {
                    pace.spend(damage.positions.end - damage.positions.start).await;
                    if self.swaps() != extent.swaps {
                        // Compaction has put another one in its place, of sound batches alone.
                        return Ok(());
                    }
                    done.damaged_ranges += 1;
                    if self.0.state.borrow().segment(extent.base_offset).is_some() {
                        self.note_damage(damage);
                    }
                }
                Step::End => return Ok(()),
            }
            if self.is_closed() {
                return Err(ReadError::Closed);
            }
        }
    }
}

/// Whether the batches have the leader epochs that are known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Epochs {
    Same,
    Other,
}

/// Keeps a rate: a pause after each slice, as long as the slice may take.
struct Pace {
    runtime: Runtime,
    bytes_per_second: u64,
    spent: u64,
    since: Instant,
}

impl Pace {
    fn new(runtime: &Runtime, bytes_per_second: u64) -> Pace {
        let since = runtime.now();
        Pace {
            runtime: runtime.clone(),
            bytes_per_second: bytes_per_second.max(1),
            spent: 0,
            since,
        }
    }

    async fn spend(&mut self, bytes: u64) {
        self.spent += bytes;
        if self.spent < SLICE_BYTES.min(self.bytes_per_second) {
            return;
        }
        let micros = self.spent.saturating_mul(1_000_000) / self.bytes_per_second;
        self.runtime.sleep_until(self.since + Duration::from_micros(micros)).await;
        (self.spent, self.since) = (0, self.runtime.now());
    }
}
