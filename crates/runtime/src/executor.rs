//! The single-thread executor of one shard.
//!
//! A turn: run the tasks that are ready, most deserving queue first; when none is left, wake who
//! waits for the end of the turn; then one call of the driver, which starts everything that was
//! submitted and collects what has happened. Nothing polls while there is nothing to do.
//!
//! Cost of a wake-up and a poll: one lock of a mutex that no other thread contends for, one slot
//! look-up, two readings of the clock.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use slab::Slab;

use crate::{
    Driver, Event, Instant, Runtime, ShardIndex, TaskQueue, Unparker, Wait, handle::NewTask,
    queues::Queues,
};

/// How long a message waits for the next look at a full ring.
const FULL_RING_RETRY: Duration = Duration::from_micros(50);
/// A task that holds its shard for longer is logged by name.
const SLOW_POLL: Duration = Duration::from_millis(5);
/// After so much time in ready tasks the driver is asked again, so that new requests, timers and
/// other shards' messages are not kept waiting by a busy queue.
const TURN_BUDGET: Duration = Duration::from_micros(500);
/// How long the shard's pool keeps free memory that nothing needs, at least.
const TRIM_PERIOD: Duration = Duration::from_secs(2);

/// What a single turn did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Tasks are ready: turn again without waiting.
    Ready,
    /// Nothing is ready before this instant, unless something comes in.
    Idle(Option<Instant>),
    /// [`Runtime::stop`] was called.
    Stopped,
}

/// Runs the tasks of one shard.
pub struct Executor {
    runtime: Runtime,
    tasks: Slab<Task>,
    woken: Arc<Woken>,
    queues: Queues,
    events: Vec<Event>,
    batch: Vec<usize>,
    next_trim: Instant,
}

struct Task {
    name: &'static str,
    queue: TaskQueue,
    /// Taken out while the task is being polled, so that it may spawn others.
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    flag: Arc<Flag>,
    waker: Waker,
}

/// Tasks woken since the executor last looked, by slot.
struct Woken {
    tasks: Mutex<Vec<(usize, Arc<Flag>)>>,
    /// The thread of the shard: it looks at the list before it sleeps.
    thread: usize,
    /// For the other threads.
    unparker: Option<Unparker>,
}

/// One task's wake-up: at most one place in the list at a time.
struct Flag {
    slot: usize,
    scheduled: AtomicBool,
    woken: Arc<Woken>,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        if !self.scheduled.swap(true, Ordering::AcqRel) {
            let woken = Arc::clone(&self.woken);
            woken.tasks.lock().expect("no holder panics").push((self.slot, self));
            if woken.thread != this_thread()
                && let Some(unparker) = &woken.unparker
            {
                unparker.unpark();
            }
        }
    }
}

/// A number of the calling thread, unique among those that live: an address of its own.
fn this_thread() -> usize {
    thread_local!(static MARK: u8 = const { 0 });
    MARK.with(|mark| std::ptr::from_ref(mark).addr())
}

impl Executor {
    /// An executor for shard `shard` of `shard_count`.
    #[must_use]
    pub fn new(shard: ShardIndex, shard_count: u16, driver: Box<dyn Driver>) -> Executor {
        assert!(shard.0 < shard_count, "shard {} of {shard_count}", shard.0);
        let unparker = driver.unparker();
        let next_trim = driver.now() + TRIM_PERIOD;
        Executor {
            runtime: Runtime::new(shard, shard_count, driver),
            tasks: Slab::new(),
            woken: Arc::new(Woken { tasks: Mutex::default(), thread: this_thread(), unparker }),
            queues: Queues::default(),
            events: Vec::new(),
            batch: Vec::new(),
            next_trim,
        }
    }

    /// The handle for this shard's tasks.
    #[must_use]
    pub fn runtime(&self) -> Runtime {
        self.runtime.clone()
    }

    /// Runs until [`Runtime::stop`].
    pub fn run(&mut self) {
        let mut wait = Wait::No;
        loop {
            wait = match self.turn(wait) {
                Turn::Ready => Wait::No,
                Turn::Idle(None) => Wait::Forever,
                Turn::Idle(Some(deadline)) => Wait::Until(deadline),
                Turn::Stopped => return,
            };
        }
    }

