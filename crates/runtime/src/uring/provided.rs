//! Buffers that the kernel picks from when bytes come in, so that idle connections pin none.
//!
//! The ring's entries point at ordinary pool buffers. One that the kernel filled leaves the ring
//! as that buffer, and a fresh one takes its place: nothing has to be given back.

#![expect(unsafe_code, reason = "the ring's memory is shared with the kernel")]

use std::{
    alloc::Layout,
    ptr::NonNull,
    sync::atomic::{AtomicU16, Ordering},
};

use io_uring::{IoUring, types::BufRingEntry};

use crate::{Buffer, BufferPool};

/// Buffers in the ring. More receives that complete in one turn than this wait for the next.
const ENTRIES: u16 = 64;
/// Each buffer's size: whole requests of ordinary clients, and the start of large ones.
pub(super) const BUFFER_BYTES: usize = 16 << 10;
/// The only group of this ring.
pub(super) const GROUP: u16 = 0;

pub(super) struct ProvidedBuffers {
    entries: NonNull<BufRingEntry>,
    buffers: Vec<Option<Buffer>>,
    tail: u16,
}

impl ProvidedBuffers {
    /// `None` where the kernel has no buffer rings.
    pub(super) fn register(ring: &IoUring, pool: &BufferPool) -> Option<ProvidedBuffers> {
        // SAFETY: the layout's size is not zero.
        let memory = unsafe { std::alloc::alloc_zeroed(layout()) };
        let entries = NonNull::new(memory.cast::<BufRingEntry>())?;
        let mut provided =
            ProvidedBuffers { entries, buffers: (0..ENTRIES).map(|_| None).collect(), tail: 0 };
        let address = entries.as_ptr().addr();
        let address = u64::try_from(address).expect("usize is at most 64 bits");
        // SAFETY: the memory is page aligned, large enough for the entries, and outlives the ring:
        // the driver's field order drops the ring first.
        let registered =
            unsafe { ring.submitter().register_buf_ring_with_flags(address, ENTRIES, GROUP, 0) };
        registered.ok()?;
        for id in 0..ENTRIES {
            provided.offer(id, pool.take(BUFFER_BYTES));
        }
        Some(provided)
    }

    /// The buffer that the kernel filled; another one takes its place.
    pub(super) fn take(&mut self, id: u16, pool: &BufferPool) -> Buffer {
        let filled = self.buffers[usize::from(id)].take().expect("the kernel had this buffer");
        self.offer(id, pool.take(BUFFER_BYTES));
        filled
    }

    fn offer(&mut self, id: u16, buffer: Buffer) {
        let index = usize::from(self.tail % ENTRIES);
        // SAFETY: the index lies in the allocation.
        let entry = unsafe { self.entries.as_ptr().add(index) };
        // SAFETY: the kernel does not read an entry before the tail has passed it.
        let entry = unsafe { &mut *entry };
        entry.set_addr(u64::try_from(buffer.pointer().addr()).expect("64 bits"));
        entry.set_len(u32::try_from(BUFFER_BYTES).expect("a small constant"));
        entry.set_bid(id);
        self.buffers[usize::from(id)] = Some(buffer);
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the allocation holds the ring's entries, and the tail lies in the first.
        let tail = unsafe { BufRingEntry::tail(self.entries.as_ptr()) };
        // SAFETY: the tail is aligned, and only this thread writes it.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}

fn layout() -> Layout {
    Layout::array::<BufRingEntry>(usize::from(ENTRIES))
        .and_then(|layout| layout.align_to(4096))
        .expect("64 entries of 16 bytes")
}

impl Drop for ProvidedBuffers {
    fn drop(&mut self) {
        // SAFETY: allocated in `register` with this layout; the ring that read it is gone.
        unsafe { std::alloc::dealloc(self.entries.as_ptr().cast(), layout()) }
    }
}
