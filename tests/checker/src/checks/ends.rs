//! The ends of a log never go back: what was told, acknowledged or read stays within them.

use std::collections::BTreeMap;

use crate::{
    anomaly::{Anomaly, Report},
    facts::{Facts, LogId},
    history::{Action, Which},
};

/// What is known of an end, by the time of the knowledge: the time, the offset, the operation.
type Known = Vec<(u64, i64, u64)>;

pub(crate) fn check(facts: &Facts<'_>, report: &mut Report) {
    let known = known(facts);
    for call in facts.calls.iter().filter(|call| call.is_ok()) {
        let Action::ListOffsets(ends) = call.action() else { continue };
        for (partition, offset) in &ends.offsets {
            let Some(log) = facts.log_id(partition) else { continue };
            let list = known.get(&(ends.which as u8, log)).map(Vec::as_slice).unwrap_or_default();
            let count = list.partition_point(|(at_ns, ..)| *at_ns < call.begun_ns());
            let Some((_, least, index)) = count.checked_sub(1).map(|last| list[last]) else {
                continue;
            };
            if *offset < least {
                let which = ends.which;
                let text = format!("{partition}: {which:?} is {offset}, and was {least}");
                report.note(Anomaly::EndsRegress, &[index, call.index()], text);
            }
        }
    }
}

/// Of each end of each log what it is at least, ever more.
fn known(facts: &Facts<'_>) -> BTreeMap<(u8, LogId), Known> {
    let mut known: BTreeMap<(u8, LogId), Known> = BTreeMap::new();
    let mut note = |which: Which, log, at_ns, offset, index| {
        known.entry((which as u8, log)).or_default().push((at_ns, offset, index));
    };
    for call in facts.calls.iter().filter(|call| call.is_ok()) {
        let Action::ListOffsets(ends) = call.action() else { continue };
        for (partition, offset) in &ends.offsets {
            if let Some(log) = facts.log_id(partition) {
                note(ends.which, log, call.ended_ns(), *offset, call.index());
            }
        }
    }
    for send in &facts.sends {
        let (call, value) = (&facts.calls[send.call], &facts.values[send.value]);
        if let Some(offset) = value.acked.filter(|_| call.is_ok()) {
            note(Which::End, value.log, call.ended_ns(), offset + 1, call.index());
        }
    }
    for read in &facts.reads {
        let call = &facts.calls[read.call];
        for which in [Which::End, Which::Stable] {
            note(which, read.log, call.ended_ns(), read.offset + 1, call.index());
        }
    }
    for list in known.values_mut() {
        list.sort_unstable();
        let mut best = (i64::MIN, 0);
        for (_, offset, index) in &mut *list {
            if *offset > best.0 {
                best = (*offset, *index);
            }
            (*offset, *index) = best;
        }
    }
    known
}
