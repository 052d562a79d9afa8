//! Compaction: of the records with one key, only the last is kept; offsets, order and what
//! transactions decided stay as they are.
//!
//! ```text
//!   log start        cleaned up to         first that may not be cleaned        log end
//!      |--- clean segments ---|--- dirty segments ---|--- younger, open, active ---|
//!                             `- 1. survey: how many records, which transactions were aborted
//!                             `- 2. map: the last offset of each key
//!      `------------------------ 3. rewrite in groups of up to segment.bytes, swap each in
//! ```
//! A round reads the dirty part twice and the clean part once, through one window; it writes what
//! is kept. Its memory: the map, the window, one batch decompressed. It works in slices of
//! [`pace::SLICE_WORK`], in the background's share of the shard, and gives up at once where the
//! log is closed, deleted or no longer compacted.
//!
//! A segment is rewritten only where everything in it is committed, below the first open
//! transaction, and older than `min.compaction.lag.ms`; the active one never is. Every batch's CRC
//! is checked before anything of it is believed: damage ends the round and changes nothing.

mod filter;
mod offset_map;
mod pace;
mod plan;
mod schedule;
pub(crate) mod swap;
mod transactions;
mod writer;

use model::{
    Offset,
    collections::BTreeMap,
    record_batch::{RecordBatch, batches},
};
use runtime::Errno;

use self::{
    filter::{Fate, Filter},
    offset_map::OffsetMap,
    pace::Pace,
    plan::Source,
    transactions::{AbortedTransactions, Judgement, Passage},
    writer::CleanedWriter,
};
use crate::{
    Error, FirstBatch, Log, ReadError,
    damage::Fault,
    inspect::{Gaps, Rules},
    log::Status,
    scan::{Scanned, Scanner},
    segment::segment_path,
};

pub(crate) use self::schedule::Cleaner;

/// The largest batch that is read into memory, whatever its header claims.
const BATCH_BYTES_MAX: usize = 128 << 20;

/// How much is read at once of what lies behind the dirty part.
const READ_BYTES: usize = 256 << 10;

/// What a log knows of its compaction.
#[derive(Default)]
pub(crate) struct CompactionState {
    /// Below it no key appears twice, and gaps between batches are no damage.
    pub(crate) cleaned_to: Offset,
    /// How often segments were replaced: what a reader found while that happened is not believed.
    pub(crate) swaps: u64,
    /// A round runs.
    pub(crate) is_running: bool,
    /// It is among those that the shard's cleaner looks at.
    pub(crate) is_listed: bool,
    /// A round failed: not before this time of the wall clock.
    pub(crate) retry_at_ms: i64,
}

/// What a round of compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// The bytes that were there.
    pub bytes_before: u64,
    /// The bytes that are left of them.
    pub bytes_after: u64,
    /// Records that were dropped.
    pub records_dropped: u64,
    /// Compressed batches that could not be looked into, and stay as they are.
    pub batches_unread: u64,
    /// Below it the log is clean now.
    pub cleaned_to: Offset,
}

/// Why a round ended early. The log is as it was, or as whole groups left it.
#[derive(Debug)]
pub(crate) enum Interrupted {
    /// The log is closed, deleted, fenced, or not compacted any more.
    NotWanted,
    /// Something failed.
    Failed(Error),
}

impl From<Error> for Interrupted {
    fn from(error: Error) -> Interrupted {
        Interrupted::Failed(error)
    }
}

/// Says that a round runs, until it is dropped.
struct Running<'a>(&'a Log);

impl<'a> Running<'a> {
    fn begin(log: &'a Log) -> Option<Running<'a>> {
        let mut state = log.0.state.borrow_mut();
        let was_running = std::mem::replace(&mut state.compaction.is_running, true);
        (!was_running).then(|| Running(log))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.0.state.borrow_mut().compaction.is_running = false;
        self.0.0.progress.notify_all();
    }
}

impl Log {
    /// Compacts what may be compacted now, whatever `min.cleanable.dirty.ratio` says. `None` where
    /// there is nothing to do, or the log went away meanwhile.
    ///
    /// # Errors
    /// The disk's. What was replaced stays so; the rest is as it was.
    pub async fn compact(&self) -> Result<Option<Compacted>, Error> {
        let Some(_running) = Running::begin(self) else { return Ok(None) };
        match Box::pin(self.compact_round()).await {
            Ok(compacted) => Ok(compacted),
            Err(Interrupted::NotWanted) => Ok(None),
            Err(Interrupted::Failed(error)) => Err(error),
        }
    }

