//! Puts a cleaned segment in the place of those that it was made from, so that after a crash at
//! any step either the old ones or the new one is there, as Apache Kafka does it:
//!
//! ```text
//!   1. write and sync   B.log.cleaned  B.index.cleaned  B.timeindex.cleaned  B.txnindex.cleaned
//!   2. rename, the log last, to        B.log.swap ...                 sync the directory
//!   --- from here on the new segment holds ---
//!   3. in memory: readers go to the new segment; those that have an old file go on with it
//!   4. remove the old ones, except where step 5 replaces them         sync the directory
//!   5. rename, the log last, to        B.log ...                      sync the directory
//! ```
//! A start that finds `.cleaned` removes it, and with it every `.swap` of that offset and above:
//! they were on the way from 1 to 2. One that finds `B.log.swap` removes the segments that lie in
//! its range and goes on with 5. `.deleted` is what Apache Kafka calls what it is about to remove.

use std::{path::Path, rc::Rc};

use model::Offset;
use runtime::{Errno, File, OpenOptions, Runtime};

use super::{
    BATCH_BYTES_MAX, Interrupted,
    plan::Source,
    writer::{Cleaned, CleanedWriter},
};
use crate::{
    Error, Log,
    log::{State, Status},
    scan::{Scanned, Scanner},
    segment::{Phase, Segment, offset_of_name, segment_path},
};

/// The files of a segment, the log last: it is what a start looks for.
const SUFFIXES: [&str; 4] = ["index", "timeindex", "txnindex", "log"];

impl Log {
    /// Ends a cleaned segment and puts it in the place of `group`. Gives its size.
    pub(super) async fn swap_in(
        &self,
        group: &[Source],
        mut writer: CleanedWriter,
    ) -> Result<u64, Interrupted> {
        let size = match writer.finish().await {
            Ok(size) => size,
            Err(error) => {
                writer.discard().await;
                return Err(error.into());
            }
        };
        // From now on nobody removes or closes them.
        if !self.0.state.borrow_mut().claim(group) {
            writer.discard().await;
            return Err(Interrupted::NotWanted);
        }
        let base = writer.base;
        let cleaned = writer.close().await;
        let outcome = self.swap_files(group, base, size, cleaned).await;
        self.0.state.borrow_mut().release(group);
        self.0.progress.notify_all();
        outcome?;
        Ok(size)
    }

    async fn swap_files(
        &self,
        group: &[Source],
        base: Offset,
        size: u64,
        cleaned: Cleaned,
    ) -> Result<(), Error> {
        let directory = self.0.directory.borrow().clone();
        let runtime = self.runtime();
        rename_all(runtime, &directory, base, (".cleaned", ".swap")).await?;
        self.0.storage.sync_directory(&directory).await.map_err(Error::io(&directory))?;
        let path = segment_path(&directory, base, "log.swap");
        let file = File::open(runtime, &path, OpenOptions::READ).await.map_err(Error::io(&path))?;
        let freed = {
            let mut state = self.0.state.borrow_mut();
            state.replace(group, base, (size, file, cleaned))
        };
        self.0.storage.forget_chunks(freed);
        for source in group {
            remove_segment(runtime, &directory, source.base).await?;
        }
        self.0.storage.sync_directory(&directory).await.map_err(Error::io(&directory))?;
        rename_all(runtime, &directory, base, (".swap", "")).await?;
        self.0.storage.sync_directory(&directory).await.map_err(Error::io(&directory))?;
        self.0.storage.note_loaded(self, base);
        Ok(())
    }
}

impl State {
    /// Keeps the segments from being removed while they are replaced. False where one is gone.
    fn claim(&mut self, group: &[Source]) -> bool {
        let is_there = |source: &Source| {
            self.segment(source.base).is_some_and(|segment| segment.phase == Phase::Finished)
        };
        if self.status != Status::Open || self.is_stopping || !group.iter().all(is_there) {
            return false;
        }
        for source in group {
            let segment = self.segment_mut(source.base).expect("just looked at");
            segment.phase = Phase::Finishing;
        }
        true
    }

    /// What was claimed, or has taken its place, is as finished as before.
    fn release(&mut self, group: &[Source]) {
        for source in group {
            if let Some(segment) = self.segment_mut(source.base) {
                segment.phase = Phase::Finished;
            }
        }
    }

    /// Puts the new segment in the place of the old ones. Gives the memory that their tails had.
    fn replace(&mut self, group: &[Source], base: Offset, cleaned: (u64, File, Cleaned)) -> usize {
        let (size, file, Cleaned { indexes, transactions }) = cleaned;
        let first = self
            .segments
            .binary_search_by_key(&base, |segment| segment.base_offset)
            .expect("claimed segments stay");
        let old: Vec<Segment> = self.segments.drain(first..first + group.len()).collect();
        let bases = old.iter().map(|segment| segment.base_offset);
        assert!(bases.eq(group.iter().map(|source| source.base)), "claimed segments stay");
        let created_ms = old.iter().map(|segment| segment.created_ms).max().unwrap_or_default();
        let mut segment = Segment::new(base, created_ms);
        segment.phase = Phase::Finishing;
        segment.set_size(size, &[]);
        segment.allocated = size;
        let modified_ms = old.iter().map(|segment| segment.modified_ms).max();
        segment.modified_ms = modified_ms.unwrap_or_default();
        segment.first_timestamp = old.iter().find_map(|segment| segment.first_timestamp);
        segment.file = Some(Rc::new(file));
        segment.indexes = Some(Rc::new(indexes));
        segment.transactions = transactions;
        self.segments.insert(first, segment);
        self.compaction.swaps += 1;
        old.iter().map(|segment| segment.tail.chunk_bytes()).sum()
    }
}

