//! Producer ids without end, producers that write once, and numbers that wrap.

use std::{collections::BTreeSet, time::Instant};

use model::{
    ErrorCode, ProducerEpoch, ProducerId, Sequence,
    record_batch::{BatchOptions, NewRecord, RecordBatchBuilder},
};
use tests::{
    broker_process::{BrokerProcess, PATIENCE},
    raw_client::{RawClient, Received, decoded, framed, produce_request},
};
use wire::{
    init_producer_id_request::InitProducerIdRequest,
    init_producer_id_response::InitProducerIdResponse, produce_request::ProduceRequest,
    produce_response::ProduceResponse,
};

use super::{DRIVERS, MIB, scaled};

/// What a partition may keep of a producer that it has seen once.
const BYTES_A_PRODUCER_MAX: u64 = 1024;
const AT_ONCE: usize = 50;

fn records(id: i64, epoch: i16, sequence: i32, count: usize) -> Vec<u8> {
    let mut builder = RecordBatchBuilder::new(BatchOptions {
        producer_id: ProducerId(id),
        producer_epoch: ProducerEpoch(epoch),
        base_sequence: Sequence(sequence),
        ..Default::default()
    });
    for _ in 0..count {
        builder.append(&NewRecord { value: Some(b"value"), ..Default::default() });
    }
    builder.build().to_vec()
}

#[test]
fn producer_ids_cost_nothing_and_producers_little() {
    for driver in DRIVERS {
        let mut broker = BrokerProcess::start(driver, &[]);
        let mut client = RawClient::connect(broker.address());
        client.create_topic("log");
        let request =
            framed(4, &InitProducerIdRequest { transactional_id: None, ..Default::default() })
                .repeat(AT_ONCE);
        let before = broker.resident_bytes();
        let began = Instant::now();
        let count = scaled(20_000);
        let mut ids = BTreeSet::new();
        for _ in 0..count / AT_ONCE {
            client.send(&request).unwrap();
            for _ in 0..AT_ONCE {
                let Received::Frame(answer) = client.receive(PATIENCE) else { panic!("no answer") };
                let response: InitProducerIdResponse =
                    decoded::<InitProducerIdRequest<'_>, _>(&answer, 4);
                assert_eq!((response.error_code, response.producer_epoch), (0, 0));
                ids.insert(response.producer_id);
            }
        }
        let took = began.elapsed();
        let grown = broker.resident_bytes().saturating_sub(before);
        println!("{driver}: {count} producer ids in {took:.1?}, {} KiB", grown >> 10);
        assert_eq!(ids.len(), count, "{driver}: an id was given twice");
        assert!(grown < 16 * MIB, "{driver}: {grown} bytes");
        // Each of them writes once.
        let before = broker.resident_bytes();
        let writers: Vec<i64> = ids.into_iter().take(scaled(10_000)).collect();
        for some in writers.chunks(AT_ONCE) {
            let frames = some
                .iter()
                .flat_map(|id| framed(9, &produce_request("log", Some(&records(*id, 0, 0, 1)))));
            client.send(&frames.collect::<Vec<u8>>()).unwrap();
            for _ in some {
                let Received::Frame(answer) = client.receive(PATIENCE) else { panic!("no answer") };
                let response: ProduceResponse<'_> = decoded::<ProduceRequest<'_>, _>(&answer, 9);
                assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
            }
        }
        let grown = broker.resident_bytes().saturating_sub(before);
        let each = grown / u64::try_from(writers.len()).unwrap();
        println!("{driver}: {} producers that wrote once, {each} bytes each", writers.len());
        assert!(each < BYTES_A_PRODUCER_MAX + 16 * MIB / u64::try_from(writers.len()).unwrap());
        broker.check_sound();
    }
}

#[test]
fn sequences_and_epochs_wrap_as_in_kafka() {
    let (out_of_order, old_epoch) =
        (ErrorCode::OutOfOrderSequenceNumber.code(), ErrorCode::InvalidProducerEpoch.code());
    // Producer, epoch, sequence, records; the error and the offset.
    type Case = (i64, i16, i32, usize, i16, i64);
    let cases: &[Case] = &[
        // To the last sequence and on with 0.
        (1, 0, i32::MAX - 1, 2, 0, 0),
        (1, 0, 0, 1, 0, 2),
        (1, 0, i32::MAX - 1, 2, 0, 0),
        (1, 0, 2, 1, out_of_order, -1),
        (1, 0, 1, 1, 0, 3),
        // Across it within a batch.
        (2, 0, i32::MAX - 1, 4, 0, 4),
        (2, 0, i32::MAX - 1, 4, 0, 4),
        (2, 0, i32::MAX, 1, out_of_order, -1),
        (2, 0, 2, 1, 0, 8),
        // Epochs end, and an earlier one is fenced.
        (3, i16::MAX - 1, 0, 1, 0, 9),
        (3, i16::MAX, 0, 1, 0, 10),
        (3, 0, 0, 1, old_epoch, -1),
        (3, i16::MAX - 1, 1, 1, old_epoch, -1),
        (3, i16::MAX, 1, 1, 0, 11),
        // A new epoch begins with 0.
        (1, 1, 2, 1, out_of_order, -1),
        (1, 1, 0, 1, 0, 12),
    ];
    let check = |client: &mut RawClient, topic: &str| {
        client.create_topic(topic);
        for case in cases {
            let (id, epoch, sequence, count, error, offset) = *case;
            let answered = client.produce(topic, &records(id, epoch, sequence, count));
            assert_eq!(answered, (error, offset), "{case:?}");
        }
    };
    // The codes are those of Apache Kafka if the same passes there.
    if let Ok(address) = std::env::var("ODRADEK_LIES_TO_KAFKA") {
        check(&mut RawClient::connect(address.parse().unwrap()), "wrapped");
        return;
    }
    for driver in DRIVERS {
        let mut broker = BrokerProcess::start(driver, &[]);
        check(&mut RawClient::connect(broker.address()), "wrapped");
        println!("{driver}: {} produces across the ends of sequences and epochs", cases.len());
        broker.check_sound();
    }
}
