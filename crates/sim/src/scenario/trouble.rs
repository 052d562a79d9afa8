//! What the disk does to a broker before its end: which faults a seed has, and when they come.
//!
//! Half of the seeds have none, so that what they find is not hidden behind faults; a share has
//! one kind each, and the rest has all of them. Faults come in a window within a life, and the last
//! life of a seed has none: what was promised has to be kept, and all is read in peace.

use crate::{DiskFaults, Rng};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Writes fail, and some of their sectors are written.
    FailedWrites,
    /// Writes write a part of what they are given.
    ShortWrites,
    /// Syncs fail, and what they were to write is lost or not.
    FailedSyncs,
    /// Reads fail.
    FailedReads,
    /// The disk is full, for a while.
    NoSpace,
    /// The disk is very slow, for a while.
    Stalls,
}

/// When the broker is ended, beside the faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// While they go on.
    TheEnd,
    /// After they have ceased. What heals by itself has to.
    Healed,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct TroublePlan {
    pub(crate) trouble: Trouble,
    pub(crate) until: Until,
    /// How long it goes on at least.
    pub(crate) window_us: u64,
    permille: u32,
    stall_ns: u64,
    pub(crate) free_bytes: u64,
}

const ALL: &[Trouble] = &[
    Trouble::FailedWrites,
    Trouble::ShortWrites,
    Trouble::FailedSyncs,
    Trouble::FailedReads,
    Trouble::NoSpace,
    Trouble::Stalls,
];

impl Trouble {
    /// The kinds of faults that a seed has.
    pub(crate) fn of_a_seed(rng: &mut Rng) -> &'static [Trouble] {
        match rng.below(20) {
            0..10 => &[],
            10 => &ALL[0..1],
            11 => &ALL[1..2],
            12 | 13 => &ALL[2..3],
            14 => &ALL[3..4],
            15 | 16 => &ALL[4..5],
            17 => &ALL[5..6],
            _ => ALL,
        }
    }

    /// True if the broker goes on without a restart when the fault has ceased. After a failed
    /// write or sync nobody knows what is on the disk: that log takes no more appends.
    pub(crate) fn heals(self) -> bool {
        match self {
            Trouble::FailedReads | Trouble::NoSpace | Trouble::Stalls => true,
            Trouble::FailedWrites | Trouble::ShortWrites | Trouble::FailedSyncs => false,
        }
    }
}

impl TroublePlan {
    pub(crate) fn by_seed(rng: &mut Rng, troubles: &[Trouble]) -> TroublePlan {
        TroublePlan {
            trouble: rng.pick(troubles),
            until: rng.pick(&[Until::TheEnd, Until::Healed]),
            window_us: rng.pick(&[1_000, 20_000, 300_000]),
            permille: rng.pick(&[20, 200, 1000]),
            stall_ns: rng.pick(&[50_000_000, 1_000_000_000]),
            free_bytes: rng.pick(&[0, 64 << 10, 256 << 10]),
        }
    }

    /// How often operations fail while it goes on.
    pub(crate) fn faults(&self) -> DiskFaults {
        let mut faults = DiskFaults::default();
        match self.trouble {
            Trouble::FailedWrites => faults.write_error_permille = self.permille,
            Trouble::ShortWrites => faults.short_write_permille = self.permille,
            Trouble::FailedSyncs => faults.sync_error_permille = self.permille,
            Trouble::FailedReads => faults.read_error_permille = self.permille,
            Trouble::NoSpace => {}
            Trouble::Stalls => {
                faults.stall_permille = self.permille;
                faults.stall_ns = self.stall_ns;
            }
        }
        faults
    }
}
