//! Clients that do not go on: that never read, stop within a frame, or say nothing.

use std::time::Duration;

use tests::{
    broker_process::{BrokerProcess, PATIENCE},
    raw_client::{RawClient, Received, batch, fetch_request, framed},
};
use wire::api_versions_request::ApiVersionsRequest;

use super::{DRIVERS, MIB};

/// How long a socket that takes nothing is given.
const STUCK: Duration = Duration::from_millis(500);
/// What a client that never reads may cost.
const GROWTH_MAX: u64 = 96 * MIB;

/// Has a topic with enough to fill the buffers of a socket with a few answers.
fn fill(client: &mut RawClient) {
    client.create_topic("large");
    for offset in 0..4 {
        assert_eq!(client.produce("large", &batch(&[&vec![7; 900_000]])), (0, offset));
    }
}

/// Asks for more than a socket's buffers hold and reads nothing of it.
fn stuck(broker: &BrokerProcess) -> RawClient {
    let mut client = RawClient::connect(broker.address());
    client.send(&framed(12, &fetch_request("large", 0)).repeat(20)).unwrap();
    client
}

#[test]
fn a_client_that_pipelines_and_never_reads_costs_little_and_leaves_nothing() {
    for driver in DRIVERS {
        let mut broker = BrokerProcess::start(driver, &[]);
        let mut good = RawClient::connect(broker.address());
        fill(&mut good);
        let (before, sockets) = (broker.resident_bytes(), broker.socket_count());
        let small = framed(0, &ApiVersionsRequest::default());
        let mut padded = small.clone();
        padded.resize(4 << 20, 0);
        let size = u32::try_from(padded.len() - 4).unwrap();
        padded[..4].copy_from_slice(&size.to_be_bytes());
        for requests in [small.repeat(2_000_000), padded.repeat(40)] {
            let mut bad = stuck(&broker);
            let sent = bad.send_until_full(&requests, STUCK);
            assert!(sent < requests.len(), "{driver}: all of {sent} bytes were taken");
            good.ping();
            let growth = broker.resident_bytes().saturating_sub(before);
            println!("{driver}: {} KiB of requests taken, {} KiB more", sent >> 10, growth >> 10);
            assert!(growth < GROWTH_MAX, "{driver}: {growth} bytes more");
            drop(bad);
            broker.wait_for_sockets(sockets);
        }
        good.ping();
        broker.check_sound();
    }
}

#[test]
fn connections_that_do_not_go_on_are_closed_as_idle() {
    for driver in DRIVERS {
        let mut broker = BrokerProcess::start(driver, &["connections.max.idle.ms=1000"]);
        let sockets = broker.socket_count();
        fill(&mut RawClient::connect(broker.address()));
        let request = framed(0, &ApiVersionsRequest::default());
        let starts: [&[u8]; 5] = [
            b"",
            &request[..2],
            &request[..4],
            &request[..request.len() - 1],
            b"\x05\0\0\0\0\0\0\x03",
        ];
        let mut idle = Vec::new();
        for start in starts {
            let mut client = RawClient::connect(broker.address());
            client.ping();
            client.send(start).unwrap();
            idle.push(client);
        }
        for client in &mut idle {
            assert_eq!(client.receive(PATIENCE), Received::Closed, "{driver}");
        }
        // These take none of their answers: one has few requests in flight, one too many.
        let few = stuck(&broker);
        let mut many = stuck(&broker);
        many.send(&request.repeat(1000)).unwrap();
        broker.wait_for_sockets(sockets);
        drop((few, many));
        RawClient::connect(broker.address()).ping();
        broker.check_sound();
    }
}
