//! One operation that the kernel works on, with everything that it points to.
//!
//! An [`InFlight`] lives in a box of its own and does not move until its completion: the entry
//! that the kernel reads holds pointers into it.

#![expect(unsafe_code, reason = "operations hand pointers to the kernel")]

use std::{
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd},
    ptr,
};

use bytes::Bytes;
use io_uring::{IoUring, opcode, squeue::Entry, squeue::Flags, types};

use super::{
    names::NameWork,
    provided,
    registered::RegisteredBuffers,
    transfers::{FileRead, FileWrite},
};
use crate::{
    Buffer, BufferPool, Errno, Op,
    driver::{FileId, Output, SocketId, SyncKind, Token},
    sys::{
        self,
        sockets::{Blocking, KernelAddress},
    },
};

/// The kernel takes at most so many slices in one call.
const SLICES_MAX: usize = 1024;

pub(super) struct InFlight {
    pub(super) token: Token,
    pub(super) cancelled: bool,
    work: Work,
}

enum Work {
    Read(FileRead),
    Write(FileWrite),
    Sync { file: RawFd, kind: SyncKind },
    Allocate { file: RawFd, position: u64, length: u64 },
    SetLength { file: RawFd, length: u64 },
    Close { descriptor: RawFd },
    Name(NameWork),
    Accept { listener: RawFd },
    Connect { socket: Option<OwnedFd>, address: KernelAddress },
    Receive { socket: RawFd, length: usize, polling: bool },
    ReceiveExact { socket: RawFd, buffer: Option<Buffer>, filled: usize, end: usize },
    Send { socket: RawFd, slices: Vec<Bytes>, vectors: Vec<libc::iovec>, header: Box<libc::msghdr> },
}

pub(super) enum Ended {
    /// The rest of the operation has to be submitted.
    Again,
    /// It is over.
    With(Result<Output, Errno>),
}

/// The descriptor that an id stands for: ids of this driver are descriptors.
pub(super) fn raw(id: u32) -> RawFd {
    RawFd::try_from(id).expect("made from a descriptor")
}

/// The id of a descriptor, which is ours to close from now on.
pub(super) fn id(descriptor: OwnedFd) -> u32 {
    u32::try_from(descriptor.into_raw_fd()).expect("descriptors are not negative")
}

/// The descriptor that an operation made.
pub(super) fn made(result: i32) -> OwnedFd {
    // SAFETY: the kernel just made it for this operation, or gave it up with its last use: nobody
    // else has it.
    unsafe { OwnedFd::from_raw_fd(result) }
}

/// The descriptor of an id, for a system call.
pub(super) fn borrowed(id: u32) -> BorrowedFd<'static> {
    // SAFETY: ids are open descriptors until their close operation, which comes after all others:
    // `File` and `Stream` submit it when they are dropped.
    unsafe { BorrowedFd::borrow_raw(raw(id)) }
}

/// A connection is made: its addresses, and no delay for small answers.
fn connected(socket: OwnedFd) -> Result<Output, Errno> {
    sys::sockets::set_no_delay(socket.as_fd())?;
    let local = sys::sockets::local_address(socket.as_fd())?;
    let peer = sys::sockets::peer_address(socket.as_fd())?;
    Ok(Output::Connected { socket: SocketId(id(socket)), local, peer })
}

/// What lies in a socket's buffer now.
fn receive_now(socket: RawFd, length: usize, pool: &BufferPool) -> Result<Buffer, Errno> {
    let mut buffer = pool.take(length.min(provided::BUFFER_BYTES));
    let wanted = length.min(buffer.capacity());
    let pointer = buffer.memory_mut().as_mut_ptr();
    // SAFETY: the buffer has that much memory, and lives through the call.
    let result = unsafe { libc::recv(socket, pointer.cast(), wanted, libc::MSG_DONTWAIT) };
    match usize::try_from(result) {
        Ok(count) => {
            buffer.set_length(count);
            Ok(buffer)
        }
        Err(_) => Err(Errno::of(&std::io::Error::last_os_error())),
    }
}

fn file(id: FileId) -> RawFd {
    raw(id.0)
}

fn socket(id: SocketId) -> RawFd {
    raw(id.0)
}

pub(super) fn length_of(length: usize) -> u32 {
    u32::try_from(length).expect("one operation moves less than 4 GiB")
}

