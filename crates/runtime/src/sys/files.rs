//! Files and directories, one system call or a few behind each safe function. They block: the
//! drivers call them where that is allowed.

#![expect(unsafe_code, reason = "system calls")]

use std::{
    ffi::CString,
    io::IoSlice,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::DirBuilderExt},
    },
    path::Path,
};

use bytes::Bytes;

use super::{check_count, check_retrying};
use crate::{
    Access, Cache, Create, DirectoryEntry, Errno, FileInfo, FileKind, OpenOptions, Space,
    buffer::BLOCK_ALIGNMENT, driver::SyncKind,
};

/// Slices that one system call takes (the kernel's `IOV_MAX` is 1,024).
const SLICES_MAX: usize = 64;
/// Permissions of files and directories, less the process's mask.
pub(crate) const FILE_MODE: libc::mode_t = 0o644;
pub(crate) const DIRECTORY_MODE: libc::mode_t = 0o755;
/// What `statfs` calls the file systems whose direct I/O is known.
const EXT4_MAGIC: u64 = 0xef53;
const XFS_MAGIC: u64 = 0x5846_5342;

/// Opens a file. Where direct I/O is wanted but the file system does not offer it, the file is
/// open through the page cache, and [`FileInfo::direct`] says so.
pub(crate) fn open(path: &Path, options: OpenOptions) -> Result<(OwnedFd, FileInfo), Errno> {
    let file = open_with_flags(path, open_flags(options))?;
    let info = opened(file.as_fd(), options)?;
    Ok((file, info))
}

/// What an open of these options asks of the kernel first; [`opened`] does the rest.
pub(crate) fn open_flags(options: OpenOptions) -> libc::c_int {
    let access = match options.access {
        Access::Read => libc::O_RDONLY,
        Access::ReadWrite => libc::O_RDWR,
    };
    let create = match options.create {
        Create::Never => 0,
        Create::IfMissing => libc::O_CREAT,
        Create::New => libc::O_CREAT | libc::O_EXCL,
        Create::Truncate => libc::O_CREAT | libc::O_TRUNC,
    };
    access | create | libc::O_CLOEXEC
}

/// The second half of an open: direct I/O where it is wanted, and what the file is like.
pub(crate) fn opened(file: BorrowedFd<'_>, options: OpenOptions) -> Result<FileInfo, Errno> {
    if options.cache == Cache::Direct {
        try_direct(file)?;
    }
    describe(file)
}

fn open_with_flags(path: &Path, flags: libc::c_int) -> Result<OwnedFd, Errno> {
    let path = c_path(path)?;
    let descriptor = check_retrying(|| {
        // SAFETY: a string with its end, which lives through the call.
        unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, FILE_MODE) }
    })?;
    // SAFETY: just made, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

pub(crate) fn c_path(path: &Path) -> Result<CString, Errno> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::INVALID)
}

/// Switches to `O_DIRECT` where the file system takes it. It is set on the open file and not asked
/// of `open`, which would leave a freshly created file behind when it refuses.
fn try_direct(file: BorrowedFd<'_>) -> Result<(), Errno> {
    if direct_alignment(file, &statx(file)?)?.is_none() {
        return Ok(());
    }
    let flags = status_flags(file)?;
    // SAFETY: takes no pointer.
    let set = check_retrying(|| unsafe {
        libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags | libc::O_DIRECT)
    });
    match set {
        Ok(_) | Err(Errno::INVALID) => Ok(()),
        Err(error) => Err(error),
    }
}

fn status_flags(file: BorrowedFd<'_>) -> Result<libc::c_int, Errno> {
    // SAFETY: takes no pointer.
    check_retrying(|| unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) })
}

/// Size, alignment and device as they are now.
pub(crate) fn describe(file: BorrowedFd<'_>) -> Result<FileInfo, Errno> {
    let found = statx(file)?;
    let direct = status_flags(file)? & libc::O_DIRECT != 0;
    let alignment = if direct { direct_alignment(file, &found)? } else { None };
    let modified = &found.stx_mtime;
    Ok(FileInfo {
        length: found.stx_size,
        direct,
        // Set without our asking, or by an older kernel that says nothing: the safe guess.
        alignment: match (direct, alignment) {
            (true, None) => u32::try_from(BLOCK_ALIGNMENT).expect("a small constant"),
            (true, Some(alignment)) => alignment,
            (false, _) => 1,
        },
        device: libc::makedev(found.stx_dev_major, found.stx_dev_minor),
        modified_ms: modified.tv_sec * 1000 + i64::from(modified.tv_nsec / 1_000_000),
    })
}

