//! The driver for where io_uring is refused: `epoll` for sockets, threads for files.
//!
//! A socket operation is tried when it is submitted, a file operation goes to a worker thread;
//! completions come with the next turn. A turn makes one system call (`epoll_pwait2`) beside those
//! of the sockets that are ready, and none of the shard's calls blocks but that one.

mod files;
mod sockets;

use std::time::Duration;

use self::{
    files::Files,
    sockets::{Sockets, Start},
};
use crate::{
    BufferPool, Driver, DriverKind, Endpoint, Errno, Event, Instant, Message, Op, Output,
    ShardIndex, Unparker, Wait,
    driver::{SocketId, Token},
    sys::{
        self,
        epoll::{Epoll, Interest, Report},
    },
};

/// What epoll reports beside sockets, whose tags are descriptors.
const MESH_TAG: u64 = u64::MAX;
const FILES_TAG: u64 = u64::MAX - 1;

/// `epoll` for sockets, a few threads for files.
pub struct SyncDriver {
    endpoint: Endpoint,
    pool: BufferPool,
    files: Files,
    sockets: Sockets,
    epoll: Epoll,
    reports: Vec<(u64, Interest)>,
    completions: Completions,
}

/// What has ended since the last turn.
#[derive(Default)]
struct Completions(Vec<Event>);

impl Completions {
    fn add(&mut self, token: Token, result: Result<Output, Errno>) {
        self.0.push(Event::Completed { token, result });
    }
}

impl SyncDriver {
    /// A driver for the shard of `endpoint`, with buffers from `pool`.
    ///
    /// # Errors
    /// The operating system's, when it gives no epoll or eventfd.
    pub fn new(endpoint: Endpoint, pool: BufferPool) -> std::io::Result<SyncDriver> {
        let files = Files::new()?;
        let epoll = Epoll::new().map_err(os_error)?;
        for (event, tag) in [(endpoint.event(), MESH_TAG), (files.event(), FILES_TAG)] {
            let readable = Interest { read: true, write: false };
            epoll.watch(event, tag, readable, Report::WhileReady).map_err(os_error)?;
        }
        Ok(SyncDriver {
            endpoint,
            sockets: Sockets::new(pool.clone()),
            pool,
            files,
            epoll,
            reports: Vec::new(),
            completions: Completions::default(),
        })
    }

    /// What has come in or ended, without asking epoll.
    fn collect(&mut self, events: &mut Vec<Event>) {
        self.files.collect(&mut self.completions);
        events.append(&mut self.completions.0);
        self.endpoint.drain(events);
    }

    /// How long epoll may wait. Ready for a wait after any answer but zero: [`SyncDriver::woke`]
    /// has to follow.
    fn prepare_to_sleep(&mut self, wait: Wait) -> Option<Duration> {
        let timeout = match wait {
            Wait::No => return Some(Duration::ZERO),
            Wait::Forever => None,
            Wait::Until(deadline) => Some(deadline.since(self.now())),
        };
        if timeout == Some(Duration::ZERO) || !self.endpoint.may_sleep() {
            return Some(Duration::ZERO);
        }
        if !self.files.may_sleep() {
            self.endpoint.woke();
            return Some(Duration::ZERO);
        }
        timeout
    }

    fn woke(&mut self) {
        self.endpoint.woke();
        self.files.woke();
    }

    fn handle_reports(&mut self) {
        let mut reports = std::mem::take(&mut self.reports);
        for (tag, ready) in reports.drain(..) {
            match tag {
                MESH_TAG => sys::drain_eventfd(self.endpoint.event()),
                FILES_TAG => sys::drain_eventfd(self.files.event()),
                socket => {
                    let socket = SocketId(u32::try_from(socket).expect("made from a u32"));
                    self.sockets.report(socket, ready, &self.epoll, &mut self.completions);
                }
            }
        }
        self.reports = reports;
    }
}

fn os_error(error: Errno) -> std::io::Error {
    std::io::Error::from_raw_os_error(error.0)
}

impl Driver for SyncDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Sync
    }

    fn submit(&mut self, token: Token, op: Op) {
        let start = Start { token, epoll: &self.epoll, completions: &mut self.completions };
        match op {
            Op::Open { .. }
            | Op::Rename { .. }
            | Op::Remove { .. }
            | Op::RemoveDirectory { .. }
            | Op::CreateDirectory { .. }
            | Op::SyncDirectory { .. }
            | Op::ListDirectory { .. }
            | Op::DescribeSpace { .. } => self.files.start_on_path(token, op),
            Op::Read { file, .. }
            | Op::Write { file, .. }
            | Op::Sync { file, .. }
            | Op::Allocate { file, .. }
            | Op::SetLength { file, .. }
            | Op::Describe { file }
            | Op::Lock { file } => self.files.start_on_file(token, file, op),
            Op::CloseFile { file } => self.files.close(token, file),
            Op::Listen { address } => self.completions.add(token, Sockets::listen(address)),
            Op::Accept { listener } => self.sockets.accept(start, listener),
            Op::Connect { address } => self.sockets.connect(start, address),
            Op::Receive { socket, length } => self.sockets.receive(start, socket, length),
            Op::ReceiveExact { socket, buffer, start: from, end } => {
                self.sockets.receive_exact(start, socket, buffer, from..end);
            }
            Op::Send { socket, slices } => self.sockets.send(start, socket, slices),
            Op::Shutdown { socket } => self.completions.add(token, Sockets::shutdown(socket)),
            Op::CloseSocket { socket } => self.sockets.close(start, socket),
        }
    }

    /// Only what waits on a socket ends early: file operations end by themselves.
    fn cancel(&mut self, token: Token) {
        self.sockets.cancel(token, &mut self.completions);
    }

    fn send(&mut self, to: ShardIndex, message: Message) -> Result<(), Message> {
        self.endpoint.send(to, message)
    }

    fn turn(&mut self, wait: Wait, events: &mut Vec<Event>) {
        let before = events.len();
        self.sockets.advance_unfinished(&self.epoll, &mut self.completions);
        self.collect(events);
        let has_work = events.len() > before || self.sockets.has_unfinished();
        let timeout = self.prepare_to_sleep(if has_work { Wait::No } else { wait });
        self.reports.extend(self.epoll.wait(timeout));
        if timeout != Some(Duration::ZERO) {
            self.woke();
        }
        self.handle_reports();
        self.collect(events);
    }

    fn now(&self) -> Instant {
        Instant(sys::monotonic_ns())
    }

    fn cpu_time(&self) -> Duration {
        sys::thread_cpu_time()
    }

    fn wall_clock_ms(&self) -> i64 {
        sys::wall_clock_ms()
    }

    fn random(&mut self) -> u64 {
        sys::random()
    }

    fn unparker(&self) -> Option<Unparker> {
        Some(self.endpoint.unparker())
    }

    fn pool(&self) -> BufferPool {
        self.pool.clone()
    }
}
