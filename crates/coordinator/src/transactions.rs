//! Transactions as a replicated state machine.
//!
//! A [`TransactionCoordinator`] holds the transactional ids of one partition of
//! `__transaction_state`. Like the coordinator of groups it does no I/O and reads no clock, and a
//! decision is applied when its record is durable: a failed write leaves nothing to take back.
//! One is applied when its record is appended, that a transaction is complete: whatever depends on
//! it comes behind it in the same log, and a log that lost it has the markers written once more.
//! While a record or the markers are on their way, the transactional id is *pending*, and whoever
//! asks for another change is told to come back (CONCURRENT_TRANSACTIONS).
//!
//! # The broker's part
//! ```text
//! load:     read the partition, replay_batch() each batch, loaded()     -> actions
//! request:  init_producer_id(), add_partitions(), end()                 -> actions
//! actions:  answer each response; append each write in order, in one batch each;
//!           write each marker to all its partitions, again and again until it is durable there
//! appended: write_appended(), and nothing more where that says so
//! written:  durable, or failed: write_done()                            -> actions
//! markers:  durable in every partition: markers_written()               -> actions
//! timer:    at next_deadline(): on_time()                               -> actions
//! ids:      when is_short_of_producer_ids(): give_producer_id(), and the same again
//! unload:   unload()                                                    -> actions
//! ```
//! The client is answered when it is durable *how* its transaction ends (Prepare...); the markers
//! come after that. A coordinator that loads a transaction in such a state asks for all its markers
//! anew: a partition that has its marker already takes another one without harm.

mod admin;
mod coordinator;
mod end;
mod replay;
mod settings;
mod transaction;

pub use admin::{TransactionDescription, TransactionFilter, TransactionListing};
pub use coordinator::{
    EndRequest, Markers, ProducerIdentity, TransactionActions, TransactionCoordinator,
    TransactionResponse,
};
pub use settings::Settings as TransactionSettings;
pub use transaction::{Outcome, Partitions, State as TransactionState};

/// The topic that holds the states of transactions.
pub const TRANSACTIONS_TOPIC: &str = "__transaction_state";

/// The topic's own settings, but for its segment size: `transaction.state.log.segment.bytes`.
pub const TRANSACTIONS_TOPIC_CONFIGS: [(&str, &str); 3] = [
    ("cleanup.policy", "compact"),
    ("compression.type", "uncompressed"),
    ("unclean.leader.election.enable", "false"),
];
