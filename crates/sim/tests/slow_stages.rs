//! A disk that is slow at one thing is told from the stages of the requests that waited for it.

#![expect(clippy::unwrap_used, reason = "a test")]

mod one_broker;

use std::{
    net::SocketAddr,
    path::Path,
    rc::Rc,
    sync::{atomic::Ordering, mpsc},
    time::Duration,
};

use broker::{AskSlow, SlowRequest, Stage, Stop as StopBroker};
use client::{
    Acks, AutoCreate, Connection, FetchOptions, Isolation, Options, Position, ProducerState,
};
use model::{Offset, record_batch::NewRecord};
use runtime::{Instant, Runtime, TaskQueue};
use sim::{DiskSettings, NetSettings, Settings, Simulation, Stop};

const QUICK_NS: (u64, u64) = (2_000, 10_000);
const SLOW_NS: (u64, u64) = (100_000_000, 110_000_000);
const SLOW: Duration = Duration::from_millis(100);
/// What all else takes together.
const REST_MAX: Duration = Duration::from_millis(5);
const PRODUCES: usize = 3;
const RUN_MAX_NS: u64 = 100_000_000_000;

struct Node {
    simulation: Simulation,
    broker: u16,
    clients: u16,
    address: SocketAddr,
}

impl Node {
    fn new(disk: DiskSettings) -> Node {
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

    fn start(&mut self) {
        let ready = one_broker::start(&mut self.simulation, self.broker, 2, self.address);
        self.wait_until(|| ready.load(Ordering::Relaxed));
    }

    /// What is read afterwards is in no memory.
    fn restart(&mut self) {
        self.simulation.inject(self.broker, 0, Box::new(StopBroker));
        let deadline = Instant(self.simulation.now().0 + RUN_MAX_NS);
        while self.simulation.is_running(self.broker) {
            assert!(self.simulation.now() < deadline, "it does not stop");
            let soon = Instant(self.simulation.now().0 + 1_000_000);
            self.simulation.run_until(soon, || false);
        }
        self.start();
    }

    fn wait_until(&mut self, condition: impl FnMut() -> bool) {
        let deadline = Instant(self.simulation.now().0 + RUN_MAX_NS);
        assert_eq!(self.simulation.run_until(deadline, condition), Stop::Condition);
    }

    fn client<F: Future<Output = ()> + 'static>(&mut self, act: fn(Runtime, Connection) -> F) {
        let (address, done) = (self.address, Rc::new(std::cell::Cell::new(false)));
        self.simulation.start(self.clients, 1, |runtime| {
            let (done, of_task) = (Rc::clone(&done), runtime.clone());
            runtime.spawn("client", TaskQueue::Foreground, async move {
                let options = Options::default();
                let connection = Connection::connect(&of_task, address, options).await.unwrap();
                act(of_task.clone(), connection).await;
                done.set(true);
                of_task.stop();
            });
        });
        self.wait_until(|| done.get());
        let clients = self.clients;
        while self.simulation.is_running(clients) {
            let soon = Instant(self.simulation.now().0 + 1_000_000);
            self.simulation.run_until(soon, || false);
        }
    }

    /// Those about the topic, in their order.
    fn slowest(&mut self, api: &str) -> Vec<SlowRequest> {
        let (sender, receiver) = mpsc::channel();
        let ask = AskSlow::new(move |slowest| sender.send(slowest).unwrap());
        self.simulation.inject(self.broker, 0, Box::new(ask));
        let mut told = None;
        self.wait_until(|| {
            told = receiver.try_recv().ok();
            told.is_some()
        });
        let mut requests = told.unwrap().requests;
        requests.retain(|request| request.api == api && request.topic.as_deref() == Some("orders"));
        requests.sort_by_key(|request| request.began_ms);
        requests
    }
}

async fn produce(_: Runtime, connection: Connection) {
    connection.metadata(Some(&["orders"]), AutoCreate::Allowed).await.unwrap();
    let mut producer = ProducerState::plain();
    for number in 0..PRODUCES {
        let value = vec![b'v'; 1_000 + number];
        let record = NewRecord { value: Some(&value), ..Default::default() };
        let batch = producer.batch("orders", 0, &[record]);
        let timeout = Duration::from_secs(30);
        connection.produce(&[batch], Acks::All, timeout).await.unwrap().remove(0).unwrap();
    }
}

async fn fetch(_: Runtime, connection: Connection) {
    let position = Position { topic: "orders".to_owned(), partition: 0, offset: Offset(0) };
    let options = FetchOptions {
        max_wait: Duration::ZERO,
        min_bytes: 1,
        max_bytes: 1 << 20,
        partition_max_bytes: 1 << 20,
        isolation: Isolation::Uncommitted,
    };
    let fetched = connection.fetch(&[position], options).await.unwrap().remove(0);
    assert_eq!(fetched.records_from(Offset(0)).unwrap().0.len(), PRODUCES);
}

#[test]
fn a_slow_disk_is_the_stage_that_waited_for_it() {
    let quick = DiskSettings {
        alignment: 4096,
        write_ns: QUICK_NS,
        read_ns: QUICK_NS,
        sync_ns: QUICK_NS,
        metadata_ns: QUICK_NS,
        slow_permille: 0,
        capacity_bytes: None,
    };
    let cases = [
        (quick, None, None),
        (DiskSettings { write_ns: SLOW_NS, ..quick }, Some(Stage::Write), None),
        (DiskSettings { sync_ns: SLOW_NS, ..quick }, Some(Stage::Sync), None),
        (DiskSettings { read_ns: SLOW_NS, ..quick }, None, Some(Stage::LogRead)),
    ];
    for (disk, slow_produce, slow_fetch) in cases {
        let mut node = Node::new(disk);
        node.start();
        node.client(produce);
        let produced = node.slowest("Produce");
        assert_eq!(produced.len(), PRODUCES);
        // The first one's write has the beginning of a segment, with syncs of its own.
        produced[1..].iter().for_each(|request| check(request, slow_produce));
        node.restart();
        node.client(fetch);
        let fetched = node.slowest("Fetch");
        assert_eq!(fetched.len(), 1);
        check(&fetched[0], slow_fetch);
        assert_eq!(node.simulation.violations(), Vec::<String>::new());
    }
}

/// The stage has all the time, or nothing was slow.
fn check(request: &SlowRequest, slow: Option<Stage>) {
    let times = request.times;
    let waited = slow.map_or(Duration::ZERO, |stage| times.of(stage));
    assert!(slow.is_none() || waited >= SLOW, "{slow:?}: {request:?}");
    assert!(times.total() - waited < REST_MAX, "{slow:?}: {request:?}");
}
