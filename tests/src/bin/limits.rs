//! What a broker could cost at the least, for tests/bench/peers.py: three loops that do one thing,
//! under the same load as the brokers.
//!
//!   limits --listen HOST:PORT --mode null           acknowledges at once: the client's own ceiling
//!   limits --listen HOST:PORT --mode write --file F receives, checks each batch's CRC, writes
//!                                                   `O_DIRECT`, syncs, and then acknowledges
//!   limits --listen HOST:PORT --mode send           answers each fetch with as many records as it
//!                                                   wants, from 256 MiB of memory
//!
//! The writing loop is one thread: a receive of up to 1 MiB straight into the buffer that is
//! written, the CRC, one write, one fdatasync. What it writes was zeroed and synced before, 8 MiB at
//! a time, as the broker does. `--file` has its space already and is as large as the load.
//! Spoken is what librdkafka needs to load one partition: ApiVersions, Metadata, Produce,
//! `ListOffsets` and Fetch, each in one old version, with one batch in a Produce. Prints `ready`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool reports so")]

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Error, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::{FileExt, OpenOptionsExt},
    process::ExitCode,
    sync::{Arc, Mutex},
    thread,
};

use tests::raw_client::batch;

const BLOCK_BYTES: usize = 4096;
const CHUNK_BYTES: usize = 1 << 20;
/// Zeroed and synced at a time, as the broker's longest stretch.
const STRETCH_BYTES: u64 = 8 << 20;
/// The part of a request that is looked at: it holds everything in front of the records.
const PREFIX_BYTES: usize = 512;
/// More is no request of a load generator.
const REQUEST_BYTES_MAX: usize = 64 << 20;
const BATCH_HEADER_BYTES: usize = 61;
/// Where a batch's CRC is, and where what it covers begins.
const CRC_POSITION: usize = 17;
const CHECKED_FROM: usize = 21;
const SENT_BUFFERS: usize = 256;
/// Records of 1 KiB in a batch of 128 KiB.
const BATCH_RECORDS: i64 = 120;
/// Room in front of the records for the head of a Fetch answer.
const HEAD_ROOM_BYTES: usize = 512;
/// The end of the log that is sent from; nobody reads so far.
const HIGH_WATERMARK: i64 = 1 << 40;

