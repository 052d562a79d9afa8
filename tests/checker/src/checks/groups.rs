//! Groups: a partition has one owner in a generation, and who is not in the last one commits no
//! more.

use std::collections::BTreeMap;

use crate::{
    anomaly::{Anomaly, Report},
    facts::{Call, Facts},
    history::{Action, Membership},
};

pub(crate) fn check(facts: &Facts<'_>, report: &mut Report) {
    check_owners(facts, report);
    check_generations(facts, report);
}

fn check_owners(facts: &Facts<'_>, report: &mut Report) {
    type Place<'h> = (&'h str, i32, &'h str);
    let mut owners: BTreeMap<Place<'_>, (&str, u64)> = BTreeMap::new();
    for call in facts.calls.iter().filter(|call| call.is_ok()) {
        let Some((member, partitions)) = owned(call) else { continue };
        for partition in partitions {
            let place = (member.group.as_str(), member.generation, partition);
            let (owner, since) =
                *owners.entry(place).or_insert_with(|| (&member.member, call.index()));
            if owner != member.member {
                let Membership { group, generation, member, .. } = member;
                let text = format!("{group} {generation}: {partition} is {owner}'s and {member}'s");
                report.note(Anomaly::DoubleOwnership, &[since, call.index()], text);
            }
        }
    }
}

/// What a member was given, or has read.
fn owned<'h>(call: &Call<'h>) -> Option<(&'h Membership, Vec<&'h str>)> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "the others are not a member's")]
    match call.action() {
        Action::Subscribe(member) => {
            Some((member, member.partitions.iter().map(String::as_str).collect()))
        }
        Action::Poll(polled) => {
            let partitions = polled.reads.keys().map(String::as_str);
            polled.member.as_ref().map(|member| (member, partitions.collect()))
        }
        _ => None,
    }
}

fn check_generations(facts: &Facts<'_>, report: &mut Report) {
    // Of each group, when a generation higher than all before was told of.
    let mut risen: BTreeMap<&str, Vec<(u64, i32, u64)>> = BTreeMap::new();
    let mut joins: Vec<(&Call<'_>, &Membership)> = Vec::new();
    for call in facts.calls.iter().filter(|call| call.is_ok()) {
        if let Action::Subscribe(member) = call.action() {
            joins.push((call, member));
        }
    }
    joins.sort_by_key(|(call, _)| call.index());
    for (call, member) in joins {
        let list = risen.entry(&member.group).or_default();
        if list.last().is_none_or(|(_, generation, _)| *generation < member.generation) {
            list.push((call.ended_ns(), member.generation, call.index()));
        }
    }
    for call in facts.calls.iter().filter(|call| call.is_ok()) {
        let Action::Commit(commit) = call.action() else { continue };
        let Some(generation) = commit.generation else { continue };
        let list = risen.get(commit.group.as_str()).map(Vec::as_slice).unwrap_or_default();
        let count = list.partition_point(|(at_ns, ..)| *at_ns < call.begun_ns());
        let Some((_, newest, index)) = count.checked_sub(1).map(|last| list[last]) else {
            continue;
        };
        if newest > generation {
            let text = format!("{}: {generation} has committed, after {newest}", commit.group);
            report.note(Anomaly::ZombieCommit, &[index, call.index()], text);
        }
    }
}
