//! `powerblk MOUNTPOINT SIZE_MIB`: serves a disk until it is unmounted (`umount MOUNTPOINT`).
#![expect(clippy::print_stderr, reason = "a command line tool reports so")]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use powerblk::disk::Disk;
use powerblk::filesystem::Mounted;

/// The disk is kept in memory.
const SIZE_MIB_MAX: u64 = 4096;

#[derive(Debug, Parser)]
#[command(about = "A block device whose power can be cut; see the control file `ctl`")]
struct Arguments {
    /// An empty folder
    mountpoint: PathBuf,
    /// The size of the disk
    #[arg(value_parser = clap::value_parser!(u64).range(1..=SIZE_MIB_MAX))]
    size_mib: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let size_bytes = usize::try_from(arguments.size_mib << 20).expect("bounded by SIZE_MIB_MAX");
    match Mounted::new(Disk::new(size_bytes), &arguments.mountpoint).and_then(Mounted::serve) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("powerblk: {}: {error}", arguments.mountpoint.display());
            ExitCode::FAILURE
        }
    }
}
