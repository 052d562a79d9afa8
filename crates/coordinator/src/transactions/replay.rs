//! Transactional ids from the records of the partition.

use model::record_batch::{Compression, RecordBatch};
use wire::coordinator_record::decode_transaction_state_record;
use wire::transaction_log_value::TransactionLogValue;

use super::coordinator::{Entry, TransactionCoordinator};
use super::transaction::Transaction;
use crate::coordinator::LoadError;

impl TransactionCoordinator {
    /// Takes in a batch of the partition, in the order of the log. Gives the errors of the records
    /// in it that were skipped because they are no records of transactions.
    ///
    /// # Errors
    /// When the batch itself cannot be read.
    pub fn replay_batch(&mut self, batch: &RecordBatch<'_>) -> Result<Vec<wire::Error>, LoadError> {
        if batch.is_control() {
            return Ok(Vec::new());
        }
        if batch.compression() != Compression::None {
            return Err(LoadError::Compressed);
        }
        let mut skipped = Vec::new();
        for record in batch.records() {
            let record = record.map_err(LoadError::Batch)?;
            let key = record.key.unwrap_or_default();
            match decode_transaction_state_record(key, record.value) {
                Ok((key, value)) => self.replay(key.transactional_id, value.as_ref())?,
                Err(error) => skipped.push(error),
            }
        }
        Ok(skipped)
    }

    fn replay(
        &mut self,
        transactional_id: &str,
        value: Option<&TransactionLogValue<'_>>,
    ) -> Result<(), LoadError> {
        let Some(value) = value else {
            self.entries.remove(transactional_id);
            return Ok(());
        };
        let unknown = LoadError::UnknownState(value.transaction_status);
        let transaction = Transaction::from_value(value).ok_or(unknown)?;
        if cfg!(feature = "mutant_state_not_reloaded") {
            return Ok(());
        }
        self.entries.insert(transactional_id.into(), Entry { transaction, pending: None });
        Ok(())
    }
}
