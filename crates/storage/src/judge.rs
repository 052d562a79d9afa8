//! Judges what a start finds where a batch should be: the end, a torn write, or damage.
//!
//! ```text
//!   zeros to the end                                   the log ends there
//!   below the mark                                     damage
//!   above it, a sound batch more than the window on    damage: so much was never in flight
//!   above it                                           a torn write: it is cut off
//! ```
//! Damage is neither cut off nor served; the scan goes on with the first sound batch behind it.

use std::rc::Rc;

use model::{Offset, record_batch::RecordBatch};
use runtime::{Access, Cache, Create, Errno, File, OpenOptions};

use crate::{
    Damage, Error,
    damage::Fault,
    index::{OFFSET_ENTRY_BYTES, OffsetEntry},
    inspect::{Gaps, Inspector, Rules, Step, UNKNOWN_LIMIT, find_extent},
    recovery::Recovery,
    resync::{Searched, Sought, Sound},
    scan::Scanned,
    segment::{Segment, segment_path},
    storage::UNSYNCED_BYTES_MAX,
    tail::position_of,
};

/// How much is looked at at once.
const WINDOW_BYTES: usize = 1 << 20;

/// What something is that is no batch.
pub(crate) enum Verdict {
    /// Nothing: zeros to the end.
    Ended,
    /// A torn write with so many bytes.
    Torn(u64),
    /// Damage, behind which the log goes on here.
    Damaged(Sound),
    /// Damage to the end of the segment.
    DamagedToEnd,
}

impl Recovery {
    pub(crate) async fn judge(
        &mut self,
        index: usize,
        searched: &Searched,
        start: u64,
        fault: &Fault,
    ) -> Result<Verdict, Errno> {
        let garbage = garbage(searched, start).await?;
        if garbage == 0 {
            return Ok(Verdict::Ended);
        }
        let end = self.state.end;
        let is_damage = end < self.mark
            || self.is_followed(index, start, end).await.map_err(|error| errno_of(&error))?;
        if !is_damage {
            return Ok(Verdict::Torn(garbage));
        }
        let next = self.bases.get(index + 1).copied();
        let gaps = if self.may_have_gaps(end) { Gaps::Compacted } else { Gaps::None };
        let limit = next.unwrap_or(UNKNOWN_LIMIT);
        let boundary = Some(self.mark).filter(|mark| next.is_none_or(|next| *mark < next));
        let rules = Rules { limit, gaps, boundary, epochs: None };
        let mut damage = find_extent(searched, &rules, start, end, fault).await?;
        damage.path = segment_path(&self.directory, self.bases[index], "log");
        if damage.positions.end < searched.end {
            let sound = Sound { position: damage.positions.end, base_offset: damage.to };
            self.state.damages.add(damage);
            return Ok(Verdict::Damaged(sound));
        }
        // Where nothing follows, it is not known which offsets were given out.
        self.end_is_damaged = next.is_none();
        let to = next.unwrap_or_else(|| self.mark.max(end.next()));
        self.state.damages.add(Damage { to, ..damage });
        self.state.end = to;
        Ok(Verdict::DamagedToEnd)
    }

    /// True if a sound batch of a later offset lies further on than what may have been in flight,
    /// in this segment or in a later one.
    pub(crate) async fn is_followed(
        &self,
        index: usize,
        start: u64,
        end: Offset,
    ) -> Result<bool, Error> {
        let mut window = UNSYNCED_BYTES_MAX;
        let mut from = start;
        for base in &self.bases[index..] {
            let path = segment_path(&self.directory, *base, "log");
            let options =
                OpenOptions { create: Create::Never, access: Access::Read, cache: Cache::Direct };
            let file = File::open(&self.runtime, &path, options).await.map_err(Error::io(&path))?;
            let length = file.info().length;
            let searched = Searched { file: Rc::new(file), pool: self.runtime.pool(), end: length };
            let rest = length.saturating_sub(from);
            if rest > window {
                let gaps = if self.may_have_gaps(end) { Gaps::Compacted } else { Gaps::None };
                let offsets = end.next()..UNKNOWN_LIMIT;
                let sought = Sought { offsets, reaches: None, boundary: None, gaps };
                let found = searched.search(from + window, &sought).await;
                if found.map_err(Error::io(&path))?.is_some() {
                    return Ok(true);
                }
            }
            window = window.saturating_sub(rest);
            from = 0;
        }
        Ok(false)
    }
}

