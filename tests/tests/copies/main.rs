//! Record bytes are copied once on a produce, and not at all in user space on a fetch.
//!
//! A broker runs in this process, on each real driver inside a [`watch::Watching`] one that keeps a
//! handle on every slice it is asked to write or send, and notes where received bytes lay. The
//! client is a process of its own, so that its copies are not counted. Every record carries a mark
//! that this process knows only in disguise; [`memory::find_marks`] looks for marks in all of this
//! process's memory, freed memory included. So this is seen:
//!
//! - after a produce, each mark lies in the buffer that the kernel filled, in the open chunk, and
//!   nowhere else but in the padded copy of the last block of a write, of 4 KiB at most;
//! - what is written is that chunk's own memory (but for such a last block);
//! - after a fetch there are no more places than before, none was read from a file meanwhile, and
//!   what was sent is the chunk's own memory, at the same addresses: it was kept alive by the
//!   handles, so no other bytes can have taken its place.
//!
//! What is not seen: a copy that was overwritten or given back to the kernel before the search (the
//! batches before have had the same size, so that steady buffers are warm and in the heap), and
//! what the kernel copies. The first large frame of a connection and frames that are much larger
//! than all before are out of scope: their first bytes are moved while their buffer grows.

#![expect(clippy::unwrap_used, reason = "a test ends where something fails")]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "told to the other process, or to people"
)]

mod memory;
mod producer;
mod watch;

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    ops::Range,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, mpsc},
    thread::JoinHandle,
};

use broker::{Role, config::BrokerConfig, loggers::RootAlone};
use producer::RECORDS;
use runtime::{BufferPool, DriverPreference, Executor, Injector, ShardIndex, mesh, open_driver};
use watch::{Seen, Watching};

/// What the server gives a shard.
const POOL_CACHED_BYTES_MAX: usize = 32 << 20;

#[test]
fn record_bytes_are_copied_once_on_produce_and_never_on_fetch() {
    // Numbers of their own: memory that the first broker has freed holds the marks of its records.
    for (first, preference) in [(0, DriverPreference::Uring), (1000, DriverPreference::Sync)] {
        if is_available(preference) {
            eprintln!("{preference:?}");
            check(preference, first..first + RECORDS);
        }
    }
}

/// The other process; as a test of its own it has nothing to do.
#[test]
fn client_process() {
    if let Ok(address) = std::env::var(producer::ADDRESS) {
        let first = std::env::var(producer::FIRST_RECORD).unwrap();
        producer::run(address.parse().unwrap(), first.parse().unwrap());
    }
}

fn check(preference: DriverPreference, records: Range<u32>) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let broker = Broker::start(preference, directory.path());
    let mut client = Client::start(broker.address, records.start);

    client.wait_for("produced");
    let seen = broker.seen.snapshot();
    let produced = memory::find_marks(&records);
    let received = seen.received_places();
    let written = seen.written();
    assert_eq!(received.len(), records.len(), "each record was received once, into one buffer");
    assert!(received.values().all(|addresses| addresses.len() == 1), "{received:?}");
    let padded = written.padded;
    let chunk = written.chunk;
    assert_eq!(chunk.len(), records.len(), "each record is in what was written");
    assert!(chunk.values().all(|addresses| addresses.len() == 1), "one chunk holds a record");
    assert_eq!(
        produced,
        memory::union(&[&received, &chunk, &padded]),
        "the receive buffer, the chunk and the padded last blocks are all places of a record"
    );

    let read_count = seen.read_count();
    client.go_on();
    client.wait_for("fetched");
    let seen = broker.seen.snapshot();
    assert_eq!(seen.read_count(), read_count, "a hot fetch reads no file");
    assert_eq!(seen.sent_places(), chunk, "what is sent is the chunk's own memory");
    assert_eq!(memory::find_marks(&records), produced, "a fetch makes no copy");

    // The search sees a copy where there is one.
    let copy = seen.one_written_slice().to_vec();
    let found = memory::find_marks(&records);
    assert!(found.values().map(Vec::len).sum::<usize>() > produced.values().map(Vec::len).sum());
    drop(copy);

    client.go_on();
    client.wait_for_end();
    broker.stop();
}

fn is_available(preference: DriverPreference) -> bool {
    let (mut endpoints, _) = mesh(1).unwrap();
    let opened = open_driver(preference, endpoints.remove(0), BufferPool::new(0));
    if let Err(error) = &opened {
        eprintln!("{preference:?} is not available here: {error}");
        assert_eq!(preference, DriverPreference::Uring, "the fallback has to run everywhere");
    }
    opened.is_ok()
}

/// A broker of one shard, on a thread of this process.
struct Broker {
    address: SocketAddr,
    seen: Arc<Seen>,
    injector: Injector,
    thread: JoinHandle<()>,
}

impl Broker {
    fn start(preference: DriverPreference, directory: &Path) -> Broker {
        let (mut endpoints, injector) = mesh(1).unwrap();
        let endpoint = endpoints.remove(0);
        let seen = Arc::new(Seen::default());
        let (on_ready, ready) = mpsc::channel();
        let data: PathBuf = directory.join("data");
        let noted = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            let pool = BufferPool::new(POOL_CACHED_BYTES_MAX);
            let (driver, _) = open_driver(preference, endpoint, pool).unwrap();
            let driver = Box::new(Watching::new(driver, noted));
            let mut executor = Executor::new(ShardIndex(0), 1, driver);
            let config = BrokerConfig::new("127.0.0.1:0".parse().unwrap(), data);
            let on_ready = Box::new(move |ready: broker::Ready| on_ready.send(ready).unwrap());
            let role = Role::First { on_ready };
            let broker =
                broker::run_shard(executor.runtime(), Arc::new(config), Arc::new(RootAlone), role);
            executor.block_on(broker).unwrap();
        });
        let address = ready.recv().unwrap().address;
        Broker { address, seen, injector, thread }
    }

    fn stop(self) {
        self.injector.inject(ShardIndex(0), Box::new(broker::Stop));
        self.thread.join().unwrap();
    }
}

/// [`producer::run`] in a process of its own, which says what it has done and waits for a line.
struct Client {
    process: Child,
    lines: BufReader<ChildStdout>,
}

impl Client {
    fn start(address: SocketAddr, first_record: u32) -> Client {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "client_process", "--nocapture"])
            .env(producer::ADDRESS, address.to_string())
            .env(producer::FIRST_RECORD, first_record.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap());
        Client { process, lines }
    }

    fn wait_for(&mut self, word: &str) {
        let mut line = String::new();
        while line.trim_end() != word {
            line.clear();
            let length = self.lines.read_line(&mut line).unwrap();
            assert!(length > 0, "the client ended before it had {word}");
        }
    }

    fn go_on(&mut self) {
        self.process.stdin.as_mut().unwrap().write_all(b"\n").unwrap();
    }

    fn wait_for_end(mut self) {
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // After a failed assertion it still waits for its line; when it has ended, nothing happens.
        let _ = self.process.kill();
    }
}
