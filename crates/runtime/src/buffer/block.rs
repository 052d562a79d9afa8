//! The memory below the buffers.

use std::{alloc::Layout, ptr::NonNull};

use super::BLOCK_ALIGNMENT;

/// Aligned memory of the allocator's, zeroed when it was first allocated.
pub(super) struct Block {
    pointer: NonNull<u8>,
    capacity: usize,
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
        Block { pointer, capacity }
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
        // SAFETY: allocated in `allocate` with this very layout.
        unsafe { std::alloc::dealloc(self.pointer(), layout(self.capacity)) }
    }
}
