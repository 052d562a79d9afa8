//! One partition's log: its state, and what others may ask of it.
//!
//! Everything here is decided without waiting, under one borrow; the tasks in `write`, `commit`
//! and `read` do the I/O and come back with what happened.

use std::{
    cell::RefCell,
    future::Future,
    path::PathBuf,
    rc::{Rc, Weak},
};

use model::{
    LeaderEpoch, Offset, PartitionId, TopicId,
    topic_config::{Durability, TopicConfig},
};
use runtime::{Instant, Runtime, local::Notify};

use crate::{
    Appended, FenceReason, ProducerStatus, WaitError,
    ahead::Traffic,
    compact::CompactionState,
    damage::Damages,
    finish::Indexed,
    held_back::HeldBack,
    leader_epochs::LeaderEpochs,
    marks::Mark,
    producers::Producers,
    segment::{Phase, Segment},
    space::SpaceUse,
    storage::StorageInner,
    write_times::Times,
};

/// How many times a log remembers that appends were taken back for want of space. Each needs a
/// failed allocation; whoever waits has looked long before so many have passed.
const CUTS_REMEMBERED: usize = 64;

/// A partition's log. Cheap to clone; belongs to its shard.
#[derive(Clone)]
pub struct Log(pub(crate) Rc<LogInner>);

pub(crate) struct LogInner {
    pub(crate) storage: Rc<StorageInner>,
    pub(crate) topic: Box<str>,
    pub(crate) partition: PartitionId,
    pub(crate) topic_id: TopicId,
    pub(crate) directory: RefCell<PathBuf>,
    pub(crate) state: RefCell<State>,
    /// Something was written, or a task ended.
    pub(crate) progress: Notify,
    /// Something became durable. Told apart from the other so that a producer that waits for it
    /// is woken once.
    pub(crate) durable: Notify,
    /// The high watermark moved, or the log was fenced or closed.
    pub(crate) growth: Notify,
}

/// Whether a log takes appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Open,
    Fenced(FenceReason),
    Closed,
}

/// Whether the log's directory is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// Nothing was appended yet: nothing is on disk.
    None,
    /// The directory was made; whether the topic's id is in it is not known.
    Begun,
    /// The directory has the topic's id, and both are durable.
    Durable,
}

/// Who moves the high watermark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HighWatermark {
    /// The one replica: it is what is acknowledged.
    Acknowledged,
    /// The leader, from what the replicas report.
    Given(Offset),
}

pub(crate) struct State {
    pub(crate) config: Rc<TopicConfig>,
    pub(crate) status: Status,
    pub(crate) names: Names,
    pub(crate) log_start: Offset,
    pub(crate) end: Offset,
    pub(crate) written_end: Offset,
    pub(crate) durable_end: Offset,
    pub(crate) high_watermark: HighWatermark,
    /// Up to where consumers could read when `durability` became `sync`: that is not taken back.
    pub(crate) shown_end: Offset,
    /// What the group commit does not know of yet.
    pub(crate) held_back: Option<HeldBack>,
    /// A task runs that hands it over in time.
    pub(crate) is_timed: bool,
    /// How many wait for durability.
    pub(crate) durable_waiters: usize,
    /// By base offset; the last one is active. Empty before the first append.
    pub(crate) segments: Vec<Segment>,
    pub(crate) producers: Producers,
    pub(crate) epochs: LeaderEpochs,
    /// The leader epochs are the log's for sure: one that differs in a batch is damage.
    pub(crate) are_epochs_sure: bool,
    pub(crate) damages: Damages,
    /// No more appends are taken, what is there still becomes durable.
    pub(crate) is_stopping: bool,
    /// Its files are as a clean stop left them.
    pub(crate) is_as_closed: bool,
    /// A checkpoint is being written.
    pub(crate) is_checkpointing: bool,
    /// A write task runs.
    pub(crate) is_writing: bool,
    /// A task that secures space ahead runs.
    pub(crate) is_securing: bool,
    /// The last allocation found no space: appends that need more are refused in advance.
    pub(crate) is_space_low: bool,
    pub(crate) space_use: SpaceUse,
    /// Up to where a producer snapshot is on disk: what the recovery point may be.
    pub(crate) recovery_point: Offset,
    pub(crate) mark: Mark,
    /// The leader epochs are on disk as they are.
    pub(crate) are_epochs_written: bool,
    pub(crate) indexed: Indexed,
    /// The segment whose indexes a checkpoint is writing.
    pub(crate) indexing: Option<Offset>,
    pub(crate) traffic: Traffic,
    pub(crate) write_times: Times,
    pub(crate) sync_times: Times,
    pub(crate) compaction: CompactionState,
    /// How often appends were taken back, and to which offset each time.
    generation: u64,
    cuts: Vec<(u64, Offset)>,
}

