//! What a stretch of a segment has of transactions, so that readers of committed records are told
//! which of those that they get were aborted; and Kafka's `.txnindex` of it.
//!
//! ```text
//!   .txnindex   34 bytes a transaction that was aborted, by its marker: version 0 (i16),
//!               producer id, first offset, last offset (the marker's), and the last stable
//!               offset behind it (i64 each)
//! ```
//! A transaction is in the file of the segment that has its marker; a segment without aborted
//! transactions has no file. It is written for Apache Kafka and for `odradek log`: what readers
//! here are told comes from the batches alone. Of what was appended by this process it is known;
//! an older segment is gone through once a reader comes to a transaction in it.

use std::{path::Path, rc::Rc};

use model::{
    Offset, ProducerId,
    collections::BTreeMap,
    record_batch::{ControlType, RecordBatch, batches},
};
use runtime::{Errno, Runtime};

use crate::{
    Error, FirstBatch, Log, ReadError, ReadResult,
    cold::Extent,
    inspect::Step,
    log::State,
    producers::CompletedTransaction,
    segment::{Phase, segment_path},
};

/// The size of an entry of `.txnindex`.
const ENTRY_BYTES: usize = 2 + 4 * 8;
/// The version of an entry.
const VERSION: i16 = 0;
/// The largest file that is read: Kafka's limit of a segment is 2 GiB, and a transaction takes two
/// batches.
const FILE_BYTES_MAX: usize = 512 << 20;

/// A transaction that was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose it was.
    pub producer_id: ProducerId,
    /// Its first record, or one behind it where that is all that is known.
    pub first_offset: Offset,
    /// Its marker.
    pub last_offset: Offset,
    /// The last stable offset when it had ended.
    pub last_stable_offset: Offset,
}

impl AbortedTransaction {
    fn encode(&self, file: &mut Vec<u8>) {
        file.extend_from_slice(&VERSION.to_be_bytes());
        file.extend_from_slice(&self.producer_id.0.to_be_bytes());
        for offset in [self.first_offset, self.last_offset, self.last_stable_offset] {
            file.extend_from_slice(&offset.0.to_be_bytes());
        }
    }

    fn decode(bytes: &[u8; ENTRY_BYTES]) -> (i16, AbortedTransaction) {
        let [v0, v1, numbers @ ..] = bytes;
        let (numbers, _) = numbers.as_chunks::<8>();
        let number = |index: usize| i64::from_be_bytes(numbers[index]);
        let transaction = AbortedTransaction {
            producer_id: ProducerId(number(0)),
            first_offset: Offset(number(1)),
            last_offset: Offset(number(2)),
            last_stable_offset: Offset(number(3)),
        };
        (i16::from_be_bytes([*v0, *v1]), transaction)
    }
}

/// The content of a `.txnindex`.
pub(crate) fn file_of(transactions: &[AbortedTransaction]) -> Vec<u8> {
    let mut file = Vec::with_capacity(transactions.len() * ENTRY_BYTES);
    transactions.iter().for_each(|one| one.encode(&mut file));
    file
}

/// The entries of a `.txnindex` with their versions, and how many bytes are left that are no entry.
#[must_use]
pub fn transaction_entries(file: &[u8]) -> (Vec<(i16, AbortedTransaction)>, usize) {
    let (entries, rest) = file.as_chunks::<ENTRY_BYTES>();
    (entries.iter().map(AbortedTransaction::decode).collect(), rest.len())
}

/// What a batch does to its producer's transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransactionStep {
    /// Begins it or goes on with it.
    Data,
    /// Ends it, so.
    End(TransactionEnd),
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransactionEnd {
    Commit,
    Abort,
}

impl TransactionStep {
    /// Of a batch; `None` for one that is no part of a transaction.
    pub(crate) fn of(batch: &RecordBatch<'_>) -> Option<TransactionStep> {
        if !batch.is_control() {
            return batch.is_transactional().then_some(TransactionStep::Data);
        }
        match control_type(batch)? {
            ControlType::Commit => Some(TransactionStep::End(TransactionEnd::Commit)),
            ControlType::Abort => Some(TransactionStep::End(TransactionEnd::Abort)),
            ControlType::LeaderChange
            | ControlType::SnapshotHeader
            | ControlType::SnapshotFooter
            | ControlType::KRaftVersion
            | ControlType::Voters => None,
        }
    }
}

