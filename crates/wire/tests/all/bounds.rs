//! A frame of N bytes costs a small multiple of N in memory, whatever it claims.

use allocation_counter::measure;
use wire::{Error, metadata_request::MetadataRequest};

use super::{described, fill, messages::MESSAGES, mutations::mutate, random::Random, table};

/// Bytes of memory for each byte of a frame, at most. A compact string of one byte is a `&str` of
/// sixteen, and a vector that grows holds old and new while it moves: three times as much.
const MEMORY_PER_BYTE: u64 = 64;
/// What small frames may cost beyond that.
const MEMORY_ALWAYS: u64 = 4096;

fn check(name: &str, version: i16, bytes: &[u8], decode: fn(&[u8], i16) -> wire::Result<()>) {
    let mut outcome = None;
    let cost = measure(|| outcome = Some(decode(bytes, version).is_ok())).bytes_max;
    let length = u64::try_from(bytes.len()).expect("a frame is small");
    assert!(
        cost <= MEMORY_PER_BYTE * length + MEMORY_ALWAYS,
        "{name} v{version}: {cost} bytes for a frame of {length}, decoded: {outcome:?}"
    );
}

#[test]
fn metadata_request_of_seven_bytes_and_two_billion_topics_costs_nothing() {
    let body = [0xff, 0xff, 0xff, 0xff, 0x07, 0x01, 0x00];
    let mut decoded = None;
    let cost = measure(|| decoded = Some(wire::decode::<MetadataRequest<'_>>(&body, 12)));
    assert_eq!(decoded, Some(Err(Error::Truncated)));
    assert_eq!(cost.bytes_total, 0);
}

#[test]
fn claims_at_every_depth_cost_no_more_than_their_bytes() {
    let table = table();
    for case in MESSAGES {
        let message = described(&table, case.name);
        for version in case.versions.min..=case.versions.max {
            for claim in [100, 1000, 30_000, 100_000, 0x7fff_fffe] {
                let mut bytes = fill::hostile(message, version, claim);
                for padding in [0, 1000, 100_000] {
                    let length = bytes.len().max(padding);
                    bytes.resize(length, 0);
                    check(case.name, version, &bytes, case.decode);
                }
            }
        }
    }
}

#[test]
fn one_byte_elements_by_the_million_cost_no_more_than_their_bytes() {
    let table = table();
    for case in MESSAGES {
        let message = described(&table, case.name);
        for version in case.versions.min..=case.versions.max {
            // 0x01 is an empty compact string or array, or the presence of a structure.
            for filling in [0, 1, 2] {
                let mut bytes = fill::hostile(message, version, 20_000);
                bytes.resize(100_000, filling);
                check(case.name, version, &bytes, case.decode);
            }
        }
    }
}

#[test]
fn broken_messages_cost_no_more_than_their_bytes() {
    let table = table();
    for seed in 0..20_000 {
        let mut random = Random::new(seed);
        let case = random.pick(MESSAGES);
        let mut bytes = fill::random(described(&table, case.name), case.versions.max, &mut random);
        mutate(&mut bytes, &mut random);
        check(case.name, case.versions.max, &bytes, case.decode);
    }
}
