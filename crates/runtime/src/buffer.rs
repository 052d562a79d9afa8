//! Aligned, pooled memory.
//!
//! - [`Buffer`]: one owner, may be written; frozen into [`Bytes`] it is shared and read-only.
//! - [`AppendBuffer`]: grows at its end while what lies before the end is shared and never changes.
//!
//! Fresh memory costs a page fault for each 4 KiB (0.4 to 0.9 CPU-seconds a GiB on virtual
//! machines, the second touch a tenth of it), so blocks go back to the pool that they came from,
//! from whichever thread drops them last.

#![expect(unsafe_code, reason = "aligned memory, and a buffer that grows beside its readers")]

mod block;
mod pool;

use std::{
    ops::{Deref, DerefMut, Range},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;

use self::{block::Block, pool::SMALL_BYTES_MAX};

pub use self::pool::BufferPool;
pub(crate) use self::pool::RegionUse;

/// Every block starts at a multiple of this: what `O_DIRECT` asks of any device known today.
pub const BLOCK_ALIGNMENT: usize = 4096;

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
        self.block().capacity()
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
        unsafe { std::slice::from_raw_parts_mut(block.pointer(), block.capacity()) }
    }

    /// Where its memory starts, for a driver.
    pub(crate) fn pointer(&self) -> *mut u8 {
        self.block().pointer()
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
        unsafe { std::slice::from_raw_parts(block.pointer(), self.length) }
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
            self.pool.give_back(block);
        }
    }
}

/// A buffer that grows at its end. What was appended never changes, so ranges of it are shared as
/// [`Bytes`], with other threads and with the kernel, while it grows.
///
/// ```text
///   0 .. length        frozen: shared by slices
///   length .. capacity private to the one owner
///   behind it          in a large one, a spare block for [`AppendBuffer::padded_block`]
/// ```
pub struct AppendBuffer {
    shared: Arc<Shared>,
    length: usize,
}

struct Shared {
    block: Option<Block>,
    /// How many bytes can be appended; the spare is what the block has beyond them.
    capacity: usize,
    spare_in_use: AtomicBool,
    pool: BufferPool,
}

impl Shared {
    /// Where byte `position` lies.
    fn at(&self, position: usize) -> *mut u8 {
        let block = self.block();
        assert!(position <= block.capacity(), "a position beyond the block");
        // SAFETY: the result is in the block or at its end.
        unsafe { block.pointer().add(position) }
    }

    fn block(&self) -> &Block {
        self.block.as_ref().expect("taken only on drop")
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(block) = self.block.take() {
            self.pool.give_back(block);
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
        let start = self.shared.at(self.start);
        // SAFETY: `AppendBuffer::slice` checked that the range lies in what was appended, which is
        // initialised and never written again while it is shared.
        unsafe { std::slice::from_raw_parts(start, self.length) }
    }
}

/// The spare block of an append buffer, while somebody uses it.
struct Spare(Arc<Shared>);

impl AsRef<[u8]> for Spare {
    fn as_ref(&self) -> &[u8] {
        let start = self.0.at(self.0.capacity);
        // SAFETY: the spare lies behind the capacity, is initialised, and was written before this
        // was made, the only one at a time.
        unsafe { std::slice::from_raw_parts(start, BLOCK_ALIGNMENT) }
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        self.0.spare_in_use.store(false, Ordering::Release);
    }
}

impl AppendBuffer {
    pub(super) fn new(pool: &BufferPool, capacity: usize) -> AppendBuffer {
        let spare = if capacity > SMALL_BYTES_MAX { BLOCK_ALIGNMENT } else { 0 };
        let block = pool.take_block(capacity + spare);
        let shared = Shared {
            capacity: block.capacity() - spare,
            block: Some(block),
            spare_in_use: AtomicBool::new(false),
            pool: pool.clone(),
        };
        AppendBuffer { shared: Arc::new(shared), length: 0 }
    }

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
        self.shared.capacity
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
        self.shared.at(self.length)
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

impl AppendBuffer {
    /// A copy of a range of what was appended, with zeros behind it up to a whole block: in the
    /// buffer's own memory where its spare block is free, so that the kernel knows it as it knows
    /// the rest.
    ///
    /// # Panics
    /// When the range is longer than a block, or reaches beyond what was appended.
    #[must_use]
    pub fn padded_block(&self, range: Range<usize>) -> Bytes {
        assert!(range.len() <= BLOCK_ALIGNMENT, "a range of more than a block");
        let content = self.slice(range);
        let shared = &self.shared;
        let has_spare = shared.block().capacity() >= shared.capacity + BLOCK_ALIGNMENT;
        if has_spare && !shared.spare_in_use.swap(true, Ordering::Acquire) {
            let start = shared.at(shared.capacity);
            // SAFETY: the spare is a block behind the capacity, which no append reaches; whoever
            // used it before has let go of it.
            let spare = unsafe { std::slice::from_raw_parts_mut(start, BLOCK_ALIGNMENT) };
            spare[..content.len()].copy_from_slice(&content);
            spare[content.len()..].fill(0);
            return Bytes::from_owner(Spare(Arc::clone(shared)));
        }
        let mut block = shared.pool.take(BLOCK_ALIGNMENT);
        block.append(&content);
        block.set_length(BLOCK_ALIGNMENT);
        block[content.len()..].fill(0);
        block.freeze()
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
        assert_eq!(buffer.capacity(), 8 << 10);
        assert_eq!(buffer.pointer() as usize % BLOCK_ALIGNMENT, 0);
        let pointer = buffer.pointer() as usize;
        let bytes = buffer.freeze();
        std::thread::spawn(move || drop(bytes)).join().unwrap();
        assert_eq!(pool.take(5000).pointer() as usize, pointer);
    }

    #[test]
    fn a_padded_block_is_a_copy_with_zeros_behind_it() {
        let pool = BufferPool::new(1 << 20);
        for capacity in [4096, 16 << 10, 64 << 10, 1 << 20] {
            let mut buffer = pool.take_append(capacity);
            assert_eq!(buffer.capacity(), capacity);
            buffer.append(&[7; 4000]);
            // The second finds no spare, and the third the first's again, full of sevens.
            let first = buffer.padded_block(0..4000);
            let second = buffer.padded_block(3000..3001);
            drop(first);
            let third = buffer.padded_block(100..110);
            buffer.append(&vec![9; buffer.remaining()]);
            for (block, content) in [(second, 1), (third, 10)] {
                assert_eq!(block.len(), BLOCK_ALIGNMENT);
                assert_eq!(block.as_ptr() as usize % BLOCK_ALIGNMENT, 0);
                assert_eq!(block[..content], vec![7; content]);
                assert_eq!(block[content..], vec![0; BLOCK_ALIGNMENT - content]);
            }
            assert_eq!(buffer.slice(4000..4096)[..], [9; 96]);
        }
    }

    #[test]
    fn a_padded_block_outlives_its_buffer() {
        let pool = BufferPool::new(1 << 20);
        let mut buffer = pool.take_append(64 << 10);
        buffer.append(b"end");
        let block = buffer.padded_block(1..3);
        drop(buffer);
        let mut other = pool.take_append(64 << 10);
        other.append_zeros(64 << 10);
        assert_eq!(block[..3], *b"nd\0");
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
