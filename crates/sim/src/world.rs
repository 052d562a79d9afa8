//! Everything outside the shards: time, disks, network, the mesh, and who is alive.
//!
//! All drivers of a run share one world. A shard that runs has a clock of its own, which starts at
//! the world's time and goes on a little with every look at it, so that work takes time and a loop
//! that waits for the clock ends; what it submits starts at its clock.

use std::{collections::BTreeMap, path::Path};

use runtime::{
    BufferPool, Errno, Event, Instant, Message, Op, Output, ShardIndex,
    driver::{SyncKind, Token},
};

use crate::{
    Rng, Settings,
    disk::{Disk, End, ReplyTo, Tally},
    net::{Net, Process},
    number::wide,
    schedule::{Due, Schedule},
    simulation::{Crash, Moment, Trigger},
    trace::Trace,
};

/// How much free memory a shard's pool keeps: buffers are small here.
const POOL_BYTES: usize = 4 << 20;
/// 2026-01-01, where every run's calendar starts, give or take a day by seed.
const WALL_CLOCK_START_MS: u64 = 1_767_225_600_000;

/// A shard of one life of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ShardKey {
    pub(crate) node: u16,
    /// Counts the node's lives.
    pub(crate) life: u32,
    pub(crate) shard: u16,
}

impl ShardKey {
    pub(crate) fn process(self) -> Process {
        (self.node, self.life)
    }
}

struct Node {
    life: u32,
    /// By how much its wall clock is wrong.
    wall_clock_off_ms: i64,
    alive: bool,
    disk: Disk,
    shards: Vec<Shard>,
    links: BTreeMap<(u16, u16), Link>,
}

struct Shard {
    inbox: Vec<Event>,
    clock: u64,
    rng: Rng,
    pool: BufferPool,
}

/// Messages from one shard to another.
#[derive(Default)]
struct Link {
    in_flight: usize,
    last_arrival: u64,
}

pub(crate) struct World {
    pub(crate) schedule: Schedule,
    pub(crate) trace: Trace,
    pub(crate) rng: Rng,
    pub(crate) triggered: bool,
    settings: Settings,
    wall_clock_start_ms: u64,
    nodes: Vec<Node>,
    net: Net,
    trigger: Option<Trigger>,
    /// Counts triggers: what an earlier one planned is void.
    trigger_number: u64,
}

impl World {
    pub(crate) fn new(seed: u64, settings: Settings) -> World {
        let mut rng = Rng::new(seed);
        let net = Net::new(settings.net, rng.fork());
        World {
            schedule: Schedule::default(),
            trace: Trace::new(),
            wall_clock_start_ms: WALL_CLOCK_START_MS + rng.below(86_400_000),
            rng,
            triggered: false,
            settings,
            nodes: Vec::new(),
            net,
            trigger: None,
            trigger_number: 0,
        }
    }

    pub(crate) fn add_node(&mut self) -> u16 {
        let node = u16::try_from(self.nodes.len()).expect("few nodes");
        let disk = Disk::new(u64::from(node) + 1, self.settings.disk, self.rng.fork());
        let (shards, links) = (Vec::new(), BTreeMap::new());
        let wall_clock_off_ms = 0;
        self.nodes.push(Node { life: 0, wall_clock_off_ms, alive: false, disk, shards, links });
        node
    }

    fn node(&mut self, node: u16) -> &mut Node {
        &mut self.nodes[usize::from(node)]
    }

    pub(crate) fn disk(&mut self, node: u16) -> &mut Disk {
        &mut self.node(node).disk
    }

    pub(crate) fn prepare_directory(&mut self, node: u16, path: &Path) {
        self.disk(node).prepare_directory(path).expect("its parent is there, and it is not");
    }

