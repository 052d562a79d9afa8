//! Many partitions and scarce resources, with the real binary and both drivers.
//!
//! The bounds are generous: a machine with other work must not fail them. The figures, which
//! docs/PERFORMANCE.md quotes, are printed with `--nocapture`, best with a release build named by
//! `ODRADEK_BIN`, and with `TMPDIR` on a disk that nobody else uses.

mod groups;
mod handles;
mod memory;
mod partitions;
mod restart;

/// Both ways to do I/O.
const DRIVERS: [&str; 2] = ["uring", "sync"];
