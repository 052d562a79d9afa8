//! WriteTxnMarkers, versions 1 and 2: a coordinator of transactions, or an administrator who ends
//! one that hangs, has markers written. Answered when they are durable.

use coordinator::{
    TransactionEnd,
    transactions::{Outcome, ProducerIdentity},
};
use model::{ErrorCode, ProducerEpoch, ProducerId};
use wire::{
    write_txn_markers_request::{WritableTxnMarker, WriteTxnMarkersRequest},
    write_txn_markers_response::{
        WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
        WriteTxnMarkersResponse,
    },
};

use super::{Answer, Request};
use crate::markers::Marker;

pub(super) async fn answer(request: &Request<'_>) -> Answer {
    let body: WriteTxnMarkersRequest<'_> = request.decode()?;
    let markers: Vec<Marker> = body.markers.iter().flat_map(all_of).collect();
    let results = request.shard.write_markers(&markers).await;
    let mut results = results.into_iter();
    let markers = body.markers.iter().map(|marker| {
        let topics = marker.topics.iter().map(|topic| WritableTxnMarkerTopicResult {
            name: topic.name,
            partitions: topic
                .partition_indexes
                .iter()
                .map(|index| WritableTxnMarkerPartitionResult {
                    partition_index: *index,
                    error_code: results.next().map_or(-1, ErrorCode::code),
                })
                .collect(),
        });
        WritableTxnMarkerResult { producer_id: marker.producer_id, topics: topics.collect() }
    });
    let response = WriteTxnMarkersResponse { markers: markers.collect() };
    request.respond(&response)
}

fn all_of(marker: &WritableTxnMarker<'_>) -> Vec<Marker> {
    let end = TransactionEnd {
        producer: ProducerIdentity {
            id: ProducerId(marker.producer_id),
            epoch: ProducerEpoch(marker.producer_epoch),
        },
        outcome: if marker.transaction_result { Outcome::Commit } else { Outcome::Abort },
        coordinator_epoch: marker.coordinator_epoch,
        transaction_version: i16::from(marker.transaction_version),
    };
    let topics = marker.topics.iter();
    topics
        .flat_map(|topic| {
            let topic_name = topic.name;
            topic.partition_indexes.iter().map(move |partition| Marker {
                topic: topic_name.to_owned(),
                partition: *partition,
                end,
            })
        })
        .collect()
}
