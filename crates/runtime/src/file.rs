//! Files and directories.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::{
    Buffer, Errno, Op, Runtime,
    driver::{FileId, Output, SyncKind},
    handle::done,
};

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// What becomes of a name that is or is not there.
    pub create: Create,
    /// Whether writes are wanted.
    pub access: Access,
    /// Whether to go around the page cache where the file system can ([`FileInfo::direct`] tells
    /// whether it does).
    pub cache: Cache,
}

/// What becomes of a name that is or is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Create {
    /// It has to be there.
    Never,
    /// It is created where it is not there.
    IfMissing,
    /// It must not be there.
    New,
    /// It is created, or cut to nothing.
    Truncate,
}

/// Whether writes are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads alone.
    Read,
    /// Both.
    ReadWrite,
}

/// Whether to go around the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// Through the page cache.
    Buffered,
    /// `O_DIRECT` where the file system takes it.
    Direct,
}

impl OpenOptions {
    /// For reading through the page cache.
    pub const READ: OpenOptions =
        OpenOptions { create: Create::Never, access: Access::Read, cache: Cache::Buffered };
    /// A small file to be written from its start.
    pub const REPLACE: OpenOptions =
        OpenOptions { create: Create::Truncate, access: Access::ReadWrite, cache: Cache::Buffered };
}

/// What is known of an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Its size in bytes.
    pub length: u64,
    /// True if it bypasses the page cache; then everything is a multiple of `alignment`.
    pub direct: bool,
    /// What positions, lengths and addresses have to be multiples of: 1 where not `direct`.
    pub alignment: u32,
    /// Which device it lies on: a flush of one file flushes the device.
    pub device: u64,
    /// When it was last written, in milliseconds since 1970 UTC.
    pub modified_ms: i64,
}

/// What a name in a directory stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// Anything else.
    Other,
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// The name, without the directory. Names that are not UTF-8 are not listed: nothing of ours
    /// is called so.
    pub name: String,
    /// What it stands for.
    pub kind: FileKind,
}

/// The room of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All that it can hold.
    pub total_bytes: u64,
    /// What is left for programs without privileges.
    pub free_bytes: u64,
}

/// An open file; closed in the background when dropped.
pub struct File {
    runtime: Runtime,
    id: FileId,
    info: FileInfo,
    path: PathBuf,
    open: bool,
}

impl File {
    /// Opens a file.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn open(
        runtime: &Runtime,
        path: impl Into<PathBuf>,
        options: OpenOptions,
    ) -> Result<File, Errno> {
        let path = path.into();
        let output = runtime.operate(Op::Open { path: path.clone(), options }).await?;
        let Output::Opened(id, info) = output else { panic!("the driver gave {output:?}") };
        Ok(File { runtime: runtime.clone(), id, info, path, open: true })
    }

    /// What was known of it when it was opened.
    #[must_use]
    pub fn info(&self) -> FileInfo {
        self.info
    }

    /// Where it was opened; a later rename does not show here.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads up to `length` bytes at `position` into the front of `buffer`, whose length is then
    /// what was read: short only at the end of the file.
    ///
    /// # Errors
    /// The operating system's; the buffer is lost with it.
    ///
    /// # Panics
    /// When `length` exceeds the buffer's capacity.
    pub async fn read(
        &self,
        position: u64,
        length: usize,
        buffer: Buffer,
    ) -> Result<Buffer, Errno> {
        assert!(length <= buffer.capacity(), "a read beyond the buffer");
        let op = Op::Read { file: self.id, position, length, buffer };
        let output = self.runtime.operate(op).await?;
        let Output::Buffer(buffer) = output else { panic!("the driver gave {output:?}") };
        Ok(buffer)
    }

    /// Writes the slices, one behind the other, at `position`, and gives the bytes written: fewer
    /// than their sum is a short write. Durable only after [`File::sync`].
    ///
    /// # Errors
    /// The operating system's: how much of it was written is then not known.
    pub async fn write(&self, position: u64, slices: Vec<Bytes>) -> Result<usize, Errno> {
        let op = Op::Write { file: self.id, position, slices };
        let output = self.runtime.operate(op).await?;
        let Output::Count(count) = output else { panic!("the driver gave {output:?}") };
        Ok(count)
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// The operating system's; `ENOSPC` for a short write.
    pub async fn write_all(&self, position: u64, bytes: Bytes) -> Result<(), Errno> {
        let length = bytes.len();
        let written = self.write(position, vec![bytes]).await?;
        if written < length {
            return Err(Errno::NO_SPACE);
        }
        Ok(())
    }

    /// Makes completed writes durable (`fdatasync`). After an error nothing written since the last
    /// success is known to be on disk, also if a second call succeeds.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn sync(&self) -> Result<(), Errno> {
        done(self.runtime.operate(Op::Sync { file: self.id, kind: SyncKind::Data }).await)
    }

    /// Reserves blocks; see [`Op::Allocate`].
    ///
    /// # Errors
    /// The operating system's: `ENOSPC` where there is no room.
    pub async fn allocate(&self, position: u64, length: u64) -> Result<(), Errno> {
        done(self.runtime.operate(Op::Allocate { file: self.id, position, length }).await)
    }

    /// Cuts or grows the file; see [`Op::SetLength`].
    ///
    /// # Errors
    /// The operating system's.
    pub async fn set_length(&self, length: u64) -> Result<(), Errno> {
        done(self.runtime.operate(Op::SetLength { file: self.id, length }).await)
    }

    /// Size, alignment and device as they are now.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn describe(&self) -> Result<FileInfo, Errno> {
        let output = self.runtime.operate(Op::Describe { file: self.id }).await?;
        let Output::Opened(_, info) = output else { panic!("the driver gave {output:?}") };
        Ok(info)
    }

    /// Locks the whole file against other processes for as long as it is open.
    ///
    /// # Errors
    /// [`Errno::WOULD_BLOCK`] when somebody else holds it.
    pub async fn lock(&self) -> Result<(), Errno> {
        done(self.runtime.operate(Op::Lock { file: self.id }).await)
    }

    /// Closes the file and waits for it.
    pub async fn close(mut self) {
        self.open = false;
        // The file is gone from this process whatever the answer.
        drop(self.runtime.operate(Op::CloseFile { file: self.id }).await);
    }
}

