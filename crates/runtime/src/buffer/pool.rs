//! Where blocks come from and return to.
//!
//! ```text
//!   small: 4 Ki  8 Ki  16 Ki  32 Ki    large: 64 Ki+4 Ki  96 Ki+4 Ki  128 Ki+4 Ki ... 4 Mi+4 Ki
//! ```
//! The large classes go by half powers of two, each with 4 KiB more: room for the header of a
//! frame that carries a batch of such a round size, or for the spare of an append buffer.
//!
//! A warm block saves the page faults of a fresh one. So the pool keeps what comes back, up to a
//! bound, and [trims](BufferPool::trim) what was not needed since the last trim: what an idle shard
//! keeps is at most [`IDLE_BYTES_MAX`].
//!
//! A driver may register large blocks with the kernel for as long as they live. The pool keeps the
//! number that it gave each, and hands a block that goes back to the driver first.
//!
//! Cost of a take and a return: a lock of a mutex that few contend for.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use super::{AppendBuffer, BLOCK_ALIGNMENT, Buffer, block::Block};

/// The sizes that are pooled; a request gets the smallest that holds it. Larger ones are rare
/// (frames over 4 MiB) and go back to the allocator.
const CLASSES: [usize; 17] = [
    4 << 10,
    8 << 10,
    16 << 10,
    SMALL_BYTES_MAX,
    (64 << 10) + BLOCK_ALIGNMENT,
    (96 << 10) + BLOCK_ALIGNMENT,
    (128 << 10) + BLOCK_ALIGNMENT,
    (192 << 10) + BLOCK_ALIGNMENT,
    (256 << 10) + BLOCK_ALIGNMENT,
    (384 << 10) + BLOCK_ALIGNMENT,
    (512 << 10) + BLOCK_ALIGNMENT,
    (768 << 10) + BLOCK_ALIGNMENT,
    (1 << 20) + BLOCK_ALIGNMENT,
    (1536 << 10) + BLOCK_ALIGNMENT,
    (2 << 20) + BLOCK_ALIGNMENT,
    (3 << 20) + BLOCK_ALIGNMENT,
    (4 << 20) + BLOCK_ALIGNMENT,
];
/// The largest of the small blocks, which are not worth registering.
pub(super) const SMALL_BYTES_MAX: usize = 32 << 10;
/// What an idle shard may keep: blocks for a few small requests.
const IDLE_BYTES_MAX: usize = 1 << 20;
/// What one trim gives back at most: the system takes about half a millisecond for 4,096 pages.
const TRIM_BYTES_MAX: usize = 16 << 20;

/// Where a shard's blocks come from and return to. Cheap to clone.
#[derive(Clone)]
pub struct BufferPool(Arc<Pool>);

struct Pool {
    free: [Mutex<Free>; CLASSES.len()],
    cached_bytes: AtomicUsize,
    cached_bytes_max: usize,
    allocated_bytes: AtomicUsize,
    /// The large blocks of the classes, by where they start.
    regions: Mutex<BTreeMap<usize, Region>>,
    /// Blocks that are to go, with the number that the driver registered them under.
    retired: Mutex<Vec<(u16, Block)>>,
    retired_count: AtomicUsize,
    has_registrar: AtomicBool,
}

/// The free blocks of a class, the warmest last.
#[derive(Default)]
struct Free {
    blocks: Vec<Block>,
    /// The fewest there were since the last trim: so many were not needed.
    fewest: usize,
}

/// What is known of a large block.
struct Region {
    capacity: usize,
    /// File operations on it so far.
    uses: u32,
    /// The number that a driver registered it under.
    slot: Option<u16>,
}

/// A large block that memory of an operation lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RegionUse {
    pub(crate) start: usize,
    pub(crate) capacity: usize,
    /// How many operations used it before this one.
    pub(crate) uses: u32,
    /// The number that it is registered under.
    pub(crate) slot: Option<u16>,
}

