//! How the process's file handles are shared out: so many connections, so many files a shard. What
//! is left over is for what opens a file for a moment (checkpoints, indexes, names) and for the
//! drivers.
//!
//! Connections beyond their share wait in the listener's queue until others end.

/// Standard streams, the lock, the listener, and some to spare.
const PROCESS_HANDLES: usize = 32;
/// A driver's, and those of what a shard does at the same time in the background.
const SHARD_HANDLES: usize = 16;
/// Less makes no sense: a process that may have so few does not get further than this anyway.
const CONNECTIONS_MIN: usize = 8;
const FILES_MIN: usize = 4;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HandleShares {
    /// Of all shards together.
    pub(crate) connections_max: usize,
    /// Files of segments that take appends, of each shard.
    pub(crate) files_max: usize,
}

impl HandleShares {
    pub(crate) fn of(handles_max: usize, shard_count: u16) -> HandleShares {
        let shards = usize::from(shard_count);
        let rest = handles_max.saturating_sub(PROCESS_HANDLES + SHARD_HANDLES * shards);
        HandleShares {
            connections_max: (rest / 2).max(CONNECTIONS_MIN),
            files_max: (rest / 4 / shards).max(FILES_MIN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_fit_into_what_there_is() {
        for (handles, shards, connections_max, files_max) in [
            (256, 2, 96, 24),
            (1024, 2, 480, 120),
            (1024, 64, 8, 4),
            (1 << 20, 16, 524_144, 16_379),
            (0, 1, 8, 4),
        ] {
            let expected = HandleShares { connections_max, files_max };
            assert_eq!(HandleShares::of(handles, shards), expected, "{handles} for {shards}");
        }
    }
}
