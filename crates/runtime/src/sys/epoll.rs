//! `epoll`: waits until one of many descriptors is ready.

#![expect(unsafe_code, reason = "system calls")]

use std::{
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    time::Duration,
};

use super::check_retrying;
use crate::Errno;

/// Descriptors reported by one wait; the rest come with the next.
const EVENTS_MAX: usize = 256;

/// For which directions a descriptor is watched, or was found ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Interest {
    pub(crate) read: bool,
    pub(crate) write: bool,
}

/// How often a descriptor is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// For as long as it is ready.
    WhileReady,
    /// Once, until it is armed again.
    Once,
}

pub(crate) struct Epoll {
    epoll: OwnedFd,
    events: Box<[libc::epoll_event; EVENTS_MAX]>,
    timeout: Precision,
}

/// What this kernel (or the container's filter) offers for a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Precision {
    /// `epoll_pwait2`, Linux 5.11.
    Nanoseconds,
    Milliseconds,
}

impl Epoll {
    pub(crate) fn new() -> Result<Epoll, Errno> {
        // SAFETY: takes no pointer.
        let descriptor = check_retrying(|| unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: just made, and nobody else has it.
        let epoll = unsafe { OwnedFd::from_raw_fd(descriptor) };
        let nothing = libc::epoll_event { events: 0, u64: 0 };
        Ok(Epoll {
            epoll,
            events: Box::new([nothing; EVENTS_MAX]),
            timeout: Precision::Nanoseconds,
        })
    }

    /// Watches `descriptor`, which may be watched already; `tag` comes back with its reports.
    pub(crate) fn watch(
        &self,
        descriptor: RawFd,
        tag: u64,
        interest: Interest,
        report: Report,
    ) -> Result<(), Errno> {
        let mut flags = match report {
            Report::WhileReady => 0,
            Report::Once => libc::EPOLLONESHOT,
        };
        if interest.read {
            flags |= libc::EPOLLIN;
        }
        if interest.write {
            flags |= libc::EPOLLOUT;
        }
        let mut event = libc::epoll_event { events: flags.cast_unsigned(), u64: tag };
        match self.control(libc::EPOLL_CTL_MOD, descriptor, &mut event) {
            Err(Errno::NOT_FOUND) => self.control(libc::EPOLL_CTL_ADD, descriptor, &mut event),
            result => result,
        }
    }

    fn control(
        &self,
        operation: libc::c_int,
        descriptor: RawFd,
        event: &mut libc::epoll_event,
    ) -> Result<(), Errno> {
        // SAFETY: a structure that lives through the call.
        check_retrying(|| unsafe {
            libc::epoll_ctl(self.epoll.as_raw_fd(), operation, descriptor, &raw mut *event)
        })?;
        Ok(())
    }

    /// Waits for the first report, at most for `timeout` (`None`: for ever), and gives all there
    /// are. A signal ends the wait with none.
    pub(crate) fn wait(
        &mut self,
        timeout: Option<Duration>,
    ) -> impl Iterator<Item = (u64, Interest)> + '_ {
        let count = self.wait_raw(timeout);
        self.events[..count].iter().map(|event| {
            let flags = event.events.cast_signed();
            let ended = flags & (libc::EPOLLERR | libc::EPOLLHUP) != 0;
            let interest = Interest {
                read: ended || flags & libc::EPOLLIN != 0,
                write: ended || flags & libc::EPOLLOUT != 0,
            };
            (event.u64, interest)
        })
    }

    fn wait_raw(&mut self, timeout: Option<Duration>) -> usize {
        if self.timeout == Precision::Nanoseconds {
            match self.wait_nanoseconds(timeout) {
                // Unknown to the kernel, or refused by a filter older than it.
                Err(Errno(libc::ENOSYS | libc::EPERM)) => self.timeout = Precision::Milliseconds,
                Err(Errno(libc::EINTR)) => return 0,
                Err(error) => panic!("epoll_pwait2: {error}"),
                Ok(count) => return count,
            }
        }
        match self.wait_milliseconds(timeout) {
            Err(Errno(libc::EINTR)) => 0,
            Err(error) => panic!("epoll_wait: {error}"),
            Ok(count) => count,
        }
    }

    fn wait_nanoseconds(&mut self, timeout: Option<Duration>) -> Result<usize, Errno> {
        let time = timeout.map(|timeout| libc::timespec {
            tv_sec: i32::try_from(timeout.as_secs()).unwrap_or(i32::MAX).into(),
            tv_nsec: timeout.subsec_nanos().into(),
        });
        let pointer = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: room for so many events and a time that lives through the call, or none.
        let result = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.epoll.as_raw_fd(),
                self.events.as_mut_ptr(),
                self.events.len(),
                pointer,
                std::ptr::null::<libc::sigset_t>(),
                0usize,
            )
        };
        usize::try_from(result).map_err(|_| Errno::of(&std::io::Error::last_os_error()))
    }

    fn wait_milliseconds(&mut self, timeout: Option<Duration>) -> Result<usize, Errno> {
        // Rounded up: a wait that ends too early would be repeated at once, again and again.
        let millis = timeout.map_or(-1, |timeout| {
            libc::c_int::try_from(timeout.as_nanos().div_ceil(1_000_000))
                .unwrap_or(libc::c_int::MAX)
        });
        let room = libc::c_int::try_from(self.events.len()).expect("a small constant");
        // SAFETY: room for so many events, which lives through the call.
        let result = unsafe {
            libc::epoll_wait(self.epoll.as_raw_fd(), self.events.as_mut_ptr(), room, millis)
        };
        usize::try_from(result).map_err(|_| Errno::of(&std::io::Error::last_os_error()))
    }
}
