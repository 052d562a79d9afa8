//! How a node stops: no request is looked at any more, leadership is given up, every log is closed
//! at its true length, the checkpoints are written, and the clean-shutdown marker comes last. Until
//! then it moves the durable marks, so that the next start has little to read, however this process
//! ends.
//!
//! A round of marks is one call to every shard and up to three small files. It comes when a shard
//! asks for it: nothing happens on a node on which nothing is appended.

use std::{cell::Cell, future::Future, rc::Rc, time::Duration};

use runtime::{Errno, ShardIndex, local::Notify};
use storage::{CheckpointNeed, LogDirectory, RecoveryPoint};

use crate::{
    Error, connection::first_of, peers::Call, shard::Shard, topic_settings::CLUSTER_METADATA,
};

/// How long after an append the durable mark may stay behind it, where it is worth a round; less
/// than Kafka's `log.flush.offset.checkpoint.interval.ms`, as recovery here reads what lies above.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(10);

/// On shard 0: what the shards have asked for since the last round.
#[derive(Default)]
pub(crate) struct CheckpointsAsked {
    need: Cell<CheckpointNeed>,
    changed: Notify,
    /// How many rounds have begun and ended, and the last one that was recorded.
    begun: Cell<u64>,
    ended: Cell<u64>,
    recorded: Cell<u64>,
}

impl CheckpointsAsked {
    /// A round that begins after the call. True once its marks, and the log start offsets as they
    /// were then, are durable.
    pub(crate) async fn round(&self) -> bool {
        let round = self.begun.get() + 1;
        self.raise(CheckpointNeed::Now);
        self.changed.wait_until(|| self.ended.get() >= round).await;
        self.recorded.get() >= round
    }

    fn end(&self, outcome: Round) {
        self.ended.set(self.begun.get());
        if outcome == Round::Recorded {
            self.recorded.set(self.begun.get());
        }
        self.changed.notify_all();
    }

    fn raise(&self, need: CheckpointNeed) {
        if need > self.need.get() {
            self.need.set(need);
            self.changed.notify_all();
        }
    }

    async fn wait_for(&self, need: CheckpointNeed) {
        self.changed.wait_until(|| self.need.get() >= need).await;
    }
}

impl Shard {
    /// Shard 0 while the node serves: moves the durable marks when that is asked for, until a stop
    /// is; then stops the node cleanly.
    pub(crate) async fn serve_until_stopped(
        self: &Rc<Self>,
        directory: &LogDirectory,
    ) -> Result<(), Error> {
        let mut last = Round::Recorded;
        loop {
            let asked = self.stopping.wait_until(|| self.stop_asked.get());
            if first_of(self.until_checkpoint(last), asked).await.is_none() {
                break;
            }
            let asked = &self.checkpoints_asked;
            let need = asked.need.take();
            asked.begun.set(asked.begun.get() + 1);
            last = self.checkpoint(directory, need, last).await;
            asked.end(last);
        }
        // Who asked for metadata from here on would be told that nobody leads, and some give up then.
        Box::pin(self.call_all(EndRequests)).await;
        let (node, epoch) = {
            let host = self.controller.get().expect("the node has started");
            (self.node(), host.broker_epoch)
        };
        self.change_metadata(|controller| controller.stop_broker(node, epoch))
            .await
            .map_err(Error::Cluster)?;
        let points = self.gather(CloseLogs).await.map_err(Error::Partition)?;
        directory.write_checkpoints(&points).await.map_err(Error::Storage)?;
        directory.write_clean_shutdown(epoch).await.map_err(Error::Storage)
    }

    /// Until a round is due: at once where a log has passed its window and the last round did what
    /// it should.
    async fn until_checkpoint(&self, last: Round) {
        let asked = &self.checkpoints_asked;
        asked.wait_for(CheckpointNeed::Later).await;
        let asked_for = Duration::from_millis(self.config.flush_offset_checkpoint_interval_ms);
        let interval = self.runtime.sleep(asked_for.min(CHECKPOINT_INTERVAL));
        match last {
            Round::Recorded => {
                // Either end of the wait is as good.
                let _ = first_of(interval, asked.wait_for(CheckpointNeed::Now)).await;
            }
            Round::Failed => interval.await,
        }
    }

