//! Idle connections, storms of them, their limits, and those that go on too slowly.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use tests::{
    broker_process::{BrokerProcess, Launch, PATIENCE},
    raw_client::{RawClient, Received, batch, decoded, fetch_request, framed},
};
use wire::{
    api_versions_request::ApiVersionsRequest,
    incremental_alter_configs_request::{
        AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
    },
    incremental_alter_configs_response::IncrementalAlterConfigsResponse,
};

use super::{DRIVERS, scaled};

/// What an idle connection may cost.
const BYTES_A_CONNECTION_MAX: u64 = 16 << 10;
/// Handles of this process that are no idle connections.
const OTHER_HANDLES: usize = 200;
/// Raised for the broker where that is allowed: it keeps half of its handles for files.
const HANDLES: &str = "{ ulimit -n 40000 2>/dev/null || true; }";

/// As many as this process may have, up to `wanted`.
fn connection_count(wanted: usize) -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let soft = line.split_whitespace().nth(3).unwrap();
    soft.parse().map_or(wanted, |soft: usize| wanted.min(soft.saturating_sub(OTHER_HANDLES)))
}

/// How long a produce takes: the median and the 99th of a hundred, of 300.
fn latencies(client: &mut RawClient, next: &mut i64) -> (Duration, Duration) {
    let mut all: Vec<Duration> = (0..300)
        .map(|_| {
            let began = Instant::now();
            assert_eq!(client.produce("good", &batch(&[b"value"])), (0, *next));
            *next += 1;
            began.elapsed()
        })
        .collect();
    all.sort_unstable();
    (all[150], all[297])
}

#[test]
fn idle_connections_and_a_storm_of_them_cost_little() {
    for driver in DRIVERS {
        let launch = Launch { driver, limit: Some(HANDLES), ..Launch::default() };
        let mut broker = BrokerProcess::launch(&launch);
        let mut good = RawClient::connect(broker.address());
        good.create_topic("good");
        let mut next = 0;
        let alone = latencies(&mut good, &mut next);
        let (before, sockets) = (broker.resident_bytes(), broker.socket_count());
        let count = connection_count(scaled(2_000).min(10_000));
        let mut idle = Vec::with_capacity(count);
        for _ in 0..count {
            let mut client = RawClient::connect(broker.address());
            client.ping();
            idle.push(client);
        }
        let grown = broker.resident_bytes().saturating_sub(before);
        let each = grown / u64::try_from(count).unwrap();
        let beside_idle = latencies(&mut good, &mut next);
        println!(
            "{driver}: {count} idle connections of {each} bytes; produce p50 and p99 {alone:.1?} alone, {beside_idle:.1?} beside them"
        );
        assert!(each <= BYTES_A_CONNECTION_MAX, "{driver}: {each} bytes a connection");
        assert!(beside_idle.0 <= 2 * alone.0 + Duration::from_millis(5), "{driver}");
        drop(idle);
        broker.wait_for_sockets(sockets);
        // A storm: they come, say one thing and are gone.
        let address = broker.address();
        let storm = thread::spawn(move || {
            let (began, mut stormed) = (Instant::now(), 0);
            while began.elapsed() < Duration::from_secs(1) {
                let mut client = RawClient::connect(address);
                client.send(&framed(0, &ApiVersionsRequest::default())).unwrap();
                stormed += 1;
            }
            stormed
        });
        let beside_storm = latencies(&mut good, &mut next);
        let stormed: u64 = storm.join().unwrap();
        println!(
            "{driver}: {stormed} connections in a second; produce p50 and p99 {beside_storm:.1?} beside them"
        );
        broker.wait_for_sockets(sockets);
        let grown = broker.resident_bytes().saturating_sub(before);
        assert!(grown < u64::try_from(count).unwrap() * BYTES_A_CONNECTION_MAX, "{driver}");
        broker.check_sound();
    }
}

/// Another's address or too late: nothing comes.
const SOON: Duration = Duration::from_millis(300);

fn alter(client: &mut RawClient, name: &str, value: &str) {
    let config = AlterableConfig { name, value: Some(value), ..Default::default() };
    // All brokers.
    let resource =
        AlterConfigsResource { resource_type: 4, resource_name: "", configs: vec![config] };
    let request =
        IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    let answer = client.ask(1, &request);
    let response: IncrementalAlterConfigsResponse<'_> =
        decoded::<IncrementalAlterConfigsRequest<'_>, _>(&answer, 1);
    assert_eq!(response.responses[0].error_code, 0, "{:?}", response.responses[0].error_message);
}

