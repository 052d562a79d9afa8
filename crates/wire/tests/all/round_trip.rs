//! Random messages of the table survive decoding and encoding to the byte.

use super::{described, fill, messages::MESSAGES, random::Random, table};

/// Random messages for each message and version.
const SAMPLES: u64 = 40;

#[test]
fn every_message_of_the_table_is_listed() {
    let table = table();
    let listed: Vec<_> = MESSAGES.iter().map(|case| case.name).collect();
    let described: Vec<_> = table.iter().map(|message| message.name.as_str()).collect();
    assert_eq!(listed, described);
}

#[test]
fn decoded_and_encoded_again_is_the_same_bytes_in_every_version() {
    let table = table();
    for case in MESSAGES {
        let message = described(&table, case.name);
        for version in case.versions.min..=case.versions.max {
            for seed in 0..SAMPLES {
                let bytes = fill::random(message, version, &mut Random::new(seed));
                let again = (case.again)(&bytes, version);
                assert_eq!(again.as_deref(), Ok(&bytes[..]), "{} v{version} #{seed}", case.name);
            }
        }
    }
}

#[test]
fn every_shorter_message_is_refused() {
    let table = table();
    for case in MESSAGES {
        let message = described(&table, case.name);
        for version in case.versions.min..=case.versions.max {
            let bytes = fill::random(message, version, &mut Random::new(1));
            for end in 0..bytes.len() {
                let decoded = (case.decode)(&bytes[..end], version);
                assert!(decoded.is_err(), "{} v{version} cut at {end}", case.name);
            }
        }
    }
}

#[test]
fn versions_that_do_not_exist_are_refused() {
    for case in MESSAGES {
        for version in [case.versions.min - 1, case.versions.max + 1, i16::MIN, i16::MAX] {
            assert!((case.decode)(&[0; 64], version).is_err(), "{} v{version}", case.name);
            assert!((case.default)(version).is_err(), "{} v{version}", case.name);
        }
    }
}