impl State {
    pub(crate) fn new(config: Rc<TopicConfig>, start: Offset, now: Instant) -> State {
        State {
            config,
            status: Status::Open,
            names: Names::None,
            log_start: start,
            end: start,
            written_end: start,
            durable_end: start,
            high_watermark: HighWatermark::Acknowledged,
            shown_end: start,
            held_back: None,
            is_timed: false,
            durable_waiters: 0,
            segments: Vec::new(),
            producers: Producers::default(),
            epochs: LeaderEpochs::default(),
            are_epochs_sure: true,
            damages: Damages::default(),
            is_stopping: false,
            is_as_closed: false,
            is_checkpointing: false,
            is_writing: false,
            is_securing: false,
            is_space_low: false,
            space_use: SpaceUse::Ordinary,
            recovery_point: start,
            mark: Mark { bytes_above: 0, since: now, recorded: start },
            are_epochs_written: false,
            indexed: Indexed::default(),
            indexing: None,
            traffic: Traffic::new(now),
            write_times: Times::default(),
            sync_times: Times::default(),
            compaction: CompactionState::default(),
            generation: 0,
            cuts: Vec::new(),
        }
    }

    /// A sync covered a segment up to `position`, which is up to `offset`. True if all of a rolled
    /// segment is durable.
    ///
    /// Files are synced in any order: what lies behind a segment that waits for its sync is not
    /// durable yet, as a start would not find it.
    fn note_durable(&mut self, base_offset: Offset, position: u64, offset: Offset) -> bool {
        let Some(segment) = self.segment_mut(base_offset) else { return false };
        segment.durable = segment.durable.max(position.min(segment.written));
        segment.durable_end = segment.durable_end.max(offset);
        let is_rolled = segment.phase == Phase::Rolled && segment.durable == segment.size();
        self.durable_end = self.durable_end.max(self.durable_reach());
        is_rolled
    }

    /// The offset up to which every segment is durable.
    fn durable_reach(&self) -> Offset {
        let at = self.segments.partition_point(|segment| segment.base_offset <= self.durable_end);
        let reached = self.segments[at.saturating_sub(1)..]
            .iter()
            .find(|segment| segment.phase != Phase::Finished && segment.durable < segment.size())
            .or_else(|| self.segments.last());
        reached.map_or(self.durable_end, |segment| segment.durable_end)
    }

    pub(crate) fn high_watermark(&self) -> Offset {
        match self.high_watermark {
            HighWatermark::Acknowledged => self.acknowledged_end(),
            HighWatermark::Given(offset) => offset.min(self.acknowledged_end()),
        }
    }

    /// Up to where `acks=all` is answered.
    pub(crate) fn acknowledged_end(&self) -> Offset {
        match self.config.durability {
            Durability::Sync => self.durable_end.max(self.shown_end),
            Durability::Replicated => self.written_end,
        }
    }

    pub(crate) fn segment(&self, base_offset: Offset) -> Option<&Segment> {
        let index =
            self.segments.binary_search_by_key(&base_offset, |segment| segment.base_offset).ok()?;
        Some(&self.segments[index])
    }

    pub(crate) fn segment_mut(&mut self, base_offset: Offset) -> Option<&mut Segment> {
        let index =
            self.segments.binary_search_by_key(&base_offset, |segment| segment.base_offset).ok()?;
        Some(&mut self.segments[index])
    }

    /// The offset behind a segment.
    pub(crate) fn end_of_segment(&self, base_offset: Offset) -> Offset {
        let next = self.segments.partition_point(|segment| segment.base_offset <= base_offset);
        self.segments.get(next).map_or(self.end, |next| next.base_offset)
    }

    pub(crate) fn is_zeroing(&self) -> bool {
        self.segments.iter().any(|segment| !segment.zeroing.is_empty())
    }

    /// The segment that `offset` lies in, by its place.
    pub(crate) fn segment_index_of(&self, offset: Offset) -> Option<usize> {
        self.segments.partition_point(|segment| segment.base_offset <= offset).checked_sub(1)
    }

