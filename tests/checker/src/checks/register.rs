//! A group's offset of a partition is a register that is linearizable.
//!
//! Each commit has a word of its own, so that a read says which commit it has seen, and the order
//! can be decided without a search (Gibbons, Korach: Testing Shared Memories, 1997). A commit and
//! its reads are a cluster. `low` is the first time at which one of them had ended, `high` the last
//! at which one began: if `low < high`, the register must have had this value all the time between
//! (a forward zone); otherwise somewhen between (a backward one). The register is linearizable if
//! no two forward zones overlap, no backward zone lies within a forward one, and nothing is read
//! before it was asked for.

use std::collections::BTreeMap;

use crate::{
    anomaly::{Anomaly, Report},
    facts::{Call, Facts},
    history::{Action, Commit, Kind},
};

/// A commit and its reads.
#[derive(Debug)]
struct Cluster {
    begun_ns: u64,
    low: u64,
    high: u64,
    ops: Vec<u64>,
    is_read: bool,
    /// It must have happened.
    is_certain: bool,
}

/// By the word of the commit; the empty one is what was there before all.
type Register<'h> = BTreeMap<&'h str, Cluster>;

pub(crate) fn check(facts: &Facts<'_>, report: &mut Report) {
    let mut registers: BTreeMap<(&str, &str), Register<'_>> = BTreeMap::new();
    for call in &facts.calls {
        if call.outcome() == Kind::Fail {
            continue;
        }
        let Some((commit, begun_ns)) = written(call) else { continue };
        for (partition, (_, word)) in &commit.offsets {
            let register = registers.entry((&commit.group, partition)).or_default();
            let (low, high) = (call.ended_ns(), begun_ns);
            let (is_read, is_certain) = (false, call.is_ok());
            let ops = vec![call.index()];
            register.insert(word, Cluster { begun_ns, low, high, ops, is_read, is_certain });
        }
    }
    for call in facts.calls.iter().filter(|call| call.is_ok()) {
        let Action::OffsetFetch(read) = call.action() else { continue };
        for (partition, (offset, word)) in &read.offsets {
            let name = (read.group.as_str(), partition.as_str());
            let register = registers.entry(name).or_default();
            if !note_read(register, call, word) {
                let text = format!("{name:?}: {offset} ({word}) was read, and not committed");
                report.note(Anomaly::OffsetRegister, &[call.index()], text);
            }
        }
    }
    for (name, register) in &registers {
        if let Some(ops) = contradiction(register) {
            report.note(Anomaly::OffsetRegister, &ops, format!("{name:?}"));
        }
    }
}

/// What a call commits, and when that can have begun.
fn written<'h>(call: &Call<'h>) -> Option<(&'h Commit, u64)> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others commit nothing")]
    match call.action() {
        Action::Commit(commit) => Some((commit, call.begun_ns())),
        Action::Txn(transaction) => {
            let begun_ns = transaction.first_asked_ns.unwrap_or_else(|| call.begun_ns());
            transaction.offsets.as_ref().map(|commit| (commit, begun_ns))
        }
        _ => None,
    }
}

/// False if nobody has committed what was read, or not yet.
fn note_read<'h>(register: &mut Register<'h>, call: &Call<'_>, word: &'h str) -> bool {
    if word.is_empty() {
        register.entry(word).or_insert_with(|| Cluster {
            begun_ns: 0,
            low: 0,
            high: 0,
            ops: Vec::new(),
            is_read: true,
            is_certain: true,
        });
    }
    let Some(cluster) = register.get_mut(word) else { return false };
    if call.ended_ns() < cluster.begun_ns {
        return false;
    }
    if call.begun_ns() > cluster.high || cluster.ops.is_empty() {
        cluster.ops.truncate(1);
        cluster.ops.push(call.index());
    }
    cluster.low = cluster.low.min(call.ended_ns());
    cluster.high = cluster.high.max(call.begun_ns());
    cluster.is_read = true;
    true
}

/// Operations that cannot be put in an order.
fn contradiction(register: &Register<'_>) -> Option<Vec<u64>> {
    // What has no answer and was not read need not have happened.
    let zones = register.values().filter(|cluster| cluster.is_read || cluster.is_certain);
    let (mut forward, backward): (Vec<_>, Vec<_>) =
        zones.partition(|cluster| cluster.low < cluster.high);
    forward.sort_by_key(|cluster| cluster.low);
    let both = |one: &Cluster, other: &Cluster| [one.ops.clone(), other.ops.clone()].concat();
    for pair in forward.windows(2) {
        if pair[1].low < pair[0].high {
            return Some(both(pair[0], pair[1]));
        }
    }
    for zone in backward {
        // It is [high, low]: only the last forward zone that begins before it can hold it.
        let count = forward.partition_point(|other| other.low < zone.high);
        let holder = count.checked_sub(1).map(|last| forward[last]);
        if let Some(holder) = holder.filter(|holder| zone.low < holder.high) {
            return Some(both(holder, zone));
        }
    }
    None
}
