//! The file handles of a shard's segments that take appends: opened with their first use, bounded
//! by [`StorageOptions::open_files_max`], and closed where they were not used for longest, so that
//! thousands of partitions are served with a hundred handles.
//!
//! A file is closed only when nothing of it is unwritten, unsynced or on its way; an operation in
//! flight keeps its file open by itself. Where all are in use, whoever has to have one waits until
//! another's records are durable, in line; so does who finds that the process has no handle left. A
//! log is not fenced for that, and what it was given stays in memory within the bounds of appends.
//!
//! [`StorageOptions::open_files_max`]: crate::StorageOptions::open_files_max

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::Future,
    path::PathBuf,
    rc::{Rc, Weak},
    time::Duration,
};

use model::Offset;
use runtime::{Access, Cache, Create, Errno, File, OpenOptions, local::Turnstile};

use crate::{
    Log,
    log::{LogInner, State, Status},
    segment::{Phase, Segment, segment_path},
    storage::StorageInner,
};

/// How long whoever found no handle waits before the next try: handles come back as connections end
/// and files are closed, milliseconds apart.
const RETRY: Duration = Duration::from_millis(20);
/// How long the first in line waits until it looks again for a file that may be closed: a part of
/// the time of a sync.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// A segment's file that is there.
pub(crate) const REOPEN_OPTIONS: OpenOptions =
    OpenOptions { create: Create::Never, access: Access::ReadWrite, cache: Cache::Direct };

/// The segments whose files are open, in the order in which they are asked to close them.
#[derive(Default)]
pub(crate) struct OpenSegments {
    listed: RefCell<VecDeque<(Weak<LogInner>, Offset)>>,
    /// Those that are about to be opened.
    opening: Cell<usize>,
    line: Turnstile,
}

/// The right to open a segment's file and have it open.
pub(crate) struct Opening(Rc<StorageInner>);

impl Drop for Opening {
    fn drop(&mut self) {
        let opening = &self.0.open_segments.opening;
        opening.set(opening.get() - 1);
    }
}

impl StorageInner {
    /// Waits until one more segment may have its file open.
    pub(crate) async fn begin_opening(self: &Rc<Self>) -> Opening {
        let open = &self.open_segments;
        let turn = open.line.enter().await;
        while !self.has_place() {
            self.runtime.sleep(LOOK_AGAIN).await;
        }
        open.opening.set(open.opening.get() + 1);
        drop(turn);
        Opening(Rc::clone(self))
    }

    /// Closes files that nobody needs now while there are too many. True if there are not.
    fn has_place(&self) -> bool {
        let mut listed = self.open_segments.listed.borrow_mut();
        let opening = self.open_segments.opening.get();
        // Twice around: what was used since the last time is passed over once.
        for _ in 0..listed.len() * 2 {
            if listed.len() + opening < self.options.open_files_max {
                return true;
            }
            let Some((weak, base_offset)) = listed.pop_front() else { break };
            let Some(log) = weak.upgrade() else { continue };
            if !log.state.borrow_mut().close_idle(base_offset) {
                listed.push_back((weak, base_offset));
            }
        }
        listed.len() + opening < self.options.open_files_max
    }

    /// Does something that takes a handle, again and again while there is none.
    pub(crate) async fn with_handle<T, F: Future<Output = Result<T, Errno>>>(
        &self,
        act: impl Fn() -> F,
    ) -> Result<T, Errno> {
        let mut is_told = false;
        loop {
            match act().await {
                Err(errno) if errno.is_no_handle() => {
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::debug!(%errno, "no file handle is left: waiting for one");
                    }
                    self.runtime.sleep(RETRY).await;
                }
                outcome => return outcome,
            }
        }
    }
}

impl State {
    /// Closes the file of a segment where nothing needs it now. True if it is not open any more.
    fn close_idle(&mut self, base_offset: Offset) -> bool {
        let is_busy = self.is_writing || self.is_securing;
        let is_open = self.status == Status::Open;
        let Some(segment) = self.segment_mut(base_offset) else { return true };
        if segment.phase == Phase::Finished || segment.file.is_none() {
            return true;
        }
        let is_needed = is_open && !segment.is_idle();
        if is_busy || is_needed || std::mem::take(&mut segment.was_used) {
            return false;
        }
        segment.file = None;
        true
    }
}

impl Segment {
    /// Everything of it is durable and nobody is at work on its file.
    fn is_idle(&self) -> bool {
        self.phase == Phase::Active
            && self.written == self.size()
            && self.durable == self.written
            && self.own_sync.is_none()
            && self.zeroing.is_empty()
    }
}

impl Log {
    /// A segment's file is open.
    pub(crate) fn set_open(&self, base_offset: Offset, file: &Rc<File>) {
        {
            let mut state = self.0.state.borrow_mut();
            let Some(segment) = state.segment_mut(base_offset) else { return };
            (segment.is_on_disk, segment.was_used) = (true, true);
            segment.file = Some(Rc::clone(file));
        }
        let listed = &self.0.storage.open_segments.listed;
        listed.borrow_mut().push_back((self.downgrade(), base_offset));
    }

    /// Opens the file of a segment that takes appends, or took them until now, and that was closed.
    pub(crate) async fn reopen(&self, base_offset: Offset) -> Result<Rc<File>, Errno> {
        let _place = self.0.storage.begin_opening().await;
        let open = || File::open(self.runtime(), self.path(base_offset), REOPEN_OPTIONS);
        let file = Rc::new(self.0.storage.with_handle(open).await?);
        if let Some(known) = self.open_file(base_offset) {
            // Somebody else was faster.
            return Ok(known);
        }
        self.set_open(base_offset, &file);
        Ok(file)
    }

    /// The open file of a segment.
    pub(crate) fn open_file(&self, base_offset: Offset) -> Option<Rc<File>> {
        let mut state = self.0.state.borrow_mut();
        let segment = state.segment_mut(base_offset)?;
        segment.was_used = true;
        segment.file.clone()
    }

    fn path(&self, base_offset: Offset) -> PathBuf {
        segment_path(&self.0.directory.borrow(), base_offset, "log")
    }
}