fn pinging(broker: &BrokerProcess) -> RawClient {
    let mut client = RawClient::connect(broker.address());
    // The broker may have closed it already.
    let _sent = client.send(&framed(0, &ApiVersionsRequest::default()));
    client
}

fn is_served(client: &mut RawClient) -> bool {
    matches!(client.receive(PATIENCE), Received::Frame(_))
}

#[test]
fn connections_beyond_the_limits_wait_or_are_closed() {
    for driver in DRIVERS {
        let mut broker = BrokerProcess::start(driver, &["max.connections=3"]);
        let mut served: Vec<RawClient> = (0..3).map(|_| pinging(&broker)).collect();
        assert!(served.iter_mut().all(is_served), "{driver}");
        let mut waiting = pinging(&broker);
        assert_eq!(waiting.receive(SOON), Received::Silence, "{driver}");
        served.pop();
        assert!(is_served(&mut waiting), "{driver}");
        let mut waiting_too = pinging(&broker);
        assert_eq!(waiting_too.receive(SOON), Received::Silence, "{driver}");
        alter(&mut served[0], "max.connections", "100");
        assert!(is_served(&mut waiting_too), "{driver}");
        // One address has four connections by now; further ones are closed at once.
        alter(&mut served[0], "max.connections.per.ip", "5");
        assert!(is_served(&mut pinging(&broker)), "{driver}");
        let mut fifth = loop {
            // The one before may not have ended for the broker.
            let mut client = pinging(&broker);
            if is_served(&mut client) {
                break client;
            }
        };
        assert_eq!(pinging(&broker).receive(PATIENCE), Received::Closed, "{driver}");
        alter(&mut fifth, "max.connections.per.ip.overrides", "127.0.0.1:6,10.0.0.1:0");
        let mut sixth = pinging(&broker);
        assert!(is_served(&mut sixth), "{driver}");
        assert_eq!(pinging(&broker).receive(PATIENCE), Received::Closed, "{driver}");
        fifth.ping();
        broker.check_sound();
    }
}

#[test]
fn connections_come_at_their_rate() {
    for driver in DRIVERS {
        let mut broker = BrokerProcess::start(driver, &["max.connection.creation.rate=50"]);
        let began = Instant::now();
        let mut clients: Vec<RawClient> = (0..150).map(|_| pinging(&broker)).collect();
        assert!(clients.iter_mut().all(is_served), "{driver}");
        let took = began.elapsed();
        println!("{driver}: 150 connections at 50 a second, of which 50 at once, in {took:.2?}");
        assert!(took > Duration::from_millis(1900), "{driver}: {took:?}");
        broker.check_sound();
    }
}

#[test]
fn clients_that_trickle_are_closed_when_a_request_takes_too_long() {
    let idle = Duration::from_millis(1000);
    for driver in DRIVERS {
        let mut broker = BrokerProcess::start(driver, &["connections.max.idle.ms=1000"]);
        let sockets = broker.socket_count();
        let mut good = RawClient::connect(broker.address());
        good.create_topic("large");
        for offset in 0..8 {
            assert_eq!(good.produce("large", &batch(&[&vec![7; 900_000]])), (0, offset));
        }
        drop(good);
        let request = framed(0, &ApiVersionsRequest::default());
        let address = broker.address();
        // A byte of a request now and then, or nothing but a byte of the answers taken.
        let writer = thread::spawn(move || {
            let mut client = RawClient::connect(address);
            let began = Instant::now();
            for byte in request.iter().cycle().take(10_000) {
                let is_closed = client.receive(Duration::from_millis(100)) == Received::Closed;
                if is_closed || client.send(&[*byte]).is_err() {
                    break;
                }
            }
            began.elapsed()
        });
        let mut reader = RawClient::connect(address);
        reader.send(&framed(12, &fetch_request("large", 0)).repeat(30)).unwrap();
        let began = Instant::now();
        broker.wait_for_sockets(sockets);
        let took = began.elapsed().max(writer.join().unwrap());
        println!("{driver}: gone after {took:.2?} of {idle:?}");
        assert!(took < 10 * idle, "{driver}: {took:?}");
        drop(reader);
        broker.check_sound();
    }
}
