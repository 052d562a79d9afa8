//! The driver on `io_uring`.
//!
//! A turn is one `io_uring_enter`: it submits everything that the shard's tasks asked for and
//! collects what has completed. Files, names and all socket traffic go through the ring, so that
//! what has to wait for the disk waits in the kernel; a [helper thread](helper) has what the ring
//! cannot do. Made at once is only what no disk delays: descriptions, locks, new sockets.
//!
//! Receives are one-shot and bounded. A multishot receive cannot be told where to stop, so the
//! start of the next large frame would land in a small buffer and its record bytes would have to be
//! copied out of it; and one-shot costs no more (4.39 against 4.31 us a request). Idle connections
//! pin no memory: their receive takes a buffer from a ring of provided ones when bytes come, and
//! where the kernel has no such ring, a poll goes before it.
//!
//! Ladder down for older kernels: SINGLE_ISSUER + DEFER_TASKRUN (6.1), COOP_TASKRUN (5.19), plain;
//! provided buffer ring (5.19) or poll;
//! [registered buffers](registered) or plain ones; FTRUNCATE (6.9) and MKDIRAT (5.15) or the helper. `ENOMEM` (a small
//! memlock limit) asks again for a smaller ring.
//!
//! Cost of a request of one frame: a receive and a send, submitted with others in one system call.

#![expect(unsafe_code, reason = "operations hand pointers to the kernel")]

mod descriptors;
mod helper;
mod in_flight;
mod names;
mod provided;
mod registered;
mod transfers;

use std::{collections::VecDeque, io, os::fd::RawFd, time::Duration};

use io_uring::{IoUring, Probe, cqueue, opcode, squeue::Entry, types};
use slab::Slab;

pub use self::registered::REGISTERED_BYTES_MAX;
use self::{
    descriptors::{Close, Descriptors},
    helper::{Helper, Outcome, Task},
    in_flight::{Ended, InFlight},
    provided::ProvidedBuffers,
    registered::{RegisteredBuffers, Vectored},
};
use crate::{
    BufferPool, Driver, DriverKind, Endpoint, Errno, Event, Instant, Message, Op, ShardIndex,
    Unparker, Wait,
    alignment::Alignments,
    driver::{FileId, Output, SocketId, Token},
    overlap::WritesInFlight,
    sys::{self, sockets::Blocking},
};

/// Submission entries of a ring, largest first: what is tried until one is granted.
const RING_ENTRIES: [u32; 3] = [1024, 256, 64];
/// Completion entries for each submission entry: pending receives complete without a submission.
const COMPLETIONS_PER_ENTRY: u32 = 4;
/// `user_data` of operations that belong to no task.
const USER_DATA_EVENT: u64 = u64::MAX;
const USER_DATA_IGNORED: u64 = u64::MAX - 1;
const USER_DATA_HELPER: u64 = u64::MAX - 2;
/// How long a driver that is dropped waits for the kernel to give its buffers back.
const DRAIN_DEADLINE: Duration = Duration::from_secs(2);

/// What this kernel's ring can do.
#[derive(Clone, Copy, Debug)]
struct Features {
    truncate: bool,
    make_directory: bool,
    vectored: Vectored,
}

/// A ring that has what a driver needs.
pub(crate) struct Ring {
    ring: IoUring,
    features: Features,
}

impl Ring {
    /// # Errors
    /// As [`UringDriver::new`].
    pub(crate) fn set_up() -> io::Result<Ring> {
        let ring = set_up_ring()?;
        let mut probe = Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        for (code, name) in [
            (opcode::Accept::CODE, "accept"),
            (opcode::AsyncCancel::CODE, "cancel"),
            (opcode::RenameAt::CODE, "rename"),
        ] {
            if !probe.is_supported(code) {
                let text = format!("this kernel's io_uring lacks {name}");
                return Err(io::Error::new(io::ErrorKind::Unsupported, text));
            }
        }
        let features = Features {
            truncate: probe.is_supported(opcode::Ftruncate::CODE),
            make_directory: probe.is_supported(opcode::MkDirAt::CODE),
            vectored: match probe.is_supported(opcode::WritevFixed::CODE) {
                true => Vectored::Yes,
                false => Vectored::No,
            },
        };
        Ok(Ring { ring, features })
    }
}

