//! Ways for tasks of one shard to wait for each other. None of it leaves the thread.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
};

use slab::Slab;

/// A list of wakers: wait until somebody says that something has changed, then look again.
#[derive(Default)]
pub struct Notify {
    waiting: RefCell<Slab<Waker>>,
    generation: Cell<u64>,
}

/// A place in the list of a [`Notify`], given up when dropped. Made by [`Notify::listen`].
pub struct Listening<'a> {
    notify: &'a Notify,
    start: u64,
    key: Option<usize>,
}

impl Notify {
    /// Nobody waits.
    #[must_use]
    pub fn new() -> Notify {
        Notify::default()
    }

    /// Wakes everybody who waits now.
    pub fn notify_all(&self) {
        self.generation.set(self.generation.get() + 1);
        for waker in self.waiting.borrow_mut().drain() {
            waker.wake();
        }
    }

    /// Starts to listen: every [`Notify::notify_all`] from now on counts. With this one task can
    /// wait for many.
    #[must_use]
    pub fn listen(&self) -> Listening<'_> {
        Listening { notify: self, start: self.generation.get(), key: None }
    }

    /// Waits for the next [`Notify::notify_all`] after the first poll.
    pub async fn notified(&self) {
        let mut listening = self.listen();
        poll_fn(|context| listening.poll(context.waker())).await;
    }

    /// Waits until `condition` holds, which is looked at now and after every notification.
    pub async fn wait_until(&self, mut condition: impl FnMut() -> bool) {
        while !condition() {
            self.notified().await;
        }
    }
}

impl Listening<'_> {
    /// Ready once something was said since [`Notify::listen`]; else `waker` is woken then.
    pub fn poll(&mut self, waker: &Waker) -> Poll<()> {
        if self.notify.generation.get() != self.start {
            // The list was emptied then; the key may be somebody else's by now.
            self.key = None;
            return Poll::Ready(());
        }
        let mut waiting = self.notify.waiting.borrow_mut();
        match self.key {
            Some(key) => waiting[key].clone_from(waker),
            None => self.key = Some(waiting.insert(waker.clone())),
        }
        Poll::Pending
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key
            && self.notify.generation.get() == self.start
        {
            self.notify.waiting.borrow_mut().remove(key);
        }
    }
}

/// A queue between tasks. Unbounded: whoever pushes has its own limit.
pub struct Channel<T> {
    items: RefCell<VecDeque<T>>,
    notify: Notify,
}

impl<T> Default for Channel<T> {
    fn default() -> Channel<T> {
        Channel { items: RefCell::default(), notify: Notify::new() }
    }
}

impl<T> Channel<T> {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Channel<T> {
        Channel::default()
    }

    /// Puts an item at the end.
    pub fn push(&self, item: T) {
        self.items.borrow_mut().push_back(item);
        self.notify.notify_all();
    }

    /// Takes the first item if there is one.
    pub fn try_pop(&self) -> Option<T> {
        self.items.borrow_mut().pop_front()
    }

    /// Takes the first item, waiting for one.
    pub async fn pop(&self) -> T {
        loop {
            if let Some(item) = self.try_pop() {
                return item;
            }
            self.notify.notified().await;
        }
    }

    /// How many items wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.borrow().len()
    }

    /// True if none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.borrow().is_empty()
    }
}

/// One value, once, from one task to another.
pub struct Oneshot<T>(Rc<Slot<T>>);

/// The sending side of a [`Oneshot`].
pub struct Sender<T>(Rc<Slot<T>>);

struct Slot<T> {
    value: RefCell<Option<T>>,
    waker: RefCell<Option<Waker>>,
    sender_gone: Cell<bool>,
}

/// Makes a pair.
#[must_use]
pub fn oneshot<T>() -> (Sender<T>, Oneshot<T>) {
    let slot = Rc::new(Slot {
        value: RefCell::new(None),
        waker: RefCell::new(None),
        sender_gone: Cell::new(false),
    });
    (Sender(Rc::clone(&slot)), Oneshot(slot))
}

