//! `odradek log`: what is in a directory is shown, what is wrong with it is found, and nothing is
//! changed. (tests/interop runs it on Apache Kafka's directories.)

#![expect(clippy::unwrap_used, reason = "a test")]

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Output},
};

use model::{
    LeaderEpoch, Offset, ProducerEpoch, ProducerId, TimestampMs,
    record_batch::{BatchOptions, ControlType, NewRecord, RecordBatchBuilder, attribute},
};
use tempfile::TempDir;

const SEGMENT: &str = "topic-0/00000000000000000000.log";
const INDEX: &str = "topic-0/00000000000000000000.index";
const TIME_INDEX: &str = "topic-0/00000000000000000000.timeindex";
const EPOCHS: &str = "topic-0/leader-epoch-checkpoint";
const RECOVERY_POINTS: &str = "recovery-point-offset-checkpoint";
/// Batches of one record in the sound segment.
const BATCHES: i64 = 10;

fn batch(offset: i64, epoch: i32) -> Vec<u8> {
    let mut builder = RecordBatchBuilder::new(BatchOptions {
        base_offset: Offset(offset),
        leader_epoch: LeaderEpoch(epoch),
        ..BatchOptions::default()
    });
    let timestamp = TimestampMs(1_700_000_000_000 + offset);
    builder.append(&NewRecord {
        timestamp,
        key: Some(b"key"),
        value: Some(b"a value"),
        headers: &[],
    });
    builder.build().to_vec()
}

/// A directory as a clean stop leaves it.
fn sound() -> TempDir {
    let directory = TempDir::new().unwrap();
    let put = |name: &str, content: &[u8]| fs::write(directory.path().join(name), content).unwrap();
    fs::create_dir(directory.path().join("topic-0")).unwrap();
    put(
        "meta.properties",
        b"version=1\ncluster.id=c\nnode.id=1\ndirectory.id=AAAAAAAAAAAAAAAAAAAAAw\n",
    );
    put(".kafka_cleanshutdown", b"{\"version\":0,\"brokerEpoch\":7}");
    put(RECOVERY_POINTS, b"0\n1\ntopic 0 10\n");
    put("topic-0/partition.metadata", b"version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAABA\n");
    put(EPOCHS, b"0\n1\n1 0\n");
    let batches: Vec<Vec<u8>> = (0..BATCHES).map(|offset| batch(offset, 1)).collect();
    let size = u32::try_from(batches[0].len()).unwrap();
    put(SEGMENT, &batches.concat());
    let entry = |offset: u32| [offset.to_be_bytes(), (offset * size).to_be_bytes()].concat();
    put(INDEX, &[entry(3), entry(7)].concat());
    let time = |offset: i64| {
        let delta = u32::try_from(offset).unwrap().to_be_bytes();
        [&(1_700_000_000_000 + offset).to_be_bytes()[..], &delta].concat()
    };
    put(TIME_INDEX, &[time(3), time(9)].concat());
    directory
}

fn log(words: &[&str], path: &Path) -> (Output, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_odradek"));
    let output = command.arg("log").args(words).arg(path).env_clear().output().unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    (output, text)
}

fn content(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap().path();
        if entry.is_dir() {
            found.extend(content(&entry));
        } else {
            found.insert(entry.display().to_string(), fs::read(entry).unwrap());
        }
    }
    found
}

#[test]
fn a_sound_directory_is_shown_and_has_no_problems() {
    let directory = sound();
    for (words, expected) in [
        (&["dump"][..], "batch base_offset=9 last_offset=9 records=1"),
        (&["dump", "--records"], "record offset=9 timestamp=1700000000009 key_bytes=3 key=key"),
        (&["dump", "--format", "json"], "\"kind\":\"entry\""),
        (&["verify"], "summary files=8 batches=10 problems=0"),
    ] {
        let (output, text) = log(words, directory.path());
        assert!(output.status.success(), "{words:?}: {text}");
        assert!(text.contains(expected), "{words:?}: {text}");
        assert!(output.stderr.is_empty());
    }
    for part in ["topic-0", SEGMENT, INDEX, "meta.properties", RECOVERY_POINTS, EPOCHS] {
        let (output, text) = log(&["dump"], &directory.path().join(part));
        assert!(output.status.success() && text.contains("problems=0"), "{part}: {text}");
    }
}

/// A batch of a transaction of producer 5, or its marker.
fn transactional(offset: i64, end: Option<ControlType>) -> Vec<u8> {
    let control = if end.is_some() { attribute::CONTROL } else { 0 };
    let mut builder = RecordBatchBuilder::new(BatchOptions {
        base_offset: Offset(offset),
        leader_epoch: LeaderEpoch(1),
        producer_id: ProducerId(5),
        producer_epoch: ProducerEpoch(0),
        flags: attribute::TRANSACTIONAL | control,
        ..BatchOptions::default()
    });
    let timestamp = TimestampMs(1_700_000_000_000 + offset);
    let key = end.map_or_else(|| b"key".to_vec(), |end| end.key().to_vec());
    builder.append(&NewRecord { timestamp, key: Some(&key), value: Some(&[0; 6]), headers: &[] });
    builder.build().to_vec()
}

