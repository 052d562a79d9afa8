//! Just enough of Kafka's protocol to load and question one broker, over blocking sockets.
//!
//! Versions are the newest without flexible fields; every broker that a rig runs on serves them.

mod admin;
pub(crate) mod batch;
pub(crate) mod bytes;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Reader, Writer};

const PRODUCE: (i16, i16) = (0, 8);
const FETCH: (i16, i16) = (1, 11);
const LIST_OFFSETS: (i16, i16) = (2, 5);
const METADATA: (i16, i16) = (3, 8);
const CREATE_TOPICS: (i16, i16) = (19, 4);
const INIT_PRODUCER_ID: (i16, i16) = (22, 1);

/// A broker that says nothing for so long hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(45);
/// A disk that others keep busy may take seconds for a sync.
const PRODUCE_TIMEOUT_MS: i32 = 40_000;
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Larger than any answer a rig asks for.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// How much a fetch asks for: of all partitions, and of one.
const FETCH_BYTES: i32 = 8 << 20;
const FETCH_PARTITION_BYTES: i32 = 2 << 20;

/// What `prime` holds back of a request.
const HELD_BACK_BYTES: usize = 16;

/// Errors after which a client asks again: the broker is still waking up.
const TRANSIENT: &[i16] = &[3, 5, 6, 7, 9, 14, 15, 16];

#[must_use]
pub(crate) fn is_transient(error_code: i16) -> bool {
    TRANSIENT.contains(&error_code)
}

/// A topic and a partition of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TopicPartition {
    pub(crate) topic: String,
    pub(crate) partition: i32,
}

/// What a broker answered for one partition of a produce.
#[derive(Debug)]
pub(crate) struct Produced {
    pub(crate) at: TopicPartition,
    pub(crate) error_code: i16,
    pub(crate) base_offset: i64,
}

/// What a broker answered for one partition of a fetch.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) at: TopicPartition,
    pub(crate) error_code: i16,
    pub(crate) records: Vec<u8>,
}

/// Requests name a topic once, with its partitions below it.
fn by_topic<T>(items: &[(TopicPartition, T)]) -> BTreeMap<&str, Vec<(i32, &T)>> {
    let mut topics: BTreeMap<&str, Vec<(i32, &T)>> = BTreeMap::new();
    for (at, item) in items {
        topics.entry(&at.topic).or_default().push((at.partition, item));
    }
    topics
}

/// The body of a produce with acks=all.
fn produce_body(batches: &[(TopicPartition, Vec<u8>)]) -> Vec<u8> {
    let mut body = Writer::default();
    let topics = by_topic(batches);
    body.null_string().int16(-1).int32(PRODUCE_TIMEOUT_MS).count(topics.len());
    for (topic, partitions) in topics {
        body.string(topic).count(partitions.len());
        for (partition, batch) in partitions {
            body.int32(partition).bytes(batch);
        }
    }
    body.finish()
}

/// A produce that the broker has but for its last bytes.
#[derive(Debug)]
pub(crate) struct Primed {
    pub(crate) correlation: i32,
    held_back: Vec<u8>,
}