async fn rename_all(
    runtime: &Runtime,
    directory: &Path,
    base: Offset,
    suffixes: (&str, &str),
) -> Result<(), Error> {
    for suffix in SUFFIXES {
        let from = segment_path(directory, base, &format!("{suffix}{}", suffixes.0));
        let to = segment_path(directory, base, &format!("{suffix}{}", suffixes.1));
        match runtime.rename(&from, &to).await {
            Ok(()) => {}
            Err(Errno::NOT_FOUND) if suffix != "log" => {}
            Err(errno) => return Err(Error::Io { path: from, errno }),
        }
    }
    Ok(())
}

async fn remove_segment(runtime: &Runtime, directory: &Path, base: Offset) -> Result<(), Error> {
    for suffix in SUFFIXES {
        remove(runtime, directory, &format!("{:020}.{suffix}", base.0)).await?;
    }
    Ok(())
}

async fn remove(runtime: &Runtime, directory: &Path, name: &str) -> Result<(), Error> {
    let path = directory.join(name);
    match runtime.remove_file(&path).await {
        Ok(()) | Err(Errno::NOT_FOUND) => Ok(()),
        Err(errno) => Err(Error::Io { path, errno }),
    }
}

/// Brings to its end what a process was doing that died while it replaced segments, ours or Apache
/// Kafka's. Afterwards the directory has segments alone.
pub(crate) async fn settle(runtime: &Runtime, directory: &Path) -> Result<(), Error> {
    let entries = runtime.list_directory(directory).await.map_err(Error::io(directory))?;
    let names: Vec<String> = entries.into_iter().map(|entry| entry.name).collect();
    let left = |suffix: &'static str| names.iter().filter(move |name| name.ends_with(suffix));
    // The number in front, whatever kind of file it is.
    let base_of = |name: &str| offset_of_name(&format!("{}.log", name.get(..20)?), "log");
    let first_cleaned = left(".cleaned").filter_map(|name| base_of(name)).min();
    let mut swaps = Vec::new();
    for name in left(".swap") {
        match (base_of(name), first_cleaned) {
            (Some(base), first) if first.is_none_or(|first| base < first) => swaps.push(base),
            _ => remove(runtime, directory, name).await?,
        }
    }
    swaps.dedup();
    // Last: a crash in between must still find what these tell of the files that are to swap.
    for name in left(".cleaned").chain(left(".deleted")).chain(left(".tmp")) {
        remove(runtime, directory, name).await?;
    }
    for base in swaps {
        finish_swap(runtime, directory, base, &names).await?;
    }
    if names.iter().any(|name| name.ends_with(".swap")) {
        runtime.sync_directory(directory).await.map_err(Error::io(directory))?;
    }
    Ok(())
}

async fn finish_swap(
    runtime: &Runtime,
    directory: &Path,
    base: Offset,
    names: &[String],
) -> Result<(), Error> {
    let log = format!("{:020}.log.swap", base.0);
    if names.contains(&log) {
        let end = end_of(runtime, &directory.join(&log), base).await?;
        tracing::info!(path = %directory.display(), offset = base.0,
            "a compacted segment takes the place of those up to offset {end}");
        for name in names {
            let replaced = SUFFIXES.iter().find_map(|suffix| offset_of_name(name, suffix));
            if replaced.is_some_and(|offset| offset >= base && offset < end) {
                remove(runtime, directory, name).await?;
            }
        }
        runtime.sync_directory(directory).await.map_err(Error::io(directory))?;
        return rename_all(runtime, directory, base, (".swap", "")).await;
    }
    // Its log has its name already, or is gone: what is derived is made again.
    for suffix in ["index", "timeindex"] {
        remove(runtime, directory, &format!("{:020}.{suffix}", base.0)).await?;
        remove(runtime, directory, &format!("{:020}.{suffix}.swap", base.0)).await?;
    }
    let from = segment_path(directory, base, "txnindex.swap");
    match runtime.rename(&from, &segment_path(directory, base, "txnindex")).await {
        Ok(()) | Err(Errno::NOT_FOUND) => Ok(()),
        Err(errno) => Err(Error::Io { path: from, errno }),
    }
}

/// The offset behind the last batch of a file, which is whole: it was synced before it got its
/// name.
async fn end_of(runtime: &Runtime, path: &Path, base: Offset) -> Result<Offset, Error> {
    let file = File::open(runtime, path, OpenOptions::READ).await.map_err(Error::io(path))?;
    let length = file.info().length;
    let mut scanner = Scanner::new(Rc::new(file), runtime.pool(), 0, length, BATCH_BYTES_MAX);
    let mut end = base.next();
    loop {
        let position = scanner.position();
        let error = match scanner.next().await.map_err(Error::io(path))? {
            Scanned::End => return Ok(end),
            Scanned::Bad(error) => error,
            Scanned::Batch { batch, .. } => match batch.verify_crc() {
                Ok(()) => {
                    end = batch.next_offset();
                    continue;
                }
                Err(error) => error,
            },
        };
        let (path, what) = (path.to_owned(), error.to_string());
        return Err(Error::Damaged { path, position, offset: end, what });
    }
}