    /// Below it, the log is compacted.
    #[must_use]
    pub fn cleaned_to(&self) -> Offset {
        self.0.state.borrow().compaction.cleaned_to
    }

    async fn compact_round(&self) -> Result<Option<Compacted>, Interrupted> {
        let sources = self.cleanable_sources().await;
        let dirty_from = self.dirty_from();
        let dirty: Vec<Source> =
            sources.iter().copied().filter(|source| source.end > dirty_from).collect();
        if dirty.is_empty() {
            return Ok(None);
        }
        let mut round = Round {
            log: self,
            pace: Pace::new(self.runtime()),
            now_ms: self.runtime().wall_clock_ms(),
            compacted: Compacted::default(),
        };
        let (records, aborted) = Box::pin(round.survey(&dirty)).await?;
        let memory = self.0.storage.options.dedupe_buffer_bytes;
        let random = (self.runtime().random(), self.runtime().random());
        let mut map = OffsetMap::new(records, memory, random);
        let mapped_end = Box::pin(round.fill_map(&mut map, &dirty, dirty_from, &aborted)).await?;
        let rewritten: Vec<Source> =
            sources.into_iter().filter(|source| source.base < mapped_end).collect();
        Box::pin(round.rewrite(&rewritten, Keys { map, mapped_end }, &aborted)).await?;
        let compacted = Compacted { cleaned_to: mapped_end, ..round.compacted };
        self.0.state.borrow_mut().compaction.cleaned_to = mapped_end;
        tracing::info!(
            topic = %self.0.topic,
            partition = self.0.partition.0,
            offset = mapped_end.0,
            bytes_before = compacted.bytes_before,
            bytes_after = compacted.bytes_after,
            records_dropped = compacted.records_dropped,
            "compacted up to offset {mapped_end}"
        );
        Ok(Some(compacted))
    }

    /// True while a round makes sense.
    fn is_compaction_wanted(&self) -> bool {
        let state = self.0.state.borrow();
        state.status == Status::Open && !state.is_stopping && state.config.cleanup_policy.compact
    }
}

/// What the map knows, and up to where.
struct Keys {
    map: OffsetMap,
    /// Records from here on are kept: later ones of their key are not known.
    mapped_end: Offset,
}

/// A walk over the batches of a source.
struct Walk {
    scanner: Scanner,
    rules: Rules,
    /// Where the next batch begins, or before it.
    expected: Offset,
}

/// One round over one log.
struct Round<'a> {
    log: &'a Log,
    pace: Pace,
    now_ms: i64,
    compacted: Compacted,
}

