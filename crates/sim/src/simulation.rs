//! A run: nodes, their shards, and who goes next.

use std::{cell::RefCell, path::Path, rc::Rc};

use runtime::{Executor, Instant, Runtime, Turn, Wait};

use crate::{
    DiskFaults, DiskSettings, NetSettings, Rng, Tally,
    disk::Disk,
    driver::SimDriver,
    net::node_address,
    world::{ShardKey, World},
};

/// Turns of one call of [`Simulation::run_until`] after which something spins.
const TURNS_MAX: u64 = 50_000_000;

/// What the world of a run is like.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Every node's disk.
    pub disk: DiskSettings,
    /// The network between all nodes.
    pub net: NetSettings,
    /// Delay of a message between shards, drawn evenly from the pair.
    pub mesh_ns: (u64, u64),
    /// Messages in flight for each pair of shards.
    pub mesh_capacity: usize,
    /// What a turn costs a shard.
    pub turn_ns: u64,
    /// What a look at the clock costs: the executor looks once a poll.
    pub look_ns: u64,
}

impl Settings {
    /// One world of many.
    #[must_use]
    pub fn by_seed(seed: u64) -> Settings {
        let mut rng = Rng::new(seed ^ 0x5e77_1465);
        let mesh_low = rng.pick(&[200, 5_000, 100_000]);
        Settings {
            disk: DiskSettings::by_seed(&mut rng),
            net: NetSettings::by_seed(&mut rng),
            mesh_ns: (mesh_low, mesh_low * rng.pick(&[2, 20])),
            mesh_capacity: rng.pick(&[4, 64, 1024]),
            turn_ns: rng.pick(&[500, 5_000]),
            look_ns: rng.pick(&[50, 500, 5_000]),
        }
    }
}

/// How a node dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// `kill -9`: what completed stays; what was in flight lands late, in part or never.
    Kill,
    /// What was not synced is lost or torn.
    PowerCut,
}

/// What a crash may wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A write is submitted.
    Write,
    /// A sync of a file is submitted.
    Sync,
    /// A size or reservation is changed.
    Allocate,
    /// A name is changed, or a directory synced.
    NameChange,
}

/// The moment to stop at: `delay_ns` after the `countdown`-th `moment` of a node.
#[derive(Clone, Copy, Debug)]
pub struct Trigger {
    /// Whose moment.
    pub node: u16,
    /// What it waits for.
    pub moment: Moment,
    /// For which one of them.
    pub countdown: u64,
    /// How long after its submission.
    pub delay_ns: u64,
}

/// Why a run stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The condition holds.
    Condition,
    /// The time has come.
    Time,
    /// The trigger's moment has come.
    Triggered,
    /// Nothing will ever happen again.
    Stuck,
    /// Some shard turns and turns.
    Spinning,
}

struct Running {
    key: ShardKey,
    executor: Executor,
    turn: Turn,
}

/// A world and the shards that run in it.
pub struct Simulation {
    world: Rc<RefCell<World>>,
    running: Vec<Running>,
}

impl Simulation {
    /// The world of a seed.
    #[must_use]
    pub fn new(seed: u64, settings: Settings) -> Simulation {
        let world = Rc::new(RefCell::new(World::new(seed, settings)));
        Simulation { world, running: Vec::new() }
    }

    /// Prints a line for everything that crosses the seam.
    pub fn trace_to(&mut self, print: fn(&str)) {
        self.world.borrow_mut().trace.print = Some(print);
    }

    /// Adds a machine, with a directory of this name on its disk, and does not start it.
    pub fn add_node(&mut self, directory: &Path) -> u16 {
        let mut world = self.world.borrow_mut();
        let node = world.add_node();
        world.prepare_directory(node, directory);
        node
    }

    /// The address of a node.
    #[must_use]
    pub fn address(node: u16) -> std::net::Ipv4Addr {
        node_address(node)
    }

    /// Starts a process on a node: `main` is called for each of its shards and spawns its tasks.
    pub fn start(&mut self, node: u16, shard_count: u16, mut main: impl FnMut(&Runtime)) {
        let keys = self.world.borrow_mut().start(node, shard_count);
        for key in keys {
            let driver = SimDriver { world: Rc::clone(&self.world), key };
            let shard = runtime::ShardIndex(key.shard);
            let executor = Executor::new(shard, shard_count, Box::new(driver));
            main(&executor.runtime());
            self.running.push(Running { key, executor, turn: Turn::Ready });
        }
    }

    /// True if a process runs on the node.
    #[must_use]
    pub fn is_running(&self, node: u16) -> bool {
        self.running.iter().any(|running| running.key.node == node)
    }

    /// Ends the process of a node, or the power of its machine.
    ///
    /// # Panics
    /// When none runs.
    pub fn crash(&mut self, node: u16, crash: Crash) {
        self.world.borrow_mut().crash(node, crash);
        self.running.retain(|running| running.key.node != node);
    }

