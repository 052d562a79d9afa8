//! What partitions tell of their producers: DescribeProducers.

use model::{
    ErrorCode, ProducerEpoch, ProducerId, Sequence, TimestampMs,
    record_batch::{BatchOptions, NewRecord, RecordBatchBuilder},
};
use tests::raw_client::{RawClient, decoded, produce_request};
use wire::{
    describe_producers_request::{DescribeProducersRequest, TopicRequest},
    describe_producers_response::{DescribeProducersResponse, ProducerState},
    produce_request::ProduceRequest,
    produce_response::ProduceResponse,
};

use super::broker;

const TOPIC: &str = "topic";
const PRODUCE_VERSION: i16 = 9;

/// What partitions of a topic tell: the error, what is said of it, and the producers.
fn told(
    client: &mut RawClient,
    topic: &str,
    partition_indexes: &[i32],
) -> Vec<(i32, ErrorCode, Option<String>, Vec<ProducerState>)> {
    let topic = TopicRequest { name: topic, partition_indexes: partition_indexes.to_vec() };
    let request = DescribeProducersRequest { topics: vec![topic] };
    let frame = client.ask(0, &request);
    let response: DescribeProducersResponse<'_> =
        decoded::<DescribeProducersRequest<'_>, _>(&frame, 0);
    let partitions = response.topics.into_iter().flat_map(|topic| topic.partitions);
    partitions
        .map(|one| {
            let error = ErrorCode::from_code(one.error_code);
            let message = one.error_message.map(str::to_owned);
            (one.partition_index, error, message, one.active_producers)
        })
        .collect()
}

fn produce(client: &mut RawClient, producer_id: i64, epoch: i16, sequence: i32, records: i32) {
    let mut builder = RecordBatchBuilder::new(BatchOptions {
        producer_id: ProducerId(producer_id),
        producer_epoch: ProducerEpoch(epoch),
        base_sequence: Sequence(sequence),
        ..BatchOptions::default()
    });
    for _ in 0..records {
        builder.append(&NewRecord { timestamp: TimestampMs(1_000), ..Default::default() });
    }
    let batch = builder.build();
    let request: ProduceRequest<'_> = produce_request(TOPIC, Some(&batch));
    let frame = client.ask(PRODUCE_VERSION, &request);
    let response: ProduceResponse<'_> = decoded::<ProduceRequest<'_>, _>(&frame, PRODUCE_VERSION);
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
}

#[test]
fn a_partition_tells_of_its_idempotent_producers() {
    let (_broker, mut client) = broker();
    client.create_topic(TOPIC);
    produce(&mut client, 7, 0, 0, 3);
    produce(&mut client, 7, 1, 0, 1);
    produce(&mut client, 9, 0, 0, 2);
    let producer = |producer_id, producer_epoch, last_sequence| ProducerState {
        producer_id,
        producer_epoch,
        last_sequence,
        last_timestamp: 1_000,
        coordinator_epoch: -1,
        current_txn_start_offset: -1,
    };
    let both = vec![producer(7, 1, 0), producer(9, 0, 1)];
    // Each partition once, however often it is asked for.
    let expected = [
        (0, ErrorCode::None, None, both),
        (1, ErrorCode::None, None, Vec::new()),
        (9, ErrorCode::UnknownTopicOrPartition, None, Vec::new()),
    ];
    assert_eq!(told(&mut client, TOPIC, &[0, 1, 9, 0]), expected);
}

#[test]
fn topics_that_are_not_there_have_no_producers() {
    let (_broker, mut client) = broker();
    let unknown = "This server does not host this topic-partition.".to_owned();
    let expected = [(0, ErrorCode::UnknownTopicOrPartition, Some(unknown), Vec::new())];
    assert_eq!(told(&mut client, "nowhere", &[0]), expected);
    let refused = told(&mut client, "no/topic", &[0]);
    assert_eq!(refused[0].1, ErrorCode::InvalidTopicException);
    let message = refused[0].2.as_deref().unwrap_or_default();
    assert!(message.starts_with("Topic name is invalid"), "{message}");
}
