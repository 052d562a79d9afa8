//! How a member comes from what it has to what it is to have: it gives up first, and gets only
//! what nobody has any more.
//!
//! ```text
//!            has to give up                        has given up
//!  Stable ------------------> UnrevokedPartitions ----------------+
//!    |  ^                                                         |
//!    |  +------------------------- all of it is free -------------+
//!    |                                                            v
//!    +------ some of it is not free yet ---------------> UnreleasedPartitions
//! ```

use model::TopicId;
use model::collections::BTreeSet;

use super::assignor::Partitions;
use super::{ConsumerGroup, Current, MemberState, Owned, Refusal, is_reconciled};

/// What a member's step depends on.
#[derive(Debug)]
pub struct Step<'a> {
    /// The assignment epoch.
    pub target_epoch: i32,
    /// What the member is to have.
    pub target: &'a Partitions,
    /// The topics that it subscribes to.
    pub topics: &'a BTreeSet<TopicId>,
    /// Whether that has just changed.
    pub is_subscription_new: bool,
    /// What it says that it has; `None` where it says nothing.
    pub owned: Option<&'a Partitions>,
}

impl Step<'_> {
    /// What the member has next.
    ///
    /// # Errors
    /// When the member has to begin anew.
    pub fn take(&self, current: &Current, group: &ConsumerGroup) -> Result<Current, Refusal> {
        if !self.is_subscription_new && is_reconciled(current, self.target_epoch) {
            return Ok(current.clone());
        }
        let waits = |pending: &Owned| self.still_owns(pending);
        match current.state {
            MemberState::Stable if current.epoch == self.target_epoch => Ok(self.shrink(current)),
            MemberState::UnrevokedPartitions if waits(&current.pending_revocation) => {
                if self.is_subscription_new {
                    Ok(self.shrink(current))
                } else {
                    Ok(current.clone())
                }
            }
            MemberState::Unknown if self.owned.is_none_or(|owned| !owned.is_empty()) => {
                Err(Refusal::fenced(
                    "The consumer group member is in a unknown state. The member must abandon all \
                     its partitions and rejoin.",
                ))
            }
            MemberState::Stable
            | MemberState::UnrevokedPartitions
            | MemberState::UnreleasedPartitions
            | MemberState::Unknown => Ok(self.advance(current, group)),
        }
    }

    /// Whether the member has, or may have, any of these.
    fn still_owns(&self, pending: &Owned) -> bool {
        let Some(owned) = self.owned else { return true };
        owned.iter().any(|(topic, partitions)| {
            let pending = pending.get(topic);
            pending.is_some_and(|pending| partitions.iter().any(|one| pending.contains_key(one)))
        })
    }

    /// Takes away what the member does not subscribe to any more, before there is a new target.
    fn shrink(&self, current: &Current) -> Current {
        let mut next = current.clone();
        next.assigned.retain(|topic, partitions| {
            let is_kept = self.topics.contains(topic);
            if !is_kept {
                let pending = next.pending_revocation.entry(*topic).or_default();
                pending.extend(std::mem::take(partitions));
            }
            is_kept
        });
        if next.assigned == current.assigned {
            return next;
        }
        next.previous_epoch = current.epoch;
        if self.still_owns(&next.pending_revocation) {
            next.state = MemberState::UnrevokedPartitions;
        } else {
            next.pending_revocation.clone_from(&current.pending_revocation);
        }
        next
    }

    fn advance(&self, current: &Current, group: &ConsumerGroup) -> Current {
        let none = BTreeSet::new();
        let mut assigned = Owned::new();
        let mut pending_revocation = Owned::new();
        for (topic, partitions) in &current.assigned {
            let target = self.target.get(topic).filter(|_| self.topics.contains(topic));
            let target = target.unwrap_or(&none);
            for (partition, epoch) in partitions {
                let is_kept = target.contains(partition);
                let side = if is_kept { &mut assigned } else { &mut pending_revocation };
                side.entry(*topic).or_default().insert(*partition, *epoch);
            }
        }
        if !pending_revocation.is_empty() && self.still_owns(&pending_revocation) {
            return Current {
                epoch: current.epoch,
                previous_epoch: current.epoch,
                state: MemberState::UnrevokedPartitions,
                assigned,
                pending_revocation,
            };
        }
        let mut has_unreleased = false;
        for (topic, partitions) in self.target.iter().filter(|(id, _)| self.topics.contains(*id)) {
            for partition in partitions {
                if current.assigned.get(topic).is_some_and(|has| has.contains_key(partition)) {
                    continue;
                }
                let is_own =
                    |owned: &Owned| owned.get(topic).is_some_and(|has| has.contains_key(partition));
                if group.owners.contains_key(&(*topic, *partition))
                    && !is_own(&current.pending_revocation)
                {
                    has_unreleased = true;
                } else {
                    assigned.entry(*topic).or_default().insert(*partition, self.target_epoch);
                }
            }
        }
        Current {
            epoch: self.target_epoch,
            previous_epoch: current.epoch,
            state: match has_unreleased {
                true => MemberState::UnreleasedPartitions,
                false => MemberState::Stable,
            },
            assigned,
            pending_revocation: Owned::new(),
        }
    }
}
