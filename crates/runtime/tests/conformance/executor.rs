//! What tasks may rely on.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    task::{Poll, Waker},
    time::Duration,
};

use runtime::{Buffer, BufferPool, Executor, Runtime, ShardIndex, TaskQueue, mesh};

use crate::{
    harness::{drivers, executor, on_each_driver, run, turns},
    stepped_clock::SteppedClock,
};

#[test]
fn the_end_of_a_turn_comes_after_all_that_is_ready() {
    on_each_driver(|runtime| async move {
        let order = Rc::new(RefCell::new(Vec::new()));
        let (early, gatherer) = (Rc::clone(&order), runtime.clone());
        runtime.spawn("gatherer", TaskQueue::Foreground, async move {
            gatherer.end_of_turn().await;
            early.borrow_mut().push("end");
        });
        for name in ["first", "second"] {
            let (order, worker) = (Rc::clone(&order), runtime.clone());
            runtime.spawn("worker", TaskQueue::Foreground, async move {
                worker.yield_now().await;
                worker.yield_now().await;
                order.borrow_mut().push(name);
            });
        }
        turns(&runtime).await;
        assert_eq!(*order.borrow(), ["first", "second", "end"]);
    });
}

#[test]
fn a_lull_comes_when_nothing_is_ready_and_nothing_has_happened() {
    on_each_driver(|runtime| async move {
        let order = Rc::new(RefCell::new(Vec::new()));
        let (late, gatherer) = (Rc::clone(&order), runtime.clone());
        runtime.spawn("gatherer", TaskQueue::Foreground, async move {
            gatherer.lull(Duration::from_secs(60)).await;
            late.borrow_mut().push("lull");
        });
        let (first, worker) = (Rc::clone(&order), runtime.clone());
        runtime.spawn("worker", TaskQueue::Foreground, async move {
            // Each message is an event of the next turn.
            for _ in 0..20 {
                worker.send(worker.shard(), Box::new(())).await;
                worker.receive().await;
                worker.yield_now().await;
            }
            first.borrow_mut().push("work");
        });
        // Ready all the time, but nobody waits for it.
        spawn_busy(&runtime, TaskQueue::Background);
        let is_there = || order.borrow().len() == 2;
        while !is_there() {
            runtime.sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(*order.borrow(), ["work", "lull"]);
    });
}

#[test]
fn who_waits_for_a_lull_waits_no_longer_than_he_says() {
    on_each_driver(|runtime| async move {
        let busy = spawn_busy(&runtime, TaskQueue::Foreground);
        let (before, start) = (busy.get(), runtime.now());
        runtime.lull(Duration::from_millis(5)).await;
        assert!(runtime.now().since(start) >= Duration::from_millis(5));
        // Of 20 us each: the rest is the turn in which the time was up.
        assert!(busy.get() - before < 1000, "{} slices", busy.get() - before);
    });
}

/// Computes for `duration` without a pause.
fn compute(runtime: &Runtime, duration: Duration) {
    let end = runtime.now() + duration;
    while runtime.now() < end {
        std::hint::spin_loop();
    }
}

/// Starts a task that always has something to do, and counts its turns.
fn spawn_busy(runtime: &Runtime, queue: TaskQueue) -> Rc<Cell<u32>> {
    let (count, busy) = (Rc::new(Cell::new(0)), runtime.clone());
    let count_of_task = Rc::clone(&count);
    runtime.spawn("busy", queue, async move {
        loop {
            compute(&busy, Duration::from_micros(20));
            count_of_task.set(count_of_task.get() + 1);
            busy.yield_now().await;
        }
    });
    count
}

/// On a clock of its own: time that other programs take would count as the tasks'.
#[test]
fn the_background_gets_its_share_and_no_more() {
    for (name, open) in drivers() {
        let (mut endpoints, _) = mesh(1).unwrap();
        let driver = open(endpoints.remove(0), BufferPool::new(0)).unwrap();
        let driver = Box::new(SteppedClock::around(driver));
        let mut executor = Executor::new(ShardIndex(0), 1, driver);
        run(&mut executor, move |runtime| async move {
            let foreground = spawn_busy(&runtime, TaskQueue::Foreground);
            let background = spawn_busy(&runtime, TaskQueue::Background);
            while foreground.get() < 3000 {
                runtime.sleep(Duration::from_millis(1)).await;
            }
            let background = background.get();
            assert!((290..310).contains(&background), "{name}: {background} beside 3,000");
        });
    }
}

#[test]
fn a_busy_queue_does_not_keep_events_waiting() {
    on_each_driver(|runtime| async move {
        let busy = spawn_busy(&runtime, TaskQueue::Foreground);
        let (one, other) = crate::sockets::pair(&runtime).await;
        for _ in 0..20 {
            let before = busy.get();
            crate::sockets::send(&one, b"ping").await;
            crate::sockets::receive_exact(&runtime, &other, 4).await;
            runtime.end_of_turn().await;
            let slices = busy.get() - before;
            assert!(slices < 1000, "a request waited for {slices} slices");
        }
    });
}

/// Each wake-up finds the shard asleep, about to be, or in the middle of the task's poll.
#[test]
fn wakers_work_from_other_threads() {
    const ROUNDS: u32 = 20_000;
    on_each_driver(|runtime| async move {
        let place: Arc<Mutex<Option<Waker>>> = Arc::default();
        let step = Arc::new(AtomicU32::new(0));
        let (place_there, step_there) = (Arc::clone(&place), Arc::clone(&step));
        let other = std::thread::spawn(move || {
            for round in 1..=ROUNDS {
                while step_there.load(Ordering::Acquire) != 2 * round - 1 {
                    std::thread::yield_now();
                }
                step_there.store(2 * round, Ordering::Release);
                if let Some(waker) = place_there.lock().unwrap().as_ref() {
                    waker.wake_by_ref();
                }
            }
        });
        for round in 1..=ROUNDS {
            step.store(2 * round - 1, Ordering::Release);
            std::future::poll_fn(|context| {
                *place.lock().unwrap() = Some(context.waker().clone());
                if step.load(Ordering::Acquire) == 2 * round {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
            .await;
        }
        other.join().unwrap();
        assert_eq!(runtime.shard_count(), 1);
    });
}

/// Starts a task when it is dropped, so many times; each holds a buffer.
struct SpawnOnDrop(Runtime, u32, Buffer);

impl SpawnOnDrop {
    fn new(runtime: &Runtime, times: u32) -> SpawnOnDrop {
        SpawnOnDrop(runtime.clone(), times, runtime.pool().take(4096))
    }
}

impl Drop for SpawnOnDrop {
    fn drop(&mut self) {
        self.2.set_length(0);
        if self.1 > 0 {
            let next = SpawnOnDrop::new(&self.0, self.1 - 1);
            self.0.spawn("next", TaskQueue::Foreground, async move {
                std::future::pending::<()>().await;
                drop(next);
            });
        }
    }
}

/// Else its driver would stay too, with its threads and its locks.
#[test]
fn nothing_of_a_dropped_executor_stays() {
    for (name, open) in drivers() {
        let pool = BufferPool::new(0);
        let executor = executor(open, pool.clone());
        drop(SpawnOnDrop::new(&executor.runtime(), 3));
        assert!(pool.allocated_bytes() > 0);
        drop(executor);
        assert_eq!(pool.allocated_bytes(), 0, "{name}");
    }
}

#[test]
fn a_task_may_start_others_and_they_run_in_order() {
    on_each_driver(|runtime| async move {
        let order = Rc::new(RefCell::new(Vec::new()));
        for outer in 0..3 {
            let (order, spawner) = (Rc::clone(&order), runtime.clone());
            runtime.spawn("outer", TaskQueue::Foreground, async move {
                order.borrow_mut().push(outer * 10);
                spawner.spawn("inner", TaskQueue::Foreground, async move {
                    order.borrow_mut().push(outer * 10 + 1);
                });
            });
        }
        turns(&runtime).await;
        assert_eq!(*order.borrow(), [0, 10, 20, 1, 11, 21]);
    });
}
