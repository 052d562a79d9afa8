//! The one seam to the outside world.
//!
//! A driver submits operations, returns their completions, tells the time, gives randomness and
//! carries messages between shards. Nothing above this trait knows which driver it runs on: the
//! executor, the buffers and every room above are the same code on `io_uring`, on `epoll` and in
//! the simulator.
//!
//! Ownership: an [`Op`] owns every buffer that the operation touches, and the driver keeps it until
//! the final completion, also after [`Driver::cancel`] and after the future that waited is gone.
//!
//! Ordering: operations in flight may complete in any order, and two writes in flight to the same
//! block of a file leave either content. A caller that needs an order waits for the completion.

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use bytes::Bytes;

use crate::{Buffer, DirectoryEntry, FileInfo, Instant, OpenOptions, Space};

/// Names an operation in flight; given by the executor, unique among those in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// One shard of the mesh, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardIndex(pub u16);

/// An open file of one driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u32);

/// An open socket; may be handed to another shard of the same mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u32);

/// What one shard sends another. The receiver downcasts it.
pub type Message = Box<dyn std::any::Any + Send>;

/// Which driver runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverKind {
    /// `io_uring`.
    Uring,
    /// `epoll` with a thread pool for files.
    Sync,
    /// The simulator's.
    Sim,
}

impl fmt::Display for DriverKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            DriverKind::Uring => "uring",
            DriverKind::Sync => "sync",
            DriverKind::Sim => "sim",
        })
    }
}

/// An operating system's error number, positive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    /// No space left on the device.
    pub const NO_SPACE: Errno = Errno(libc::ENOSPC);
    /// No such file or directory.
    pub const NOT_FOUND: Errno = Errno(libc::ENOENT);
    /// The name is taken.
    pub const EXISTS: Errno = Errno(libc::EEXIST);
    /// Input or output error.
    pub const IO: Errno = Errno(libc::EIO);
    /// The operation was cancelled.
    pub const CANCELED: Errno = Errno(libc::ECANCELED);
    /// Somebody else holds the lock.
    pub const WOULD_BLOCK: Errno = Errno(libc::EAGAIN);
    /// The argument is refused.
    pub const INVALID: Errno = Errno(libc::EINVAL);
    /// Too many open files in this process.
    pub const TOO_MANY_FILES: Errno = Errno(libc::EMFILE);
    /// The peer closed the connection.
    pub const CONNECTION_RESET: Errno = Errno(libc::ECONNRESET);
    /// Nobody listens there.
    pub const CONNECTION_REFUSED: Errno = Errno(libc::ECONNREFUSED);
    /// The address is in use.
    pub const ADDRESS_IN_USE: Errno = Errno(libc::EADDRINUSE);

    /// True if nothing was written for want of room, on the disk or in a quota.
    #[must_use]
    pub fn is_no_space(self) -> bool {
        matches!(self, Errno::NO_SPACE | Errno(libc::EDQUOT))
    }

    /// True if the device or its file system has failed, and not this operation alone.
    #[must_use]
    pub fn is_device_failure(self) -> bool {
        matches!(self, Errno::IO | Errno(libc::EROFS))
    }

    /// True if neither the process nor the machine has a file handle left.
    #[must_use]
    pub fn is_no_handle(self) -> bool {
        matches!(self, Errno::TOO_MANY_FILES | Errno(libc::ENFILE))
    }

    /// The number in `error`. One that the standard library raised itself carries none: `EINVAL`
    /// where it refused the argument (a zero byte in a path), else `EIO`.
    #[must_use]
    pub fn of(error: &std::io::Error) -> Errno {
        let is_refusal = error.kind() == std::io::ErrorKind::InvalidInput;
        let without = if is_refusal { Errno::INVALID } else { Errno::IO };
        error.raw_os_error().map_or(without, Errno)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        std::io::Error::from_raw_os_error(self.0).fmt(formatter)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl std::error::Error for Errno {}

/// What a sync makes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncKind {
    /// `fdatasync`: the data and what is needed to read it back (its size, its extents).
    Data,
    /// `fsync`: also timestamps; what a directory takes.
    All,
}

/// Something for the outside world to do.
///
/// Positions and lengths are in bytes. Of a file opened with `direct`, positions, lengths and
/// buffer addresses are multiples of [`FileInfo::alignment`]; the driver asserts it.
#[derive(Debug)]
pub enum Op {
    /// Opens a file. Gives [`Output::Opened`].
    Open { path: PathBuf, options: OpenOptions },
    /// Reads up to `length` bytes at `position` into the front of `buffer`. Gives
    /// [`Output::Buffer`] with its length set to what was read: short only at the end of the file.
    Read { file: FileId, position: u64, length: usize, buffer: Buffer },
    /// Writes all slices, one behind the other, at `position`. Gives [`Output::Count`], the bytes
    /// written: a count below the sum is a short write, and the caller decides.
    Write { file: FileId, position: u64, slices: Vec<Bytes> },
    /// Makes what was written (and completed) durable. Gives [`Output::Done`].
    Sync { file: FileId, kind: SyncKind },
    /// Reserves blocks for `length` bytes from `position`; the file's size grows to cover them.
    /// Waits for direct writes in flight. Gives [`Output::Done`].
    Allocate { file: FileId, position: u64, length: u64 },
    /// Cuts the file, or grows it by a hole. Waits for direct writes in flight. Gives [`Output::Done`].
    SetLength { file: FileId, length: u64 },
    /// Tells size, alignment and device of an open file. Gives [`Output::Opened`] again.
    Describe { file: FileId },
    /// Takes an open-file-description lock on the whole file, without waiting; fails with
    /// [`Errno::WOULD_BLOCK`]. It goes with the file. Gives [`Output::Done`].
    Lock { file: FileId },
    /// Closes a file. Gives [`Output::Done`].
    CloseFile { file: FileId },
    /// Renames, replacing `to`. Durable only after `SyncDirectory`. Gives [`Output::Done`].
    Rename { from: PathBuf, to: PathBuf },
    /// Removes a file. Gives [`Output::Done`].
    Remove { path: PathBuf },
    /// Removes an empty directory. Gives [`Output::Done`].
    RemoveDirectory { path: PathBuf },
    /// Creates a directory; its parent has to be there. Gives [`Output::Done`].
    CreateDirectory { path: PathBuf },
    /// Makes the names in a directory durable. Gives [`Output::Done`].
    SyncDirectory { path: PathBuf },
    /// Lists a directory, sorted by name. Gives [`Output::Listing`].
    ListDirectory { path: PathBuf },
    /// Tells how much room the file system of a path has. Gives [`Output::Space`].
    DescribeSpace { path: PathBuf },

