//! The thirteen damages that Apache Kafka 4.4 was tried with, on our side; docs/STORAGE.md has the
//! table, with what Apache Kafka makes of each. Every case is tried after a clean stop, after none
//! with all of the log below the durable mark, and after none with no mark at all.

use super::{
    damage::{disk_with_records, end_of, value},
    *,
};
use crate::ReadError;

const DIRECTORY: &str = "/data/topic-0";
const RECORDS: i64 = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Clean,
    /// The checkpoint names the end of the log.
    Marked,
    /// Nothing is known to be durable.
    Unmarked,
}

const STOPS: [Stop; 3] = [Stop::Clean, Stop::Marked, Stop::Unmarked];

fn file(suffix: &str) -> String {
    format!("{DIRECTORY}/{:020}.{suffix}", 0)
}

fn remove_all(disk: &SharedDisk, suffixes: &[&str]) {
    for name in disk.names(DIRECTORY) {
        if suffixes.iter().any(|suffix| name.ends_with(suffix)) {
            disk.remove(&format!("{DIRECTORY}/{name}"));
        }
    }
}

/// Makes a file, durably.
fn put(disk: &SharedDisk, path: String, content: &[u8]) {
    let content = content.to_vec();
    disk.run(move |runtime| async move {
        runtime.replace_file(Path::new(&path), content).await.unwrap();
    });
}

/// A batch as a leader of this epoch has it at this offset.
fn batch_at(offset: i64, epoch: i32) -> Vec<u8> {
    let mut builder = RecordBatchBuilder::new(BatchOptions {
        base_offset: Offset(offset),
        leader_epoch: LeaderEpoch(epoch),
        ..BatchOptions::default()
    });
    let value = value(usize::try_from(offset).unwrap());
    let timestamp = TimestampMs(NOW);
    builder.append(&NewRecord { timestamp, key: None, value: Some(&value), headers: &[] });
    builder.build().to_vec()
}

/// Puts bytes behind the last batch, where a stop without cutting leaves zeros.
fn put_behind(disk: &SharedDisk, behind: &[u8]) {
    disk.damage(&file("log"), |bytes| {
        let end = end_of(bytes);
        bytes.truncate(end);
        bytes.extend_from_slice(behind);
    });
}

/// What a start makes of it: which offsets are served, whether appends go on, what was cut off.
fn outcome(disk: &SharedDisk) -> String {
    disk.run(|runtime| async move {
        let opened = match open(&runtime, small_config(), StorageOptions::default()).await {
            Ok(opened) => opened,
            Err(error) => return format!("refused: {error}"),
        };
        let up_to = opened.log.high_watermark();
        let mut from = Offset::ZERO;
        let mut damaged = "";
        while from < up_to {
            match opened.log.read(from, 1, FirstBatch::Whole, up_to).await {
                Ok(read) => from = read.next_offset,
                Err(ReadError::Damaged(_)) => {
                    damaged = ", damage behind";
                    break;
                }
                Err(error) => return format!("at {from}: {error}"),
            }
        }
        let options = AppendOptions { leader_epoch: LeaderEpoch(9), ..options(NOW) };
        let appended = match opened.log.append(&batch_of(&[vec![1]]), &options) {
            Ok(appended) => format!("next {}", appended.base_offset),
            Err(_) => "no appends".to_owned(),
        };
        let cut = if opened.report.cut_bytes > 0 { ", cut" } else { "" };
        format!("served to {from}{damaged}, {appended}{cut}")
    })
}

fn check(name: &str, change: impl Fn(&SharedDisk), expected: [&str; 3]) {
    for (stop, expected) in STOPS.into_iter().zip(expected) {
        let disk = disk_with_records(stop == Stop::Clean, small_config());
        if stop == Stop::Unmarked {
            disk.remove("/data/recovery-point-offset-checkpoint");
        }
        change(&disk);
        assert_eq!(outcome(&disk), expected, "{name}, {stop:?}");
    }
}

#[test]
fn apache_kafkas_thirteen_damages_have_the_stated_outcomes() {
    let whole = ["served to 40, next 40"; 3];
    let longer = ["served to 41, next 41"; 3];
    let cut = ["served to 40, next 40, cut"; 3];
    let valid = batch_at(RECORDS, 1);
    let indexes = [".index", ".timeindex"];
    check("a batch appended", |disk| put_behind(disk, &valid), longer);
    let appended_without_index = |disk: &SharedDisk| {
        put_behind(disk, &valid);
        remove_all(disk, &indexes);
    };
    check("a batch appended, no indexes", appended_without_index, longer);
    let derived = |disk: &SharedDisk| remove_all(disk, &[".index", ".timeindex", ".snapshot"]);
    check("no indexes and no snapshot", derived, whole);
    let segment = |disk: &SharedDisk| {
        put_behind(disk, &[]);
        put(disk, format!("{DIRECTORY}/{RECORDS:020}.log"), &valid);
    };
    check("another segment", segment, longer);
    let zeros = vec![0; 64 << 10];
    check("a tail of zeros", |disk| put_behind(disk, &zeros), whole);
    let zeros_without_index = |disk: &SharedDisk| {
        put_behind(disk, &zeros);
        remove_all(disk, &indexes);
    };
    check("a tail of zeros, no indexes", zeros_without_index, whole);
    check("half a batch", |disk| put_behind(disk, &valid[..valid.len() / 2]), cut);
    let last_flipped = |disk: &SharedDisk| {
        disk.damage(&file("log"), |bytes| {
            let last = end_of(bytes) - 20;
            bytes[last] ^= 1;
        });
    };
    let damaged = "served to 39, damage behind, no appends";
    check("the last batch changed", last_flipped, [damaged, damaged, "served to 39, next 39, cut"]);
    let mut wrong = valid.clone();
    *wrong.last_mut().unwrap() ^= 1;
    check("a batch with a wrong CRC appended", |disk| put_behind(disk, &wrong), cut);
    let preallocated = |disk: &SharedDisk| {
        for suffix in ["index", "timeindex"] {
            put(disk, file(suffix), &[0; 120_000]);
        }
    };
    check("indexes full of zeros", preallocated, whole);
    let epochs = |disk: &SharedDisk| remove_all(disk, &["leader-epoch-checkpoint"]);
    check("no leader epochs", epochs, whole);
    check("a gap of offsets", |disk| put_behind(disk, &batch_at(RECORDS + 5, 1)), cut);
    check("a later leader epoch", |disk| put_behind(disk, &batch_at(RECORDS, 7)), longer);
}

#[test]
fn a_partition_without_its_metadata_is_of_no_topic() {
    for stop in STOPS {
        let disk = disk_with_records(stop == Stop::Clean, small_config());
        disk.remove(&format!("{DIRECTORY}/partition.metadata"));
        disk.run(|runtime| async move {
            let path = Path::new("/data");
            let directory = LogDirectory::look(&runtime, path, OpenMode::MustExist).await.unwrap();
            // The broker gives the directory another name, and removes nothing.
            assert_eq!(directory.partitions()[0].topic_id, None);
        });
    }
}
