//! Whether a broker has the directory: by the kernel's list of locks, so that looking does not
//! lock anybody out.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

/// What to say of a directory whose lock somebody has.
pub(super) fn note(directory: &Path) -> Option<&'static str> {
    is_in_use(directory)
        .then_some("in use: what is at the end of a log may be a write that is under way")
}

/// Whether somebody has the directory's lock. One that this process may not see (in another
/// container) is not told of.
pub(crate) fn is_in_use(directory: &Path) -> bool {
    let (lock, locks) = (fs::metadata(directory.join(".lock")), fs::read_to_string("/proc/locks"));
    lock.is_ok_and(|lock| locks.is_ok_and(|locks| is_locked(&locks, lock.ino())))
}

/// Whether a file with this number is locked. Lines are `1: OFDLCK ADVISORY WRITE -1 08:01:1234 0
/// EOF`; the device's number is left aside, for some file systems show another one there.
fn is_locked(locks: &str, inode: u64) -> bool {
    locks.lines().any(|line| {
        let file = line.split_whitespace().find(|word| word.matches(':').count() == 2);
        let found = file.and_then(|file| file.rsplit(':').next());
        found.and_then(|number| number.parse().ok()) == Some(inode)
    })
}

#[cfg(test)]
mod tests {
    use super::is_locked;

    #[test]
    fn a_lock_is_found_by_its_file() {
        let locks = "1: POSIX  ADVISORY  WRITE 7 08:01:1234 0 EOF\n\
                     2: OFDLCK ADVISORY  WRITE -1 fe:00:99 0 EOF\n2: -> FLOCK x";
        assert!(is_locked(locks, 1234) && is_locked(locks, 99));
        assert!(!is_locked(locks, 1) && !is_locked("", 0));
    }
}
