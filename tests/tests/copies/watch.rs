//! A driver around another one that notes which memory operations are given.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use runtime::{
    BufferPool, Driver, DriverKind, Event, Instant, Message, Op, Output, ShardIndex, Unparker,
    Wait, driver::Token,
};

use crate::memory::{Places, marks_in, sorted};

/// Of a write, the last slice is a padded copy if it has this length.
const BLOCK_BYTES: usize = 4096;

/// What was seen so far. The handles keep written and sent memory from being used anew.
#[derive(Default)]
pub struct Seen(Mutex<Notes>);

#[derive(Clone, Default)]
pub struct Notes {
    /// The slices of each write.
    writes: Vec<Vec<Bytes>>,
    /// The slices of all sends.
    sent: Vec<Bytes>,
    /// The marks in what was received, where they lay then.
    received: Places,
    reads: usize,
}

/// Places in memory that was handed to writes.
#[derive(Default)]
pub struct Written {
    pub chunk: Places,
    pub padded: Places,
}

impl Seen {
    pub fn snapshot(&self) -> Notes {
        self.0.lock().unwrap().clone()
    }

    fn note(&self, note: impl FnOnce(&mut Notes)) {
        note(&mut self.0.lock().unwrap());
    }
}

impl Notes {
    pub fn received_places(&self) -> Places {
        sorted(self.received.clone())
    }

    pub fn sent_places(&self) -> Places {
        let mut places = Places::new();
        for slice in &self.sent {
            add(&mut places, slice);
        }
        sorted(places)
    }

    pub fn read_count(&self) -> usize {
        self.reads
    }

    /// Places in what was written: of each write the last slice may be a padded copy of a block,
    /// all others are the chunk.
    pub fn written(&self) -> Written {
        let mut written = Written::default();
        for slices in &self.writes {
            let (last, before) = slices.split_last().unwrap();
            for slice in before {
                add(&mut written.chunk, slice);
            }
            let is_block = last.len() == BLOCK_BYTES;
            add(if is_block { &mut written.padded } else { &mut written.chunk }, last);
        }
        Written { chunk: sorted(written.chunk), padded: sorted(written.padded) }
    }

    pub fn one_written_slice(&self) -> Bytes {
        let mut slices = self.writes.iter().flatten();
        slices.rfind(|slice| !marks_in(slice).is_empty()).unwrap().clone()
    }
}

/// See the module.
pub struct Watching {
    inner: Box<dyn Driver>,
    seen: Arc<Seen>,
}

impl Watching {
    pub fn new(inner: Box<dyn Driver>, seen: Arc<Seen>) -> Watching {
        Watching { inner, seen }
    }
}

impl Driver for Watching {
    fn kind(&self) -> DriverKind {
        self.inner.kind()
    }

    fn submit(&mut self, token: Token, op: Op) {
        #[expect(clippy::wildcard_enum_match_arm, reason = "the others carry no record")]
        match &op {
            Op::Write { slices, .. } => self.seen.note(|notes| notes.writes.push(slices.clone())),
            Op::Send { slices, .. } => {
                self.seen.note(|notes| notes.sent.extend(slices.iter().cloned()));
            }
            Op::Read { .. } => self.seen.note(|notes| notes.reads += 1),
            _ => {}
        }
        self.inner.submit(token, op);
    }

    fn turn(&mut self, wait: Wait, events: &mut Vec<Event>) {
        self.inner.turn(wait, events);
        for event in events {
            if let Event::Completed { result: Ok(Output::Buffer(buffer)), .. } = event {
                self.seen.note(|notes| add(&mut notes.received, buffer));
            }
        }
    }

    fn cancel(&mut self, token: Token) {
        self.inner.cancel(token);
    }

    fn send(&mut self, to: ShardIndex, message: Message) -> Result<(), Message> {
        self.inner.send(to, message)
    }

    fn now(&self) -> Instant {
        self.inner.now()
    }

    fn wall_clock_ms(&self) -> i64 {
        self.inner.wall_clock_ms()
    }

    fn random(&mut self) -> u64 {
        self.inner.random()
    }

    fn unparker(&self) -> Option<Unparker> {
        self.inner.unparker()
    }

    fn pool(&self) -> BufferPool {
        self.inner.pool()
    }
}

/// Adds the marks in `memory` with their addresses.
fn add(places: &mut Places, memory: &[u8]) {
    for (record, at) in marks_in(memory) {
        places.entry(record).or_default().push(memory.as_ptr().addr() + at);
    }
}
