//! Finds where a segment can be read again behind something that is no batch of it.
//!
//! First where the broken batch's own length says that the next one starts, then anywhere. What is
//! found is believed only if it leads on: batch after batch, to where the segment's batches are known
//! to end, through an offset at which one is known to begin, or for longer than a disk writes at
//! once. What a record's value holds does not, nor does a write that went to the wrong place: the
//! batches of another partition, or of another time, are sound, and their offsets may be later ones.

use std::{ops::Range, rc::Rc};

use model::{
    Offset,
    record_batch::{Counts, HEADER_BYTES, MAGIC, RecordBatch, position},
};
use runtime::{BufferPool, Errno, File};

use crate::{
    inspect::{Gaps, is_zero},
    scan::{Scanned, Scanner},
    tail::position_of,
};

/// The largest batch that is believed where the topic's setting is lower (it may have been higher
/// before).
pub(crate) const BATCH_BYTES_MAX: usize = 64 << 20;
/// How much is searched at once.
const WINDOW_BYTES: usize = 1 << 20;
/// Batches that follow each other for so long are where they belong: more than a log writes at once,
/// and a disk takes.
const LEAD_BYTES: u64 = 8 << 20;

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

/// What is looked for behind something broken.
#[derive(Clone, Debug)]
pub(crate) struct Sought {
    /// Where the offsets of what follows lie.
    pub(crate) offsets: Range<Offset>,
    /// Where the last batch in the file has to end, if that is known.
    pub(crate) reaches: Option<Offset>,
    /// Where a batch has to begin, if that is known.
    pub(crate) boundary: Option<Offset>,
    pub(crate) gaps: Gaps,
}

impl Searched {
    pub(crate) fn scanner(&self, start: u64) -> Scanner {
        Scanner::new(Rc::clone(&self.file), self.pool.clone(), start, self.end, BATCH_BYTES_MAX)
    }

    /// The first batch at or behind `bad` that is believed.
    pub(crate) async fn next_sound(
        &self,
        bad: u64,
        sought: &Sought,
    ) -> Result<Option<Sound>, Errno> {
        // Sound itself, and only its offset is not what it should be: then records are missing before
        // it if what follows says so, too; else it is the offset that is wrong.
        if let Some(sound) = self.sound_at(bad, &sought.offsets).await?
            && self.leads_on(sound, sought).await?.is_believed
        {
            return Ok(Some(sound));
        }
        // What is broken had an offset at least. One that no CRC covers may have become its.
        let start = Offset(sought.offsets.start.0.saturating_add(1));
        let behind = Sought { offsets: start..sought.offsets.end, ..sought.clone() };
        if let Some(head) = self.head_at(bad).await?
            && let Some(sound) = self.sound_at(bad + head.bytes, &behind.offsets).await?
        {
            let is_next =
                head.offsets.start == sought.offsets.start && head.offsets.end == sound.base_offset;
            if is_next || self.leads_on(sound, &behind).await?.is_believed {
                return Ok(Some(sound));
            }
        }
        self.search(bad + 1, &behind).await
    }

    /// The first batch at or behind `start` that is believed, wherever it begins.
    pub(crate) async fn search(&self, start: u64, sought: &Sought) -> Result<Option<Sound>, Errno> {
        let mut scanner = self.scanner(start);
        // What leads nowhere is passed as a whole.
        let mut passed = start;
        loop {
            let at = scanner.position();
            let window = scanner.peek(WINDOW_BYTES).await?;
            if window.len() < HEADER_BYTES {
                return Ok(None);
            }
            let last = window.len() - HEADER_BYTES;
            let candidates: Vec<u64> = (0..=last)
                .filter(|index| is_candidate(&window[*index..], &sought.offsets))
                .map(|index| at + position_of(index))
                .collect();
            for candidate in candidates {
                if candidate < passed {
                    continue;
                }
                if let Some(sound) = self.sound_at(candidate, &sought.offsets).await? {
                    let lead = self.leads_on(sound, sought).await?;
                    if lead.is_believed {
                        return Ok(Some(sound));
                    }
                    passed = lead.end;
                }
            }
            scanner.skip(last + 1);
        }
    }

    async fn sound_at(
        &self,
        position: u64,
        offsets: &Range<Offset>,
    ) -> Result<Option<Sound>, Errno> {
        if position >= self.end {
            return Ok(None);
        }
        Ok(match self.scanner(position).next().await? {
            Scanned::Batch { batch, .. } if is_sound(&batch, offsets) => {
                Some(Sound { position, base_offset: batch.base_offset() })
            }
            Scanned::Batch { .. } | Scanned::End | Scanned::Bad(_) => None,
        })
    }

