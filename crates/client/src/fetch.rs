//! Fetching records, and asking for the ends of a log.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use model::{
    ErrorCode, Offset, ProducerId, TimestampMs,
    compression::decompress,
    record_batch::{Compression, ControlType, RecordBatch, Records},
};
use wire::{
    fetch_request::{FetchPartition, FetchRequest, FetchTopic},
    list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic},
};

use crate::{Connection, Error, Result};

/// What a batch may take when it is decompressed: more than brokers take in one.
const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;

/// Where to read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The next offset.
    pub offset: Offset,
}

/// Which records a reader gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Also those of transactions that have not ended, or were aborted.
    Uncommitted,
    /// Those in front of the first transaction that has not ended, but for the aborted ones.
    Committed,
}

impl Isolation {
    fn number(self) -> i8 {
        match self {
            Isolation::Uncommitted => 0,
            Isolation::Committed => 1,
        }
    }
}

/// How much to fetch, and how long to wait for it.
#[derive(Clone, Copy, Debug)]
pub struct FetchOptions {
    /// How long the broker waits for `min_bytes`.
    pub max_wait: Duration,
    /// Fewer make the broker wait.
    pub min_bytes: i32,
    /// In all.
    pub max_bytes: i32,
    /// For each partition.
    pub partition_max_bytes: i32,
    /// Of which transactions.
    pub isolation: Isolation,
}

impl Default for FetchOptions {
    fn default() -> FetchOptions {
        FetchOptions {
            max_wait: Duration::from_millis(500),
            min_bytes: 1,
            max_bytes: 50 << 20,
            partition_max_bytes: 1 << 20,
            isolation: Isolation::Uncommitted,
        }
    }
}

/// What a fetch brought of a partition.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// What the broker says of it.
    pub error_code: ErrorCode,
    /// Records below this are committed.
    pub high_watermark: Offset,
    /// The first offset that is there.
    pub log_start_offset: Offset,
    /// The transactions among the batches that were aborted, each by its first offset and its
    /// producer; only readers of committed records are told.
    pub aborted: Vec<(Offset, ProducerId)>,
    /// Batches; the last may be cut.
    pub records: Bytes,
}

/// A record as a consumer gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumedRecord {
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp: TimestampMs,
    /// `None`: null.
    pub key: Option<Bytes>,
    /// `None`: null.
    pub value: Option<Bytes>,
    /// Names and values, in the order in which they were sent.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

impl Fetched {
    /// The records from `from` on, without control records and those of aborted transactions: a
    /// batch is fetched whole, also if the offset lies within it. And the offset to go on from.
    ///
    /// # Errors
    /// When a batch is damaged, or cannot be decompressed.
    pub fn records_from(&self, from: Offset) -> Result<(Vec<ConsumedRecord>, Offset)> {
        let mut consumed = Vec::new();
        let mut next = from;
        let mut rest = self.records.clone();
        let mut aborted = Aborted::new(&self.aborted);
        while !rest.is_empty() {
            match RecordBatch::size_of_first(&rest) {
                // A batch that did not fit is cut: the next fetch brings it.
                Err(model::record_batch::BatchError::Truncated { .. }) => break,
                Ok(size) if size > rest.len() => break,
                Ok(_) | Err(_) => {}
            }
            let batch = RecordBatch::first(&rest)?;
            batch.verify_crc()?;
            let plain = match batch.compression() {
                Compression::None => rest.slice_ref(batch.payload()),
                codec @ (Compression::Gzip
                | Compression::Snappy
                | Compression::Lz4
                | Compression::Zstd) => {
                    let plain = decompress(codec, batch.payload(), DECOMPRESSED_BYTES_MAX);
                    Bytes::from(plain.map_err(|_| Error::Compressed)?)
                }
            };
            let is_left_out = aborted.leave_out(&batch)?;
            for record in Records::of_decompressed(&plain, batch.record_count()) {
                let record = record?;
                let offset = batch.base_offset().plus(i64::from(record.offset_delta));
                if offset < from || is_left_out {
                    continue;
                }
                let timestamp = batch.base_timestamp().0.wrapping_add(record.timestamp_delta);
                consumed.push(ConsumedRecord {
                    offset,
                    timestamp: TimestampMs(timestamp),
                    key: record.key.map(|key| plain.slice_ref(key)),
                    value: record.value.map(|value| plain.slice_ref(value)),
                    headers: record
                        .headers()
                        .map(|header| {
                            let value = header.value.map(|value| plain.slice_ref(value));
                            (plain.slice_ref(header.key), value)
                        })
                        .collect(),
                });
            }
            next = next.max(batch.next_offset());
            let size = batch.size();
            rest = rest.slice(size..);
        }
        Ok((consumed, next))
    }
}

