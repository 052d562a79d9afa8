//! The handle through which tasks of one shard reach their runtime.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

use crate::{
    BufferPool, Driver, DriverKind, Elapsed, Errno, Instant, Message, Op, ShardIndex,
    driver::{Output, Token},
    local::Channel,
    op_table::{Leftover, OpTable, Pending},
    timer::{TimerKey, Timers},
};

/// Messages that wait here because the ring to their shard is full. Past this a sender waits:
/// 4,096 requests for one shard are more than all its connections may have in flight.
const OUTBOX_MAX: usize = 4096;

/// A class of tasks, with its share of the shard's time while several classes have work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TaskQueue {
    /// Requests of clients and what they wait for.
    Foreground,
    /// Upkeep in small slices: compaction, scrub, deletion.
    Background,
}

pub(crate) struct NewTask {
    pub(crate) name: &'static str,
    pub(crate) queue: TaskQueue,
    pub(crate) future: Pin<Box<dyn Future<Output = ()>>>,
}

pub(crate) struct Inner {
    pub(crate) driver: RefCell<Box<dyn Driver>>,
    pub(crate) ops: RefCell<OpTable>,
    pub(crate) timers: RefCell<Timers>,
    pub(crate) new_tasks: RefCell<Vec<NewTask>>,
    pub(crate) end_of_turn: RefCell<Vec<Waker>>,
    /// Who waits for a lull, and until when at the latest.
    pub(crate) lull: RefCell<Vec<(Instant, Waker)>>,
    pub(crate) inbox: Channel<(Option<ShardIndex>, Message)>,
    pub(crate) stopping: Cell<bool>,
    outboxes: RefCell<Vec<Outbox>>,
    shard: ShardIndex,
    pub(crate) pool: BufferPool,
    kind: DriverKind,
}

#[derive(Default)]
struct Outbox {
    waiting: VecDeque<Message>,
    senders: Vec<Waker>,
}

/// One shard's runtime: cheap to clone, bound to its thread.
#[derive(Clone)]
pub struct Runtime(pub(crate) Rc<Inner>);

impl Runtime {
    pub(crate) fn new(shard: ShardIndex, shard_count: u16, driver: Box<dyn Driver>) -> Runtime {
        let pool = driver.pool();
        let kind = driver.kind();
        Runtime(Rc::new(Inner {
            driver: RefCell::new(driver),
            ops: RefCell::default(),
            timers: RefCell::default(),
            new_tasks: RefCell::default(),
            end_of_turn: RefCell::default(),
            lull: RefCell::default(),
            inbox: Channel::new(),
            stopping: Cell::new(false),
            outboxes: RefCell::new((0..shard_count).map(|_| Outbox::default()).collect()),
            shard,
            pool,
            kind,
        }))
    }

    /// Which shard this is.
    #[must_use]
    pub fn shard(&self) -> ShardIndex {
        self.0.shard
    }

    /// How many shards the mesh has.
    #[must_use]
    pub fn shard_count(&self) -> u16 {
        u16::try_from(self.0.outboxes.borrow().len()).expect("made from a u16")
    }

    /// Which driver runs.
    #[must_use]
    pub fn driver_kind(&self) -> DriverKind {
        self.0.kind
    }

