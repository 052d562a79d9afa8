//! A history: what each process of a run asked for, and what it was told, in the order of time.
//!
//! As a file it has one operation a line, as JSON:
//! ```text
//! {"i":7,"proc":2,"t_ns":1500,"type":"invoke","f":"send","value":{"mops":[{"p":"a-0","v":"x"}]}}
//! {"i":8,"proc":2,"t_ns":2700,"type":"ok","f":"send","value":{"mops":[{"p":"a-0","v":"x","o":3}]}}
//! ```
//! A process does one thing at a time. `fail` is said only where it is certain that nothing has
//! happened or will; who got no answer says `info`. Each value is sent once. All that is polled is
//! polled by readers of committed records.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, BufRead, Write},
};

use serde::{Deserialize, Serialize};

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Op {
    /// Its number.
    #[serde(rename = "i")]
    pub index: u64,
    #[serde(rename = "proc")]
    pub process: u64,
    /// By a clock that all processes share and that never goes back.
    #[serde(rename = "t_ns")]
    pub time_ns: u64,
    #[serde(rename = "type")]
    pub kind: Kind,
    #[serde(flatten)]
    pub action: Action,
}

/// Whether it begins something, or how that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Invoke,
    Ok,
    /// It has certainly not happened.
    Fail,
    /// Nobody knows. What happens to the run, which nobody asked for, is told so too.
    Info,
}

/// What is done. A completion says all that is known by then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "f", content = "value", rename_all = "snake_case")]
pub enum Action {
    /// What the run is made of; the first line.
    Setup(Setup),
    /// The process reads these partitions from these offsets on, and no others.
    Assign(BTreeMap<String, i64>),
    /// It joins a group, or joins again; after it, it reads what it was given.
    Subscribe(Membership),
    Send(Sends),
    Poll(Polled),
    Txn(Transaction),
    /// A group's offsets, by themselves.
    Commit(Commit),
    /// The same, asked for.
    OffsetFetch(Commit),
    ListOffsets(Ends),
    InitPid(Identity),
    /// The process has forgotten everything.
    Crash,
    /// What is done to the broker. `heal`: from here on nothing is.
    Nemesis(String),
    /// From here on all is read, from the start to the end, by processes that assign.
    Final,
}

/// What the run is made of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Setup {
    /// All producers are idempotent.
    pub idempotent: bool,
    /// Those that have to take records after the heal.
    pub partitions: Vec<String>,
    /// Those that have to rebalance after the heal.
    pub groups: Vec<String>,
    /// Partitions of compacted topics.
    pub compacted: Vec<String>,
    pub delete_retention_ms: u64,
    pub copies: Vec<Copies>,
}

/// Each record of one topic is copied to another, with the group's offset.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Copies {
    pub group: String,
    /// Partitions.
    pub from: Vec<String>,
    pub to: Vec<String>,
}

/// Who sends: the transactional id, if there is one, the producer's id and epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transactional_id: Option<String>,
    pub id: i64,
    pub epoch: i16,
}

/// A record on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    #[serde(rename = "p")]
    pub partition: String,
    /// `None`: a tombstone.
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Where it is, as the broker has said.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<i64>,
    /// The value that it is a copy of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_of: Option<String>,
}

/// A record as it was read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    #[serde(rename = "o")]
    pub offset: i64,
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// What was read, by partition, in its order.
pub type Reads = BTreeMap<String, Vec<Read>>;

/// Records that are sent by themselves, in this order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sends {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub producer: Option<Identity>,
    #[serde(rename = "mops")]
    pub sent: Vec<Sent>,
}

/// What a poll brought.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Polled {
    #[serde(default)]
    pub reads: Reads,
    /// As which member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<Membership>,
}

/// A step within a transaction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mop {
    Send(Sent),
    Poll(Reads),
}

/// From its begin to the answer to its end. `ok`: it is committed. `fail`: it is aborted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Transaction {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub producer: Option<Identity>,
    pub mops: Vec<Mop>,
    /// Offsets that are committed with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offsets: Option<Commit>,
    /// When its commit was first asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_asked_ns: Option<u64>,
    /// When the request went out that was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_asked_ns: Option<u64>,
}

/// A member of a group, and what it is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    pub group: String,
    pub generation: i32,
    pub member: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partitions: Vec<String>,
}

