//! What every driver on real threads promises, in one table of tests for all of them.
//!
//! A driver that this machine refuses (io_uring in a container) is left out, and said so.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests are tests")]

mod cancellation;
mod executor;
mod files;
mod harness;
mod mesh;
mod sockets;
mod stepped_clock;
mod timers;