impl Drop for File {
    fn drop(&mut self) {
        if self.open {
            self.runtime.operate_detached(Op::CloseFile { file: self.id });
        }
    }
}

impl Runtime {
    /// Renames, replacing `to`; durable only after [`Runtime::sync_directory`].
    ///
    /// # Errors
    /// The operating system's.
    pub async fn rename(&self, from: &Path, to: &Path) -> Result<(), Errno> {
        done(self.operate(Op::Rename { from: from.to_owned(), to: to.to_owned() }).await)
    }

    /// Removes a file.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn remove_file(&self, path: &Path) -> Result<(), Errno> {
        done(self.operate(Op::Remove { path: path.to_owned() }).await)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn remove_directory(&self, path: &Path) -> Result<(), Errno> {
        done(self.operate(Op::RemoveDirectory { path: path.to_owned() }).await)
    }

    /// Creates a directory in one that is there.
    ///
    /// # Errors
    /// The operating system's; [`Errno::EXISTS`] when the name is taken.
    pub async fn create_directory(&self, path: &Path) -> Result<(), Errno> {
        done(self.operate(Op::CreateDirectory { path: path.to_owned() }).await)
    }

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn sync_directory(&self, path: &Path) -> Result<(), Errno> {
        done(self.operate(Op::SyncDirectory { path: path.to_owned() }).await)
    }

    /// A directory's entries, sorted by name.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn list_directory(&self, path: &Path) -> Result<Vec<DirectoryEntry>, Errno> {
        let output = self.operate(Op::ListDirectory { path: path.to_owned() }).await?;
        let Output::Listing(entries) = output else { panic!("the driver gave {output:?}") };
        Ok(entries)
    }

    /// The room of the file system that `path` lies on.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn space(&self, path: &Path) -> Result<Space, Errno> {
        let output = self.operate(Op::DescribeSpace { path: path.to_owned() }).await?;
        let Output::Space(space) = output else { panic!("the driver gave {output:?}") };
        Ok(space)
    }

    /// A small file's whole content.
    ///
    /// # Errors
    /// The operating system's; [`Errno::INVALID`] for a file of more than `length_max` bytes.
    pub async fn read_file(&self, path: &Path, length_max: usize) -> Result<Vec<u8>, Errno> {
        let file = File::open(self, path, OpenOptions::READ).await?;
        let length = usize::try_from(file.info().length).map_err(|_| Errno::INVALID)?;
        if length > length_max {
            return Err(Errno::INVALID);
        }
        let mut content = Vec::with_capacity(length);
        while content.len() < length {
            let rest = (length - content.len()).min(READ_FILE_STEP_BYTES);
            let position = u64::try_from(content.len()).expect("usize is at most 64 bits");
            let buffer = file.read(position, rest, self.pool().take(rest)).await?;
            if buffer.is_empty() {
                break;
            }
            content.extend_from_slice(&buffer);
        }
        file.close().await;
        Ok(content)
    }

    /// Replaces a small file's content so that after a power cut either the old or the new one is
    /// there in full: a file beside it (`.tmp`), fsync, rename, fsync of the directory.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn replace_file(&self, path: &Path, content: Vec<u8>) -> Result<(), Errno> {
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".tmp");
        let temporary = PathBuf::from(temporary);
        let file = File::open(self, temporary.clone(), OpenOptions::REPLACE).await?;
        file.write_all(0, Bytes::from(content)).await?;
        file.sync().await?;
        file.close().await;
        self.rename(&temporary, path).await?;
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        self.sync_directory(parent.unwrap_or_else(|| Path::new("."))).await
    }
}

/// How much of a small file is read at once: the largest pooled buffer.
const READ_FILE_STEP_BYTES: usize = 1 << 20;
