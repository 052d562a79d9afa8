//! Kafka's bytes to structs and back, every version.
//!
//! Pure: no I/O, no clock. A message is decoded in place: strings, bytes and records borrow from
//! the frame, only arrays allocate, and never more than the bytes can back. A message is encoded
//! into parts: heads, and between them records as refcounted slices or as tokens for bytes that
//! are elsewhere, so that record bytes are not copied on their way through here.
//!
//! # Messages
//! Each message has a module of its name: [`fetch_request::FetchRequest`] with its parts
//! [`fetch_request::FetchTopic`] and so on, named as Kafka names them, fields in snake case. One
//! struct serves all versions: decoding fills fields that a version lacks with Kafka's defaults,
//! encoding leaves them out. All structs have [`Default`], so that a handler names what it sets:
//!
//! ```
//! use wire::{frame, api::ApiKey, metadata_request::MetadataRequest};
//! use wire::metadata_response::{MetadataResponse, MetadataResponseBroker};
//!
//! # fn main() -> wire::Result<()> {
//! // A client asks (topics: null, that is all of them) ...
//! let request = MetadataRequest { topics: None, ..Default::default() };
//! let sent = frame::encode_request(7, Some("client"), 9, &request)?.into_bytes();
//!
//! // ... a broker reads the frame behind its size, and answers.
//! let (head, body) = frame::decode_request_header(&sent[4..])?;
//! assert_eq!((head.key, head.version), (ApiKey::Metadata, 9));
//! let _request: MetadataRequest = frame::decode_body(body, head.version)?;
//! let host = String::from("localhost");
//! let broker = MetadataResponseBroker { node_id: 1, host: &host, port: 9092, ..Default::default() };
//! let response = MetadataResponse { brokers: vec![broker], ..Default::default() };
//! let answer = frame::encode_response(head.correlation_id, head.version, &response)?;
//! assert_eq!(answer.parts.len(), 1); // no records: one head
//! # Ok(())
//! # }
//! ```
//!
//! # Records in, records out
//! A `records` field is a [`Records`]. Of a decoded one, [`subslice`] makes a [`bytes::Bytes`] that
//! shares the receive buffer. A response takes `Records::Slices` or `Records::External`; the
//! [`Encoded`] answer lists its [`Part`]s in order, of which the sender replaces the external ones.
//!
//! # Logs
//! [`metadata_frame`], [`control_record`] and [`coordinator_record`] know the framing of records in
//! `__cluster_metadata`, in control batches, in `__consumer_offsets` and `__transaction_state`.
//!
//! # Versions
//! [`api::VERSIONS`] says what can be read and written. Everything below `generated/` is written
//! by `cargo xtask codegen` from the table in `schema/`.

pub mod api;
mod codec;
pub mod control_record;
pub mod coordinator_record;
mod error;
pub mod frame;
mod generated;
pub mod metadata_frame;
mod reader;
mod records;
mod writer;

pub use codec::{
    Decode, Encode, Message, MetadataMessage, RecordKey, RecordValue, Request, Response, Versions,
    decode, encode,
};
pub use error::{Error, Result};
pub use generated::*;
pub use reader::{Lengths, Nulls, Reader, Tag};
pub use records::{Records, position_in, subslice};
pub use writer::{Encoded, Part, Writer};
