//! What the crash rigs share with others that break brokers: the broker as a process, disks that
//! lose power, chance by seed, and interruptions that leave nothing behind.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool reports so")]

pub mod aims;
pub mod broker;
pub mod chance;
pub mod ground;
pub mod interrupt;
pub mod mounts;
