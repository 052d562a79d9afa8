//! The memory below the buffers.

use std::{alloc::Layout, ptr::NonNull};

use super::BLOCK_ALIGNMENT;

/// Where a block's memory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    /// The allocator.
    Allocator,
    /// A mapping of its own: no page of it is there before it is touched, and all are given back
    /// to the system when it goes.
    Mapping,
}

/// Aligned memory, zeroed when it was first allocated.
pub(super) struct Block {
    pointer: NonNull<u8>,
    capacity: usize,
    source: Source,
}

// SAFETY: a block owns its memory, and nothing in it is bound to a thread.
unsafe impl Send for Block {}
// SAFETY: a shared block is only read, but for the part of an `AppendBuffer` that nobody shares.
unsafe impl Sync for Block {}

impl Block {
    pub(super) fn allocate(capacity: usize) -> Block {
        let layout = layout(capacity);
        // SAFETY: the layout's size is not zero.
        let pointer = unsafe { std::alloc::alloc_zeroed(layout) };
        let Some(pointer) = NonNull::new(pointer) else { std::alloc::handle_alloc_error(layout) };
        Block { pointer, capacity, source: Source::Allocator }
    }

    /// Pages are at least [`BLOCK_ALIGNMENT`] large.
    pub(super) fn map(capacity: usize) -> Block {
        let layout = layout(capacity);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping at a place that the kernel picks.
        let pointer =
            unsafe { libc::mmap(std::ptr::null_mut(), capacity, protection, kind, -1, 0) };
        if pointer == libc::MAP_FAILED {
            std::alloc::handle_alloc_error(layout);
        }
        let pointer = NonNull::new(pointer.cast()).expect("the kernel maps nothing at zero");
        Block { pointer, capacity, source: Source::Mapping }
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// Where it starts.
    pub(super) fn pointer(&self) -> *mut u8 {
        self.pointer.as_ptr()
    }
}

fn layout(capacity: usize) -> Layout {
    assert!(capacity > 0, "an empty block");
    Layout::from_size_align(capacity, BLOCK_ALIGNMENT).expect("sizes are far below isize::MAX")
}

impl Drop for Block {
    fn drop(&mut self) {
        match self.source {
            // SAFETY: allocated in `allocate` with this very layout.
            Source::Allocator => unsafe {
                std::alloc::dealloc(self.pointer(), layout(self.capacity));
            },
            Source::Mapping => {
                // SAFETY: mapped in `map` with this very size, and nobody holds a reference into
                // it any more.
                let result = unsafe { libc::munmap(self.pointer().cast(), self.capacity) };
                assert_eq!(result, 0, "a mapping is given back whole");
            }
        }
    }
}