/// The producers whose transaction is an aborted one at this point of a log.
struct Aborted {
    /// Those to come, the next one last.
    ahead: Vec<(Offset, ProducerId)>,
    open: BTreeSet<ProducerId>,
}

impl Aborted {
    fn new(aborted: &[(Offset, ProducerId)]) -> Aborted {
        let mut ahead = aborted.to_vec();
        ahead.sort_unstable_by(|one, other| other.cmp(one));
        Aborted { ahead, open: BTreeSet::new() }
    }

    /// Whether the next batch's records are nobody's to read.
    fn leave_out(&mut self, batch: &RecordBatch<'_>) -> Result<bool> {
        while let Some((_, producer)) =
            self.ahead.pop_if(|(first, _)| *first <= batch.last_offset())
        {
            self.open.insert(producer);
        }
        if batch.is_control() {
            let record = batch.records().next().ok_or(Error::Nonsense("an empty marker"))??;
            if record.key.and_then(ControlType::from_key) == Some(ControlType::Abort) {
                self.open.remove(&batch.producer_id());
            }
            return Ok(true);
        }
        Ok(batch.is_transactional() && self.open.contains(&batch.producer_id()))
    }
}

/// Which offset to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first that is there.
    Earliest,
    /// The one after the last committed.
    Latest,
    /// That of the first record of a transaction that has not ended; without one, the same.
    LastStable,
    /// The first whose timestamp is this or later.
    AtOrAfter(TimestampMs),
}

impl OffsetSpec {
    fn timestamp(self) -> i64 {
        match self {
            OffsetSpec::Earliest => -2,
            OffsetSpec::Latest | OffsetSpec::LastStable => -1,
            OffsetSpec::AtOrAfter(timestamp) => timestamp.0,
        }
    }

    fn isolation(self) -> Isolation {
        if self == OffsetSpec::LastStable { Isolation::Committed } else { Isolation::Uncommitted }
    }
}

