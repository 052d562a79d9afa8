//! The anomalies by name, and what was found of each.

use std::{collections::BTreeMap, fmt};

use crate::{
    facts::Facts,
    history::{Action, Kind},
};

macro_rules! anomalies {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// What a history must not have.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Anomaly {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Anomaly {
            /// All of them.
            pub const ALL: &'static [Anomaly] = &[$(Anomaly::$name,)+];

            /// Its usual name.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Anomaly::$name => $text,)+
                }
            }
        }
    };
}

anomalies! {
    /// Two values at one offset.
    InconsistentOffsets = "inconsistent-offsets",
    /// A value at two offsets of its partition.
    Duplicate = "duplicate",
    /// Acknowledged, and passed over by all readers.
    LostWrite = "lost-write",
    /// Acknowledged, and not there when all had been read.
    Unseen = "unseen",
    /// Read, and its writer has aborted.
    AbortedRead = "G1a",
    /// Read by the transaction that wrote it.
    PrecommittedRead = "precommitted-read",
    /// Read before anybody had asked for the commit.
    DirtyRead = "dirty-read",
    /// Read, and nobody has sent it there.
    PhantomRead = "phantom-read",
    /// Within one operation, a record was passed over that others have read.
    IntPollSkip = "int-poll-skip",
    /// Within one operation, offsets did not grow.
    IntNonmonotonicPoll = "int-nonmonotonic-poll",
    /// From one operation to the next, a record was passed over that others have read.
    PollSkip = "poll-skip",
    /// From one operation to the next, offsets did not grow.
    NonmonotonicPoll = "nonmonotonic-poll",
    /// One operation's sends came to lie in another order.
    IntNonmonotonicSend = "int-nonmonotonic-send",
    /// One process' sends came to lie in another order.
    NonmonotonicSend = "nonmonotonic-send",
    /// Transactions that have each read of the next one.
    CircularReads = "G1c",
    /// Of a transaction some records are there and others are not.
    TornTransaction = "torn-txn",
    /// A record is not where the broker said it was.
    AckedOffset = "acked-offset",
    /// Read once, and gone.
    VanishedRead = "vanished-read",
    /// A producer that another had replaced was still served.
    Zombie = "zombie",
    /// A commit of a generation that was over was accepted.
    ZombieCommit = "zombie-commit",
    /// A group's offsets are not those of one register.
    OffsetRegister = "offset-register",
    /// Two members of one generation have one partition.
    DoubleOwnership = "double-ownership",
    /// Records were copied twice or never, or not with their offset.
    Copy = "eos-copy",
    /// The start or end of a log went back.
    EndsRegress = "ends-regress",
    /// A key's latest value did not survive.
    Compaction = "compaction",
    /// After the heal something did not work again in time.
    Liveness = "liveness",
}

/// How often an anomaly was found, and the shortest account of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub count: u64,
    pub example: String,
    /// The operations that it is made of.
    pub ops: Vec<u64>,
}

/// What a history is worth, and what is wrong with it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub findings: BTreeMap<Anomaly, Finding>,
    /// Completions by operation and kind.
    pub counts: BTreeMap<(&'static str, Kind), u64>,
    /// Polled records.
    pub reads: u64,
    /// The longest time without a successful send or commit while somebody tried.
    pub unavailable_ns: u64,
}

impl Report {
    pub(crate) fn new(facts: &Facts<'_>) -> Report {
        let mut report = Report { reads: facts.reads.len() as u64, ..Report::default() };
        let mut last = None;
        for call in &facts.calls {
            let (name, kind) = (name_of(call.action()), call.outcome());
            *report.counts.entry((name, kind)).or_default() += 1;
            let is_write = matches!(call.action(), Action::Send(_) | Action::Txn(_));
            if let Some(end) = call.ended.filter(|_| is_write && kind == Kind::Ok) {
                let pause = last.map_or(0, |last| end.time_ns.saturating_sub(last));
                report.unavailable_ns = report.unavailable_ns.max(pause);
                last = Some(end.time_ns);
            }
        }
        report
    }

    /// Notes a case of an anomaly, made of these operations.
    pub(crate) fn note(&mut self, anomaly: Anomaly, ops: &[u64], example: String) {
        let finding = self.findings.entry(anomaly).or_insert_with(|| Finding {
            count: 0,
            example: example.clone(),
            ops: ops.to_vec(),
        });
        finding.count += 1;
        if (ops.len(), example.len()) < (finding.ops.len(), finding.example.len()) {
            finding.example = example;
            finding.ops = ops.to_vec();
        }
    }

    /// Nothing was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    /// How many completions there were of an operation.
    #[must_use]
    pub fn count(&self, action: &str, kind: Kind) -> u64 {
        let found = self.counts.iter().find(|((name, its), _)| *name == action && *its == kind);
        found.map_or(0, |(_, count)| *count)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<&str> = self.counts.keys().map(|(name, _)| *name).collect();
        names.dedup();
        for name in names {
            let [ok, fail, info] =
                [Kind::Ok, Kind::Fail, Kind::Info].map(|kind| self.count(name, kind));
            writeln!(formatter, "  {name}: {ok} ok, {fail} failed, {info} unknown")?;
        }
        let pause_ms = self.unavailable_ns / 1_000_000;
        writeln!(formatter, "  {} records polled; longest pause {pause_ms} ms", self.reads)?;
        for (anomaly, finding) in &self.findings {
            let Finding { count, example, ops } = finding;
            writeln!(formatter, "{}: {count}, such as {example} (ops {ops:?})", anomaly.name())?;
        }
        Ok(())
    }
}

/// What an operation is called in a file.
fn name_of(action: &Action) -> &'static str {
    match action {
        Action::Setup(_) => "setup",
        Action::Assign(_) => "assign",
        Action::Subscribe(_) => "subscribe",
        Action::Send(_) => "send",
        Action::Poll(_) => "poll",
        Action::Txn(_) => "txn",
        Action::Commit(_) => "commit",
        Action::OffsetFetch(_) => "offset_fetch",
        Action::ListOffsets(_) => "list_offsets",
        Action::InitPid(_) => "init_pid",
        Action::Crash => "crash",
        Action::Nemesis(_) => "nemesis",
        Action::Final => "final",
    }
}
