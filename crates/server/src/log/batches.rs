//! A file of batches, batch by batch, and its indexes beside it, entry by entry as the log is
//! walked: an entry that leads nowhere is a problem.

use std::{collections::BTreeMap, io::Write, path::Path};

use model::{
    LeaderEpoch, Offset, ProducerId, TimestampMs,
    record_batch::{Compression, ControlType, Counts, RecordBatch},
};
use runtime::Runtime;
use storage::{
    AbortedTransaction, Error,
    files::{self, IndexEntry, Piece, SegmentReader, TimeEntry},
};

use super::{
    records::{self, Meaning},
    report::{Item, Report, read_whole},
};

/// The largest index that is read: Kafka's limit of a segment's index is 2 GiB, its default 10 MiB.
const INDEX_BYTES_MAX: usize = 64 << 20;

/// What is known of a log so far, from one segment to the next.
pub(super) struct LogState {
    pub(super) meaning: Meaning,
    /// The offset behind the last batch; `None` before the first.
    pub(super) end: Option<Offset>,
    pub(super) start: Option<Offset>,
    epoch: LeaderEpoch,
    /// By `leader-epoch-checkpoint`.
    pub(super) epochs: Option<Vec<(LeaderEpoch, Offset)>>,
    /// The open transactions, each with the first of its records that was seen.
    open: BTreeMap<ProducerId, Offset>,
    /// The last batch is a control batch.
    pub(super) ends_with_control: bool,
    /// A clean stop has left nothing behind the last batch.
    pub(super) is_clean: bool,
}

impl LogState {
    pub(super) fn new(meaning: Meaning) -> LogState {
        LogState {
            meaning,
            end: None,
            start: None,
            epoch: LeaderEpoch(-1),
            epochs: None,
            open: BTreeMap::new(),
            ends_with_control: false,
            is_clean: false,
        }
    }
}

/// Reports on a segment, or on a snapshot of the metadata.
pub(super) async fn report<W: Write>(
    runtime: &Runtime,
    path: &Path,
    log: &mut LogState,
    indexes: &mut Indexes,
    report: &mut Report<W>,
) -> Result<(), Error> {
    let mut reader = SegmentReader::open(runtime, path).await?;
    report.begin(path);
    report.item(Item::new("log").size("bytes", reader.length()));
    while let Some(piece) = reader.next().await? {
        match piece {
            Piece::Batch { position, batch } => {
                one(&batch, position, log, report);
                indexes.pass(&batch, position, report);
                indexes.pass_transaction(&batch, log, report);
            }
            Piece::Zeros { position, bytes } => {
                report.item(Item::new("zeros").size("position", position).size("bytes", bytes));
                if log.is_clean {
                    report.problem(format!(
                        "{bytes} zeros at position {position} after a clean stop"
                    ));
                }
            }
            Piece::Garbage { position, bytes, reason } => {
                report.problem(format!(
                    "{bytes} bytes at position {position} are no batch: {reason}"
                ));
            }
        }
    }
    Ok(())
}

fn one<W: Write>(
    batch: &RecordBatch<'_>,
    position: u64,
    log: &mut LogState,
    report: &mut Report<W>,
) {
    let crc = batch.verify_crc();
    report.item(batch_item(batch, position, crc.is_ok()));
    let base = batch.base_offset();
    if let Err(error) = &crc {
        report.problem(format!("the batch at position {position}, offset {base}: {error}"));
    }
    if let Err(error) = batch.check_counts(Counts::Sparse) {
        report.problem(format!("the batch at position {position}, offset {base}: {error}"));
    }
    if let Some(end) = log.end {
        if base < end {
            report.problem(format!("offset {base} at position {position} follows offset {end}"));
        } else if base > end {
            report.item(Item::new("gap").number("from", end.0).number("to", base.0));
        }
    }
    let epoch = batch.leader_epoch();
    if epoch < log.epoch {
        let before = log.epoch;
        report.problem(format!("the batch at offset {base} has epoch {epoch} after {before}"));
    }
    if crc.is_err() {
        return;
    }
    check_epoch(base, epoch, log, report);
    log.epoch = log.epoch.max(epoch);
    log.start.get_or_insert(base);
    let end = batch.next_offset();
    log.end = Some(log.end.map_or(end, |before| before.max(end)));
    log.ends_with_control = batch.is_control();
    records::report(batch, log.meaning, report);
}

