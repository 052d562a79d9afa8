use super::*;
use crate::{LeaderEpoch, Offset, TimestampMs};

/// A batch of `values`, one record each.
fn batch_of(values: &[&[u8]]) -> Vec<u8> {
    let mut builder = RecordBatchBuilder::new(BatchOptions {
        base_offset: Offset(7),
        leader_epoch: LeaderEpoch(3),
        ..BatchOptions::default()
    });
    for value in values {
        builder.append(&NewRecord {
            timestamp: TimestampMs(1000 + i64::from(builder.record_count())),
            key: Some(b"key"),
            value: Some(value),
            headers: &[("null", None), ("name", Some(b"header"))],
        });
    }
    builder.build().to_vec()
}

fn check_all(bytes: &[u8]) -> Result<(), BatchError> {
    for batch in batches(bytes) {
        let batch = batch?;
        batch.verify_crc()?;
        batch.check_counts(Counts::Dense)?;
        batch.check_records(Counts::Dense)?;
    }
    Ok(())
}

fn with_right_crc(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c(&bytes[position::ATTRIBUTES..]);
    bytes[position::CRC..position::CRC + 4].copy_from_slice(&crc.to_be_bytes());
    bytes
}

#[test]
fn what_is_built_is_read_back() {
    let bytes = batch_of(&[b"a", b"", &[9; 300]]);
    check_all(&bytes).unwrap();
    let batch = RecordBatch::first(&bytes).unwrap();
    assert_eq!(batch.base_offset(), Offset(7));
    assert_eq!(batch.last_offset(), Offset(9));
    assert_eq!(batch.leader_epoch(), LeaderEpoch(3));
    assert_eq!(batch.base_timestamp(), TimestampMs(1000));
    assert_eq!(batch.max_timestamp(), TimestampMs(1002));
    assert_eq!(batch.compression(), Compression::None);
    let records: Vec<_> = batch.records().map(Result::unwrap).collect();
    assert_eq!(records[2].value.unwrap().len(), 300);
    assert_eq!(records[2].timestamp_delta, 2);
    let headers: Vec<_> = records[1].headers().collect();
    assert_eq!(headers[0], Header { key: b"null", value: None });
    assert_eq!(headers[1], Header { key: b"name", value: Some(b"header") });
}

#[test]
fn the_bytes_are_kafkas() {
    // One record, no key, value "x", timestamp 0: written out by hand from the format.
    let mut builder = RecordBatchBuilder::new(BatchOptions::default());
    builder.append(&NewRecord {
        timestamp: TimestampMs(0),
        value: Some(b"x"),
        ..NewRecord::default()
    });
    let bytes = builder.build();
    assert_eq!(bytes[8..12], 57i32.to_be_bytes());
    assert_eq!(bytes[16], 2);
    assert_eq!(bytes[HEADER_BYTES..], [14, 0, 0, 0, 1, 2, b'x', 0]);
}

#[test]
fn truncation_at_every_byte_is_refused() {
    let bytes = batch_of(&[b"a", b"bc"]);
    for length in 1..bytes.len() {
        let error = check_all(&bytes[..length]).unwrap_err();
        assert!(matches!(error, BatchError::Truncated { .. }), "{length}: {error}");
    }
}

#[test]
fn every_flipped_bit_under_the_crc_is_found() {
    let bytes = batch_of(&[b"a", b"bc"]);
    for position in position::CRC..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[position] ^= 1 << bit;
            assert!(check_all(&flipped).is_err(), "byte {position} bit {bit}");
        }
    }
}

#[test]
fn lies_under_a_right_crc_are_refused() {
    let bytes = batch_of(&[b"a", b"bc"]);
    let patched = |at: usize, field: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + field.len()].copy_from_slice(field);
        with_right_crc(bytes)
    };
    let cases: [(&str, Vec<u8>); 10] = [
        ("magic 1", patched(position::MAGIC, &[1])),
        ("codec 5", patched(position::ATTRIBUTES, &5i16.to_be_bytes())),
        ("last offset delta", patched(position::LAST_OFFSET_DELTA, &7i32.to_be_bytes())),
        ("negative delta", patched(position::LAST_OFFSET_DELTA, &(-1i32).to_be_bytes())),
        ("count above", patched(position::RECORD_COUNT, &3i32.to_be_bytes())),
        ("count bomb", patched(position::RECORD_COUNT, &i32::MAX.to_be_bytes())),
        ("negative count", patched(position::RECORD_COUNT, &(-1i32).to_be_bytes())),
        ("negative offset", patched(position::BASE_OFFSET, &(-1i64).to_be_bytes())),
        ("offset overflow", patched(position::BASE_OFFSET, &i64::MAX.to_be_bytes())),
        ("record length", patched(HEADER_BYTES, &[0x7f])),
    ];
    for (name, bytes) in cases {
        assert!(check_all(&bytes).is_err(), "{name}");
    }
}

#[test]
fn lying_lengths_are_refused() {
    for length in [i32::MIN, -1, 0, 48, i32::MAX] {
        let mut bytes = batch_of(&[b"a"]);
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        assert!(check_all(&bytes).is_err(), "{length}");
    }
}

#[test]
fn mutated_records_never_panic_and_are_walked_to_an_end() {
    let bytes = batch_of(&[b"abc", b"d", &[1; 200]]);
    let mut state = 1u64;
    for _ in 0..20_000 {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let mut mutated = bytes.clone();
        let at =
            HEADER_BYTES + usize::try_from(state >> 33).unwrap() % (bytes.len() - HEADER_BYTES);
        mutated[at] = u8::try_from(state >> 24 & 0xff).unwrap();
        let mutated = with_right_crc(mutated);
        for record in RecordBatch::first(&mutated).unwrap().records().flatten() {
            assert!(record.headers().count() <= bytes.len());
        }
    }
}