/// What a control batch says; `None` for one that was emptied, or is of a type of the future.
pub(crate) fn control_type(batch: &RecordBatch<'_>) -> Option<ControlType> {
    ControlType::from_key(batch.records().next()?.ok()?.key?)
}

/// See the module. A stretch goes from where it starts to the end of its segment, or to where
/// another one starts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transactions {
    /// Where it starts: the position, and the offset of the batch there.
    start: (u64, Offset),
    /// From here on the producers' state was known, so that each of `aborted` has all of it.
    exact_from: Offset,
    /// Those with their marker in it, in the order of the markers.
    aborted: Vec<AbortedTransaction>,
    /// How many of them the file has.
    written: usize,
    /// Of each producer that has a marker in it the first one.
    ends: BTreeMap<ProducerId, (Offset, TransactionEnd)>,
    /// What is open at its end, with an offset that is not before its first record here.
    open: BTreeMap<ProducerId, Offset>,
}

impl Transactions {
    /// One that starts in the middle of a segment, or at its end.
    pub(crate) fn starting_at(position: u64, offset: Offset) -> Transactions {
        Transactions { start: (position, offset), exact_from: offset, ..Transactions::default() }
    }

    /// Notes a batch. `completed` is the transaction that it ends, where the producers' state knows
    /// it.
    pub(crate) fn note(
        &mut self,
        producer_id: ProducerId,
        base_offset: Offset,
        step: TransactionStep,
        completed: Option<&CompletedTransaction>,
    ) {
        match step {
            TransactionStep::Data => {
                self.open.entry(producer_id).or_insert(base_offset);
            }
            TransactionStep::End(end) => {
                let seen = self.open.remove(&producer_id);
                self.ends.entry(producer_id).or_insert((base_offset, end));
                let known = completed.map(|one| (one.first_offset, one.last_stable_offset));
                let seen = seen.map(|first| (first, base_offset.next()));
                if let (TransactionEnd::Abort, Some((first_offset, last_stable_offset))) =
                    (end, known.or(seen))
                {
                    self.aborted.push(AbortedTransaction {
                        producer_id,
                        first_offset,
                        last_offset: base_offset,
                        last_stable_offset,
                    });
                }
            }
        }
    }

    /// Takes back what lies at `offset` and behind. `open` are the log's open transactions then.
    pub(crate) fn cut(&mut self, offset: Offset, open: &BTreeMap<Offset, ProducerId>) {
        self.aborted.retain(|one| one.last_offset < offset);
        self.written = self.written.min(self.aborted.len());
        self.ends.retain(|_, (end, _)| *end < offset);
        self.open = open.iter().map(|(first, producer)| (*producer, *first)).collect();
    }

    fn is_empty(&self) -> bool {
        self.aborted.is_empty() && self.ends.is_empty() && self.open.is_empty()
    }
}

/// What a `.txnindex` is to be brought to.
pub(crate) struct IndexDue {
    /// What the file has of markers below stays.
    from: Offset,
    entries: Vec<AbortedTransaction>,
    count: usize,
}

impl Transactions {
    /// What is to be written; `None` where the file has everything.
    pub(crate) fn index_due(&self) -> Option<IndexDue> {
        (self.written < self.aborted.len()).then(|| self.index())
    }

    /// The same, whether the file has it or not.
    pub(crate) fn index(&self) -> IndexDue {
        let below = self.aborted.partition_point(|one| one.last_offset < self.exact_from);
        let entries = self.aborted[below..].to_vec();
        IndexDue { from: self.exact_from, entries, count: self.aborted.len() }
    }

    /// A start has noted batches that the producers' state knew already, up to this offset.
    pub(crate) fn set_exact_from(&mut self, offset: Offset) {
        self.exact_from = offset;
    }

    /// Nothing is due any more.
    pub(crate) fn all_written(&mut self) {
        self.written = self.aborted.len();
    }

    /// The file has what was due.
    pub(crate) fn index_written(&mut self, due: &IndexDue) {
        self.written = self.written.max(due.count.min(self.aborted.len()));
    }
}

