//! The ring's driver carries a file, a connection and a message from end to end.

use std::time::Duration;

use runtime::{
    Access, BufferPool, Cache, Create, Executor, File, Listener, OpenOptions, Runtime, ShardIndex,
    Stream, TaskQueue, UringDriver, mesh,
};

fn executor() -> Executor {
    let (mut endpoints, _injector) = mesh(1).unwrap();
    let driver = UringDriver::new(endpoints.remove(0), BufferPool::new(8 << 20)).unwrap();
    Executor::new(ShardIndex(0), 1, Box::new(driver))
}

async fn serve_echo(runtime: Runtime, listener: Listener) {
    let stream = listener.accept().await.unwrap();
    loop {
        let buffer = stream.receive(64 << 10).await.unwrap();
        if buffer.is_empty() {
            break;
        }
        stream.send_all(vec![buffer.freeze()]).await.unwrap();
    }
    drop(runtime);
}

#[test]
fn connection_echoes_large_and_small() {
    let mut executor = executor();
    let runtime = executor.runtime();
    executor.block_on(async move {
        let listener = Listener::bind(&runtime, "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.address();
        let server = serve_echo(runtime.clone(), listener);
        runtime.spawn("echo", TaskQueue::Foreground, server);
        let stream = Stream::connect(&runtime, address).await.unwrap();
        for size in [1usize, 100, 20_000, 3_000_000] {
            let mut sent = runtime.pool().take(size);
            sent.set_length(size);
            for (index, byte) in sent.iter_mut().enumerate() {
                *byte = u8::try_from(index % 251).unwrap();
            }
            let sent = sent.freeze();
            let (sender, receiver) = runtime::local::oneshot();
            let copy = sent.clone();
            let stream_ref = &stream;
            let send = async move {
                stream_ref
                    .send_all(vec![copy.slice(..size / 2), copy.slice(size / 2..)])
                    .await
                    .unwrap();
                sender.send(());
            };
            let receive = stream.receive_exact(runtime.pool().take(size), 0, size);
            // Both at once: an echo of megabytes fills the sockets' buffers.
            let (_, got) = both(send, receive).await;
            assert_eq!(&got.unwrap()[..], &sent[..], "{size}");
            assert_eq!(receiver.receive().await, Some(()));
        }
        // A receive that nobody waits for any more gives its place back.
        let now = runtime.now();
        let waited = runtime.deadline(now + Duration::from_millis(10), stream.receive(10)).await;
        assert!(waited.is_err());
        stream.send_all(vec![bytes::Bytes::from_static(b"again")]).await.unwrap();
        let again = stream.receive_exact(runtime.pool().take(5), 0, 5).await.unwrap();
        assert_eq!(&again[..], b"again");
    });
}

async fn both<A, B>(one: impl Future<Output = A>, other: impl Future<Output = B>) -> (A, B) {
    let (mut one, mut other) = (std::pin::pin!(one), std::pin::pin!(other));
    let (mut first, mut second) = (None, None);
    std::future::poll_fn(|context| {
        if first.is_none()
            && let std::task::Poll::Ready(value) = one.as_mut().poll(context)
        {
            first = Some(value);
        }
        if second.is_none()
            && let std::task::Poll::Ready(value) = other.as_mut().poll(context)
        {
            second = Some(value);
        }
        if first.is_some() && second.is_some() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    (first.unwrap(), second.unwrap())
}

#[test]
fn direct_file_keeps_what_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("segment");
    let mut executor = executor();
    let runtime = executor.runtime();
    executor.block_on(async move {
        let options =
            OpenOptions { create: Create::New, access: Access::ReadWrite, cache: Cache::Direct };
        let file = File::open(&runtime, path.clone(), options).await.unwrap();
        file.allocate(0, 1 << 20).await.unwrap();
        let mut chunk = runtime.pool().take_append(64 << 10);
        chunk.append(&[7; 4096]);
        chunk.append(&[8; 4096]);
        let slices = vec![chunk.slice(4096..8192), chunk.slice(0..4096)];
        assert_eq!(file.write(4096, slices).await, Ok(8192));
        file.sync().await.unwrap();
        let read = file.read(4096, 8192, runtime.pool().take(8192)).await.unwrap();
        assert_eq!(&read[..4096], &[8; 4096]);
        assert_eq!(&read[4096..], &[7; 4096]);
        file.set_length(12288).await.unwrap();
        let end = file.read(8192, 8192, runtime.pool().take(8192)).await.unwrap();
        assert_eq!(end.len(), 4096);
        file.close().await;
        runtime.replace_file(&path, b"new".to_vec()).await.unwrap();
        assert_eq!(runtime.read_file(&path, 100).await.unwrap(), b"new");
    });
}

#[test]
fn shards_send_messages_in_order() {
    let (endpoints, _injector) = mesh(2).unwrap();
    let mut endpoints = endpoints.into_iter();
    let (first, second) = (endpoints.next().unwrap(), endpoints.next().unwrap());
    let other = std::thread::spawn(move || {
        let driver = UringDriver::new(second, BufferPool::new(1 << 20)).unwrap();
        let mut executor = Executor::new(ShardIndex(1), 2, Box::new(driver));
        let runtime = executor.runtime();
        executor.block_on(async move {
            for expected in 0..20_000u64 {
                let (from, message) = runtime.receive().await;
                assert_eq!(from, Some(ShardIndex(0)));
                assert_eq!(*message.downcast::<u64>().unwrap(), expected);
            }
            runtime.send(ShardIndex(0), Box::new("done")).await;
            runtime.sleep(Duration::from_millis(1)).await;
        });
    });
    let driver = UringDriver::new(first, BufferPool::new(1 << 20)).unwrap();
    let mut executor = Executor::new(ShardIndex(0), 2, Box::new(driver));
    let runtime = executor.runtime();
    executor.block_on(async move {
        for number in 0..20_000u64 {
            runtime.send(ShardIndex(1), Box::new(number)).await;
        }
        let (_, message) = runtime.receive().await;
        assert_eq!(*message.downcast::<&str>().unwrap(), "done");
    });
    other.join().unwrap();
}
