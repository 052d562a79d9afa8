//! What an operation does when its time has come.

use std::ops::Range;

use runtime::{Access, Buffer, Cache, Create, Errno, Op, OpenOptions, Output, driver::FileId};

use super::{
    Disk, End, Handle, InodeId, ReplyTo, SWEEP_INTERVAL, WAIT_NS, content::BLOCK_BYTES, file::Road,
};
use crate::number::{narrow, wide};

pub(super) struct Operation {
    pub(super) reply: Option<ReplyTo>,
    pub(super) work: Work,
    /// Not to end before this time.
    pub(super) not_before: u64,
}

pub(super) enum Work {
    Read {
        inode: InodeId,
        position: u64,
        length: usize,
        buffer: Buffer,
    },
    Write {
        inode: InodeId,
    },
    /// Of a dead process: some sectors of it land.
    TornWrite {
        inode: InodeId,
    },
    Sync {
        inode: InodeId,
        upto: u64,
    },
    SyncDirectory {
        inode: InodeId,
        upto: u64,
    },
    Allocate {
        inode: InodeId,
        range: Range<u64>,
    },
    SetLength {
        inode: InodeId,
        length: u64,
    },
    /// Names, handles and locks: all of it happens at the end.
    Other(Op),
}

impl Operation {
    /// True if it means nothing once its process is gone.
    pub(super) fn needs_its_process(&self) -> bool {
        match &self.work {
            Work::Read { .. } => true,
            Work::Other(op) => matches!(
                op,
                Op::Describe { .. }
                    | Op::Lock { .. }
                    | Op::CloseFile { .. }
                    | Op::ListDirectory { .. }
                    | Op::DescribeSpace { .. }
            ),
            Work::Write { .. }
            | Work::TornWrite { .. }
            | Work::Sync { .. }
            | Work::SyncDirectory { .. }
            | Work::Allocate { .. }
            | Work::SetLength { .. } => false,
        }
    }

    pub(super) fn changes_names(&self) -> bool {
        match &self.work {
            Work::SyncDirectory { .. } => true,
            Work::Other(op) => matches!(
                op,
                Op::Open {
                    options: OpenOptions { create: Create::New | Create::Truncate, .. },
                    ..
                } | Op::Rename { .. }
                    | Op::Remove { .. }
                    | Op::CreateDirectory { .. }
                    | Op::RemoveDirectory { .. }
            ),
            Work::Read { .. }
            | Work::Write { .. }
            | Work::TornWrite { .. }
            | Work::Sync { .. }
            | Work::Allocate { .. }
            | Work::SetLength { .. } => false,
        }
    }

    pub(super) fn inode(&self) -> Option<InodeId> {
        match &self.work {
            Work::Read { inode, .. }
            | Work::Write { inode }
            | Work::TornWrite { inode }
            | Work::Sync { inode, .. }
            | Work::SyncDirectory { inode, .. }
            | Work::Allocate { inode, .. }
            | Work::SetLength { inode, .. } => Some(*inode),
            Work::Other(_) => None,
        }
    }
}

impl Disk {
    /// The time of an operation has come.
    pub(crate) fn end(&mut self, number: u64, now: u64, wall_clock_ms: i64) -> End {
        let Some(operation) = self.operations.get(&number) else { return End::Gone };
        if now < operation.not_before {
            return End::Again(operation.not_before);
        }
        let waits = self.waits_for(operation);
        if waits.is_some_and(|inode| self.tree.file(inode).has_writes_in_flight()) {
            return End::Again(now + WAIT_NS);
        }
        let Operation { reply, work, .. } = self.operations.remove(&number).expect("just seen");
        let result = match work {
            Work::Read { inode, position, length, buffer } => {
                self.read(inode, position, length, buffer)
            }
            Work::Write { inode } => {
                self.tally.late_landings += u64::from(reply.is_none());
                self.land(inode, number, wall_clock_ms)
            }
            Work::TornWrite { inode } => {
                self.tally.late_landings += 1;
                self.land_torn(inode, number)
            }
            Work::Sync { inode, upto } => self.sync(inode, upto),
            Work::SyncDirectory { inode, upto } => {
                self.tree.directory_mut(inode).sync(upto);
                Ok(Output::Done)
            }
            Work::Allocate { inode, range } => self.allocate(inode, range),
            Work::SetLength { inode, length } => {
                let sequence = self.next_sequence();
                self.tree.file_mut(inode).set_length(length, sequence);
                Ok(Output::Done)
            }
            Work::Other(op) => self.other(op),
        };
        if let (None, Ok(Output::Opened(file, _))) = (&reply, &result) {
            self.handles.remove(&file.0);
        }
        End::Ended(reply, result)
    }

