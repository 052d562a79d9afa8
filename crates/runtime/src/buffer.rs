//! Aligned, pooled memory.
//!
//! - [`Buffer`]: one owner, may be written; frozen into [`Bytes`] it is shared and read-only.
//! - [`AppendBuffer`]: grows at its end while what lies before the end is shared and never changes.
//!
//! Fresh memory costs a page fault for each 4 KiB (0.4 to 0.9 CPU-seconds a GiB on virtual
//! machines, the second touch a tenth of it), so blocks go back to the pool that they came from,
//! from whichever thread drops them last.

#![expect(unsafe_code, reason = "aligned memory, and a buffer that grows beside its readers")]

use std::{
    alloc::Layout,
    ops::{Deref, DerefMut, Range},
    ptr::NonNull,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;

/// Every block starts at a multiple of this: what `O_DIRECT` asks of any device known today.
pub const BLOCK_ALIGNMENT: usize = 4096;
/// The sizes that are pooled; a request gets the smallest that holds it. Larger ones are rare
/// (frames over 4 MiB) and go back to the allocator.
const CLASSES: [usize; 6] = [4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20];

/// Aligned memory, zeroed when it was first allocated.
struct Block {
    pointer: NonNull<u8>,
    capacity: usize,
}

// SAFETY: a block owns its memory, and nothing in it is bound to a thread.
unsafe impl Send for Block {}
// SAFETY: a shared block is only read, but for the part of an `AppendBuffer` that nobody shares.
unsafe impl Sync for Block {}

impl Block {
    fn allocate(capacity: usize) -> Block {
        let layout = Block::layout(capacity);
        // SAFETY: the layout's size is not zero.
        let pointer = unsafe { std::alloc::alloc_zeroed(layout) };
        let Some(pointer) = NonNull::new(pointer) else { std::alloc::handle_alloc_error(layout) };
        Block { pointer, capacity }
    }

    fn layout(capacity: usize) -> Layout {
        assert!(capacity > 0, "an empty block");
        Layout::from_size_align(capacity, BLOCK_ALIGNMENT).expect("sizes are far below isize::MAX")
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `allocate` with this very layout.
        unsafe { std::alloc::dealloc(self.pointer.as_ptr(), Block::layout(self.capacity)) }
    }
}

/// Where a shard's blocks come from and return to. Cheap to clone.
#[derive(Clone)]
pub struct BufferPool(Arc<Pool>);

struct Pool {
    free: [Mutex<Vec<Block>>; CLASSES.len()],
    cached_bytes: AtomicUsize,
    cached_bytes_max: usize,
    allocated_bytes: AtomicUsize,
}

impl BufferPool {
    /// A pool that keeps at most `cached_bytes_max` of free memory.
    #[must_use]
    pub fn new(cached_bytes_max: usize) -> BufferPool {
        BufferPool(Arc::new(Pool {
            free: std::array::from_fn(|_| Mutex::new(Vec::new())),
            cached_bytes: AtomicUsize::new(0),
            cached_bytes_max,
            allocated_bytes: AtomicUsize::new(0),
        }))
    }

    /// A buffer of at least `capacity` bytes, its length zero. Its content is arbitrary but
    /// initialised.
    #[must_use]
    pub fn take(&self, capacity: usize) -> Buffer {
        Buffer { block: Some(self.0.take(capacity)), length: 0, pool: self.clone() }
    }

    /// An empty append buffer of at least `capacity` bytes.
    #[must_use]
    pub fn take_append(&self, capacity: usize) -> AppendBuffer {
        let block = Some(self.0.take(capacity));
        AppendBuffer { shared: Arc::new(Shared { block, pool: self.clone() }), length: 0 }
    }

    /// Bytes of this pool's blocks that are in use or cached.
    #[must_use]
    pub fn allocated_bytes(&self) -> usize {
        self.0.allocated_bytes.load(Ordering::Relaxed)
    }
}

impl Pool {
    fn take(&self, capacity: usize) -> Block {
        let class = CLASSES.iter().position(|size| *size >= capacity);
        if let Some(class) = class {
            let block = self.free[class].lock().expect("no holder panics").pop();
            if let Some(block) = block {
                self.cached_bytes.fetch_sub(block.capacity, Ordering::Relaxed);
                return block;
            }
        }
        let size = class
            .map_or_else(|| capacity.next_multiple_of(BLOCK_ALIGNMENT), |class| CLASSES[class]);
        self.allocated_bytes.fetch_add(size, Ordering::Relaxed);
        Block::allocate(size)
    }

    fn give_back(&self, block: Block) {
        let class = CLASSES.iter().position(|size| *size == block.capacity);
        let cached = self.cached_bytes.load(Ordering::Relaxed);
        match class {
            // Two threads may pass the limit together by a block each: it is a goal, not a law.
            Some(class) if cached + block.capacity <= self.cached_bytes_max => {
                self.cached_bytes.fetch_add(block.capacity, Ordering::Relaxed);
                self.free[class].lock().expect("no holder panics").push(block);
            }
            Some(_) | None => {
                self.allocated_bytes.fetch_sub(block.capacity, Ordering::Relaxed);
            }
        }
    }
}

/// Memory with one owner: `length` bytes of content in `capacity` bytes of initialised memory.
pub struct Buffer {
    block: Option<Block>,
    length: usize,
    pool: BufferPool,
}

impl Buffer {
    fn block(&self) -> &Block {
        self.block.as_ref().expect("taken only on drop")
    }

    /// How many bytes it can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.block().capacity
    }

    /// Sets how many bytes count as content; those beyond the old length are arbitrary.
    ///
    /// # Panics
    /// Beyond the capacity.
    pub fn set_length(&mut self, length: usize) {
        assert!(length <= self.capacity(), "a length beyond the capacity");
        self.length = length;
    }

    /// All of its memory, content and the rest.
    pub fn memory_mut(&mut self) -> &mut [u8] {
        let block = self.block();
        // SAFETY: the block is initialised in full and has this one owner.
        unsafe { std::slice::from_raw_parts_mut(block.pointer.as_ptr(), block.capacity) }
    }

    /// Where its memory starts, for a driver.
    pub(crate) fn pointer(&self) -> *mut u8 {
        self.block().pointer.as_ptr()
    }

    /// Adds `bytes` at the end.
    ///
    /// # Panics
    /// Beyond the capacity.
    pub fn append(&mut self, bytes: &[u8]) {
        let start = self.length;
        self.set_length(start + bytes.len());
        self.memory_mut()[start..start + bytes.len()].copy_from_slice(bytes);
    }

    /// Shares the content, read-only from now on.
    #[must_use]
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        let block = self.block();
        // SAFETY: the first `length` bytes lie in the block, are initialised, and nobody writes
        // while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(block.pointer.as_ptr(), self.length) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        let length = self.length;
        &mut self.memory_mut()[..length]
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Buffer({} of {})", self.length, self.capacity())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            self.pool.0.give_back(block);
        }
    }
}

