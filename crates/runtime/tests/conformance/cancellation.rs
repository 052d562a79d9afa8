//! Futures that are dropped while their operation is in flight.

use std::time::Duration;

use runtime::{BufferPool, OpenOptions, Stream, TaskQueue, Wait};

use crate::{
    harness::{drivers, executor, on_each_driver, run, start_and_drop, turns},
    sockets::{listener, pair, receive_exact, send},
};

#[test]
fn a_dropped_receive_leaves_the_bytes_to_the_next() {
    on_each_driver(|runtime| async move {
        let (one, other) = pair(&runtime).await;
        for _ in 0..200 {
            start_and_drop(other.receive(64 << 10)).await;
            turns(&runtime).await;
            send(&one, b"text").await;
            assert_eq!(receive_exact(&runtime, &other, 4).await, b"text");
        }
    });
}

#[test]
fn a_dropped_receive_is_followed_by_another_at_once() {
    on_each_driver(|runtime| async move {
        let (one, other) = pair(&runtime).await;
        for _ in 0..200 {
            let buffer = runtime.pool().take(100);
            let now = runtime.now();
            let waited = runtime.deadline(now, other.receive_exact(buffer, 0, 100)).await;
            assert!(waited.is_err());
        }
        send(&one, b"text").await;
        assert_eq!(other.receive(10).await.unwrap()[..], *b"text");
    });
}

#[test]
fn dropped_operations_give_their_memory_back() {
    for (name, open) in drivers() {
        let pool = BufferPool::new(0);
        let mut executor = executor(open, pool.clone());
        run(&mut executor, |runtime| async move {
            let (_one, other) = pair(&runtime).await;
            start_and_drop(other.receive(64 << 10)).await;
            turns(&runtime).await;
            let before = runtime.pool().allocated_bytes();
            for _ in 0..100 {
                let buffer = runtime.pool().take(100_000);
                start_and_drop(other.receive_exact(buffer, 0, 100_000)).await;
                start_and_drop(other.receive(64 << 10)).await;
                turns(&runtime).await;
                assert_eq!(runtime.pool().allocated_bytes(), before);
            }
        });
        let deadline = executor.runtime().now() + Duration::from_secs(10);
        while executor.operations_in_flight() > 0 {
            assert!(executor.runtime().now() < deadline, "{name}: an operation does not end");
            executor.turn(Wait::Until(deadline));
        }
    }
}

#[test]
fn a_dropped_accept_leaves_the_connection_to_the_next() {
    on_each_driver(|runtime| async move {
        let listener = listener(&runtime).await;
        for _ in 0..20 {
            start_and_drop(listener.accept()).await;
            turns(&runtime).await;
            let client = Stream::connect(&runtime, listener.address()).await.unwrap();
            let server = listener.accept().await.unwrap();
            assert_eq!(client.local(), server.peer());
        }
    });
}

#[test]
fn a_connection_made_for_nobody_is_closed() {
    on_each_driver(|runtime| async move {
        let listener = listener(&runtime).await;
        start_and_drop(Stream::connect(&runtime, listener.address())).await;
        // It may have been made before the cancellation came.
        let now = runtime.now();
        let accepted = runtime.deadline(now + Duration::from_millis(50), listener.accept()).await;
        if let Ok(server) = accepted {
            match server.unwrap().receive(10).await {
                Ok(received) => assert!(received.is_empty()),
                Err(error) => assert_eq!(error, runtime::Errno::CONNECTION_RESET),
            }
        }
    });
}

#[test]
fn a_closed_connection_ends_what_was_in_flight() {
    on_each_driver(|runtime| async move {
        for _ in 0..100 {
            let (one, other) = pair(&runtime).await;
            start_and_drop(other.receive(100)).await;
            drop(other);
            assert!(one.receive(1).await.unwrap().is_empty());
        }
    });
}

/// With a pool that keeps nothing, what is allocated is what is in use.
#[test]
fn a_dropped_executor_gives_all_memory_back() {
    for (name, open) in drivers() {
        let pool = BufferPool::new(0);
        let mut executor = executor(open, pool.clone());
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = directory.path().join("f");
        run(&mut executor, move |runtime| async move {
            let file = runtime::File::open(&runtime, path, OpenOptions::REPLACE).await.unwrap();
            let (one, other) = pair(&runtime).await;
            let (full, silent) = pair(&runtime).await;
            let listener = listener(&runtime).await;
            let pool = runtime.pool();
            runtime.spawn("accept", TaskQueue::Foreground, async move {
                listener.accept().await.unwrap();
            });
            let buffer = pool.take(100_000);
            runtime.spawn("receive", TaskQueue::Foreground, async move {
                other.receive_exact(buffer, 0, 100_000).await.unwrap();
                drop(one);
            });
            let mut content = pool.take(20 << 20);
            content.set_length(20 << 20);
            let content = content.freeze();
            let of_file = content.slice(..1 << 20);
            runtime.spawn("write", TaskQueue::Foreground, async move {
                loop {
                    file.write(0, vec![of_file.clone()]).await.unwrap();
                }
            });
            runtime.spawn("send", TaskQueue::Foreground, async move {
                full.send_all(vec![content]).await.unwrap();
                drop(silent);
            });
            turns(&runtime).await;
        });
        assert!(executor.operations_in_flight() >= 3, "{name}");
        drop(executor);
        assert_eq!(pool.allocated_bytes(), 0, "{name}");
    }
}

#[test]
fn a_file_opened_for_nobody_is_closed() {
    on_each_driver(|runtime| async move {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let path = directory.path().join("f");
        std::fs::write(&path, "").unwrap();
        for _ in 0..100 {
            start_and_drop(runtime::File::open(&runtime, path.clone(), OpenOptions::READ)).await;
        }
        turns(&runtime).await;
        // What is closed last is waited for.
        let file = runtime::File::open(&runtime, path.clone(), OpenOptions::READ).await.unwrap();
        file.close().await;
        turns(&runtime).await;
        let open = std::fs::read_dir("/proc/self/fd").unwrap().filter(|entry| {
            let target = std::fs::read_link(entry.as_ref().unwrap().path());
            target.is_ok_and(|target| target == path)
        });
        assert_eq!(open.count(), 0);
    });
}
