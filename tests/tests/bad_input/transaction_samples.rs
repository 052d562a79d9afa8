//! Requests of transactions as [`samples`](super::samples) has those of clients.

use model::Uuid;
use tests::raw_client::framed;
use wire::{
    Reader,
    add_offsets_to_txn_request::AddOffsetsToTxnRequest,
    add_partitions_to_txn_request::{
        AddPartitionsToTxnRequest, AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
    },
    api::ApiKey,
    describe_transactions_request::DescribeTransactionsRequest,
    end_txn_request::EndTxnRequest,
    list_transactions_request::ListTransactionsRequest,
    txn_offset_commit_request::{
        TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
    },
    write_txn_markers_request::{
        WritableTxnMarker, WritableTxnMarkerTopic, WriteTxnMarkersRequest,
    },
};

use super::samples::{GROUP, TOPIC, discard};

/// The transactional id that samples talk of.
const ID: &str = "transactional";
/// From this version of AddPartitionsToTxn on there are several transactions.
const SEVERAL_FROM: i16 = 4;
/// The first versions with a field.
const MEMBER_FROM: i16 = 3;
const TOPIC_ID_FROM: i16 = 6;
const MARKER_VERSION_FROM: i16 = 2;
const DURATION_FROM: i16 = 1;
const PATTERN_FROM: i16 = 2;

/// A usual request; `None` where it is none of a transaction.
#[expect(clippy::wildcard_enum_match_arm, reason = "the others are administrators'")]
pub(super) fn sample(key: ApiKey, version: i16) -> Option<Vec<u8>> {
    Some(match key {
        ApiKey::AddPartitionsToTxn => add_partitions(version),
        ApiKey::AddOffsetsToTxn => framed(
            version,
            &AddOffsetsToTxnRequest { transactional_id: ID, group_id: GROUP, ..Default::default() },
        ),
        ApiKey::EndTxn => framed(
            version,
            &EndTxnRequest { transactional_id: ID, committed: true, ..Default::default() },
        ),
        ApiKey::WriteTxnMarkers => markers(version),
        ApiKey::TxnOffsetCommit => offset_commit(version),
        ApiKey::DescribeTransactions => {
            framed(version, &DescribeTransactionsRequest { transactional_ids: vec![ID, "other"] })
        }
        ApiKey::ListTransactions => framed(
            version,
            &ListTransactionsRequest {
                state_filters: vec!["Ongoing", "none"],
                producer_id_filters: vec![1000],
                duration_filter: if version < DURATION_FROM { -1 } else { 1 },
                transactional_id_pattern: (version >= PATTERN_FROM).then_some("trans.*"),
            },
        ),
        _ => return None,
    })
}

fn add_partitions(version: i16) -> Vec<u8> {
    let topics = vec![AddPartitionsToTxnTopic { name: TOPIC, partitions: vec![0] }];
    let request = if version < SEVERAL_FROM {
        AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: ID,
            v3_and_below_producer_id: 1000,
            v3_and_below_topics: topics,
            ..Default::default()
        }
    } else {
        let transaction = |verify_only| AddPartitionsToTxnTransaction {
            transactional_id: ID,
            producer_id: 1000,
            producer_epoch: 0,
            verify_only,
            topics: topics.clone(),
        };
        let transactions = vec![transaction(true), transaction(false)];
        AddPartitionsToTxnRequest { transactions, ..Default::default() }
    };
    framed(version, &request)
}

fn markers(version: i16) -> Vec<u8> {
    let topic = WritableTxnMarkerTopic { name: TOPIC, partition_indexes: vec![0, 9] };
    let marker = WritableTxnMarker {
        producer_id: 1000,
        transaction_result: true,
        topics: vec![topic],
        coordinator_epoch: 1,
        transaction_version: if version < MARKER_VERSION_FROM { 0 } else { 2 },
        ..Default::default()
    };
    framed(version, &WriteTxnMarkersRequest { markers: vec![marker] })
}

fn offset_commit(version: i16) -> Vec<u8> {
    let partition = TxnOffsetCommitRequestPartition {
        partition_index: 0,
        committed_offset: 1,
        committed_metadata: Some("metadata"),
        ..Default::default()
    };
    let by_id = version >= TOPIC_ID_FROM;
    let topic = TxnOffsetCommitRequestTopic {
        name: if by_id { "" } else { TOPIC },
        topic_id: if by_id { Uuid([7; 16]) } else { Uuid::ZERO },
        partitions: vec![partition],
    };
    let request = TxnOffsetCommitRequest {
        transactional_id: ID,
        group_id: GROUP,
        producer_id: 1000,
        member_id: if version < MEMBER_FROM { "" } else { "member" },
        topics: vec![topic],
        ..Default::default()
    };
    framed(version, &request)
}

/// Decodes the body of such a request.
#[expect(clippy::wildcard_enum_match_arm, reason = "what is not offered is not decoded")]
pub(super) fn decode(key: ApiKey, body: Reader<'_>, version: i16) -> wire::Result<()> {
    match key {
        ApiKey::AddPartitionsToTxn => discard::<AddPartitionsToTxnRequest<'_>>(body, version),
        ApiKey::AddOffsetsToTxn => discard::<AddOffsetsToTxnRequest<'_>>(body, version),
        ApiKey::EndTxn => discard::<EndTxnRequest<'_>>(body, version),
        ApiKey::WriteTxnMarkers => discard::<WriteTxnMarkersRequest<'_>>(body, version),
        ApiKey::TxnOffsetCommit => discard::<TxnOffsetCommitRequest<'_>>(body, version),
        ApiKey::DescribeTransactions => discard::<DescribeTransactionsRequest<'_>>(body, version),
        ApiKey::ListTransactions => discard::<ListTransactionsRequest<'_>>(body, version),
        _ => Ok(()),
    }
}
