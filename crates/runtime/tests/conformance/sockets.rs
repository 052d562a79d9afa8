//! TCP listeners and connections.

use std::time::Duration;

use bytes::Bytes;
use runtime::{Errno, Listener, Runtime, SocketHandle, Stream, TaskQueue};

use crate::harness::{both, on_each_driver, on_each_mesh, pattern, start_and_drop, turns};

pub async fn listener(runtime: &Runtime) -> Listener {
    Listener::bind(runtime, "127.0.0.1:0".parse().unwrap()).await.unwrap()
}

/// Both ends of a connection.
pub async fn pair(runtime: &Runtime) -> (Stream, Stream) {
    let listener = listener(runtime).await;
    let (one, other) = both(Stream::connect(runtime, listener.address()), listener.accept()).await;
    (one.unwrap(), other.unwrap())
}

pub async fn send(stream: &Stream, content: &[u8]) {
    stream.send_all(vec![Bytes::copy_from_slice(content)]).await.unwrap();
}

pub async fn receive_exact(runtime: &Runtime, stream: &Stream, length: usize) -> Vec<u8> {
    stream.receive_exact(runtime.pool().take(length), 0, length).await.unwrap().to_vec()
}

#[test]
fn what_one_end_sends_the_other_receives() {
    on_each_driver(|runtime| async move {
        let (one, other) = pair(&runtime).await;
        for length in [1, 100, 4096, 20_000, 3_000_000] {
            let content = Bytes::from(pattern(1, length));
            let parts = vec![
                content.slice(..length / 3),
                Bytes::new(),
                content.slice(length / 3..length / 2),
                content.slice(length / 2..),
            ];
            let (sent, received) =
                both(one.send_all(parts), receive_exact(&runtime, &other, length)).await;
            sent.unwrap();
            assert!(received == content, "{length} bytes");
        }
        assert_eq!(one.local(), other.peer());
        assert_eq!(one.peer(), other.local());
    });
}

#[test]
fn both_ends_send_and_receive_at_once() {
    on_each_driver(|runtime| async move {
        let (one, other) = pair(&runtime).await;
        let length = 5_000_000;
        let (to, from) = (Bytes::from(pattern(1, length)), Bytes::from(pattern(2, length)));
        let sends = both(one.send_all(vec![to.clone()]), other.send_all(vec![from.clone()]));
        let receives =
            both(receive_exact(&runtime, &one, length), receive_exact(&runtime, &other, length));
        let ((first, second), (got_from, got_to)) = both(sends, receives).await;
        assert_eq!((first, second), (Ok(()), Ok(())));
        assert!(got_from == from && got_to == to);
    });
}

#[test]
fn a_send_of_many_slices_arrives_whole() {
    on_each_driver(|runtime| async move {
        let (one, other) = pair(&runtime).await;
        let content = Bytes::from(pattern(1, 30_000));
        let slices = (0..3000).map(|index| content.slice(index * 10..index * 10 + 10)).collect();
        let (sent, received) =
            both(one.send_all(slices), receive_exact(&runtime, &other, 30_000)).await;
        sent.unwrap();
        assert!(received == content);
    });
}

#[test]
fn a_receive_gives_what_is_there_and_no_more_than_asked() {
    on_each_driver(|runtime| async move {
        let (one, other) = pair(&runtime).await;
        send(&one, b"hello").await;
        assert_eq!(other.receive(2).await.unwrap()[..], *b"he");
        assert_eq!(other.receive(64 << 10).await.unwrap()[..], *b"llo");
        let large = pattern(1, 200_000);
        let receive_all = async {
            let mut got = Vec::new();
            while got.len() < large.len() {
                let part = other.receive(30_000).await.unwrap();
                assert!(!part.is_empty() && part.len() <= 30_000);
                got.extend_from_slice(&part);
            }
            got
        };
        let ((), got) = both(send(&one, &large), receive_all).await;
        assert!(got == large);
    });
}

