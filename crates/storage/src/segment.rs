//! One file of a log and what is known of it.
//!
//! ```text
//!   0 .. written      on disk or in the disk's cache     written <= size <= allocated (when open)
//!   0 .. size         appended; above `tail.first_position()` also in memory
//!   size .. allocated zeros, or nothing yet
//!   vouched           was zeroed and synced: a write in it needs no more than the device's flush
//! ```

use std::{
    ops::Range,
    path::{Path, PathBuf},
    rc::Rc,
};

use model::{Offset, TimestampMs};
use runtime::File;

use crate::{
    index::Indexes,
    own_sync::OwnSync,
    tail::{Tail, block_ceil, block_floor},
    transactions::Transactions,
};

/// Where a segment is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The active segment.
    Active,
    /// It takes no more appends; its file is longer than its content, its indexes are in memory.
    Rolled,
    /// Somebody is cutting the file and writing the indexes.
    Finishing,
    /// As a clean stop leaves it: what is not in memory is in its files.
    Finished,
}

/// See the module.
pub(crate) struct Segment {
    pub(crate) base_offset: Offset,
    pub(crate) phase: Phase,
    /// Open: for reading and, while active, for writing. `None` before the first append, where nobody
    /// has read a finished segment, and where handles are short (`handles`).
    pub(crate) file: Option<Rc<File>>,
    /// Its file was created.
    pub(crate) is_on_disk: bool,
    /// Its file was used since it was last asked to close it.
    pub(crate) was_used: bool,
    pub(crate) tail: Tail,
    /// It is among those that are asked to give memory back.
    pub(crate) is_listed: bool,
    pub(crate) written: u64,
    pub(crate) durable: u64,
    /// The offset behind what is durable of it, where it has been synced since the log was opened.
    pub(crate) durable_end: Offset,
    pub(crate) allocated: u64,
    pub(crate) vouched: Range<u64>,
    /// Being zeroed: a write into it has to wait.
    pub(crate) zeroing: Range<u64>,
    /// Its place among the files of a round of the group commit, and which round.
    pub(crate) unsynced: Option<(u64, usize)>,
    /// It waits for a sync of its own, or has one in flight.
    pub(crate) own_sync: Option<Box<OwnSync>>,
    /// `None`: in its files.
    pub(crate) indexes: Option<Rc<Indexes>>,
    /// What was appended by this process, or seen by its start.
    pub(crate) transactions: Transactions,
    /// What its file has before that, once a reader wanted to know.
    pub(crate) earlier_transactions: Option<Rc<Transactions>>,
    /// The timestamp of the first batch: what the roll by time counts from.
    pub(crate) first_timestamp: Option<TimestampMs>,
    /// When the roll by time counts from where no batch has a timestamp.
    pub(crate) created_ms: i64,
    /// When the last append was: its age where no batch has a timestamp.
    pub(crate) modified_ms: i64,
    /// The largest timestamp, once it is known of a segment that takes no more appends.
    pub(crate) newest: Option<TimestampMs>,
    /// So much earlier than `segment.ms` it is rolled, so that many logs are not at once.
    pub(crate) roll_jitter_ms: i64,
}

impl Segment {
    /// A segment without file and content.
    pub(crate) fn new(base_offset: Offset, created_ms: i64) -> Segment {
        Segment {
            base_offset,
            phase: Phase::Active,
            file: None,
            is_on_disk: false,
            was_used: false,
            tail: Tail::idle(0, &[]),
            is_listed: false,
            written: 0,
            durable: 0,
            durable_end: base_offset,
            allocated: 0,
            vouched: 0..0,
            zeroing: 0..0,
            unsynced: None,
            own_sync: None,
            indexes: Some(Rc::new(Indexes::new(base_offset))),
            transactions: Transactions::starting_at(0, base_offset),
            earlier_transactions: None,
            first_timestamp: None,
            created_ms,
            modified_ms: created_ms,
            newest: None,
            roll_jitter_ms: 0,
        }
    }

    /// It has `size` bytes on disk; `partial` are those of its last, partial block, which are
    /// needed where it takes appends.
    pub(crate) fn set_size(&mut self, size: u64, partial: &[u8]) {
        self.tail = Tail::idle(size, partial);
        self.written = size;
        self.durable = size;
        self.allocated = block_floor(size);
        self.is_on_disk = true;
    }

    /// How many bytes were appended.
    pub(crate) fn size(&self) -> u64 {
        self.tail.end()
    }

    /// The indexes of a segment that takes appends.
    pub(crate) fn indexes_mut(&mut self) -> &mut Indexes {
        let indexes = self.indexes.as_mut().expect("an active segment has its indexes in memory");
        Rc::make_mut(indexes)
    }

    /// True if a write of this range needs no sync of its own.
    pub(crate) fn is_vouched(&self, start: u64, end: u64) -> bool {
        self.vouched.start <= block_floor(start) && block_ceil(end) <= self.vouched.end
    }

    /// The offset up to which everything lies below `position`.
    pub(crate) fn offset_at(&self, position: u64, log_end: Offset) -> Offset {
        let batches = self.tail.batches();
        let next = batches.partition_point(|batch| batch.position < position);
        let start_of_next = batches.get(next).map_or_else(|| self.size(), |batch| batch.position);
        if start_of_next == position {
            return batches.get(next).map_or(log_end, |batch| batch.base_offset);
        }
        // The position lies within the batch before.
        next.checked_sub(1).map_or(self.base_offset, |index| batches[index].base_offset)
    }
}

/// The file of a segment.
pub(crate) fn segment_path(directory: &Path, base_offset: Offset, suffix: &str) -> PathBuf {
    directory.join(format!("{:020}.{suffix}", base_offset.0))
}

/// The offset in the name of a file with this suffix.
pub(crate) fn offset_of_name(name: &str, suffix: &str) -> Option<Offset> {
    let number = name.strip_suffix(suffix)?.strip_suffix('.')?;
    let is_number = number.len() == 20 && number.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { number.parse().ok().map(Offset) } else { None }
}
