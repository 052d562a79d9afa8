//! Old records are let go: every `log.retention.check.interval.ms`, on all shards, in slices behind
//! everything else; and what DeleteRecords asks for.
//!
//! ```text
//!   Retain    each shard moves log starts     -> a round of marks makes them durable
//!   Remove    each shard removes the files below them
//! ```
//! Between checks nothing runs. A check of logs with nothing to let go reads nothing from the disk
//! but, once, the largest timestamp of each log's oldest segment.

use std::{future::Future, rc::Rc, time::Duration};

use model::{ErrorCode, Offset, PartitionId, TopicId};
use runtime::{Instant, Runtime, TaskQueue};
use storage::{Log, Retained};

use crate::{
    controller::CONTROLLER_SHARD,
    peers::{Call, detached},
    shard::Shard,
    topic_settings::CLUSTER_METADATA,
};

/// Logs that are looked at before other tasks have their turn: microseconds each where there is
/// nothing to let go.
const LOGS_A_SLICE: usize = 64;
/// How far the wall clock may run ahead of the time that has passed before it counts as set
/// forward: far more than a clock that is slewed gains between two checks.
const CLOCK_STEP_MS: i64 = 60_000;

impl Shard {
    /// On shard 0: the checks, for as long as the node runs.
    pub(crate) async fn retain_periodically(self: Rc<Self>) {
        let interval = Duration::from_millis(self.config.log_retention_check_interval_ms);
        let mut clock = Clock::of(&self.runtime);
        self.runtime.sleep(Duration::from_millis(self.config.log_initial_task_delay_ms)).await;
        loop {
            let before = std::mem::replace(&mut clock, Clock::of(&self.runtime));
            if clock.was_set_forward_since(before) {
                tracing::warn!("the clock was set forward: no record is old before the next check");
            } else {
                self.enforce_retention(clock.wall_ms).await;
            }
            self.runtime.sleep(interval).await;
        }
    }

    async fn enforce_retention(self: &Rc<Self>, now_ms: i64) {
        let retained = self.call_all(Retain { now_ms }).await;
        if !retained.contains(&Retained::Some) {
            return;
        }
        if self.checkpoints_asked.round().await {
            self.call_all(RemoveRetained).await;
        }
    }
}

/// Both clocks at one moment.
#[derive(Clone, Copy)]
struct Clock {
    at: Instant,
    wall_ms: i64,
}

impl Clock {
    fn of(runtime: &Runtime) -> Clock {
        Clock { at: runtime.now(), wall_ms: runtime.wall_clock_ms() }
    }

    /// What was set forward may be set back: it is believed when it still says so a check later.
    fn was_set_forward_since(self, before: Clock) -> bool {
        let passed_ms = i64::try_from(self.at.since(before.at).as_millis()).unwrap_or(i64::MAX);
        let told_ms = self.wall_ms.saturating_sub(before.wall_ms);
        told_ms.saturating_sub(passed_ms) > CLOCK_STEP_MS
    }
}

/// Every shard moves its log starts.
#[derive(Clone)]
struct Retain {
    now_ms: i64,
}

impl Call for Retain {
    type Answer = Retained;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Retained> + 'static {
        let shard = Rc::clone(shard);
        detached(&shard.runtime.clone(), "retain", TaskQueue::Background, async move {
            let mut retained = Retained::All;
            for (number, log) in topics_logs(&shard).into_iter().enumerate() {
                match log.retain(self.now_ms).await {
                    Ok(Retained::Some) => retained = Retained::Some,
                    Ok(Retained::All) => {}
                    Err(error) => not_let_go(&log, &error),
                }
                if number % LOGS_A_SLICE == LOGS_A_SLICE - 1 {
                    shard.runtime.yield_now().await;
                }
            }
            retained
        })
    }
}

/// Every shard removes the files below its log starts.
#[derive(Clone)]
struct RemoveRetained;

