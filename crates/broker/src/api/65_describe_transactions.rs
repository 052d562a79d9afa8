//! DescribeTransactions, version 0: where transactions stand (KIP-664).

use std::{future::Future, rc::Rc};

use coordinator::transactions::TransactionDescription;
use model::{
    ErrorCode, TopicPartition,
    collections::{BTreeMap, BTreeSet},
};
use runtime::ShardIndex;
use wire::{
    describe_transactions_request::DescribeTransactionsRequest,
    describe_transactions_response::{DescribeTransactionsResponse, TopicData, TransactionState},
};

use super::{Answer, Request};
use crate::{peers::Call, shard::Shard};

type Described = Result<TransactionDescription, ErrorCode>;

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: DescribeTransactionsRequest<'_> = request.decode()?;
    let shard = request.shard;
    let mut shares: BTreeMap<ShardIndex, Vec<(TopicPartition, String)>> = BTreeMap::new();
    let mut described: BTreeMap<String, Described> = BTreeMap::new();
    // A name that stands in the request a thousand times is described once.
    let distinct: BTreeSet<&str> = body.transactional_ids.iter().copied().collect();
    for id in distinct {
        match place(shard, id) {
            Ok((partition, owner)) => {
                shares.entry(owner).or_default().push((partition, id.to_owned()));
            }
            Err(error) => drop(described.insert(id.to_owned(), Err(error))),
        }
    }
    let mut answering = Vec::with_capacity(shares.len());
    for (owner, share) in shares {
        answering.push(shard.call(owner, Describe(share)).await);
    }
    for answer in answering {
        described.extend(answer.answer().await);
    }
    let states = body.transactional_ids.iter().map(|id| state(id, &described[*id]));
    request.respond(&DescribeTransactionsResponse {
        transaction_states: states.collect(),
        ..Default::default()
    })
}

fn place(shard: &Shard, id: &str) -> Result<(TopicPartition, ShardIndex), ErrorCode> {
    if id.is_empty() { Err(ErrorCode::InvalidRequest) } else { shard.place_of_transaction(id) }
}

fn state<'a>(transactional_id: &'a str, described: &'a Described) -> TransactionState<'a> {
    match described {
        Err(error) => TransactionState {
            error_code: error.code(),
            transactional_id,
            ..TransactionState::default()
        },
        Ok(one) => TransactionState {
            error_code: ErrorCode::None.code(),
            transactional_id,
            transaction_state: one.state.name(),
            transaction_timeout_ms: one.timeout_ms,
            transaction_start_time_ms: one.start.0,
            producer_id: one.producer.id.0,
            producer_epoch: one.producer.epoch.0,
            topics: one
                .partitions
                .iter()
                .map(|(topic, partitions)| TopicData {
                    topic,
                    partitions: partitions.iter().copied().collect(),
                })
                .collect(),
        },
    }
}

struct Describe(Vec<(TopicPartition, String)>);

impl Call for Describe {
    type Answer = Vec<(String, Described)>;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Answer> + 'static {
        let described = self.0.into_iter().map(|(partition, id)| {
            let hosted = shard.transactions.find(partition).ok_or(ErrorCode::NotCoordinator);
            let described = hosted.and_then(|hosted| hosted.coordinator.borrow().describe(&id));
            (id, described)
        });
        std::future::ready(described.collect())
    }
}
