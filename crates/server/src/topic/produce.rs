//! `odradek topic produce`: lines of stdin become records, acknowledged before it ends.

use std::{
    io::{self, BufRead, BufReader},
    time::Duration,
};

use clap::Args;
use client::{Acks, AutoCreate, Cluster, Error, ProducerState};
use model::{
    TimestampMs,
    record_batch::{NewRecord, RecordBatchBuilder},
};
use runtime::Runtime;

use crate::alone::{self, Broker};

/// A line is one record: longer than any broker takes.
const LINE_BYTES_MAX: usize = 128 << 20;
/// Lines are sent together when they are so many bytes.
const BATCH_BYTES: usize = 512 << 10;
const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  echo hello | odradek topic produce orders
  printf 'alice=one\\nbob=two\\n' | odradek topic produce orders --key-delimiter =
  odradek topic produce orders --partition 0 < lines.txt")]
pub(crate) struct Produce {
    #[command(flatten)]
    broker: Broker,
    /// The topic; made by the broker if it is not there, where the broker does so
    #[arg(value_name = "TOPIC")]
    topic: String,
    /// To this partition [default: one after the other; by the key where there are keys]
    #[arg(long, value_name = "N")]
    partition: Option<i32>,
    /// What stands between a line's key and its value [default: lines have no keys]
    #[arg(long, value_name = "TEXT")]
    key_delimiter: Option<String>,
}

/// What stands in one line.
struct Line {
    key: Option<Vec<u8>>,
    value: Vec<u8>,
}

pub(super) fn run(options: Produce) -> Result<(), String> {
    let Produce { broker, topic, partition, key_delimiter } = options;
    let name = topic.clone();
    let mut input = Input {
        reader: BufReader::new(io::stdin()),
        delimiter: key_delimiter.filter(|text| !text.is_empty()),
        read: 0,
    };
    let count = alone::on_cluster(&broker, async move |runtime, cluster| {
        let leaders = cluster.leaders(&topic, AutoCreate::Allowed, TIMEOUT).await?;
        let count = i32::try_from(leaders.len()).map_err(|_| Error::Nonsense("too many"))?;
        let state = Box::pin(alone::coordinated(&runtime, async || {
            cluster.any().await?.init_producer_id().await
        }))
        .await?;
        let mut sender = Sender { runtime, cluster, state, topic, partition, count, next: 0 };
        loop {
            match input.some_lines() {
                Ok(lines) if lines.is_empty() => return Ok(Ok(input.read)),
                Ok(lines) => sender.send(&lines).await?,
                Err(reason) => return Ok(Err(reason)),
            }
        }
    })??;
    let records = if count == 1 { "record" } else { "records" };
    alone::print(&format!("{count} {records} to {name}\n"))
}

/// Lines, as they come.
struct Input<R> {
    reader: BufReader<R>,
    delimiter: Option<String>,
    read: usize,
}

impl<R: io::Read> Input<R> {
    /// What there is, up to a batch; waits for one line. None at the end.
    fn some_lines(&mut self) -> Result<Vec<Line>, String> {
        let (mut lines, mut bytes) = (Vec::new(), 0);
        while lines.is_empty() || (bytes < BATCH_BYTES && !self.reader.buffer().is_empty()) {
            let mut line = Vec::new();
            let read = self.reader.read_until(b'\n', &mut line);
            if read.map_err(|error| error.to_string())? == 0 {
                break;
            }
            self.read += 1;
            if line.len() > LINE_BYTES_MAX {
                return Err(format!("line {} is too long for a record", self.read));
            }
            if line.ends_with(b"\n") {
                line.pop();
            }
            bytes += line.len();
            let delimiter = self.delimiter.as_deref();
            lines.push(split(line, delimiter).ok_or_else(|| {
                format!("line {} has no key: no {:?}", self.read, delimiter.unwrap_or_default())
            })?);
        }
        Ok(lines)
    }
}