impl InFlight {
    /// # Errors
    /// For what can be refused without the kernel.
    pub(super) fn new(token: Token, op: Op) -> Result<InFlight, Errno> {
        let work = match op {
            Op::Read { file: id, position, length, buffer } => {
                Work::Read(FileRead::new(file(id), position, length, buffer))
            }
            Op::Write { file: id, position, slices } => {
                assert!(slices.len() <= SLICES_MAX, "a write of {} slices", slices.len());
                Work::Write(FileWrite::new(file(id), position, slices))
            }
            Op::Sync { file: id, kind } => Work::Sync { file: file(id), kind },
            Op::Allocate { file: id, position, length } => {
                Work::Allocate { file: file(id), position, length }
            }
            Op::SetLength { file: id, length } => Work::SetLength { file: file(id), length },
            Op::Open { .. }
            | Op::SyncDirectory { .. }
            | Op::Rename { .. }
            | Op::Remove { .. }
            | Op::RemoveDirectory { .. }
            | Op::CreateDirectory { .. } => Work::Name(NameWork::new(op)?),
            Op::Accept { listener } => Work::Accept { listener: socket(listener) },
            Op::Connect { address } => Work::connect(address)?,
            Op::Receive { socket: id, length } => {
                Work::Receive { socket: socket(id), length, polling: false }
            }
            Op::ReceiveExact { socket: id, buffer, start, end } => {
                Work::ReceiveExact { socket: socket(id), buffer: Some(buffer), filled: start, end }
            }
            Op::Send { socket: id, slices } => Work::Send {
                socket: socket(id),
                slices,
                vectors: Vec::new(),
                // SAFETY: a message header of zeros is valid: no name, no vectors, no control.
                header: Box::new(unsafe { std::mem::zeroed() }),
            },
            Op::Describe { .. }
            | Op::Lock { .. }
            | Op::ListDirectory { .. }
            | Op::DescribeSpace { .. }
            | Op::Listen { .. }
            | Op::CloseFile { .. }
            | Op::Shutdown { .. }
            | Op::CloseSocket { .. } => unreachable!("the driver makes these itself"),
        };
        Ok(InFlight { token, cancelled: false, work })
    }

    pub(super) fn close(token: Token, descriptor: RawFd) -> InFlight {
        InFlight { token, cancelled: false, work: Work::Close { descriptor } }
    }

    /// Where and how much it writes, if it does.
    pub(super) fn writes(&self) -> Option<(FileId, u64, usize)> {
        let Work::Write(write) = &self.work else { return None };
        let file = FileId(u32::try_from(write.file).expect("descriptors are not negative"));
        Some((file, write.position, write.length()))
    }

    /// Finds the registered buffer that it reads into or writes from; may register it.
    pub(super) fn find_slot(&mut self, registered: &mut RegisteredBuffers, ring: &IoUring) {
        if let Work::Read(read) = &mut self.work {
            read.find_slot(registered, ring);
        } else if let Work::Write(write) = &mut self.work {
            write.find_slot(registered, ring);
        }
    }

    /// The descriptor that it works on, whose close has to wait for it.
    pub(super) fn uses(&self) -> Option<RawFd> {
        match &self.work {
            Work::Read(read) => Some(read.file),
            Work::Write(write) => Some(write.file),
            Work::Sync { file, .. }
            | Work::Allocate { file, .. }
            | Work::SetLength { file, .. } => Some(*file),
            Work::Receive { socket, .. }
            | Work::ReceiveExact { socket, .. }
            | Work::Send { socket, .. } => Some(*socket),
            Work::Accept { listener } => Some(*listener),
            Work::Close { .. } | Work::Name(_) | Work::Connect { .. } => None,
        }
    }

