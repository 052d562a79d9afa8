//! Which of the real drivers a shard gets.

use std::io;

use crate::{BufferPool, Driver, Endpoint, SyncDriver, UringDriver, uring::Ring};

/// Which driver is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriverPreference {
    /// `io_uring`, or the other one where it is refused.
    Auto,
    /// `io_uring` or nothing.
    Uring,
    /// `epoll` and threads.
    Sync,
}

/// Opens a driver on the calling thread, which has to be the one that runs the shard. When `Auto`
/// had to do without `io_uring`, the text says why, for the log.
///
/// # Errors
/// The operating system's: that of `io_uring` where nothing else is allowed.
pub fn open_driver(
    preference: DriverPreference,
    endpoint: Endpoint,
    pool: BufferPool,
) -> io::Result<(Box<dyn Driver>, Option<String>)> {
    let refusal = match preference {
        DriverPreference::Sync => None,
        DriverPreference::Uring | DriverPreference::Auto => match Ring::set_up() {
            Ok(ring) => {
                return Ok((Box::new(UringDriver::with_ring(ring, endpoint, pool)), None));
            }
            Err(error) if preference == DriverPreference::Uring => {
                return Err(io::Error::new(error.kind(), explain(&error)));
            }
            Err(error) => Some(explain(&error)),
        },
    };
    Ok((Box::new(SyncDriver::new(endpoint, pool)?), refusal))
}

/// What an operator can do about it.
fn explain(error: &io::Error) -> String {
    let hint = match error.raw_os_error() {
        Some(libc::EPERM) => ": forbidden by a seccomp profile or kernel.io_uring_disabled",
        Some(libc::ENOSYS) => ": this kernel has none",
        Some(libc::ENOMEM) => ": the limit on locked memory (memlock) is too low",
        Some(_) | None => "",
    };
    format!("io_uring is refused: {error}{hint}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DriverKind, mesh};

    fn open(preference: DriverPreference) -> io::Result<(DriverKind, Option<String>)> {
        let (mut endpoints, _) = mesh(1)?;
        let (driver, why_not) =
            open_driver(preference, endpoints.remove(0), BufferPool::new(1 << 20))?;
        Ok((driver.kind(), why_not))
    }

    #[test]
    fn the_fallback_is_taken_with_a_reason_and_only_where_the_ring_is_refused() {
        let expected = match open(DriverPreference::Uring) {
            Ok(found) => {
                assert_eq!(found, (DriverKind::Uring, None));
                found
            }
            Err(error) => (DriverKind::Sync, Some(error.to_string())),
        };
        assert_eq!(open(DriverPreference::Auto).unwrap(), expected);
        assert_eq!(open(DriverPreference::Sync).unwrap(), (DriverKind::Sync, None));
    }

    #[test]
    fn a_refusal_says_what_to_do_about_it() {
        for (number, hint) in
            [(libc::EPERM, "seccomp"), (libc::ENOSYS, "kernel has none"), (libc::ENOMEM, "memlock")]
        {
            let text = explain(&io::Error::from_raw_os_error(number));
            assert!(text.contains(hint), "{text}");
        }
    }
}
