//! The open files of one shard, and their operations on the worker threads.
//!
//! A file is closed only when no operation on it is in flight: a descriptor that was closed under
//! a waiting write may be another file's by the time the write runs.

use std::{
    os::fd::{AsFd, OwnedFd, RawFd},
    sync::Arc,
};

use bytes::Bytes;
use slab::Slab;

use super::Completions;
use crate::{
    Errno, FileInfo, Op, Output,
    alignment::Alignments,
    driver::{FileId, Token},
    overlap::WritesInFlight,
    sys::files,
    workers::Workers,
};

/// File operations of one shard that run at the same time: a sync, a write and two cold reads.
const WORKERS_MAX: usize = 4;

pub(super) struct Files {
    workers: Workers<Job, Outcome>,
    open: Slab<OpenFile>,
    alignments: Alignments,
    writes: WritesInFlight,
    outcomes: Vec<Outcome>,
}

struct OpenFile {
    descriptor: Arc<OwnedFd>,
    in_flight: usize,
    /// Close it when nothing is in flight any more.
    closing: Option<Token>,
}

/// One operation on its way through a worker. It keeps its file open.
struct Job {
    tag: Tag,
    descriptor: Option<Arc<OwnedFd>>,
    op: Op,
}

/// What its operation is to the shard.
#[derive(Clone, Copy)]
struct Tag {
    token: Token,
    file: Option<FileId>,
    /// Where it writes.
    writes_at: Option<u64>,
}

struct Outcome {
    tag: Tag,
    result: Result<Done, Errno>,
}

enum Done {
    Output(Output),
    Opened(OwnedFd, FileInfo),
    Described(FileInfo),
}

impl Files {
    pub(super) fn new() -> std::io::Result<Files> {
        Ok(Files {
            workers: Workers::new(WORKERS_MAX, perform)?,
            open: Slab::new(),
            alignments: Alignments::default(),
            writes: WritesInFlight::default(),
            outcomes: Vec::new(),
        })
    }

    /// What becomes readable when an operation ends while the shard sleeps.
    pub(super) fn event(&self) -> RawFd {
        self.workers.event()
    }

    /// Announces that the shard is about to sleep. False if something has ended already: then it
    /// must not.
    pub(super) fn may_sleep(&self) -> bool {
        self.workers.may_sleep()
    }

    /// The shard runs again.
    pub(super) fn woke(&self) {
        self.workers.woke();
    }

    /// Starts an operation on a path.
    pub(super) fn start_on_path(&mut self, token: Token, op: Op) {
        let tag = Tag { token, file: None, writes_at: None };
        self.workers.start(Job { tag, descriptor: None, op });
    }

    /// Starts an operation on an open file, but for its close.
    pub(super) fn start_on_file(&mut self, token: Token, file: FileId, op: Op) {
        self.alignments.check(&op);
        let mut tag = Tag { token, file: Some(file), writes_at: None };
        if let Op::Write { position, slices, .. } = &op {
            let length = slices.iter().map(Bytes::len).sum();
            self.writes.start(file, *position, length);
            tag.writes_at = Some(*position);
        }
        let open = self.open.get_mut(key_of(file)).expect("an operation on a closed file");
        assert!(open.closing.is_none(), "an operation on a file that is being closed");
        open.in_flight += 1;
        let descriptor = Some(Arc::clone(&open.descriptor));
        self.workers.start(Job { tag, descriptor, op });
    }

    /// Closes a file, once nothing on it is in flight.
    pub(super) fn close(&mut self, token: Token, file: FileId) {
        let open = self.open.get_mut(key_of(file)).expect("a close of a closed file");
        assert!(open.closing.is_none(), "a file is closed once");
        open.closing = Some(token);
        self.close_if_unused(file);
    }

    fn close_if_unused(&mut self, file: FileId) {
        let open = &self.open[key_of(file)];
        if let Some(token) = open.closing
            && open.in_flight == 0
        {
            let open = self.open.remove(key_of(file));
            let tag = Tag { token, file: None, writes_at: None };
            let (descriptor, op) = (Some(open.descriptor), Op::CloseFile { file });
            self.workers.start(Job { tag, descriptor, op });
        }
    }

