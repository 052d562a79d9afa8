//! The threads that blocking operations of one shard run on: they block, the shard does not.
//!
//! A thread is started when an operation finds none idle, up to a bound, and stays. Its
//! job owns the operation with its buffers. Dropping the workers lets running jobs end, forgets
//! the waiting ones, and waits for the threads: nothing is written after that.

use std::{
    collections::VecDeque,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread::JoinHandle,
};

use crate::sys;

/// Does a job. A plain function: workers share nothing but the queues.
type Perform<Job, Outcome> = fn(Job) -> Outcome;

pub(crate) struct Workers<Job, Outcome> {
    shared: Arc<Shared<Job, Outcome>>,
    perform: Perform<Job, Outcome>,
    threads: Vec<JoinHandle<()>>,
    threads_max: usize,
}

struct Shared<Job, Outcome> {
    todo: Mutex<Todo<Job>>,
    /// Something to do, or the end.
    todo_changed: Condvar,
    ended: Mutex<Ended<Outcome>>,
    event: OwnedFd,
}

struct Todo<Job> {
    jobs: VecDeque<Job>,
    /// Threads that wait for a job, or were notified of one and have not taken it yet.
    idle: usize,
    closed: bool,
}

struct Ended<Outcome> {
    outcomes: Vec<Outcome>,
    /// The shard waits for the event.
    sleeping: bool,
}

impl<Job: Send + 'static, Outcome: Send + 'static> Workers<Job, Outcome> {
    /// At most `threads_max` jobs run at the same time.
    pub(crate) fn new(threads_max: usize, perform: Perform<Job, Outcome>) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            todo: Mutex::new(Todo { jobs: VecDeque::new(), idle: 0, closed: false }),
            todo_changed: Condvar::new(),
            ended: Mutex::new(Ended { outcomes: Vec::new(), sleeping: false }),
            event: sys::eventfd()?,
        });
        Ok(Workers { shared, perform, threads: Vec::new(), threads_max })
    }

    /// What becomes readable when an outcome comes while the shard sleeps.
    pub(crate) fn event(&self) -> RawFd {
        self.shared.event.as_raw_fd()
    }

    /// Hands a job to a thread.
    pub(crate) fn start(&mut self, job: Job) {
        let all_have_a_thread = {
            let mut todo = self.shared.todo();
            todo.jobs.push_back(job);
            todo.jobs.len() <= todo.idle
        };
        self.shared.todo_changed.notify_one();
        if !all_have_a_thread && self.threads.len() < self.threads_max {
            self.add_thread();
        }
    }

    fn add_thread(&mut self) {
        let (shared, perform) = (Arc::clone(&self.shared), self.perform);
        let started = std::thread::Builder::new()
            .name("files".to_owned())
            .spawn(move || shared.work(perform));
        match started {
            Ok(thread) => self.threads.push(thread),
            // The others do it; without any, no file operation would ever end.
            Err(error) if !self.threads.is_empty() => {
                tracing::warn!(%error, "no further thread for file operations");
            }
            Err(error) => panic!("no thread for file operations: {error}"),
        }
    }

    /// Takes the outcomes so far.
    pub(crate) fn take_outcomes(&self, into: &mut Vec<Outcome>) {
        into.append(&mut self.shared.ended().outcomes);
    }

    /// Announces that the shard is about to wait for the event. False if an outcome is there
    /// already: then it must not.
    pub(crate) fn may_sleep(&self) -> bool {
        let mut ended = self.shared.ended();
        ended.sleeping = ended.outcomes.is_empty();
        ended.sleeping
    }

    /// The shard runs again.
    pub(crate) fn woke(&self) {
        self.shared.ended().sleeping = false;
    }
}

impl<Job, Outcome> Shared<Job, Outcome> {
    fn todo(&self) -> MutexGuard<'_, Todo<Job>> {
        self.todo.lock().expect("no holder panics")
    }

    fn ended(&self) -> MutexGuard<'_, Ended<Outcome>> {
        self.ended.lock().expect("no holder panics")
    }

    /// A thread's life.
    fn work(&self, perform: Perform<Job, Outcome>) {
        while let Some(job) = self.next_job() {
            let outcome = perform(job);
            let was_sleeping = {
                let mut ended = self.ended();
                ended.outcomes.push(outcome);
                std::mem::take(&mut ended.sleeping)
            };
            if was_sleeping {
                sys::signal_eventfd(&self.event);
            }
        }
    }

    /// Waits for a job; `None` at the end.
    fn next_job(&self) -> Option<Job> {
        let mut todo = self.todo();
        loop {
            if todo.closed {
                return None;
            }
            if let Some(job) = todo.jobs.pop_front() {
                return Some(job);
            }
            todo.idle += 1;
            todo = self.todo_changed.wait(todo).expect("no holder panics");
            todo.idle -= 1;
        }
    }
}

impl<Job, Outcome> Drop for Workers<Job, Outcome> {
    fn drop(&mut self) {
        {
            let mut todo = self.shared.todo();
            todo.closed = true;
            todo.jobs.clear();
        }
        self.shared.todo_changed.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread for file operations panicked");
            }
        }
    }
}
