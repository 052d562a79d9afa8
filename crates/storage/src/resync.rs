//! Finds where a segment can be read again behind something that is no batch of it.
//!
//! First where the broken batch's own length says that the next one starts, then anywhere: there
//! a batch counts only if another follows it, or nothing at all, so that what a record's value
//! holds is not taken for the log.

use std::{ops::Range, rc::Rc};

use model::{
    Offset,
    record_batch::{Counts, HEADER_BYTES, MAGIC, RecordBatch, position},
};
use runtime::{BufferPool, Errno, File};

use crate::{
    scan::{Scanned, Scanner},
    tail::position_of,
};

/// The largest batch that is believed where the topic's setting is lower (it may have been higher
/// before).
pub(crate) const BATCH_BYTES_MAX: usize = 64 << 20;
/// How much is searched at once.
const WINDOW_BYTES: usize = 1 << 20;

/// A file that is searched, up to `end`.
#[derive(Clone)]
pub(crate) struct Searched {
    pub(crate) file: Rc<File>,
    pub(crate) pool: BufferPool,
    pub(crate) end: u64,
}

/// A batch that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sound {
    pub(crate) position: u64,
    pub(crate) base_offset: Offset,
}

impl Searched {
    pub(crate) fn scanner(&self, start: u64) -> Scanner {
        Scanner::new(Rc::clone(&self.file), self.pool.clone(), start, self.end, BATCH_BYTES_MAX)
    }

    /// The first sound batch at or behind `bad` whose first offset lies in `offsets`.
    pub(crate) async fn next_sound(
        &self,
        bad: u64,
        offsets: &Range<Offset>,
    ) -> Result<Option<Sound>, Errno> {
        let mut scanner = self.scanner(bad);
        let size = {
            let head = scanner.peek(HEADER_BYTES).await?;
            RecordBatch::size_of_first(head).unwrap_or(0)
        };
        // Sound itself, and only its offset is not what it should be: then records are missing before
        // it if what follows says so, too; else it is the offset that is wrong.
        if let Some(sound) = self.sound_at(bad, offsets, Alone::Nothing).await? {
            return Ok(Some(sound));
        }
        if size > 0
            && let Some(sound) =
                self.sound_at(bad + position_of(size), offsets, Alone::Enough).await?
        {
            return Ok(Some(sound));
        }
        self.search(bad + 1, offsets).await
    }

    /// The first sound batch at or behind `start`, wherever it begins.
    pub(crate) async fn search(
        &self,
        start: u64,
        offsets: &Range<Offset>,
    ) -> Result<Option<Sound>, Errno> {
        let mut scanner = self.scanner(start);
        loop {
            let at = scanner.position();
            let window = scanner.peek(WINDOW_BYTES).await?;
            if window.len() < HEADER_BYTES {
                return Ok(None);
            }
            let last = window.len() - HEADER_BYTES;
            let candidates: Vec<u64> = (0..=last)
                .filter(|index| is_candidate(&window[*index..], offsets))
                .map(|index| at + position_of(index))
                .collect();
            for candidate in candidates {
                if let Some(sound) = self.sound_at(candidate, offsets, Alone::Doubtful).await? {
                    return Ok(Some(sound));
                }
            }
            scanner.skip(last + 1);
        }
    }

    async fn sound_at(
        &self,
        position: u64,
        offsets: &Range<Offset>,
        alone: Alone,
    ) -> Result<Option<Sound>, Errno> {
        if position >= self.end {
            return Ok(None);
        }
        let mut scanner = self.scanner(position);
        let (base_offset, next) = match scanner.next().await? {
            Scanned::Batch { batch, .. } if is_sound(&batch, offsets) => {
                (batch.base_offset(), batch.next_offset())
            }
            Scanned::Batch { .. } | Scanned::End | Scanned::Bad(_) => return Ok(None),
        };
        let found = Some(Sound { position, base_offset });
        if alone == Alone::Enough {
            return Ok(found);
        }
        let is_followed = match scanner.next().await? {
            Scanned::End => true,
            Scanned::Batch { batch, .. } => is_sound(&batch, &(next..offsets.end)),
            Scanned::Bad(_) => scanner.peek(HEADER_BYTES).await?.iter().all(|byte| *byte == 0),
        };
        Ok(found.filter(|_| is_followed))
    }
}

/// Whether a sound batch with something else behind it counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Alone {
    /// It does, whatever follows.
    Enough,
    /// If nothing follows.
    Doubtful,
    /// Never: the next one has to continue it.
    Nothing,
}

fn is_sound(batch: &RecordBatch<'_>, offsets: &Range<Offset>) -> bool {
    offsets.contains(&batch.base_offset())
        && batch.next_offset() <= offsets.end
        && batch.verify_crc().is_ok()
        && batch.check_counts(Counts::Sparse).is_ok()
}

fn is_candidate(bytes: &[u8], offsets: &Range<Offset>) -> bool {
    if bytes[position::MAGIC] != MAGIC {
        return false;
    }
    let base = bytes[..8].try_into().expect("the range has eight bytes");
    offsets.contains(&Offset(i64::from_be_bytes(base)))
        && RecordBatch::size_of_first(bytes).is_ok_and(|size| size <= BATCH_BYTES_MAX)
}
