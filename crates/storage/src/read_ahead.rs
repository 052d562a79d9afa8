//! Read-ahead for consumers of old data: who reads a file from front to back finds the next
//! stretch in memory.
//!
//! ```text
//!   file   |...read, sent...|== served from this ==|== being read ==|
//!                           ^ the reader's next batch
//! ```
//! The end of each cold read is noted as a stretch whose bytes nobody has asked for yet. A reader
//! that comes back for exactly that batch reads in sequence, and from then on the stretch behind
//! the one it is given is read while it is busy with it. A stretch belongs to one reader: it is
//! taken out when it is served. Nothing here is believed: what comes out is checked as if it came
//! from the disk at that moment, and a read that failed is made again by the reader itself.
//!
//! A shard keeps at most [`STRETCHES_MAX`] of them, [`HELD_BYTES_MAX`] of memory, none for longer
//! than [`KEPT_FOR`]. Where memory is scarce it [pauses](Storage::pause_read_ahead): what was read
//! ahead is let go, and readers read by themselves.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::{Rc, Weak},
    time::Duration,
};

use bytes::Bytes;
use model::{Offset, record_batch::RecordBatch};
use runtime::{Errno, File, Instant, TaskQueue, local::Notify};

use crate::{
    ReadError,
    read::COLD_READ_BYTES_MAX,
    storage::{Storage, StorageInner},
    tail::{block_ceil, block_floor, length_of, position_of},
};

/// What is read at a time, blocks in full.
const STRETCH_BYTES: usize = COLD_READ_BYTES_MAX;
/// Readers that are known to a shard. One too many costs the oldest its place, and a read its
/// head start.
const STRETCHES_MAX: usize = 256;
/// The memory of all stretches of a shard: sixteen readers, one stretch in hand and one coming.
const HELD_BYTES_MAX: usize = 32 << 20;
/// How many stretches a reader is ahead of: one in its hands, one on its way.
const DEPTH: usize = 2;
/// A reader that has not come back by then reads by itself.
const KEPT_FOR: Duration = Duration::from_secs(5);
/// How long a pause lasts unless it is asked for again: whoever finds memory scarce says so with
/// each of its reads, some of which wait for their turn.
const PAUSED_FOR: Duration = Duration::from_secs(1);

/// The stretches of one shard, the least recently used first.
pub(crate) struct ReadAhead {
    stretches: RefCell<VecDeque<Stretch>>,
    held_bytes: Cell<usize>,
    next_id: Cell<u64>,
    arrived: Notify,
    is_swept: Cell<bool>,
    paused_until: Cell<Option<Instant>>,
    /// Reads that were served from here.
    #[cfg(test)]
    pub(crate) hits: Cell<u64>,
}

struct Stretch {
    id: u64,
    /// A file is never written below its readers' limit, and compaction makes another file: so
    /// this names the content. It does not keep the file open.
    file: Weak<File>,
    from: Offset,
    position: u64,
    content: Content,
    since: Instant,
}

enum Content {
    /// A reader may come back for it.
    Expected,
    /// It is being read; then so many more behind it.
    Coming(usize),
    /// Whole batches from `from` on.
    Here(Bytes),
}

/// What is known of the place where a reader goes on.
pub(crate) struct Found {
    /// Where the batch that begins with its offset starts.
    pub(crate) position: u64,
    /// That batch and more; empty where it has to be read.
    pub(crate) bytes: Bytes,
}

/// Where a reader will go on.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) file: &'a Rc<File>,
    pub(crate) from: Offset,
    pub(crate) position: u64,
    /// Where what may be read of the file ends.
    pub(crate) limit: u64,
}

impl ReadAhead {
    pub(crate) fn new() -> ReadAhead {
        ReadAhead {
            stretches: RefCell::default(),
            held_bytes: Cell::new(0),
            next_id: Cell::new(0),
            arrived: Notify::new(),
            is_swept: Cell::new(false),
            paused_until: Cell::new(None),
            #[cfg(test)]
            hits: Cell::new(0),
        }
    }