    /// The monotonic clock.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.0.driver.borrow().now()
    }

    /// The CPU time that this shard has taken, user's and system's; none in a simulation. Costs a
    /// system call.
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        self.0.driver.borrow().cpu_time()
    }

    /// Milliseconds since 1970 UTC.
    #[must_use]
    pub fn wall_clock_ms(&self) -> i64 {
        self.0.driver.borrow().wall_clock_ms()
    }

    /// 64 random bits.
    #[must_use]
    pub fn random(&self) -> u64 {
        self.0.driver.borrow_mut().random()
    }

    /// The shard's pool of aligned buffers.
    #[must_use]
    pub fn pool(&self) -> BufferPool {
        self.0.pool.clone()
    }

    /// Starts a task. It runs until it ends or the executor is dropped; `name` stands in the log
    /// where it holds the shard for too long.
    pub fn spawn(
        &self,
        name: &'static str,
        queue: TaskQueue,
        future: impl Future<Output = ()> + 'static,
    ) {
        let task = NewTask { name, queue, future: Box::pin(future) };
        self.0.new_tasks.borrow_mut().push(task);
    }

    /// Ends the executor's loop after this turn.
    pub fn stop(&self) {
        self.0.stopping.set(true);
    }

    /// Waits until `deadline`.
    pub async fn sleep_until(&self, deadline: Instant) {
        let mut timer = SetTimer { runtime: self, key: None };
        poll_fn(|context| {
            if self.now() >= deadline {
                return Poll::Ready(());
            }
            let mut timers = self.0.timers.borrow_mut();
            match timer.key {
                Some(key) => timers.update(key, context.waker()),
                None => timer.key = Some(timers.set(deadline, context.waker().clone())),
            }
            Poll::Pending
        })
        .await;
    }

    /// Waits for `duration`.
    pub async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.now() + duration).await;
    }

    /// Waits for `future`, at most until `deadline`. What is ready at the deadline still counts.
    ///
    /// # Errors
    /// [`Elapsed`] when the deadline came first; the future is dropped.
    pub async fn deadline<T>(
        &self,
        deadline: Instant,
        future: impl Future<Output = T>,
    ) -> Result<T, Elapsed> {
        let mut future = pin!(future);
        let mut sleep = pin!(self.sleep_until(deadline));
        poll_fn(|context| {
            if let Poll::Ready(value) = future.as_mut().poll(context) {
                return Poll::Ready(Ok(value));
            }
            sleep.as_mut().poll(context).map(|()| Err(Elapsed))
        })
        .await
    }

    /// Lets the other ready tasks run first.
    pub async fn yield_now(&self) {
        let mut yielded = false;
        poll_fn(|context| {
            if yielded {
                return Poll::Ready(());
            }
            yielded = true;
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    /// Waits until no other task of the shard is ready: the last moment before the driver is
    /// asked for new events. Whoever gathers the work of a turn (the group commit) waits here.
    pub async fn end_of_turn(&self) {
        let mut waited = false;
        poll_fn(|context| {
            if waited {
                return Poll::Ready(());
            }
            waited = true;
            self.0.end_of_turn.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// Waits until the shard has nothing else to do: no task of the foreground is ready, and a look
    /// at the driver has found nothing. A shard that always finds something goes on at the end of the first turn
    /// after `within`. Work that is cheaper the more of it is gathered waits here: under full load
    /// it comes in larger pieces, and where the load is light it does not wait.
    pub async fn lull(&self, within: Duration) {
        let deadline = self.now() + within;
        let mut waited = false;
        poll_fn(|context| {
            if waited {
                return Poll::Ready(());
            }
            waited = true;
            self.0.lull.borrow_mut().push((deadline, context.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Sends a message to a shard (also to this one), first in first out for each pair; waits
    /// while the bounded queue to that shard is full.
    pub async fn send(&self, to: ShardIndex, message: Message) {
        if to == self.0.shard {
            self.0.inbox.push((Some(to), message));
            return;
        }
        let mut message = Some(message);
        poll_fn(|context| {
            let mut outboxes = self.0.outboxes.borrow_mut();
            let outbox = &mut outboxes[usize::from(to.0)];
            if outbox.waiting.len() >= OUTBOX_MAX {
                outbox.senders.push(context.waker().clone());
                return Poll::Pending;
            }
            outbox.waiting.push_back(message.take().expect("polled after completion"));
            Poll::Ready(())
        })
        .await;
        self.flush_outbox(to);
    }

    /// Until every message sent so far is in the ring to its shard, where it outlives this one.
    pub async fn until_sent(&self) {
        poll_fn(|context| {
            let mut outboxes = self.0.outboxes.borrow_mut();
            match outboxes.iter_mut().find(|outbox| !outbox.waiting.is_empty()) {
                None => Poll::Ready(()),
                Some(outbox) => {
                    outbox.senders.push(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await;
    }

    /// The next message for this shard, in order of arrival, with the shard that sent it (`None`:
    /// from outside the mesh). Meant for one task.
    pub async fn receive(&self) -> (Option<ShardIndex>, Message) {
        self.0.inbox.pop().await
    }

    pub(crate) fn flush_outboxes(&self) {
        for shard in 0..self.shard_count() {
            self.flush_outbox(ShardIndex(shard));
        }
    }

    /// True if messages wait for room in a ring.
    pub(crate) fn has_waiting_messages(&self) -> bool {
        self.0.outboxes.borrow().iter().any(|outbox| !outbox.waiting.is_empty())
    }

    fn flush_outbox(&self, to: ShardIndex) {
        let mut outboxes = self.0.outboxes.borrow_mut();
        let outbox = &mut outboxes[usize::from(to.0)];
        let mut driver = self.0.driver.borrow_mut();
        while let Some(message) = outbox.waiting.pop_front() {
            if let Err(message) = driver.send(to, message) {
                outbox.waiting.push_front(message);
                return;
            }
        }
        for waker in outbox.senders.drain(..) {
            waker.wake();
        }
    }

    /// Submits an operation and waits for it.
    pub(crate) fn operate(&self, op: Op) -> Pending {
        let token = self.0.ops.borrow_mut().start();
        self.0.driver.borrow_mut().submit(token, op);
        Pending::new(self.clone(), token)
    }

    /// Submits an operation whose end nobody waits for.
    pub(crate) fn operate_detached(&self, op: Op) {
        let token = self.0.ops.borrow_mut().start_abandoned();
        self.0.driver.borrow_mut().submit(token, op);
    }

    pub(crate) fn cancel(&self, token: Token) {
        self.0.driver.borrow_mut().cancel(token);
    }

    pub(crate) fn with_ops<T>(&self, act: impl FnOnce(&mut OpTable) -> T) -> T {
        act(&mut self.0.ops.borrow_mut())
    }

    pub(crate) fn clean_up(&self, leftover: Leftover) {
        match leftover {
            Leftover::Nothing => {}
            Leftover::Close(op) => self.operate_detached(op),
        }
    }
}

/// A timer that goes with the future that set it: a request that was answered leaves none behind.
struct SetTimer<'a> {
    runtime: &'a Runtime,
    key: Option<TimerKey>,
}

impl Drop for SetTimer<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.runtime.0.timers.borrow_mut().cancel(key);
        }
    }
}

/// The output of an operation that only succeeds or fails.
pub(crate) fn done(result: Result<Output, Errno>) -> Result<(), Errno> {
    let output = result?;
    assert!(matches!(output, Output::Done), "the driver gave {output:?} for nothing");
    Ok(())
}
