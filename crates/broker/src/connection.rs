//! One client's connection: requests in, answers out, in the same order.
//!
//! As Apache Kafka does it, a request is worked on when the ones before it are answered; produces
//! alone are pipelined: a produce has its place in the log ("dispatched") before the next request
//! of the connection is looked at, and its answer waits its turn.
//!
//! ```text
//!   reader: frame -> produce: dispatch -> queue          writer: queue -> answer -> socket
//!                    other:   the frame -> queue
//! ```

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::{Future, poll_fn},
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    rc::Rc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use cluster::client_metrics::Client;
use model::Uuid;
use runtime::{Errno, Instant, ShardIndex, SocketHandle, Stream, TaskQueue, local::Notify};
use wire::{Encoded, Part, api::ApiKey, frame};

use crate::{
    answer_memory::Held,
    api::{self, Refusal, fetch_session::FetchSessions, produce},
    controller::CONTROLLER_SHARD,
    frame_reader::{Frame, FrameError, FrameReader, Kept},
    home::{ConnectionMoves, Home, MayCome},
    metrics::Arrived,
    peers::{Call, ShardMessage},
    shard::Shard,
    slow::{Ended, FetchedPartitions},
    stages::{Stage, StageTimes},
};

/// Requests of one connection that may wait for their answers: Java's producers have 5, kgo's
/// up to 16 in flight.
const IN_FLIGHT_MAX: usize = 64;
/// Bytes of such requests, above which no further one is worked on: a client that pipelines and
/// never reads costs no more, and the one frame that was received. Java's and librdkafka's
/// producers have at most 5 requests of 1 MiB on their way, kgo's 16.
const IN_FLIGHT_BYTES_MAX: usize = 16 << 20;
/// What is kept of what a client's program calls itself; they have some dozen.
const SOFTWARE_CHARACTERS_MAX: usize = 100;

/// What handlers know of the connection that a request came on.
pub(crate) struct Connection {
    pub(crate) local: SocketAddr,
    pub(crate) peer: SocketAddr,
    pub(crate) sessions: RefCell<FetchSessions>,
    /// What the answer holds that is being made or sent.
    pub(crate) held: Held,
    /// What the client's program calls itself, and its version.
    software: RefCell<(String, String)>,
    /// As whom the client asked what it is to tell of itself.
    pub(crate) telemetry_instance: Cell<Option<Uuid>>,
    /// What the request that is being answered took so far, as far as its handler tells.
    pub(crate) spent: Cell<StageTimes>,
    /// What it is about, if it is a fetch.
    pub(crate) fetched: Cell<Option<FetchedPartitions>>,
    /// Whose partitions its requests are about.
    pub(crate) home: Home,
}

/// A connection on its way from one shard to another.
pub(crate) struct Moved {
    handle: SocketHandle,
    known: Known,
}

/// What is known of a connection that moves, beside its socket.
#[derive(Default)]
struct Known {
    reader: Kept,
    sessions: FetchSessions,
    software: (String, String),
    telemetry_instance: Option<Uuid>,
    home: Home,
}

impl Connection {
    /// The request that is being answered was so long in a stage.
    pub(crate) fn spend(&self, stage: Stage, time: Duration) {
        let mut spent = self.spent.get();
        spent.add(stage, time);
        self.spent.set(spent);
    }

    pub(crate) fn add_spent(&self, times: &StageTimes) {
        let mut spent = self.spent.get();
        spent.add_all(times);
        self.spent.set(spent);
    }

    pub(crate) fn note_software(&self, name: &str, version: &str) {
        let short = |text: &str| text.chars().take(SOFTWARE_CHARACTERS_MAX).collect();
        *self.software.borrow_mut() = (short(name), short(version));
    }

    /// As whom patterns of subscriptions to clients' metrics know the client.
    pub(crate) fn client(&self, instance: Uuid, id: Option<&str>) -> Client {
        let (software_name, software_version) = self.software.borrow().clone();
        Client {
            instance,
            id: id.unwrap_or_default().to_owned(),
            software_name,
            software_version,
            address: self.peer.ip().to_canonical(),
            port: self.peer.port(),
        }
    }
}

