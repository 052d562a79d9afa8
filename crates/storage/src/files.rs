//! Looks at the files of a log without changing one: for the start, which judges a directory
//! before it takes it, and for `odradek log`.
//!
//! Nothing here needs the directory's lock, so what is read may be changing. Whatever the bytes
//! say, memory is bounded by a constant, or by the size of the file that is read.

mod derived;

use std::{
    path::{Path, PathBuf},
    rc::Rc,
};

use model::{
    Offset,
    record_batch::{BatchError, RecordBatch},
};
use runtime::{Errno, File, OpenOptions, Runtime};

pub use derived::{
    IndexEntry, TimeEntry, checkpoint_offsets, clean_shutdown_epoch, leader_epochs, offset_entries,
    partition_of_name, producers, time_entries, topic_id,
};

pub use crate::transactions::transaction_entries;

use crate::{
    Error,
    inspect::Gaps,
    resync::{Searched, Sought},
    scan::{Scanned, Scanner},
    tail::length_of,
};

/// How much of what is no batch is looked at a time.
const WINDOW_BYTES: usize = 1 << 20;
/// How far ahead an offset may be to be believed.
const OFFSETS_AHEAD_MAX: i64 = 1 << 40;

/// Walks a file of batches from its start: a segment's `.log`, or a metadata snapshot.
pub struct SegmentReader {
    searched: Searched,
    scanner: Scanner,
    path: PathBuf,
    end: Offset,
}

/// What lies at a position.
pub enum Piece<'a> {
    /// A batch; its CRC was not looked at.
    Batch {
        /// Where it starts.
        position: u64,
        /// The batch.
        batch: RecordBatch<'a>,
    },
    /// Nothing but zeros up to the end of the file: space that was allocated ahead.
    Zeros {
        /// Where they start.
        position: u64,
        /// How many.
        bytes: u64,
    },
    /// Bytes that are no batch, up to the end of the file or to the next whole batch.
    Garbage {
        /// Where they start.
        position: u64,
        /// How many.
        bytes: u64,
        /// Why the first of them are no batch.
        reason: BatchError,
    },
}

impl SegmentReader {
    /// Opens a file for reading alone.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn open(runtime: &Runtime, path: &Path) -> Result<SegmentReader, Error> {
        let file = File::open(runtime, path, OpenOptions::READ).await.map_err(Error::io(path))?;
        let end = file.info().length;
        let searched = Searched { file: Rc::new(file), pool: runtime.pool(), end };
        let scanner = searched.scanner(0);
        Ok(SegmentReader { searched, scanner, path: path.to_owned(), end: Offset::ZERO })
    }

    /// How long the file was when it was opened.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.searched.end
    }

    /// What comes next; `None` at the end of the file.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn next(&mut self) -> Result<Option<Piece<'_>>, Error> {
        let start = self.scanner.position();
        let reason = match self.scanner.next().await.map_err(Error::io(&self.path))? {
            Scanned::End => return Ok(None),
            Scanned::Bad(reason) => reason,
            Scanned::Batch { position, .. } => {
                // Asked again, because the borrow of the first answer would last to the end.
                self.scanner.step_back(position);
                let again = self.scanner.next().await.map_err(Error::io(&self.path))?;
                let Scanned::Batch { position, batch } = again else { return Ok(None) };
                self.end = self.end.max(batch.next_offset());
                return Ok(Some(Piece::Batch { position, batch }));
            }
        };
        let is_zero = self.pass_garbage().await.map_err(Error::io(&self.path))?;
        let bytes = self.scanner.position() - start;
        Ok(Some(if is_zero {
            Piece::Zeros { position: start, bytes }
        } else {
            Piece::Garbage { position: start, bytes, reason }
        }))
    }

    /// Goes on to the next sound batch of a later offset, or to the end of the file; whether all
    /// that was passed is zeros.
    async fn pass_garbage(&mut self) -> Result<bool, Errno> {
        let start = self.scanner.position();
        let offsets = self.end..self.end.plus(OFFSETS_AHEAD_MAX);
        let sought = Sought { offsets, reaches: None, boundary: None, gaps: Gaps::Compacted };
        let sound = self.searched.next_sound(start, &sought).await?;
        let stop = sound.map_or(self.searched.end, |sound| sound.position);
        let mut is_zero = true;
        while self.scanner.position() < stop {
            let length = length_of(stop - self.scanner.position()).min(WINDOW_BYTES);
            let window = self.scanner.peek(length).await?;
            is_zero &= window.iter().all(|byte| *byte == 0);
            self.scanner.skip(length);
        }
        Ok(is_zero)
    }
}
