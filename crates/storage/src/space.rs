//! Room on the disk that is left alone: clients' records never take the last of it, so that on a
//! full disk the broker's own logs (groups' offsets, metadata), checkpoints, indexes and the renames
//! of deletions go on, also after a start.
//!
//! Nothing is kept for it on the disk. Before a log allocates space, the file system's counters say
//! how much is free, and only what lies above the reserve may be taken. Shards do not know what the
//! others are about to allocate, so each takes at most its share of that at a time:
//!
//! ```text
//!   what all shards' clients allocate at the same time  <=  free - reserve
//! ```
//! What other programs write is not held back: they may fill the reserve too, and then the broker's
//! own logs are refused space like the others, until there is some again.
//!
//! Cost: two counters of the kernel's for each allocation, of which a busy log makes a few a second.

use std::{cell::Cell, path::Path, rc::Rc};

use runtime::{Errno, Space};

use crate::{Log, storage::StorageInner};

/// The reserve is this share of the file system at most: 2 MiB of a disk of 32.
const RESERVE_SHARE: u64 = 16;
/// And so much at most: room to compact a whole segment of groups' offsets (100 MiB), so that the
/// log of offsets does not outgrow the reserve.
const RESERVE_BYTES_MAX: u64 = 256 << 20;

/// How many times what is taken ahead has to be free.
const PLENTY: u64 = 4;

/// What a log may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpaceUse {
    /// What lies above the reserve.
    Ordinary,
    /// Everything.
    Reserve,
}

/// What the allocations in flight of a shard's clients take.
#[derive(Default)]
pub(crate) struct Claims(Cell<u64>);

/// The right to allocate so many bytes, until it is dropped.
pub(crate) struct Claim {
    storage: Rc<StorageInner>,
    claimed: u64,
    /// How many it may be.
    pub(crate) bytes: u64,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let claims = &self.storage.claims.0;
        claims.set(claims.get() - self.claimed);
    }
}

impl StorageInner {
    /// The right to take `bytes` from above the reserve of the file system of `directory`, where
    /// `wanted_free` are free there.
    async fn claim(
        self: &Rc<Self>,
        directory: &Path,
        bytes: u64,
        wanted_free: u64,
    ) -> Option<Claim> {
        let claims = &self.claims.0;
        // Where nobody knows, the allocation will tell.
        if let Ok(space) = self.runtime.space(directory).await {
            let share = spare_bytes(space) / u64::from(self.runtime.shard_count());
            if claims.get().saturating_add(wanted_free) > share {
                return None;
            }
        }
        claims.set(claims.get() + bytes);
        Some(Claim { storage: Rc::clone(self), claimed: bytes, bytes })
    }
}

/// What lies above the reserve: what clients' records may take.
#[must_use]
pub fn spare_bytes(space: Space) -> u64 {
    let reserve = (space.total_bytes / RESERVE_SHARE).min(RESERVE_BYTES_MAX);
    space.free_bytes.saturating_sub(reserve)
}

impl Log {
    /// This log's appends may take the last of the disk, which others leave to it.
    pub fn use_reserve(&self) {
        self.0.state.borrow_mut().space_use = SpaceUse::Reserve;
    }

    /// The right to allocate `wanted` bytes, else `needed` ones.
    ///
    /// # Errors
    /// [`Errno::NO_SPACE`] where no more than the reserve is left, and it is not for this log.
    pub(crate) async fn claim_space(&self, wanted: u64, needed: u64) -> Result<Claim, Errno> {
        let storage = &self.0.storage;
        let directory = self.0.directory.borrow().clone();
        // The partition's own directory may not be there yet.
        let directory = directory.parent().unwrap_or(&directory);
        if let Some(claim) = storage.claim(directory, wanted, wanted).await {
            return Ok(claim);
        }
        if needed < wanted
            && let Some(claim) = storage.claim(directory, needed, needed).await
        {
            return Ok(claim);
        }
        match self.0.state.borrow().space_use {
            SpaceUse::Ordinary => Err(Errno::NO_SPACE),
            SpaceUse::Reserve => {
                Ok(Claim { storage: Rc::clone(storage), claimed: 0, bytes: needed })
            }
        }
    }

    /// The right to allocate `bytes` that are of use and not needed: only where there is plenty, so
    /// that what is needed is not refused for it.
    pub(crate) async fn claim_spare(&self, bytes: u64) -> Option<Claim> {
        let directory = self.0.directory.borrow().clone();
        let directory = directory.parent().unwrap_or(&directory);
        self.0.storage.claim(directory, bytes, bytes.saturating_mul(PLENTY)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_a_share_of_a_small_disk_and_bounded_on_a_large_one() {
        const MIB: u64 = 1 << 20;
        let cases = [
            (32 * MIB, 32 * MIB, 30 * MIB),
            (32 * MIB, 2 * MIB, 0),
            (32 * MIB, 2 * MIB + 1, 1),
            (4 << 40, MIB << 10, 768 * MIB),
            (4 << 40, 256 * MIB, 0),
            (0, u64::MAX, u64::MAX),
            (u64::MAX, u64::MAX, u64::MAX - 256 * MIB),
        ];
        for (total_bytes, free_bytes, expected) in cases {
            assert_eq!(spare_bytes(Space { total_bytes, free_bytes }), expected);
        }
    }
}
