//! The driver of a simulated shard: everything goes to the world that all shards share.

use std::{cell::RefCell, rc::Rc};

use runtime::{
    BufferPool, Driver, DriverKind, Event, Instant, Message, Op, ShardIndex, Wait, driver::Token,
};

use crate::world::{ShardKey, World};

/// One shard's way into the simulated world. Of a node that died it does nothing more: its tasks
/// are being dropped.
pub(crate) struct SimDriver {
    pub(crate) world: Rc<RefCell<World>>,
    pub(crate) key: ShardKey,
}

impl Driver for SimDriver {
    fn kind(&self) -> DriverKind {
        DriverKind::Sim
    }

    fn submit(&mut self, token: Token, op: Op) {
        self.world.borrow_mut().submit(self.key, token, op);
    }

    fn cancel(&mut self, token: Token) {
        self.world.borrow_mut().cancel(self.key, token);
    }

    fn send(&mut self, to: ShardIndex, message: Message) -> Result<(), Message> {
        self.world.borrow_mut().send(self.key, to, message)
    }

    /// Never waits: the simulation turns a shard only when it has something to do.
    fn turn(&mut self, _wait: Wait, events: &mut Vec<Event>) {
        self.world.borrow_mut().begin_turn(self.key, events);
    }

    fn now(&self) -> Instant {
        self.world.borrow_mut().clock(self.key)
    }

    fn wall_clock_ms(&self) -> i64 {
        let mut world = self.world.borrow_mut();
        let now = world.clock(self.key);
        world.wall_clock_ms(self.key.node, now.0)
    }

    fn random(&mut self) -> u64 {
        self.world.borrow_mut().random(self.key)
    }

    fn pool(&self) -> BufferPool {
        self.world.borrow_mut().pool(self.key)
    }
}
