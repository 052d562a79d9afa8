//! `odradek topic consume`: records to stdout, from one partition after the other or as they come.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use clap::Args;
use client::{Cluster, ConsumedRecord, Error, FetchOptions, Fetched, OffsetSpec, Position};
use model::{ErrorCode, Offset};

use super::leaders_of;
use crate::{
    alone::{self, Broker},
    offset_choice::OffsetChoice,
};

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  odradek topic consume orders
  odradek topic consume orders --from latest --follow
  odradek topic consume orders --partition 0 --from 42 --count 10
  odradek topic consume orders --print '%p %o %k %v\\n'")]
pub(crate) struct Consume {
    #[command(flatten)]
    broker: Broker,
    /// The topic
    #[arg(value_name = "TOPIC")]
    topic: String,
    /// Of this partition alone
    #[arg(long, value_name = "N")]
    partition: Option<i32>,
    /// Where to begin: earliest, latest, an offset, or @MILLISECONDS since 1970
    #[arg(long, value_name = "WHERE", default_value = "earliest", value_parser = OffsetChoice::parse)]
    from: OffsetChoice,
    /// End after so many records
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Wait for more at the end
    #[arg(long)]
    follow: bool,
    /// What is printed of a record: %t topic, %p partition, %o offset, %d timestamp, %k key, %v
    /// value, %% a percent sign, \n and \t
    #[arg(long, value_name = "FORMAT", default_value = "%v\\n", value_parser = Template::parse)]
    print: Template,
}

/// A record's line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    Value,
}

impl Template {
    fn parse(text: &str) -> Result<Template, String> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut characters = text.chars();
        while let Some(character) = characters.next() {
            let piece = match (character, characters.as_str().chars().next()) {
                ('\\', Some('n')) => Err('\n'),
                ('\\', Some('t')) => Err('\t'),
                ('\\', Some('\\')) => Err('\\'),
                ('%', Some('%')) => Err('%'),
                ('%', Some('t')) => Ok(Piece::Topic),
                ('%', Some('p')) => Ok(Piece::Partition),
                ('%', Some('o')) => Ok(Piece::Offset),
                ('%', Some('d')) => Ok(Piece::Timestamp),
                ('%', Some('k')) => Ok(Piece::Key),
                ('%', Some('v')) => Ok(Piece::Value),
                ('%' | '\\', next) => {
                    let next = next.map(String::from).unwrap_or_default();
                    return Err(format!("{character}{next} means nothing"));
                }
                (other, _) => {
                    plain.push(other);
                    continue;
                }
            };
            characters.next();
            match piece {
                Err(character) => plain.push(character),
                Ok(piece) => {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                    pieces.push(piece);
                }
            }
        }
        pieces.push(Piece::Text(plain));
        pieces.retain(|piece| *piece != Piece::Text(String::new()));
        Ok(Template(pieces))
    }

    fn write(&self, topic: &str, partition: i32, record: &ConsumedRecord, target: &mut Vec<u8>) {
        let bytes = |field: &Option<Bytes>| field.clone().unwrap_or_default();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => target.extend_from_slice(text.as_bytes()),
                Piece::Topic => target.extend_from_slice(topic.as_bytes()),
                Piece::Partition => target.extend_from_slice(partition.to_string().as_bytes()),
                Piece::Offset => target.extend_from_slice(record.offset.to_string().as_bytes()),
                Piece::Timestamp => {
                    target.extend_from_slice(record.timestamp.0.to_string().as_bytes());
                }
                Piece::Key => target.extend_from_slice(&bytes(&record.key)),
                Piece::Value => target.extend_from_slice(&bytes(&record.value)),
            }
        }
    }
}

pub(super) fn run(options: Consume) -> Result<(), String> {
    let Consume { broker, topic, partition, from, count, follow, print } = options;
    if matches!(from, OffsetChoice::At(_)) && partition.is_none() {
        return Err("an offset is one of a partition: name it with --partition".to_owned());
    }
    alone::on_cluster(&broker, async move |_, cluster| {
        let leaders = leaders_of(&cluster, &topic).await?;
        let all = 0..i32::try_from(leaders.len()).map_err(|_| Error::Nonsense("too many"))?;
        if partition.is_some_and(|partition| !all.contains(&partition)) {
            return Err(Error::Refused(ErrorCode::UnknownTopicOrPartition));
        }
        let wanted: Vec<i32> = partition.map_or_else(|| all.collect(), |one| vec![one]);
        let mut reading = BTreeMap::new();
        for partition in wanted {
            reading.insert(partition, begin(&cluster, &topic, partition, from).await?);
        }
        let mut reader = Reader { topic, print, left: count.unwrap_or(u64::MAX), reading };
        reader.read(&cluster, follow).await
    })
}