    #[cfg(test)]
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes.get()
    }

    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.stretches.borrow().len()
    }

    fn note(&self, place: &Place<'_>, content: Content, now: Instant) -> u64 {
        let id = self.next_id.replace(self.next_id.get() + 1);
        let mut stretches = self.stretches.borrow_mut();
        if stretches.len() == STRETCHES_MAX {
            let oldest = stretches.pop_front().expect("it is full");
            self.forget(&oldest);
        }
        stretches.push_back(Stretch {
            id,
            file: Rc::downgrade(place.file),
            from: place.from,
            position: place.position,
            content,
            since: now,
        });
        id
    }

    fn forget(&self, stretch: &Stretch) {
        let held = match &stretch.content {
            Content::Expected => 0,
            // Counted in full until it is served in full: slices pin the buffer.
            Content::Coming(_) | Content::Here(_) => STRETCH_BYTES,
        };
        self.held_bytes.set(self.held_bytes.get() - held);
    }

    fn is_paused(&self, now: Instant) -> bool {
        self.paused_until.get().is_some_and(|until| now < until)
    }

    /// Lets go of all that is here. Readers are still known.
    fn let_go(&self) {
        if self.held_bytes.get() == 0 {
            return;
        }
        for stretch in self.stretches.borrow_mut().iter_mut() {
            if let Content::Here(_) = stretch.content {
                self.forget(stretch);
                stretch.content = Content::Expected;
            }
        }
    }

    fn index_of(&self, file: &Rc<File>, from: Offset) -> Option<usize> {
        let stretches = self.stretches.borrow();
        stretches.iter().rposition(|known| {
            known.from == from && std::ptr::eq(known.file.as_ptr(), Rc::as_ptr(file))
        })
    }

    /// True while the stretch is being read for this reader.
    fn is_coming(&self, file: &Rc<File>, from: Offset) -> bool {
        self.index_of(file, from).is_some_and(|index| {
            matches!(self.stretches.borrow()[index].content, Content::Coming(_))
        })
    }

    fn sweep(&self, now: Instant) {
        let mut stretches = self.stretches.borrow_mut();
        stretches.retain(|stretch| {
            let is_kept = now.since(stretch.since) < KEPT_FOR;
            if !is_kept {
                self.forget(stretch);
            }
            is_kept
        });
    }
}

impl Storage {
    /// Memory is scarce: for a while nothing is read ahead, and what was is let go.
    pub fn pause_read_ahead(&self) {
        let ahead = &self.0.read_ahead;
        ahead.paused_until.set(Some(self.0.runtime.now() + PAUSED_FOR));
        ahead.let_go();
    }
}

impl StorageInner {
    /// What is known of the place where `from` lies in `file`; waits for a read that is under way.
    /// The caller serves from it, and says with [`StorageInner::read_on`] where it stopped.
    pub(crate) async fn take_ahead(&self, file: &Rc<File>, from: Offset) -> Option<Found> {
        let ahead = &self.read_ahead;
        ahead.arrived.wait_until(|| !ahead.is_coming(file, from)).await;
        let index = ahead.index_of(file, from)?;
        let stretch = ahead.stretches.borrow_mut().remove(index).expect("just found");
        ahead.forget(&stretch);
        let bytes = match stretch.content {
            Content::Here(bytes) => {
                #[cfg(test)]
                ahead.hits.set(ahead.hits.get() + 1);
                bytes
            }
            Content::Expected | Content::Coming(_) => Bytes::new(),
        };
        Some(Found { position: stretch.position, bytes })
    }

    /// A reader was served up to `place`. `rest` is what was read and not sent; `is_in_sequence`
    /// says that it began where an earlier read had stopped.
    pub(crate) fn read_on(self: &Rc<Self>, place: &Place<'_>, rest: Bytes, is_in_sequence: bool) {
        let ahead = &self.read_ahead;
        if place.position >= place.limit {
            return;
        }
        if is_in_sequence && !ahead.is_paused(self.runtime.now()) {
            self.get_ahead(*place, rest, DEPTH);
        } else if ahead.index_of(place.file, place.from).is_none() {
            ahead.note(place, Content::Expected, self.runtime.now());
        }
        self.start_sweeping();
    }

    /// Sees to it that `depth` stretches from `place` on are here or on their way, as far as there
    /// is memory. `rest` is the beginning of the first, if that is in memory.
    fn get_ahead(self: &Rc<Self>, mut place: Place<'_>, mut rest: Bytes, depth: usize) {
        let (ahead, now) = (&self.read_ahead, self.runtime.now());
        for more in (0..depth).rev() {
            if place.position >= place.limit {
                return;
            }
            let known = ahead.index_of(place.file, place.from);
            if known.is_none() && rest.is_empty() {
                return self.fetch_ahead(&place, more);
            }
            let next = if let Some(index) = known {
                let mut stretches = ahead.stretches.borrow_mut();
                match &mut stretches[index].content {
                    Content::Here(bytes) => behind(bytes, &place),
                    Content::Coming(known) => {
                        *known = more.max(*known);
                        None
                    }
                    Content::Expected => None,
                }
            } else {
                let next = behind(&rest, &place);
                ahead.held_bytes.set(ahead.held_bytes.get() + STRETCH_BYTES);
                ahead.note(&place, Content::Here(std::mem::take(&mut rest)), now);
                next
            };
            let Some((from, position)) = next else { return };
            place = Place { from, position, ..place };
        }
    }

