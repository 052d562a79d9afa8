//! Exactly once: each record that the group's offset has passed is copied once, no other is.

use std::collections::BTreeMap;

use crate::{
    anomaly::{Anomaly, Report},
    facts::Facts,
    history::{Action, Copies},
};

pub(crate) fn check(facts: &Facts<'_>, report: &mut Report) {
    if facts.final_index.is_none() {
        return;
    }
    for copies in &facts.setup.copies {
        check_one(facts, copies, report);
    }
}

fn check_one(facts: &Facts<'_>, copies: &Copies, report: &mut Report) {
    let Some(committed) = committed(facts, &copies.group) else { return };
    let is_of = |list: &[String], log: usize| list.iter().any(|one| *one == facts.logs[log].name);
    // The operations that copied each value, as far as that is there.
    let mut copied: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for value in facts.values.iter().filter(|value| is_of(&copies.to, value.log)) {
        let of = value.sent.and_then(|sent| sent.copy_of.as_deref());
        if let (Some(of), Some(writer), true) = (of, value.writer, value.is_in_final) {
            copied.entry(of).or_default().push(facts.calls[writer].index());
        }
    }
    for value in facts.values.iter().filter(|value| is_of(&copies.from, value.log)) {
        let (Some(offset), true) = (value.read, value.is_in_final) else { continue };
        let log = facts.logs[value.log].name;
        let position = committed.get(log).map_or(0, |(position, _)| *position);
        let ops = copied.remove(&*value.name).unwrap_or_default();
        if ops.len() != usize::from(offset < position) {
            let text = format!(
                "{} at {log} {offset} is copied {} times, the offset is {position}",
                value.name,
                ops.len()
            );
            report.note(Anomaly::Copy, &ops, text);
        }
    }
    for (value, ops) in copied {
        report.note(Anomaly::Copy, &ops, format!("{value} is copied, and is not there"));
    }
}

/// The group's offsets as they were last told.
fn committed<'h>(facts: &Facts<'h>, group: &str) -> Option<&'h BTreeMap<String, (i64, String)>> {
    let reads = facts.calls.iter().enumerate().rev();
    reads.filter(|(id, call)| call.is_ok() && facts.is_final(*id)).find_map(|(_, call)| {
        let Action::OffsetFetch(read) = call.action() else { return None };
        (read.group == group).then_some(&read.offsets)
    })
}