impl Connection {
    /// Fetches from each position, without a session.
    ///
    /// # Errors
    /// The connection's, or the broker's for the request as a whole.
    pub async fn fetch(
        &self,
        positions: &[Position],
        options: FetchOptions,
    ) -> Result<Vec<Fetched>> {
        let mut topics: BTreeMap<&str, Vec<FetchPartition>> = BTreeMap::new();
        for position in positions {
            topics.entry(&position.topic).or_default().push(FetchPartition {
                partition: position.partition,
                fetch_offset: position.offset.0,
                partition_max_bytes: options.partition_max_bytes,
                ..Default::default()
            });
        }
        let topics = topics.into_iter().map(|(topic, partitions)| FetchTopic {
            topic,
            partitions,
            ..Default::default()
        });
        let request = FetchRequest {
            max_wait_ms: i32::try_from(options.max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: options.min_bytes,
            max_bytes: options.max_bytes,
            isolation_level: options.isolation.number(),
            session_id: 0,
            session_epoch: -1,
            topics: topics.collect(),
            ..Default::default()
        };
        let answer = self.call(&request).await?;
        let response = answer.decode()?;
        Error::check(response.error_code)?;
        let mut fetched = Vec::new();
        for topic in &response.responses {
            for partition in &topic.partitions {
                let records = partition.records.as_ref().and_then(wire::Records::as_borrowed);
                let aborted = partition.aborted_transactions.iter().flatten();
                let aborted =
                    aborted.map(|one| (Offset(one.first_offset), ProducerId(one.producer_id)));
                fetched.push(Fetched {
                    topic: topic.topic.to_owned(),
                    partition: partition.partition_index,
                    error_code: ErrorCode::from_code(partition.error_code),
                    high_watermark: Offset(partition.high_watermark),
                    log_start_offset: Offset(partition.log_start_offset),
                    aborted: aborted.collect(),
                    records: records
                        .map(|records| wire::subslice(answer.frame(), records))
                        .unwrap_or_default(),
                });
            }
        }
        Ok(fetched)
    }

    /// An offset of a partition; `None` if no record is at or after the timestamp.
    ///
    /// # Errors
    /// The connection's or the broker's.
    pub async fn list_offset(
        &self,
        topic: &str,
        partition: i32,
        spec: OffsetSpec,
    ) -> Result<Option<Offset>> {
        let request = ListOffsetsRequest {
            replica_id: -1,
            isolation_level: spec.isolation().number(),
            topics: vec![ListOffsetsTopic {
                name: topic,
                partitions: vec![ListOffsetsPartition {
                    partition_index: partition,
                    current_leader_epoch: -1,
                    timestamp: spec.timestamp(),
                }],
            }],
            ..Default::default()
        };
        let answer = self.call(&request).await?;
        let response = answer.decode()?;
        let mut partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        let found = partitions.next().ok_or(Error::Nonsense("no partition in the answer"))?;
        Error::check(found.error_code)?;
        Ok((found.offset >= 0).then_some(Offset(found.offset)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::record_batch::{BatchOptions, NewRecord, RecordBatchBuilder, attribute};

    fn batch(base_offset: i64, values: &[&str], flags: i16) -> Bytes {
        let base_offset = Offset(base_offset);
        let mut builder =
            RecordBatchBuilder::new(BatchOptions { base_offset, flags, ..BatchOptions::default() });
        for value in values {
            builder.append(&NewRecord { value: Some(value.as_bytes()), ..Default::default() });
        }
        builder.build()
    }

    fn fetched(records: &[Bytes]) -> Fetched {
        Fetched {
            topic: "t".to_owned(),
            partition: 0,
            error_code: ErrorCode::None,
            high_watermark: Offset(100),
            log_start_offset: Offset(0),
            aborted: Vec::new(),
            records: records.concat().into(),
        }
    }

    fn check(records: &[Bytes], from: i64, expected: &str, next: i64) {
        let (consumed, position) = fetched(records).records_from(Offset(from)).unwrap();
        let text = |record: &ConsumedRecord| {
            let value = record.value.as_deref().unwrap_or_default();
            format!("{}:{} ", record.offset, String::from_utf8_lossy(value))
        };
        assert_eq!(consumed.iter().map(text).collect::<String>(), expected);
        assert_eq!(position, Offset(next));
    }

    #[test]
    fn records_start_at_the_position_and_end_at_a_cut_batch() {
        let batches = [batch(4, &["a", "b"], 0), batch(6, &["c"], 0), batch(7, &["d"], 0)];
        check(&batches, 4, "4:a 5:b 6:c 7:d ", 8);
        check(&batches, 5, "5:b 6:c 7:d ", 8);
        for cut in [1, 11, 12, 60] {
            check(&[batches[0].clone(), batches[1].slice(..cut)], 4, "4:a 5:b ", 6);
        }
        check(&[], 4, "", 4);
    }

    #[test]
    fn control_records_are_passed_over() {
        let marker = batch(6, &["commit"], attribute::CONTROL);
        check(&[batch(5, &["a"], 0), marker, batch(7, &["b"], 0)], 5, "5:a 7:b ", 8);
    }

    #[test]
    fn records_of_aborted_transactions_are_left_out() {
        let of = |base_offset, producer, flags, key: Option<[u8; 4]>| {
            let mut builder = RecordBatchBuilder::new(BatchOptions {
                base_offset: Offset(base_offset),
                producer_id: ProducerId(producer),
                flags: attribute::TRANSACTIONAL | flags,
                ..BatchOptions::default()
            });
            let key = key.as_ref().map(<[u8; 4]>::as_slice);
            builder.append(&NewRecord { key, value: Some(b"v"), ..Default::default() });
            builder.build()
        };
        let marker = |base_offset, producer, end: ControlType| {
            of(base_offset, producer, attribute::CONTROL, Some(end.key()))
        };
        let batches = [
            of(0, 1, 0, None),
            of(1, 2, 0, None),
            batch(2, &["plain"], 0),
            marker(3, 1, ControlType::Abort),
            of(4, 1, 0, None),
            marker(5, 2, ControlType::Commit),
            of(6, 2, 0, None),
            marker(7, 1, ControlType::Commit),
            marker(8, 2, ControlType::Abort),
        ];
        let aborted = vec![(Offset(6), ProducerId(2)), (Offset(0), ProducerId(1))];
        let fetched = Fetched { aborted, ..fetched(&batches) };
        let (records, next) = fetched.records_from(Offset(0)).unwrap();
        let offsets: Vec<i64> = records.iter().map(|record| record.offset.0).collect();
        assert_eq!((offsets, next), (vec![1, 2, 4], Offset(9)));
    }

    #[test]
    fn compressed_batches_are_read() {
        for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
            let plain = batch(4, &["a", "b"], 0);
            let original = RecordBatch::first(&plain).unwrap();
            let payload = model::compression::compress(codec, original.payload());
            let packed = model::record_batch::recompressed(&original, codec, &payload);
            check(&[packed.clone().into(), batch(6, &["c"], 0)], 5, "5:b 6:c ", 7);
            let senseless = model::record_batch::recompressed(&original, codec, b"\xffno stream");
            let result = fetched(&[senseless.into()]).records_from(Offset(4));
            assert!(matches!(result, Err(Error::Compressed | Error::Batch(_))), "{codec:?}");
        }
    }

    #[test]
    fn a_damaged_batch_is_refused() {
        let mut damaged = batch(0, &["a"], 0).to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        let result = fetched(&[damaged.into()]).records_from(Offset(0));
        assert!(matches!(result, Err(Error::Batch(_))), "{result:?}");
    }
}