    /// The file whose writes in flight have to end before this operation may.
    fn waits_for(&self, operation: &Operation) -> Option<InodeId> {
        match &operation.work {
            Work::Allocate { inode, .. } | Work::SetLength { inode, .. } => Some(*inode),
            Work::Other(Op::Open { path, options }) if options.create == Create::Truncate => {
                let inode = self.tree.walk(path).ok()?;
                self.tree.require_file(inode).is_ok().then_some(inode)
            }
            Work::Read { .. }
            | Work::Write { .. }
            | Work::TornWrite { .. }
            | Work::Sync { .. }
            | Work::SyncDirectory { .. }
            | Work::Other(_) => None,
        }
    }

    fn read(
        &mut self,
        inode: InodeId,
        position: u64,
        length: usize,
        mut buffer: Buffer,
    ) -> Result<Output, Errno> {
        if self.rng.chance(self.faults.read_error_permille) {
            self.tally.read_errors += 1;
            return Err(Errno::IO);
        }
        let file = self.tree.file(inode);
        let count = file.length().saturating_sub(position).min(wide(length));
        file.read(position, &mut buffer.memory_mut()[..narrow(count)], &mut self.rng);
        buffer.set_length(narrow(count));
        Ok(Output::Buffer(buffer))
    }

    fn land(&mut self, inode: InodeId, number: u64, wall_clock_ms: i64) -> Result<Output, Errno> {
        if self.rng.chance(self.faults.write_error_permille) {
            self.tally.write_errors += 1;
            self.land_torn(inode, number)?;
            return Err(Errno::IO);
        }
        let sequence = self.next_sequence();
        let write = self.tree.file_mut(inode).end_write(number);
        let mut length = write.data.len();
        let unit = match write.road {
            Road::Direct => self.alignment(),
            Road::Cached => 1,
        };
        if length > unit && self.rng.chance(self.faults.short_write_permille) {
            self.tally.short_writes += 1;
            length = unit + self.rng.index(length / unit) / unit * unit;
        }
        let range = write.position..write.position + wide(length);
        self.require_room(self.tree.file(inode).missing_bytes(range))?;
        self.tally.writes += 1;
        if length == write.data.len() {
            self.acknowledge(inode, &write);
        }
        let file = self.tree.file_mut(inode);
        file.land(&write, length, sequence);
        file.modified_ms = wall_clock_ms;
        Ok(Output::Count(length))
    }

    fn land_torn(&mut self, inode: InodeId, number: u64) -> Result<Output, Errno> {
        let sequence = self.next_sequence();
        let file = self.tree.file_mut(inode);
        let write = file.end_write(number);
        file.land_torn(&write, sequence, &mut self.rng);
        Ok(Output::Done)
    }

    fn sync(&mut self, inode: InodeId, upto: u64) -> Result<Output, Errno> {
        if self.rng.chance(self.faults.sync_error_permille) {
            self.tally.sync_errors += 1;
            self.tree.file_mut(inode).fail_sync(upto, &mut self.rng);
            return Err(Errno::IO);
        }
        self.tree.file_mut(inode).sync(upto);
        for file in self.tree.files_mut() {
            if file.is_dirty() {
                file.flush(upto);
            }
        }
        self.tally.syncs += 1;
        Ok(Output::Done)
    }

