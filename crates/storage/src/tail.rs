//! The end of a segment in memory: where appends are copied to, what is written from, and what
//! hot fetches are served from.
//!
//! ```text
//!   file     |....written before....|############|########|###......|
//!                                   ^ chunk 0    ^ chunk 1          (zeros, preallocated)
//!                                   start                 ^ end
//! ```
//! A chunk starts at a multiple of [`BLOCK_BYTES`] of the file and holds its bytes from there on;
//! a batch may span chunks. What was appended never changes, so slices of it are shared with
//! readers and with the kernel while the chunk grows. An idle segment keeps no chunk, only the
//! bytes of the block that its end lies in, which the next write has to write again.

use std::collections::VecDeque;

use bytes::Bytes;
use model::{Offset, TimestampMs};
use runtime::{AppendBuffer, BufferPool};

/// What writes in `O_DIRECT` are multiples of, whatever less the device asks for: no write then
/// shares a physical sector with another.
pub(crate) const BLOCK_BYTES: u64 = 4096;
/// The first chunk of a segment: what a partition with little traffic holds.
const FIRST_CHUNK_BYTES: usize = 16 << 10;
/// The largest chunk: one write of a busy partition.
const CHUNK_BYTES_MAX: usize = 1 << 20;
/// How much larger each chunk is than the one before; follows the pool's classes.
const CHUNK_GROWTH: usize = 4;

/// The block boundary at or below `position`.
pub(crate) fn block_floor(position: u64) -> u64 {
    position - position % BLOCK_BYTES
}

/// The block boundary at or above `position`.
pub(crate) fn block_ceil(position: u64) -> u64 {
    position.next_multiple_of(BLOCK_BYTES)
}

/// A length in memory of a difference of positions.
pub(crate) fn length_of(bytes: u64) -> usize {
    usize::try_from(bytes).expect("lengths in memory fit usize")
}

/// A position or length in a file of a length in memory.
pub(crate) fn position_of(bytes: usize) -> u64 {
    u64::try_from(bytes).expect("usize is at most 64 bits")
}

struct Chunk {
    position: u64,
    buffer: AppendBuffer,
}

impl Chunk {
    fn end(&self) -> u64 {
        self.position + position_of(self.buffer.len())
    }
}

/// A batch that lies in the tail in full.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TailBatch {
    pub(crate) base_offset: Offset,
    pub(crate) last_offset: Offset,
    pub(crate) max_timestamp: TimestampMs,
    /// Where it starts in the file.
    pub(crate) position: u64,
}

/// See the module.
pub(crate) struct Tail {
    chunks: VecDeque<Chunk>,
    batches: VecDeque<TailBatch>,
    /// Without chunks: the bytes from `block_floor(end)` to `end`.
    partial: Box<[u8]>,
    end: u64,
}

impl Tail {
    /// A tail without chunks; `partial` are the file's bytes from the last block boundary on, or
    /// none where nothing will be appended.
    pub(crate) fn idle(end: u64, partial: &[u8]) -> Tail {
        Tail { chunks: VecDeque::new(), batches: VecDeque::new(), partial: partial.into(), end }
    }