    /// Reads the stretch at `place`, and then so many more.
    fn fetch_ahead(self: &Rc<Self>, place: &Place<'_>, more: usize) {
        let (ahead, now) = (&self.read_ahead, self.runtime.now());
        if ahead.held_bytes.get() + STRETCH_BYTES > HELD_BYTES_MAX {
            ahead.note(place, Content::Expected, now);
            return;
        }
        ahead.held_bytes.set(ahead.held_bytes.get() + STRETCH_BYTES);
        let id = ahead.note(place, Content::Coming(more), now);
        let (storage, file) = (Rc::clone(self), Rc::clone(place.file));
        let (from, position, limit) = (place.from, place.position, place.limit);
        self.runtime.spawn("read ahead", TaskQueue::Foreground, async move {
            let stop = block_floor(position) + position_of(STRETCH_BYTES);
            let read = storage.read_part(&file, position, stop, limit).await;
            storage.arrived(id, &Place { file: &file, from, position, limit }, read.ok());
        });
    }

    fn arrived(self: &Rc<Self>, id: u64, place: &Place<'_>, read: Option<Bytes>) {
        let ahead = &self.read_ahead;
        let mut next = None;
        if let Some(stretch) = ahead.stretches.borrow_mut().iter_mut().find(|known| known.id == id)
        {
            stretch.since = self.runtime.now();
            let read = read.filter(|_| !ahead.is_paused(stretch.since));
            let end = read.as_ref().and_then(|bytes| behind(bytes, place));
            if let (Some(bytes), Some((from, position))) = (read, end) {
                let whole = bytes.slice(..length_of(position - place.position));
                let before = std::mem::replace(&mut stretch.content, Content::Here(whole));
                if let Content::Coming(more) = before {
                    next = Some((Place { from, position, ..*place }, more));
                }
            } else {
                ahead.forget(stretch);
                stretch.content = Content::Expected;
            }
        }
        if let Some((place, more)) = next {
            self.get_ahead(place, Bytes::new(), more);
        }
        ahead.arrived.notify_all();
    }

    /// The bytes of a file from `start` to the end of the block that `stop` lies in; none at
    /// `limit` or behind.
    pub(crate) async fn read_part(
        &self,
        file: &File,
        start: u64,
        stop: u64,
        limit: u64,
    ) -> Result<Bytes, ReadError> {
        let (block, stop) = (block_floor(start), block_ceil(stop.min(limit)));
        let length = length_of(stop - block);
        let buffer = file.read(block, length, self.pool.take(length)).await;
        let bytes = buffer.map_err(ReadError::Io)?.freeze();
        let skip = length_of(start - block);
        let end = length_of(limit.min(stop) - block).min(bytes.len());
        if end <= skip { Err(ReadError::Io(Errno::IO)) } else { Ok(bytes.slice(skip..end)) }
    }

    /// Lets go what readers have not come back for, while there is any.
    fn start_sweeping(self: &Rc<Self>) {
        if self.read_ahead.is_swept.replace(true) {
            return;
        }
        let storage = Rc::clone(self);
        self.runtime.spawn("read ahead sweep", TaskQueue::Background, async move {
            let ahead = &storage.read_ahead;
            while !ahead.stretches.borrow().is_empty() {
                storage.runtime.sleep(KEPT_FOR).await;
                ahead.sweep(storage.runtime.now());
                ahead.arrived.notify_all();
            }
            ahead.is_swept.set(false);
        });
    }
}

/// Offset and position behind the whole batches of `bytes`, which begin at `place`; `None` where
/// there is no whole batch. Headers alone are looked at: the reader checks the rest.
fn behind(bytes: &[u8], place: &Place<'_>) -> Option<(Offset, u64)> {
    let mut end = None;
    let mut at = 0;
    while let Ok(batch) = RecordBatch::first(&bytes[at..]) {
        at += batch.size();
        end = Some((batch.next_offset(), place.position + position_of(at)));
    }
    end
}
