//! A thread for what the ring cannot do, or not on this kernel, and what would hold the shard.
//!
//! - Closing a file: the last close of one that was removed gives its blocks back, which takes
//!   milliseconds. (Through the ring it would be told of before that is done, and before a lock on
//!   the file is gone.)
//! - Listing a directory, for which there is no ring operation.
//! - FTRUNCATE before Linux 6.9, MKDIRAT before 5.15.
//!
//! The thread starts with the first such operation. Cost of one: two wake-ups.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd, RawFd},
    path::PathBuf,
};

use crate::{Errno, driver::Output, driver::Token, sys::files, workers::Workers};

/// One at a time: none of these is in anybody's hot path.
const THREADS_MAX: usize = 1;

pub(super) enum Task {
    Close(OwnedFd),
    ListDirectory(PathBuf),
    CreateDirectory(PathBuf),
    /// Its file stays open until the end is [collected](Helper::collect).
    SetLength(BorrowedFd<'static>, u64),
}

struct Job {
    token: Token,
    /// The descriptor whose close has to wait for it.
    uses: Option<RawFd>,
    task: Task,
}

/// What became of a task.
pub(super) struct Outcome {
    pub(super) token: Token,
    pub(super) uses: Option<RawFd>,
    pub(super) result: Result<Output, Errno>,
}

#[derive(Default)]
pub(super) struct Helper {
    workers: Option<Workers<Job, Outcome>>,
    in_flight: usize,
}

impl Helper {
    /// Starts a task.
    ///
    /// # Errors
    /// The operating system's, when it gives no eventfd.
    pub(super) fn start(
        &mut self,
        token: Token,
        uses: Option<RawFd>,
        task: Task,
    ) -> io::Result<()> {
        let workers = match &mut self.workers {
            Some(workers) => workers,
            none @ None => none.insert(Workers::new(THREADS_MAX, perform)?),
        };
        workers.start(Job { token, uses, task });
        self.in_flight += 1;
        Ok(())
    }

    /// What becomes readable when a task ends while the shard sleeps; `None` before the first.
    pub(super) fn event(&self) -> Option<RawFd> {
        self.workers.as_ref().map(Workers::event)
    }

    /// Announces that the shard is about to sleep. False if something has ended already: then it
    /// must not.
    pub(super) fn may_sleep(&self) -> bool {
        self.in_flight == 0 || self.workers.as_ref().is_none_or(Workers::may_sleep)
    }

    /// The shard runs again.
    pub(super) fn woke(&self) {
        if let Some(workers) = self.workers.as_ref().filter(|_| self.in_flight > 0) {
            workers.woke();
        }
    }

    /// Takes what has ended.
    pub(super) fn collect(&mut self, into: &mut Vec<Outcome>) {
        if let Some(workers) = self.workers.as_ref().filter(|_| self.in_flight > 0) {
            let before = into.len();
            workers.take_outcomes(into);
            self.in_flight -= into.len() - before;
        }
    }
}

/// The thread's part: blocks.
fn perform(job: Job) -> Outcome {
    let Job { token, uses, task } = job;
    let result = match task {
        Task::Close(file) => {
            drop(file);
            Ok(Output::Done)
        }
        Task::ListDirectory(path) => files::list_directory(&path).map(Output::Listing),
        Task::CreateDirectory(path) => files::create_directory(&path).map(|()| Output::Done),
        Task::SetLength(file, length) => files::set_length(file, length).map(|()| Output::Done),
    };
    Outcome { token, uses, result }
}
