//! A broker on one node of a simulation and its clients on another, started and stopped.

use std::{
    cell::Cell,
    net::SocketAddr,
    path::Path,
    sync::{atomic::Ordering, mpsc},
};

use broker::Stop as StopBroker;
use client::{Connection, Options};
use runtime::{Instant, Message, Runtime, TaskQueue};
use sim::{DiskSettings, NetSettings, Settings, Simulation, Stop};

use crate::one_broker;

/// Operations of a disk, and what else takes no time to speak of.
pub const QUICK_NS: (u64, u64) = (2_000, 10_000);
/// A disk that is quick at everything.
pub const QUICK_DISK: DiskSettings = DiskSettings {
    alignment: 4096,
    write_ns: QUICK_NS,
    read_ns: QUICK_NS,
    sync_ns: QUICK_NS,
    metadata_ns: QUICK_NS,
    slow_permille: 0,
    capacity_bytes: None,
};
const RUN_MAX_NS: u64 = 100_000_000_000;

/// A broker of two shards on one node, clients on another, and a quick network between them.
pub struct Node {
    pub simulation: Simulation,
    broker: u16,
    clients: u16,
    address: SocketAddr,
}

impl Node {
    pub fn new(disk: DiskSettings) -> Node {
        let net = NetSettings {
            delay_ns: (1_000, 5_000),
            window_bytes: 1 << 20,
            partial_permille: 0,
            break_per_100k: 0,
        };
        let settings = Settings {
            disk,
            net,
            mesh_ns: (200, 400),
            mesh_capacity: 64,
            turn_ns: 500,
            look_ns: 50,
        };
        let mut simulation = Simulation::new(1, settings);
        let broker = simulation.add_node(Path::new("/data"));
        let clients = simulation.add_node(Path::new("/clients"));
        let address = SocketAddr::from((Simulation::address(broker), 9092));
        Node { simulation, broker, clients, address }
    }

    pub fn start(&mut self) {
        let ready = one_broker::start(&mut self.simulation, self.broker, 2, self.address);
        self.wait_until(|| ready.load(Ordering::Relaxed));
    }

    /// Stops the broker cleanly.
    pub fn stop(&mut self) {
        self.simulation.inject(self.broker, 0, Box::new(StopBroker));
        let deadline = Instant(self.simulation.now().0 + RUN_MAX_NS);
        while self.simulation.is_running(self.broker) {
            assert!(self.simulation.now() < deadline, "it does not stop");
            let soon = Instant(self.simulation.now().0 + 1_000_000);
            self.simulation.run_until(soon, || false);
        }
    }

    pub fn wait_until(&mut self, condition: impl FnMut() -> bool) {
        let deadline = Instant(self.simulation.now().0 + RUN_MAX_NS);
        assert_eq!(self.simulation.run_until(deadline, condition), Stop::Condition);
    }

    /// Asks the broker from outside of its shards: `message` gets where the answer goes.
    pub fn ask<T>(&mut self, message: impl FnOnce(mpsc::Sender<T>) -> Message) -> T {
        let (sender, receiver) = mpsc::channel();
        self.simulation.inject(self.broker, 0, message(sender));
        let mut told = None;
        self.wait_until(|| {
            told = receiver.try_recv().ok();
            told.is_some()
        });
        told.unwrap()
    }

    /// Runs a client with a connection.
    pub fn begin_client(&mut self, act: impl AsyncFnOnce(Runtime, Connection) + 'static) {
        let (address, act) = (self.address, Cell::new(Some(act)));
        self.simulation.start(self.clients, 1, |runtime| {
            let (act, of_task) = (act.take().expect("one shard"), runtime.clone());
            runtime.spawn("client", TaskQueue::Foreground, async move {
                let options = Options::default();
                let connection = Connection::connect(&of_task, address, options).await.unwrap();
                act(of_task.clone(), connection).await;
                of_task.stop();
            });
        });
    }

    /// Waits until the client has ended.
    pub fn end_clients(&mut self) {
        let (clients, deadline) = (self.clients, Instant(self.simulation.now().0 + RUN_MAX_NS));
        while self.simulation.is_running(clients) {
            assert!(self.simulation.now() < deadline, "the client does not end");
            let soon = Instant(self.simulation.now().0 + 1_000_000);
            self.simulation.run_until(soon, || false);
        }
    }
}
