//! The order in which a process reads: each record after the one before it, and none left out that
//! others have read.
//!
//! Between two operations that holds for who assigns; a group's member may be given other
//! partitions in between, and starts at what was committed.

use std::{cmp::Ordering, collections::BTreeMap};

use crate::{
    anomaly::{Anomaly, Report},
    facts::{Call, CallId, Facts, LogId, PolledRecord},
    history::Action,
};

/// How a process came to its partitions, and what it has read last of each.
#[derive(Default)]
struct Place {
    is_assigned: bool,
    last: BTreeMap<LogId, (i64, CallId)>,
}

pub(crate) fn check(facts: &Facts<'_>, report: &mut Report) {
    let mut places: BTreeMap<u64, Place> = BTreeMap::new();
    let mut reads = facts.reads.iter().peekable();
    for (id, call) in facts.calls.iter().enumerate() {
        let place = places.entry(call.begun.process).or_default();
        take_place(facts, call, place);
        let mut within: BTreeMap<LogId, i64> = BTreeMap::new();
        while let Some(read) = reads.next_if(|read| read.call == id) {
            if facts.logs[read.log].is_compacted {
                continue;
            }
            if let Some(before) = within.insert(read.log, read.offset) {
                let names = (Anomaly::IntNonmonotonicPoll, Anomaly::IntPollSkip);
                compare(facts, read, (before, id), names, report);
            } else if let Some((before, call)) = place.last.get(&read.log).copied() {
                let names = (Anomaly::NonmonotonicPoll, Anomaly::PollSkip);
                compare(facts, read, (before, call), names, report);
            }
        }
        if place.is_assigned {
            place.last.extend(within.into_iter().map(|(log, offset)| (log, (offset, id))));
        }
    }
}

fn take_place(facts: &Facts<'_>, call: &Call<'_>, place: &mut Place) {
    if !call.is_ok() {
        return;
    }
    if let Action::Assign(from) = call.action() {
        // It reads on from where it says, which need not be where it was.
        place.is_assigned = true;
        place.last.clear();
        for (partition, offset) in from {
            if let Some(log) = facts.log_id(partition).filter(|_| *offset > 0) {
                place.last.insert(log, (offset - 1, facts.calls.len()));
            }
        }
    } else if let Action::Subscribe(_) = call.action() {
        place.is_assigned = false;
        place.last.clear();
    }
}

fn compare(
    facts: &Facts<'_>,
    read: &PolledRecord,
    (before, call): (i64, CallId),
    (goes_back, skips): (Anomaly, Anomaly),
    report: &mut Report,
) {
    let log = &facts.logs[read.log];
    let earlier = facts.calls.get(call).map(Call::index);
    let mut ops: Vec<u64> = earlier.into_iter().chain([facts.calls[read.call].index()]).collect();
    ops.dedup();
    if read.offset <= before {
        let text = format!("{}: {} after {before}", log.name, read.offset);
        report.note(goes_back, &ops, text);
        return;
    }
    // What is not there in the end is gone, and not passed over.
    if facts.is_final(read.call) {
        return;
    }
    let next = match log.read.binary_search_by(|offset| offset.cmp(&before)) {
        Ok(at) => at + 1,
        Err(at) => at,
    };
    if let Some(between) =
        log.read.get(next).filter(|next| next.cmp(&&read.offset) == Ordering::Less)
    {
        let text = format!("{}: {} after {before}, without {between}", log.name, read.offset);
        report.note(skips, &ops, text);
    }
}
