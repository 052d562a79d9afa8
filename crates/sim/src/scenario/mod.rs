//! One seed: a broker, its clients, crashes, and a look at what is left.
//!
//! ```text
//!   life 1 | crash | life 2 | crash | ...            | last life
//!   producers with quotas, readers, a group, topics    | quotas reached, readers stop, all is read
//! ```
//! A seed fails when a client saw what no client may see, when the broker did to the disk what no
//! program may do, or when the last life does not get everything done in time.

mod auditors;
mod clients;
mod consumers;
mod damage;
mod damaged_life;
mod features;
mod history;
mod keyed;
mod ledger;
mod life;
mod losses;
mod node;
mod plan;
mod readers;
mod recreation;
mod survey;
mod tails;
mod tellers;
mod told;
mod topics;
mod trouble;
mod upkeep;
mod waiting;
mod workload;

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    time::Duration,
};

pub use self::{damage::Struck, history::Counts};
use self::{
    history::History,
    node::BrokerNode,
    plan::{CRASHES_MIN, End, EndPlan, Marks, Plan, TransactionsPlan, When},
};
use crate::{Crash, Rng, Settings, Simulation, Tally};

/// Virtual time within which a life gets done what it is to do.
const PATIENCE: Duration = Duration::from_secs(120);
/// acks=1 is answered before the records are durable, which is when they are seen: the last look comes
/// so much later.
const SETTLING_TIME: Duration = Duration::from_millis(200);
/// What a seed is worth: calls that the broker answered, at least.
const OPERATIONS_MIN: u64 = 2_000;
/// The end of a life that is added because too many brokers ended before their crash.
const ADDED_END_US: u64 = 20_000;
/// How often who waits for a flag looks at it.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// How to run a seed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Shards of the broker in every life; `None`: as the seed says.
    pub shards: Option<u16>,
    /// Some seeds also do what `features` has.
    pub features: bool,
    /// There are transactions, too.
    pub transactions: bool,
    /// Called with a line for everything that happens.
    pub trace: Option<fn(&str)>,
}

/// How the lives of a seed ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// `kill -9`.
    pub kills: u64,
    /// Power cuts.
    pub power_cuts: u64,
    /// Of both, those before the broker served.
    pub crashes_in_recovery: u64,
    /// Clean stops.
    pub clean_stops: u64,
    /// Brokers that ended by themselves because their disk failed.
    pub given_up: u64,
    /// Brokers that did not start on damaged metadata, which ends the run.
    pub refused_starts: u64,
}

/// What became of a seed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What is wrong; empty if it passed.
    pub complaints: Vec<String>,
    /// What the clients did.
    pub counts: Counts,
    /// What the disks did.
    pub tally: Tally,
    /// What the disks did to what was durable.
    pub struck: Struck,
    /// How the lives ended.
    pub ends: Ends,
    /// Connections that the network broke.
    pub connections_broken: u64,
    /// The fingerprint of the run.
    pub trace_hash: u64,
}

/// Runs a seed.
#[must_use]
pub fn run(seed: u64, options: Options) -> Outcome {
    Scenario::new(seed, options).run()
}

struct Scenario {
    rng: Rng,
    plan: Plan,
    simulation: Simulation,
    broker: BrokerNode,
    history: Rc<RefCell<History>>,
    stop: Rc<Cell<bool>>,
    check: Rc<Cell<bool>>,
    busy: Rc<Cell<u64>>,
    ends: Ends,
    /// Decides what came later than the rest of a seed.
    extras: Rng,
    struck: Struck,
    /// Decides how the wall clock jumps.
    clock: Rng,
    /// The disk has failed in this life.
    was_troubled: bool,
    /// It ended before its time, and that is no fault.
    is_over: bool,
}

