//! What the clients of transactions asked and were told, as a history: `tests/checker` judges it
//! beside the ledger.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use checker::{
    anomaly::{Anomaly, Finding},
    check,
    history::{
        Action, Commit, Identity, Kind, Mop, Polled, Read, Reads, Recorder, Sends, Sent, Setup,
        Transaction,
    },
};
use client::{CommittedOffset, TransactionalProducer};
use runtime::Runtime;

use super::{ledger::Fate, tellers::LEDGER};

/// What each kind of client's numbers begin with.
pub(crate) const TELLERS: u64 = 100;
pub(crate) const SUCCESSORS: u64 = 200;
pub(crate) const ZOMBIES: u64 = 300;
pub(crate) const AUDITORS: u64 = 400;
pub(crate) const LAST: u64 = 500;

/// Where it is noted.
#[derive(Clone)]
pub(crate) struct Told {
    runtime: Runtime,
    recorder: Rc<RefCell<Recorder>>,
}

impl Told {
    /// Nothing was told yet.
    pub(crate) fn new(runtime: &Runtime) -> Told {
        let told = Told { runtime: runtime.clone(), recorder: Rc::default() };
        told.note(0, Kind::Info, Action::Setup(Setup { idempotent: true, ..Setup::default() }));
        told
    }

    pub(crate) fn now_ns(&self) -> u64 {
        self.runtime.now().0
    }

    pub(crate) fn note(&self, process: u64, kind: Kind, action: Action) {
        let now = self.now_ns();
        self.recorder.borrow_mut().note(process, now, kind, action);
    }

    /// A partition is read from its start.
    pub(crate) fn assigned(&self, process: u64, partition: i32) {
        let action = Action::Assign([(log_name(partition), 0)].into());
        self.note(process, Kind::Invoke, action.clone());
        self.note(process, Kind::Ok, action);
    }

    /// What was polled, or nothing.
    pub(crate) fn polled(&self, process: u64, partition: i32, records: Option<&[(i64, Rc<str>)]>) {
        let read = |(offset, value): &(i64, Rc<str>)| Read {
            offset: *offset,
            value: Some(value.to_string()),
            key: None,
        };
        let mut reads = Reads::new();
        for records in records.into_iter().filter(|records| !records.is_empty()) {
            reads.insert(log_name(partition), records.iter().map(read).collect());
        }
        let kind = if records.is_some() { Kind::Ok } else { Kind::Info };
        self.note(process, kind, Action::Poll(Polled { reads, member: None }));
    }

    /// What a group has committed, as it was told at the end.
    pub(crate) fn offset_fetched(&self, group: &str, found: Option<&CommittedOffset>) {
        let of = |offsets| Commit { group: group.to_owned(), generation: None, offsets };
        self.note(LAST, Kind::Invoke, Action::OffsetFetch(of(BTreeMap::new())));
        let found =
            found.map_or((-1, String::new()), |found| (found.offset.0, found.metadata.clone()));
        let offsets = [(log_name(0), found)].into();
        self.note(LAST, Kind::Ok, Action::OffsetFetch(of(offsets)));
    }

    /// What is wrong with it.
    pub(crate) fn judge(&self) -> Vec<String> {
        match check(self.recorder.borrow().ops()) {
            Ok(report) => {
                let found = report.findings.iter();
                let tell = |(anomaly, finding): (&Anomaly, &Finding)| {
                    let Finding { count, example, .. } = finding;
                    format!("checker: {}: {count}, such as {example}", anomaly.name())
                };
                found.map(tell).collect()
            }
            Err(error) => vec![format!("no history: {error}")],
        }
    }
}

/// A partition of the ledger as a history names it.
pub(crate) fn log_name(partition: i32) -> String {
    format!("{LEDGER}-{partition}")
}

pub(crate) fn identity(producer: &TransactionalProducer) -> Identity {
    let transactional_id = Some(producer.transactional_id().to_owned());
    let state = producer.state();
    Identity { transactional_id, id: state.id().0, epoch: state.epoch().0 }
}

/// Values on their way to a partition.
pub(crate) fn sent(partition: i32, values: &[Rc<str>]) -> Vec<Sent> {
    let of = |value: &Rc<str>| Sent {
        partition: log_name(partition),
        value: Some(value.to_string()),
        ..Sent::default()
    };
    values.iter().map(of).collect()
}

/// A producer by itself, and what it sends: what a replaced one still tries.
pub(crate) fn sends(
    producer: &TransactionalProducer,
    partition: i32,
    values: &[Rc<str>],
) -> Action {
    Action::Send(Sends { producer: Some(identity(producer)), sent: sent(partition, values) })
}

/// The batch of a partition was acknowledged.
pub(crate) fn place(transaction: &mut Transaction, partition: i32, base_offset: Option<i64>) {
    let name = log_name(partition);
    let mut next = base_offset;
    for mop in &mut transaction.mops {
        if let Mop::Send(sent) = mop
            && sent.partition == name
        {
            sent.offset = next;
            next = next.map(|offset| offset + 1);
        }
    }
}

/// How a transaction has ended, for who has asked for it.
pub(crate) fn outcome(fate: Fate) -> Kind {
    match fate {
        // Nobody has asked for its commit, and nobody will.
        Fate::Open | Fate::Aborted => Kind::Fail,
        Fate::Committed => Kind::Ok,
        Fate::Committing | Fate::Doubtful => Kind::Info,
    }
}
