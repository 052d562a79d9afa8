//! A disk that is slower than its producers makes them wait, and refuses nothing.

#![expect(clippy::unwrap_used, reason = "a test")]

mod one_broker;

use std::{
    cell::RefCell, net::SocketAddr, path::Path, rc::Rc, sync::atomic::Ordering, time::Duration,
};

use client::{Acks, AutoCreate, Connection, Options};
use model::record_batch::NewRecord;
use runtime::{Instant, Runtime, TaskQueue};
use sim::{DiskFaults, NetSettings, Settings, Simulation, Stop};

/// Together more than one log may have waiting for the disk (64 MiB).
const CONNECTIONS: usize = 8;
const BATCHES: usize = 12;
const BATCH_BYTES: usize = 1_000_000;
const SECOND_NS: u64 = 1_000_000_000;

/// For each connection what became of each of its batches, in the order of sending.
type Outcomes = Rc<RefCell<Vec<Vec<Option<Result<i64, client::Error>>>>>>;

async fn produce_all(runtime: Runtime, address: SocketAddr, number: usize, outcomes: Outcomes) {
    let options = Options { request_timeout: Duration::from_secs(300), ..Options::default() };
    let connection = Connection::connect(&runtime, address, options).await.unwrap();
    let mut producer = connection.init_producer_id().await.unwrap();
    let value = vec![7; BATCH_BYTES];
    let record = NewRecord { value: Some(&value), ..Default::default() };
    for index in 0..BATCHES {
        let batch = producer.batch("slow", 0, std::slice::from_ref(&record));
        let (connection, outcomes) = (connection.clone(), Rc::clone(&outcomes));
        runtime.spawn("produce", TaskQueue::Foreground, async move {
            let timeout = Duration::from_secs(200);
            let produced = connection.produce(&[batch], Acks::All, timeout).await;
            let outcome = match produced.map(|mut results| results.remove(0)) {
                Ok(Ok(produced)) => Ok(produced.base_offset.unwrap().0),
                Ok(Err(error)) | Err(error) => Err(error),
            };
            outcomes.borrow_mut()[number][index] = Some(outcome);
        });
        // Each is on its way before the next.
        runtime.yield_now().await;
    }
}

#[test]
fn produces_wait_for_a_slow_disk_in_their_order() {
    for (seed, shards) in [(1, 1), (2, 2)] {
        let net = NetSettings {
            delay_ns: (1_000, 100_000),
            window_bytes: 1 << 20,
            partial_permille: 0,
            break_per_100k: 0,
        };
        let settings = Settings { net, ..Settings::by_seed(seed) };
        let mut simulation = Simulation::new(seed, settings);
        let (server, clients) =
            (simulation.add_node(Path::new("/data")), simulation.add_node(Path::new("/b")));
        let address = SocketAddr::from((Simulation::address(server), 9092));
        let ready = one_broker::start(&mut simulation, server, shards, address);
        let is_ready = || ready.load(Ordering::Relaxed);
        assert_eq!(simulation.run_until(Instant(200 * SECOND_NS), is_ready), Stop::Condition);
        let slow =
            DiskFaults { stall_permille: 1000, stall_ns: 4 * SECOND_NS, ..Default::default() };
        simulation.set_faults(server, slow);
        let outcomes: Outcomes = Rc::new(RefCell::new(vec![vec![None; BATCHES]; CONNECTIONS]));
        simulation.start(clients, 1, |runtime| {
            let (outcomes, runtime_of_task) = (Rc::clone(&outcomes), runtime.clone());
            runtime.spawn("clients", TaskQueue::Foreground, async move {
                let runtime = runtime_of_task;
                let options =
                    Options { request_timeout: Duration::from_secs(300), ..Options::default() };
                let connection = Connection::connect(&runtime, address, options).await.unwrap();
                connection.metadata(Some(&["slow"]), AutoCreate::Allowed).await.unwrap();
                for number in 0..CONNECTIONS {
                    let task = produce_all(runtime.clone(), address, number, Rc::clone(&outcomes));
                    runtime.spawn("producer", TaskQueue::Foreground, task);
                }
            });
        });
        let is_done = || outcomes.borrow().iter().flatten().all(Option::is_some);
        assert_eq!(simulation.run_until(Instant(900 * SECOND_NS), is_done), Stop::Condition);
        let mut all = Vec::new();
        for of_connection in outcomes.borrow().iter() {
            let offsets: Vec<i64> = of_connection
                .iter()
                .map(|outcome| outcome.unwrap().expect("none is refused"))
                .collect();
            assert!(offsets.is_sorted(), "{offsets:?}");
            all.extend(offsets);
        }
        all.sort_unstable();
        assert!(all.iter().copied().eq(0..i64::try_from(CONNECTIONS * BATCHES).unwrap()));
        assert_eq!(simulation.violations(), Vec::<String>::new());
    }
}