/// One connection. Requests may be sent ahead of their answers; answers come in order.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    next_correlation: i32,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Result<Self, String> {
        let stream = TcpStream::connect_timeout(&address, CONNECT_WITHIN)
            .map_err(|error| format!("connect: {error}"))?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        stream.set_read_timeout(Some(ANSWER_WITHIN)).map_err(|error| error.to_string())?;
        stream.set_write_timeout(Some(ANSWER_WITHIN)).map_err(|error| error.to_string())?;
        Ok(Self { stream, next_correlation: 0 })
    }

    /// A whole frame, and the number of its answer.
    fn frame(&mut self, (key, version): (i16, i16), body: &[u8]) -> (Vec<u8>, i32) {
        let correlation = self.next_correlation;
        self.next_correlation += 1;
        let mut head = Writer::default();
        head.int16(key).int16(version).int32(correlation).string("rig");
        let head = head.finish();
        let mut frame = Writer::default();
        frame.count(head.len() + body.len()).raw(&head).raw(body);
        (frame.finish(), correlation)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).map_err(|error| format!("send: {error}"))
    }

    fn send(&mut self, api: (i16, i16), body: &[u8]) -> Result<i32, String> {
        let (frame, correlation) = self.frame(api, body);
        self.write(&frame)?;
        Ok(correlation)
    }

    /// The body of the answer to the oldest request that has none.
    fn receive(&mut self, correlation: i32) -> Result<Vec<u8>, String> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).map_err(|error| format!("receive: {error}"))?;
        let length = usize::try_from(i32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if !(4..=ANSWER_BYTES_MAX).contains(&length) {
            return Err(format!("an answer of {length} bytes"));
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).map_err(|error| format!("receive: {error}"))?;
        let answered = Reader::new(&body).int32()?;
        if answered != correlation {
            return Err(format!("answer {answered} where {correlation} was due"));
        }
        body.drain(..4);
        Ok(body)
    }

    fn call(&mut self, api: (i16, i16), body: Writer) -> Result<Vec<u8>, String> {
        let correlation = self.send(api, &body.finish())?;
        self.receive(correlation)
    }

    /// Sends batches with acks=all, and returns what `produced` needs to read the answer.
    pub(crate) fn produce(&mut self, batches: &[(TopicPartition, Vec<u8>)]) -> Result<i32, String> {
        self.send(PRODUCE, &produce_body(batches))
    }

    /// Sends a produce but for its last bytes, which `release` sends.
    pub(crate) fn prime(
        &mut self,
        batches: &[(TopicPartition, Vec<u8>)],
    ) -> Result<Primed, String> {
        let (mut frame, correlation) = self.frame(PRODUCE, &produce_body(batches));
        let held_back = frame.split_off(frame.len() - HELD_BACK_BYTES);
        self.write(&frame)?;
        Ok(Primed { correlation, held_back })
    }

    pub(crate) fn release(&mut self, request: &Primed) -> Result<(), String> {
        self.write(&request.held_back)
    }

    pub(crate) fn produced(&mut self, correlation: i32) -> Result<Vec<Produced>, String> {
        let body = self.receive(correlation)?;
        let mut reader = Reader::new(&body);
        let mut answers = Vec::new();
        for _ in 0..reader.count()? {
            let topic = reader.string()?;
            for _ in 0..reader.count()? {
                let partition = reader.int32()?;
                let error_code = reader.int16()?;
                let base_offset = reader.int64()?;
                reader.raw(16)?;
                for _ in 0..reader.count()? {
                    reader.int32()?;
                    reader.string()?;
                }
                reader.string()?;
                let at = TopicPartition { topic: topic.clone(), partition };
                answers.push(Produced { at, error_code, base_offset });
            }
        }
        Ok(answers)
    }

    /// Reads from the given offsets, waiting at most `wait_ms` for the first byte.
    pub(crate) fn fetch(
        &mut self,
        from: &[(TopicPartition, i64)],
        wait_ms: i32,
    ) -> Result<Vec<Fetched>, String> {
        let mut body = Writer::default();
        body.int32(-1).int32(wait_ms).int32(1).int32(FETCH_BYTES).int8(0).int32(0).int32(-1);
        let topics = by_topic(from);
        body.count(topics.len());
        for (topic, partitions) in topics {
            body.string(topic).count(partitions.len());
            for (partition, offset) in partitions {
                body.int32(partition).int32(-1);
                body.int64(*offset).int64(-1).int32(FETCH_PARTITION_BYTES);
            }
        }
        body.count(0).string("");
        let answer = self.call(FETCH, body)?;
        let mut reader = Reader::new(&answer);
        reader.int32()?;
        let error_code = reader.int16()?;
        if error_code != 0 {
            return Err(format!("fetch: error {error_code}"));
        }
        reader.int32()?;
        let mut fetched = Vec::new();
        for _ in 0..reader.count()? {
            let topic = reader.string()?;
            for _ in 0..reader.count()? {
                let at = TopicPartition { topic: topic.clone(), partition: reader.int32()? };
                let error_code = reader.int16()?;
                reader.raw(24)?;
                for _ in 0..reader.count()? {
                    reader.raw(16)?;
                }
                reader.int32()?;
                fetched.push(Fetched { at, error_code, records: reader.bytes()?.to_vec() });
            }
        }
        Ok(fetched)
    }

    /// The offset after the last record that a consumer may see.
    pub(crate) fn end_offset(&mut self, at: &TopicPartition) -> Result<(i16, i64), String> {
        const LATEST: i64 = -1;
        let mut body = Writer::default();
        body.int32(-1).int8(0).count(1).string(&at.topic).count(1);
        body.int32(at.partition).int32(-1).int64(LATEST);
        let answer = self.call(LIST_OFFSETS, body)?;
        let mut reader = Reader::new(&answer);
        reader.int32()?;
        reader.count()?;
        reader.string()?;
        reader.count()?;
        reader.int32()?;
        let error_code = reader.int16()?;
        reader.int64()?;
        Ok((error_code, reader.int64()?))
    }

    /// Asks for a topic, and says with which error that was refused.
    pub(crate) fn create_topic(
        &mut self,
        topic: &str,
        partitions: i32,
        settings: &[(&str, String)],
    ) -> Result<i16, String> {
        let mut body = Writer::default();
        body.count(1).string(topic).int32(partitions).int16(1).count(0).count(settings.len());
        for (name, value) in settings {
            body.string(name).string(value);
        }
        body.int32(10_000).int8(0);
        let answer = self.call(CREATE_TOPICS, body)?;
        let mut reader = Reader::new(&answer);
        reader.int32()?;
        reader.count()?;
        reader.string()?;
        reader.int16()
    }

    /// How many partitions of the topic have a leader.
    pub(crate) fn led_partitions(&mut self, topic: &str) -> Result<usize, String> {
        let mut body = Writer::default();
        body.count(1).string(topic).int8(0).int8(0).int8(0);
        let answer = self.call(METADATA, body)?;
        let mut reader = Reader::new(&answer);
        reader.int32()?;
        for _ in 0..reader.count()? {
            reader.int32()?;
            reader.string()?;
            reader.int32()?;
            reader.string()?;
        }
        reader.string()?;
        reader.int32()?;
        reader.count()?;
        reader.int16()?;
        reader.string()?;
        reader.int8()?;
        let mut led = 0;
        for _ in 0..reader.count()? {
            let error_code = reader.int16()?;
            reader.int32()?;
            let leader = reader.int32()?;
            reader.int32()?;
            for _ in 0..3 {
                let nodes = reader.count()?;
                reader.raw(4 * nodes)?;
            }
            led += usize::from(error_code == 0 && leader >= 0);
        }
        Ok(led)
    }

    /// A new producer id with its epoch, or the error that refused it.
    pub(crate) fn init_producer_id(&mut self) -> Result<Result<(i64, i16), i16>, String> {
        let mut body = Writer::default();
        body.null_string().int32(60_000);
        let answer = self.call(INIT_PRODUCER_ID, body)?;
        let mut reader = Reader::new(&answer);
        reader.int32()?;
        let error_code = reader.int16()?;
        let identity = (reader.int64()?, reader.int16()?);
        Ok(if error_code == 0 { Ok(identity) } else { Err(error_code) })
    }
}
