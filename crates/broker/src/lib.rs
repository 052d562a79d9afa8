//! The shard: connections, one file for each API, routing to the owner shard, partitions, pending
//! produces and fetches. Joins the rooms below.
//!
//! Every shard runs [`run_shard`]. Shard 0 also opens the data directory, has the controller and
//! the listener, and deals connections out. Shards share nothing: what another one owns is reached
//! by a call (`peers`), one message there and one back.
//!
//! ```text
//!   connection -> frame_reader -> api/NN_name -> (call) -> owner's Log
//!                                     |
//!                                 controller (shard 0) -> metadata log -> every shard's image
//! ```

mod answer_memory;
pub mod api;
mod backlog;
mod claim;
pub mod config;
mod connection;
pub mod connection_limits;
mod controller;
mod coordinator_desk;
mod coordinator_log;
mod described_settings;
mod error;
mod error_map;
mod follow;
mod frame_reader;
mod gather_turns;
mod group_admin;
mod group_topics;
mod groups;
mod handle_shares;
mod home;
pub mod loggers;
mod markers;
mod metadata_log;
mod metadata_records;
mod metadata_snapshot;
mod metrics;
mod peers;
mod placement;
mod recompression;
mod record_survey;
mod retention;
mod shard;
mod slow;
mod stages;
mod start;
mod start_topics;
mod stop;
mod telemetry;
mod topic_settings;
mod transactions;
mod verification;

pub use error::Error;
pub use metrics::{Ping, Scope, Scrape};
pub use slow::{AskSlow, SlowRequest, Slowest};
pub use stages::{STAGES, Stage, StageTimes};
pub use start::{Ready, Role, run_shard};
pub use start_topics::StartTopic;

/// Sent to shard 0 from outside the mesh, it stops the node cleanly.
#[derive(Clone, Copy, Debug)]
pub struct Stop;
