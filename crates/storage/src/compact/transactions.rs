//! What transactions mean to compaction: aborted data goes at once, a marker may go once none of
//! its transaction's data is left, and then only after `delete.retention.ms`.

use model::{
    Offset, ProducerId,
    collections::{BTreeMap, BTreeSet},
    record_batch::{ControlType, RecordBatch},
};

use crate::transactions::{AbortedTransaction, control_type};

/// The aborted transactions of a stretch of the log.
#[derive(Default)]
pub(super) struct AbortedTransactions {
    /// Of each producer.
    ranges: BTreeMap<ProducerId, Vec<AbortedTransaction>>,
    /// Where the transactions that have no marker yet start.
    open: BTreeMap<ProducerId, Offset>,
    /// Those of them that began in the part that is to be compacted, once that was seen.
    awaited: BTreeSet<ProducerId>,
}

impl AbortedTransactions {
    /// Notes a batch; they come in the log's order.
    pub(super) fn note(&mut self, batch: &RecordBatch<'_>) {
        let producer_id = batch.producer_id();
        if batch.is_control() {
            let start = self.open.remove(&producer_id);
            self.awaited.remove(&producer_id);
            if let (Some(first_offset), Some(ControlType::Abort)) = (start, control_type(batch)) {
                let last_offset = batch.base_offset();
                let first_open = self.open.values().copied().min();
                self.ranges.entry(producer_id).or_default().push(AbortedTransaction {
                    producer_id,
                    first_offset,
                    last_offset,
                    last_stable_offset: first_open.unwrap_or_else(|| last_offset.next()),
                });
            }
        } else if batch.is_transactional() {
            self.open.entry(producer_id).or_insert_with(|| batch.base_offset());
        }
    }

    /// What follows is looked at for the ends of these transactions alone.
    pub(super) fn end_of_part(&mut self) {
        self.awaited = self.open.keys().copied().collect();
    }

    /// True where the end of each transaction of the part is known.
    pub(super) fn are_all_ended(&self) -> bool {
        self.awaited.is_empty()
    }

    /// True if a batch is data of an aborted transaction.
    pub(super) fn contains(&self, batch: &RecordBatch<'_>) -> bool {
        if !batch.is_transactional() || batch.is_control() {
            return false;
        }
        let Some(ranges) = self.ranges.get(&batch.producer_id()) else { return false };
        let offset = batch.base_offset();
        let after = ranges.partition_point(|one| one.first_offset <= offset);
        after.checked_sub(1).is_some_and(|index| offset < ranges[index].last_offset)
    }

    /// The one that a marker ends.
    pub(super) fn ended_by(&self, marker: &RecordBatch<'_>) -> Option<&AbortedTransaction> {
        let ranges = self.ranges.get(&marker.producer_id())?;
        let offset = marker.base_offset();
        let index = ranges.binary_search_by_key(&offset, |one| one.last_offset).ok()?;
        Some(&ranges[index])
    }
}

/// What a batch is to the pass that rewrites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// Its records count, each by its key.
    Data,
    /// It counts for nothing.
    Aborted,
    /// A marker, or another control record, that somebody needs.
    Marker,
    /// A marker of a transaction of which nothing is left.
    SpentMarker,
}

/// One pass over the log, from its start on.
#[derive(Default)]
pub(super) struct Passage {
    /// The producers with data that no marker has ended.
    seen: BTreeSet<ProducerId>,
}

impl Passage {
    /// Judges the next batch.
    pub(super) fn judge(
        &mut self,
        batch: &RecordBatch<'_>,
        aborted: &AbortedTransactions,
    ) -> Judgement {
        if !batch.is_control() {
            if batch.is_transactional() {
                self.seen.insert(batch.producer_id());
            }
            let is_aborted = aborted.contains(batch);
            return if is_aborted { Judgement::Aborted } else { Judgement::Data };
        }
        let ends_transaction = match control_type(batch) {
            Some(ControlType::Abort | ControlType::Commit) => true,
            // One that was emptied holds nothing but its producer's epoch.
            None => batch.record_count() == 0,
            Some(
                ControlType::LeaderChange
                | ControlType::SnapshotHeader
                | ControlType::SnapshotFooter
                | ControlType::KRaftVersion
                | ControlType::Voters,
            ) => false,
        };
        if ends_transaction && !self.seen.remove(&batch.producer_id()) {
            Judgement::SpentMarker
        } else {
            Judgement::Marker
        }
    }
}
