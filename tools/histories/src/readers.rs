//! Readers of committed records that assign, and who asks where logs begin and end.

use std::collections::BTreeMap;
use std::time::Duration;

use checker::history::{Action, Ends, Kind, Polled, Which};
use client::{OffsetSpec, Position};
use model::Offset;
use rig::chance::Chance;

use crate::world::{Process, Topic, World, from_start, log_name};

/// Of 1,000 polls so many are followed by a new start somewhere before.
const SEEKS_PERMILLE: u64 = 5;
/// How far back: all the way, or a half of it, a quarter, and so on.
const BACK_HALVED_MAX: u64 = 12;
const LOOK_PAUSE_MS: u64 = 100;
/// What does not become readable within so long is not going to: no transaction stays open longer.
const READ_WITHIN: Duration = Duration::from_secs(40);
const IDLE_PAUSE: Duration = Duration::from_millis(10);

/// What a history calls these positions.
pub(crate) fn assigned(positions: &[Position]) -> BTreeMap<String, i64> {
    let at = |one: &Position| (log_name(&one.topic, one.partition), one.offset.0);
    positions.iter().map(at).collect()
}

/// Follows a topic until the load is over; now and then it goes back.
pub(crate) async fn poll(world: World, topic: Topic, mut chance: Chance) {
    let process = world.process("poller");
    let mut positions = from_start(&topic);
    process.done(Action::Assign(assigned(&positions)));
    while !world.is_over() {
        process.invoke(Action::Poll(Polled::default()));
        match process.fetch(&mut positions).await {
            Ok(reads) => {
                let is_idle = reads.is_empty();
                process.complete(Kind::Ok, Action::Poll(Polled { reads, member: None }));
                if is_idle {
                    // A partition that cannot be read is answered at once.
                    world.runtime.sleep(IDLE_PAUSE).await;
                }
            }
            Err(error) => {
                process.complete(Kind::Info, Action::Poll(Polled::default()));
                process.rest(&error).await;
            }
        }
        if chance.between(1, 1000) <= SEEKS_PERMILLE {
            for position in &mut positions {
                // Mostly a little: a history keeps all that is read.
                let all = u64::try_from(position.offset.0).expect("an offset");
                let most = all >> chance.between(0, BACK_HALVED_MAX);
                let back = i64::try_from(chance.between(0, most)).expect("no more than the offset");
                position.offset = Offset(position.offset.0 - back);
            }
            process.done(Action::Assign(assigned(&positions)));
        }
    }
}

/// Asks for the ends of a topic's logs until the load is over.
pub(crate) async fn look(world: World, topic: Topic, mut chance: Chance) {
    let process = world.process("looker");
    while !world.is_over() {
        let spec = match chance.between(0, 2) {
            0 => OffsetSpec::Earliest,
            1 => OffsetSpec::Latest,
            _ => OffsetSpec::LastStable,
        };
        ask(&process, &topic, spec).await;
        world.pause_ms(&mut chance, LOOK_PAUSE_MS).await;
    }
}

/// Asks for one end of each of a topic's logs; none are told if one answer fails.
pub(crate) async fn ask(process: &Process, topic: &Topic, spec: OffsetSpec) -> Option<Vec<i64>> {
    let which = match spec {
        OffsetSpec::Earliest => Which::Start,
        OffsetSpec::LastStable => Which::Stable,
        OffsetSpec::Latest | OffsetSpec::AtOrAfter(_) => Which::End,
    };
    let asked = || Action::ListOffsets(Ends { which, offsets: BTreeMap::new() });
    process.invoke(asked());
    let mut found = Vec::new();
    for partition in 0..topic.partitions {
        let connection = process.connection().await;
        match connection.list_offset(topic.name, partition, spec).await {
            Ok(offset) => found.push(offset.map_or(-1, |offset| offset.0)),
            Err(error) => {
                process.complete(Kind::Info, asked());
                process.rest(&error).await;
                return None;
            }
        }
    }
    let offsets = topic.logs().into_iter().zip(found.iter().copied()).collect();
    process.complete(Kind::Ok, Action::ListOffsets(Ends { which, offsets }));
    Some(found)
}

/// Reads a topic from its start to its end; false if it does not come there in time.
pub(crate) async fn read_all(process: &Process, topic: &Topic) -> bool {
    let until = process.world.runtime.now() + READ_WITHIN;
    let mut positions = from_start(topic);
    process.done(Action::Assign(assigned(&positions)));
    while process.world.runtime.now() < until {
        let stable = ask(process, topic, OffsetSpec::LastStable).await;
        let end = ask(process, topic, OffsetSpec::Latest).await;
        let is_at_end = end.as_ref().is_some_and(|end| {
            positions.iter().zip(end).all(|(position, end)| position.offset.0 >= *end)
        });
        if is_at_end {
            return true;
        }
        process.invoke(Action::Poll(Polled::default()));
        match process.fetch(&mut positions).await {
            Ok(reads) => {
                if reads.is_empty() && stable != end {
                    process.world.runtime.sleep(Duration::from_millis(50)).await;
                }
                process.complete(Kind::Ok, Action::Poll(Polled { reads, member: None }));
            }
            Err(error) => {
                process.complete(Kind::Info, Action::Poll(Polled::default()));
                process.rest(&error).await;
            }
        }
    }
    false
}