    async fn checkpoint(
        self: &Rc<Self>,
        directory: &LogDirectory,
        need: CheckpointNeed,
        last: Round,
    ) -> Round {
        let mut points: Vec<RecoveryPoint> =
            self.call_all(Checkpoint(last)).await.into_iter().flatten().collect();
        without_metadata_log(&mut points);
        let written = if need == CheckpointNeed::Now {
            directory.write_recovery_points(&points).await
        } else {
            directory.write_checkpoints(&points).await
        };
        match written {
            Ok(()) => Round::Recorded,
            // The marks of before still stand; a full disk is no reason to stop.
            Err(error) => {
                tracing::error!(%error, "the durable marks were not written");
                if let storage::Error::Io { errno, .. } = error
                    && errno.is_device_failure()
                {
                    self.storage.give_disk_up(errno);
                }
                self.checkpoints_asked.raise(CheckpointNeed::Later);
                Round::Failed
            }
        }
    }

    /// Tells shard 0 when this one wants a checkpoint; runs for as long as the shard does.
    pub(crate) async fn ask_for_checkpoints(self: Rc<Self>) {
        loop {
            let need = self.storage.checkpoint_wanted().await;
            self.call(ShardIndex(0), AskForCheckpoint(need)).await.answer().await;
        }
    }

    /// Tells all shards when a sync of this one has failed.
    pub(crate) async fn spread_disk_failure(self: Rc<Self>) {
        let errno = self.storage.disk_failure().await;
        self.call_all(GiveDiskUp(errno)).await;
    }

    async fn gather<C>(self: &Rc<Self>, call: C) -> Result<Vec<RecoveryPoint>, String>
    where
        C: Call<Answer = Result<Vec<RecoveryPoint>, String>> + Clone,
    {
        let mut points = Vec::new();
        for some in self.call_all(call).await {
            points.extend(some?);
        }
        without_metadata_log(&mut points);
        Ok(points)
    }

    /// Tells the other shards to end. What they answer is not waited for: an ended shard sends
    /// nothing more, and its answer may stand behind others.
    pub(crate) async fn end_other_shards(self: &Rc<Self>) {
        for shard in 1..self.runtime.shard_count() {
            drop(self.call(ShardIndex(shard), EndShard).await);
        }
        self.runtime.until_sent().await;
    }
}

/// Apache Kafka keeps the metadata log out of these files.
fn without_metadata_log(points: &mut Vec<RecoveryPoint>) {
    points.retain(|point| point.topic != CLUSTER_METADATA);
}

/// What became of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// Its marks are durable in the directory's files.
    Recorded,
    /// Those of an earlier one may still be there.
    Failed,
}

/// A round on one shard, which is told what became of the last one.
#[derive(Clone)]
struct Checkpoint(Round);

impl Call for Checkpoint {
    type Answer = Vec<RecoveryPoint>;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Answer> + 'static {
        let storage = Rc::clone(&shard.storage);
        async move {
            if self.0 == Round::Recorded {
                storage.marks_recorded();
            }
            storage.checkpoint_due().await
        }
    }
}

struct AskForCheckpoint(CheckpointNeed);

impl Call for AskForCheckpoint {
    type Answer = ();

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = ()> + 'static {
        shard.checkpoints_asked.raise(self.0);
        std::future::ready(())
    }
}

/// A sync has failed on one shard.
#[derive(Clone)]
struct GiveDiskUp(Errno);

impl Call for GiveDiskUp {
    type Answer = ();

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = ()> + 'static {
        shard.storage.give_disk_up(self.0);
        std::future::ready(())
    }
}

/// No request is begun any more; what was begun is answered.
#[derive(Clone)]
struct EndRequests;

impl Call for EndRequests {
    type Answer = ();

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = ()> + 'static {
        shard.requests_ended.set(true);
        std::future::ready(())
    }
}

#[derive(Clone)]
struct CloseLogs;

impl Call for CloseLogs {
    type Answer = Result<Vec<RecoveryPoint>, String>;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Answer> + 'static {
        let storage = Rc::clone(&shard.storage);
        async move { storage.close().await.map_err(|error| error.to_string()) }
    }
}

struct EndShard;

impl Call for EndShard {
    type Answer = ();

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = ()> + 'static {
        shard.stopped.set(true);
        shard.stopping.notify_all();
        std::future::ready(())
    }
}