fn statx(file: BorrowedFd<'_>) -> Result<libc::statx, Errno> {
    let wanted = libc::STATX_BASIC_STATS | libc::STATX_DIOALIGN;
    // SAFETY: plain numbers are valid when zeroed.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    check_retrying(|| {
        // SAFETY: an empty string with its end, and a structure that lives through the call.
        unsafe {
            libc::statx(file.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, wanted, &raw mut found)
        }
    })?;
    Ok(found)
}

/// What direct I/O on `file` asks for; `None` where there is none, or none that our buffers suit,
/// or where overwriting may move blocks: storage's group commit counts on it that a direct write
/// into space that was written before changes no metadata.
fn direct_alignment(file: BorrowedFd<'_>, found: &libc::statx) -> Result<Option<u32>, Errno> {
    let largest = u32::try_from(BLOCK_ALIGNMENT).expect("a small constant");
    if !overwrites_in_place(file)? {
        return Ok(None);
    }
    if found.stx_mask & libc::STATX_DIOALIGN == 0 {
        // Before Linux 6.1 nobody tells.
        return Ok(Some(largest));
    }
    let alignment = found.stx_dio_mem_align.max(found.stx_dio_offset_align);
    let usable = found.stx_dio_offset_align > 0
        && found.stx_dio_mem_align > 0
        && largest.is_multiple_of(alignment);
    Ok(usable.then_some(alignment))
}

/// True on ext4 and XFS.
fn overwrites_in_place(file: BorrowedFd<'_>) -> Result<bool, Errno> {
    // SAFETY: plain numbers are valid when zeroed.
    let mut found: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: a structure that lives through the call.
    check_retrying(|| unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut found) })?;
    // Signed or not, depending on the C library.
    let found = u64::try_from(found.f_type).unwrap_or(0);
    Ok(found == EXT4_MAGIC || found == XFS_MAGIC)
}

/// The room of the file system that `path` lies on, as its counters tell.
pub(crate) fn space(path: &Path) -> Result<Space, Errno> {
    let path = c_path(path)?;
    // SAFETY: plain numbers are valid when zeroed.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: a string with its end and a structure, which live through the call.
    check_retrying(|| unsafe { libc::statvfs(path.as_ptr(), &raw mut found) })?;
    let block = found.f_frsize;
    Ok(Space {
        total_bytes: found.f_blocks.saturating_mul(block),
        free_bytes: found.f_bavail.saturating_mul(block),
    })
}

