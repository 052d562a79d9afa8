//! A start after kill -9 on a long log: how long until the first record is served, and until the
//! first produce is acknowledged.

use std::{
    thread,
    time::{Duration, Instant},
};

use tests::{
    broker_process::{BrokerProcess, End},
    raw_client::{RawClient, Received, batch, fetch_request, framed, produce_request},
};

use crate::DRIVERS;

/// Without `ODRADEK_LOG_BYTES`, which gives the sizes of the figures: enough for several windows of
/// what may lie above a durable mark.
const LOG_BYTES: usize = 256 << 20;
const BATCH_BYTES: usize = 512 << 10;
const IN_FLIGHT: usize = 4;
const TOPICS: [&str; 4] = ["long-0", "long-1", "long-2", "long-3"];
/// Far more than what is promised: other tests, and others' disks, run beside this one.
const BOUND: Duration = Duration::from_secs(30);

fn log_bytes() -> usize {
    std::env::var("ODRADEK_LOG_BYTES").map_or(LOG_BYTES, |bytes| bytes.parse().expect("a number"))
}

/// Writes a quarter of the log to one topic, then goes on until the broker is gone. Says when the
/// quarter is there, and gives how many batches were acknowledged.
fn load(address: std::net::SocketAddr, topic: &str, batches: usize, full: &dyn Fn()) -> usize {
    let values: Vec<Vec<u8>> = (0..BATCH_BYTES / 1024).map(|_| vec![b'x'; 1000]).collect();
    let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
    let request = framed(9, &produce_request(topic, Some(&batch(&values))));
    let mut client = RawClient::connect(address);
    for _ in 0..IN_FLIGHT {
        client.send(&request).expect("the broker listens");
    }
    for acknowledged in 0.. {
        if acknowledged == batches {
            full();
        }
        match client.receive(BOUND) {
            Received::Frame(_) if client.send(&request).is_ok() => {}
            Received::Frame(_) | Received::Closed | Received::Silence => return acknowledged,
        }
    }
    unreachable!("the broker is killed before")
}

#[test]
fn a_long_log_is_served_at_once_after_kill_nine() {
    let batches = log_bytes() / TOPICS.len() / BATCH_BYTES;
    for driver in DRIVERS {
        let mut broker = BrokerProcess::start(driver, &[]);
        let address = broker.address();
        for topic in TOPICS {
            RawClient::connect(address).create_topic(topic);
        }
        let (sender, full) = std::sync::mpsc::channel();
        let loads: Vec<_> = TOPICS
            .into_iter()
            .map(|topic| {
                let sender = sender.clone();
                let tell = move || sender.send(()).expect("somebody listens");
                thread::spawn(move || load(address, topic, batches, &tell))
            })
            .collect();
        for _ in TOPICS {
            full.recv().expect("the topics are filled");
        }
        broker.restart(End::Kill);
        let (ready, began) = (broker.started_in(), Instant::now());
        let mut client = RawClient::connect(broker.address());
        client.send(&framed(12, &fetch_request(TOPICS[0], 0))).expect("the broker listens");
        assert!(matches!(client.receive(BOUND), Received::Frame(frame) if frame.len() > 100_000));
        let first_record = ready + began.elapsed();
        let (code, base_offset) = client.produce(TOPICS[0], &batch(&[b"again"]));
        let first_ack = ready + began.elapsed();
        assert_eq!(code, 0);
        assert!(first_ack < BOUND);
        println!(
            "{driver}: {} MiB, killed under load: ready {ready:?}, first record {first_record:?}, \
             first acknowledgement {first_ack:?}",
            log_bytes() >> 20
        );
        let acknowledged: Vec<usize> =
            loads.into_iter().map(|load| load.join().expect("it ends")).collect();
        let records = i64::try_from(acknowledged[0] * (BATCH_BYTES / 1024)).expect("a count");
        assert!(base_offset >= records, "{base_offset} {records}");
        broker.check_sound();
    }
}
