//! What administrators ask of groups. A request becomes ONE message to each shard that has a part
//! in its answer, whatever the number of groups that it names.

use std::{future::Future, rc::Rc};

use coordinator::{
    Response,
    coordinator::{ConsumerGroupDescription, GroupDescription, GroupFilter, GroupListing},
};
use model::{
    ErrorCode, TopicPartition,
    collections::{BTreeMap, BTreeSet},
};
use runtime::ShardIndex;

use crate::{groups::Hosted, peers::Call, shard::Shard, topic_settings::CONSUMER_OFFSETS};

/// Groups of one shard, by the partition that they belong to.
type Share = BTreeMap<TopicPartition, Vec<String>>;

impl Shard {
    /// The groups that pass a filter, in the order of their ids.
    pub(crate) async fn list_groups(self: &Rc<Self>, filter: GroupFilter) -> Vec<GroupListing> {
        let mut listed: Vec<_> =
            self.call_all(ListGroups { filter }).await.into_iter().flatten().collect();
        listed.sort_by(|one, other| one.group_id.cmp(&other.group_id));
        listed
    }

    /// Describes groups, each once: a name that stands in a request a thousand times must not cost
    /// a thousand descriptions.
    pub(crate) async fn describe_groups(
        self: &Rc<Self>,
        groups: &[&str],
    ) -> BTreeMap<String, GroupDescription> {
        self.describe_each(groups, Hosted::describe, GroupDescription::failed).await
    }

    /// The same of consumer groups.
    pub(crate) async fn describe_consumer_groups(
        self: &Rc<Self>,
        groups: &[&str],
    ) -> BTreeMap<String, ConsumerGroupDescription> {
        let failed = |id: &str, error| ConsumerGroupDescription::failed(id, error, None);
        self.describe_each(groups, Hosted::describe_consumer, failed).await
    }

    async fn describe_each<D: Send + 'static>(
        self: &Rc<Self>,
        groups: &[&str],
        describe: fn(&Hosted, &str) -> D,
        failed: fn(&str, ErrorCode) -> D,
    ) -> BTreeMap<String, D> {
        let shares = match self.shares_of(groups).await {
            Ok(shares) => shares,
            Err(error) => {
                return groups.iter().map(|id| ((*id).to_owned(), failed(id, error))).collect();
            }
        };
        let mut answering = Vec::with_capacity(shares.len());
        for (owner, share) in shares {
            answering.push(self.call(owner, Describe { share, describe, failed }).await);
        }
        let mut described = BTreeMap::new();
        for answer in answering {
            described.extend(answer.answer().await);
        }
        described
    }

    /// Deletes groups; tells what became of each.
    pub(crate) async fn delete_groups(
        self: &Rc<Self>,
        groups: &[&str],
    ) -> BTreeMap<String, ErrorCode> {
        let shares = match self.shares_of(groups).await {
            Ok(shares) => shares,
            Err(error) => return groups.iter().map(|id| ((*id).to_owned(), error)).collect(),
        };
        let mut answering = Vec::with_capacity(shares.len());
        for (owner, share) in shares {
            answering.push(self.call(owner, DeleteGroups { share }).await);
        }
        let mut results = BTreeMap::new();
        for answer in answering {
            results.extend(answer.answer().await);
        }
        results
    }

    /// Which shard has which of these groups, each of them once.
    async fn shares_of(
        self: &Rc<Self>,
        groups: &[&str],
    ) -> Result<BTreeMap<ShardIndex, Share>, ErrorCode> {
        let mut shares = BTreeMap::<ShardIndex, Share>::new();
        if groups.is_empty() {
            return Ok(shares);
        }
        self.require_coordinators_topic(CONSUMER_OFFSETS).await?;
        let distinct: BTreeSet<&str> = groups.iter().copied().collect();
        for group in distinct {
            let (partition, owner) = self.place_of_group(group)?;
            let share = shares.entry(owner).or_default();
            share.entry(partition).or_default().push(group.to_owned());
        }
        Ok(shares)
    }
}

#[derive(Clone)]
struct ListGroups {
    filter: GroupFilter,
}

impl Call for ListGroups {
    type Answer = Vec<GroupListing>;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Answer> + 'static {
        std::future::ready(shard.groups.list(&self.filter))
    }
}

struct Describe<D> {
    share: Share,
    describe: fn(&Hosted, &str) -> D,
    /// What is said of a group that this shard does not have.
    failed: fn(&str, ErrorCode) -> D,
}

impl<D: Send + 'static> Call for Describe<D> {
    type Answer = Vec<(String, D)>;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Answer> + 'static {
        let mut described = Vec::new();
        for (partition, groups) in self.share {
            let hosted = shard.groups.find(partition);
            described.extend(groups.into_iter().map(|id| {
                let description = match &hosted {
                    Some(hosted) => (self.describe)(hosted, &id),
                    None => (self.failed)(&id, ErrorCode::NotCoordinator),
                };
                (id, description)
            }));
        }
        std::future::ready(described)
    }
}

struct DeleteGroups {
    share: Share,
}

impl Call for DeleteGroups {
    type Answer = Vec<(String, ErrorCode)>;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Answer> + 'static {
        let asked: Vec<_> = self
            .share
            .into_iter()
            .map(|(partition, groups)| {
                let answer = shard.groups.find(partition).map(|hosted| {
                    let ids: Vec<&str> = groups.iter().map(String::as_str).collect();
                    hosted.ask(shard, |coordinator, caller, now| {
                        coordinator.delete_groups(caller, &ids, now)
                    })
                });
                (groups, answer)
            })
            .collect();
        async move {
            let mut results = Vec::new();
            for (groups, answer) in asked {
                let response = match answer {
                    Some(answer) => answer.receive().await,
                    None => None,
                };
                match response {
                    Some(Response::DeleteGroups(deleted)) => results.extend(deleted),
                    // The coordinator went away.
                    Some(_) | None => {
                        let gone = |id| (id, ErrorCode::NotCoordinator);
                        results.extend(groups.into_iter().map(gone));
                    }
                }
            }
            results
        }
    }
}
