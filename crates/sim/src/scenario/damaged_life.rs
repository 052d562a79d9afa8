//! The life of a broker on a disk that has damaged what was durable, and the operator who gives up
//! what is lost after it.

use std::{rc::Rc, time::Duration};

use super::{
    LOOK_INTERVAL, PATIENCE, Scenario,
    damage::{self, DamagePlan, OFFSETS_TOPIC, State, Target},
};
use crate::Crash;

/// How long the broker runs with its damage, before and after it is hit while it runs: some passes
/// of who reads everything over and over.
const DAMAGED_TIME: Duration = Duration::from_millis(300);
/// What a dead process had in flight has landed after this time: an operator comes later.
const OPERATOR_DELAY: Duration = Duration::from_millis(60);

impl Scenario {
    /// Strikes the disk of the stopped broker and lets it live on that. False if the run is over.
    pub(super) fn live_damaged(&mut self, plan: &DamagePlan, shard_count: u16) -> bool {
        self.strike(plan.count, plan.target, State::AtRest);
        self.broker.start(&mut self.simulation, shard_count);
        self.broker.set_may_give_up(plan.target == Target::Metadata);
        if !self.wait_until_ready() {
            return false;
        }
        self.broker.set_may_give_up(false);
        if !self.wait(DAMAGED_TIME) {
            return false;
        }
        if plan.count_running > 0 {
            self.strike(plan.count_running, plan.target, State::Running);
            if !self.wait(DAMAGED_TIME) {
                return false;
            }
        }
        if !self.end_damaged(plan) || !self.wait(OPERATOR_DELAY) {
            return false;
        }
        self.accept_losses(plan)
    }

    fn strike(&mut self, count: u64, target: Target, state: State) {
        for _ in 0..count {
            let history = Rc::clone(&self.history);
            let (rng, struck) = (&mut self.extras, &mut self.struck);
            let hits = self.simulation.with_disk(self.broker.node(), |disk| {
                let is_hit = |partition: &_| history.borrow().losses.is_damaged(partition);
                damage::strike(disk, target, state, is_hit, rng, struck)
            });
            let mut history = self.history.borrow_mut();
            for hit in hits.into_iter().filter(|_| target == Target::Logs) {
                tracing::info!(partition = ?hit.partition, offsets = ?hit.offsets, hit.is_end, "hit");
                history.counts.damages += 1;
                history.counts.damaged_ends += u64::from(hit.is_end);
                history.losses.note(&hit.partition, hit.offsets, hit.is_end);
            }
        }
    }

    /// Waits until the broker serves. Damaged metadata may keep it from that: then it has to end,
    /// and the run is over.
    fn wait_until_ready(&mut self) -> bool {
        let deadline = self.simulation.now() + PATIENCE;
        while !self.broker.is_ready() {
            if !self.wait(LOOK_INTERVAL) {
                return false;
            }
            if self.broker.has_given_up() {
                self.ends.refused_starts += 1;
                self.is_over = true;
                return false;
            }
            if self.simulation.now() >= deadline {
                self.complain("a damaged broker neither starts nor ends".to_owned());
                return false;
            }
        }
        true
    }

    fn end_damaged(&mut self, plan: &DamagePlan) -> bool {
        if plan.stops_after {
            return self.stop_cleanly();
        }
        let is_cut = !self.plan.keeps_power() && self.extras.chance(500);
        self.crash(if is_cut { Crash::PowerCut } else { Crash::Kill });
        true
    }

    /// The operator gives up what is damaged: where a log takes no more records, where a group has
    /// no coordinator, and elsewhere if the plan says so.
    fn accept_losses(&mut self, plan: &DamagePlan) -> bool {
        let open = self.history.borrow().losses.open();
        for (partition, offsets) in open {
            let is_needed =
                partition.0 == OFFSETS_TOPIC || self.history.borrow().losses.is_end(&partition);
            if !is_needed && !plan.accepts {
                continue;
            }
            let report = self.broker.accept_loss(&mut self.simulation, &partition, &offsets);
            let deadline = self.simulation.now() + PATIENCE;
            let done = Rc::clone(&report);
            self.run_until(deadline, move || done.borrow().is_some());
            self.wait(LOOK_INTERVAL);
            let report = report.borrow_mut().take();
            match report {
                Some(Ok(report)) => {
                    let mut history = self.history.borrow_mut();
                    for lost in &report.accepted {
                        if lost.from.0 < offsets.start || lost.to.0 > offsets.end {
                            let complaint = format!("{partition:?}: {lost} is not in {offsets:?}");
                            history.complain(complaint);
                        }
                    }
                    history.counts.losses_accepted += 1;
                    history.losses.accept(&partition, &offsets);
                    if partition.0 == OFFSETS_TOPIC {
                        history.forget_groups();
                    }
                }
                Some(Err(error)) => self.complain(format!("accept-loss: {error}")),
                None => self.complain("accept-loss does not end".to_owned()),
            }
        }
        !self.has_failed()
    }
}
