//! GetTelemetrySubscriptions and PushTelemetry: offered where they are asked for, and no more taken
//! than was said.

use model::{ErrorCode, Uuid, compression::Compressor, record_batch::Compression};
use tests::{
    broker_process::{BrokerProcess, PATIENCE},
    raw_client::{RawClient, Received, decoded, framed},
};
use wire::{
    api_versions_request::ApiVersionsRequest,
    api_versions_response::ApiVersionsResponse,
    get_telemetry_subscriptions_request::GetTelemetrySubscriptionsRequest,
    get_telemetry_subscriptions_response::GetTelemetrySubscriptionsResponse,
    incremental_alter_configs_request::{
        AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
    },
    push_telemetry_request::PushTelemetryRequest,
    push_telemetry_response::PushTelemetryResponse,
};

const RECEIVED: &str = "odradek.client.telemetry=true";
const CLIENT_METRICS: i8 = 16;
/// A gauge `m` of one point, 1.5, by hand.
const METRICS: &[u8] = &[
    0x0a, 20, 0x12, 18, 0x12, 16, 0x0a, 1, b'm', 0x2a, 11, 0x0a, 9, 0x21, 0, 0, 0, 0, 0, 0, 0xf8,
    0x3f,
];

fn keys(client: &mut RawClient) -> Vec<i16> {
    let answer = client.ask(0, &ApiVersionsRequest::default());
    let response: ApiVersionsResponse<'_> = decoded::<ApiVersionsRequest<'_>, _>(&answer, 0);
    response.api_keys.iter().map(|api| api.api_key).filter(|key| [71, 72].contains(key)).collect()
}

fn subscribe(client: &mut RawClient, settings: &[(&str, &str)]) {
    let configs = settings.iter().map(|(name, value)| AlterableConfig {
        name,
        config_operation: 0,
        value: Some(value),
    });
    let resource = AlterConfigsResource {
        resource_type: CLIENT_METRICS,
        resource_name: "all",
        configs: configs.collect(),
    };
    let _ = client.ask(
        1,
        &IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false },
    );
}

/// The error, the instance, the subscription, the interval and the metrics.
type Subscription = (ErrorCode, Uuid, i32, i32, Vec<String>);

fn ask(client: &mut RawClient, client_instance_id: Uuid) -> Subscription {
    let answer = client.ask(0, &GetTelemetrySubscriptionsRequest { client_instance_id });
    let response: GetTelemetrySubscriptionsResponse<'_> =
        decoded::<GetTelemetrySubscriptionsRequest, _>(&answer, 0);
    if response.error_code == 0 {
        assert_eq!(response.accepted_compression_types, [4, 3, 1, 2]);
        assert_eq!((response.telemetry_max_bytes, response.delta_temporality), (1 << 20, true));
    }
    (
        ErrorCode::from_code(response.error_code),
        response.client_instance_id,
        response.subscription_id,
        response.push_interval_ms,
        response.requested_metrics.iter().map(|name| (*name).to_owned()).collect(),
    )
}

fn push(
    client: &mut RawClient,
    client_instance_id: Uuid,
    subscription_id: i32,
    (compression_type, metrics): (i8, &[u8]),
) -> ErrorCode {
    let request = PushTelemetryRequest {
        client_instance_id,
        subscription_id,
        // Which is taken whenever it comes.
        terminating: true,
        compression_type,
        metrics,
    };
    let answer = client.ask(0, &request);
    let response: PushTelemetryResponse = decoded::<PushTelemetryRequest<'_>, _>(&answer, 0);
    ErrorCode::from_code(response.error_code)
}

#[test]
fn nothing_is_asked_of_clients_unless_it_is_wanted() {
    let broker = BrokerProcess::start("uring", &[]);
    let mut client = RawClient::connect(broker.address());
    assert_eq!(keys(&mut client), [0; 0]);
    client.send(&framed(0, &GetTelemetrySubscriptionsRequest::default())).unwrap();
    assert_eq!(client.receive(PATIENCE), Received::Closed);
    let broker = BrokerProcess::start("uring", &[RECEIVED]);
    assert_eq!(keys(&mut RawClient::connect(broker.address())), [71, 72]);
}

