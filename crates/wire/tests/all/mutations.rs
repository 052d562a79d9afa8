//! Broken messages are refused or understood, never a panic.

use std::env;

use super::{described, fill, messages::MESSAGES, random::Random, table};

/// How many broken messages, unless `ODRADEK_MUTATIONS` says otherwise.
const MUTATIONS: u64 = 100_000;

/// Numbers at which lengths and counts tend to go wrong.
const EDGES: &[[u8; 4]] = &[
    [0x7f, 0xff, 0xff, 0xff],
    [0x80, 0, 0, 0],
    [0xff, 0xff, 0xff, 0xff],
    [0xff, 0xff, 0xff, 0xfe],
    [0, 0, 0xff, 0xff],
    [0, 0, 0x7f, 0xff],
    [0xff, 0xff, 0xff, 0x0f],
    [0, 0, 0, 0],
];

/// Breaks a message in one to four places.
pub fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            bytes.push(random.byte());
        }
        let at = random.below(bytes.len());
        match random.below(6) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.byte(),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, random.byte()),
            4 => {
                let edge = random.pick(EDGES);
                let end = bytes.len().min(at + edge.len());
                bytes[at..end].copy_from_slice(&edge[..end - at]);
            }
            _ => {
                let from = random.below(bytes.len());
                let copied = bytes[from..].to_vec();
                bytes.splice(at..at, copied);
                bytes.truncate(4096);
            }
        }
    }
}

#[test]
fn broken_messages_do_not_panic_and_what_is_understood_can_be_said_again() {
    let count = env::var("ODRADEK_MUTATIONS").map_or(MUTATIONS, |text| text.parse().unwrap());
    let table = table();
    let (mut understood, mut refused) = (0_u64, 0_u64);
    for seed in 0..count {
        let mut random = Random::new(seed);
        let case = random.pick(MESSAGES);
        let versions = usize::try_from(case.versions.max - case.versions.min).unwrap();
        let step = i16::try_from(random.below(versions + 1)).unwrap();
        let version = case.versions.min + step;
        let mut bytes = fill::random(described(&table, case.name), version, &mut random);
        mutate(&mut bytes, &mut random);
        let Ok(once) = (case.again)(&bytes, version) else {
            refused += 1;
            continue;
        };
        let twice = (case.again)(&once, version);
        assert_eq!(twice.as_deref(), Ok(&once[..]), "{} v{version} #{seed}", case.name);
        understood += 1;
    }
    // The test aims at both.
    assert!(understood > count / 20, "only {understood} of {count} understood");
    assert!(refused > count / 20, "only {refused} of {count} refused");
}

#[test]
fn broken_records_of_the_logs_do_not_panic() {
    let table = table();
    for seed in 0..MUTATIONS / 10 {
        let mut random = Random::new(seed);
        let message = random.pick(&table);
        let version = message.versions.max;
        let mut body = vec![0, random.below(30).try_into().unwrap()];
        body.extend(fill::random(message, version, &mut random));
        mutate(&mut body, &mut random);
        let key = [0, random.below(30).try_into().unwrap(), 0, 1, b'g', 0, 1, b't', 0, 0, 0, 0];
        let _ = wire::coordinator_record::decode_consumer_offsets_record(&body, None);
        let _ = wire::coordinator_record::decode_consumer_offsets_record(&key, Some(&body));
        let _ = wire::coordinator_record::decode_transaction_state_record(&body, Some(&body));
        let _ = wire::control_record::ControlRecord::decode(&key, &body);
        body.insert(0, 1);
        let _ = wire::metadata_frame::decode_metadata_record(&body);
        let _ = wire::frame::decode_request_header(&body);
    }
}
