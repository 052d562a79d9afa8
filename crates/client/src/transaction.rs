//! Transactions of the second generation (KIP-890): a partition joins with its first record, and
//! each end raises the producer's epoch.

use std::{collections::BTreeMap, time::Duration};

use model::{
    ErrorCode,
    record_batch::{NewRecord, attribute},
};
use wire::{
    end_txn_request::EndTxnRequest,
    init_producer_id_request::InitProducerIdRequest,
    txn_offset_commit_request::{
        TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
    },
};

use crate::{Acks, Batch, CommittedOffsets, Connection, Error, Produced, ProducerState, Result};

/// How long the broker may take for a batch.
const PRODUCE_TIMEOUT: Duration = Duration::from_secs(30);

/// How a transaction ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All of it is there.
    Commit,
    /// Nothing of it is.
    Abort,
}

/// Who has a transactional id, as the broker last said. Survives connections; what goes wrong in a
/// transaction is for its owner to see, who comes again with the id or goes on.
#[derive(Clone, Debug)]
pub struct TransactionalProducer {
    transactional_id: String,
    state: ProducerState,
}

impl TransactionalProducer {
    /// Comes with an id: who had it before is fenced, and what was open is aborted.
    ///
    /// # Errors
    /// The connection's or the coordinator's.
    pub async fn come(
        connection: &Connection,
        transactional_id: &str,
        transaction_timeout: Duration,
    ) -> Result<TransactionalProducer> {
        let timeout_ms = transaction_timeout.as_millis();
        let request = InitProducerIdRequest {
            transactional_id: Some(transactional_id),
            transaction_timeout_ms: i32::try_from(timeout_ms).unwrap_or(i32::MAX),
            ..Default::default()
        };
        let answer = connection.call(&request).await?;
        let response = answer.decode()?;
        Error::check(response.error_code)?;
        let (id, epoch) = (response.producer_id, response.producer_epoch);
        let state = ProducerState::named(id, epoch, attribute::TRANSACTIONAL)?;
        Ok(TransactionalProducer { transactional_id: transactional_id.to_owned(), state })
    }

    /// The id that it came with.
    #[must_use]
    pub fn transactional_id(&self) -> &str {
        &self.transactional_id
    }

    /// Its producer id and epoch.
    #[must_use]
    pub fn state(&self) -> &ProducerState {
        &self.state
    }

    /// Makes a batch, the next in sequence for its partition.
    ///
    /// # Panics
    /// When there are no records.
    pub fn batch(&mut self, topic: &str, partition: i32, records: &[NewRecord<'_>]) -> Batch {
        self.state.batch(topic, partition, records)
    }

    /// Sends a batch; the first of a transaction begins it.
    ///
    /// # Errors
    /// The connection's or the broker's.
    pub async fn produce(&self, connection: &Connection, batch: &Batch) -> Result<Produced> {
        let batches = std::slice::from_ref(batch);
        let id = Some(self.transactional_id.as_str());
        let results = connection.produce_as(id, batches, Acks::All, PRODUCE_TIMEOUT).await?;
        results.into_iter().next().ok_or(Error::Nonsense("a batch without an answer"))?
    }

    /// Commits a group's offsets with the transaction, from outside of the group.
    ///
    /// # Errors
    /// The connection's or the coordinator's, of any of them.
    pub async fn commit_offsets(
        &self,
        connection: &Connection,
        group: &str,
        offsets: &CommittedOffsets,
    ) -> Result<()> {
        let mut topics: BTreeMap<&str, Vec<TxnOffsetCommitRequestPartition<'_>>> = BTreeMap::new();
        for ((topic, partition), committed) in offsets {
            topics.entry(topic).or_default().push(TxnOffsetCommitRequestPartition {
                partition_index: *partition,
                committed_offset: committed.offset.0,
                committed_metadata: Some(&committed.metadata),
                ..Default::default()
            });
        }
        let topics = topics.into_iter().map(|(name, partitions)| TxnOffsetCommitRequestTopic {
            name,
            partitions,
            ..Default::default()
        });
        let request = TxnOffsetCommitRequest {
            transactional_id: &self.transactional_id,
            group_id: group,
            producer_id: self.state.id().0,
            producer_epoch: self.state.epoch().0,
            topics: topics.collect(),
            ..Default::default()
        };
        let answer = connection.call(&request).await?;
        let response = answer.decode()?;
        let mut partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        partitions.try_for_each(|partition| Error::check(partition.error_code))
    }

    /// Ends the transaction, and goes on as the broker says: with its next epoch. After an error
    /// it is as it was; to ask again for the same end is safe.
    ///
    /// # Errors
    /// The connection's or the coordinator's.
    pub async fn end(&mut self, connection: &Connection, end: End) -> Result<()> {
        let request = EndTxnRequest {
            transactional_id: &self.transactional_id,
            producer_id: self.state.id().0,
            producer_epoch: self.state.epoch().0,
            committed: end == End::Commit,
        };
        let answer = connection.call(&request).await?;
        let response = answer.decode()?;
        Error::check(response.error_code)?;
        let (id, epoch) = (response.producer_id, response.producer_epoch);
        self.state = ProducerState::named(id, epoch, attribute::TRANSACTIONAL)?;
        Ok(())
    }

    /// Whether an error says that the transaction is somebody else's to end.
    #[must_use]
    pub fn is_fenced(error: &Error) -> bool {
        matches!(
            error,
            Error::Refused(
                ErrorCode::ProducerFenced
                    | ErrorCode::InvalidProducerEpoch
                    | ErrorCode::InvalidTxnState
            )
        )
    }
}
