//! Messages between shards, and the way in from outside.

use std::time::Duration;

use runtime::{Runtime, ShardIndex, TaskQueue};

use crate::harness::{on_each_mesh, turns};

async fn receive<T: 'static>(runtime: &Runtime) -> (Option<ShardIndex>, T) {
    let (from, message) = runtime.receive().await;
    (from, *message.downcast::<T>().unwrap())
}

#[test]
fn messages_of_each_pair_come_in_order() {
    const COUNT: u64 = 5_000;
    const ALL_CAME: u64 = u64::MAX;
    on_each_mesh(
        3,
        |runtime| async move {
            let here = runtime.shard();
            for to in (0..3).map(ShardIndex) {
                let runtime_of_task = runtime.clone();
                runtime.spawn("sender", TaskQueue::Foreground, async move {
                    for number in 0..COUNT {
                        runtime_of_task.send(to, Box::new(number)).await;
                    }
                });
            }
            let (mut next, mut all_came) = ([0; 3], 0);
            while all_came < 3 {
                let (from, number) = receive::<u64>(&runtime).await;
                if number == ALL_CAME {
                    all_came += 1;
                    continue;
                }
                let from = usize::from(from.unwrap().0);
                assert_eq!(number, next[from], "from {from} to {here:?}");
                next[from] += 1;
                if next == [COUNT; 3] {
                    // A shard that ends takes what it has not sent with it.
                    for to in (0..3).map(ShardIndex) {
                        runtime.send(to, Box::new(ALL_CAME)).await;
                    }
                }
            }
            turns(&runtime).await;
        },
        |_| {},
    );
}

/// The second shard does nothing until it is told to, so its ring fills up.
#[test]
fn a_sender_waits_while_the_other_shard_is_busy() {
    use std::sync::atomic::{AtomicU8, Ordering};
    static STEP: AtomicU8 = AtomicU8::new(FREE);
    const FREE: u8 = 0;
    const HELD: u8 = 1;
    const COUNT: u64 = 20_000;
    on_each_mesh(
        2,
        |runtime| async move {
            if runtime.shard() == ShardIndex(1) {
                // Holds its thread, as a long computation would.
                STEP.store(HELD, Ordering::Release);
                while STEP.load(Ordering::Acquire) == HELD {
                    std::thread::yield_now();
                }
                for expected in 0..COUNT {
                    assert_eq!(receive::<u64>(&runtime).await, (Some(ShardIndex(0)), expected));
                }
                runtime.send(ShardIndex(0), Box::new(())).await;
                return;
            }
            while STEP.load(Ordering::Acquire) != HELD {
                std::thread::yield_now();
            }
            let sent = std::rc::Rc::new(std::cell::Cell::new(0));
            let (runtime_of_task, sent_of_task) = (runtime.clone(), sent.clone());
            runtime.spawn("sender", TaskQueue::Foreground, async move {
                for number in 0..COUNT {
                    runtime_of_task.send(ShardIndex(1), Box::new(number)).await;
                    sent_of_task.set(number + 1);
                }
            });
            let mut before = u64::MAX;
            while sent.get() != before {
                before = sent.get();
                runtime.sleep(Duration::from_millis(10)).await;
            }
            assert!((1_000..10_000).contains(&before), "{before} messages are in flight");
            let used = thread_time();
            runtime.sleep(Duration::from_millis(100)).await;
            let used = thread_time() - used;
            assert!(used < Duration::from_millis(60), "{used:?} of 100 ms to wait for room");
            STEP.store(FREE, Ordering::Release);
            receive::<()>(&runtime).await;
        },
        |_| {},
    );
}

/// Ping-pong: each message finds the other shard asleep, or about to be.
#[test]
fn a_sleeping_shard_is_woken_by_every_message() {
    on_each_mesh(
        2,
        |runtime| async move {
            let there = ShardIndex(1 - runtime.shard().0);
            for round in 0..3_000u32 {
                if runtime.shard().0 == 0 {
                    runtime.send(there, Box::new(round)).await;
                }
                assert_eq!(receive::<u32>(&runtime).await, (Some(there), round));
                if runtime.shard().0 == 1 {
                    runtime.send(there, Box::new(round)).await;
                }
            }
            turns(&runtime).await;
        },
        |_| {},
    );
}

#[test]
fn a_message_from_outside_wakes_a_sleeping_shard() {
    on_each_mesh(
        2,
        |runtime| async move {
            for number in 0..50u64 {
                assert_eq!(receive::<u64>(&runtime).await, (None, number));
            }
        },
        |injector| {
            for number in 0..50u64 {
                std::thread::sleep(Duration::from_micros(300));
                for shard in 0..2 {
                    injector.inject(ShardIndex(shard), Box::new(number));
                }
            }
        },
    );
}

#[test]
fn an_idle_shard_uses_no_processor_time() {
    on_each_mesh(
        2,
        |runtime| async move {
            // Everything that could keep a driver busy: a file, sockets, messages, timers.
            let directory = tempfile::tempdir().unwrap();
            runtime.replace_file(&directory.path().join("f"), vec![1]).await.unwrap();
            let (one, other) = crate::sockets::pair(&runtime).await;
            crate::sockets::send(&one, b"text").await;
            crate::sockets::receive_exact(&runtime, &other, 4).await;
            runtime.send(ShardIndex(1 - runtime.shard().0), Box::new(1u8)).await;
            receive::<u8>(&runtime).await;
            let idle = runtime.deadline(runtime.now() + Duration::from_millis(200), async {
                let _ = other.receive(100).await;
            });
            let before = thread_time();
            assert!(idle.await.is_err());
            let used = thread_time() - before;
            assert!(used < Duration::from_millis(5), "{used:?} of 200 ms");
        },
        |_| {},
    );
}

/// Processor time of the calling thread.
fn thread_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}
