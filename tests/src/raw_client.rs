//! A client that says what it is told, right or wrong, on one connection.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use model::record_batch::{BatchOptions, NewRecord, RecordBatchBuilder, batches};
use wire::{
    Records, Request,
    api_versions_request::ApiVersionsRequest,
    fetch_request::{FetchPartition, FetchRequest, FetchTopic},
    fetch_response::FetchResponse,
    frame,
    metadata_request::{MetadataRequest, MetadataRequestTopic},
    metadata_response::MetadataResponse,
    produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData},
    produce_response::ProduceResponse,
};

use crate::broker_process::PATIENCE;

/// What a connection gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// A frame, without its size.
    Frame(Vec<u8>),
    /// The broker closed it.
    Closed,
    /// Nothing, within the time.
    Silence,
}

/// One connection.
#[derive(Debug)]
pub struct RawClient {
    stream: TcpStream,
}

impl RawClient {
    /// Connects.
    ///
    /// # Panics
    /// When the broker takes no connection.
    #[must_use]
    pub fn connect(address: SocketAddr) -> RawClient {
        let stream = TcpStream::connect(address).expect("the broker takes connections");
        stream.set_nodelay(true).expect("a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        RawClient { stream }
    }

    /// Sends bytes. A broker may have closed the connection, which is for the test to judge.
    ///
    /// # Errors
    /// The operating system's.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends until nothing more is taken for `patience`; returns how many bytes were.
    pub fn send_until_full(&mut self, bytes: &[u8], patience: Duration) -> usize {
        self.stream.set_write_timeout(Some(patience)).expect("a socket");
        let mut sent = 0;
        while sent < bytes.len() {
            match self.stream.write(&bytes[sent..]) {
                Ok(count) => sent += count,
                Err(_) => break,
            }
        }
        sent
    }

    /// The next frame, or what happens instead.
    pub fn receive(&mut self, patience: Duration) -> Received {
        self.stream.set_read_timeout(Some(patience)).expect("a socket");
        let mut size = [0; 4];
        let mut read = || {
            self.stream.read_exact(&mut size)?;
            let size = usize::try_from(i32::from_be_bytes(size)).expect("a broker's size");
            let mut frame = vec![0; size];
            self.stream.set_read_timeout(Some(PATIENCE))?;
            self.stream.read_exact(&mut frame)?;
            Ok(frame)
        };
        match read() {
            Ok(frame) => Received::Frame(frame),
            Err(error) => {
                let error: io::Error = error;
                let is_late = [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind());
                if is_late { Received::Silence } else { Received::Closed }
            }
        }
    }

    /// Asks, and returns the answer without its size.
    ///
    /// # Panics
    /// When there is none.
    pub fn ask<R: Request>(&mut self, version: i16, request: &R) -> Vec<u8> {
        self.send(&framed(version, request)).expect("the broker listens");
        match self.receive(PATIENCE) {
            Received::Frame(frame) => frame,
            other @ (Received::Closed | Received::Silence) => {
                panic!("{} v{version} got {other:?}", R::NAME)
            }
        }
    }

    /// Makes sure that the broker answers at all.
    pub fn ping(&mut self) {
        let _versions = self.ask(0, &ApiVersionsRequest::default());
    }

    /// Has a topic of one partition created by asking for it.
    ///
    /// # Panics
    /// When it is not.
    pub fn create_topic(&mut self, name: &str) {
        let topic = MetadataRequestTopic { name: Some(name), ..Default::default() };
        let request = MetadataRequest {
            topics: Some(vec![topic]),
            allow_auto_topic_creation: true,
            ..Default::default()
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.ask(9, &request);
            let response: MetadataResponse<'_> = decoded::<MetadataRequest<'_>, _>(&answer, 9);
            let codes: Vec<i16> = response.topics.iter().map(|topic| topic.error_code).collect();
            if codes == [0] {
                return;
            }
            // Apache Kafka answers before it is there; this broker does not.
            assert!(Instant::now() < deadline, "{name}: {codes:?}");
        }
    }

    /// Produces records, as they are, with acks=all: the error code and the base offset.
    ///
    /// # Panics
    /// When there is no answer.
    pub fn produce(&mut self, topic: &str, records: &[u8]) -> (i16, i64) {
        let answer = self.ask(9, &produce_request(topic, Some(records)));
        let response: ProduceResponse<'_> = decoded::<ProduceRequest<'_>, _>(&answer, 9);
        let partition = &response.responses[0].partition_responses[0];
        (partition.error_code, partition.base_offset)
    }

    /// The offset and value of every record of a topic's partition 0.
    ///
    /// # Panics
    /// When the fetch fails or a batch is not as it should be.
    pub fn fetch_all(&mut self, topic: &str) -> Vec<(i64, Vec<u8>)> {
        let mut all = Vec::new();
        let mut next = 0;
        loop {
            let answer = self.ask(12, &fetch_request(topic, next));
            let response: FetchResponse<'_> = decoded::<FetchRequest<'_>, _>(&answer, 12);
            let partition = &response.responses[0].partitions[0];
            assert_eq!(partition.error_code, 0, "{topic} from {next}");
            let records = partition.records.as_ref().and_then(Records::as_borrowed);
            for batch in batches(records.unwrap_or_default()) {
                let batch = batch.expect("a whole batch");
                batch.verify_crc().expect("a sound batch");
                for record in batch.records() {
                    let record = record.expect("a sound record");
                    let offset = batch.base_offset().0 + i64::from(record.offset_delta);
                    all.push((offset, record.value.unwrap_or_default().to_vec()));
                }
                next = batch.next_offset().0;
            }
            if next >= partition.high_watermark {
                return all;
            }
        }
    }
}

/// A batch of records with these values.
#[must_use]
pub fn batch(values: &[&[u8]]) -> Vec<u8> {
    let mut builder = RecordBatchBuilder::new(BatchOptions::default());
    for value in values {
        builder.append(&NewRecord { value: Some(value), ..Default::default() });
    }
    builder.build().to_vec()
}

/// A produce to partition 0 of a topic.
#[must_use]
pub fn produce_request<'a>(topic: &'a str, records: Option<&'a [u8]>) -> ProduceRequest<'a> {
    let data = PartitionProduceData { index: 0, records: records.map(Records::Borrowed) };
    let topic = TopicProduceData { name: topic, partition_data: vec![data], ..Default::default() };
    let timeout_ms = i32::try_from(PATIENCE.as_millis()).expect("a minute");
    ProduceRequest { acks: -1, timeout_ms, topic_data: vec![topic], ..Default::default() }
}

/// A fetch of partition 0 of a topic that waits for nothing.
#[must_use]
pub fn fetch_request(topic: &str, offset: i64) -> FetchRequest<'_> {
    let partition = FetchPartition {
        fetch_offset: offset,
        partition_max_bytes: 1 << 20,
        current_leader_epoch: -1,
        ..Default::default()
    };
    FetchRequest {
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic { topic, partitions: vec![partition], ..Default::default() }],
        ..Default::default()
    }
}

/// A request with size and header.
///
/// # Panics
/// When the version cannot say it.
pub fn framed<R: Request>(version: i16, request: &R) -> Vec<u8> {
    let encoded = frame::encode_request(1, Some("raw"), version, request).expect("it is sayable");
    encoded.into_bytes().to_vec()
}

/// An answer as what it says.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn decoded<'a, R: Request, M: wire::Message + wire::Decode<'a>>(
    answer: &'a [u8],
    version: i16,
) -> M {
    let (_, body) = frame::decode_response_header(answer, R::KEY, version).expect("a header");
    frame::decode_body(body, version).expect("a body")
}
