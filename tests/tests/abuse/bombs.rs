//! Small batches that hold much: when they are produced, and when they are compacted.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use model::{
    compression::Compressor,
    record_batch::{BatchOptions, Compression, NewRecord, RecordBatchBuilder, position},
};
use tests::{
    broker_process::{BrokerProcess, PATIENCE},
    raw_client::{RawClient, decoded},
};
use wire::{
    create_topics_request::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest},
    create_topics_response::CreateTopicsResponse,
};

use super::{DRIVERS, MIB, scaled};

const CODECS: [(Compression, u8); 4] = [
    (Compression::Gzip, 1),
    (Compression::Snappy, 2),
    (Compression::Lz4, 3),
    (Compression::Zstd, 4),
];
/// Beside what is there already: 45 to 70 MiB were seen, of bombs of 128.
const GROWTH_MAX: u64 = 96 * MIB;
/// What a batch may have on the wire.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// More than is kept in memory of the newest records.
const WARM_BATCHES: i64 = 50;

fn varint(mut value: u64, target: &mut Vec<u8>) {
    value <<= 1;
    while value >= 0x80 {
        target.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    target.push(u8::try_from(value).unwrap());
}

/// A sound batch with one record, whose value is as many zeros as the codec puts into a batch, up
/// to `size`. Its bytes and how many zeros.
fn bomb(codec: Compression, bits: u8, size: usize) -> (Vec<u8>, usize) {
    let mut size = size;
    loop {
        let mut head = vec![0, 0, 0];
        varint(1, &mut head);
        head.push(b'k');
        varint(u64::try_from(size).unwrap(), &mut head);
        let mut record = Vec::new();
        // And the number of headers.
        varint(u64::try_from(head.len() + size + 1).unwrap(), &mut record);
        record.extend(head);
        let mut compressor = Compressor::new(codec);
        compressor.write(&record);
        let zeros = vec![0; 1 << 20];
        let mut left = size + 1;
        while left > 0 {
            let step = left.min(zeros.len());
            compressor.write(&zeros[..step]);
            left -= step;
        }
        let payload = compressor.finish();
        if payload.len() + model::record_batch::HEADER_BYTES > BATCH_BYTES_MAX {
            size /= 2;
            continue;
        }
        let mut plain = RecordBatchBuilder::new(BatchOptions::default());
        plain.append(&NewRecord { value: Some(b""), ..Default::default() });
        let mut bytes = plain.build()[..model::record_batch::HEADER_BYTES].to_vec();
        bytes.extend(payload);
        let length = i32::try_from(bytes.len() - position::PARTITION_LEADER_EPOCH).unwrap();
        put(&mut bytes, position::BATCH_LENGTH, &length.to_be_bytes());
        put(&mut bytes, position::ATTRIBUTES, &[0, bits]);
        let crc = crc32c::crc32c(&bytes[position::ATTRIBUTES..]);
        put(&mut bytes, position::CRC, &crc.to_be_bytes());
        return (bytes, size);
    }
}

fn put(bytes: &mut [u8], at: usize, field: &[u8]) {
    bytes[at..at + field.len()].copy_from_slice(field);
}

fn create(client: &mut RawClient, name: &str, settings: &[(&str, &str)]) {
    let configs = settings
        .iter()
        .map(|(name, value)| CreatableTopicConfig { name, value: Some(value) })
        .collect();
    let topic = CreatableTopic {
        name,
        num_partitions: 1,
        replication_factor: 1,
        configs,
        ..Default::default()
    };
    let answer = client.ask(7, &CreateTopicsRequest { topics: vec![topic], ..Default::default() });
    let response: CreateTopicsResponse<'_> = decoded::<CreateTopicsRequest<'_>, _>(&answer, 7);
    assert_eq!(response.topics[0].error_code, 0, "{:?}", response.topics[0].error_message);
}

/// The broker's largest memory while something is done.
struct Peak {
    stop: Arc<AtomicBool>,
    bytes: Arc<AtomicU64>,
    thread: thread::JoinHandle<()>,
}

impl Peak {
    fn watch(resident: impl Fn() -> u64 + Send + 'static) -> Peak {
        let (stop, bytes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, most) = (Arc::clone(&stop), Arc::clone(&bytes));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                most.fetch_max(resident(), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(2));
            }
        });
        Peak { stop, bytes, thread }
    }

    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.bytes.load(Ordering::Relaxed)
    }
}