#[test]
fn compaction_may_leave_gaps_that_a_producer_may_not() {
    let mut bytes = batch_of(&[b"a", b"b"]);
    bytes[position::LAST_OFFSET_DELTA..position::LAST_OFFSET_DELTA + 4]
        .copy_from_slice(&5i32.to_be_bytes());
    let bytes = with_right_crc(bytes);
    let batch = RecordBatch::first(&bytes).unwrap();
    assert!(batch.check_counts(Counts::Dense).is_err());
    assert_eq!(batch.check_counts(Counts::Sparse), Ok(()));
    assert_eq!(batch.check_records(Counts::Sparse), Ok(()));
}

#[test]
fn control_types_round_trip() {
    for control in [ControlType::Abort, ControlType::Commit, ControlType::Voters] {
        assert_eq!(ControlType::from_key(&control.key()), Some(control));
    }
    assert_eq!(ControlType::from_key(&[0, 0, 0]), None);
    assert_eq!(ControlType::from_key(&[0, 0, 0, 99]), None);
}

/// `plain` records, compressed, under the header of `batch`.
fn compressed(batch: &[u8], codec: Compression, plain: &[u8]) -> Vec<u8> {
    let mut bytes = batch[..HEADER_BYTES].to_vec();
    bytes.extend_from_slice(&crate::compression::compress(codec, plain));
    let number = match codec {
        Compression::None => 0u8,
        Compression::Gzip => 1,
        Compression::Snappy => 2,
        Compression::Lz4 => 3,
        Compression::Zstd => 4,
    };
    bytes[position::ATTRIBUTES + 1] = number;
    let length = i32::try_from(bytes.len() - PREFIX_BYTES).unwrap();
    bytes[position::BATCH_LENGTH..position::BATCH_LENGTH + 4]
        .copy_from_slice(&length.to_be_bytes());
    with_right_crc(bytes)
}

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

fn scanned(bytes: &[u8], max: usize) -> Result<(Vec<RecordHead>, usize), BatchError> {
    let batch = RecordBatch::first(bytes)?;
    let mut scan = RecordScan::new(batch, Counts::Dense, max)?;
    let mut heads = Vec::new();
    let see = |heads: &mut Vec<RecordHead>, head| {
        heads.push(head);
        Progress::More
    };
    while scan.step(|head| see(&mut heads, head))? == Progress::More {}
    Ok((heads, scan.bytes()))
}

#[test]
fn a_scan_sees_every_record_with_any_codec_and_takes_no_more_memory_than_a_piece() {
    // Records that lie across the pieces, and one that is longer than several.
    let long = vec![b'x'; 1 << 20];
    let values: Vec<&[u8]> = (0..3000)
        .map(|index| if index == 1500 { &long[..] } else { &long[..index % 90] })
        .collect();
    let batch = batch_of(&values);
    let expected: Vec<RecordHead> = (0..3000)
        .map(|index| RecordHead {
            index,
            offset: Offset(7 + i64::from(index)),
            timestamp: TimestampMs(1000 + i64::from(index)),
            has_key: true,
        })
        .collect();
    for codec in CODECS {
        let bytes = compressed(&batch, codec, &batch[HEADER_BYTES..]);
        let (heads, count) = scanned(&bytes, usize::MAX - 1).unwrap();
        assert!(heads == expected, "{codec:?}");
        assert_eq!(count, batch.len() - HEADER_BYTES);
        let mut scan =
            RecordScan::new(RecordBatch::first(&bytes).unwrap(), Counts::Dense, 2 << 20).unwrap();
        let mut largest = 0;
        while scan.step(|_| Progress::More).unwrap() == Progress::More {
            largest = largest.max(scan.buffered());
        }
        assert!(largest <= 80 << 10, "{codec:?}: {largest}");
        let error = scanned(&bytes, 1 << 20).unwrap_err();
        assert!(matches!(error, BatchError::Undecodable(_)), "{codec:?}: {error}");
    }
}

#[test]
fn a_scan_refuses_what_a_walk_refuses() {
    let batch = batch_of(&[b"some", b"records", b"are here"]);
    let plain = &batch[HEADER_BYTES..];
    let mut refused = 0;
    for at in 0..plain.len() {
        for bit in 0..8 {
            let mut changed = plain.to_vec();
            changed[at] ^= 1 << bit;
            let walked = compressed(&batch, Compression::None, &changed);
            let is_sound = check_all(&walked).is_ok();
            refused += usize::from(!is_sound);
            let bytes = compressed(&batch, Compression::Lz4, &changed);
            assert_eq!(scanned(&bytes, 1 << 20).is_ok(), is_sound, "byte {at}, bit {bit}");
        }
    }
    assert!(refused > 100, "{refused}");
    for length in 0..plain.len() {
        let bytes = compressed(&batch, Compression::Zstd, &plain[..length]);
        assert!(scanned(&bytes, 1 << 20).is_err(), "{length} bytes");
    }
}

#[test]
fn a_summary_leaves_out_what_has_no_time() {
    let mut summary = RecordSummary::EMPTY;
    for (time, has_key) in [(-1, true), (5, true), (9, true), (7, true)] {
        summary.add(TimestampMs(time), has_key);
    }
    assert_eq!((summary.oldest, summary.newest), (TimestampMs(5), TimestampMs(9)));
    assert!(summary.are_all_keyed);
    summary.add(TimestampMs(-1), false);
    assert_eq!((summary.oldest, summary.are_all_keyed), (TimestampMs(5), false));
}
