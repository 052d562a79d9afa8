//! The assignors on the server's side: `uniform` and `range`. Both are pure and give the same
//! answer for the same question.
//!
//! `uniform` keeps what members have as far as no member then has more than its share. Where all
//! members subscribe to the same topics this is one pass over the members; else partitions move
//! from those who have many to those who have few as long as that makes them more equal, and each
//! move lessens the sum of the squares, so it ends.
//!
//! `range` gives each member a run of each of its topics, in the order of the members' static
//! names and then of their ids, so that topics of one size are cut alike.

use std::cmp::Ordering;
use std::rc::Rc;

use model::TopicId;
use model::collections::{BTreeMap, BTreeSet};

/// Partitions by topic; no topic is without partitions.
pub type Partitions = BTreeMap<TopicId, BTreeSet<i32>>;

/// How partitions are given to members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assignor {
    /// As equally as can be, with few moves.
    Uniform,
    /// Runs of each topic.
    Range,
}

/// A member, as an assignor sees it.
#[derive(Debug)]
pub struct Subscriber {
    /// Its id.
    pub id: Rc<str>,
    /// Its static name.
    pub instance_id: Option<String>,
    /// The topics that it subscribes to and that there are.
    pub topics: Rc<BTreeSet<TopicId>>,
    /// What it was given before.
    pub previous: Rc<Partitions>,
}

impl Assignor {
    /// As requests and settings name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }

    /// The assignor of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Assignor> {
        [Assignor::Uniform, Assignor::Range].into_iter().find(|one| one.name() == name)
    }

    /// Gives every partition of a topic that somebody subscribes to, to one who does. The answer
    /// is in the order of the members. `counts` says how many partitions each topic has.
    #[must_use]
    pub fn assign(
        self,
        members: &[Subscriber],
        counts: &BTreeMap<TopicId, i32>,
    ) -> Vec<Partitions> {
        let is_same = |pair: &[Subscriber]| {
            Rc::ptr_eq(&pair[0].topics, &pair[1].topics) || pair[0].topics == pair[1].topics
        };
        match self {
            Assignor::Range => range(members, counts),
            Assignor::Uniform if members.windows(2).all(is_same) => uniform_alike(members, counts),
            Assignor::Uniform => uniform_mixed(members, counts),
        }
    }
}

fn range(members: &[Subscriber], counts: &BTreeMap<TopicId, i32>) -> Vec<Partitions> {
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by(|one, other| compare(&members[*one], &members[*other]));
    let mut assigned = vec![Partitions::new(); members.len()];
    for (topic, count) in counts {
        let subscribers: Vec<usize> =
            order.iter().copied().filter(|index| members[*index].topics.contains(topic)).collect();
        let Ok(member_count) = i32::try_from(subscribers.len()) else { continue };
        let mut next = 0;
        for (index, position) in subscribers.into_iter().zip(0..) {
            let extra = i32::from(position < count % member_count);
            let end = next + count / member_count + extra;
            if next < end {
                assigned[index].insert(*topic, (next..end).collect());
            }
            next = end;
        }
    }
    assigned
}

fn compare(one: &Subscriber, other: &Subscriber) -> Ordering {
    match (&one.instance_id, &other.instance_id) {
        (Some(one), Some(other)) => one.cmp(other),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => one.id.cmp(&other.id),
    }
}

/// What of a member's former partitions it may still have, in a fixed order.
fn kept<'a>(
    member: &'a Subscriber,
    counts: &'a BTreeMap<TopicId, i32>,
) -> impl Iterator<Item = (TopicId, i32)> + 'a {
    member.previous.iter().flat_map(move |(topic, partitions)| {
        let count = counts.get(topic).copied().filter(|_| member.topics.contains(topic));
        let partitions = partitions.range(0..count.unwrap_or(0));
        partitions.map(move |partition| (*topic, *partition))
    })
}

