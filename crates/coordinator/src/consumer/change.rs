//! What a consumer group's records say: one change each, written as Apache Kafka 4.4 writes it.

use std::rc::Rc;

use model::collections::BTreeMap;
use wire::consumer_group_current_member_assignment_key::ConsumerGroupCurrentMemberAssignmentKey;
use wire::consumer_group_current_member_assignment_value::{
    ConsumerGroupCurrentMemberAssignmentValue, TopicPartitions,
};
use wire::consumer_group_member_metadata_key::ConsumerGroupMemberMetadataKey;
use wire::consumer_group_member_metadata_value::{
    ClassicMemberMetadata, ClassicProtocol, ConsumerGroupMemberMetadataValue,
};
use wire::consumer_group_metadata_key::ConsumerGroupMetadataKey;
use wire::consumer_group_metadata_value::ConsumerGroupMetadataValue;
use wire::consumer_group_partition_metadata_key::ConsumerGroupPartitionMetadataKey;
use wire::consumer_group_regular_expression_key::ConsumerGroupRegularExpressionKey;
use wire::consumer_group_regular_expression_value::ConsumerGroupRegularExpressionValue;
use wire::consumer_group_target_assignment_member_key::ConsumerGroupTargetAssignmentMemberKey;
use wire::consumer_group_target_assignment_member_value::{
    ConsumerGroupTargetAssignmentMemberValue, TopicPartition,
};
use wire::consumer_group_target_assignment_metadata_key::ConsumerGroupTargetAssignmentMetadataKey;
use wire::consumer_group_target_assignment_metadata_value::ConsumerGroupTargetAssignmentMetadataValue;
use wire::consumer_offsets_record::ConsumerOffsetsRecord;
use wire::coordinator_record::{encode_key, encode_value};

use super::assignor::Partitions;
use super::regex::ResolvedRegex;
use super::{ClassicMember, Current, Member, MemberState, Owned};
use crate::actions::Record;

/// The version of every value here.
const VALUE_VERSION: i16 = 0;
const FITS: &str = "every string of a key is checked against STRING_BYTES_MAX when it comes in";

/// A record of a group: a value, or `None` for a tombstone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Type 3: the group epoch, and the hash of the topics.
    Epoch(Option<(i32, i64)>),
    /// Type 4: whether the record is there. Only its tombstone is written.
    PartitionMetadata(bool),
    /// Type 5: what a member said of itself.
    Member(Rc<str>, Option<Rc<Member>>),
    /// Type 6: the assignment epoch, and when the assignment was made.
    TargetEpoch(Option<(i32, i64)>),
    /// Type 7: what a member is to have.
    Target(Rc<str>, Option<Rc<Partitions>>),
    /// Type 8: what a member has.
    Current(Rc<str>, Option<Rc<Current>>),
    /// Type 16: the topics that an expression matched.
    Regex(String, Option<Rc<ResolvedRegex>>),
}

impl Change {
    /// Whether the record is a tombstone.
    pub fn is_tombstone(&self) -> bool {
        match self {
            Change::Epoch(value) | Change::TargetEpoch(value) => value.is_none(),
            Change::PartitionMetadata(is_there) => !is_there,
            Change::Member(_, value) => value.is_none(),
            Change::Target(_, value) => value.is_none(),
            Change::Current(_, value) => value.is_none(),
            Change::Regex(_, value) => value.is_none(),
        }
    }

