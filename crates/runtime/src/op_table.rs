//! The operations in flight of one shard, and the future that waits for one.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use slab::Slab;

use crate::{
    Runtime,
    driver::{Errno, Op, Output, Token},
};

/// What is known of an operation that was submitted.
enum State {
    /// In flight; the task to wake.
    Waiting(Option<Waker>),
    /// Ended; the result has not been picked up.
    Ended(Result<Output, Errno>),
    /// In flight, and nobody waits for it any more.
    Abandoned,
}

/// What the end of an abandoned operation left behind.
pub(crate) enum Leftover {
    /// Nothing to clean up.
    Nothing,
    /// A file or socket that was opened for nobody: it has to be closed.
    Close(Op),
}

#[derive(Default)]
pub(crate) struct OpTable {
    slots: Slab<State>,
}

impl OpTable {
    pub(crate) fn start(&mut self) -> Token {
        let key = self.slots.insert(State::Waiting(None));
        Token(u64::try_from(key).expect("usize is at most 64 bits"))
    }

    /// An operation that nobody waits for.
    pub(crate) fn start_abandoned(&mut self) -> Token {
        let key = self.slots.insert(State::Abandoned);
        Token(u64::try_from(key).expect("usize is at most 64 bits"))
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn complete(&mut self, token: Token, result: Result<Output, Errno>) -> Leftover {
        let key = key_of(token);
        let slot = self.slots.get_mut(key).expect("a completion belongs to an operation");
        match slot {
            State::Waiting(waker) => {
                let waker = waker.take();
                *slot = State::Ended(result);
                if let Some(waker) = waker {
                    waker.wake();
                }
                Leftover::Nothing
            }
            State::Abandoned => {
                self.slots.remove(key);
                match result {
                    Ok(Output::Opened(file, _)) => Leftover::Close(Op::CloseFile { file }),
                    Ok(Output::Listening(socket, _) | Output::Connected { socket, .. }) => {
                        Leftover::Close(Op::CloseSocket { socket })
                    }
                    Ok(
                        Output::Done
                        | Output::Count(_)
                        | Output::Buffer(_)
                        | Output::Listing(_)
                        | Output::Space(_),
                    )
                    | Err(_) => Leftover::Nothing,
                }
            }
            State::Ended(_) => panic!("operation {token:?} completed twice"),
        }
    }

    fn poll(&mut self, token: Token, waker: &Waker) -> Poll<Result<Output, Errno>> {
        let key = key_of(token);
        let slot = self.slots.get_mut(key).expect("the future owns its slot");
        match slot {
            State::Waiting(place) => {
                *place = Some(waker.clone());
                return Poll::Pending;
            }
            State::Ended(_) => {}
            State::Abandoned => panic!("operation {token:?} polled after it was dropped"),
        }
        let State::Ended(result) = self.slots.remove(key) else { unreachable!("just matched") };
        Poll::Ready(result)
    }

    /// The future was dropped. True if the operation is still in flight.
    fn abandon(&mut self, token: Token) -> (bool, Leftover) {
        let key = key_of(token);
        match self.slots.get_mut(key) {
            Some(slot @ State::Waiting(_)) => {
                *slot = State::Abandoned;
                (true, Leftover::Nothing)
            }
            Some(State::Ended(_)) => {
                let State::Ended(result) =
                    std::mem::replace(&mut self.slots[key], State::Abandoned)
                else {
                    unreachable!("just matched")
                };
                (false, self.complete(token, result))
            }
            Some(State::Abandoned) | None => (false, Leftover::Nothing),
        }
    }
}

fn key_of(token: Token) -> usize {
    usize::try_from(token.0).expect("tokens are slab keys")
}

/// Waits for one operation. Dropped early, it asks the driver to cancel; the operation keeps its
/// buffers until its completion, and a file or socket it opened is closed.
pub(crate) struct Pending {
    runtime: Runtime,
    token: Option<Token>,
}

impl Pending {
    pub(crate) fn new(runtime: Runtime, token: Token) -> Pending {
        Pending { runtime, token: Some(token) }
    }
}

impl Future for Pending {
    type Output = Result<Output, Errno>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let token = self.token.expect("polled after completion");
        let poll = self.runtime.with_ops(|ops| ops.poll(token, context.waker()));
        if poll.is_ready() {
            self.token = None;
        }
        poll
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        let Some(token) = self.token else { return };
        let (in_flight, leftover) = self.runtime.with_ops(|ops| ops.abandon(token));
        if in_flight {
            self.runtime.cancel(token);
        }
        self.runtime.clean_up(leftover);
    }
}
