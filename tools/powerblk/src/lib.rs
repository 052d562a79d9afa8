//! A block device whose power can be cut, without device-mapper.
//!
//! ```text
//! file system under test (ext4, xfs)
//! loop device
//! disk.img in a FUSE mount       every write and FLUSH comes by here
//! disk::Disk                     the cache, the medium, the failures
//! ```
//! `disk` decides, `filesystem` serves, `control` is the way in from a shell. The crash rigs use
//! the library; the program is for trying things by hand.

mod control;
pub mod disk;
pub mod filesystem;