fn give(assigned: &mut Partitions, (topic, partition): (TopicId, i32)) {
    assigned.entry(topic).or_default().insert(partition);
}

/// Every partition that nobody has.
fn unassigned(
    counts: &BTreeMap<TopicId, i32>,
    taken: &BTreeSet<(TopicId, i32)>,
) -> Vec<(TopicId, i32)> {
    let all = counts.iter().flat_map(|(topic, count)| (0..*count).map(move |one| (*topic, one)));
    all.filter(|one| !taken.contains(one)).collect()
}

fn uniform_alike(members: &[Subscriber], counts: &BTreeMap<TopicId, i32>) -> Vec<Partitions> {
    let Some(first) = members.first() else { return Vec::new() };
    let counts: BTreeMap<TopicId, i32> =
        first.topics.iter().filter_map(|topic| Some((*topic, *counts.get(topic)?))).collect();
    let total: usize = counts.values().map(|count| usize::try_from(*count).unwrap_or(0)).sum();
    let (quota, mut extra) = (total / members.len(), total % members.len());
    let mut assigned = vec![Partitions::new(); members.len()];
    let mut sizes = vec![0; members.len()];
    let mut taken = BTreeSet::new();
    for (index, member) in members.iter().enumerate() {
        for one in kept(member, &counts) {
            let is_extra = sizes[index] == quota;
            if sizes[index] > quota || (is_extra && extra == 0) || !taken.insert(one) {
                continue;
            }
            extra -= usize::from(is_extra);
            sizes[index] += 1;
            give(&mut assigned[index], one);
        }
    }
    let mut rest = unassigned(&counts, &taken).into_iter();
    for (index, size) in sizes.iter_mut().enumerate() {
        if *size <= quota && extra > 0 {
            // Those who fill up here may take one more; who has one more already does not.
            let wants = quota + 1 - *size;
            extra -= 1;
            rest.by_ref().take(wants).for_each(|one| give(&mut assigned[index], one));
        } else if *size < quota {
            let wants = quota - *size;
            rest.by_ref().take(wants).for_each(|one| give(&mut assigned[index], one));
        }
    }
    assert!(rest.next().is_none(), "the quotas add up to all partitions");
    assigned
}

fn uniform_mixed(members: &[Subscriber], counts: &BTreeMap<TopicId, i32>) -> Vec<Partitions> {
    let mut owners = BTreeMap::<(TopicId, i32), usize>::new();
    let mut sizes = vec![0_usize; members.len()];
    for (index, member) in members.iter().enumerate() {
        for one in kept(member, counts) {
            if let std::collections::btree_map::Entry::Vacant(vacant) = owners.entry(one) {
                vacant.insert(index);
                sizes[index] += 1;
            }
        }
    }
    let subscribers: BTreeMap<TopicId, Vec<usize>> = counts
        .keys()
        .map(|topic| {
            let indexes = members.iter().enumerate();
            let of_topic = indexes.filter(|(_, member)| member.topics.contains(topic));
            (*topic, of_topic.map(|(index, _)| index).collect())
        })
        .collect();
    let least = |topic: &TopicId, sizes: &[usize]| {
        subscribers[topic].iter().copied().min_by_key(|index| sizes[*index])
    };
    for one in unassigned(counts, &owners.keys().copied().collect()) {
        if let Some(index) = least(&one.0, &sizes) {
            owners.insert(one, index);
            sizes[index] += 1;
        }
    }
    loop {
        let mut has_moved = false;
        for (one, owner) in &mut owners {
            let Some(index) = least(&one.0, &sizes) else { continue };
            if sizes[index] + 1 < sizes[*owner] {
                sizes[*owner] -= 1;
                sizes[index] += 1;
                *owner = index;
                has_moved = true;
            }
        }
        if !has_moved {
            break;
        }
    }
    let mut assigned = vec![Partitions::new(); members.len()];
    for (one, index) in owners {
        give(&mut assigned[index], one);
    }
    assigned
}
