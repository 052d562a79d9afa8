//! Walks the batches of a segment's file, for recovery and for look-ups in what is not in memory.
//!
//! Memory is one window; it grows only to a batch's size that the file backs and that is below a
//! limit, so a lying length costs nothing.

use std::{ops::Range, rc::Rc};

use model::record_batch::{BatchError, HEADER_BYTES, RecordBatch};
use runtime::{BufferPool, Errno, File};

use crate::tail::{BLOCK_BYTES, block_ceil, block_floor, length_of, position_of};

/// How much is read at once.
const WINDOW_BYTES: u64 = 1 << 20;

/// See the module.
pub(crate) struct Scanner {
    file: Rc<File>,
    pool: BufferPool,
    /// The file's bytes from `window_position` on.
    window: Vec<u8>,
    window_position: u64,
    /// Where the next batch starts.
    position: u64,
    end: u64,
    batch_bytes_max: usize,
}

/// What lies at a position.
pub(crate) enum Scanned<'a> {
    /// A batch; its CRC was not looked at.
    Batch {
        /// Where it starts.
        position: u64,
        /// The batch.
        batch: RecordBatch<'a>,
    },
    /// Nothing: the end was reached at the end of a batch.
    End,
    /// No batch.
    Bad(BatchError),
}

impl Scanner {
    /// Scans `file` from `start`, where a batch starts, up to `end`.
    pub(crate) fn new(
        file: Rc<File>,
        pool: BufferPool,
        start: u64,
        end: u64,
        batch_bytes_max: usize,
    ) -> Scanner {
        Scanner {
            file,
            pool,
            window: Vec::new(),
            window_position: start,
            position: start,
            end,
            batch_bytes_max,
        }
    }

    /// Where the next batch starts, or what is no batch.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The bytes from the position of the last [`Scanned::Bad`] on, read on to `length` of them or
    /// to the end.
    pub(crate) async fn peek(&mut self, length: usize) -> Result<&[u8], Errno> {
        self.fill(length).await?;
        let rest = self.window.get(self.offset()..).unwrap_or_default();
        Ok(&rest[..length.min(rest.len())])
    }

    /// Goes back to the start of the last batch, which is still in memory.
    pub(crate) fn step_back(&mut self, position: u64) {
        assert!(self.window_position <= position, "the last batch is in the window");
        self.position = position;
    }

    /// Goes `bytes` on without looking at them.
    pub(crate) fn skip(&mut self, bytes: usize) {
        self.position += position_of(bytes);
    }

    /// The next batch.
    pub(crate) async fn next(&mut self) -> Result<Scanned<'_>, Errno> {
        if self.position >= self.end {
            return Ok(Scanned::End);
        }
        self.fill(HEADER_BYTES).await?;
        let size = match RecordBatch::size_of_first(&self.window[self.offset()..]) {
            Ok(size) if size > self.batch_bytes_max => {
                return Ok(Scanned::Bad(BatchError::TooLarge { size, max: self.batch_bytes_max }));
            }
            Ok(size) => size,
            Err(error) => return Ok(Scanned::Bad(error)),
        };
        let available = length_of(self.end - self.position);
        if size > available {
            return Ok(Scanned::Bad(BatchError::Truncated { needed: size, available }));
        }
        self.fill(size).await?;
        let (position, offset) = (self.position, self.offset());
        match RecordBatch::first(&self.window[offset..]) {
            Ok(batch) => {
                self.position += position_of(batch.size());
                Ok(Scanned::Batch { position, batch })
            }
            Err(error) => Ok(Scanned::Bad(error)),
        }
    }

    fn offset(&self) -> usize {
        length_of(self.position - self.window_position)
    }

    /// Reads on until the window has `length` bytes from the position on, or the file ends.
    async fn fill(&mut self, length: usize) -> Result<(), Errno> {
        let window_end = self.window_position + position_of(self.window.len());
        if self.position > window_end {
            self.window.clear();
            self.window_position = self.position;
        }
        while self.window.len() - self.offset() < length {
            let offset = self.offset();
            self.window.drain(..offset);
            self.window_position = self.position;
            let next = self.window_position + position_of(self.window.len());
            if next >= self.end {
                return Ok(());
            }
            let start = block_floor(next);
            let stop = block_ceil(self.end).min(start + WINDOW_BYTES);
            let bytes = length_of(stop - start);
            let buffer = self.file.read(start, bytes, self.pool.take(bytes)).await?;
            let skip = length_of(next - start);
            let keep = buffer.len().min(length_of(self.end - start));
            if keep <= skip {
                return Ok(());
            }
            self.window.extend_from_slice(&buffer[skip..keep]);
        }
        Ok(())
    }
}

/// Writes what lies in a range once more. A sync of the last process may have failed: then reads
/// give what is not on the disk, and no later sync writes it.
pub(crate) async fn write_again(
    file: &File,
    pool: &BufferPool,
    range: Range<u64>,
) -> Result<(), Errno> {
    let mut position = block_floor(range.start);
    while position < range.end {
        let count = length_of((range.end - position).min(WINDOW_BYTES));
        let bytes = count.next_multiple_of(length_of(BLOCK_BYTES));
        let mut buffer = file.read(position, bytes, pool.take(bytes)).await?;
        let found = buffer.len();
        if found < count {
            return Err(Errno::IO);
        }
        if file.info().direct {
            buffer.memory_mut()[found..bytes].fill(0);
            buffer.set_length(bytes);
        } else {
            buffer.set_length(count);
        }
        file.write_all(position, buffer.freeze()).await?;
        position += position_of(count);
    }
    Ok(())
}