    /// Gives a shard a message from outside its mesh.
    ///
    /// # Panics
    /// When the node does not run.
    pub fn inject(&mut self, node: u16, shard: u16, message: runtime::Message) {
        let running =
            self.running.iter().find(|one| (one.key.node, one.key.shard) == (node, shard));
        let key = running.expect("it runs").key;
        self.world.borrow_mut().inject(key, message);
    }

    /// Sets how often a node's disk fails from now on.
    pub fn set_faults(&mut self, node: u16, faults: DiskFaults) {
        self.world.borrow_mut().disk(node).faults = faults;
    }

    /// Leaves a node's disk room for so many more bytes; `None`: for all that anybody writes.
    pub fn set_free_space(&mut self, node: u16, bytes: Option<u64>) {
        self.world.borrow_mut().disk(node).set_free_space(bytes);
    }

    /// Sets a node's wall clock so far ahead of what is right, or behind it.
    pub fn set_wall_clock(&mut self, node: u16, off_ms: i64) {
        self.world.borrow_mut().set_wall_clock(node, off_ms);
    }

    /// Looks at a node's disk, or strikes it.
    pub(crate) fn with_disk<R>(&mut self, node: u16, act: impl FnOnce(&mut Disk) -> R) -> R {
        act(self.world.borrow_mut().disk(node))
    }

    /// Makes the next [`Simulation::run_until`] stop at a moment.
    pub fn arm(&mut self, trigger: Trigger) {
        self.world.borrow_mut().arm(trigger);
    }

    /// Lets time pass until `condition` holds, at most until `deadline`.
    pub fn run_until(&mut self, deadline: Instant, condition: impl FnMut() -> bool) -> Stop {
        let stop = self.turn_until(deadline, condition);
        self.world.borrow_mut().disarm();
        stop
    }

    fn turn_until(&mut self, deadline: Instant, mut condition: impl FnMut() -> bool) -> Stop {
        for _ in 0..TURNS_MAX {
            if condition() {
                return Stop::Condition;
            }
            let mut world = self.world.borrow_mut();
            if world.triggered {
                return Stop::Triggered;
            }
            let (wake, who) = self.next_to_run(&mut world);
            let next = world.schedule.next();
            let Some(at) = wake.into_iter().chain(next).min() else { return Stop::Stuck };
            if at > deadline.0 {
                world.schedule.now = world.schedule.now.max(deadline.0);
                return Stop::Time;
            }
            if next.is_some_and(|next| next <= at) {
                world.step();
                continue;
            }
            world.schedule.now = world.schedule.now.max(at);
            drop(world);
            self.turn(who);
        }
        Stop::Spinning
    }

    /// When the next shard can run, and which: of several at one time, any.
    fn next_to_run(&self, world: &mut World) -> (Option<u64>, usize) {
        let mut earliest: Option<u64> = None;
        // Seldom more than a few at one time.
        let mut candidates: Vec<usize> = Vec::with_capacity(8);
        for (index, running) in self.running.iter().enumerate() {
            let (has_events, free_at) = world.wake_time(running.key);
            let at = match running.turn {
                Turn::Ready => free_at,
                Turn::Idle(_) if has_events => free_at,
                Turn::Idle(Some(deadline)) => free_at.max(deadline.0),
                Turn::Idle(None) | Turn::Stopped => continue,
            };
            if earliest.is_none_or(|earliest| at < earliest) {
                earliest = Some(at);
                candidates.clear();
            }
            if earliest == Some(at) {
                candidates.push(index);
            }
        }
        let who = match candidates.len() {
            0 => 0,
            1 => candidates[0],
            count => candidates[world.rng.index(count)],
        };
        (earliest, who)
    }

    fn turn(&mut self, who: usize) {
        let running = &mut self.running[who];
        running.turn = running.executor.turn(Wait::No);
        if running.turn == Turn::Stopped {
            let node = running.key.node;
            let ended = self
                .running
                .iter()
                .all(|running| running.key.node != node || running.turn == Turn::Stopped);
            if ended {
                self.exit(node);
            }
        }
    }

    /// All shards of a node have stopped: its tasks are dropped, then the process ends.
    fn exit(&mut self, node: u16) {
        self.running.retain(|running| running.key.node != node);
        self.world.borrow_mut().crash(node, Crash::Kill);
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Instant {
        Instant(self.world.borrow().schedule.now)
    }

    /// The fingerprint of all that has happened.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.world.borrow().trace.hash()
    }

    /// What the programs did since the last call that no program may do.
    #[must_use]
    pub fn violations(&mut self) -> Vec<String> {
        self.world.borrow_mut().violations()
    }

    /// What the disks did.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.world.borrow().tally()
    }

    /// How many connections the network broke.
    #[must_use]
    pub fn connections_broken(&self) -> u64 {
        self.world.borrow().connections_broken()
    }
}
