//! Calls from one shard to another.
//!
//! A call is ONE message to the shard that owns what it is about, and one message back. Calls of
//! one shard to another start in the order in which they were made: [`Call::start`] runs when the
//! message is taken, before the next message is looked at; what it returns is awaited later.
//!
//! Cost of a call: two boxes, two messages. To the own shard: one box, no message.

use std::{any::Any, cell::RefCell, future::Future, pin::Pin, rc::Rc};

use model::collections::HashMap;
use runtime::{
    Message, Runtime, ShardIndex, SocketHandle, TaskQueue,
    local::{Oneshot, Sender, oneshot},
};

use crate::{
    connection::Moved,
    metrics::{Ping, Scrape},
    shard::Shard,
    slow::AskSlow,
};

/// Something to be done on the shard that owns what it is about.
pub(crate) trait Call: Send + 'static {
    /// What comes back.
    type Answer: Send + 'static;

    /// Does at once what has to keep its order, and returns the rest.
    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Answer> + 'static;
}

/// An answer on its way.
pub(crate) enum Answering<A> {
    /// Computed on this shard.
    Here(Pin<Box<dyn Future<Output = A>>>),
    /// From another shard.
    There(Oneshot<Box<dyn Any + Send>>),
}

/// Where a call is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallPlace {
    /// On the shard that made it.
    Here,
    /// On another one.
    There,
}

impl<A: 'static> Answering<A> {
    pub(crate) fn place(&self) -> CallPlace {
        match self {
            Answering::Here(_) => CallPlace::Here,
            Answering::There(_) => CallPlace::There,
        }
    }

    /// Waits for it.
    pub(crate) async fn answer(self) -> A {
        match self {
            Answering::Here(future) => future.await,
            Answering::There(receiver) => {
                let answer = receiver.receive().await.expect("a shard answers every call");
                *answer.downcast::<A>().expect("an answer has its call's type")
            }
        }
    }
}

/// Runs a future to its end as a task of its own, whatever becomes of who waits for it: a
/// connection that closes drops the request that it works on, and a decision that is half carried
/// out must not be dropped with it.
pub(crate) fn detached<F: Future<Output: 'static> + 'static>(
    runtime: &Runtime,
    name: &'static str,
    queue: TaskQueue,
    future: F,
) -> impl Future<Output = F::Output> + use<F> {
    let (sender, receiver) = oneshot();
    runtime.spawn(name, queue, async move { sender.send(future.await) });
    async move { receiver.receive().await.expect("a task runs to its end") }
}

/// What shards send each other.
pub(crate) enum ShardMessage {
    /// Do this, and answer under this number.
    Call { number: u64, call: Box<dyn AnyCall> },
    /// The answer to the call of this number.
    Answer { number: u64, answer: Box<dyn Any + Send> },
    /// A connection that is this shard's from now on: a new one.
    Connection(SocketHandle),
    /// And one that was another's.
    Moved(Box<Moved>),
}

/// A [`Call`] whose type the mesh does not know.
pub(crate) trait AnyCall: Send {
    fn start(
        self: Box<Self>,
        shard: &Rc<Shard>,
    ) -> Pin<Box<dyn Future<Output = Box<dyn Any + Send>>>>;
}

impl<C: Call> AnyCall for C {
    fn start(
        self: Box<Self>,
        shard: &Rc<Shard>,
    ) -> Pin<Box<dyn Future<Output = Box<dyn Any + Send>>>> {
        let future = Call::start(*self, shard);
        Box::pin(async move {
            let answer: Box<dyn Any + Send> = Box::new(future.await);
            answer
        })
    }
}

/// This shard's calls in flight.
#[derive(Default)]
pub(crate) struct Peers {
    waiting: RefCell<HashMap<u64, Sender<Box<dyn Any + Send>>>>,
    next_number: RefCell<u64>,
}

/// What one owner is asked, with its places among all.
type OwnerShare<T> = (ShardIndex, Vec<usize>, Vec<T>);