/// Where to read on, and what was there at the start.
struct Progress {
    next: Offset,
    end: Offset,
}

async fn begin(
    cluster: &Cluster,
    topic: &str,
    partition: i32,
    from: OffsetChoice,
) -> client::Result<Progress> {
    let leader = cluster.leader(topic, partition).await?;
    let end = leader.list_offset(topic, partition, OffsetSpec::Latest).await?;
    let end = end.unwrap_or(Offset::ZERO);
    let next = match from {
        OffsetChoice::At(offset) => offset,
        // No record is so young: then at the end.
        OffsetChoice::Spec(spec) => {
            leader.list_offset(topic, partition, spec).await?.unwrap_or(end)
        }
    };
    if next > end {
        return Err(Error::Refused(ErrorCode::OffsetOutOfRange));
    }
    Ok(Progress { next, end })
}

struct Reader {
    topic: String,
    print: Template,
    left: u64,
    reading: BTreeMap<i32, Progress>,
}

impl Reader {
    async fn read(&mut self, cluster: &Cluster, follow: bool) -> client::Result<()> {
        let options = FetchOptions {
            max_wait: if follow { FetchOptions::default().max_wait } else { Duration::ZERO },
            ..FetchOptions::default()
        };
        loop {
            let mut by_leader: BTreeMap<i32, Vec<Position>> = BTreeMap::new();
            for (partition, progress) in &self.reading {
                if follow || progress.next < progress.end {
                    let leader = cluster.leader_of(&self.topic, *partition);
                    let leader = leader.ok_or(Error::Refused(ErrorCode::LeaderNotAvailable))?;
                    let (topic, partition, offset) =
                        (self.topic.clone(), *partition, progress.next);
                    by_leader.entry(leader).or_default().push(Position {
                        topic,
                        partition,
                        offset,
                    });
                }
            }
            if by_leader.is_empty() || self.left == 0 {
                return Ok(());
            }
            for (leader, positions) in by_leader {
                for part in cluster.broker(leader).await?.fetch(&positions, options).await? {
                    self.take(&part)?;
                }
            }
        }
    }

    /// Prints what came.
    fn take(&mut self, part: &Fetched) -> client::Result<()> {
        if part.error_code != ErrorCode::None {
            return Err(Error::Refused(part.error_code));
        }
        let Some(progress) = self.reading.get_mut(&part.partition) else { return Ok(()) };
        let (records, next) = part.records_from(progress.next)?;
        progress.next = next;
        let mut lines = Vec::new();
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        for record in records.iter().take(most) {
            self.print.write(&self.topic, part.partition, record, &mut lines);
            self.left -= 1;
        }
        // Whoever read has gone: nothing is left to do.
        if alone::print_bytes(&lines).is_err() {
            self.left = 0;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::TimestampMs;

    #[test]
    fn a_template_says_what_is_printed() {
        let record = ConsumedRecord {
            offset: Offset(7),
            timestamp: TimestampMs(99),
            key: None,
            value: Some(Bytes::from_static(b"\xffvalue")),
            headers: Vec::new(),
        };
        let shown = |template: &str| {
            let mut target = Vec::new();
            Template::parse(template).unwrap().write("t", 3, &record, &mut target);
            target
        };
        assert_eq!(shown("%v\\n"), b"\xffvalue\n");
        assert_eq!(shown("%t-%p@%o %d\\t[%k] 100%%"), b"t-3@7 99\t[] 100%");
        assert_eq!(shown(""), b"");
        for template in ["%", "%x", "\\q", "a%"] {
            assert!(Template::parse(template).is_err(), "{template}");
        }
    }

    #[test]
    fn places_to_begin_are_understood_or_refused() {
        for (text, expected) in [
            ("earliest", OffsetChoice::Spec(OffsetSpec::Earliest)),
            ("latest", OffsetChoice::Spec(OffsetSpec::Latest)),
            ("12", OffsetChoice::At(Offset(12))),
            ("@12", OffsetChoice::Spec(OffsetSpec::AtOrAfter(TimestampMs(12)))),
        ] {
            assert_eq!(OffsetChoice::parse(text), Ok(expected), "{text}");
        }
        for text in ["", "-1", "@", "@-1", "end", "1.5"] {
            assert!(OffsetChoice::parse(text).is_err(), "{text}");
        }
    }
}
