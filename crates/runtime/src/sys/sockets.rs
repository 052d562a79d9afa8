//! TCP sockets, one system call or a few behind each safe function. None of them waits, but for
//! [`connect`] on a blocking socket.

#![expect(unsafe_code, reason = "system calls")]

use std::{
    io::IoSlice,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd},
};

use bytes::Bytes;
use smallvec::SmallVec;

use super::{check_count, check_retrying};
use crate::{Errno, driver::SocketId};

/// Connections that wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG: libc::c_int = 4096;

/// Slices that one send takes; a send may be short (the kernel's `IOV_MAX` is 1,024).
const SLICES_MAX: usize = 64;

/// Whether a call on a socket waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blocking {
    /// It does; what io_uring wants, since there a non-blocking socket answers `EAGAIN`.
    Yes,
    /// It gives `EAGAIN` instead.
    No,
}

/// A socket address as the kernel has it. The kernel may read and write it while it stays where
/// it is.
#[derive(Clone, Copy)]
pub(crate) struct KernelAddress {
    storage: libc::sockaddr_storage,
    length: libc::socklen_t,
}

impl KernelAddress {
    /// Room for an address that the kernel fills in.
    pub(crate) fn empty() -> KernelAddress {
        KernelAddress {
            // SAFETY: plain numbers are valid when zeroed.
            storage: unsafe { std::mem::zeroed() },
            length: size_of_in_kernel::<libc::sockaddr_storage>(),
        }
    }

    pub(crate) fn of(address: SocketAddr) -> KernelAddress {
        let mut kernel = KernelAddress::empty();
        let place = &raw mut kernel.storage;
        match address {
            SocketAddr::V4(address) => {
                let value = libc::sockaddr_in {
                    sin_family: family(libc::AF_INET),
                    sin_port: address.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
                    sin_zero: [0; 8],
                };
                // SAFETY: the storage is larger than any address and aligned for all of them.
                unsafe { place.cast::<libc::sockaddr_in>().write(value) };
                kernel.length = size_of_in_kernel::<libc::sockaddr_in>();
            }
            SocketAddr::V6(address) => {
                let value = libc::sockaddr_in6 {
                    sin6_family: family(libc::AF_INET6),
                    sin6_port: address.port().to_be(),
                    sin6_flowinfo: address.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                    sin6_scope_id: address.scope_id(),
                };
                // SAFETY: as above.
                unsafe { place.cast::<libc::sockaddr_in6>().write(value) };
                kernel.length = size_of_in_kernel::<libc::sockaddr_in6>();
            }
        }
        kernel
    }

    /// The address that the kernel left here; an error for a family that is not TCP's.
    pub(crate) fn get(&self) -> Result<SocketAddr, Errno> {
        let place = &raw const self.storage;
        match libc::c_int::from(self.storage.ss_family) {
            libc::AF_INET => {
                // SAFETY: the family says what lies here.
                let value = unsafe { place.cast::<libc::sockaddr_in>().read() };
                let ip = Ipv4Addr::from(u32::from_be(value.sin_addr.s_addr));
                Ok(SocketAddrV4::new(ip, u16::from_be(value.sin_port)).into())
            }
            libc::AF_INET6 => {
                // SAFETY: the family says what lies here.
                let value = unsafe { place.cast::<libc::sockaddr_in6>().read() };
                let ip = Ipv6Addr::from(value.sin6_addr.s6_addr);
                let port = u16::from_be(value.sin6_port);
                Ok(SocketAddrV6::new(ip, port, value.sin6_flowinfo, value.sin6_scope_id).into())
            }
            _ => Err(Errno::INVALID),
        }
    }

    pub(crate) fn pointer(&self) -> *const libc::sockaddr {
        (&raw const self.storage).cast()
    }

    pub(crate) fn length(&self) -> libc::socklen_t {
        self.length
    }

    fn pointers_mut(&mut self) -> (*mut libc::sockaddr, *mut libc::socklen_t) {
        ((&raw mut self.storage).cast(), &raw mut self.length)
    }
}

