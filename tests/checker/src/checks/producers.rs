//! Producers: what one process sends lies in its order, and who was replaced is refused.

use std::collections::BTreeMap;

use crate::{
    anomaly::{Anomaly, Report},
    facts::{Call, CallId, Facts, LogId, producer_of},
    history::{Action, Identity},
};

pub(crate) fn check(facts: &Facts<'_>, report: &mut Report) {
    check_order(facts, report);
    check_zombies(facts, report);
}

fn check_order(facts: &Facts<'_>, report: &mut Report) {
    let mut last: BTreeMap<(u64, LogId), (i64, CallId)> = BTreeMap::new();
    for send in &facts.sends {
        let (call, value) = (&facts.calls[send.call], &facts.values[send.value]);
        let Some(offset) = value.acked.filter(|_| call.is_ok()) else { continue };
        let key = (call.begun.process, value.log);
        if let Some((before, earlier)) = last.insert(key, (offset, send.call))
            && offset <= before
        {
            let (anomaly, ops) = if earlier == send.call {
                (Anomaly::IntNonmonotonicSend, vec![call.index()])
            } else {
                let ops = vec![facts.calls[earlier].index(), call.index()];
                (Anomaly::NonmonotonicSend, ops)
            };
            let log = facts.logs[value.log].name;
            report.note(anomaly, &ops, format!("{log}: at {before}, then at {offset}"));
        }
    }
}

/// When a transactional id was given to somebody, and as what.
struct Taken<'h> {
    at_ns: u64,
    index: u64,
    identity: &'h Identity,
}

fn check_zombies(facts: &Facts<'_>, report: &mut Report) {
    let mut taken: BTreeMap<&str, Vec<Taken<'_>>> = BTreeMap::new();
    for call in facts.calls.iter().filter(|call| call.is_ok()) {
        if let Action::InitPid(identity) = call.action()
            && let Some(name) = &identity.transactional_id
        {
            let one = Taken { at_ns: call.ended_ns(), index: call.index(), identity };
            taken.entry(name).or_default().push(one);
        }
    }
    for list in taken.values_mut() {
        list.sort_by_key(|taken| taken.index);
    }
    for call in facts.calls.iter().filter(|call| call.is_ok()) {
        let Some(identity) = producer_of(call.action()) else { continue };
        let name = identity.transactional_id.as_deref();
        let Some(list) = name.and_then(|name| taken.get(name)) else { continue };
        let asked_ns = asked_ns(call);
        let count = list.partition_point(|taken| taken.at_ns < asked_ns);
        let Some(holder) = count.checked_sub(1).map(|last| &list[last]) else { continue };
        let its = holder.identity;
        // An epoch that the end of a transaction has raised is the holder's own.
        if its.id != identity.id || its.epoch > identity.epoch {
            let (its, old) = ((its.id, its.epoch), (identity.id, identity.epoch));
            let text = format!("{name:?}: {old:?} was served after {its:?} was given out");
            report.note(Anomaly::Zombie, &[holder.index, call.index()], text);
        }
    }
}

/// When the request went out that was answered last.
fn asked_ns(call: &Call<'_>) -> u64 {
    let Action::Txn(transaction) = call.action() else { return call.begun_ns() };
    transaction.last_asked_ns.unwrap_or_else(|| call.begun_ns())
}
