//! How many fetches gather at the same time where answers hold much memory already.
//!
//! While it gathers, a fetch may keep whole stretches of files of which it takes little. So beyond
//! half of the answers' share fetches take turns, in the order in which they came. A turn is given
//! back when everything was read, or the fetch is given up; it never waits for what a client does.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
};

use runtime::local::Notify;

/// Fetches that gather at the same time where there are turns: enough to keep a disk busy, while
/// each may keep some MiB for a moment.
const GATHERING_MAX: usize = 4;

/// The turns of a shard.
#[derive(Default)]
pub(crate) struct GatherTurns {
    gathering: Cell<usize>,
    next_ticket: Cell<u64>,
    waiting: RefCell<VecDeque<u64>>,
    changed: Notify,
}

/// A fetch that gathers.
pub(crate) struct Turn(Rc<GatherTurns>);

/// A fetch that waits for its turn, and leaves the queue when dropped.
struct Waiting {
    turns: Rc<GatherTurns>,
    ticket: u64,
}

impl GatherTurns {
    /// Waits until this fetch may gather; at once unless `is_scarce`.
    pub(crate) async fn take(self: &Rc<Self>, is_scarce: bool) -> Turn {
        if is_scarce {
            let ticket = self.next_ticket.replace(self.next_ticket.get() + 1);
            self.waiting.borrow_mut().push_back(ticket);
            let waiting = Waiting { turns: Rc::clone(self), ticket };
            let is_first = || self.waiting.borrow().front() == Some(&ticket);
            self.changed.wait_until(|| self.gathering.get() < GATHERING_MAX && is_first()).await;
            self.gathering.set(self.gathering.get() + 1);
            drop(waiting);
        } else {
            self.gathering.set(self.gathering.get() + 1);
        }
        Turn(Rc::clone(self))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.gathering.set(self.0.gathering.get() - 1);
        self.0.changed.notify_all();
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.turns.waiting.borrow_mut().retain(|ticket| *ticket != self.ticket);
        self.turns.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::{Pin, pin},
        task::{Context, Poll, Waker},
    };

    use super::*;

    fn poll(future: &mut Pin<&mut impl Future<Output = Turn>>) -> Option<Turn> {
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(turn) => Some(turn),
            Poll::Pending => None,
        }
    }

    #[test]
    fn turns_are_given_in_order_and_one_that_is_given_up_is_passed_on() {
        let turns = Rc::new(GatherTurns::default());
        let mut taken: Vec<Turn> =
            (0..GATHERING_MAX).map(|_| poll(&mut pin!(turns.take(true))).unwrap()).collect();
        let mut first = Box::pin(turns.take(true));
        let mut second = pin!(turns.take(true));
        assert!(poll(&mut first.as_mut()).is_none() && poll(&mut second).is_none());
        assert!(poll(&mut pin!(turns.take(false))).is_some(), "nothing is scarce");
        taken.pop();
        assert!(poll(&mut second).is_none(), "it is the first one's turn");
        drop(first);
        assert!(poll(&mut second).is_some());
        drop(taken);
        assert_eq!(turns.gathering.get(), 0);
        assert!(turns.waiting.borrow().is_empty());
    }
}
