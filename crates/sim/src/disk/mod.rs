//! One node's disk.
//!
//! An operation starts when it is submitted, takes a while by seed and acts at its end; so those in
//! flight are unordered, as on a real machine. The exceptions are drawn from what Linux does:
//! - a write's bytes are taken at its start; until its end readers see either content;
//! - a sync covers what had completed when it started;
//! - a change of size waits for direct writes in flight, also those of a dead process;
//! - a killed process's names and sizes are as they were; its writes in flight land later, land in
//!   part or never ([`Disk::kill`]);
//! - a power cut leaves what was synced, and of the rest what chance says ([`Disk::power_cut`]).
//!
//! What the program does wrong is kept in [`Disk::violations`]: two writes in flight to the same
//! bytes, direct operations off the alignment, operations on files that are not open.

mod content;
mod damage;
mod directory;
mod file;
mod operation;
mod ranges;
mod settings;
mod tree;

use std::collections::BTreeMap;

use bytes::Bytes;
use runtime::{
    Errno, FileInfo, Op, Output, Space,
    driver::{FileId, Token},
};

pub(crate) use self::damage::Acknowledged;
pub use self::settings::{DiskFaults, DiskSettings, Tally};
use self::{
    damage::Acknowledgements,
    file::{FileNode, InFlight, Keep, Road},
    operation::{Operation, Work},
    tree::Tree,
};
use crate::{Rng, number::wide, world::ShardKey};

pub(crate) const NOT_OPEN: Errno = Errno(9);
const NOT_A_DIRECTORY: Errno = Errno(20);
const IS_A_DIRECTORY: Errno = Errno(21);
const NOT_EMPTY: Errno = Errno(39);

/// What a disk without an end claims to hold.
const ENDLESS_BYTES: u64 = 1 << 40;
/// How long a dead process's write may take to land, in nanoseconds.
const LATE_LANDING_NS_MAX: u64 = 50_000_000;
/// How long an operation that waits for writes in flight waits before it looks again.
const WAIT_NS: u64 = 20_000;
/// So many changes of names between two sweeps of what nothing leads to any more.
const SWEEP_INTERVAL: u64 = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InodeId(pub(crate) u64);

#[derive(Clone, Copy)]
struct Handle {
    inode: InodeId,
    direct: bool,
    writable: bool,
}

/// Whom to tell of an operation's end.
pub(crate) type ReplyTo = (ShardKey, Token);

/// What became of an operation whose time has come.
pub(crate) enum End {
    /// It is gone with the power.
    Gone,
    /// It waits for something; look again at this time.
    Again(u64),
    /// It ended; the process that asked may be dead.
    Ended(Option<ReplyTo>, Result<Output, Errno>),
}

pub(crate) struct Disk {
    tree: Tree,
    handles: BTreeMap<u32, Handle>,
    locks: BTreeMap<InodeId, u32>,
    operations: BTreeMap<u64, Operation>,
    next_handle: u32,
    next_operation: u64,
    /// Counts completed changes.
    sequence: u64,
    name_changes: u64,
    device: u64,
    acknowledgements: Acknowledgements,
    pub(crate) settings: DiskSettings,
    pub(crate) faults: DiskFaults,
    pub(crate) tally: Tally,
    pub(crate) violations: Vec<String>,
    rng: Rng,
}

impl Disk {
    pub(crate) fn new(device: u64, settings: DiskSettings, rng: Rng) -> Disk {
        Disk {
            tree: Tree::new(),
            handles: BTreeMap::new(),
            locks: BTreeMap::new(),
            operations: BTreeMap::new(),
            next_handle: 3,
            next_operation: 0,
            sequence: 0,
            name_changes: 0,
            device,
            acknowledgements: Acknowledgements::default(),
            settings,
            faults: DiskFaults::default(),
            tally: Tally::default(),
            violations: Vec::new(),
            rng,
        }
    }

