//! What `compression.type` makes of a batch that was sent with another codec: the same records in
//! the topic's. Done by the shard of the connection, in its order and in slices, before the append.
//!
//! Memory: the new batch, which ends where it passes `max.message.bytes`, and a piece of the old
//! one. CPU: two passes of the old codec, one of the new. A produce to topics that leave batches as
//! they are pays for one look at a flag.

use std::cell::{Cell, RefCell};

use bytes::Bytes;
use cluster::{
    MetadataImage,
    record::{ConfigResource, ResourceType},
};
use model::{
    collections::BTreeSet,
    compression::{Compressor, Decompressor, Target},
    record_batch::{BatchError, Counts, HEADER_BYTES, RecordBatch, recompressed},
    topic_config::TopicConfig,
};
use runtime::Runtime;
use storage::Survey;

use crate::{record_survey, shard::Shard};

const COMPRESSION_TYPE: &str = "compression.type";
/// The value that leaves batches as they are.
const PRODUCER: &str = "producer";
/// How much is asked of the old codec at a time.
const READ_STEP_BYTES: usize = 64 << 10;
/// How much the new codec is given before other tasks have their turn: gzip's highest levels take
/// a millisecond for it.
const WRITE_STEP_BYTES: usize = 16 << 10;

/// Which topics have a codec of their own.
#[derive(Default)]
pub(crate) struct OwnCodecs {
    /// False where a produce has nothing to ask.
    are_any: Cell<bool>,
    /// Whether topics that do not say have one.
    by_default: Cell<bool>,
    /// The topics that say otherwise than that.
    others: RefCell<BTreeSet<String>>,
}

impl OwnCodecs {
    /// Whether there is a topic that may have one.
    pub(crate) fn are_any(&self) -> bool {
        self.are_any.get()
    }

    fn has(&self, topic: &str) -> bool {
        self.by_default.get() != self.others.borrow().contains(topic)
    }
}

impl Shard {
    /// Notes the codecs of all topics, or of some where no default has changed.
    pub(crate) fn note_codecs(&self, image: &MetadataImage, changed: Option<&[ConfigResource]>) {
        let set = |resource: &ConfigResource| {
            let mut settings = image.configs(resource);
            let value = settings.find(|(name, _)| *name == COMPRESSION_TYPE)?.1;
            Some(value.trim() != PRODUCER)
        };
        let started_with = self.config.topic_defaults.get(COMPRESSION_TYPE);
        let brokers = [ConfigResource::broker(self.node()), ConfigResource::all_brokers()];
        let by_default = brokers
            .iter()
            .find_map(&set)
            .unwrap_or_else(|| started_with.is_some_and(|value| value.trim() != PRODUCER));
        let codecs = &self.own_codecs;
        let is_default_new = codecs.by_default.replace(by_default) != by_default;
        let mut others = codecs.others.borrow_mut();
        let mut note = |resource: &ConfigResource| {
            if set(resource).is_some_and(|has| has != by_default) {
                others.insert(resource.name.clone());
            } else {
                others.remove(&resource.name);
            }
        };
        match changed.filter(|_| !is_default_new) {
            Some(changed) => changed
                .iter()
                .filter(|resource| resource.resource_type == ResourceType::TOPIC)
                .for_each(&mut note),
            None => image
                .configured(ResourceType::TOPIC)
                .for_each(|name| note(&ConfigResource::topic(name))),
        }
        codecs.are_any.set(by_default || !others.is_empty());
    }

    /// Makes of a batch what its topic wants; `None` where that is what was sent, or where the log
    /// refuses it in any case.
    pub(crate) async fn recompress(&self, topic: &str, sent: &Bytes) -> Option<(Bytes, Survey)> {
        if !self.own_codecs.has(topic) {
            return None;
        }
        recompress(&self.runtime, sent, &self.topic_config(topic)).await
    }
}

async fn recompress(
    runtime: &Runtime,
    sent: &Bytes,
    config: &TopicConfig,
) -> Option<(Bytes, Survey)> {
    let batch = RecordBatch::first(sent).ok()?;
    let target = config.recompression(batch.compression())?;
    let size_max = usize::try_from(config.max_message_bytes).unwrap_or(0);
    let is_whole = batch.size() == sent.len()
        && batch.size() <= size_max
        && batch.check_counts(Counts::Dense).is_ok()
        && batch.verify_crc().is_ok();
    if !is_whole || batch.is_control() {
        return None;
    }
    let max = usize::try_from(config.max_decompressed_message_bytes).unwrap_or(0);
    let summary = match record_survey::walk(runtime, batch, max).await {
        Ok(summary) => summary,
        Err(error) => return Some((sent.clone(), Err(error))),
    };
    let plain_bytes = u64::try_from(summary.bytes).ok();
    let target = Target { plain_bytes, ..target };
    Some(match translate(runtime, &batch, target, max, size_max).await {
        Ok(payload) => (Bytes::from(recompressed(&batch, target.codec, &payload)), Ok(summary)),
        Err(error) => (sent.clone(), Err(error)),
    })
}

/// The records of a batch in another codec.
async fn translate(
    runtime: &Runtime,
    batch: &RecordBatch<'_>,
    target: Target,
    plain_max: usize,
    size_max: usize,
) -> Result<Vec<u8>, BatchError> {
    let source = Decompressor::new(batch.compression(), batch.payload(), plain_max);
    let mut source = source.map_err(BatchError::Undecodable)?;
    let mut sink = Compressor::at_level(target);
    let mut piece = Vec::new();
    let check = |payload_bytes: usize| {
        let size = HEADER_BYTES + payload_bytes;
        if size > size_max { Err(BatchError::TooLarge { size, max: size_max }) } else { Ok(()) }
    };
    while source.read(&mut piece, READ_STEP_BYTES).map_err(BatchError::Undecodable)? > 0 {
        for part in piece.chunks(WRITE_STEP_BYTES) {
            sink.write(part);
            check(sink.size())?;
            runtime.yield_now().await;
        }
        piece.clear();
    }
    let payload = sink.finish();
    check(payload.len())?;
    Ok(payload)
}