    /// What to submit now. Pointers in it stay valid while `self` stays where it is.
    pub(super) fn entry(&mut self, has_provided: bool) -> Entry {
        match &mut self.work {
            Work::Read(read) => read.entry(),
            Work::Write(write) => write.entry(),
            Work::Sync { file, kind } => {
                let flags = match kind {
                    SyncKind::Data => types::FsyncFlags::DATASYNC,
                    SyncKind::All => types::FsyncFlags::empty(),
                };
                opcode::Fsync::new(types::Fd(*file)).flags(flags).build()
            }
            Work::Allocate { file, position, length } => {
                opcode::Fallocate::new(types::Fd(*file), *length).offset(*position).build()
            }
            Work::SetLength { file, length } => {
                opcode::Ftruncate::new(types::Fd(*file), *length).build()
            }
            Work::Close { descriptor } => opcode::Close::new(types::Fd(*descriptor)).build(),
            Work::Name(work) => work.entry(),
            Work::Accept { listener } => {
                opcode::Accept::new(types::Fd(*listener), ptr::null_mut(), ptr::null_mut())
                    .flags(libc::SOCK_CLOEXEC)
                    .build()
            }
            Work::Connect { socket, address } => {
                let socket = socket.as_ref().expect("not completed").as_raw_fd();
                opcode::Connect::new(types::Fd(socket), address.pointer(), address.length()).build()
            }
            Work::Receive { .. } | Work::ReceiveExact { .. } => self.receive_entry(has_provided),
            Work::Send { socket, slices, vectors, header } => {
                fill_vectors(vectors, slices, 0);
                header.msg_iov = vectors.as_mut_ptr();
                header.msg_iovlen = sys::sockets::vector_count(vectors.len());
                opcode::SendMsg::new(types::Fd(*socket), ptr::from_ref(&**header))
                    .flags(message_flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL))
                    .build()
            }
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the caller has matched")]
    fn receive_entry(&mut self, has_provided: bool) -> Entry {
        match &mut self.work {
            Work::Receive { socket, length, .. } if has_provided => {
                let length = length_of((*length).min(provided::BUFFER_BYTES));
                opcode::Recv::new(types::Fd(*socket), ptr::null_mut(), length)
                    .buf_group(provided::GROUP)
                    .build()
                    .flags(Flags::BUFFER_SELECT)
            }
            Work::Receive { socket, polling, .. } => {
                *polling = true;
                opcode::PollAdd::new(types::Fd(*socket), super::POLL_IN).build()
            }
            Work::ReceiveExact { socket, buffer, filled, end } => {
                let buffer = buffer.as_mut().expect("not completed");
                let memory = &mut buffer.memory_mut()[*filled..*end];
                opcode::Recv::new(types::Fd(*socket), memory.as_mut_ptr(), length_of(memory.len()))
                    .flags(libc::MSG_WAITALL)
                    .build()
            }
            _ => unreachable!("called for receives alone"),
        }
    }

    /// What became of the operation, by the kernel's result; `filled` is a provided buffer that
    /// the kernel picked.
    pub(super) fn completed(
        &mut self,
        result: i32,
        filled: Option<Buffer>,
        pool: &BufferPool,
    ) -> Ended {
        let count = match usize::try_from(result) {
            Ok(count) => count,
            Err(_) => {
                let error = Errno(-result);
                let again = match error.0 {
                    libc::EINTR | libc::EAGAIN => true,
                    libc::ENOBUFS => matches!(self.work, Work::Receive { .. }),
                    _ => false,
                };
                if again && !self.cancelled {
                    return Ended::Again;
                }
                return Ended::With(Err(error));
            }
        };
        match &mut self.work {
            Work::Read(read) => read.transferred(count),
            Work::Write(_) => Ended::With(Ok(Output::Count(count))),
            Work::Sync { .. }
            | Work::Allocate { .. }
            | Work::SetLength { .. }
            | Work::Close { .. } => Ended::With(Ok(Output::Done)),
            Work::Name(work) => work.completed(result),
            Work::Accept { .. } => Ended::With(connected(made(result))),
            Work::Connect { socket, .. } => {
                let socket = socket.take().expect("completed once");
                Ended::With(connected(socket))
            }
            Work::Receive { socket, length, polling } => {
                if *polling {
                    let received = receive_now(*socket, *length, pool);
                    return match received {
                        Err(Errno::WOULD_BLOCK) if !self.cancelled => Ended::Again,
                        other => Ended::With(other.map(Output::Buffer)),
                    };
                }
                let mut buffer = filled.unwrap_or_else(|| pool.take(1));
                buffer.set_length(count);
                Ended::With(Ok(Output::Buffer(buffer)))
            }
            Work::ReceiveExact { buffer, filled, end, .. } => {
                *filled += count;
                if count > 0 && *filled < *end && !self.cancelled {
                    return Ended::Again;
                }
                let mut buffer = buffer.take().expect("completed once");
                buffer.set_length(*filled);
                Ended::With(Ok(Output::Buffer(buffer)))
            }
            Work::Send { .. } => Ended::With(Ok(Output::Count(count))),
        }
    }
}

impl Work {
    fn connect(address: SocketAddr) -> Result<Work, Errno> {
        let socket = sys::sockets::socket(&address, Blocking::Yes)?;
        Ok(Work::Connect { socket: Some(socket), address: KernelAddress::of(address) })
    }
}

fn message_flags(flags: libc::c_int) -> u32 {
    u32::try_from(flags).expect("flags are not negative")
}

/// Points `vectors` at the slices, without the first `skip` bytes; at most what one call takes.
pub(super) fn fill_vectors(vectors: &mut Vec<libc::iovec>, slices: &[Bytes], mut skip: usize) {
    vectors.clear();
    for slice in slices {
        if skip >= slice.len() {
            skip -= slice.len();
            continue;
        }
        let rest = &slice[skip..];
        skip = 0;
        vectors
            .push(libc::iovec { iov_base: rest.as_ptr().cast_mut().cast(), iov_len: rest.len() });
        if vectors.len() == SLICES_MAX {
            return;
        }
    }
}