    /// The record.
    pub fn to_record(&self, group_id: &str) -> Record {
        let (key, value) = match self {
            Change::Epoch(epoch) => {
                let value = epoch.map(|(epoch, metadata_hash)| {
                    encode_value(
                        &ConsumerGroupMetadataValue { epoch, metadata_hash },
                        VALUE_VERSION,
                    )
                });
                (encode_key(&ConsumerGroupMetadataKey { group_id }), value)
            }
            Change::PartitionMetadata(is_there) => {
                assert!(!is_there, "only the tombstone is written");
                (encode_key(&ConsumerGroupPartitionMetadataKey { group_id }), None)
            }
            Change::Member(member_id, member) => {
                let key = ConsumerGroupMemberMetadataKey { group_id, member_id };
                (encode_key(&key), member.as_deref().map(encode_member))
            }
            Change::TargetEpoch(epoch) => {
                let value = epoch.map(|(assignment_epoch, assignment_timestamp)| {
                    let value = ConsumerGroupTargetAssignmentMetadataValue {
                        assignment_epoch,
                        assignment_timestamp,
                    };
                    encode_value(&value, VALUE_VERSION)
                });
                (encode_key(&ConsumerGroupTargetAssignmentMetadataKey { group_id }), value)
            }
            Change::Target(member_id, target) => {
                let key = ConsumerGroupTargetAssignmentMemberKey { group_id, member_id };
                (encode_key(&key), target.as_deref().map(encode_target))
            }
            Change::Current(member_id, current) => {
                let key = ConsumerGroupCurrentMemberAssignmentKey { group_id, member_id };
                (encode_key(&key), current.as_deref().map(encode_current))
            }
            Change::Regex(regex, resolved) => {
                let key = ConsumerGroupRegularExpressionKey { group_id, regular_expression: regex };
                (encode_key(&key), resolved.as_deref().map(encode_regex))
            }
        };
        Record { key: key.expect(FITS), value: value.map(|value| value.expect(FITS)) }
    }
}

fn encode_member(member: &Member) -> wire::Result<Vec<u8>> {
    let classic = member.classic.as_ref().map(|classic| ClassicMemberMetadata {
        session_timeout_ms: classic.session_timeout_ms,
        supported_protocols: classic
            .protocols
            .iter()
            .map(|(name, metadata)| ClassicProtocol { name, metadata })
            .collect(),
    });
    let value = ConsumerGroupMemberMetadataValue {
        instance_id: member.instance_id.as_deref(),
        rack_id: member.rack_id.as_deref(),
        client_id: &member.client_id,
        client_host: &member.client_host,
        subscribed_topic_names: member.topic_names.iter().map(String::as_str).collect(),
        subscribed_topic_regex: member.topic_regex.as_deref(),
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        server_assignor: member.assignor.as_deref(),
        classic_member_metadata: classic,
    };
    encode_value(&value, VALUE_VERSION)
}

fn encode_target(target: &Partitions) -> wire::Result<Vec<u8>> {
    let topic_partitions = target.iter().map(|(topic_id, partitions)| TopicPartition {
        topic_id: *topic_id,
        partitions: partitions.iter().copied().collect(),
    });
    let value =
        ConsumerGroupTargetAssignmentMemberValue { topic_partitions: topic_partitions.collect() };
    encode_value(&value, VALUE_VERSION)
}

fn encode_current(current: &Current) -> wire::Result<Vec<u8>> {
    let owned = |owned: &Owned| {
        let topics = owned.iter().map(|(topic_id, partitions)| TopicPartitions {
            topic_id: *topic_id,
            partitions: partitions.keys().copied().collect(),
            assignment_epochs: Some(partitions.values().copied().collect()),
        });
        topics.collect()
    };
    let value = ConsumerGroupCurrentMemberAssignmentValue {
        member_epoch: current.epoch,
        previous_member_epoch: current.previous_epoch,
        state: match current.state {
            MemberState::Stable => 0,
            MemberState::UnrevokedPartitions => 1,
            MemberState::UnreleasedPartitions => 2,
            MemberState::Unknown => 127,
        },
        assigned_partitions: owned(&current.assigned),
        partitions_pending_revocation: owned(&current.pending_revocation),
    };
    encode_value(&value, VALUE_VERSION)
}

fn encode_regex(resolved: &ResolvedRegex) -> wire::Result<Vec<u8>> {
    let value = ConsumerGroupRegularExpressionValue {
        topics: resolved.topics.iter().map(String::as_str).collect(),
        version: resolved.version,
        timestamp: resolved.timestamp_ms,
    };
    encode_value(&value, VALUE_VERSION)
}

