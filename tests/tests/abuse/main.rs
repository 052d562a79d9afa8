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

use std::env;

/// Both ways to do I/O.
const DRIVERS: [&str; 2] = ["uring", "sync"];

const MIB: u64 = 1 << 20;

/// So much, or more where that is asked for.
fn scaled(count: usize) -> usize {
    let factor = env::var("ODRADEK_ABUSE").map_or(1, |text| text.parse().expect("a factor"));
    count * factor
}