fn family(number: libc::c_int) -> libc::sa_family_t {
    libc::sa_family_t::try_from(number).expect("a small constant")
}

fn size_of_in_kernel<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).expect("a small structure")
}

/// Gives a socket to whoever holds its id: it stays open until [`take_back`].
pub(crate) fn give_out(socket: OwnedFd) -> SocketId {
    let id = id_of(&socket);
    // From here on the id owns it.
    let _descriptor = socket.into_raw_fd();
    id
}

/// The id under which a socket would be given out.
pub(crate) fn id_of(socket: &OwnedFd) -> SocketId {
    SocketId(u32::try_from(socket.as_raw_fd()).expect("descriptors are not negative"))
}

/// A socket that was given out, to be closed by dropping it.
pub(crate) fn take_back(socket: SocketId) -> OwnedFd {
    // SAFETY: an id stands for an open descriptor that belongs to nobody else, and whoever closes
    // it uses the id no more: `Stream` and `Listener` close once, when they are dropped.
    unsafe { OwnedFd::from_raw_fd(descriptor(socket)) }
}

/// A socket that was given out, to be used while nobody closes it.
pub(crate) fn borrow(socket: &SocketId) -> BorrowedFd<'_> {
    // SAFETY: an id stands for an open descriptor until it is taken back; see there.
    unsafe { BorrowedFd::borrow_raw(descriptor(*socket)) }
}

fn descriptor(socket: SocketId) -> RawFd {
    RawFd::try_from(socket.0).expect("made from a descriptor")
}

/// A new TCP socket for addresses like `address`.
pub(crate) fn socket(address: &SocketAddr, blocking: Blocking) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | blocking_flag(blocking);
    // SAFETY: takes no pointer.
    let descriptor = check_retrying(|| unsafe { libc::socket(family, kind, 0) })?;
    // SAFETY: just made, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn blocking_flag(blocking: Blocking) -> libc::c_int {
    match blocking {
        Blocking::Yes => 0,
        Blocking::No => libc::SOCK_NONBLOCK,
    }
}

/// Listens on `address`, and tells the address it really has. `SO_REUSEADDR` lets a broker start
/// again beside old connections in TIME_WAIT; without `SO_REUSEPORT` a second broker is refused.
pub(crate) fn listen(
    address: SocketAddr,
    blocking: Blocking,
) -> Result<(OwnedFd, SocketAddr), Errno> {
    let socket = socket(&address, blocking)?;
    set_flag(socket.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR)?;
    let wanted = KernelAddress::of(address);
    let descriptor = socket.as_raw_fd();
    // SAFETY: an address of that length, which lives through the call.
    check_retrying(|| unsafe { libc::bind(descriptor, wanted.pointer(), wanted.length()) })?;
    // SAFETY: takes no pointer.
    check_retrying(|| unsafe { libc::listen(descriptor, BACKLOG) })?;
    let address = local_address(socket.as_fd())?;
    Ok((socket, address))
}

/// Takes a connection that is there, with its peer's address.
pub(crate) fn accept(
    listener: BorrowedFd<'_>,
    blocking: Blocking,
) -> Result<(OwnedFd, SocketAddr), Errno> {
    let mut peer = KernelAddress::empty();
    let flags = libc::SOCK_CLOEXEC | blocking_flag(blocking);
    let (address, length) = peer.pointers_mut();
    // SAFETY: room for any address and its length, which live through the call.
    let descriptor =
        check_retrying(|| unsafe { libc::accept4(listener.as_raw_fd(), address, length, flags) })?;
    // SAFETY: just made, and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
    Ok((socket, peer.get()?))
}

/// Starts to connect: `EINPROGRESS` on a non-blocking socket.
pub(crate) fn connect(socket: BorrowedFd<'_>, peer: &KernelAddress) -> Result<(), Errno> {
    // No retry: interrupted, it goes on in the background.
    // SAFETY: an address of that length, which lives through the call.
    let result = unsafe { libc::connect(socket.as_raw_fd(), peer.pointer(), peer.length()) };
    super::check(result).map(drop).map_err(|error| Errno::of(&error))
}