#[test]
fn bombs_cost_little_when_produced_and_compacted() {
    let bombs: Vec<(Compression, Vec<u8>, usize)> = CODECS
        .into_iter()
        .map(|(codec, bits)| {
            let (bytes, size) = bomb(codec, bits, scaled(128 << 20).min(1 << 30));
            (codec, bytes, size)
        })
        .collect();
    for driver in DRIVERS {
        let mut broker = BrokerProcess::start(
            driver,
            &["log.cleaner.backoff.ms=100", "log.retention.check.interval.ms=100"],
        );
        let mut client = RawClient::connect(broker.address());
        let small = ("max.decompressed.message.bytes", "1000000");
        create(&mut client, "bounded", &[small]);
        // Every batch is in a segment of its own, and compacted as soon as there is another.
        let compact = ("cleanup.policy", "compact");
        let settings =
            [compact, ("segment.bytes", "1048576"), ("min.cleanable.dirty.ratio", "0.001")];
        create(&mut client, "compacted", &settings);
        client.create_topic("good");
        // The newest records of a broker in use are in memory.
        for offset in 0..WARM_BATCHES {
            assert_eq!(client.produce("good", &keyed(700_000)), (0, offset), "{driver}");
        }
        let before = broker.resident_bytes();
        let peak = Peak::watch(broker.resident_bytes_reader());
        let mut next = 0;
        for (codec, bytes, size) in &bombs {
            // Refused where so much is not allowed, and taken elsewhere.
            assert_eq!(client.produce("bounded", bytes), (87, -1), "{driver}: {codec:?}");
            let began = Instant::now();
            assert_eq!(client.produce("compacted", bytes), (0, next), "{driver}: {codec:?}");
            next += 1;
            println!(
                "{driver}: {codec:?}: {} KiB that are {} MiB, checked in {:.1?}, at most {} MiB more",
                bytes.len() >> 10,
                size >> 20,
                began.elapsed(),
                peak.bytes.load(Ordering::Relaxed).saturating_sub(before) / MIB,
            );
            for _ in 0..2 {
                // Plain ones of the same key, which fill and end the segment.
                assert_eq!(client.produce("compacted", &keyed(700_000)), (0, next), "{driver}");
                next += 1;
            }
        }
        // All but the newest records of the key go, but for the bombs: those are not looked into.
        let deadline = Instant::now() + PATIENCE;
        let directory = broker.data_dir().join("compacted-0");
        let size = || -> u64 {
            let files = fs::read_dir(&directory).unwrap();
            files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum()
        };
        let full = u64::try_from(bombs.len()).unwrap() * 1_400_000;
        while size() >= full {
            assert!(Instant::now() < deadline, "{driver}: {} bytes are left", size());
            thread::sleep(Duration::from_millis(20));
        }
        let grown = peak.end().saturating_sub(before);
        println!("{driver}: at most {} MiB more, {} bytes left of {full}", grown / MIB, size());
        assert!(grown < GROWTH_MAX, "{driver}: {} MiB", grown / MIB);
        assert_eq!(client.produce("good", &keyed(1)), (0, WARM_BATCHES), "{driver}");
        broker.check_sound();
    }
}

fn keyed(bytes: usize) -> Vec<u8> {
    let mut builder = RecordBatchBuilder::new(BatchOptions::default());
    let value = vec![7; bytes];
    builder.append(&NewRecord { key: Some(b"k"), value: Some(&value), ..Default::default() });
    builder.build().to_vec()
}