impl<T> Sender<T> {
    /// Gives the value to whoever waits; nobody may.
    pub fn send(self, value: T) {
        *self.0.value.borrow_mut() = Some(value);
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.sender_gone.set(true);
        if let Some(waker) = self.0.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl<T> Oneshot<T> {
    /// Waits for the value; `None` when the sender was dropped without one.
    pub async fn receive(self) -> Option<T> {
        poll_fn(|context| {
            if let Some(value) = self.0.value.borrow_mut().take() {
                return Poll::Ready(Some(value));
            }
            if self.0.sender_gone.get() {
                return Poll::Ready(None);
            }
            *self.0.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

/// Lets one task at a time through, in the order of arrival.
#[derive(Default)]
pub struct Turnstile {
    /// Who is inside, at the front, and who waits.
    line: RefCell<VecDeque<u64>>,
    next_number: Cell<u64>,
    moved: Notify,
}

/// The right to be inside, given up when dropped; also a place in the line, given up likewise.
pub struct Inside<'a> {
    turnstile: &'a Turnstile,
    number: u64,
}

impl Turnstile {
    /// Nobody is inside.
    #[must_use]
    pub fn new() -> Turnstile {
        Turnstile::default()
    }

    /// Waits for its turn.
    pub async fn enter(&self) -> Inside<'_> {
        let number = self.next_number.get();
        self.next_number.set(number + 1);
        self.line.borrow_mut().push_back(number);
        let place = Inside { turnstile: self, number };
        self.moved.wait_until(|| self.line.borrow().front() == Some(&number)).await;
        place
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.turnstile.line.borrow_mut().retain(|number| *number != self.number);
        self.turnstile.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::{Pin, pin},
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::{Context, Wake},
    };

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn what_is_said_after_listening_began_counts() {
        let notify = Notify::new();
        notify.notify_all();
        let mut listening = notify.listen();
        assert!(listening.poll(Waker::noop()).is_pending());
        let mut late = notify.listen();
        notify.notify_all();
        assert!(listening.poll(Waker::noop()).is_ready());
        assert!(late.poll(Waker::noop()).is_ready());
    }

    #[test]
    fn a_listener_that_goes_takes_only_its_own_place() {
        let (notify, count) = (Notify::new(), Arc::new(Count::default()));
        let waker = Waker::from(Arc::clone(&count));
        let mut gone = notify.listen();
        assert!(gone.poll(&waker).is_pending());
        drop(gone);
        let mut told = notify.listen();
        assert!(told.poll(&waker).is_pending());
        notify.notify_all();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        // It takes the place that `told` had.
        let mut next = notify.listen();
        assert!(next.poll(&waker).is_pending());
        drop(told);
        notify.notify_all();
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn a_listener_keeps_one_place_and_its_last_waker() {
        let (notify, count) = (Notify::new(), Arc::new(Count::default()));
        let mut listening = notify.listen();
        assert!(listening.poll(Waker::noop()).is_pending());
        assert!(listening.poll(&Waker::from(Arc::clone(&count))).is_pending());
        notify.notify_all();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_channel_keeps_the_order() {
        let channel = Channel::new();
        let mut pop = pin!(channel.pop());
        assert!(poll(pop.as_mut()).is_pending());
        channel.push(1);
        channel.push(2);
        assert_eq!((channel.len(), channel.is_empty()), (2, false));
        assert_eq!(poll(pop), Poll::Ready(1));
        assert_eq!((channel.try_pop(), channel.try_pop()), (Some(2), None));
    }

    #[test]
    fn a_oneshot_gives_its_value_or_the_sender_s_end() {
        let (sender, receiver) = oneshot();
        let mut receive = pin!(receiver.receive());
        assert!(poll(receive.as_mut()).is_pending());
        sender.send(7);
        assert_eq!(poll(receive), Poll::Ready(Some(7)));
        let (sender, receiver) = oneshot::<u8>();
        drop(sender);
        assert_eq!(poll(pin!(receiver.receive())), Poll::Ready(None));
    }

    #[test]
    fn a_turnstile_lets_one_through_in_the_order_of_arrival() {
        let turnstile = Turnstile::new();
        let (mut first, mut second) = (pin!(turnstile.enter()), Box::pin(turnstile.enter()));
        let mut third = pin!(turnstile.enter());
        let Poll::Ready(inside) = poll(first.as_mut()) else { panic!("nobody is before it") };
        assert!(poll(second.as_mut()).is_pending());
        assert!(poll(third.as_mut()).is_pending());
        drop(inside);
        assert!(poll(third.as_mut()).is_pending());
        // Whoever leaves the line lets the next one move up.
        drop(second);
        assert!(poll(third).is_ready());
    }
}
