//! Kafka's bytes to structs and back: what every request pays before anything is done for it.

use std::{hint::black_box, time::Duration};

use benches::batch;
use bytes::Bytes;
use criterion::{
    BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime,
};
use wire::{
    Records, Request, Response,
    fetch_response::{FetchResponse, FetchableTopicResponse, PartitionData},
    frame,
    metadata_request::{MetadataRequest, MetadataRequestTopic},
    metadata_response::{
        MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
    },
    produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData},
};

/// Partitions of the large fetch response, topics of the large metadata messages.
const MANY: i32 = 100;
const PRODUCE_VERSION: i16 = 12;
const FETCH_VERSION: i16 = 18;
const METADATA_VERSION: i16 = 13;

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    group.measurement_time(Duration::from_secs(2)).sample_size(30);
    let batch = batch(1024);
    decode_produce(&mut group, &batch);
    encode_fetch(&mut group, &batch);
    metadata(&mut group);
    group.finish();
}

/// Without its size, as a connection hands it on.
fn request_frame<R: Request>(version: i16, request: &R) -> Bytes {
    let encoded = frame::encode_request(7, Some("bench"), version, request);
    encoded.expect("the version can say it").into_bytes().slice(4..)
}

fn decode_produce(group: &mut BenchmarkGroup<'_, WallTime>, batch: &Bytes) {
    let partition =
        PartitionProduceData { index: 0, records: Some(Records::Slices(vec![batch.clone()])) };
    let topic =
        TopicProduceData { name: "topic", partition_data: vec![partition], ..Default::default() };
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![topic],
        ..Default::default()
    };
    let bytes = request_frame(PRODUCE_VERSION, &request);
    group.bench_function("decode Produce, one batch of 128 KiB", |bencher| {
        bencher.iter(|| {
            let (head, body) = frame::decode_request_header(&bytes).expect("well formed");
            let request: ProduceRequest<'_> =
                frame::decode_body(body, head.version).expect("well formed");
            black_box(request);
        });
    });
}

fn encode_fetch(group: &mut BenchmarkGroup<'_, WallTime>, batch: &Bytes) {
    let partition = |index| PartitionData {
        partition_index: index,
        high_watermark: 1_000_000,
        last_stable_offset: 1_000_000,
        records: Some(Records::Slices(vec![batch.clone()])),
        ..Default::default()
    };
    let topic = FetchableTopicResponse {
        topic_id: model::Uuid([7; 16]),
        partitions: (0..MANY).map(partition).collect(),
        ..Default::default()
    };
    let response = FetchResponse { responses: vec![topic], ..Default::default() };
    group.bench_function("encode Fetch, 100 partitions", |bencher| {
        bencher.iter(|| black_box(encoded(FETCH_VERSION, &response)));
    });
}

fn encoded<R: Response>(version: i16, response: &R) -> wire::Encoded {
    frame::encode_response(7, version, response).expect("the version can say it")
}

fn metadata(group: &mut BenchmarkGroup<'_, WallTime>) {
    let names: Vec<String> = (0..MANY).map(|number| format!("topic-{number}")).collect();
    let asked =
        names.iter().map(|name| MetadataRequestTopic { name: Some(name), ..Default::default() });
    let request = MetadataRequest { topics: Some(asked.collect()), ..Default::default() };
    let bytes = request_frame(METADATA_VERSION, &request);
    group.bench_function("decode Metadata request, 100 topics", |bencher| {
        bencher.iter(|| {
            let (head, body) = frame::decode_request_header(&bytes).expect("well formed");
            let request: MetadataRequest<'_> =
                frame::decode_body(body, head.version).expect("well formed");
            black_box(request);
        });
    });
    let topics = names.iter().map(|name| MetadataResponseTopic {
        name: Some(name),
        partitions: vec![MetadataResponsePartition {
            leader_id: 1,
            replica_nodes: vec![1],
            isr_nodes: vec![1],
            ..Default::default()
        }],
        ..Default::default()
    });
    let broker =
        MetadataResponseBroker { node_id: 1, host: "localhost", port: 9092, ..Default::default() };
    let response =
        MetadataResponse { brokers: vec![broker], topics: topics.collect(), ..Default::default() };
    let bytes = encoded(METADATA_VERSION, &response).into_bytes().slice(4..);
    group.bench_function("decode Metadata response, 100 topics", |bencher| {
        bencher.iter(|| {
            let key = wire::api::ApiKey::Metadata;
            let (_, body) =
                frame::decode_response_header(&bytes, key, METADATA_VERSION).expect("well formed");
            let response: MetadataResponse<'_> =
                frame::decode_body(body, METADATA_VERSION).expect("well formed");
            black_box(response);
        });
    });
}

criterion_group!(codec_benches, codec);
criterion_main!(codec_benches);