impl BufferPool {
    /// A pool that keeps at most `cached_bytes_max` of free memory.
    #[must_use]
    pub fn new(cached_bytes_max: usize) -> BufferPool {
        BufferPool(Arc::new(Pool {
            free: std::array::from_fn(|_| Mutex::default()),
            cached_bytes: AtomicUsize::new(0),
            cached_bytes_max,
            allocated_bytes: AtomicUsize::new(0),
            regions: Mutex::default(),
            retired: Mutex::default(),
            retired_count: AtomicUsize::new(0),
            has_registrar: AtomicBool::new(false),
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
        AppendBuffer::new(self, capacity)
    }

    /// Bytes of this pool's blocks that are in use or cached.
    #[must_use]
    pub fn allocated_bytes(&self) -> usize {
        self.0.allocated_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn take_block(&self, capacity: usize) -> Block {
        self.0.take(capacity)
    }

    pub(super) fn give_back(&self, block: Block) {
        self.0.give_back(block);
    }

    /// True if more is kept than an idle shard may: then a [trim](BufferPool::trim) is due later.
    pub(crate) fn wants_trim(&self) -> bool {
        self.0.cached_bytes.load(Ordering::Relaxed) > IDLE_BYTES_MAX
    }

    /// Gives back to the allocator what was not needed since the last trim, a bounded part of it.
    pub(crate) fn trim(&self) {
        self.0.trim();
    }

    /// A driver is going to register blocks. False if another one does: the numbers are one's.
    pub(crate) fn begin_registrations(&self) -> bool {
        !self.0.has_registrar.swap(true, Ordering::AcqRel)
    }

    /// The large block in which `length` bytes at `address` lie; counts as an operation on it.
    pub(crate) fn use_region(&self, address: usize, length: usize) -> Option<RegionUse> {
        let mut regions = self.0.regions();
        let (start, region) = regions.range_mut(..=address).next_back()?;
        if address + length > start + region.capacity {
            return None;
        }
        let uses = region.uses;
        region.uses = uses.saturating_add(1);
        Some(RegionUse { start: *start, capacity: region.capacity, uses, slot: region.slot })
    }

    /// The driver registered the block that starts there. From now on it gets that block back
    /// before the memory goes.
    pub(crate) fn registered(&self, start: usize, slot: u16) {
        let mut regions = self.0.regions();
        regions.get_mut(&start).expect("an operation holds the block").slot = Some(slot);
    }

    /// Blocks whose registration is to end; their memory goes when the result is dropped.
    pub(crate) fn retired(&self) -> Vec<Retired> {
        if self.0.retired_count.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let mut retired = self.0.retired.lock().expect("no holder panics");
        self.0.retired_count.store(0, Ordering::Release);
        retired.drain(..).map(|(slot, block)| Retired { slot, _block: block }).collect()
    }

    /// The driver is gone, and its registrations with it.
    pub(crate) fn end_registrations(&self) {
        for region in self.0.regions().values_mut() {
            region.slot = None;
        }
        drop(self.retired());
        self.0.has_registrar.store(false, Ordering::Release);
    }
}

/// A block that is about to go.
pub(crate) struct Retired {
    pub(crate) slot: u16,
    _block: Block,
}

impl Pool {
    fn regions(&self) -> MutexGuard<'_, BTreeMap<usize, Region>> {
        self.regions.lock().expect("no holder panics")
    }

    fn free(&self, class: usize) -> MutexGuard<'_, Free> {
        self.free[class].lock().expect("no holder panics")
    }

    fn take(&self, capacity: usize) -> Block {
        let class = CLASSES.partition_point(|size| *size < capacity);
        let Some(size) = CLASSES.get(class).copied() else {
            let size = capacity.next_multiple_of(BLOCK_ALIGNMENT);
            self.allocated_bytes.fetch_add(size, Ordering::Relaxed);
            return Block::allocate(size);
        };
        let warm = {
            let mut free = self.free(class);
            let block = free.blocks.pop();
            free.fewest = free.fewest.min(free.blocks.len());
            block
        };
        if let Some(block) = warm {
            self.cached_bytes.fetch_sub(size, Ordering::Relaxed);
            return block;
        }
        self.allocated_bytes.fetch_add(size, Ordering::Relaxed);
        let block = Block::allocate(size);
        if size > SMALL_BYTES_MAX {
            let region = Region { capacity: size, uses: 0, slot: None };
            self.regions().insert(block.pointer().addr(), region);
        }
        block
    }

    fn give_back(&self, block: Block) {
        let size = block.capacity();
        let class = CLASSES.iter().position(|class| *class == size);
        let cached = self.cached_bytes.load(Ordering::Relaxed);
        match class {
            // Two threads may pass the limit together by a block each: it is a goal, not a law.
            Some(class) if cached + size <= self.cached_bytes_max => {
                self.cached_bytes.fetch_add(size, Ordering::Relaxed);
                self.free(class).blocks.push(block);
            }
            Some(_) | None => self.let_go(block),
        }
    }

    /// Gives a block back to the allocator, or to the driver that has registered it.
    fn let_go(&self, block: Block) {
        self.allocated_bytes.fetch_sub(block.capacity(), Ordering::Relaxed);
        let region = self.regions().remove(&block.pointer().addr());
        if let Some(slot) = region.and_then(|region| region.slot) {
            self.retired.lock().expect("no holder panics").push((slot, block));
            self.retired_count.fetch_add(1, Ordering::Release);
        }
    }

    fn trim(&self) {
        let mut let_go = 0;
        // The largest first: they are the fewest to be needed again.
        for (class, size) in CLASSES.iter().enumerate().rev() {
            loop {
                let mut free = self.free(class);
                let is_enough = let_go + size > TRIM_BYTES_MAX
                    || self.cached_bytes.load(Ordering::Relaxed) <= IDLE_BYTES_MAX;
                if free.fewest == 0 || is_enough || free.blocks.is_empty() {
                    free.fewest = free.blocks.len();
                    break;
                }
                free.fewest -= 1;
                // The coldest lies first.
                let block = free.blocks.remove(0);
                drop(free);
                self.cached_bytes.fetch_sub(*size, Ordering::Relaxed);
                let_go += size;
                self.let_go(block);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_the_smallest_class_that_holds_it() {
        let pool = BufferPool::new(0);
        for (wanted, expected) in [
            (1, 4096),
            (4097, 8192),
            (32 << 10, 32 << 10),
            // A frame of a 128 KiB batch and its header.
            ((128 << 10) + 300, (128 << 10) + 4096),
            (200_000, (192 << 10) + 4096),
            (1_000_300, (1 << 20) + 4096),
            (4 << 20, (4 << 20) + 4096),
            ((4 << 20) + 4097, (4 << 20) + 8192),
        ] {
            let buffer = pool.take(wanted);
            assert_eq!(buffer.capacity(), expected, "{wanted}");
            assert_eq!(pool.allocated_bytes(), expected, "{wanted}");
            drop(buffer);
            assert_eq!(pool.allocated_bytes(), 0, "{wanted}");
        }
    }

    #[test]
    fn the_cache_is_bounded() {
        let pool = BufferPool::new(64 << 10);
        for (count, size, kept) in [(20, 16 << 10, 64 << 10), (2, 128 << 10, 64 << 10)] {
            let many: Vec<Buffer> = (0..count).map(|_| pool.take(size)).collect();
            drop(many);
            assert_eq!(pool.allocated_bytes(), kept, "{count} blocks of {size}");
        }
    }

    /// What a pool holds after each trim, while so many blocks are used in between.
    fn after_trims(used: &[usize]) -> Vec<usize> {
        let pool = BufferPool::new(64 << 20);
        let size = (1 << 20) + BLOCK_ALIGNMENT;
        drop((0..12).map(|_| pool.take(size)).collect::<Vec<_>>());
        used.iter()
            .map(|used| {
                drop((0..*used).map(|_| pool.take(size)).collect::<Vec<_>>());
                pool.trim();
                pool.allocated_bytes() / size
            })
            .collect()
    }

    #[test]
    fn a_trim_lets_go_of_what_was_not_needed_since_the_last() {
        // The first sees the twelve in use.
        assert_eq!(after_trims(&[0, 0, 0]), [12, 0, 0]);
        assert_eq!(after_trims(&[0, 5, 5, 8, 0, 0]), [12, 5, 5, 8, 0, 0]);
        assert_eq!(after_trims(&[12, 12, 12]), [12, 12, 12]);
    }

    #[test]
    fn a_trim_takes_its_time_and_leaves_a_little() {
        let pool = BufferPool::new(64 << 20);
        drop((0..40).map(|_| pool.take(1 << 20)).collect::<Vec<_>>());
        drop((0..100).map(|_| pool.take(16 << 10)).collect::<Vec<_>>());
        let held = |pool: &BufferPool| pool.allocated_bytes() >> 20;
        assert!(pool.wants_trim());
        let mut steps = Vec::new();
        for _ in 0..5 {
            pool.trim();
            steps.push(held(&pool));
        }
        assert_eq!(steps, [41, 25, 10, 0, 0]);
        assert!(pool.allocated_bytes() <= IDLE_BYTES_MAX);
        assert!(!pool.wants_trim());
    }

    #[test]
    fn a_registered_block_goes_back_to_its_driver_before_its_memory_goes() {
        let pool = BufferPool::new(0);
        let (first, second) = (pool.take(100_000), pool.take(100_000));
        let address = first.pointer().addr();
        assert_eq!(pool.use_region(address + 1, first.capacity()), None);
        let found = pool.use_region(address + 10, 100).unwrap();
        assert_eq!(
            found,
            RegionUse { start: address, capacity: first.capacity(), uses: 0, slot: None }
        );
        pool.registered(address, 3);
        let found = pool.use_region(address, 1).unwrap();
        assert_eq!((found.uses, found.slot), (1, Some(3)));
        drop((first, second));
        let retired = pool.retired();
        assert_eq!(retired.iter().map(|retired| retired.slot).collect::<Vec<_>>(), [3]);
        assert_eq!(pool.use_region(address, 1), None);
        assert!(pool.retired().is_empty());
    }

    #[test]
    fn without_a_driver_no_block_waits_for_one() {
        let pool = BufferPool::new(0);
        assert!(pool.begin_registrations());
        assert!(!pool.begin_registrations(), "one driver at a time");
        let (first, second) = (pool.take(100_000), pool.take(100_000));
        pool.registered(first.pointer().addr(), 1);
        pool.registered(second.pointer().addr(), 2);
        drop(first);
        pool.end_registrations();
        drop(second);
        assert!(pool.retired().is_empty());
        assert!(pool.begin_registrations());
    }
}