    fn allocate(&mut self, inode: InodeId, range: Range<u64>) -> Result<Output, Errno> {
        self.require_room(self.tree.file(inode).missing_bytes(range.clone()))?;
        let sequence = self.next_sequence();
        self.tree.file_mut(inode).allocate(range, sequence);
        Ok(Output::Done)
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "`work` and the world took the rest")]
    fn other(&mut self, op: Op) -> Result<Output, Errno> {
        match op {
            Op::Open { path, options } => self.open(&path, options),
            Op::Describe { file } => {
                let handle = self.handle(file)?;
                Ok(Output::Opened(file, self.info(handle)))
            }
            Op::Lock { file } => self.lock(file),
            Op::CloseFile { file } => {
                self.handle(file)?;
                self.handles.remove(&file.0);
                Ok(Output::Done)
            }
            Op::Rename { from, to } => {
                let sequence = self.next_sequence();
                self.tree.rename(&from, &to, sequence)?;
                self.sweep_at_times();
                Ok(Output::Done)
            }
            Op::Remove { path } => {
                let sequence = self.next_sequence();
                self.tree.remove_file(&path, sequence)?;
                self.sweep_at_times();
                Ok(Output::Done)
            }
            Op::RemoveDirectory { path } => {
                let sequence = self.next_sequence();
                self.tree.remove_directory(&path, sequence).map(|()| Output::Done)
            }
            Op::CreateDirectory { path } => {
                self.require_room(BLOCK_BYTES)?;
                let sequence = self.next_sequence();
                self.tree.create_directory(&path, sequence).map(|()| Output::Done)
            }
            Op::DescribeSpace { .. } => Ok(Output::Space(self.space())),
            Op::ListDirectory { path } => self.tree.list(&path).map(Output::Listing),
            other => panic!("{other:?} is not for the disk"),
        }
    }

    fn open(&mut self, path: &std::path::Path, options: OpenOptions) -> Result<Output, Errno> {
        let found = match self.tree.walk(path) {
            Err(Errno::NOT_FOUND) => None,
            other => Some(other?),
        };
        let inode = match (found, options.create) {
            (Some(_), Create::New) => return Err(Errno::EXISTS),
            (None, Create::Never) => return Err(Errno::NOT_FOUND),
            (Some(inode), _) => inode,
            (None, Create::IfMissing | Create::New | Create::Truncate) => {
                self.require_room(BLOCK_BYTES)?;
                let sequence = self.next_sequence();
                self.tree.create_file(path, sequence)?
            }
        };
        self.tree.require_file(inode)?;
        if options.create == Create::Truncate && self.tree.file(inode).length() > 0 {
            let sequence = self.next_sequence();
            self.tree.file_mut(inode).set_length(0, sequence);
        }
        let handle = Handle {
            inode,
            direct: options.cache == Cache::Direct,
            writable: options.access == Access::ReadWrite,
        };
        let number = self.next_handle;
        self.next_handle += 1;
        self.handles.insert(number, handle);
        Ok(Output::Opened(FileId(number), self.info(handle)))
    }

    /// A lock goes with its handle; a killed process's, with its last write in flight.
    fn lock(&mut self, file: FileId) -> Result<Output, Errno> {
        let inode = self.handle(file)?.inode;
        if let Some(holder) = self.locks.get(&inode)
            && *holder != file.0
        {
            let late = self.tree.file(inode).has_writes_in_flight();
            if self.handles.contains_key(holder) || late {
                return Err(Errno::WOULD_BLOCK);
            }
        }
        self.locks.insert(inode, file.0);
        Ok(Output::Done)
    }

    fn sweep_at_times(&mut self) {
        self.name_changes += 1;
        if self.name_changes.is_multiple_of(SWEEP_INTERVAL) {
            let handles = self.handles.values().map(|handle| handle.inode);
            let operations = self.operations.values().filter_map(Operation::inode);
            self.tree.sweep(handles.chain(operations).collect::<Vec<InodeId>>());
        }
    }
}