/// Reads at `position` until `target` is full or the file ends.
pub(crate) fn read_at(
    file: BorrowedFd<'_>,
    position: u64,
    target: &mut [u8],
) -> Result<usize, Errno> {
    let mut filled = 0;
    while filled < target.len() {
        let rest = &mut target[filled..];
        let offset = file_offset(position, filled)?;
        let result = check_count(|| {
            // SAFETY: the slice lives through the call.
            unsafe { libc::pread(file.as_raw_fd(), rest.as_mut_ptr().cast(), rest.len(), offset) }
        });
        match result {
            Ok(0) => break,
            Ok(count) => filled += count,
            // What direct I/O read up to an end that is not aligned is followed by no more.
            Err(Errno::INVALID) if filled > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Writes all slices at `position`, one behind the other, until all is written or something is
/// in the way: an error after the first bytes shows as a short count.
pub(crate) fn write_at(
    file: BorrowedFd<'_>,
    position: u64,
    slices: &[Bytes],
) -> Result<usize, Errno> {
    let mut written = 0;
    for group in slices.chunks(SLICES_MAX) {
        let mut vectors: smallvec::SmallVec<[IoSlice<'_>; SLICES_MAX]> =
            group.iter().map(|slice| IoSlice::new(slice)).collect();
        let mut rest = vectors.as_mut_slice();
        while rest.iter().any(|slice| !slice.is_empty()) {
            let offset = file_offset(position, written)?;
            let count = libc::c_int::try_from(rest.len()).expect("SLICES_MAX at most");
            let result = check_count(|| {
                // SAFETY: `IoSlice` has the layout of `iovec`, and its bytes are borrowed.
                unsafe { libc::pwritev(file.as_raw_fd(), rest.as_ptr().cast(), count, offset) }
            });
            match result {
                Ok(count) if count > 0 => {
                    written += count;
                    IoSlice::advance_slices(&mut rest, count);
                }
                Ok(_) => return Ok(written),
                Err(_) if written > 0 => return Ok(written),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(written)
}

fn file_offset(position: u64, done: usize) -> Result<libc::off_t, Errno> {
    let done = u64::try_from(done).expect("usize is at most 64 bits");
    let offset = position.checked_add(done).ok_or(Errno::INVALID)?;
    libc::off_t::try_from(offset).map_err(|_| Errno::INVALID)
}

/// Makes what was written durable.
pub(crate) fn sync(file: BorrowedFd<'_>, kind: SyncKind) -> Result<(), Errno> {
    let descriptor = file.as_raw_fd();
    // No retry: an interrupted sync is a failed one.
    let result = match kind {
        // SAFETY: takes no pointer.
        SyncKind::Data => unsafe { libc::fdatasync(descriptor) },
        // SAFETY: takes no pointer.
        SyncKind::All => unsafe { libc::fsync(descriptor) },
    };
    super::check(result).map(drop).map_err(|error| Errno::of(&error))
}

/// Reserves blocks; the size grows to cover them.
pub(crate) fn allocate(file: BorrowedFd<'_>, position: u64, length: u64) -> Result<(), Errno> {
    let position = file_offset(position, 0)?;
    let length = file_offset(length, 0)?;
    // SAFETY: takes no pointer.
    check_retrying(|| unsafe { libc::fallocate(file.as_raw_fd(), 0, position, length) })?;
    Ok(())
}

/// Cuts the file, or grows it by a hole.
pub(crate) fn set_length(file: BorrowedFd<'_>, length: u64) -> Result<(), Errno> {
    let length = file_offset(length, 0)?;
    // SAFETY: takes no pointer.
    check_retrying(|| unsafe { libc::ftruncate(file.as_raw_fd(), length) })?;
    Ok(())
}

/// Takes an open-file-description lock on the whole file without waiting.
pub(crate) fn lock(file: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: plain numbers are valid when zeroed; a length of zero means up to the end.
    let mut whole: libc::flock = unsafe { std::mem::zeroed() };
    whole.l_type = libc::c_short::try_from(libc::F_WRLCK).expect("a small constant");
    whole.l_whence = libc::c_short::try_from(libc::SEEK_SET).expect("a small constant");
    let result = check_retrying(|| {
        // SAFETY: a structure that lives through the call.
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const whole) }
    });
    match result {
        Ok(_) => Ok(()),
        // POSIX leaves it open which of the two says that somebody else holds it.
        Err(Errno(libc::EACCES)) => Err(Errno::WOULD_BLOCK),
        Err(error) => Err(error),
    }
}

/// Renames, replacing `to`.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), Errno> {
    std::fs::rename(from, to).map_err(|error| Errno::of(&error))
}

/// Removes a file.
pub(crate) fn remove(path: &Path) -> Result<(), Errno> {
    std::fs::remove_file(path).map_err(|error| Errno::of(&error))
}

/// Removes an empty directory.
pub(crate) fn remove_directory(path: &Path) -> Result<(), Errno> {
    std::fs::remove_dir(path).map_err(|error| Errno::of(&error))
}

/// Creates a directory; its parent has to be there.
pub(crate) fn create_directory(path: &Path) -> Result<(), Errno> {
    std::fs::DirBuilder::new().mode(DIRECTORY_MODE).create(path).map_err(|error| Errno::of(&error))
}

/// How a directory is opened for its sync.
pub(crate) const DIRECTORY_FLAGS: libc::c_int =
    libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), Errno> {
    let directory = open_with_flags(path, DIRECTORY_FLAGS)?;
    sync(directory.as_fd(), SyncKind::All)
}

/// A directory's entries, sorted by name. Names that are not UTF-8 are left out.
pub(crate) fn list_directory(path: &Path) -> Result<Vec<DirectoryEntry>, Errno> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|error| Errno::of(&error))? {
        let entry = entry.map_err(|error| Errno::of(&error))?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let kind = match entry.file_type() {
            Ok(kind) if kind.is_file() => FileKind::File,
            Ok(kind) if kind.is_dir() => FileKind::Directory,
            Ok(_) => FileKind::Other,
            // Removed since it was read.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(Errno::of(&error)),
        };
        entries.push(DirectoryEntry { name, kind });
    }
    entries.sort_unstable_by(|left, right| left.name.cmp(&right.name));
    Ok(entries)
}
