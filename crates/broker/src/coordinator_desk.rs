//! What the coordinators of groups and of transactions have in common on their shard: whoever waits
//! for an answer, the records on their way to the disk, the deadlines, and where a key belongs.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use coordinator::{Now, Token, Write, WriteError, WriteId};
use model::{ErrorCode, Offset, PartitionId, TimestampMs, TopicPartition, collections::BTreeMap};
use runtime::{
    Instant, Runtime, ShardIndex,
    local::{Channel, Notify, Oneshot, Sender, oneshot},
};
use storage::Verification;

use crate::{
    connection::first_of,
    coordinator_log,
    shard::{Partition, Shard},
};

/// What the coordinator of one partition waits for, and who waits for it. `R` is what it answers.
pub(crate) struct Desk<R> {
    pub(crate) partition: Rc<Partition>,
    waiting: RefCell<BTreeMap<Token, Sender<R>>>,
    next_token: Cell<u64>,
    writes: Channel<(WriteId, Result<Offset, WriteError>)>,
    /// Told when deadlines may have changed, and when it is over.
    changed: Notify,
    is_over: Cell<bool>,
}

impl<R> Desk<R> {
    pub(crate) fn new(partition: Rc<Partition>) -> Desk<R> {
        Desk {
            partition,
            waiting: RefCell::default(),
            next_token: Cell::new(0),
            writes: Channel::new(),
            changed: Notify::new(),
            is_over: Cell::new(false),
        }
    }

    pub(crate) fn expect_answer(&self) -> (Token, Oneshot<R>) {
        let (sender, receiver) = oneshot();
        let token = Token(self.next_token.get());
        self.next_token.set(token.0 + 1);
        self.waiting.borrow_mut().insert(token, sender);
        (token, receiver)
    }

    /// Nobody is to be answered after all.
    pub(crate) fn expect_no_answer(&self, token: Token) {
        self.waiting.borrow_mut().remove(&token);
    }

    pub(crate) fn answer_all(&self, responses: Vec<(Token, R)>) {
        for (token, response) in responses {
            // Whoever asked may be gone.
            if let Some(sender) = self.waiting.borrow_mut().remove(&token) {
                sender.send(response);
            }
        }
    }

    /// Appends what was decided, in its order. `is_told` is given what is in the log, and says
    /// whether that is all that is to be told of it.
    pub(crate) fn append_all(
        &self,
        shard: &Shard,
        writes: Vec<Write>,
        verification: Verification,
        mut is_told: impl FnMut(WriteId) -> bool,
    ) {
        for write in writes {
            let appended = coordinator_log::append(shard, &self.partition, &write, verification);
            if appended.is_err() || !is_told(write.id) {
                self.writes.push((write.id, appended));
            }
        }
    }

    /// The next of what was appended, or was not; `None` when it is over.
    pub(crate) async fn next_appended(&self) -> Option<(WriteId, Result<Offset, WriteError>)> {
        let over = self.changed.wait_until(|| self.is_over.get());
        first_of(self.writes.pop(), over).await
    }

    /// Waits until it is durable.
    pub(crate) async fn durable(
        &self,
        appended: Result<Offset, WriteError>,
    ) -> Result<(), WriteError> {
        self.partition.log.wait_durable(appended?).await.map_err(|error| {
            tracing::warn!(partition = %self.partition.name(), %error, "not durable");
            WriteError::Unavailable
        })
    }

    /// Deadlines may have changed.
    pub(crate) fn notify_changed(&self) {
        self.changed.notify_all();
    }

    /// Waits for a deadline, in milliseconds; false when it may have changed meanwhile.
    pub(crate) async fn is_due(&self, runtime: &Runtime, deadline: Option<u64>) -> bool {
        let mut changed = self.changed.listen();
        let changed = std::future::poll_fn(|context| changed.poll(context.waker()));
        match deadline {
            None => {
                changed.await;
                false
            }
            Some(ms) => {
                let deadline = Instant(ms.saturating_mul(1_000_000));
                first_of(runtime.sleep_until(deadline), changed).await.is_some()
            }
        }
    }

    /// The partition is no longer this shard's.
    pub(crate) fn end(&self) {
        self.is_over.set(true);
        self.changed.notify_all();
    }

    pub(crate) fn is_over(&self) -> bool {
        self.is_over.get()
    }

    /// Waits until it is over.
    pub(crate) async fn wait_until_over(&self) {
        self.changed.wait_until(|| self.is_over.get()).await;
    }
}

impl Shard {
    pub(crate) fn now_of_coordinators(&self) -> Now {
        Now {
            wall: TimestampMs(self.runtime.wall_clock_ms()),
            monotonic_ms: self.runtime.now().0 / 1_000_000,
        }
    }

    /// Creates the topic of coordinators if it is not there.
    ///
    /// # Errors
    /// When it cannot be created now.
    pub(crate) async fn require_coordinators_topic(
        self: &Rc<Self>,
        topic: &str,
    ) -> Result<(), ErrorCode> {
        if self.image.borrow().topic_by_name(topic).is_none() {
            match self.create_topic_automatically(topic).await {
                Ok(()) | Err(cluster::Error::TopicExists(_)) => {}
                Err(error) => {
                    tracing::error!(%error, "{topic} cannot be created");
                    return Err(ErrorCode::CoordinatorNotAvailable);
                }
            }
        }
        Ok(())
    }

    /// The partition of a topic of coordinators that a group or a transactional id belongs to, and
    /// its owner. `None` while the topic is not there.
    pub(crate) fn place_of_key(
        &self,
        topic: &str,
        key: &str,
    ) -> Option<(TopicPartition, ShardIndex)> {
        let image = self.image.borrow();
        let topic = image.topic_by_name(topic)?;
        let count = i32::try_from(topic.partitions.len()).expect("partition numbers are i32");
        let partition = PartitionId(coordinator::partition_of(key, count));
        let owner = self.owner_of(topic.id, partition)?;
        Some((TopicPartition { topic: topic.id, partition }, owner))
    }
}