impl Shard {
    /// Makes a call: in order with earlier ones to that shard. The answer is awaited apart.
    pub(crate) async fn call<C: Call>(
        self: &Rc<Self>,
        to: ShardIndex,
        call: C,
    ) -> Answering<C::Answer> {
        if to == self.runtime.shard() {
            return Answering::Here(Box::pin(call.start(self)));
        }
        let (sender, receiver) = oneshot();
        let number = {
            let mut next = self.peers.next_number.borrow_mut();
            *next += 1;
            *next
        };
        self.peers.waiting.borrow_mut().insert(number, sender);
        let message: Message = Box::new(ShardMessage::Call { number, call: Box::new(call) });
        self.runtime.send(to, message).await;
        Answering::There(receiver)
    }

    /// Makes ONE call to each owner, with all that is for it; all are on their way before the first
    /// answer is awaited. Each answer comes with the place of what was asked.
    pub(crate) async fn call_owners<T, C: Call<Answer = Vec<A>>, A: 'static>(
        self: &Rc<Self>,
        asked: impl IntoIterator<Item = (usize, ShardIndex, T)>,
        call: impl Fn(Vec<T>) -> C,
    ) -> Vec<(usize, A)> {
        let mut shares: Vec<OwnerShare<T>> = Vec::new();
        for (place, owner, one) in asked {
            let known = shares.iter().position(|(known, ..)| *known == owner);
            let share = known.unwrap_or_else(|| {
                shares.push((owner, Vec::new(), Vec::new()));
                shares.len() - 1
            });
            shares[share].1.push(place);
            shares[share].2.push(one);
        }
        let mut answering = Vec::with_capacity(shares.len());
        for (owner, places, share) in shares {
            answering.push((places, self.call(owner, call(share)).await));
        }
        let mut answers = Vec::new();
        for (places, one) in answering {
            answers.extend(places.into_iter().zip(one.answer().await));
        }
        answers
    }

    /// Makes the same call on every shard, in the order of their numbers, and gathers the answers.
    pub(crate) async fn call_all<C: Call + Clone>(self: &Rc<Self>, call: C) -> Vec<C::Answer> {
        let mut answering = Vec::new();
        for shard in 0..self.runtime.shard_count() {
            answering.push(self.call(ShardIndex(shard), call.clone()).await);
        }
        let mut answers = Vec::new();
        for one in answering {
            answers.push(one.answer().await);
        }
        answers
    }

    /// Takes messages of other shards for as long as the shard runs.
    pub(crate) async fn receive_messages(self: Rc<Self>) {
        loop {
            let (from, message) = self.runtime.receive().await;
            match message.downcast::<ShardMessage>() {
                Ok(message) => self.take_message(from, *message),
                Err(message) => self.take_from_outside(message),
            }
        }
    }

    fn take_from_outside(self: &Rc<Self>, message: Message) {
        let message = match message.downcast::<Scrape>() {
            Ok(scrape) => {
                let answer = Rc::clone(self).answer_scrape(*scrape);
                self.runtime.spawn("metrics", TaskQueue::Background, answer);
                return;
            }
            Err(message) => message,
        };
        let message = match message.downcast::<Ping>() {
            Ok(ping) => {
                let answer = Rc::clone(self).answer_ping(*ping);
                self.runtime.spawn("ping", TaskQueue::Foreground, answer);
                return;
            }
            Err(message) => message,
        };
        let message = match message.downcast::<AskSlow>() {
            Ok(asked) => {
                let answer = Rc::clone(self).answer_slow(*asked);
                self.runtime.spawn("slow requests", TaskQueue::Background, answer);
                return;
            }
            Err(message) => message,
        };
        let stop = message.downcast::<crate::Stop>();
        assert!(stop.is_ok(), "nothing else travels the mesh");
        self.stop_requested();
    }

    fn take_message(self: &Rc<Self>, from: Option<ShardIndex>, message: ShardMessage) {
        match message {
            ShardMessage::Call { number, call } => {
                let from = from.expect("calls come from shards");
                let future = call.start(self);
                let runtime = self.runtime.clone();
                self.runtime.spawn("answer a call", TaskQueue::Foreground, async move {
                    let answer = ShardMessage::Answer { number, answer: future.await };
                    runtime.send(from, Box::new(answer)).await;
                });
            }
            ShardMessage::Answer { number, answer } => {
                let waiting = self.peers.waiting.borrow_mut().remove(&number);
                // Whoever waited may have gone with its connection.
                if let Some(sender) = waiting {
                    sender.send(answer);
                }
            }
            ShardMessage::Connection(handle) => self.take_connection(handle),
            ShardMessage::Moved(moved) => self.take_moved(*moved),
        }
    }
}
