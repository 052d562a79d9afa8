//! What lies where: each offset has one value, each value one offset, and nothing is missing.

use crate::{
    anomaly::{Anomaly, Report},
    facts::{CallId, Facts, Log, Value, ValueId},
    history::{Action, Kind},
};

pub(crate) fn check(facts: &Facts<'_>, report: &mut Report) {
    for log in &facts.logs {
        check_offsets(facts, log, report);
    }
    check_places(facts, report);
    check_losses(facts, report);
    check_transactions(facts, report);
}

/// The operations that have shown a value.
fn shown_by(facts: &Facts<'_>, value: &Value<'_>) -> Vec<u64> {
    let calls = [value.writer, value.reader];
    calls.into_iter().flatten().map(|call| facts.calls[call].index()).collect()
}

fn check_offsets(facts: &Facts<'_>, log: &Log<'_>, report: &mut Report) {
    for pair in log.known.windows(2) {
        let [(offset, one), (next, other)] = pair else { continue };
        if offset == next {
            let [one, other] = [one, other].map(|id| &facts.values[*id]);
            let ops = [shown_by(facts, one), shown_by(facts, other)].concat();
            let text = format!("{} {offset}: {} and {}", log.name, one.name, other.name);
            report.note(Anomaly::InconsistentOffsets, &ops, text);
        }
    }
}

/// Each value is read at one offset, the one that was told.
fn check_places(facts: &Facts<'_>, report: &mut Report) {
    // Where each is read, beside the first place.
    let mut second: Vec<Option<(i64, CallId)>> = vec![None; facts.values.len()];
    for read in &facts.reads {
        let value = &facts.values[read.value];
        if read.log == value.log && value.read != Some(read.offset) {
            second[read.value].get_or_insert((read.offset, read.call));
        }
    }
    for (value, second) in facts.values.iter().zip(second) {
        let Some(first) = value.read else { continue };
        let name = facts.logs[value.log].name;
        let mut ops = shown_by(facts, value);
        let acked = value.acked.filter(|acked| *acked != first);
        let acked = acked.filter(|acked| second.is_none_or(|(offset, _)| offset != *acked));
        if let Some(acked) = acked {
            let text = format!("{name}: {} was told to be at {acked}, is at {first}", value.name);
            report.note(Anomaly::AckedOffset, &ops, text);
        }
        if let Some((offset, call)) = second.filter(|_| facts.setup.idempotent) {
            ops.push(facts.calls[call].index());
            let text = format!("{name}: {} is at {first} and {offset}", value.name);
            report.note(Anomaly::Duplicate, &ops, text);
        }
    }
}

/// What was acknowledged, or read once, is there.
fn check_losses(facts: &Facts<'_>, report: &mut Report) {
    let mut bounds: Vec<Option<i64>> = vec![None; facts.logs.len()];
    for value in &facts.values {
        bounds[value.log] = bounds[value.log].max(value.read);
    }
    let torn = seen_in_part(facts);
    for value in &facts.values {
        let log = &facts.logs[value.log];
        if log.is_compacted {
            continue;
        }
        let ops = shown_by(facts, value);
        if value.read.is_some() {
            if log.is_drained && !value.is_in_final {
                let text = format!("{}: {} was read, and is gone", log.name, value.name);
                report.note(Anomaly::VanishedRead, &ops, text);
            }
            continue;
        }
        let Some(writer) = value.writer else { continue };
        if !facts.calls[writer].is_ok() || torn[writer] {
            continue;
        }
        if value.acked.is_some_and(|offset| Some(offset) <= bounds[value.log]) {
            let text = format!("{}: {} at {:?}", log.name, value.name, value.acked);
            report.note(Anomaly::LostWrite, &ops, text);
        } else if log.is_drained || (facts.final_index.is_some() && bounds[value.log].is_none()) {
            let text = format!("{}: {} at {:?}", log.name, value.name, value.acked);
            report.note(Anomaly::Unseen, &ops, text);
        }
    }
}

/// Of which transactions something was read, and something was not.
fn seen_in_part(facts: &Facts<'_>) -> Vec<bool> {
    let mut seen = vec![false; facts.calls.len()];
    let mut unseen = vec![false; facts.calls.len()];
    for value in &facts.values {
        if let Some(writer) = value.writer {
            let of = if value.read.is_some() { &mut seen } else { &mut unseen };
            of[writer] = true;
        }
    }
    let is_torn = |(id, (seen, unseen)): (usize, (bool, bool))| {
        seen && unseen && matches!(facts.calls[id].action(), Action::Txn(_))
    };
    seen.into_iter().zip(unseen).enumerate().map(is_torn).collect()
}

fn check_transactions(facts: &Facts<'_>, report: &mut Report) {
    if facts.final_index.is_none() {
        return;
    }
    let torn = seen_in_part(facts);
    let mut missing: Vec<Option<ValueId>> = vec![None; facts.calls.len()];
    for send in facts.sends.iter().filter(|send| torn[send.call]) {
        let value = &facts.values[send.value];
        let log = &facts.logs[value.log];
        if value.read.is_none() && log.is_drained && !log.is_compacted {
            missing[send.call].get_or_insert(send.value);
        }
    }
    for (call, missing) in facts.calls.iter().zip(missing) {
        if let Some(missing) = missing.filter(|_| call.outcome() != Kind::Fail) {
            let value = &facts.values[missing];
            let log = facts.logs[value.log].name;
            let text = format!("{} is missing in {log}, others of its are there", value.name);
            report.note(Anomaly::TornTransaction, &[call.index()], text);
        }
    }
}
