//! What a simulated disk is like, and how often it fails.

use crate::Rng;

/// A disk's size, grain and speed. All delays are in nanoseconds, drawn evenly from the pair.
#[derive(Clone, Copy, Debug)]
pub struct DiskSettings {
    /// What direct reads and writes have to be multiples of.
    pub alignment: u32,
    /// A write's, without its bytes.
    pub write_ns: (u64, u64),
    /// A read's, without its bytes.
    pub read_ns: (u64, u64),
    /// An fdatasync's or fsync's.
    pub sync_ns: (u64, u64),
    /// That of what touches names and sizes.
    pub metadata_ns: (u64, u64),
    /// Of 1,000 operations so many take [`DiskSettings::SLOW_FACTOR`] times as long.
    pub slow_permille: u32,
    /// How much fits; `None` for all that anybody writes.
    pub capacity_bytes: Option<u64>,
}

impl DiskSettings {
    /// How much longer a slow operation takes.
    pub const SLOW_FACTOR: u64 = 20;
    /// Transfer at 2 GB/s.
    const BYTES_PER_NS: u64 = 2;

    /// One disk of many: from an idle NVMe drive to a busy cloud volume.
    #[must_use]
    pub fn by_seed(rng: &mut Rng) -> DiskSettings {
        let write_low = rng.pick(&[10_000, 50_000, 300_000]);
        let sync_low = rng.pick(&[5_000, 100_000, 1_000_000]);
        DiskSettings {
            alignment: rng.pick(&[512, 4096, 4096]),
            write_ns: (write_low, write_low * rng.pick(&[2, 10])),
            read_ns: (write_low, write_low * 2),
            sync_ns: (sync_low, sync_low * rng.pick(&[2, 10])),
            metadata_ns: (2_000, 100_000),
            slow_permille: rng.pick(&[0, 1, 20]),
            capacity_bytes: None,
        }
    }

    /// How long an operation takes that moves `bytes`.
    pub(crate) fn delay(&self, range: (u64, u64), bytes: u64, rng: &mut Rng) -> u64 {
        let delay = rng.between(range.0, range.1) + bytes / DiskSettings::BYTES_PER_NS;
        if rng.chance(self.slow_permille) { delay * DiskSettings::SLOW_FACTOR } else { delay }
    }
}

/// How often an operation fails, of 1,000. A disk starts without failures.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskFaults {
    /// A write gives `EIO`, and some of its sectors are written.
    pub write_error_permille: u32,
    /// A write of more than one unit is short.
    pub short_write_permille: u32,
    /// A read gives `EIO`.
    pub read_error_permille: u32,
    /// A sync gives `EIO`, and no later sync writes what this one did not.
    pub sync_error_permille: u32,
    /// An operation takes [`DiskFaults::stall_ns`] longer, as if the disk were gone for a while.
    pub stall_permille: u32,
    /// How long a stall is.
    pub stall_ns: u64,
}

/// What a disk did to those who relied on it: a run that never lost anything proved little.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Unsynced sectors that a power cut dropped.
    pub sectors_dropped: u64,
    /// Unsynced sectors that a power cut kept.
    pub sectors_kept: u64,
    /// Unsynced writes of which some sectors were kept and some dropped.
    pub writes_torn: u64,
    /// Blocks whose data a flush had brought to the platter, lost because the extent that leads to
    /// them was not durable.
    pub extents_lost: u64,
    /// Unsynced changes of a size that were lost.
    pub lengths_lost: u64,
    /// Unsynced changes of names that were lost.
    pub names_lost: u64,
    /// Writes of a killed process that landed after it was gone.
    pub late_landings: u64,
    /// Kills and power cuts while a name was being changed.
    pub crashes_inside_name_change: u64,
    /// Syncs that succeeded.
    pub syncs: u64,
    /// Writes that succeeded.
    pub writes: u64,
    /// Writes that gave `EIO`.
    pub write_errors: u64,
    /// Writes that wrote a part.
    pub short_writes: u64,
    /// Reads that gave `EIO`.
    pub read_errors: u64,
    /// Syncs that gave `EIO`.
    pub sync_errors: u64,
    /// Operations that a full disk refused.
    pub space_refusals: u64,
    /// Operations that took [`DiskFaults::stall_ns`] longer.
    pub stalls: u64,
}

impl Tally {
    pub(crate) fn note_write(&mut self, kept: u64, lost: u64) {
        self.sectors_kept += kept;
        self.sectors_dropped += lost;
        self.writes_torn += u64::from(kept > 0 && lost > 0);
    }

    /// Adds what another disk did.
    pub fn add(&mut self, other: &Tally) {
        self.sectors_dropped += other.sectors_dropped;
        self.sectors_kept += other.sectors_kept;
        self.writes_torn += other.writes_torn;
        self.extents_lost += other.extents_lost;
        self.lengths_lost += other.lengths_lost;
        self.names_lost += other.names_lost;
        self.late_landings += other.late_landings;
        self.crashes_inside_name_change += other.crashes_inside_name_change;
        self.syncs += other.syncs;
        self.writes += other.writes;
        self.write_errors += other.write_errors;
        self.short_writes += other.short_writes;
        self.read_errors += other.read_errors;
        self.sync_errors += other.sync_errors;
        self.space_refusals += other.space_refusals;
        self.stalls += other.stalls;
    }
}
