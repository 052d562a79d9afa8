//! A driver whose clock advances by a microsecond at each look and does not know of the machine's
//! other programs, around one that does the rest.

use std::cell::Cell;

use runtime::{
    BufferPool, Driver, DriverKind, Event, Instant, Message, Op, ShardIndex, Wait, driver::Token,
};

pub struct SteppedClock {
    inner: Box<dyn Driver>,
    time: Cell<u64>,
}

impl SteppedClock {
    pub fn around(inner: Box<dyn Driver>) -> SteppedClock {
        SteppedClock { inner, time: Cell::new(0) }
    }
}

impl Driver for SteppedClock {
    fn kind(&self) -> DriverKind {
        self.inner.kind()
    }

    fn submit(&mut self, token: Token, op: Op) {
        self.inner.submit(token, op);
    }

    fn cancel(&mut self, token: Token) {
        self.inner.cancel(token);
    }

    fn send(&mut self, to: ShardIndex, message: Message) -> Result<(), Message> {
        self.inner.send(to, message)
    }

    /// Waits for no time to pass: it has passed.
    fn turn(&mut self, wait: Wait, events: &mut Vec<Event>) {
        if let Wait::Until(deadline) = wait {
            self.time.set(self.time.get().max(deadline.0));
        }
        let wait = if wait == Wait::Forever { wait } else { Wait::No };
        self.inner.turn(wait, events);
    }

    fn now(&self) -> Instant {
        self.time.set(self.time.get() + 1_000);
        Instant(self.time.get())
    }

    fn wall_clock_ms(&self) -> i64 {
        self.inner.wall_clock_ms()
    }

    fn random(&mut self) -> u64 {
        self.inner.random()
    }

    fn pool(&self) -> BufferPool {
        self.inner.pool()
    }
}
