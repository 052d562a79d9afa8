//! The control file: one command a write, the counters on a read.
//!
//! ```text
//! snap SEED KEEP_PERMILLE PATH   write a crash image
//! eio_w N [FROM]                 the next N writes (at or above FROM) fail
//! eio_f N                        the next N flushes fail
//! eio_r N                        the next N reads fail
//! lie 0|1                        ignore FLUSH, or honour it again
//! ```

use std::path::PathBuf;

use crate::disk::{Disk, Drive};

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Image { seed: u64, keep_permille: u64, path: PathBuf },
    FailWrites { count: u64, from: u64 },
    FailFlushes(u64),
    FailReads(u64),
    Drive(Drive),
}

/// Reads one command.
pub(crate) fn parse(text: &str) -> Option<Command> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let number = |at: usize| words.get(at)?.parse::<u64>().ok();
    match (*words.first()?, words.len()) {
        ("snap", 4) => Some(Command::Image {
            seed: number(1)?,
            keep_permille: number(2).filter(|permille| *permille <= 1000)?,
            path: PathBuf::from(words[3]),
        }),
        ("eio_w", 2) => Some(Command::FailWrites { count: number(1)?, from: 0 }),
        ("eio_w", 3) => Some(Command::FailWrites { count: number(1)?, from: number(2)? }),
        ("eio_f", 2) => Some(Command::FailFlushes(number(1)?)),
        ("eio_r", 2) => Some(Command::FailReads(number(1)?)),
        ("lie", 2) => match number(1)? {
            0 => Some(Command::Drive(Drive::Honest)),
            1 => Some(Command::Drive(Drive::Lying)),
            _ => None,
        },
        _ => None,
    }
}

impl Command {
    /// Carries the command out.
    pub(crate) fn apply(self, disk: &mut Disk) -> std::io::Result<()> {
        match self {
            Self::Image { seed, keep_permille, path } => {
                disk.write_image(seed, keep_permille, &path)?;
            }
            Self::FailWrites { count, from } => {
                disk.failures.writes = count;
                disk.failures.writes_from = from;
            }
            Self::FailFlushes(count) => disk.failures.flushes = count,
            Self::FailReads(count) => disk.failures.reads = count,
            Self::Drive(drive) => disk.drive = drive,
        }
        Ok(())
    }
}

/// What a read of the control file shows.
pub(crate) fn status(disk: &Disk) -> String {
    let counters = disk.counters();
    format!(
        "writes={} flushes={} failed={} pending_writes={}\n",
        counters.writes, counters.flushes, counters.failed, counters.pending_writes
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_and_nonsense_is_refused() {
        let image =
            Command::Image { seed: 7, keep_permille: 500, path: PathBuf::from("/tmp/image") };
        let cases = [
            ("snap 7 500 /tmp/image\n", Some(image)),
            ("eio_w 3", Some(Command::FailWrites { count: 3, from: 0 })),
            ("eio_w 3 4096", Some(Command::FailWrites { count: 3, from: 4096 })),
            ("eio_f 1", Some(Command::FailFlushes(1))),
            ("eio_r 1", Some(Command::FailReads(1))),
            ("lie 1", Some(Command::Drive(Drive::Lying))),
            ("lie 2", None),
            ("snap 7 1001 /tmp/image", None),
            ("snap 7", None),
            ("eio_w x", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