#[test]
fn an_exact_receive_waits_for_the_last_fragment() {
    on_each_driver(|runtime| async move {
        let (one, other) = pair(&runtime).await;
        let content = pattern(3, 10_000);
        let send_slowly = async {
            for fragment in content.chunks(777) {
                send(&one, fragment).await;
                runtime.sleep(Duration::from_micros(200)).await;
            }
        };
        let mut buffer = runtime.pool().take(10_100);
        buffer.append(&[9; 100]);
        let ((), got) = both(send_slowly, other.receive_exact(buffer, 100, 10_100)).await;
        let got = got.unwrap();
        assert_eq!(got[..100], [9; 100]);
        assert_eq!(got[100..], content);
    });
}

#[test]
fn the_end_of_the_stream_is_an_empty_receive_and_a_short_exact_one() {
    on_each_driver(|runtime| async move {
        let (one, other) = pair(&runtime).await;
        send(&one, b"abc").await;
        drop(one);
        let got = other.receive_exact(runtime.pool().take(10), 2, 10).await.unwrap();
        assert_eq!(got.len(), 5);
        assert_eq!(got[2..], *b"abc");
        assert!(other.receive(10).await.unwrap().is_empty());
        assert_eq!(other.receive_exact(got, 5, 6).await.unwrap().len(), 5);
    });
}

#[test]
fn a_shutdown_ends_the_receives_of_both_ends() {
    on_each_driver(|runtime| async move {
        let (one, other) = pair(&runtime).await;
        let shut_down = async {
            turns(&runtime).await;
            one.shutdown();
        };
        let (((), own), peers) = both(
            both(shut_down, one.receive(10)),
            other.receive_exact(runtime.pool().take(9), 0, 9),
        )
        .await;
        assert!(own.unwrap().is_empty());
        assert!(peers.unwrap().is_empty());
        assert!(one.send_all(vec![Bytes::from_static(b"late")]).await.is_err());
    });
}

#[test]
fn a_send_to_a_closed_connection_fails() {
    on_each_driver(|runtime| async move {
        let (one, other) = pair(&runtime).await;
        drop(other);
        let send_until_refused = async {
            loop {
                let sent = one.send_all(vec![Bytes::from_static(b"anybody?")]).await;
                if let Err(error) = sent {
                    return error;
                }
            }
        };
        let error = send_until_refused.await;
        let broken_pipe = Errno(32);
        assert!([Errno::CONNECTION_RESET, broken_pipe].contains(&error), "{error}");
    });
}

#[test]
fn a_send_that_has_to_wait_goes_on_when_there_is_room() {
    on_each_driver(|runtime| async move {
        let (one, other) = pair(&runtime).await;
        let length = 20_000_000;
        let content = Bytes::from(pattern(4, length));
        let receive_late = async {
            runtime.sleep(Duration::from_millis(20)).await;
            receive_exact(&runtime, &other, length).await
        };
        let (sent, received) = both(one.send_all(vec![content.clone()]), receive_late).await;
        sent.unwrap();
        assert!(received == content);
    });
}

#[test]
fn nobody_there_refuses_the_connection() {
    on_each_driver(|runtime| async move {
        // The port of a connection: nobody else gets it, and nobody listens on it.
        let (one, _other) = pair(&runtime).await;
        let connected = Stream::connect(&runtime, one.local()).await;
        assert_eq!(connected.err(), Some(Errno::CONNECTION_REFUSED));
    });
}

#[test]
fn a_port_in_use_is_refused() {
    on_each_driver(|runtime| async move {
        let first = listener(&runtime).await;
        assert_ne!(first.address().port(), 0);
        let second = Listener::bind(&runtime, first.address()).await;
        assert_eq!(second.err(), Some(Errno::ADDRESS_IN_USE));
    });
}

#[test]
fn a_port_is_free_again_beside_old_connections() {
    on_each_driver(|runtime| async move {
        let first = listener(&runtime).await;
        let address = first.address();
        let (client, server) = both(Stream::connect(&runtime, address), first.accept()).await;
        // The end that closes first keeps the port in TIME_WAIT.
        drop((server.unwrap(), first));
        turns(&runtime).await;
        drop(client.unwrap());
        turns(&runtime).await;
        assert_eq!(Listener::bind(&runtime, address).await.unwrap().address(), address);
    });
}

