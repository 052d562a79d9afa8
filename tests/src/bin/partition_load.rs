//! Many small producers over many partitions: what a shard's group commit has to bundle.
//!
//!   partition_load --address HOST:PORT --topic NAME --partitions P [--producers 64]
//!                  [--batch-bytes 16384] [--seconds 8] [--acks -1]
//!
//! Each producer is a thread with one connection and one request in flight: one batch for one
//! partition, the next one for the next of its partitions. It creates the topic, writes to each
//! partition once, and then measures for so many seconds. One line of JSON.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool reports so")]

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    process::ExitCode,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tests::raw_client::{RawClient, Received, batch, framed};
use wire::{
    Records,
    create_topics_request::{CreatableTopic, CreateTopicsRequest},
    frame,
    produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData},
    produce_response::ProduceResponse,
};

const PRODUCE_VERSION: i16 = 9;
const CREATE_TOPICS_VERSION: i16 = 5;
const PATIENCE: Duration = Duration::from_secs(60);
/// What Apache Kafka says until a new partition has its leader.
const NOT_YET: [i16; 3] = [3, 5, 6];

struct Load {
    address: SocketAddr,
    topic: String,
    partitions: usize,
    producers: usize,
    batch_bytes: usize,
    seconds: u64,
    acks: i16,
}

