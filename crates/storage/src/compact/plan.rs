//! Which segments may be cleaned, which log needs it, and when to look again.

use model::{Offset, TimestampMs};

use crate::{
    Log,
    log::{State, Status},
    segment::Phase,
};

/// How long until a log is looked at again that waits for its high watermark or for the end of a
/// transaction: Kafka's `log.cleaner.backoff.ms`.
const BLOCKED_RETRY_MS: i64 = 15_000;

/// A segment that is to be cleaned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) base: Offset,
    /// The base of the next one.
    pub(super) end: Offset,
    pub(super) size: u64,
}

/// What the cleaner finds of a log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Assessment {
    /// It is to be cleaned now; the dirtier, the sooner.
    Due(f64),
    /// Not before this time.
    Later(i64),
    /// Not before something happens to it.
    Idle,
}

/// Consecutive segments that make up one of at most `segment_bytes`.
pub(super) fn groups(sources: &[Source], segment_bytes: u64) -> Vec<&[Source]> {
    let mut groups = Vec::new();
    let mut start = 0;
    let mut bytes = 0;
    for (index, source) in sources.iter().enumerate() {
        let spans = source.end.0 - sources[start].base.0 - 1;
        let fits = bytes + source.size <= segment_bytes && spans <= i64::from(i32::MAX);
        if index > start && !fits {
            groups.push(&sources[start..index]);
            (start, bytes) = (index, 0);
        }
        bytes += source.size;
    }
    if start < sources.len() {
        groups.push(&sources[start..]);
    }
    groups
}

impl State {
    /// The segments that are finished, committed and below the first open transaction, from the
    /// start on; and whether there are finished ones behind them.
    fn settled_sources(&self) -> (Vec<Source>, bool) {
        let limit = self.last_stable_offset();
        let mut sources = Vec::new();
        for pair in self.segments.windows(2) {
            // Damage stays where it is found: what lies behind it waits for what becomes of it.
            let is_damaged =
                self.damages.ranges().iter().any(|damage| {
                    damage.from < pair[1].base_offset && damage.to > pair[0].base_offset
                });
            if pair[0].phase != Phase::Finished || is_damaged {
                break;
            }
            if pair[1].base_offset > limit {
                return (sources, true);
            }
            sources.push(Source {
                base: pair[0].base_offset,
                end: pair[1].base_offset,
                size: pair[0].size(),
            });
        }
        (sources, false)
    }
}

impl Log {
    /// Where the part begins that no round has seen.
    pub(super) fn dirty_from(&self) -> Offset {
        let state = self.0.state.borrow();
        state.compaction.cleaned_to.max(state.log_start)
    }

    /// What may be cleaned now.
    pub(super) async fn cleanable_sources(&self) -> Vec<Source> {
        let (mut sources, _) = self.0.state.borrow().settled_sources();
        let dirty_from = self.dirty_from();
        let now_ms = self.runtime().wall_clock_ms();
        if let Some((young, _)) = self.first_young(&sources, dirty_from, now_ms).await {
            sources.truncate(young);
        }
        sources
    }

    /// The first dirty segment with a record that is younger than `min.compaction.lag.ms`, and
    /// when it no longer is.
    async fn first_young(
        &self,
        sources: &[Source],
        dirty_from: Offset,
        now_ms: i64,
    ) -> Option<(usize, i64)> {
        let lag_ms = self.config().min_compaction_lag_ms;
        if lag_ms == 0 {
            return None;
        }
        for (index, source) in sources.iter().enumerate() {
            if source.end <= dirty_from {
                continue;
            }
            let newest = self.newest_timestamp(source.base).await?;
            let ripe_at = newest.0.saturating_add(lag_ms);
            if ripe_at > now_ms {
                return Some((index, ripe_at));
            }
        }
        None
    }

