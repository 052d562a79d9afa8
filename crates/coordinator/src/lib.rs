//! Groups and offsets as replicated state machines.
//!
//! A [`GroupCoordinator`] holds the groups of one partition of `__consumer_offsets`. It does no
//! I/O and reads no clock: a request, a deadline or the end of an append goes in with the time,
//! [`Actions`] come out. Everything that has to survive is a record in Kafka's format, and
//! replaying the records gives the same groups and offsets again.
//!
//! # The broker's part
//! ```text
//! load:     read the partition, replay() each record, loaded()
//! request:  join(), sync(), ... with a token      -> actions
//! actions:  answer each (token, response); append each write in order, in one batch each
//! appended: durable (below the high watermark), or failed: write_done()   -> actions
//! timer:    at next_deadline(): on_time()         -> actions
//! unload:   unload()                              -> actions: everyone who waits is sent away
//! ```
//! A response that depends on a record comes out of `write_done`, never earlier.
//!
//! # When a write fails
//! Decisions that depend on a write are applied when it is done, not when it is made: offsets
//! become visible, assignments are handed out, groups are deleted only then. So after a failed
//! write nothing has to be rolled back: `write_done(id, Err(..))` tells the clients, and the state
//! is as the log says. (Apache Kafka instead applies first and keeps snapshots to go back to.)
//! What is never written (who waits in a rebalance, deadlines) lives in memory alone, as there.

pub mod actions;
pub mod consumer;
pub mod coordinator;
mod group;
pub mod offset_fetch;
mod offsets;
pub mod partition;
mod records;
pub mod response;
pub mod settings;
mod timers;
pub mod topics;
pub mod transactions;

pub use actions::{
    Actions, Caller, Now, Record, Token, TransactionEnd, Write, WriteError, WriteForm, WriteId,
};
pub use coordinator::GroupCoordinator;
pub use partition::partition_of;
pub use response::Response;
pub use settings::{ConsumerSettings, GroupSettings, MigrationPolicy, Settings};
pub use topics::{TopicShape, Topics};
