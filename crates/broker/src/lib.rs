//! The shard: connections, one file per API, routing, partitions, pending produces and fetches.

pub mod config;