    /// Whether the log is to be cleaned, or when to ask again.
    pub(super) async fn assess(&self) -> Assessment {
        let now_ms = self.runtime().wall_clock_ms();
        let (config, retry_at_ms) = {
            let state = self.0.state.borrow();
            if state.status != Status::Open || state.is_stopping || state.compaction.is_running {
                return Assessment::Idle;
            }
            (std::rc::Rc::clone(&state.config), state.compaction.retry_at_ms)
        };
        if !config.cleanup_policy.compact {
            return Assessment::Idle;
        }
        if retry_at_ms > now_ms {
            return Assessment::Later(retry_at_ms);
        }
        let (sources, is_blocked) = self.0.state.borrow().settled_sources();
        let dirty_from = self.dirty_from();
        let young = self.first_young(&sources, dirty_from, now_ms).await;
        let ripe = &sources[..young.map_or(sources.len(), |(index, _)| index)];
        let is_dirty = |source: &&Source| source.end > dirty_from;
        let bytes = |dirty: bool| -> u64 {
            let some = ripe.iter().filter(|source| is_dirty(source) == dirty);
            some.map(|source| source.size).sum()
        };
        let (clean_bytes, dirty_bytes) = (bytes(false), bytes(true));
        let mut again = young.map(|(_, ripe_at)| ripe_at);
        if is_blocked {
            let at = now_ms.saturating_add(BLOCKED_RETRY_MS);
            again = Some(again.map_or(at, |other| other.min(at)));
        }
        if let Some(first) = ripe.iter().find(is_dirty) {
            let ratio = ratio(dirty_bytes, clean_bytes);
            let overdue_at = self.overdue_at(first.base, config.max_compaction_lag_ms).await;
            if ratio > config.min_cleanable_dirty_ratio || overdue_at <= now_ms {
                return Assessment::Due(ratio);
            }
            if overdue_at < i64::MAX {
                again = Some(again.map_or(overdue_at, |other| other.min(overdue_at)));
            }
        }
        again.map_or(Assessment::Idle, Assessment::Later)
    }

    /// The largest timestamp of a segment; of its last append where its records have none.
    async fn newest_timestamp(&self, base: Offset) -> Option<TimestampMs> {
        let (newest, _) = Box::pin(self.newest_of(base)).await.ok()?;
        if newest.0 >= 0 {
            return Some(newest);
        }
        let state = self.0.state.borrow();
        state.segment(base).map(|segment| TimestampMs(segment.modified_ms))
    }

    /// When the first batch of a segment is older than `max.compaction.lag.ms`.
    async fn overdue_at(&self, base: Offset, lag_ms: i64) -> i64 {
        if lag_ms == i64::MAX {
            return i64::MAX;
        }
        let known = {
            let state = self.0.state.borrow();
            state.segment(base).and_then(|segment| segment.first_timestamp)
        };
        let first = match known {
            Some(first) => Some(first),
            // It was not appended by this process. What is newer than the first is no earlier.
            None => self.newest_timestamp(base).await,
        };
        first.map_or(i64::MAX, |first| first.0.saturating_add(lag_ms))
    }
}

fn ratio(dirty_bytes: u64, clean_bytes: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a ratio that is compared with a setting")]
    let (dirty, all) = (dirty_bytes as f64, (dirty_bytes + clean_bytes) as f64);
    if all == 0.0 { 0.0 } else { dirty / all }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(base: i64, end: i64, size: u64) -> Source {
        Source { base: Offset(base), end: Offset(end), size }
    }

    #[test]
    fn segments_are_merged_up_to_their_size_and_their_span() {
        let far = i64::from(i32::MAX);
        let sources = [
            source(0, 10, 40),
            source(10, 20, 40),
            source(20, 30, 30),
            source(30, far, 5),
            source(far, far + 40, 5),
            source(far + 40, far + 50, 500),
        ];
        let sizes: Vec<usize> = groups(&sources, 100).iter().map(|group| group.len()).collect();
        assert_eq!(sizes, [2, 2, 1, 1]);
        assert!(groups(&[], 100).is_empty());
    }

    #[test]
    fn the_ratio_is_that_of_the_dirty_part() {
        let close = |found: f64, wanted: f64| (found - wanted).abs() < 1e-9;
        assert!(close(ratio(0, 0), 0.0) && close(ratio(50, 50), 0.5) && close(ratio(7, 0), 1.0));
    }
}
