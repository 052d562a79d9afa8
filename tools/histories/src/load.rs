//! The clients' thread: topics first, then everybody at once, then all is read.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use checker::history::{Action, Copies, Kind, Setup};
use client::{Error, GroupMember, NewTopic, OffsetSpec};
use model::ErrorCode;
use rig::chance::Chance;
use runtime::{BufferPool, DriverPreference, Executor, ShardIndex, mesh, open_driver};

use crate::consumers::{self, be_consumer};
use crate::copier::{self, Copier};
use crate::members::{self, be_member};
use crate::readers::{ask, look, poll, read_all};
use crate::senders::{Records, Sender};
use crate::shared::{Phase, Shared};
use crate::tellers::Teller;
use crate::world::{Topic, World};

const TIMEOUT: Duration = Duration::from_secs(30);
const LOOK_PAUSE: Duration = Duration::from_millis(20);
const POOL_BYTES: usize = 16 << 20;
/// A tombstone is kept for so long.
const DELETE_RETENTION_MS: u64 = 3000;

/// Segments so small that a short run rolls many; `segment.bytes` takes nothing below 1 MiB.
const SEGMENTS: (&str, &str) = ("internal.segment.bytes", "65536");

const QUEUE: Topic = Topic { name: "queue", partitions: 4, configs: &[SEGMENTS] };
const FROM: Topic = Topic { name: "from", partitions: 2, configs: &[SEGMENTS] };
const TO: Topic = Topic { name: "to", partitions: 2, configs: &[SEGMENTS] };
const KEYED: Topic = Topic {
    name: "keyed",
    partitions: 2,
    configs: &[
        ("internal.segment.bytes", "4096"),
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("delete.retention.ms", "3000"),
    ],
};
const TOPICS: [Topic; 4] = [QUEUE, FROM, TO, KEYED];

/// Starts the clients; they end after [`Phase::Heal`].
pub(crate) fn start(shared: &Arc<Shared>, chance: Chance) -> JoinHandle<Result<(), String>> {
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        let (mut endpoints, _) = mesh(1).map_err(|error| error.to_string())?;
        let pool = BufferPool::new(POOL_BYTES);
        let (driver, _) = open_driver(DriverPreference::Auto, endpoints.remove(0), pool)
            .map_err(|error| error.to_string())?;
        let mut executor = Executor::new(ShardIndex(0), 1, driver);
        let world = World::new(executor.runtime(), Arc::clone(&shared));
        let outcome = executor.block_on(run(world, chance));
        shared.set_phase(Phase::Done);
        outcome
    })
}

async fn run(world: World, mut chance: Chance) -> Result<(), String> {
    set_up(&world).await?;
    start_clients(&world, &mut chance);
    while !world.is_over() || world.busy.get() > 0 {
        world.runtime.sleep(LOOK_PAUSE).await;
    }
    Box::pin(finish(&world, &mut chance)).await
}

async fn set_up(world: &World) -> Result<(), String> {
    let logs = |topics: &[Topic]| topics.iter().flat_map(Topic::logs).collect();
    let copies = Copies { group: copier::GROUP.to_owned(), from: FROM.logs(), to: TO.logs() };
    let setup = Setup {
        idempotent: true,
        partitions: logs(&TOPICS),
        groups: [members::GROUP, consumers::GROUP].map(str::to_owned).to_vec(),
        compacted: KEYED.logs(),
        delete_retention_ms: DELETE_RETENTION_MS,
        copies: vec![copies],
    };
    world.shared.note(0, Kind::Info, Action::Setup(setup));
    let process = world.process("setup");
    for topic in TOPICS {
        let Topic { name, partitions: partition_count, configs } = topic;
        let new = NewTopic { name, partition_count, replication_factor: 1, configs };
        let made =
            process.retry(async |connection| match connection.create_topic(&new, TIMEOUT).await {
                Err(Error::Refused(ErrorCode::TopicAlreadyExists)) => Ok(()),
                other => other,
            });
        made.await.map_err(|error| format!("topic {name}: {error}"))?;
    }
    world.shared.set_phase(Phase::Load);
    Ok(())
}

fn start_clients(world: &World, chance: &mut Chance) {
    for (topic, kind, pause_ms) in [
        (QUEUE, Records::Plain, 10),
        (QUEUE, Records::Plain, 40),
        (FROM, Records::Plain, 40),
        (KEYED, Records::Keyed, 10),
    ] {
        let sender = Sender::new(world, topic, kind, chance.fork());
        world.start("sender", sender.run(pause_ms));
    }
    for pause_ms in [0, 10, 30] {
        world.start("teller", Teller::new(world, QUEUE, chance.fork()).run(pause_ms));
    }
    world.start("copier", Copier::new(world, FROM, TO, chance.fork()).run(20));
    for topic in [QUEUE, QUEUE, TO, KEYED] {
        world.start("poller", poll(world.clone(), topic, chance.fork()));
    }
    for _ in 0..3 {
        world.start("member", be_member(world.clone(), QUEUE, chance.fork()));
    }
    for _ in 0..2 {
        world.start("consumer", be_consumer(world.clone(), QUEUE, chance.fork()));
    }
    for topic in [QUEUE, TO] {
        world.start("looker", look(world.clone(), topic, chance.fork()));
    }
}

/// Everything works again: that is shown first, then all is read.
async fn finish(world: &World, chance: &mut Chance) -> Result<(), String> {
    for topic in TOPICS {
        let kind = if topic.name == KEYED.name { Records::Keyed } else { Records::Plain };
        let mut sender = Sender::new(world, topic, kind, chance.fork());
        for partition in 0..topic.partitions {
            Box::pin(sender.send(partition)).await;
        }
    }
    rebalance(world).await;
    world.shared.note(0, Kind::Info, Action::Final);
    for topic in TOPICS {
        let process = world.process("last-reader");
        if !Box::pin(read_all(&process, &topic)).await {
            let stable = ask(&process, &topic, OffsetSpec::LastStable).await;
            let end = ask(&process, &topic, OffsetSpec::Latest).await;
            let name = topic.name;
            world.shared.complain(format!(
                "liveness: 1, such as {name} is stable up to {stable:?} only, and ends at {end:?}"
            ));
        }
    }
    let process = world.process("last-look");
    let asked = [(FROM.name.to_owned(), (0..FROM.partitions).collect())].into();
    while let Err(error) = members::offsets_of(&process, copier::GROUP, Clone::clone(&asked)).await
    {
        process.rest(&error).await;
    }
    Ok(())
}

/// Each group takes a member.
async fn rebalance(world: &World) {
    let process = world.process("last-member");
    loop {
        let connection = process.connection().await;
        let mut member = GroupMember::new(connection, members::options(&QUEUE));
        match members::join(&process, &mut member).await {
            Ok(_) => {
                if let Err(error) = member.leave().await {
                    process.rest(&error).await;
                }
                break;
            }
            Err(error) => process.rest(&error).await,
        }
    }
    loop {
        let mut member = consumers::new_member(&process, &QUEUE).await;
        match consumers::join(&process, &mut member).await {
            Ok(_) => {
                if let Err(error) = member.leave().await {
                    process.rest(&error).await;
                }
                break;
            }
            Err(error) => process.rest(&error).await,
        }
    }
}
