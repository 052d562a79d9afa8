//! The few system calls that the drivers share, each behind a safe function.

#![expect(unsafe_code, reason = "system calls")]

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    time::Duration,
};

use crate::Errno;

pub(crate) mod epoll;
pub(crate) mod files;
pub(crate) mod signals;
pub(crate) mod sockets;

/// The result of a system call that answers -1 on failure.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Makes a system call until no signal interrupts it.
fn check_retrying(mut call: impl FnMut() -> libc::c_int) -> Result<libc::c_int, Errno> {
    loop {
        match check(call()).map_err(|error| Errno::of(&error)) {
            Err(Errno(libc::EINTR)) => {}
            result => return result,
        }
    }
}

/// The same for a call that gives a count.
fn check_count(mut call: impl FnMut() -> libc::ssize_t) -> Result<usize, Errno> {
    loop {
        if let Ok(count) = usize::try_from(call()) {
            return Ok(count);
        }
        match Errno::of(&io::Error::last_os_error()) {
            Errno(libc::EINTR) => {}
            error => return Err(error),
        }
    }
}

/// An eventfd, non-blocking.
pub(crate) fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: takes no pointer.
    let descriptor = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
    // SAFETY: just made, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Adds one to an eventfd. A full counter is as readable as one more.
pub(crate) fn signal_eventfd(event: &OwnedFd) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: eight bytes that live through the call. The only failure is a full counter.
    let _full = unsafe { libc::write(event.as_raw_fd(), one.as_ptr().cast(), one.len()) };
}

/// Takes an eventfd back to zero.
pub(crate) fn drain_eventfd(event: RawFd) {
    let mut counter = [0u8; 8];
    // SAFETY: eight bytes that live through the call. The only failure is a counter at zero.
    let _empty = unsafe { libc::read(event, counter.as_mut_ptr().cast(), counter.len()) };
}

/// A clock's time in nanoseconds.
fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a timespec that lives through the call.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!(result, 0, "Linux has this clock");
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).expect("below a billion");
    seconds * 1_000_000_000 + nanos
}

/// The monotonic clock.
pub(crate) fn monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// What the calling thread has taken of the CPU.
pub(crate) fn thread_cpu_time() -> Duration {
    Duration::from_nanos(clock_ns(libc::CLOCK_THREAD_CPUTIME_ID))
}

/// Milliseconds since 1970 UTC.
pub(crate) fn wall_clock_ms() -> i64 {
    i64::try_from(clock_ns(libc::CLOCK_REALTIME) / 1_000_000).expect("before the year 292,277,026")
}

/// 64 random bits of the kernel's.
pub(crate) fn random() -> u64 {
    let mut bytes = [0u8; 8];
    // SAFETY: eight bytes that live through the call.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    assert_eq!(got, 8, "getrandom gives up to 256 bytes in full");
    u64::from_ne_bytes(bytes)
}

/// Lets this process have as many file handles as it may give itself, and tells how many: the soft
/// limit of `RLIMIT_NOFILE` becomes the hard one.
///
/// # Errors
/// The operating system's.
pub fn raise_handle_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a structure that lives through the call.
    check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) })?;
    if limit.rlim_cur < limit.rlim_max {
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max };
        // SAFETY: a structure that lives through the call.
        if check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) }).is_ok() {
            limit = raised;
        }
    }
    Ok(limit.rlim_cur)
}

/// Whether something keeps the system's clock to the world's: what NTP or PTP tells the kernel.
///
/// # Errors
/// The operating system's.
pub fn clock_is_synchronised() -> io::Result<bool> {
    // SAFETY: plain numbers are valid when zeroed, and with no mode set nothing is changed.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: a structure that lives through the call.
    let clock = check(unsafe { libc::adjtimex(&raw mut state) })?;
    Ok(clock != libc::TIME_ERROR)
}

/// Pins the calling thread to one of the cores that it may run on: the `index`-th, modulo their
/// number.
///
/// # Errors
/// The operating system's; the thread then runs where it likes.
pub fn pin_thread(index: usize) -> io::Result<()> {
    // SAFETY: a bit set is valid when zeroed.
    let mut allowed: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: the set lives through the call.
    check(unsafe { libc::sched_getaffinity(0, size, &raw mut allowed) })?;
    let capacity = usize::try_from(libc::CPU_SETSIZE).expect("a small constant");
    // SAFETY: the index is below the set's size.
    let cores: Vec<usize> =
        (0..capacity).filter(|core| unsafe { libc::CPU_ISSET(*core, &allowed) }).collect();
    let core = cores[index % cores.len()];
    // SAFETY: a bit set is valid when zeroed.
    let mut wanted: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the core came from a set of the same size.
    unsafe { libc::CPU_SET(core, &mut wanted) };
    // SAFETY: the set lives through the call.
    check(unsafe { libc::sched_setaffinity(0, size, &raw const wanted) })?;
    Ok(())
}