impl Call for RemoveRetained {
    type Answer = ();

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = ()> + 'static {
        let shard = Rc::clone(shard);
        detached(&shard.runtime.clone(), "remove retained", TaskQueue::Background, async move {
            for (number, log) in topics_logs(&shard).into_iter().enumerate() {
                if let Err(error) = log.remove_retained().await {
                    not_let_go(&log, &error);
                }
                if number % LOGS_A_SLICE == LOGS_A_SLICE - 1 {
                    shard.runtime.yield_now().await;
                }
            }
        })
    }
}

/// The logs of topics: the metadata log has snapshots instead of a retention.
fn topics_logs(shard: &Shard) -> Vec<Log> {
    let mut logs = shard.storage.logs();
    logs.retain(|log| log.topic() != CLUSTER_METADATA);
    logs
}

fn not_let_go(log: &Log, error: &storage::Error) {
    if log.fenced().is_none() {
        tracing::warn!(topic = log.topic(), partition = log.partition().0,
            offset = log.log_start_offset().0, %error, "retention was not enforced");
    }
}

/// The records of a partition below an offset are to go; -1 stands for the high watermark.
#[derive(Clone, Copy)]
pub(crate) struct DeleteBefore {
    pub(crate) topic: TopicId,
    pub(crate) partition: PartitionId,
    pub(crate) offset: i64,
}

/// Gives the log start offset of each, or why it was not moved. It is durable after
/// [`RecordLogStarts`].
pub(crate) struct DeleteRecords(pub(crate) Vec<DeleteBefore>);

/// In DeleteRecords: up to the high watermark.
const HIGH_WATERMARK: i64 = -1;

impl Call for DeleteRecords {
    type Answer = Vec<Result<Offset, ErrorCode>>;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Answer> + 'static {
        let shard = Rc::clone(shard);
        async move {
            let mut outcomes = Vec::with_capacity(self.0.len());
            for one in &self.0 {
                outcomes.push(delete_records(&shard, one).await);
            }
            outcomes
        }
    }
}

async fn delete_records(shard: &Rc<Shard>, asked: &DeleteBefore) -> Result<Offset, ErrorCode> {
    let partition =
        shard.partition(asked.topic, asked.partition).ok_or(ErrorCode::NotLeaderOrFollower)?;
    let log = &partition.log;
    let policy = log.config().cleanup_policy;
    if policy.compact && !policy.delete {
        return Err(ErrorCode::PolicyViolation);
    }
    let high_watermark = log.high_watermark();
    let offset = if asked.offset == HIGH_WATERMARK { high_watermark } else { Offset(asked.offset) };
    if offset < Offset::ZERO || offset > high_watermark {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    log.delete_records(offset).await.map_err(|error| {
        not_let_go(log, &error);
        ErrorCode::KafkaStorageError
    })
}

/// Makes the log start offsets durable. True if they are.
pub(crate) struct RecordLogStarts;

impl Call for RecordLogStarts {
    type Answer = bool;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = bool> + 'static {
        let shard = Rc::clone(shard);
        async move { shard.checkpoints_asked.round().await }
    }
}

impl Shard {
    pub(crate) async fn record_log_starts(self: &Rc<Self>) -> bool {
        self.call(CONTROLLER_SHARD, RecordLogStarts).await.answer().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_clock_that_runs_ahead_of_time_was_set_forward() {
        let start = Instant::default();
        let before = Clock { at: start, wall_ms: 1_000_000 };
        let cases = [
            (300, 300_000, false),
            (300, 350_000, false),
            (300, 360_001, true),
            (300, 3_900_000, true),
            (300, -3_600_000, false),
            (300, 0, false),
        ];
        for (passed_s, told_ms, expected) in cases {
            let at = start + Duration::from_secs(passed_s);
            let now = Clock { at, wall_ms: 1_000_000 + told_ms };
            assert_eq!(now.was_set_forward_since(before), expected, "{passed_s} {told_ms}");
        }
    }
}
