//! Walks over the records that a producer sent, in slices: before the append, over those of a
//! compressed batch, so that the log can decide without waiting; and once records were refused,
//! to tell the producer which (KIP-467).
//!
//! Both are done by the shard of the connection, in its order, so a producer of slow batches holds
//! up itself. Memory: a piece of the batch. CPU: one pass of the codec, up to the topic's
//! `max.decompressed.message.bytes`.

use cluster::record::ConfigResource;
use model::{
    ErrorCode,
    record_batch::{Compression, Counts, Progress, RecordBatch, RecordScan, RecordSummary},
    topic_config::DECOMPRESSED_BYTES_MAX,
};
use runtime::Runtime;
use storage::{RecordFault, RecordRules, Survey};

use crate::shard::Shard;

const MAX_DECOMPRESSED: &str = "max.decompressed.message.bytes";
/// How much comes out of a codec before other tasks have their turn: well below a millisecond with
/// the slowest.
const SLICE_BYTES: usize = 128 << 10;
/// How many records of a batch are named as refused: an answer then has no more than some hundred
/// KiB a partition. Clients take the others for refused because of these.
const FAULTS_NAMED_MAX: usize = 10_000;

/// The records that were refused, and the error that stands for all of them.
pub(crate) struct Refused {
    pub(crate) error: ErrorCode,
    pub(crate) records: Vec<(i32, String)>,
}

/// Walks over the records of a compressed batch. `None` where there is nothing to walk over.
pub(crate) async fn survey(runtime: &Runtime, bytes: &[u8], max: usize) -> Option<Survey> {
    let batch = RecordBatch::first(bytes).ok()?;
    if batch.compression() == Compression::None {
        return None;
    }
    Some(walk(runtime, batch, max).await)
}

/// Walks over the records of a batch, of which no more than `max` bytes may come out.
pub(crate) async fn walk(runtime: &Runtime, batch: RecordBatch<'_>, max: usize) -> Survey {
    let mut summary = RecordSummary::EMPTY;
    let mut scan = RecordScan::new(batch, Counts::Dense, max)?;
    let mut rested_at = 0;
    loop {
        let progress = scan.step(|record| {
            summary.add(record.timestamp, record.has_key);
            Progress::More
        })?;
        if progress == Progress::Done {
            return Ok(RecordSummary { bytes: scan.bytes(), ..summary });
        }
        if scan.bytes() - rested_at >= SLICE_BYTES {
            rested_at = scan.bytes();
            runtime.yield_now().await;
        }
    }
}

/// Which records of a batch the rules refuse.
pub(crate) async fn refused(runtime: &Runtime, bytes: &[u8], rules: &RecordRules) -> Refused {
    let mut refused = Refused { error: ErrorCode::InvalidRecord, records: Vec::new() };
    let max = decompressed_max();
    let scan =
        RecordBatch::first(bytes).and_then(|batch| RecordScan::new(batch, Counts::Dense, max));
    let Ok(mut scan) = scan else { return refused };
    while let Ok(Progress::More) = scan.step(|record| {
        if let Some(fault) = rules.fault(&record) {
            // As in Apache Kafka: a timestamp among the reasons is the reason.
            if fault != RecordFault::NoKey {
                refused.error = ErrorCode::InvalidTimestamp;
            }
            if refused.records.len() < FAULTS_NAMED_MAX {
                refused.records.push((record.index, fault.to_string()));
            }
        }
        Progress::More
    }) {
        runtime.yield_now().await;
    }
    refused
}

impl Shard {
    /// What may come out of a compressed batch of this topic: the one of its settings that is
    /// needed before the topic's owner has it.
    pub(crate) fn decompressed_max(&self, topic: &str) -> usize {
        let image = self.image.borrow();
        let resources = [
            ConfigResource::topic(topic),
            ConfigResource::broker(self.node()),
            ConfigResource::all_brokers(),
        ];
        let set = resources.iter().find_map(|resource| {
            image
                .configs(resource)
                .find(|(name, _)| *name == MAX_DECOMPRESSED)
                .map(|(_, value)| value)
        });
        let started_with = self.config.topic_defaults.get(MAX_DECOMPRESSED).map(String::as_str);
        let value = set.or(started_with).and_then(|value| value.trim().parse().ok());
        value.unwrap_or_else(decompressed_max)
    }
}

/// Where nobody says it.
fn decompressed_max() -> usize {
    usize::try_from(DECOMPRESSED_BYTES_MAX).unwrap_or(usize::MAX)
}
