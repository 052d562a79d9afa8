//! What the integration tests share: the real binary as a process, a client that can send
//! anything, and numbers that are the same in every run. Development only.

pub mod broker_process;
pub mod http;
pub mod random;
pub mod raw_client;
