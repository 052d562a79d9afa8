//! Records for people to look at: from one partition or all, from an offset, a time or the end.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Query, State},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use client::{
    Cluster, ConsumedRecord, Error, FetchOptions, Fetched, Isolation, OffsetSpec, Position,
};
use model::{ErrorCode, Offset};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Answer, Console, Failure};
use crate::{
    offset_choice::OffsetChoice,
    topic::{ends, leaders_of},
};

/// Of one answer.
const RECORDS_MAX: usize = 500;
const PARTITIONS_MAX: usize = 200;
/// Records that one answer looks at, where few are what is sought, and their bytes.
const SCANNED_RECORDS_MAX: usize = 100_000;
const SCANNED_BYTES_MAX: usize = 64 << 20;
/// Of a key or a value; the rest is told as a number.
const SHOWN_BYTES_MAX: usize = 16 << 10;
const FETCH: FetchOptions = FetchOptions {
    max_wait: Duration::ZERO,
    min_bytes: 0,
    max_bytes: 4 << 20,
    partition_max_bytes: 256 << 10,
    isolation: Isolation::Uncommitted,
};

#[derive(Deserialize)]
pub(super) struct Wanted {
    topic: String,
    partition: Option<i32>,
    /// `earliest`, `latest`, an offset, `@` and milliseconds since 1970, or where the answer before
    /// ended: `PARTITION:OFFSET,...`
    #[serde(default)]
    from: String,
    count: Option<usize>,
    /// What a key or a value has to contain.
    #[serde(default)]
    search: String,
    /// Without those of transactions that are open or were aborted.
    #[serde(default)]
    committed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Start {
    /// Latest: so many before the end.
    Choice(OffsetChoice),
    Positions(BTreeMap<i32, Offset>),
}

const LATEST: Start = Start::Choice(OffsetChoice::Spec(OffsetSpec::Latest));

impl Start {
    fn parse(text: &str) -> Option<Start> {
        if text.is_empty() {
            return Some(LATEST);
        }
        if !text.contains(':') {
            return OffsetChoice::parse(text).ok().map(Start::Choice);
        }
        let position = |part: &str| {
            let (partition, offset) = part.split_once(':')?;
            let offset = offset.parse::<i64>().ok().filter(|offset| *offset >= 0)?;
            Some((partition.parse().ok()?, Offset(offset)))
        };
        text.split(',').map(position).collect::<Option<_>>().map(Start::Positions)
    }
}

pub(super) async fn browse(
    State(console): State<Arc<Console>>,
    Query(wanted): Query<Wanted>,
) -> Answer {
    let start = Start::parse(&wanted.from).ok_or_else(|| {
        Failure::bad("`from` is earliest, latest, an offset, @MILLISECONDS or PARTITION:OFFSET,...")
    })?;
    if matches!(start, Start::Choice(OffsetChoice::At(_))) && wanted.partition.is_none() {
        return Err(Failure::bad("an offset is one of a partition: choose it"));
    }
    let answer = console.ask(async move |_, cluster| {
        let mut reader = Reader::begin(&cluster, wanted, start).await?;
        reader.read(&cluster).await?;
        Ok(reader.answer())
    });
    Ok(Json(answer.await?))
}

struct Reader {
    topic: String,
    needle: Vec<u8>,
    count: usize,
    /// The newest are what is wanted, of all partitions together.
    is_latest: bool,
    options: FetchOptions,
    /// Where to read on, and what was the end.
    places: BTreeMap<i32, (Offset, Offset)>,
    scanned: usize,
    scanned_bytes: usize,
    found: Vec<(i32, ConsumedRecord)>,
}

impl Reader {
    async fn begin(cluster: &Cluster, wanted: Wanted, start: Start) -> client::Result<Reader> {
        let count = wanted.count.unwrap_or(50).clamp(1, RECORDS_MAX);
        let leaders = leaders_of(cluster, &wanted.topic).await?;
        let mut places = BTreeMap::new();
        for (partition, leader) in (0..).zip(leaders) {
            let is_wanted = match (&start, wanted.partition) {
                (Start::Positions(positions), _) => positions.contains_key(&partition),
                (_, Some(wanted)) => wanted == partition,
                (_, None) => true,
            };
            if !is_wanted || leader < 0 || places.len() == PARTITIONS_MAX {
                continue;
            }
            let (first, end) = ends(cluster, &wanted.topic, partition).await?;
            let back = i64::try_from(count).unwrap_or(i64::MAX);
            let from = match &start {
                Start::Choice(OffsetChoice::Spec(OffsetSpec::Earliest)) => first,
                Start::Choice(OffsetChoice::Spec(OffsetSpec::Latest)) => {
                    Offset(end.0.saturating_sub(back))
                }
                Start::Choice(OffsetChoice::Spec(spec)) => {
                    let leader = cluster.leader(&wanted.topic, partition).await?;
                    leader.list_offset(&wanted.topic, partition, *spec).await?.unwrap_or(end)
                }
                Start::Choice(OffsetChoice::At(offset)) => *offset,
                Start::Positions(positions) => positions[&partition],
            };
            places.insert(partition, (from.max(first), end));
        }
        if places.is_empty() {
            return Err(Error::Refused(ErrorCode::UnknownTopicOrPartition));
        }
        let isolation = if wanted.committed { Isolation::Committed } else { FETCH.isolation };
        Ok(Reader {
            topic: wanted.topic,
            needle: wanted.search.into_bytes(),
            count,
            is_latest: start == LATEST,
            options: FetchOptions { isolation, ..FETCH },
            places,
            scanned: 0,
            scanned_bytes: 0,
            found: Vec::new(),
        })
    }