/// Compares a batch's epoch with `leader-epoch-checkpoint`, once an epoch.
fn check_epoch<W: Write>(base: Offset, epoch: LeaderEpoch, log: &LogState, report: &mut Report<W>) {
    let Some(epochs) = log.epochs.as_ref().filter(|_| epoch > log.epoch && epoch.0 >= 0) else {
        return;
    };
    let after = epochs.partition_point(|(_, start)| *start <= base);
    let told = after.checked_sub(1).map(|index| epochs[index].0);
    // What lies below the log start is forgotten, and its segment may still be there.
    let is_forgotten = told.is_none() && epochs.first().is_some_and(|first| first.0 >= epoch);
    if told != Some(epoch) && !is_forgotten {
        let told = told.map_or_else(|| "none".to_owned(), |epoch| epoch.to_string());
        report.problem(format!(
            "the batch at offset {base} has epoch {epoch}, leader-epoch-checkpoint says {told}"
        ));
    }
}

fn batch_item(batch: &RecordBatch<'_>, position: u64, is_whole: bool) -> Item {
    let codec = match batch.compression() {
        Compression::None => "none",
        Compression::Gzip => "gzip",
        Compression::Snappy => "snappy",
        Compression::Lz4 => "lz4",
        Compression::Zstd => "zstd",
    };
    let item = Item::new("batch")
        .number("base_offset", batch.base_offset().0)
        .number("last_offset", batch.last_offset().0)
        .number("records", batch.record_count())
        .size("position", position)
        .size("bytes", u64::try_from(batch.size()).unwrap_or(u64::MAX))
        .text("crc", if is_whole { "ok" } else { "BAD" })
        .text("codec", codec)
        .number("leader_epoch", batch.leader_epoch().0)
        .number("base_timestamp", batch.base_timestamp().0)
        .number("max_timestamp", batch.max_timestamp().0)
        .text("timestamp_type", format!("{:?}", batch.timestamp_type()))
        .number("producer_id", batch.producer_id().0)
        .number("producer_epoch", batch.producer_epoch().0)
        .number("base_sequence", batch.base_sequence().0);
    let item = if batch.is_transactional() { item.text("transactional", "yes") } else { item };
    if batch.is_control() { item.text("control", "yes") } else { item }
}

/// The indexes of a segment and how far they were compared.
#[derive(Default)]
pub(super) struct Indexes {
    offsets: Vec<IndexEntry>,
    next_offset: usize,
    /// The batch where this entry leads to was there; the offset has yet to be.
    open: Option<IndexEntry>,
    times: Vec<TimeEntry>,
    next_time: usize,
    aborted: Vec<AbortedTransaction>,
    next_aborted: usize,
}

impl Indexes {
    /// Reads those of the segment `path`, as far as they are there, and reports on their entries.
    pub(super) async fn load<W: Write>(
        runtime: &Runtime,
        path: &Path,
        base: Offset,
        report: &mut Report<W>,
    ) -> Result<Indexes, Error> {
        let mut indexes = Indexes::default();
        if let Some(file) =
            read_whole(runtime, INDEX_BYTES_MAX, &path.with_extension("index"), report).await?
        {
            let (entries, rest) = files::offset_entries(base, &file);
            for entry in &entries {
                let item = Item::new("entry").number("offset", entry.offset.0);
                report.item(item.size("position", entry.position));
            }
            note_rest(rest, report);
            if !entries.is_sorted_by(|a, b| a.offset < b.offset && a.position < b.position) {
                report.problem("the entries do not rise");
            }
            indexes.offsets = entries;
        }
        if let Some(file) =
            read_whole(runtime, INDEX_BYTES_MAX, &path.with_extension("timeindex"), report).await?
        {
            let (entries, rest) = files::time_entries(base, &file);
            for entry in &entries {
                let item = Item::new("entry").number("timestamp", entry.timestamp.0);
                report.item(item.number("offset", entry.offset.0));
            }
            note_rest(rest, report);
            if !entries.is_sorted_by(|a, b| a.timestamp < b.timestamp && a.offset <= b.offset) {
                report.problem("the entries do not rise");
            }
            indexes.times = entries;
        }
        if let Some(file) =
            read_whole(runtime, INDEX_BYTES_MAX, &path.with_extension("txnindex"), report).await?
        {
            let (entries, rest) = files::transaction_entries(&file);
            for (_, entry) in &entries {
                report.item(
                    Item::new("aborted")
                        .number("producer_id", entry.producer_id.0)
                        .number("first_offset", entry.first_offset.0)
                        .number("last_offset", entry.last_offset.0)
                        .number("last_stable_offset", entry.last_stable_offset.0),
                );
            }
            note_rest(rest, report);
            if entries.iter().any(|(version, _)| *version != 0) {
                report.problem("only version 0 is known");
            }
            if !entries.is_sorted_by(|(_, a), (_, b)| a.last_offset < b.last_offset) {
                report.problem("the entries do not rise");
            }
            indexes.aborted = entries.into_iter().map(|(_, entry)| entry).collect();
        }
        Ok(indexes)
    }

