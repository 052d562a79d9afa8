//! Producing: batches, the sequences of an idempotent producer, and sends that are repeated until
//! they are answered.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use model::{
    ErrorCode, Offset, ProducerEpoch, ProducerId, Sequence,
    record_batch::{BatchOptions, NewRecord, RecordBatchBuilder},
};
use wire::{
    Records,
    init_producer_id_request::InitProducerIdRequest,
    produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData},
};

use crate::{Client, Connection, Error, Result};

/// Sent in place of a sequence by a producer without an id.
const NO_SEQUENCE: Sequence = Sequence(-1);

/// When a produce is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Never.
    None,
    /// When the leader has written it.
    Leader,
    /// When all in-sync replicas have it, durably.
    All,
}

impl Acks {
    fn number(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

/// Records on their way to one partition. Sending the same one again is how a retry stays
/// idempotent: its sequence is part of its bytes.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The records in Kafka's format.
    pub bytes: Bytes,
}

/// What a produce was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    /// The offset of the batch's first record; `None` for a duplicate that the broker no longer
    /// knows the offset of.
    pub base_offset: Option<Offset>,
    /// The partition's first offset.
    pub log_start_offset: Offset,
}

/// The identity of an idempotent producer and its next sequence for each partition. Survives
/// connections.
#[derive(Clone, Debug)]
pub struct ProducerState {
    id: ProducerId,
    epoch: ProducerEpoch,
    /// [`attribute::TRANSACTIONAL`], or 0.
    flags: i16,
    next_sequences: BTreeMap<(String, i32), Sequence>,
}

impl ProducerState {
    /// A producer without an id: no duplicate is recognised.
    #[must_use]
    pub fn plain() -> ProducerState {
        ProducerState {
            id: ProducerId::NONE,
            epoch: ProducerEpoch(-1),
            flags: 0,
            next_sequences: BTreeMap::new(),
        }
    }

    /// A producer that the broker has named.
    pub(crate) fn named(id: i64, epoch: i16, flags: i16) -> Result<ProducerState> {
        if id < 0 || epoch < 0 {
            return Err(Error::Nonsense("a negative producer id"));
        }
        let (id, epoch) = (ProducerId(id), ProducerEpoch(epoch));
        Ok(ProducerState { id, epoch, flags, next_sequences: BTreeMap::new() })
    }

    /// The id that the broker gave.
    #[must_use]
    pub fn id(&self) -> ProducerId {
        self.id
    }

    /// Which incarnation of it.
    #[must_use]
    pub fn epoch(&self) -> ProducerEpoch {
        self.epoch
    }

    /// Makes a batch, the next in sequence for its partition.
    ///
    /// # Panics
    /// When there are no records.
    pub fn batch(&mut self, topic: &str, partition: i32, records: &[NewRecord<'_>]) -> Batch {
        let count = i32::try_from(records.len()).expect("a batch's count is an i32");
        let mut builder = RecordBatchBuilder::new(self.next(topic, partition, count));
        for record in records {
            builder.append(record);
        }
        Batch { topic: topic.to_owned(), partition, bytes: builder.build() }
    }

    /// The head of the next batch for a partition, which will have `record_count` records: for who
    /// writes it himself.
    pub fn next(&mut self, topic: &str, partition: i32, record_count: i32) -> BatchOptions {
        let base_sequence = if self.id == ProducerId::NONE {
            NO_SEQUENCE
        } else {
            let next = self.next_sequences.entry((topic.to_owned(), partition)).or_default();
            let base = *next;
            *next = base.plus(record_count);
            base
        };
        BatchOptions {
            producer_id: self.id,
            producer_epoch: self.epoch,
            base_sequence,
            flags: self.flags,
            ..BatchOptions::default()
        }
    }
}

impl Connection {
    /// Gets a producer id.
    ///
    /// # Errors
    /// The connection's or the broker's.
    pub async fn init_producer_id(&self) -> Result<ProducerState> {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: i32::MAX,
            ..Default::default()
        };
        let answer = self.call(&request).await?;
        let response = answer.decode()?;
        Error::check(response.error_code)?;
        ProducerState::named(response.producer_id, response.producer_epoch, 0)
    }