    /// A new life of a node: its shards' keys.
    pub(crate) fn start(&mut self, node: u16, shard_count: u16) -> Vec<ShardKey> {
        let now = self.schedule.now;
        let mut rng = self.rng.fork();
        let node_state = self.node(node);
        assert!(!node_state.alive, "node {node} runs");
        node_state.alive = true;
        node_state.life += 1;
        node_state.links.clear();
        node_state.shards = (0..shard_count)
            .map(|_| Shard {
                inbox: Vec::new(),
                clock: now,
                rng: rng.fork(),
                pool: BufferPool::new(POOL_BYTES),
            })
            .collect();
        let life = node_state.life;
        self.trace.line(|| format!("{now} node {node} starts life {life}"));
        (0..shard_count).map(|shard| ShardKey { node, life, shard }).collect()
    }

    pub(crate) fn is_alive(&self, process: Process) -> bool {
        let node = &self.nodes[usize::from(process.0)];
        node.alive && node.life == process.1
    }

    /// Ends a node's life.
    pub(crate) fn crash(&mut self, node: u16, crash: Crash) {
        let now = self.schedule.now;
        let wall_clock_ms = self.wall_clock_ms(node, now);
        let node_state = self.node(node);
        assert!(node_state.alive, "node {node} does not run");
        node_state.alive = false;
        let process = (node, node_state.life);
        match crash {
            Crash::Kill => {
                node_state.disk.kill(now, wall_clock_ms);
                self.net.kill(process, &mut self.schedule);
            }
            Crash::PowerCut => {
                node_state.disk.power_cut();
                self.net.power_cut(process, &mut self.schedule);
            }
        }
        self.node(node).shards.clear();
        self.disarm();
        self.trace.note(now ^ u64::from(node));
        self.trace.line(|| format!("{now} node {node}: {crash:?}"));
    }

    pub(crate) fn arm(&mut self, trigger: Trigger) {
        self.disarm();
        self.trigger = Some(trigger);
    }

    pub(crate) fn disarm(&mut self) {
        self.triggered = false;
        self.trigger = None;
        self.trigger_number += 1;
    }

    fn shard(&mut self, key: ShardKey) -> Option<&mut Shard> {
        if !self.is_alive(key.process()) {
            return None;
        }
        self.node(key.node).shards.get_mut(usize::from(key.shard))
    }

    /// When a shard can run next for what has come in; none if nothing has.
    pub(crate) fn wake_time(&self, key: ShardKey) -> (bool, u64) {
        let shard = &self.nodes[usize::from(key.node)].shards[usize::from(key.shard)];
        (!shard.inbox.is_empty(), shard.clock.max(self.schedule.now))
    }

    /// A shard starts a turn: what has come in.
    pub(crate) fn begin_turn(&mut self, key: ShardKey, events: &mut Vec<Event>) {
        let now = self.schedule.now;
        let cost = self.settings.turn_ns;
        let Some(shard) = self.shard(key) else { return };
        shard.clock = shard.clock.max(now) + cost;
        events.append(&mut shard.inbox);
    }

    pub(crate) fn clock(&mut self, key: ShardKey) -> Instant {
        let cost = self.settings.look_ns;
        let now = self.schedule.now;
        match self.shard(key) {
            Some(shard) => {
                shard.clock += cost;
                Instant(shard.clock)
            }
            None => Instant(now),
        }
    }

    pub(crate) fn wall_clock_ms(&self, node: u16, at: u64) -> i64 {
        let right = i64::try_from(self.wall_clock_start_ms + at / 1_000_000);
        right.expect("a near future") + self.nodes[usize::from(node)].wall_clock_off_ms
    }

    /// Sets a node's wall clock so far ahead of what is right, or behind it. Its other clock, which
    /// only measures, goes on.
    pub(crate) fn set_wall_clock(&mut self, node: u16, off_ms: i64) {
        self.node(node).wall_clock_off_ms = off_ms;
        let now = self.schedule.now;
        self.trace.note(now ^ off_ms.unsigned_abs());
        self.trace.line(|| format!("{now} node {node}: the wall clock is off by {off_ms} ms"));
    }

    pub(crate) fn random(&mut self, key: ShardKey) -> u64 {
        self.shard(key).map_or(0, |shard| shard.rng.bits())
    }

    pub(crate) fn pool(&mut self, key: ShardKey) -> BufferPool {
        self.shard(key).map_or_else(|| BufferPool::new(0), |shard| shard.pool.clone())
    }

