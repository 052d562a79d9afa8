//! Operations on names, through the ring: where they have to wait for the disk, a worker of the
//! kernel's does, and not the shard.
//!
//! An open and the sync of a directory take two steps: what the kernel gives for the name comes
//! first.

use std::{
    ffi::CString,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use io_uring::{opcode, squeue::Entry, types};

use super::in_flight::{self, Ended};
use crate::{
    Errno, Op, OpenOptions,
    driver::{FileId, Output},
    sys::files::{self, c_path},
};

const HERE: types::Fd = types::Fd(libc::AT_FDCWD);

pub(super) enum NameWork {
    Open { path: CString, options: OpenOptions },
    SyncDirectory { path: CString, directory: Option<OwnedFd> },
    Rename { from: CString, to: CString },
    Remove { path: CString },
    RemoveDirectory { path: CString },
    CreateDirectory { path: CString },
}

impl NameWork {
    /// # Errors
    /// For a name that cannot be one.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the caller has matched")]
    pub(super) fn new(op: Op) -> Result<NameWork, Errno> {
        Ok(match op {
            Op::Open { path, options } => NameWork::Open { path: c_path(&path)?, options },
            Op::SyncDirectory { path } => {
                NameWork::SyncDirectory { path: c_path(&path)?, directory: None }
            }
            Op::Rename { from, to } => NameWork::Rename { from: c_path(&from)?, to: c_path(&to)? },
            Op::Remove { path } => NameWork::Remove { path: c_path(&path)? },
            Op::RemoveDirectory { path } => NameWork::RemoveDirectory { path: c_path(&path)? },
            Op::CreateDirectory { path } => NameWork::CreateDirectory { path: c_path(&path)? },
            other => unreachable!("{other:?} is on no name"),
        })
    }

    /// What to submit now. Pointers in it stay valid for as long as `self` lives.
    pub(super) fn entry(&self) -> Entry {
        match self {
            NameWork::Open { path, options } => opcode::OpenAt::new(HERE, path.as_ptr())
                .flags(files::open_flags(*options))
                .mode(files::FILE_MODE)
                .build(),
            NameWork::SyncDirectory { path, directory: None } => {
                opcode::OpenAt::new(HERE, path.as_ptr()).flags(files::DIRECTORY_FLAGS).build()
            }
            NameWork::SyncDirectory { directory: Some(directory), .. } => {
                opcode::Fsync::new(types::Fd(directory.as_raw_fd())).build()
            }
            NameWork::Rename { from, to } => {
                opcode::RenameAt::new(HERE, from.as_ptr(), HERE, to.as_ptr()).build()
            }
            NameWork::Remove { path } => opcode::UnlinkAt::new(HERE, path.as_ptr()).build(),
            NameWork::RemoveDirectory { path } => {
                opcode::UnlinkAt::new(HERE, path.as_ptr()).flags(libc::AT_REMOVEDIR).build()
            }
            NameWork::CreateDirectory { path } => {
                opcode::MkDirAt::new(HERE, path.as_ptr()).mode(files::DIRECTORY_MODE).build()
            }
        }
    }

    /// The step has succeeded, with this result.
    pub(super) fn completed(&mut self, result: i32) -> Ended {
        match self {
            NameWork::Open { options, .. } => {
                let file = in_flight::made(result);
                let info = files::opened(file.as_fd(), *options);
                Ended::With(info.map(|info| Output::Opened(FileId(in_flight::id(file)), info)))
            }
            NameWork::SyncDirectory { directory: directory @ None, .. } => {
                *directory = Some(in_flight::made(result));
                Ended::Again
            }
            NameWork::SyncDirectory { directory: Some(_), .. }
            | NameWork::Rename { .. }
            | NameWork::Remove { .. }
            | NameWork::RemoveDirectory { .. }
            | NameWork::CreateDirectory { .. } => Ended::With(Ok(Output::Done)),
        }
    }
}
