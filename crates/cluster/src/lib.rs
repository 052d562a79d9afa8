//! Who leads, who is in sync, what the metadata log says: pure state machines.
//!
//! No I/O, no clock, no randomness, no bytes of the wire. The broker converts [`MetadataRecord`]s
//! to and from Kafka's, appends what the [`Controller`] decides to `__cluster_metadata-0`, and
//! replays what is committed there into one [`MetadataImage`] a shard.

pub mod client_metrics;
pub mod controller;
pub mod error;
pub mod feature;
pub mod group_config;
pub mod image;
pub mod json;
pub mod quorum;
pub mod record;
pub mod topic_name;

pub use controller::{Controller, Decision};
pub use error::Error;
pub use image::{Delta, MetadataImage};
pub use record::MetadataRecord;
