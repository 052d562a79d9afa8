//! A transaction that no coordinator knows of: found and ended by `odradek txn`.

use std::process::Command;

use model::{
    ProducerEpoch, ProducerId, Sequence, TimestampMs,
    record_batch::{BatchOptions, NewRecord, RecordBatchBuilder, attribute},
};
use tests::{
    broker_process::{BrokerProcess, binary},
    raw_client::{RawClient, batch, decoded, fetch_request, produce_request},
};
use wire::{
    fetch_request::FetchRequest, fetch_response::FetchResponse, produce_request::ProduceRequest,
    produce_response::ProduceResponse,
};

const TOPIC: &str = "topic";
/// Of clients that name their partitions to the coordinator themselves, before it.
const PRODUCE_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 12;
const READ_COMMITTED: i8 = 1;
const PRODUCER: i64 = 4711;

/// What a client would leave behind that never named the partition to its coordinator.
fn begin_unknown_to_all(client: &mut RawClient) -> i16 {
    let mut builder = RecordBatchBuilder::new(BatchOptions {
        producer_id: ProducerId(PRODUCER),
        producer_epoch: ProducerEpoch(0),
        base_sequence: Sequence(0),
        flags: attribute::TRANSACTIONAL,
        ..BatchOptions::default()
    });
    // Long ago: no transaction may last until now.
    builder.append(&NewRecord { timestamp: TimestampMs(1_000), ..Default::default() });
    let batch = builder.build();
    let mut request = produce_request(TOPIC, Some(&batch));
    request.transactional_id = Some("nobody");
    let frame = client.ask(PRODUCE_VERSION, &request);
    let response: ProduceResponse<'_> = decoded::<ProduceRequest<'_>, _>(&frame, PRODUCE_VERSION);
    response.responses[0].partition_responses[0].error_code
}

fn last_stable_offset(client: &mut RawClient) -> i64 {
    let mut request = fetch_request(TOPIC, 0);
    request.isolation_level = READ_COMMITTED;
    let frame = client.ask(FETCH_VERSION, &request);
    let response: FetchResponse<'_> = decoded::<FetchRequest<'_>, _>(&frame, FETCH_VERSION);
    response.responses[0].partitions[0].last_stable_offset
}

/// What `odradek txn` prints.
fn txn(broker: &BrokerProcess, words: &[&str]) -> String {
    let address = broker.address().to_string();
    let mut command = Command::new(binary());
    let output = command.arg("txn").args(words).args(["--bootstrap-server", &address]).output();
    let output = output.expect("the binary runs");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn a_hanging_transaction_is_found_and_aborted() {
    for driver in ["uring", "sync"] {
        let broker =
            BrokerProcess::start(driver, &["transaction.partition.verification.enable=false"]);
        let mut client = RawClient::connect(broker.address());
        client.create_topic(TOPIC);
        assert_eq!(client.produce(TOPIC, &batch(&[b"before"])), (0, 0));
        assert_eq!(begin_unknown_to_all(&mut client), 0, "{driver}");
        assert_eq!(client.produce(TOPIC, &batch(&[b"behind"])), (0, 2));
        assert_eq!(
            last_stable_offset(&mut client),
            1,
            "{driver}: readers of what is committed wait"
        );
        let find = ["find-hanging", "--format", "json"];
        let found: serde_json::Value = serde_json::from_str(&txn(&broker, &find)).unwrap();
        let expected = serde_json::json!([{
            "topic": TOPIC,
            "partition": 0,
            "producer_id": PRODUCER,
            "producer_epoch": 0,
            "start_offset": 1,
            "last_timestamp_ms": 1_000,
        }]);
        assert_eq!(found, expected, "{driver}");
        let aborted = txn(&broker, &["abort", TOPIC, "--partition", "0", "--start-offset", "1"]);
        assert_eq!(aborted, "aborted the transaction at 1 of topic-0\n");
        // The marker lies behind the last record.
        assert_eq!(last_stable_offset(&mut client), 4, "{driver}: nobody waits any more");
        assert_eq!(txn(&broker, &find).trim(), "[]", "{driver}");
    }
}

#[test]
fn verification_keeps_a_transaction_from_hanging() {
    let broker = BrokerProcess::start("uring", &[]);
    let mut client = RawClient::connect(broker.address());
    client.create_topic(TOPIC);
    assert_ne!(begin_unknown_to_all(&mut client), 0);
    assert_eq!(txn(&broker, &["find-hanging", "--format", "json"]).trim(), "[]");
}
