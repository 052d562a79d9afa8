//! How a node stops: leadership is given up, every log is closed at its true length, the
//! checkpoints are written, and the clean-shutdown marker comes last.

use std::{future::Future, rc::Rc, time::Duration};

use runtime::{ShardIndex, TaskQueue};
use storage::{LogDirectory, RecoveryPoint};

use crate::{
    Error, connection::first_of, peers::Call, shard::Shard, topic_settings::CLUSTER_METADATA,
};

/// How often the checkpoints are written: Kafka's `log.flush.offset.checkpoint.interval.ms`.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(60);
/// An ended shard still sends its last answer.
const LAST_ANSWER_TIME: Duration = Duration::from_millis(1);

impl Shard {
    /// Shard 0 while the node serves: writes checkpoints now and then, until a stop is asked for;
    /// then stops the node cleanly.
    pub(crate) async fn serve_until_stopped(
        self: &Rc<Self>,
        directory: &LogDirectory,
    ) -> Result<(), Error> {
        loop {
            let asked = self.stopping.wait_until(|| self.stop_asked.get());
            if first_of(self.runtime.sleep(CHECKPOINT_INTERVAL), asked).await.is_none() {
                break;
            }
            let points = self.gather(Checkpoint).await;
            match points {
                Ok(points) => directory.write_checkpoints(&points).await.map_err(Error::Storage)?,
                // A log that cannot be checkpointed keeps its older recovery point.
                Err(error) => tracing::error!(error, "no checkpoint"),
            }
        }
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

    async fn gather<C>(self: &Rc<Self>, call: C) -> Result<Vec<RecoveryPoint>, String>
    where
        C: Call<Answer = Result<Vec<RecoveryPoint>, String>> + Clone,
    {
        let mut points = Vec::new();
        for some in self.call_all(call).await {
            points.extend(some?);
        }
        // Apache Kafka keeps the metadata log out of these files.
        points.retain(|point| point.topic != CLUSTER_METADATA);
        Ok(points)
    }

    /// Ends the other shards.
    pub(crate) async fn end_other_shards(self: &Rc<Self>) {
        for shard in 1..self.runtime.shard_count() {
            self.call(ShardIndex(shard), EndShard).await.answer().await;
        }
    }
}

#[derive(Clone)]
struct Checkpoint;

impl Call for Checkpoint {
    type Answer = Result<Vec<RecoveryPoint>, String>;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Answer> + 'static {
        let storage = Rc::clone(&shard.storage);
        async move { storage.checkpoint().await.map_err(|error| error.to_string()) }
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
        let ending = Rc::clone(shard);
        shard.runtime.spawn("end", TaskQueue::Foreground, async move {
            ending.runtime.sleep(LAST_ANSWER_TIME).await;
            ending.stopped.set(true);
            ending.stopping.notify_all();
        });
        std::future::ready(())
    }
}