struct Queue {
    items: RefCell<VecDeque<Item>>,
    /// Items in the queue, and the one that the writer has.
    in_flight: Cell<usize>,
    /// The bytes of those.
    in_flight_bytes: Cell<usize>,
    /// Those among them that are not produces.
    ordered: Cell<usize>,
    closed: Cell<bool>,
    changed: Notify,
}

struct Item {
    /// The request; of a large produce without its records.
    frame: Bytes,
    /// How long it was as it came.
    bytes: usize,
    arrived: Arrived,
    work: Work,
}

enum Work {
    Produce(produce::Dispatched),
    Request,
}

impl Shard {
    /// Serves a connection that is this shard's.
    pub(crate) fn take_connection(self: &Rc<Self>, handle: SocketHandle) {
        self.serve_on(handle, Known::default());
    }

    /// Serves one on that was another shard's.
    pub(crate) fn take_moved(self: &Rc<Self>, moved: Moved) {
        self.serve_on(moved.handle, moved.known);
    }

    fn serve_on(self: &Rc<Self>, handle: SocketHandle, known: Known) {
        let stream = Stream::attach(&self.runtime, handle);
        let shard = Rc::clone(self);
        self.runtime.spawn("connection", TaskQueue::Foreground, async move {
            let address = stream.peer().ip();
            if let Some((to, moved)) = serve(&shard, Rc::new(stream), known).await {
                let moves = ConnectionMoves { from: shard.runtime.shard(), to };
                shard.call(CONTROLLER_SHARD, moves).await.answer().await;
                shard.runtime.send(to, Box::new(ShardMessage::Moved(Box::new(moved)))).await;
                return;
            }
            let ended = ConnectionEnded { shard: shard.runtime.shard(), address };
            shard.call(CONTROLLER_SHARD, ended).await.answer().await;
        });
    }
}

/// Tells the shard that deals connections that one of another's is gone.
struct ConnectionEnded {
    shard: ShardIndex,
    address: IpAddr,
}

impl Call for ConnectionEnded {
    type Answer = ();

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = ()> + 'static {
        shard.connections.ended(self.shard, self.address);
        shard.connection_ended.notify_all();
        std::future::ready(())
    }
}

/// Serves a connection to its end, or until it moves: then it is given back, and where it goes.
async fn serve(shard: &Rc<Shard>, stream: Rc<Stream>, known: Known) -> Option<(ShardIndex, Moved)> {
    let connection = Rc::new(Connection {
        local: stream.local(),
        peer: stream.peer(),
        sessions: RefCell::new(known.sessions.attach(&shard.fetch_session_slots)),
        held: Held::default(),
        software: RefCell::new(known.software),
        telemetry_instance: Cell::new(known.telemetry_instance),
        spent: Cell::default(),
        fetched: Cell::new(None),
        home: known.home,
    });
    let queue = Rc::new(Queue {
        items: RefCell::default(),
        in_flight: Cell::new(0),
        in_flight_bytes: Cell::new(0),
        ordered: Cell::new(0),
        closed: Cell::new(false),
        changed: Notify::new(),
    });
    let writer =
        write(Rc::clone(shard), Rc::clone(&connection), Rc::clone(&stream), Rc::clone(&queue));
    shard.runtime.spawn("connection writer", TaskQueue::Foreground, writer);
    let end = read(shard, &connection, &stream, &queue, known.reader).await;
    if let End::Moves(to, reader) = end {
        tracing::debug!(peer = %stream.peer(), to = to.0, "connection moves");
        // Its writer has nothing left to do, and ends.
        queue.close();
        let known = Known {
            reader: *reader,
            sessions: connection.sessions.borrow_mut().detach(&shard.fetch_session_slots),
            software: connection.software.take(),
            telemetry_instance: connection.telemetry_instance.get(),
            home: Home::moved(shard.runtime.now()),
        };
        return Some((to, Moved { handle: stream.detach(), known }));
    }
    tracing::debug!(peer = %stream.peer(), reason = ?end, "connection ends");
    queue.close();
    stream.shutdown();
    connection.sessions.borrow_mut().close_all(&shard.fetch_session_slots);
    if let Some(instance) = connection.telemetry_instance.get() {
        shard.forget_telemetry(instance).await;
    }
    None
}

