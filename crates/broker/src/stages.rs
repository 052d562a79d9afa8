//! Where the time of a request goes.
//!
//! ```text
//!   connection:  read | queue | ...                                   ... | handle | send
//!   owner shard:              hop | append | write | sync             | hop
//!                             hop | log read, pending, log read, ...  | hop
//! ```
//! There is no stage for replication: a log has one replica.
//!
//! Cost: a reading of the clock a stage; the times are copied with the request, in place.

use std::time::Duration;

use runtime::Instant;

/// A part of a request's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// From the first byte of the request to its last.
    Read,
    /// Behind earlier requests of its connection, or until there was memory for its answer.
    Queue,
    /// On the way to the shards that own what it is about, and back.
    Hop,
    /// Into the log's memory, with the wait until there is room.
    Append,
    /// From there into the file.
    Write,
    /// From there until it is on disk.
    Sync,
    /// Records read, from memory or from files.
    LogRead,
    /// What the client asked to wait for: records of a fetch, other members of a group.
    Pending,
    /// All else: decoding, deciding, encoding.
    Handle,
    /// From when the answer is there until the kernel has all of it.
    Send,
}

/// How many there are.
pub const STAGES: usize = 10;

impl Stage {
    /// All of them, in the order in which requests go through them.
    pub const ALL: [Stage; STAGES] = [
        Stage::Read,
        Stage::Queue,
        Stage::Hop,
        Stage::Append,
        Stage::Write,
        Stage::Sync,
        Stage::LogRead,
        Stage::Pending,
        Stage::Handle,
        Stage::Send,
    ];

    /// What it is called in metrics and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Stage::Read => "read",
            Stage::Queue => "queue",
            Stage::Hop => "hop",
            Stage::Append => "append",
            Stage::Write => "write",
            Stage::Sync => "sync",
            Stage::LogRead => "log_read",
            Stage::Pending => "pending",
            Stage::Handle => "handle",
            Stage::Send => "send",
        }
    }
}

/// Microseconds by stage. Each is rounded down, and none is longer than 71 minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StageTimes([u32; STAGES]);

impl StageTimes {
    /// The time of one stage.
    #[must_use]
    pub fn of(&self, stage: Stage) -> Duration {
        Duration::from_micros(self.0[stage as usize].into())
    }

    /// The time of all stages.
    #[must_use]
    pub fn total(&self) -> Duration {
        Duration::from_micros(self.0.iter().copied().map(u64::from).sum())
    }

    /// What makes the request slow: all but what the client asked to wait for.
    #[must_use]
    pub fn busy(&self) -> Duration {
        self.total().saturating_sub(self.of(Stage::Pending))
    }

    pub(crate) fn add(&mut self, stage: Stage, time: Duration) {
        let micros = u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        let sum = &mut self.0[stage as usize];
        *sum = sum.saturating_add(micros);
    }

    pub(crate) fn add_all(&mut self, other: &StageTimes) {
        for (sum, micros) in self.0.iter_mut().zip(other.0) {
            *sum = sum.saturating_add(micros);
        }
    }

    /// What is not in any stage yet, of a request that took so long, is its handler's.
    pub(crate) fn close(&mut self, took: Duration) {
        self.add(Stage::Handle, took.saturating_sub(self.total()));
    }

    /// What an append took that was sent to its owner at `sent`, without the way back.
    pub(crate) fn add_append(&mut self, sent: Instant, times: &AppendTimes) {
        self.add(Stage::Hop, times.started - sent);
        self.add(Stage::Append, times.appended - times.started);
        self.add(Stage::Write, times.written - times.appended);
        self.add(Stage::Sync, times.finished - times.written);
    }
}

/// When an append was where, on the shard that owns the log:
/// `started <= appended <= written <= finished`. Of several partitions the last counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AppendTimes {
    pub(crate) started: Instant,
    appended: Instant,
    written: Instant,
    pub(crate) finished: Instant,
}

impl AppendTimes {
    /// Of what has just been appended.
    pub(crate) fn begin(started: Instant, appended: Instant) -> AppendTimes {
        AppendTimes { started, appended, written: appended, finished: appended }
    }

    pub(crate) fn note_appended(&mut self, at: Instant) {
        self.appended = self.appended.max(at);
        self.note_written(at);
    }

    pub(crate) fn note_written(&mut self, at: Instant) {
        self.written = self.written.max(at);
        self.note_finished(at);
    }

    pub(crate) fn note_finished(&mut self, at: Instant) {
        self.finished = self.finished.max(at);
    }
}

/// When an owner did what it was asked to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) started: Instant,
    pub(crate) finished: Instant,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Instant {
        Instant(micros * 1000)
    }

    fn times(stages: &[(Stage, u64)]) -> StageTimes {
        let mut times = StageTimes::default();
        for (stage, micros) in stages {
            times.add(*stage, Duration::from_micros(*micros));
        }
        times
    }

    #[test]
    fn every_moment_of_an_append_is_in_one_stage() {
        let mut append = AppendTimes::begin(at(10), at(13));
        append.note_appended(at(20));
        for (written, finished) in [(40, 45), (30, 100)] {
            append.note_written(at(written));
            append.note_finished(at(finished));
        }
        let mut found = StageTimes::default();
        found.add_append(at(3), &append);
        let expected =
            [(Stage::Hop, 7), (Stage::Append, 10), (Stage::Write, 20), (Stage::Sync, 60)];
        assert_eq!(found, times(&expected));
        assert_eq!(found.total(), Duration::from_micros(97));
        found.close(Duration::from_micros(200));
        assert_eq!(found.of(Stage::Handle), Duration::from_micros(103));
        found.close(Duration::from_micros(10));
        assert_eq!(found.total(), Duration::from_micros(200), "stages are never more than all");
    }

    #[test]
    fn what_a_client_asked_to_wait_for_is_not_slow() {
        let fetch = times(&[(Stage::Pending, 500_000), (Stage::LogRead, 30), (Stage::Send, 5)]);
        assert_eq!(fetch.busy(), Duration::from_micros(35));
        assert_eq!(
            times(&[(Stage::Read, u64::MAX)]).busy(),
            Duration::from_micros(u32::MAX.into())
        );
    }

    #[test]
    fn stages_stand_in_their_order() {
        for (index, stage) in Stage::ALL.into_iter().enumerate() {
            assert_eq!(stage as usize, index, "{}", stage.name());
        }
    }
}
