//! Much of what a client may do as often as it likes: connections, sessions, groups, producers,
//! topics, batches that are small and hold much. What it costs is printed (`--nocapture`) and has
//! a bound, on the real binary with both drivers.
//!
//! `ODRADEK_ABUSE` says how many times as much is done as here: `cargo xtask soak` has it at 50.

#![expect(clippy::unwrap_used, reason = "a test")]

mod bombs;
mod connections;
mod fetch_sessions;
mod groups;
mod open_transactions;
mod producers;
mod topics;
mod transactional_ids;

use std::{
    env, thread,
    time::{Duration, Instant},
};

use model::ErrorCode;
use tests::{
    broker_process::PATIENCE,
    raw_client::{RawClient, decoded},
};
use wire::{
    init_producer_id_request::InitProducerIdRequest,
    init_producer_id_response::InitProducerIdResponse,
};

/// Both ways to do I/O.
const DRIVERS: [&str; 2] = ["uring", "sync"];

const MIB: u64 = 1 << 20;

/// So much, or more where that is asked for.
fn scaled(count: usize) -> usize {
    let factor = env::var("ODRADEK_ABUSE").map_or(1, |text| text.parse().expect("a factor"));
    count * factor
}

/// A producer id and epoch for a transactional id, or the error; asked
/// for as often as the coordinator is not there yet.
fn init_producer(client: &mut RawClient, id: &str, timeout: Duration) -> Result<(i64, i16), i16> {
    let request = InitProducerIdRequest {
        transactional_id: Some(id),
        transaction_timeout_ms: i32::try_from(timeout.as_millis()).unwrap(),
        ..Default::default()
    };
    let passing = [
        ErrorCode::NotCoordinator.code(),
        ErrorCode::CoordinatorNotAvailable.code(),
        ErrorCode::CoordinatorLoadInProgress.code(),
    ];
    let began = Instant::now();
    loop {
        let answer = client.ask(4, &request);
        let response: InitProducerIdResponse = decoded::<InitProducerIdRequest<'_>, _>(&answer, 4);
        if response.error_code == 0 {
            return Ok((response.producer_id, response.producer_epoch));
        }
        if !passing.contains(&response.error_code) || began.elapsed() > PATIENCE {
            return Err(response.error_code);
        }
        thread::sleep(Duration::from_millis(10));
    }
}
