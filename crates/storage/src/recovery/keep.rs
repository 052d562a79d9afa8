//! The last part of a start: what was checked is taken into the log's state, cut to its content,
//! synced, and its derived files brought to what the batches say.

use std::rc::Rc;

use model::Offset;
use runtime::{Errno, File};

use super::{CleanStop, Recovery, ScannedSegment, wait_for_the_dead};
use crate::{
    Error, FenceReason,
    log::Status,
    scan::write_again,
    segment::{Phase, Segment, segment_path},
    tail::{BLOCK_BYTES, block_floor, length_of},
    transactions::{self, Transactions},
};

impl Recovery {
    /// Takes a checked segment into the state. What is not the end is brought into its final form.
    pub(super) async fn keep(
        &mut self,
        base: Offset,
        scanned: ScannedSegment,
        is_last: bool,
    ) -> Result<(), Error> {
        let ScannedSegment { file, mut indexes, first_timestamp, size, above_mark, is_cut, .. } =
            scanned;
        let transactions = scanned.transactions;
        let mut transactions =
            transactions.unwrap_or_else(|| Transactions::starting_at(size, self.state.end));
        transactions.set_exact_from(scanned.exact_from.max(base).min(self.state.end));
        self.state.producers.forget_replicated(self.state.end);
        let path = segment_path(&self.directory, base, "log");
        let length = async || file.describe().await.map(|info| info.length);
        let mut segment = Segment::new(base, file.info().modified_ms);
        segment.first_timestamp = first_timestamp;
        if is_last && (self.end_is_damaged || self.state.end < self.mark) {
            // Nothing of it is changed.
            segment.set_size(length().await.map_err(Error::io(&path))?, &[]);
            segment.phase = Phase::Finished;
            segment.indexes = None;
            segment.transactions = Transactions::starting_at(segment.size(), self.state.end);
            self.state.segments.push(segment);
            return Ok(());
        }
        if let (CleanStop::Unclean, Some(from)) = (self.known.stop, above_mark) {
            if file.info().length < BLOCK_BYTES {
                // It was not waited for when it was opened.
                wait_for_the_dead(&file, &path).await?;
            }
            write_again(&file, &self.runtime.pool(), from..size).await.map_err(Error::io(&path))?;
        }
        let length = length().await.map_err(Error::io(&path))?;
        if length != size {
            file.set_length(size).await.map_err(Error::io(&path))?;
        }
        if self.known.stop == CleanStop::Unclean || length != size {
            file.sync().await.map_err(Error::io(&path))?;
        }
        if self.known.stop == CleanStop::Unclean || transactions.index_due().is_some() {
            let due = transactions.index();
            transactions::write_index(&self.runtime, &self.directory, base, &due).await?;
            transactions.index_written(&due);
        }
        segment.transactions = transactions;
        if is_last || is_cut {
            let partial = self.last_block(&file, size).await.map_err(Error::io(&path))?;
            // Its file is opened again with its first append.
            segment.set_size(size, &partial);
            segment.indexes = Some(Rc::new(indexes));
        } else {
            segment.set_size(size, &[]);
            segment.phase = Phase::Finished;
            indexes.finish();
            let index = segment_path(&self.directory, base, "index");
            let content = indexes.offset_file();
            self.runtime.replace_file(&index, content).await.map_err(Error::io(&index))?;
            let index = segment_path(&self.directory, base, "timeindex");
            let content = indexes.time_file();
            self.runtime.replace_file(&index, content).await.map_err(Error::io(&index))?;
            segment.indexes = None;
            segment.let_transactions_go(self.state.end);
        }
        self.state.segments.push(segment);
        Ok(())
    }

    /// The bytes of the block in which the segment ends.
    async fn last_block(&self, file: &File, size: u64) -> Result<Vec<u8>, Errno> {
        let start = block_floor(size);
        if start == size {
            return Ok(Vec::new());
        }
        let bytes = length_of(BLOCK_BYTES);
        let buffer = file.read(start, bytes, self.runtime.pool().take(bytes)).await?;
        let partial = buffer.get(..length_of(size - start)).ok_or(Errno::IO)?;
        Ok(partial.to_vec())
    }

    pub(super) async fn remove_segments(&mut self, bases: &[Offset]) -> Result<(), Error> {
        for base in bases {
            self.report.cut_segments += 1;
            for suffix in ["log", "index", "timeindex", "txnindex"] {
                let path = segment_path(&self.directory, *base, suffix);
                match self.runtime.remove_file(&path).await {
                    Ok(()) | Err(Errno::NOT_FOUND) => {}
                    Err(errno) => return Err(Error::Io { path, errno }),
                }
            }
        }
        Ok(())
    }

    /// The last steps: names durable, offsets set. The last segment takes appends.
    pub(super) async fn settle(&mut self, first: Offset) -> Result<(), Error> {
        if self.known.stop == CleanStop::Unclean && !cfg!(feature = "mutant_no_directory_sync") {
            self.runtime
                .sync_directory(&self.directory)
                .await
                .map_err(Error::io(&self.directory))?;
        }
        let log_start = self.log_start();
        let cleaned_to = self.cleaned_to();
        let state = &mut self.state;
        if let Some(last) = state.segments.last_mut() {
            // Where the segments behind it were removed, it was taken for one in the middle.
            let takes_appends = last.indexes.is_some();
            last.phase = if takes_appends { Phase::Active } else { Phase::Finished };
        }
        state.epochs.cut(state.end);
        state.log_start = log_start.unwrap_or(first).clamp(first, state.end.max(first));
        state.epochs.cut_start(state.log_start);
        if self.has_start {
            state.damages.raise_start(state.log_start);
        }
        state.compaction.cleaned_to = cleaned_to.min(state.end);
        state.written_end = state.end;
        state.durable_end = state.end;
        state.recovery_point = self.mark;
        state.mark.recorded = self.mark;
        state.mark.bytes_above = self.report.checked_bytes;
        state.are_epochs_sure = false;
        if self.end_is_damaged {
            state.status = Status::Fenced(FenceReason::Damaged);
        }
        state.is_as_closed = self.known.stop == CleanStop::Clean
            && self.mark == state.end
            && self.report.rebuilt_indexes == 0
            && self.has_epochs;
        Ok(())
    }
}