    /// Starts an operation: its number and how long it takes, or why it is refused at once.
    pub(crate) fn start(&mut self, op: Op, reply: ReplyTo) -> Result<(u64, u64), Errno> {
        let operation = self.next_operation;
        self.next_operation += 1;
        let (work, mut delay) = self.work(operation, op)?;
        if self.rng.chance(self.faults.stall_permille) {
            self.tally.stalls += 1;
            delay += self.faults.stall_ns;
        }
        self.operations.insert(operation, Operation { reply: Some(reply), work, not_before: 0 });
        Ok((operation, delay))
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest acts at its end")]
    fn work(&mut self, operation: u64, op: Op) -> Result<(Work, u64), Errno> {
        let settings = self.settings;
        let mut delay = |range, bytes| settings.delay(range, bytes, &mut self.rng);
        let done = match op {
            Op::Read { file, position, length, buffer } => {
                let delay = delay(settings.read_ns, wide(length));
                let handle = self.handle(file)?;
                self.check_alignment(handle, "read", position, length)?;
                (Work::Read { inode: handle.inode, position, length, buffer }, delay)
            }
            Op::Write { file, position, slices } => {
                let length = slices.iter().map(Bytes::len).sum();
                let delay = delay(settings.write_ns, wide(length));
                let inode = self.start_write(operation, file, position, &slices)?;
                (Work::Write { inode }, delay)
            }
            Op::Sync { file, kind: _ } => {
                let delay = delay(settings.sync_ns, 0);
                (Work::Sync { inode: self.handle(file)?.inode, upto: self.sequence }, delay)
            }
            Op::SyncDirectory { path } => {
                let delay = delay(settings.sync_ns, 0);
                let (inode, upto) = (self.tree.walk(&path)?, self.sequence);
                (Work::SyncDirectory { inode, upto }, delay)
            }
            Op::Allocate { file, position, length } => {
                let delay = delay(settings.metadata_ns, 0);
                let inode = self.handle(file)?.inode;
                (Work::Allocate { inode, range: position..position + length }, delay)
            }
            Op::SetLength { file, length } => {
                let delay = delay(settings.metadata_ns, 0);
                (Work::SetLength { inode: self.handle(file)?.inode, length }, delay)
            }
            other => (Work::Other(other), delay(settings.metadata_ns, 0)),
        };
        Ok(done)
    }

    fn start_write(
        &mut self,
        operation: u64,
        file: FileId,
        position: u64,
        slices: &[Bytes],
    ) -> Result<InodeId, Errno> {
        let handle = self.handle(file)?;
        if !handle.writable {
            self.violations.push("a write to a file opened for reading".to_owned());
            return Err(NOT_OPEN);
        }
        for slice in slices {
            self.check_alignment(handle, "write", position, slice.len())?;
            if handle.direct && slice.as_ptr().addr() % self.alignment() != 0 {
                self.violations.push(format!("a direct write from unaligned memory at {position}"));
                return Err(Errno::INVALID);
            }
        }
        let road = if handle.direct { Road::Direct } else { Road::Cached };
        let write = InFlight { operation, position, data: Bytes::from(slices.concat()), road };
        let length = write.data.len();
        if !self.tree.file_mut(handle.inode).start_write(write) && handle.direct {
            let name = self.tree.name_of(handle.inode);
            let end = position + wide(length);
            self.violations.push(format!("writes in flight overlap in {name}, {position}..{end}"));
        }
        Ok(handle.inode)
    }

    fn alignment(&self) -> usize {
        usize::try_from(self.settings.alignment).expect("a small number")
    }

    fn check_alignment(
        &mut self,
        handle: Handle,
        what: &str,
        position: u64,
        length: usize,
    ) -> Result<(), Errno> {
        let unit = u64::from(self.settings.alignment);
        if handle.direct && (!(position | wide(length)).is_multiple_of(unit)) {
            self.violations.push(format!("an unaligned direct {what}: {length} at {position}"));
            return Err(Errno::INVALID);
        }
        Ok(())
    }

    fn handle(&mut self, file: FileId) -> Result<Handle, Errno> {
        self.handles.get(&file.0).copied().ok_or_else(|| {
            self.violations.push(format!("an operation on file {} that is not open", file.0));
            NOT_OPEN
        })
    }

    fn info(&self, handle: Handle) -> FileInfo {
        let file = self.tree.file(handle.inode);
        FileInfo {
            length: file.length(),
            direct: handle.direct,
            alignment: if handle.direct { self.settings.alignment } else { 1 },
            device: self.device,
            modified_ms: file.modified_ms,
        }
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Leaves room for so many more bytes, or for all that anybody writes.
    pub(crate) fn set_free_space(&mut self, bytes: Option<u64>) {
        self.settings.capacity_bytes = bytes.map(|bytes| self.used_bytes() + bytes);
    }

    /// As the file system's counters tell.
    fn space(&self) -> Space {
        let total_bytes = self.settings.capacity_bytes.unwrap_or(ENDLESS_BYTES);
        Space { total_bytes, free_bytes: total_bytes.saturating_sub(self.used_bytes()) }
    }

    fn used_bytes(&self) -> u64 {
        self.tree.files().map(FileNode::allocated_bytes).sum()
    }

    /// Refuses what needs `more` bytes where so many are not left.
    fn require_room(&mut self, more: u64) -> Result<(), Errno> {
        let Some(capacity) = self.settings.capacity_bytes else { return Ok(()) };
        if more == 0 || self.used_bytes() + more <= capacity {
            return Ok(());
        }
        self.tally.space_refusals += 1;
        Err(Errno::NO_SPACE)
    }

    /// The process was killed at `now`: its handles are closed, and of what it had in flight nobody
    /// will be told. Direct writes are with the device: they land late, in part or never. All else
    /// is done by threads of the process, and is over with it, done or not.
    pub(crate) fn kill(&mut self, now: u64, wall_clock_ms: i64) {
        self.note_crash();
        // What an earlier life left in flight is on its way already.
        let own = self.operations.iter().filter(|(_, operation)| operation.reply.is_some());
        let numbers: Vec<u64> = own.map(|(number, _)| *number).collect();
        for number in numbers {
            let goes_on = self.rng.chance(600);
            let torn = self.rng.chance(300);
            let late = now + self.rng.below(LATE_LANDING_NS_MAX);
            let operation = self.operations.get_mut(&number).expect("listed above");
            operation.reply = None;
            if let Work::Write { inode } = operation.work {
                if goes_on && torn {
                    operation.work = Work::TornWrite { inode };
                }
                if goes_on && self.tree.file_mut(inode).is_direct(number) {
                    operation.not_before = late;
                    continue;
                }
            }
            if goes_on && !operation.needs_its_process() {
                self.end(number, now, wall_clock_ms);
            }
            if let Some(Operation {
                work: Work::Write { inode } | Work::TornWrite { inode }, ..
            }) = self.operations.remove(&number)
            {
                self.tree.file_mut(inode).end_write(number);
            }
        }
        self.handles.clear();
    }

    /// The power went away.
    pub(crate) fn power_cut(&mut self) {
        self.note_crash();
        self.handles.clear();
        self.locks.clear();
        self.operations.clear();
        let rng = &mut self.rng;
        let sectors_permille = rng.pick(&[0, 0, 250, 500, 750, 1000]);
        let metadata_permille = rng.pick(&[0, 0, 300, 1000]);
        for file in self.tree.files_mut() {
            file.power_cut(Keep { sectors_permille, metadata_permille }, rng, &mut self.tally);
        }
        for directory in self.tree.directories_mut() {
            directory.power_cut(rng, &mut self.tally);
        }
        self.tree.sweep([]);
    }

    fn note_crash(&mut self) {
        let inside = self.operations.values().any(|operation| operation.changes_names());
        self.tally.crashes_inside_name_change += u64::from(inside);
    }

    /// A directory that was there before anything started.
    pub(crate) fn prepare_directory(&mut self, path: &std::path::Path) -> Result<(), Errno> {
        let sequence = self.next_sequence();
        self.tree.create_directory(path, sequence)?;
        let (parent, _) = self.tree.split(path)?;
        self.tree.directory_mut(parent).sync(sequence);
        Ok(())
    }
}