/// Why a connection is given up.
#[derive(Debug)]
enum End {
    Frame(#[expect(dead_code, reason = "shown by Debug")] FrameError),
    Refused(#[expect(dead_code, reason = "shown by Debug")] Refusal),
    Idle,
    Closing,
    Stopping,
    /// It is served on by another shard.
    Moves(ShardIndex, Box<Kept>),
}

async fn read(
    shard: &Rc<Shard>,
    connection: &Connection,
    stream: &Rc<Stream>,
    queue: &Rc<Queue>,
    kept: Kept,
) -> End {
    let size_max = shard.config.socket_request_max_bytes;
    let mut reader = FrameReader::new(&shard.runtime, Rc::clone(stream), kept, size_max);
    let idle = Duration::from_millis(shard.config.connections_max_idle_ms);
    loop {
        // A client that sends nothing is idle, and so is one that takes none of its answers.
        let looked = shard.runtime.now();
        let received = match shard.runtime.deadline(looked + idle, reader.next()).await {
            Ok(Ok(frame)) => frame,
            Ok(Err(error)) => return End::Frame(error),
            Err(_) => return End::Idle,
        };
        if let Some(to) = connection.home.wish(shard.runtime.shard(), || shard.runtime.now()) {
            match Box::pin(may_move(shard, queue, idle, to)).await {
                Ok(true) => return End::Moves(to, Box::new(reader.end(received))),
                Ok(false) => {}
                Err(end) => return end,
            }
        }
        let Frame { bytes: frame, began } = received;
        let (bytes, at) = (frame.len(), shard.runtime.now());
        shard.counters.received(bytes);
        if let Some(end) = wait(shard, queue, idle, |queue| queue.has_room(bytes)).await {
            return end;
        }
        if shard.requests_ended.get() {
            return Box::pin(stopping(shard, queue, idle)).await;
        }
        let key = match frame::decode_request_header(&frame) {
            Ok((head, _)) => head.key,
            Err(error) => {
                return End::Refused(error.into());
            }
        };
        let mut arrived = Arrived { key, began, at, times: StageTimes::default() };
        // What was received together with the request before has waited for it.
        arrived.times.add(Stage::Queue, looked - began);
        arrived.times.add(Stage::Read, at - looked.max(began));
        if key == ApiKey::Produce {
            if let Some(end) = wait(shard, queue, idle, |queue| queue.ordered.get() == 0).await {
                return end;
            }
            if shard.requests_ended.get() {
                return Box::pin(stopping(shard, queue, idle)).await;
            }
            arrived.times.add(Stage::Queue, shard.runtime.now() - at);
            match Box::pin(produce::dispatch(shard, frame)).await {
                Ok((dispatched, frame)) => {
                    connection.home.note(dispatched.owner);
                    queue.push(Item { frame, bytes, arrived, work: Work::Produce(dispatched) });
                }
                Err(error) => return End::Refused(error),
            }
        } else {
            queue.ordered.set(queue.ordered.get() + 1);
            queue.push(Item { frame, bytes, arrived, work: Work::Request });
        }
    }
}

/// Waits until all that was begun is answered; or tells why the connection ends before.
async fn answered(shard: &Shard, queue: &Queue, idle: Duration) -> Option<End> {
    wait(shard, queue, idle, |queue| queue.in_flight.get() == 0).await
}

/// No further request is begun: it ends when those are answered that were.
async fn stopping(shard: &Shard, queue: &Queue, idle: Duration) -> End {
    answered(shard, queue, idle).await.unwrap_or(End::Stopping)
}

/// Whether a shard takes the connection: then nothing of it is in flight.
///
/// # Errors
/// When the connection ends before.
async fn may_move(
    shard: &Rc<Shard>,
    queue: &Queue,
    idle: Duration,
    to: ShardIndex,
) -> Result<bool, End> {
    if !shard.call(to, MayCome).await.answer().await {
        return Ok(false);
    }
    match answered(shard, queue, idle).await {
        Some(end) => Err(end),
        None if shard.requests_ended.get() => Err(End::Stopping),
        None => Ok(true),
    }
}

/// Waits until the queue is as the next request needs it; or tells why the connection ends.
async fn wait(
    shard: &Shard,
    queue: &Queue,
    idle: Duration,
    is_ready: impl Fn(&Queue) -> bool,
) -> Option<End> {
    if !queue.closed.get() && is_ready(queue) {
        return None;
    }
    let ready = queue.changed.wait_until(|| queue.closed.get() || is_ready(queue));
    let deadline = shard.runtime.now() + idle;
    if shard.runtime.deadline(deadline, ready).await.is_err() {
        return Some(End::Idle);
    }
    queue.closed.get().then_some(End::Closing)
}

async fn write(shard: Rc<Shard>, connection: Rc<Connection>, stream: Rc<Stream>, queue: Rc<Queue>) {
    let mut outgoing = Outgoing::default();
    let end = loop {
        queue.changed.wait_until(|| queue.closed.get() || !queue.items.borrow().is_empty()).await;
        if queue.closed.get() {
            // Nobody reads answers any more; what was dispatched goes on by itself.
            queue.items.borrow_mut().clear();
            return;
        }
        let Item { frame, bytes, mut arrived, work } = queue.pop();
        let taken = shard.runtime.now();
        let is_ordered = matches!(work, Work::Request);
        if is_ordered {
            arrived.times.add(Stage::Queue, taken - arrived.at);
        }
        let mut answer = pin!(async {
            match work {
                Work::Produce(dispatched) => {
                    Box::pin(dispatched.answer(&connection, &frame, taken)).await
                }
                Work::Request => Box::pin(api::answer(&shard, &connection, &frame)).await,
            }
        });
        // What is ready does not wait for what is not.
        let mut at_once = None;
        if !outgoing.is_empty() {
            at_once = if is_ordered { None } else { poll_once(answer.as_mut()).await };
            if at_once.is_none()
                && let Err(error) = outgoing.send(&shard, &connection, &stream, &queue).await
            {
                break error.to_string();
            }
        }
        if is_ordered && shard.requests_ended.get() {
            break "the node stops".to_owned();
        }
        let answer = match at_once {
            Some(answer) => answer,
            None => match unless_closed(&queue, answer).await {
                Some(answer) => answer,
                None => continue,
            },
        };
        arrived.times.add_all(&connection.spent.take());
        let ready = shard.runtime.now();
        let refused = match answer {
            Ok(encoded) => {
                let frame = frame.clone();
                let answered = Answered { frame, bytes, arrived, ready, response_bytes: 0 };
                outgoing.add(answered, encoded);
                None
            }
            Err(error) => Some(error.to_string()),
        };
        let is_last = queue.items.borrow().is_empty();
        if (is_last || is_ordered || refused.is_some())
            && let Err(error) = outgoing.send(&shard, &connection, &stream, &queue).await
        {
            break error.to_string();
        }
        connection.held.release();
        if let Some(reason) = refused {
            break reason;
        }
    };
    tracing::debug!(peer = %connection.peer, reason = end, "connection given up");
    queue.close();
    stream.shutdown();
}

/// Answers on their way out. Of produces all that are ready at the same moment, as after a group
/// commit, are sent in one piece: a send costs as much as a small produce does otherwise, and wakes
/// the client. Any other answer is sent by itself.
#[derive(Default)]
struct Outgoing {
    slices: Vec<Bytes>,
    answered: Vec<Answered>,
}

struct Answered {
    frame: Bytes,
    bytes: usize,
    arrived: Arrived,
    /// When the answer was.
    ready: Instant,
    response_bytes: usize,
}

impl Outgoing {
    fn is_empty(&self) -> bool {
        self.answered.is_empty()
    }

    fn add(&mut self, mut answered: Answered, encoded: Option<Encoded>) {
        if let Some(encoded) = encoded {
            answered.response_bytes = encoded.len_bytes;
            self.slices.extend(parts_of(encoded));
        }
        self.answered.push(answered);
    }

    /// Sends all that is there, or nothing where the connection closes.
    async fn send(
        &mut self,
        shard: &Rc<Shard>,
        connection: &Connection,
        stream: &Stream,
        queue: &Queue,
    ) -> Result<(), Errno> {
        if !self.slices.is_empty() {
            let sending = stream.send_all(std::mem::take(&mut self.slices));
            match unless_closed(queue, sending).await {
                Some(sent) => sent?,
                None => return Ok(()),
            }
        }
        let now = shard.runtime.now();
        for Answered { frame, bytes, mut arrived, ready, response_bytes } in self.answered.drain(..)
        {
            arrived.times.add(Stage::Send, now - ready);
            let is_ordered = arrived.key != ApiKey::Produce;
            let ended = Ended { frame: &frame, request_bytes: bytes, now, response_bytes };
            shard.request_ended(connection, arrived, ended);
            queue.finished(bytes, is_ordered);
        }
        Ok(())
    }
}

impl Queue {
    /// Whether a request of `bytes` may be worked on; one alone always may.
    fn has_room(&self, bytes: usize) -> bool {
        let count = self.in_flight.get();
        let total = self.in_flight_bytes.get() + bytes;
        count == 0 || (count < IN_FLIGHT_MAX && total <= IN_FLIGHT_BYTES_MAX)
    }

    fn push(&self, item: Item) {
        self.in_flight.set(self.in_flight.get() + 1);
        self.in_flight_bytes.set(self.in_flight_bytes.get() + item.bytes);
        self.items.borrow_mut().push_back(item);
        self.changed.notify_all();
    }

    /// The first of what is known to be there.
    fn pop(&self) -> Item {
        self.items.borrow_mut().pop_front().expect("just seen")
    }

    fn finished(&self, bytes: usize, is_ordered: bool) {
        self.in_flight.set(self.in_flight.get() - 1);
        self.in_flight_bytes.set(self.in_flight_bytes.get() - bytes);
        if is_ordered {
            self.ordered.set(self.ordered.get() - 1);
        }
        self.changed.notify_all();
    }

    fn close(&self) {
        self.closed.set(true);
        self.changed.notify_all();
    }
}

/// What `future` gives without waiting.
async fn poll_once<T>(mut future: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Runs `future` to its end, or drops it when the connection closes: then `None`.
async fn unless_closed<T>(queue: &Queue, future: impl Future<Output = T>) -> Option<T> {
    first_of(future, queue.changed.wait_until(|| queue.closed.get())).await
}

/// Runs `future` to its end, or drops it when `end` comes first: then `None`.
pub(crate) async fn first_of<T>(
    future: impl Future<Output = T>,
    end: impl Future<Output = ()>,
) -> Option<T> {
    let mut future = pin!(future);
    let mut closed = pin!(end);
    poll_fn(|context| {
        if let Poll::Ready(value) = future.as_mut().poll(context) {
            return Poll::Ready(Some(value));
        }
        closed.as_mut().poll(context).map(|()| None)
    })
    .await
}

fn parts_of(encoded: Encoded) -> Vec<Bytes> {
    encoded
        .parts
        .into_iter()
        .map(|part| match part {
            Part::Bytes(bytes) => bytes,
            Part::External { .. } => unreachable!("this broker answers from memory"),
        })
        .collect()
}