/// `io_uring` for one shard; bound to the thread that made it.
pub struct UringDriver {
    ring: IoUring,
    features: Features,
    endpoint: Endpoint,
    pool: BufferPool,
    in_flight: Slab<Box<InFlight>>,
    /// Where an operation's slot is, for `cancel`; indexed by token.
    slots: Vec<usize>,
    /// Entries that the submission queue has not taken yet.
    backlog: VecDeque<Entry>,
    /// Operations that ended without the ring.
    ended: Vec<Event>,
    provided: Option<ProvidedBuffers>,
    registered: Option<RegisteredBuffers>,
    helper: Helper,
    helped: Vec<Outcome>,
    alignments: Alignments,
    descriptors: Descriptors,
    writes: WritesInFlight,
    event_armed: bool,
    helper_armed: bool,
    events_pending: bool,
}

impl UringDriver {
    /// Sets up a ring on the calling thread, which has to be the one that runs the shard.
    ///
    /// # Errors
    /// `EPERM` where `io_uring` is forbidden (seccomp, sysctl), `ENOSYS` where it does not exist,
    /// `ENOMEM` where not even a small ring is granted.
    pub fn new(endpoint: Endpoint, pool: BufferPool) -> io::Result<UringDriver> {
        Ok(UringDriver::with_ring(Ring::set_up()?, endpoint, pool))
    }

    pub(crate) fn with_ring(ring: Ring, endpoint: Endpoint, pool: BufferPool) -> UringDriver {
        let Ring { ring, features } = ring;
        let provided = ProvidedBuffers::register(&ring, &pool);
        let registered = RegisteredBuffers::new(&ring, &pool, features.vectored);
        tracing::debug!(
            entries = ring.params().sq_entries(),
            provided = provided.is_some(),
            registered = registered.is_some(),
            ?features,
            "ring set up"
        );
        UringDriver {
            ring,
            features,
            endpoint,
            pool,
            in_flight: Slab::new(),
            slots: Vec::new(),
            backlog: VecDeque::new(),
            ended: Vec::new(),
            provided,
            registered,
            helper: Helper::default(),
            helped: Vec::new(),
            alignments: Alignments::default(),
            descriptors: Descriptors::default(),
            writes: WritesInFlight::default(),
            event_armed: false,
            helper_armed: false,
            events_pending: false,
        }
    }

    fn start(&mut self, token: Token, mut in_flight: InFlight) {
        if let Some(registered) = &mut self.registered {
            in_flight.find_slot(registered, &self.ring);
        }
        if let Some(descriptor) = in_flight.uses() {
            self.descriptors.started(descriptor);
        }
        if let Some((file, position, length)) = in_flight.writes() {
            self.writes.start(file, position, length);
        }
        let slot = self.in_flight.insert(Box::new(in_flight));
        let index = usize::try_from(token.0).expect("tokens are slab keys");
        if self.slots.len() <= index {
            self.slots.resize(index + 1, usize::MAX);
        }
        self.slots[index] = slot;
        self.submit_slot(slot);
    }

    /// Submits what the operation in `slot` needs next.
    fn submit_slot(&mut self, slot: usize) {
        let in_flight = &mut self.in_flight[slot];
        let entry = in_flight.entry(self.provided.is_some());
        self.backlog.push_back(entry.user_data(user_data(slot)));
    }

