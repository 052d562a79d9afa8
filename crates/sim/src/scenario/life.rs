//! A life of the broker: what its disk does meanwhile, and how it ends.

use std::{rc::Rc, time::Duration};

use super::{
    LOOK_INTERVAL, PATIENCE, Scenario,
    features::HOUR_MS,
    plan::{End, EndPlan, When},
    tails::{LifeEnd, LifePower},
    trouble::{Trouble, TroublePlan, Until},
};
use crate::{Crash, DiskFaults, Trigger};

/// Batches that have to be acknowledged after a fault has ceased that needs no restart.
const HEALED_BATCHES: u64 = 10;
/// How long a crash waits for its moment.
const MOMENT_TIME: Duration = Duration::from_millis(500);
/// How far the wall clock is off: not so far ahead that a producer is forgotten, which takes a day,
/// and not so far behind that records are refused for their time, which takes an hour.
const CLOCK_OFF_MS: &[i64] = &[-1_200_000, -1_000, 0, 30_000, 2 * HOUR_MS, 20 * HOUR_MS];
/// How long what a seed has beside the rest may go on before its broker is ended.
const FEATURE_TIME: Duration = Duration::from_millis(50);

impl Scenario {
    /// Lets the broker live until its planned end. False if it came to another.
    pub(super) fn live_until(&mut self, end: &EndPlan) -> bool {
        let lived = match end.when {
            When::AfterStart { us } => self.wait(Duration::from_micros(us)),
            When::AtMoment { acked_batches, moment, countdown, delay_ns } => {
                if !self.wait_for_batches(acked_batches, "too few batches")
                    || !self.jump()
                    || !self.make_trouble(end.trouble)
                {
                    return false;
                }
                let node = self.broker.node();
                self.simulation.arm(Trigger { node, moment, countdown, delay_ns });
                self.wait(MOMENT_TIME)
            }
        };
        self.end_trouble();
        if lived && !self.simulation.is_running(self.broker.node()) {
            self.end_life(LifePower::Kept);
            let gave_up = self.broker.has_given_up();
            self.ends.given_up += u64::from(gave_up);
            if !gave_up {
                self.complain("the broker ended by itself".to_owned());
            }
            return gave_up;
        }
        match end.end {
            _ if !lived => false,
            End::Crash(crash) => {
                self.crash(crash);
                true
            }
            End::CleanStop => self.stop_cleanly(),
        }
    }

    /// Lets the disk fail, and lets what heals by itself heal if the plan says so. False if
    /// something went wrong meanwhile.
    fn make_trouble(&mut self, plan: Option<TroublePlan>) -> bool {
        let Some(plan) = plan else { return true };
        self.was_troubled = true;
        let node = self.broker.node();
        self.simulation.set_faults(node, plan.faults());
        if plan.trouble == Trouble::NoSpace {
            self.simulation.set_free_space(node, Some(plan.free_bytes));
        }
        // One that cannot read or write what it needs to start does not start.
        self.broker.set_may_give_up(!plan.trouble.heals() || !self.broker.is_ready());
        if !self.wait(Duration::from_micros(plan.window_us)) {
            return false;
        }
        if plan.until == Until::TheEnd || !self.simulation.is_running(node) {
            return true;
        }
        self.end_trouble();
        let acked_batches = self.history.borrow().counts.acked_batches + HEALED_BATCHES;
        let (broker, history) = (self.broker.clone(), Rc::clone(&self.history));
        let busy = Rc::clone(&self.busy);
        let is_healed = move || {
            let acked_now = history.borrow().counts.acked_batches;
            broker.has_given_up() || acked_now >= acked_batches || busy.get() == 0
        };
        !plan.trouble.heals() || self.wait_for(is_healed, "not healed")
    }

    fn end_trouble(&mut self) {
        self.simulation.set_faults(self.broker.node(), DiskFaults::default());
        self.simulation.set_free_space(self.broker.node(), None);
    }

    pub(super) fn crash(&mut self, crash: Crash) {
        self.ends.crashes_in_recovery += u64::from(!self.broker.is_ready());
        match crash {
            Crash::Kill => self.ends.kills += 1,
            Crash::PowerCut => self.ends.power_cuts += 1,
        }
        self.simulation.crash(self.broker.node(), crash);
        self.end_life(if crash == Crash::PowerCut { LifePower::Cut } else { LifePower::Kept });
    }

    fn end_life(&mut self, power: LifePower) {
        let (at, was_ready) = (self.simulation.now(), self.broker.is_ready());
        let was_troubled = std::mem::take(&mut self.was_troubled);
        let end = LifeEnd { at, power, was_ready, was_troubled };
        self.history.borrow_mut().end_life(&end);
    }

    /// Sets the broker's wall clock, in seeds that do. False if the run is over.
    fn jump(&mut self) -> bool {
        if self.plan.features.clock_jumps {
            let off_ms = self.clock.pick(CLOCK_OFF_MS);
            self.simulation.set_wall_clock(self.broker.node(), off_ms);
            let mut history = self.history.borrow_mut();
            history.clock_ahead_ms = history.clock_ahead_ms.max(off_ms);
            history.counts.clock_jumps += 1;
        }
        // A clock that was set forward is believed a check later.
        !self.plan.features.is_any || self.wait(FEATURE_TIME)
    }

    pub(super) fn stop_cleanly(&mut self) -> bool {
        let deadline = self.simulation.now() + PATIENCE;
        let broker = self.broker.node();
        while !self.broker.is_ready() && self.simulation.now() < deadline {
            if !self.wait(LOOK_INTERVAL) {
                return false;
            }
        }
        self.broker.stop(&mut self.simulation);
        while self.simulation.is_running(broker) {
            if self.simulation.now() >= deadline {
                self.complain("no clean stop in time".to_owned());
                return false;
            }
            if !self.wait(LOOK_INTERVAL) {
                return false;
            }
        }
        self.ends.clean_stops += 1;
        self.history.borrow_mut().counts.clean_stops += 1;
        self.end_life(LifePower::Stopped);
        true
    }
}