    pub(crate) fn submit(&mut self, key: ShardKey, token: Token, op: Op) {
        let Some(shard) = self.shard(key) else { return };
        let (now, pool) = (shard.clock, shard.pool.clone());
        self.note_op(key, token, &op, now);
        self.look_for_trigger(key.node, &op, now);
        let reply = (key, token);
        if is_for_network(&op) {
            self.net.submit(op, reply, &pool, now, &mut self.schedule);
            return;
        }
        match self.disk(key.node).start(op, reply) {
            Ok((operation, delay)) => {
                self.schedule.at(now + delay, Due::Disk { node: key.node, operation });
            }
            Err(error) => {
                self.schedule.at(now + 1_000, Due::Reply { to: reply, result: Err(error) });
            }
        }
    }

    fn note_op(&mut self, key: ShardKey, token: Token, op: &Op, now: u64) {
        self.trace.note(now ^ u64::from(key.node) << 48 ^ u64::from(key.shard) << 56);
        self.trace.note(token.0);
        if let Op::Write { position, slices, .. } = op {
            self.trace.note(*position);
            for slice in slices {
                self.trace.note_bytes(slice);
            }
        }
        if let Op::Send { slices, .. } = op {
            for slice in slices {
                self.trace.note_bytes(slice);
            }
        }
        self.trace.line(|| format!("{now} {key:?} {token:?} {}", describe(op)));
    }

    fn look_for_trigger(&mut self, node: u16, op: &Op, now: u64) {
        let Some(trigger) = &mut self.trigger else { return };
        if trigger.node != node || !trigger.moment.is_met(op) {
            return;
        }
        trigger.countdown = trigger.countdown.saturating_sub(1);
        if trigger.countdown == 0 {
            let at = now + trigger.delay_ns;
            self.trigger = None;
            self.schedule.at(at, Due::Trigger(self.trigger_number));
        }
    }

    pub(crate) fn cancel(&mut self, key: ShardKey, token: Token) {
        let Some(shard) = self.shard(key) else { return };
        let now = shard.clock;
        self.net.cancel((key, token), now, &mut self.schedule);
    }

    pub(crate) fn send(
        &mut self,
        from: ShardKey,
        to: ShardIndex,
        message: Message,
    ) -> Result<(), Message> {
        let delay = self.rng.between(self.settings.mesh_ns.0, self.settings.mesh_ns.1);
        let capacity = self.settings.mesh_capacity;
        let Some(shard) = self.shard(from) else { return Ok(()) };
        let now = shard.clock;
        let link = self.node(from.node).links.entry((from.shard, to.0)).or_default();
        if link.in_flight >= capacity {
            return Err(message);
        }
        link.in_flight += 1;
        link.last_arrival = link.last_arrival.max(now + delay);
        let at = link.last_arrival;
        let to = ShardKey { shard: to.0, ..from };
        self.schedule.at(at, Due::Mesh { from: ShardIndex(from.shard), to, message });
        Ok(())
    }

    /// A message from outside a process reaches one of its shards.
    pub(crate) fn inject(&mut self, to: ShardKey, message: Message) {
        let shard = self.shard(to).expect("the process lives");
        shard.inbox.push(Event::Message { from: None, message });
    }

    /// Lets the next thing happen.
    pub(crate) fn step(&mut self) {
        let Some(due) = self.schedule.pop() else { return };
        let now = self.schedule.now;
        self.trace.note(now);
        match due {
            Due::Reply { to, result } => self.deliver(to, result),
            Due::Disk { node, operation } => {
                let wall_clock_ms = self.wall_clock_ms(node, now);
                match self.disk(node).end(operation, now, wall_clock_ms) {
                    End::Gone => {}
                    End::Again(at) => self.schedule.at(at, Due::Disk { node, operation }),
                    End::Ended(None, _) => self.trace.note(operation),
                    End::Ended(Some(to), result) => self.deliver(to, result),
                }
            }
            Due::Knock { from, address } => {
                if self.is_alive(from.0.process()) {
                    self.net.knock(from, address, &mut self.schedule);
                }
            }
            Due::Arrive { socket, arrival } => {
                self.trace.note(u64::from(socket));
                self.net.arrive(socket, arrival, &mut self.schedule);
            }
            Due::Mesh { from, to, message } => {
                if let Some(shard) = self.shard(to) {
                    shard.inbox.push(Event::Message { from: Some(from), message });
                    let links = &mut self.node(to.node).links;
                    let link = links.get_mut(&(from.0, to.shard)).expect("it was sent on it");
                    link.in_flight -= 1;
                }
            }
            Due::Trigger(number) => self.triggered = number == self.trigger_number,
        }
    }

