//! The coordinator as the broker drives it.

mod groups;
mod harness;
mod offsets;
mod schedules;