    async fn read(&mut self, cluster: &Cluster) -> client::Result<()> {
        loop {
            let mut by_leader: BTreeMap<i32, Vec<Position>> = BTreeMap::new();
            for (partition, (next, end)) in &self.places {
                if next < end
                    && let Some(leader) = cluster.leader_of(&self.topic, *partition)
                {
                    by_leader.entry(leader).or_default().push(Position {
                        topic: self.topic.clone(),
                        partition: *partition,
                        offset: *next,
                    });
                }
            }
            let mut is_further = false;
            for (leader, positions) in by_leader {
                for part in cluster.broker(leader).await?.fetch(&positions, self.options).await? {
                    if self.is_done() {
                        return Ok(());
                    }
                    is_further |= self.take(&part)?;
                }
            }
            if !is_further || self.is_done() {
                return Ok(());
            }
        }
    }

    fn is_done(&self) -> bool {
        (!self.is_latest && self.found.len() >= self.count)
            || self.scanned >= SCANNED_RECORDS_MAX
            || self.scanned_bytes >= SCANNED_BYTES_MAX
    }

    /// Whether it led on.
    fn take(&mut self, part: &Fetched) -> client::Result<bool> {
        if part.error_code != ErrorCode::None {
            return Err(Error::Refused(part.error_code));
        }
        let Some((next, end)) = self.places.get(&part.partition).copied() else { return Ok(false) };
        let (records, mut further) = part.records_from(next)?;
        self.scanned_bytes += part.records.len();
        for record in records {
            if !self.is_latest && self.found.len() >= self.count {
                further = record.offset;
                break;
            }
            self.scanned += 1;
            if record.offset < end && self.is_sought(&record) {
                self.found.push((part.partition, record));
            }
        }
        self.places.insert(part.partition, (further, end));
        Ok(further > next)
    }

    fn is_sought(&self, record: &ConsumedRecord) -> bool {
        let has = |field: &Option<bytes::Bytes>| {
            field.as_deref().is_some_and(|field| {
                field.windows(self.needle.len()).any(|part| part == self.needle)
            })
        };
        self.needle.is_empty() || has(&record.key) || has(&record.value)
    }

    fn answer(mut self) -> Value {
        self.found.sort_by_key(|(partition, record)| (record.timestamp, *partition, record.offset));
        if self.is_latest {
            self.found.reverse();
            self.found.truncate(self.count);
        }
        let records: Vec<Value> =
            self.found.iter().map(|(partition, record)| shown(*partition, record)).collect();
        let places = || self.places.iter();
        let next: Vec<String> =
            places().map(|(partition, (next, _))| format!("{partition}:{next}")).collect();
        json!({
            "records": records,
            "next": next.join(","),
            "is_end": places().all(|(_, (next, end))| next >= end),
            "scanned": self.scanned,
        })
    }
}

fn shown(partition: i32, record: &ConsumedRecord) -> Value {
    let headers: Vec<Value> = record
        .headers
        .iter()
        .map(|(name, value)| {
            json!({
                "name": String::from_utf8_lossy(name),
                "value": value.as_deref().map(encoded),
            })
        })
        .collect();
    json!({
        "partition": partition,
        "offset": record.offset.0,
        "timestamp": record.timestamp.0,
        "key": record.key.as_deref().map(encoded),
        "value": record.value.as_deref().map(encoded),
        "headers": headers,
    })
}

/// Its length, and as much of it as is shown.
fn encoded(bytes: &[u8]) -> Value {
    let part = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
    json!({ "bytes": bytes.len(), "base64": STANDARD.encode(part) })
}

#[cfg(test)]
mod tests {
    use model::TimestampMs;

    use super::*;

    #[test]
    fn places_to_begin_are_understood_or_refused() {
        let spec = |spec| Some(Start::Choice(OffsetChoice::Spec(spec)));
        let positions = BTreeMap::from([(0, Offset(5)), (7, Offset(0))]);
        for (text, expected) in [
            ("", Some(LATEST)),
            ("latest", Some(LATEST)),
            ("earliest", spec(OffsetSpec::Earliest)),
            ("@12", spec(OffsetSpec::AtOrAfter(TimestampMs(12)))),
            ("12", Some(Start::Choice(OffsetChoice::At(Offset(12))))),
            ("0:5,7:0", Some(Start::Positions(positions))),
            ("-1", None),
            ("@", None),
            ("0:", None),
            ("0:1,", None),
            ("a", None),
        ] {
            assert_eq!(Start::parse(text), expected, "{text}");
        }
    }
}
