//! The coordinator as the broker drives it.

mod classic_consumers;
mod consumers;
mod groups;
mod harness;
mod migrations;
mod offsets;
mod schedules;
mod transactions;