/// Brings the `.txnindex` of a segment to what is due.
pub(crate) async fn write_index(
    runtime: &Runtime,
    directory: &Path,
    base: Offset,
    due: &IndexDue,
) -> Result<(), Error> {
    let path = segment_path(directory, base, "txnindex");
    let old = match runtime.read_file(&path, FILE_BYTES_MAX).await {
        Ok(content) => Some(content),
        Err(Errno::NOT_FOUND) => None,
        // What it says of markers below is in no other file: it is not written over.
        Err(errno) => return Err(Error::Unread { path, errno }),
    };
    let mut entries = old.as_deref().map(|old| kept(old, base, due.from)).unwrap_or_default();
    entries.extend_from_slice(&due.entries);
    let new = file_of(&entries);
    if new.is_empty() && old.is_some() {
        return match runtime.remove_file(&path).await {
            Ok(()) | Err(Errno::NOT_FOUND) => Ok(()),
            Err(errno) => Err(Error::Io { path, errno }),
        };
    }
    if old.unwrap_or_default() == new {
        return Ok(());
    }
    runtime.replace_file(&path, new).await.map_err(Error::io(path))
}

/// The entries of a file that may be right, of markers below `from`.
fn kept(file: &[u8], base: Offset, from: Offset) -> Vec<AbortedTransaction> {
    let mut next = base;
    let (entries, _) = transaction_entries(file);
    let makes_sense = |entry: &(i16, AbortedTransaction)| {
        let (version, AbortedTransaction { first_offset, last_offset, .. }) = *entry;
        let rises = last_offset >= next && first_offset <= last_offset;
        if version == VERSION && rises && last_offset < from {
            next = last_offset.next();
            return true;
        }
        false
    };
    entries.into_iter().filter(makes_sense).map(|(_, entry)| entry).collect()
}

/// What a read of committed records found.
#[derive(Clone, Debug, Default)]
pub struct CommittedRead {
    /// The batches; those of aborted transactions are among them.
    pub read: ReadResult,
    /// The transactions that were aborted and have something in this range.
    pub aborted: Vec<AbortedTransaction>,
}

impl Log {
    /// Reads as [`Log::read`] does, up to the last stable offset, and tells which transactions in
    /// the range were aborted.
    ///
    /// # Errors
    /// Those of [`Log::read`].
    pub async fn read_committed(
        &self,
        from: Offset,
        max_bytes: usize,
        first: FirstBatch,
    ) -> Result<CommittedRead, ReadError> {
        loop {
            let swaps = self.swaps();
            let up_to = self.last_stable_offset();
            let read = self.read(from, max_bytes, first, up_to).await?;
            let aborted = if read.batches.is_empty() || has_no_transaction(&read) {
                Some(Vec::new())
            } else {
                Box::pin(self.aborted_within(from, read.next_offset)).await?
            };
            // What was read may be of a file that compaction has replaced since: then what is known
            // of the new one does not tell of it.
            if let Some(aborted) = aborted.filter(|_| self.swaps() == swaps) {
                return Ok(CommittedRead { read, aborted });
            }
        }
    }

    /// The aborted transactions that have something between two offsets of one segment. `None` where
    /// segments came or went meanwhile.
    async fn aborted_within(
        &self,
        from: Offset,
        to: Offset,
    ) -> Result<Option<Vec<AbortedTransaction>>, ReadError> {
        let mut search = Search { from, to, open: BTreeMap::new(), found: BTreeMap::new() };
        let mut next = {
            let state = self.0.state.borrow();
            state.segment_index_of(from).map(|index| state.segments[index].base_offset)
        };
        while let Some(base) = next {
            let start = self.0.state.borrow().segment(base).map(|one| one.transactions.start);
            let Some(start) = start else { return Ok(None) };
            let is_lost = cfg!(feature = "mutant_abort_index_lost");
            if start.0 > 0 && (from < start.1 || !search.open.is_empty()) && !is_lost {
                match self.earlier_transactions(base).await? {
                    Some(earlier) => search.pass(&earlier),
                    None => return Ok(None),
                }
            }
            let state = self.0.state.borrow();
            let is_same = |index: &usize| {
                let segment = &state.segments[*index];
                segment.base_offset == base && segment.transactions.start == start
            };
            let Some(index) = state.segment_index_of(base).filter(is_same) else {
                return Ok(None);
            };
            search.pass(&state.segments[index].transactions);
            let following = state.segments.get(index + 1).filter(|_| !search.open.is_empty());
            next = following.map(|segment| segment.base_offset);
        }
        Ok(Some(search.found.into_values().collect()))
    }

