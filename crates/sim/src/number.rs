//! Conversions that cannot fail on the machines that this runs on.

/// A length as a file position.
pub(crate) fn wide(length: usize) -> u64 {
    u64::try_from(length).expect("usize is at most 64 bits")
}

/// A file position as a length.
pub(crate) fn narrow(position: u64) -> usize {
    usize::try_from(position).expect("simulated files are far below the address space")
}
