//! The network: streams of bytes with delay, in pieces, that can break.
//!
//! Of one direction of a connection bytes arrive in order or not at all. A receive gives what is
//! there, often less; a send takes what the window has room for. A process that dies ends or
//! resets its connections, a machine that loses power resets them later. Bytes for a socket that
//! is gone are answered by a reset.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use bytes::Bytes;
use runtime::{Buffer, BufferPool, Errno, Op, Output, driver::SocketId};

use crate::{
    Rng,
    disk::{NOT_OPEN, ReplyTo},
    number::wide,
    schedule::{Due, Schedule},
};

const BROKEN_PIPE: Errno = Errno(32);
/// Delay of a completion that needs nobody else.
const LOCAL_NS: u64 = 2_000;
/// How long after a power cut the peers learn of it, at most.
const RESET_NS_MAX: u64 = 200_000_000;
/// The first port that is given to who asks for any.
const FIRST_FREE_PORT: u16 = 40_000;

/// What a network is like.
#[derive(Clone, Copy, Debug)]
pub struct NetSettings {
    /// One way, drawn evenly from the pair.
    pub delay_ns: (u64, u64),
    /// Bytes that one direction of a connection holds.
    pub window_bytes: usize,
    /// Of 1,000 receives so many give less than is there, of 1,000 sends so many take less than fits.
    pub partial_permille: u32,
    /// Of 100,000 sends so many break the connection.
    pub break_per_100k: u32,
}

impl NetSettings {
    /// One network of many, from loopback to another region.
    #[must_use]
    pub fn by_seed(rng: &mut Rng) -> NetSettings {
        let low = rng.pick(&[5_000, 50_000, 500_000]);
        NetSettings {
            delay_ns: (low, low * rng.pick(&[2, 8])),
            window_bytes: rng.pick(&[4 << 10, 64 << 10, 1 << 20]),
            partial_permille: rng.pick(&[0, 50, 500]),
            break_per_100k: rng.pick(&[0, 0, 20, 100]),
        }
    }
}

/// What reaches a socket.
pub(crate) enum Arrival {
    Data(Bytes),
    /// The peer will send no more.
    End,
    /// The connection is gone.
    Reset,
}

/// A process: a node and which of its lives.
pub(crate) type Process = (u16, u32);

struct Listener {
    owner: Process,
    address: SocketAddr,
    ready: VecDeque<(u32, SocketAddr)>,
    accepts: VecDeque<ReplyTo>,
}

struct Stream {
    owner: Process,
    peer: u32,
    arrived: VecDeque<Bytes>,
    ended: bool,
    reset: bool,
    /// No more sends.
    shut: bool,
    receives: VecDeque<Receive>,
    sends: VecDeque<(ReplyTo, Vec<Bytes>)>,
    /// Sent and not yet taken by the peer.
    window_used: usize,
    /// When the last of what was sent arrives.
    last_arrival: u64,
}

struct Receive {
    reply: ReplyTo,
    want: Want,
}

enum Want {
    Some { length: usize, pool: BufferPool },
    Exact { buffer: Buffer, filled: usize, end: usize },
}

pub(crate) struct Net {
    listeners: BTreeMap<u32, Listener>,
    streams: BTreeMap<u32, Stream>,
    next_socket: u32,
    next_port: u16,
    settings: NetSettings,
    rng: Rng,
    pub(crate) broken: u64,
    pub(crate) violations: Vec<String>,
}

/// The address of a node.
pub(crate) fn node_address(node: u16) -> Ipv4Addr {
    let [high, low] = node.to_be_bytes();
    Ipv4Addr::new(10, 0, high, low + 1)
}

impl Net {
    pub(crate) fn new(settings: NetSettings, rng: Rng) -> Net {
        Net {
            listeners: BTreeMap::new(),
            streams: BTreeMap::new(),
            next_socket: 1,
            next_port: FIRST_FREE_PORT,
            settings,
            rng,
            broken: 0,
            violations: Vec::new(),
        }
    }

