//! Records of `__consumer_offsets`, written as Apache Kafka 4.4 writes them.

use bytes::Bytes;
use model::collections::BTreeMap;
use wire::coordinator_record::{encode_key, encode_value};
use wire::group_metadata_key::GroupMetadataKey;
use wire::group_metadata_value::{GroupMetadataValue, MemberMetadata};
use wire::offset_commit_key::OffsetCommitKey;
use wire::offset_commit_value::OffsetCommitValue;

use crate::actions::Record;
use crate::group::Group;
use crate::offsets::CommittedOffset;

/// The version of a group's value.
const GROUP_METADATA_VERSION: i16 = 3;
/// The version of an offset's value: it has the topic's id.
const OFFSET_COMMIT_VERSION: i16 = 4;
/// The version of an offset's value that expires at a time of its own.
const OFFSET_COMMIT_EXPIRING_VERSION: i16 = 1;
/// The longest string in a record: its length is 16 bits with a sign.
pub const STRING_BYTES_MAX: usize = 32_767;

const FITS: &str = "every string is checked against STRING_BYTES_MAX when it comes in";

/// The group with its members, and with these assignments.
pub fn group_metadata(group: &Group, assignments: &BTreeMap<String, Bytes>) -> Record {
    let subscriptions: Vec<Bytes> =
        group.members.values().map(|member| member.metadata(group.protocol.as_deref())).collect();
    let members =
        group.members.values().zip(&subscriptions).map(|(member, subscription)| MemberMetadata {
            member_id: &member.id,
            group_instance_id: member.instance_id.as_deref(),
            client_id: &member.client_id,
            client_host: &member.client_host,
            rebalance_timeout: member.rebalance_timeout_ms,
            session_timeout: member.session_timeout_ms,
            subscription,
            assignment: assignments.get(member.id.as_ref()).map_or(&[], |bytes| bytes.as_ref()),
        });
    let value = GroupMetadataValue {
        protocol_type: group.protocol_type.as_deref().unwrap_or_default(),
        generation: group.generation,
        protocol: group.protocol.as_deref(),
        leader: group.leader.as_deref(),
        current_state_timestamp: group.state_timestamp.map_or(-1, |at| at.0),
        members: members.collect(),
    };
    let value = encode_value(&value, GROUP_METADATA_VERSION).expect(FITS);
    Record { key: group_key(&group.id), value: Some(value) }
}

/// The group is gone.
pub fn group_tombstone(group_id: &str) -> Record {
    Record { key: group_key(group_id), value: None }
}

/// An offset of a group.
pub fn offset(group: &str, topic: &str, partition: i32, committed: &CommittedOffset) -> Record {
    let version = match committed.expire_timestamp {
        Some(_) => OFFSET_COMMIT_EXPIRING_VERSION,
        None => OFFSET_COMMIT_VERSION,
    };
    let value = OffsetCommitValue {
        offset: committed.offset,
        leader_epoch: committed.leader_epoch,
        metadata: &committed.metadata,
        commit_timestamp: committed.commit_timestamp.0,
        expire_timestamp: committed.expire_timestamp.map_or(-1, |at| at.0),
        topic_id: committed.topic_id,
    };
    let value = encode_value(&value, version).expect(FITS);
    Record { key: offset_key(group, topic, partition), value: Some(value) }
}

/// An offset is gone.
pub fn offset_tombstone(group: &str, topic: &str, partition: i32) -> Record {
    Record { key: offset_key(group, topic, partition), value: None }
}

fn group_key(group: &str) -> Vec<u8> {
    encode_key(&GroupMetadataKey { group }).expect(FITS)
}

fn offset_key(group: &str, topic: &str, partition: i32) -> Vec<u8> {
    encode_key(&OffsetCommitKey { group, topic, partition }).expect(FITS)
}
