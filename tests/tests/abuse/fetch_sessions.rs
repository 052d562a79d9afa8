//! Incremental fetch sessions without end, and large ones.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use tests::{
    broker_process::{BrokerProcess, PATIENCE},
    raw_client::{RawClient, Received, decoded, framed},
};
use wire::{
    fetch_request::{FetchPartition, FetchRequest, FetchTopic},
    fetch_response::FetchResponse,
};

use super::{DRIVERS, MIB, scaled};

const SLOTS: usize = 100;
/// Partitions that take one slot.
const PARTITIONS_A_SLOT: usize = 1000;
/// What a change of a large session may take, on a busy machine.
const CHANGE_MAX: Duration = Duration::from_secs(10);

/// A full fetch that wants a session; it waits for nothing.
fn opening(partitions: usize) -> FetchRequest<'static> {
    let partitions = (0..i32::try_from(partitions).unwrap())
        .map(|partition| FetchPartition { partition, ..Default::default() })
        .collect();
    let topic = FetchTopic { topic: "nowhere", partitions, ..Default::default() };
    FetchRequest { max_bytes: 1, session_epoch: 0, topics: vec![topic], ..Default::default() }
}

/// The session that a fetch is answered with; 0 for none.
fn session_of(answer: &[u8]) -> i32 {
    let response: FetchResponse<'_> = decoded::<FetchRequest<'_>, _>(answer, 12);
    assert_eq!(response.error_code, 0);
    response.session_id
}

#[test]
fn fetch_sessions_have_a_bound_and_come_back() {
    for driver in DRIVERS {
        let setting = format!("max.incremental.fetch.session.cache.slots={SLOTS}");
        let mut broker = BrokerProcess::start(driver, &[&setting]);
        let mut client = RawClient::connect(broker.address());
        assert_ne!(session_of(&client.ask(12, &opening(1))), 0, "{driver}");
        let before = broker.resident_bytes();
        // One connection that wants another session with each fetch.
        let request = framed(12, &opening(1));
        let (count, at_once) = (scaled(20_000), 50);
        let mut sessions = BTreeSet::new();
        for _ in 0..count / at_once {
            client.send(&request.repeat(at_once)).unwrap();
            for _ in 0..at_once {
                let Received::Frame(answer) = client.receive(PATIENCE) else { panic!("no answer") };
                sessions.insert(session_of(&answer));
            }
        }
        let grown = broker.resident_bytes().saturating_sub(before);
        println!(
            "{driver}: {count} sessions asked for, {} given, {} KiB",
            sessions.len() - 1,
            grown >> 10
        );
        assert!(sessions.len() <= 5 && grown < 16 * MIB, "{driver}: {sessions:?}, {grown}");
        // Many connections: no more sessions than slots, each fetch is answered all the same.
        let mut clients: Vec<RawClient> =
            (0..SLOTS).map(|_| RawClient::connect(broker.address())).collect();
        let mut given = 0;
        for client in &mut clients {
            for _ in 0..2 {
                given += usize::from(session_of(&client.ask(12, &opening(1))) != 0);
            }
        }
        assert!((SLOTS / 2..SLOTS).contains(&given), "{driver}: {given} sessions");
        drop((client, clients));
        // They end with their connections, and their slots are free again.
        let mut later = RawClient::connect(broker.address());
        let deadline = Instant::now() + PATIENCE;
        while session_of(&later.ask(12, &opening(SLOTS / 2 * PARTITIONS_A_SLOT))) == 0 {
            assert!(Instant::now() < deadline, "{driver}: no slots for a large session");
        }
        // It has all the slots of its shard, so it cannot have another, nor a larger one.
        assert_eq!(session_of(&later.ask(12, &opening(1))), 0, "{driver}");
        broker.check_sound();
    }
}

#[test]
fn large_fetch_sessions_cost_no_more_than_their_slots() {
    for driver in DRIVERS {
        let mut broker = BrokerProcess::start(driver, &[]);
        let mut good = RawClient::connect(broker.address());
        good.ping();
        let before = broker.resident_bytes();
        // 100,000 partitions each: 1,000 slots are those of ten, whoever asks.
        let request = framed(12, &opening(100_000));
        let mut clients = Vec::new();
        let mut given = 0;
        for _ in 0..8 {
            let mut client = RawClient::connect(broker.address());
            for _ in 0..2 {
                client.send(&request).unwrap();
                let Received::Frame(answer) = client.receive(PATIENCE) else { panic!("no answer") };
                given += usize::from(session_of(&answer) != 0);
            }
            clients.push(client);
        }
        let grown = broker.resident_bytes().saturating_sub(before);
        // All partitions of a large session, named again: a product of the two takes minutes.
        let mut again = RawClient::connect(broker.address());
        drop(clients);
        let deadline = Instant::now() + PATIENCE;
        let session = loop {
            let session = session_of(&again.ask(12, &opening(100_000)));
            if session != 0 {
                break session;
            }
            assert!(Instant::now() < deadline, "{driver}: no slots");
        };
        let mut change = opening(100_000);
        (change.session_id, change.session_epoch) = (session, 1);
        let began = Instant::now();
        assert_eq!(session_of(&again.ask(12, &change)), session, "{driver}");
        println!("{driver}: 100,000 partitions of a session named again: {:.1?}", began.elapsed());
        assert!(began.elapsed() < CHANGE_MAX, "{driver}: {:?}", began.elapsed());
        println!("{driver}: {given} of 16 sessions of 100,000 partitions, {} MiB", grown / MIB);
        assert!(given <= 10, "{driver}: {given}");
        assert!(grown < 256 * MIB, "{driver}: {} MiB", grown / MIB);
        good.ping();
        broker.check_sound();
    }
}
