//! Sockets on `epoll`.
//!
//! Every operation is tried at once, without waiting; one that would have to wait arms the socket
//! for a single report and is tried again after it. A socket is known here only while operations
//! on it are in flight, and nothing is remembered of what epoll has seen of it: so it can go to
//! another shard, or be closed and its number given to another socket, in between.
//!
//! Cost of a receive: one `recv` when bytes are there, else a second one and an `epoll_ctl`. Of a
//! send: one `sendmsg`.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    ops::Range,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use bytes::Bytes;

use super::Completions;
use crate::{
    Buffer, BufferPool, Errno, Output,
    driver::{SocketId, Token},
    sys::{
        epoll::{Epoll, Interest, Report},
        sockets::{self, Blocking, KernelAddress},
    },
};

const READ: Interest = Interest { read: true, write: false };
const WRITE: Interest = Interest { read: false, write: true };
/// What one receive takes at most: more comes with the next.
const RECEIVE_BYTES_MAX: usize = 64 << 10;
/// What is received up to this length is copied into a block of this size, so that a short request
/// does not pin a large one.
const RECEIVE_COPY_BYTES_MAX: usize = 4 << 10;
/// What one socket receives in a turn before the others get theirs.
const TURN_BYTES_MAX: usize = 1 << 20;

/// What an operation needs when it starts.
pub(super) struct Start<'a> {
    pub(super) token: Token,
    pub(super) epoll: &'a Epoll,
    pub(super) completions: &'a mut Completions,
}

pub(super) struct Sockets {
    in_flight: BTreeMap<SocketId, Socket>,
    /// Where an operation is in flight.
    places: BTreeMap<Token, SocketId>,
    /// Those with more to do at once.
    unfinished: Vec<SocketId>,
    scratch: Scratch,
}

/// The operations in flight on one socket.
#[derive(Default)]
struct Socket {
    reader: Option<(Token, Reader)>,
    writer: Option<(Token, Writer)>,
    /// What epoll will report.
    armed: Interest,
}

enum Reader {
    Accept,
    Receive { length: usize },
    Exact { buffer: Option<Buffer>, filled: usize, end: usize },
}

enum Writer {
    Send {
        slices: Vec<Bytes>,
    },
    /// The socket is nobody's before it is connected.
    Connect {
        socket: Option<OwnedFd>,
        peer: SocketAddr,
    },
}

/// How far an operation came.
enum Step {
    Ended(Result<Output, Errno>),
    /// It has to wait for the socket.
    Blocked,
    /// There may be more to do at once.
    Unfinished,
}

impl Sockets {
    pub(super) fn new(pool: BufferPool) -> Sockets {
        Sockets {
            in_flight: BTreeMap::new(),
            places: BTreeMap::new(),
            unfinished: Vec::new(),
            scratch: Scratch { pool, buffer: None },
        }
    }

    pub(super) fn listen(address: SocketAddr) -> Result<Output, Errno> {
        let (socket, address) = sockets::listen(address, Blocking::No)?;
        Ok(Output::Listening(sockets::give_out(socket), address))
    }

    /// Ends both directions. What waits on the socket hears of it through epoll.
    pub(super) fn shutdown(socket: SocketId) -> Result<Output, Errno> {
        sockets::shutdown(sockets::borrow(&socket))?;
        Ok(Output::Done)
    }

    pub(super) fn accept(&mut self, start: Start<'_>, listener: SocketId) {
        self.start_reader(start, listener, Reader::Accept);
    }

    pub(super) fn receive(&mut self, start: Start<'_>, socket: SocketId, length: usize) {
        assert!(length > 0, "a receive of nothing would look like the end of the stream");
        self.start_reader(start, socket, Reader::Receive { length });
    }

    pub(super) fn receive_exact(
        &mut self,
        start: Start<'_>,
        socket: SocketId,
        buffer: Buffer,
        range: Range<usize>,
    ) {
        assert!(range.start < range.end, "a receive of nothing looks like the stream's end");
        assert!(range.end <= buffer.capacity(), "a receive beyond the buffer");
        let reader = Reader::Exact { buffer: Some(buffer), filled: range.start, end: range.end };
        self.start_reader(start, socket, reader);
    }

    pub(super) fn send(&mut self, start: Start<'_>, socket: SocketId, slices: Vec<Bytes>) {
        self.start_writer(start, socket, Writer::Send { slices });
    }

    pub(super) fn connect(&mut self, start: Start<'_>, peer: SocketAddr) {
        let socket = match begin_connect(peer) {
            Ok(socket) => socket,
            Err(error) => return start.completions.add(start.token, Err(error)),
        };
        let id = sockets::id_of(&socket);
        self.start_writer(start, id, Writer::Connect { socket: Some(socket), peer });
    }

