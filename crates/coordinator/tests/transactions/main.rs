//! The coordinator of transactions as the broker drives it.

mod harness;
mod rules;
mod schedules;