    /// Follows the batches from a sound one on. A broken one between them is passed if its own
    /// header fits, with the one behind it.
    async fn leads_on(&self, first: Sound, sought: &Sought) -> Result<Lead, Errno> {
        let mut scanner = self.scanner(first.position);
        let mut chain = Chain { next: first.base_offset, count: 0, is_through: false, sought };
        if sought.boundary.is_some_and(|boundary| boundary < first.base_offset) {
            return Ok(Lead { is_believed: false, end: first.position + 1 });
        }
        loop {
            let at = scanner.position();
            if at - first.position >= LEAD_BYTES || chain.is_through {
                return Ok(Lead { is_believed: true, end: at });
            }
            let found = match scanner.next().await? {
                Scanned::End => return Ok(Lead { is_believed: chain.ends_well(), end: at }),
                Scanned::Batch { batch, .. } if is_sound(&batch, &sought.offsets) => {
                    Some(batch.base_offset()..batch.next_offset())
                }
                Scanned::Batch { .. } | Scanned::Bad(_) => None,
            };
            if found.is_some_and(|offsets| chain.take(&offsets)) {
                continue;
            }
            let head = self.head_at(at).await?;
            if let Some(head) = head.filter(|head| chain.take(&head.offsets)) {
                let behind = at + head.bytes;
                let next = self.sound_at(behind, &sought.offsets).await?;
                if behind == self.end || next.is_some_and(|next| chain.fits(next.base_offset)) {
                    scanner = self.scanner(behind);
                    continue;
                }
            }
            let is_end = is_zero(&mut self.scanner(at)).await?;
            let is_believed = if is_end { chain.ends_well() } else { chain.breaks_well() };
            return Ok(Lead { is_believed, end: at.max(first.position + 1) });
        }
    }

    /// What a header says that may belong to a broken batch.
    async fn head_at(&self, position: u64) -> Result<Option<Head>, Errno> {
        let mut scanner = self.scanner(position);
        let head = scanner.peek(HEADER_BYTES).await?;
        if head.len() < HEADER_BYTES {
            return Ok(None);
        }
        let Ok(bytes) = RecordBatch::size_of_first(head) else { return Ok(None) };
        let bytes = position_of(bytes);
        if bytes > self.end - position {
            return Ok(None);
        }
        let base = head[..8].try_into().expect("the range has eight bytes");
        let delta = head[position::LAST_OFFSET_DELTA..position::LAST_OFFSET_DELTA + 4].try_into();
        let delta = i32::from_be_bytes(delta.expect("the range has four bytes"));
        let base = Offset(i64::from_be_bytes(base));
        let end = base.0.checked_add(i64::from(delta)).and_then(|last| last.checked_add(1));
        let Some(end) = end.filter(|end| base.0 >= 0 && *end > base.0) else { return Ok(None) };
        Ok(Some(Head { offsets: base..Offset(end), bytes }))
    }
}

/// A header.
struct Head {
    offsets: Range<Offset>,
    bytes: u64,
}

/// Where a sound batch leads.
struct Lead {
    is_believed: bool,
    end: u64,
}

/// Batches of which each follows the one before it.
struct Chain<'a> {
    next: Offset,
    count: u64,
    /// One of them begins or ends where one has to begin.
    is_through: bool,
    sought: &'a Sought,
}

impl Chain<'_> {
    fn fits(&self, base: Offset) -> bool {
        match self.sought.gaps {
            Gaps::None => base == self.next,
            Gaps::Compacted => base >= self.next,
        }
    }

    fn take(&mut self, offsets: &Range<Offset>) -> bool {
        if !self.fits(offsets.start) {
            return false;
        }
        self.pass(offsets.start);
        self.next = offsets.end;
        self.count += 1;
        true
    }

    fn pass(&mut self, base: Offset) {
        let is_at = |boundary: Offset| self.next <= boundary && boundary <= base;
        self.is_through |= self.sought.boundary.is_some_and(is_at);
    }

    fn ends_well(&mut self) -> bool {
        self.pass(self.next);
        let is_reached = match self.sought.gaps {
            Gaps::None => self.sought.reaches.is_none_or(|end| self.next == end),
            Gaps::Compacted => true,
        };
        is_reached && (self.is_through || self.sought.boundary.is_none())
    }

    /// Something else follows that is no batch of this chain.
    fn breaks_well(&mut self) -> bool {
        self.pass(self.next);
        let is_nothing_known = self.sought.boundary.is_none() && self.sought.reaches.is_none();
        self.is_through || (is_nothing_known && self.count > 1)
    }
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