    /// Takes an operation at `now`, the time of the shard that asks.
    pub(crate) fn submit(
        &mut self,
        op: Op,
        reply: ReplyTo,
        pool: &BufferPool,
        now: u64,
        schedule: &mut Schedule,
    ) {
        let result = self.act(op, reply, pool, now, schedule);
        if let Some(result) = result.transpose() {
            schedule.at(now + LOCAL_NS, Due::Reply { to: reply, result });
        }
    }

    /// Does what can be done at once; gives nothing if the operation waits.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the world sends the rest to the disk")]
    fn act(
        &mut self,
        op: Op,
        reply: ReplyTo,
        pool: &BufferPool,
        now: u64,
        schedule: &mut Schedule,
    ) -> Result<Option<Output>, Errno> {
        match op {
            Op::Listen { address } => self.listen(reply, address).map(Some),
            Op::Accept { listener } => {
                let Some(state) = self.listeners.get_mut(&listener.0) else {
                    return Err(self.unknown(listener));
                };
                state.accepts.push_back(reply);
                self.match_accepts(listener.0, now, schedule);
                Ok(None)
            }
            Op::Connect { address } => {
                let delay = self.delay();
                schedule.at(now + delay, Due::Knock { from: reply, address });
                Ok(None)
            }
            Op::Receive { socket, length } => {
                let want = Want::Some { length, pool: pool.clone() };
                self.stream(socket)?.receives.push_back(Receive { reply, want });
                self.match_receives(socket.0, now, schedule);
                Ok(None)
            }
            Op::ReceiveExact { socket, buffer, start, end } => {
                let want = Want::Exact { buffer, filled: start, end };
                self.stream(socket)?.receives.push_back(Receive { reply, want });
                self.match_receives(socket.0, now, schedule);
                Ok(None)
            }
            Op::Send { socket, slices } => {
                self.stream(socket)?.sends.push_back((reply, slices));
                self.match_sends(socket.0, now, schedule);
                Ok(None)
            }
            Op::Shutdown { socket } => {
                self.stream(socket)?;
                self.shutdown(socket.0, now, schedule);
                Ok(Some(Output::Done))
            }
            Op::CloseSocket { socket } => {
                self.close(socket, now, schedule)?;
                Ok(Some(Output::Done))
            }
            other => panic!("{other:?} is not for the network"),
        }
    }

    fn unknown(&mut self, socket: SocketId) -> Errno {
        self.violations.push(format!("an operation on socket {} that is not open", socket.0));
        NOT_OPEN
    }

    fn stream(&mut self, socket: SocketId) -> Result<&mut Stream, Errno> {
        if !self.streams.contains_key(&socket.0) {
            return Err(self.unknown(socket));
        }
        Ok(self.streams.get_mut(&socket.0).expect("just seen"))
    }

    fn delay(&mut self) -> u64 {
        self.rng.between(self.settings.delay_ns.0, self.settings.delay_ns.1)
    }

    fn new_socket(&mut self) -> u32 {
        self.next_socket += 1;
        self.next_socket
    }