/// Offsets of a group by partition: the offset, and a word that no other commit has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    pub group: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i32>,
    /// Empty where there is none.
    pub offsets: BTreeMap<String, (i64, String)>,
}

/// Which offset was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    Start,
    /// Behind the last record that readers of uncommitted ones may see.
    End,
    /// Behind the last that readers of committed ones may see.
    Stable,
}

/// Offsets of logs, by partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    pub which: Which,
    #[serde(default)]
    pub offsets: BTreeMap<String, i64>,
}

/// Why a file is no history.
#[derive(Debug)]
pub enum Error {
    /// It shows nothing.
    Empty,
    Io(io::Error),
    /// The line, counted from 1.
    Line(u64, serde_json::Error),
    /// The operation's number.
    NoInvocation(u64),
    /// Time or numbers go back here.
    OutOfOrder(u64),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Empty => formatter.write_str("nothing has happened"),
            Error::Io(error) => error.fmt(formatter),
            Error::Line(line, error) => write!(formatter, "line {line}: {error}"),
            Error::NoInvocation(index) => write!(formatter, "op {index} completes nothing"),
            Error::OutOfOrder(index) => write!(formatter, "op {index} comes before its time"),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::Io(error)
    }
}

/// Reads a history.
///
/// # Errors
/// When the file cannot be read, or a line of it.
pub fn read(from: impl BufRead) -> Result<Vec<Op>, Error> {
    let mut ops = Vec::new();
    for (number, line) in (1..).zip(from.lines()) {
        let op = serde_json::from_str(&line?).map_err(|error| Error::Line(number, error))?;
        ops.push(op);
    }
    Ok(ops)
}

/// Writes operations, one a line.
///
/// # Errors
/// The operating system's.
pub fn write<'a>(mut to: impl Write, ops: impl IntoIterator<Item = &'a Op>) -> io::Result<()> {
    for op in ops {
        serde_json::to_writer(&mut to, op)?;
        to.write_all(b"\n")?;
    }
    Ok(())
}

/// Takes operations as they happen, and numbers them.
#[derive(Debug, Default)]
pub struct Recorder {
    ops: Vec<Op>,
}

impl Recorder {
    /// Notes what happens now.
    ///
    /// # Panics
    /// When time goes back.
    pub fn note(&mut self, process: u64, time_ns: u64, kind: Kind, action: Action) {
        let last = self.ops.last().map_or(0, |last| last.time_ns);
        assert!(last <= time_ns, "time goes back from {last} to {time_ns}");
        let index = self.ops.len() as u64;
        self.ops.push(Op { index, process, time_ns, kind, action });
    }

    /// All of it.
    #[must_use]
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The same, for keeps.
    #[must_use]
    pub fn into_ops(self) -> Vec<Op> {
        self.ops
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let identity = Identity { transactional_id: Some("t".into()), id: 7, epoch: 1 };
        let sent = Sent { partition: "a-0".into(), value: Some("x".into()), ..Sent::default() };
        let reads = Reads::from([("a-0".into(), vec![Read { offset: 3, ..Read::default() }])]);
        let ends = Ends { which: Which::Stable, offsets: [("a-0".into(), 4)].into() };
        let transaction = Transaction {
            producer: Some(identity.clone()),
            mops: vec![Mop::Send(sent.clone()), Mop::Poll(reads)],
            ..Transaction::default()
        };
        let mut recorder = Recorder::default();
        for action in [
            Action::Setup(Setup::default()),
            Action::Assign([("a-0".into(), 0)].into()),
            Action::Send(Sends { producer: Some(identity), sent: vec![sent] }),
            Action::Txn(transaction),
            Action::ListOffsets(ends),
            Action::Crash,
            Action::Final,
        ] {
            recorder.note(1, 5, Kind::Invoke, action);
        }
        let mut bytes = Vec::new();
        write(&mut bytes, recorder.ops()).unwrap();
        assert_eq!(read(&bytes[..]).unwrap(), recorder.ops());
        let line = String::from_utf8(bytes).unwrap().lines().nth(2).unwrap().to_owned();
        assert!(line.starts_with(r#"{"i":2,"proc":1,"t_ns":5,"type":"invoke","f":"send","#));
    }

    #[test]
    fn a_broken_line_is_named() {
        assert!(matches!(read(&b"{}"[..]), Err(Error::Line(1, _))));
    }
}