/// Switches Nagle's delay off: answers leave when they are sent.
pub(crate) fn set_no_delay(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    set_flag(socket, libc::IPPROTO_TCP, libc::TCP_NODELAY)
}

fn set_flag(socket: BorrowedFd<'_>, level: libc::c_int, option: libc::c_int) -> Result<(), Errno> {
    let on: libc::c_int = 1;
    let length = size_of_in_kernel::<libc::c_int>();
    // SAFETY: a number of that length, which lives through the call.
    check_retrying(|| unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), length)
    })?;
    Ok(())
}

/// This end's address.
pub(crate) fn local_address(socket: BorrowedFd<'_>) -> Result<SocketAddr, Errno> {
    let mut address = KernelAddress::empty();
    let (place, length) = address.pointers_mut();
    // SAFETY: room for any address and its length, which live through the call.
    check_retrying(|| unsafe { libc::getsockname(socket.as_raw_fd(), place, length) })?;
    address.get()
}

/// The peer's address; `ENOTCONN` once the peer has reset the connection.
pub(crate) fn peer_address(socket: BorrowedFd<'_>) -> Result<SocketAddr, Errno> {
    let mut address = KernelAddress::empty();
    let (place, length) = address.pointers_mut();
    // SAFETY: room for any address and its length, which live through the call.
    check_retrying(|| unsafe { libc::getpeername(socket.as_raw_fd(), place, length) })?;
    address.get()
}

/// How a connect that was in progress ended.
pub(crate) fn take_error(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut error: libc::c_int = 0;
    let mut length = size_of_in_kernel::<libc::c_int>();
    // SAFETY: room for a number and its length, which live through the call.
    check_retrying(|| unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ERROR,
            (&raw mut error).cast(),
            &raw mut length,
        )
    })?;
    if error == 0 { Ok(()) } else { Err(Errno(error)) }
}

/// Receives what is there, without waiting: 0 at the end of the stream, else `EAGAIN` when nothing
/// is there.
pub(crate) fn receive_now(socket: BorrowedFd<'_>, target: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the slice lives through the call.
    check_count(|| unsafe {
        libc::recv(socket.as_raw_fd(), target.as_mut_ptr().cast(), target.len(), libc::MSG_DONTWAIT)
    })
}

/// Sends as much of the slices as there is room for, without waiting: `EAGAIN` for none.
pub(crate) fn send_now(socket: BorrowedFd<'_>, slices: &[Bytes]) -> Result<usize, Errno> {
    let mut vectors: SmallVec<[IoSlice<'_>; SLICES_MAX]> =
        slices.iter().take(SLICES_MAX).map(|slice| IoSlice::new(slice)).collect();
    // SAFETY: plain numbers and pointers are valid when zeroed.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    // `IoSlice` has the layout of `iovec`.
    message.msg_iov = vectors.as_mut_ptr().cast();
    message.msg_iovlen = vector_count(vectors.len());
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the message points to slices that are borrowed through the call.
    check_count(|| unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) })
}

/// A number of `iovec`s, bounded by its callers, as `msghdr` takes it.
#[cfg(not(target_env = "musl"))]
pub(crate) fn vector_count(count: usize) -> libc::size_t {
    count
}

/// The same for musl, whose `msghdr` has a narrower field, as POSIX says.
#[cfg(target_env = "musl")]
pub(crate) fn vector_count(count: usize) -> libc::c_int {
    libc::c_int::try_from(count).expect("a few slices")
}

/// Ends both directions. A socket whose peer is gone, or a listener, has nothing to end.
pub(crate) fn shutdown(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: takes no pointer.
    match check_retrying(|| unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) }) {
        Ok(_) | Err(Errno(libc::ENOTCONN)) => Ok(()),
        Err(error) => Err(error),
    }
}