    fn deliver(&mut self, (key, token): ReplyTo, result: Result<Output, Errno>) {
        let fingerprint = match &result {
            Ok(Output::Count(count)) => wide(*count),
            Ok(Output::Buffer(buffer)) => {
                let length = buffer.len();
                self.trace.note_bytes(buffer);
                wide(length)
            }
            Ok(Output::Opened(file, info)) => u64::from(file.0) ^ info.length,
            Ok(Output::Listing(entries)) => wide(entries.len()),
            Ok(Output::Space(space)) => space.free_bytes,
            Ok(Output::Done | Output::Listening(..) | Output::Connected { .. }) => 0,
            Err(error) => u64::from(error.0.unsigned_abs()) << 32,
        };
        self.trace.note(token.0 ^ fingerprint);
        let now = self.schedule.now;
        self.trace.line(|| format!("{now} {key:?} {token:?} gives {result:?}"));
        if let Some(shard) = self.shard(key) {
            shard.inbox.push(Event::Completed { token, result });
        }
    }

    /// What the programs did that no program may do.
    pub(crate) fn violations(&mut self) -> Vec<String> {
        let mut all = std::mem::take(&mut self.net.violations);
        for (node, state) in self.nodes.iter_mut().enumerate() {
            let found = state.disk.violations.drain(..);
            all.extend(found.map(|violation| format!("node {node}: {violation}")));
        }
        all
    }

    pub(crate) fn tally(&self) -> Tally {
        let mut sum = Tally::default();
        for node in &self.nodes {
            sum.add(&node.disk.tally);
        }
        sum
    }

    pub(crate) fn connections_broken(&self) -> u64 {
        self.net.broken
    }
}

impl Moment {
    fn is_met(self, op: &Op) -> bool {
        match self {
            Moment::Write => matches!(op, Op::Write { .. }),
            Moment::Sync => matches!(op, Op::Sync { kind: SyncKind::Data | SyncKind::All, .. }),
            Moment::Allocate => matches!(op, Op::Allocate { .. } | Op::SetLength { .. }),
            Moment::NameChange => matches!(
                op,
                Op::Rename { .. }
                    | Op::Remove { .. }
                    | Op::CreateDirectory { .. }
                    | Op::RemoveDirectory { .. }
                    | Op::SyncDirectory { .. }
            ),
        }
    }
}

fn is_for_network(op: &Op) -> bool {
    matches!(
        op,
        Op::Listen { .. }
            | Op::Accept { .. }
            | Op::Connect { .. }
            | Op::Receive { .. }
            | Op::ReceiveExact { .. }
            | Op::Send { .. }
            | Op::Shutdown { .. }
            | Op::CloseSocket { .. }
    )
}

/// An operation in a line of the trace, without its bytes.
#[expect(clippy::wildcard_enum_match_arm, reason = "the rest prints as it is")]
fn describe(op: &Op) -> String {
    match op {
        Op::Write { file, position, slices } => {
            let length: usize = slices.iter().map(bytes::Bytes::len).sum();
            format!("Write {{ file: {}, position: {position}, length: {length} }}", file.0)
        }
        Op::Send { socket, slices } => {
            let length: usize = slices.iter().map(bytes::Bytes::len).sum();
            format!("Send {{ socket: {}, length: {length} }}", socket.0)
        }
        other => format!("{other:?}"),
    }
}