/// A buffer that grows at its end. What was appended never changes, so ranges of it are shared as
/// [`Bytes`], with other threads and with the kernel, while it grows.
///
/// ```text
///   0 .. length        frozen: shared by slices
///   length .. capacity private to the one owner
/// ```
pub struct AppendBuffer {
    shared: Arc<Shared>,
    length: usize,
}

struct Shared {
    block: Option<Block>,
    pool: BufferPool,
}

impl Shared {
    fn block(&self) -> &Block {
        self.block.as_ref().expect("taken only on drop")
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            self.pool.0.give_back(block);
        }
    }
}

/// A frozen range of an append buffer.
struct Slice {
    shared: Arc<Shared>,
    start: usize,
    length: usize,
}

impl AsRef<[u8]> for Slice {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `AppendBuffer::slice` checked that the range lies in what was appended.
        let start = unsafe { self.shared.block().pointer.as_ptr().add(self.start) };
        // SAFETY: what was appended is initialised and never written again while it is shared.
        unsafe { std::slice::from_raw_parts(start, self.length) }
    }
}

impl AppendBuffer {
    /// How many bytes were appended.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// True if nothing was appended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// How many bytes it can hold in all.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.shared.block().capacity
    }

    /// How many more bytes fit.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.capacity() - self.length
    }

    /// Copies `bytes` behind the end.
    ///
    /// # Panics
    /// When they do not fit.
    pub fn append(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.remaining(), "an append beyond the capacity");
        let end = self.end();
        // SAFETY: the target lies in the block, behind all that is shared, and `&mut self` is its
        // only writer; `bytes` cannot overlap it, since no slice of that part was ever given out.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), end, bytes.len()) };
        self.length += bytes.len();
    }

    /// Appends `count` zero bytes.
    ///
    /// # Panics
    /// When they do not fit.
    pub fn append_zeros(&mut self, count: usize) {
        assert!(count <= self.remaining(), "an append beyond the capacity");
        let end = self.end();
        // SAFETY: as in `append`.
        unsafe { std::ptr::write_bytes(end, 0, count) };
        self.length += count;
    }

    /// Where the next byte goes.
    fn end(&mut self) -> *mut u8 {
        // SAFETY: the length is at most the capacity, so the result is in the block or at its end.
        unsafe { self.shared.block().pointer.as_ptr().add(self.length) }
    }

    /// Shares a range of what was appended. No byte is copied.
    ///
    /// # Panics
    /// When the range reaches beyond what was appended.
    #[must_use]
    pub fn slice(&self, range: Range<usize>) -> Bytes {
        assert!(range.start <= range.end, "a range that ends before it starts");
        assert!(range.end <= self.length, "a range beyond what was appended");
        Bytes::from_owner(Slice {
            shared: Arc::clone(&self.shared),
            start: range.start,
            length: range.end - range.start,
        })
    }
}

