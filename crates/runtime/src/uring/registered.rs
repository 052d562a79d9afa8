//! Registered buffers: memory that the kernel has pinned and looked up once, not for each operation.
//!
//! Registered are the pool's large blocks (over 64 KiB) that file operations use: chunks that
//! writes go out of, buffers that cold reads go into. A block is registered with its second
//! operation: registering costs what it saves in one (27 us a MiB). It stays so until the pool
//! lets go of it, which an idle shard's does; so nothing stays pinned for long.
//!
//! Ladder down: no sparse table of buffers (before 5.19), no registered buffers; no vectored
//! operations on them (before 6.15), only those of one slice; `ENOMEM` (a small memlock limit) or
//! any other refusal, no more of them than there were.

#![expect(unsafe_code, reason = "memory is registered with the kernel")]

use std::{collections::BTreeSet, io};

use bytes::Bytes;
use io_uring::IoUring;

use crate::{BufferPool, buffer::RegionUse};

/// Blocks that are registered at most.
const SLOTS: u16 = 256;
/// Their memory at most, of a shard: what it writes and reads through in turn when it is busy.
pub const REGISTERED_BYTES_MAX: usize = 32 << 20;

pub(super) struct RegisteredBuffers {
    pool: BufferPool,
    free: BTreeSet<u16>,
    /// How much each slot has pinned.
    pinned: Vec<usize>,
    pinned_bytes: usize,
    pinned_bytes_max: usize,
    vectored: Vectored,
}

/// Whether the kernel takes several slices of one registered buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Vectored {
    Yes,
    No,
}

impl RegisteredBuffers {
    /// `None` where the kernel has no sparse tables of buffers, or another driver registers the
    /// pool's.
    pub(super) fn new(
        ring: &IoUring,
        pool: &BufferPool,
        vectored: Vectored,
    ) -> Option<RegisteredBuffers> {
        ring.submitter().register_buffers_sparse(u32::from(SLOTS)).ok()?;
        pool.begin_registrations().then(|| RegisteredBuffers {
            pool: pool.clone(),
            free: (0..SLOTS).collect(),
            pinned: vec![0; usize::from(SLOTS)],
            pinned_bytes: 0,
            pinned_bytes_max: REGISTERED_BYTES_MAX,
            vectored,
        })
    }

    /// The slot of the registered buffer that all of the slices lie in.
    pub(super) fn slot_of_slices(&mut self, ring: &IoUring, slices: &[Bytes]) -> Option<u16> {
        let (first, others) = slices.split_first()?;
        if !others.is_empty() && self.vectored == Vectored::No {
            return None;
        }
        if first.is_empty() {
            return None;
        }
        let region = self.pool.use_region(first.as_ptr().addr(), first.len())?;
        let end = region.start + region.capacity;
        let lies_within = |slice: &Bytes| {
            slice.as_ptr().addr() >= region.start && slice.as_ptr().addr() + slice.len() <= end
        };
        if others.iter().all(lies_within) { self.slot(ring, region) } else { None }
    }

    /// The slot of the registered buffer that the memory lies in.
    pub(super) fn slot_of_memory(
        &mut self,
        ring: &IoUring,
        address: usize,
        length: usize,
    ) -> Option<u16> {
        if length == 0 {
            return None;
        }
        let region = self.pool.use_region(address, length)?;
        self.slot(ring, region)
    }

    fn slot(&mut self, ring: &IoUring, region: RegionUse) -> Option<u16> {
        let is_worth_it = region.uses > 0
            && self.pinned_bytes + region.capacity <= self.pinned_bytes_max
            && !self.free.is_empty();
        if region.slot.is_some() || !is_worth_it {
            return region.slot;
        }
        let slot = self.free.pop_first().expect("just looked");
        let start = std::ptr::without_provenance_mut(region.start);
        if let Err(error) = update(ring, slot, start, region.capacity) {
            self.free.insert(slot);
            self.pinned_bytes_max = self.pinned_bytes;
            tracing::debug!(%error, bytes = self.pinned_bytes, "no further registered buffers");
            return None;
        }
        self.pinned[usize::from(slot)] = region.capacity;
        self.pinned_bytes += region.capacity;
        self.pool.registered(region.start, slot);
        Some(slot)
    }

    /// Ends the registration of blocks that the pool has let go of.
    pub(super) fn release_retired(&mut self, ring: &IoUring) {
        for retired in self.pool.retired() {
            let slot = retired.slot;
            // An operation that still holds it cannot be: it would hold the block.
            if let Err(error) = update(ring, slot, std::ptr::null_mut(), 0) {
                // Its pages stay pinned, and the slot is not used again.
                tracing::warn!(%error, "a registered buffer is not given back");
                continue;
            }
            self.pinned_bytes -= std::mem::take(&mut self.pinned[usize::from(slot)]);
            self.free.insert(slot);
        }
    }
}

/// Puts memory into a slot of the ring's table; none empties the slot.
fn update(ring: &IoUring, slot: u16, start: *mut libc::c_void, length: usize) -> io::Result<()> {
    let memory = [libc::iovec { iov_base: start, iov_len: length }];
    // SAFETY: the memory is a pool's block, which comes back through `release_retired` before it
    // goes; when the driver goes first, its ring's table goes with it.
    unsafe { ring.submitter().register_buffers_update(u32::from(slot), &memory, None) }
}

impl Drop for RegisteredBuffers {
    fn drop(&mut self) {
        self.pool.end_registrations();
    }
}
