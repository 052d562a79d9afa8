//! The simulator proven on a program small enough to see through: a server that appends numbers to
//! a log and acknowledges them, in a correct version and in versions with one well-known mistake.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use runtime::{
    Access, Cache, Create, Errno, File, Instant, Listener, OpenOptions, Runtime, Stream, TaskQueue,
};
use sim::{Crash, DiskSettings, Moment, Rng, Settings, Simulation, Stop, Trigger};

const BLOCK: usize = 4096;
const BLOCKS_PER_SEGMENT: u64 = 8;
const SEGMENT_BYTES: u64 = BLOCKS_PER_SEGMENT * 4096;
const VALUES: u64 = 120;
const CRASHES: u64 = 4;

/// The mistake that a version makes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mistake {
    None,
    AckBeforeSync,
    NoDirectorySync,
    /// Relies on the sync of another file, in space that was only reserved.
    WrongVouch,
    /// Does not wait for the writes of the process before it.
    NoWaitForTheDead,
}

struct Log {
    runtime: Runtime,
    mistake: Mistake,
    segment: Option<File>,
    other: File,
    count: u64,
}

impl Log {
    fn path(segment: u64) -> PathBuf {
        PathBuf::from(format!("/data/{segment:04}.log"))
    }

    fn options(create: Create) -> OpenOptions {
        OpenOptions { create, access: Access::ReadWrite, cache: Cache::Direct }
    }

    async fn open(runtime: &Runtime, mistake: Mistake) -> Result<(Log, Vec<u64>), Errno> {
        let other = OpenOptions { create: Create::IfMissing, ..OpenOptions::REPLACE };
        let other = File::open(runtime, "/data/other", other).await?;
        let mut log = Log { runtime: runtime.clone(), mistake, segment: None, other, count: 0 };
        let mut values = Vec::new();
        for entry in runtime.list_directory(Path::new("/data")).await? {
            if !entry.name.ends_with(".log") {
                continue;
            }
            let path = Path::new("/data").join(&entry.name);
            let file = File::open(runtime, path, Log::options(Create::Never)).await?;
            if mistake != Mistake::NoWaitForTheDead {
                file.allocate(0, SEGMENT_BYTES).await?;
            }
            for block in 0..BLOCKS_PER_SEGMENT {
                let buffer = runtime.pool().take(BLOCK);
                let buffer = file.read(block * 4096, BLOCK, buffer).await?;
                match value_of(&buffer) {
                    Some(value) => values.push(value),
                    None => break,
                }
            }
            file.sync().await?;
            log.segment = Some(file);
        }
        runtime.sync_directory(Path::new("/data")).await?;
        log.count = u64::try_from(values.len()).unwrap();
        Ok((log, values))
    }

    async fn append(&mut self, value: u64) -> Result<(), Errno> {
        let (segment, block) = (self.count / BLOCKS_PER_SEGMENT, self.count % BLOCKS_PER_SEGMENT);
        if block == 0 || self.segment.is_none() {
            let options = Log::options(Create::IfMissing);
            let file = File::open(&self.runtime, Log::path(segment), options).await?;
            file.allocate(0, SEGMENT_BYTES).await?;
            file.sync().await?;
            if self.mistake != Mistake::NoDirectorySync {
                self.runtime.sync_directory(Path::new("/data")).await?;
            }
            self.segment = Some(file);
        }
        let file = self.segment.as_ref().unwrap();
        let mut buffer = self.runtime.pool().take(BLOCK);
        for _ in 0..BLOCK / 8 {
            buffer.append(&value.to_le_bytes());
        }
        file.write_all(block * 4096, buffer.freeze()).await?;
        match self.mistake {
            Mistake::AckBeforeSync => {}
            Mistake::WrongVouch => self.other.sync().await?,
            Mistake::None | Mistake::NoDirectorySync | Mistake::NoWaitForTheDead => {
                file.sync().await?;
            }
        }
        self.count += 1;
        Ok(())
    }
}

/// The value of a whole block; none for an empty or a torn one.
fn value_of(block: &[u8]) -> Option<u64> {
    let (words, _) = block.as_chunks::<8>();
    let value = u64::from_le_bytes(*words.first()?);
    let whole = block.len() == BLOCK && words.iter().all(|word| *word == words[0]);
    (whole && value != 0).then_some(value)
}

async fn serve(
    runtime: Runtime,
    mistake: Mistake,
    seen: Rc<RefCell<Vec<u64>>>,
    ready: Rc<Cell<bool>>,
) -> Result<(), Errno> {
    let (mut log, values) = Log::open(&runtime, mistake).await?;
    let mut last = values.last().copied().unwrap_or(0);
    *seen.borrow_mut() = values;
    ready.set(true);
    let listener = Listener::bind(&runtime, "0.0.0.0:9092".parse().unwrap()).await?;
    loop {
        let stream = listener.accept().await?;
        loop {
            let request = stream.receive_exact(runtime.pool().take(8), 0, 8).await;
            let Ok(request) = request else { break };
            if request.len() < 8 {
                break;
            }
            let value = u64::from_le_bytes(request[..8].try_into().unwrap());
            if value > last {
                log.append(value).await?;
                last = value;
            }
            if stream.send_all(vec![Bytes::copy_from_slice(&value.to_le_bytes())]).await.is_err() {
                break;
            }
        }
    }
}

