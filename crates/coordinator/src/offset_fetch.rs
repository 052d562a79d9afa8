//! OffsetFetch in its two shapes: one group (to version 7), or several (from version 8).
//!
//! The broker turns a request into queries, gives each to the coordinator of its group, and makes
//! one response of the answers.

use model::{ErrorCode, TopicId};
use wire::offset_fetch_request::OffsetFetchRequest;
use wire::offset_fetch_response::{
    OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};

use crate::offsets::{CommittedOffset, Offsets};
use crate::response::TOPIC_IDS_FROM;

/// The first version with several groups.
const SEVERAL_GROUPS_FROM: i16 = 8;
/// The first version with an error for the whole group.
const GROUP_ERROR_FROM: i16 = 2;
/// What stands for no offset.
const NO_OFFSET: i64 = -1;

/// What is asked of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupQuery {
    /// The group.
    pub group_id: String,
    /// The member of a consumer group that asks; `None` where nobody says.
    pub member_id: Option<String>,
    /// The epoch that it is at; -1 where nobody says.
    pub member_epoch: i32,
    /// Whether only offsets are wanted that no open transaction may change.
    pub stability: Stability,
    /// The topics; `None`: all that have offsets.
    pub topics: Option<Vec<TopicQuery>>,
}

/// Which offsets are wanted where transactions are open (KIP-447).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stability {
    /// The last ones that hold.
    Any,
    /// None where an open transaction commits another one.
    Required,
}

/// What is asked of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicQuery {
    /// Its name; empty where that is not known.
    pub name: String,
    /// Its id; zero where that is not known.
    pub topic_id: TopicId,
    /// The partitions.
    pub partitions: Vec<i32>,
}

/// The offsets of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedGroup {
    group_id: String,
    error: ErrorCode,
    topics: Vec<FetchedTopic>,
}

/// The offsets in one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedTopic {
    /// Its name.
    pub name: String,
    /// Its id.
    pub topic_id: TopicId,
    /// The partitions.
    pub partitions: Vec<FetchedOffset>,
}

/// The offset of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedOffset {
    /// The partition.
    pub partition: i32,
    /// The next record to read; -1 without one.
    pub offset: i64,
    /// The leader epoch of the last record read; -1 without one.
    pub leader_epoch: i32,
    /// What the client wrote beside it.
    pub metadata: String,
    /// Whether it failed.
    pub error: ErrorCode,
}

impl FetchedOffset {
    fn none(partition: i32, error: ErrorCode) -> FetchedOffset {
        let metadata = String::new();
        FetchedOffset { partition, offset: NO_OFFSET, leader_epoch: -1, metadata, error }
    }

    fn of(partition: i32, committed: &CommittedOffset) -> FetchedOffset {
        FetchedOffset {
            partition,
            offset: committed.offset,
            leader_epoch: committed.leader_epoch,
            metadata: committed.metadata.clone(),
            error: ErrorCode::None,
        }
    }
}

/// The name and id of a topic of which a request says one; `None` where there is no such topic.
pub type Resolve<'a> = dyn Fn(&str, TopicId) -> Option<(String, TopicId)> + 'a;

/// The queries of a request. `resolve` completes the name and id of a topic, of which a request
/// says one; `None` where the broker's metadata has no such topic.
#[must_use]
pub fn queries(
    request: &OffsetFetchRequest<'_>,
    version: i16,
    resolve: &Resolve<'_>,
) -> Vec<GroupQuery> {
    let topic = |name: &str, topic_id: TopicId, partitions: &[i32]| {
        let (name, topic_id) =
            resolve(name, topic_id).unwrap_or_else(|| (name.to_owned(), topic_id));
        TopicQuery { name, topic_id, partitions: partitions.to_vec() }
    };
    let stability = if request.require_stable { Stability::Required } else { Stability::Any };
    if version < SEVERAL_GROUPS_FROM {
        let topics = request.topics.as_ref().map(|topics| {
            let query = topics.iter();
            query.map(|one| topic(one.name, TopicId::ZERO, &one.partition_indexes)).collect()
        });
        let (group_id, member_id) = (request.group_id.to_owned(), None);
        return vec![GroupQuery { group_id, member_id, member_epoch: -1, stability, topics }];
    }
    let group = |group: &wire::offset_fetch_request::OffsetFetchRequestGroup<'_>| GroupQuery {
        group_id: group.group_id.to_owned(),
        member_id: group.member_id.map(str::to_owned),
        member_epoch: group.member_epoch,
        stability,
        topics: group.topics.as_ref().map(|topics| {
            let query = topics.iter();
            query.map(|one| topic(one.name, one.topic_id, &one.partition_indexes)).collect()
        }),
    };
    request.groups.iter().map(group).collect()
}