    fn start_reader(&mut self, start: Start<'_>, id: SocketId, reader: Reader) {
        let socket = self.in_flight.entry(id).or_default();
        assert!(socket.reader.is_none(), "two receives (or accepts) in flight on one socket");
        socket.reader = Some((start.token, reader));
        self.places.insert(start.token, id);
        self.advance(id, READ, start.epoll, start.completions);
    }

    fn start_writer(&mut self, start: Start<'_>, id: SocketId, writer: Writer) {
        let socket = self.in_flight.entry(id).or_default();
        assert!(socket.writer.is_none(), "two sends in flight on one socket");
        socket.writer = Some((start.token, writer));
        self.places.insert(start.token, id);
        self.advance(id, WRITE, start.epoll, start.completions);
    }

    /// Closes a socket; what was in flight on it ends.
    pub(super) fn close(&mut self, start: Start<'_>, id: SocketId) {
        if let Some(socket) = self.in_flight.remove(&id) {
            let reader = socket.reader.map(|(token, _)| token);
            let writer = socket.writer.map(|(token, _)| token);
            for token in reader.into_iter().chain(writer) {
                self.places.remove(&token);
                start.completions.add(token, Err(Errno::CANCELED));
            }
        }
        drop(sockets::take_back(id));
        start.completions.add(start.token, Ok(Output::Done));
    }

    /// Ends an operation if it is still in flight here.
    pub(super) fn cancel(&mut self, token: Token, completions: &mut Completions) {
        let Some(id) = self.places.remove(&token) else { return };
        let socket = self.in_flight.get_mut(&id).expect("a place names a socket in flight");
        socket.reader.take_if(|(reader, _)| *reader == token);
        socket.writer.take_if(|(writer, _)| *writer == token);
        if socket.is_idle() {
            self.in_flight.remove(&id);
        }
        completions.add(token, Err(Errno::CANCELED));
    }

    /// Goes on with what epoll reports of a socket. A report for nobody came late: its operation
    /// was cancelled.
    pub(super) fn report(
        &mut self,
        id: SocketId,
        ready: Interest,
        epoll: &Epoll,
        completions: &mut Completions,
    ) {
        if let Some(socket) = self.in_flight.get_mut(&id) {
            socket.armed = Interest::default();
            self.advance(id, ready, epoll, completions);
        }
    }

    /// True if a socket has more to do at once.
    pub(super) fn has_unfinished(&self) -> bool {
        !self.unfinished.is_empty()
    }

    /// Goes on with the sockets that had more to do.
    pub(super) fn advance_unfinished(&mut self, epoll: &Epoll, completions: &mut Completions) {
        for id in std::mem::take(&mut self.unfinished) {
            self.advance(id, READ, epoll, completions);
        }
    }

    /// Tries what is in flight in the given directions, and arms the socket for what has to wait.
    fn advance(
        &mut self,
        id: SocketId,
        ready: Interest,
        epoll: &Epoll,
        completions: &mut Completions,
    ) {
        let Some(socket) = self.in_flight.get_mut(&id) else { return };
        let mut wanted = Interest { read: socket.reader.is_some(), write: socket.writer.is_some() };
        if ready.read
            && let Some((token, reader)) = &mut socket.reader
        {
            match reader.step(id, &mut self.scratch) {
                Step::Blocked => {}
                Step::Unfinished => {
                    wanted.read = false;
                    self.unfinished.push(id);
                }
                Step::Ended(result) => {
                    self.places.remove(token);
                    completions.add(*token, result);
                    socket.reader = None;
                    wanted.read = false;
                }
            }
        }
        if ready.write
            && let Some((token, writer)) = &mut socket.writer
            && let Step::Ended(result) = writer.step(id)
        {
            self.places.remove(token);
            completions.add(*token, result);
            socket.writer = None;
            wanted.write = false;
        }
        if let Err(error) = socket.arm(id, wanted, epoll) {
            for token in socket.end() {
                self.places.remove(&token);
                completions.add(token, Err(error));
            }
        }
        if socket.is_idle() {
            self.in_flight.remove(&id);
        }
    }
}

impl Socket {
    fn is_idle(&self) -> bool {
        self.reader.is_none() && self.writer.is_none()
    }

    /// Takes out what is in flight.
    fn end(&mut self) -> impl Iterator<Item = Token> + use<> {
        let reader = self.reader.take().map(|(token, _)| token);
        let writer = self.writer.take().map(|(token, _)| token);
        reader.into_iter().chain(writer)
    }

    fn arm(&mut self, id: SocketId, wanted: Interest, epoll: &Epoll) -> Result<(), Errno> {
        let missing = (wanted.read && !self.armed.read) || (wanted.write && !self.armed.write);
        if missing {
            let tag = u64::from(id.0);
            epoll.watch(sockets::borrow(&id).as_raw_fd(), tag, wanted, Report::Once)?;
            self.armed = wanted;
        }
        Ok(())
    }
}