    fn push_backlog(&mut self) -> io::Result<()> {
        while let Some(entry) = self.backlog.pop_front() {
            // SAFETY: all that the entry points to is owned by the boxed operation in
            // `in_flight` (or by nobody, for entries without pointers), which stays in place until
            // its completion; on drop, until the ring is gone.
            let pushed = unsafe { self.ring.submission().push(&entry) };
            if pushed.is_err() {
                self.backlog.push_front(entry);
                self.enter(Wait::No)?;
            }
        }
        Ok(())
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        let result = match wait {
            Wait::No => {
                let mut queue = self.ring.submission();
                queue.sync();
                let nothing = queue.is_empty() && !queue.taskrun() && !queue.cq_overflow();
                drop(queue);
                if nothing {
                    return Ok(());
                }
                self.ring.submit_and_wait(0)
            }
            Wait::Forever => self.ring.submit_and_wait(1),
            Wait::Until(deadline) => {
                let rest = deadline.since(Instant(sys::monotonic_ns()));
                let timespec = types::Timespec::from(rest);
                let arguments = types::SubmitArgs::new().timespec(&timespec);
                self.ring.submitter().submit_with_args(1, &arguments)
            }
        };
        match result {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // Time is up, a signal came, or the completion queue has to be emptied first.
                Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN) => Ok(()),
                Some(_) | None => Err(error),
            },
        }
    }

    fn reap(&mut self, events: &mut Vec<Event>) {
        loop {
            let Some(entry) = self.ring.completion().next() else { return };
            let (data, result, flags) = (entry.user_data(), entry.result(), entry.flags());
            match data {
                USER_DATA_IGNORED => {}
                USER_DATA_EVENT => {
                    sys::drain_eventfd(self.endpoint.event());
                    self.event_armed = cqueue::more(flags) && result >= 0;
                    self.events_pending = true;
                }
                USER_DATA_HELPER => {
                    if let Some(event) = self.helper.event() {
                        sys::drain_eventfd(event);
                    }
                    self.helper_armed = cqueue::more(flags) && result >= 0;
                }
                _ => self.complete(data, result, flags, events),
            }
        }
    }

    /// Takes what the helper has done.
    fn collect_helped(&mut self, events: &mut Vec<Event>) {
        let mut helped = std::mem::take(&mut self.helped);
        self.helper.collect(&mut helped);
        for Outcome { token, uses, result } in helped.drain(..) {
            if let Some(descriptor) = uses {
                self.no_longer_used(descriptor);
            }
            events.push(Event::Completed { token, result });
        }
        self.helped = helped;
    }

    fn no_longer_used(&mut self, descriptor: RawFd) {
        match self.descriptors.ended(descriptor) {
            Some(Close::Socket(token)) => self.start(token, InFlight::close(token, descriptor)),
            Some(Close::File(token)) => self.close_unused_file(token, descriptor),
            None => {}
        }
    }

    fn close_unused_file(&mut self, token: Token, descriptor: RawFd) {
        self.help(token, None, Task::Close(in_flight::made(descriptor)));
    }

    /// Hands a task to the helper.
    fn help(&mut self, token: Token, uses: Option<RawFd>, task: Task) {
        match self.helper.start(token, uses, task) {
            Ok(()) => {
                if let Some(descriptor) = uses {
                    self.descriptors.started(descriptor);
                }
            }
            Err(error) => self.end_at_once(token, Err(Errno::of(&error))),
        }
    }

    fn complete(&mut self, data: u64, result: i32, flags: u32, events: &mut Vec<Event>) {
        let slot = usize::try_from(data).expect("made from a slot");
        let filled = cqueue::buffer_select(flags).map(|id| {
            let provided = self.provided.as_mut().expect("only a ring of buffers selects one");
            provided.take(id, &self.pool)
        });
        let in_flight = &mut self.in_flight[slot];
        match in_flight.completed(result, filled, &self.pool) {
            Ended::Again => self.submit_slot(slot),
            Ended::With(result) => {
                let in_flight = self.in_flight.remove(slot);
                if let Some((file, position, _)) = in_flight.writes() {
                    self.writes.end(file, position);
                }
                if let Some(descriptor) = in_flight.uses() {
                    self.no_longer_used(descriptor);
                }
                if let Ok(Output::Opened(file, info)) = &result {
                    self.alignments.opened(*file, *info);
                }
                events.push(Event::Completed { token: in_flight.token, result });
            }
        }
    }

    /// Has the ring tell of messages from other shards and of the helper's ends.
    fn arm_events(&mut self) {
        let watch = |event| opcode::PollAdd::new(types::Fd(event), POLL_IN).multi(true).build();
        if !self.event_armed {
            self.event_armed = true;
            let entry = watch(self.endpoint.event()).user_data(USER_DATA_EVENT);
            self.backlog.push_back(entry);
        }
        if !self.helper_armed
            && let Some(event) = self.helper.event()
        {
            self.helper_armed = true;
            self.backlog.push_back(watch(event).user_data(USER_DATA_HELPER));
        }
    }

    /// Announces that the shard is about to sleep. False if it must not: something has come in.
    /// [`UringDriver::woke`] has to follow a true.
    fn may_sleep(&mut self) -> bool {
        if !self.endpoint.may_sleep() {
            return false;
        }
        if !self.helper.may_sleep() {
            self.endpoint.woke();
            return false;
        }
        true
    }

    fn woke(&mut self) {
        self.endpoint.woke();
        self.helper.woke();
    }

    fn end_at_once(&mut self, token: Token, result: Result<Output, Errno>) {
        self.ended.push(Event::Completed { token, result });
    }

    /// Cancels whatever is in flight on a socket and closes it after the last of them.
    fn close_socket(&mut self, token: Token, descriptor: RawFd) {
        if self.descriptors.may_close(descriptor, Close::Socket(token)) {
            self.start(token, InFlight::close(token, descriptor));
            return;
        }
        let cancel =
            opcode::AsyncCancel2::new(types::CancelBuilder::fd(types::Fd(descriptor)).all());
        self.backlog.push_back(cancel.build().user_data(USER_DATA_IGNORED));
        for (_, in_flight) in &mut self.in_flight {
            if in_flight.uses() == Some(descriptor) {
                in_flight.cancelled = true;
            }
        }
    }

    /// Closes a file after the last operation on it.
    fn close_file(&mut self, token: Token, descriptor: RawFd) {
        if self.descriptors.may_close(descriptor, Close::File(token)) {
            self.close_unused_file(token, descriptor);
        }
    }
}