    /// Runs `future` to its end on this executor, other tasks beside it.
    ///
    /// # Panics
    /// When [`Runtime::stop`] is called before the end.
    pub fn block_on<T: 'static>(&mut self, future: impl Future<Output = T> + 'static) -> T {
        let result = std::rc::Rc::new(std::cell::RefCell::new(None));
        let place = std::rc::Rc::clone(&result);
        self.runtime.spawn("block_on", TaskQueue::Foreground, async move {
            let value = future.await;
            *place.borrow_mut() = Some(value);
        });
        let mut wait = Wait::No;
        loop {
            let turn = self.turn(wait);
            if let Some(value) = result.borrow_mut().take() {
                return value;
            }
            wait = match turn {
                Turn::Ready => Wait::No,
                Turn::Idle(None) => Wait::Forever,
                Turn::Idle(Some(deadline)) => Wait::Until(deadline),
                Turn::Stopped => panic!("stopped before the end"),
            };
        }
    }

    /// Asks the driver once, waiting as `wait` allows, then runs what is ready.
    pub fn turn(&mut self, wait: Wait) -> Turn {
        self.runtime.flush_outboxes();
        let wait = self.limit(wait);
        let mut events = std::mem::take(&mut self.events);
        self.runtime.0.driver.borrow_mut().turn(wait, &mut events);
        let is_quiet = events.is_empty();
        for event in events.drain(..) {
            match event {
                Event::Completed { token, result } => {
                    let leftover = self.runtime.with_ops(|ops| ops.complete(token, result));
                    self.runtime.clean_up(leftover);
                }
                Event::Message { from, message } => self.runtime.0.inbox.push((from, message)),
            }
        }
        self.events = events;
        let now = self.runtime.now();
        self.runtime.0.timers.borrow_mut().fire(now);
        self.end_lull(is_quiet, now);
        self.run_ready(now);
        self.trim_pool(now);
        if self.runtime.0.stopping.get() {
            return Turn::Stopped;
        }
        if self.has_ready() || !self.runtime.0.lull.borrow().is_empty() {
            return Turn::Ready;
        }
        let next_timer = self.runtime.0.timers.borrow().next();
        match self.limit(next_timer.map_or(Wait::Forever, Wait::Until)) {
            Wait::No => Turn::Ready,
            Wait::Forever => Turn::Idle(None),
            Wait::Until(deadline) => Turn::Idle(Some(deadline)),
        }
    }

    /// Has the pool give back what was not needed for a while. An idle shard does so until there
    /// is no more to give, and then sleeps.
    fn trim_pool(&mut self, now: Instant) {
        if now >= self.next_trim {
            self.next_trim = now + TRIM_PERIOD;
            self.runtime.0.pool.trim();
        }
    }

    /// A full ring to another shard has no event that tells of room in it: while messages wait
    /// for it, the shard looks again after a moment. And a pool with much free memory is to be
    /// trimmed.
    fn limit(&self, wait: Wait) -> Wait {
        let mut wait = wait;
        if self.runtime.has_waiting_messages() {
            wait = wait.at_most(self.runtime.now() + FULL_RING_RETRY);
        }
        if self.runtime.0.pool.wants_trim() {
            wait = wait.at_most(self.next_trim);
        }
        wait
    }

    /// Operations in flight; for tests and the simulator.
    #[must_use]
    pub fn operations_in_flight(&self) -> usize {
        self.runtime.with_ops(|ops| ops.in_flight())
    }

    fn run_ready(&mut self, start: Instant) {
        let mut now = start;
        loop {
            self.collect_new();
            self.collect_woken();
            let Some((queue, slot)) = self.queues.pop() else {
                if !self.wake_end_of_turn() {
                    return;
                }
                continue;
            };
            now = self.poll_task(slot, queue, now);
            if now.since(start) >= TURN_BUDGET {
                // What the group commit gathers must not starve behind a busy queue.
                self.wake_end_of_turn();
                return;
            }
        }
    }

    fn poll_task(&mut self, slot: usize, queue: TaskQueue, start: Instant) -> Instant {
        let Some(task) = self.tasks.get_mut(slot) else { return start };
        let Some(mut future) = task.future.take() else { return start };
        // A swap, not a store: whoever found the flag still up and left it at that wrote before
        // that what this poll has to see.
        task.flag.scheduled.swap(false, Ordering::AcqRel);
        let (name, waker) = (task.name, task.waker.clone());
        let poll = future.as_mut().poll(&mut Context::from_waker(&waker));
        match poll {
            Poll::Pending => self.tasks[slot].future = Some(future),
            Poll::Ready(()) => {
                drop(future);
                self.tasks.remove(slot);
            }
        }
        let end = self.runtime.now();
        let took = end.since(start);
        if took > SLOW_POLL {
            tracing::warn!(
                task = name,
                shard = self.runtime.shard().0,
                ms = took.as_millis(),
                "a task held its shard"
            );
        }
        self.queues.charge(queue, took);
        end
    }

    fn collect_new(&mut self) {
        loop {
            let new_tasks = std::mem::take(&mut *self.runtime.0.new_tasks.borrow_mut());
            if new_tasks.is_empty() {
                return;
            }
            for task in new_tasks {
                self.add(task);
            }
        }
    }

    fn add(&mut self, new: NewTask) {
        let entry = self.tasks.vacant_entry();
        let slot = entry.key();
        let flag = Arc::new(Flag {
            slot,
            scheduled: AtomicBool::new(true),
            woken: Arc::clone(&self.woken),
        });
        let waker = Waker::from(Arc::clone(&flag));
        entry.insert(Task {
            name: new.name,
            queue: new.queue,
            future: Some(new.future),
            flag,
            waker,
        });
        self.queues.push(new.queue, slot);
    }

    fn collect_woken(&mut self) {
        {
            let mut list = self.woken.tasks.lock().expect("no holder panics");
            if list.is_empty() {
                return;
            }
            for (slot, flag) in list.drain(..) {
                // A waker may outlive its task, and another task may live in the slot by now.
                let is_current =
                    self.tasks.get(slot).is_some_and(|task| Arc::ptr_eq(&task.flag, &flag));
                if is_current {
                    self.batch.push(slot);
                }
            }
        }
        let mut batch = std::mem::take(&mut self.batch);
        for slot in batch.drain(..) {
            self.queues.push(self.tasks[slot].queue, slot);
        }
        self.batch = batch;
    }

    fn has_ready(&self) -> bool {
        !self.queues.is_empty()
            || !self.woken.tasks.lock().expect("no holder panics").is_empty()
            || !self.runtime.0.new_tasks.borrow().is_empty()
    }

    /// Wakes who waits for a lull if this is one, else those whose time is up. What is done in the
    /// background does not count.
    fn end_lull(&mut self, is_quiet: bool, now: Instant) {
        if self.runtime.0.lull.borrow().is_empty() {
            return;
        }
        self.collect_new();
        self.collect_woken();
        let is_lull = is_quiet && !self.queues.has_foreground();
        self.runtime.0.lull.borrow_mut().retain(|(deadline, waker)| {
            let goes_on = is_lull || now >= *deadline;
            if goes_on {
                waker.wake_by_ref();
            }
            !goes_on
        });
    }

    /// True if there was somebody to wake.
    fn wake_end_of_turn(&mut self) -> bool {
        let wakers = std::mem::take(&mut *self.runtime.0.end_of_turn.borrow_mut());
        let any = !wakers.is_empty();
        for waker in wakers {
            waker.wake();
        }
        any
    }
}

impl Drop for Executor {
    /// Drops every task, so that operations in flight lose their futures before the driver goes:
    /// a task holds a handle, and a handle the driver.
    fn drop(&mut self) {
        // What a task starts while it is dropped goes too, or it would keep the driver for ever.
        self.collect_new();
        while !self.tasks.is_empty() {
            self.tasks.clear();
            self.collect_new();
        }
    }
}