/// The response of a request's answers, which are in the order of its queries.
#[must_use]
pub fn response(groups: &[FetchedGroup], version: i16) -> OffsetFetchResponse<'_> {
    if version >= SEVERAL_GROUPS_FROM {
        return OffsetFetchResponse {
            groups: groups.iter().map(|group| group.to_wire(version)).collect(),
            ..OffsetFetchResponse::default()
        };
    }
    let Some(group) = groups.first() else { return OffsetFetchResponse::default() };
    let topics = group.topics.iter().map(|topic| OffsetFetchResponseTopic {
        name: &topic.name,
        partitions: topic
            .partitions
            .iter()
            .map(|one| OffsetFetchResponsePartition {
                partition_index: one.partition,
                committed_offset: one.offset,
                committed_leader_epoch: one.leader_epoch,
                metadata: Some(&one.metadata),
                error_code: one.error.code(),
            })
            .collect(),
    });
    // Partitions carry the group's error as well: version 1 has no other place for it.
    let error = if version >= GROUP_ERROR_FROM { group.error } else { ErrorCode::None };
    OffsetFetchResponse {
        topics: topics.collect(),
        error_code: error.code(),
        ..OffsetFetchResponse::default()
    }
}

impl Stability {
    fn is_missing(self, offsets: &Offsets, topic: &str, partition: i32) -> bool {
        self == Stability::Required && offsets.is_pending(topic, partition)
    }
}

impl GroupQuery {
    /// The answer where the group's coordinator cannot be asked.
    #[must_use]
    pub fn failed(&self, error: ErrorCode) -> FetchedGroup {
        let topic = |topic: &TopicQuery| FetchedTopic {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partitions: topic
                .partitions
                .iter()
                .map(|partition| FetchedOffset::none(*partition, error))
                .collect(),
        };
        FetchedGroup {
            group_id: self.group_id.clone(),
            error,
            topics: self.topics.iter().flatten().map(topic).collect(),
        }
    }

    /// The answer to one who may not ask.
    pub(crate) fn refused(&self, error: ErrorCode) -> FetchedGroup {
        FetchedGroup { group_id: self.group_id.clone(), error, topics: Vec::new() }
    }

    /// The answer from a group's offsets, or from a group that is not there.
    pub(crate) fn answer(&self, offsets: Option<&Offsets>) -> FetchedGroup {
        let topics = match &self.topics {
            Some(topics) => {
                topics.iter().map(|topic| topic.answer(offsets, self.stability)).collect()
            }
            None => offsets.map(|all| all_topics(all, self.stability)).unwrap_or_default(),
        };
        FetchedGroup { group_id: self.group_id.clone(), error: ErrorCode::None, topics }
    }
}

impl TopicQuery {
    fn answer(&self, offsets: Option<&Offsets>, stability: Stability) -> FetchedTopic {
        let is_unknown = self.name.is_empty() && self.topic_id != TopicId::ZERO;
        let error = if is_unknown { ErrorCode::UnknownTopicId } else { ErrorCode::None };
        let offset = |partition: &i32| {
            if offsets.is_some_and(|all| stability.is_missing(all, &self.name, *partition)) {
                return FetchedOffset::none(*partition, ErrorCode::UnstableOffsetCommit);
            }
            let committed = offsets.and_then(|offsets| offsets.get(&self.name, *partition));
            let fits = |committed: &&CommittedOffset| {
                let ids = [committed.topic_id, self.topic_id];
                ids[0] == ids[1] || ids.contains(&TopicId::ZERO)
            };
            match committed.filter(fits) {
                Some(committed) => FetchedOffset::of(*partition, committed),
                None => FetchedOffset::none(*partition, error),
            }
        };
        FetchedTopic {
            name: self.name.clone(),
            topic_id: self.topic_id,
            partitions: self.partitions.iter().map(offset).collect(),
        }
    }
}

/// Every durable offset, topic by topic.
fn all_topics(offsets: &Offsets, stability: Stability) -> Vec<FetchedTopic> {
    let mut topics: Vec<FetchedTopic> = Vec::new();
    for (name, partition, committed) in offsets.durable() {
        if topics.last().is_none_or(|last| last.name != name) {
            let (name, partitions) = (name.to_owned(), Vec::new());
            topics.push(FetchedTopic { name, topic_id: committed.topic_id, partitions });
        }
        let topic = topics.last_mut().expect("it was just put there");
        let is_unstable = stability.is_missing(offsets, name, partition);
        topic.partitions.push(match is_unstable {
            true => FetchedOffset::none(partition, ErrorCode::UnstableOffsetCommit),
            false => FetchedOffset::of(partition, committed),
        });
    }
    topics
}

impl FetchedGroup {
    /// The offsets in each topic.
    #[must_use]
    pub fn topics(&self) -> &[FetchedTopic] {
        &self.topics
    }

    fn to_wire(&self, version: i16) -> OffsetFetchResponseGroup<'_> {
        let topics = self.topics.iter().map(|topic| OffsetFetchResponseTopics {
            name: if version < TOPIC_IDS_FROM { &topic.name } else { "" },
            topic_id: topic.topic_id,
            partitions: topic
                .partitions
                .iter()
                .map(|one| OffsetFetchResponsePartitions {
                    partition_index: one.partition,
                    committed_offset: one.offset,
                    committed_leader_epoch: one.leader_epoch,
                    metadata: Some(&one.metadata),
                    error_code: one.error.code(),
                })
                .collect(),
        });
        OffsetFetchResponseGroup {
            group_id: &self.group_id,
            topics: topics.collect(),
            error_code: self.error.code(),
        }
    }
}