/// Sends 1, 2, 3 and so on, each until it is acknowledged.
async fn produce(runtime: Runtime, address: SocketAddr, acked: Rc<Cell<u64>>) {
    loop {
        runtime.sleep(Duration::from_micros(300)).await;
        let Ok(stream) = Stream::connect(&runtime, address).await else { continue };
        while acked.get() < VALUES {
            let value = acked.get() + 1;
            if stream.send_all(vec![Bytes::copy_from_slice(&value.to_le_bytes())]).await.is_err() {
                break;
            }
            match stream.receive_exact(runtime.pool().take(8), 0, 8).await {
                Ok(answer) if answer.len() == 8 => acked.set(value),
                Ok(_) | Err(_) => break,
            }
        }
        if acked.get() == VALUES {
            return;
        }
    }
}

/// What a run gives: a complaint if there is one, and its fingerprint.
fn run(seed: u64, mistake: Mistake) -> (Option<String>, u64) {
    let mut rng = Rng::new(seed ^ 0xc4a5);
    let mut simulation = Simulation::new(seed, Settings::by_seed(seed));
    let server = simulation.add_node(Path::new("/data"));
    let client = simulation.add_node(Path::new("/tmp"));
    let address = SocketAddr::from((Simulation::address(server), 9092));
    let acked = Rc::new(Cell::new(0));
    let acked_by_client = Rc::clone(&acked);
    simulation.start(client, 1, |runtime| {
        let producer = produce(runtime.clone(), address, Rc::clone(&acked_by_client));
        runtime.spawn("producer", TaskQueue::Foreground, producer);
    });
    let mut complaint = None;
    for round in 0..=CRASHES {
        let (seen, ready) = (Rc::new(RefCell::new(Vec::new())), Rc::new(Cell::new(false)));
        simulation.start(server, 1, |runtime| {
            let server = serve(runtime.clone(), mistake, Rc::clone(&seen), Rc::clone(&ready));
            runtime.spawn("server", TaskQueue::Foreground, async { server.await.unwrap() });
        });
        let deadline = simulation.now() + Duration::from_secs(100);
        assert_eq!(simulation.run_until(deadline, || ready.get()), Stop::Condition);
        complaint = complaint.or_else(|| missing(&seen.borrow(), acked.get()));
        if round == CRASHES {
            let deadline = simulation.now() + Duration::from_secs(1000);
            assert_eq!(simulation.run_until(deadline, || acked.get() == VALUES), Stop::Condition);
            break;
        }
        let moment = rng.pick(&[Moment::Write, Moment::Sync, Moment::Write, Moment::NameChange]);
        let countdown = rng.between(1, 25);
        let delay_ns = rng.below(1_000_000);
        simulation.arm(Trigger { node: server, moment, countdown, delay_ns });
        let deadline = simulation.now() + Duration::from_millis(rng.between(10, 2000));
        simulation.run_until(deadline, || false);
        simulation.crash(server, rng.pick(&[Crash::Kill, Crash::PowerCut]));
    }
    let violation = simulation.violations().pop();
    (complaint.or(violation), simulation.trace_hash())
}

fn missing(seen: &[u64], acked: u64) -> Option<String> {
    let expected: Vec<u64> = (1..=u64::try_from(seen.len()).unwrap()).collect();
    if seen != expected {
        return Some(format!("not in order: {seen:?}"));
    }
    (expected.len() < usize::try_from(acked).unwrap())
        .then(|| format!("{acked} acknowledged, {} there", expected.len()))
}

#[test]
fn a_correct_program_passes() {
    for seed in 0..100 {
        assert_eq!(run(seed, Mistake::None).0, None, "seed {seed}");
    }
}

#[test]
fn each_mistake_is_caught_within_100_seeds() {
    let mistakes = [
        Mistake::AckBeforeSync,
        Mistake::NoDirectorySync,
        Mistake::WrongVouch,
        Mistake::NoWaitForTheDead,
    ];
    for mistake in mistakes {
        let caught = (0..100).find(|seed| run(*seed, mistake).0.is_some());
        assert!(caught.is_some(), "{mistake:?} is not caught");
    }
}

#[test]
fn a_seed_gives_the_same_run_twice() {
    let hashes: Vec<u64> = (0..20).map(|seed| run(seed, Mistake::None).1).collect();
    for (seed, hash) in (0..20).zip(&hashes) {
        assert_eq!(run(seed, Mistake::None).1, *hash, "seed {seed}");
    }
    let mut different = hashes.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), hashes.len());
}

#[test]
fn a_full_mesh_keeps_messages_in_order() {
    let settings = Settings {
        mesh_capacity: 1,
        disk: DiskSettings::by_seed(&mut Rng::new(1)),
        ..Settings::by_seed(1)
    };
    let mut simulation = Simulation::new(1, settings);
    let node = simulation.add_node(Path::new("/data"));
    let received = Rc::new(RefCell::new(Vec::new()));
    let end = Instant(1_000_000_000);
    let place = Rc::clone(&received);
    simulation.start(node, 2, |runtime| {
        let runtime_of_task = runtime.clone();
        let place = Rc::clone(&place);
        let task = async move {
            let runtime = runtime_of_task;
            if runtime.shard().0 == 0 {
                for number in 0..100u64 {
                    runtime.send(runtime::ShardIndex(1), Box::new(number)).await;
                }
                return;
            }
            loop {
                let (_, message) = runtime.receive().await;
                place.borrow_mut().push(*message.downcast::<u64>().unwrap());
            }
        };
        runtime.spawn("task", TaskQueue::Foreground, task);
    });
    let stop = simulation.run_until(end, || received.borrow().len() == 100);
    assert_eq!(stop, Stop::Condition);
    assert_eq!(*received.borrow(), (0..100).collect::<Vec<u64>>());
}
