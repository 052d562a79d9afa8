//! DescribeConfigs, IncrementalAlterConfigs and AlterConfigs of brokers: told with their sources,
//! altered at once, kept over a restart.

use model::{
    ErrorCode,
    compression::compress,
    record_batch::{Compression, RecordBatch, recompressed},
};
use tests::{
    broker_process::{BrokerProcess, End},
    raw_client::{RawClient, batch, decoded, produce_request},
};
use wire::{
    Records,
    describe_configs_request::{DescribeConfigsRequest, DescribeConfigsResource},
    describe_configs_response::DescribeConfigsResponse,
    incremental_alter_configs_request::{
        AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
    },
    incremental_alter_configs_response::IncrementalAlterConfigsResponse,
    produce_request::{PartitionProduceData, ProduceRequest},
    produce_response::ProduceResponse,
};

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const BROKER_LOGGER: i8 = 8;
const SET: i8 = 0;
const DELETE: i8 = 1;

fn alter(
    client: &mut RawClient,
    version: i16,
    broker: &str,
    operation: (&str, i8, Option<&str>),
) -> ErrorCode {
    alter_of(client, version, (BROKER, broker), operation)
}

fn alter_of(
    client: &mut RawClient,
    version: i16,
    (resource_type, resource_name): (i8, &str),
    (name, config_operation, value): (&str, i8, Option<&str>),
) -> ErrorCode {
    let resource = AlterConfigsResource {
        resource_type,
        resource_name,
        configs: vec![AlterableConfig { name, config_operation, value }],
    };
    let request =
        IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    let answer = client.ask(version, &request);
    let response: IncrementalAlterConfigsResponse<'_> =
        decoded::<IncrementalAlterConfigsRequest<'_>, _>(&answer, version);
    ErrorCode::from_code(response.responses[0].error_code)
}

/// A setting's value and the places that have one; `None` where it is not told.
fn describe(
    client: &mut RawClient,
    version: i16,
    (resource_type, resource_name): (i8, &str),
    name: &str,
) -> Option<(String, Vec<(String, i8)>)> {
    let resource = DescribeConfigsResource {
        resource_type,
        resource_name,
        configuration_keys: Some(vec![name]),
    };
    let request = DescribeConfigsRequest {
        resources: vec![resource],
        include_synonyms: true,
        ..Default::default()
    };
    let answer = client.ask(version, &request);
    let response: DescribeConfigsResponse<'_> =
        decoded::<DescribeConfigsRequest<'_>, _>(&answer, version);
    assert_eq!(response.results[0].error_code, 0, "{name}");
    let config = response.results[0].configs.first()?;
    assert_eq!(config.name, name);
    let synonyms = config.synonyms.iter();
    let synonyms =
        synonyms.map(|one| (one.value.unwrap_or_default().to_owned(), one.source)).collect();
    Some((config.value.unwrap_or("null").to_owned(), synonyms))
}

fn told(value: &str, synonyms: &[(&str, i8)]) -> Option<(String, Vec<(String, i8)>)> {
    let synonyms = synonyms.iter().map(|(value, source)| ((*value).to_owned(), *source));
    Some((value.to_owned(), synonyms.collect()))
}