#[test]
fn clients_push_what_subscriptions_ask_for() {
    let broker = BrokerProcess::start("uring", &[RECEIVED]);
    let mut client = RawClient::connect(broker.address());
    let (error, instance, none, interval, metrics) = ask(&mut client, Uuid::ZERO);
    assert_eq!((error, interval, metrics), (ErrorCode::None, 300_000, Vec::new()));
    assert_eq!(ask(&mut client, instance).0, ErrorCode::ThrottlingQuotaExceeded);
    subscribe(&mut client, &[("metrics", "org.apache"), ("interval.ms", "2000")]);
    let (error, same, id, interval, metrics) = ask(&mut client, instance);
    assert_eq!((error, same, interval), (ErrorCode::None, instance, 2000), "at once");
    assert_eq!(metrics, ["org.apache"]);
    assert_ne!(id, none);
    // Over another connection, which may be another shard's.
    let mut other = RawClient::connect(broker.address());
    assert_eq!(push(&mut other, instance, none, (0, METRICS)), ErrorCode::UnknownSubscriptionId);
    let pushed = |codec, metrics| {
        // A client that ended begins anew with a connection.
        let mut client = RawClient::connect(broker.address());
        let (_, instance, id, ..) = ask(&mut client, Uuid::ZERO);
        push(&mut client, instance, id, (codec, metrics))
    };
    assert_eq!(pushed(0, METRICS), ErrorCode::None);
    assert_eq!(pushed(0, &[]), ErrorCode::None);
    assert_eq!(pushed(0, &METRICS[..9]), ErrorCode::InvalidRecord);
    assert_eq!(pushed(1, METRICS), ErrorCode::InvalidRecord, "not gzip");
    assert_eq!(pushed(7, METRICS), ErrorCode::UnsupportedCompressionType);
    assert_eq!(pushed(0, &vec![0; (1 << 20) + 1]), ErrorCode::TelemetryTooLarge);
    let reserved = Uuid([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(push(&mut client, reserved, id, (0, METRICS)), ErrorCode::InvalidRequest);
}

#[test]
fn a_bomb_of_metrics_takes_no_more_memory_than_telemetry_may_have() {
    const CLIENTS: usize = 16;
    let broker = BrokerProcess::start("uring", &[RECEIVED]);
    for (codec, code) in [
        (Compression::Gzip, 1),
        (Compression::Snappy, 2),
        (Compression::Lz4, 3),
        (Compression::Zstd, 4),
    ] {
        let mut compressor = Compressor::new(codec);
        let zeros = vec![0; 1 << 20];
        // What zeros there are room for; 256 MiB of them where they take next to none.
        for _ in 0..256 {
            if compressor.size() > 900_000 {
                break;
            }
            compressor.write(&zeros);
        }
        let bomb = compressor.finish();
        assert!(bomb.len() <= 1 << 20, "{codec:?}: {}", bomb.len());
        let before = broker.resident_bytes();
        let mut clients: Vec<RawClient> =
            (0..CLIENTS).map(|_| RawClient::connect(broker.address())).collect();
        for client in &mut clients {
            let (_, client_instance_id, subscription_id, ..) = ask(client, Uuid::ZERO);
            let request = PushTelemetryRequest {
                client_instance_id,
                subscription_id,
                terminating: false,
                compression_type: code,
                metrics: &bomb,
            };
            client.send(&framed(0, &request)).unwrap();
        }
        for client in &mut clients {
            let Received::Frame(answer) = client.receive(PATIENCE) else { panic!("no answer") };
            let response: PushTelemetryResponse =
                decoded::<PushTelemetryRequest<'_>, _>(&answer, 0);
            assert_eq!(response.error_code, ErrorCode::TelemetryTooLarge.code(), "{codec:?}");
        }
        let grown = broker.resident_bytes().saturating_sub(before);
        println!("{codec:?}: {CLIENTS} bombs of {} bytes: {grown} bytes more", bomb.len());
        assert!(grown <= 64 << 20, "{codec:?}: {grown}");
    }
}
