//! Writes a cleaned segment: `<base>.log.cleaned` and its indexes, synced before anybody sees
//! them. Around the page cache, so that what is written once and read seldom evicts nothing.

use std::path::PathBuf;

use bytes::Bytes;
use model::{Offset, record_batch::RecordBatch};
use runtime::{Access, Buffer, Cache, Create, Errno, File, OpenOptions};

use super::Interrupted;
use crate::{
    Error, Log,
    index::{IndexedBatch, Indexes},
    segment::segment_path,
    tail::{BLOCK_BYTES, length_of, position_of},
    transactions::{self, AbortedTransaction, TransactionStep, Transactions},
};

/// One write: what a disk takes in about a millisecond.
const WRITE_BYTES: usize = 256 << 10;
/// How much may be written before it is synced: a sync of more would hold up those of the group
/// commit.
const UNSYNCED_BYTES_MAX: u64 = 8 << 20;

const CLEANED_OPTIONS: OpenOptions =
    OpenOptions { create: Create::Truncate, access: Access::ReadWrite, cache: Cache::Direct };

/// The files of a segment that compaction writes, by their suffix.
pub(super) const SUFFIXES: [&str; 4] = ["index", "timeindex", "txnindex", "log"];

/// See the module.
pub(super) struct CleanedWriter {
    log: Log,
    pub(super) base: Offset,
    file: File,
    buffer: Buffer,
    /// Where `buffer` goes.
    position: u64,
    unsynced: u64,
    pub(super) indexes: Indexes,
    pub(super) transactions: Transactions,
    /// For the `.txnindex`: a transaction stays in it as long as its marker has to.
    aborted: Vec<AbortedTransaction>,
    interval_bytes: u64,
}

/// A segment as it was written.
pub(super) struct Cleaned {
    pub(super) indexes: Indexes,
    pub(super) transactions: Transactions,
}

impl CleanedWriter {
    pub(super) async fn create(log: &Log, base: Offset) -> Result<CleanedWriter, Error> {
        let path = cleaned_path(log, base, "log");
        let file = File::open(log.runtime(), &path, CLEANED_OPTIONS).await;
        let file = file.map_err(Error::io(path))?;
        let interval_bytes = u64::try_from(log.config().index_interval_bytes).unwrap_or(0);
        let buffer = log.0.storage.pool.take(WRITE_BYTES);
        Ok(CleanedWriter {
            log: log.clone(),
            base,
            file,
            buffer,
            position: 0,
            unsynced: 0,
            indexes: Indexes::new(base),
            transactions: Transactions::starting_at(0, base),
            aborted: Vec::new(),
            interval_bytes,
        })
    }

    /// The next batch is the marker of an aborted transaction.
    pub(super) fn add_aborted(&mut self, transaction: AbortedTransaction) {
        self.aborted.push(transaction);
    }

    /// The bytes so far.
    pub(super) fn size(&self) -> u64 {
        self.position + position_of(self.buffer.len())
    }

    /// Adds a batch behind the others.
    pub(super) async fn add(&mut self, batch: &RecordBatch<'_>) -> Result<(), Interrupted> {
        let position = self.size();
        let size = position_of(batch.size());
        if position + size > u64::from(i32::MAX.unsigned_abs()) {
            // A codec has made more of less; the segments stay as they are.
            return Err(self.failed(Errno::INVALID).into());
        }
        let (last_offset, max_timestamp) = (batch.last_offset(), batch.max_timestamp());
        let entry = IndexedBatch { last_offset, max_timestamp, position, size };
        self.indexes.add(&entry, self.interval_bytes);
        if let Some(step) = TransactionStep::of(batch) {
            self.transactions.note(batch.producer_id(), batch.base_offset(), step, None);
        }
        let mut rest = batch.bytes();
        while !rest.is_empty() {
            let room = WRITE_BYTES - self.buffer.len();
            let (now, later) = rest.split_at(rest.len().min(room));
            self.buffer.append(now);
            rest = later;
            if self.buffer.len() == WRITE_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Error> {
        let empty = self.log.0.storage.pool.take(WRITE_BYTES);
        let full = std::mem::replace(&mut self.buffer, empty).freeze();
        let length = position_of(full.len());
        let written = self.file.write_all(self.position, full).await;
        written.map_err(|errno| self.failed(errno))?;
        self.position += length;
        self.unsynced += length;
        if self.unsynced >= UNSYNCED_BYTES_MAX {
            self.file.sync().await.map_err(|errno| self.failed(errno))?;
            self.unsynced = 0;
        }
        Ok(())
    }

    fn failed(&self, errno: Errno) -> Error {
        Error::Io { path: cleaned_path(&self.log, self.base, "log"), errno }
    }

    /// Ends the files and makes them durable. Gives the size.
    pub(super) async fn finish(&mut self) -> Result<u64, Error> {
        let size = self.size();
        let filled = self.buffer.len();
        if filled > 0 {
            // Whole blocks, as direct writes have to be; then the file's true length.
            let padded = filled.next_multiple_of(length_of(BLOCK_BYTES));
            self.buffer.set_length(padded);
            self.buffer.memory_mut()[filled..padded].fill(0);
            self.flush().await?;
        }
        self.file.set_length(size).await.map_err(|errno| self.failed(errno))?;
        self.file.sync().await.map_err(|errno| self.failed(errno))?;
        self.indexes.finish();
        self.write_small("index", self.indexes.offset_file()).await?;
        self.write_small("timeindex", self.indexes.time_file()).await?;
        if !self.aborted.is_empty() {
            self.write_small("txnindex", transactions::file_of(&self.aborted)).await?;
        }
        // It has its final form.
        self.transactions.all_written();
        Ok(size)
    }

    async fn write_small(&self, suffix: &str, content: Vec<u8>) -> Result<(), Error> {
        let path = cleaned_path(&self.log, self.base, suffix);
        let write = async {
            let file = File::open(self.log.runtime(), &path, OpenOptions::REPLACE).await?;
            file.write_all(0, Bytes::from(content)).await?;
            file.sync().await?;
            file.close().await;
            Ok(())
        };
        write.await.map_err(Error::io(&path))
    }

    /// Removes what was written. What cannot be removed, the next start removes.
    pub(super) async fn discard(self) {
        let (log, base) = (self.log, self.base);
        self.file.close().await;
        for suffix in SUFFIXES {
            let _ = log.runtime().remove_file(&cleaned_path(&log, base, suffix)).await;
        }
    }

    /// Gives up the file, which is then opened by its name.
    pub(super) async fn close(self) -> Cleaned {
        self.file.close().await;
        Cleaned { indexes: self.indexes, transactions: self.transactions }
    }
}

fn cleaned_path(log: &Log, base: Offset, suffix: &str) -> PathBuf {
    segment_path(&log.0.directory.borrow(), base, &format!("{suffix}.cleaned"))
}