    fn free_port(&mut self) -> u16 {
        self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_FREE_PORT);
        self.next_port
    }

    fn listen(&mut self, (owner, _): ReplyTo, address: SocketAddr) -> Result<Output, Errno> {
        let port = if address.port() == 0 { self.free_port() } else { address.port() };
        let host = IpAddr::V4(node_address(owner.node));
        if !address.ip().is_unspecified() && address.ip() != host && !address.ip().is_loopback() {
            return Err(Errno::INVALID);
        }
        let address = SocketAddr::new(host, port);
        if self.listeners.values().any(|listener| listener.address == address) {
            return Err(Errno::ADDRESS_IN_USE);
        }
        let socket = self.new_socket();
        let listener = Listener {
            owner: owner.process(),
            address,
            ready: VecDeque::new(),
            accepts: VecDeque::new(),
        };
        self.listeners.insert(socket, listener);
        Ok(Output::Listening(SocketId(socket), address))
    }

    fn match_accepts(&mut self, listener: u32, now: u64, schedule: &mut Schedule) {
        let Some(state) = self.listeners.get_mut(&listener) else { return };
        while !state.accepts.is_empty() {
            let Some((socket, peer)) = state.ready.pop_front() else { return };
            let to = state.accepts.pop_front().expect("just seen");
            let (socket, local) = (SocketId(socket), state.address);
            let result = Ok(Output::Connected { socket, local, peer });
            schedule.at(now + LOCAL_NS, Due::Reply { to, result });
        }
    }

    /// A connection attempt of a living process reaches its address.
    pub(crate) fn knock(&mut self, from: ReplyTo, address: SocketAddr, schedule: &mut Schedule) {
        let now = schedule.now;
        let reply_at = now + self.delay();
        let found = self.listeners.iter().find(|(_, listener)| listener.address == address);
        let Some((listener, owner)) = found.map(|(id, state)| (*id, state.owner)) else {
            let result = Err(Errno::CONNECTION_REFUSED);
            schedule.at(reply_at, Due::Reply { to: from, result });
            return;
        };
        let local = SocketAddr::new(IpAddr::V4(node_address(from.0.node)), self.free_port());
        let (client, server) = (self.new_socket(), self.new_socket());
        self.streams.insert(client, Stream::new(from.0.process(), server));
        self.streams.insert(server, Stream::new(owner, client));
        let state = self.listeners.get_mut(&listener).expect("just found");
        state.ready.push_back((server, local));
        self.match_accepts(listener, now, schedule);
        let result = Ok(Output::Connected { socket: SocketId(client), local, peer: address });
        schedule.at(reply_at, Due::Reply { to: from, result });
    }

    fn match_sends(&mut self, socket: u32, now: u64, schedule: &mut Schedule) {
        loop {
            let breaks = self.rng.below(100_000) < u64::from(self.settings.break_per_100k);
            let Some(stream) = self.streams.get_mut(&socket) else { return };
            let room = self.settings.window_bytes - stream.window_used;
            if stream.sends.is_empty() || (room == 0 && !stream.reset && !stream.shut) {
                return;
            }
            let (to, slices) = stream.sends.pop_front().expect("just seen");
            if breaks && !stream.reset && !stream.shut {
                self.broken += 1;
                self.break_connection(socket, now, schedule);
                schedule
                    .at(now + LOCAL_NS, Due::Reply { to, result: Err(Errno::CONNECTION_RESET) });
                continue;
            }
            if stream.reset || stream.shut {
                let error = if stream.reset { Errno::CONNECTION_RESET } else { BROKEN_PIPE };
                schedule.at(now + LOCAL_NS, Due::Reply { to, result: Err(error) });
                continue;
            }
            let count = self.send(socket, slices, room, now, schedule);
            schedule.at(now + LOCAL_NS, Due::Reply { to, result: Ok(Output::Count(count)) });
        }
    }

    /// Sends what there is room for; gives how much that was.
    fn send(
        &mut self,
        socket: u32,
        slices: Vec<Bytes>,
        room: usize,
        now: u64,
        schedule: &mut Schedule,
    ) -> usize {
        let total: usize = slices.iter().map(Bytes::len).sum();
        let mut count = total.min(room);
        if count > 1 && self.rng.chance(self.settings.partial_permille) {
            count = 1 + self.rng.index(count);
        }
        let mut rest = count;
        for mut slice in slices {
            let taken = slice.split_to(slice.len().min(rest));
            rest -= taken.len();
            if !taken.is_empty() {
                self.send_on(socket, Arrival::Data(taken), now, schedule);
            }
        }
        self.streams.get_mut(&socket).expect("checked by the caller").window_used += count;
        count
    }

    /// Sends something to the peer, behind what was sent before.
    fn send_on(&mut self, socket: u32, arrival: Arrival, now: u64, schedule: &mut Schedule) {
        let delay = self.delay();
        let Some(stream) = self.streams.get_mut(&socket) else { return };
        stream.last_arrival = stream.last_arrival.max(now + delay);
        schedule.at(stream.last_arrival, Due::Arrive { socket: stream.peer, arrival });
    }

    /// Something reaches a socket.
    pub(crate) fn arrive(&mut self, socket: u32, arrival: Arrival, schedule: &mut Schedule) {
        let now = schedule.now;
        let Some(stream) = self.streams.get_mut(&socket) else {
            // Nobody is there any more: whoever sent bytes learns it.
            if matches!(arrival, Arrival::Data(_)) {
                let sender = self.streams.iter().find(|(_, stream)| stream.peer == socket);
                if let Some(sender) = sender.map(|(id, _)| *id) {
                    let at = now + self.delay();
                    schedule.at(at, Due::Arrive { socket: sender, arrival: Arrival::Reset });
                }
            }
            return;
        };
        match arrival {
            Arrival::Data(bytes) if !stream.reset => stream.arrived.push_back(bytes),
            Arrival::Data(_) => {}
            Arrival::End => stream.ended = true,
            Arrival::Reset => {
                stream.reset = true;
                stream.arrived.clear();
            }
        }
        self.match_receives(socket, now, schedule);
        self.match_sends(socket, now, schedule);
    }

    fn match_receives(&mut self, socket: u32, now: u64, schedule: &mut Schedule) {
        let partial = self.rng.chance(self.settings.partial_permille);
        let Some(stream) = self.streams.get_mut(&socket) else { return };
        let mut taken = 0;
        while let Some(receive) = stream.receives.pop_front() {
            match stream.serve(receive, partial, &mut self.rng, &mut taken) {
                Served::Ended(to, result) => {
                    schedule.at(now + LOCAL_NS, Due::Reply { to, result });
                }
                Served::Waits(receive) => {
                    stream.receives.push_front(receive);
                    break;
                }
            }
        }
        let peer = stream.peer;
        if taken > 0
            && let Some(peer_stream) = self.streams.get_mut(&peer)
        {
            peer_stream.window_used -= taken;
            self.match_sends(peer, now, schedule);
        }
    }

    fn shutdown(&mut self, socket: u32, now: u64, schedule: &mut Schedule) {
        let Some(stream) = self.streams.get_mut(&socket) else { return };
        if !stream.shut && !stream.reset {
            stream.shut = true;
            stream.ended = true;
            self.send_on(socket, Arrival::End, now, schedule);
        }
        self.match_receives(socket, now, schedule);
        self.match_sends(socket, now, schedule);
    }

    fn break_connection(&mut self, socket: u32, now: u64, schedule: &mut Schedule) {
        self.send_on(socket, Arrival::Reset, now, schedule);
        schedule.at(now + LOCAL_NS, Due::Arrive { socket, arrival: Arrival::Reset });
    }

    fn close(&mut self, socket: SocketId, now: u64, schedule: &mut Schedule) -> Result<(), Errno> {
        if let Some(listener) = self.listeners.remove(&socket.0) {
            for to in listener.accepts {
                schedule.at(now + LOCAL_NS, Due::Reply { to, result: Err(Errno::CANCELED) });
            }
            for (waiting, _) in listener.ready {
                self.break_connection(waiting, now, schedule);
                self.streams.remove(&waiting);
            }
            return Ok(());
        }
        let unread = !self.stream(socket)?.arrived.is_empty();
        let end = if unread { Arrival::Reset } else { Arrival::End };
        self.send_on(socket.0, end, now, schedule);
        let stream = self.streams.remove(&socket.0).expect("just seen");
        let waiting = stream.receives.iter().map(|receive| receive.reply);
        for to in waiting.chain(stream.sends.iter().map(|(reply, _)| *reply)) {
            schedule.at(now + LOCAL_NS, Due::Reply { to, result: Err(Errno::CANCELED) });
        }
        Ok(())
    }

    /// Ends an operation that waits; one that has ended or is about to is left alone.
    pub(crate) fn cancel(&mut self, operation: ReplyTo, now: u64, schedule: &mut Schedule) {
        let mut found = false;
        for listener in self.listeners.values_mut() {
            found |= take_out(&mut listener.accepts, |reply| *reply == operation);
        }
        for stream in self.streams.values_mut() {
            found |= take_out(&mut stream.receives, |receive| receive.reply == operation);
            found |= take_out(&mut stream.sends, |(reply, _)| *reply == operation);
        }
        if found {
            let result = Err(Errno::CANCELED);
            schedule.at(now + LOCAL_NS, Due::Reply { to: operation, result });
        }
    }

    /// A process was killed: the kernel ends its connections.
    pub(crate) fn kill(&mut self, process: Process, schedule: &mut Schedule) {
        let now = schedule.now;
        self.listeners.retain(|_, listener| listener.owner != process);
        for socket in self.sockets_of(process) {
            let end = if self.rng.chance(500) { Arrival::End } else { Arrival::Reset };
            self.send_on(socket, end, now, schedule);
            self.streams.remove(&socket);
        }
    }

    /// A machine lost power: its peers learn of it when it is back.
    pub(crate) fn power_cut(&mut self, process: Process, schedule: &mut Schedule) {
        let now = schedule.now;
        self.listeners.retain(|_, listener| listener.owner != process);
        for socket in self.sockets_of(process) {
            let later = now + self.rng.below(RESET_NS_MAX);
            self.send_on(socket, Arrival::Reset, later, schedule);
            self.streams.remove(&socket);
        }
    }

    fn sockets_of(&self, process: Process) -> Vec<u32> {
        let own = self.streams.iter().filter(|(_, stream)| stream.owner == process);
        own.map(|(id, _)| *id).collect()
    }
}