    /// Takes everything from `offset` on back: it was never written. The segments that hold it are
    /// adjusted by the caller.
    pub(crate) fn take_back(&mut self, offset: Offset) {
        assert!(offset >= self.written_end, "what was written is not taken back");
        self.producers.cut(offset);
        self.epochs.cut(offset);
        if let Some(active) = self.segments.last_mut() {
            active.transactions.cut(offset, self.producers.open_transactions());
        }
        self.end = offset;
        self.generation += 1;
        if self.cuts.len() == CUTS_REMEMBERED {
            self.cuts.remove(0);
        }
        self.cuts.push((self.generation, offset));
    }

    /// True if what ended at `end` was taken back since `generation`.
    fn was_taken_back(&self, end: Offset, generation: u64) -> bool {
        self.cuts.iter().any(|(when, cut)| *when > generation && end > *cut)
    }
}

/// How far a waiter wants its append to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Written,
    Durable,
}

impl Log {
    pub(crate) fn new(
        storage: Rc<StorageInner>,
        name: (&str, PartitionId, TopicId),
        directory: PathBuf,
        state: State,
    ) -> Log {
        let (topic, partition, topic_id) = name;
        let log = Log(Rc::new(LogInner {
            storage,
            topic: topic.into(),
            partition,
            topic_id,
            directory: RefCell::new(directory),
            state: RefCell::new(state),
            progress: Notify::new(),
            durable: Notify::new(),
            growth: Notify::new(),
        }));
        log.0.storage.register(&log);
        log
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.0.storage.runtime
    }

    pub(crate) fn downgrade(&self) -> Weak<LogInner> {
        Rc::downgrade(&self.0)
    }