fn main() -> ExitCode {
    match Load::from_arguments().and_then(|load| load.run()) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("partition_load: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Load {
    fn from_arguments() -> Result<Load, String> {
        let mut given = BTreeMap::new();
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let value = words.next().ok_or_else(|| format!("{word} takes a value"))?;
            given.insert(word, value);
        }
        let mut take =
            |name: &str, default: &str| given.remove(name).unwrap_or_else(|| default.to_owned());
        fn parse<T: std::str::FromStr>(name: &str, text: &str) -> Result<T, String> {
            text.parse().map_err(|_| format!("{name} {text:?} makes no sense"))
        }
        let load = Load {
            address: parse("--address", &take("--address", "127.0.0.1:9092"))?,
            topic: take("--topic", "partition-load"),
            partitions: parse("--partitions", &take("--partitions", "1"))?,
            producers: parse("--producers", &take("--producers", "64"))?,
            batch_bytes: parse("--batch-bytes", &take("--batch-bytes", "16384"))?,
            seconds: parse("--seconds", &take("--seconds", "8"))?,
            acks: parse("--acks", &take("--acks", "-1"))?,
        };
        match given.into_keys().next() {
            Some(unknown) => Err(format!("{unknown} is not known")),
            None if load.partitions == 0 || load.producers == 0 => Err("nothing to do".to_owned()),
            None => Ok(load),
        }
    }

    fn run(self) -> Result<String, String> {
        self.create_topic()?;
        let load = Arc::new(self);
        let (ready, over) =
            (Arc::new(Barrier::new(load.producers + 1)), Arc::new(AtomicBool::new(false)));
        let producers: Vec<_> = (0..load.producers)
            .map(|number| {
                let (load, ready, over) =
                    (Arc::clone(&load), Arc::clone(&ready), Arc::clone(&over));
                thread::spawn(move || load.produce(number, &ready, &over))
            })
            .collect();
        ready.wait();
        let start = Instant::now();
        thread::sleep(Duration::from_secs(load.seconds));
        over.store(true, Ordering::Relaxed);
        let mut micros = Vec::new();
        for producer in producers {
            micros.extend(producer.join().map_err(|_| "a producer panicked".to_owned())??);
        }
        let seconds = start.elapsed().as_secs_f64();
        micros.sort_unstable();
        let at = |share: usize| micros.get(micros.len() * share / 1000).copied().unwrap_or(0);
        let bytes = micros.len() * load.batch_bytes;
        #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
        let per_second = |count: usize| count as f64 / seconds;
        let ms = |micros: u32| f64::from(micros) / 1000.0;
        Ok(format!(
            "{{\"partitions\": {}, \"producers\": {}, \"batch_bytes\": {}, \"bytes\": {bytes}, \
             \"seconds\": {seconds:.3}, \"mb_per_s\": {:.2}, \"batches_per_s\": {:.0}, \
             \"ack_p50_ms\": {:.3}, \"ack_p99_ms\": {:.3}, \"ack_p999_ms\": {:.3}, \
             \"ack_max_ms\": {:.3}}}",
            load.partitions,
            load.producers,
            load.batch_bytes,
            per_second(bytes) / 1e6,
            per_second(micros.len()),
            ms(at(500)),
            ms(at(990)),
            ms(at(999)),
            ms(micros.last().copied().unwrap_or(0)),
        ))
    }

    fn create_topic(&self) -> Result<(), String> {
        let topic = CreatableTopic {
            name: &self.topic,
            num_partitions: i32::try_from(self.partitions).map_err(|error| error.to_string())?,
            replication_factor: 1,
            ..Default::default()
        };
        let request =
            CreateTopicsRequest { topics: vec![topic], timeout_ms: 60_000, ..Default::default() };
        let _created = RawClient::connect(self.address).ask(CREATE_TOPICS_VERSION, &request);
        Ok(())
    }

    /// The requests of one producer: one for each of its partitions.
    fn requests(&self, number: usize) -> Vec<Vec<u8>> {
        let records = batch(&[&vec![b'x'; self.batch_bytes]]);
        let own = (0..self.partitions).filter(|partition| partition % self.producers == number);
        let own: Vec<usize> =
            if number < self.partitions { own.collect() } else { vec![number % self.partitions] };
        let request = |partition: usize| {
            let index = i32::try_from(partition).expect("a count of partitions");
            let records = Some(Records::Borrowed(&records));
            let topic_data = vec![TopicProduceData {
                name: &self.topic,
                partition_data: vec![PartitionProduceData { index, records }],
                ..Default::default()
            }];
            let timeout_ms = 60_000;
            let request =
                ProduceRequest { acks: self.acks, timeout_ms, topic_data, ..Default::default() };
            framed(PRODUCE_VERSION, &request)
        };
        own.into_iter().map(request).collect()
    }

    /// Microseconds from the send of each request to its acknowledgement.
    fn produce(
        &self,
        number: usize,
        ready: &Barrier,
        over: &AtomicBool,
    ) -> Result<Vec<u32>, String> {
        let mut client = RawClient::connect(self.address);
        let requests = self.requests(number);
        let warm = requests.iter().try_for_each(|request| {
            let deadline = Instant::now() + PATIENCE;
            loop {
                match send(&mut client, request)? {
                    0 => return Ok(()),
                    code if NOT_YET.contains(&code) && Instant::now() < deadline => {
                        thread::sleep(Duration::from_millis(20));
                    }
                    code => return Err(format!("error code {code}")),
                }
            }
        });
        ready.wait();
        warm?;
        let mut micros = Vec::new();
        for request in requests.iter().cycle() {
            if over.load(Ordering::Relaxed) {
                break;
            }
            let start = Instant::now();
            match send(&mut client, request)? {
                0 => micros.push(u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX)),
                code => return Err(format!("error code {code}")),
            }
        }
        Ok(micros)
    }
}

fn send(client: &mut RawClient, request: &[u8]) -> Result<i16, String> {
    client.send(request).map_err(|error| error.to_string())?;
    let Received::Frame(answer) = client.receive(PATIENCE) else {
        return Err("no answer".to_owned());
    };
    let (_, body) = frame::decode_response_header(
        &answer,
        <ProduceRequest<'_> as wire::Request>::KEY,
        PRODUCE_VERSION,
    )
    .map_err(|error| error.to_string())?;
    let response: ProduceResponse<'_> =
        frame::decode_body(body, PRODUCE_VERSION).map_err(|error| error.to_string())?;
    let partition = response.responses.first().and_then(|topic| topic.partition_responses.first());
    partition.map(|partition| partition.error_code).ok_or_else(|| "an empty answer".to_owned())
}
