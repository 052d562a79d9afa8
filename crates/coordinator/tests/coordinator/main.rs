//! The coordinator as the broker drives it.

mod consumers;
mod groups;
mod harness;
mod migrations;
mod offsets;
mod schedules;
mod transactions;
