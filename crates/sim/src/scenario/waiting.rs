//! Lets time pass: for a while, or until the clients have got something done.

use std::{rc::Rc, time::Duration};

use runtime::Instant;

use super::{PATIENCE, Scenario};
use crate::Stop;

/// Virtual time within which something gets done: longer than a session and a request that time
/// out one after the other, and short, as a wedged run has to cost little.
const STANDSTILL_TIME: Duration = Duration::from_secs(20);

impl Scenario {
    pub(super) fn wait_for_batches(&mut self, acked_batches: u64, complaint: &str) -> bool {
        let history = Rc::clone(&self.history);
        let is_reached = move || history.borrow().counts.acked_batches >= acked_batches;
        self.wait_for(is_reached, complaint)
    }

    pub(super) fn wait_for_clients(&mut self, complaint: &str) -> bool {
        let busy = Rc::clone(&self.busy);
        self.wait_for(move || busy.get() == 0, complaint)
    }

    /// Lets time pass until `condition` holds. False, with a complaint, if it does not within the
    /// time it may take, if nothing gets done any more, or if something else is wrong.
    pub(super) fn wait_for(&mut self, condition: impl Fn() -> bool, complaint: &str) -> bool {
        let deadline = self.simulation.now() + PATIENCE;
        loop {
            let progress = self.history.borrow().counts.progress();
            let slice_end = deadline.min(self.simulation.now() + STANDSTILL_TIME);
            let stop = self.run_until(slice_end, &condition);
            if stop == Stop::Condition {
                return !self.has_failed();
            }
            let goes_on = self.history.borrow().counts.progress() > progress;
            if stop != Stop::Time || !goes_on || self.simulation.now() >= deadline {
                let why = if goes_on { "too slow" } else { "nothing gets done" };
                self.complain(format!("{complaint}: {why}, {stop:?}"));
                return false;
            }
        }
    }

    /// False if something went wrong meanwhile.
    pub(super) fn wait(&mut self, duration: Duration) -> bool {
        let deadline = self.simulation.now() + duration;
        self.run_until(deadline, || false);
        !self.has_failed()
    }

    /// Lets time pass until `condition` holds or something is wrong: the first complaint ends the
    /// run, as what comes after it says little and may cost much.
    pub(super) fn run_until(&mut self, deadline: Instant, condition: impl Fn() -> bool) -> Stop {
        let (history, broker) = (Rc::clone(&self.history), self.broker.clone());
        let failed = move || history.borrow().has_complaints() || broker.has_ended();
        self.simulation.run_until(deadline, || condition() || failed())
    }
}
