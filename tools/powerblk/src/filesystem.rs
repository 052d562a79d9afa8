//! A FUSE file system of two files: `disk.img`, on which a loop device sits, and `ctl`.
//!
//! The mount goes straight to the kernel when root asks, through fusermount3 otherwise; no
//! libfuse. One thread answers one request after the other, so a FLUSH covers exactly the writes
//! that were answered before it. Files are opened for direct I/O: no page cache above the disk
//! hides a write or a flush from it.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BackgroundSession, BsdFileFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem,
    FopenFlags, Generation, INodeNo, KernelConfig, LockOwner, MountOption, OpenFlags, ReplyAttr,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, TimeOrNow,
    WriteFlags,
};

use crate::control;
use crate::disk::{Disk, Refusal};

/// The name of the file that holds the disk.
pub const DISK_NAME: &str = "disk.img";
/// The name of the control file.
pub const CONTROL_NAME: &str = "ctl";

const DISK: INodeNo = INodeNo(2);
const CONTROL: INodeNo = INodeNo(3);

/// Nothing about the two files ever changes.
const CACHED_FOR: Duration = Duration::from_hours(1);

/// A mounted disk. Dropping it unmounts it; whatever lies on it must be detached before.
pub struct Mounted {
    session: Option<BackgroundSession>,
    disk: Arc<Mutex<Disk>>,
}

impl Mounted {
    /// Mounts `disk` at the folder `mountpoint`, served by a thread of this process.
    ///
    /// # Errors
    /// When the kernel refuses, or /dev/fuse is missing.
    pub fn new(disk: Disk, mountpoint: &Path) -> io::Result<Self> {
        let disk = Arc::new(Mutex::new(disk));
        let files = Files { disk: Arc::clone(&disk) };
        let session = fuser::spawn_mount(files, mountpoint, &configuration())?;
        Ok(Self { session: Some(session), disk })
    }

    /// The disk itself, to inject failures and to take images without the control file.
    pub fn disk(&self) -> MutexGuard<'_, Disk> {
        lock(&self.disk)
    }

    /// Serves until somebody unmounts it.
    ///
    /// # Errors
    /// What ended the session, if it was not the unmount.
    pub fn serve(mut self) -> io::Result<()> {
        self.session.take().map_or(Ok(()), BackgroundSession::join)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            // There is nobody left to tell, and the next mount would say so itself.
            drop(session.umount_and_join());
        }
    }
}

fn configuration() -> Config {
    let mut configuration = Config::default();
    configuration.mount_options =
        vec![MountOption::FSName("powerblk".into()), MountOption::Subtype("powerblk".into())];
    configuration
}

/// A panic while the disk was locked leaves it as usable as a crash leaves a disk.
fn lock(disk: &Mutex<Disk>) -> MutexGuard<'_, Disk> {
    disk.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Files {
    disk: Arc<Mutex<Disk>>,
}

impl Files {
    fn attributes(&self, inode: INodeNo) -> Option<FileAttr> {
        let (kind, size) = match inode {
            INodeNo::ROOT => (FileType::Directory, 0),
            DISK => (FileType::RegularFile, lock(&self.disk).size_bytes() as u64),
            CONTROL => (FileType::RegularFile, 0),
            INodeNo(_) => return None,
        };
        Some(FileAttr {
            ino: inode,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm: if kind == FileType::Directory { 0o755 } else { 0o600 },
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn command(&self, bytes: &[u8]) -> Result<(), Errno> {
        let text = std::str::from_utf8(bytes).map_err(|_| Errno::EINVAL)?;
        let command = control::parse(text).ok_or(Errno::EINVAL)?;
        command.apply(&mut lock(&self.disk)).map_err(|_| Errno::EIO)
    }
}

fn errno(refusal: Refusal) -> Errno {
    match refusal {
        Refusal::Injected => Errno::EIO,
        Refusal::BeyondEnd => Errno::ENOSPC,
    }
}

/// This runs where `usize` is 64 bits wide.
fn to_usize(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}

impl Filesystem for Files {
    fn init(&mut self, _: &Request, configuration: &mut KernelConfig) -> io::Result<()> {
        // A write that the kernel may not split is a write that the log records as one.
        configuration
            .set_max_write(1 << 20)
            .map(drop)
            .map_err(|_| io::ErrorKind::Unsupported.into())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let inode = match name.to_str() {
            Some(DISK_NAME) => DISK,
            Some(CONTROL_NAME) => CONTROL,
            Some(_) | None => return reply.error(Errno::ENOENT),
        };
        match self.attributes(inode).filter(|_| parent == INodeNo::ROOT) {
            Some(attributes) => reply.entry(&CACHED_FOR, &attributes, Generation(0)),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, inode: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&CACHED_FOR, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    /// A shell truncates the control file before it writes to it; that changes nothing here.
    fn setattr(
        &self,
        _: &Request,
        inode: INodeNo,
        _mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        match self.attributes(inode) {
            Some(attributes) => reply.attr(&CACHED_FOR, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut disk = lock(&self.disk);
        if inode == CONTROL {
            let status = control::status(&disk);
            return reply.data(status.as_bytes().get(to_usize(offset)..).unwrap_or_default());
        }
        match disk.read(to_usize(offset), to_usize(u64::from(size))) {
            Ok(bytes) => reply.data(bytes),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn write(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let outcome = if inode == CONTROL {
            self.command(data)
        } else {
            lock(&self.disk).write(to_usize(offset), data).map_err(errno)
        };
        match outcome {
            Ok(()) => reply.written(u32::try_from(data.len()).expect("bounded by max_write")),
            Err(error) => reply.error(error),
        }
    }

    fn fsync(&self, _: &Request, inode: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let outcome = if inode == DISK { lock(&self.disk).flush() } else { Ok(()) };
        match outcome {
            Ok(()) => reply.ok(),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    /// FUSE calls this on close: no FLUSH, a drive knows nothing of files.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn readdir(
        &self,
        _: &Request,
        inode: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        if inode != INodeNo::ROOT {
            return reply.error(Errno::ENOENT);
        }
        let entries = [
            (INodeNo::ROOT, FileType::Directory, "."),
            (INodeNo::ROOT, FileType::Directory, ".."),
            (DISK, FileType::RegularFile, DISK_NAME),
            (CONTROL, FileType::RegularFile, CONTROL_NAME),
        ];
        for (next, (inode, kind, name)) in (1..).zip(entries).skip(to_usize(offset)) {
            if reply.add(inode, next, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}