    /// Listens on a TCP address (port 0: a free one). Gives [`Output::Listening`].
    Listen { address: SocketAddr },
    /// Takes the next connection. Gives [`Output::Connected`].
    Accept { listener: SocketId },
    /// Connects to a TCP address. Gives [`Output::Connected`].
    Connect { address: SocketAddr },
    /// Receives what is there, at most `length` bytes, into a buffer that the driver provides only
    /// once bytes have come (an idle connection pins none). Gives [`Output::Buffer`], empty at the
    /// end of the stream.
    Receive { socket: SocketId, length: usize },
    /// Receives into `buffer` from byte `start` up to `end`: all of it, less only at the end of the
    /// stream. Gives [`Output::Buffer`] with its length set to the end of what is filled.
    ReceiveExact { socket: SocketId, buffer: Buffer, start: usize, end: usize },
    /// Sends the slices, one behind the other. Gives [`Output::Count`], which may be short.
    Send { socket: SocketId, slices: Vec<Bytes> },
    /// Ends both directions: pending receives give an empty buffer. Gives [`Output::Done`].
    Shutdown { socket: SocketId },
    /// Closes a socket. Gives [`Output::Done`].
    CloseSocket { socket: SocketId },
}

/// What a completed operation gave.
#[derive(Debug)]
pub enum Output {
    /// It is done.
    Done,
    /// So many bytes.
    Count(usize),
    /// A buffer with its length set.
    Buffer(Buffer),
    /// A file.
    Opened(FileId, FileInfo),
    /// A directory's entries, sorted by name.
    Listing(Vec<DirectoryEntry>),
    /// A file system's room.
    Space(Space),
    /// A listener with the address it really has.
    Listening(SocketId, SocketAddr),
    /// A connection with its local and its peer's address.
    Connected { socket: SocketId, local: SocketAddr, peer: SocketAddr },
}

/// How long a turn may block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    No,
    /// Until something completes or comes in.
    Forever,
    /// The same, or until this instant.
    Until(Instant),
}

impl Wait {
    /// The same, but no longer than until `deadline`.
    pub(crate) fn at_most(self, deadline: Instant) -> Wait {
        match self {
            Wait::No => Wait::No,
            Wait::Forever => Wait::Until(deadline),
            Wait::Until(earlier) => Wait::Until(earlier.min(deadline)),
        }
    }
}

/// What a turn brought.
#[derive(Debug)]
pub enum Event {
    /// An operation ended: its final completion.
    Completed { token: Token, result: Result<Output, Errno> },
    /// Another shard (or, from outside the mesh, `None`) sent a message.
    Message { from: Option<ShardIndex>, message: Message },
}

/// The outside world of one shard.
pub trait Driver {
    /// Which one this is.
    fn kind(&self) -> DriverKind;

    /// Takes an operation. It may start now or in the next [`Driver::turn`]; its completion comes
    /// as an event, never from this call.
    fn submit(&mut self, token: Token, op: Op);

    /// Asks for an early end of an operation. Its completion still comes, with its result or with
    /// [`Errno::CANCELED`]. Cancelling what has ended is no error.
    fn cancel(&mut self, token: Token);

    /// Sends a message to another shard: first in first out for each pair.
    ///
    /// # Errors
    /// Gives the message back when the bounded ring to that shard is full.
    fn send(&mut self, to: ShardIndex, message: Message) -> Result<(), Message>;

    /// Starts what was submitted, all in one go, and collects what has happened, waiting for the
    /// first event as `wait` allows.
    fn turn(&mut self, wait: Wait, events: &mut Vec<Event>);

    /// The monotonic clock.
    fn now(&self) -> Instant;

    /// The CPU time that the shard's thread has taken; none where the driver has no thread.
    fn cpu_time(&self) -> Duration {
        Duration::ZERO
    }

    /// Milliseconds since 1970 UTC.
    fn wall_clock_ms(&self) -> i64;

    /// 64 random bits, unguessable where the driver is a real one.
    fn random(&mut self) -> u64;

    /// What ends a wait of [`Driver::turn`] from another thread, also one that is about to begin;
    /// `None` where nothing runs beside the shards.
    fn unparker(&self) -> Option<crate::Unparker> {
        None
    }

    /// The pool that this shard's buffers come from.
    fn pool(&self) -> crate::BufferPool;
}
