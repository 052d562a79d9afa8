//! Batches that lie: Kafka's error codes, and the log as it was.

use std::{
    env, thread,
    time::{Duration, Instant},
};

use model::ErrorCode;
use model::record_batch::{BatchOptions, NewRecord, RecordBatchBuilder, attribute, position};
use tests::{
    broker_process::{BrokerProcess, PATIENCE},
    raw_client::{RawClient, batch, decoded, produce_request},
};
use wire::{
    find_coordinator_request::FindCoordinatorRequest, produce_request::ProduceRequest,
    produce_response::ProduceResponse,
};

use super::DRIVERS;

const CORRUPT_MESSAGE: i16 = 2;
const MESSAGE_TOO_LARGE: i16 = 10;
const INVALID_PRODUCER_ID_MAPPING: i16 = 49;
const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: i16 = 53;
const NOT_ENOUGH_REPLICAS: i16 = 19;
/// Between two tries with a coordinator that is not there yet.
const PAUSE: Duration = Duration::from_millis(100);
const INVALID_RECORD: i16 = 87;

/// A sound batch with `change` made to it, and the CRC that then belongs to it.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = batch(&[b"one", b"two", b"three"]);
    change(&mut bytes);
    let crc = crc32c::crc32c(&bytes[position::ATTRIBUTES..]);
    put(&mut bytes, position::CRC, &crc.to_be_bytes());
    bytes
}

fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    bytes[at..at + field.len()].copy_from_slice(field);
}

/// A sound batch with a field of its header replaced.
fn with(at: usize, field: &[u8]) -> Vec<u8> {
    changed(|bytes| put(bytes, at, field))
}

fn wrong_crc() -> Vec<u8> {
    let mut bytes = batch(&[b"one"]);
    *bytes.last_mut().unwrap() ^= 1;
    bytes
}

fn marker() -> Vec<u8> {
    let flags = attribute::CONTROL;
    let mut builder = RecordBatchBuilder::new(BatchOptions { flags, ..Default::default() });
    let (key, value) = (b"\0\0\0\x01".as_slice(), b"\0\0\0\0\0\0".as_slice());
    builder.append(&NewRecord { key: Some(key), value: Some(value), ..Default::default() });
    builder.build().to_vec()
}