    /// What a segment has of transactions before what is known of it: from its file.
    async fn earlier_transactions(
        &self,
        base: Offset,
    ) -> Result<Option<Rc<Transactions>>, ReadError> {
        let extent = {
            let state = self.0.state.borrow();
            let Some(segment) = state.segment(base) else { return Ok(None) };
            if let Some(earlier) = &segment.earlier_transactions {
                return Ok(Some(Rc::clone(earlier)));
            }
            let (limit, end) = segment.transactions.start;
            Extent { base_offset: base, limit, end, swaps: state.compaction.swaps }
        };
        let mut inspector = self.inspector(&extent).await?;
        let mut earlier = Transactions::starting_at(0, base);
        loop {
            match inspector.step().await.map_err(ReadError::Io)? {
                Step::Sound { base_offset, transaction, .. } => {
                    if let Some((producer_id, step)) = transaction {
                        earlier.note(producer_id, base_offset, step, None);
                    }
                }
                Step::Damaged(damage) if self.swaps() == extent.swaps => self.note_damage(damage),
                Step::Damaged(_) => return Ok(None),
                Step::End => break,
            }
        }
        let earlier = Rc::new(earlier);
        let mut state = self.0.state.borrow_mut();
        let is_same = state.compaction.swaps == extent.swaps;
        if let Some(segment) = state.segment_mut(base)
            && segment.transactions.start == (extent.limit, extent.end)
            && is_same
        {
            segment.earlier_transactions = Some(Rc::clone(&earlier));
        }
        drop(state);
        self.0.storage.note_loaded(self, base);
        Ok(Some(earlier))
    }
}

/// A search for what was aborted in a range, stretch by stretch.
struct Search {
    from: Offset,
    to: Offset,
    /// What is open at the end of the stretches so far and has something in the range.
    open: BTreeMap<ProducerId, Offset>,
    /// By marker.
    found: BTreeMap<Offset, AbortedTransaction>,
}

impl Search {
    fn pass(&mut self, stretch: &Transactions) {
        let Search { from, to, .. } = *self;
        self.open.retain(|producer, first| match stretch.ends.get(producer) {
            None => true,
            Some((_, TransactionEnd::Commit)) => false,
            Some((marker, TransactionEnd::Abort)) => {
                let transaction = AbortedTransaction {
                    producer_id: *producer,
                    first_offset: *first,
                    last_offset: *marker,
                    last_stable_offset: marker.next(),
                };
                self.found.insert(*marker, transaction);
                false
            }
        });
        if stretch.start.1 >= to {
            return;
        }
        let behind = stretch.aborted.partition_point(|one| one.last_offset < from);
        for one in stretch.aborted[behind..].iter().filter(|one| one.first_offset < to) {
            let known = self.found.entry(one.last_offset).or_insert(*one);
            known.first_offset = known.first_offset.min(one.first_offset);
        }
        let open = stretch.open.iter().filter(|(_, first)| **first < to);
        for (producer, first) in open {
            self.open.entry(*producer).or_insert(*first);
        }
    }
}

/// True where no batch is part of a transaction; one that is cut by the slices may be.
fn has_no_transaction(read: &ReadResult) -> bool {
    let mut seen = 0;
    for slice in &read.batches {
        for batch in batches(slice) {
            match batch {
                Ok(batch) if !batch.is_transactional() => seen += batch.size(),
                Ok(_) | Err(_) => return false,
            }
        }
    }
    seen == read.size
}

impl State {
    /// Up to where consumers that read committed transactions alone may read: the start of the first
    /// transaction that is open, or whose marker lies at the high watermark or above.
    pub(crate) fn last_stable_offset(&self) -> Offset {
        let high_watermark = self.high_watermark();
        let unstable = self.producers.first_unstable(high_watermark);
        let unstable = match unstable {
            Some(start) if cfg!(feature = "mutant_last_stable_one_too_far") => Some(start.next()),
            unstable => unstable,
        };
        unstable.map_or(high_watermark, |start| start.max(self.log_start).min(high_watermark))
    }
}

impl crate::segment::Segment {
    /// Forgets what is known of a finished segment's transactions: its file has it.
    pub(crate) fn let_transactions_go(&mut self, end: Offset) {
        self.earlier_transactions = None;
        if self.phase == Phase::Finished && !self.transactions.is_empty() {
            self.transactions = Transactions::starting_at(self.size(), end);
        }
    }
}
