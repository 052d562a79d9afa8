//! Classic members of a consumer group: they join and are given what the group's assignor says, and
//! a classic group's members are taken over as they are.

use std::rc::Rc;

use model::collections::BTreeSet;

use super::assignor::Partitions;
use super::embedded::Subscription;
use super::{
    Change, ClassicMember, ConsumerGroup, Current, Edit, Member, MemberState, Owned, Refusal,
};

/// The protocol type that a classic member of a consumer group has.
pub const CONSUMER_PROTOCOL: &str = "consumer";

/// A JoinGroup to a consumer group.
#[derive(Debug)]
pub struct ClassicJoin {
    /// The member's id.
    pub id: Rc<str>,
    /// Whether that is a new one.
    pub is_new_id: bool,
    /// Its static name.
    pub instance_id: Option<String>,
    /// Its client's name.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// How long it may take to join and to give partitions up.
    pub rebalance_timeout_ms: i32,
    /// What it said besides.
    pub classic: ClassicMember,
    /// What it subscribes to.
    pub subscription: Subscription,
}

/// A member of a classic group, for a consumer group.
#[derive(Debug)]
pub struct Adopted {
    /// Its id.
    pub id: Rc<str>,
    /// What it said of itself.
    pub member: Member,
    /// What it reads.
    pub partitions: Partitions,
}

impl ClassicJoin {
    fn updated(&self, known: &Member) -> Member {
        Member {
            instance_id: self.instance_id.clone().or_else(|| known.instance_id.clone()),
            rack_id: self.subscription.rack_id.clone().or_else(|| known.rack_id.clone()),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            topic_names: self.subscription.topics.clone(),
            topic_regex: known.topic_regex.as_ref().map(|_| String::new()),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            assignor: known.assignor.clone(),
            classic: Some(self.classic.clone()),
        }
    }
}

impl Edit<'_> {
    /// A classic member joins, or joins again, and is at the epoch that is returned. With `is_last`,
    /// the group is about to become a classic group by it, and gets no new assignment any more: where
    /// one is due the member stays where it is, as everybody is to join the classic group.
    ///
    /// # Errors
    /// Why not. Then everything is to be taken back.
    pub fn join(&mut self, join: &ClassicJoin, is_last: bool) -> Result<i32, Refusal> {
        if let Some(instance_id) = &join.instance_id {
            if !join.is_new_id {
                self.group.static_member(&join.id, instance_id)?;
            } else if let Some(existing) = self.group.static_members.get(instance_id).cloned() {
                self.replace(&existing, &join.id);
            }
        }
        let known = self.group.members.get(&join.id).cloned().unwrap_or_default();
        let is_subscription_new = self.update_member(&join.id, join.updated(&known))?;
        if !is_last {
            self.update_target();
        } else if self.group.assignment_epoch() < self.group.group_epoch() {
            return Ok(self.group.current_of(&join.id).epoch);
        }
        let owned = Some(&join.subscription.owned);
        let next = self.reconcile(&join.id, is_subscription_new, owned)?;
        Ok(next.epoch)
    }

    /// Takes a classic group's members over as they are: at its generation, with what they read.
    pub fn adopt(&mut self, generation: i32, members: Vec<Adopted>) {
        let mut read = Vec::with_capacity(members.len());
        for Adopted { id, member, partitions } in members {
            self.apply(Change::Member(id.clone(), Some(Rc::new(member))));
            read.push((id, Rc::new(partitions)));
        }
        let hash = self.group.metadata_hash(self.topics);
        self.apply(Change::Epoch(Some((generation, hash))));
        for (id, partitions) in &read {
            self.apply(Change::Target(id.clone(), Some(Rc::clone(partitions))));
        }
        self.apply(Change::TargetEpoch(Some((generation, 0))));
        for (id, partitions) in read {
            let owned = |(topic, all): (&_, &BTreeSet<i32>)| {
                (*topic, all.iter().map(|partition| (*partition, generation)).collect())
            };
            let current = Current {
                epoch: generation,
                previous_epoch: generation,
                state: MemberState::Stable,
                assigned: partitions.iter().map(owned).collect(),
                pending_revocation: Owned::new(),
            };
            self.apply(Change::Current(id, Some(Rc::new(current))));
        }
    }
}

impl ConsumerGroup {
    /// Whether a member with these protocols can talk to all classic members.
    pub fn supports<'a>(
        &self,
        protocol_type: &str,
        mut protocols: impl Iterator<Item = &'a str>,
    ) -> bool {
        let classic = || self.members.values().filter_map(|member| member.classic.as_ref());
        let is_common = |name: &str| {
            classic().all(|one| one.protocols.iter().any(|(known, _)| known.as_str() == name))
        };
        protocol_type == CONSUMER_PROTOCOL && protocols.any(is_common)
    }

    /// Whether all members but these are classic ones, and none of these is.
    pub fn is_classic_but_for(&self, ids: &BTreeSet<Rc<str>>) -> bool {
        let mut members = self.members.iter();
        members.all(|(id, member)| member.classic.is_some() != ids.contains(id))
    }

    /// The id of a static member.
    pub fn id_of(&self, instance_id: &str) -> Option<Rc<str>> {
        self.static_members.get(instance_id).cloned()
    }

    /// Whether a classic member has to join again to go on.
    pub fn has_news_for(&self, id: &str) -> bool {
        let current = self.current_of(id);
        let is_behind = current.epoch < self.assignment_epoch();
        // Each member of the newer protocol has the assignment made with its next heartbeat. Where
        // none is left and the group may not become a classic one, somebody has to join.
        let is_due = self.group_epoch() > self.assignment_epoch()
            && self.members.values().all(|member| member.classic.is_some());
        is_behind
            || is_due
            || match current.state {
                MemberState::Stable | MemberState::Unknown => false,
                MemberState::UnrevokedPartitions => true,
                MemberState::UnreleasedPartitions => !self.waits_for_others(id),
            }
    }

    /// Whether somebody still has a partition that a member is to get.
    fn waits_for_others(&self, id: &str) -> bool {
        let current = self.current_of(id);
        let target = self.target_of(id);
        let mut all = target.iter().flat_map(|(topic, all)| all.iter().map(|one| (*topic, *one)));
        all.any(|(topic, partition)| {
            let assigned = current.assigned.get(&topic);
            !assigned.is_some_and(|has| has.contains_key(&partition))
                && self.owners.contains_key(&(topic, partition))
        })
    }

    /// What a member may read.
    pub fn assigned_to(&self, id: &str) -> Partitions {
        let current = self.current_of(id);
        let assigned = current.assigned.iter();
        assigned.map(|(topic, all)| (*topic, all.keys().copied().collect())).collect()
    }
}