    /// Sends batches, each for another partition, in one request, and gives the answer for each, in the same order. Of acks=0
    /// there is none: the list is empty.
    ///
    /// # Errors
    /// The connection's; the broker's are in the list.
    pub async fn produce(
        &self,
        batches: &[Batch],
        acks: Acks,
        timeout: Duration,
    ) -> Result<Vec<Result<Produced>>> {
        self.produce_as(None, batches, acks, timeout).await
    }

    /// The same, in a transaction if there is an id of one.
    pub(crate) async fn produce_as(
        &self,
        transactional_id: Option<&str>,
        batches: &[Batch],
        acks: Acks,
        timeout: Duration,
    ) -> Result<Vec<Result<Produced>>> {
        let mut topics: BTreeMap<&str, Vec<PartitionProduceData<'_>>> = BTreeMap::new();
        for batch in batches {
            topics.entry(&batch.topic).or_default().push(PartitionProduceData {
                index: batch.partition,
                records: Some(Records::Slices(vec![batch.bytes.clone()])),
            });
        }
        let topic_data = topics.into_iter().map(|(name, partition_data)| TopicProduceData {
            name,
            partition_data,
            ..Default::default()
        });
        let request = ProduceRequest {
            transactional_id,
            acks: acks.number(),
            timeout_ms: i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX),
            topic_data: topic_data.collect(),
        };
        if acks == Acks::None {
            self.call_without_answer(&request)?;
            return Ok(Vec::new());
        }
        let answer = self.call(&request).await?;
        let response = answer.decode()?;
        let find = |batch: &Batch| {
            let topics = response.responses.iter().filter(|topic| topic.name == batch.topic);
            let mut partitions = topics.flat_map(|topic| &topic.partition_responses);
            partitions.find(|partition| partition.index == batch.partition)
        };
        let mut results = Vec::with_capacity(batches.len());
        for batch in batches {
            let partition = find(batch).ok_or(Error::Nonsense("a batch without an answer"))?;
            results.push(Error::check(partition.error_code).map(|()| Produced {
                base_offset: (partition.base_offset >= 0).then_some(Offset(partition.base_offset)),
                log_start_offset: Offset(partition.log_start_offset),
            }));
        }
        Ok(results)
    }
}

impl Client {
    /// Sends a batch with acks=all until it is answered for good: a broken connection and a
    /// retriable refusal are tried again until `deadline`.
    ///
    /// A duplicate counts as success: the first attempt had arrived.
    ///
    /// # Errors
    /// The broker's final refusal, or the last error before the deadline.
    pub async fn produce_until(
        &self,
        batch: &Batch,
        acks: Acks,
        deadline: runtime::Instant,
    ) -> Result<Produced> {
        let batches = std::slice::from_ref(batch);
        let timeout = Duration::from_secs(30);
        self.retry_until(deadline, async |connection| {
            let results = connection.produce(batches, acks, timeout).await?;
            match results.into_iter().next() {
                Some(Err(Error::Refused(ErrorCode::DuplicateSequenceNumber))) => {
                    Ok(Produced { base_offset: None, log_start_offset: Offset(-1) })
                }
                Some(result) => result,
                None => Ok(Produced { base_offset: None, log_start_offset: Offset(-1) }),
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::record_batch::RecordBatch;

    #[test]
    fn sequences_count_records_for_each_partition() {
        let mut producer = ProducerState { id: ProducerId(7), ..ProducerState::plain() };
        let record = NewRecord { value: Some(b"v"), ..Default::default() };
        let mut sequence_of = |partition, count| {
            let batch = producer.batch("t", partition, &vec![record; count]);
            let batch = RecordBatch::first(&batch.bytes).unwrap();
            assert_eq!(batch.producer_id(), ProducerId(7));
            batch.base_sequence().0
        };
        assert_eq!(sequence_of(0, 3), 0);
        assert_eq!(sequence_of(1, 1), 0);
        assert_eq!(sequence_of(0, 1), 3);
        assert_eq!(sequence_of(0, 1), 4);
    }

    #[test]
    fn a_plain_producer_has_no_sequence() {
        let record = NewRecord { value: Some(b"v"), ..Default::default() };
        let batch = ProducerState::plain().batch("t", 0, &[record]);
        assert_eq!(RecordBatch::first(&batch.bytes).unwrap().base_sequence(), NO_SEQUENCE);
    }
}