impl std::fmt::Debug for AppendBuffer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "AppendBuffer({} of {})", self.length, self.capacity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_appended_stays_while_the_buffer_grows() {
        let pool = BufferPool::new(1 << 20);
        let mut buffer = pool.take_append(8192);
        buffer.append(b"first");
        let first = buffer.slice(0..5);
        buffer.append(b"second");
        let second = buffer.slice(5..11);
        drop(buffer);
        assert_eq!(&first[..], b"first");
        assert_eq!(&second[..], b"second");
    }

    #[test]
    fn other_threads_read_slices_while_the_buffer_grows() {
        let pool = BufferPool::new(0);
        let mut buffer = pool.take_append(4096);
        let mut readers = Vec::new();
        for round in 0..8u8 {
            let start = buffer.len();
            buffer.append(&[round; 100]);
            let slice = buffer.slice(start..start + 100);
            readers.push(std::thread::spawn(move || assert_eq!(slice[..], [round; 100])));
        }
        drop(buffer);
        for reader in readers {
            reader.join().unwrap();
        }
        assert_eq!(pool.allocated_bytes(), 0);
    }

    #[test]
    fn blocks_come_back_from_other_threads() {
        let pool = BufferPool::new(1 << 20);
        let mut buffer = pool.take(5000);
        buffer.append(b"abc");
        assert_eq!(buffer.capacity(), 16 << 10);
        assert_eq!(buffer.pointer() as usize % BLOCK_ALIGNMENT, 0);
        let pointer = buffer.pointer() as usize;
        let bytes = buffer.freeze();
        std::thread::spawn(move || drop(bytes)).join().unwrap();
        assert_eq!(pool.take(5000).pointer() as usize, pointer);
    }

    #[test]
    fn the_cache_is_bounded() {
        let pool = BufferPool::new(64 << 10);
        let many: Vec<Buffer> = (0..10).map(|_| pool.take(64 << 10)).collect();
        assert_eq!(pool.allocated_bytes(), 640 << 10);
        drop(many);
        assert_eq!(pool.allocated_bytes(), 64 << 10);
    }

    #[test]
    #[should_panic(expected = "beyond the capacity")]
    fn an_append_beyond_the_capacity_is_refused() {
        BufferPool::new(0).take_append(4096).append(&[0; 4097]);
    }

    #[test]
    #[should_panic(expected = "beyond what was appended")]
    fn a_slice_beyond_the_end_is_refused() {
        let mut buffer = BufferPool::new(0).take_append(4096);
        buffer.append(&[1]);
        drop(buffer.slice(0..2));
    }
}