/// `None` for a line without the delimiter.
fn split(line: Vec<u8>, delimiter: Option<&str>) -> Option<Line> {
    let Some(delimiter) = delimiter else { return Some(Line { key: None, value: line }) };
    let at = line.windows(delimiter.len()).position(|part| part == delimiter.as_bytes())?;
    let value = line[at + delimiter.len()..].to_vec();
    Some(Line { key: Some(line[..at].to_vec()), value })
}

/// Where lines go.
struct Sender {
    runtime: Runtime,
    cluster: Cluster,
    state: ProducerState,
    topic: String,
    /// The one that was asked for.
    partition: Option<i32>,
    /// How many there are.
    count: i32,
    /// The next for lines without keys.
    next: i32,
}

impl Sender {
    async fn send(&mut self, lines: &[Line]) -> client::Result<()> {
        let mut rest = lines;
        while !rest.is_empty() {
            let target = self.target(&rest[0]);
            let own =
                rest.iter().take_while(|line| line.key.is_none() || self.target(line) == target);
            let (now, later) = rest.split_at(own.count());
            self.produce(target, now).await?;
            self.next = (self.next + 1) % self.count;
            rest = later;
        }
        Ok(())
    }

    fn target(&self, line: &Line) -> i32 {
        self.partition.unwrap_or_else(|| match &line.key {
            Some(key) => partition_of(key, self.count),
            None => self.next,
        })
    }

    async fn produce(&mut self, partition: i32, lines: &[Line]) -> client::Result<()> {
        let timestamp = TimestampMs(self.runtime.wall_clock_ms());
        let count = i32::try_from(lines.len()).expect("half a MiB of lines");
        let mut builder = RecordBatchBuilder::new(self.state.next(&self.topic, partition, count));
        for Line { key, value } in lines {
            let (key, value) = (key.as_deref(), Some(&value[..]));
            builder.append(&NewRecord { timestamp, key, value, headers: &[] });
        }
        let batch = client::Batch { topic: self.topic.clone(), partition, bytes: builder.build() };
        let connection = self.cluster.leader(&self.topic, partition).await?;
        let results = connection.produce(&[batch], Acks::All, TIMEOUT).await?;
        results.into_iter().try_for_each(|result| result.map(drop))
    }
}

/// Where Java's clients put a key: murmur2 of its bytes.
pub(crate) fn partition_of(key: &[u8], count: i32) -> i32 {
    (murmur2(key) & i32::MAX) % count
}

/// Austin Appleby's MurmurHash2 with Kafka's seed, in Java's signed 32 bits.
fn murmur2(data: &[u8]) -> i32 {
    const M: u32 = 0x5bd1_e995;
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut hash = 0x9747_b28c ^ length;
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        let mut last = [0; 4];
        last[..tail.len()].copy_from_slice(tail);
        hash = (hash ^ u32::from_le_bytes(last)).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    (hash ^ (hash >> 15)).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_where_java_puts_them() {
        // From the tests of Apache Kafka's clients.
        for (key, expected) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()), expected, "{key}");
        }
    }

    #[test]
    fn lines_are_records() {
        let read = |text: &str, delimiter: Option<&str>| {
            let delimiter = delimiter.map(str::to_owned);
            let mut input = Input { reader: BufReader::new(text.as_bytes()), delimiter, read: 0 };
            let lines = input.some_lines()?;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let shown = lines.iter().map(|line| (line.key.as_deref().map(text), text(&line.value)));
            Ok::<_, String>(shown.collect::<Vec<_>>())
        };
        let plain = |value: &str| (None, value.to_owned());
        assert_eq!(read("", None).unwrap(), []);
        assert_eq!(read("a\n\nb", None).unwrap(), [plain("a"), plain(""), plain("b")]);
        let keyed = read("k:v:w\n:x\n", Some(":")).unwrap();
        assert_eq!(keyed, [(Some("k".into()), "v:w".into()), (Some(String::new()), "x".into())]);
        assert!(read("k:v\nw\n", Some(":")).unwrap_err().contains("line 2"));
    }
}