    /// Where it ends in the file: the segment's size.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// How much memory its chunks take.
    pub(crate) fn chunk_bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.buffer.capacity()).sum()
    }

    /// The batches in it, oldest first.
    pub(crate) fn batches(&self) -> &VecDeque<TailBatch> {
        &self.batches
    }

    /// Where the first batch that lies in it in full starts; its end where there is none.
    pub(crate) fn first_position(&self) -> u64 {
        self.batches.front().map_or(self.end, |batch| batch.position)
    }

    /// Copies a batch, given as its new head and the rest of it. Gives how much memory was taken
    /// for new chunks.
    pub(crate) fn append(
        &mut self,
        pool: &BufferPool,
        batch: TailBatch,
        head: &[u8],
        rest: &[u8],
    ) -> usize {
        assert!(batch.position == self.end, "a batch is appended at the end");
        let mut taken = 0;
        for part in [head, rest] {
            let mut part = part;
            while !part.is_empty() {
                if self.chunks.back().is_none_or(|chunk| chunk.buffer.remaining() == 0) {
                    taken += self.open_chunk(pool, part.len());
                }
                let chunk = self.chunks.back_mut().expect("just opened");
                let (now, later) = part.split_at(part.len().min(chunk.buffer.remaining()));
                chunk.buffer.append(now);
                self.end += position_of(now.len());
                part = later;
            }
        }
        self.batches.push_back(batch);
        taken
    }

    fn open_chunk(&mut self, pool: &BufferPool, needed: usize) -> usize {
        let last = self.chunks.back().map_or(0, |chunk| chunk.buffer.capacity());
        let wanted = (last * CHUNK_GROWTH).max(needed + self.partial.len());
        let capacity = wanted.clamp(FIRST_CHUNK_BYTES, CHUNK_BYTES_MAX);
        let mut buffer = pool.take_append(capacity);
        buffer.append(&self.partial);
        let position = self.end - position_of(self.partial.len());
        assert!(position.is_multiple_of(BLOCK_BYTES), "a chunk starts at a block");
        self.partial = Box::default();
        let taken = buffer.capacity();
        self.chunks.push_back(Chunk { position, buffer });
        taken
    }

    /// Adds slices of the range to `slices`; it lies in the chunks in full.
    pub(crate) fn slices(&self, start: u64, end: u64, slices: &mut Vec<Bytes>) {
        assert!(start <= end && end <= self.end, "a range of the tail");
        let mut position = start;
        let first = self.chunks.partition_point(|chunk| chunk.end() <= start);
        for chunk in self.chunks.range(first..) {
            if position >= end {
                break;
            }
            assert!(chunk.position <= position, "the range was evicted");
            let from = length_of(position - chunk.position);
            let to = length_of(end.min(chunk.end()) - chunk.position);
            slices.push(chunk.buffer.slice(from..to));
            position = chunk.position + position_of(to);
        }
        assert!(position == end, "the range was evicted");
    }

    /// The slices that write the range from the block of `start` up to `end`, padded with zeros to
    /// a whole block. The last block, where it is not full, is a copy: the chunk grows on.
    pub(crate) fn write_slices(&self, start: u64, end: u64) -> Vec<Bytes> {
        let (start, whole_end) = (block_floor(start), block_floor(end));
        let mut slices = Vec::new();
        if start < whole_end {
            self.slices(start, whole_end, &mut slices);
        }
        if whole_end < end {
            // No block lies in two chunks.
            let index = self.chunks.partition_point(|chunk| chunk.end() <= whole_end);
            let chunk = &self.chunks[index];
            let from = length_of(whole_end - chunk.position);
            slices.push(chunk.buffer.padded_block(from..length_of(end - chunk.position)));
        }
        slices
    }

    /// Gives the oldest chunk back, if it is not the open one and everything that starts in it is
    /// written: readers find that in the file then. Gives how much memory that was.
    pub(crate) fn evict_oldest(&mut self, written: u64) -> Option<usize> {
        let start = self.chunks.get(1)?.position;
        let gone = self.batches.partition_point(|batch| batch.position < start);
        let first = self.batches.get(gone).map_or(self.end, |batch| batch.position);
        if start > block_floor(written) || first > written {
            return None;
        }
        let chunk = self.chunks.pop_front().expect("there are two");
        self.batches.drain(..gone);
        Some(chunk.buffer.capacity())
    }

    /// Gives every chunk back; all of it is written. Gives how much memory that was.
    pub(crate) fn give_back(&mut self) -> usize {
        let freed = self.chunk_bytes();
        if freed == 0 {
            return 0;
        }
        let mut slices = Vec::new();
        self.slices(block_floor(self.end), self.end, &mut slices);
        self.partial = slices.concat().into();
        self.chunks.clear();
        self.batches.clear();
        freed
    }

    /// Drops everything from `position` on, which is the start of a batch in the tail and above
    /// all that was submitted for writing.
    pub(crate) fn cut(&mut self, pool: &BufferPool, position: u64) {
        while let Some(chunk) = self.chunks.back() {
            if chunk.position >= position && self.chunks.len() > 1 {
                self.chunks.pop_back();
                continue;
            }
            let keep = length_of(position - chunk.position);
            let mut buffer = pool.take_append(chunk.buffer.capacity());
            buffer.append(&chunk.buffer.slice(0..keep));
            let position = chunk.position;
            self.chunks.pop_back();
            self.chunks.push_back(Chunk { position, buffer });
            break;
        }
        self.end = position;
        while self.batches.back().is_some_and(|batch| batch.position >= position) {
            self.batches.pop_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(position: u64) -> TailBatch {
        TailBatch {
            base_offset: Offset(0),
            last_offset: Offset(0),
            max_timestamp: TimestampMs(0),
            position,
        }
    }

    fn pattern(length: usize, seed: usize) -> Vec<u8> {
        (0..length).map(|index| u8::try_from((index * 7 + seed) % 251).unwrap()).collect()
    }

    #[test]
    fn what_is_written_is_what_was_appended_padded_with_zeros() {
        let pool = BufferPool::new(1 << 20);
        let before = pattern(5000, 1);
        let mut tail = Tail::idle(5000, &before[4096..]);
        let mut all = before;
        for size in [10usize, 4000, 20_000, 70_000, 1, 600_000] {
            let bytes = pattern(size, size);
            tail.append(&pool, batch(tail.end()), &bytes[..size / 2], &bytes[size / 2..]);
            all.extend_from_slice(&bytes);
            assert_eq!(tail.end(), position_of(all.len()));
        }
        for (start, end) in [(5000, 5010), (5010, 9010), (9010, tail.end()), (4096, 8192)] {
            let slices = tail.write_slices(start, end);
            for slice in &slices {
                assert_eq!(slice.as_ptr().addr() % 4096, 0);
                assert_eq!(slice.len() % 4096, 0);
            }
            let written = slices.concat();
            let from = length_of(block_floor(start));
            let length = length_of(end) - from;
            assert_eq!(written[..length], all[from..from + length]);
            assert!(written[length..].iter().all(|byte| *byte == 0));
            assert_eq!(written.len(), length.next_multiple_of(4096));
        }
    }

    #[test]
    fn only_written_chunks_are_given_back_and_the_last_block_stays() {
        let pool = BufferPool::new(1 << 20);
        let mut tail = Tail::idle(0, &[]);
        let bytes = pattern(100_000, 3);
        for part in bytes.chunks(10_000) {
            tail.append(&pool, batch(tail.end()), part, &[]);
        }
        assert_eq!(tail.evict_oldest(16_000), None);
        assert_eq!(tail.evict_oldest(16_384), None);
        assert_eq!(tail.evict_oldest(20_000), Some(16_384));
        assert_eq!(tail.first_position(), 20_000);
        tail.give_back();
        assert_eq!(tail.chunk_bytes(), 0);
        tail.append(&pool, batch(100_000), b"more", &[]);
        let written = tail.write_slices(100_000, 100_004).concat();
        assert_eq!(written[..1696], bytes[98_304..]);
        assert_eq!(&written[1696..1700], b"more");
    }

    #[test]
    fn what_is_cut_is_gone_and_the_rest_is_there() {
        let pool = BufferPool::new(1 << 20);
        let mut tail = Tail::idle(0, &[]);
        let bytes = pattern(100_000, 3);
        for part in bytes.chunks(10_000) {
            tail.append(&pool, batch(tail.end()), part, &[]);
        }
        tail.cut(&pool, 30_000);
        assert_eq!((tail.end(), tail.batches().len()), (30_000, 3));
        tail.append(&pool, batch(30_000), b"other", &[]);
        let mut slices = Vec::new();
        tail.slices(10_000, 30_005, &mut slices);
        assert_eq!(slices.concat(), [&bytes[10_000..30_000], b"other"].concat());
    }
}
