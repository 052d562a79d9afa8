//! Members of a KIP-848 group that come and go: the broker assigns, and a member reads on from what
//! was committed of each partition that is new to it.

use std::time::Duration;

use checker::history::{Action, Kind, Membership};
use client::assignor::Assignment;
use client::{ConsumerGroupMember, ConsumerGroupOptions, Error, Position};
use model::Offset;
use rig::chance::Chance;

use crate::members::{Committer, offsets_of, poll};
use crate::world::{Process, Topic, World, log_name};

pub(crate) const GROUP: &str = "consumers";
const REBALANCE: Duration = Duration::from_secs(5);
/// Of 1,000 rounds so many end with a leave.
const LEAVES_PERMILLE: u64 = 10;
const COMMITS_PERMILLE: u64 = 400;
const PAUSE_MS: u64 = 200;

/// One that has not joined yet.
pub(crate) async fn new_member(process: &Process, topic: &Topic) -> ConsumerGroupMember {
    let options = ConsumerGroupOptions {
        group: GROUP.to_owned(),
        member_id: process.name.clone(),
        topics: vec![topic.name.to_owned()],
        rebalance_timeout: REBALANCE,
    };
    ConsumerGroupMember::new(process.connection().await, options)
}

/// Is a member, again and again, until the load is over.
pub(crate) async fn be_consumer(world: World, topic: Topic, mut chance: Chance) {
    let process = world.process("consumer");
    let mut committer = Committer::new(&process, GROUP);
    while !world.is_over() {
        let mut member = new_member(&process, &topic).await;
        let mut lived = join(&process, &mut member).await.map(drop);
        if lived.is_ok() {
            lived = live(&process, &mut member, &mut committer, &mut chance).await;
        }
        let left = match lived {
            Ok(()) => member.leave().await,
            Err(error) => Err(error),
        };
        if let Err(error) = left {
            process.rest(&error).await;
        }
        world.pause_ms(&mut chance, PAUSE_MS).await;
    }
}

/// Joins, and tells the history what it was given.
pub(crate) async fn join(
    process: &Process,
    member: &mut ConsumerGroupMember,
) -> Result<Membership, Error> {
    process.invoke(Action::Subscribe(Membership::default()));
    if let Err(error) = member.join().await {
        process.complete(Kind::Info, Action::Subscribe(Membership::default()));
        return Err(error);
    }
    let membership = membership(process, member);
    process.complete(Kind::Ok, Action::Subscribe(membership.clone()));
    Ok(membership)
}

fn membership(process: &Process, member: &ConsumerGroupMember) -> Membership {
    let assignment = member.assignment();
    let logs = assignment.iter().flat_map(|(topic, partitions)| {
        partitions.iter().map(move |partition| log_name(topic, *partition))
    });
    Membership {
        group: GROUP.to_owned(),
        generation: member.epoch(),
        member: process.name.clone(),
        partitions: logs.collect(),
    }
}

async fn live(
    process: &Process,
    member: &mut ConsumerGroupMember,
    committer: &mut Committer,
    chance: &mut Chance,
) -> Result<(), Error> {
    let mut positions = Vec::new();
    while !process.world.is_over() {
        follow(process, &member.assignment(), &mut positions).await?;
        let mut membership = membership(process, member);
        membership.partitions.clear();
        poll(process, &membership, &mut positions).await?;
        if chance.between(1, 1000) <= COMMITS_PERMILLE && !positions.is_empty() {
            // An epoch is each member's own: what is over for one is not for another.
            committer
                .commit(None, &positions, async |offsets| member.commit(offsets).await)
                .await?;
        }
        member.heartbeat().await?;
        if chance.between(1, 1000) <= LEAVES_PERMILLE {
            break;
        }
    }
    Ok(())
}

/// Gives up what the member has no more, and begins what is new where the group has committed.
async fn follow(
    process: &Process,
    assignment: &Assignment,
    positions: &mut Vec<Position>,
) -> Result<(), Error> {
    positions.retain(|one| {
        assignment.get(&one.topic).is_some_and(|owned| owned.contains(&one.partition))
    });
    let mut added = Assignment::new();
    for (topic, partitions) in assignment {
        let is_new = |partition: &i32| {
            !positions.iter().any(|one| one.topic == *topic && one.partition == *partition)
        };
        let new: Vec<i32> = partitions.iter().copied().filter(is_new).collect();
        if !new.is_empty() {
            added.insert(topic.clone(), new);
        }
    }
    if added.is_empty() {
        return Ok(());
    }
    let committed = offsets_of(process, GROUP, added.clone()).await?;
    for (topic, partitions) in added {
        for partition in partitions {
            let found = committed.get(&(topic.clone(), partition));
            let offset = found.map_or(Offset(0), |found| found.offset);
            positions.push(Position { topic: topic.clone(), partition, offset });
        }
    }
    Ok(())
}