/// What a record says of which group; `None` for records of other kinds.
#[expect(clippy::wildcard_enum_match_arm, reason = "the other kinds are of other groups")]
pub fn change_of<'a>(record: &ConsumerOffsetsRecord<'a>) -> Option<(&'a str, Change)> {
    use ConsumerOffsetsRecord as Of;
    let change = match record {
        Of::ConsumerGroupMetadata(key, value) => {
            let epoch = value.as_ref().map(|value| (value.epoch, value.metadata_hash));
            (key.group_id, Change::Epoch(epoch))
        }
        Of::ConsumerGroupPartitionMetadata(key, value) => {
            (key.group_id, Change::PartitionMetadata(value.is_some()))
        }
        Of::ConsumerGroupMemberMetadata(key, value) => {
            let member = value.as_ref().map(member_of);
            (key.group_id, Change::Member(key.member_id.into(), member))
        }
        Of::ConsumerGroupTargetAssignmentMetadata(key, value) => {
            let epoch =
                value.as_ref().map(|value| (value.assignment_epoch, value.assignment_timestamp));
            (key.group_id, Change::TargetEpoch(epoch))
        }
        Of::ConsumerGroupTargetAssignmentMember(key, value) => {
            let target = value.as_ref().map(target_of);
            (key.group_id, Change::Target(key.member_id.into(), target))
        }
        Of::ConsumerGroupCurrentMemberAssignment(key, value) => {
            let current = value.as_ref().map(current_of);
            (key.group_id, Change::Current(key.member_id.into(), current))
        }
        Of::ConsumerGroupRegularExpression(key, value) => {
            let resolved = value.as_ref().map(|value| {
                Rc::new(ResolvedRegex {
                    topics: value.topics.iter().map(|topic| (*topic).to_owned()).collect(),
                    version: value.version,
                    timestamp_ms: value.timestamp,
                })
            });
            (key.group_id, Change::Regex(key.regular_expression.to_owned(), resolved))
        }
        _ => return None,
    };
    Some(change)
}

fn member_of(value: &ConsumerGroupMemberMetadataValue<'_>) -> Rc<Member> {
    let classic = value.classic_member_metadata.as_ref();
    // Where the tag is left out, its default says so: a member of this protocol.
    let classic = classic.filter(|classic| !classic.supported_protocols.is_empty());
    let protocol =
        |protocol: &ClassicProtocol<'_>| (protocol.name.to_owned(), protocol.metadata.to_vec());
    Rc::new(Member {
        instance_id: value.instance_id.map(str::to_owned),
        rack_id: value.rack_id.map(str::to_owned),
        client_id: value.client_id.to_owned(),
        client_host: value.client_host.to_owned(),
        topic_names: value.subscribed_topic_names.iter().map(|name| (*name).to_owned()).collect(),
        topic_regex: value.subscribed_topic_regex.map(str::to_owned),
        rebalance_timeout_ms: value.rebalance_timeout_ms,
        assignor: value.server_assignor.map(str::to_owned),
        classic: classic.map(|classic| ClassicMember {
            session_timeout_ms: classic.session_timeout_ms,
            protocols: classic.supported_protocols.iter().map(protocol).collect(),
        }),
    })
}

fn target_of(value: &ConsumerGroupTargetAssignmentMemberValue) -> Rc<Partitions> {
    let mut target = Partitions::new();
    for topic in &value.topic_partitions {
        target.entry(topic.topic_id).or_default().extend(&topic.partitions);
    }
    Rc::new(target)
}

fn current_of(value: &ConsumerGroupCurrentMemberAssignmentValue) -> Rc<Current> {
    let owned = |topics: &[TopicPartitions]| {
        let mut owned = Owned::new();
        for topic in topics {
            // Before 4.3 there were no epochs of partitions: the member's stands for them.
            let epochs = topic.assignment_epochs.as_deref();
            let epochs = epochs.filter(|epochs| epochs.len() == topic.partitions.len());
            let epoch =
                |index: usize| epochs.map_or_else(|| value.member_epoch.max(0), |all| all[index]);
            let partitions = topic.partitions.iter().enumerate();
            let partitions: BTreeMap<i32, i32> =
                partitions.map(|(index, one)| (*one, epoch(index))).collect();
            if !partitions.is_empty() {
                owned.insert(topic.topic_id, partitions);
            }
        }
        owned
    };
    Rc::new(Current {
        epoch: value.member_epoch,
        previous_epoch: value.previous_member_epoch,
        state: match value.state {
            0 => MemberState::Stable,
            1 => MemberState::UnrevokedPartitions,
            2 => MemberState::UnreleasedPartitions,
            _ => MemberState::Unknown,
        },
        assigned: owned(&value.assigned_partitions),
        pending_revocation: owned(&value.partitions_pending_revocation),
    })
}