    /// The topic's name.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.0.topic
    }

    /// The partition.
    #[must_use]
    pub fn partition(&self) -> PartitionId {
        self.0.partition
    }

    /// The topic's id.
    #[must_use]
    pub fn topic_id(&self) -> TopicId {
        self.0.topic_id
    }

    /// The settings in force.
    #[must_use]
    pub fn config(&self) -> Rc<TopicConfig> {
        Rc::clone(&self.0.state.borrow().config)
    }

    /// Puts other settings in force, from the next append on.
    pub fn set_config(&self, config: Rc<TopicConfig>) {
        let moved = {
            let mut state = self.0.state.borrow_mut();
            let before = state.high_watermark();
            state.shown_end = state.acknowledged_end();
            state.config = config;
            state.high_watermark() != before
        };
        // Whatever it is now: nothing is held back that the settings before let wait.
        self.hand_over();
        if moved {
            self.0.growth.notify_all();
        }
        self.ask_for_compaction();
    }

    /// The first offset that can be read.
    #[must_use]
    pub fn log_start_offset(&self) -> Offset {
        self.0.state.borrow().log_start
    }

    /// The offset behind the last that was appended.
    #[must_use]
    pub fn log_end_offset(&self) -> Offset {
        self.0.state.borrow().end
    }

    /// Up to where the writes have completed: what survives this process.
    #[must_use]
    pub fn written_end(&self) -> Offset {
        self.0.state.borrow().written_end
    }

    /// Up to where everything is on disk: what survives a power cut.
    #[must_use]
    pub fn durable_end(&self) -> Offset {
        self.0.state.borrow().durable_end
    }

    /// Up to where consumers may read.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.0.state.borrow().high_watermark()
    }

    /// From now on the high watermark is what the leader says, never beyond what is acknowledged.
    pub fn set_high_watermark(&self, offset: Offset) {
        let mut state = self.0.state.borrow_mut();
        let before = state.high_watermark();
        state.high_watermark = HighWatermark::Given(offset);
        let after = state.high_watermark();
        state.producers.forget_replicated(after);
        let moved = after != before;
        drop(state);
        if moved {
            self.0.growth.notify_all();
        }
    }

    /// Up to where consumers that read committed transactions alone may read.
    #[must_use]
    pub fn last_stable_offset(&self) -> Offset {
        self.0.state.borrow().last_stable_offset()
    }

    /// Told when the high watermark has moved, and when the log was fenced or closed.
    #[must_use]
    pub fn on_growth(&self) -> &Notify {
        &self.0.growth
    }

    /// Why the log takes no more appends, if it was fenced.
    #[must_use]
    pub fn fenced(&self) -> Option<FenceReason> {
        match self.0.state.borrow().status {
            Status::Fenced(reason) => Some(reason),
            Status::Open | Status::Closed => None,
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.state.borrow().status == Status::Closed
    }

    /// The latest leader epoch in the log; -1 where there is none.
    #[must_use]
    pub fn latest_leader_epoch(&self) -> LeaderEpoch {
        self.0.state.borrow().epochs.latest()
    }

    /// The largest epoch in the log that is not above `epoch`, and the offset behind its last
    /// record. `None` where there is none.
    #[must_use]
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let state = self.0.state.borrow();
        state.epochs.end_offset(epoch, state.end)
    }

    /// The epoch that wrote the record at `offset`; -1 where it is not known.
    #[must_use]
    pub fn leader_epoch_at(&self, offset: Offset) -> LeaderEpoch {
        self.0.state.borrow().epochs.epoch_at(offset)
    }

    /// The idempotent producers that the log knows.
    #[must_use]
    pub fn producers(&self) -> Vec<ProducerStatus> {
        self.0.state.borrow().producers.statuses()
    }

    /// The bytes of all segments.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.0.state.borrow().segments.iter().map(Segment::size).sum()
    }

    /// How many segments the log has.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.0.state.borrow().segments.len()
    }

    /// What the recovery point may be set to: everything below it is durable, and a producer
    /// snapshot at it is on disk.
    #[must_use]
    pub fn recovery_point(&self) -> Offset {
        self.0.state.borrow().recovery_point
    }

    /// Waits until everything below `end` is written. Call it before anything else is awaited
    /// after the append: what is taken back in between is told apart by the time of this call.
    ///
    /// # Errors
    /// When it will not be.
    pub fn wait_written(&self, end: Offset) -> impl Future<Output = Result<(), WaitError>> + use<> {
        self.wait(end, Stage::Written)
    }

    /// Waits until everything below `end` is on disk; see [`Log::wait_written`].
    ///
    /// # Errors
    /// When it will not be, or when nobody knows.
    pub fn wait_durable(&self, end: Offset) -> impl Future<Output = Result<(), WaitError>> + use<> {
        self.wait(end, Stage::Durable)
    }

    /// Waits until `acks=all` may be answered for what was appended: until it is on disk, or, with
    /// `durability=replicated`, written; see [`Log::wait_written`].
    ///
    /// # Errors
    /// When it will not be, or when nobody knows.
    pub fn wait_acknowledged(
        &self,
        appended: &Appended,
    ) -> impl Future<Output = Result<(), WaitError>> + use<> {
        let durability = self.0.state.borrow().config.durability;
        let stage = match durability {
            Durability::Replicated if !appended.is_flush_due => Stage::Written,
            Durability::Replicated | Durability::Sync => Stage::Durable,
        };
        self.wait(appended.end(), stage)
    }

    /// Waits until `acks=1` may be answered for what was appended: until it is written, or, where
    /// `flush.messages` says so, on disk; see [`Log::wait_written`].
    ///
    /// # Errors
    /// When it will not be, or when nobody knows.
    pub fn wait_for_leader(
        &self,
        appended: &Appended,
    ) -> impl Future<Output = Result<(), WaitError>> + use<> {
        let stage = if appended.is_flush_due { Stage::Durable } else { Stage::Written };
        self.wait(appended.end(), stage)
    }

    fn wait(
        &self,
        end: Offset,
        stage: Stage,
    ) -> impl Future<Output = Result<(), WaitError>> + use<> {
        let log = self.clone();
        let (generation, is_beyond) = {
            let state = self.0.state.borrow();
            (state.generation, end > state.end)
        };
        async move {
            if is_beyond {
                return Err(WaitError::NoSpace);
            }
            if let Some(outcome) = log.outcome(end, stage, generation) {
                return outcome;
            }
            let _waiter =
                (stage == Stage::Durable).then(|| (log.0.storage.durable_waiter(), log.awaiting()));
            loop {
                match stage {
                    Stage::Written => log.0.progress.notified().await,
                    Stage::Durable => log.0.durable.notified().await,
                }
                if let Some(outcome) = log.outcome(end, stage, generation) {
                    return outcome;
                }
            }
        }
    }

    fn outcome(&self, end: Offset, stage: Stage, generation: u64) -> Option<Result<(), WaitError>> {
        let state = self.0.state.borrow();
        if state.was_taken_back(end, generation) {
            return Some(Err(WaitError::NoSpace));
        }
        let reached = match stage {
            Stage::Written => state.written_end,
            Stage::Durable => state.durable_end,
        };
        if reached >= end {
            return Some(Ok(()));
        }
        match state.status {
            Status::Open => None,
            Status::Fenced(reason) => Some(Err(WaitError::Fenced(reason))),
            Status::Closed => Some(Err(WaitError::Closed)),
        }
    }

    /// Ends appends for good: nobody knows what is on disk. After a failed sync that holds for all
    /// logs.
    pub(crate) fn fence(&self, reason: FenceReason) {
        if self.fence_by(reason) {
            tracing::error!(
                topic = %self.0.topic,
                partition = self.0.partition.0,
                offset = self.durable_end().0,
                %reason,
                "fenced: the log takes no more appends"
            );
        }
        if let FenceReason::Sync(errno) = reason {
            self.0.storage.give_disk_up(errno);
        }
    }

    /// Ends this log's appends. False if it took none before.
    pub(crate) fn fence_by(&self, reason: FenceReason) -> bool {
        {
            let mut state = self.0.state.borrow_mut();
            if state.status != Status::Open {
                return false;
            }
            state.status = Status::Fenced(reason);
        }
        self.tell_waiters();
        self.0.growth.notify_all();
        true
    }

    /// Wakes everybody who waits for an append.
    pub(crate) fn tell_waiters(&self) {
        self.0.progress.notify_all();
        self.0.durable.notify_all();
    }

    /// Ends appends because the log goes away.
    pub(crate) fn set_closed(&self) {
        self.0.state.borrow_mut().status = Status::Closed;
        self.tell_waiters();
        self.0.growth.notify_all();
    }

    /// A write of the segment completed up to `position`, which is up to `offset`.
    pub(crate) fn mark_written(&self, base_offset: Offset, position: u64, offset: Offset) {
        let now = self.runtime().now();
        let mut state = self.0.state.borrow_mut();
        let before = state.high_watermark();
        state.written_end = offset;
        state.write_times.note(offset, now);
        if cfg!(feature = "mutant_ack_before_fdatasync") {
            state.durable_end = offset;
        }
        let moved = state.high_watermark() != before;
        let segment =
            state.segment_mut(base_offset).expect("a segment is not dropped under a write");
        segment.written = position;
        drop(state);
        self.0.progress.notify_all();
        if cfg!(feature = "mutant_ack_before_fdatasync") {
            self.0.durable.notify_all();
        }
        if moved {
            self.0.growth.notify_all();
        }
    }

    /// A sync covered the segment up to `position`, which is up to `offset`.
    pub(crate) fn mark_durable(&self, base_offset: Offset, position: u64, offset: Offset) {
        let now = self.runtime().now();
        let mut state = self.0.state.borrow_mut();
        let before = state.high_watermark();
        let is_rolled = state.note_durable(base_offset, position, offset);
        let durable_end = state.durable_end;
        state.sync_times.note(durable_end, now);
        let after = state.high_watermark();
        state.producers.forget_replicated(after);
        let moved = after != before;
        assert!(state.durable_end <= state.written_end, "durable is never beyond written");
        drop(state);
        self.0.durable.notify_all();
        if moved {
            self.0.growth.notify_all();
        }
        if is_rolled {
            self.finish_in_background(base_offset);
        }
    }
}

