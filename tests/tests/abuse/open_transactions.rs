//! Transactions that their producers leave open: readers of `read_committed` wait for them as long
//! as they may take, and no longer.

use std::{
    thread,
    time::{Duration, Instant},
};

use model::{
    ErrorCode, ProducerEpoch, ProducerId, Sequence,
    record_batch::{BatchOptions, NewRecord, RecordBatchBuilder, attribute},
};
use tests::{
    broker_process::{BrokerProcess, PATIENCE},
    raw_client::{RawClient, decoded, produce_request},
};
use wire::{
    list_offsets_request::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic},
    list_offsets_response::ListOffsetsResponse,
    produce_request::ProduceRequest,
    produce_response::ProduceResponse,
};

use super::{DRIVERS, init_producer, scaled};

const TIMEOUT: Duration = Duration::from_secs(1);
/// How often the broker looks for those that are over it.
const CHECK_MS: u64 = 100;
/// What ending one takes beside: a debug build on a busy machine, with two syncs each.
const EACH_MAX: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(10);
/// The version of Produce that brings the partition into the transaction (KIP-890).
const PRODUCE: i16 = 12;
const READ_COMMITTED: i8 = 1;
const LATEST: i64 = -1;

/// Writes a record of a transaction, the first of its producer: the error and the offset.
fn write(client: &mut RawClient, id: &str, (producer_id, epoch): (i64, i16)) -> (i16, i64) {
    let mut builder = RecordBatchBuilder::new(BatchOptions {
        producer_id: ProducerId(producer_id),
        producer_epoch: ProducerEpoch(epoch),
        base_sequence: Sequence(0),
        flags: attribute::TRANSACTIONAL,
        ..Default::default()
    });
    builder.append(&NewRecord { value: Some(b"left open"), ..Default::default() });
    let records = builder.build();
    let mut request = produce_request("log", Some(&records));
    request.transactional_id = Some(id);
    let answer = client.ask(PRODUCE, &request);
    let response: ProduceResponse<'_> = decoded::<ProduceRequest<'_>, _>(&answer, PRODUCE);
    let partition = &response.responses[0].partition_responses[0];
    (partition.error_code, partition.base_offset)
}

/// Where the log ends for readers of this isolation level.
fn end(client: &mut RawClient, isolation_level: i8) -> i64 {
    let partition =
        ListOffsetsPartition { timestamp: LATEST, current_leader_epoch: -1, ..Default::default() };
    let topic = ListOffsetsTopic { name: "log", partitions: vec![partition] };
    let request = ListOffsetsRequest {
        replica_id: -1,
        isolation_level,
        topics: vec![topic],
        ..Default::default()
    };
    let answer = client.ask(5, &request);
    let response: ListOffsetsResponse<'_> = decoded::<ListOffsetsRequest<'_>, _>(&answer, 5);
    assert_eq!(response.topics[0].partitions[0].error_code, 0);
    response.topics[0].partitions[0].offset
}

#[test]
fn transactions_that_are_left_open_hold_readers_up_for_their_timeout() {
    for driver in DRIVERS {
        let check =
            format!("transaction.abort.timed.out.transaction.cleanup.interval.ms={CHECK_MS}");
        let settings =
            ["transaction.max.timeout.ms=1000", "transaction.state.log.num.partitions=4"];
        let mut broker = BrokerProcess::start(driver, &[&settings[..], &[&check]].concat());
        let mut client = RawClient::connect(broker.address());
        client.create_topic("log");
        // No more than the broker allows may be asked for.
        let refused = init_producer(&mut client, "slow", TIMEOUT + Duration::from_millis(1));
        assert_eq!(refused, Err(ErrorCode::InvalidTransactionTimeout.code()), "{driver}");
        let producers: Vec<(String, (i64, i16))> = (0..scaled(100))
            .map(|number| {
                let id = format!("left open {number}");
                let producer = init_producer(&mut client, &id, TIMEOUT).unwrap();
                (id, producer)
            })
            .collect();
        let began = Instant::now();
        for (id, producer) in &producers {
            assert_eq!(write(&mut client, id, *producer).0, 0, "{driver}: {id}");
        }
        let last = Instant::now();
        assert!(began.elapsed() > TIMEOUT || end(&mut client, READ_COMMITTED) == 0, "{driver}");
        while end(&mut client, READ_COMMITTED) < end(&mut client, 0) {
            assert!(last.elapsed() < PATIENCE, "{driver}: transactions are open");
            thread::sleep(PAUSE);
        }
        let stall = last.elapsed();
        println!(
            "{driver}: {} transactions left open, readers go on after {stall:.2?} of {TIMEOUT:?}",
            producers.len()
        );
        let bound = TIMEOUT
            + Duration::from_millis(CHECK_MS)
            + EACH_MAX * u32::try_from(producers.len()).unwrap();
        assert!(stall < bound, "{driver}: {stall:?}, over {bound:?}");
        // Each ended with a marker, and its producer may not go on.
        assert_eq!(end(&mut client, 0), 2 * i64::try_from(producers.len()).unwrap(), "{driver}");
        for (id, producer) in &producers {
            let (error, _) = write(&mut client, id, *producer);
            assert_eq!(error, ErrorCode::InvalidProducerEpoch.code(), "{driver}: {id}");
        }
        broker.check_sound();
    }
}