    /// Takes what has ended.
    pub(super) fn collect(&mut self, completions: &mut Completions) {
        let mut outcomes = std::mem::take(&mut self.outcomes);
        self.workers.take_outcomes(&mut outcomes);
        for Outcome { tag, result } in outcomes.drain(..) {
            let result = result.map(|done| self.finish(tag, done));
            completions.add(tag.token, result);
            let Some(file) = tag.file else { continue };
            if let Some(position) = tag.writes_at {
                self.writes.end(file, position);
            }
            self.open[key_of(file)].in_flight -= 1;
            self.close_if_unused(file);
        }
        self.outcomes = outcomes;
    }

    fn finish(&mut self, tag: Tag, done: Done) -> Output {
        match done {
            Done::Output(output) => output,
            Done::Described(info) => {
                Output::Opened(tag.file.expect("it was asked of an open file"), info)
            }
            Done::Opened(descriptor, info) => {
                let descriptor = Arc::new(descriptor);
                let open = OpenFile { descriptor, in_flight: 0, closing: None };
                let key = self.open.insert(open);
                let file = FileId(u32::try_from(key).expect("fewer files than descriptors"));
                self.alignments.opened(file, info);
                Output::Opened(file, info)
            }
        }
    }
}

fn key_of(file: FileId) -> usize {
    usize::try_from(file.0).expect("usize is at least 32 bits")
}

/// A worker's part: blocks.
fn perform(job: Job) -> Outcome {
    let Job { tag, descriptor, op } = job;
    let result = perform_op(descriptor, op);
    Outcome { tag, result }
}

fn perform_op(descriptor: Option<Arc<OwnedFd>>, op: Op) -> Result<Done, Errno> {
    let file = || descriptor.as_ref().expect("an operation on a file has one").as_fd();
    let done = match op {
        Op::Open { path, options } => {
            let (descriptor, info) = files::open(&path, options)?;
            return Ok(Done::Opened(descriptor, info));
        }
        Op::Describe { .. } => return files::describe(file()).map(Done::Described),
        Op::ListDirectory { path } => {
            return files::list_directory(&path).map(|found| Done::Output(Output::Listing(found)));
        }
        Op::DescribeSpace { path } => {
            return files::space(&path).map(|space| Done::Output(Output::Space(space)));
        }
        Op::Read { position, length, mut buffer, .. } => {
            let count = files::read_at(file(), position, &mut buffer.memory_mut()[..length])?;
            buffer.set_length(count);
            return Ok(Done::Output(Output::Buffer(buffer)));
        }
        Op::Write { position, slices, .. } => {
            let count = files::write_at(file(), position, &slices)?;
            return Ok(Done::Output(Output::Count(count)));
        }
        Op::Sync { kind, .. } => files::sync(file(), kind),
        Op::Allocate { position, length, .. } => files::allocate(file(), position, length),
        Op::SetLength { length, .. } => files::set_length(file(), length),
        Op::Lock { .. } => files::lock(file()),
        Op::CloseFile { .. } => {
            drop(descriptor);
            Ok(())
        }
        Op::Rename { from, to } => files::rename(&from, &to),
        Op::Remove { path } => files::remove(&path),
        Op::RemoveDirectory { path } => files::remove_directory(&path),
        Op::CreateDirectory { path } => files::create_directory(&path),
        Op::SyncDirectory { path } => files::sync_directory(&path),
        Op::Listen { .. }
        | Op::Accept { .. }
        | Op::Connect { .. }
        | Op::Receive { .. }
        | Op::ReceiveExact { .. }
        | Op::Send { .. }
        | Op::Shutdown { .. }
        | Op::CloseSocket { .. } => unreachable!("sockets need no worker"),
    };
    done.map(|()| Done::Output(Output::Done))
}