impl Reader {
    fn step(&mut self, id: SocketId, scratch: &mut Scratch) -> Step {
        let socket = sockets::borrow(&id);
        match self {
            // Calls on connections say for themselves that they do not wait; a shard with a ring
            // takes over only what does.
            Reader::Accept => match sockets::accept(socket, Blocking::Yes) {
                Ok((socket, peer)) => Step::Ended(connected(socket, peer)),
                // The connection was gone before it was taken: there may be another.
                Err(Errno(libc::ECONNABORTED)) => Step::Unfinished,
                Err(Errno::WOULD_BLOCK) => Step::Blocked,
                Err(error) => Step::Ended(Err(error)),
            },
            Reader::Receive { length } => {
                match scratch.receive((*length).min(RECEIVE_BYTES_MAX), socket) {
                    Err(Errno::WOULD_BLOCK) => Step::Blocked,
                    result => Step::Ended(result.map(Output::Buffer)),
                }
            }
            Reader::Exact { buffer, filled, end } => {
                let target = buffer.as_mut().expect("it is there until the end");
                match fill(socket, target, filled, *end) {
                    Ok(Filled::Blocked) => Step::Blocked,
                    Ok(Filled::Unfinished) => Step::Unfinished,
                    Ok(Filled::Ended) => {
                        let mut buffer = buffer.take().expect("it is there until the end");
                        buffer.set_length(*filled);
                        Step::Ended(Ok(Output::Buffer(buffer)))
                    }
                    Err(error) => Step::Ended(Err(error)),
                }
            }
        }
    }
}

enum Filled {
    /// To the end, or as far as the stream went.
    Ended,
    Blocked,
    Unfinished,
}

/// Receives into `buffer` from `filled` to `end`.
fn fill(
    socket: BorrowedFd<'_>,
    buffer: &mut Buffer,
    filled: &mut usize,
    end: usize,
) -> Result<Filled, Errno> {
    let start = *filled;
    while *filled < end {
        if *filled - start >= TURN_BYTES_MAX {
            return Ok(Filled::Unfinished);
        }
        let step_end = end.min(start + TURN_BYTES_MAX);
        match sockets::receive_now(socket, &mut buffer.memory_mut()[*filled..step_end]) {
            Ok(0) => break,
            Ok(count) => *filled += count,
            Err(Errno::WOULD_BLOCK) => return Ok(Filled::Blocked),
            Err(error) => return Err(error),
        }
    }
    Ok(Filled::Ended)
}

impl Writer {
    fn step(&mut self, id: SocketId) -> Step {
        match self {
            Writer::Send { slices } => match sockets::send_now(sockets::borrow(&id), slices) {
                Ok(count) => Step::Ended(Ok(Output::Count(count))),
                Err(Errno::WOULD_BLOCK) => Step::Blocked,
                Err(error) => Step::Ended(Err(error)),
            },
            Writer::Connect { socket, peer } => {
                let place = socket.as_ref().expect("it is there until the end").as_fd();
                match sockets::take_error(place).and_then(|()| sockets::peer_address(place)) {
                    // Not there yet.
                    Err(Errno(libc::ENOTCONN)) => Step::Blocked,
                    Err(error) => Step::Ended(Err(error)),
                    Ok(_) => {
                        let socket = socket.take().expect("it is there until the end");
                        Step::Ended(connected(socket, *peer))
                    }
                }
            }
        }
    }
}

fn begin_connect(peer: SocketAddr) -> Result<OwnedFd, Errno> {
    let socket = sockets::socket(&peer, Blocking::No)?;
    match sockets::connect(socket.as_fd(), &KernelAddress::of(peer)) {
        Ok(()) | Err(Errno(libc::EINPROGRESS | libc::EINTR)) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// A connection that was accepted or made.
fn connected(socket: OwnedFd, peer: SocketAddr) -> Result<Output, Errno> {
    sockets::set_no_delay(socket.as_fd())?;
    let local = sockets::local_address(socket.as_fd())?;
    Ok(Output::Connected { socket: sockets::give_out(socket), local, peer })
}

/// The one buffer that receives go to first, so that a socket without bytes pins none.
struct Scratch {
    pool: BufferPool,
    buffer: Option<Buffer>,
}

impl Scratch {
    /// Receives at most `length` bytes.
    fn receive(&mut self, length: usize, socket: BorrowedFd<'_>) -> Result<Buffer, Errno> {
        let fits = |buffer: &Buffer| buffer.capacity() >= length;
        let mut buffer = self.buffer.take().filter(fits).unwrap_or_else(|| self.pool.take(length));
        let result = sockets::receive_now(socket, &mut buffer.memory_mut()[..length]);
        match result {
            Ok(count) if count > RECEIVE_COPY_BYTES_MAX => {
                buffer.set_length(count);
                Ok(buffer)
            }
            Ok(count) => {
                let mut small = self.pool.take(count.max(1));
                small.append(&buffer.memory_mut()[..count]);
                self.buffer = Some(buffer);
                Ok(small)
            }
            Err(error) => {
                self.buffer = Some(buffer);
                Err(error)
            }
        }
    }
}