const PRODUCE: i16 = 0;
const FETCH: i16 = 1;
const LIST_OFFSETS: i16 = 2;
const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;
/// Key and newest version. The oldest is 0, which tells librdkafka that it may use the newest.
const SPOKEN: [(i16, i16); 5] =
    [(PRODUCE, 7), (FETCH, 4), (LIST_OFFSETS, 1), (METADATA, 1), (API_VERSIONS, 3)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Null,
    Write,
    Send,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("limits: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let given: BTreeMap<&str, &str> =
        words.chunks_exact(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect();
    let listen = *given.get("--listen").ok_or_else(|| bad("--listen HOST:PORT is missing"))?;
    let mode = match given.get("--mode") {
        Some(&"null") => Mode::Null,
        Some(&"write") => Mode::Write,
        Some(&"send") => Mode::Send,
        _ => return Err(bad("--mode is null, write or send")),
    };
    let log = match (mode, given.get("--file")) {
        (Mode::Write, Some(path)) => Some(Log::open(path)?),
        (Mode::Write, None) => return Err(bad("--mode write needs a --file")),
        _ => None,
    };
    let log = Arc::new(Mutex::new(log));
    let listener = TcpListener::bind(listen)?;
    println!("ready {listen}");
    for stream in listener.incoming() {
        let (stream, log) = (stream?, Arc::clone(&log));
        thread::spawn(move || {
            let served = Connection::new(stream, mode).and_then(|mut it| it.serve(&log));
            if let Err(error) = served {
                eprintln!("limits: a connection: {error}");
            }
        });
    }
    Ok(())
}

fn bad(why: &str) -> Error {
    Error::new(io::ErrorKind::InvalidData, why)
}

/// Memory whose first byte is at a block's border, as `O_DIRECT` wants it.
struct Aligned {
    memory: Vec<u8>,
    start: usize,
    bytes: usize,
}

impl Aligned {
    fn new(bytes: usize) -> Aligned {
        let memory = vec![0; bytes + BLOCK_BYTES];
        let start = memory.as_ptr().align_offset(BLOCK_BYTES);
        Aligned { memory, start, bytes }
    }

    fn all(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.bytes]
    }
}

/// The file that is appended to: `end` is a block's border, `end <= vouched <= capacity`.
struct Log {
    file: File,
    end: u64,
    vouched: u64,
    capacity: u64,
    zeros: Aligned,
}

impl Log {
    fn open(path: &str) -> io::Result<Log> {
        let file = OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(path)?;
        let capacity = file.metadata()?.len() / STRETCH_BYTES * STRETCH_BYTES;
        Ok(Log { file, end: 0, vouched: 0, capacity, zeros: Aligned::new(CHUNK_BYTES) })
    }

    /// Writes whole blocks at the end, durably; `whole` bytes of them stay as they are.
    fn append(&mut self, blocks: &[u8], whole: usize) -> io::Result<()> {
        let until = self.end + blocks.len() as u64;
        while self.vouched < until {
            if self.vouched == self.capacity {
                return Err(bad("the file is full"));
            }
            let stop = self.vouched + STRETCH_BYTES;
            for position in (self.vouched..stop).step_by(CHUNK_BYTES) {
                self.file.write_all_at(self.zeros.all(), position)?;
            }
            self.file.sync_data()?;
            self.vouched = stop;
        }
        self.file.write_all_at(blocks, self.end)?;
        self.file.sync_data()?;
        self.end += whole as u64;
        Ok(())
    }
}

/// The request that is being received.
#[derive(Default)]
struct Request {
    size: Vec<u8>,
    length: usize,
    prefix: Vec<u8>,
    received: usize,
    produce: Option<Produce>,
}

/// What the head of a Produce said.
struct Produce {
    acks: i16,
    topic: Vec<u8>,
    partition: i32,
    crc: u32,
    running: u32,
    /// Where the batch ends in the request.
    end: usize,
}

struct Connection {
    stream: TcpStream,
    mode: Mode,
    request: Request,
    answers: Vec<u8>,
    next_offset: i64,
    sent: Vec<Vec<u8>>,
    sent_next: usize,
    batch_bytes: usize,
}

impl Connection {
    fn new(stream: TcpStream, mode: Mode) -> io::Result<Connection> {
        stream.set_nodelay(true)?;
        Ok(Connection {
            stream,
            mode,
            request: Request::default(),
            answers: Vec::new(),
            next_offset: 0,
            sent: Vec::new(),
            sent_next: 0,
            batch_bytes: 0,
        })
    }

    fn serve(&mut self, shared: &Mutex<Option<Log>>) -> io::Result<()> {
        let mut log: Option<Log> = None;
        let mut buffer = Aligned::new(CHUNK_BYTES + 2 * BLOCK_BYTES);
        // Bytes at the buffer's front that are the unfinished last block of the log.
        let mut tail = 0;
        loop {
            let space = buffer.all();
            let got = self.stream.read(&mut space[tail..tail + CHUNK_BYTES])?;
            if got == 0 {
                return Ok(());
            }
            let mut has_records = false;
            let mut rest = &space[tail..tail + got];
            while !rest.is_empty() {
                let (taken, is_records) = self.take(rest)?;
                has_records |= is_records;
                rest = &rest[taken..];
            }
            if self.mode == Mode::Write && has_records {
                if log.is_none() {
                    let mut unused = shared.lock().map_err(|_| bad("a thread died"))?;
                    log = unused.take();
                }
                let log = log.as_mut().ok_or_else(|| bad("one connection may write"))?;
                let filled = tail + got;
                let blocks = filled.next_multiple_of(BLOCK_BYTES);
                space[filled..blocks].fill(0);
                let whole = filled / BLOCK_BYTES * BLOCK_BYTES;
                log.append(&space[..blocks], whole)?;
                space.copy_within(whole..filled, 0);
                tail = filled - whole;
            }
            if !self.answers.is_empty() {
                self.stream.write_all(&self.answers)?;
                self.answers.clear();
            }
        }
    }

    /// Takes some of what came; returns how much, and whether it belonged to a Produce.
    fn take(&mut self, bytes: &[u8]) -> io::Result<(usize, bool)> {
        let request = &mut self.request;
        if request.size.len() < 4 {
            let taken = bytes.len().min(4 - request.size.len());
            request.size.extend_from_slice(&bytes[..taken]);
            if request.size.len() == 4 {
                let length = Fields(&request.size).i32()?;
                request.length = usize::try_from(length).map_err(|_| bad("a negative size"))?;
                if request.length > REQUEST_BYTES_MAX {
                    return Err(bad("a request is too large"));
                }
            }
            return Ok((taken, request.produce.is_some()));
        }
        let prefix_length = request.length.min(PREFIX_BYTES);
        if request.received < prefix_length {
            let taken = bytes.len().min(prefix_length - request.received);
            request.prefix.extend_from_slice(&bytes[..taken]);
            request.received += taken;
            if request.received == prefix_length {
                request.produce = parse_produce(&request.prefix, request.length)?;
            }
            return self.taken(taken);
        }
        let taken = bytes.len().min(request.length - request.received);
        if let (Mode::Write, Some(produce)) = (self.mode, request.produce.as_mut()) {
            let checked = taken.min(produce.end.saturating_sub(request.received));
            produce.running = crc32c::crc32c_append(produce.running, &bytes[..checked]);
        }
        request.received += taken;
        self.taken(taken)
    }

    fn taken(&mut self, taken: usize) -> io::Result<(usize, bool)> {
        let is_produce = self.request.produce.is_some();
        if self.request.received == self.request.length {
            let request = std::mem::take(&mut self.request);
            self.answer(&request)?;
        }
        Ok((taken, is_produce))
    }

    fn answer(&mut self, request: &Request) -> io::Result<()> {
        let mut fields = Fields(&request.prefix);
        let (key, version, correlation) = (fields.i16()?, fields.i16()?, fields.i32()?);
        let _client = fields.string()?;
        let mut body = Vec::new();
        match (key, &request.produce) {
            (PRODUCE, Some(produce)) => {
                if self.mode == Mode::Write && produce.running != produce.crc {
                    return Err(bad("a batch came with a wrong CRC"));
                }
                if produce.acks == 0 {
                    return Ok(());
                }
                self.answer_produce(produce, &mut body);
            }
            (METADATA, _) => self.answer_metadata(fields, &mut body)?,
            (API_VERSIONS, _) => answer_api_versions(version, &mut body),
            (LIST_OFFSETS, _) => answer_list_offsets(fields, &mut body)?,
            (FETCH, _) if self.mode == Mode::Send => return self.send_records(correlation, fields),
            _ => return Err(bad("a request that is not spoken here")),
        }
        self.answers.put_i32(i32::try_from(body.len() + 4).map_err(|_| bad("too long"))?);
        self.answers.put_i32(correlation);
        self.answers.extend_from_slice(&body);
        Ok(())
    }

    fn answer_produce(&mut self, produce: &Produce, body: &mut Vec<u8>) {
        body.put_i32(1);
        body.put_string(&produce.topic);
        body.put_i32(1);
        body.put_i32(produce.partition);
        body.put_i16(0);
        body.put_i64(self.next_offset);
        body.put_i64(-1);
        body.put_i64(0);
        body.put_i32(0);
        self.next_offset += 1;
    }

    fn answer_metadata(&self, mut fields: Fields<'_>, body: &mut Vec<u8>) -> io::Result<()> {
        let address = self.stream.local_addr()?;
        body.put_i32(1);
        body.put_i32(1);
        body.put_string(address.ip().to_string().as_bytes());
        body.put_i32(i32::from(address.port()));
        body.put_i16(-1);
        body.put_i32(1);
        let topics = fields.i32()?.max(0);
        body.put_i32(topics);
        for _ in 0..topics {
            body.put_i16(0);
            body.put_string(fields.string()?);
            body.push(0);
            body.put_i32(1);
            body.put_i16(0);
            body.put_i32(0);
            body.put_i32(1);
            for _ in 0..2 {
                body.put_i32(1);
                body.put_i32(1);
            }
        }
        Ok(())
    }

    /// One answer to a Fetch, in one piece: batches behind a head.
    fn send_records(&mut self, correlation: i32, mut fields: Fields<'_>) -> io::Result<()> {
        if self.sent.is_empty() {
            self.fill();
        }
        // Replica, wait, bytes at least and at most, isolation level.
        fields.skip(4 * 4 + 1)?;
        if fields.i32()? != 1 {
            return Err(bad("a Fetch has one topic here"));
        }
        let topic = fields.string()?;
        if fields.i32()? != 1 {
            return Err(bad("a Fetch has one partition here"));
        }
        let (partition, offset, wanted) = (fields.i32()?, fields.i64()?, fields.i32()?);
        let wanted = usize::try_from(wanted).unwrap_or(0);
        let count = (wanted / self.batch_bytes).clamp(1, CHUNK_BYTES / self.batch_bytes);
        let length = count * self.batch_bytes;
        let mut head = Vec::new();
        head.put_i32(0);
        head.put_i32(correlation);
        head.put_i32(0);
        head.put_i32(1);
        head.put_string(topic);
        head.put_i32(1);
        head.put_i32(partition);
        head.put_i16(0);
        head.put_i64(HIGH_WATERMARK);
        head.put_i64(HIGH_WATERMARK);
        head.put_i32(-1);
        head.put_i32(i32::try_from(length).map_err(|_| bad("too long"))?);
        let size = i32::try_from(head.len() - 4 + length).map_err(|_| bad("too long"))?;
        head[..4].copy_from_slice(&size.to_be_bytes());
        let start = HEAD_ROOM_BYTES.checked_sub(head.len()).ok_or_else(|| bad("a long name"))?;
        let buffer = &mut self.sent[self.sent_next];
        self.sent_next = (self.sent_next + 1) % SENT_BUFFERS;
        buffer[start..HEAD_ROOM_BYTES].copy_from_slice(&head);
        let mut base = offset;
        for batch in buffer[HEAD_ROOM_BYTES..].chunks_exact_mut(self.batch_bytes).take(count) {
            batch[..8].copy_from_slice(&base.to_be_bytes());
            base += BATCH_RECORDS;
        }
        self.stream.write_all(&buffer[start..HEAD_ROOM_BYTES + length])
    }

    fn fill(&mut self) {
        let value = [b'x'; 1024];
        let values: Vec<&[u8]> = (0..BATCH_RECORDS).map(|_| value.as_slice()).collect();
        let one = batch(&values);
        self.batch_bytes = one.len();
        let mut buffer = vec![0; HEAD_ROOM_BYTES];
        for _ in 0..CHUNK_BYTES / one.len() {
            buffer.extend_from_slice(&one);
        }
        self.sent = vec![buffer; SENT_BUFFERS];
    }
}

/// What is in front of the records of a Produce; nothing if it is another request.
fn parse_produce(prefix: &[u8], length: usize) -> io::Result<Option<Produce>> {
    let mut fields = Fields(prefix);
    let key = fields.i16()?;
    if key != PRODUCE {
        return if length > PREFIX_BYTES { Err(bad("a request is too long")) } else { Ok(None) };
    }
    fields.skip(2 + 4)?;
    fields.string()?;
    let _transaction = fields.string()?;
    let acks = fields.i16()?;
    let _timeout = fields.i32()?;
    let topics = fields.i32()?;
    let topic = fields.string()?.to_vec();
    let partitions = fields.i32()?;
    let partition = fields.i32()?;
    let records = usize::try_from(fields.i32()?).map_err(|_| bad("a negative size"))?;
    if topics != 1 || partitions != 1 || records < BATCH_HEADER_BYTES {
        return Err(bad("a Produce has one batch here"));
    }
    let start = prefix.len() - fields.0.len();
    let batch = fields.0;
    let batch_length = usize::try_from(Fields(batch.get(8..).unwrap_or_default()).i32()?);
    if batch_length.ok().and_then(|length| length.checked_add(12)) != Some(records) {
        return Err(bad("a Produce has one batch here"));
    }
    let crc = Fields(batch.get(CRC_POSITION..).unwrap_or_default()).u32()?;
    let running = crc32c::crc32c(batch.get(CHECKED_FROM..).unwrap_or_default());
    Ok(Some(Produce { acks, topic, partition, crc, running, end: start + records }))
}

fn answer_api_versions(version: i16, body: &mut Vec<u8>) {
    let is_flexible = version >= 3;
    body.put_i16(0);
    if is_flexible {
        body.push(1 + u8::try_from(SPOKEN.len()).expect("a few"));
    } else {
        body.put_i32(i32::try_from(SPOKEN.len()).expect("a few"));
    }
    for (key, newest) in SPOKEN {
        body.put_i16(key);
        body.put_i16(0);
        body.put_i16(newest);
        if is_flexible {
            body.push(0);
        }
    }
    if version >= 1 {
        body.put_i32(0);
    }
    if is_flexible {
        body.push(0);
    }
}

fn answer_list_offsets(mut fields: Fields<'_>, body: &mut Vec<u8>) -> io::Result<()> {
    let (_replica, topics) = (fields.i32()?, fields.i32()?);
    let topic = fields.string()?;
    if topics != 1 || fields.i32()? != 1 {
        return Err(bad("a ListOffsets has one partition here"));
    }
    body.put_i32(1);
    body.put_string(topic);
    body.put_i32(1);
    body.put_i32(fields.i32()?);
    body.put_i16(0);
    body.put_i64(-1);
    body.put_i64(0);
    Ok(())
}

/// What is left of a request.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn skip(&mut self, count: usize) -> io::Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(|| bad("it is too short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        self.skip(N)?.try_into().map_err(|_| bad("it is too short"))
    }

    fn i16(&mut self) -> io::Result<i16> {
        self.array().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> io::Result<i32> {
        self.array().map(i32::from_be_bytes)
    }

    fn u32(&mut self) -> io::Result<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn i64(&mut self) -> io::Result<i64> {
        self.array().map(i64::from_be_bytes)
    }

    /// A string; none is the empty one.
    fn string(&mut self) -> io::Result<&'a [u8]> {
        let length = usize::try_from(self.i16()?).unwrap_or(0);
        self.skip(length)
    }
}

trait Put {
    fn put_i16(&mut self, value: i16);
    fn put_i32(&mut self, value: i32);
    fn put_i64(&mut self, value: i64);
    fn put_string(&mut self, text: &[u8]);
}

impl Put for Vec<u8> {
    fn put_i16(&mut self, value: i16) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put_i32(&mut self, value: i32) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put_i64(&mut self, value: i64) {
        self.extend_from_slice(&value.to_be_bytes());
    }

    fn put_string(&mut self, text: &[u8]) {
        self.put_i16(i16::try_from(text.len()).expect("it came with a length of 16 bits"));
        self.extend_from_slice(text);
    }
}