#[test]
fn both_families_of_addresses_work() {
    on_each_driver(|runtime| async move {
        let listener = match Listener::bind(&runtime, "[::1]:0".parse().unwrap()).await {
            Ok(listener) => listener,
            // A machine without IPv6.
            Err(Errno(97 | 99)) => return,
            Err(error) => panic!("{error}"),
        };
        let connect = Stream::connect(&runtime, listener.address());
        let (one, other) = both(connect, listener.accept()).await;
        let (one, other) = (one.unwrap(), other.unwrap());
        assert!(one.local().is_ipv6());
        assert_eq!(one.local(), other.peer());
        send(&one, b"six").await;
        assert_eq!(receive_exact(&runtime, &other, 3).await, b"six");
    });
}

#[test]
fn many_connections_are_served_together() {
    on_each_driver(|runtime| async move {
        let listener = listener(&runtime).await;
        let address = listener.address();
        let server = runtime.clone();
        runtime.spawn("listener", TaskQueue::Foreground, async move {
            loop {
                let stream = listener.accept().await.unwrap();
                server.spawn("echo", TaskQueue::Foreground, async move {
                    loop {
                        let received = stream.receive(64 << 10).await.unwrap();
                        if received.is_empty() {
                            return;
                        }
                        stream.send_all(vec![received.freeze()]).await.unwrap();
                    }
                });
            }
        });
        let mut clients = Vec::new();
        for _ in 0..200 {
            clients.push(Stream::connect(&runtime, address).await.unwrap());
        }
        for round in 0..5 {
            for client in &clients {
                send(client, &pattern(round, 300)).await;
            }
            for client in &clients {
                assert_eq!(receive_exact(&runtime, client, 300).await, pattern(round, 300));
            }
        }
    });
}

#[test]
fn idle_connections_pin_no_memory() {
    on_each_driver(|runtime| async move {
        let mut pairs = Vec::new();
        for _ in 0..100 {
            pairs.push(pair(&runtime).await);
        }
        let (waiting, all_waiting) = runtime::local::oneshot();
        let mut waiting = Some(waiting);
        let before = runtime.pool().allocated_bytes();
        for (index, (one, other)) in pairs.into_iter().enumerate() {
            let waiting = waiting.take_if(|_| index == 99);
            runtime.spawn("idle", TaskQueue::Foreground, async move {
                let receive = other.receive(64 << 10);
                if let Some(waiting) = waiting {
                    waiting.send(());
                }
                receive.await.unwrap();
                drop(one);
            });
        }
        all_waiting.receive().await.unwrap();
        turns(&runtime).await;
        let pinned = runtime.pool().allocated_bytes() - before;
        let one = runtime.pool().take(64 << 10).capacity();
        assert!(pinned <= one, "{pinned} bytes for 100 idle connections");
    });
}

/// The last round's connection is used on both shards before it moves, and the next one may get
/// its number.
#[test]
fn a_connection_goes_on_on_another_shard() {
    on_each_mesh(
        2,
        |runtime| async move {
            let (here, there) = (runtime.shard(), runtime::ShardIndex(1 - runtime.shard().0));
            for round in 0..50u8 {
                if here.0 == 0 {
                    let (one, other) = pair(&runtime).await;
                    start_and_drop(other.receive(10)).await;
                    turns(&runtime).await;
                    send(&one, b"first").await;
                    assert_eq!(receive_exact(&runtime, &other, 5).await, b"first");
                    runtime.send(there, Box::new(other.detach())).await;
                    send(&one, &pattern(round, 1000)).await;
                    assert_eq!(receive_exact(&runtime, &one, 1000).await, pattern(round, 1000));
                    assert!(one.receive(1).await.unwrap().is_empty());
                } else {
                    let (_, handle) = runtime.receive().await;
                    let handle = *handle.downcast::<SocketHandle>().unwrap();
                    let stream = Stream::attach(&runtime, handle);
                    let got = receive_exact(&runtime, &stream, 1000).await;
                    send(&stream, &got).await;
                }
            }
        },
        |_| {},
    );
}
