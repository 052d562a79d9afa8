//! After the heal everything works again, within its time.

use std::collections::BTreeSet;

use crate::{
    anomaly::{Anomaly, Report},
    facts::Facts,
    history::Action,
};

/// How long after the heal each partition takes records, and each group has a new generation.
const WITHIN_NS: u64 = 30_000_000_000;

pub(crate) fn check(facts: &Facts<'_>, report: &mut Report) {
    let Some(healed_ns) = facts.healed_ns else { return };
    let (mut written, mut rebalanced) = (BTreeSet::new(), BTreeSet::new());
    for call in facts.calls.iter().filter(|call| call.is_ok()) {
        if call.begun_ns() < healed_ns || call.ended_ns() > healed_ns + WITHIN_NS {
            continue;
        }
        if let Action::Send(sends) = call.action() {
            written.extend(sends.sent.iter().map(|sent| sent.partition.as_str()));
        } else if let Action::Subscribe(member) = call.action() {
            rebalanced.insert(member.group.as_str());
        }
    }
    for (all, done, what) in [
        (&facts.setup.partitions, &written, "takes no records"),
        (&facts.setup.groups, &rebalanced, "has no new generation"),
    ] {
        for name in all.iter().filter(|name| !done.contains(name.as_str())) {
            report.note(Anomaly::Liveness, &[], format!("{name} {what} after the heal"));
        }
    }
}