#[test]
fn settings_of_brokers_act_at_once_and_are_kept() {
    let mut broker = BrokerProcess::start("uring", &["message.max.bytes=2000"]);
    let mut client = RawClient::connect(broker.address());
    client.create_topic("a");
    let large = batch(&[&[7; 1000]]);
    let (taken, refused) = (0, ErrorCode::MessageTooLarge.code());
    let set = |value| ("message.max.bytes", SET, Some(value));
    assert_eq!(client.produce("a", &large).0, taken);
    assert_eq!(alter(&mut client, 1, "", set("500")), ErrorCode::None);
    assert_eq!(client.produce("a", &large).0, refused);
    assert_eq!(alter(&mut client, 0, "1", set("3000")), ErrorCode::None);
    assert_eq!(client.produce("a", &large).0, taken);
    let all = told("3000", &[("3000", 2), ("500", 3), ("2000", 4), ("1048588", 5)]);
    for version in 1..=4 {
        let own = describe(&mut client, version, (BROKER, "1"), "message.max.bytes");
        assert_eq!(own, all, "version {version}");
    }
    assert_eq!(describe(&mut client, 4, (TOPIC, "a"), "max.message.bytes"), all);
    let for_all = told("500", &[("500", 3)]);
    assert_eq!(describe(&mut client, 4, (BROKER, ""), "message.max.bytes"), for_all);
    broker.restart(End::Stop);
    let mut client = RawClient::connect(broker.address());
    assert_eq!(describe(&mut client, 4, (BROKER, "1"), "message.max.bytes"), all);
    let delete = ("message.max.bytes", DELETE, None);
    assert_eq!(alter(&mut client, 1, "1", delete), ErrorCode::None);
    assert_eq!(client.produce("a", &large).0, refused, "kept over the restart");
    assert_eq!(alter(&mut client, 1, "", delete), ErrorCode::None);
    assert_eq!(client.produce("a", &large).0, taken);
    let given = told("2000", &[("2000", 4), ("1048588", 5)]);
    assert_eq!(describe(&mut client, 4, (BROKER, "1"), "message.max.bytes"), given);
    assert_eq!(describe(&mut client, 4, (BROKER, ""), "message.max.bytes"), None);
}

#[test]
fn a_request_that_grows_when_recompressed_is_taken_in_parts() {
    // More than a request may hold of what was made for it, over the partitions of two shards.
    let partitions = 24;
    let settings = ["compression.type=uncompressed", "num.partitions=24"];
    let broker = BrokerProcess::start("uring", &settings);
    let mut client = RawClient::connect(broker.address());
    client.create_topic("a");
    let large = vec![7; 1_000_000];
    let plain = batch(&[&large, b"end"]);
    let plain = RecordBatch::first(&plain).unwrap();
    let small = recompressed(&plain, Compression::Zstd, &zstd(plain.payload()));
    let too_large = batch(&[&large, &large]);
    let too_large = RecordBatch::first(&too_large).unwrap();
    let too_large = recompressed(&too_large, Compression::Zstd, &zstd(too_large.payload()));
    assert!(small.len() < 1000 && too_large.len() < 1000);
    let refused = 11;
    let mut request = produce_request("a", None);
    request.topic_data[0].partition_data = (0..partitions)
        .map(|index| {
            let records = if index == refused { &too_large } else { &small };
            PartitionProduceData { index, records: Some(Records::Borrowed(records)) }
        })
        .collect();
    let answer = client.ask(9, &request);
    let response: ProduceResponse<'_> = decoded::<ProduceRequest<'_>, _>(&answer, 9);
    for one in &response.responses[0].partition_responses {
        let too_large = (ErrorCode::MessageTooLarge.code(), -1);
        let expected = if one.index == refused { too_large } else { (0, 0) };
        assert_eq!((one.error_code, one.base_offset), expected, "{}", one.index);
    }
    assert_eq!(client.fetch_all("a").first(), Some(&(0, large)));
    // Nobody knew zstd then (KIP-110).
    let answer = client.ask(6, &produce_request("a", Some(&small)));
    let response: ProduceResponse<'_> = decoded::<ProduceRequest<'_>, _>(&answer, 6);
    let code = response.responses[0].partition_responses[0].error_code;
    assert_eq!(code, ErrorCode::UnsupportedCompressionType.code());
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    compress(Compression::Zstd, plain)
}