impl Drop for LogInner {
    /// Nobody holds the log any more: its memory is given back.
    fn drop(&mut self) {
        let state = self.state.get_mut();
        let freed = state.segments.iter().map(|segment| segment.tail.chunk_bytes()).sum();
        self.storage.forget_chunks(freed);
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Log({}-{})", self.0.topic, self.0.partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_behind_a_segment_that_waits_for_its_sync_is_durable() {
        let start = Offset::ZERO;
        let mut state = State::new(Rc::new(TopicConfig::default()), start, Instant::default());
        for base in [0, 10, 20] {
            let mut segment = Segment::new(Offset(base), 0);
            segment.set_size(1000, &[]);
            segment.durable = 0;
            segment.phase = if base < 20 { Phase::Rolled } else { Phase::Active };
            state.segments.push(segment);
        }
        // (the segment, how much of it is synced, up to which offset, the log's durable end then,
        // whether the rolled segment is complete)
        let syncs = [
            (10, 1000, 20, 0, true),
            (20, 500, 24, 0, false),
            (0, 500, 5, 5, false),
            (0, 1000, 10, 24, true),
            (20, 1000, 30, 30, false),
        ];
        for (base, position, offset, durable_end, is_complete) in syncs {
            assert_eq!(state.note_durable(Offset(base), position, Offset(offset)), is_complete);
            assert_eq!(state.durable_end, Offset(durable_end), "{base} up to {offset}");
        }
    }
}
