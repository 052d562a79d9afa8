//! ListTransactions, versions 0 to 2: the transactional ids there are, by state, by producer, by the
//! age of the transaction, by an expression for the name (KIP-664, KIP-994, KIP-1152).

use std::{future::Future, rc::Rc};

use coordinator::{
    consumer::compile_regex,
    transactions::{TransactionFilter, TransactionListing, TransactionState as State},
};
use model::{ErrorCode, ProducerId};
use wire::{
    list_transactions_request::ListTransactionsRequest,
    list_transactions_response::{ListTransactionsResponse, TransactionState},
};

use super::{Answer, Request};
use crate::{peers::Call, shard::Shard};

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: ListTransactionsRequest<'_> = request.decode()?;
    let named = |name: &str| State::ALL.into_iter().find(|state| state.name() == name);
    let states: Vec<State> = body.state_filters.iter().filter_map(|name| named(name)).collect();
    let unknown = body.state_filters.iter().copied().filter(|name| named(name).is_none());
    let unknown_state_filters: Vec<&str> = unknown.collect();
    let pattern = body.transactional_id_pattern.filter(|pattern| !pattern.is_empty());
    let pattern = match pattern.map(compile_regex).transpose() {
        Ok(pattern) => pattern,
        Err(_) => {
            let error_code = ErrorCode::InvalidRegularExpression.code();
            return request.respond(&ListTransactionsResponse { error_code, ..Default::default() });
        }
    };
    let mut listed: Vec<TransactionListing> = Vec::new();
    // Filters of which none is known let nothing pass.
    if states.is_empty() == body.state_filters.is_empty() {
        let filter = TransactionFilter {
            states,
            producer_ids: body.producer_id_filters.iter().copied().map(ProducerId).collect(),
            longer_than_ms: Some(body.duration_filter).filter(|duration| *duration >= 0),
        };
        listed.extend(request.shard.call_all(List(filter)).await.into_iter().flatten());
        listed.retain(|one| {
            pattern.as_ref().is_none_or(|pattern| pattern.is_match(&one.transactional_id))
        });
        listed.sort_by(|one, other| one.transactional_id.cmp(&other.transactional_id));
    }
    let transaction_states = listed.iter().map(|one| TransactionState {
        transactional_id: &one.transactional_id,
        producer_id: one.producer_id.0,
        transaction_state: one.state.name(),
    });
    request.respond(&ListTransactionsResponse {
        unknown_state_filters,
        transaction_states: transaction_states.collect(),
        ..Default::default()
    })
}

#[derive(Clone)]
struct List(TransactionFilter);

impl Call for List {
    type Answer = Vec<TransactionListing>;

    fn start(self, shard: &Rc<Shard>) -> impl Future<Output = Self::Answer> + 'static {
        let now = shard.now_of_coordinators();
        let all = shard.transactions.all();
        let listed = all.iter().flat_map(|one| one.coordinator.borrow().list(&self.0, now));
        std::future::ready(listed.collect())
    }
}