impl Recovery {
    /// Whether a segment that the scan does not reach ends where the next one begins: what its last
    /// index entry points to is read, some KiB. Where that is not what it has to be, all of the
    /// segment is looked at. One without an index is left to its first reader and to the scrub.
    pub(crate) async fn check_end_of(
        &mut self,
        segment: &Segment,
        next: Offset,
    ) -> Result<(), Error> {
        let (base, length) = (segment.base_offset, segment.size());
        if self.state.config.cleanup_policy.compact {
            return Ok(());
        }
        let path = segment_path(&self.directory, base, "log");
        let Some((position, entry)) = self.last_entry(base).await? else { return Ok(()) };
        let file = File::open(&self.runtime, &path, OpenOptions::READ).await;
        let file = Rc::new(file.map_err(Error::io(&path))?);
        let searched = Searched { file: Rc::clone(&file), pool: self.runtime.pool(), end: length };
        let rules = Rules { limit: next, gaps: Gaps::None, boundary: None, epochs: None };
        let reached = reach(&searched, position, entry, &rules).await.map_err(Error::io(&path))?;
        if reached == Some(next) {
            return Ok(());
        }
        let pool = self.runtime.pool();
        let mut inspector = Inspector::new(file, path.clone(), pool, 0..length, base, rules);
        loop {
            match inspector.step().await.map_err(Error::io(&path))? {
                Step::Sound { .. } => {}
                Step::Damaged(damage) => {
                    self.state.damages.add(damage);
                }
                Step::End => return Ok(()),
            }
        }
    }

    /// The last entry of a segment's index: where the batch starts, and its last offset.
    async fn last_entry(&self, base: Offset) -> Result<Option<(u64, Offset)>, Error> {
        let path = segment_path(&self.directory, base, "index");
        let file = match File::open(&self.runtime, &path, OpenOptions::READ).await {
            Ok(file) => file,
            Err(Errno::NOT_FOUND) => return Ok(None),
            Err(errno) => return Err(Error::Io { path, errno }),
        };
        let Some(start) = file.info().length.checked_sub(position_of(OFFSET_ENTRY_BYTES)) else {
            return Ok(None);
        };
        let buffer = self.runtime.pool().take(OFFSET_ENTRY_BYTES);
        let buffer = file.read(start, OFFSET_ENTRY_BYTES, buffer).await;
        let buffer = buffer.map_err(Error::io(&path))?;
        file.close().await;
        let Ok(entry) = buffer[..].try_into() else { return Ok(None) };
        let OffsetEntry { delta, position } = OffsetEntry::decode(entry);
        // One that was never cut to its length ends with zeros.
        Ok((delta > 0).then(|| (u64::from(position), base.plus(i64::from(delta)))))
    }
}

/// A batch that begins a leader epoch is not followed by one of an earlier epoch: then it is its own
/// epoch, which no CRC covers, that has changed.
pub(crate) async fn check_new_epoch(
    batch: &RecordBatch<'_>,
    position: u64,
    searched: &Searched,
) -> Result<Result<(), Fault>, Errno> {
    let found = batch.leader_epoch();
    let mut scanner = searched.scanner(position + position_of(batch.size()));
    let Scanned::Batch { batch: next, .. } = scanner.next().await? else { return Ok(Ok(())) };
    let expected = next.leader_epoch();
    let is_odd = next.base_offset() == batch.next_offset()
        && (0..found.0).contains(&expected.0)
        && next.verify_crc().is_ok();
    Ok(if is_odd { Err(Fault::Epoch { expected, found }) } else { Ok(()) })
}

/// Walks from an index entry to the end of a segment; gives the offset behind it, if all is sound.
async fn reach(
    searched: &Searched,
    position: u64,
    entry: Offset,
    rules: &Rules,
) -> Result<Option<Offset>, Errno> {
    if position >= searched.end {
        return Ok(None);
    }
    let mut scanner = searched.scanner(position);
    let mut expected = None;
    loop {
        match scanner.next().await? {
            Scanned::End => return Ok(expected),
            Scanned::Batch { batch, .. } => {
                let is_entry = expected.is_some() || batch.last_offset() == entry;
                if !is_entry || rules.check(&batch, expected).is_err() {
                    return Ok(None);
                }
                expected = Some(batch.next_offset());
            }
            Scanned::Bad(_) => return Ok(None),
        }
    }
}

fn errno_of(error: &Error) -> Errno {
    match error {
        Error::Io { errno, .. } | Error::Unread { errno, .. } => *errno,
        Error::Locked(_)
        | Error::Malformed { .. }
        | Error::Damaged { .. }
        | Error::Fenced(_)
        | Error::NotDurable(_) => Errno::IO,
    }
}

/// How many bytes from `start` on are not the zeros at the end.
async fn garbage(searched: &Searched, start: u64) -> Result<u64, Errno> {
    let mut scanner = searched.scanner(start);
    let mut garbage = 0;
    loop {
        let at = scanner.position();
        let window = scanner.peek(WINDOW_BYTES).await?;
        if window.is_empty() {
            return Ok(garbage);
        }
        // Most often it is zeros: space secured ahead, some MiB a log.
        if !are_zeros(window)
            && let Some(last) = window.iter().rposition(|byte| *byte != 0)
        {
            garbage = at + position_of(last) + 1 - start;
        }
        let length = window.len();
        scanner.skip(length);
    }
}

/// Looks at all bytes without a branch for each: at the speed of memory.
fn are_zeros(bytes: &[u8]) -> bool {
    bytes.chunks(1024).all(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0)
}
