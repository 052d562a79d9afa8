//! Members of a classic group that come and go: they read where the group has committed, and
//! commit.

use std::collections::BTreeMap;
use std::time::Duration;

use checker::history::{Action, Commit, Kind, Membership, Polled};
use client::{CommittedOffset, CommittedOffsets, Error, GroupMember, GroupOptions, Position};
use model::{ErrorCode, Offset};
use rig::chance::Chance;

use crate::world::{Process, Topic, World, log_name};

pub(crate) const GROUP: &str = "group";
/// Short, so that who was killed is not waited for.
const SESSION: Duration = Duration::from_secs(6);
const REBALANCE: Duration = Duration::from_secs(5);
/// Of 1,000 rounds in a generation so many end with a leave.
const LEAVES_PERMILLE: u64 = 15;
const COMMITS_PERMILLE: u64 = 400;
const PAUSE_MS: u64 = 200;

pub(crate) fn options(topic: &Topic) -> GroupOptions {
    GroupOptions {
        group: GROUP.to_owned(),
        topics: vec![topic.name.to_owned()],
        session_timeout: SESSION,
        rebalance_timeout: REBALANCE,
    }
}

/// Is a member, again and again, until the load is over.
pub(crate) async fn be_member(world: World, topic: Topic, mut chance: Chance) {
    let process = world.process("member");
    let mut committer = Committer::new(&process, GROUP);
    while !world.is_over() {
        let connection = process.connection().await;
        let mut member = GroupMember::new(connection, options(&topic));
        let mut lived = Ok(());
        while lived.is_ok() && !world.is_over() {
            lived = be_in_generation(&process, &mut member, &mut committer, &mut chance).await;
            if lived.is_ok() && chance.between(1, 2) == 1 {
                break;
            }
            if let Err(Error::Refused(
                ErrorCode::RebalanceInProgress
                | ErrorCode::IllegalGeneration
                | ErrorCode::UnknownMemberId,
            )) = lived
            {
                lived = Ok(());
            }
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
pub(crate) async fn join(process: &Process, member: &mut GroupMember) -> Result<Membership, Error> {
    process.invoke(Action::Subscribe(Membership::default()));
    let joined = member.join().await;
    if let Err(error) = joined {
        process.complete(Kind::Info, Action::Subscribe(Membership::default()));
        return Err(error);
    }
    let logs = member.assignment().iter().flat_map(|(topic, partitions)| {
        partitions.iter().map(move |partition| log_name(topic, *partition))
    });
    let membership = Membership {
        group: GROUP.to_owned(),
        generation: member.generation_id(),
        member: member.member_id().to_owned(),
        partitions: logs.collect(),
    };
    process.complete(Kind::Ok, Action::Subscribe(membership.clone()));
    Ok(membership)
}

/// A generation, until it ends or the member has had enough.
async fn be_in_generation(
    process: &Process,
    member: &mut GroupMember,
    committer: &mut Committer,
    chance: &mut Chance,
) -> Result<(), Error> {
    let mut membership = join(process, member).await?;
    // What it reads says whose it is.
    membership.partitions.clear();
    let committed = offsets_of(process, GROUP, member.assignment().clone()).await?;
    let mut positions = Vec::new();
    for (topic, partitions) in member.assignment() {
        for partition in partitions {
            let found = committed.get(&(topic.clone(), *partition));
            let offset = found.map_or(Offset(0), |found| found.offset);
            positions.push(Position { topic: topic.clone(), partition: *partition, offset });
        }
    }
    while !process.world.is_over() {
        poll(process, &membership, &mut positions).await?;
        if chance.between(1, 1000) <= COMMITS_PERMILLE && !positions.is_empty() {
            let generation = Some(member.generation_id());
            let call = async |offsets: &CommittedOffsets| member.commit(offsets).await;
            committer.commit(generation, &positions, call).await?;
        }
        member.heartbeat().await?;
        if chance.between(1, 1000) <= LEAVES_PERMILLE {
            break;
        }
    }
    Ok(())
}

pub(crate) async fn poll(
    process: &Process,
    membership: &Membership,
    positions: &mut [Position],
) -> Result<(), Error> {
    if positions.is_empty() {
        process.world.runtime.sleep(Duration::from_millis(50)).await;
        return Ok(());
    }
    process.invoke(Action::Poll(Polled::default()));
    match process.fetch(positions).await {
        Ok(reads) => {
            let member = Some(membership.clone());
            process.complete(Kind::Ok, Action::Poll(Polled { reads, member }));
            Ok(())
        }
        Err(error) => {
            process.complete(Kind::Info, Action::Poll(Polled::default()));
            Err(error)
        }
    }
}

/// Who commits for a group, with a word of its own each time.
pub(crate) struct Committer {
    process: Process,
    group: &'static str,
    count: u64,
}

impl Committer {
    pub(crate) fn new(process: &Process, group: &'static str) -> Committer {
        Committer { process: process.clone(), group, count: 0 }
    }

    /// Commits these positions, as a member of a generation if there is one that all share.
    pub(crate) async fn commit(
        &mut self,
        generation: Option<i32>,
        positions: &[Position],
        call: impl AsyncFnOnce(&CommittedOffsets) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.count += 1;
        let metadata = format!("m{}-{}", self.process.number, self.count);
        let mut offsets = CommittedOffsets::new();
        for position in positions {
            let found = CommittedOffset { offset: position.offset, metadata: metadata.clone() };
            offsets.insert((position.topic.clone(), position.partition), found);
        }
        let group = self.group.to_owned();
        let action = Action::Commit(Commit { group, generation, offsets: told(&offsets) });
        self.process.invoke(action.clone());
        let committed = call(&offsets).await;
        let kind = match &committed {
            Ok(()) => Kind::Ok,
            // These are said of all partitions at once.
            Err(Error::Refused(
                ErrorCode::IllegalGeneration
                | ErrorCode::UnknownMemberId
                | ErrorCode::RebalanceInProgress
                | ErrorCode::StaleMemberEpoch
                | ErrorCode::FencedMemberEpoch,
            )) => Kind::Fail,
            Err(_) => Kind::Info,
        };
        self.process.complete(kind, action);
        committed
    }
}

/// Offsets as a history has them.
pub(crate) fn told(offsets: &CommittedOffsets) -> BTreeMap<String, (i64, String)> {
    let one = |((topic, partition), found): (&(String, i32), &CommittedOffset)| {
        (log_name(topic, *partition), (found.offset.0, found.metadata.clone()))
    };
    offsets.iter().map(one).collect()
}

/// Asks what a group has committed, and tells the history; a partition without an offset is at -1.
pub(crate) async fn offsets_of(
    process: &Process,
    group: &str,
    assignment: client::assignor::Assignment,
) -> Result<CommittedOffsets, Error> {
    let of = |offsets| Commit { group: group.to_owned(), generation: None, offsets };
    process.invoke(Action::OffsetFetch(of(BTreeMap::new())));
    let connection = process.connection().await;
    match connection.committed_offsets(group, Some(&assignment)).await {
        Ok(committed) => {
            let mut offsets = told(&committed);
            for (topic, partitions) in &assignment {
                for partition in partitions {
                    let none = || (-1, String::new());
                    offsets.entry(log_name(topic, *partition)).or_insert_with(none);
                }
            }
            process.complete(Kind::Ok, Action::OffsetFetch(of(offsets)));
            Ok(committed)
        }
        Err(error) => {
            process.complete(Kind::Info, Action::OffsetFetch(of(BTreeMap::new())));
            Err(error)
        }
    }
}