fn take_out<T>(queue: &mut VecDeque<T>, is_it: impl Fn(&T) -> bool) -> bool {
    let before = queue.len();
    queue.retain(|item| !is_it(item));
    queue.len() < before
}

enum Served {
    Ended(ReplyTo, Result<Output, Errno>),
    Waits(Receive),
}

impl Stream {
    fn new(owner: Process, peer: u32) -> Stream {
        Stream {
            owner,
            peer,
            arrived: VecDeque::new(),
            ended: false,
            reset: false,
            shut: false,
            receives: VecDeque::new(),
            sends: VecDeque::new(),
            window_used: 0,
            last_arrival: 0,
        }
    }

    /// Gives a receive what there is.
    fn serve(
        &mut self,
        receive: Receive,
        partial: bool,
        rng: &mut Rng,
        taken: &mut usize,
    ) -> Served {
        let Receive { reply, want } = receive;
        if self.reset {
            return Served::Ended(reply, Err(Errno::CONNECTION_RESET));
        }
        match want {
            Want::Some { length, pool } => {
                let there: usize = self.arrived.iter().map(Bytes::len).sum();
                if there == 0 && !self.ended {
                    return Served::Waits(Receive { reply, want: Want::Some { length, pool } });
                }
                let mut count = there.min(length);
                if partial && count > 1 {
                    count = 1 + rng.index(count);
                }
                let mut buffer = pool.take(count.max(1));
                buffer.set_length(count);
                self.take(&mut buffer);
                *taken += count;
                Served::Ended(reply, Ok(Output::Buffer(buffer)))
            }
            Want::Exact { mut buffer, mut filled, end } => {
                let there: usize = self.arrived.iter().map(Bytes::len).sum();
                let count = there.min(end - filled);
                self.take(&mut buffer.memory_mut()[filled..filled + count]);
                filled += count;
                *taken += count;
                if filled < end && !self.ended {
                    let want = Want::Exact { buffer, filled, end };
                    return Served::Waits(Receive { reply, want });
                }
                buffer.set_length(filled);
                Served::Ended(reply, Ok(Output::Buffer(buffer)))
            }
        }
    }

    /// Fills `into` from what has arrived, which is at least as much.
    fn take(&mut self, into: &mut [u8]) {
        let mut filled = 0;
        while filled < into.len() {
            let front = self.arrived.front_mut().expect("counted by the caller");
            let piece = front.split_to(front.len().min(into.len() - filled));
            into[filled..filled + piece.len()].copy_from_slice(&piece);
            filled += piece.len();
            if front.is_empty() {
                self.arrived.pop_front();
            }
        }
        debug_assert_eq!(wide(filled), wide(into.len()));
    }
}