    /// Compares what the entries say of this batch with it.
    fn pass<W: Write>(&mut self, batch: &RecordBatch<'_>, position: u64, report: &mut Report<W>) {
        let (base, last) = (batch.base_offset(), batch.last_offset());
        while let Some(entry) = self.offsets.get(self.next_offset).copied() {
            if entry.position > position {
                break;
            }
            self.next_offset += 1;
            self.close(report);
            if entry.position < position {
                wrong_offset(&entry, "no batch starts there", report);
            } else {
                self.open = Some(entry);
            }
        }
        if let Some(entry) = self.open.filter(|entry| entry.offset <= last) {
            self.open = None;
            if entry.offset < last {
                wrong_offset(&entry, "no batch from there on ends at that offset", report);
            }
        }
        while let Some(entry) = self.times.get(self.next_time).copied() {
            if entry.offset > last {
                break;
            }
            self.next_time += 1;
            // -1: nothing up to there has a timestamp.
            let is_right = entry.timestamp == TimestampMs::NONE
                || entry.offset >= base && entry.timestamp == batch.max_timestamp();
            if !is_right {
                let TimeEntry { timestamp, offset } = entry;
                report.problem(format!(
                    ".timeindex: timestamp {timestamp} at offset {offset} is not that of a batch"
                ));
            }
        }
    }

    /// Compares what the entries say of this batch with it, if it is part of a transaction.
    fn pass_transaction<W: Write>(
        &mut self,
        batch: &RecordBatch<'_>,
        log: &mut LogState,
        report: &mut Report<W>,
    ) {
        let (base, producer) = (batch.base_offset(), batch.producer_id());
        let end = control_type(batch);
        let is_abort = end == Some(ControlType::Abort);
        let mut entry = None;
        while let Some(next) = self.aborted.get(self.next_aborted).copied() {
            if next.last_offset > batch.last_offset() {
                break;
            }
            self.next_aborted += 1;
            if next.last_offset == base && is_abort && producer == next.producer_id {
                entry = Some(next);
            } else {
                let offset = next.last_offset;
                report.problem(format!(".txnindex: no marker at offset {offset}"));
            }
        }
        if !batch.is_control() && batch.is_transactional() && batch.record_count() > 0 {
            log.open.entry(producer).or_insert(base);
        }
        if !is_abort && end != Some(ControlType::Commit) {
            return;
        }
        let Some(first) = log.open.remove(&producer).filter(|_| is_abort) else { return };
        match entry {
            Some(entry) if entry.first_offset <= first => {}
            Some(entry) => report.problem(format!(
                ".txnindex: the transaction that ends at offset {base} begins at {first}, not {}",
                entry.first_offset
            )),
            // What a killed process has not written yet, the next start writes.
            None if !log.is_clean => {}
            None => report.problem(format!(
                ".txnindex: no entry of the transaction from offset {first} that was aborted at {base}"
            )),
        }
    }

    fn close<W: Write>(&mut self, report: &mut Report<W>) {
        if let Some(entry) = self.open.take() {
            wrong_offset(&entry, "no batch from there on ends at that offset", report);
        }
    }

    /// What is left when all batches have passed leads nowhere.
    pub(super) fn finish<W: Write>(mut self, report: &mut Report<W>) {
        self.close(report);
        for entry in &self.offsets[self.next_offset..] {
            wrong_offset(entry, "the log does not reach it", report);
        }
        for TimeEntry { timestamp, offset } in &self.times[self.next_time..] {
            report.problem(format!(
                ".timeindex: timestamp {timestamp} at offset {offset}: the log does not reach it"
            ));
        }
        for entry in &self.aborted[self.next_aborted..] {
            let offset = entry.last_offset;
            report.problem(format!(".txnindex: offset {offset}: the log does not reach it"));
        }
    }
}

/// What a control batch says.
fn control_type(batch: &RecordBatch<'_>) -> Option<ControlType> {
    if !batch.is_control() {
        return None;
    }
    ControlType::from_key(batch.records().next()?.ok()?.key?)
}

fn wrong_offset<W: Write>(entry: &IndexEntry, what: &str, report: &mut Report<W>) {
    let IndexEntry { offset, position } = entry;
    report.problem(format!(".index: offset {offset} at position {position}: {what}"));
}

fn note_rest<W: Write>(rest: usize, report: &mut Report<W>) {
    if rest > 0 {
        report.problem(format!("{rest} bytes at its end are no entry"));
    }
}
