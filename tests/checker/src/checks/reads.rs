//! What may be read at all: what somebody has sent there, and committed.

use crate::{
    anomaly::{Anomaly, Report},
    facts::Facts,
    history::{Action, Kind},
};

pub(crate) fn check(facts: &Facts<'_>, report: &mut Report) {
    for read in &facts.reads {
        let value = &facts.values[read.value];
        let (log, reader) = (facts.logs[read.log].name, &facts.calls[read.call]);
        let text = || format!("{log} {}: {}", read.offset, value.name);
        // A tombstone without an answer is nobody's: its name has its offset.
        let is_tombstone = value.sent.is_none() && value.name.starts_with("tombstone ");
        let Some(writer) = value.writer.filter(|_| value.log == read.log) else {
            if !is_tombstone {
                report.note(Anomaly::PhantomRead, &[reader.index()], text());
            }
            continue;
        };
        let call = &facts.calls[writer];
        let ops = [call.index(), reader.index()];
        if writer == read.call {
            report.note(Anomaly::PrecommittedRead, &ops, text());
        } else if call.outcome() == Kind::Fail {
            report.note(Anomaly::AbortedRead, &ops, text());
        } else if let Action::Txn(transaction) = call.action() {
            let asked = transaction.first_asked_ns;
            if asked.is_some_and(|asked| reader.ended_ns() < asked) {
                report.note(Anomaly::DirtyRead, &ops, text());
            }
        }
    }
}
