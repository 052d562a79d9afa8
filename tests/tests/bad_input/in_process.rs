//! Broken frames through the broker's decoding, without a broker.

use std::env;

use model::record_batch::{Counts, HEADER_BYTES, batches, position};
use tests::random::Random;

use super::samples;

/// How many broken frames, unless `ODRADEK_MUTATIONS` says otherwise.
const MUTATIONS: u64 = 1_000_000;

#[derive(Default)]
struct Seen {
    understood: u64,
    refused: u64,
    batches_refused: u64,
    records: u64,
}

#[test]
fn broken_frames_are_refused_or_understood_and_never_a_panic() {
    let count = env::var("ODRADEK_MUTATIONS").map_or(MUTATIONS, |text| text.parse().unwrap());
    let frames = samples::frames();
    for frame in &frames {
        samples::decode(frame, |_| {}).expect("a sample is well formed");
    }
    let mut seen = Seen::default();
    for seed in 0..count {
        let mut random = Random::new(seed);
        let mut frame = random.pick(&frames).clone();
        random.mutate(&mut frame);
        match samples::decode(&frame, |records| look_at(records, &mut seen)) {
            Ok(()) => seen.understood += 1,
            Err(_) => seen.refused += 1,
        }
    }
    println!("{count} broken frames: {} understood, {} refused", seen.understood, seen.refused);
    assert!(seen.understood > count / 20, "only {} of {count} understood", seen.understood);
    assert!(seen.refused > count / 20, "only {} of {count} refused", seen.refused);
}

#[test]
fn broken_batches_with_a_good_crc_are_refused_or_understood_and_never_a_panic() {
    let count = env::var("ODRADEK_MUTATIONS").map_or(MUTATIONS, |text| text.parse().unwrap());
    let sound = tests::raw_client::batch(&[b"one", b"two", b"", &[7; 200]]);
    let mut seen = Seen::default();
    for seed in 0..count {
        let mut random = Random::new(seed);
        let mut broken = sound.clone();
        random.mutate(&mut broken);
        repair(&mut broken);
        look_at(&broken, &mut seen);
    }
    println!("{count} broken batches: {} refused, {} records", seen.batches_refused, seen.records);
    assert!(seen.batches_refused > count / 20, "only {} refused", seen.batches_refused);
    assert!(seen.records > count / 20, "only {} records", seen.records);
}

/// Gives a batch the length, format and CRC of a sound one, so that the rest is looked at.
fn repair(batch: &mut [u8]) {
    if batch.len() < HEADER_BYTES {
        return;
    }
    let length = i32::try_from(batch.len() - position::PARTITION_LEADER_EPOCH).unwrap();
    batch[position::BATCH_LENGTH..][..4].copy_from_slice(&length.to_be_bytes());
    batch[position::MAGIC] = 2;
    let crc = crc32c::crc32c(&batch[position::ATTRIBUTES..]);
    batch[position::CRC..][..4].copy_from_slice(&crc.to_be_bytes());
}

/// What the log asks of a producer's records, and what a consumer reads.
fn look_at(records: &[u8], seen: &mut Seen) {
    for batch in batches(records) {
        let sound = batch.and_then(|batch| {
            batch.verify_crc()?;
            batch.check_counts(Counts::Dense)?;
            batch.check_records(Counts::Dense)?;
            Ok(batch)
        });
        let Ok(batch) = sound else {
            seen.batches_refused += 1;
            return;
        };
        for record in batch.records().map_while(Result::ok) {
            seen.records += 1;
            std::hint::black_box(record.headers().count());
        }
    }
}
