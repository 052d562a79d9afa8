//! What consumers of the classic protocol tell each other through their group: a member's
//! subscription, and what its leader gives it. The coordinator of a consumer group reads the one and
//! writes the other for its classic members.
//!
//! ```text
//! version i16 | ConsumerProtocolSubscription, or ConsumerProtocolAssignment, of that version
//! ```
//! Versions above those known are read as the highest known one: newer ones only add fields behind.

use bytes::Bytes;
use model::collections::BTreeSet;
use wire::consumer_protocol_assignment::{ConsumerProtocolAssignment, TopicPartition};
use wire::consumer_protocol_subscription::ConsumerProtocolSubscription;
use wire::{Decode, Encode, Message, Reader, Writer};

use super::assignor::Partitions;
use crate::topics::Topics;

/// A member's subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    /// The topics.
    pub topics: BTreeSet<String>,
    /// What the member says that it has; what is not there is left out.
    pub owned: Partitions,
    /// Where it is.
    pub rack_id: Option<String>,
}

/// Why an assignment is not taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// The bytes are no assignment.
    Malformed,
    /// The leader's assignor wrote something of its own, which would be lost.
    HasUserData,
}

fn versioned<'a, M: Decode<'a> + Message>(bytes: &'a [u8]) -> wire::Result<M> {
    let mut reader = Reader::new(bytes);
    let version = reader.i16()?.min(M::VERSIONS.max);
    M::decode(&mut reader, version)
}

/// A member's subscription from what it says under a protocol.
///
/// # Errors
/// When the bytes are none.
pub fn subscription(metadata: &[u8], topics: &dyn Topics) -> wire::Result<Subscription> {
    let read: ConsumerProtocolSubscription<'_> = versioned(metadata)?;
    let mut owned = Partitions::new();
    for one in &read.owned_partitions {
        add(&mut owned, one.topic, &one.partitions, topics);
    }
    Ok(Subscription {
        topics: read.topics.into_iter().map(str::to_owned).collect(),
        owned,
        rack_id: read.rack_id.filter(|rack| !rack.is_empty()).map(str::to_owned),
    })
}

/// What a leader gave a member; topics that are gone are left out.
///
/// # Errors
/// When that cannot be said in a consumer group.
pub fn assigned(assignment: &[u8], topics: &dyn Topics) -> Result<Partitions, Unreadable> {
    let mut partitions = Partitions::new();
    if assignment.is_empty() {
        return Ok(partitions);
    }
    let read: ConsumerProtocolAssignment<'_> =
        versioned(assignment).map_err(|_| Unreadable::Malformed)?;
    if read.user_data.is_some_and(|data| !data.is_empty()) {
        return Err(Unreadable::HasUserData);
    }
    for one in &read.assigned_partitions {
        add(&mut partitions, one.topic, &one.partitions, topics);
    }
    Ok(partitions)
}

fn add(to: &mut Partitions, topic: &str, partitions: &[i32], topics: &dyn Topics) {
    let Some(shape) = topics.by_name(topic) else { return };
    let is_there = |at: &&i32| (0..shape.partition_count).contains(*at);
    let mut there = partitions.iter().filter(is_there).peekable();
    if there.peek().is_some() {
        to.entry(shape.id).or_default().extend(there);
    }
}

/// Partitions as a member reads them that said this under its protocol.
///
/// # Errors
/// When that has no version.
pub fn assignment(
    partitions: &Partitions,
    metadata: &[u8],
    topics: &dyn Topics,
) -> wire::Result<Bytes> {
    let versions = ConsumerProtocolAssignment::VERSIONS;
    let version = Reader::new(metadata).i16()?.clamp(versions.min, versions.max);
    let named: Vec<(String, Vec<i32>)> = partitions
        .iter()
        .filter_map(|(id, partitions)| {
            Some((topics.name_of(*id)?, partitions.iter().copied().collect()))
        })
        .collect();
    let assigned_partitions = named
        .iter()
        .map(|(topic, partitions)| TopicPartition { topic, partitions: partitions.clone() })
        .collect();
    let value = ConsumerProtocolAssignment { assigned_partitions, user_data: None };
    let mut writer = Writer::new();
    writer.i16(version);
    value.encode(&mut writer, version);
    Ok(writer.finish()?.into_bytes())
}
