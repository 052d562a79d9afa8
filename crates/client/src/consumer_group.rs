//! Membership in a consumer group of KIP-848: the broker assigns, and a member says with its next
//! heartbeat what it has given up.

use std::{collections::BTreeMap, time::Duration};

use model::{ErrorCode, TopicId};
use wire::consumer_group_heartbeat_request::{ConsumerGroupHeartbeatRequest, TopicPartitions};

use crate::{
    Connection, Error, Result, assignor::Assignment, group::CommittedOffsets, topics::AutoCreate,
};

/// The epoch with which a member joins, and that with which it leaves.
const JOINS: i32 = 0;
const LEAVES: i32 = -1;

/// How a member behaves in its group.
#[derive(Clone, Debug)]
pub struct ConsumerGroupOptions {
    /// The group's name.
    pub group: String,
    /// The member's own id, which nobody else may have.
    pub member_id: String,
    /// The topics it wants, which are there.
    pub topics: Vec<String>,
    /// How long it may take to give partitions up.
    pub rebalance_timeout: Duration,
}

/// A member of a consumer group, through one connection to the coordinator.
pub struct ConsumerGroupMember {
    connection: Connection,
    options: ConsumerGroupOptions,
    epoch: i32,
    names: BTreeMap<TopicId, String>,
    owned: BTreeMap<TopicId, Vec<i32>>,
}

impl ConsumerGroupMember {
    /// One that has not joined yet.
    #[must_use]
    pub fn new(connection: Connection, options: ConsumerGroupOptions) -> ConsumerGroupMember {
        let (names, owned) = (BTreeMap::new(), BTreeMap::new());
        ConsumerGroupMember { connection, options, epoch: JOINS, names, owned }
    }

    /// The partitions that it may read now.
    #[must_use]
    pub fn assignment(&self) -> Assignment {
        let named = self
            .owned
            .iter()
            .filter_map(|(id, partitions)| Some((self.names.get(id)?.clone(), partitions.clone())));
        named.collect()
    }

    /// The epoch that it is at.
    #[must_use]
    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    /// Joins the group, for the first time or after it was fenced.
    ///
    /// # Errors
    /// The connection's or the coordinator's.
    pub async fn join(&mut self) -> Result<()> {
        let names: Vec<&str> = self.options.topics.iter().map(String::as_str).collect();
        let metadata = self.connection.metadata(Some(&names), AutoCreate::Never).await?;
        self.names = metadata.topics.into_iter().map(|topic| (topic.id, topic.name)).collect();
        self.owned.clear();
        self.epoch = JOINS;
        self.heartbeat().await
    }

    /// Tells that it lives and what it has, which is what it was last told; takes over what it is
    /// told now.
    ///
    /// # Errors
    /// The connection's or the coordinator's: after [`ErrorCode::FencedMemberEpoch`] and
    /// [`ErrorCode::UnknownMemberId`] it has nothing, and has to join again.
    pub async fn heartbeat(&mut self) -> Result<()> {
        let owned = self.owned.iter().map(|(topic_id, partitions)| TopicPartitions {
            topic_id: *topic_id,
            partitions: partitions.clone(),
        });
        let timeout_ms = self.options.rebalance_timeout.as_millis();
        let request = ConsumerGroupHeartbeatRequest {
            group_id: &self.options.group,
            member_id: &self.options.member_id,
            member_epoch: self.epoch,
            rebalance_timeout_ms: i32::try_from(timeout_ms).unwrap_or(i32::MAX),
            subscribed_topic_names: Some(self.options.topics.iter().map(String::as_str).collect()),
            topic_partitions: Some(owned.collect()),
            ..Default::default()
        };
        let answer = self.connection.call(&request).await?;
        let response = answer.decode()?;
        Error::check(response.error_code)?;
        self.epoch = response.member_epoch;
        if let Some(assignment) = response.assignment {
            let topics = assignment.topic_partitions.into_iter();
            self.owned = topics.map(|one| (one.topic_id, one.partitions)).collect();
        }
        Ok(())
    }

    /// Leaves the group, so that the others need not wait for the session to time out.
    ///
    /// # Errors
    /// The connection's or the coordinator's.
    pub async fn leave(self) -> Result<()> {
        let request = ConsumerGroupHeartbeatRequest {
            group_id: &self.options.group,
            member_id: &self.options.member_id,
            member_epoch: LEAVES,
            ..Default::default()
        };
        let answer = self.connection.call(&request).await?;
        Error::check(answer.decode()?.error_code)
    }

    /// Commits offsets: of each partition the one to go on from.
    ///
    /// # Errors
    /// The connection's or the coordinator's, of any of them.
    pub async fn commit(&self, offsets: &CommittedOffsets) -> Result<()> {
        let (group, member_id) = (&self.options.group, &self.options.member_id);
        self.connection.commit_offsets(group, member_id, self.epoch, offsets).await
    }

    /// Whether an error says that it is no member any more.
    #[must_use]
    pub fn is_lost(error: &Error) -> bool {
        matches!(
            error,
            Error::Refused(
                ErrorCode::FencedMemberEpoch
                    | ErrorCode::UnknownMemberId
                    | ErrorCode::StaleMemberEpoch
                    | ErrorCode::GroupIdNotFound
            )
        )
    }
}