impl Scenario {
    fn new(seed: u64, options: Options) -> Scenario {
        let mut rng = Rng::new(seed ^ 0x5ce_a210);
        let mut extras = Rng::new(seed ^ 0x0dd5_eed5);
        let mut features = Rng::new(seed ^ 0xfea7_12e5);
        let with_features = options.features.then_some(&mut features);
        let mut plan = Plan::by_seed(&mut rng, &mut extras, with_features, options.shards);
        if options.transactions && plan.damage.is_none() {
            plan.transactions = Some(TransactionsPlan::by_seed(seed));
        }
        let mut simulation = Simulation::new(seed, Settings::by_seed(seed));
        if let Some(print) = options.trace {
            simulation.trace_to(print);
        }
        let marks = plan.damage.map(|_| Marks::Moving);
        let broker = BrokerNode::new(&mut simulation, &mut rng, marks, &plan);
        if plan.damage.is_some() {
            simulation.with_disk(broker.node(), crate::disk::Disk::remember_writes);
        }
        Scenario {
            rng,
            plan,
            simulation,
            broker,
            history: Rc::default(),
            stop: Rc::default(),
            check: Rc::default(),
            busy: Rc::default(),
            ends: Ends::default(),
            extras,
            struck: Struck::default(),
            clock: features,
            was_troubled: false,
            is_over: false,
        }
    }

    fn run(mut self) -> Outcome {
        self.start_clients();
        let mut shard_count = self.plan.shard_count;
        let mut ends: VecDeque<EndPlan> = self.plan.ends.iter().copied().collect();
        let mut lives = 0;
        while let Some(end) = ends.pop_front() {
            self.broker.start(&mut self.simulation, shard_count);
            if !self.live_until(&end) || !self.wait(Duration::from_micros(end.dark_us)) {
                return self.outcome();
            }
            shard_count = end.shard_count_after;
            let damage = self.plan.damage.filter(|damage| damage.after_life == lives);
            lives += 1;
            if damage.is_some_and(|damage| !self.live_damaged(&damage, shard_count)) {
                return self.outcome();
            }
            if ends.is_empty() && self.crashes() < CRASHES_MIN {
                let when = When::AfterStart { us: ADDED_END_US };
                let crash = End::Crash(Crash::Kill);
                ends.push_back(EndPlan { when, end: crash, trouble: None, ..end });
            }
        }
        self.broker.start(&mut self.simulation, shard_count);
        self.finish();
        self.check_worth();
        self.outcome()
    }

    fn crashes(&self) -> u64 {
        self.ends.kills + self.ends.power_cuts
    }

    /// A run that did little, or crashed seldom, shows little.
    fn check_worth(&mut self) {
        let (operations, crashes) = (self.history.borrow().counts.operations, self.crashes());
        if !self.has_failed() && (operations < OPERATIONS_MIN || crashes < CRASHES_MIN) {
            self.complain(format!("only {operations} operations, {crashes} crashes"));
        }
    }

    /// The last life: everything is done in time, and then everything is looked at.
    fn finish(&mut self) {
        if !self.wait_for_clients("the clients are not done") {
            return;
        }
        self.stop.set(true);
        if !self.wait(SETTLING_TIME) {
            return;
        }
        self.busy.set(1);
        self.check.set(true);
        self.wait_for_clients("the last look is not done");
    }

    fn has_failed(&self) -> bool {
        self.history.borrow().has_complaints() || self.broker.has_ended()
    }

    fn complain(&mut self, complaint: String) {
        self.history.borrow_mut().complain(complaint);
    }

    fn outcome(mut self) -> Outcome {
        let mut complaints = std::mem::take(&mut self.history.borrow_mut().complaints);
        complaints.extend(self.broker.errors());
        complaints.extend(self.simulation.violations());
        Outcome {
            complaints,
            counts: self.history.borrow().counts,
            tally: self.simulation.tally(),
            struck: self.struck,
            ends: self.ends,
            connections_broken: self.simulation.connections_broken(),
            trace_hash: self.simulation.trace_hash(),
        }
    }
}
