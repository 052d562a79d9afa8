//! A small Kafka client on our runtime, for the command line, the console and the simulator.
//!
//! - [`Connection`]: negotiated versions, pipelined calls of any API of [`wire`], and one method
//!   for each of the usual ones;
//! - [`Client`]: a connection that comes back, and retries;
//! - [`Cluster`]: a connection to each broker, found by what it leads;
//! - [`ProducerState`], [`TransactionalProducer`], [`Fetched`], [`GroupMember`], [`ConsumerGroupMember`]: what stays on the client's side.
//!
//! It names topics by their names. What comes from the broker is bounded before memory is spent on
//! it, and never makes it panic.

pub mod assignor;
mod client;
mod cluster;
mod connection;
mod consumer_group;
mod error;
mod fetch;
mod group;
mod produce;
mod topics;
mod transaction;

pub use client::Client;
pub use cluster::{Cluster, Resolve};
pub use connection::{Answer, Connection, Options};
pub use consumer_group::{ConsumerGroupMember, ConsumerGroupOptions};
pub use error::{Error, Result};
pub use fetch::{ConsumedRecord, FetchOptions, Fetched, Isolation, OffsetSpec, Position};
pub use group::{CommittedOffset, CommittedOffsets, GroupMember, GroupOptions, ListedGroup};
pub use produce::{Acks, Batch, Produced, ProducerState};
pub use topics::{AutoCreate, Broker, Metadata, NewTopic, Topic};
pub use transaction::{End, TransactionalProducer};