impl Round<'_> {
    /// Lets others run where a slice's work is done, and ends the round where nobody wants it.
    async fn breathe(&mut self, work: usize) -> Result<(), Interrupted> {
        if self.pace.spend(work) {
            self.pace.rest().await;
            if !self.log.is_compaction_wanted() {
                return Err(Interrupted::NotWanted);
            }
        }
        Ok(())
    }

    async fn walk(&self, source: &Source) -> Result<Walk, Interrupted> {
        let file = match self.log.readable_file(source.base).await {
            Ok(file) => file,
            Err(ReadError::Io(errno)) => return Err(self.failed(source, errno).into()),
            // Retention was faster, or the log is gone.
            Err(_) => return Err(Interrupted::NotWanted),
        };
        let pool = self.log.0.storage.pool.clone();
        let scanner = Scanner::new(file, pool, 0, source.size, BATCH_BYTES_MAX);
        let state = self.log.0.state.borrow();
        let index = state.segment_index_of(source.base).ok_or(Interrupted::NotWanted)?;
        let rules = Rules { gaps: Gaps::Compacted, ..state.rules_of(&state.whole_extent(index)) };
        Ok(Walk { scanner, rules, expected: source.base })
    }

    fn failed(&self, source: &Source, errno: Errno) -> Error {
        let path = segment_path(&self.log.0.directory.borrow(), source.base, "log");
        Error::Io { path, errno }
    }

    /// The next batch of a source: sound, or none is.
    async fn next<'s>(
        &self,
        source: &Source,
        walk: &'s mut Walk,
    ) -> Result<Option<RecordBatch<'s>>, Interrupted> {
        let (position, offset) = (walk.scanner.position(), walk.expected);
        let scanned = walk.scanner.next().await.map_err(|errno| self.failed(source, errno))?;
        let fault = match scanned {
            Scanned::End => return Ok(None),
            Scanned::Bad(error) => Fault::Batch(error),
            Scanned::Batch { batch, .. } => match walk.rules.check(&batch, Some(offset)) {
                Ok(()) => {
                    walk.expected = batch.next_offset();
                    return Ok(Some(batch));
                }
                Err(fault) => fault,
            },
        };
        let path = segment_path(&self.log.0.directory.borrow(), source.base, "log");
        let what = fault.to_string();
        Err(Error::Damaged { path, position, offset, what }.into())
    }

    /// How many records the dirty part has at most, and which of its transactions were aborted.
    async fn survey(
        &mut self,
        dirty: &[Source],
    ) -> Result<(usize, AbortedTransactions), Interrupted> {
        let mut records = 0usize;
        let mut aborted = AbortedTransactions::default();
        for source in dirty {
            let mut walk = self.walk(source).await?;
            while let Some(batch) = self.next(source, &mut walk).await? {
                records =
                    records.saturating_add(usize::try_from(batch.record_count()).unwrap_or(0));
                aborted.note(&batch);
                let work = batch.size() / 8;
                self.breathe(work).await?;
            }
        }
        let end = dirty[dirty.len() - 1].end;
        aborted.end_of_part();
        self.survey_behind(end, &mut aborted).await?;
        Ok((records, aborted))
    }

    /// How the transactions end that began in the dirty part: their markers may lie behind it, in
    /// the active segment too.
    async fn survey_behind(
        &mut self,
        end: Offset,
        aborted: &mut AbortedTransactions,
    ) -> Result<(), Interrupted> {
        let mut from = end;
        let up_to = self.log.high_watermark();
        while !aborted.are_all_ended() {
            let found = self.log.read(from, READ_BYTES, FirstBatch::Whole, up_to).await;
            let found = match found {
                Ok(found) if !found.batches.is_empty() => found,
                // No marker where the producers' state says that there is one: nobody knows.
                Ok(_) | Err(_) => return Err(Interrupted::NotWanted),
            };
            from = found.next_offset;
            for batch in batches(&found.batches.concat()).map_while(Result::ok) {
                aborted.note(&batch);
            }
            self.breathe(found.size / 8).await?;
        }
        Ok(())
    }

    /// Notes the last offset of each key in the dirty part; gives the offset behind the last batch
    /// for which there was room.
    async fn fill_map(
        &mut self,
        map: &mut OffsetMap,
        dirty: &[Source],
        from: Offset,
        aborted: &AbortedTransactions,
    ) -> Result<Offset, Interrupted> {
        let mut filter = Filter::new(self.now_ms, 0);
        let mut mapped_end = from;
        for source in dirty {
            let mut walk = self.walk(source).await?;
            while let Some(batch) = self.next(source, &mut walk).await? {
                let is_data = !batch.is_control() && !aborted.contains(&batch);
                if batch.next_offset() <= from || !is_data {
                    self.breathe(batch.size() / 8).await?;
                    mapped_end = mapped_end.max(batch.next_offset());
                    continue;
                }
                let count = usize::try_from(batch.record_count()).unwrap_or(0);
                if map.room() < count {
                    if !map.is_empty() {
                        return Ok(mapped_end);
                    }
                    // A round takes one batch at least: else there would be no progress.
                    map.grow(count);
                }
                let records = filter.records(&batch, &mut self.pace).await;
                let records = records.into_iter().flatten();
                for record in records.map_while(Result::ok) {
                    let offset = batch.offset_of(&record);
                    if let Some(key) = record.key.filter(|_| offset >= from) {
                        map.put(key, offset);
                    }
                    if self.pace.spend(record.bytes().len() + pace::RECORD_WORK) {
                        self.pace.rest().await;
                    }
                }
                mapped_end = mapped_end.max(batch.next_offset());
                self.breathe(0).await?;
            }
            // What compaction left out at a segment's end is no part of it.
            mapped_end = mapped_end.max(source.end);
        }
        Ok(mapped_end)
    }

    async fn rewrite(
        &mut self,
        sources: &[Source],
        keys: Keys,
        aborted: &AbortedTransactions,
    ) -> Result<(), Interrupted> {
        let segment_bytes = u64::try_from(self.log.config().segment_bytes).unwrap_or(0);
        let mut passage = Passage::default();
        for group in plan::groups(sources, segment_bytes) {
            self.rewrite_group(group, &keys, aborted, &mut passage).await?;
        }
        Ok(())
    }

    async fn rewrite_group(
        &mut self,
        group: &[Source],
        keys: &Keys,
        aborted: &AbortedTransactions,
        passage: &mut Passage,
    ) -> Result<(), Interrupted> {
        let before: u64 = group.iter().map(|source| source.size).sum();
        // Both the old and the new segments take space until the old ones are gone.
        let claim = self.log.claim_space(before, before).await;
        drop(claim.map_err(Error::io(self.log.0.directory.borrow().as_path()))?);
        let mut writer = CleanedWriter::create(self.log, group[0].base).await?;
        match Box::pin(self.fill(&mut writer, group, keys, aborted, passage)).await {
            Ok(()) => {}
            Err(interrupted) => {
                writer.discard().await;
                return Err(interrupted);
            }
        }
        let after = self.log.swap_in(group, writer).await?;
        self.compacted.bytes_before += before;
        self.compacted.bytes_after += after;
        Ok(())
    }

    /// Writes what is kept of a group's batches.
    async fn fill(
        &mut self,
        writer: &mut CleanedWriter,
        group: &[Source],
        keys: &Keys,
        aborted: &AbortedTransactions,
        passage: &mut Passage,
    ) -> Result<(), Interrupted> {
        let lasts = self.log.0.state.borrow().producers.last_batches();
        let delete_retention_ms = self.log.config().delete_retention_ms;
        let mut filter = Filter::new(self.now_ms, delete_retention_ms);
        let group_end = group[group.len() - 1].end;
        for source in group {
            let mut walk = self.walk(source).await?;
            while let Some(batch) = self.next(source, &mut walk).await? {
                // The last batch says where the segment ends: none is left with a gap behind it.
                let holds_end = batch.next_offset() == group_end;
                let may_vanish = !holds_end && !is_last_of_producer(&batch, &lasts);
                let judgement = passage.judge(&batch, aborted);
                let fate = filter.judge(&batch, judgement, keys, may_vanish, &mut self.pace).await;
                if judgement == Judgement::Marker
                    && let Some(transaction) = aborted.ended_by(&batch)
                {
                    writer.add_aborted(*transaction);
                }
                match &fate {
                    Fate::Keep => writer.add(&batch).await?,
                    Fate::Replace(bytes) => {
                        let new = RecordBatch::first(bytes).expect("just written");
                        writer.add(&new).await?;
                    }
                    Fate::Drop => {}
                }
                self.breathe(batch.size() / 8).await?;
            }
        }
        self.compacted.records_dropped += filter.records_dropped;
        self.compacted.batches_unread += filter.batches_unread;
        Ok(())
    }
}

/// True where the state of an active producer hangs on a batch: its last sequence, or, where it
/// has no data left, the marker with its epoch.
fn is_last_of_producer(
    batch: &RecordBatch<'_>,
    lasts: &BTreeMap<model::ProducerId, (model::ProducerEpoch, Option<Offset>)>,
) -> bool {
    match lasts.get(&batch.producer_id()) {
        Some((_, Some(last_offset))) => batch.last_offset() == *last_offset,
        Some((epoch, None)) => batch.is_control() && batch.producer_epoch() == *epoch,
        None => false,
    }
}
