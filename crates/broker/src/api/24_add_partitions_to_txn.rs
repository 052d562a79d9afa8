//! AddPartitionsToTxn, versions 0 to 5: partitions come into a transaction. From version 4 on it is
//! what brokers ask each other, for several transactions, and may be a question alone.

use coordinator::transactions::{Partitions, ProducerIdentity};
use model::{ErrorCode, ProducerEpoch, ProducerId};
use wire::{
    add_partitions_to_txn_request::{
        AddPartitionsToTxnRequest, AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
    },
    add_partitions_to_txn_response::{
        AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResponse, AddPartitionsToTxnResult,
        AddPartitionsToTxnTopicResult,
    },
};

use super::{Answer, Request, old_client_error};
use crate::transactions::Ask;

/// From this version on there are several transactions, and brokers ask.
const BROKERS_FROM_VERSION: i16 = 4;
/// The version of brokers whose clients have an epoch for each transaction.
const EPOCH_BUMP_FROM_VERSION: i16 = 5;
/// From this version on clients know PRODUCER_FENCED.
const FENCED_FROM_VERSION: i16 = 2;

/// What became of each partition, by its topic's place and its own.
type Results = Vec<Vec<ErrorCode>>;

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: AddPartitionsToTxnRequest<'_> = request.decode()?;
    if request.head.version >= BROKERS_FROM_VERSION {
        let mut results = Vec::with_capacity(body.transactions.len());
        for transaction in &body.transactions {
            results.push(one(request, transaction).await);
        }
        let results = body.transactions.iter().zip(&results).map(|(transaction, results)| {
            AddPartitionsToTxnResult {
                transactional_id: transaction.transactional_id,
                topic_results: topic_results(&transaction.topics, results),
            }
        });
        let results_by_transaction = results.collect();
        return request
            .respond(&AddPartitionsToTxnResponse { results_by_transaction, ..Default::default() });
    }
    let transaction = AddPartitionsToTxnTransaction {
        transactional_id: body.v3_and_below_transactional_id,
        producer_id: body.v3_and_below_producer_id,
        producer_epoch: body.v3_and_below_producer_epoch,
        verify_only: false,
        topics: body.v3_and_below_topics,
    };
    let results = one(request, &transaction).await;
    let results_by_topic_v3_and_below = topic_results(&transaction.topics, &results);
    request.respond(&AddPartitionsToTxnResponse {
        results_by_topic_v3_and_below,
        ..Default::default()
    })
}

async fn one(request: &Request<'_>, transaction: &AddPartitionsToTxnTransaction<'_>) -> Results {
    let shard = request.shard;
    let known = |topic: &str, partition: i32| match shard.place_of(topic, partition) {
        Some(_) => ErrorCode::None,
        None => ErrorCode::UnknownTopicOrPartition,
    };
    let each = |error: &dyn Fn(&str, i32) -> ErrorCode| -> Results {
        let topics = transaction.topics.iter();
        topics
            .map(|topic| topic.partitions.iter().map(|one| error(topic.name, *one)).collect())
            .collect()
    };
    let found = each(&known);
    if found.iter().flatten().any(|error| *error != ErrorCode::None) {
        // All of them, or none.
        return each(&|topic, partition| {
            let error = known(topic, partition);
            if error == ErrorCode::None { ErrorCode::OperationNotAttempted } else { error }
        });
    }
    let mut partitions = Partitions::new();
    for topic in &transaction.topics {
        partitions.entry(topic.name.to_owned()).or_default().extend(&topic.partitions);
    }
    let producer = ProducerIdentity {
        id: ProducerId(transaction.producer_id),
        epoch: ProducerEpoch(transaction.producer_epoch),
    };
    let transactional_id = transaction.transactional_id;
    if transaction.verify_only {
        let told = shard.verify_partitions(transactional_id, producer, &partitions).await;
        return each(&|topic, partition| {
            let mut all = told.iter();
            let found = all.find(|(name, one, _)| name == topic && *one == partition);
            found.map_or(ErrorCode::UnknownServerError, |(_, _, error)| *error)
        });
    }
    let version = request.head.version;
    let add = |patience| Ask::Add {
        transactional_id: transactional_id.to_owned(),
        producer,
        partitions: partitions.clone(),
        client_version: if version >= EPOCH_BUMP_FROM_VERSION { 2 } else { 0 },
        patience,
    };
    let error = old_client_error(shard.ask_to_add_next(add).await, version, FENCED_FROM_VERSION);
    each(&|_, _| error)
}

fn topic_results<'a>(
    topics: &[AddPartitionsToTxnTopic<'a>],
    results: &Results,
) -> Vec<AddPartitionsToTxnTopicResult<'a>> {
    let topics = topics.iter().zip(results);
    topics
        .map(|(topic, results)| AddPartitionsToTxnTopicResult {
            name: topic.name,
            results_by_partition: topic
                .partitions
                .iter()
                .zip(results)
                .map(|(partition, error)| AddPartitionsToTxnPartitionResult {
                    partition_index: *partition,
                    partition_error_code: error.code(),
                })
                .collect(),
        })
        .collect()
}
