//! The rules, by what they look at.

mod compaction;
mod copies;
mod ends;
mod graph;
mod groups;
mod liveness;
mod logs;
mod polls;
mod producers;
mod reads;
mod register;

use crate::{anomaly::Report, facts::Facts};

/// Applies all rules.
pub(crate) fn run(facts: &Facts<'_>, report: &mut Report) {
    logs::check(facts, report);
    reads::check(facts, report);
    polls::check(facts, report);
    producers::check(facts, report);
    graph::check(facts, report);
    groups::check(facts, report);
    register::check(facts, report);
    copies::check(facts, report);
    ends::check(facts, report);
    compaction::check(facts, report);
    liveness::check(facts, report);
}