#[test]
fn an_aborted_transaction_that_the_index_does_not_tell_of_is_found() {
    let entry = |producer: i64, first: i64, last: i64| {
        let numbers = [producer, first, last, last + 1].map(i64::to_be_bytes);
        [&[0, 0][..], &numbers.concat()].concat()
    };
    let right = entry(5, 10, 12);
    let cases = [
        (Some(right.clone()), None),
        (Some(entry(5, 8, 12)), None),
        (None, Some("no entry of the transaction from offset 10 that was aborted at 12")),
        (Some(entry(5, 11, 12)), Some("ends at offset 12 begins at 10, not 11")),
        (Some(entry(5, 10, 11)), Some("no marker at offset 11")),
        (Some(entry(6, 10, 12)), Some("no marker at offset 12")),
        (Some(entry(5, 10, 14)), Some("offset 14: the log does not reach it")),
        (Some(right.repeat(2)), Some("the entries do not rise")),
        (Some(right[..30].to_vec()), Some("30 bytes at its end are no entry")),
    ];
    for (index, expected) in cases {
        let directory = sound();
        let segment = directory.path().join(SEGMENT);
        let mut batches = fs::read(&segment).unwrap();
        batches.extend(transactional(10, None));
        batches.extend(transactional(11, None));
        batches.extend(transactional(12, Some(ControlType::Abort)));
        fs::write(&segment, batches).unwrap();
        if let Some(index) = &index {
            fs::write(segment.with_extension("txnindex"), index).unwrap();
        }
        let (output, text) = log(&["verify"], directory.path());
        assert_eq!(output.status.success(), expected.is_none(), "{index:?}: {text}");
        assert!(expected.is_none_or(|expected| text.contains(expected)), "{index:?}: {text}");
        // A process that was killed had not written it yet.
        fs::remove_file(directory.path().join(".kafka_cleanshutdown")).unwrap();
        let (output, text) = log(&["verify"], directory.path());
        let is_sound = expected.is_none() || index.is_none();
        assert_eq!(output.status.success(), is_sound, "{index:?}: {text}");
    }
}

/// Changes a file of the sound directory; the report has to say this, and nothing may be changed.
fn check(name: &str, change: impl Fn(&mut Vec<u8>), expected: &str) {
    let directory = sound();
    let path = directory.path().join(name);
    let mut bytes = fs::read(&path).unwrap();
    change(&mut bytes);
    fs::write(&path, bytes).unwrap();
    let before = content(directory.path());
    for words in [&["verify"][..], &["dump", "--records"], &["dump", "--format", "json"]] {
        let (output, text) = log(words, directory.path());
        assert_eq!(output.status.code(), Some(1), "{name}, {expected}: {text}");
        assert!(text.contains(expected), "{name}, {expected}: {text}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.starts_with("odradek: ") && stderr.lines().count() == 1, "{stderr}");
    }
    assert!(content(directory.path()) == before, "{name}: changed");
}

#[test]
fn what_is_wrong_is_found() {
    let size = batch(0, 1).len();
    check(SEGMENT, |bytes| bytes[size * 4 - 3] ^= 1, "offset 3: the CRC is");
    check(SEGMENT, |bytes| bytes[size * 4 + 16] = 9, "are no batch: message format 9");
    check(SEGMENT, |bytes| bytes.truncate(size * 10 - 1), "are no batch: a batch of");
    check(SEGMENT, |bytes| bytes.resize(size * 10 + 4096, 0), "4096 zeros at position");
    check(SEGMENT, |bytes| bytes.extend(batch(5, 1)), "follows offset 10");
    check(SEGMENT, |bytes| bytes.extend(batch(10, 0)), "has epoch 0 after 1");
    check(SEGMENT, |bytes| bytes.extend(batch(10, 2)), "leader-epoch-checkpoint says 1");
    check(SEGMENT, Vec::clear, "the log does not reach it");
    check(INDEX, |bytes| bytes[7] ^= 1, ".index: offset 3 at position");
    check(INDEX, |bytes| bytes[3] = 2, "no batch from there on ends at that offset");
    check(INDEX, |bytes| bytes.rotate_left(8), "the entries do not rise");
    check(INDEX, |bytes| bytes.push(1), "bytes at its end are no entry");
    check(TIME_INDEX, |bytes| bytes[7] ^= 1, "is not that of a batch");
    check(EPOCHS, |bytes| bytes[0] = b'x', "not understood");
    check(EPOCHS, |bytes| *bytes = b"0\n1\n3 0\n".to_vec(), "leader-epoch-checkpoint says 3");
    check(RECOVERY_POINTS, |bytes| *bytes = b"0\n1\ntopic 0 11\n".to_vec(), "the log ends at 10");
    check("topic-0/partition.metadata", Vec::clear, "not understood");
    check("meta.properties", |bytes| bytes.truncate(10), "node.id is missing");
    check(".kafka_cleanshutdown", Vec::clear, "not understood");
}

#[test]
fn bytes_that_mean_nothing_are_told_of_and_bounded() {
    let directory = sound();
    let mut state = 1u64;
    let mut noise = |length: usize| -> Vec<u8> {
        (0..length)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                state.to_be_bytes()[0]
            })
            .collect()
    };
    let names = [
        SEGMENT,
        INDEX,
        TIME_INDEX,
        EPOCHS,
        RECOVERY_POINTS,
        "meta.properties",
        ".kafka_cleanshutdown",
        "topic-0/00000000000000000000.txnindex",
        "topic-0/00000000000000000000.snapshot",
        "topic-0/00000000000000000000-0000000000.checkpoint",
        "topic-0/quorum-state",
        "topic-0/partition.metadata",
    ];
    for name in names {
        fs::write(directory.path().join(name), noise(5000)).unwrap();
    }
    let (output, text) = log(&["dump", "--records"], directory.path());
    assert_eq!(output.status.code(), Some(1), "{text}");
    for name in names {
        let heading = format!("{}\n", directory.path().join(name).display());
        let after = text.split(&heading).nth(1).unwrap_or_else(|| panic!("no {name}: {text}"));
        assert!(after.contains("PROBLEM"), "{name}: {after}");
    }
    let (output, _) = log(&["dump"], &directory.path().join("not-there"));
    assert_eq!(output.status.code(), Some(1));
}