/// What it is called, the bytes, the error code.
type Lie = (&'static str, Vec<u8>, i16);

/// Where Apache Kafka does otherwise: a codec that it does not know is its UNKNOWN_SERVER_ERROR.
fn lies_that_kafka_answers_otherwise() -> Vec<Lie> {
    vec![("a codec that is none", with(position::ATTRIBUTES, &[0, 7]), INVALID_RECORD)]
}

/// What a producer may not send, and what it is told.
fn lies() -> Vec<Lie> {
    let first = model::record_batch::HEADER_BYTES;
    vec![
        ("no batch", Vec::new(), INVALID_RECORD),
        ("half a batch", batch(&[b"one"])[..65].to_vec(), INVALID_RECORD),
        ("half a header", batch(&[b"one"])[..20].to_vec(), INVALID_RECORD),
        ("two batches", batch(&[b"one"]).repeat(2), INVALID_RECORD),
        ("a wrong CRC", wrong_crc(), CORRUPT_MESSAGE),
        ("a count too high", with(position::RECORD_COUNT, &[0, 0, 0, 4]), INVALID_RECORD),
        ("a count too low", with(position::RECORD_COUNT, &[0, 0, 0, 2]), INVALID_RECORD),
        ("a count of 0", with(position::RECORD_COUNT, &[0; 4]), INVALID_RECORD),
        ("a negative count", with(position::RECORD_COUNT, &[0xff; 4]), INVALID_RECORD),
        ("a huge count", with(position::RECORD_COUNT, &[0x7f, 0xff, 0xff, 0xff]), INVALID_RECORD),
        ("offsets too high", with(position::LAST_OFFSET_DELTA, &[0, 0, 0, 9]), INVALID_RECORD),
        ("offsets too low", with(position::LAST_OFFSET_DELTA, &[0; 4]), INVALID_RECORD),
        ("negative offsets", with(position::LAST_OFFSET_DELTA, &[0xff; 4]), INVALID_RECORD),
        (
            "a billion offsets and records",
            changed(|bytes| {
                put(bytes, position::LAST_OFFSET_DELTA, &[0x3f, 0xff, 0xff, 0xff]);
                put(bytes, position::RECORD_COUNT, &[0x40, 0, 0, 0]);
            }),
            INVALID_RECORD,
        ),
        ("a length of 0", with(position::BATCH_LENGTH, &[0; 4]), CORRUPT_MESSAGE),
        ("a negative length", with(position::BATCH_LENGTH, &[0xff; 4]), CORRUPT_MESSAGE),
        ("message format 0", with(position::MAGIC, &[0]), INVALID_RECORD),
        ("message format 1", with(position::MAGIC, &[1]), INVALID_RECORD),
        ("message format 3", with(position::MAGIC, &[3]), CORRUPT_MESSAGE),
        ("a control batch", marker(), INVALID_RECORD),
        ("a record too long", with(first, &[0x7e]), INVALID_RECORD),
        ("a record too short", with(first, &[2]), INVALID_RECORD),
        ("a record of negative length", with(first, &[1]), INVALID_RECORD),
        ("a key beyond its record", with(first + 4, &[0x7e]), INVALID_RECORD),
        ("a value beyond its record", with(first + 5, &[0x7e]), INVALID_RECORD),
        ("bytes behind the last record", trailing(), INVALID_RECORD),
        (
            "a producer without a sequence",
            with(position::PRODUCER_ID, &[0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0xff, 0xff, 0xff, 0xff]),
            INVALID_RECORD,
        ),
        (
            "part of a transaction that has no id",
            with(position::ATTRIBUTES, &[0, 0x10]),
            TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        ),
        ("too many bytes", batch(&[&vec![7; 1_100_000]]), MESSAGE_TOO_LARGE),
    ]
}

fn trailing() -> Vec<u8> {
    changed(|bytes| {
        bytes.extend([0; 3]);
        let length = i32::try_from(bytes.len() - position::PARTITION_LEADER_EPOCH).unwrap();
        put(bytes, position::BATCH_LENGTH, &length.to_be_bytes());
    })
}

#[test]
fn of_several_errors_the_one_that_apache_kafka_tells_is_told() {
    let mut broker = BrokerProcess::start("uring", &[]);
    let mut client = RawClient::connect(broker.address());
    client.create_topic("a");
    let find = FindCoordinatorRequest { key: "g", ..Default::default() };
    let _ = client.ask(0, &find);
    let sound = batch(&[b"one"]);
    let cases: [(&str, i16, &[u8], ErrorCode); 8] = [
        ("__consumer_offsets", 1, &[], ErrorCode::InvalidRecord),
        ("__consumer_offsets", 1, &sound, ErrorCode::InvalidTopicException),
        ("__consumer_offsets", 2, &sound, ErrorCode::InvalidRequiredAcks),
        ("__consumer_offsets", 1, &sound[..65], ErrorCode::InvalidRecord),
        ("a", 2, &[], ErrorCode::InvalidRecord),
        ("a", 2, &sound[..65], ErrorCode::InvalidRecord),
        ("a", 2, &sound, ErrorCode::InvalidRequiredAcks),
        ("nowhere", 2, &[], ErrorCode::UnknownTopicOrPartition),
    ];
    for (topic, acks, records, expected) in cases {
        let request = ProduceRequest { acks, ..produce_request(topic, Some(records)) };
        let answer = client.ask(9, &request);
        let response: ProduceResponse<'_> = decoded::<ProduceRequest<'_>, _>(&answer, 9);
        let error = response.responses[0].partition_responses[0].error_code;
        assert_eq!(error, expected.code(), "{topic} acks={acks} {} bytes", records.len());
    }
    broker.check_sound();
}

#[test]
fn lies_get_kafkas_codes_and_leave_the_log_as_it_was() {
    // The codes are those of Apache Kafka if the same passes there.
    if let Ok(address) = env::var("ODRADEK_LIES_TO_KAFKA") {
        check(lies(), &mut RawClient::connect(address.parse().unwrap()));
        return;
    }
    for driver in DRIVERS {
        let mut broker = BrokerProcess::start(driver, &[]);
        let mut all = lies();
        all.extend(lies_that_kafka_answers_otherwise());
        println!("{driver}: {} lies", all.len());
        check(all, &mut RawClient::connect(broker.address()));
        broker.check_sound();
    }
}

fn check(lies: Vec<Lie>, client: &mut RawClient) {
    client.create_topic("log");
    let mut expected = Vec::new();
    let mut wrong = Vec::new();
    for (name, bytes, code) in lies {
        let (answered, base_offset) = client.produce("log", &bytes);
        if (answered, base_offset) != (code, -1) {
            wrong.push(format!("{name}: {answered} at {base_offset}, expected {code}"));
        }
        let offset = i64::try_from(expected.len()).unwrap();
        let after = format!("after {name}").into_bytes();
        let produced = client.produce("log", &batch(&[&after]));
        assert_eq!(produced, (0, offset), "after {name}");
        expected.push((offset, after));
    }
    assert_eq!(wrong, Vec::<String>::new());
    check_unknown_transaction(client);
    assert_eq!(client.fetch_all("log"), expected);
}

/// A batch of a transaction that no coordinator knows.
fn check_unknown_transaction(client: &mut RawClient) {
    let bytes = changed(|bytes| {
        put(bytes, position::ATTRIBUTES, &[0, 0x10]);
        put(bytes, position::PRODUCER_ID, &[0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0]);
    });
    let mut request = produce_request("log", Some(&bytes));
    request.transactional_id = Some("unknown");
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Apache Kafka has a coordinator once somebody asks for one.
        let coordinator =
            FindCoordinatorRequest { key: "unknown", key_type: 1, ..Default::default() };
        let _place = client.ask(1, &coordinator);
        let answer = client.ask(9, &request);
        let response: ProduceResponse<'_> = decoded::<ProduceRequest<'_>, _>(&answer, 9);
        match response.responses[0].partition_responses[0].error_code {
            INVALID_PRODUCER_ID_MAPPING => return,
            NOT_ENOUGH_REPLICAS if Instant::now() < deadline => thread::sleep(PAUSE),
            code => panic!("error {code}"),
        }
    }
}
