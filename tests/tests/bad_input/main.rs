//! What a broken or hostile client may not do: end the broker, stop it from serving others, take
//! its memory, or spoil a log. Against the real binary with both drivers, but for the decoding,
//! which is also done in process, where a million broken frames take seconds.

#![expect(clippy::unwrap_used, reason = "a test")]

mod admin_samples;
mod claims;
mod in_process;
mod mutations;
mod produce;
mod refusals;
mod samples;
mod slow_clients;
mod transaction_samples;

/// Both ways to do I/O.
const DRIVERS: [&str; 2] = ["uring", "sync"];

/// A mebibyte.
const MIB: u64 = 1 << 20;