#[test]
fn levels_of_the_log_are_altered_at_once_and_forgotten_with_the_process() {
    let mut broker = BrokerProcess::start("uring", &[]);
    let mut client = RawClient::connect(broker.address());
    let level = |client: &mut RawClient, name: &str| {
        let (value, synonyms) = describe(client, 4, (BROKER_LOGGER, "1"), name)?;
        assert_eq!(synonyms, [], "{name}");
        Some(value)
    };
    let set = |client: &mut RawClient, name: &str, value: Option<&str>| {
        let operation = if value.is_some() { SET } else { DELETE };
        alter_of(client, 1, (BROKER_LOGGER, "1"), (name, operation, value))
    };
    let of = |text: &str| Some(text.to_owned());
    assert_eq!(level(&mut client, "root"), of("INFO"));
    assert_eq!(set(&mut client, "broker", Some("DEBUG")), ErrorCode::None);
    assert_eq!(level(&mut client, "broker::api::produce"), of("DEBUG"), "a part of it");
    assert_eq!(level(&mut client, "storage"), of("INFO"));
    assert_eq!(set(&mut client, "broker::api", Some("FATAL")), ErrorCode::None);
    assert_eq!(level(&mut client, "broker::api::produce"), of("FATAL"));
    for name in ["broker::api", "broker"] {
        assert_eq!(set(&mut client, name, None), ErrorCode::None);
    }
    assert_eq!(level(&mut client, "broker::api::produce"), of("INFO"));
    assert_eq!(level(&mut client, "nope"), None);
    assert_eq!(set(&mut client, "nope", Some("INFO")), ErrorCode::InvalidConfig);
    assert_eq!(set(&mut client, "root", None), ErrorCode::InvalidRequest);
    assert_eq!(set(&mut client, "root", Some("WARN")), ErrorCode::None);
    let (name, other) = ("root", (BROKER_LOGGER, "7"));
    let refused = alter_of(&mut client, 1, other, (name, SET, Some("INFO")));
    assert_eq!(refused, ErrorCode::InvalidRequest);
    broker.restart(End::Stop);
    let mut client = RawClient::connect(broker.address());
    assert_eq!(level(&mut client, "root"), of("INFO"));
}

#[test]
fn what_cannot_be_altered_is_refused() {
    let broker = BrokerProcess::start("uring", &["ssl.key.password=hidden"]);
    let mut client = RawClient::connect(broker.address());
    let cases = [
        ("1", "num.partitions", Some("3"), ErrorCode::InvalidRequest),
        ("1", "node.id", Some("3"), ErrorCode::InvalidRequest),
        ("1", "no.such.setting", Some("3"), ErrorCode::InvalidConfig),
        ("1", "ssl.keystore.location", Some("/a"), ErrorCode::InvalidRequest),
        ("1", "log.segment.bytes", Some("1"), ErrorCode::InvalidRequest),
        ("1", "log.segment.bytes", None, ErrorCode::InvalidRequest),
        ("", "ssl.keystore.location", Some("/a"), ErrorCode::InvalidRequest),
        ("7", "log.segment.bytes", Some("2000000"), ErrorCode::InvalidRequest),
        ("x", "log.segment.bytes", Some("2000000"), ErrorCode::InvalidRequest),
    ];
    for (name, setting, value, error) in cases {
        assert_eq!(alter(&mut client, 1, name, (setting, SET, value)), error, "{name} {setting}");
    }
    let default = told("1073741824", &[("1073741824", 5)]);
    assert_eq!(describe(&mut client, 4, (BROKER, "1"), "log.segment.bytes"), default);
    // What does nothing here is kept and told.
    let inert = ("num.io.threads", SET, Some("9"));
    assert_eq!(alter(&mut client, 1, "1", inert), ErrorCode::None);
    let threads = told("9", &[("9", 2), ("8", 5)]);
    assert_eq!(describe(&mut client, 4, (BROKER, "1"), "num.io.threads"), threads);
    let hidden = told("null", &[("", 4)]);
    assert_eq!(describe(&mut client, 4, (BROKER, "1"), "ssl.key.password"), hidden);
}
