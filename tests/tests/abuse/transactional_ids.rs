//! Transactional ids without end: each costs little, and is forgotten when nobody uses it.

use std::{
    thread,
    time::{Duration, Instant},
};

use tests::{
    broker_process::{BrokerProcess, End, PATIENCE},
    raw_client::{RawClient, decoded},
};
use wire::{
    list_transactions_request::ListTransactionsRequest,
    list_transactions_response::ListTransactionsResponse,
};

use super::{DRIVERS, MIB, init_producer, scaled};

/// What an id of 60 bytes may cost, with its record in the log's tail that is in memory, and what
/// grows in steps.
const BYTES_AN_ID_MAX: u64 = 2048;
const CONNECTIONS: usize = 20;
const PAUSE: Duration = Duration::from_millis(50);
const TIMEOUT: Duration = Duration::from_secs(60);

/// Comes with an id.
fn init(client: &mut RawClient, transactional_id: &str) {
    let came = init_producer(client, transactional_id, TIMEOUT);
    assert!(came.is_ok(), "{transactional_id}: {came:?}");
}

fn known(client: &mut RawClient) -> usize {
    let answer = client.ask(0, &ListTransactionsRequest::default());
    let response: ListTransactionsResponse<'_> =
        decoded::<ListTransactionsRequest<'_>, _>(&answer, 0);
    assert_eq!(response.error_code, 0);
    response.transaction_states.len()
}

#[test]
fn transactional_ids_cost_little_and_are_forgotten() {
    for driver in DRIVERS {
        let mut broker = BrokerProcess::start(driver, &["transaction.state.log.num.partitions=4"]);
        let mut client = RawClient::connect(broker.address());
        init(&mut client, "the first, which makes the topic");
        let (before, count) = (broker.resident_bytes(), scaled(2_000));
        let came = (0..CONNECTIONS).map(|connection| {
            let mut client = RawClient::connect(broker.address());
            thread::spawn(move || {
                for number in (connection..count).step_by(CONNECTIONS) {
                    init(&mut client, &format!("{number:060}"));
                }
            })
        });
        for thread in came.collect::<Vec<_>>() {
            thread.join().unwrap();
        }
        assert_eq!(known(&mut client), count + 1);
        let grown = broker.resident_bytes().saturating_sub(before);
        let counted = u64::try_from(count).unwrap();
        println!("{driver}: {count} transactional ids, {} bytes each", grown / counted);
        let bound = counted * BYTES_AN_ID_MAX + 16 * MIB;
        assert!(grown < bound, "{driver}: {grown} bytes, over {bound}");
        // They are all found again; when nobody has used them for so long, none is left.
        broker.set("transactional.id.expiration.ms=1");
        broker.set("transaction.remove.expired.transaction.cleanup.interval.ms=100");
        broker.restart(End::Kill);
        let (mut client, began) = (RawClient::connect(broker.address()), Instant::now());
        while known(&mut client) > 0 {
            assert!(began.elapsed() < PATIENCE, "{driver}: ids are left");
            thread::sleep(PAUSE);
        }
        // Nor does the log bring them back.
        broker.restart(End::Stop);
        let mut client = RawClient::connect(broker.address());
        assert_eq!(known(&mut client), 0, "{driver}");
        broker.check_sound();
    }
}
