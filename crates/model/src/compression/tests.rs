use super::*;
use crate::record_batch::{RecordBatch, Records};

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

/// The same 300 records as Apache Kafka's Java client 4.4.0 wrote them with each codec.
const OF_KAFKA: [&[u8]; 5] = [
    include_bytes!("../../tests/data/none.batch"),
    include_bytes!("../../tests/data/gzip.batch"),
    include_bytes!("../../tests/data/snappy.batch"),
    include_bytes!("../../tests/data/lz4.batch"),
    include_bytes!("../../tests/data/zstd.batch"),
];

fn noise(length: usize) -> Vec<u8> {
    let mut state = 7u64;
    let mut step = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        u8::try_from(state >> 56).unwrap()
    };
    (0..length).map(|_| step()).collect()
}

#[test]
fn batches_of_kafkas_client_are_read() {
    let plain = RecordBatch::first(OF_KAFKA[0]).unwrap();
    for (codec, bytes) in CODECS.into_iter().zip(OF_KAFKA) {
        let batch = RecordBatch::first(bytes).unwrap();
        batch.verify_crc().unwrap();
        assert_eq!(batch.compression(), codec);
        let payload = decompress(codec, batch.payload(), 1 << 20).unwrap();
        assert!(payload == plain.payload(), "{codec:?}");
        let records: Vec<_> =
            Records::of_decompressed(&payload, batch.record_count()).map(Result::unwrap).collect();
        assert_eq!(records.len(), 300);
        assert_eq!(records[8].key, Some(b"key-1".as_slice()));
        assert_eq!(records[9].value, None);
        assert_eq!(batch.timestamp_of(&records[299]).0, 1_700_000_000_299);
        let headers: Vec<_> = records[5].headers().map(|header| header.value).collect();
        assert_eq!(headers, [Some([5].as_slice()), None]);
    }
}

#[test]
fn what_is_compressed_comes_out_again_in_pieces_of_any_size() {
    for codec in CODECS {
        for content in [vec![], vec![7; 200_000], noise(100_000), b"x".to_vec()] {
            let mut compressor = Compressor::new(codec);
            for piece in content.chunks(10_007) {
                compressor.write(piece);
            }
            let compressed = compressor.finish();
            assert!(decompress(codec, &compressed, content.len()).unwrap() == content);
            let mut decompressor = Decompressor::new(codec, &compressed, content.len()).unwrap();
            let mut target = b"before".to_vec();
            while decompressor.read(&mut target, 999).unwrap() > 0 {}
            assert!(target[6..] == content, "{codec:?}");
        }
    }
}

#[test]
fn every_level_that_a_topic_can_have_gives_a_stream() {
    let content = [noise(3000), vec![9; 30_000]].concat();
    let plain_bytes = u64::try_from(content.len()).ok();
    for (codec, levels) in [
        (Compression::Gzip, [OWN_LEVEL, 1, 9]),
        (Compression::Zstd, [-131_072, 0, 22]),
        (Compression::Lz4, [1, 9, 17]),
    ] {
        for level in levels {
            let mut compressor = Compressor::at_level(Target { codec, level, plain_bytes });
            compressor.write(&content);
            let compressed = compressor.finish();
            assert!(decompress(codec, &compressed, content.len()).unwrap() == content, "{level}");
        }
    }
}

#[test]
fn a_bomb_costs_no_more_than_the_limit() {
    let zeros = vec![0; 4 << 20];
    for codec in CODECS {
        let bomb = compress(codec, &zeros);
        for max in [0, 1, 100_000, (4 << 20) - 1] {
            let mut decompressor = Decompressor::new(codec, &bomb, max).unwrap();
            let mut target = Vec::new();
            let error = loop {
                match decompressor.read(&mut target, STEP_BYTES) {
                    Ok(count) => assert!(count > 0, "{codec:?} {max}"),
                    Err(error) => break error,
                }
                assert!(target.len() <= max);
            };
            assert!(matches!(error, CompressionError::TooLarge { .. }), "{codec:?} {max}");
            assert!(target.capacity() <= 2 * max + 2 * STEP_BYTES, "{codec:?} {max}");
        }
        assert_eq!(decompress(codec, &bomb, 4 << 20).unwrap().len(), 4 << 20);
    }
}

#[test]
fn lengths_that_lie_reserve_nothing() {
    // A raw snappy block, and one in xerial's framing, that claim 4 GiB - 1.
    let raw = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0];
    let mut framed = XERIAL_MAGIC.to_vec();
    framed.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 7]);
    framed.extend_from_slice(&raw);
    let malformed = Err(CompressionError::Malformed(Compression::Snappy));
    assert_eq!(decompress(Compression::Snappy, &raw, usize::MAX >> 1), malformed);
    assert_eq!(decompress(Compression::Snappy, &framed, usize::MAX >> 1), malformed);
    framed[XERIAL_HEADER_BYTES..XERIAL_HEADER_BYTES + 4].copy_from_slice(&[0xff; 4]);
    assert_eq!(decompress(Compression::Snappy, &framed, 1 << 20), malformed);
}

#[test]
fn a_raw_snappy_block_is_read() {
    let content = [noise(5000), vec![3; 5000]].concat();
    let raw = snap::raw::Encoder::new().compress_vec(&content).unwrap();
    assert!(decompress(Compression::Snappy, &raw, 10_000).unwrap() == content);
}

#[test]
fn truncated_and_mutated_streams_end_in_an_error_or_in_bytes() {
    let content = [noise(3000), vec![9; 3000]].concat();
    for codec in CODECS.into_iter().skip(1) {
        let whole = compress(codec, &content);
        for length in 0..whole.len() {
            let outcome = decompress(codec, &whole[..length], 1 << 20);
            // An LZ4 frame of which nothing but the end mark is missing is taken.
            let is_all_there = codec == Compression::Lz4 && length + 4 >= whole.len();
            assert!(is_all_there || outcome != Ok(content.clone()), "{codec:?} {length}");
        }
        let mut state = 1u64;
        for _ in 0..1000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let mut mutated = whole.clone();
            let at = usize::try_from(state >> 33).unwrap() % mutated.len();
            mutated[at] ^= 1 << (state & 7);
            if let Ok(bytes) = decompress(codec, &mutated, 10_000) {
                assert!(bytes.len() <= 10_000);
            }
        }
    }
}
