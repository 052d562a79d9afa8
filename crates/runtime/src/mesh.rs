//! The rings between the shards of one process, for the drivers that run on real threads.
//!
//! One bounded single-producer ring for each ordered pair of shards. A shard that is about to
//! sleep raises a flag and looks at its rings once more; whoever sends to a shard whose flag is up
//! takes the flag down and writes to its eventfd. So a busy pair of shards makes no system call.

use std::{
    collections::VecDeque,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering, fence},
    },
};

use rtrb::{Consumer, Producer, RingBuffer};

use crate::{Event, Message, ShardIndex, sys};

/// Messages in flight for each pair of shards; past this the sender keeps them in its own outbox.
const RING_CAPACITY: usize = 1024;

/// One shard's end of the mesh, owned by its driver.
pub struct Endpoint {
    shard: ShardIndex,
    incoming: Vec<Option<Consumer<Message>>>,
    outgoing: Vec<Option<Producer<Message>>>,
    peers: Arc<[Peer]>,
}

/// Sends messages to shards from threads that are none (signals, the admin thread).
#[derive(Clone)]
pub struct Injector {
    peers: Arc<[Peer]>,
}

/// Ends the wait of one shard, from any thread.
#[derive(Clone)]
pub struct Unparker {
    peers: Arc<[Peer]>,
    shard: ShardIndex,
}

struct Peer {
    sleeping: AtomicBool,
    /// Somebody wants the shard to look around before it sleeps.
    unparked: AtomicBool,
    event: OwnedFd,
    injected: Mutex<VecDeque<Message>>,
}

/// The ends of a mesh of `shard_count` shards, and the way in from outside.
///
/// # Errors
/// The operating system's, when it gives no eventfd.
pub fn mesh(shard_count: u16) -> std::io::Result<(Vec<Endpoint>, Injector)> {
    let mut peers = Vec::new();
    for _ in 0..shard_count {
        peers.push(Peer {
            sleeping: AtomicBool::new(false),
            unparked: AtomicBool::new(false),
            event: sys::eventfd()?,
            injected: Mutex::new(VecDeque::new()),
        });
    }
    let peers: Arc<[Peer]> = peers.into();
    let mut endpoints: Vec<Endpoint> = (0..shard_count)
        .map(|shard| Endpoint {
            shard: ShardIndex(shard),
            incoming: Vec::new(),
            outgoing: Vec::new(),
            peers: Arc::clone(&peers),
        })
        .collect();
    for from in 0..usize::from(shard_count) {
        for to in 0..usize::from(shard_count) {
            let (producer, consumer) = RingBuffer::new(RING_CAPACITY);
            let pair = (from != to).then_some((producer, consumer));
            let (producer, consumer) = pair.unzip();
            endpoints[from].outgoing.push(producer);
            endpoints[to].incoming.push(consumer);
        }
    }
    Ok((endpoints, Injector { peers }))
}

impl Endpoint {
    /// Which shard's end this is.
    #[must_use]
    pub fn shard(&self) -> ShardIndex {
        self.shard
    }

    /// The eventfd that becomes readable when a sleeping shard is woken.
    pub(crate) fn event(&self) -> RawFd {
        self.peers[usize::from(self.shard.0)].event.as_raw_fd()
    }

    /// What ends this shard's wait from another thread.
    pub(crate) fn unparker(&self) -> Unparker {
        Unparker { peers: Arc::clone(&self.peers), shard: self.shard }
    }

    /// Puts a message into the ring to `to`, and wakes that shard if it sleeps.
    pub(crate) fn send(&mut self, to: ShardIndex, message: Message) -> Result<(), Message> {
        let ring =
            self.outgoing[usize::from(to.0)].as_mut().expect("a shard has no ring to itself");
        ring.push(message).map_err(|rtrb::PushError::Full(message)| message)?;
        self.peers[usize::from(to.0)].wake();
        Ok(())
    }

    /// Takes what has come in.
    pub(crate) fn drain(&mut self, events: &mut Vec<Event>) {
        for (from, ring) in self.incoming.iter_mut().enumerate() {
            let Some(ring) = ring else { continue };
            let from = Some(ShardIndex(u16::try_from(from).expect("made from a u16")));
            while let Ok(message) = ring.pop() {
                events.push(Event::Message { from, message });
            }
        }
        let own = &self.peers[usize::from(self.shard.0)];
        let mut injected = own.injected.lock().expect("no holder panics");
        events.extend(injected.drain(..).map(|message| Event::Message { from: None, message }));
    }

    /// Announces that the shard is about to sleep. False if something is there already: then it
    /// must not. After a true answer the shard waits for its eventfd among other things, and calls
    /// [`Endpoint::woke`] when it runs again.
    pub(crate) fn may_sleep(&mut self) -> bool {
        let own = &self.peers[usize::from(self.shard.0)];
        own.sleeping.store(true, Ordering::SeqCst);
        // Pairs with the fence in `wake`: either this look sees the message, or the sender sees
        // the flag.
        fence(Ordering::SeqCst);
        let waiting = own.unparked.swap(false, Ordering::SeqCst)
            || self.incoming.iter().flatten().any(|ring| !ring.is_empty())
            || !own.injected.lock().expect("no holder panics").is_empty();
        if waiting {
            own.sleeping.store(false, Ordering::SeqCst);
        }
        !waiting
    }

    /// The shard runs again.
    pub(crate) fn woke(&self) {
        self.peers[usize::from(self.shard.0)].sleeping.store(false, Ordering::SeqCst);
    }
}

impl Injector {
    /// Sends a message to a shard.
    pub fn inject(&self, to: ShardIndex, message: Message) {
        let peer = &self.peers[usize::from(to.0)];
        peer.injected.lock().expect("no holder panics").push_back(message);
        peer.wake();
    }
}

impl Unparker {
    /// Ends the shard's wait, or its next one if it does not wait now.
    pub fn unpark(&self) {
        let peer = &self.peers[usize::from(self.shard.0)];
        peer.unparked.store(true, Ordering::SeqCst);
        peer.wake();
    }
}

impl Peer {
    fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::SeqCst) && self.sleeping.swap(false, Ordering::SeqCst) {
            sys::signal_eventfd(&self.event);
        }
    }
}
