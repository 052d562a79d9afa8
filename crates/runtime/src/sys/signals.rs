//! The two signals that ask a process to end, taken by waiting for them instead of by a handler.

#![expect(unsafe_code, reason = "system calls")]

use std::io;

/// SIGTERM and SIGINT, held back from every thread that is started after this was made.
pub struct StopSignals {
    set: libc::sigset_t,
}

/// Holds SIGTERM and SIGINT back from the calling thread and from those that it will start, so
/// that [`StopSignals::wait`] gets them. To be called before the first other thread exists.
///
/// # Errors
/// The operating system's.
pub fn block_signals() -> io::Result<StopSignals> {
    // SAFETY: a set of signals is valid when zeroed, and is made empty below.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set lives through the call.
    super::check(unsafe { libc::sigemptyset(&raw mut set) })?;
    for signal in [libc::SIGTERM, libc::SIGINT] {
        // SAFETY: the set lives through the call.
        super::check(unsafe { libc::sigaddset(&raw mut set, signal) })?;
    }
    // SAFETY: the set lives through the call; the old mask is not asked for.
    let error =
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    if error == 0 { Ok(StopSignals { set }) } else { Err(io::Error::from_raw_os_error(error)) }
}

impl StopSignals {
    /// Waits for one of the signals and names it.
    ///
    /// # Errors
    /// The operating system's.
    pub fn wait(&self) -> io::Result<&'static str> {
        let mut signal = 0;
        // SAFETY: the set and the number live through the call.
        match unsafe { libc::sigwait(&raw const self.set, &raw mut signal) } {
            0 if signal == libc::SIGTERM => Ok("SIGTERM"),
            0 => Ok("SIGINT"),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}