const POLL_IN: u32 = 1;

fn user_data(slot: usize) -> u64 {
    u64::try_from(slot).expect("usize is at most 64 bits")
}

fn set_up_ring() -> io::Result<IoUring> {
    let mut last = io::Error::from_raw_os_error(libc::ENOMEM);
    for entries in RING_ENTRIES {
        for level in 0..3 {
            let mut builder = IoUring::builder();
            builder.setup_cqsize(entries * COMPLETIONS_PER_ENTRY);
            match level {
                0 => {
                    builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
                }
                1 => {
                    builder.setup_coop_taskrun().setup_taskrun_flag();
                }
                _ => {}
            }
            match builder.build(entries) {
                Ok(ring) => return Ok(ring),
                Err(error) => last = error,
            }
            if last.raw_os_error() != Some(libc::EINVAL) {
                break;
            }
        }
        if last.raw_os_error() != Some(libc::ENOMEM) {
            break;
        }
    }
    Err(last)
}

impl Driver for UringDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Uring
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest goes through the ring")]
    fn submit(&mut self, token: Token, op: Op) {
        match op {
            Op::Describe { file } => {
                let result = sys::files::describe(in_flight::borrowed(file.0));
                self.end_at_once(token, result.map(|info| Output::Opened(file, info)));
            }
            Op::Lock { file } => {
                let result = sys::files::lock(in_flight::borrowed(file.0));
                self.end_at_once(token, result.map(|()| Output::Done));
            }
            // Counters in memory, as a description is.
            Op::DescribeSpace { path } => {
                let result = sys::files::space(&path);
                self.end_at_once(token, result.map(Output::Space));
            }
            Op::ListDirectory { path } => self.help(token, None, Task::ListDirectory(path)),
            Op::CreateDirectory { path } if !self.features.make_directory => {
                self.help(token, None, Task::CreateDirectory(path));
            }
            Op::SetLength { file, length } if !self.features.truncate => {
                let task = Task::SetLength(in_flight::borrowed(file.0), length);
                self.help(token, Some(in_flight::raw(file.0)), task);
            }
            Op::Listen { address } => {
                let result = sys::sockets::listen(address, Blocking::Yes);
                let output = result.map(|(socket, address)| {
                    Output::Listening(SocketId(in_flight::id(socket)), address)
                });
                self.end_at_once(token, output);
            }
            Op::CloseSocket { socket } => self.close_socket(token, in_flight::raw(socket.0)),
            Op::CloseFile { file } => self.close_file(token, in_flight::raw(file.0)),
            Op::Shutdown { socket } => {
                let result = sys::sockets::shutdown(in_flight::borrowed(socket.0));
                self.end_at_once(token, result.map(|()| Output::Done));
            }
            other => {
                self.alignments.check(&other);
                match InFlight::new(token, other) {
                    Ok(in_flight) => self.start(token, in_flight),
                    Err(error) => self.end_at_once(token, Err(error)),
                }
            }
        }
    }

    fn cancel(&mut self, token: Token) {
        let index = usize::try_from(token.0).expect("tokens are slab keys");
        let Some(slot) = self.slots.get(index).copied() else { return };
        let is_current = self.in_flight.get(slot).is_some_and(|entry| entry.token == token);
        if is_current {
            let entry = opcode::AsyncCancel::new(user_data(slot)).build();
            self.in_flight[slot].cancelled = true;
            self.backlog.push_back(entry.user_data(USER_DATA_IGNORED));
        }
    }

    fn send(&mut self, to: ShardIndex, message: Message) -> Result<(), Message> {
        self.endpoint.send(to, message)
    }

    fn turn(&mut self, wait: Wait, events: &mut Vec<Event>) {
        events.append(&mut self.ended);
        self.collect_helped(events);
        if let Some(registered) = &mut self.registered {
            registered.release_retired(&self.ring);
        }
        self.endpoint.drain(events);
        self.arm_events();
        // A ring that cannot be entered is a broken program or machine: nothing can go on.
        self.push_backlog().expect("io_uring takes submissions");
        let idle = events.is_empty() && self.ring.completion().is_empty();
        let sleeps = idle && wait != Wait::No && self.may_sleep();
        self.enter(if sleeps { wait } else { Wait::No }).expect("io_uring can be entered");
        if sleeps {
            self.woke();
        }
        self.reap(events);
        self.collect_helped(events);
        if std::mem::take(&mut self.events_pending) || sleeps {
            self.endpoint.drain(events);
        }
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

impl Drop for UringDriver {
    /// The kernel owns the buffers of operations in flight: cancels them all and waits. What does
    /// not come back in time is leaked, never freed under the kernel's hands.
    fn drop(&mut self) {
        let deadline = Instant(sys::monotonic_ns()) + DRAIN_DEADLINE;
        let all = opcode::AsyncCancel2::new(types::CancelBuilder::any());
        self.backlog.push_back(all.build().user_data(USER_DATA_IGNORED));
        for (_, in_flight) in &mut self.in_flight {
            in_flight.cancelled = true;
        }
        let mut events = Vec::new();
        let mut entered = self.push_backlog();
        while entered.is_ok()
            && !self.in_flight.is_empty()
            && Instant(sys::monotonic_ns()) < deadline
        {
            entered = self.enter(Wait::Until(deadline));
            self.reap(&mut events);
            // Among what follows are the closes that waited for operations.
            entered = entered.and_then(|()| self.push_backlog());
        }
        for event in events {
            // What was opened for nobody.
            if let Event::Completed { result: Ok(output), .. } = event
                && let Output::Opened(FileId(id), _)
                | Output::Connected { socket: SocketId(id), .. } = output
            {
                drop(in_flight::made(in_flight::raw(id)));
            }
        }
        if !self.in_flight.is_empty() {
            tracing::error!(count = self.in_flight.len(), "operations never came back");
            std::mem::forget(std::mem::take(&mut self.in_flight));
            std::mem::forget(self.provided.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Executor, File, OpenOptions, mesh};

    #[test]
    fn what_an_older_kernel_s_ring_lacks_the_helper_does() {
        let Ok(mut ring) = Ring::set_up() else { return };
        ring.features = Features { truncate: false, make_directory: false, vectored: Vectored::No };
        let (mut endpoints, _) = mesh(1).unwrap();
        let driver = UringDriver::with_ring(ring, endpoints.remove(0), BufferPool::new(1 << 20));
        let mut executor = Executor::new(ShardIndex(0), 1, Box::new(driver));
        let runtime = executor.runtime();
        executor.block_on(async move {
            let directory = tempfile::tempdir().unwrap();
            let below = directory.path().join("below");
            assert_eq!(runtime.create_directory(&below).await, Ok(()));
            assert_eq!(runtime.create_directory(&below).await, Err(Errno::EXISTS));
            let file = File::open(&runtime, below.join("f"), OpenOptions::REPLACE).await.unwrap();
            assert_eq!(file.set_length(5000).await, Ok(()));
            assert_eq!(file.describe().await.unwrap().length, 5000);
            file.close().await;
            assert_eq!(runtime.list_directory(&below).await.unwrap().len(), 1);
        });
    }
}
